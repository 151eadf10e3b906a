//! `reports export` and `reports compare --format` as their users run them, read back by programs
//! that others wrote.

use reports::measure::{histogram_record, latency_metrics, new_histogram};
use reports::model::{
    self, Aggregation, Benchmark, Case, Direction, Measurement, Metric, Outcome, Report, Severity,
    Unit, Validity, Work,
};
use reports::program::{Session, now};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Text that means harm in one format or another.
const HARM: &str =
    "=cmd|' /C calc'!A0 `|\\| </testcase><!-- ]]> \"x\" \u{1b}[2J\u{fffe}\n::error::%0A";

/// Runs `reports` outside of any GitHub job.
fn reports(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir)
        .env_remove("GITHUB_STEP_SUMMARY")
        .args(args)
        .output()
        .expect("the program starts")
}

/// What it printed, if it ended well.
fn exported(dir: &Path, args: &[&str]) -> String {
    let output = reports(dir, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it is UTF-8");
    assert!(output.status.success(), "{args:?}: {}", text(output.stderr));
    text(output.stdout)
}

/// A Python that has a module.
fn python(module: &str) -> Option<&'static str> {
    let has = |python: &&str| {
        let import = ["-c", &format!("import {module}")].map(str::to_owned);
        let output = Command::new(python).args(import).output();
        output.is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has)
}

/// Runs a Python program on a text and reads the JSON that it prints.
fn through(python: &str, program: &str, dir: &Path, text: &str) -> Value {
    let file = dir.join("exported");
    fs::write(&file, text).expect("writable");
    let output = Command::new(python)
        .args(["-c", program])
        .arg(&file)
        .output()
        .expect("python starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{text}");
    serde_json::from_slice(&output.stdout).expect("the program prints JSON")
}

fn case(id: &str, size: Option<u64>, outcome: Outcome) -> Case {
    let mut params = serde_json::Map::new();
    if let Some(size) = size {
        params.insert("size_bytes".to_owned(), size.into());
    }
    Case {
        benchmark: Benchmark::new(id, "a fixture", params),
        outcome,
    }
}

fn measured(metrics: Vec<Metric>) -> Measurement {
    Measurement {
        elapsed_s: 1.0.into(),
        work: Work::op(8).into(),
        verified: "1 message was counted".to_owned(),
        metrics,
        facts: serde_json::Map::new(),
        histograms: Vec::new(),
        intervals: Vec::new(),
        matrices: Vec::new(),
        counters: Vec::new(),
        validity: Validity::default(),
    }
}

fn bandwidth(value: f64) -> Metric {
    let (unit, direction) = (Unit::BytesPerSecond, Direction::HigherIsBetter);
    let name = "bandwidth_bytes_per_s";
    Metric::new(name, Aggregation::Total, unit, direction, value, 1).headline()
}

/// A run: a latency with its distribution, two sizes of a bandwidth, one invalid, one skipped, one
/// failed case.
fn report(run: u32, harm: &str) -> Report {
    let mut histogram = new_histogram();
    for sample in 0..2000u64 {
        let value = 10_000 + u64::from(run) + sample * sample % 7919;
        histogram.record(value).expect("in bounds");
    }
    let mut latency = measured(latency_metrics("round_trip_ns", &histogram));
    latency.histograms = vec![histogram_record("round_trip_ns", &histogram)];
    let peers = Metric::new(
        "half_round_trip_ns",
        Aggregation::Mean,
        Unit::Nanoseconds,
        Direction::LowerIsBetter,
        7000.0,
        2000,
    );
    latency
        .metrics
        .push(peers.compat(&format!("sockperf{harm}")));
    let stolen = format!("9 % of the CPU time{harm}");
    latency
        .validity
        .flag(Severity::Degraded, "cpu_steal", stolen);
    let mut invalid = measured(vec![bandwidth(1.0)]);
    let evidence = format!("SIGINT{harm}");
    invalid
        .validity
        .flag(Severity::Invalid, "interrupted", evidence);
    let value = f64::from(run) * 1e6 + 1e9;
    let measured = |value| Outcome::Measured(Box::new(measured(vec![bandwidth(value)])));
    let cases = vec![
        case(
            &format!("test/rr{harm}"),
            None,
            Outcome::Measured(Box::new(latency)),
        ),
        case("test/bw", Some(8), measured(value)),
        case("test/bw", Some(4096), measured(value * 2.0)),
        case(
            "test/interrupted",
            None,
            Outcome::Measured(Box::new(invalid)),
        ),
        case(
            "test/efa",
            None,
            Outcome::Skipped {
                reason: format!("no EFA device{harm}"),
            },
        ),
        case(
            "test/udp",
            None,
            Outcome::Failed {
                error: format!("refused{harm}"),
            },
        ),
    ];
    let mut report = Session::stand_in("test", now()).finish(cases);
    for case in &mut report.cases {
        if let Outcome::Measured(measurement) = &mut case.outcome {
            // What the build and the clock of this machine have to say is not the same everywhere.
            let ours = ["interrupted", "cpu_steal"];
            let validity = std::mem::take(&mut measurement.validity);
            for flag in validity.flags {
                if ours.contains(&flag.code.as_str()) {
                    measurement
                        .validity
                        .flag(flag.severity, &flag.code, flag.evidence);
                }
            }
        }
    }
    report.hosts[0].name = format!("host{harm}");
    report.run.ended = format!("2026-11-24T08:00:{run:02}.5Z");
    report
}

/// A folder with `runs/`, six runs.
fn folder(harm: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for run in 0..6 {
        write(dir.path(), &format!("runs/{run}.json"), &report(run, harm));
    }
    dir
}

fn write(dir: &Path, name: &str, report: &Report) {
    model::write(&dir.join(name), &model::to_json(report)).expect("writable");
}

const READ_CSV: &str = r#"
import csv, json, sys
rows = list(csv.DictReader(open(sys.argv[1], newline="", encoding="utf-8"), strict=True))
print(json.dumps(rows))
"#;

#[test]
fn csv_has_a_row_per_number_and_no_formula() {
    let Some(python) = python("csv") else {
        println!("SKIPPED csv_has_a_row_per_number: no python3 on the PATH");
        return;
    };
    for harm in ["", HARM] {
        let dir = folder(harm);
        let text = exported(dir.path(), &["export", ".", "--format", "csv"]);
        let rows = through(python, READ_CSV, dir.path(), &text);
        let rows = rows.as_array().expect("a list");
        let of = |benchmark: &str| -> Vec<&Value> {
            let of = |row: &&Value| row["benchmark"].as_str() == Some(benchmark);
            rows.iter().filter(of).collect()
        };
        assert_eq!(of("test/bw").len(), 12, "two sizes of six runs");
        assert_eq!(of("test/bw")[0]["param_size_bytes"], "8");
        assert_eq!(of("test/bw")[0]["value"], "1000000000");
        assert_eq!(of("test/interrupted")[0]["outcome"], "invalid");
        assert_eq!(of("test/interrupted")[0]["flags"], "interrupted");
        let failed = of("test/udp")[0];
        assert_eq!(
            (&failed["outcome"], &failed["value"]),
            (&"failed".into(), &"".into())
        );
        assert!(
            failed["reason"]
                .as_str()
                .is_some_and(|why| why.starts_with("refused"))
        );
        let missing = rows.iter().find(|row| row["aggregation"] == "p99.99");
        let reason = missing.and_then(|row| row["reason"].as_str());
        assert_eq!(reason, Some("it takes 10000 samples, there are 2000"));
        assert_eq!(
            text.lines().count(),
            rows.len() + 1,
            "one line a row, whatever the text"
        );

        let text = exported(dir.path(), &["export", ".", "-f", "csv", "--per", "case"]);
        let rows = through(python, READ_CSV, dir.path(), &text);
        let small = &rows
            .as_array()
            .expect("a list")
            .iter()
            .find(|row| row["param_size_bytes"] == "8");
        let small = small.expect("it is there");
        let numbers =
            ["median", "low", "high", "runs", "validity"].map(|name| small[name].as_str());
        let expected = ["1002500000", "1000000000", "1005000000", "6", "valid"];
        assert_eq!(numbers, expected.map(Some));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut formula = report(0, "");
    formula.hosts[0].name = "=1+1".to_owned();
    write(dir.path(), "formula.json", &formula);
    let text = exported(dir.path(), &["export", "formula.json", "-f", "csv"]);
    assert!(
        text.contains(",'=1+1,") && !text.contains(",=1+1"),
        "{text}"
    );
}

const READ_JUNIT: &str = r#"
import json, sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
def read(test):
    outcome = [child for child in test if child.tag in ("failure", "skipped", "error")]
    return {
        "suite": test.get("classname"), "name": test.get("name"),
        "outcome": outcome[0].tag if outcome else "passed",
        "type": outcome[0].get("type") if outcome else None,
        "message": outcome[0].get("message") if outcome else None,
        "properties": {p.get("name"): p.get("value") for p in test.iter("property")},
        "output": test.findtext("system-out"),
    }
print(json.dumps({"root": root.attrib, "tests": [read(test) for test in root.iter("testcase")]}))
"#;

#[test]
fn junit_fails_what_failed_and_skips_what_was_skipped() {
    let Some(python) = python("xml.etree.ElementTree") else {
        println!("SKIPPED junit_fails_what_failed: no python3 on the PATH");
        return;
    };
    for harm in ["", HARM] {
        let dir = folder(harm);
        let text = exported(dir.path(), &["export", ".", "-f", "junit"]);
        let read = through(python, READ_JUNIT, dir.path(), &text);
        let count = |name: &str| read["root"][name].as_str();
        assert_eq!(count("tests"), Some("6"), "{text}");
        assert_eq!(
            (count("failures"), count("skipped")),
            (Some("2"), Some("1"))
        );
        let find = |name: &str| {
            let mut tests = read["tests"].as_array().expect("a list").iter();
            tests
                .find(|test| test["name"] == name)
                .expect("it is there")
                .clone()
        };
        let (invalid, failed, skipped) =
            (find("test/interrupted"), find("test/udp"), find("test/efa"));
        assert_eq!(
            (&invalid["outcome"], &invalid["type"]),
            (&"failure".into(), &"invalid".into())
        );
        let begins = |test: &Value, words: &str| {
            let message = test["message"].as_str().expect("a message");
            assert!(message.starts_with(words), "{message}");
        };
        begins(&invalid, "interrupted (6 runs): SIGINT");
        begins(&failed, "6 runs: refused");
        begins(&skipped, "no EFA device");
        assert_eq!(
            (&failed["outcome"], &skipped["outcome"]),
            (&"failure".into(), &"skipped".into())
        );
        let small = find("test/bw size_bytes=8");
        assert_eq!(small["outcome"], "passed");
        assert_eq!(small["properties"]["bandwidth_bytes_per_s"], "1002500000");
        assert!(
            small["output"]
                .as_str()
                .is_some_and(|text| text.contains("1.00 GB/s"))
        );
    }
}

#[test]
fn markdown_holds_hostile_text_in_code() {
    let dir = folder("");
    let text = exported(dir.path(), &["export", ".", "-f", "markdown"]);
    for expected in [
        "4 cases measured (1 of them invalid), 1 skipped, 1 failed.\n",
        "- **degraded** `test/rr` (6 of 6 runs): `cpu_steal: 9 % of the CPU time`\n",
        "- **failed** `test/udp` (6 runs): `refused`\n",
        "- **skipped** `test/efa` (6 runs): `no EFA device`\n",
        "- **INVALID** `test/interrupted` (6 of 6 runs): `interrupted: SIGINT`\n",
        "\n### `test/bw`\n\n| case | metric | median | 95 % interval over runs | runs |\n",
        "\n| `size_bytes=8` | `bandwidth_bytes_per_s` | 1.00 GB/s | 1.00 GB/s – 1.00 GB/s | 6 |\n",
    ] {
        assert!(
            text.contains(expected),
            "{expected:?} is missing in:\n{text}"
        );
    }
    let dir = folder(HARM);
    let text = exported(dir.path(), &["export", ".", "-f", "markdown", "--all"]);
    let shown = "``=cmd|' /C calc'!A0 `|\\| </testcase>";
    assert!(text.contains(&shown[2..]), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{fffe}'));
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let unescaped = line.replace("\\|", "").matches('|').count();
        assert!([5, 6].contains(&unescaped), "a pipe ends a cell: {line}");
        assert!(!line.contains("\\\\|") && !line.contains("|\\|"), "{line}");
    }
}

#[test]
fn annotations_are_commands_and_nothing_else_is() {
    for harm in ["", HARM] {
        let dir = folder(harm);
        let text = exported(dir.path(), &["export", ".", "-f", "github-annotations"]);
        let begins: Vec<&str> = text
            .lines()
            .map(|line| line.split(' ').next().unwrap_or_default())
            .collect();
        let expected = ["::error", "::error", "::warning", "::notice"];
        assert_eq!(begins, expected, "{text}");
        assert!(
            text.contains("title=failed test/udp (6 runs)::refused"),
            "{text}"
        );
        assert!(text.contains("title=INVALID test/interrupted (6 of 6 runs)::interrupted: SIGINT"));
        for line in text.lines() {
            let title = line
                .split_once("title=")
                .and_then(|(_, rest)| rest.split_once("::"));
            assert!(
                title.is_some_and(|(title, _)| !title.contains([':', ','])),
                "{line}"
            );
        }
    }
}

#[test]
fn a_job_summary_is_appended_to() {
    let dir = folder("");
    let refused = reports(dir.path(), &["export", ".", "-f", "github-summary"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("GITHUB_STEP_SUMMARY is not set"),
        "{errors}"
    );
    let run = |file: &Path| {
        Command::new(env!("CARGO_BIN_EXE_reports"))
            .current_dir(dir.path())
            .env("GITHUB_STEP_SUMMARY", file)
            .args(["export", ".", "-f", "github-summary"])
            .output()
            .expect("the program starts")
    };
    let file = dir.path().join("summary.md");
    fs::write(&file, "earlier\n").expect("writable");
    assert!(run(&file).status.success() && run(&file).status.success());
    let text = fs::read_to_string(&file).expect("readable");
    assert!(text.starts_with("earlier\n## ") && text.matches("### `test/bw`").count() == 2);
    fs::write(&file, vec![b'x'; 1 << 20]).expect("writable");
    let full = run(&file);
    let errors = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(
        full.status.code() == Some(1) && errors.contains("GitHub shows 1048576"),
        "{errors}"
    );
}

/// Bencher's own schema of its format, <https://bencher.dev/bmf.json>.
const BMF_SCHEMA: &str = r#"{
    "$schema": "http://json-schema.org/draft-07/schema", "type": "object",
    "patternProperties": {".+": {"type": "object", "patternProperties": {".+": {
        "type": "object", "required": ["value"],
        "properties": {
            "value": {"type": "number"},
            "lower_value": {"type": "number"},
            "upper_value": {"type": "number"}
        }}}}}
}"#;

#[test]
fn bencher_gets_valid_runs_with_their_bounds() {
    let schema: Value = serde_json::from_str(BMF_SCHEMA).expect("JSON");
    for harm in ["", HARM] {
        let dir = folder(harm);
        let output = reports(dir.path(), &["export", ".", "-f", "bmf"]);
        let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(jsonschema::is_valid(&schema, &value), "{value}");
        let small = &value["test/bw size_bytes=8"]["bandwidth_bytes_per_s"];
        let numbers = ["value", "lower_value", "upper_value"].map(|name| small[name].as_f64());
        assert_eq!(numbers, [1.0025e9, 1e9, 1.005e9].map(Some));
        assert_eq!(
            value.as_object().map(serde_json::Map::len),
            Some(3),
            "{value}"
        );
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("left out: test/interrupted: 6 invalid runs"),
            "{errors}"
        );
    }
}

const READ_OPENMETRICS: &str = r#"
import json, sys
from prometheus_client import samples
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
# Releases before 0.21 compare times field by field: https://github.com/prometheus/client_python/issues/1037
samples.Timestamp.__gt__ = lambda a, b: (a.sec, a.nsec) > (b.sec, b.nsec)
read = {}
for family in parse(open(sys.argv[1], encoding="utf-8").read()):
    rows = [[s.name, s.labels, s.value, float(s.timestamp) if s.timestamp else None] for s in family.samples]
    read[family.name] = {"type": family.type, "unit": family.unit, "samples": rows}
print(json.dumps(read))
"#;

/// The values of a family's samples with a label, in the order of the text.
fn samples(read: &Value, family: &str, name: &str, label: (&str, &str)) -> Vec<f64> {
    let samples = read[family]["samples"].as_array().expect("a family");
    let wanted = |s: &&Value| s[0] == name && s[1][label.0] == label.1;
    samples
        .iter()
        .filter(wanted)
        .filter_map(|s| s[2].as_f64())
        .collect()
}

#[test]
fn prometheus_reads_base_units_histograms_and_times() {
    let Some(python) = python("prometheus_client.openmetrics.parser") else {
        println!(
            "SKIPPED prometheus_reads_base_units: python3 has no prometheus_client (scripts/setup \
             --tests)"
        );
        return;
    };
    for harm in ["", HARM] {
        let dir = folder(harm);
        let text = exported(dir.path(), &["export", ".", "-f", "openmetrics"]);
        let read = through(python, READ_OPENMETRICS, dir.path(), &text);
        let family = "hpc_bench_round_trip_seconds";
        assert_eq!(
            (&read[family]["type"], &read[family]["unit"]),
            (&"gauge".into(), &"seconds".into())
        );
        let median = samples(&read, family, family, ("aggregation", "p50"))[0];
        assert!((1.0e-5..2.0e-5).contains(&median), "{median} s");
        assert_eq!(
            read[family]["samples"][0][3], 1_795_507_205.5,
            "the end of the last run"
        );
        let distribution = "hpc_bench_round_trip_distribution_seconds";
        assert_eq!(read[distribution]["type"], "histogram");
        let count = |suffix: &str, label| {
            samples(
                &read,
                distribution,
                &format!("{distribution}{suffix}"),
                label,
            )
        };
        let metric = ("metric", "round_trip_ns");
        assert_eq!(count("_count", metric), [12_000.0], "six runs of 2000");
        assert_eq!(count("_bucket", ("le", "1e-05")), [0.0]);
        assert_eq!(count("_bucket", ("le", "2e-05")), [12_000.0]);
        let sum = count("_sum", metric)[0];
        assert!((sum / 12_000.0 - median).abs() < 5e-6, "{sum}");
        let runs = |outcome| {
            samples(
                &read,
                "hpc_bench_runs",
                "hpc_bench_runs",
                ("outcome", outcome),
            )
            .iter()
            .sum::<f64>()
        };
        assert_eq!(
            ["measured", "invalid", "skipped", "failed"].map(runs),
            [18.0, 6.0, 6.0, 6.0]
        );
        let bandwidth = "hpc_bench_bandwidth_bytes_per_second";
        assert_eq!(
            samples(
                &read,
                bandwidth,
                bandwidth,
                ("benchmark", "test/interrupted")
            ),
            [0.0; 0]
        );
    }
}

#[test]
fn prometheus_reads_runs_as_points_of_a_series() {
    let Some(python) = python("prometheus_client.openmetrics.parser") else {
        println!(
            "SKIPPED prometheus_reads_runs_as_points: python3 has no prometheus_client \
             (scripts/setup --tests)"
        );
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    for run in 0..6 {
        let mut report = report(run, HARM);
        if let Outcome::Measured(measurement) = &mut report.cases[0].outcome
            && run > 0
        {
            // The parser takes the second point of a histogram for a repetition of the first.
            measurement.histograms.clear();
        }
        write(dir.path(), &format!("{run}.json"), &report);
    }
    let mut same_time = report(5, HARM);
    same_time.cases.truncate(2);
    if let Outcome::Measured(measurement) = &mut same_time.cases[0].outcome {
        measurement.histograms.clear();
    }
    write(dir.path(), "same_time.json", &same_time);
    same_time.run.id = "no-time".to_owned();
    same_time.run.ended = "yesterday".to_owned();
    write(dir.path(), "no_time.json", &same_time);
    let text = exported(
        dir.path(),
        &["export", ".", "-f", "openmetrics", "--per", "run"],
    );
    let read = through(python, READ_OPENMETRICS, dir.path(), &text);
    let family = "hpc_bench_bandwidth_bytes_per_second";
    let of_size = samples(&read, family, family, ("param_size_bytes", "8"));
    assert_eq!(
        of_size.len(),
        8,
        "every run, the same time and no time included"
    );
    assert_eq!(
        of_size[..6],
        [1e9, 1.001e9, 1.002e9, 1.003e9, 1.004e9, 1.005e9]
    );
}

#[test]
fn a_comparison_is_exported_with_its_gate() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    for run in 0..6 {
        write(dir, &format!("old/{run}.json"), &report(run, ""));
        let mut slower = report(run, "");
        if let Outcome::Measured(measurement) = &mut slower.cases[1].outcome {
            measurement.metrics = vec![bandwidth(0.9e9 + f64::from(run) * 1e6)];
        }
        write(dir, &format!("new/{run}.json"), &slower);
    }
    let compared = |format: &str| {
        let output = reports(
            dir,
            &["compare", "old", "new", "--gate", "3%", "-f", format],
        );
        assert_eq!(
            output.status.code(),
            Some(1),
            "the gate fails whatever the format"
        );
        String::from_utf8(output.stdout).expect("it is UTF-8")
    };
    let annotations = compared("github-annotations");
    let regression = "::error title=worse beyond 3%25%3A test/bw size_bytes=8 bandwidth_bytes_per_s::A 1.00 GB/s, B 902 MB/s";
    assert!(annotations.starts_with(regression), "{annotations}");
    assert_eq!(annotations.matches("::error").count(), 1, "{annotations}");
    let markdown = compared("markdown");
    assert!(
        markdown.starts_with("## Comparison: **regression**\n"),
        "{markdown}"
    );
    assert!(markdown.contains("| **worse beyond 3%** |\n"), "{markdown}");
    if let Some(python) = python("csv") {
        let rows = through(python, READ_CSV, dir, &compared("csv"));
        let rows = rows.as_array().expect("a list");
        let failed = rows.iter().filter(|row| row["gate_failed"] == "true");
        assert_eq!(
            failed.map(|row| &row["verdict"]).collect::<Vec<_>>(),
            ["worse"]
        );
        let read = through(python, READ_JUNIT, dir, &compared("junit"));
        assert_eq!(read["root"]["failures"], "1", "{read}");
    }
    let refused = reports(dir, &["compare", "old", "new", "-f", "bmf"]);
    assert_eq!(refused.status.code(), Some(2));
    let file = [
        "compare",
        "old",
        "new",
        "-f",
        "csv",
        "-o",
        "out/compared.csv",
    ];
    assert_eq!(reports(dir, &file).status.code(), Some(0));
    assert!(dir.join("out/compared.csv").is_file());
}

#[test]
fn bad_files_are_named_and_the_others_exported() {
    let dir = folder("");
    fs::write(dir.path().join("runs/broken.json"), "{\"schema\":").expect("writable");
    let hostile = "{\"schema\":{\"name\":\"\u{1b}[2J\",\"version\":1}}";
    fs::write(dir.path().join("runs/foreign.json"), hostile).expect("writable");
    let output = reports(dir.path(), &["export", ".", "-f", "csv"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.contains("broken.json") && errors.contains("foreign.json"),
        "{errors}"
    );
    assert!(!errors.contains('\u{1b}'), "{errors}");
    assert!(output.stdout.len() > 1000, "the good ones are there");
    for (args, code) in [
        (&["export", "runs/broken.json", "-f", "csv"][..], 1),
        (&["export", "absent", "-f", "csv"], 1),
        (&["export", "."], 2),
        (&["export", ".", "-f", "xlsx"], 2),
        (&["export", ".", "-f", "bmf", "--per", "run"], 2),
        (&["export", ".", "-f", "csv", "-o", "/dev/full"], 1),
    ] {
        let output = reports(dir.path(), args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}
