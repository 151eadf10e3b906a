//! Tests of the summary.

use super::*;
use crate::fixtures;
use crate::model::{Counter, Matrix, MatrixNode, Severity};

#[test]
fn runs_of_one_case_become_one_line() {
    let reports: Vec<_> = (1..=6)
        .map(|run| fixtures::report(&[("tcp_rr", f64::from(run) * 10.0)]))
        .collect();
    let cases = summarise(&reports);
    assert_eq!(cases.len(), 1);
    assert_eq!((cases[0].measured, cases[0].is_complete()), (6, true));
    let metric = &cases[0].metrics[0];
    assert_eq!(metric.median, Fact::Known(35.0));
    let interval = metric.interval.as_ref().expect("six runs have an interval");
    assert_eq!((interval.low, interval.high), (10.0, 60.0));
}

#[test]
fn five_runs_have_a_median_and_no_interval() {
    let reports: Vec<_> = (1..=5)
        .map(|run| fixtures::report(&[("tcp_rr", f64::from(run))]))
        .collect();
    let metric = &summarise(&reports)[0].metrics[0];
    assert_eq!(metric.median, Fact::Known(3.0));
    assert_eq!(metric.interval, Err("5 of the 6 runs it takes".to_owned()));
}

#[test]
fn a_run_given_twice_counts_once_and_other_hosts_are_not_pooled() {
    let one = fixtures::report(&[("tcp_rr", 1.0)]);
    let mut elsewhere = fixtures::report(&[("tcp_rr", 2.0)]);
    elsewhere.hosts[0].name = "elsewhere".to_owned();
    let cases = summarise(&[one.clone(), one, elsewhere]);
    assert_eq!(
        cases.iter().map(|case| case.measured).collect::<Vec<_>>(),
        [1, 1]
    );
}

#[test]
fn skips_failures_and_flags_are_counted_with_their_words() {
    let mut flagged = fixtures::report(&[("tcp_rr", 1.0)]);
    fixtures::measurement_mut(&mut flagged, 0).validity.flag(
        Severity::Invalid,
        "interrupted",
        "by SIGINT",
    );
    let mut failed = fixtures::report(&[("tcp_rr", 1.0)]);
    failed.cases[0].outcome = Outcome::Failed {
        error: "peer died".to_owned(),
    };
    let cases = summarise(&[flagged, failed]);
    assert_eq!(cases[0].failed.get("peer died"), Some(&1));
    assert!(cases[0].is_invalid() && !cases[0].is_complete());
}

#[test]
fn a_long_sweep_is_listed_by_its_ends_and_its_failures() {
    let mut report = fixtures::report(&[("bw", 1.0); 9]);
    for (index, case) in report.cases.iter_mut().enumerate() {
        let params = &mut case.benchmark.params;
        params.insert("size_bytes".to_owned(), (1u64 << index).into());
    }
    report.cases[4].outcome = Outcome::Failed {
        error: "out of memory".to_owned(),
    };
    let cases = summarise(&[report]);
    let shape: Vec<String> = listed(&cases)
        .into_iter()
        .map(|listed| match listed {
            Listed::Case(index, _) => index.to_string(),
            Listed::Between(count) => format!("+{count}"),
        })
        .collect();
    assert_eq!(shape, ["0", "+3", "4", "+3", "8"]);
}

#[test]
fn labels_show_what_differs() {
    let mut small = fixtures::report(&[("bw", 1.0)]);
    let mut large = small.clone();
    large.run.id = "another".to_owned();
    for (report, size) in [(&mut small, 8), (&mut large, 4096)] {
        let params = &mut report.cases[0].benchmark.params;
        params.insert("size_bytes".to_owned(), size.into());
        params.insert("window".to_owned(), 64.into());
    }
    let cases = summarise(&[small, large]);
    assert_eq!(cases[1].label(&cases), "test/bw size_bytes=4096");
}

fn matrix(values: &[&[Option<f64>]]) -> Matrix {
    let node = |index: usize| MatrixNode {
        name: format!("node-{index}"),
        host: 0,
    };
    Matrix {
        name: "latency_ns".to_owned(),
        aggregation: Aggregation::P50,
        unit: Unit::Nanoseconds,
        direction: Direction::LowerIsBetter,
        nodes: (0..values.len()).map(node).collect(),
        values: values.iter().map(|row| row.to_vec()).collect(),
    }
}

#[test]
fn a_pair_has_the_median_of_the_runs_that_measured_it() {
    let reports: Vec<_> = [Some(10.0), None, Some(30.0), Some(90.0)]
        .into_iter()
        .map(|there| {
            let mut report = fixtures::report(&[("pairs", 1.0)]);
            fixtures::measurement_mut(&mut report, 0).matrices =
                vec![matrix(&[&[None, there], &[Some(5.0), None]])];
            report
        })
        .collect();
    let cases = summarise(&reports);
    let found = &cases[0].matrices[0];
    assert_eq!(found.medians, [[None, Some(30.0)], [Some(5.0), None]]);
    assert_eq!((found.runs, found.moved), (4, false));
    assert_eq!(found.nodes[1].host, "fixture");
}

#[test]
fn runs_keep_their_flags_and_the_throttle_counters_that_rose() {
    let mut report = fixtures::report(&[("tcp_rr", 1.0)]);
    let id = report.run.id.clone();
    let measurement = fixtures::measurement_mut(&mut report, 0);
    let counter = |name: &str, after: f64| Counter {
        source: "ethtool eth0".to_owned(),
        name: name.to_owned(),
        before: 1.0.into(),
        after: after.into(),
    };
    measurement.counters = vec![
        counter("pps_allowance_exceeded", 8.0),
        counter("bw_in_allowance_exceeded", 1.0),
        counter("rx_bytes", 1e9),
    ];
    measurement
        .validity
        .flag(Severity::Degraded, "cpu_steal", "2 %");
    measurement
        .validity
        .flag(Severity::Invalid, "cpu_steal", "90 % on the peer");
    let cases = summarise(&[report]);
    let run = &cases[0].runs[0];
    let expected = ("ethtool eth0 pps_allowance_exceeded".to_owned(), 7.0);
    assert_eq!(
        (run.id.as_str(), run.risen.as_slice()),
        (id.as_str(), [expected].as_slice())
    );
    let steals = |flags: &[Flag]| flags.iter().filter(|f| f.code == "cpu_steal").count();
    assert_eq!(steals(&run.flags), 2);
    let kinds: Vec<Flag> = cases[0].flags.iter().map(|(f, _)| f.clone()).collect();
    assert_eq!(steals(&kinds), 1, "one code");
    assert!(cases[0].is_invalid(), "the worst severity counts");
}

#[test]
fn numbers_of_two_units_are_never_pooled() {
    let mut other = fixtures::report(&[("tcp_rr", 2.0)]);
    fixtures::measurement_mut(&mut other, 0).metrics[0].unit = Unit::Seconds;
    let cases = summarise(&[fixtures::report(&[("tcp_rr", 1.0)]), other]);
    let values: Vec<_> = cases[0].metrics.iter().map(|m| m.values.clone()).collect();
    assert_eq!(values, [[1.0], [2.0]]);
    assert_eq!(cases[0].metrics[1].of_runs, [1]);
}
