//! The promises about error rates, kept on the whole way from reports to verdicts: matching, pairing,
//! tests, adjustment and environments, as a user's comparison goes it.

use super::{Options, Verdict, compare};
use crate::fixtures;
use crate::host::Host;
use crate::model::{Fact, Report, Session};
use crate::stats::random::Random;
use crate::stats::simulation_tests::{Shape, run};

const COMPARISONS: usize = 2000;

/// Runs of one case that has one metric, on a host of which nothing is known: comparing those that
/// are known has tests of its own.
fn blank(count: usize) -> Vec<Report> {
    let mut template = fixtures::report(&[("rr", 1.0)]);
    template.hosts = vec![Host::unknown("fixture", "simulated")];
    let report = |index: usize| {
        let mut report = template.clone();
        report.run.id = format!("run {index}");
        report
    };
    (0..count).map(report).collect()
}

fn set(report: &mut Report, value: f64) {
    fixtures::measurement_mut(report, 0).metrics[0].value = Fact::Known(value);
}

/// What a user is told of the only metric, A's runs standing before B's.
fn verdict(reports: &[Report]) -> Verdict {
    let (a, b) = reports.split_at(reports.len() / 2);
    let comparison = compare(a, b, &Options::default()).expect("they can be set side by side");
    comparison.cases[0].metrics[0].verdict
}

/// The share of comparisons of `runs` runs a side that end with a verdict on a difference, B's level
/// being `factor` times A's; and how many of them call B worse.
fn told_apart(seed: u64, runs: usize, factor: f64, shape: Shape) -> (f64, f64) {
    let mut random = Random::new(seed);
    let mut reports = blank(2 * runs);
    let mut verdicts = Vec::with_capacity(COMPARISONS);
    for _ in 0..COMPARISONS {
        for (index, report) in reports.iter_mut().enumerate() {
            let level = if index < runs { 100.0 } else { 100.0 * factor };
            set(report, run(&mut random, level, shape));
        }
        verdicts.push(verdict(&reports));
    }
    let share = |wanted: &[Verdict]| {
        let found = verdicts.iter().filter(|verdict| wanted.contains(verdict));
        found.count() as f64 / COMPARISONS as f64
    };
    let told = share(&[Verdict::Same, Verdict::Better, Verdict::Worse]);
    assert_eq!(told, 1.0, "every comparison has enough runs and one host");
    let worse = share(&[Verdict::Worse]);
    (worse + share(&[Verdict::Better]), worse)
}

#[test]
fn equal_reports_are_seldom_told_apart() {
    let shapes = [
        (21, Shape::Smooth),
        (22, Shape::Tied),
        (23, Shape::Outliers),
    ];
    for (seed, shape) in shapes {
        for runs in [5, 10] {
            let (alarms, _) = told_apart(seed, runs, 1.0, shape);
            println!("{shape:?}, {runs} runs a side: {alarms} told apart");
            assert!(alarms <= 0.07, "{shape:?}, {runs} runs: {alarms}");
            // A rule that never sees anything would pass the line above.
            assert!(alarms > 0.0, "{shape:?}, {runs} runs");
        }
    }
}

#[test]
fn five_percent_more_latency_is_found_worse_in_ten_runs() {
    let (_, worse) = told_apart(24, 10, 1.05, Shape::Smooth);
    assert!(worse >= 0.85, "{worse}");
}

#[test]
fn a_drifting_machine_does_not_fool_reports_in_pairs() {
    const PAIRS: usize = 10;
    let mut random = Random::new(25);
    let mut reports = blank(2 * PAIRS);
    for (index, report) in reports.iter_mut().enumerate() {
        let round = index % PAIRS;
        report.run.session = Some(Session {
            id: "a session".to_owned(),
            suite: "simulated".to_owned(),
            row: "rr".to_owned(),
            position: 1,
            repetition: 1,
            order_index: 1,
            pair_id: Some(format!("rr-{round}")),
            arm: None,
        });
    }
    let mut alarms = 0;
    for _ in 0..COMPARISONS {
        for pair in 0..PAIRS {
            // Each run finds the machine 1 % slower than the one before it.
            let mut places = [2 * pair, 2 * pair + 1];
            random.shuffle(&mut places);
            for (side, place) in places.into_iter().enumerate() {
                let level = 100.0 * (0.01 * place as f64).exp();
                let value = run(&mut random, level, Shape::Smooth);
                set(&mut reports[side * PAIRS + pair], value);
            }
        }
        alarms += usize::from(verdict(&reports) != Verdict::Same);
    }
    let share = alarms as f64 / COMPARISONS as f64;
    assert!(share > 0.0 && share <= 0.07, "{share}");
}
