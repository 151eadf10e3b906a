//! From what the two sides measured to the numbers of the report.

mod rdma;
mod stream;

pub use rdma::rdma;
pub use stream::stream;

use crate::client::Finished;
use crate::control::message::{Leg, Role};
use crate::observe::report::retransmits;
use crate::test::{Arrival, Direction, Test};
use crate::workload::schedule::Schedule;
use anyhow::Context;
use reports::measure::{
    Histogram, Totals, histogram_record, latency_metrics, percentile, rate_metrics,
};
use reports::model::{
    Aggregation, Direction as Better, Fact, Interval, Measurement, Metric, Severity, Unit,
    Validity, Work,
};
use serde_json::{Map, Value, json};

/// A measurement of operations that one side timed one by one.
fn timed(totals: &Totals, latency: &str, rate: &str) -> Measurement {
    // Bytes per second of tiny messages would only repeat the rate under a misleading name.
    let operations = Work {
        ops: totals.work.ops,
        bytes: 0,
    };
    let mut metrics = latency_metrics(latency, &totals.latencies);
    metrics.extend(rate_metrics(rate, operations, totals.elapsed_s));
    Measurement {
        elapsed_s: totals.elapsed_s.into(),
        work: totals.work.into(),
        verified: totals.verified.clone(),
        metrics,
        facts: Map::new(),
        histograms: vec![histogram_record(latency, &totals.latencies)],
        intervals: totals.intervals.clone(),
        matrices: Vec::new(),
        counters: totals.counters.clone(),
        validity: totals.validity.clone(),
    }
}

fn cpu(name: &str, leg: &Leg) -> Metric {
    Metric::new(
        name,
        Aggregation::Total,
        Unit::Seconds,
        Better::LowerIsBetter,
        leg.cpu_s,
        leg.work.ops,
    )
}

fn bytes(name: &str, value: &Fact<f64>) -> Metric {
    Metric::new(
        name,
        Aggregation::Total,
        Unit::Bytes,
        Better::Neutral,
        value.clone(),
        1,
    )
}

fn bandwidth(name: &str, bytes_per_s: f64, operations: u64) -> Metric {
    Metric::new(
        name,
        Aggregation::Total,
        Unit::BytesPerSecond,
        Better::HigherIsBetter,
        bytes_per_s,
        operations,
    )
}

/// The largest segment, where the transport has segments.
fn segment(prefix: &str, leg: &Leg) -> Option<Metric> {
    let name = format!("{prefix}max_segment_bytes");
    leg.max_segment_bytes
        .as_ref()
        .map(|size| bytes(&name, size))
}

/// What the kernel of a sending side chose by itself, or granted. Not parameters: machines whose
/// defaults differ may still be compared, and then the difference is shown.
fn facts(sender: &Leg) -> Map<String, Value> {
    let mut facts = Map::new();
    if let Some(name) = &sender.congestion_control {
        let chosen = match name {
            Fact::Known(name) => name.as_str().into(),
            Fact::Unavailable { unavailable } => json!({ "unavailable": unavailable }),
        };
        facts.insert("congestion_control".to_owned(), chosen);
    }
    facts
}

/// The numbers of the null case.
#[must_use]
pub fn null(totals: &Totals) -> Measurement {
    timed(totals, "operation_ns", "operations_per_s")
}

/// The numbers of a request-response case, whose distribution is called `latency`.
///
/// # Errors
/// The server did not report its part.
pub fn request_response(
    test: &Test,
    finished: &Finished,
    latency: &str,
) -> anyhow::Result<Measurement> {
    let part = finished
        .parts
        .iter()
        .find(|part| part.role == Role::Request)
        .context("no requester took part")?;
    let responder = leg_of(&finished.legs, Role::Respond)?;
    let requester = part.leg();
    let mut measurement = timed(&part.totals, latency, "transactions_per_s");
    let latencies = &part.totals.latencies;
    if !test.has_door() {
        measurement.metrics.extend(half_round_trips(latencies));
    }
    add_extra(&mut measurement, &part.totals);
    measurement.metrics.extend([
        cpu("client_cpu_s", &requester),
        cpu("server_cpu_s", responder),
    ]);
    measurement.metrics.extend(segment("", &requester));
    measurement.metrics.extend(unanswered(&requester));
    measurement.facts = facts(&requester);
    if let (Some(arrival), Some(kept)) = (&test.arrival, &requester.schedule) {
        open_loop(&mut measurement, arrival, kept, &part.totals);
    }
    measurement.verified = verified(&[&requester, responder]);
    add_flags(
        &mut measurement.validity,
        &finished.legs,
        finished.host.is_some(),
    );
    Ok(measurement)
}

/// Adds the distributions beside the main one.
fn add_extra(measurement: &mut Measurement, totals: &Totals) {
    for (name, histogram) in &totals.extra {
        let metrics = latency_metrics(name, histogram).into_iter();
        measurement.metrics.extend(metrics.map(|metric| Metric {
            headline: false,
            ..metric
        }));
        measurement
            .histograms
            .push(histogram_record(name, histogram));
    }
}

/// The numbers of an incast.
///
/// # Errors
/// A side did not report its part.
pub fn incast(finished: &Finished) -> anyhow::Result<Measurement> {
    let part = finished
        .parts
        .iter()
        .find(|part| part.role == Role::Request)
        .context("no requester took part")?;
    let (client, server) = (part.leg(), leg_of(&finished.legs, Role::Respond)?);
    let totals = &part.totals;
    let goodput = totals.work.bytes as f64 / totals.elapsed_s;
    let mut measurement = timed(totals, "round_ns", "rounds_per_s");
    add_extra(&mut measurement, totals);
    let metric = |name, unit, better, value, n| {
        Metric::new(name, Aggregation::Total, unit, better, value, n)
    };
    measurement.metrics.extend([
        bandwidth("bandwidth_bytes_per_s", goodput, totals.work.ops).headline(),
        metric(
            "fairness_ratio",
            Unit::Ratio,
            Better::HigherIsBetter,
            jain(&part.waits_ns),
            part.waits_ns.len() as u64,
        )
        .headline(),
        // From none to a few is no ratio: it describes and is not judged.
        metric(
            "retransmits",
            Unit::Count,
            Better::Neutral,
            retransmits(server),
            1,
        ),
        cpu("client_cpu_s", &client),
        cpu("server_cpu_s", server),
    ]);
    measurement.metrics.extend(segment("", &client));
    measurement.facts = facts(server);
    measurement.verified = verified(&[&client, server]);
    add_flags(
        &mut measurement.validity,
        &finished.legs,
        finished.host.is_some(),
    );
    Ok(measurement)
}

/// Jain's index of the rates of flows that carried as much as each other in these times: 1 where
/// all were served alike, 1/n where one of n was served alone. (Jain, Chiu and Hawe, DEC-TR-301)
fn jain(waits_ns: &[u64]) -> Fact<f64> {
    if waits_ns.is_empty() || waits_ns.contains(&0) {
        return Fact::unavailable("no round was completed");
    }
    let rates = waits_ns.iter().map(|&wait| 1.0 / wait as f64);
    let (sum, squares) = rates.fold((0.0, 0.0), |(sum, squares), rate| {
        (sum + rate, squares + rate * rate)
    });
    Fact::Known(sum * sum / (waits_ns.len() as f64 * squares))
}

/// Adds what an open loop is judged by: what was offered and what was achieved of it.
fn open_loop(measurement: &mut Measurement, arrival: &Arrival, kept: &Schedule, totals: &Totals) {
    for histogram in &mut measurement.histograms {
        histogram.co_corrected = true;
    }
    let done = totals.work.ops;
    let offered = arrival.rate_per_s * totals.elapsed_s;
    let achieved = done as f64 / offered;
    measurement.metrics.extend(schedule_metrics(
        ("", "unsent_requests"),
        arrival,
        kept,
        (done, achieved),
    ));
    // Chance alone moves the count of a Poisson process by its root; four of them are beyond doubt.
    let tolerance = (4.0 / offered.sqrt()).max(0.01);
    if achieved < 1.0 - tolerance {
        let evidence = format!(
            "{:.1} % of the offered {} requests per second were answered: the latencies are those \
             of a growing queue, and those of the requests that still waited are missing",
            achieved * 100.0,
            arrival.rate_per_s
        );
        measurement
            .validity
            .flag(Severity::Degraded, "saturated", evidence);
    }
}

/// What was offered, what share of it was achieved, and how the schedule was kept.
fn schedule_metrics(
    (prefix, unsent): (&str, &str),
    arrival: &Arrival,
    kept: &Schedule,
    (done, achieved): (u64, f64),
) -> [Metric; 4] {
    let metric = |name, unit, better, value, n| {
        let name = format!("{prefix}{name}");
        Metric::new(&name, Aggregation::Total, unit, better, value, n)
    };
    let (neutral, lower, higher) = (
        Better::Neutral,
        Better::LowerIsBetter,
        Better::HigherIsBetter,
    );
    let rate = arrival.rate_per_s;
    let (missed, left) = (kept.missed as f64, kept.unsent as f64);
    [
        metric("offered_per_s", Unit::PerSecond, neutral, rate, done),
        metric("achieved_ratio", Unit::Ratio, higher, achieved, done).headline(),
        metric("missed_schedules", Unit::Count, lower, missed, kept.sent),
        metric(unsent, Unit::Count, lower, left, kept.sent),
    ]
}

/// Requests without a response, where that is possible.
fn unanswered(requester: &Leg) -> Option<Metric> {
    let tally = requester.datagrams?;
    Some(Metric::new(
        "unanswered_requests",
        Aggregation::Total,
        Unit::Count,
        Better::LowerIsBetter,
        tally.unanswered as f64,
        tally.sent,
    ))
}

/// The same latencies as sockperf prints them: half of each round trip.
fn half_round_trips(latencies: &Histogram<u64>) -> impl Iterator<Item = Metric> {
    let half = |whole: Fact<f64>| whole.map(|ns| ns / 2.0);
    let values = [
        (Aggregation::Mean, Fact::Known(latencies.mean() / 2.0)),
        (Aggregation::P50, half(percentile(latencies, 0.5))),
        (Aggregation::P99, half(percentile(latencies, 0.99))),
        (Aggregation::P999, half(percentile(latencies, 0.999))),
    ];
    let n = latencies.len();
    values.into_iter().map(move |(aggregation, value)| {
        let (unit, better) = (Unit::Nanoseconds, Better::LowerIsBetter);
        Metric::new("half_round_trip_ns", aggregation, unit, better, value, n).compat("sockperf")
    })
}

/// The numbers of a probe without and beside streams.
///
/// # Errors
/// A side did not report its part.
pub fn under_load(
    (probe, load): (&Test, &Test),
    idle: &Finished,
    loaded: &Finished,
    direction: Direction,
) -> anyhow::Result<Measurement> {
    let (before, after) = ("idle_round_trip_ns", "loaded_round_trip_ns");
    let idle = request_response(probe, idle, before)?;
    let bulk = stream(load, loaded, direction)?;
    let mut measurement = request_response(probe, loaded, after)?;
    let of_idle = idle.metrics.iter().filter(|metric| metric.name == before);
    let added: Vec<Metric> = of_idle
        .clone()
        .filter_map(|idle| added(idle, measurement.metric(after, idle.aggregation)?))
        .collect();
    measurement.metrics.extend(of_idle.cloned());
    measurement.metrics.extend(added);
    let known = |name: &str, metrics: &[Metric]| metrics.iter().any(|metric| metric.name == name);
    let of_bulk = bulk.metrics.into_iter();
    let of_bulk: Vec<Metric> = of_bulk
        .filter(|metric| !known(&metric.name, &measurement.metrics))
        .collect();
    measurement.metrics.extend(of_bulk);
    measurement.histograms.extend(idle.histograms);
    let proofs = [idle.verified, measurement.verified, bulk.verified];
    measurement.verified = format!("idle: {}; loaded: {}; {}", proofs[0], proofs[1], proofs[2]);
    for flag in idle.validity.flags.into_iter().chain(bulk.validity.flags) {
        if !measurement
            .validity
            .flags
            .iter()
            .any(|other| other.code == flag.code)
        {
            measurement
                .validity
                .flag(flag.severity, &flag.code, flag.evidence);
        }
    }
    Ok(measurement)
}

/// By how much a percentile grew under load; extremes and moments say nothing by their difference.
fn added(idle: &Metric, loaded: &Metric) -> Option<Metric> {
    let difference = match (&loaded.value, &idle.value) {
        (Fact::Known(loaded), Fact::Known(idle)) => Fact::Known(loaded - idle),
        (Fact::Unavailable { .. }, _) => loaded.value.clone(),
        (_, Fact::Unavailable { .. }) => idle.value.clone(),
    };
    let percentile = !matches!(
        idle.aggregation,
        Aggregation::Total
            | Aggregation::Min
            | Aggregation::Mean
            | Aggregation::Stddev
            | Aggregation::Max
    );
    percentile.then(|| Metric {
        name: "added_round_trip_ns".to_owned(),
        value: difference,
        n: loaded.n.clone(),
        ..idle.clone()
    })
}

fn leg_of(legs: &[Leg], role: Role) -> anyhow::Result<&Leg> {
    legs.iter()
        .find(|leg| leg.role == role)
        .with_context(|| format!("no side reported in the role {role:?}"))
}

/// What both sides proved, and what their comparison proved.
fn verified(legs: &[&Leg]) -> String {
    let mut parts: Vec<String> = legs.iter().map(|leg| leg.verified.clone()).collect();
    parts.push(compared(legs));
    parts.join("; ")
}

fn compared(legs: &[&Leg]) -> String {
    let flows: usize = legs.iter().map(|leg| leg.flow_bytes.len()).sum::<usize>() / 2;
    let datagrams = |role: Role| {
        let of_role = legs.iter().filter(move |leg| leg.role == role);
        of_role.filter_map(|leg| leg.datagrams)
    };
    if datagrams(Role::Request).next().is_some() {
        return "no flow had more responses than were sent".to_owned();
    }
    let received: u64 = datagrams(Role::Receive).map(|tally| tally.received).sum();
    let sent: u64 = datagrams(Role::Send).map(|tally| tally.sent).sum();
    match (sent, flows) {
        (1.., _) => format!(
            "{received} of {sent} numbered datagrams arrived, {} were lost",
            sent.saturating_sub(received)
        ),
        (0, 1) => "the flow received every byte that was sent".to_owned(),
        (0, _) => format!("all {flows} flows received every byte that was sent"),
    }
}

/// The slices of the receivers; of two directions each slice's work is added up, its times are
/// the first direction's.
fn intervals(receivers: &[&Leg]) -> Vec<Interval> {
    let Some((first, others)) = receivers.split_first() else {
        return Vec::new();
    };
    let mut intervals = first.intervals.clone();
    for (index, interval) in intervals.iter_mut().enumerate() {
        let same = others.iter().filter_map(|leg| leg.intervals.get(index));
        interval.work = same.fold(interval.work, |work, other| work + other.work);
    }
    intervals
}

/// Adds the flags of one side's legs, of a server elsewhere under its name. A server in this process
/// sees what we see, and nothing is said twice.
fn add_flags(validity: &mut Validity, legs: &[Leg], server: bool) {
    for flag in legs.iter().flat_map(|leg| &leg.flags) {
        let evidence = if server {
            format!("server: {}", flag.evidence)
        } else {
            flag.evidence.clone()
        };
        let prefix = |text: &str| text.starts_with("server: ");
        let known = validity
            .flags
            .iter()
            .any(|other| other.code == flag.code && prefix(&other.evidence) == prefix(&evidence));
        if !known {
            validity.flag(flag.severity, &flag.code, evidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_is_one_for_equals_and_falls_to_a_part_for_one_alone() {
        let index = |waits: &[u64]| jain(waits).known().copied();
        assert!((index(&[7, 7, 7]).expect("known") - 1.0).abs() < 1e-12);
        // Rates of 1 and 3: (1 + 3)² / (2 × (1 + 9)).
        assert!((index(&[3, 1]).expect("known") - 0.8).abs() < 1e-12);
        assert!((index(&[1, u64::MAX]).expect("known") - 0.5).abs() < 1e-12);
        assert_eq!(index(&[]), None);
        assert_eq!(index(&[0, 1]), None);
    }
}
