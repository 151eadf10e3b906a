//! Patterns and curves, as users meet them: on real files, bounded by operations.

mod common;

use common::{can_default, flag, folder, is_empty, measured, program, report, run_in, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{Aggregation, Outcome, Report};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// Runs a case in a folder and returns its report.
fn run(dir: &Path, line: &str) -> Report {
    let line = format!("{line} --json");
    let words: Vec<&str> = line.split_whitespace().collect();
    let (code, text, errors) = run_in(dir, &words);
    assert_eq!(code, 0, "{line}: {text}{errors}");
    assert!(is_empty(dir), "{line} left something behind");
    report(&text)
}

#[test]
fn every_pattern_runs_on_every_engine_and_is_verified() {
    let dir = folder();
    let direct = can_default(dir.path());
    let patterns = [
        "--bssplit 4k/50:16k/50",
        "--rw randrw --bssplit 4k/70:8k/30,16k/100",
        "--rw write --bssplit 4k/50:12k/50",
        "--rw randwrite --random-distribution zipf:1.2",
        "--random-distribution pareto:0.1",
        "--rw randwrite --randommap true",
        "--rw read:8k",
        "--rw randwrite:4",
        "--rw randtrimwrite --bssplit 4k/50:8k/50",
        "--rw write --sync dsync",
        "--rw randwrite --sync sync",
        "--rw randrw --numjobs 2 --offset 1m",
    ];
    for engine in ["psync", "uring"] {
        for pattern in patterns {
            let line = format!(
                "file --engine {engine} --direct {direct} --size 1m --number-ios 150 {pattern}"
            );
            let report = run(dir.path(), &line);
            let measurement = measured(&report);
            assert!(
                measurement.work.known().expect("known").ops >= 150,
                "{line}"
            );
            let proof = if pattern.contains("write") || pattern.contains("randrw") {
                "blocks held their last write"
            } else {
                "in full"
            };
            assert!(
                measurement.verified.contains(proof),
                "{}",
                measurement.verified
            );
        }
    }
}

#[test]
fn flushes_have_a_latency_of_their_own() {
    let dir = folder();
    let engines: &[_] = match can_default(dir.path()) {
        true => &[("psync", "--fsync"), ("uring", "--fdatasync")],
        false => &[("psync", "--fsync")],
    };
    for (engine, option) in engines {
        let depth = if *engine == "psync" { 1 } else { 4 };
        let line = format!(
            "file --engine {engine} --direct false --rw randwrite --size 1m --number-ios 200 \
             --iodepth {depth} {option} 10"
        );
        let report = run(dir.path(), &line);
        let measurement = measured(&report);
        let flushes = measurement.metric("sync_lat_ns", Aggregation::P50);
        let count = *flushes.expect("timed").n.known().expect("known");
        let writes = measurement.work.known().expect("known").ops;
        // Some may still be under way when the window ends, but no more than there is depth.
        assert!(
            (writes / 10).abs_diff(count) <= depth,
            "{count} after {writes} writes"
        );
        assert!(
            measurement
                .metric("syncs_per_s", Aggregation::Total)
                .is_some()
        );
        let latencies = measurement
            .metric("lat_ns", Aggregation::P50)
            .expect("timed");
        assert_eq!(latencies.n.known(), Some(&writes), "flushes are no I/Os");
    }
}

#[test]
fn a_part_of_a_file_of_the_users_is_read() {
    let dir = folder();
    std::fs::write(dir.path().join("data"), vec![7; 64 << 10]).expect("a file");
    let common = [
        "file",
        "--engine",
        "psync",
        "--direct",
        "false",
        "--filename",
        "data",
    ];
    let with = |extra: &[&str]| {
        let words = [&common[..], &["--number-ios", "50", "--json"], extra].concat();
        run_in(dir.path(), &words)
    };
    let (code, text, errors) = with(&["--offset", "48k"]);
    assert_eq!(code, 0, "{errors}");
    let found = report(&text);
    let params = &found.cases[0].benchmark.params;
    assert_eq!(
        (&params["size"], &params["offset"]),
        (&16384.into(), &49152.into())
    );
    let part = flag(measured(&found), "part_of_the_file").expect("it is said");
    assert!(
        part.evidence.contains("from byte 49152"),
        "{}",
        part.evidence
    );
    for (extra, expected) in [
        (
            ["--offset", "64k", "--bs", "4k"],
            "nothing is left behind it",
        ),
        (["--offset", "48k", "--size", "32k"], "has 16384 bytes"),
        (["--offset", "6k", "--bs", "4k"], "a multiple of the block"),
    ] {
        let (code, _, errors) = with(&extra);
        assert!(
            code == 2 && errors.contains(expected),
            "{extra:?}: {errors}"
        );
    }
}

#[test]
fn lists_are_a_curve_in_one_report() {
    let dir = folder();
    let line = "file --engine psync --direct false --size 1m --number-ios 100";
    for rw in ["randread", "randwrite"] {
        let curve = run(
            dir.path(),
            &format!("{line} --rw {rw} --bs 4k,6k --numjobs 1,2"),
        );
        let shape = |case: &reports::model::Case| {
            let params = &case.benchmark.params;
            (params["bs"].as_u64(), params["numjobs"].as_u64())
        };
        let shapes: Vec<_> = curve.cases.iter().map(shape).collect();
        let [small, large] = [Some(4096), Some(6144)];
        let [one, two] = [Some(1), Some(2)];
        assert_eq!(
            shapes,
            [(small, one), (small, two), (large, one), (large, two)]
        );
        for case in &curve.cases {
            let Outcome::Measured(measurement) = &case.outcome else {
                panic!("{rw}: {:?}", case.outcome);
            };
            assert!(!measurement.verified.contains("not checked"), "{rw}");
        }
    }
}

#[test]
fn a_curve_over_depth_is_a_table_with_its_knee() {
    let dir = folder();
    let words = "null --iodepth 1,8,64 --bs 4k,64k --number-ios 20000";
    let words: Vec<&str> = words.split_whitespace().collect();
    let (code, text, errors) = run_in(dir.path(), &words);
    assert_eq!(code, 0, "{text}{errors}");
    for part in [
        "iodepth",
        "iops",
        "lat_ns p99",
        "knee",
        "gains 10 % throughput per doubling",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    assert_eq!(
        text.matches("storage-bench/null").count(),
        1,
        "one table:\n{text}"
    );
}

#[test]
fn a_signal_ends_a_curve_and_not_just_its_point() {
    let words = "null --iodepth 1,2,4 --runtime 60 --ramp-time 0 --interval 0.05 --json";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut child = program(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a slice is shown");
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, Signal::SIGINT).expect("the process is there");
    let (code, text, _) = told(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 4, "{text}");
    let report = report(&text);
    assert!(flag(measured(&report), "interrupted").is_some());
    for case in &report.cases[1..] {
        let Outcome::Skipped { reason } = &case.outcome else {
            panic!("{:?}", case.outcome);
        };
        assert!(reason.contains("a signal"), "{reason}");
    }
}
