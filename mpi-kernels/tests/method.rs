//! How kernels are measured: ways to begin together, clocks, when a point ends, raw samples, and
//! whether a late rank is found out.

mod common;

use common::{PROGRAM, mpirun, output, report, run, stderr, stdout};
use reports::model::{Aggregation, Case, Measurement, Outcome, Report};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

fn measured(case: &Case) -> &Measurement {
    match &case.outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("{} was not measured: {other:?}", case.key()),
    }
}

fn flags(measurement: &Measurement) -> Vec<&str> {
    let flags = measurement.validity.flags.iter();
    flags.map(|flag| flag.code.as_str()).collect()
}

fn value(measurement: &Measurement, name: &str, aggregation: Aggregation) -> f64 {
    let metric = measurement.metric(name, aggregation);
    *metric
        .and_then(|metric| metric.value.known())
        .unwrap_or_else(|| panic!("{name} {aggregation} is known"))
}

fn run_words(ranks: usize, args: &str) -> (Report, Option<i32>) {
    let output = run(ranks, &args.split(' ').collect::<Vec<_>>());
    (report(&output), output.status.code())
}

#[test]
fn all_ways_to_begin_work_on_odd_and_even_worlds() {
    for sync in ["barrier", "dissemination", "round-time"] {
        for ranks in [2, 3, 5] {
            let args = format!("allreduce -m 8:8 -i 40 -x 5 --json --clock hca3 --sync {sync}");
            let (report, code) = run_words(ranks, &args);
            assert_eq!(code, Some(0), "{sync} on {ranks}");
            let case = &report.cases[0];
            assert_eq!(case.benchmark.params["synchronisation"], json!(sync));
            assert_eq!(case.benchmark.params["clock"], json!("hca3"));
            let measurement = measured(case);
            let counted = measurement.histograms[0].count;
            match sync {
                "round-time" => {
                    let share = value(measurement, "invalid_rounds", Aggregation::Total);
                    assert!((0.0..1.0).contains(&share) && counted <= 40, "{share}");
                    assert!(measurement.facts["round_time_slack_ns"].as_u64() >= Some(1000));
                }
                _ => assert_eq!(counted, 40, "{sync} on {ranks}"),
            }
            assert!(measurement.facts["entry_spread_ns"]["p50"].is_u64());
            assert!(measurement.facts["clock_model"].is_string(), "one machine");
        }
    }
}

/// The kernel's clock of a process in a time namespace of its own is ahead by a known amount, to
/// the nanosecond.
#[test]
fn offsets_between_time_namespaces_are_recovered() {
    let ahead =
        |seconds: &str| ["unshare", "--time", "--monotonic", seconds, "--fork"].map(String::from);
    let possible = Command::new("unshare")
        .args(&ahead("100")[1..])
        .arg("true")
        .output();
    if !possible.is_ok_and(|tried| tried.status.success()) {
        eprintln!("skipped: this user may not make time namespaces");
        return;
    }
    for sync in ["barrier", "round-time"] {
        let args = format!(
            "barrier -i 50 -x 5 --json --clock hca3 --clock-source monotonic --sync {sync}"
        );
        let args: Vec<&str> = args.split(' ').collect();
        let mut command = mpirun(1);
        command.arg(PROGRAM).args(&args);
        for seconds in ["100", "200"] {
            command.args([":", "-n", "1"]).args(ahead(seconds));
            command.arg(PROGRAM).args(&args);
        }
        let output = output(&mut command);
        let report = report(&output);
        let measurement = measured(&report.cases[0]);
        let models = measurement.facts["clock_model"].as_array().expect("a list");
        assert_eq!(models.len(), 2, "{}", stdout(&output));
        for (model, seconds) in models.iter().zip([100i64, 200]) {
            let number = |name: &str| model[name].as_i64().unwrap_or_else(|| panic!("{model}"));
            let error = number("offset_ns") - seconds * 1_000_000_000;
            let bound = number("min_round_trip_ns") / 2;
            assert!(
                error.abs() <= bound,
                "{error} ns off, {bound} allowed: {model}"
            );
            assert_eq!(number("rank"), seconds / 100);
            assert!(model["clock_error_ns"].is_i64() && model["residual_ns"].is_f64());
        }
    }
}

#[test]
fn a_point_ends_for_the_reason_that_it_gives() {
    let ended = |args: &str| {
        let (report, code) = run_words(2, args);
        assert_eq!(code, Some(0), "{args}");
        measured(&report.cases[0]).clone()
    };
    let all = ended("barrier -i 50 -x 5 --json");
    assert_eq!(all.facts["stopped_by"], json!("iterations"));
    assert_eq!(all.histograms[0].count, 50);
    let interval = &all.facts["median_interval_ns"];
    let number = |name: &str| interval[name].as_f64().expect("a number");
    assert!(number("coverage") >= 0.95);
    let median = value(&all, "collective_ns", Aggregation::P50);
    assert!(number("low") <= median && median <= number("high"));

    let budget = ended("latency -m 8:8 -i 100000000 --time-budget 0.2 --json");
    assert_eq!(budget.facts["stopped_by"], json!("time budget"));
    assert!(budget.histograms[0].count < 100_000_000);

    let narrow = ended("latency -m 8:8 -i 1000000 --ci-width 90% --json --time-budget 20");
    assert_eq!(narrow.facts["stopped_by"], json!("interval"));
    assert!((30..1_000_000).contains(&narrow.histograms[0].count));
    assert!(!flags(&narrow).contains(&"interval_wide"));

    // Twenty iterations are too few to end a point.
    let wide = ended("latency -m 8:8 -i 20 --ci-width 1% --json");
    assert_eq!(wide.facts["stopped_by"], json!("iterations"));
    assert!(flags(&wide).contains(&"interval_wide"));
}

/// Raw samples by size, iteration and rank, in nanoseconds.
type Samples = BTreeMap<(u64, u64, u64), u64>;

fn samples(text: &str) -> Samples {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("case,size_bytes,iteration,rank,host,ns"));
    let sample = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |field: usize| {
            fields[field]
                .parse()
                .unwrap_or_else(|_| panic!("{field} of {line}"))
        };
        ((number(1), number(2), number(3)), number(5))
    };
    lines.map(sample).collect()
}

#[test]
fn raw_samples_are_what_the_report_is_made_of() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("raw.csv");
    fs::write(&path, "an older file").expect("it can be written");
    let text = path.to_str().expect("a plain path");
    let (report, code) = run_words(
        3,
        &format!("allreduce -m 4:8 -i 60 -x 3 --json --raw {text}"),
    );
    assert_eq!(code, Some(0));
    let samples = samples(&fs::read_to_string(&path).expect("it is there"));
    assert_eq!(samples.len(), 2 * 60 * 3, "sizes, iterations, ranks");
    for case in &report.cases {
        let measurement = measured(case);
        let size = case.benchmark.params["size_bytes"]
            .as_u64()
            .expect("a size");
        let of_iteration = |iteration| {
            let ranks = (0..3).map(|rank| samples[&(size, iteration, rank)]);
            ranks.max().expect("three ranks") as f64
        };
        let slowest: Vec<f64> = (0..60).map(of_iteration).collect();
        let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 2e-3, "{a} and {b}");
        let extreme = |aggregation| value(measurement, "collective_ns", aggregation);
        close(
            extreme(Aggregation::Max),
            slowest.iter().fold(0.0, |a, &b| a.max(b)),
        );
        close(
            extreme(Aggregation::Min),
            slowest.iter().fold(f64::MAX, |a, &b| a.min(b)),
        );
    }
    let files = fs::read_dir(folder.path()).expect("it can be read").count();
    assert_eq!(files, 1, "nothing else is left");
}

#[test]
fn raw_samples_of_two_ranks_are_those_of_the_one_that_times() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("new/raw.csv");
    let text = path.to_str().expect("a plain path");
    let (_, code) = run_words(3, &format!("latency -m 8:8 -i 50 --json --raw {text}"));
    assert_eq!(code, Some(0));
    let samples = samples(&fs::read_to_string(&path).expect("it is there"));
    assert_eq!(samples.len(), 50);
    assert!(
        samples
            .keys()
            .all(|&(size, _, rank)| (size, rank) == (8, 0))
    );
}

#[test]
fn raw_samples_that_cannot_be_written_are_told_once() {
    for (path, expected) in [
        ("/dev/full", "No space left on device"),
        ("/proc/nowhere/raw.csv", "No such file"),
        ("/", "it is a folder"),
    ] {
        let output = run(2, &["barrier", "-i", "5", "--raw", path]);
        assert_eq!(output.status.code(), Some(1), "{path}");
        assert_eq!(stderr(&output).matches(expected).count(), 1, "{path}");
        assert!(stderr(&output).contains(path), "{}", stderr(&output));
    }
}

/// Rank 1 is late by 100 ms in one of 20 iterations: that is beyond what a busy machine does to the
/// others, and it is in p99.
#[test]
fn a_rank_that_is_late_now_and_then_is_named() {
    for kernel in ["barrier", "allreduce -m 8:8"] {
        let args = format!("{kernel} -i 200 -x 5 --json --delay 1:100000:0.05");
        let (report, code) = run_words(3, &args);
        assert_eq!(code, Some(0));
        let measurement = measured(&report.cases[0]);
        let p99 = value(measurement, "collective_ns", Aggregation::P99);
        assert!(p99 >= 1e8 * 0.999, "the delay is in p99: {p99}");
        let slowest = &measurement.facts["slowest_beyond_p99"];
        assert_eq!(slowest["rank"], json!(1), "{kernel}: {slowest}");
        let count = |name: &str| slowest[name].as_u64().expect("a number");
        assert!(
            (1..=count("of")).contains(&count("iterations")),
            "{slowest}"
        );
        assert!(
            slowest["host"]
                .as_str()
                .is_some_and(|host| !host.is_empty())
        );
        assert_eq!(
            report.cases[0].benchmark.params["delay"],
            Value::from("1:100000:0.05")
        );
    }
}

#[test]
fn methods_without_meaning_are_refused() {
    for (args, expected) in [
        ("barrier --sync round-time", "add --clock hca3"),
        ("barrier --sync sleep", "invalid value"),
        ("barrier --clock ntp", "invalid value"),
        ("latency --sync barrier", "unexpected argument"),
        ("barrier --time-budget 0", "is no time"),
        ("barrier --time-budget soon", "is no time"),
        ("barrier --time-budget inf", "is no time"),
        ("barrier --ci-width 2", "is no share"),
        ("barrier --ci-width -1%", "is no share"),
        ("barrier --ci-width nan", "is no share"),
        ("barrier --delay 1:2", "is no delay"),
    ] {
        let output = Command::new(PROGRAM)
            .args(args.split(' '))
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(
            stderr(&output).contains(expected),
            "{args}: {}",
            stderr(&output)
        );
    }
    let output = run(2, &["barrier", "--delay", "7:1:1"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).matches("there are 2").count(), 1);
}
