//! `reports compare` as its user runs it: files, groups, exit codes.

use reports::model::{
    self, Aggregation, Benchmark, Case, Direction, Measurement, Metric, Outcome, Unit, Validity,
    Work,
};
use reports::program::{Session, now};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn compare(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir)
        .arg("compare")
        .args(args)
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

/// A folder of runs, each with one bandwidth.
fn write_runs(folder: &Path, count: u32, bandwidth: f64) {
    for run in 0..count {
        let value = bandwidth * (1.0 + 0.001 * f64::from(run));
        let metric = Metric::new(
            "bandwidth_bytes_per_s",
            Aggregation::Total,
            Unit::BytesPerSecond,
            Direction::HigherIsBetter,
            value,
            1,
        );
        let measurement = Measurement {
            elapsed_s: 1.0.into(),
            work: Work::op(1).into(),
            verified: "1 message was counted".to_owned(),
            metrics: vec![metric.headline()],
            facts: serde_json::Map::new(),
            histograms: Vec::new(),
            intervals: Vec::new(),
            matrices: Vec::new(),
            counters: Vec::new(),
            validity: Validity::default(),
        };
        let case = Case {
            benchmark: Benchmark::new("fake/stream", "a fixture", serde_json::Map::new()),
            outcome: Outcome::Measured(Box::new(measurement)),
        };
        let report = Session::stand_in("fake", now()).finish(vec![case]);
        let path = folder.join(format!("{run}.json"));
        model::write(&path, &model::to_json(&report)).expect("writable");
    }
}

#[test]
fn every_exit_code_is_reached_and_the_text_says_why() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write_runs(&dir.join("old"), 6, 1e9);
    write_runs(&dir.join("new"), 6, 0.9e9);
    write_runs(&dir.join("few"), 3, 1e9);
    let (code, out, err) = compare(dir, &["old", "new"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("worse") && out.contains("0.900"), "{out}");
    assert_eq!(compare(dir, &["old", "new", "--gate", "3%"]).0, Some(1));
    assert_eq!(compare(dir, &["old", "new", "--gate", "20%"]).0, Some(0));
    let groups = [
        "old/0.json",
        "old/1.json",
        "old/2.json",
        "old/3.json",
        "--",
        "new",
    ];
    assert_eq!(compare(dir, &groups).0, Some(0));
    let (code, out, _) = compare(dir, &["old", "few"]);
    assert!(
        code == Some(4) && out.contains("it takes 4 a side"),
        "{out}"
    );
    let (code, _, err) = compare(dir, &["old", "old"]);
    assert!(code == Some(4) && err.contains("in both A and B"), "{err}");
    fs::write(dir.join("broken.json"), "{").expect("writable");
    let (code, out, err) = compare(dir, &["old", "--", "new", "broken.json"]);
    assert_eq!(code, Some(4));
    assert!(
        err.contains("broken.json") && err.contains("incomplete") && out.contains("worse"),
        "{err}"
    );
    let json = compare(dir, &["old", "new", "--json"]).1;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON and nothing else");
    assert_eq!(json["cases"][0]["metrics"][0]["verdict"], "worse");
}

#[test]
fn gate_files_and_wrong_usage() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let dir = dir.path();
    write_runs(&dir.join("old"), 6, 1e9);
    write_runs(&dir.join("new"), 6, 0.9e9);
    let with_file = |text: &str| {
        fs::write(dir.join("gate.toml"), text).expect("writable");
        compare(dir, &["old", "new", "--gate-file", "gate.toml"])
    };
    let lenient = "default = \"1%\"\n[metrics]\nbandwidth_bytes_per_s = \"50%\"\n";
    assert_eq!(with_file(lenient).0, Some(0));
    assert_eq!(with_file("default = \"1%\"").0, Some(1));
    let (code, _, err) = with_file("default = \"1%\"\n[metrics]\nmisspelt = \"2%\"\n");
    assert!(code == Some(2) && err.contains("misspelt"), "{err}");
    let (code, _, err) = with_file("[metrics]\n");
    assert!(code == Some(2) && err.contains("no default"), "{err}");
    for (args, words) in [
        (&["old"][..], "two paths"),
        (&["old", "new", "old"], "two paths"),
        (&["old", "new", "--gate", "3"], "such as 3%"),
        (&["old", "--", "new", "--gate", "3%"], "before it"),
        (&["old", "new", "--axis", "warp_factor"], "warp_factor"),
        (&["old", "new", "--gate-file", "absent.toml"], "absent.toml"),
    ] {
        let (code, out, err) = compare(dir, args);
        assert!(code == Some(2) && err.contains(words), "{args:?}: {err}");
        assert!(out.is_empty(), "{args:?}");
    }
}
