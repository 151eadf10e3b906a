//! The committed JSON Schema, the types, and what programs write must agree.

use reports::case::{Availability, Entry};
use reports::measure::{
    Limit, Observer, Plan, Recorder, Silent, Verified, Workload, histogram_record, latency_metrics,
    rate_metrics, run,
};
use reports::model::{self, Case, Measurement, Report, ValidityStatus, Work};
use reports::program::Session;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const COMMITTED: &str = include_str!("../schema/report-v2.schema.json");

#[derive(Serialize)]
struct Spec {
    size_bytes: u64,
}

struct Counting;

impl Workload for Counting {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        rec.lap();
        Ok(Work::op(8))
    }
    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        Ok(Verified {
            checks: total.ops,
            what: "operations were counted".to_owned(),
        })
    }
}

fn measure(_: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let plan = Plan {
        threads: 2,
        ramp: Duration::ZERO,
        warmup: Limit::Ops(10),
        run: Limit::Ops(5000),
        interval: Duration::from_millis(10),
        slice_histograms: false,
    };
    let totals = run(&plan, observer, |_| Ok(Box::new(Counting)))?;
    let mut metrics = rate_metrics("operations_per_s", totals.work, totals.elapsed_s);
    metrics.extend(latency_metrics("operation_ns", &totals.latencies));
    Ok(Measurement {
        elapsed_s: totals.elapsed_s.into(),
        work: totals.work.into(),
        verified: totals.verified,
        metrics,
        facts: serde_json::Map::new(),
        histograms: vec![histogram_record("operation_ns", &totals.latencies)],
        intervals: totals.intervals,
        matrices: Vec::new(),
        counters: totals.counters,
        validity: totals.validity,
    })
}

/// One case of each outcome.
fn report() -> Report {
    let measured = Entry {
        name: "count",
        summary: "counts",
        definition: "an operation that does nothing",
        probe: || Availability::Available,
        run: measure,
    };
    let unavailable = Entry {
        name: "absent",
        probe: || Availability::Unavailable {
            reason: "no device".to_owned(),
        },
        ..measured
    };
    let failing: Entry<Spec> = Entry {
        name: "broken",
        run: |_, _| anyhow::bail!("the peer died"),
        ..measured
    };
    let spec = Spec { size_bytes: 8 };
    let session = Session::begin("test", 1.into()).expect("handlers can be set");
    let cases: Vec<Case> = [&measured, &unavailable, &failing]
        .iter()
        .map(|entry| entry.execute("test", &spec, &Silent))
        .collect();
    session.finish(cases)
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    assert_eq!(
        COMMITTED,
        model::json_schema(),
        "regenerate it: reports schema > reports/schema/report-v{}.schema.json",
        model::SCHEMA_VERSION
    );
}

#[test]
fn a_written_report_satisfies_the_schema() {
    let schema = serde_json::from_str(COMMITTED).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("and a schema");
    let mut value = serde_json::to_value(report()).expect("a report serialises");
    let faults: Vec<String> = validator
        .iter_errors(&value)
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");

    value["cases"][0]["outcome"]["metrics"][0]["unit"] = "furlongs".into();
    assert!(!validator.is_valid(&value), "a wrong unit must not pass");
}

#[test]
fn a_report_survives_its_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("report.json");
    let report = report();
    model::write(&path, &model::to_json(&report)).expect("it can be written");
    assert_eq!(model::load(&path).expect("and read"), report);
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("readable").count(),
        1,
        "nothing else is left"
    );
}

/// Written by the last build of version 1, a loopback run.
const VERSION_1: &str = include_str!("../schema/fixtures/report-v1.json");

#[test]
fn version_1_is_read_and_becomes_the_current_version() {
    let frozen = serde_json::from_str(include_str!("../schema/report-v1.schema.json"));
    let frozen = jsonschema::validator_for(&frozen.expect("JSON")).expect("a schema");
    let mut old: Value = serde_json::from_str(VERSION_1).expect("JSON");
    let report = parse(VERSION_1).expect("it is migrated");
    let measured = report.cases[0].outcome.measurement().expect("measured");
    assert_eq!(measured.validity.status, ValidityStatus::Valid);

    let flag = serde_json::json!({"code": "x", "severity": "degraded", "evidence": "seen"});
    old["cases"][0]["outcome"]["validity"]["flags"] = vec![flag].into();
    assert!(frozen.is_valid(&old), "the fixture is of version 1");
    let report = parse(&old.to_string()).expect("it is migrated");
    assert_eq!(report.schema.version, model::SCHEMA_VERSION);
    let measured = report.cases[0].outcome.measurement().expect("measured");
    assert_eq!(measured.validity.status, ValidityStatus::Degraded);
    assert_eq!(
        parse(&model::to_json(&report)).expect("well-formed"),
        report
    );

    let mut broken = old.clone();
    broken["cases"][0]["outcome"]["validity"] = Value::Null;
    let fault = parse(&broken.to_string()).expect_err("no validity");
    assert!(
        fault.contains("cases[0].outcome.validity: missing"),
        "{fault}"
    );
    let mut zero = old;
    zero["schema"]["version"] = 0.into();
    let fault = parse(&zero.to_string()).expect_err("no such version");
    assert!(fault.contains("schema.version: 0"), "{fault}");
}

#[test]
fn unknown_fields_survive_at_every_depth() {
    let mut value = model::to_value(&report());
    let places = [
        "/colour",
        "/run/colour",
        "/hosts/0/colour",
        "/hosts/0/cpu/colour",
        "/cases/0/colour",
        "/cases/0/outcome/colour",
        "/cases/1/outcome/colour",
        "/cases/0/outcome/metrics/0/colour",
        "/cases/0/outcome/validity/colour",
    ];
    for place in places {
        let (parent, key) = place.rsplit_once('/').expect("a path");
        let parent = value.pointer_mut(parent).expect("it is there");
        parent[key] = serde_json::json!({"of": ["the", "future"]});
    }
    // Inside a fact as well, wherever this machine has one that is known.
    if value.pointer("/hosts/0/nics/0").is_some() {
        value["hosts"][0]["nics"][0]["colour"] = "blue".into();
    }
    let read = parse(&value.to_string()).expect("unknown fields are no fault");
    assert!(
        read.unknown
            .paths()
            .contains(&"hosts[0].cpu.colour".to_owned())
    );
    assert_eq!(model::to_value(&read), value);
    assert_eq!(parse(&model::to_json(&read)).expect("again"), read);
}

#[test]
fn faults_are_named_by_their_path() {
    let faulty = |pointer: &str, value: Value| {
        let mut report = model::to_value(&report());
        *report.pointer_mut(pointer).expect(pointer) = value;
        parse(&report.to_string()).expect_err(pointer)
    };
    for (pointer, value, expected) in [
        ("/hosts", 3.into(), "hosts: "),
        ("/hosts/0/name", 3.into(), "hosts[0].name: "),
        (
            "/hosts/0/memory/total_bytes",
            "much".into(),
            "hosts[0].memory.total_bytes: ",
        ),
        (
            "/cases/0/outcome/metrics/0/unit",
            "furlongs".into(),
            "outcome.metrics[0].unit: ",
        ),
        (
            "/cases/0/outcome/metrics/0/value",
            "x".into(),
            "outcome.metrics[0].value: ",
        ),
        (
            "/cases/0/outcome/status",
            "passed".into(),
            "cases[0].outcome.status: ",
        ),
        (
            "/cases/1/outcome/reason",
            Value::Null,
            "cases[1].outcome.reason: ",
        ),
        (
            "/cases/0/outcome/validity/status",
            "invalid".into(),
            "validity.status: Invalid",
        ),
        ("/run/seed", serde_json::json!([1]), "run.seed: "),
    ] {
        let fault = faulty(pointer, value);
        assert!(fault.contains(expected), "{pointer}: {fault}");
    }
    let text = model::to_json(&report()).replacen("\"cases\"", "\"extra\": 1e999, \"cases\"", 1);
    let fault = parse(&text).expect_err("infinity");
    assert!(fault.contains("out of range"), "{fault}");
    let text = model::to_json(&report()) + "{}";
    assert!(parse(&text).expect_err("twice").contains("trailing"));
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let text =
        model::to_json(&report()).replacen("\"cases\"", &format!("\"x\": {deep}, \"cases\""), 1);
    assert!(parse(&text).expect_err("deep").contains("recursion"));
}

fn parse(text: &str) -> Result<Report, String> {
    model::parse(text, Path::new("report.json")).map_err(|error| error.to_string())
}
