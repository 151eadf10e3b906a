//! Many nodes as one cluster: merged, drawn, and judged, as the programs' user does it.

use reports::cluster::merge::Record;
use reports::model::{self, Outcome, Report};
use reports::program::{Session, now};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

fn reports(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reports"))
        .current_dir(dir)
        .args(args)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What one node measured of its disk, under a launcher of so many ranks.
fn storage(host: &str, iops: f64, ranks: u32) -> Report {
    let json = serde_json::json!({
        "benchmark": {"id": "storage-bench/file", "definition": "a fixture", "definition_hash": "",
            "params": {"bs": 4096}},
        "outcome": {"status": "measured", "elapsed_s": 1.0, "work": {"ops": 100, "bytes": 409600},
            "verified": "100 blocks", "validity": {"status": "valid", "flags": []},
            "metrics": [
                {"name": "iops", "aggregation": "total", "unit": "1/s",
                    "direction": "higher_is_better", "value": iops, "n": 100, "headline": true},
                {"name": "lat_ns", "aggregation": "p50", "unit": "ns",
                    "direction": "lower_is_better", "value": 1e9 / iops, "n": 100}]}
    });
    let mut case: model::Case = serde_json::from_value(json).expect("a case");
    case.benchmark = model::Benchmark::new(
        "storage-bench/file",
        "a fixture",
        case.benchmark.params.clone(),
    );
    let mut report = Session::stand_in("storage-bench", now()).finish(vec![case]);
    host.clone_into(&mut report.hosts[0].name);
    report.run.scheduler = model::Fact::Known(model::Scheduler {
        kind: "open-mpi".to_owned(),
        job_id: model::Fact::Known("job-7".to_owned()),
        nodes: model::Fact::Known(ranks),
        ranks: model::Fact::Known(ranks),
    });
    report
}

fn write(folder: &Path, reports: impl IntoIterator<Item = Report>) {
    for (index, report) in reports.into_iter().enumerate() {
        let path = folder.join(format!("{index}.json"));
        model::write(&path, &model::to_json(&report)).expect("writable");
    }
}

/// A folder `all` with the reports of these nodes.
fn folder(rates: &[f64]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let ranks = rates.len() as u32;
    let nodes = rates.iter().enumerate();
    let reports = nodes.map(|(at, iops)| storage(&format!("n{}", at + 1), *iops, ranks));
    write(&dir.path().join("all"), reports);
    dir
}

#[test]
fn a_merged_folder_is_read_by_all_that_read_reports() {
    let dir = folder(&[1000.0, 1010.0, 990.0, 1005.0, 1.0]);
    let merged = reports(dir.path(), &["merge", "all", "all/0.json", "-o", "cluster"]);
    let said = text(&merged.stdout) + &text(&merged.stderr);
    assert_eq!(merged.status.code(), Some(0), "{said}");
    assert!(said.contains("5 reports of 5 nodes in cluster"), "{said}");
    assert!(said.contains("1 reports were given twice"), "{said}");
    let record = Record::load(&dir.path().join("cluster"));
    let record = record.expect("well-formed").expect("there");
    assert_eq!(record.nodes.len(), 5);
    for args in [
        &["show", "cluster"][..],
        &["validate", "cluster"],
        &["compare", "cluster", "all"],
        &["rank", "cluster", "--by", "kernel.release"],
        &["html", "cluster"],
    ] {
        let output = reports(dir.path(), args);
        // Equal runs on both sides compare to nothing, and one group is no ranking.
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 2..=4)),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
    let page = fs::read_to_string(dir.path().join("report.html")).expect("a page");
    for part in [
        "id=\"cluster\"",
        "Outliers",
        "Each node alone",
        "storage rate",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let screened = reports(dir.path(), &["screen", "cluster"]);
    let said = text(&screened.stdout);
    assert_eq!(screened.status.code(), Some(5), "{said}");
    assert!(said.contains("Slow: 1 node\n  n5"), "{said}");
    // Nothing is written over.
    let again = reports(dir.path(), &["merge", "all", "-o", "cluster"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("is there already"));
}

#[test]
fn who_is_missing_is_named_and_nothing_half_is_left() {
    let dir = folder(&[1000.0; 4]);
    fs::remove_file(dir.path().join("all/2.json")).expect("there");
    fs::write(dir.path().join("hosts"), "n1\nn2\nn3\nn4\n").expect("writable");
    let args = ["merge", "all", "--hostfile", "hosts", "-o", "named"];
    let output = reports(dir.path(), &args);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("1 of 4 nodes in no report: n3"));
    let shown = reports(dir.path(), &["show", "named"]);
    assert!(
        text(&shown.stdout).contains("missing_node"),
        "the reports say so too"
    );
    // Without a list, the launcher says how many there were.
    let output = reports(dir.path(), &["merge", "all", "-o", "counted"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stdout).contains("the launcher started 4 nodes"));
    let args = ["screen", "all", "--hostfile", "hosts", "--json"];
    let output = reports(dir.path(), &args);
    let verdicts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verdicts["nodes"][0]["node"], "n3");
    assert_eq!(verdicts["nodes"][0]["status"], "unreachable");
    assert_eq!(output.status.code(), Some(6));
    // What is no report is named, and the rest is merged.
    fs::write(dir.path().join("all/broken.json"), "{").expect("writable");
    let output = reports(dir.path(), &["merge", "all", "--nodes", "3", "-o", "rest"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("broken.json"));
    let entries = fs::read_dir(dir.path()).expect("readable");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_string_lossy().starts_with('.'))
    );
    for (args, told) in [
        (
            &["merge", "all", "--hostfile", "none", "-o", "x"][..],
            "cannot read the host file",
        ),
        (&["merge", "all", "--nodes", "0", "-o", "x"], "0 is not in"),
        (&["screen", "all", "--rules", "hosts"], "holds no rules"),
        (&["screen", "all", "--probe", "ssh x"], "{host}"),
        (&["screen", "all", "--row", "x"], "a folder is judged"),
    ] {
        let output = reports(dir.path(), args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(told), "{args:?}: {said}");
    }
}

/// Reports hold no addresses, so names are looked up: of this machine they are known, of a node in no
/// report they are not, and it is said which address that is.
#[test]
fn a_list_of_addresses_is_matched_with_the_nodes() {
    let own = nix::unistd::gethostname().expect("it has a name");
    let own = own.to_string_lossy().into_owned();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let nodes = [storage(&own, 1000.0, 2), storage("n2", 1000.0, 2)];
    write(&dir.path().join("all"), nodes);
    let hosts = "127.0.0.1 slots=2\nn2\n192.0.2.9:4\n";
    fs::write(dir.path().join("hosts"), hosts).expect("writable");
    let args = ["screen", "all", "--hostfile", "hosts", "--json"];
    let output = reports(dir.path(), &args);
    let verdicts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(6), "{verdicts}");
    let nodes = verdicts["nodes"].as_array().expect("a list");
    let status = |node: &Value| (node["node"].clone(), node["status"] == "unreachable");
    let mut found: Vec<_> = nodes.iter().map(status).collect();
    found.sort_by_key(|(name, _)| name.to_string());
    let mut expected = [(own.as_str(), false), ("n2", false), ("192.0.2.9", true)];
    expected.sort_by_key(|(name, _)| format!("{name:?}"));
    assert_eq!(found, expected.map(|(name, out)| (name.into(), out)));
    let why = "192.0.2.9 is the address of no node in the reports";
    assert!(text(&output.stdout).contains(why), "{verdicts}");

    let args = ["merge", "all", "--hostfile", "hosts", "-o", "cluster"];
    let output = reports(dir.path(), &args);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("1 of 3 nodes in no report: 192.0.2.9 ("),
        "{said}"
    );
    assert!(!said.contains("not on the list"), "{said}");
}

/// A suite with one row whose command writes the given reports where it is asked to.
fn per_node(dir: &Path, reports: impl IntoIterator<Item = Report>) {
    write(&dir.join("made"), reports);
    let suite = "name = \"screen\"\nrepetitions = 1\n[[row]]\nname = \"storage\"\nper_node = true\n\
        command = [\"sh\", \"-c\", 'mkdir \"$2\" && cp made/*.json \"$2\"', \"sh\"]\n\
        [[row]]\nname = \"efa\"\nneeds = \"efa\"\ncommand = [\"false\"]\n";
    fs::write(dir.join("suite.toml"), suite).expect("writable");
    let rules = "[[rule]]\nname = \"storage\"\ncase = \"storage-bench/*\"\nmetric = \"iops\"\n";
    fs::write(dir.join("rules.toml"), rules).expect("writable");
}

#[test]
fn hosts_that_do_not_answer_are_listed_and_nothing_is_run_on_them() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    per_node(dir.path(), []);
    fs::write(dir.path().join("hosts"), "dead-1 slots=2\ndead-2\n").expect("writable");
    let args = [
        "screen",
        "suite.toml",
        "--rules",
        "rules.toml",
        "--hostfile",
        "hosts",
        "--probe",
        "false {host}",
        "--out",
        "out",
        "--json",
    ];
    let output = reports(dir.path(), &args);
    let verdicts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(6), "{verdicts}");
    for (node, name) in [(0, "dead-1"), (1, "dead-2")] {
        assert_eq!(verdicts["nodes"][node]["node"], name);
        assert_eq!(verdicts["nodes"][node]["status"], "unreachable");
    }
    let why = verdicts["nodes"][0]["reasons"][0].as_str();
    assert!(
        why.is_some_and(|why| why.contains("false ended with")),
        "{why:?}"
    );
}

#[test]
fn a_row_keeps_the_report_of_every_node() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let rates = [("n1", 1000.0), ("n2", 1010.0), ("n3", 300.0), ("n4", 990.0)];
    per_node(dir.path(), rates.map(|(host, iops)| storage(host, iops, 4)));
    let args = [
        "screen",
        "suite.toml",
        "--rules",
        "rules.toml",
        "--out",
        "out",
    ];
    let output = reports(dir.path(), &args);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("Slow: 1 node\n  n3"), "{said}");
    assert!(said.contains("no EFA on this machine"), "{said}");
    let (kept, faults) = model::load_all(&[dir.path().join("out")]);
    assert!(faults.is_empty());
    // Four nodes, and what stands for the row that is skipped here.
    assert_eq!(kept.len(), 5);
    let page = fs::read_to_string(dir.path().join("out/report.html")).expect("a page");
    assert!(page.contains("id=\"cluster\""));
    let refused = reports(dir.path(), &args);
    assert_eq!(refused.status.code(), Some(2), "the folder holds a session");
    // A rank without a report makes those of the others invalid.
    fs::remove_file(dir.path().join("made/1.json")).expect("there");
    let output = reports(dir.path(), &["run", "suite.toml", "--out", "short"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let (kept, _) = model::load_all(&[dir.path().join("short")]);
    let flags = kept.iter().flat_map(|report| &report.cases);
    let flags = flags.filter_map(|case| match &case.outcome {
        Outcome::Measured(measurement) => Some(&measurement.validity.flags),
        _ => None,
    });
    let evidence: Vec<_> = flags
        .flatten()
        .filter(|f| f.code == "missing_rank")
        .collect();
    assert_eq!(evidence.len(), 3);
    assert!(evidence[0].evidence.contains("3 of 4 ranks"));
}

#[test]
fn the_page_of_a_cluster_draws_the_nodes_over_a_history() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let nodes: Vec<String> = (1..=6).map(|node| format!("n{node}")).collect();
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    for day in 0..8i64 {
        // The last node is slow from the sixth day on.
        let runs = nodes.iter().enumerate().map(|(at, node)| {
            let slow = at == 5 && day > 4;
            let rate = if slow {
                300.0
            } else {
                1000.0 + (at as f64 * 7.0 + day as f64 * 3.0) % 11.0
            };
            let mut report = storage(node, rate, 6);
            report.run.started = (start + jiff::SignedDuration::from_hours(24 * day)).to_string();
            report
        });
        write(&dir.path().join(format!("day{day}")), runs);
    }
    for day in 0..8 {
        let output = reports(dir.path(), &["trend", "add", &format!("day{day}")]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let args = ["html", "day7", "--history", "bench-history.jsonl"];
    let output = reports(dir.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = fs::read_to_string(dir.path().join("report.html")).expect("a page");
    let section = page
        .split("id=\"history\"")
        .nth(1)
        .and_then(|rest| rest.split("<h2").next());
    let section = section.expect("a section");
    assert_eq!(
        section.matches("<figure").count(),
        1,
        "one chart for all nodes"
    );
    assert_eq!(
        section.matches("class=\"thin").count(),
        6,
        "a line per node"
    );
    assert_eq!(
        section.matches("class=\"line c2\"").count(),
        1,
        "and one told from them"
    );
    for part in ["48 degraded, 6 nodes", ">n6</span>", "6 of 6 are in it"] {
        assert!(section.contains(part), "{part:?} is missing:\n{section}");
    }
}
