//! A run's environment as a list of fields with their values.
//!
//! Hosts are taken in their serialised form, so that a field added to the fingerprint counts from
//! its first day. A run's command line and seed are not: what they shape stands in the parameters.

use crate::model::Report;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Each field of one run with its value.
pub(crate) type Fields = BTreeMap<String, String>;
/// Each field with every value it has among some runs.
pub(crate) type Values = BTreeMap<String, BTreeSet<String>>;

/// Adds a run's fields to those of its group.
pub(crate) fn gather(values: &mut Values, fields: Fields) {
    for (field, value) in fields {
        values.entry(field).or_default().insert(value);
    }
}

/// The environments of many runs. Most share theirs to the letter: each is taken apart once.
pub(crate) struct Surroundings {
    distinct: Vec<Fields>,
    of_run: Vec<usize>,
}

impl Surroundings {
    /// Those of the reports, in their order.
    pub(crate) fn of(reports: &[Report]) -> Self {
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut distinct = Vec::new();
        let of_run = reports.iter().map(|report| {
            let environment = of_run(report);
            *known.entry(environment.to_string()).or_insert_with(|| {
                distinct.push(fields_of_run(&environment));
                distinct.len() - 1
            })
        });
        let of_run = of_run.collect();
        Self { distinct, of_run }
    }

    /// Every environment once.
    pub(crate) fn distinct(&self) -> &[Fields] {
        &self.distinct
    }

    /// The fields of the run with this index.
    pub(crate) fn fields(&self, run: usize) -> &Fields {
        &self.distinct[self.of_run[run]]
    }

    /// Every field with its values among some runs.
    pub(crate) fn values(&self, runs: impl IntoIterator<Item = usize>) -> Values {
        let wanted: BTreeSet<usize> = runs.into_iter().map(|run| self.of_run[run]).collect();
        let mut values = Values::new();
        for index in wanted {
            gather(&mut values, self.distinct[index].clone());
        }
        values
    }
}

/// The fields of one run.
pub(crate) fn of_report(report: &Report) -> Fields {
    fields_of_run(&of_run(report))
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

/// What a run really used, field by field.
pub(crate) fn fact_fields(facts: &Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in facts {
        flatten(&format!("facts.{name}"), value, &mut fields);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
