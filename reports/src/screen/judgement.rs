//! From reports and rules to a verdict on every node.

use super::outliers::{TooFew, outliers};
use super::values::{Group, Series, Subject, groups, series};
use super::{Finding, NotJudged, Rule, Rules, RulesError, Screening, Source, Status, Verdict};
use crate::cluster::{Cluster, Expected, Kind, Nodes, some, why_absent};
use crate::model::{Direction, Fact, Outcome, Report, Unit};
use crate::render::units::human;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Judges the nodes of some reports. `unreachable` are hosts that did not answer, with what was
/// tried and what happened.
///
/// # Errors
/// [`RulesError::Unknown`]: a rule names what its cases do not have.
pub fn judge(
    reports: &[Report],
    rules: &Rules,
    expected: &Expected,
    unreachable: &[(String, String)],
) -> Result<Screening, RulesError> {
    let reports: Vec<&Report> = reports.iter().collect();
    let nodes = Nodes::of(&reports);
    let mut court = Court {
        verdicts: nodes.list().iter().map(|node| fresh(&node.name)).collect(),
        nodes: &nodes,
        screening: Screening {
            nodes: Vec::new(),
            together: Vec::new(),
            failed: Vec::new(),
            not_judged: Vec::new(),
            notes: Vec::new(),
        },
    };
    court.hear_cluster(&Cluster::of(&reports, expected), unreachable);
    court.hear_outcomes(&reports);
    for rule in &rules.rules {
        match rule.source() {
            Source::Finding(pattern) => court.hear_findings(rule, pattern, &groups(rule, &reports)),
            _ => {
                let series = series(rule, &reports, &nodes)?;
                court.hear(rules, rule, &series);
            }
        }
    }
    Ok(court.conclude())
}

fn fresh(name: &str) -> Verdict {
    Verdict {
        node: name.to_owned(),
        status: Status::Good,
        findings: Vec::new(),
        reasons: Vec::new(),
        judged_by: 0,
    }
}

struct Court<'a> {
    verdicts: Vec<Verdict>,
    nodes: &'a Nodes,
    screening: Screening,
}

impl Court<'_> {
    /// Who does not answer, and what does not fit together.
    fn hear_cluster(&mut self, cluster: &Cluster, unreachable: &[(String, String)]) {
        let out_of_reach = |host: &String, reason: String| Verdict {
            status: Status::Unreachable,
            reasons: vec![reason],
            ..fresh(host)
        };
        for (host, reason) in unreachable {
            self.verdicts.push(out_of_reach(host, reason.clone()));
        }
        for host in &cluster.absent {
            if !unreachable.iter().any(|(known, _)| known == host) {
                let in_none = || "it is in no report".to_owned();
                let reason = why_absent(host).unwrap_or_else(in_none);
                self.verdicts.push(out_of_reach(host, reason));
            }
        }
        for fault in &cluster.faults {
            let absent = fault.nodes.iter().any(|node| cluster.absent.contains(node));
            match fault.kind {
                Kind::MissingNode if absent => {}
                Kind::MissingNode if !fault.nodes.is_empty() => {
                    for node in &fault.nodes {
                        self.fail(node, fault.evidence.clone());
                    }
                }
                Kind::MissingNode => self.screening.failed.push(NotJudged {
                    what: fault.kind.code().to_owned(),
                    why: fault.evidence.clone(),
                }),
                _ => self.screening.notes.push(fault.evidence.clone()),
            }
        }
    }

    fn fail(&mut self, node: &str, reason: String) {
        let verdict = self
            .verdicts
            .iter_mut()
            .find(|verdict| verdict.node == node);
        if let Some(verdict) = verdict {
            verdict.status = verdict.status.max(Status::Failed);
            if !verdict.reasons.contains(&reason) {
                verdict.reasons.push(reason);
            }
        }
    }

    /// What was not measured: a node's own failure, or that of all together.
    fn hear_outcomes(&mut self, reports: &[&Report]) {
        let row = |report: &Report| report.run.session.as_ref().map(|s| s.row.clone());
        let mut measured: BTreeSet<(Option<String>, &str)> = BTreeSet::new();
        for report in reports {
            let cases = report.cases.iter();
            let cases = cases.filter(|case| case.outcome.measurement().is_some());
            measured.extend(cases.map(|case| (row(report), case.benchmark.id.as_str())));
        }
        for report in reports {
            // None of what stands in for a report: that says nothing of the host that wrote it.
            let hosts = self.nodes.of_report(report);
            for case in &report.cases {
                let id = case.benchmark.id.as_str();
                let what = match row(report) {
                    Some(row) => format!("{id} (row {row})"),
                    None => id.to_owned(),
                };
                let (why, failed) = match &case.outcome {
                    Outcome::Measured(_) => continue,
                    Outcome::Failed { error } => (error.clone(), true),
                    Outcome::Skipped { reason } => (reason.clone(), false),
                };
                let elsewhere = measured.contains(&(row(report), id));
                match (hosts.first(), hosts.len()) {
                    (Some(&node), 1) if failed || elsewhere => {
                        let name = self.nodes.list()[node].name.clone();
                        self.fail(&name, format!("{what}: {why}"));
                    }
                    _ if failed => self.screening.failed.push(NotJudged { what, why }),
                    _ => self.not_judged(what, why),
                }
            }
        }
    }

    fn not_judged(&mut self, what: String, why: String) {
        let entry = NotJudged { what, why };
        if !self.screening.not_judged.contains(&entry) {
            self.screening.not_judged.push(entry);
        }
    }

    /// Judges the numbers of a rule.
    fn hear(&mut self, rules: &Rules, rule: &Rule, series: &[Series]) {
        if series.is_empty() {
            let why = format!("no report has measured a case {}", rule.case);
            self.not_judged(rule.name.clone(), why);
        }
        for series in series {
            let mut numbers = Vec::new();
            for (subject, value) in &series.of {
                match value {
                    Ok(value) => numbers.push((*subject, *value)),
                    Err(why) => {
                        let who = self.name(*subject);
                        let what = format!("{}: {} of {who}", rule.name, series.what);
                        self.not_judged(what, why.clone());
                    }
                }
            }
            let mut judged = self.by_bounds(rule, series, &numbers);
            if let Some(limits) = rules.against_others(rule) {
                judged |= self.by_others(rule, series, &numbers, limits);
            }
            for (subject, _) in numbers {
                if let (true, Subject::Node(node)) = (judged, subject) {
                    self.verdicts[node].judged_by += 1;
                }
            }
        }
    }

    /// By what is asked for, whatever the others do. Whether there is any such thing.
    fn by_bounds(&mut self, rule: &Rule, series: &Series, numbers: &[(Subject, f64)]) -> bool {
        for &(subject, value) in numbers {
            let low = rule.at_least.filter(|bound| value < *bound);
            let high = rule.at_most.filter(|bound| value > *bound);
            let broken = low.map(|bound| ("at least", bound));
            if let Some((word, bound)) = broken.or(high.map(|bound| ("at most", bound))) {
                let in_words = |value| in_words(value, series.unit);
                let evidence = format!(
                    "{} is {}, and {word} {} is asked for",
                    series.what,
                    in_words(value),
                    in_words(bound)
                );
                self.blame(subject, finding(rule, series, value, None, bound, evidence));
            }
        }
        rule.at_least.is_some() || rule.at_most.is_some()
    }

    /// By what the others do. Whether there were enough of them.
    fn by_others(
        &mut self,
        rule: &Rule,
        series: &Series,
        numbers: &[(Subject, f64)],
        (deviation, mads): (f64, f64),
    ) -> bool {
        let of_nodes: Vec<(Subject, f64)> = numbers
            .iter()
            .copied()
            .filter(|(subject, _)| *subject != Subject::All)
            .collect();
        let what = format!("{}: {} of {}", rule.name, series.what, series.case);
        if of_nodes.is_empty() {
            if !numbers.is_empty() {
                let why =
                    "it is a number of all nodes together, which only at_least and at_most judge";
                self.not_judged(what, why.to_owned());
            }
            return false;
        }
        let values: Vec<f64> = of_nodes.iter().map(|(_, value)| *value).collect();
        let found = match outliers(&values, series.direction, deviation, mads) {
            Ok(found) => found,
            Err(TooFew(nodes)) => {
                self.not_judged(what, TooFew(nodes).to_string());
                return false;
            }
        };
        for outlier in found {
            let (subject, value) = of_nodes[outlier.index];
            let amount = compared(value, outlier.usual, series.direction);
            let in_words = |value| in_words(value, series.unit);
            let evidence = format!(
                "{} is {}, the nodes' median {}: {amount}; the limit is {}",
                series.what,
                in_words(value),
                in_words(outlier.usual),
                in_words(outlier.limit)
            );
            let usual = Some(outlier.usual);
            let finding = finding(rule, series, value, usual, outlier.limit, evidence);
            self.blame(subject, finding);
        }
        true
    }

    /// What a case found by itself.
    fn hear_findings(&mut self, rule: &Rule, pattern: &glob::Pattern, groups: &[Group<'_>]) {
        if groups.is_empty() {
            let why = format!("no report has measured a case {}", rule.case);
            self.not_judged(rule.name.clone(), why);
        }
        for group in groups {
            for (report, measurement) in &group.measured {
                let what = format!("{}: {}", rule.name, group.label);
                let found = match measurement.facts.get("findings") {
                    Some(Value::Array(found)) => found.as_slice(),
                    Some(Value::String(none)) if none == "none" => &[],
                    Some(Value::String(why)) => {
                        self.not_judged(what, why.clone());
                        continue;
                    }
                    _ => {
                        self.not_judged(what, "the case looks for nothing by itself".to_owned());
                        continue;
                    }
                };
                let named = report.hosts.iter();
                let named = named.filter_map(|host| Some((&*host.name, self.nodes.find(host)?)));
                let by_host: BTreeMap<&str, usize> = named.collect();
                for &node in by_host.values() {
                    self.verdicts[node].judged_by += 1;
                }
                for one in found {
                    let word = |name: &str| one[name].as_str().unwrap_or_default();
                    let (code, who) = (word("what"), word("who"));
                    if !pattern.matches(code) {
                        continue;
                    }
                    let number = |name: &str| match one[name].as_f64() {
                        Some(value) => Fact::Known(value),
                        None => Fact::unavailable("the finding has no such number"),
                    };
                    let mut flags = measurement.validity.flags.iter();
                    let flag = flags.find(|f| f.code == code && f.evidence.starts_with(who));
                    let finding = Finding {
                        rule: rule.name.clone(),
                        case: group.label.clone(),
                        what: code.to_owned(),
                        value: number("measured"),
                        usual: number("expected"),
                        limit: Fact::unavailable("the case judged by itself"),
                        unit: None,
                        evidence: flag.map_or(format!("{code} {who}"), |f| f.evidence.clone()),
                    };
                    // Of a rank: `n1 rank 3`.
                    let host = who.split(" rank ").next().unwrap_or(who);
                    match by_host.get(host) {
                        Some(&node) => self.blame(Subject::Node(node), finding),
                        None => self.blame(Subject::All, finding),
                    }
                }
            }
        }
    }

    fn name(&self, subject: Subject) -> String {
        match subject {
            Subject::All => "all nodes".to_owned(),
            Subject::Node(node) => self.nodes.list()[node].name.clone(),
        }
    }

    fn blame(&mut self, subject: Subject, finding: Finding) {
        match subject {
            Subject::All => self.screening.together.push(finding),
            Subject::Node(node) => {
                let verdict = &mut self.verdicts[node];
                verdict.status = verdict.status.max(Status::Slow);
                verdict.findings.push(finding);
            }
        }
    }

    fn conclude(mut self) -> Screening {
        for verdict in &mut self.verdicts {
            if verdict.status == Status::Good && verdict.judged_by == 0 {
                verdict.status = Status::NotJudged;
            }
        }
        // The order of names stays among equals.
        self.verdicts
            .sort_by_key(|verdict| std::cmp::Reverse(verdict.status));
        self.screening.nodes = self.verdicts;
        self.screening
    }
}

fn finding(
    rule: &Rule,
    series: &Series,
    value: f64,
    usual: Option<f64>,
    limit: f64,
    evidence: String,
) -> Finding {
    let alone = || Fact::unavailable("the bound holds whatever the others do");
    Finding {
        rule: rule.name.clone(),
        case: series.case.clone(),
        what: series.what.clone(),
        value: Fact::Known(value),
        usual: usual.map_or_else(alone, Fact::Known),
        limit: Fact::Known(limit),
        unit: series.unit,
        evidence,
    }
}

/// A value as people read it; a fact has no unit but in its name.
fn in_words(value: f64, unit: Option<Unit>) -> String {
    match unit {
        Some(unit) => human(value, unit),
        None if value.abs() >= 1e6 => format!("{value:.3e}"),
        None => format!("{value:.3}"),
    }
}

/// How one number stands to another.
fn compared(value: f64, usual: f64, direction: Direction) -> String {
    if usual == 0.0 {
        return format!("{} apart", (value - usual).abs());
    }
    match direction {
        Direction::LowerIsBetter => format!("{:.2} times it", value / usual),
        _ => format!("{:.1} % of it", 100.0 * value / usual),
    }
}

/// All nodes of a status, in a line.
pub(crate) fn names(screening: &Screening, status: Status) -> String {
    let nodes = screening.nodes.iter().filter(|node| node.status == status);
    some(&nodes.map(|node| node.node.clone()).collect::<Vec<_>>())
}
