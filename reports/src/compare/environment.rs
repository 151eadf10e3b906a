//! What differs between the environments of groups of runs, field by field, and what that means.

use super::fields::{
    self, ABSENT, Fields, KNOWN, Surroundings, UNAVAILABLE, Values, fact_fields, gather,
};
use super::matching::Run;
use super::path::{ancestors, lies_below, segments};
use crate::model::{Measurement, Report};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// What a difference means for a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It may explain a result as well as the thing under study.
    Confounder,
    /// It is the thing under study, or follows from it.
    Declared,
    /// It cannot matter; shown, never counted.
    NotCounted,
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The field's path: `kernel.release`, `nics.eth0.mtu_bytes`.
    pub field: String,
    /// What it means.
    pub class: Class,
    /// Every value among the runs of A.
    pub a: Vec<String>,
    /// Every value among the runs of B.
    pub b: Vec<String>,
    /// Why it is declared or not counted, where that needs a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A field that may differ: it never explains a result.
struct Uncounted {
    /// Segments of the path, `*` for any one; what lies below is meant too.
    path: &'static str,
    /// The relative difference up to which it is meant; `None` for any difference.
    within: Option<f64>,
    why: &'static str,
}

/// Fields that differ between equal machines, or from moment to moment.
const UNCOUNTED: &[Uncounted] = &[
    any("name", "a name makes no machine faster"),
    any("cloud.instance_id", "every instance has its own"),
    any("cloud.host_id", "every dedicated host has its own"),
    any(
        "cloud.availability_zone",
        "accounts name zones differently; az_id counts",
    ),
    any(
        "cloud.interfaces.*.interface_id",
        "every instance has its own",
    ),
    any("cloud.interfaces.*.subnet_id", "every network has its own"),
    any("block.*.ebs_volume_id", "every volume has its own"),
    any(
        "nics.*.bus_address",
        "where a device is plugged in differs between equal machines",
    ),
    any(
        "rdma.*.bus_address",
        "where a device is plugged in differs between equal machines",
    ),
    any(
        "memory.huge_pages.*.free_pages",
        "it changes from moment to moment",
    ),
    Uncounted {
        path: "memory.total_bytes",
        within: Some(0.01),
        why: "equal machines differ by what their firmware and kernel keep",
    },
    any("scheduler.job_id", "every job has its own"),
    any(
        "facts.most_often_slowest",
        "it is an outcome, not a setting",
    ),
];

const fn any(path: &'static str, why: &'static str) -> Uncounted {
    Uncounted {
        path,
        within: None,
        why,
    }
}

/// What necessarily changes with an axis, and so is declared with it.
const CONSEQUENCES: &[(&str, &[&str])] = &[
    (
        "cloud.instance_type",
        &[
            "cpu.model",
            "cpu.vendor",
            "cpu.architecture",
            "cpu.logical_cpus",
            "cpu.cores",
            "cpu.sockets",
            "cpu.threads_per_core",
            "cpu.smt_active",
            "cpu.numa_nodes",
            "cpu.max_frequency_mhz",
            "cpu.microcode",
            "cpu.hypervisor",
            "cpu.mitigations",
            "cgroup.cpuset_cpus",
            "clocksource.available",
            "memory.total_bytes",
            "nics",
            "rdma",
            "block",
            "cloud.interfaces",
            "program.target",
        ],
    ),
    ("cloud.ami", &["os", "kernel"]),
    ("program.commit", &["program.dirty", "program.version"]),
];

/// A field under study: a path, its beginning, or a part of it such as `instance_type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    segments: Vec<String>,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let segments: Vec<String> = segments(text).into_iter().map(str::to_owned).collect();
        if segments.iter().any(String::is_empty) {
            return Err(format!(
                "{text:?} is not a field: give a name such as instance_type, or a path such as \
                 kernel.release"
            ));
        }
        Ok(Self { segments })
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("."))
    }
}

impl Axis {
    /// Whether the field is this axis or lies below it.
    #[must_use]
    pub fn covers(&self, field: &str) -> bool {
        segments(field)
            .windows(self.segments.len())
            .any(|window| window.iter().zip(&self.segments).all(|(a, b)| a == b))
    }
}

/// The environments of two groups: each field with every value it has among the runs.
pub(super) struct Environments {
    sides: [Values; 2],
}

impl Environments {
    pub(super) fn of(a: &[Report], b: &[Report]) -> Self {
        Self {
            sides: [a, b].map(|reports| Surroundings::of(reports).values(0..reports.len())),
        }
    }

    /// Whether some run has the field.
    pub(super) fn has(&self, axis: &Axis) -> bool {
        self.sides
            .iter()
            .flat_map(BTreeMap::keys)
            .any(|field| axis.covers(field))
    }

    /// Why no run knows its processor and its kernel; `None` if some run knows one of them.
    pub(super) fn unknown(&self) -> Option<String> {
        let mut reason = None;
        for side in &self.sides {
            for field in ["cpu.model", "kernel.release"] {
                let values = side.get(field)?;
                if !values.iter().all(|value| is_unknown(value)) {
                    return None;
                }
                reason = reason.or(values.first());
            }
        }
        Some(reason?.strip_prefix(UNAVAILABLE)?.to_owned())
    }

    /// Every field whose values differ, confounders first.
    pub(super) fn differences(&self, axes: &[Axis]) -> Vec<Difference> {
        let [a, b] = &self.sides;
        differences(a, b, axes)
    }
}

/// The fields of a run's environment without those that never count.
pub(crate) fn counted_fields(report: &Report) -> Fields {
    let mut fields = fields::of_report(report);
    fields.retain(|field, _| may_count(field));
    fields
}

/// What was really used in a case, without what never counts.
pub(crate) fn counted_facts(measurement: &Measurement) -> Fields {
    let mut fields = fact_fields(&measurement.facts);
    fields.retain(|field, _| may_count(field));
    fields
}

/// A number that environments share if they differ in nothing that counts. Others seldom share it.
pub(crate) fn signature(fields: &Fields, axes: &[Axis]) -> u64 {
    let mut hash = std::hash::DefaultHasher::new();
    for (field, value) in fields {
        let tolerant = UNCOUNTED.iter().any(|rule| lies_below(field, rule.path));
        if !tolerant && declared(field, axes).is_none() {
            field.hash(&mut hash);
            // Unknown is unknown, for whatever reason.
            let value = if is_unknown(value) { "" } else { value };
            value.hash(&mut hash);
        }
    }
    hash.finish()
}

fn may_count(field: &str) -> bool {
    let never = |rule: &Uncounted| rule.within.is_none() && lies_below(field, rule.path);
    !UNCOUNTED.iter().any(never)
}

/// Every field that differs between two runs, confounders first.
pub(crate) fn differences_between(a: &Fields, b: &Fields, axes: &[Axis]) -> Vec<Difference> {
    let [a, b] = [a, b].map(|fields| {
        let mut values = Values::new();
        gather(&mut values, fields.clone());
        values
    });
    differences(&a, &b, axes)
}

/// The confounders among several groups, each with the values of every group, in their order.
pub(crate) fn confounders_among(
    groups: &[Values],
    axes: &[Axis],
) -> Vec<(String, Vec<BTreeSet<String>>)> {
    let Some((first, others)) = groups.split_first() else {
        return Vec::new();
    };
    let fields: BTreeSet<String> = others
        .iter()
        .flat_map(|other| differences(first, other, axes))
        .filter(|difference| difference.class == Class::Confounder)
        .map(|difference| difference.field)
        .collect();
    let absent = || BTreeSet::from([ABSENT.to_owned()]);
    let values = |field: &String| {
        groups
            .iter()
            .map(|group| group.get(field).cloned().unwrap_or_else(absent))
            .collect()
    };
    fields
        .into_iter()
        .map(|field| (field.clone(), values(&field)))
        .collect()
}

fn differences(a: &Values, b: &Values, axes: &[Axis]) -> Vec<Difference> {
    let absent = BTreeSet::from([ABSENT.to_owned()]);
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut differing: BTreeMap<&str, [&BTreeSet<String>; 2]> = BTreeMap::new();
    for field in names {
        let sides = [a, b].map(|side| side.get(field).unwrap_or(&absent));
        if sides[0] != sides[1] {
            differing.insert(field, sides);
        }
    }
    let mut found = Vec::new();
    for (&field, &[of_a, of_b]) in &differing {
        let implied = |side: &Values, values: &BTreeSet<String>| {
            *values == absent
                && ancestors(field)
                    .any(|(above, next)| differing.contains_key(above) && !has(side, next))
        };
        if implied(a, of_a) || implied(b, of_b) {
            continue;
        }
        let [of_a, of_b] =
            [(a, of_a), (b, of_b)].map(|(side, values)| in_words(side, field, values));
        let (class, why) = classify(field, &of_a, &of_b, axes);
        found.push(Difference {
            field: field.to_owned(),
            class,
            a: of_a.into_iter().collect(),
            b: of_b.into_iter().collect(),
            why,
        });
    }
    found.sort_by_key(|difference| difference.class);
    found
}

/// Whether the side has the field or something below it.
fn has(side: &Values, field: &str) -> bool {
    side.contains_key(field) || has_below(side, field)
}

fn has_below(side: &Values, field: &str) -> bool {
    let below = format!("{field}.");
    let mut from = side.range(below.clone()..);
    from.next()
        .is_some_and(|(first, _)| first.starts_with(&below))
}

/// What a side could not learn as a whole stands under the whole's name, and what it could learn
/// stands below: there it is called known, not absent.
fn in_words(side: &Values, field: &str, values: &BTreeSet<String>) -> BTreeSet<String> {
    let word = |value: &String| match value.as_str() {
        ABSENT if has_below(side, field) => KNOWN.to_owned(),
        _ => value.clone(),
    };
    values.iter().map(word).collect()
}

fn classify(
    field: &str,
    a: &BTreeSet<String>,
    b: &BTreeSet<String>,
    axes: &[Axis],
) -> (Class, Option<String>) {
    if let Some(why) = declared(field, axes) {
        return (Class::Declared, why);
    }
    let unknown = |values: &BTreeSet<String>| values.iter().all(|value| is_unknown(value));
    if unknown(a) && unknown(b) {
        let why = "it is unknown on both sides, for different reasons";
        return (Class::NotCounted, Some(why.to_owned()));
    }
    let uncounted = UNCOUNTED.iter().find(|rule| {
        lies_below(field, rule.path) && rule.within.is_none_or(|share| all_within(share, a, b))
    });
    match uncounted {
        Some(rule) => (Class::NotCounted, Some(rule.why.to_owned())),
        None => (Class::Confounder, None),
    }
}

/// Whether a field is under study or follows from one that is, and then from which.
fn declared(field: &str, axes: &[Axis]) -> Option<Option<String>> {
    if axes.iter().any(|axis| axis.covers(field)) {
        return Some(None);
    }
    // What was used of a thing follows from the parameter that asks for it.
    if let Some(fact) = field.strip_prefix("facts.") {
        let param = format!("params.{fact}");
        if let Some(axis) = axes.iter().find(|axis| axis.covers(&param)) {
            return Some(Some(format!("it follows from {axis}")));
        }
    }
    CONSEQUENCES.iter().find_map(|(cause, consequences)| {
        let declared = axes.iter().any(|axis| axis.covers(cause));
        let follows = declared && consequences.iter().any(|path| lies_below(field, path));
        follows.then(|| Some(format!("it follows from {cause}")))
    })
}

fn is_unknown(value: &str) -> bool {
    value.starts_with(UNAVAILABLE)
}

fn all_within(share: f64, a: &BTreeSet<String>, b: &BTreeSet<String>) -> bool {
    let numbers: Option<Vec<f64>> = a.union(b).map(|value| value.parse().ok()).collect();
    numbers.is_some_and(|numbers| {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        high - low <= share * high.abs()
    })
}

/// Whether a measurement of some report has a fact of this name.
pub(super) fn some_fact_lies_below<'a>(
    axis: &Axis,
    reports: impl IntoIterator<Item = &'a Report>,
) -> bool {
    let cases = reports.into_iter().flat_map(|report| &report.cases);
    cases
        .filter_map(|case| case.outcome.measurement())
        .flat_map(|measurement| fact_fields(&measurement.facts).into_keys())
        .any(|field| axis.covers(&field))
}

/// What was really used in a case and differs between the sides, confounders first. A fact that
/// varies among the runs of one side is an outcome, not a setting, and is passed over.
pub(super) fn fact_differences(sides: &[Vec<Run<'_>>; 2], axes: &[Axis]) -> Vec<Difference> {
    let [a, b] = sides.each_ref().map(|runs| {
        let mut values = Values::new();
        for run in runs {
            gather(&mut values, fact_fields(&run.measurement.facts));
        }
        values
    });
    let mut found = differences(&a, &b, axes);
    found.retain(|d| d.class != Class::NotCounted && d.a.len() == 1 && d.b.len() == 1);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_a_path_its_beginning_or_a_part() {
        let axis = |text: &str| text.parse::<Axis>().expect("a field");
        assert!(axis("instance_type").covers("cloud.instance_type"));
        assert!(axis("kernel.release").covers("kernel.release"));
        assert!(axis("nics").covers("nics.eth0.mtu_bytes"));
        assert!(!axis("release").covers("kernel.release_notes"));
        assert!(!axis("cpu.model").covers("model"));
        assert!("a..b".parse::<Axis>().is_err() && "".parse::<Axis>().is_err());
    }

    #[test]
    fn what_was_used_follows_from_the_parameter_that_asks_for_it() {
        let axis = "params.engine".parse().expect("a field");
        let axes = std::slice::from_ref(&axis);
        assert!(declared("facts.engine.calls", axes).is_some());
        assert!(declared("facts.congestion_control", axes).is_none());
    }

    #[test]
    fn total_memory_may_differ_a_little_and_no_more() {
        let class = |b: &str| {
            let set = |value: &str| BTreeSet::from([value.to_owned()]);
            classify("memory.total_bytes", &set("1000000"), &set(b), &[]).0
        };
        assert_eq!(class("1004000"), Class::NotCounted);
        assert_eq!(class("2000000"), Class::Confounder);
        assert_eq!(class("unavailable: no /proc"), Class::Confounder);
    }
}
