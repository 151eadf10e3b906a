//! Which node or pair is slow: told from the matrix of all pairs.
//!
//! A node that sends slowly makes a row slow, one that receives slowly a column, a bad link one
//! cell. [`super::polish`] takes the matrix apart into these, and what stands out by more than the
//! noise *and* by an amount that matters is named. Both conditions are needed: on a quiet network
//! 1 % is significant and does not matter, on a shared machine 30 % happens by itself.

use super::polish::{Cells, Fit, NORMAL_MAD};
use crate::stats;

/// The fewest nodes among which one can be blamed: with three, each row has two values, and
/// nobody can tell the slow one's fault from the others' virtue.
pub const MIN_NODES: usize = 4;

/// The share of a node's pairs that must be slow before the node is.
const MOST_PAIRS: f64 = 0.75;

/// How far from the others, in robust standard deviations, where these are well known.
const SIGMAS: f64 = 6.0;

/// How much further where few residuals tell of them: with as many as this, twice as far. Four nodes
/// leave five, which are often small by luck; by simulation, noise of 20 % blames somebody in less
/// than 1 of 500 runs.
const FEW: f64 = 10.0;

/// How far a node's pairs must be apart from all other pairs, in standard errors of the difference:
/// with the 8 degrees of freedom of four nodes this happens by chance once in 50 000 times.
const APART: f64 = 8.0;

/// The gap below all other pairs that needs no test: one row of four is at the bottom by chance in
/// 1 of 30 runs, and such a gap is not just above it.
const GAP: f64 = 1.0 / 3.0;

/// The least that is taken for the noise, in logarithms: few residuals are small by luck at times,
/// and with this much whatever matters still stands out.
const LEAST_SIGMA: f64 = 0.05;

/// The standard error of a median in those of a mean, for normal noise.
const MEDIAN_TO_MEAN: f64 = 1.2533;

/// What was measured of a pair; larger is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The median.
    pub median: f64,
    /// The 95 % interval of the median; the median itself where there were too few samples.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// Who is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// What this node sends.
    Egress(usize),
    /// What this node receives.
    Ingress(usize),
    /// What the one sends to the other, beyond what either does to everybody.
    Pair(usize, usize),
}

/// A culprit and the evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Who.
    pub culprit: Culprit,
    /// The median of what was measured with it.
    pub measured: f64,
    /// The median of what the other nodes let expect there.
    pub expected: f64,
    /// How many of its pairs are slow.
    pub slow_pairs: usize,
    /// How many it has.
    pub pairs: usize,
}

impl Finding {
    /// What is reached of what was to be expected: below 1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.measured / self.expected
    }
}

/// What a matrix says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing about single nodes: there are too few of them.
    TooFewNodes,
    /// These are slow; nobody, if it is empty.
    Slow(Vec<Finding>),
}

/// Judges `cells[from][to]`; a culprit falls short by at least the share `least` (0.25).
#[must_use]
pub fn judge(cells: &[Vec<Option<Cell>>], least: f64) -> Verdict {
    let nodes = cells.len();
    if nodes < MIN_NODES {
        return Verdict::TooFewNodes;
    }
    let logs: Cells = map(cells, |cell| cell.median.ln());
    let fit = Fit::of(&logs);
    let Some(sigma) = fit.sigma() else {
        return Verdict::TooFewNodes;
    };
    let court = Court {
        cells,
        logs,
        fit,
        sigma: sigma.max(spread_within(cells)).max(LEAST_SIGMA),
        sigmas: SIGMAS * (1.0 + FEW / freedom(cells)),
        limit: (1.0 - least).ln(),
    };
    let egress = (0..nodes).filter_map(|node| court.node(Culprit::Egress(node)));
    let ingress = (0..nodes).filter_map(|node| court.node(Culprit::Ingress(node)));
    let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    let pairs = pairs.filter_map(|(from, to)| court.pair(from, to));
    Verdict::Slow(egress.chain(ingress).chain(pairs).collect())
}

/// How many residuals are free: cells less the effects that are fitted to them.
fn freedom(cells: &[Vec<Option<Cell>>]) -> f64 {
    let known = cells.iter().flatten().flatten().count();
    (known as f64 - (2.0 * cells.len() as f64 - 1.0)).max(1.0)
}

fn map(cells: &[Vec<Option<Cell>>], f: impl Fn(&Cell) -> f64) -> Cells {
    cells
        .iter()
        .map(|row| row.iter().map(|cell| cell.as_ref().map(&f)).collect())
        .collect()
}

/// The standard error of a pair's median in logarithms, by the width of its interval: a second
/// opinion on the noise, for few nodes leave few residuals.
fn spread_within(cells: &[Vec<Option<Cell>>]) -> f64 {
    let of_cell = |cell: &Cell| (cell.high / cell.low).ln() / (2.0 * 1.96);
    let spreads: Vec<f64> = cells.iter().flatten().flatten().map(of_cell).collect();
    stats::median(&spreads).unwrap_or(0.0)
}

struct Court<'a> {
    cells: &'a [Vec<Option<Cell>>],
    logs: Cells,
    fit: Fit,
    sigma: f64,
    /// How many of these are needed.
    sigmas: f64,
    /// The logarithm of the ratio at which a shortfall matters.
    limit: f64,
}

impl Court<'_> {
    /// Judges what a node sends or receives.
    fn node(&self, culprit: Culprit) -> Option<Finding> {
        let fit = &self.fit;
        let nodes = 0..self.cells.len();
        let (effect, pairs): (f64, Vec<(f64, f64)>) = match culprit {
            Culprit::Egress(node) => {
                let pair = |to: usize| Some((self.logs[node][to]?, fit.overall + fit.columns[to]));
                (fit.rows[node], nodes.filter_map(pair).collect())
            }
            Culprit::Ingress(node) => {
                let pair =
                    |from: usize| Some((self.logs[from][node]?, fit.overall + fit.rows[from]));
                (fit.columns[node], nodes.filter_map(pair).collect())
            }
            Culprit::Pair(..) => return None,
        };
        let error = MEDIAN_TO_MEAN * self.sigma / (pairs.len() as f64).sqrt();
        let slow = |&&(measured, expected): &&(f64, f64)| measured - expected <= self.limit;
        let slow_pairs = pairs.iter().filter(slow).count();
        let stands_out = effect <= self.limit
            && slow_pairs as f64 >= MOST_PAIRS * pairs.len() as f64
            && (effect <= -self.sigmas * error || self.is_apart(culprit) || self.is_below(culprit));
        let (measured, expected): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        stands_out.then_some(Finding {
            culprit,
            measured: stats::median(&measured)?.exp(),
            expected: stats::median(&expected)?.exp(),
            slow_pairs,
            pairs: pairs.len(),
        })
    }

    /// Whether a node's pairs are slower than all others by much more than these differ among each
    /// other, for whatever reason: Student's test of one row or column against the rest. Where
    /// there are few nodes it sees more than residuals, of which the fit leaves too few.
    fn is_apart(&self, culprit: Culprit) -> bool {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (from, row) in self.logs.iter().enumerate() {
            for (to, log) in row.iter().enumerate() {
                let is_own = culprit == Culprit::Egress(from) || culprit == Culprit::Ingress(to);
                let side = if is_own { &mut own } else { &mut others };
                side.extend(*log);
            }
        }
        let (own_mean, _) = mean_and_deviation(&own);
        let (mean, deviation) = mean_and_deviation(&others);
        let error = deviation.max(LEAST_SIGMA)
            * (1.0 / own.len() as f64 + 1.0 / others.len() as f64).sqrt();
        own_mean - mean <= -APART * error
    }

    /// Whether even the best of a node's pairs does, at the upper end of its interval, less than a
    /// third of what the worst of all others does there. A cap shows so on a machine whose noise is
    /// too large for the other tests: noise makes pairs slow at times, a cap at all times.
    fn is_below(&self, culprit: Culprit) -> bool {
        let (mut best, mut worst) = (0.0_f64, f64::INFINITY);
        for (from, row) in self.cells.iter().enumerate() {
            for (to, cell) in row.iter().enumerate() {
                let is_own = culprit == Culprit::Egress(from) || culprit == Culprit::Ingress(to);
                match cell {
                    Some(cell) if is_own => best = best.max(cell.high),
                    Some(cell) => worst = worst.min(cell.high),
                    None => {}
                }
            }
        }
        best <= GAP * worst
    }

    /// Judges what remains of a pair when both its nodes are accounted for. Of a whole matrix some
    /// cell is always the worst, so its interval must lie below what matters as well.
    fn pair(&self, from: usize, to: usize) -> Option<Finding> {
        let cell = self.cells[from][to]?;
        let residual = self.fit.residuals[from][to]?;
        let expected = (cell.median.ln() - residual).exp();
        let stands_out = residual <= -self.sigmas * self.sigma
            && cell.high.ln() - expected.ln() <= self.limit
            && residual <= self.limit;
        stands_out.then_some(Finding {
            culprit: Culprit::Pair(from, to),
            measured: cell.median,
            expected,
            slow_pairs: 1,
            pairs: 1,
        })
    }
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// The values that fall short of the others' median by at least the share `least` and by more than
/// the noise: their indices, and the median. Larger is better. Nobody among too few.
#[must_use]
pub fn outliers(values: &[f64], least: f64) -> (Vec<usize>, f64) {
    let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    let centre = stats::median(&logs).unwrap_or(0.0);
    if values.len() < MIN_NODES {
        return (Vec::new(), centre.exp());
    }
    let distances: Vec<f64> = logs.iter().map(|log| (log - centre).abs()).collect();
    let sigma = stats::median(&distances).unwrap_or(0.0) / NORMAL_MAD;
    let short = |log: f64| log - centre <= (1.0 - least).ln() && log - centre <= -SIGMAS * sigma;
    let found = logs.iter().enumerate().filter(|&(_, &log)| short(log));
    (found.map(|(index, _)| index).collect(), centre.exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Random;

    /// A matrix of equal nodes at 1e9, each cell the median of `samples` values with multiplicative
    /// noise: `between` from pair to pair, `within` from sample to sample.
    fn matrix(
        random: &mut Random,
        nodes: usize,
        between: f64,
        within: f64,
    ) -> Vec<Vec<Option<Cell>>> {
        let mut cell = || {
            let centre = 1e9 * (between * random.normal()).exp();
            let samples: Vec<f64> = (0..15)
                .map(|_| centre * (within * random.normal()).exp())
                .collect();
            let interval = stats::median_interval(&samples).expect("15 samples");
            Cell {
                median: stats::median(&samples).expect("15 samples"),
                low: interval.low,
                high: interval.high,
            }
        };
        (0..nodes)
            .map(|from| (0..nodes).map(|to| (from != to).then(&mut cell)).collect())
            .collect()
    }

    fn slow_down(cell: &mut Option<Cell>, factor: f64) {
        if let Some(cell) = cell {
            cell.median *= factor;
            cell.low *= factor;
            cell.high *= factor;
        }
    }

    fn culprits(cells: &[Vec<Option<Cell>>]) -> Vec<Culprit> {
        match judge(cells, 0.25) {
            Verdict::Slow(findings) => findings.iter().map(|finding| finding.culprit).collect(),
            Verdict::TooFewNodes => panic!("there are enough"),
        }
    }

    #[test]
    fn the_noise_of_shared_machines_blames_nobody() {
        let mut random = Random::new(1);
        for nodes in [4, 5, 8, 16] {
            for noise in [0.0, 0.01, 0.1, 0.2, 0.5] {
                let mut alarms = 0;
                for _ in 0..500 {
                    let cells = matrix(&mut random, nodes, noise, 0.2);
                    alarms += usize::from(!culprits(&cells).is_empty());
                }
                // 20 runs without a culprit must pass: at most one alarm in 500.
                assert!(alarms <= 1, "{nodes} nodes, noise {noise}: {alarms} alarms");
            }
        }
    }

    #[test]
    fn a_capped_node_is_named_with_its_direction() {
        let mut random = Random::new(2);
        for nodes in [4, 5, 8, 16] {
            for noise in [0.01, 0.05, 0.1] {
                for run in 0..100 {
                    let capped = run % nodes;
                    let mut cells = matrix(&mut random, nodes, noise, noise);
                    cells[capped]
                        .iter_mut()
                        .for_each(|cell| slow_down(cell, 0.05));
                    assert_eq!(
                        culprits(&cells),
                        [Culprit::Egress(capped)],
                        "{nodes} {noise}"
                    );
                    let mut cells = matrix(&mut random, nodes, noise, noise);
                    cells
                        .iter_mut()
                        .for_each(|row| slow_down(&mut row[capped], 0.05));
                    assert_eq!(
                        culprits(&cells),
                        [Culprit::Ingress(capped)],
                        "{nodes} {noise}"
                    );
                }
            }
        }
    }

    /// What emulated nodes on two busy cores gave, in MB/s: n2 capped at 200 Mbit/s.
    #[test]
    fn a_cap_is_seen_where_the_noise_is_wild() {
        let measured = [
            [None, Some(288.1), Some(567.7), Some(1243.7)],
            [Some(23.8), None, Some(23.8), Some(23.9)],
            [Some(266.2), Some(265.7), None, Some(292.1)],
            [Some(259.6), Some(318.1), Some(1498.9), None],
        ];
        let cell = |median: f64| Cell {
            median,
            low: median / 1.1,
            high: median * 1.1,
        };
        let cells: Vec<Vec<_>> = measured
            .iter()
            .map(|row| row.iter().map(|value| value.map(cell)).collect())
            .collect();
        assert_eq!(culprits(&cells), [Culprit::Egress(1)]);
    }

    #[test]
    fn a_bad_link_is_named_as_a_pair_and_not_as_a_node() {
        let mut random = Random::new(3);
        for (nodes, noise) in [(4, 0.02), (5, 0.05), (8, 0.05)] {
            for _ in 0..100 {
                let mut cells = matrix(&mut random, nodes, noise, 0.05);
                slow_down(&mut cells[1][3], 0.1);
                assert_eq!(culprits(&cells), [Culprit::Pair(1, 3)]);
            }
        }
    }

    #[test]
    fn a_slow_node_and_a_slow_link_elsewhere_are_told_apart() {
        let mut random = Random::new(4);
        let mut cells = matrix(&mut random, 8, 0.03, 0.03);
        cells[2].iter_mut().for_each(|cell| slow_down(cell, 0.3));
        slow_down(&mut cells[5][6], 0.2);
        let found = culprits(&cells);
        assert_eq!(found, [Culprit::Egress(2), Culprit::Pair(5, 6)]);
        let Verdict::Slow(findings) = judge(&cells, 0.25) else {
            panic!("there are eight");
        };
        assert!((findings[0].ratio() - 0.3).abs() < 0.05, "{findings:?}");
        assert_eq!((findings[0].slow_pairs, findings[0].pairs), (7, 7));
    }

    #[test]
    fn what_is_significant_but_small_is_not_named() {
        let mut random = Random::new(5);
        let mut cells = matrix(&mut random, 8, 0.001, 0.001);
        cells[2].iter_mut().for_each(|cell| slow_down(cell, 0.9));
        assert_eq!(culprits(&cells), []);
    }

    #[test]
    fn three_nodes_are_too_few_and_missing_pairs_do_no_harm() {
        let mut random = Random::new(6);
        let three = matrix(&mut random, 3, 0.1, 0.1);
        assert_eq!(judge(&three, 0.25), Verdict::TooFewNodes);
        let nothing = vec![vec![None; 5]; 5];
        assert_eq!(judge(&nothing, 0.25), Verdict::TooFewNodes);
        let mut cells = matrix(&mut random, 6, 0.02, 0.02);
        cells[0][1] = None;
        cells[4].iter_mut().for_each(|cell| slow_down(cell, 0.2));
        assert_eq!(culprits(&cells), [Culprit::Egress(4)]);
    }

    #[test]
    fn a_slow_value_stands_out_of_a_row_of_them() {
        let (slow, usual) = outliers(&[10.0, 10.1, 9.9, 5.0, 10.0], 0.25);
        assert_eq!(slow, [3]);
        assert!((usual - 10.0).abs() < 1e-9);
        assert!(
            outliers(&[10.0, 7.0, 13.0, 5.0, 10.0], 0.25).0.is_empty(),
            "noise"
        );
        assert!(outliers(&[10.0, 10.0, 1.0], 0.25).0.is_empty(), "too few");
    }
}
