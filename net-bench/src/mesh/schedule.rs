//! Who measures with whom, and when: pure functions of the number of nodes.
//!
//! A schedule is a list of steps, one after the other; the flows of a step go at once. Its length is
//! linear in the number of nodes for every pattern, so that 512 nodes take as many rounds as one
//! has partners, not as many as there are pairs.

use clap::ValueEnum;
use reports::matrix::tournament;
use serde::Serialize;

/// Who is measured with whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// All pairs, in rounds of pairs that share no node: latency, then bandwidth. Only this one tells
    /// slow nodes and slow pairs apart
    #[default]
    Pairs,
    /// The first half of the list against the second, all at once, shifted by one from round to round
    Bisection,
    /// Several senders to one receiver, each node in its turn
    Incast,
    /// Everybody sends and receives at once, to the next in the list, then to the next but one, and so
    /// on, as all-to-all does
    Alltoall,
}

/// Whether a pair's directions take turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// One after the other: a node that sends slowly is told from one that receives slowly
    #[default]
    One,
    /// Both at once
    Both,
}

/// What a step measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Round trips, begun by the first of each pair.
    Latency,
    /// Streams from the first of each pair to the second.
    Bandwidth,
}

/// What goes at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The round it belongs to, from 0.
    pub round: usize,
    /// What is measured.
    pub what: What,
    /// From whom to whom.
    pub flows: Vec<(usize, usize)>,
}

/// The steps of a pattern among so many nodes; of an incast with at most so many senders.
#[must_use]
pub fn steps(pattern: Pattern, nodes: usize, directions: Directions, senders: usize) -> Vec<Step> {
    match pattern {
        Pattern::Pairs => {
            let rounds = tournament::rounds(nodes);
            let rounds = rounds.iter().enumerate();
            rounds
                .flat_map(|(round, opponents)| {
                    let pairs = pairs_of(opponents, round);
                    let mut steps = vec![Step {
                        round,
                        what: What::Latency,
                        flows: pairs.clone(),
                    }];
                    steps.extend(streams(round, pairs, directions));
                    steps
                })
                .collect()
        }
        Pattern::Bisection => {
            let half = nodes / 2;
            (0..half)
                .flat_map(|round| {
                    let across = |node: usize| (node, nodes - half + (node + round) % half);
                    streams(round, (0..half).map(across).collect(), directions)
                })
                .collect()
        }
        Pattern::Incast => {
            let senders = senders.min(nodes.saturating_sub(1));
            let towards = |to: usize| (1..=senders).map(move |by| ((to + by) % nodes, to));
            (0..nodes)
                .map(|to| bandwidth(to, towards(to).collect()))
                .collect()
        }
        Pattern::Alltoall => (1..nodes)
            .map(|by| {
                let flows = (0..nodes).map(|from| (from, (from + by) % nodes));
                bandwidth(by - 1, flows.collect())
            })
            .collect(),
    }
}

/// How many rounds the steps make.
#[must_use]
pub fn rounds(steps: &[Step]) -> usize {
    steps.last().map_or(0, |last| last.round + 1)
}

/// The pairs of a round; who begins changes from round to round.
fn pairs_of(opponents: &tournament::Round, round: usize) -> Vec<(usize, usize)> {
    let pair = |(node, other): (usize, &Option<usize>)| {
        let other = (*other)?;
        let (one, two) = (node, other);
        (one < two).then_some(if round.is_multiple_of(2) {
            (one, two)
        } else {
            (two, one)
        })
    };
    opponents.iter().enumerate().filter_map(pair).collect()
}

fn bandwidth(round: usize, flows: Vec<(usize, usize)>) -> Step {
    Step {
        round,
        what: What::Bandwidth,
        flows,
    }
}

/// Streams between pairs, each way.
fn streams(round: usize, pairs: Vec<(usize, usize)>, directions: Directions) -> Vec<Step> {
    let back: Vec<_> = pairs.iter().map(|&(from, to)| (to, from)).collect();
    match directions {
        Directions::One => vec![bandwidth(round, pairs), bandwidth(round, back)],
        Directions::Both => vec![bandwidth(round, [pairs, back].concat())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// How often each flow goes.
    fn counts(steps: &[Step], what: What) -> BTreeMap<(usize, usize), usize> {
        let mut counts = BTreeMap::new();
        for step in steps.iter().filter(|step| step.what == what) {
            for &(from, to) in &step.flows {
                assert_ne!(from, to);
                *counts.entry((from, to)).or_default() += 1;
            }
        }
        counts
    }

    /// The most flows that begin at a node in one step, and the most that end there.
    fn crowd(step: &Step, nodes: usize) -> (usize, usize) {
        let (mut out, mut into) = (vec![0; nodes], vec![0; nodes]);
        for &(from, to) in &step.flows {
            out[from] += 1;
            into[to] += 1;
        }
        let most = |counts: Vec<usize>| counts.into_iter().max().unwrap_or(0);
        (most(out), most(into))
    }

    fn sizes() -> impl Iterator<Item = usize> {
        (1..=64).chain([512])
    }

    #[test]
    fn all_pairs_meet_once_each_way_in_rounds_of_disjoint_pairs() {
        for nodes in sizes() {
            for directions in [Directions::One, Directions::Both] {
                let steps = steps(Pattern::Pairs, nodes, directions, 0);
                let expected = match nodes {
                    even if even.is_multiple_of(2) => even - 1,
                    odd => odd,
                };
                assert_eq!(rounds(&steps), expected, "{nodes} nodes");
                let streams = counts(&steps, What::Bandwidth);
                assert_eq!(streams.len(), nodes * (nodes - 1), "{nodes} nodes");
                assert!(streams.values().all(|&count| count == 1));
                let pings = counts(&steps, What::Latency);
                assert_eq!(pings.len(), nodes * (nodes - 1) / 2);
                assert!(pings.keys().all(|&(a, b)| !pings.contains_key(&(b, a))));
                for step in &steps {
                    let mut partners = BTreeMap::new();
                    for &(from, to) in &step.flows {
                        for (one, other) in [(from, to), (to, from)] {
                            assert_eq!(*partners.entry(one).or_insert(other), other);
                        }
                    }
                    let alone = step.what == What::Latency || directions == Directions::One;
                    let ends = if alone { 1 } else { 2 };
                    assert!(step.flows.len() * 2 <= ends * nodes, "{nodes} nodes");
                }
            }
        }
    }

    #[test]
    fn a_bisection_crosses_the_middle_everywhere_once_each_way() {
        for nodes in sizes() {
            let steps = steps(Pattern::Bisection, nodes, Directions::One, 0);
            let half = nodes / 2;
            assert_eq!(rounds(&steps), half);
            let flows = counts(&steps, What::Bandwidth);
            assert_eq!(flows.len(), 2 * half * half, "{nodes} nodes");
            for (&(from, to), &count) in &flows {
                assert_eq!(count, 1);
                let (low, high) = (from.min(to), from.max(to));
                assert!(low < half && high >= nodes - half, "{from} {to} of {nodes}");
            }
            let full = |step: &Step| step.flows.len() == half && crowd(step, nodes) <= (1, 1);
            assert!(steps.iter().all(full));
        }
    }

    #[test]
    fn in_an_all_to_all_everybody_sends_and_receives_in_every_round() {
        for nodes in sizes() {
            let steps = steps(Pattern::Alltoall, nodes, Directions::Both, 0);
            assert_eq!(steps.len(), nodes - 1);
            let flows = counts(&steps, What::Bandwidth);
            assert_eq!(flows.len(), nodes * (nodes - 1));
            assert!(flows.values().all(|&count| count == 1));
            assert!(steps.iter().all(|step| crowd(step, nodes) == (1, 1)));
        }
    }

    #[test]
    fn in_an_incast_each_node_receives_in_its_turn_from_as_many() {
        for nodes in sizes() {
            for senders in [1, 8, 1000] {
                let steps = steps(Pattern::Incast, nodes, Directions::One, senders);
                assert_eq!(steps.len(), nodes);
                for (to, step) in steps.iter().enumerate() {
                    assert_eq!(step.flows.len(), senders.min(nodes - 1));
                    assert!(step.flows.iter().all(|flow| flow.1 == to));
                    assert!(step.flows.is_empty() || crowd(step, nodes).0 == 1);
                }
            }
        }
    }

    /// What a schedule takes, walked through step by step, if each takes as long as its cell.
    fn seconds(pattern: Pattern, nodes: usize, cell_s: f64) -> f64 {
        let steps = steps(pattern, nodes, Directions::One, 8);
        let busy = steps.iter().filter(|step| !step.flows.is_empty());
        busy.map(|_| cell_s).sum()
    }

    #[test]
    fn the_time_of_512_nodes_is_linear_in_their_number() {
        let cell_s = 0.7;
        let of_pairs = seconds(Pattern::Pairs, 512, cell_s);
        // 511 rounds of a step of latency and one of each direction.
        assert!((of_pairs - 511.0 * 3.0 * cell_s).abs() < 1e-6, "{of_pairs}");
        println!("512 nodes, all pairs, {cell_s} s each: {of_pairs:.0} s");
        for pattern in [
            Pattern::Pairs,
            Pattern::Bisection,
            Pattern::Incast,
            Pattern::Alltoall,
        ] {
            let (half, whole) = (seconds(pattern, 256, cell_s), seconds(pattern, 512, cell_s));
            let ratio = whole / half;
            assert!((ratio - 2.0).abs() < 0.01, "{pattern:?}: {ratio}");
        }
    }
}
