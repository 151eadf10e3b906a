//! From what the jobs did to what the report says of it.

use crate::spec::Spec;
use crate::target::Target;
use crate::workload::job::{Evidence, Expected};
use crate::workload::readback::ReadBack;
use reports::measure::{Totals, histogram_record, latency_metrics, rate_metrics};
use reports::model::{Aggregation, Direction, Measurement, Metric, Severity, Unit, Validity};
use serde_json::{Map, Value, json};

/// Share of its time that a job must spend on the CPU to be called bound by it.
const CPU_BOUND: f64 = 0.95;

/// The measurement of one case.
#[must_use]
pub fn of(
    spec: &Spec,
    target: Target,
    totals: Totals,
    evidence: &Evidence,
    read_back: Option<ReadBack>,
) -> Measurement {
    let mut validity = totals.validity.clone();
    for flag in &target.validity.flags {
        validity.flag(flag.severity, &flag.code, flag.evidence.as_str());
    }
    flag_cpu(&totals, &mut validity);
    let mut histograms = vec![histogram_record("lat_ns", &totals.latencies)];
    let extra = totals.extra.iter();
    histograms.extend(extra.map(|(name, histogram)| histogram_record(name, histogram)));
    Measurement {
        elapsed_s: totals.elapsed_s.into(),
        work: totals.work.into(),
        verified: format!(
            "{}; {}",
            totals.verified,
            content_checked(spec, &target, evidence, read_back)
        ),
        metrics: metrics(spec, &totals),
        histograms,
        facts: facts(target, evidence),
        validity,
        intervals: totals.intervals,
        matrices: Vec::new(),
        counters: totals.counters,
    }
}

fn metrics(spec: &Spec, totals: &Totals) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = rate_metrics("iops", totals.work, totals.elapsed_s);
    for metric in &mut metrics {
        metric.headline = true;
    }
    for (name, histogram) in &totals.extra {
        // `read_lat_ns` gives `read_iops`.
        let name = name.replace("lat_ns", "iops");
        let rate = histogram.len() as f64 / totals.elapsed_s;
        let direction = Direction::HigherIsBetter;
        let total = Aggregation::Total;
        metrics.push(Metric::new(
            &name,
            total,
            Unit::PerSecond,
            direction,
            rate,
            histogram.len(),
        ));
    }
    let cpu_s = totals.cpu.user_s + totals.cpu.system_s;
    metrics.push(Metric::new(
        "cpu_per_io_ns",
        Aggregation::Total,
        Unit::Nanoseconds,
        Direction::LowerIsBetter,
        cpu_s * 1e9 / totals.work.ops as f64,
        totals.work.ops,
    ));
    metrics.extend(latency_metrics("lat_ns", &totals.latencies));
    if spec.rw.mixed() {
        for (name, histogram) in &totals.extra {
            let mut family = latency_metrics(name, histogram);
            family.iter_mut().for_each(|metric| metric.headline = false);
            metrics.extend(family);
        }
    }
    metrics
}

/// A job that never waited was the limit itself, not the storage.
fn flag_cpu(totals: &Totals, validity: &mut Validity) {
    let busiest = totals
        .threads
        .iter()
        .map(|thread| (thread.cpu.user_s + thread.cpu.system_s) / totals.elapsed_s)
        .fold(0.0, f64::max);
    if busiest > CPU_BOUND {
        let evidence = format!(
            "a job spent {:.0} % of the window on its CPU: that, not the storage, may be the limit",
            busiest.min(1.0) * 100.0
        );
        validity.flag(Severity::Info, "cpu_bound", evidence);
    }
}

fn content_checked(
    spec: &Spec,
    target: &Target,
    evidence: &Evidence,
    read_back: Option<ReadBack>,
) -> String {
    let reads = format!(
        "of the reads {} were checked by sample and {} word for word",
        evidence.sampled_reads, evidence.full_reads
    );
    let writes = read_back.map(|found| {
        format!(
            "read back: {} blocks held their last write and {} the layout",
            found.written, found.untouched
        )
    });
    match (target.expected, writes) {
        (Expected::Unknown, _) => "the content is not this program's and was not checked".into(),
        (Expected::Echo, _) => "every read named its offset".into(),
        (Expected::Known(_), Some(writes)) if spec.rw.mixed() => format!("{reads}; {writes}"),
        (Expected::Known(_), Some(writes)) => writes,
        (Expected::Known(_), None) => reads,
    }
}

fn facts(target: Target, evidence: &Evidence) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut engines = evidence.engines.clone();
    engines.dedup();
    let engine = match engines.len() {
        1 => engines.remove(0),
        _ => json!(engines),
    };
    facts.insert("engine".to_owned(), engine);
    facts.insert("target".to_owned(), target.facts);
    facts
}
