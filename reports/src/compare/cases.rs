//! The cases of a group of runs: equal ones together, in the order in which a reader expects them,
//! with names as short as they can be.

use super::matching::{LeftOut, declared, field_of, text};
use super::{Axis, Group};
use crate::model::{Case, Outcome, Report, Severity};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Runs with the case of each that is meant.
pub(super) type Found<'a> = Vec<(&'a Report, &'a Case)>;

/// Where in a suite a run belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place<'a> {
    /// `None` of a run by hand.
    row: Option<&'a str>,
    arm: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let session = report.run.session.as_ref();
        Self {
            row: session.map(|session| session.row.as_str()),
            arm: session.and_then(|session| session.arm.as_deref()),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row.unwrap_or("by hand"))?;
        self.arm.map_or(Ok(()), |arm| write!(f, " {arm}"))
    }
}

/// Equal cases of a group: one id, and one value of every parameter but those under study.
pub(super) struct Bucket<'a> {
    pub id: &'a str,
    params: String,
    /// Parameters of the first of them.
    first: &'a Map<String, Value>,
    /// The place of the row in its suite, then that of the case in its report.
    pub order: (u32, usize),
    /// The runs by their place in a suite.
    pub places: BTreeMap<Place<'a>, Found<'a>>,
}

impl Bucket<'_> {
    /// What equal cases of another group share with it.
    pub(super) fn key(&self) -> (String, String) {
        (self.id.to_owned(), self.params.clone())
    }
}

/// A case's name with its row and arm, where those are needed to tell it from others.
pub(super) fn named(label: &str, place: Option<Place<'_>>) -> String {
    match place {
        None => label.to_owned(),
        Some(place) => format!("{label} [{place}]"),
    }
}

/// Sorts the cases of a group's runs. A run given twice counts once, which is noted, as are the
/// flags that make numbers stand for less. `fields` takes the names of all parameters.
pub(super) fn collect<'a>(
    reports: &'a [Report],
    axes: &[Axis],
    group: &mut Group,
    fields: &mut BTreeSet<String>,
) -> Vec<Bucket<'a>> {
    let mut seen: HashMap<&str, &Report> = HashMap::new();
    let mut buckets: Vec<Bucket<'a>> = Vec::new();
    let mut index: HashMap<(&'a str, String), usize> = HashMap::new();
    // The bucket that the last report's case at the same position went to: most often the same.
    let mut last: Vec<usize> = Vec::new();
    let mut degraded: BTreeMap<&str, usize> = BTreeMap::new();
    for report in reports {
        if let Some(first) = seen.insert(&report.run.id, report) {
            group.left_out.push(twice(report, first == report));
            continue;
        }
        group.runs += 1;
        let place = Place::of(report);
        let position = report.run.session.as_ref().map_or(0, |s| s.position);
        for (at, case) in report.cases.iter().enumerate() {
            let benchmark = &case.benchmark;
            let as_before = last.get(at).copied().filter(|&bucket| {
                let bucket: &Bucket<'_> = &buckets[bucket];
                bucket.id == benchmark.id && *bucket.first == benchmark.params
            });
            let bucket = as_before.unwrap_or_else(|| {
                fields.extend(benchmark.params.keys().map(|name| field_of(name)));
                let params = without_axes(&benchmark.params, axes);
                let key = (benchmark.id.as_str(), params.clone());
                *index.entry(key).or_insert_with(|| {
                    buckets.push(Bucket {
                        id: &benchmark.id,
                        params,
                        first: &benchmark.params,
                        order: (position, at),
                        places: BTreeMap::new(),
                    });
                    buckets.len() - 1
                })
            });
            match last.get_mut(at) {
                Some(last) => *last = bucket,
                None => last.push(bucket),
            }
            let bucket = &mut buckets[bucket];
            bucket.order = bucket.order.min((position, at));
            bucket.places.entry(place).or_default().push((report, case));
            count_degraded(case, &mut degraded);
        }
    }
    let degraded = degraded.into_iter();
    group.degraded = degraded
        .map(|(code, count)| (code.to_owned(), count))
        .collect();
    buckets.sort_by_key(|bucket| bucket.order);
    buckets
}

fn twice(report: &Report, equal: bool) -> LeftOut {
    let why = if equal {
        "the run was given twice and counts once"
    } else {
        "two different reports have this run id: one of them was changed; the first counts"
    };
    LeftOut {
        run: report.run.id.clone(),
        case: "every case".to_owned(),
        why: why.to_owned(),
    }
}

fn without_axes(params: &Map<String, Value>, axes: &[Axis]) -> String {
    let kept: BTreeMap<&String, &Value> = params
        .iter()
        .filter(|(name, _)| !declared(axes, &field_of(name)))
        .collect();
    serde_json::to_string(&kept).unwrap_or_default()
}

fn count_degraded<'a>(case: &'a Case, degraded: &mut BTreeMap<&'a str, usize>) {
    if let Outcome::Measured(measurement) = &case.outcome {
        let flags = measurement.validity.flags.iter();
        for flag in flags.filter(|flag| flag.severity == Severity::Degraded) {
            *degraded.entry(&flag.code).or_default() += 1;
        }
    }
}

/// Which parameters tell cases of one id apart. Those under study do not: they differ within a case.
pub(super) struct Labels<'a> {
    of_id: HashMap<&'a str, BTreeMap<&'a str, Telling<'a>>>,
}

struct Telling<'a> {
    value: &'a Value,
    cases: usize,
    tells: bool,
}

/// Finds the parameters that have several values among the cases, or that only some of them have.
pub(super) fn labels<'a, 'b: 'a>(
    buckets: impl Iterator<Item = &'a Bucket<'b>>,
    axes: &[Axis],
) -> Labels<'b> {
    let mut of_id: HashMap<&'b str, BTreeMap<&'b str, Telling<'b>>> = HashMap::new();
    let mut cases: HashMap<&'b str, usize> = HashMap::new();
    for bucket in buckets {
        *cases.entry(bucket.id).or_default() += 1;
        let params = of_id.entry(bucket.id).or_default();
        let compared = bucket.first.iter();
        for (name, value) in compared.filter(|(name, _)| !declared(axes, &field_of(name))) {
            let telling = params.entry(name).or_insert(Telling {
                value,
                cases: 0,
                tells: false,
            });
            telling.cases += 1;
            telling.tells |= telling.value != value;
        }
    }
    for (id, params) in &mut of_id {
        for telling in params.values_mut() {
            telling.tells |= telling.cases < cases[id];
        }
    }
    Labels { of_id }
}

impl Labels<'_> {
    /// The id with what tells the case from its siblings.
    pub(super) fn of(&self, bucket: &Bucket<'_>) -> String {
        let telling = self.of_id.get(bucket.id);
        let tells = |name: &str| {
            let telling = telling.and_then(|params| params.get(name));
            telling.is_some_and(|telling| telling.tells)
        };
        let mut label = bucket.id.to_owned();
        for (name, value) in bucket.first.iter().filter(|(name, _)| tells(name)) {
            label.push_str(&format!(" {name}={}", text(Some(value))));
        }
        label
    }
}
