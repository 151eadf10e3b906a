//! Which cases of the groups are the same work, and what forbids to rank them together.
//!
//! The rules are those of [`mod@crate::compare`]: equal id and parameters (but the one that the
//! groups differ by), one definition, one number of nodes.

use super::groups::{Field, Found};
use super::{Blocked, GroupValues, OnlyIn};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A case that may be ranked, with its runs.
pub(super) struct Matched<'a> {
    /// Id and parameters without the one that the groups differ by; the suite's row and arm where
    /// several measure the same.
    pub label: String,
    pub found: Vec<Found<'a>>,
}

/// All cases of all groups.
#[derive(Default)]
pub(super) struct Cases<'a> {
    pub matched: Vec<Matched<'a>>,
    pub blocked: Vec<Blocked>,
    pub only_in: Vec<OnlyIn>,
}

/// What makes two results the same work: the id, then the parameters.
type Key = (String, String);

/// Puts cases together, in the order of their suite and else of the reports.
pub(super) fn match_cases<'a>(found: Vec<Found<'a>>, field: &Field, names: &[String]) -> Cases<'a> {
    let mut order: Vec<(u32, Key)> = Vec::new();
    let mut by_key: BTreeMap<Key, Vec<Found<'a>>> = BTreeMap::new();
    for one in found {
        let key = key(&one, field);
        let same = by_key.entry(key.clone()).or_default();
        if same.is_empty() {
            let session = one.report.run.session.as_ref();
            order.push((session.map_or(0, |session| session.position), key));
        }
        same.push(one);
    }
    order.sort_by_key(|(position, _)| *position);
    let mut cases = Cases::default();
    let mut lone: BTreeMap<String, Vec<Found<'a>>> = BTreeMap::new();
    for (_, key) in order {
        let label = label(&key);
        for (label, found) in by_rows(label, by_key.remove(&key).unwrap_or_default()) {
            let groups: BTreeSet<usize> = found.iter().map(|one| one.group).collect();
            if groups.len() == 1 && names.len() > 1 {
                lone.entry(key.0.clone()).or_default().extend(found);
                continue;
            }
            let blocked = blocked(&label, &found, field, names);
            if blocked.is_empty() {
                cases.matched.push(Matched { label, found });
            }
            cases.blocked.extend(blocked);
        }
    }
    for (id, found) in lone {
        judge_lone(&mut cases, &id, &found, field, names);
    }
    cases
}

fn key(one: &Found<'_>, field: &Field) -> Key {
    let benchmark = &one.case.benchmark;
    let params: BTreeMap<&String, &Value> = benchmark
        .params
        .iter()
        .filter(|(name, _)| !is_under_study(field, name))
        .collect();
    let params = serde_json::to_string(&params).unwrap_or_default();
    (benchmark.id.clone(), params)
}

/// Whether the groups differ by this parameter. Grouped by nodes, they differ by those that our
/// programs write down as a parameter too.
fn is_under_study(field: &Field, param: &str) -> bool {
    match field {
        Field::Parameter(name) => name == param,
        Field::Nodes => param == "nodes",
        _ => false,
    }
}

fn label((id, params): &Key) -> String {
    let params: BTreeMap<String, Value> = serde_json::from_str(params).unwrap_or_default();
    let words = params.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        value => format!("{name}={value}"),
    });
    let words: Vec<String> = std::iter::once(id.clone()).chain(words).collect();
    words.join(" ")
}

type Name<'a> = Option<&'a str>;

/// Splits runs of the same work by the suite's row, and then by its arm, where some group has
/// several: they would differ by something that is no parameter, such as the binary.
fn by_rows<'a>(label: String, found: Vec<Found<'a>>) -> Vec<(String, Vec<Found<'a>>)> {
    let row: for<'b> fn(&Found<'b>) -> Name<'b> = |one| {
        let session = one.report.run.session.as_ref()?;
        Some(session.row.as_str())
    };
    let arm: for<'b> fn(&Found<'b>) -> Name<'b> = |one| {
        let session = one.report.run.session.as_ref()?;
        session.arm.as_deref()
    };
    let rows = split(label, found, "row", row);
    rows.into_iter()
        .flat_map(|(label, found)| split(label, found, "arm", arm))
        .collect()
}

fn split<'a>(
    label: String,
    found: Vec<Found<'a>>,
    what: &str,
    name: for<'b> fn(&Found<'b>) -> Name<'b>,
) -> Vec<(String, Vec<Found<'a>>)> {
    let mut of_group: BTreeMap<usize, BTreeSet<Name<'_>>> = BTreeMap::new();
    for one in &found {
        of_group.entry(one.group).or_default().insert(name(one));
    }
    if of_group.values().all(|names| names.len() == 1) {
        return vec![(label, found)];
    }
    let mut parts: BTreeMap<String, Vec<Found<'a>>> = BTreeMap::new();
    for one in found {
        let part = match name(&one) {
            Some(name) => format!("{label} [{what} {name}]"),
            None => format!("{label} [no {what}]"),
        };
        parts.entry(part).or_default().push(one);
    }
    parts.into_iter().collect()
}

/// Every value that the runs of a group have, group by group.
pub(super) fn values_by_group(
    found: &[Found<'_>],
    names: &[String],
    value: impl Fn(&Found<'_>) -> String,
) -> Vec<GroupValues> {
    let mut by_group: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for one in found {
        by_group.entry(one.group).or_default().insert(value(one));
    }
    by_group
        .into_iter()
        .map(|(group, values)| GroupValues {
            group: names[group].clone(),
            values: values.into_iter().collect(),
        })
        .collect()
}

/// Whether all groups have one and the same value.
pub(super) fn is_one(values: &[GroupValues]) -> bool {
    let all: BTreeSet<&String> = values.iter().flat_map(|group| &group.values).collect();
    all.len() <= 1
}

fn blocked(label: &str, found: &[Found<'_>], field: &Field, names: &[String]) -> Vec<Blocked> {
    let definition = |one: &Found<'_>| one.case.benchmark.definition_hash.clone();
    let nodes = |one: &Found<'_>| one.report.hosts.len().to_string();
    let mut checks = vec![("definition_hash", values_by_group(found, names, definition))];
    if *field != Field::Nodes {
        checks.push(("node count", values_by_group(found, names, nodes)));
    }
    checks
        .into_iter()
        .filter(|(_, values)| !is_one(values))
        .map(|(what, values)| Blocked {
            case: label.to_owned(),
            field: what.to_owned(),
            values,
        })
        .collect()
}

/// Work that one group alone has: blocked by its parameters if other groups have the same
/// benchmark with others, else of that group's own.
fn judge_lone(
    cases: &mut Cases<'_>,
    id: &str,
    found: &[Found<'_>],
    field: &Field,
    names: &[String],
) {
    let groups: BTreeSet<usize> = found.iter().map(|one| one.group).collect();
    if let (Some(group), 1) = (groups.first(), groups.len()) {
        let labels: BTreeSet<String> = found.iter().map(|one| label(&key(one, field))).collect();
        let group = names[*group].clone();
        cases.only_in.extend(labels.into_iter().map(|case| OnlyIn {
            group: group.clone(),
            case,
        }));
        return;
    }
    let params: BTreeSet<&String> = found
        .iter()
        .flat_map(|one| one.case.benchmark.params.keys())
        .filter(|name| !is_under_study(field, name))
        .collect();
    let before = cases.blocked.len();
    for name in params {
        let value = |one: &Found<'_>| match one.case.benchmark.params.get(name) {
            None => "absent".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let values = values_by_group(found, names, value);
        let differs = values
            .windows(2)
            .any(|pair| pair[0].values != pair[1].values);
        if differs {
            cases.blocked.push(Blocked {
                case: id.to_owned(),
                field: format!("params.{name}"),
                values,
            });
        }
    }
    if cases.blocked.len() == before {
        let place = |one: &Found<'_>| match &one.report.run.session {
            None => "no suite".to_owned(),
            Some(session) => match &session.arm {
                Some(arm) => format!("{} [{arm}]", session.row),
                None => session.row.clone(),
            },
        };
        cases.blocked.push(Blocked {
            case: id.to_owned(),
            field: "row or arm of the suite".to_owned(),
            values: values_by_group(found, names, place),
        });
    }
}
