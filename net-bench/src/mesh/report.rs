//! From a survey to the numbers of the report.

use super::hosts::Peer;
use super::schedule::Pattern;
use super::survey::{Absent, Node, Streams, Survey};
use super::{Mesh, Shape};
use reports::host::Host;
use reports::matrix::blame;
use reports::matrix::pairs::{LEAST_BANDWIDTH, Pairs};
use reports::model::{
    Aggregation, Direction, Flag, MatrixNode, Measurement, Metric, OBSERVED, Severity, Unit,
    Validity, Work,
};
use reports::stats;
use serde_json::{Map, Value, json};

/// The flag of a server that was lost on the way.
pub(super) const LOST_NODE: &str = "lost_node";

/// How many failed pairs are told of one by one.
const MAX_TOLD: usize = 16;

/// The coordinator's traffic as a share of what is measured, above which it disturbs.
const MOST_COORDINATION: f64 = 0.01;

/// The measurement of what was surveyed.
pub(super) fn measurement(shape: &Shape, survey: &Survey) -> Measurement {
    let nodes = matrix_nodes(survey);
    let pairs = Pairs {
        nodes: &nodes,
        bandwidths: survey.bandwidths.clone(),
        latencies: survey.latencies.clone(),
    };
    let mut metrics = pairs.metrics();
    let (mut flags, findings) = match shape.pattern {
        Pattern::Pairs => pairs.found(),
        Pattern::Incast => {
            metrics.splice(0..0, incast(&survey.streams));
            slow_receivers(survey)
        }
        pattern @ (Pattern::Bisection | Pattern::Alltoall) => {
            let name = match pattern {
                Pattern::Bisection => "bisection_bandwidth_bytes_per_s",
                _ => "alltoall_bandwidth_bytes_per_s",
            };
            // The result in one figure is that of all together.
            metrics.splice(0..0, sums(name, &survey.streams));
            let why = "not judged: all nodes are loaded at once, and a slow flow may be another's \
                       fault; --pattern pairs names who is slow";
            (Vec::new(), json!(why))
        }
    };
    metrics.extend(loss(&survey.losses));
    flags.extend(absences(survey));
    flags.extend(doubts(survey));
    let mut validity = Validity::default();
    for flag in flags {
        validity.flag(flag.severity, &flag.code, flag.evidence);
    }
    Measurement {
        elapsed_s: survey.elapsed_s.into(),
        work: Work {
            ops: survey.cells as u64,
            bytes: survey.measured_bytes,
        }
        .into(),
        verified: format!(
            "{} cells, each by both of its ends; the first ones: {}",
            survey.cells,
            survey.verified.join(" / ")
        ),
        metrics,
        histograms: Vec::new(),
        intervals: Vec::new(),
        matrices: pairs.matrices(),
        counters: Vec::new(),
        facts: facts(survey, findings),
        validity,
    }
}

/// The machines of the report, in the order of the list of servers. One that never answered has a
/// place too, so that a reader sees that it is missing.
pub(super) fn hosts(mesh: &Mesh, survey: &Survey) -> Vec<Host> {
    let host = |peer: &Peer| {
        let mut nodes = survey.nodes.iter();
        let met = nodes.find(|node| node.peer == *peer);
        met.map_or_else(
            || Host::unknown(&peer.label, "it takes no part in the mesh"),
            |node| node.host.clone(),
        )
    };
    mesh.peers.iter().map(host).collect()
}

fn matrix_nodes(survey: &Survey) -> Vec<MatrixNode> {
    let node = |node: &Node| MatrixNode {
        name: node.peer.label.clone(),
        host: node.number as u32,
    };
    survey.nodes.iter().map(node).collect()
}

/// The receivers' sum in each step, over the steps.
fn sums(name: &str, steps: &[Streams]) -> Vec<Metric> {
    let sums: Vec<f64> = steps
        .iter()
        .filter(|streams| !streams.is_empty())
        .map(|streams| streams.iter().map(|(_, rate)| rate).sum())
        .collect();
    let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
    let most = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let Some(median) = stats::median(&sums) else {
        return Vec::new();
    };
    let values = [
        (Aggregation::P50, median),
        (Aggregation::Min, least),
        (Aggregation::Max, most),
    ];
    let metric = |(aggregation, value)| {
        let (unit, better) = (Unit::BytesPerSecond, Direction::HigherIsBetter);
        let metric = Metric::new(name, aggregation, unit, better, value, sums.len() as u64);
        Metric {
            headline: aggregation != Aggregation::Max,
            ..metric
        }
    };
    values.into_iter().map(metric).collect()
}

/// What receivers got, and how evenly of their senders (Jain, Chiu and Hawe, DEC-TR-301).
fn incast(steps: &[Streams]) -> Vec<Metric> {
    let jain = |streams: &Streams| {
        let (sum, squares) = streams
            .iter()
            .fold((0.0, 0.0), |(sum, squares), (_, rate)| {
                (sum + rate, squares + rate * rate)
            });
        sum * sum / (streams.len() as f64 * squares)
    };
    let busy = steps.iter().filter(|streams| !streams.is_empty());
    let shares: Vec<f64> = busy.map(jain).collect();
    let mut metrics = sums("incast_bandwidth_bytes_per_s", steps);
    if let Some(median) = stats::median(&shares) {
        let (unit, better) = (Unit::Ratio, Direction::HigherIsBetter);
        let n = shares.len() as u64;
        let name = "fairness_ratio";
        metrics.push(Metric::new(name, Aggregation::P50, unit, better, median, n).headline());
    }
    metrics
}

/// Receivers that get less than the others do.
fn slow_receivers(survey: &Survey) -> (Vec<Flag>, Value) {
    let of_receiver: Vec<(usize, f64)> = survey
        .streams
        .iter()
        .filter_map(|streams| {
            let &((_, to), _) = streams.first()?;
            Some((to, streams.iter().map(|(_, rate)| rate).sum()))
        })
        .collect();
    if of_receiver.len() < blame::MIN_NODES {
        let few = format!(
            "too few to blame one: {} received, it takes {}",
            of_receiver.len(),
            blame::MIN_NODES
        );
        return (Vec::new(), json!(few));
    }
    let sums: Vec<f64> = of_receiver.iter().map(|(_, sum)| *sum).collect();
    let (slow, usual) = blame::outliers(&sums, LEAST_BANDWIDTH);
    let code = "slow_node_ingress";
    let flag = |&index: &usize| {
        let (node, sum) = of_receiver[index];
        let label = survey.label(node);
        let evidence = format!(
            "{label} receives {:.1} MB/s of its senders together where the others receive {:.1} \
             MB/s, {:.1} % of it",
            sum / 1e6,
            usual / 1e6,
            100.0 * sum / usual
        );
        let finding = json!({"what": code, "who": label, "measured": sum, "expected": usual});
        let flag = Flag {
            code: code.to_owned(),
            severity: Severity::Degraded,
            evidence,
        };
        (flag, finding)
    };
    let (flags, findings): (Vec<Flag>, Vec<Value>) = slow.iter().map(flag).unzip();
    let none = findings.is_empty();
    (flags, if none { json!("none") } else { json!(findings) })
}

fn loss(losses: &[f64]) -> Vec<Metric> {
    let Some(median) = stats::median(losses) else {
        return Vec::new();
    };
    let most = losses.iter().copied().fold(0.0, f64::max);
    [(Aggregation::P50, median), (Aggregation::Max, most)]
        .map(|(aggregation, value)| {
            let (unit, better) = (Unit::Ratio, Direction::LowerIsBetter);
            let n = losses.len() as u64;
            Metric::new("loss_ratio", aggregation, unit, better, value, n)
        })
        .into()
}

/// Who is missing or was lost, and what failed: a mesh with a hole is no mesh.
fn absences(survey: &Survey) -> Vec<Flag> {
    let flag = |code: &str, evidence: String| Flag {
        code: code.to_owned(),
        severity: Severity::Invalid,
        evidence,
    };
    let mut flags = Vec::new();
    for Absent { label, why } in &survey.missing {
        let evidence = format!("{label} takes no part: {why}");
        flags.push(flag("missing_node", evidence));
    }
    for Absent { label, why } in &survey.lost {
        flags.push(flag(LOST_NODE, format!("{label} was lost: {why}")));
    }
    for Absent { label, why } in survey.failed.iter().take(MAX_TOLD) {
        flags.push(flag("failed_pair", format!("{label}: {why}")));
    }
    if let Some(more) = survey.failed.len().checked_sub(MAX_TOLD).filter(|&n| n > 0) {
        flags.push(flag("failed_pair", format!("and {more} more pairs")));
    }
    if survey.interrupted {
        let (planned, done) = survey.rounds;
        let evidence = format!("a signal ended it in round {done} of {planned}");
        flags.push(flag("interrupted", evidence));
    }
    flags
}

/// What speaks against single cells, and against the coordinator.
fn doubts(survey: &Survey) -> Vec<Flag> {
    let of_cells = survey.doubts.iter().filter(|(code, _)| {
        // It is told of the whole.
        !survey.interrupted || *code != crate::side::INTERRUPTED
    });
    let mut flags: Vec<Flag> = of_cells
        .map(|(code, doubt)| Flag {
            code: code.clone(),
            severity: doubt.severity,
            evidence: format!(
                "in {} of {} cells, first {}",
                doubt.cells, survey.cells, doubt.first
            ),
        })
        .collect();
    if let Some(share) = survey.coordinator_share()
        && share > MOST_COORDINATION
    {
        flags.push(Flag {
            code: "coordinator_traffic".to_owned(),
            severity: Severity::Degraded,
            evidence: format!(
                "the coordinator's own traffic was {:.2} % of what was measured; cells of a longer \
                 --time need less of it",
                100.0 * share
            ),
        });
    }
    flags
}

fn facts(survey: &Survey, findings: Value) -> Map<String, Value> {
    let labels =
        |all: &[Absent]| -> Vec<String> { all.iter().map(|absent| absent.label.clone()).collect() };
    let (planned, done) = survey.rounds;
    let share = survey.coordinator_share();
    let share_text = share.map_or_else(
        || "nothing was measured".to_owned(),
        |share| {
            format!(
                "{} bytes, {:.4} % of the {} measured",
                survey.coordinator_bytes,
                100.0 * share,
                survey.measured_bytes
            )
        },
    );
    let observed = json!({
        "coordinator_traffic": share_text,
        "coordinator": {
            "bytes": survey.coordinator_bytes,
            "share": share,
        },
        "rounds": format!("{done} of {planned}"),
        "missing": labels(&survey.missing),
        "lost": labels(&survey.lost),
        "failed_pairs": labels(&survey.failed),
    });
    [
        ("pairs_of", json!("node")),
        ("parties", json!(survey.nodes.len())),
        ("findings", findings),
        (OBSERVED, observed),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_fairness_are_of_each_step() {
        let steps = [
            vec![((1, 0), 30.0), ((2, 0), 10.0)],
            vec![((0, 1), 20.0), ((2, 1), 20.0)],
            Vec::new(),
        ];
        let metrics = incast(&steps);
        let value = |name: &str, aggregation| {
            let mut all = metrics.iter();
            let metric = all.find(|m| m.name == name && m.aggregation == aggregation);
            *metric.expect("it is there").value.known().expect("known")
        };
        let name = "incast_bandwidth_bytes_per_s";
        assert_eq!(value(name, Aggregation::Min), 40.0);
        assert_eq!(value(name, Aggregation::Max), 40.0);
        // 1600 / (2 x 1000) and 1.
        assert!((value("fairness_ratio", Aggregation::P50) - 0.9).abs() < 1e-9);
        assert!(sums(name, &[Vec::new()]).is_empty());
        assert!(loss(&[]).is_empty());
    }
}
