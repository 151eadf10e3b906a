//! Which case of A belongs to which case of B, and what blocks their comparison.

use super::Group;
use super::cases::{self, Bucket, Found, Place};
use super::environment::Axis;
use crate::model::{Case, Measurement, Outcome, Report, Severity};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A difference that makes two results measure different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The case.
    pub case: String,
    /// What differs: `definition_hash`, `params.size_bytes`, `unit of …`, `node count`.
    pub field: String,
    /// The values in A.
    pub a: Vec<String>,
    /// The values in B.
    pub b: Vec<String>,
}

/// A run that was left out of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The run's id.
    pub run: String,
    /// The case.
    pub case: String,
    /// Why.
    pub why: String,
}

/// One run of one case that was measured and is valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub report: &'a Report,
    pub measurement: &'a Measurement,
}

/// A case with its runs on both sides.
pub(super) struct CasePair<'a> {
    /// Id and parameters.
    pub key: String,
    /// The same, short: of the parameters only those that tell it from its siblings.
    pub label: String,
    pub sides: [Vec<Run<'a>>; 2],
}

/// All cases of two groups, matched.
pub(super) struct Matched<'a> {
    pub groups: [Group; 2],
    pub blocked: Vec<Blocked>,
    pub pairs: Vec<CasePair<'a>>,
    fields: BTreeSet<String>,
}

impl Matched<'_> {
    /// Whether the axis is a parameter or the node count.
    pub(super) fn declares(&self, axis: &Axis) -> bool {
        axis.covers("nodes") || self.fields.iter().any(|field| axis.covers(field))
    }
}

/// Cases of one id without a partner, on both sides.
#[derive(Default)]
struct Lone<'a> {
    sides: [Vec<(Found<'a>, String)>; 2],
}

/// Matches cases by id, parameters and, where a side has several, the suite's row and arm.
pub(super) fn match_cases<'a>(a: &'a [Report], b: &'a [Report], axes: &[Axis]) -> Matched<'a> {
    let mut groups = [Group::default(), Group::default()];
    let mut fields = BTreeSet::new();
    let [a, b] = [(a, 0), (b, 1)]
        .map(|(reports, side)| cases::collect(reports, axes, &mut groups[side], &mut fields));
    let labels = cases::labels(a.iter().chain(&b), axes);
    let mut matched = Matched {
        groups,
        blocked: Vec::new(),
        pairs: Vec::new(),
        fields,
    };
    let mut of_b: HashMap<(String, String), Bucket<'a>> =
        b.into_iter().map(|bucket| (bucket.key(), bucket)).collect();
    let mut lone: BTreeMap<&'a str, Lone<'a>> = BTreeMap::new();
    let mut matched_ids: BTreeSet<&'a str> = BTreeSet::new();
    for bucket in a {
        let partner = of_b.remove(&bucket.key());
        let (id, label) = (bucket.id, labels.of(&bucket));
        let (together, alone) = partners(bucket, partner);
        for (place, sides) in together {
            matched_ids.insert(id);
            let key = cases::named(&sides[0][0].1.key(), place);
            pair(
                &mut matched,
                sides,
                axes,
                [key, cases::named(&label, place)],
            );
        }
        for (side, place, found) in alone {
            let sides = &mut lone.entry(id).or_default().sides;
            sides[side].push((found, cases::named(&label, place)));
        }
    }
    let mut rest: Vec<Bucket<'a>> = of_b.into_values().collect();
    rest.sort_by_key(|bucket| bucket.order);
    for bucket in rest {
        let (id, label) = (bucket.id, labels.of(&bucket));
        let named = |place| cases::named(&label, place);
        let several = bucket.places.len() > 1;
        let found = bucket.places.into_iter().map(|(place, found)| {
            let place = Some(place).filter(|_| several);
            (found, named(place))
        });
        lone.entry(id).or_default().sides[1].extend(found);
    }
    for (id, lone) in lone {
        judge_lone(&mut matched, id, &lone.sides, matched_ids.contains(id));
    }
    matched
}

/// A place's name, if it needs one, with its runs on both sides.
type Together<'a> = Vec<(Option<Place<'a>>, [Found<'a>; 2])>;
/// The side, a place's name and its runs.
type Alone<'a> = Vec<(usize, Option<Place<'a>>, Found<'a>)>;

/// The places of equal cases put together: one place a side belongs together wherever it is, of
/// several those of one name.
fn partners<'a>(a: Bucket<'a>, b: Option<Bucket<'a>>) -> (Together<'a>, Alone<'a>) {
    let (mut places_a, places_b) = (a.places, b.map(|b| b.places).unwrap_or_default());
    if places_a.len() == 1 && places_b.len() == 1 {
        let [a, b] = [places_a, places_b].map(|places| places.into_values().flatten().collect());
        return (vec![(None, [a, b])], Vec::new());
    }
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    let several = places_a.len() > 1;
    for (place, found_b) in places_b {
        match places_a.remove(&place) {
            Some(found_a) => together.push((Some(place), [found_a, found_b])),
            None => alone.push((1, Some(place), found_b)),
        }
    }
    let left = places_a.into_iter();
    alone.extend(left.map(|(place, found)| (0, Some(place).filter(|_| several), found)));
    (together, alone)
}

/// The path of a parameter, as axes name it.
pub(crate) fn field_of(param: &str) -> String {
    super::path::below("params", param)
}

pub(super) fn declared(axes: &[Axis], field: &str) -> bool {
    axes.iter().any(|axis| axis.covers(field))
}

/// Puts two matched sides together, unless something blocks it.
fn pair<'a>(
    matched: &mut Matched<'a>,
    sides: [Found<'a>; 2],
    axes: &[Axis],
    [key, label]: [String; 2],
) {
    let first = sides[0][0].1;
    let mut checks = vec![(
        "definition_hash".to_owned(),
        values(&sides, |_, case| case.benchmark.definition_hash.clone()),
    )];
    if !declared(axes, "nodes") {
        let nodes = values(&sides, |report, _| report.hosts.len().to_string());
        checks.push(("node count".to_owned(), nodes));
    }
    // A parameter under study must have one value a side, or it is unclear what is compared.
    let mut mixed = false;
    for name in first.benchmark.params.keys() {
        if !declared(axes, &field_of(name)) {
            continue;
        }
        let [a, b] = values(&sides, |_, case| text(case.benchmark.params.get(name)));
        if a.len() > 1 || b.len() > 1 {
            mixed = true;
            checks.push((format!("{} (several a side)", field_of(name)), [a, b]));
        }
    }
    let before = matched.blocked.len();
    for (field, [a, b]) in checks {
        if a != b || a.len() > 1 || mixed && field.ends_with("a side)") {
            let [a, b] = [a, b].map(|values| values.into_iter().collect());
            let case = label.clone();
            matched.blocked.push(Blocked { case, field, a, b });
        }
    }
    if matched.blocked.len() > before {
        return;
    }
    let [a, b] = sides;
    let groups = &mut matched.groups;
    let sides = [
        valid(a, &mut groups[0], &label),
        valid(b, &mut groups[1], &label),
    ];
    matched.pairs.push(CasePair { key, label, sides });
}

fn values(
    sides: &[Found<'_>; 2],
    value: impl Fn(&Report, &Case) -> String,
) -> [BTreeSet<String>; 2] {
    sides.each_ref().map(|found| {
        found
            .iter()
            .map(|(report, case)| value(report, case))
            .collect()
    })
}

pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The runs whose numbers stand; what happened to the others is noted.
fn valid<'a>(found: Found<'a>, group: &mut Group, label: &str) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for (report, case) in found {
        let why = match &case.outcome {
            Outcome::Measured(measurement) => {
                let invalid = |flag: &&crate::model::Flag| flag.severity == Severity::Invalid;
                match measurement.validity.flags.iter().find(invalid) {
                    None => {
                        runs.push(Run {
                            report,
                            measurement,
                        });
                        continue;
                    }
                    Some(flag) => format!("invalid: {}: {}", flag.code, flag.evidence),
                }
            }
            Outcome::Skipped { reason } => format!("skipped: {reason}"),
            Outcome::Failed { error } => format!("failed: {error}"),
        };
        group.left_out.push(LeftOut {
            run: report.run.id.clone(),
            case: label.to_owned(),
            why,
        });
    }
    runs
}

/// Cases without a partner. If both sides have some of this id and none was matched, it is their
/// parameters that differ, which blocks; else they are cases of one side's own.
fn judge_lone(
    matched: &mut Matched<'_>,
    id: &str,
    sides: &[Vec<(Found<'_>, String)>; 2],
    some_matched: bool,
) {
    if some_matched || sides.iter().any(Vec::is_empty) {
        for (group, found) in matched.groups.iter_mut().zip(sides) {
            let names = found.iter().map(|(_, label)| label.clone());
            group.cases_of_its_own.extend(names);
        }
        return;
    }
    let found = sides
        .each_ref()
        .map(|lone| lone.iter().flat_map(|(found, _)| found).copied().collect());
    let names: BTreeSet<&String> = found
        .iter()
        .flatten()
        .flat_map(|(_, case): &(&Report, &Case)| case.benchmark.params.keys())
        .collect();
    let before = matched.blocked.len();
    let mut block = |field: String, [a, b]: [BTreeSet<String>; 2]| {
        let [a, b] = [a, b].map(|values| values.into_iter().collect());
        let case = id.to_owned();
        matched.blocked.push(Blocked { case, field, a, b });
    };
    for name in names {
        let [a, b] = values(&found, |_, case| text(case.benchmark.params.get(name)));
        if a != b {
            block(field_of(name), [a, b]);
        }
    }
    if matched.blocked.len() > before {
        return;
    }
    let places = values(&found, |report, _| Place::of(report).to_string());
    let [a, b] = places.map(|values| values.into_iter().collect());
    matched.blocked.push(Blocked {
        case: id.to_owned(),
        field: "row and arm of the suite".to_owned(),
        a,
        b,
    });
}
