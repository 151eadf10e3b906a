//! The promises about error rates, kept on simulated runs: A and B alike must seldom be told
//! apart, and a real change must be found.

use super::random::Random;
use super::{ALPHA, Estimate, Pairs, Runs, mann_whitney, signed_rank, student};

const COMPARISONS: usize = 2000;
const OPERATIONS: usize = 100;
/// Run-to-run and within-run spread, relative.
const SPREAD: f64 = 0.03;

/// What shapes the simulated numbers, beside the spreads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Nothing.
    Smooth,
    /// Numbers are whole: many runs tie.
    Tied,
    /// One run in ten is up to half as slow again.
    Outliers,
}

/// The median latency of one run: a run's own level, and skewed noise in each operation.
pub(crate) fn run(random: &mut Random, level: f64, shape: Shape) -> f64 {
    let mut level = level * (SPREAD * random.normal()).exp();
    if matches!(shape, Shape::Outliers) && random.below(10) == 0 {
        level *= 1.0 + 0.5 * random.unit();
    }
    let mut operations = [0.0; OPERATIONS];
    for operation in &mut operations {
        // Exponential: a floor and a long tail, as latencies have.
        *operation = level * (1.0 - SPREAD * random.unit().ln());
    }
    operations.sort_unstable_by(f64::total_cmp);
    let median = f64::midpoint(operations[OPERATIONS / 2 - 1], operations[OPERATIONS / 2]);
    match shape {
        Shape::Tied => median.round(),
        Shape::Smooth | Shape::Outliers => median,
    }
}

fn side(random: &mut Random, runs: usize, level: f64, shape: Shape) -> Runs {
    let values: Vec<f64> = (0..runs).map(|_| run(random, level, shape)).collect();
    per_run(&values)
}

const IDS: [&str; 20] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    "17", "18", "19",
];

fn per_run(values: &[f64]) -> Runs {
    Runs::new(IDS.into_iter().zip(values.iter().copied())).expect("one number each")
}

/// The rule of `reports compare` for one metric: test and interval agree.
fn differs(estimate: Option<Estimate>, p_value: Option<f64>) -> bool {
    estimate.is_some_and(|estimate| estimate.excludes(0.0))
        && p_value.is_some_and(|p_value| p_value <= ALPHA)
}

fn told_apart(a: &Runs, b: &Runs) -> bool {
    let (a, b) = (a.ln().expect("positive"), b.ln().expect("positive"));
    let p_value = mann_whitney::test(&a, &b).map(|test| test.p_value);
    differs(mann_whitney::shift(&a, &b), p_value)
}

/// The share of comparisons in which runs of level 100 and `level` are told apart.
fn share(seed: u64, runs: usize, level: f64, shape: Shape) -> f64 {
    let mut random = Random::new(seed);
    let found = (0..COMPARISONS)
        .filter(|_| {
            let a = side(&mut random, runs, 100.0, shape);
            told_apart(&a, &side(&mut random, runs, level, shape))
        })
        .count();
    found as f64 / COMPARISONS as f64
}

#[test]
fn equal_sides_are_seldom_told_apart() {
    for (seed, shape) in [(1, Shape::Smooth), (2, Shape::Tied), (3, Shape::Outliers)] {
        for runs in [5, 10] {
            let alarms = share(seed, runs, 100.0, shape);
            assert!(alarms <= 0.07, "seed {seed}, {runs} runs: {alarms}");
        }
    }
}

#[test]
fn a_change_of_five_percent_is_found_in_ten_runs() {
    let found = share(4, 10, 105.0, Shape::Smooth);
    assert!(found >= 0.85, "{found}");
}

#[test]
fn drift_does_not_fool_pairs() {
    let mut random = Random::new(5);
    let (mut by_rank, mut by_t, mut unpaired) = (0, 0, 0);
    for _ in 0..COMPARISONS {
        let (mut a, mut b) = ([0.0; 10], [0.0; 10]);
        for pair in 0..10 {
            // Each run finds the machine 1 % slower than the one before; which side goes first
            // is drawn for each pair, as `reports run` draws it.
            let mut place = 2.0 * pair as f64;
            let a_first = random.below(2) == 0;
            for side in if a_first {
                [&mut a, &mut b]
            } else {
                [&mut b, &mut a]
            } {
                side[pair] = run(&mut random, 100.0 * (0.01 * place).exp(), Shape::Smooth);
                place += 1.0;
            }
        }
        let in_pairs = IDS.into_iter().zip(a).zip(b).map(|((id, a), b)| (id, a, b));
        let pairs = Pairs::new(in_pairs)
            .expect("one each")
            .ln()
            .expect("positive");
        let p_value = signed_rank::test(&pairs).map(|test| test.p_value);
        by_rank += usize::from(differs(signed_rank::shift(&pairs), p_value));
        let t = student::paired(&pairs).expect("they vary");
        by_t += usize::from(t.1.excludes(0.0));
        // The wrong order for comparison: all of A, then all of B.
        let block = |random: &mut Random, first: usize| {
            let drifting: Vec<f64> = (first..first + 10)
                .map(|place| run(random, 100.0 * (0.01 * place as f64).exp(), Shape::Smooth))
                .collect();
            per_run(&drifting)
        };
        let first = block(&mut random, 0);
        unpaired += usize::from(told_apart(&first, &block(&mut random, 10)));
    }
    let share = |count: usize| count as f64 / COMPARISONS as f64;
    assert!(share(by_rank) <= 0.07, "signed rank: {}", share(by_rank));
    assert!(share(by_t) <= 0.07, "paired t: {}", share(by_t));
    assert!(
        share(unpaired) > 0.25,
        "the simulated drift must matter, or the test above shows nothing: {}",
        share(unpaired)
    );
}
