//! Who is missing from what.
//!
//! The nodes that ought to be in a benchmark are those of a list, else those that the reports speak
//! of. A benchmark that two hosts ran between them misses nobody; one that ran on each node alone,
//! or under a launcher across all of them, misses each node that is not in it.

use super::{Expected, Fault, Kind, Nodes, same_host, some, why_absent};
use crate::model::{Report, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// The reports of one benchmark.
#[derive(Default)]
struct Group {
    reports: BTreeSet<usize>,
    /// In how many of them each node is.
    nodes: BTreeMap<usize, usize>,
    /// Whether each report is of one host alone.
    alone: bool,
    /// The most nodes and ranks that a launcher says it started.
    launched_nodes: Option<u32>,
}

/// By the suite's row and arm, and the benchmark's id.
type Groups<'a> = BTreeMap<(Option<&'a str>, Option<&'a str>, &'a str), Group>;

fn groups<'a>(reports: &[&'a Report], nodes: &Nodes) -> Groups<'a> {
    let mut groups = Groups::new();
    for (index, report) in reports.iter().enumerate() {
        let session = report.run.session.as_ref();
        let row = session.map(|session| session.row.as_str());
        let arm = session.and_then(|session| session.arm.as_deref());
        let hosts = nodes.of_report(report);
        if hosts.is_empty() {
            continue;
        }
        let ids: BTreeSet<&str> = report
            .cases
            .iter()
            .map(|c| c.benchmark.id.as_str())
            .collect();
        for id in ids {
            let group = groups.entry((row, arm, id)).or_insert_with(|| Group {
                alone: true,
                ..Group::default()
            });
            group.reports.insert(index);
            group.alone &= hosts.len() == 1;
            for &node in &hosts {
                *group.nodes.entry(node).or_default() += 1;
            }
            let launcher = report.run.scheduler.known();
            let told = launcher.and_then(|launcher| launcher.nodes.known());
            group.launched_nodes = group.launched_nodes.max(told.copied());
        }
    }
    groups
}

/// The nodes that are in no report, and all faults of this kind.
pub(super) fn faults(
    reports: &[&Report],
    nodes: &Nodes,
    expected: &Expected,
) -> (Vec<String>, Vec<Fault>) {
    let groups = groups(reports, nodes);
    let mut faults = Vec::new();
    let absent = match expected {
        Expected::AsReported => Vec::new(),
        Expected::Hosts(hosts) => {
            faults.extend(unexpected(hosts, nodes));
            let absent = hosts.iter().filter(|host| {
                let mut found = nodes.list().iter();
                !found.any(|node| same_host(&node.host, host))
            });
            absent.cloned().collect()
        }
        Expected::Count(count) => without_name(*count, nodes),
    };
    let everywhere: Vec<usize> = reports.iter().enumerate().map(|(at, _)| at).collect();
    if !absent.is_empty() {
        let addresses: Vec<String> = absent.iter().filter_map(|host| why_absent(host)).collect();
        let mut evidence = format!(
            "{} of {} nodes in no report: {}",
            absent.len(),
            absent.len() + nodes.list().len(),
            some(&absent)
        );
        if !addresses.is_empty() {
            evidence.push_str(&format!(" ({})", some(&addresses)));
        }
        let mut fault = Fault::new(Kind::MissingNode, Severity::Invalid, evidence);
        fault.nodes.clone_from(&absent);
        fault.touches = everywhere.into_iter().map(|at| (at, None)).collect();
        faults.push(fault);
    }
    let told = *expected != Expected::AsReported;
    for ((row, arm, id), group) in &groups {
        let of = [
            row.map(|row| format!(" of row {row}")),
            arm.map(|arm| format!(" [{arm}]")),
        ];
        let label = format!("{id}{}", of.into_iter().flatten().collect::<String>());
        faults.extend(missing_from(&label, id, group, nodes, told));
        faults.extend(more_launched(&label, id, group, nodes));
        faults.extend(fewer_reports(&label, group, nodes));
    }
    (absent, faults)
}

/// Stand-ins for nodes of which only the number is known.
fn without_name(count: usize, nodes: &Nodes) -> Vec<String> {
    let known = nodes.list().len();
    (known..count)
        .map(|at| format!("node {} of {count}, whose name nobody told", at + 1))
        .collect()
}

fn unexpected(hosts: &[String], nodes: &Nodes) -> Option<Fault> {
    let strangers = nodes.list().iter().filter(|node| {
        let mut hosts = hosts.iter();
        !hosts.any(|host| same_host(&node.host, host))
    });
    let strangers: Vec<String> = strangers.map(|node| node.name.clone()).collect();
    if strangers.is_empty() {
        return None;
    }
    let evidence = format!("not on the list of nodes: {}", some(&strangers));
    let mut fault = Fault::new(Kind::UnexpectedNode, Severity::Info, evidence);
    fault.nodes = strangers;
    Some(fault)
}

/// Nodes of the cluster that a benchmark lacks.
fn missing_from(label: &str, id: &str, group: &Group, nodes: &Nodes, told: bool) -> Option<Fault> {
    let launched = group.launched_nodes.is_some_and(|nodes| nodes > 1);
    let covers_all = match group.alone {
        true => told || group.nodes.len() > 1,
        false => launched,
    };
    let all = 0..nodes.list().len();
    let missing = all.filter(|node| covers_all && !group.nodes.contains_key(node));
    let missing = nodes.names(missing);
    if missing.is_empty() {
        return None;
    }
    let evidence = format!(
        "{label} has {} of {} nodes, without {}",
        group.nodes.len(),
        nodes.list().len(),
        some(&missing)
    );
    let mut fault = Fault::new(Kind::MissingNode, Severity::Invalid, evidence);
    fault.nodes = missing;
    fault.touches = group.touches(id);
    Some(fault)
}

/// A launcher that started more nodes than there are in all reports.
fn more_launched(label: &str, id: &str, group: &Group, nodes: &Nodes) -> Option<Fault> {
    let launched = group.launched_nodes? as usize;
    if launched <= nodes.list().len() || (group.alone && group.nodes.len() == 1) {
        return None;
    }
    let evidence = format!(
        "{label}: the launcher started {launched} nodes, and reports speak of {}: {}",
        nodes.list().len(),
        some(&nodes.names(0..nodes.list().len()))
    );
    let mut fault = Fault::new(Kind::MissingNode, Severity::Invalid, evidence);
    fault.touches = group.touches(id);
    Some(fault)
}

/// Nodes that have fewer repetitions than the most.
fn fewer_reports(label: &str, group: &Group, nodes: &Nodes) -> Option<Fault> {
    let most = group.nodes.values().copied().max().unwrap_or(0);
    let fewer = group.nodes.iter().filter(|(_, count)| **count < most);
    let fewer: Vec<(usize, usize)> = fewer.map(|(node, count)| (*node, *count)).collect();
    if !group.alone || fewer.is_empty() {
        return None;
    }
    let told = fewer.iter().map(|&(node, count)| {
        let name = &nodes.list()[node].name;
        format!("{name} has {count}")
    });
    let told: Vec<String> = told.collect();
    let evidence = format!(
        "{label} has {most} reports of most nodes, but {}",
        some(&told)
    );
    let mut fault = Fault::new(Kind::FewerReports, Severity::Info, evidence);
    fault.nodes = nodes.names(fewer.into_iter().map(|(node, _)| node));
    Some(fault)
}

impl Group {
    fn touches(&self, id: &str) -> Vec<(usize, Option<String>)> {
        let reports = self.reports.iter();
        reports.map(|&at| (at, Some(id.to_owned()))).collect()
    }
}
