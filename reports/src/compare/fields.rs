//! The environments of runs as lists of fields with their values.
//!
//! Hosts are taken in their serialised form, so that a field added to the fingerprint counts from
//! its first day. A run's command line and seed are not: what they shape stands in the parameters.
//!
//! Thousands of runs share nearly everything, but some little thing, such as a job id or the number
//! of free huge pages, may be new in each. So a host is taken apart section by section (`cpu`,
//! `nics`, ...), and each distinct section once: time and memory grow with what differs.

use super::path;
use crate::host::Host;
use crate::model::{self, OBSERVED, Report};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Fields with their values, some of one run or all.
pub(crate) type Fields = BTreeMap<String, String>;
/// Each field with every value it has among some runs.
pub(crate) type Values = BTreeMap<String, BTreeSet<String>>;

/// The value of a field that a run does not have while another has it.
pub(super) const ABSENT: &str = "absent";
/// Begins the value of a field that could not be learnt; the reason follows.
pub(super) const UNAVAILABLE: &str = "unavailable: ";

/// Adds some fields of a run to those of its group.
pub(crate) fn gather(values: &mut Values, fields: Fields) {
    for (field, value) in fields {
        values.entry(field).or_default().insert(value);
    }
}

/// The environments of many runs.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Distinct sections, each of all hosts of a run together.
    distinct: Vec<Fields>,
    /// The sections of each run by name, as indices.
    of_run: Vec<BTreeMap<String, usize>>,
}

impl Surroundings {
    /// Those of the reports, in their order.
    pub(crate) fn of(reports: &[Report]) -> Self {
        let mut known = Known::default();
        let mut of_run: Vec<BTreeMap<String, usize>> = Vec::with_capacity(reports.len());
        for (index, report) in reports.iter().enumerate() {
            let same = index.checked_sub(1).filter(|&before| {
                let before = &reports[before];
                before.hosts == report.hosts
                    && before.unknown == report.unknown
                    && before.program == report.program
                    && before.run.environment == report.run.environment
                    && before.run.clock == report.run.clock
                    && before.run.scheduler == report.run.scheduler
            });
            let sections = match same {
                Some(before) => of_run[before].clone(),
                None => known.sections_of(report),
            };
            of_run.push(sections);
        }
        let distinct = known.together;
        Self { distinct, of_run }
    }

    /// Every field that some run has.
    pub(crate) fn names(&self) -> BTreeSet<&String> {
        self.distinct.iter().flat_map(BTreeMap::keys).collect()
    }

    /// The value of a field in the run with this index.
    pub(crate) fn value(&self, run: usize, field: &str) -> Option<&String> {
        let mut sections = self.of_run[run].values();
        sections.find_map(|&section| self.distinct[section].get(field))
    }

    /// Every field with its values among some runs; [`ABSENT`] where only some have it.
    pub(crate) fn values(&self, runs: impl IntoIterator<Item = usize>) -> Values {
        let mut count = 0;
        let mut sections: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
        for run in runs {
            count += 1;
            for (name, &section) in &self.of_run[run] {
                *sections
                    .entry(name)
                    .or_default()
                    .entry(section)
                    .or_default() += 1;
            }
        }
        let mut values = Values::new();
        for section in sections.into_values() {
            let mut having: BTreeMap<&String, usize> = BTreeMap::new();
            for (&index, &runs) in &section {
                for (field, value) in &self.distinct[index] {
                    *having.entry(field).or_default() += runs;
                    let known = values.entry(field.clone()).or_default();
                    if !known.contains(value) {
                        known.insert(value.clone());
                    }
                }
            }
            for (field, runs) in having {
                if runs < count {
                    let known = values.entry(field.clone()).or_default();
                    known.insert(ABSENT.to_owned());
                }
            }
        }
        values
    }
}

/// The fields of one run.
pub(crate) fn of_report(report: &Report) -> Fields {
    let surroundings = Surroundings::of(std::slice::from_ref(report));
    surroundings.distinct.into_iter().flatten().collect()
}

/// The fields of one host alone.
pub(crate) fn of_host(host: &Host) -> Fields {
    let mut fields = Fields::new();
    flatten(
        "",
        &serde_json::to_value(host).unwrap_or_default(),
        &mut fields,
    );
    fields
}

/// What was taken apart already.
#[derive(Default)]
struct Known {
    /// Sections of one host by name and text: the index of their fields.
    single: HashMap<String, HashMap<String, usize>>,
    of_single: Vec<Fields>,
    /// Sections of all hosts by the indices of each one's: the index of their common fields.
    joint: HashMap<Vec<Option<usize>>, usize>,
    together: Vec<Fields>,
}

impl Known {
    fn sections_of(&mut self, report: &Report) -> BTreeMap<String, usize> {
        let hosts: Vec<BTreeMap<String, usize>> = texts_of_hosts(report)
            .iter()
            .map(|host| self.sections(host))
            .collect();
        let names: BTreeSet<&String> = hosts.iter().flat_map(BTreeMap::keys).collect();
        let mut sections = BTreeMap::new();
        for name in names {
            let of_hosts = hosts.iter().map(|host| host.get(name).copied()).collect();
            sections.insert(name.clone(), self.joint(of_hosts));
        }
        // A run has these once, whatever the number of hosts.
        for (name, section) in self.sections(&around_run(report)) {
            let joint = self.joint(vec![Some(section)]);
            sections.insert(format!("run.{name}"), joint);
        }
        sections
    }

    /// The sections of a JSON object, each taken apart if it is new.
    fn sections(&mut self, object: &str) -> BTreeMap<String, usize> {
        // This crate has just written it: it is an object.
        let sections: BTreeMap<String, &RawValue> =
            serde_json::from_str(object).unwrap_or_default();
        let mut indices = BTreeMap::new();
        for (name, section) in sections {
            let same_name = self.single.entry(name.clone()).or_default();
            let index = match same_name.get(section.get()) {
                Some(&index) => index,
                None => {
                    let value: Value = serde_json::from_str(section.get()).unwrap_or_default();
                    let mut fields = Fields::new();
                    flatten(&path::below("", &name), &value, &mut fields);
                    self.of_single.push(fields);
                    let index = self.of_single.len() - 1;
                    same_name.insert(section.get().to_owned(), index);
                    index
                }
            };
            indices.insert(name, index);
        }
        indices
    }

    /// The common fields of a section of all hosts.
    fn joint(&mut self, mut of_hosts: Vec<Option<usize>>) -> usize {
        if of_hosts.len() > 2 {
            // Then only the number of hosts counts that have which value.
            of_hosts.sort_unstable();
        }
        if let Some(&known) = self.joint.get(&of_hosts) {
            return known;
        }
        let none = Fields::new();
        let hosts: Vec<&Fields> = of_hosts
            .iter()
            .map(|section| section.map_or(&none, |section| &self.of_single[section]))
            .collect();
        let names: BTreeSet<&String> = hosts.iter().flat_map(|host| host.keys()).collect();
        let value = |name: &String| {
            let values = hosts.iter().map(|host| host.get(name));
            together(
                &values
                    .map(|v| v.map_or(ABSENT, String::as_str))
                    .collect::<Vec<_>>(),
            )
        };
        let fields = names.into_iter().map(|n| (n.clone(), value(n))).collect();
        self.together.push(fields);
        self.joint.insert(of_hosts, self.together.len() - 1);
        self.together.len() - 1
    }
}

/// Each host as JSON, with what this build does not know of it.
fn texts_of_hosts(report: &Report) -> Vec<String> {
    if report.unknown.is_empty() {
        return report.hosts.iter().map(text::<Host>).collect();
    }
    let whole = model::to_value(report);
    let hosts = whole["hosts"].as_array();
    hosts.into_iter().flatten().map(text::<Value>).collect()
}

fn text<T: Serialize>(value: &T) -> String {
    // Nothing in a report can fail to serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// What shapes a run's numbers beside its hosts, as JSON, with what this build does not know of it.
fn around_run(report: &Report) -> String {
    let Report { program, run, .. } = report;
    // The calibrated frequency and the drift differ from run to run.
    let lasting = |clock: Value| without(clock, &["frequency_hz", "drift_ppm"]);
    if report.unknown.is_empty() {
        return text(&AroundRun {
            program,
            environment: &run.environment,
            clock: lasting(serde_json::to_value(&run.clock).unwrap_or_default()),
            scheduler: &run.scheduler,
        });
    }
    let mut whole = model::to_value(report);
    let clock = lasting(whole["run"]["clock"].take());
    text(&AroundRun {
        program: whole["program"].take(),
        environment: &run.environment,
        clock,
        scheduler: whole["run"]["scheduler"].take(),
    })
}

#[derive(Serialize)]
struct AroundRun<'a, P, S> {
    program: P,
    environment: &'a BTreeMap<String, String>,
    clock: Value,
    scheduler: S,
}

fn without(mut value: Value, fields: &[&str]) -> Value {
    if let Some(map) = value.as_object_mut() {
        fields
            .iter()
            .for_each(|field| drop(map.shift_remove(*field)));
    }
    value
}

/// One value for all hosts. With two hosts their order tells client from server; with more, what
/// counts is how many hosts have which value.
fn together(of_hosts: &[&str]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in of_hosts {
        *counts.entry(value).or_default() += 1;
    }
    match of_hosts {
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

/// What tells the items of a list apart, if each has it: an item goes by it, not by its place.
const IDENTITIES: [&str; 5] = ["name", "node", "port", "page_bytes", "mount_point"];

/// Writes down every leaf under its path. A list of objects is itself a leaf with the names of its
/// items, which lie below it.
fn flatten(field: &str, value: &Value, into: &mut Fields) {
    match value {
        Value::Object(map) => match (map.len(), map.get("unavailable")) {
            (1, Some(Value::String(reason))) => {
                into.insert(field.to_owned(), format!("{UNAVAILABLE}{reason}"));
            }
            // An empty map has no field, so that its first one differs under its own name.
            _ => map
                .iter()
                .for_each(|(name, value)| flatten(&path::below(field, name), value, into)),
        },
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let identity = IDENTITIES.iter().find(|key| tells_apart(key, items));
            let mut names = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let name = identity.map_or(index.to_string(), |key| plain(&item[*key]));
                let mut item = item.clone();
                if let (Some(key), Value::Object(item)) = (identity, &mut item) {
                    item.shift_remove(*key);
                }
                flatten(&path::below(field, &name), &item, into);
                names.push(name);
            }
            into.insert(field.to_owned(), serde_json::json!(names).to_string());
        }
        Value::Array(items) if items.is_empty() => {
            into.insert(field.to_owned(), "none".to_owned());
        }
        other => drop(into.insert(field.to_owned(), plain(other))),
    }
}

fn tells_apart(key: &str, items: &[Value]) -> bool {
    let scalar = |item: &Value| match &item[key] {
        value @ (Value::String(_) | Value::Number(_)) => Some(plain(value)),
        _ => None,
    };
    let names: Option<BTreeSet<String>> = items.iter().map(scalar).collect();
    names.is_some_and(|names| names.len() == items.len())
}

/// A value in words. Text stands as it is, unless it could be mistaken for another kind of value.
fn plain(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let mistakable = [ABSENT, "none", KNOWN].contains(&text.as_str())
        || text.starts_with(UNAVAILABLE)
        || [" / ", " × "].iter().any(|joint| text.contains(joint))
        || serde_json::from_str::<Value>(text).is_ok();
    if mistakable {
        value.to_string()
    } else {
        text.clone()
    }
}

/// The value of a field that one side could not learn, on the side that knows what lies below it.
pub(super) const KNOWN: &str = "known";

/// What a run really used, field by field. What was observed is no setting and has no field.
pub(crate) fn fact_fields(facts: &Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in facts.iter().filter(|(name, _)| *name != OBSERVED) {
        flatten(&path::below("facts", name), value, &mut fields);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_taken_together_by_their_number() {
        assert_eq!(together(&["a", "a", "a"]), "a");
        assert_eq!(together(&["b", "a"]), "b / a");
        assert_eq!(together(&["b", "a", "b"]), "1 × a, 2 × b");
    }

    fn flat(value: &Value) -> Vec<(String, String)> {
        let mut fields = Fields::new();
        flatten("", value, &mut fields);
        fields.into_iter().collect()
    }

    #[test]
    fn what_was_observed_is_no_setting() {
        let facts = serde_json::json!({"engine": "uring", "observed": {"limited_by": "link"}});
        let fields = fact_fields(facts.as_object().expect("an object"));
        assert_eq!(fields.into_keys().collect::<Vec<_>>(), ["facts.engine"]);
    }

    #[test]
    fn lists_go_by_name_and_unknown_values_keep_their_reason() {
        let value = serde_json::json!({
            "nics": [{"name": "eth0", "mtu_bytes": 9001}, {"name": "eth0.7", "mtu_bytes": 1500}],
            "rdma": [], "cpus": ["0", "1"], "cloud": {"unavailable": "no metadata"},
            "pools": [{"page_bytes": 2, "free": 0}, {"page_bytes": 4, "free": 0}],
        });
        let expected = [
            ("cloud", "unavailable: no metadata"),
            ("cpus", "[\"0\",\"1\"]"),
            ("nics", "[\"eth0\",\"eth0.7\"]"),
            ("nics.\"eth0.7\".mtu_bytes", "1500"),
            ("nics.eth0.mtu_bytes", "9001"),
            ("pools", "[\"2\",\"4\"]"),
            ("pools.2.free", "0"),
            ("pools.4.free", "0"),
            ("rdma", "none"),
        ];
        let expected = expected.map(|(field, value)| (field.to_owned(), value.to_owned()));
        assert_eq!(flat(&value), expected);
    }

    #[test]
    fn items_of_one_name_and_values_that_look_alike_stay_apart() {
        let twice = serde_json::json!({"l": [{"name": "x", "v": 1}, {"name": "x", "v": 2}]});
        let fields: Fields = flat(&twice).into_iter().collect();
        assert_eq!((&*fields["l.0.v"], &*fields["l.1.v"]), ("1", "2"));
        for (one, other) in [
            (serde_json::json!(1), serde_json::json!("1")),
            (serde_json::json!([]), serde_json::json!("none")),
            (serde_json::json!(null), serde_json::json!("null")),
            (
                serde_json::json!({"unavailable": "x"}),
                serde_json::json!("unavailable: x"),
            ),
        ] {
            let [one, other] = [one, other].map(|value| flat(&serde_json::json!({"f": value})));
            assert_ne!(one, other);
        }
    }
}
