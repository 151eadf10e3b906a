//! Small reports for the crate's own tests.

use crate::host::{Cloud, Host};
use crate::measure::{histogram_record, new_histogram};
use crate::model::{
    Aggregation, Benchmark, Case, Direction, Fact, Interval, Measurement, Metric, Outcome, Report,
    Unit, Validity, Work,
};
use crate::program::{Session, this_program};

/// A host that nothing is known about but its name.
pub(crate) fn host() -> Host {
    let mut host = crate::host::fingerprint();
    host.name = "fixture".to_owned();
    host
}

/// A report with a fresh run id and one measured case per name and median latency.
pub(crate) fn report(cases: &[(&str, f64)]) -> Report {
    let cases = cases
        .iter()
        .map(|(name, latency_ns)| case(name, *latency_ns))
        .collect();
    let session = Session::begin("test", 7.into()).expect("handlers can be set");
    let mut report = session.finish_with_hosts(vec![host()], cases);
    report.program = this_program("test");
    report
}

fn case(name: &str, latency_ns: f64) -> Case {
    let params = serde_json::Map::new();
    let mut histogram = new_histogram();
    histogram
        .record_n(latency_ns as u64 + 1, 100)
        .expect("in bounds");
    let value = latency_ns;
    let metric = Metric::new(
        "round_trip_ns",
        Aggregation::P50,
        Unit::Nanoseconds,
        Direction::LowerIsBetter,
        value,
        100,
    );
    let measurement = Measurement {
        elapsed_s: 1.0.into(),
        work: Fact::Known(Work {
            ops: 100,
            bytes: 800,
        }),
        verified: "100 responses matched their requests".to_owned(),
        metrics: vec![metric.headline()],
        facts: serde_json::Map::new(),
        histograms: vec![histogram_record("round_trip_ns", &histogram)],
        intervals: vec![Interval {
            t0_s: 0.0,
            t1_s: 1.0,
            work: Work {
                ops: 100,
                bytes: 800,
            },
            p50_ns: Some(latency_ns),
            p99_ns: None,
            max_ns: None,
            hdr_v2_base64: None,
            flags: Vec::new(),
        }],
        matrices: Vec::new(),
        counters: Vec::new(),
        validity: Validity::default(),
    };
    let benchmark = Benchmark::new(format!("test/{name}"), "a fixture", params);
    Case {
        benchmark,
        outcome: Outcome::Measured(Box::new(measurement)),
    }
}

/// An instance of this id in a zone and a group.
pub(crate) fn cloud(instance_id: Fact<String>) -> Cloud {
    let known = |text: &str| Fact::Known(text.to_owned());
    Cloud {
        provider: "aws".to_owned(),
        instance_type: known("hpc7g.16xlarge"),
        instance_id,
        life_cycle: known("on-demand"),
        availability_zone: known("us-east-1a"),
        az_id: known("use1-az4"),
        region: known("us-east-1"),
        placement_group: known("group-1"),
        partition: Fact::unavailable("404: not in a partition placement group"),
        host_id: Fact::unavailable("404: not on a dedicated host"),
        ami: known("ami-1"),
        interfaces: Fact::Known(Vec::new()),
    }
}

/// The measurement of a case that was measured.
pub(crate) fn measurement_mut(report: &mut Report, case: usize) -> &mut Measurement {
    match &mut report.cases[case].outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("not measured: {other:?}"),
    }
}
