//! Searches on devices that are formulas: every probe's measurement follows from its rate.

use super::*;
use crate::spec::{self, Arrival};
use reports::measure::{histogram_record, new_histogram};
use reports::model::{Validity, Work};

/// A device that serves so many operations per second, and answers in `base_ns` when idle.
#[derive(Clone, Copy)]
struct Device {
    most_iops: f64,
    base_ns: f64,
    /// Whether it queues: then the response time grows as that of a queue with one server.
    queues: bool,
}

impl Device {
    /// What a run of a specification measures: every response takes the same time.
    fn run(&self, spec: &Spec) -> Measurement {
        let alone = 1e9 / self.base_ns;
        let offered = spec.pace.rate_iops;
        let (iops, busy) = match offered {
            Some(rate) => (rate.min(self.most_iops), rate / self.most_iops),
            None if spec.iodepth == 1 => (alone.min(self.most_iops), 0.0),
            None => (self.most_iops, 0.99),
        };
        let ns = match self.queues {
            true => self.base_ns / (1.0 - busy).max(1e-3),
            false => self.base_ns,
        };
        let ops = (iops * spec.window_s()) as u64;
        let mut histogram = new_histogram();
        histogram.record_n(ns as u64, ops).expect("in bounds");
        let mut validity = Validity::default();
        if offered.is_some_and(|rate| rate * 0.98 > self.most_iops) {
            validity.flag(Severity::Degraded, "overload", "a formula says so");
        }
        let higher = Direction::HigherIsBetter;
        let metric = Metric::new(
            "iops",
            Aggregation::Total,
            Unit::PerSecond,
            higher,
            iops,
            ops,
        );
        Measurement {
            elapsed_s: spec.window_s().into(),
            work: Work { ops, bytes: 0 }.into(),
            verified: "nothing".to_owned(),
            metrics: vec![metric],
            histograms: vec![histogram_record("any", &histogram)],
            intervals: Vec::new(),
            matrices: Vec::new(),
            counters: Vec::new(),
            facts: Map::new(),
            validity,
        }
    }
}

/// The measurement that a search ends with, and the specifications that it ran.
fn search(device: Device, goal: &str, runtime_s: f64) -> (Measurement, Vec<Spec>) {
    let goal = crate::spec::latency_target(goal).expect("a target");
    let spec = Spec {
        iodepth: 32,
        numjobs: 2,
        number_ios: None,
        runtime_s: Some(runtime_s),
        pace: PaceSpec {
            arrival: Some(Arrival::Poisson),
            latency_target: Some(goal),
            ..PaceSpec::default()
        },
        ..spec::example()
    };
    let mut ran = Vec::new();
    let found = highest_rate(&spec, goal, &mut |spec| {
        ran.push(spec.clone());
        Ok(device.run(spec))
    });
    (found.expect("formulas do not fail"), ran)
}

fn at_target(measurement: &Measurement) -> Option<f64> {
    let metric = &measurement.metrics[0];
    assert!(metric.name == "iops_at_target" && metric.headline);
    metric.value.known().copied()
}

fn codes(measurement: &Measurement) -> Vec<&str> {
    let flags = measurement.validity.flags.iter();
    flags.map(|flag| flag.code.as_str()).collect()
}

fn outcome(measurement: &Measurement) -> &str {
    measurement.facts[OBSERVED]["search"]
        .as_str()
        .expect("a sentence")
}

const DISK: Device = Device {
    most_iops: 10_000.0,
    base_ns: 100_000.0,
    queues: true,
};

#[test]
fn the_rate_is_found_within_two_percent() {
    // 100 µs / (1 − r / 10 k/s) is 400 µs at 7500 per second.
    let (found, ran) = search(DISK, "400us@p99", 10.0);
    let rate = at_target(&found).expect("it can be reached");
    assert!(rate <= 7500.0 && rate > 7500.0 / 1.021, "{rate}");
    assert_eq!(codes(&found), [""; 0]);
    assert!(
        outcome(&found).contains("400us@p99 is kept up to"),
        "{}",
        outcome(&found)
    );
    // The measurement is the one of that rate.
    assert!(
        found
            .metric("iops", Aggregation::Total)
            .expect("there")
            .value
            .known()
            == Some(&rate)
    );
    assert!(ran.len() < 12, "{} probes", ran.len());
    assert_eq!(
        (ran[0].iodepth, ran[0].numjobs, ran[0].offered_iops()),
        (1, 1, None)
    );
    assert_eq!(
        (ran[1].iodepth, ran[1].numjobs, ran[1].offered_iops()),
        (32, 2, None)
    );
    assert!(ran[2..].iter().all(|spec| spec.offered_iops().is_some()));
    assert!(ran.iter().all(|spec| spec.pace.latency_target.is_none()));
    let probes = found.facts[OBSERVED]["search_probes"]
        .as_array()
        .expect("a list");
    assert_eq!(probes.len(), ran.len());
    let offered: Vec<f64> = probes
        .iter()
        .filter_map(|probe| probe["offered_iops"].as_f64())
        .collect();
    assert!(
        offered.len() == ran.len() - 2 && offered.is_sorted(),
        "{offered:?}"
    );
}

#[test]
fn a_target_out_of_reach_is_said_after_one_probe() {
    let (found, ran) = search(DISK, "50us@p99", 10.0);
    assert_eq!(ran.len(), 1);
    assert_eq!(at_target(&found), None);
    assert_eq!(codes(&found), ["target_unreachable"]);
    let why = found.metrics[0].value.reason().expect("a reason");
    assert!(
        why.contains("out of reach") && why.contains("100 µs"),
        "{why}"
    );
}

#[test]
fn a_target_that_is_never_missed_leaves_the_closed_loops_rate() {
    let device = Device {
        queues: false,
        ..DISK
    };
    let (found, _) = search(device, "1ms@p99", 10.0);
    let rate = at_target(&found).expect("it is kept");
    assert!((9_800.0..=10_210.0).contains(&rate), "{rate}");
    assert!(
        outcome(&found).contains("never missed"),
        "{}",
        outcome(&found)
    );
}

#[test]
fn probes_are_long_enough_for_their_percentile() {
    let slow = Device {
        most_iops: 500.0,
        base_ns: 2e6,
        queues: true,
    };
    let (found, ran) = search(slow, "5ms@p99", 1.0);
    let rate = at_target(&found).expect("it can be reached");
    assert!((294.0..=300.0).contains(&rate), "{rate}");
    for spec in &ran[2..] {
        let samples = spec.offered_iops().expect("open") * spec.window_s();
        assert!((999.0..1100.0).contains(&samples), "{samples}");
    }
}

#[test]
fn what_cannot_be_decided_is_said() {
    let slow = Device {
        most_iops: 500.0,
        base_ns: 2e6,
        queues: true,
    };
    // p99.99 wants 100,000 samples, and 500 per second give 5000 in the ten seconds at most.
    let (found, ran) = search(slow, "5ms@p99.99", 1.0);
    assert_eq!((at_target(&found), ran.len()), (None, 2));
    assert_eq!(codes(&found), ["target_undecided"]);
    let why = found.metrics[0].value.reason().expect("a reason");
    assert!(why.contains("make --runtime longer"), "{why}");

    // One operation alone keeps it by a hair, and no queue does.
    let (found, _) = search(DISK, "100.1us@p99", 1.0);
    assert_eq!(codes(&found), ["target_undecided"]);
    let why = found.metrics[0].value.reason().expect("a reason");
    assert!(why.contains("no rate down to"), "{why}");
}

#[test]
fn a_miss_that_may_be_this_programs_is_tried_once_more() {
    let goal = crate::spec::latency_target("400us@p99").expect("a target");
    let spec = Spec {
        iodepth: 32,
        number_ios: None,
        runtime_s: Some(10.0),
        ..spec::example()
    };
    let mut offered = Vec::new();
    let found = highest_rate(&spec, goal, &mut |spec| {
        let rate = spec.offered_iops();
        let again = offered.last() == Some(&rate);
        offered.push(rate);
        let idle = Device {
            most_iops: 1e5,
            ..DISK
        };
        // At its first try every rate looks too high.
        let mut measurement = match rate.is_none() || again {
            true => DISK.run(spec),
            false => idle.run(&Spec {
                pace: PaceSpec::default(),
                ..spec.clone()
            }),
        };
        if rate.is_some() && !again {
            measurement
                .validity
                .flag(Severity::Degraded, "late_generator", "starved");
        }
        Ok(measurement)
    });
    let rate = at_target(&found.expect("formulas do not fail")).expect("it is reached");
    assert!(rate <= 7500.0 && rate > 7500.0 / 1.021, "{rate}");
    assert!(
        offered[2..].chunks(2).all(|pair| pair[0] == pair[1]),
        "{offered:?}"
    );
}

#[test]
fn errors_of_a_run_are_those_of_the_search() {
    let goal = crate::spec::latency_target("1ms@p99").expect("a target");
    let found = highest_rate(&spec::example(), goal, &mut |_| {
        anyhow::bail!("the disk is gone")
    });
    assert_eq!(
        found.expect_err("it failed").to_string(),
        "the disk is gone"
    );
}
