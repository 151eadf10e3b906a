//! Peers' real outputs, imported: each number against the one that was printed, and everything that
//! is no such output against the error it deserves.

mod edges;
mod fabrics_and_mpi;
mod sockets;
mod storage;

use reports::import::{self, Context};
use reports::model::{self, Case, Measurement, Outcome, Report, Severity};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import")
}

/// Every fixture with its text, in order of names.
fn fixtures() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(folder())
        .expect("the fixtures are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "md"))
        .map(|path| {
            let name = path.file_name().expect("a file").to_string_lossy();
            (name.into_owned(), fs::read_to_string(&path).expect("text"))
        })
        .collect();
    files.sort();
    files
}

fn imported(name: &str) -> Report {
    let text = fs::read_to_string(folder().join(name)).expect("the fixture is there");
    let context = Context {
        source: name.to_owned(),
        ..Context::default()
    };
    let report = import::import(&text, None, &context).expect(name);
    let read = model::parse(&model::to_json(&report), Path::new(name)).expect("a valid report");
    assert_eq!(read, report, "{name} survives being written and read");
    report
}

fn measured(case: &Case) -> &Measurement {
    case.outcome.measurement().expect("measured")
}

fn failure(case: &Case) -> &str {
    match &case.outcome {
        Outcome::Failed { error } => error,
        other => panic!("not failed: {other:?}"),
    }
}

/// The value of a metric by its key: name, aggregation, peer.
fn value(case: &Case, key: &str) -> f64 {
    let metrics = &measured(case).metrics;
    let metric = metrics.iter().find(|metric| metric.key() == key);
    let metric = metric.unwrap_or_else(|| panic!("no {key} in {metrics:#?}"));
    *metric.value.known().unwrap_or_else(|| panic!("{metric:?}"))
}

/// Why a metric has no value.
fn reason<'a>(case: &'a Case, key: &str) -> &'a str {
    let metrics = &measured(case).metrics;
    let metric = metrics
        .iter()
        .find(|metric| metric.key() == key)
        .expect(key);
    metric.value.reason().expect("it has no value")
}

fn values(case: &Case, expected: &[(&str, f64)]) {
    for (key, expected) in expected {
        assert_eq!(value(case, key), *expected, "{key}");
    }
}

fn param(case: &Case, name: &str) -> String {
    case.benchmark.params[name].to_string().replace('"', "")
}

fn flags(case: &Case) -> Vec<(&str, Severity)> {
    let flags = &measured(case).validity.flags;
    flags
        .iter()
        .map(|flag| (flag.code.as_str(), flag.severity))
        .collect()
}

#[test]
fn every_fixture_becomes_a_report_of_the_program_that_printed_it() {
    let all = fixtures();
    assert!(all.len() > 40, "{} fixtures", all.len());
    for (name, _) in &all {
        let report = imported(name);
        let peer = name.split(['-', '.']).next().expect("a name");
        assert_eq!(report.program.name, peer, "{name}");
        assert!(!report.cases.is_empty(), "{name}");
        for case in &report.cases {
            assert!(case.benchmark.id.starts_with(&format!("{peer}/")), "{name}");
        }
    }
}

#[test]
fn what_peers_report_as_failed_failed() {
    let fio = imported("fio-error.json");
    assert!(failure(&fio.cases[0]).contains("error 1 (EPERM: Operation not permitted)"));
    let iperf3 = imported("iperf3-refused.json");
    let error = failure(&iperf3.cases[0]);
    assert_eq!(
        error,
        "iperf3 reports: unable to connect to server: Connection refused"
    );
    let refused = imported("sockperf-refused.txt");
    assert!(failure(&refused.cases[0]).contains("errno=111 Connection refused"));
    let netperf = imported("netperf-refused.txt");
    assert!(failure(&netperf.cases[0]).contains("are you sure there is a netserver"));
    let nothing = imported("sockperf-no-observations.txt");
    assert!(failure(&nothing.cases[0]).contains("No valid observations"));
    let osu = imported("osu-latency-invalid.txt");
    assert!(failure(&osu.cases[0]).contains("\"Fail\""));
    assert!(measured(&osu.cases[1]).verified.contains("Pass"));
    let imb = imported("imb-left-out.txt");
    let skipped = &imb.cases[1].outcome;
    assert!(matches!(skipped, Outcome::Skipped { reason } if reason.contains("out-of-mem")));
}

#[test]
fn the_same_file_is_one_run_and_equal_numbers_of_two_runs_are_two() {
    let text = fs::read_to_string(folder().join("osu-barrier.txt")).expect("there");
    let id = |source: &str| {
        let context = Context {
            source: source.to_owned(),
            ..Context::default()
        };
        import::import(&text, None, &context)
            .expect("it imports")
            .run
            .id
    };
    assert_eq!(id("a.txt"), id("a.txt"));
    assert_ne!(id("a.txt"), id("b.txt"));
    let twice = format!("{text}{text}");
    let report = import::import(&twice, None, &Context::default()).expect("it imports");
    assert_eq!(report.cases.len(), 2);
    assert_ne!(
        report.cases[0].key(),
        report.cases[1].key(),
        "parts of a run are no repetitions"
    );
}
