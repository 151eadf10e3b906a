//! What differs between the environments of two groups of runs, field by field.
//!
//! Hosts are compared in their serialised form, so that a field added to the fingerprint is
//! compared from its first day. A run's command line and seed are not: what they shape stands in
//! the parameters.

use super::matching::Run;
use crate::model::{Measurement, Report};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    any("block.*.serial", "every device has its own"),
    any("nics.*.mac", "every interface has its own"),
    any("nics.*.address", "every interface has its own"),
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
    any("memory.free_bytes", "it changes from moment to moment"),
    any("memory.available_bytes", "it changes from moment to moment"),
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
        let segments: Vec<String> = text.split('.').map(str::to_owned).collect();
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
        let segments: Vec<&str> = field.split('.').collect();
        segments
            .windows(self.segments.len())
            .any(|window| window.iter().zip(&self.segments).all(|(a, b)| a == b))
    }
}

/// An environment's leaves: each value under its path.
pub(crate) type Fields = BTreeMap<String, String>;
type Values = BTreeMap<String, BTreeSet<String>>;

/// The environments of two groups: each field with every value it has among the runs.
pub(super) struct Environments {
    sides: [Values; 2],
}

impl Environments {
    pub(super) fn of(a: &[Report], b: &[Report]) -> Self {
        Self {
            sides: [a, b].map(values),
        }
    }

    /// Whether some run has the field.
    pub(super) fn has(&self, axis: &Axis) -> bool {
        self.sides
            .iter()
            .flat_map(BTreeMap::keys)
            .any(|field| axis.covers(field))
    }

    /// Every field whose values differ, confounders first.
    pub(super) fn differences(&self, axes: &[Axis]) -> Vec<Difference> {
        let [a, b] = &self.sides;
        differences(a, b, axes)
    }
}

fn values(reports: &[Report]) -> Values {
    // Most runs of a group share their environment to the letter: each is taken apart once.
    let mut distinct: HashMap<String, Value> = HashMap::new();
    for report in reports {
        let environment = of_run(report);
        distinct
            .entry(environment.to_string())
            .or_insert(environment);
    }
    let mut values = Values::new();
    for environment in distinct.values() {
        for (field, value) in fields_of_run(environment) {
            values.entry(field).or_default().insert(value);
        }
    }
    values
}

/// The fields of a run's environment without those that never count.
pub(crate) fn counted_fields(report: &Report) -> Fields {
    let mut fields = fields_of_run(&of_run(report));
    fields.retain(|field, _| may_count(field));
    fields
}

/// What was really used in a case, without what never counts.
pub(crate) fn counted_facts(measurement: &Measurement) -> Fields {
    let mut fields = facts_of(measurement);
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
    // Most fields are equal: only the others are worth a set each.
    let differing = |of: &Fields, other: &Fields| -> Values {
        of.iter()
            .filter(|(field, value)| other.get(*field) != Some(value))
            .map(|(field, value)| (field.clone(), BTreeSet::from([value.clone()])))
            .collect()
    };
    differences(&differing(a, b), &differing(b, a), axes)
}

/// Everything around a run that may shape its numbers.
fn of_run(report: &Report) -> Value {
    let mut program = serde_json::to_value(&report.program).unwrap_or_default();
    if let Some(program) = program.as_object_mut() {
        // The benchmark's id begins with it.
        program.remove("name");
    }
    let mut scheduler = serde_json::to_value(&report.run.scheduler).unwrap_or_default();
    if let Some(scheduler) = scheduler.as_object_mut() {
        // How many nodes took part is judged by the hosts, and blocks.
        scheduler.remove("nodes");
    }
    // The calibrated frequency and the drift differ from run to run; the source and the reason for
    // it do not.
    let clock = report.run.clock.known().map_or_else(
        || serde_json::json!(report.run.clock),
        |clock| serde_json::json!({"source": clock.source, "note": clock.note}),
    );
    serde_json::json!({
        "hosts": report.hosts,
        "run": {
            "program": program,
            "environment": report.run.environment,
            "clock": clock,
            "scheduler": scheduler,
        },
    })
}

fn fields_of_run(environment: &Value) -> Fields {
    let mut fields = Fields::new();
    flatten("", &environment["run"], &mut fields);
    let hosts: Vec<Fields> = environment["hosts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|host| {
            let mut fields = Fields::new();
            flatten("", host, &mut fields);
            fields
        })
        .collect();
    let names: BTreeSet<&String> = hosts.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let of_hosts = hosts
            .iter()
            .map(|host| host.get(name).map_or("absent", String::as_str));
        fields.insert(name.clone(), together(of_hosts.collect()));
    }
    fields
}

/// One value for all hosts. With two hosts their order tells client from server; with more, what
/// counts is how many hosts have which value.
fn together(of_hosts: Vec<&str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in &of_hosts {
        *counts.entry(value).or_default() += 1;
    }
    match of_hosts.as_slice() {
        [value, ..] if counts.len() == 1 => (*value).to_owned(),
        [first, second] => format!("{first} / {second}"),
        _ => {
            let counted: Vec<String> = counts
                .iter()
                .map(|(value, count)| format!("{count} × {value}"))
                .collect();
            counted.join(", ")
        }
    }
}

/// Writes down every leaf under its path. Items of a list go by their name where they have one.
fn flatten(path: &str, value: &Value, into: &mut Fields) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Object(map) => match (map.len(), map.get("unavailable")) {
            (1, Some(reason)) => {
                let reason = reason.as_str().unwrap_or_default();
                into.insert(path.to_owned(), format!("unavailable: {reason}"));
            }
            // An empty map has no field, so that its first one differs under its own name.
            (0, _) => {}
            _ => map
                .iter()
                .for_each(|(name, value)| flatten(&below(name), value, into)),
        },
        Value::Array(items) if items.is_empty() => {
            into.insert(path.to_owned(), "none".to_owned());
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            into.insert(path.to_owned(), value.to_string());
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let name = item["name"].as_str().map(str::to_owned);
                flatten(&below(&name.unwrap_or(index.to_string())), item, into);
            }
        }
        Value::String(text) => drop(into.insert(path.to_owned(), text.clone())),
        other => drop(into.insert(path.to_owned(), other.to_string())),
    }
}

fn differences(a: &Values, b: &Values, axes: &[Axis]) -> Vec<Difference> {
    let absent = BTreeSet::from(["absent".to_owned()]);
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut found: Vec<Difference> = names
        .into_iter()
        .filter_map(|field| {
            let a = a.get(field).unwrap_or(&absent);
            let b = b.get(field).unwrap_or(&absent);
            (a != b).then(|| {
                let (class, why) = classify(field, a, b, axes);
                Difference {
                    field: field.clone(),
                    class,
                    a: a.iter().cloned().collect(),
                    b: b.iter().cloned().collect(),
                    why,
                }
            })
        })
        .collect();
    found.sort_by_key(|difference| difference.class);
    found
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
    CONSEQUENCES.iter().find_map(|(cause, consequences)| {
        let declared = axes.iter().any(|axis| axis.covers(cause));
        let follows = declared && consequences.iter().any(|path| lies_below(field, path));
        follows.then(|| Some(format!("it follows from {cause}")))
    })
}

fn is_unknown(value: &str) -> bool {
    value.starts_with("unavailable: ")
}

/// Whether `pattern` (`*` stands for one segment) is the path or a beginning of it.
fn lies_below(field: &str, pattern: &str) -> bool {
    let mut segments = field.split('.');
    pattern.split('.').all(|wanted| {
        segments
            .next()
            .is_some_and(|have| wanted == "*" || wanted == have)
    })
}

fn all_within(share: f64, a: &BTreeSet<String>, b: &BTreeSet<String>) -> bool {
    let numbers: Option<Vec<f64>> = a.union(b).map(|value| value.parse().ok()).collect();
    numbers.is_some_and(|numbers| {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        high - low <= share * high.abs()
    })
}

/// What was really used in a case and differs between the sides. A fact that varies among the runs
/// of one side is an outcome, not a setting, and is passed over.
pub(super) fn fact_differences(sides: &[Vec<Run<'_>>; 2], axes: &[Axis]) -> Vec<Difference> {
    let [a, b] = sides.each_ref().map(|runs| {
        let mut values = Values::new();
        for run in runs {
            for (field, value) in facts_of(run.measurement) {
                values.entry(field).or_default().insert(value);
            }
        }
        values
    });
    let mut found = differences(&a, &b, axes);
    found.retain(|d| d.class == Class::Confounder && d.a.len() == 1 && d.b.len() == 1);
    found
}

fn facts_of(measurement: &Measurement) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in &measurement.facts {
        flatten(&format!("facts.{name}"), value, &mut fields);
    }
    fields
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
    fn hosts_are_taken_together_by_their_number() {
        assert_eq!(together(vec!["a", "a", "a"]), "a");
        assert_eq!(together(vec!["b", "a"]), "b / a");
        assert_eq!(together(vec!["b", "a", "b"]), "1 × a, 2 × b");
    }

    #[test]
    fn lists_go_by_name_and_unknown_values_keep_their_reason() {
        let value = serde_json::json!({
            "nics": [{"name": "eth0", "mtu_bytes": 9001}, {"name": "eth1", "mtu_bytes": 1500}],
            "rdma": [], "cpus": ["0", "1"], "cloud": {"unavailable": "no metadata"},
        });
        let mut fields = Fields::new();
        flatten("", &value, &mut fields);
        let expected = [
            ("cloud", "unavailable: no metadata"),
            ("cpus", "[\"0\",\"1\"]"),
            ("nics.eth0.mtu_bytes", "9001"),
            ("nics.eth0.name", "eth0"),
            ("nics.eth1.mtu_bytes", "1500"),
            ("nics.eth1.name", "eth1"),
            ("rdma", "none"),
        ];
        let expected = expected.map(|(field, value)| (field.to_owned(), value.to_owned()));
        assert_eq!(fields, Fields::from(expected));
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
