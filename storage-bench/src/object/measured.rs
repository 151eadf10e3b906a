//! From what the jobs did to what the report says of it.

use super::client::LIBRARY;
use super::job::Evidence;
use super::spec::{ObjectSpec, Op};
use super::wire::is_throttle;
use crate::measurement::flag_cpu;
use reports::measure::{Totals, histogram_record, latency_metrics, rate_metrics};
use reports::model::{
    Aggregation, Direction, Measurement, Metric, OBSERVED, Severity, Unit, Validity,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What AWS gives at least per prefix and second, and the share of it that is called near.
const WRITES_PER_PREFIX: f64 = 3500.0;
const READS_PER_PREFIX: f64 = 5500.0;
const NEAR: f64 = 0.9;

/// The measurement of one case; `left` is why something of it could not be removed.
#[must_use]
pub fn of(
    spec: &ObjectSpec,
    mut totals: Totals,
    evidence: Evidence,
    left: Option<anyhow::Error>,
) -> Measurement {
    totals.extra.retain(|(_, histogram)| !histogram.is_empty());
    let mut validity = totals.validity.clone();
    flag_cpu(&totals, &mut validity);
    flag_trouble(&evidence, &mut validity);
    let aws = spec.store.server().authority.contains(".amazonaws.com");
    let rate = totals.work.ops as f64 / totals.elapsed_s;
    if let Some(text) = aws.then(|| prefix_limit(spec.op, rate)).flatten() {
        validity.flag(Severity::Info, "prefix_limit", text);
    }
    if let Some(left) = left {
        validity.flag(Severity::Degraded, "not_removed", format!("{left:#}"));
    }
    let mut histograms = vec![histogram_record("lat_ns", &totals.latencies)];
    let extra = totals.extra.iter();
    histograms.extend(extra.map(|(name, histogram)| histogram_record(name, histogram)));
    Measurement {
        elapsed_s: totals.elapsed_s.into(),
        work: totals.work.into(),
        verified: verified(spec, &totals, &evidence),
        metrics: metrics(spec, &totals, &evidence),
        histograms,
        facts: facts(spec, &totals, evidence),
        validity,
        intervals: totals.intervals,
        matrices: Vec::new(),
        counters: totals.counters,
    }
}

fn metrics(spec: &ObjectSpec, totals: &Totals, evidence: &Evidence) -> Vec<Metric> {
    let mut metrics = rate_metrics("ops_per_s", totals.work, totals.elapsed_s);
    for metric in &mut metrics {
        metric.headline = true;
    }
    let total = |name: &str, unit, direction, value: f64, n: u64| {
        Metric::new(name, Aggregation::Total, unit, direction, value, n)
    };
    if spec.op == Op::List {
        let objects = spec.objects_per_job() * totals.work.ops;
        let rate = objects as f64 / totals.elapsed_s;
        let name = "objects_listed_per_s";
        let better = Direction::HigherIsBetter;
        metrics.push(total(name, Unit::PerSecond, better, rate, objects).headline());
    }
    for (name, histogram) in &totals.extra {
        if let Some(action) = name.strip_suffix("_lat_ns") {
            let rate = histogram.len() as f64 / totals.elapsed_s;
            let better = Direction::HigherIsBetter;
            let name = format!("{action}_ops_per_s");
            metrics.push(total(&name, Unit::PerSecond, better, rate, histogram.len()));
        }
    }
    let cpu_s = totals.cpu.user_s + totals.cpu.system_s;
    let ops = totals.work.ops;
    let worse = Direction::LowerIsBetter;
    metrics.push(total(
        "cpu_per_op_ns",
        Unit::Nanoseconds,
        worse,
        cpu_s * 1e9 / ops as f64,
        ops,
    ));
    let retries: u64 = evidence.counts.retries.values().sum();
    metrics.push(total(
        "retries",
        Unit::Count,
        worse,
        retries as f64,
        retries,
    ));
    metrics.extend(latency_metrics("lat_ns", &totals.latencies));
    for (name, histogram) in &totals.extra {
        let mut family = latency_metrics(name, histogram);
        family.iter_mut().for_each(|metric| metric.headline = false);
        metrics.extend(family);
    }
    metrics
}

/// What the store refused, and what came of it.
fn flag_trouble(evidence: &Evidence, validity: &mut Validity) {
    let counts = &evidence.counts;
    let requests: u64 = counts.requests.values().sum();
    let throttles: u64 = counts
        .requests
        .iter()
        .filter(|(cause, _)| is_throttle(cause))
        .map(|(_, count)| count)
        .sum();
    if throttles > 0 {
        let text = format!(
            "the store asked for less {throttles} times in {requests} requests: the numbers are \
             its limit for this client or prefix"
        );
        validity.flag(Severity::Degraded, "throttled", text);
    }
    if !counts.retries.is_empty() {
        let text = format!(
            "{requests} requests, of which were tried again: {}; the pauses are in the latencies",
            listed(&counts.retries)
        );
        validity.flag(Severity::Info, "retried", text);
    }
    if evidence.errors > 0 {
        let text = format!(
            "{} operations failed and are in no rate or latency: {}",
            evidence.errors,
            listed(&counts.failures)
        );
        validity.flag(Severity::Degraded, "operation_errors", text);
    }
}

fn listed(causes: &BTreeMap<String, u64>) -> String {
    let causes = causes
        .iter()
        .map(|(cause, count)| format!("{count} {cause}"));
    causes.collect::<Vec<_>>().join(", ")
}

/// Whether a rate is near what AWS gives one prefix.
fn prefix_limit(op: Op, ops_per_s: f64) -> Option<String> {
    let (limit, kind) = match op {
        Op::Put | Op::Multipart | Op::Delete => (WRITES_PER_PREFIX, "writes"),
        Op::Get | Op::GetRange | Op::List => (READS_PER_PREFIX, "reads"),
        // Of any mix the writes meet their limit first or the reads theirs: the lower one is near.
        Op::Mixed => (WRITES_PER_PREFIX, "operations"),
    };
    (ops_per_s >= limit * NEAR).then(|| {
        format!(
            "{ops_per_s:.0} {kind} per second are near the {limit:.0} that S3 gives a prefix \
             before it has split it: more come from more prefixes, or after minutes of load"
        )
    })
}

fn verified(spec: &ObjectSpec, totals: &Totals, evidence: &Evidence) -> String {
    let afterwards = match spec.op {
        Op::Put | Op::Multipart | Op::Mixed => {
            format!(
                "; {} objects read back held their last put",
                evidence.read_back
            )
        }
        Op::Delete => format!("; {} deleted objects were gone", evidence.read_back),
        Op::Get | Op::GetRange | Op::List => String::new(),
    };
    format!("{}{afterwards}", totals.verified)
}

fn facts(spec: &ObjectSpec, totals: &Totals, evidence: Evidence) -> Map<String, Value> {
    let server = spec.store.server();
    let counts = evidence.counts;
    let jobs = totals.threads.iter();
    let by_job: Vec<_> = jobs
        .map(|job| job.work.bytes as f64 / totals.elapsed_s)
        .collect();
    let mut facts = Map::new();
    let store = json!({
        "host": server.authority,
        "server": counts.server.unwrap_or_else(|| "unavailable: it does not say".to_owned()),
        "region": spec.store.region,
        "tls": server.tls,
        "path_style": spec.store.path_style,
        "signed": !spec.store.anonymous,
        "library": LIBRARY,
    });
    facts.insert("store".to_owned(), store);
    let observed = json!({
        "requests": counts.requests,
        "retries": counts.retries,
        "failures": counts.failures,
        "bandwidth_bytes_per_s_by_job": by_job,
    });
    facts.insert(OBSERVED.to_owned(), observed);
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_near_a_prefixs_limit_are_named() {
        assert!(prefix_limit(Op::Put, 3000.0).is_none());
        let text = prefix_limit(Op::Put, 3400.0).expect("near");
        assert!(text.starts_with("3400 writes"), "{text}");
        assert!(prefix_limit(Op::Get, 3400.0).is_none());
        assert!(prefix_limit(Op::GetRange, 6000.0).is_some());
    }

    #[test]
    fn throttles_retries_and_errors_are_flags() {
        let mut evidence = Evidence {
            errors: 1,
            ..Evidence::default()
        };
        evidence
            .counts
            .requests
            .insert("503 SlowDown".to_owned(), 3);
        evidence.counts.requests.insert("200".to_owned(), 7);
        evidence.counts.retries.insert("503 SlowDown".to_owned(), 2);
        evidence
            .counts
            .failures
            .insert("503 SlowDown".to_owned(), 1);
        let mut validity = Validity::default();
        flag_trouble(&evidence, &mut validity);
        let codes: Vec<_> = validity
            .flags
            .iter()
            .map(|flag| flag.code.as_str())
            .collect();
        assert_eq!(codes, ["throttled", "retried", "operation_errors"]);
        assert!(
            validity.flags[0]
                .evidence
                .contains("3 times in 10 requests")
        );
        assert!(validity.flags[1].evidence.contains("2 503 SlowDown"));
    }
}
