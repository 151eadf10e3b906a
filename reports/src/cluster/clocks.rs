//! Clocks that are apart. Nodes that ran the same step of a job began it within seconds; where the
//! time stamps say otherwise, a clock is wrong, and what the reports say of before and after is too.

use super::{Fault, Kind, Nodes};
use crate::model::{Report, Severity};
use crate::stats;
use std::collections::BTreeMap;

/// How far the starts of one step may lie apart, in seconds: launchers of many nodes take some.
const MOST_SECONDS: f64 = 15.0;

/// The fewest nodes among which the odd one can be told.
const LEAST_NODES: usize = 3;

/// What ran at one time: a run of a suite, or the n-th run of a command in a job.
type Step<'a> = (&'a str, &'a str, String);

pub(super) fn faults(reports: &[&Report], nodes: &Nodes) -> Vec<Fault> {
    let mut faults = backwards(reports, nodes);
    let mut apart: BTreeMap<usize, Vec<(f64, usize)>> = BTreeMap::new();
    for starts in steps(reports, nodes).into_values() {
        let seconds: Vec<f64> = starts.values().map(|(at, _)| *at).collect();
        let Some(usual) = stats::median(&seconds).filter(|_| starts.len() >= LEAST_NODES) else {
            continue;
        };
        for (node, (at, report)) in starts {
            apart.entry(node).or_default().push((at - usual, report));
        }
    }
    for (node, offsets) in apart {
        let seconds: Vec<f64> = offsets.iter().map(|(by, _)| *by).collect();
        let by = stats::median(&seconds).unwrap_or(0.0);
        if by.abs() > MOST_SECONDS {
            let name = nodes.list()[node].name.clone();
            let word = if by > 0.0 { "ahead of" } else { "behind" };
            let evidence = format!(
                "the clock of {name} is {:.0} s {word} the others', by when the same step began: \
                 synchronise it (chrony)",
                by.abs()
            );
            let mut fault = Fault::new(Kind::ClocksApart, Severity::Degraded, evidence);
            fault.nodes = vec![name];
            fault.touches = offsets.iter().map(|(_, report)| (*report, None)).collect();
            faults.push(fault);
        }
    }
    faults
}

/// When each node began each step, in seconds, with the report that says so.
fn steps<'a>(
    reports: &[&'a Report],
    nodes: &Nodes,
) -> BTreeMap<Step<'a>, BTreeMap<usize, (f64, usize)>> {
    let mut runs: BTreeMap<(usize, &str, &str), usize> = BTreeMap::new();
    let mut steps: BTreeMap<Step<'a>, BTreeMap<usize, (f64, usize)>> = BTreeMap::new();
    let mut order: Vec<usize> = (0..reports.len()).collect();
    order.sort_by(|&a, &b| reports[a].run.started.cmp(&reports[b].run.started));
    for index in order {
        let report = reports[index];
        let of = nodes.of_report(report);
        let (Some(started), Some(&node), 1) = (seconds(&report.run.started), of.first(), of.len())
        else {
            continue;
        };
        let program = report.program.name.as_str();
        let launcher = report.run.scheduler.known();
        let job = launcher.and_then(|launcher| launcher.job_id.known());
        let step = match (&report.run.session, job) {
            (Some(place), _) => {
                let run = format!("{} {}", place.position, place.repetition);
                (program, place.id.as_str(), run)
            }
            (None, Some(job)) => {
                let ran = runs.entry((node, program, job)).or_default();
                *ran += 1;
                (program, job.as_str(), ran.to_string())
            }
            // Nothing says that these began together.
            (None, None) => continue,
        };
        steps
            .entry(step)
            .or_default()
            .insert(node, (started, index));
    }
    steps
}

fn backwards(reports: &[&Report], nodes: &Nodes) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, report) in reports.iter().enumerate() {
        let run = &report.run;
        let (Some(started), Some(ended)) = (seconds(&run.started), seconds(&run.ended)) else {
            continue;
        };
        // Clocks are stepped back by a little now and then.
        if ended - started < -1.0 {
            let first = report.hosts.first().and_then(|host| nodes.find(host));
            let names = nodes.names(first);
            let evidence = format!(
                "the clock of {} was set back during a run: it started at {} and ended at {}",
                names.join(""),
                run.started,
                run.ended
            );
            let mut fault = Fault::new(Kind::ClocksApart, Severity::Degraded, evidence);
            fault.nodes = names;
            fault.touches = vec![(index, None)];
            faults.push(fault);
        }
    }
    faults
}

fn seconds(time: &str) -> Option<f64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_millisecond() as f64 / 1e3)
}
