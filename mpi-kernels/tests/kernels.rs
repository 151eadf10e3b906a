//! Every kernel under a real `mpirun`: what is in the report, and that it was verified.

mod common;

use common::{PROGRAM, mpirun, output, report, run, stdout};
use mpi_kernels::kernels;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use reports::model::{Aggregation, Case, Measurement, Outcome, Report};
use serde_json::json;
use std::process::Command;

fn measured(case: &Case) -> &Measurement {
    match &case.outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("{} was not measured: {other:?}", case.key()),
    }
}

fn param(case: &Case, name: &str) -> u64 {
    case.benchmark.params[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {}", case.key()))
}

/// What holds for every measured case: as many values as iterations, headline numbers, facts.
fn check_case(case: &Case, histogram: &str) {
    let measurement = measured(case);
    assert_eq!(measurement.histograms[0].name, histogram);
    assert_eq!(measurement.histograms[0].count, param(case, "iterations"));
    let checks = measurement.verified.split(' ').next();
    assert!(checks.is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 0)));
    let headline = measurement.metrics.iter().find(|metric| metric.headline);
    assert!(headline.is_some_and(|metric| metric.value.known().is_some()));
    for fact in ["mpi_library", "mpi_standard", "mpi_thread_level"] {
        let known = |text: &str| !text.is_empty();
        assert!(
            measurement.facts[fact].as_str().is_some_and(known),
            "{fact}"
        );
    }
    let ranks = param(case, "ranks");
    let hosts = measurement.facts["ranks_on_host"].as_object();
    let on_host: Vec<_> = hosts.expect("a map").values().collect();
    assert_eq!(on_host, [&json!(format!("0-{}", ranks - 1))]);
}

fn sizes(report: &Report) -> Vec<u64> {
    let cases = report.cases.iter();
    cases.map(|case| param(case, "size_bytes")).collect()
}

#[test]
fn latency_sweeps_from_zero_bytes() {
    let args = "latency -m 0:16K -i 50:20 -x 5 --json";
    let output = run(2, &args.split(' ').collect::<Vec<_>>());
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(report.hosts.len(), 1);
    assert_eq!(sizes(&report)[..4], [0, 1, 2, 4]);
    assert_eq!(sizes(&report).last(), Some(&16_384));
    for case in &report.cases {
        check_case(case, "latency_ns");
        let large = param(case, "size_bytes") > 8192;
        assert_eq!(param(case, "iterations"), if large { 20 } else { 50 });
        let metrics = &measured(case).metrics;
        let osu = metrics
            .iter()
            .filter(|m| m.compat.as_deref() == Some("OSU"));
        assert_eq!(osu.count(), 1, "OSU prints one mean");
    }
}

#[test]
fn bandwidth_counts_every_message_of_every_window() {
    let args = "bw -m 1K:64K -i 10:5 -x 1 -W 7 --json";
    let output = run(2, &args.split(' ').collect::<Vec<_>>());
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0));
    for case in &report.cases {
        check_case(case, "window_ns");
        let (measurement, size) = (measured(case), param(case, "size_bytes"));
        let messages = param(case, "iterations") * 7;
        assert_eq!(measurement.work.known().expect("known").ops, messages);
        assert_eq!(
            measurement.work.known().expect("known").bytes,
            messages * size
        );
        let rate = |name| measurement.metric(name, Aggregation::Total);
        let value = |name| rate(name).and_then(|metric| metric.value.known().copied());
        let bandwidth = value("bandwidth_bytes_per_s").expect("there is one");
        let messages_per_s = value("messages_per_s").expect("there is one");
        assert!((bandwidth / messages_per_s / size as f64 - 1.0).abs() < 1e-9);
    }
}

#[test]
fn further_ranks_wait_while_two_measure() {
    let args = ["latency", "-m", "8:8", "-i", "20", "-x", "2", "--json"];
    let report = report(&run(3, &args));
    check_case(&report.cases[0], "latency_ns");
    assert_eq!(param(&report.cases[0], "ranks"), 3);
}

#[test]
fn collectives_run_on_odd_and_even_worlds() {
    for (ranks, args) in [
        (2, "allreduce -m 4:64K -i 20:10 -x 2 --json"),
        (3, "allreduce -m 4:64 -i 10 -x 2 --json"),
        (3, "barrier -i 10 -x 2 --json"),
        (4, "barrier -i 10 -x 2 --json"),
    ] {
        let output = run(ranks, &args.split(' ').collect::<Vec<_>>());
        let report = report(&output);
        assert_eq!(output.status.code(), Some(0), "{args}");
        for case in &report.cases {
            check_case(case, "collective_ns");
            let measurement = measured(case);
            let slowest = &measurement.facts["most_often_slowest"];
            let rank = slowest["rank"].as_u64().expect("a rank");
            assert!(rank < ranks as u64);
            assert_eq!(
                slowest["host"].as_str(),
                Some(report.hosts[0].name.as_str())
            );
            let osu = |aggregation| {
                let mut metrics = measurement.metrics.iter();
                let metric = metrics.find(|m| m.compat.is_some() && m.aggregation == aggregation);
                *metric.and_then(|m| m.value.known()).expect("OSU has it")
            };
            let (min, mean) = (osu(Aggregation::Min), osu(Aggregation::Mean));
            assert!(min <= mean && mean <= osu(Aggregation::Max));
            let ours = measurement.metric("collective_ns", Aggregation::Mean);
            let ours = ours.and_then(|m| m.value.known()).expect("we have it");
            assert!(*ours >= osu(Aggregation::Max) * 0.999, "a mean of maxima");
        }
    }
}

#[test]
fn more_ranks_than_cpus_are_flagged() {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the kernel says");
    let cpu = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu) == Ok(true));
    let cpu = cpu.expect("one at least").to_string();
    let args = ["barrier", "-i", "1", "-x", "0", "--json"];
    let pinned = output(mpirun(2).args(["taskset", "-c", &cpu, PROGRAM]).args(args));
    let report = report(&pinned);
    let flags = &measured(&report.cases[0]).validity.flags;
    let flag = flags.iter().find(|flag| flag.code == "oversubscribed");
    let evidence = &flag.expect("two ranks share a CPU").evidence;
    assert!(
        evidence.starts_with("2 ranks share 1 CPUs on "),
        "{evidence}"
    );
}

#[test]
fn without_a_launcher_every_kernel_is_skipped_with_the_command_to_use() {
    for row in kernels::all().filter(|row| row.min_ranks > 1) {
        let output = Command::new(PROGRAM)
            .args([row.name, "--json"])
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(3), "{}", row.name);
        let report = report(&output);
        let Outcome::Skipped { reason } = &report.cases[0].outcome else {
            panic!("{} ran with one rank", row.name);
        };
        let command = format!("mpirun -n {} mpi-kernels {}", row.min_ranks, row.name);
        assert!(reason.contains(&command), "{reason}");
    }
    let output = run(1, &["latency"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stdout(&output).contains("latency needs 2 ranks, there is 1"));
}
