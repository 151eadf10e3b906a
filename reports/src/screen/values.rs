//! The numbers of nodes, out of reports: from each node's own, from matrices, and from facts.

use super::{Rule, RulesError, Source};
use crate::cluster::{Kind, Nodes};
use crate::model::{Case, Direction, Fact, Measurement, Outcome, Report, Severity, Unit};
use crate::stats;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Whose a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// All nodes' together.
    All,
    /// That of a node.
    Node(usize),
}

/// One number of each node.
#[derive(Debug)]
pub(super) struct Series {
    /// The case.
    pub(super) case: String,
    /// What was looked at.
    pub(super) what: String,
    pub(super) direction: Direction,
    pub(super) unit: Option<Unit>,
    /// The numbers, medians over repetitions, or why there is none.
    pub(super) of: BTreeMap<Subject, Result<f64, String>>,
}

/// The measurements of one case in one row.
pub(super) struct Group<'a> {
    pub(super) label: String,
    pub(super) measured: Vec<(&'a Report, &'a Measurement)>,
}

/// What a rule is about, case by case.
pub(super) fn groups<'a>(rule: &Rule, reports: &[&'a Report]) -> Vec<Group<'a>> {
    type Key<'a> = (u32, Option<&'a str>, &'a str);
    type Found<'a> = (&'a Case, Vec<(&'a Report, &'a Measurement)>);
    let mut found: BTreeMap<Key<'a>, BTreeMap<String, Found<'a>>> = BTreeMap::new();
    for &report in reports {
        let session = report.run.session.as_ref();
        let row = session.map(|session| session.row.as_str());
        let position = session.map_or(0, |session| session.position);
        let meant = |pattern: &glob::Pattern| row.is_some_and(|row| pattern.matches(row));
        if !rule.row.as_ref().is_none_or(meant) {
            continue;
        }
        for case in &report.cases {
            let id = case.benchmark.id.as_str();
            if let (true, Outcome::Measured(measurement)) = (rule.case.matches(id), &case.outcome) {
                let of_id = found.entry((position, row, id)).or_default();
                let group = of_id.entry(case.key()).or_insert((case, Vec::new()));
                group.1.push((report, measurement));
            }
        }
    }
    let mut groups = Vec::new();
    for ((_, row, id), of_id) in found {
        let differing = differing(of_id.values().map(|(case, _)| &case.benchmark.params));
        for (case, measured) in of_id.into_values() {
            let mut label = id.to_owned();
            for name in &differing {
                if let Some(value) = case.benchmark.params.get(name) {
                    let plain = value.as_str().map_or(value.to_string(), str::to_owned);
                    label.push_str(&format!(" {name}={plain}"));
                }
            }
            if let Some(row) = row {
                label.push_str(&format!(" (row {row})"));
            }
            groups.push(Group { label, measured });
        }
    }
    groups
}

/// The parameters that are not the same in all.
fn differing<'a>(all: impl Iterator<Item = &'a Map<String, Value>> + Clone) -> BTreeSet<String> {
    let names: BTreeSet<&String> = all.clone().flat_map(Map::keys).collect();
    let differs = |name: &&&String| {
        let values: Vec<Option<&Value>> = all.clone().map(|params| params.get(**name)).collect();
        values.windows(2).any(|pair| pair[0] != pair[1])
    };
    names
        .iter()
        .filter(differs)
        .map(|name| (*name).clone())
        .collect()
}

/// The numbers by which a rule judges; none, if no report has such a case.
///
/// # Errors
/// [`RulesError::Unknown`]: the cases are there, and none has what the rule names.
pub(super) fn series(
    rule: &Rule,
    reports: &[&Report],
    nodes: &Nodes,
) -> Result<Vec<Series>, RulesError> {
    let groups = groups(rule, reports);
    let all = groups.iter().flat_map(|group| of_group(rule, group, nodes));
    let series: Vec<Series> = all.collect();
    if series.is_empty() && !groups.is_empty() {
        let (kind, name) = match rule.source() {
            Source::Metric(name) => ("metric", name),
            Source::Matrix(name) => ("matrix", name),
            Source::Fact(name) => ("fact of numbers by host", name),
            Source::Finding(_) => return Ok(series),
        };
        return Err(RulesError::Unknown {
            rule: rule.name.clone(),
            case: groups[0].label.clone(),
            kind,
            name: name.to_owned(),
            known: known(rule, &groups),
        });
    }
    Ok(series)
}

/// What a rule could have named instead.
fn known(rule: &Rule, groups: &[Group<'_>]) -> String {
    let mut names = BTreeSet::new();
    for (_, measurement) in groups.iter().flat_map(|group| &group.measured) {
        match rule.source() {
            Source::Metric(_) => names.extend(measurement.metrics.iter().map(|m| m.key())),
            Source::Matrix(_) => names.extend(measurement.matrices.iter().map(|m| m.name.clone())),
            Source::Fact(_) | Source::Finding(_) => {
                let facts = measurement.facts.iter();
                let facts = facts.filter(|(_, fact)| fact.is_object());
                names.extend(facts.map(|(name, _)| name.clone()));
            }
        }
    }
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.into_iter().collect::<Vec<_>>().join(", "),
    }
}

/// Numbers as they are found, by what they are of.
#[derive(Default)]
struct Found {
    of: BTreeMap<String, (Direction, Option<Unit>, Numbers)>,
}

type Numbers = BTreeMap<Subject, Vec<Result<f64, String>>>;

impl Found {
    fn add(
        &mut self,
        what: String,
        (direction, unit): (Direction, Option<Unit>),
        subject: Subject,
        value: Result<f64, String>,
    ) {
        let entry = self.of.entry(what);
        let (.., numbers) = entry.or_insert((direction, unit, Numbers::new()));
        let value = value.and_then(|value| match value.is_finite() {
            true => Ok(value),
            false => Err(format!("{value} is no number")),
        });
        numbers.entry(subject).or_default().push(value);
    }
}

fn of_group(rule: &Rule, group: &Group<'_>, nodes: &Nodes) -> Vec<Series> {
    let mut found = Found::default();
    for (report, measurement) in &group.measured {
        let fault = disqualified(measurement);
        let fair = |value: f64| fault.clone().map_or(Ok(value), Err);
        match rule.source() {
            Source::Metric(name) => {
                let metric = measurement.metrics.iter().find(|m| m.key() == name);
                if let Some(metric) = metric {
                    let value = match &metric.value {
                        Fact::Known(value) => fair(*value),
                        Fact::Unavailable { unavailable } => Err(unavailable.clone()),
                    };
                    let how = (metric.direction, Some(metric.unit));
                    found.add(name.to_owned(), how, subject(report, nodes), value);
                }
            }
            Source::Fact(name) => {
                let direction = rule.direction.unwrap_or(Direction::HigherIsBetter);
                let numbers = measurement.facts.get(name).and_then(Value::as_object);
                for (host, number) in numbers.into_iter().flatten() {
                    let host = report.hosts.iter().find(|known| known.name == *host);
                    if let Some(node) = host.and_then(|host| nodes.find(host)) {
                        let node = Subject::Node(node);
                        let value = number.as_f64().ok_or(format!("{number} is no number"));
                        let value = value.and_then(fair);
                        found.add(name.to_owned(), (direction, None), node, value);
                    }
                }
            }
            Source::Matrix(name) => {
                let wanted = measurement.matrices.iter().filter(|m| m.name == name);
                for matrix in wanted {
                    let how = (matrix.direction, Some(matrix.unit));
                    for (word, node, values) in sent_and_received(report, matrix, nodes) {
                        let median = stats::median(&values).ok_or("no pair measured".to_owned());
                        let value = median.and_then(fair);
                        found.add(format!("{name} {word}"), how, Subject::Node(node), value);
                    }
                }
            }
            Source::Finding(_) => {}
        }
    }
    let series = found
        .of
        .into_iter()
        .map(|(what, (direction, unit, of))| Series {
            case: group.label.clone(),
            what,
            direction,
            unit,
            of: of
                .into_iter()
                .map(|(subject, all)| (subject, condensed(all)))
                .collect(),
        });
    series.collect()
}

/// Why the numbers of a measurement do not stand, unless it is because somebody else's are missing.
fn disqualified(measurement: &Measurement) -> Option<String> {
    let others = [Kind::MissingNode.code(), Kind::MissingRank.code()];
    let mut flags = measurement.validity.flags.iter();
    let flag = flags
        .find(|flag| flag.severity == Severity::Invalid && !others.contains(&flag.code.as_str()))?;
    Some(format!("invalid, {}: {}", flag.code, flag.evidence))
}

fn subject(report: &Report, nodes: &Nodes) -> Subject {
    let hosts = nodes.of_report(report);
    match (hosts.first(), hosts.len()) {
        (Some(&node), 1) => Subject::Node(node),
        _ => Subject::All,
    }
}

/// What each node sends to and receives from the nodes that are not itself.
fn sent_and_received(
    report: &Report,
    matrix: &crate::model::Matrix,
    nodes: &Nodes,
) -> Vec<(&'static str, usize, Vec<f64>)> {
    let place = |at: usize| {
        let host = report.hosts.get(matrix.nodes.get(at)?.host as usize)?;
        nodes.find(host)
    };
    let places: Vec<Option<usize>> = (0..matrix.nodes.len()).map(place).collect();
    let mut sent: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut received = sent.clone();
    for (from, row) in matrix.values.iter().enumerate() {
        for (to, value) in row.iter().enumerate() {
            let (Some(&Some(a)), Some(&Some(b))) = (places.get(from), places.get(to)) else {
                continue;
            };
            // A node that no pair of was measured must show as such.
            sent.entry(a).or_default();
            received.entry(b).or_default();
            if let Some(value) = value.filter(|_| a != b) {
                sent.entry(a).or_default().push(value);
                received.entry(b).or_default().push(value);
            }
        }
    }
    let sent = sent
        .into_iter()
        .map(|(node, values)| ("sent", node, values));
    let received = received.into_iter();
    sent.chain(received.map(|(node, values)| ("received", node, values)))
        .collect()
}

/// The median over repetitions; why there is none, if there is none at all.
fn condensed(all: Vec<Result<f64, String>>) -> Result<f64, String> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Ok(value) => values.push(value),
            Err(fault) => faults.push(fault),
        }
    }
    let none = || faults.into_iter().next().unwrap_or_default();
    stats::median(&values).ok_or_else(none)
}
