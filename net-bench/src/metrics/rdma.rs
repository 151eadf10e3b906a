//! The numbers of tests over RDMA devices.

use super::{add_flags, bandwidth, cpu, intervals};
use crate::control::message::Leg;
use crate::observe::report::report_device;
use crate::rdma::conduct::Finished;
use crate::rdma::proof::{Proof, Verdict};
use crate::rdma::test::{Measure, Mode, Operation, RdmaTest};
use anyhow::Context;
use reports::measure::{Histogram, histogram_record, latency_metrics, new_histogram, percentile};
use reports::model::{Aggregation, Direction as Better, Fact, Interval, Measurement, Metric, Unit};
use serde_json::{Map, Value};

/// The numbers of a test over an RDMA device.
///
/// # Errors
/// The two sides do not agree on what was moved.
pub fn rdma(test: &RdmaTest, finished: &Finished) -> anyhow::Result<Measurement> {
    let (part, ours, theirs) = (&finished.part, &finished.part.leg, &finished.leg);
    compare_posts(test, ours, theirs)?;
    let remote = finished.host.is_some();
    let mut measurement = Measurement {
        elapsed_s: part.totals.elapsed_s.into(),
        work: part.totals.work.into(),
        verified: format!(
            "client: {}; server: {}; both sides agree on what was posted and what arrived",
            ours.verified, theirs.verified
        ),
        metrics: Vec::new(),
        facts: facts(ours),
        histograms: Vec::new(),
        intervals: part.totals.intervals.clone(),
        matrices: Vec::new(),
        counters: part.totals.counters.clone(),
        validity: part.totals.validity.clone(),
    };
    let mut words = Vec::new();
    if test.measure == Measure::Latency {
        latency(test, &part.totals.latencies, &mut measurement);
        let rate = ours.work.ops as f64 / ours.elapsed_s;
        measurement
            .metrics
            .push(rate_of("operations_per_s", rate, ours.work.ops));
    } else {
        words.extend(throughput(test, ours, theirs, &mut measurement));
    }
    measurement
        .metrics
        .extend([cpu("client_cpu_s", ours), cpu("server_cpu_s", theirs)]);
    for (who, leg) in [("client", ours), ("server", theirs)] {
        let way = leg.way.as_ref().context("a side did not tell of its way")?;
        words.push((format!("{who}_path"), path(&way.proof)));
    }
    add_flags(&mut measurement.validity, std::slice::from_ref(ours), false);
    add_flags(
        &mut measurement.validity,
        std::slice::from_ref(theirs),
        remote,
    );
    report_device(&mut measurement, (ours, theirs), remote, words);
    Ok(measurement)
}

/// Proves that what one side posted arrived at the other, as far as it leaves a trace there.
fn compare_posts(test: &RdmaTest, ours: &Leg, theirs: &Leg) -> anyhow::Result<()> {
    let told = "a side did not tell of its way";
    let (client, server) = (ours.way.as_ref(), theirs.way.as_ref());
    let (client, server) = (client.context(told)?, server.context(told)?);
    let lossy = ours.datagrams.is_some();
    let leaves_trace = test.operation.receives() || test.measure == Measure::Latency;
    if test.operation.fetches() || !leaves_trace {
        return Ok(());
    }
    for (who, sender, receiver) in [("client", client, server), ("server", server, client)] {
        let (posted, received) = (&sender.posted, &receiver.received);
        let fits = |(posted, received): (&u64, &u64)| match lossy {
            true => received <= posted,
            false => received == posted,
        };
        anyhow::ensure!(
            posted.len() == received.len() && posted.iter().zip(received).all(fits),
            "the {who} posted {posted:?} operations by lane, and the other side received {received:?}"
        );
    }
    Ok(())
}

/// Which way it was, and how that is known.
fn path(proof: &Proof) -> String {
    let by = |evidence: &[String]| evidence.join("; ");
    match &proof.verdict {
        Verdict::Proved { evidence } => format!("proved: {}", by(evidence)),
        Verdict::Contradicted { evidence } => format!("contradicted: {}", by(evidence)),
        Verdict::Unproven { reason } => format!("unproven: {reason}"),
    }
}

/// What is used, for comparisons. What only names this host and this run is with the
/// observations.
fn facts(ours: &Leg) -> Map<String, Value> {
    let names = [
        "address",
        "gid",
        "gid_index",
        "lid",
        "qp_numbers",
        "firmware",
    ];
    let used = ours.way.iter().flat_map(|way| &way.facts.used);
    let used = used
        .filter(|(name, _)| !names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()));
    Map::from_iter([("used".to_owned(), Value::Object(used.collect()))])
}

fn rate_of(name: &str, per_s: f64, n: u64) -> Metric {
    let (unit, better) = (Unit::PerSecond, Better::HigherIsBetter);
    Metric::new(name, Aggregation::Total, unit, better, per_s, n)
}

/// Distributions: of what goes there and comes back half of the time as well, as peers have it.
fn latency(test: &RdmaTest, latencies: &Histogram<u64>, measurement: &mut Measurement) {
    if test.operation.fetches() {
        let name = "latency_ns";
        measurement.metrics.extend(latency_metrics(name, latencies));
        measurement
            .metrics
            .extend(perftest(test, name, 1.0, latencies));
        measurement
            .histograms
            .push(histogram_record(name, latencies));
        return;
    }
    let whole = "round_trip_ns";
    let half = "half_round_trip_ns";
    let halved = latency_metrics(half, latencies).into_iter();
    measurement.metrics.extend(halved.map(|metric| Metric {
        value: metric.value.clone().map(|ns| ns / 2.0),
        ..metric
    }));
    measurement
        .metrics
        .extend(perftest(test, half, 2.0, latencies));
    let whole_metrics = latency_metrics(whole, latencies).into_iter();
    measurement
        .metrics
        .extend(whole_metrics.map(|metric| Metric {
            headline: false,
            ..metric
        }));
    measurement
        .histograms
        .push(histogram_record(whole, latencies));
}

/// perftest's columns: without the two largest samples, and with deviations cut to whole
/// microseconds. Its mean of all samples is what fabtests prints.
fn perftest(test: &RdmaTest, name: &str, divisor: f64, latencies: &Histogram<u64>) -> Vec<Metric> {
    if test.mode != Mode::Compat || latencies.len() < 3 {
        return Vec::new();
    }
    let kept = without_largest(latencies, 2);
    let part = |ns: f64| Fact::Known(ns / divisor);
    let mean_us = kept.mean() / divisor / 1e3;
    let squares: f64 = kept
        .iter_recorded()
        .map(|value| {
            let sample_us = value.value_iterated_to() as f64 / divisor / 1e3;
            let deviation = (mean_us - sample_us).trunc();
            deviation * deviation * value.count_at_value() as f64
        })
        .sum();
    let stddev_ns = (squares / kept.len() as f64).sqrt() * 1e3;
    let quantile = |q| percentile(&kept, q).map(|ns: f64| ns / divisor);
    let columns = [
        (Aggregation::Min, part(kept.min() as f64)),
        (Aggregation::Max, part(kept.max() as f64)),
        (Aggregation::P50, quantile(0.5)),
        (Aggregation::Mean, part(kept.mean())),
        (Aggregation::Stddev, Fact::Known(stddev_ns)),
        (Aggregation::P99, quantile(0.99)),
        (Aggregation::P999, quantile(0.999)),
    ];
    let n = kept.len();
    let (unit, better) = (Unit::Nanoseconds, Better::LowerIsBetter);
    let perftest = columns.into_iter().map(|(aggregation, value)| {
        Metric::new(name, aggregation, unit, better, value, n).compat("perftest")
    });
    let mean = Fact::Known(latencies.mean() / divisor);
    let fabtests = Metric::new(name, Aggregation::Mean, unit, better, mean, latencies.len());
    perftest.chain([fabtests.compat("fabtests")]).collect()
}

/// A distribution without its `count` largest values.
fn without_largest(latencies: &Histogram<u64>, count: u64) -> Histogram<u64> {
    let mut kept = new_histogram();
    let mut left = latencies.len().saturating_sub(count);
    for value in latencies.iter_recorded() {
        let taken = value.count_at_value().min(left);
        left -= taken;
        if taken > 0 {
            // Within the bounds of the one it came from, which are the same.
            kept.saturating_record_n(value.value_iterated_to(), taken);
        }
    }
    kept
}

/// Bandwidth and rates; the words are the same in the units that peers print.
fn throughput(
    test: &RdmaTest,
    ours: &Leg,
    theirs: &Leg,
    measurement: &mut Measurement,
) -> Option<(String, String)> {
    let of = |leg: &Leg| leg.work.bytes as f64 / leg.elapsed_s;
    let (posters, main): (Vec<&Leg>, f64) = if test.bidirectional {
        (vec![ours, theirs], of(ours) + of(theirs))
    } else if test.operation.receives() && test.mode == Mode::Fast {
        (vec![theirs], of(theirs))
    } else {
        (vec![ours], of(ours))
    };
    let operations: u64 = posters.iter().map(|leg| leg.work.ops).sum();
    let per_s: f64 = posters
        .iter()
        .map(|leg| leg.work.ops as f64 / leg.elapsed_s)
        .sum();
    let rate = rate_of("operations_per_s", per_s, operations);
    let main_metric = bandwidth("bandwidth_bytes_per_s", main, operations);
    let by_rate = test.measure == Measure::Rate || test.operation.atomic();
    measurement.metrics.extend(if by_rate {
        [rate.headline(), main_metric]
    } else {
        [main_metric.headline(), rate]
    });
    measurement.intervals = intervals(&posters);
    if let Some(least) = least_interval(&measurement.intervals, test.interval_s) {
        let name = "least_interval_bandwidth_bytes_per_s";
        let n = measurement.intervals.len() as u64;
        measurement.metrics.push(bandwidth(name, least, n));
    }
    if test.operation.receives() && !test.bidirectional {
        let (sent, received) = (of(ours), of(theirs));
        measurement.metrics.extend([
            bandwidth("sender_bandwidth_bytes_per_s", sent, ours.work.ops),
            bandwidth("receiver_bandwidth_bytes_per_s", received, theirs.work.ops),
        ]);
    }
    if test.mode == Mode::Compat {
        let ours = of(ours) + if test.bidirectional { of(theirs) } else { 0.0 };
        let column = bandwidth("bandwidth_bytes_per_s", ours, operations).compat("perftest");
        measurement.metrics.push(column);
    }
    measurement.metrics.extend(lost(ours, theirs));
    (test.operation != Operation::FetchAdd && test.operation != Operation::CompareSwap).then(|| {
        let text = format!(
            "{:.2} MB/s = {:.2} MiB/s = {:.3} Gb/s, {:.6} Mmsg/s",
            main / 1e6,
            main / (1 << 20) as f64,
            main * 8.0 / 1e9,
            per_s / 1e6
        );
        ("in_units".to_owned(), text)
    })
}

/// The lowest bandwidth of any whole slice of the window.
fn least_interval(intervals: &[Interval], length_s: f64) -> Option<f64> {
    let whole = intervals
        .iter()
        .filter(|slice| slice.t1_s - slice.t0_s >= 0.9 * length_s);
    whole
        .map(|slice| slice.work.bytes as f64 / (slice.t1_s - slice.t0_s))
        .min_by(f64::total_cmp)
}

/// What of messages that may be lost was, where there are such.
fn lost(ours: &Leg, theirs: &Leg) -> Vec<Metric> {
    let (Some(sent), Some(tally)) = (&ours.datagrams, &theirs.datagrams) else {
        return Vec::new();
    };
    let count = |name: &str, value: u64| {
        let (unit, better) = (Unit::Count, Better::LowerIsBetter);
        Metric::new(
            name,
            Aggregation::Total,
            unit,
            better,
            value as f64,
            sent.sent,
        )
    };
    let lost = sent.sent.saturating_sub(tally.received);
    let share = Metric::new(
        "loss_ratio",
        Aggregation::Total,
        Unit::Ratio,
        Better::LowerIsBetter,
        lost as f64 / sent.sent as f64,
        sent.sent,
    );
    vec![
        share.headline(),
        count("lost_messages", lost),
        count("duplicate_messages", tally.duplicates),
        count("reordered_messages", tally.reordered),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_samples_are_left_out_and_no_others() {
        let mut all = new_histogram();
        for value in [5, 5, 7, 900, 900, 901] {
            all.saturating_record(value);
        }
        let kept = without_largest(&all, 2);
        assert_eq!((kept.len(), kept.max(), kept.min()), (4, 900, 5));
        assert_eq!(without_largest(&all, 9).len(), 0);
    }
}
