//! Cases that belong on one plot: the sides of a comparison, the arms of a row, or one case alone.

use crate::compare::{Axis, field_of};
use crate::model::Benchmark;
use crate::summary::{CaseSummary, labels};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One case among those that are drawn together.
#[derive(Clone)]
pub(super) struct Member<'a> {
    /// What tells it from the others: a side, an arm, its hosts. Empty if it is alone.
    pub(super) name: String,
    /// Its place among all cases.
    pub(super) index: usize,
    pub(super) case: &'a CaseSummary,
}

impl Member<'_> {
    /// What to call it outside of its family.
    pub(super) fn label(&self, family: &str) -> String {
        format!("{family} {}", self.name).trim_end().to_owned()
    }
}

/// Cases that are drawn together.
pub(super) struct Family<'a> {
    /// What to call it.
    pub(super) label: String,
    pub(super) members: Vec<Member<'a>>,
    /// What it shares with the other points of its sweep.
    sweep: String,
    /// Where it stands, if it is a point of a sweep.
    pub(super) place: Option<Place>,
}

/// What a sweep goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Sizes of messages or buffers in bytes.
    Size,
    /// Operations in flight.
    Depth,
}

impl Over {
    const ALL: [Self; 2] = [Self::Size, Self::Depth];

    /// The parameter's name.
    pub(super) fn param(self) -> &'static str {
        match self {
            Self::Size => "size_bytes",
            Self::Depth => "iodepth",
        }
    }

    /// The parameters that follow it by design, and so do not tell sweeps apart.
    fn followers(self) -> &'static [&'static str] {
        match self {
            Self::Size => &["size_bytes", "iterations", "warmup"],
            Self::Depth => &["iodepth", "iodepth_batch"],
        }
    }

    /// Whether a word of a label is a setting of one of these parameters.
    pub(super) fn tells(self, word: &str) -> bool {
        let name = word.split_once('=').map(|(name, _)| name);
        name.is_some_and(|name| self.followers().contains(&name))
    }

    /// What a reader calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Depth => "depth",
        }
    }
}

/// A point of a sweep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) over: Over,
    pub(super) at: f64,
}

impl Place {
    /// By the first parameter that the benchmark has.
    fn of(benchmark: &Benchmark) -> Option<Self> {
        let place = |over: Over| {
            let at = benchmark.params.get(over.param())?.as_f64()?;
            Some(Self { over, at })
        };
        Over::ALL.into_iter().find_map(place)
    }
}

/// The families in the order of their first cases.
pub(super) fn families<'a>(cases: &'a [CaseSummary], axes: &[Axis]) -> Vec<Family<'a>> {
    let labels = labels_by_side(cases);
    let contests = contests(cases);
    let mut ordinals: HashMap<(String, String, String), usize> = HashMap::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut families: Vec<Family<'a>> = Vec::new();
    for (index, (case, label)) in cases.iter().zip(labels).enumerate() {
        let place = Place::of(&case.benchmark);
        let size = place.filter(|place| place.over == Over::Size);
        let size = size.map(|place| place.at);
        let row = case.row.clone().unwrap_or_default();
        let contest = case.side.is_none() && contests.contains(row.as_str());
        let (sweep, key, label) = if contest {
            let arm = case.arm.clone().unwrap_or_default();
            let point = size.map_or(String::new(), |size| format!(" {size}"));
            // Programs name the same work differently; within an arm its place tells which it is.
            let ordinal = ordinals
                .entry((row.clone(), arm, point.clone()))
                .or_default();
            let sweep = format!("{row} {ordinal}");
            *ordinal += 1;
            let label = match size {
                Some(size) => format!("{row} size_bytes={size}"),
                None => row,
            };
            (sweep.clone(), sweep + &point, label)
        } else {
            let hosts = case.side.is_none().then_some(&case.hosts);
            let key = |left_out: &[&str]| {
                let benchmark = without(&case.benchmark, left_out, axes);
                format!("{row} {:?} {hosts:?} {benchmark}", case.arm)
            };
            let followers = place.map_or(&[][..], |place| place.over.followers());
            (key(followers), key(&[]), label)
        };
        let member = Member {
            name: String::new(),
            index,
            case,
        };
        let at = *places.entry(key).or_insert(families.len());
        match families.get_mut(at) {
            Some(family) => family.members.push(member),
            None => families.push(Family {
                label,
                members: vec![member],
                sweep,
                place,
            }),
        }
    }
    families
        .iter_mut()
        .for_each(|family| name(&mut family.members));
    families
}

/// The families of each sweep, in the order of their places.
pub(super) fn sweeps<'f, 'a>(families: &'f [Family<'a>]) -> Vec<Vec<&'f Family<'a>>> {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Family<'a>>> = BTreeMap::new();
    for family in families {
        let measured = family.members.iter().any(|member| member.case.measured > 0);
        if measured && family.place.is_some_and(|place| place.at > 0.0) {
            let group = groups.entry(&family.sweep).or_default();
            if group.is_empty() {
                order.push(&family.sweep);
            }
            group.push(family);
        }
    }
    let sweep = |key: &str| {
        let mut points = groups.remove(key).filter(|points| points.len() > 2)?;
        let at = |point: &&Family<'_>| point.place.map_or(0.0, |place| place.at);
        points.sort_by(|a, b| at(a).total_cmp(&at(b)));
        Some(points)
    };
    order.into_iter().filter_map(sweep).collect()
}

/// The benchmark without some parameters and without those under study.
fn without(benchmark: &Benchmark, left_out: &[&str], axes: &[Axis]) -> Benchmark {
    let mut rest = benchmark.clone();
    rest.params.retain(|name, _| {
        let field = field_of(name);
        !left_out.contains(&name.as_str()) && !axes.iter().any(|axis| axis.covers(&field))
    });
    rest
}

/// The rows that ran under several arms.
fn contests(cases: &[CaseSummary]) -> BTreeSet<&str> {
    let mut arms: BTreeMap<&str, BTreeSet<&Option<String>>> = BTreeMap::new();
    for case in cases {
        if let Some(row) = &case.row {
            arms.entry(row).or_default().insert(&case.arm);
        }
    }
    arms.retain(|_, arms| arms.len() > 1);
    arms.into_keys().collect()
}

/// Labels that tell apart the cases of each side; the two sides of a case have one label.
fn labels_by_side(cases: &[CaseSummary]) -> Vec<String> {
    cases
        .chunk_by(|a, b| a.side == b.side)
        .flat_map(labels)
        .collect()
}

/// The first of some hosts, and how many follow.
fn few(hosts: &[String]) -> String {
    match hosts {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one}, {other}"),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    }
}

/// Names the members by the first of side, arm and hosts that tells them apart, or by as many of
/// them as it takes.
fn name(members: &mut [Member<'_>]) {
    if members.len() < 2 {
        return;
    }
    let parts: Vec<[String; 4]> = members
        .iter()
        .map(|member| {
            let case = member.case;
            [
                case.side.clone().unwrap_or_default(),
                case.arm.clone().unwrap_or_default(),
                few(&case.hosts),
                case.benchmark.to_string(),
            ]
        })
        .collect();
    let mut used: Vec<usize> = Vec::new();
    let called = |used: &[usize], part: &[String; 4]| {
        let words = used.iter().map(|&at| part[at].as_str());
        words
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let distinct = |used: &[usize]| {
        parts
            .iter()
            .map(|part| called(used, part))
            .collect::<BTreeSet<_>>()
            .len()
    };
    for at in 0..4 {
        let more = [used.as_slice(), &[at]].concat();
        if distinct(&more) > distinct(&used) {
            used = more;
        }
        if distinct(&used) == members.len() {
            break;
        }
    }
    for (member, part) in members.iter_mut().zip(&parts) {
        member.name = match called(&used, part) {
            name if name.is_empty() => "baseline".to_owned(),
            name => name,
        };
    }
}
