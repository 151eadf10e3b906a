//! `reports trend` as its user runs it: histories that grow, change, and are damaged.

use reports::history::{self, Batch};
use reports::model::{
    self, Aggregation, Benchmark, Case, Direction, Fact, Measurement, Metric, Outcome, Report,
    Unit, Validity, Work,
};
use reports::program::Session;
use reports::stats::random::Random;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

const HISTORY: &str = "bench-history.jsonl";

fn trend(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(dir, args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reports"));
    command.current_dir(dir).arg("trend").args(args);
    command
}

fn html(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reports"));
    let output = command.current_dir(dir).arg("html").args(args).output();
    let output = output.expect("the program starts");
    let page = fs::read_to_string(dir.join("report.html")).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), page, said)
}

/// The reports of one machine: its fingerprint is taken once, because thousands are made here.
struct Machine {
    template: Report,
}

impl Machine {
    fn new() -> Self {
        let session = Session::stand_in("fake", "2026-01-01T00:00:00.000Z".to_owned());
        let mut template = session.finish(Vec::new());
        template.program.commit = "aaaaaaaaaaaa".to_owned().into();
        Self { template }
    }

    /// A run, an hour after the one before it, of one case with a latency per value.
    fn run(&self, number: usize, values: &[f64]) -> Report {
        let mut report = self.template.clone();
        let hours = jiff::SignedDuration::from_hours(number as i64);
        let start: jiff::Timestamp = report.run.started.parse().expect("a time");
        report.run.started = (start + hours).to_string();
        report.run.id = format!("{number:08}-run");
        let metrics = values.iter().enumerate().map(|(index, value)| {
            let name = match index {
                0 => "latency_ns".to_owned(),
                index => format!("latency{index}_ns"),
            };
            let direction = Direction::LowerIsBetter;
            let unit = Unit::Nanoseconds;
            Metric::new(&name, Aggregation::P50, unit, direction, *value, 1000).headline()
        });
        let measurement = Measurement {
            elapsed_s: 1.0.into(),
            work: Fact::Known(Work::op(1)),
            verified: "1 message was counted".to_owned(),
            metrics: metrics.collect(),
            facts: serde_json::Map::new(),
            histograms: Vec::new(),
            intervals: Vec::new(),
            matrices: Vec::new(),
            counters: Vec::new(),
            validity: Validity::default(),
        };
        report.cases = vec![Case {
            benchmark: Benchmark::new("fake/ping", "a fixture", serde_json::Map::new()),
            outcome: Outcome::Measured(Box::new(measurement)),
        }];
        report
    }
}

/// Writes reports of one latency each, the first of number `first`.
fn write_runs(folder: &Path, first: usize, latencies: &[f64], commit: &str) {
    let machine = Machine::new();
    for (index, latency) in latencies.iter().enumerate() {
        let mut report = machine.run(first + index, &[*latency]);
        report.program.commit = commit.to_owned().into();
        write(folder, &report);
    }
}

fn write(folder: &Path, report: &Report) {
    let path = folder.join(format!("{}.json", report.run.id));
    model::write(&path, &model::to_json(report)).expect("writable");
}

fn noisy(seed: u64, level: f64, runs: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..runs)
        .map(|_| level * (0.01 * random.normal()).exp())
        .collect()
}

/// A history of 20 runs of one latency.
fn steady() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    write_runs(
        &dir.path().join("runs"),
        0,
        &noisy(1, 1000.0, 20),
        "aaaaaaaaaaaa",
    );
    let (code, _, err) = trend(dir.path(), &["add", "runs"]);
    assert_eq!(code, Some(0), "{err}");
    dir
}

fn lines(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(HISTORY)).expect("readable");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_step_is_shown_with_its_commit_and_size_as_text_and_json() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write_runs(&dir.join("old"), 0, &noisy(1, 1000.0, 20), "aaaaaaaaaaaa");
    write_runs(&dir.join("new"), 20, &noisy(2, 1100.0, 20), "bbbbbbbbbbbb");
    let (code, out, err) = trend(dir, &["add", "old", "new"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("added 40 results of 40 runs"), "{out}");

    let (code, out, err) = trend(dir, &[]);
    assert_eq!(code, Some(0), "a change is no failure: {err}");
    for part in [
        "fake/ping on",
        "latency_ns p50",
        "40 runs",
        "worse since 2026-01-01 20:00: ratio 1.09",
        "program.commit: aaaaaaaaaaaa → bbbbbbbbbbbb",
        "40 runs, 1 series: 1 change for the worse",
    ] {
        assert!(out.contains(part), "{part:?} is missing:\n{out}");
    }
    let (code, json, _) = trend(dir, &["--json"]);
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let metric = &json["cases"][0]["metrics"][0];
    assert_eq!(metric["changes"][0]["verdict"], "worse");
    assert_eq!(metric["changes"][0]["point"], 20);
    assert_eq!(metric["points"].as_array().map(Vec::len), Some(40));

    let (_, out, _) = trend(dir, &["--since", "2026-01-01T20:00:00Z"]);
    assert!(out.contains("20 runs, 1 series: no change"), "{out}");
}

#[test]
fn lines_keep_within_a_narrow_terminal() {
    let dir = steady();
    let output = command(dir.path(), &[]).env("COLUMNS", "60").output();
    let output = output.expect("the program starts");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("latency_ns"), "{out}");
    for line in out.lines() {
        assert!(line.chars().count() <= 60, "{line:?} in:\n{out}");
    }
}

#[test]
fn a_run_is_added_once_whoever_adds_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    const RUNS: usize = 40;
    write_runs(
        &dir.join("runs"),
        0,
        &noisy(1, 1000.0, RUNS),
        "aaaaaaaaaaaa",
    );
    // Eight writers at once, each with the runs that the next one has too.
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let mine = (0..RUNS).filter(|run| run % 8 == writer || run % 8 == (writer + 1) % 8);
            let mut command = command(dir, &["add"]);
            command.args(mine.map(|run| format!("runs/{run:08}-run.json")));
            command.stdout(Stdio::null()).spawn().expect("it starts")
        })
        .collect();
    for mut writer in writers {
        assert!(writer.wait().expect("it ends").success());
    }
    assert_eq!(
        lines(dir).len(),
        RUNS + 1,
        "one environment, and each run once"
    );
    let (code, out, _) = trend(dir, &["add", "runs"]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("added 0 results of 0 runs") && out.contains("40 were there"),
        "{out}"
    );
    assert_eq!(lines(dir).len(), RUNS + 1);
    assert!(trend(dir, &[]).1.contains("40 runs, 1 series"));
}

#[test]
fn a_writer_that_dies_leaves_a_history_that_the_next_one_mends() {
    let dir = steady();
    let dir = dir.path();
    let path = dir.join(HISTORY);
    let whole = fs::read(&path).expect("readable");
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .expect("lines")
        + 1;
    for at in [
        last + 1,
        last + 5,
        last + 11,
        last + 12,
        (last + whole.len()) / 2,
        whole.len() - 2,
    ] {
        fs::write(&path, &whole[..at]).expect("writable");
        let (code, out, err) = trend(dir, &[]);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("line 21: it is cut off"), "{err}");
        assert!(out.contains("19 runs, 1 series"), "{out}");
        let (code, out, err) = trend(dir, &["add", "runs"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(err.contains("removed line 21"), "{err}");
        assert!(out.contains("added 1 results of 1 run"), "{out}");
        assert_eq!(fs::read(&path).expect("readable"), whole, "cut at {at}");
    }
    // Nothing but the newline is missing: nothing is lost, and the next line starts afresh.
    fs::write(&path, &whole[..whole.len() - 1]).expect("writable");
    assert_eq!(trend(dir, &[]).0, Some(0));
    write_runs(&dir.join("more"), 20, &[1000.0], "aaaaaaaaaaaa");
    assert_eq!(trend(dir, &["add", "more"]).0, Some(0));
    assert!(trend(dir, &[]).1.contains("21 runs, 1 series"));
}

#[test]
fn a_limit_met_half_way_kills_or_fails_and_nothing_is_lost() {
    let dir = steady();
    let dir = dir.path();
    let path = dir.join(HISTORY);
    let whole = fs::read(&path).expect("readable");
    write_runs(
        &dir.join("more"),
        20,
        &noisy(2, 1000.0, 200),
        "aaaaaaaaaaaa",
    );
    let limited = |before: &str| {
        let blocks = whole.len() / 512 + 20;
        let program = env!("CARGO_BIN_EXE_reports");
        let script = format!("{before} ulimit -f {blocks}; exec {program} trend add more");
        let mut command = Command::new("sh");
        command
            .current_dir(dir)
            .args(["-c", &script])
            .output()
            .expect("it starts")
    };
    // The signal is ignored: the write fails, and what was written of it is taken back.
    let output = limited("trap '' XFSZ;");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("cannot write to the history bench-history.jsonl: File too large"),
        "{err}"
    );
    assert_eq!(fs::read(&path).expect("readable"), whole);
    // The signal kills in the middle of the write: some lines are there, the last is cut off.
    let output = limited("");
    assert_eq!(output.status.code(), None, "it is killed");
    let left = fs::read(&path).expect("readable");
    assert!(left.len() > whole.len() && left.starts_with(&whole));
    let (code, _, err) = trend(dir, &[]);
    assert!(code == Some(1) && err.contains("it is cut off"), "{err}");
    assert_eq!(trend(dir, &["add", "more"]).0, Some(0));
    let (code, out, err) = trend(dir, &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("220 runs, 1 series"), "{out}");
}

#[test]
fn lines_that_cannot_be_used_are_named_and_the_others_are_used() {
    let dir = steady();
    let dir = dir.path();
    let mut text = lines(dir);
    text[3] = "rubbish \u{1b}[31m".to_owned();
    text[5] = text[5].replace("\"started\":\"2026", "\"started\":\"the year 2026");
    text[7] = "{\"history\":1,\"remark\":\"neither\"}".to_owned();
    text[9] = "[".repeat(5000);
    text[11] = text[11].replace("\"environment\":\"", "\"environment\":\"dead");
    text[13] = "{\"history\":2,\"anything\":{}}".to_owned();
    let repeated = text[14].clone();
    text.extend([String::new(), repeated]);
    fs::write(dir.join(HISTORY), text.join("\r\n") + "\n").expect("writable");
    let (code, out, err) = trend(dir, &[]);
    assert_eq!(code, Some(1));
    for part in [
        "bench-history.jsonl: line 4: it is no line of a history",
        "line 6: started: \"the year 2026",
        "line 8: it is neither an environment nor a result",
        "line 10:",
        "line 12: no line describes its environment \"dead",
        "line 14: it has version 2",
    ] {
        assert!(err.contains(part), "{part:?} is missing:\n{err}");
    }
    assert!(!err.contains('\u{1b}'), "{err:?}");
    assert!(out.contains("14 runs, 1 series"), "{out}");
    // Which runs a newer build wrote cannot be told, so nothing is added.
    let (code, _, err) = trend(dir, &["add", "runs"]);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("line 14 of bench-history.jsonl has version 2"),
        "{err}"
    );
    // A result without an environment is mended by its report.
    text.remove(13);
    fs::write(dir.join(HISTORY), text.join("\n") + "\n").expect("writable");
    let (code, out, _) = trend(dir, &["add", "runs"]);
    assert_eq!(code, Some(1), "four lines still cannot be used");
    assert!(out.contains("added 5 results of 5 runs"), "{out}");
}

#[test]
fn what_is_no_history_is_neither_read_nor_written_to() {
    let dir = steady();
    let dir = dir.path();
    let refused = |args: &[&str], expected: &str| {
        let (code, out, err) = trend(dir, args);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    };
    fs::write(dir.join("notes.md"), "# Notes\nof mine\n").expect("writable");
    fs::write(dir.join("no-newline"), "{ \"a\": 1 }").expect("writable");
    for file in ["notes.md", "no-newline", "runs/00000000-run.json"] {
        let before = fs::read(dir.join(file)).expect("readable");
        refused(
            &["--history", file],
            "is not a history: line 1: it is no line of a history",
        );
        refused(
            &["add", "runs", "--history", file],
            "is not a history: line 1",
        );
        assert_eq!(fs::read(dir.join(file)).expect("readable"), before);
    }
    refused(
        &["--history", "none.jsonl"],
        "there is no history none.jsonl: `reports trend add",
    );
    refused(&["--history", "runs"], "runs is not a regular file");
    refused(
        &["add", "runs", "--history", "/dev/null"],
        "/dev/null is not a regular file",
    );
    refused(
        &["--case", "fake/pong"],
        "no case is named \"fake/pong\"; near: fake/ping",
    );
    refused(
        &["--metric", "latency"],
        "no metric is named \"latency\"; near: latency_ns p50",
    );
    refused(
        &["--axis", "kernel.colour"],
        "--axis kernel.colour: no run has such a field",
    );
    refused(
        &["--since", "2030-01-01"],
        "no run is from 2030-01-01T00:00:00Z or later",
    );
    refused(&["--since", "yesterday"], "give a day or a moment");
    refused(&["--case", "[a"], "invalid value '[a' for '--case");
    for args in [
        ["--case", "ping"],
        ["--case", "fake/*"],
        ["--metric", "*p50"],
    ] {
        assert_eq!(trend(dir, &args).0, Some(0), "{args:?}");
    }

    fs::write(dir.join("empty.jsonl"), "").expect("writable");
    let (code, _, err) = trend(dir, &["--history", "empty.jsonl"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("empty.jsonl: the history holds no result"),
        "{err}"
    );
    assert_eq!(
        trend(dir, &["add", "runs", "--history", "empty.jsonl"]).0,
        Some(0)
    );
    assert_eq!(trend(dir, &["--history", "empty.jsonl"]).0, Some(0));
}

#[test]
fn reports_that_cannot_be_added_are_named_and_the_others_added() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write_runs(&dir.join("runs"), 0, &[1000.0, 1010.0], "aaaaaaaaaaaa");
    let mut timeless = Machine::new().run(7, &[1000.0]);
    timeless.run.started = "some day".to_owned();
    write(&dir.join("runs"), &timeless);
    fs::write(dir.join("runs/broken.json"), "{\"schema\":").expect("writable");
    let (code, out, err) = trend(dir, &["add", "runs", "missing.json"]);
    assert_eq!(code, Some(1));
    for part in [
        "runs/broken.json is not a report",
        "cannot read missing.json",
        "run \"00000007-run\" is not added: run.started: \"some day\" is not a time",
    ] {
        assert!(err.contains(part), "{part:?} is missing:\n{err}");
    }
    assert!(out.contains("added 2 results of 2 runs"), "{out}");
    assert_eq!(trend(dir, &["add", "missing.json"]).0, Some(1));
    assert_eq!(trend(dir, &["add"]).0, Some(2));
    assert_eq!(
        trend(dir, &["--json", "add", "runs"]).0,
        Some(2),
        "it would be ignored"
    );
}

#[test]
fn hostile_names_reach_no_terminal() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let machine = Machine::new();
    for run in 0..12 {
        let mut report = machine.run(run, &[if run < 6 { 1000.0 } else { 2000.0 } + run as f64]);
        let case = &mut report.cases[0].benchmark;
        *case = Benchmark::new(
            "fake/\u{1b}[2J\u{202e}ping",
            "a fixture",
            serde_json::Map::new(),
        );
        report.hosts[0].name = format!("host\u{7}{}", run / 6);
        report.program.commit = format!("\u{1b}]0;{}", run / 6).into();
        write(&dir.join("runs"), &report);
    }
    assert_eq!(trend(dir, &["add", "runs"]).0, Some(0));
    let (code, out, _) = trend(dir, &[]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains("worse since") && out.contains("program.commit"),
        "{out}"
    );
    assert!(
        out.chars()
            .all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'),
        "{out:?}"
    );
}

#[test]
fn thousands_of_runs_are_shown_in_a_moment() {
    const RUNS: usize = 5000;
    const METRICS: usize = 10;
    let dir = tempfile::tempdir().expect("a folder");
    let machine = Machine::new();
    let mut random = Random::new(1);
    let mut batch = Batch::default();
    for run in 0..RUNS {
        let level = [1000.0, 1050.0, 1000.0][3 * run / RUNS];
        let values: [f64; METRICS] =
            std::array::from_fn(|_| level * (0.03 * random.normal()).exp());
        let mut report = machine.run(run, &values);
        report.program.commit = format!("{:012x}", run / 50).into();
        batch.take(&report).expect("it has a place");
    }
    let path = dir.path().join("bench-history.jsonl");
    let added = history::append(&path, batch).expect("it can be written");
    assert_eq!((added.runs, added.results), (RUNS, RUNS));
    let start = Instant::now();
    let (code, out, err) = trend(dir.path(), &[]);
    let elapsed = start.elapsed();
    println!("{RUNS} runs of {METRICS} metrics: {elapsed:?}");
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains("5000 runs, 10 series: 10 changes for the worse, 10 for the better"),
        "{out}"
    );
}

#[test]
fn a_page_draws_the_course_of_its_cases_over_a_history() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    write_runs(&dir.join("old"), 0, &noisy(1, 1000.0, 20), "aaaaaaaaaaaa");
    write_runs(&dir.join("new"), 20, &noisy(2, 1100.0, 20), "bbbbbbbbbbbb");
    let machine = Machine::new();
    for run in 40..50 {
        let mut report = machine.run(run, &[1100.0 + run as f64]);
        report.program.commit = "bbbbbbbbbbbb".to_owned().into();
        report.hosts[0].kernel.release = "9.9.9".to_owned().into();
        write(&dir.join("kernel"), &report);
    }
    for batch in ["old", "new", "kernel"] {
        let (code, _, err) = trend(dir, &["add", batch]);
        assert_eq!(code, Some(0), "{err}");
    }
    let (code, page, err) = html(dir, &["kernel", "--history", HISTORY]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for part in [
        "id=\"history\"",
        "50 runs, 1 series: 1 change for the worse",
        "10 of 10 are in it",
        ">worse</strong> since 2026-01-01 20:00: ratio 1.09",
        "program.commit: aaaaaaaaaaaa → bbbbbbbbbbbb",
        ">environment changed</strong> 2026-01-02 16:00",
        "kernel.release: ",
        "→ 9.9.9",
        "class=\"ring line c1\"",
    ] {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    // What divides no trend that declares it divides no page's course either.
    let args = ["kernel", "--history", HISTORY, "--axis", "kernel.release"];
    let (code, page, _) = html(dir, &args);
    assert_eq!(code, Some(0));
    assert!(!page.contains(">environment changed<"), "it is under study");
    let (code, page, _) = html(dir, &["kernel"]);
    assert_eq!(code, Some(0));
    assert!(!page.contains("id=\"history\""), "only if it is asked for");
    assert_eq!(html(dir, &["kernel", "--axis", "x"]).0, Some(2));
}

#[test]
fn a_history_that_cannot_be_drawn_is_named_and_no_page_written() {
    let dir = steady();
    let dir = dir.path();
    let newer = "{\"history\":99,\"result\":{\"more\":true}}\n";
    fs::write(dir.join("newer.jsonl"), newer).expect("writable");
    fs::write(dir.join("notes.txt"), "remember the milk\n").expect("writable");
    for (file, code, told) in [
        (
            "none.jsonl",
            2,
            "there is no history none.jsonl: `reports trend add PATHS…",
        ),
        ("runs", 2, "runs is not a regular file"),
        ("notes.txt", 2, "notes.txt is not a history: line 1"),
        (
            "newer.jsonl",
            2,
            "newer.jsonl can be used; line 1: it has version 99",
        ),
        ("/proc/self/mem", 1, "the history /proc/self/mem"),
    ] {
        let (found, page, err) = html(dir, &["runs", "--history", file]);
        assert_eq!(found, Some(code), "{file}: {err}");
        assert!(err.contains(told), "{file}: {err}");
        assert_eq!(page, "", "{file}: nothing is written");
    }
    let args = ["runs", "--history", HISTORY, "--axis", "no.such"];
    let (code, page, err) = html(dir, &args);
    assert_eq!((code, page.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("no run has such a field"), "{err}");
    // A line that is of no use hides no others.
    let whole = fs::read_to_string(dir.join(HISTORY)).expect("readable");
    fs::write(dir.join("mixed.jsonl"), whole + newer).expect("writable");
    let (code, page, err) = html(dir, &["runs", "--history", "mixed.jsonl"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("mixed.jsonl: line 22: it has version 99"),
        "{err}"
    );
    assert!(page.contains("1 line of the history cannot be used"));
    // Of a history without the page's cases the page says so.
    let mut other = Machine::new().run(0, &[1.0]);
    let params = serde_json::Map::new();
    other.cases[0].benchmark = Benchmark::new("fake/other", "a fixture", params);
    write(&dir.join("other"), &other);
    fs::write(dir.join("empty.jsonl"), "").expect("writable");
    for file in [HISTORY, "empty.jsonl"] {
        let (code, page, err) = html(dir, &["other", "--history", file]);
        assert_eq!(code, Some(0), "{err}");
        assert!(err.contains("holds none of the page's cases"), "{err}");
        assert!(page.contains("holds none of this page's cases"));
    }
}
