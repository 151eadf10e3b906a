//! A matrix of all pairs in a report: its metrics, its matrices, and who is slow, as flags and as
//! the fact `findings`.

use super::blame::{self, Cell, Culprit, Finding, Verdict};
use crate::model::{Aggregation, Direction, Flag, Matrix, MatrixNode, Metric, Severity, Unit};
use crate::stats;
use serde_json::{Value, json};

/// The share by which a node's or pair's bandwidth must fall short before it is named.
pub const LEAST_BANDWIDTH: f64 = 0.25;

/// The same of the reciprocal of latency: twice the others' latency.
pub const LEAST_LATENCY: f64 = 0.5;

/// `cells[from][to]`; a node has nothing with itself.
pub type Cells = Vec<Vec<Option<Cell>>>;

/// What was measured between all pairs.
#[derive(Debug, Clone)]
pub struct Pairs<'a> {
    /// The nodes, in the order of rows and columns.
    pub nodes: &'a [MatrixNode],
    /// Bytes per second of what the one sent to the other.
    pub bandwidths: Cells,
    /// Half round trips in nanoseconds.
    pub latencies: Cells,
}

impl Pairs<'_> {
    /// The median, the least and the greatest over the pairs. The slowest pair and the usual one say
    /// the most, and are headlines.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let (of_bandwidth, of_latency) = (medians(&self.bandwidths), medians(&self.latencies));
        let mut metrics = Vec::new();
        for (aggregation, f) in OVER_PAIRS {
            let (higher, lower) = (Direction::HigherIsBetter, Direction::LowerIsBetter);
            let kinds = [
                (
                    "bandwidth_bytes_per_s",
                    Unit::BytesPerSecond,
                    higher,
                    &of_bandwidth,
                ),
                ("latency_ns", Unit::Nanoseconds, lower, &of_latency),
            ];
            for (name, unit, better, values) in kinds {
                // A transport or pattern may have one of the two only.
                if values.is_empty() {
                    continue;
                }
                let n = values.len() as u64;
                let metric = Metric::new(name, aggregation, unit, better, f(values), n);
                let worst = if better == lower {
                    Aggregation::Max
                } else {
                    Aggregation::Min
                };
                metrics.push(Metric {
                    headline: [Aggregation::P50, worst].contains(&aggregation),
                    ..metric
                });
            }
        }
        metrics
    }

    /// Medians of both, and the intervals of bandwidth.
    #[must_use]
    pub fn matrices(&self) -> Vec<Matrix> {
        let (bandwidths, latencies) = (&self.bandwidths, &self.latencies);
        type Kind<'a> = (&'static str, &'a Cells, fn(&Cell) -> f64);
        let kinds: [Kind<'_>; 4] = [
            ("bandwidth_bytes_per_s", bandwidths, |cell| cell.median),
            ("latency_ns", latencies, |cell| cell.median),
            ("bandwidth_ci_low_bytes_per_s", bandwidths, |cell| cell.low),
            ("bandwidth_ci_high_bytes_per_s", bandwidths, |cell| {
                cell.high
            }),
        ];
        let known = |(_, cells, _): &Kind<'_>| cells.iter().flatten().any(Option::is_some);
        let kinds = kinds.into_iter().filter(known);
        kinds
            .map(|(name, cells, of)| self.matrix(name, cells, of))
            .collect()
    }

    fn matrix(&self, name: &str, cells: &Cells, of: fn(&Cell) -> f64) -> Matrix {
        let (unit, direction) = if name.ends_with("_ns") {
            (Unit::Nanoseconds, Direction::LowerIsBetter)
        } else {
            (Unit::BytesPerSecond, Direction::HigherIsBetter)
        };
        Matrix {
            name: name.to_owned(),
            aggregation: Aggregation::P50,
            unit,
            direction,
            nodes: self.nodes.to_vec(),
            values: cells
                .iter()
                .map(|row| row.iter().map(|cell| cell.as_ref().map(of)).collect())
                .collect(),
        }
    }

    /// Who is slow, as flags and as a fact.
    #[must_use]
    pub fn found(&self) -> (Vec<Flag>, Value) {
        let nodes = self.nodes;
        let verdicts = [
            (
                Of::Bandwidth,
                blame::judge(&self.bandwidths, LEAST_BANDWIDTH),
            ),
            (
                Of::Latency,
                blame::judge(&reciprocals(&self.latencies), LEAST_LATENCY),
            ),
        ];
        let mut flags = Vec::new();
        let mut findings = Vec::new();
        for (of, verdict) in verdicts {
            let Verdict::Slow(slow) = verdict else {
                return (Vec::new(), json!(too_few(&self.bandwidths)));
            };
            for finding in slow.iter().filter(|finding| of.says(finding)) {
                let (code, evidence) = of.in_words(nodes, finding);
                findings.push(json!({
                    "what": code,
                    "who": who(nodes, finding.culprit),
                    "measured": of.plain(finding.measured),
                    "expected": of.plain(finding.expected),
                }));
                flags.push(Flag {
                    code,
                    severity: Severity::Degraded,
                    evidence,
                });
            }
        }
        let findings = if findings.is_empty() {
            json!("none")
        } else {
            json!(findings)
        };
        (flags, findings)
    }
}

/// Why nobody is blamed.
fn too_few(cells: &Cells) -> String {
    let (nodes, least) = (taking_part(cells), blame::MIN_NODES);
    if nodes < least {
        return format!("too few to blame one: {nodes} take part, it takes {least}");
    }
    let known = cells.iter().flatten().flatten().count();
    let all = nodes * (nodes - 1);
    format!("too few pairs to blame one: {known} of {all} were measured")
}

/// How many nodes have something with another.
fn taking_part(cells: &Cells) -> usize {
    let any = |node: usize| {
        let mut row = cells[node].iter();
        row.any(Option::is_some) || cells.iter().any(|row| row[node].is_some())
    };
    (0..cells.len()).filter(|&node| any(node)).count()
}

fn medians(cells: &Cells) -> Vec<f64> {
    let known = cells.iter().flatten().flatten();
    known.map(|cell| cell.median).collect()
}

/// Makes one number of those of all pairs.
type OverPairs = fn(&[f64]) -> f64;

/// How the pairs' medians become one number.
const OVER_PAIRS: [(Aggregation, OverPairs); 3] = [
    (Aggregation::P50, |values| {
        stats::median(values).unwrap_or(f64::NAN)
    }),
    (Aggregation::Min, |values| {
        values.iter().copied().fold(f64::INFINITY, f64::min)
    }),
    (Aggregation::Max, |values| {
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }),
];

/// Latency as something of which more is better, the same in both directions: a ping takes both
/// ways, so it cannot tell them apart.
fn reciprocals(latencies: &[Vec<Option<Cell>>]) -> Vec<Vec<Option<Cell>>> {
    let both = |from: usize, to: usize| {
        let (there, back) = (latencies[from][to]?, latencies[to][from]?);
        let inverse = |a: f64, b: f64| 2.0 / (a + b).max(f64::MIN_POSITIVE);
        Some(Cell {
            median: inverse(there.median, back.median),
            low: inverse(there.high, back.high),
            high: inverse(there.low, back.low),
        })
    };
    let nodes = 0..latencies.len();
    nodes
        .clone()
        .map(|from| nodes.clone().map(|to| both(from, to)).collect())
        .collect()
}

fn who(nodes: &[MatrixNode], culprit: Culprit) -> String {
    match culprit {
        Culprit::Egress(node) | Culprit::Ingress(node) => nodes[node].name.clone(),
        Culprit::Pair(from, to) => format!("{} -> {}", nodes[from].name, nodes[to].name),
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Bandwidth,
    Latency,
}

impl Of {
    /// Latencies are symmetric: each node and pair is told of once.
    fn says(self, finding: &Finding) -> bool {
        match (self, finding.culprit) {
            (Self::Latency, Culprit::Ingress(_)) => false,
            (Self::Latency, Culprit::Pair(from, to)) => from < to,
            _ => true,
        }
    }

    /// In the metric's unit.
    fn plain(self, value: f64) -> f64 {
        match self {
            Self::Bandwidth => value,
            Self::Latency => 1.0 / value,
        }
    }

    fn in_words(self, nodes: &[MatrixNode], finding: &Finding) -> (String, String) {
        let who = who(nodes, finding.culprit);
        let (measured, expected) = (self.plain(finding.measured), self.plain(finding.expected));
        let amounts = match self {
            Self::Bandwidth => format!(
                "{:.1} MB/s where the other pairs let expect {:.1} MB/s, {:.1} % of it",
                measured / 1e6,
                expected / 1e6,
                100.0 * finding.ratio()
            ),
            Self::Latency => format!(
                "{:.1} µs where the other pairs let expect {:.1} µs, {:.1} times it",
                measured / 1e3,
                expected / 1e3,
                1.0 / finding.ratio()
            ),
        };
        let pairs = format!(
            "{} of its {} pairs are slow",
            finding.slow_pairs, finding.pairs
        );
        let (code, text) = match (self, finding.culprit) {
            (Self::Bandwidth, Culprit::Egress(_)) => (
                "slow_node_egress",
                format!("{who} sends at {amounts}; {pairs}"),
            ),
            (Self::Bandwidth, Culprit::Ingress(_)) => (
                "slow_node_ingress",
                format!("{who} receives at {amounts}; {pairs}"),
            ),
            (Self::Bandwidth, Culprit::Pair(..)) => (
                "slow_pair",
                format!("{who}: {amounts}, and neither is slow with the others"),
            ),
            (Self::Latency, Culprit::Pair(..)) => (
                "slow_pair_latency",
                format!("{who} and back: {amounts}, and neither is slow with the others"),
            ),
            (Self::Latency, _) => (
                "slow_node_latency",
                format!("{who} answers after {amounts}; {pairs}"),
            ),
        };
        (code.to_owned(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<MatrixNode> {
        (0..count)
            .map(|host| MatrixNode {
                name: format!("n{}", host + 1),
                host: host as u32,
            })
            .collect()
    }

    fn cells(count: usize, value: impl Fn(usize, usize) -> f64) -> Vec<Vec<Option<Cell>>> {
        let cell = |median: f64| Cell {
            median,
            low: median * 0.98,
            high: median * 1.02,
        };
        (0..count)
            .map(|from| {
                (0..count)
                    .map(|to| (from != to).then(|| cell(value(from, to))))
                    .collect()
            })
            .collect()
    }

    fn found(nodes: &[MatrixNode], bandwidths: &Cells, latencies: &Cells) -> (Vec<Flag>, Value) {
        let (bandwidths, latencies) = (bandwidths.clone(), latencies.clone());
        let pairs = Pairs {
            nodes,
            bandwidths,
            latencies,
        };
        pairs.found()
    }

    #[test]
    fn a_slow_sender_is_said_in_a_flag_with_figures() {
        let bandwidths = cells(4, |from, _| if from == 1 { 25e6 } else { 1e9 });
        let latencies = cells(4, |_, _| 20e3);
        let (flags, findings) = found(&nodes(4), &bandwidths, &latencies);
        assert_eq!(flags.len(), 1, "{flags:?}");
        assert_eq!(flags[0].code, "slow_node_egress");
        assert_eq!(
            flags[0].evidence,
            "n2 sends at 25.0 MB/s where the other pairs let expect 1000.0 MB/s, 2.5 % of it; 3 of \
             its 3 pairs are slow"
        );
        assert_eq!(findings[0]["who"], "n2");
    }

    #[test]
    fn a_late_node_is_named_once_and_a_late_pair_once() {
        let bandwidths = cells(5, |_, _| 1e9);
        let late = cells(5, |from, to| if from == 2 || to == 2 { 2e6 } else { 20e3 });
        let (flags, _) = found(&nodes(5), &bandwidths, &late);
        assert_eq!(flags.len(), 1, "{flags:?}");
        assert!(
            flags[0].evidence.starts_with("n3 answers after 2000.0 µs"),
            "{flags:?}"
        );
        let late = cells(5, |from, to| if from + to == 1 { 2e6 } else { 20e3 });
        let (flags, _) = found(&nodes(5), &bandwidths, &late);
        assert_eq!(flags.len(), 1, "{flags:?}");
        assert_eq!(flags[0].code, "slow_pair_latency");
        assert!(
            flags[0].evidence.starts_with("n1 -> n2 and back"),
            "{flags:?}"
        );
    }

    #[test]
    fn three_nodes_blame_nobody_and_say_so() {
        let (flags, findings) = found(&nodes(3), &cells(3, |_, _| 1e9), &cells(3, |_, _| 1e3));
        assert!(flags.is_empty());
        assert_eq!(findings, "too few to blame one: 3 take part, it takes 4");
        let mut some = cells(4, |_, _| 1e9);
        for (from, row) in some.iter_mut().enumerate() {
            row.iter_mut().take(from).for_each(|cell| *cell = None);
        }
        let (flags, findings) = found(&nodes(4), &some, &some);
        assert!(flags.is_empty());
        assert_eq!(
            findings,
            "too few pairs to blame one: 6 of 12 were measured"
        );
    }
}
