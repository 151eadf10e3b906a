//! Runs to draw, for the tests in a browser and for the benchmark of the page.

use reports::measure::{histogram_record, new_histogram};
use reports::model::{
    Aggregation, Benchmark, Case, Direction, Fact, Interval, Matrix, MatrixNode, Measurement,
    Metric, Outcome, Report, Severity, Unit, Validity, Work,
};
use reports::program::{Session, now};
use serde_json::json;

/// One point of a sweep: metrics, a distribution, slices of which one was held back.
fn point(run: u64, size: u64, speed: f64) -> Case {
    let mut histogram = new_histogram();
    for sample in 0..5000 {
        let value = 10_000 + size + run * 50 + sample * sample % 977;
        histogram
            .record((value as f64 / speed) as u64)
            .expect("in bounds");
    }
    let metric = |name: &str, unit, direction, value: f64| {
        Metric::new(name, Aggregation::Total, unit, direction, value, 5000).headline()
    };
    let rate = (size * 1_000_000 + run * 1000) as f64 * speed;
    let intervals = (0..5).map(|index| Interval {
        t0_s: f64::from(index) * 0.1,
        t1_s: f64::from(index + 1) * 0.1,
        work: Work {
            ops: 1000,
            bytes: 1000 * size + run,
        },
        p50_ns: None,
        p99_ns: None,
        max_ns: None,
        hdr_v2_base64: None,
        flags: match (run, index) {
            (2, 3) => vec!["cpu_steal".to_owned()],
            _ => Vec::new(),
        },
    });
    let mut validity = Validity::default();
    if run == 2 {
        validity.flag(Severity::Degraded, "cpu_steal", "9 % of the CPU time");
    }
    let measurement = Measurement {
        elapsed_s: 0.5.into(),
        work: Fact::Known(Work {
            ops: 5000,
            bytes: 5000 * size,
        }),
        verified: "5000 messages matched".to_owned(),
        metrics: vec![
            metric(
                "bandwidth_bytes_per_s",
                Unit::BytesPerSecond,
                Direction::HigherIsBetter,
                rate,
            ),
            metric(
                "latency_ns",
                Unit::Nanoseconds,
                Direction::LowerIsBetter,
                1e4 / speed + run as f64,
            ),
        ],
        facts: serde_json::Map::new(),
        histograms: vec![histogram_record("latency_ns", &histogram)],
        intervals: intervals.collect(),
        matrices: Vec::new(),
        counters: Vec::new(),
        validity,
    };
    let mut params = serde_json::Map::new();
    params.insert("size_bytes".to_owned(), size.into());
    Case {
        benchmark: Benchmark::new("test/bw", "A window of messages of one size.", params),
        outcome: Outcome::Measured(Box::new(measurement)),
    }
}

/// A run of a sweep over three sizes on one host.
pub fn report(run: u64, host: &str, speed: f64) -> Report {
    let cases = [8, 512, 32768].map(|size| point(run, size, speed));
    let mut report = Session::stand_in("test", now()).finish(cases.into());
    host.clone_into(&mut report.hosts[0].name);
    report
}

/// A run of a matrix over hosts in two placement groups; the third host is slow.
pub fn matrix(run: u64, nodes: usize) -> Report {
    let mut case = point(run, 8, 1.0);
    let mut report = Session::stand_in("test", now()).finish(Vec::new());
    let host = report.hosts[0].clone();
    report.hosts = (0..nodes)
        .map(|node| {
            let mut host = host.clone();
            host.name = format!("node-{node}");
            let group = format!("rack-{}", node % 2);
            host.cloud = serde_json::from_value(cloud(&group)).expect("a cloud");
            host
        })
        .collect();
    let pair = |from: usize, to: usize| match (from, to) {
        _ if from == to => None,
        (2, _) | (_, 2) => Some(1e9),
        _ if from % 2 == to % 2 => Some(12e9 + run as f64),
        _ => Some(9e9 + run as f64),
    };
    let Outcome::Measured(measurement) = &mut case.outcome else {
        unreachable!("it was measured");
    };
    measurement.matrices = vec![Matrix {
        name: "bandwidth_bytes_per_s".to_owned(),
        aggregation: Aggregation::Total,
        unit: Unit::BytesPerSecond,
        direction: Direction::HigherIsBetter,
        nodes: (0..nodes)
            .map(|node| MatrixNode {
                name: format!("node-{node}"),
                host: node as u32,
            })
            .collect(),
        values: (0..nodes)
            .map(|from| (0..nodes).map(|to| pair(from, to)).collect())
            .collect(),
    }];
    report.cases = vec![case];
    report
}

fn cloud(group: &str) -> serde_json::Value {
    let unknown = json!({"unavailable": "a fixture"});
    let mut cloud = json!({"provider": "aws", "az_id": "use1-az4", "placement_group": group});
    for field in [
        "instance_type",
        "instance_id",
        "life_cycle",
        "availability_zone",
        "region",
        "partition",
        "host_id",
        "ami",
        "interfaces",
    ] {
        cloud[field] = unknown.clone();
    }
    cloud
}
