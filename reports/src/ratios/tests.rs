//! Ratios of sessions that are built here.

use super::*;
use crate::fixtures;
use crate::model::{Outcome, Session};

const PEERS: &str = r#"
    name = "peers"
    [[row]]
    name = "rr"
    metric = "round_trip_ns p50"
    [[row.arm]]
    name = "theirs"
    command = ["peer"]
    [[row.arm]]
    name = "ours"
    command = ["net-bench", "tcp_rr"]
"#;

/// A session of this suite: `measure` gives each run's report by unit and round.
fn session(
    text: &str,
    rounds: u32,
    measure: impl Fn(usize, u32) -> Report,
) -> (Suite, Plan, Vec<Report>) {
    let suite = Suite::parse(text).expect("it is well-formed");
    let plan = Plan::new(&suite, 1);
    let runs = plan.order.iter().filter(|run| run.repetition <= rounds);
    let reports = runs.map(|&run| {
        let unit = &plan.units[run.unit];
        let mut report = measure(run.unit, run.repetition);
        report.run.session = Some(Session {
            id: "session".into(),
            suite: suite.name.clone(),
            row: unit.row.clone(),
            position: run.unit as u32 + 1,
            repetition: run.repetition,
            order_index: 1,
            pair_id: plan.pair_id(run),
            arm: unit.arm.clone(),
        });
        report
    });
    let reports = reports.collect();
    (suite, plan, reports)
}

/// A latency with a little noise that differs from unit to unit.
fn noisy(unit: usize, round: u32, level: f64) -> f64 {
    let noise = f64::from((round * 7 + unit as u32 * 3) % 11) / 11.0 - 0.5;
    level * (1.0 + 0.02 * noise)
}

#[test]
fn every_arm_stands_over_the_first() {
    let (suite, plan, reports) = session(PEERS, 8, |unit, round| {
        fixtures::report(&[("rr", noisy(unit, round, [2000.0, 1000.0][unit]))])
    });
    let rows = of(&suite, &plan, &reports);
    assert_eq!((rows.len(), rows[0].baseline.as_str()), (1, "theirs"));
    let ours = &rows[0].arms[0];
    let comparison = ours.result.as_ref().expect("eight pairs are enough");
    let ratio = comparison.effect.expect("so they have an interval");
    assert!((ratio.value - 0.5).abs() < 0.01, "{ratio:?}");
    assert_eq!(
        (comparison.pairs, comparison.verdict),
        (Some(8), Verdict::Better)
    );
    let few = of(&suite, &plan, &reports[..4]);
    let comparison = few[0].arms[0].result.as_ref().expect("there are pairs");
    assert_eq!(comparison.verdict, Verdict::Insufficient);
    assert_eq!(
        comparison.reason.as_deref(),
        Some("2 complete pairs; it takes 6")
    );
}

#[test]
fn a_difference_within_the_noise_floor_is_none() {
    let text = format!("noise_floor = true\n{PEERS}");
    // The second run of the baseline swings by a tenth; the arm lies 4 % higher, steadily.
    let measured = |swing: f64| {
        session(&text, 10, |unit, round| {
            let level = match unit {
                1 => 1000.0 * (1.0 + swing * (f64::from(round % 5) - 2.0) / 2.0),
                2 => 1040.0,
                _ => 1000.0,
            };
            fixtures::report(&[("rr", noisy(unit, round, level))])
        })
    };
    let (suite, plan, reports) = measured(0.1);
    let rows = of(&suite, &plan, &reports);
    let floor = rows[0].noise_floor.as_ref().expect("it was asked for");
    let spread = floor.spread.expect("ten pairs have an interval");
    assert!(spread > 0.04 && !floor.differs, "{spread}");
    assert!(floor.detectable >= Some(spread));
    let arm = &rows[0].arms[0];
    let comparison = arm.result.as_ref().expect("compared");
    assert_eq!(
        (comparison.observed, comparison.verdict),
        (Verdict::Worse, Verdict::Same)
    );
    assert!(arm.within_noise);
    let (suite, plan, reports) = measured(0.0);
    let rows = of(&suite, &plan, &reports);
    let verdict = rows[0].arms[0]
        .result
        .as_ref()
        .map(|comparison| comparison.verdict);
    assert_eq!(verdict, Ok(Verdict::Worse));
    assert!(!rows[0].arms[0].within_noise);
}

/// A sweep over sizes as this program reports it.
fn sweep(program: &str, sizes: &[u64], factor: f64) -> Report {
    let cases: Vec<_> = sizes
        .iter()
        .map(|size| ("bw", factor * *size as f64 * 100.0))
        .collect();
    let mut report = fixtures::report(&cases);
    for (case, size) in report.cases.iter_mut().zip(sizes) {
        let params = &mut case.benchmark.params;
        params.insert("size_bytes".to_owned(), (*size).into());
        if program == "theirs" {
            // Another program's own words: another id, and a parameter that ours has not.
            params.insert("loops".to_owned(), (1000 / size).into());
            case.benchmark.id = "theirs/bandwidth".to_owned();
        }
    }
    report
}

#[test]
fn points_of_a_sweep_are_matched_by_what_both_programs_sweep() {
    let (suite, plan, reports) = session(PEERS, 6, |unit, round| match unit {
        0 => sweep("theirs", &[1, 8, 64], 2.0 + 0.01 * f64::from(round)),
        _ => sweep("ours", &[8, 64, 512], 1.0),
    });
    let rows = of(&suite, &plan, &reports);
    let points: Vec<_> = rows.iter().map(|row| row.point.as_str()).collect();
    assert_eq!(points[1], "size_bytes=8 loops=125");
    let told: Vec<bool> = rows.iter().map(|row| row.arms[0].result.is_ok()).collect();
    assert_eq!(
        told,
        [false, true, true],
        "the smallest is measured by one of them only"
    );
}

#[test]
fn a_missing_peer_and_a_missing_baseline_are_named() {
    let skipped = |mut report: Report| {
        let reason = "iperf3 is not installed".to_owned();
        report.cases[0].outcome = Outcome::Skipped { reason };
        report
    };
    for missing in [0, 1] {
        let (suite, plan, reports) = session(PEERS, 6, |unit, round| {
            let report = fixtures::report(&[("rr", noisy(unit, round, 1000.0))]);
            if unit == missing {
                skipped(report)
            } else {
                report
            }
        });
        let rows = of(&suite, &plan, &reports);
        let reason = rows[0].arms[0]
            .result
            .as_ref()
            .expect_err("nothing to compare");
        let name = ["theirs", "ours"][missing];
        let expected = format!("no valid run of {name} has this number: iperf3 is not installed");
        assert_eq!(reason, &expected);
        assert!(rows[0].noise_floor.is_none());
    }
}

#[test]
fn rows_without_arms_have_no_ratio_but_a_noise_floor() {
    let single = r#"
        name = "single"
        [[row]]
        name = "rr"
        command = ["net-bench", "tcp_rr"]
    "#;
    let measure = |unit, round| {
        let mut report = fixtures::report(&[("rr", noisy(unit, round, 1000.0))]);
        fixtures::measurement_mut(&mut report, 0).metrics[0].headline = true;
        report
    };
    let (suite, plan, reports) = session(single, 8, measure);
    assert!(of(&suite, &plan, &reports).is_empty());
    let (suite, plan, reports) = session(&format!("noise_floor = true\n{single}"), 8, measure);
    let rows = of(&suite, &plan, &reports);
    let floor = rows[0].noise_floor.as_ref().expect("it was asked for");
    assert!(floor.spread.is_some() && rows[0].arms.is_empty());
}
