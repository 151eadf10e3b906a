//! The committed JSON Schema, the types, and what programs write must agree.

use reports::case::{Availability, Entry};
use reports::measure::{
    Limit, Observer, Plan, Recorder, Silent, Verified, Workload, histogram_record, latency_metrics,
    rate_metrics, run,
};
use reports::model::{self, Case, Measurement, Report, Work};
use reports::program::Session;
use serde::Serialize;
use std::time::Duration;

const COMMITTED: &str = include_str!("../schema/report-v1.schema.json");

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
