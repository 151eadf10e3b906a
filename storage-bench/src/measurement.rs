//! From what the jobs did to what the report says of it.

mod pace;

use crate::analysis;
use crate::observe::{Headline, Observed};
use crate::spec::{Place, Spec};
use crate::target::Target;
use crate::workload::job::{Evidence, Expected};
use crate::workload::readback::ReadBack;
use reports::measure::{
    Histogram, Totals, decode_histogram, histogram_record, latency_metrics, rate_metrics,
};
use reports::model::{
    Aggregation, Direction, Interval, Measurement, Metric, OBSERVED, Severity, Unit, Validity, Work,
};
use serde_json::{Map, Value, json};

/// Share of its time that a job must spend on the CPU to be called bound by it.
const CPU_BOUND: f64 = 0.95;

/// Of distributions that explain the main one, what is worth a line.
const BESIDE: [Aggregation; 4] = [
    Aggregation::P50,
    Aggregation::P99,
    Aggregation::Mean,
    Aggregation::Max,
];

/// What was seen of a run besides what the harness counted.
pub struct Seen {
    /// What the jobs left behind.
    pub evidence: Evidence,
    /// What was observed of the target and the machine while they ran.
    pub observed: Observed,
    /// What was found when it was read back.
    pub read_back: Option<ReadBack>,
}

/// The measurement of one case.
#[must_use]
pub fn of(spec: &Spec, target: &Target, mut totals: Totals, seen: Seen) -> Measurement {
    totals.extra.retain(|(_, histogram)| !histogram.is_empty());
    let mut validity = totals.validity.clone();
    // What was counted takes the place of what was to be expected.
    let counted = seen.observed.page_cache_judged && !spec.pattern.rw.writes();
    let foreseen = target.validity.flags.iter();
    let foreseen = foreseen.filter(|flag| !(counted && flag.code == "page_cache"));
    for flag in foreseen
        .chain(&seen.observed.validity.flags)
        .chain(&seen.evidence.flags)
    {
        validity.flag(flag.severity, &flag.code, flag.evidence.as_str());
    }
    if let Some(fallback) = &spec.options.fallback {
        validity.flag(Severity::Degraded, "engine_fallback", fallback.as_str());
    }
    let open = spec.offered_iops().is_some();
    match open {
        true => pace::flag(&totals, seen.evidence.kept, &mut validity),
        false => flag_cpu(&totals, &mut validity),
    }
    flag_verification(spec, &seen, &mut validity);
    let evidence = &seen.evidence;
    evidence.errors.flag(evidence.brake.ended(), &mut validity);
    flag_workers(spec, &totals, &seen, &mut validity);
    let workers = workers(&totals, &seen);
    let all = all_latencies(spec, &totals);
    let mut histograms: Vec<_> = all
        .map(|(name, histogram)| histogram_record(name, histogram))
        .collect();
    for histogram in &mut histograms {
        histogram.co_corrected = open && histogram.name.ends_with("response_ns");
    }
    totals.counters.extend(seen.observed.counters.clone());
    Measurement {
        elapsed_s: totals.elapsed_s.into(),
        work: totals.work.into(),
        verified: format!(
            "{}; {}",
            totals.verified,
            content_checked(spec, target, &seen)
        ),
        metrics: metrics(spec, &totals, &seen),
        histograms,
        facts: facts(target, seen, workers),
        validity,
        intervals: totals.intervals,
        matrices: Vec::new(),
        counters: totals.counters,
    }
}

/// The main histogram under its name, and the others.
fn all_latencies<'a>(
    spec: &Spec,
    totals: &'a Totals,
) -> impl Iterator<Item = (&'static str, &'a Histogram<u64>)> + Clone {
    let main = match spec.offered_iops() {
        Some(_) => "response_ns",
        None => "lat_ns",
    };
    let extra = totals.extra.iter();
    let extra = extra.map(|(name, histogram)| (*name, histogram));
    std::iter::once((main, &totals.latencies)).chain(extra)
}

/// The result comes first: rates, or the response times of an open loop, whose rate was given.
fn metrics(spec: &Spec, totals: &Totals, seen: &Seen) -> Vec<Metric> {
    let headline = &seen.observed.headline;
    let (work, seconds) = result(totals, headline);
    let mut rates: Vec<Metric> = rate_metrics("iops", work, seconds);
    for metric in &mut rates {
        metric.headline = true;
    }
    rates.extend(beside_the_result(spec, totals, headline));
    let mut latencies = all_latencies(spec, totals);
    let main = latencies.next().into_iter();
    let main: Vec<_> = main
        .flat_map(|(name, all)| latency_metrics(name, all))
        .collect();
    for (name, histogram) in latencies.clone() {
        // `read_lat_ns` and `read_response_ns` give `read_iops`; a flush is no I/O.
        let rate_name = match name.split_once('_') {
            Some((direction @ ("read" | "write" | "trim"), _)) => Some(format!("{direction}_iops")),
            Some(("sync", _)) => Some("syncs_per_s".to_owned()),
            _ => None,
        };
        if let Some(name) = rate_name {
            let ops = histogram.len();
            let rate = ops as f64 / totals.elapsed_s;
            let (total, higher) = (Aggregation::Total, Direction::HigherIsBetter);
            rates.push(Metric::new(
                &name,
                total,
                Unit::PerSecond,
                higher,
                rate,
                ops,
            ));
        }
    }
    let mut metrics = match spec.offered_iops() {
        None => [rates, per_io(totals).into(), main].concat(),
        Some(_) => {
            let schedule = pace::metrics(totals, seen.evidence.kept).into();
            [main, rates, schedule, per_io(totals).into()].concat()
        }
    };
    for (name, histogram) in latencies {
        let mut family = latency_metrics(name, histogram);
        family.iter_mut().for_each(|metric| metric.headline = false);
        if let "slat_ns" | "clat_ns" | "late_start_ns" = name {
            family.retain(|metric| BESIDE.contains(&metric.aggregation));
        }
        metrics.extend(family);
    }
    metrics
}

/// What each operation cost.
fn per_io(totals: &Totals) -> [Metric; 2] {
    let (cpu, ops) = (totals.cpu, totals.work.ops);
    let metric = |name, unit, amount: f64| {
        let (total, lower) = (Aggregation::Total, Direction::LowerIsBetter);
        Metric::new(name, total, unit, lower, amount / ops as f64, ops)
    };
    let threads = totals.threads.iter();
    let kernel_s: f64 = threads.map(|thread| thread.kernel_cpu_s).sum();
    let cpu_ns = (cpu.user_s + cpu.system_s + kernel_s) * 1e9;
    let switches = cpu.voluntary_switches + cpu.involuntary_switches;
    [
        metric("cpu_per_io_ns", Unit::Nanoseconds, cpu_ns),
        metric("context_switches_per_io", Unit::Ratio, switches as f64),
    ]
}

/// The work and the time that the headline rates are of.
fn result(totals: &Totals, headline: &Headline) -> (Work, f64) {
    let covered = match headline {
        Headline::Whole => return (totals.work, totals.elapsed_s),
        Headline::Plateau(burst) => &totals.intervals[burst.plateau.clone()],
        Headline::Steady(window) => &totals.intervals[window.slices.clone()],
    };
    let seconds = covered.iter().map(analysis::length).sum();
    (analysis::work(covered), seconds)
}

/// Where the result is a part of the window: the rate of all of it, and of a burst what it was.
fn beside_the_result(spec: &Spec, totals: &Totals, headline: &Headline) -> Vec<Metric> {
    let describing = |name: &str, unit, value: f64, n| {
        Metric::new(name, Aggregation::Total, unit, Direction::Neutral, value, n)
    };
    let ops = totals.work.ops;
    let mean = ops as f64 / totals.elapsed_s;
    let mean = || describing("window_iops", Unit::PerSecond, mean, ops);
    match headline {
        Headline::Whole => Vec::new(),
        Headline::Steady(_) => vec![mean()],
        Headline::Plateau(burst) => {
            let lasted = burst.ends_at_s + spec.ramp_time_s;
            let mut metrics = vec![
                describing("burst_iops", Unit::PerSecond, burst.iops, ops),
                describing("burst_seconds", Unit::Seconds, lasted, 1),
                describing("burst_ends_at_s", Unit::Seconds, burst.ends_at_s, 1),
                mean(),
            ];
            if let Some(latencies) = latencies(&totals.intervals[burst.plateau.clone()]) {
                metrics.extend(latency_metrics("plateau_lat_ns", &latencies));
            }
            metrics
        }
    }
}

/// The latencies of some slices; `None` where they kept none.
fn latencies(slices: &[Interval]) -> Option<Histogram<u64>> {
    let texts = slices
        .iter()
        .filter_map(|slice| slice.hdr_v2_base64.as_deref());
    let mut histograms = texts.filter_map(|text| decode_histogram(text).ok());
    let mut sum = histograms.next()?;
    for next in histograms {
        sum.add(next).ok()?;
    }
    Some(sum)
}

/// A job that never waited was the limit itself, not the storage.
pub(crate) fn flag_cpu(totals: &Totals, validity: &mut Validity) {
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

/// What was asked of the verification and could not be done, and what it leaves behind.
fn flag_verification(spec: &Spec, seen: &Seen, validity: &mut Validity) {
    let sealed = spec.verify.sealed();
    if let Some(found) = seen.read_back {
        if found.interrupted {
            let evidence = format!("a signal ended it after {} blocks", found.written);
            validity.flag(Severity::Invalid, "verification_interrupted", evidence);
        }
        if sealed && !found.exact {
            let evidence = "--verify crc32c: for the generations of so many blocks there is no \
                            memory (8 bytes each, of a quarter of what is available and at \
                            most 1 GiB); they were known of a sample";
            validity.flag(Severity::Info, "generations_sampled", evidence);
        }
    }
    if let Some(journal) = &spec.verify.journal {
        let (stay, removed) = match spec.place {
            Place::Device(_) => ("the journal of the device stays", "and removes it"),
            _ => ("the file and its journal stay", "and removes both"),
        };
        let evidence = format!(
            "{stay}: `storage-bench verify --journal {}` proves the one by the other {removed}",
            journal.display()
        );
        validity.flag(Severity::Info, "files_kept", evidence);
    }
}

/// Share of the bytes that workers must have moved to be worth a word.
const WORKERS_SHARE: f64 = 0.1;

/// The share of the window's bytes that io_uring's workers moved, if that is known.
fn share_of_workers(totals: &Totals, seen: &Seen) -> Option<f64> {
    let bytes = seen.evidence.helpers?.bytes?;
    (totals.work.bytes > 0).then(|| (bytes as f64 / totals.work.bytes as f64).min(1.0))
}

/// I/O that was handed to another thread took its time for that, and the CPU of both.
fn flag_workers(spec: &Spec, totals: &Totals, seen: &Seen, validity: &mut Validity) {
    let (Some(share), Some(helpers)) = (share_of_workers(totals, seen), seen.evidence.helpers)
    else {
        return;
    };
    if share > WORKERS_SHARE {
        let (why, hint) = match spec.options.force_async {
            0 => (
                "would have blocked their submitter",
                "--force-async 1 saves the vain attempts, and ",
            ),
            _ => ("were not tried by their submitter (--force-async)", ""),
        };
        let evidence = format!(
            "about {:.0} of {} I/Os ({:.0} %) {why} and went to {} workers of the kernel, which used \
             {:.2} s of CPU; {hint}--engine psync may cost less",
            share * totals.work.ops as f64,
            totals.work.ops,
            share * 100.0,
            helpers.workers,
            helpers.cpu_s
        );
        validity.flag(Severity::Info, "io_workers", evidence);
    }
}

fn content_checked(spec: &Spec, target: &Target, seen: &Seen) -> String {
    let evidence = &seen.evidence;
    let reads = format!(
        "of the reads {} were checked by sample and {} in full{}",
        evidence.sampled_reads,
        evidence.full_reads,
        match evidence.overlapped_reads {
            0 => String::new(),
            count => format!(", {count} of these in part beside a write"),
        }
    );
    let writes = seen.read_back.map(|found| {
        let trimmed = match found.trimmed {
            0 => String::new(),
            blocks => format!(", {blocks} were trimmed and held nothing"),
        };
        format!(
            "read back: {} blocks held their last write and {} the layout{trimmed}",
            found.written, found.untouched
        )
    });
    match (target.expected, writes) {
        _ if evidence.errors.unread() => "what was written was not read back".into(),
        (Expected::Known(content), _) if content.is_over_foreign() => {
            let written = seen.read_back.map_or(0, |found| found.written);
            format!(
                "read back: {written} blocks held their last write; what the run did not write is \
                 not this program's and was not checked"
            )
        }
        (Expected::Unknown, _) => "the content is not this program's and was not checked".into(),
        (Expected::Echo, _) if !spec.pattern.rw.reads() => {
            "nothing was written that could be checked".into()
        }
        (Expected::Echo, _) => "every read named its offset".into(),
        (Expected::Known(_), Some(writes)) if spec.pattern.rw.reads() => {
            format!("{reads}; {writes}")
        }
        (Expected::Known(_), Some(writes)) => writes,
        (Expected::Known(_), None) => reads,
    }
}

/// What the report says of the kernel's threads that worked for the rings.
fn workers(totals: &Totals, seen: &Seen) -> Option<Value> {
    let helpers = seen.evidence.helpers?;
    let ios = match share_of_workers(totals, seen) {
        Some(share) => json!((share * totals.work.ops as f64).round() as u64),
        None if totals.work.bytes == 0 => json!({"unavailable": "no bytes to tell them by"}),
        None => json!({"unavailable": "this kernel does not account for I/O by thread"}),
    };
    Some(json!({"threads": helpers.workers, "cpu_s": helpers.cpu_s, "ios": ios}))
}

fn facts(target: &Target, seen: Seen, workers: Option<Value>) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut engines = seen.evidence.engines;
    engines.dedup();
    let engine = match engines.len() {
        1 => engines.remove(0),
        _ => json!(engines),
    };
    facts.insert("engine".to_owned(), engine);
    if let Some(workers) = workers {
        facts.insert("io_workers".to_owned(), workers);
    }
    facts.insert("target".to_owned(), target.facts.clone());
    let mut observed = seen.observed.facts;
    let errors = seen.evidence.errors.facts();
    observed.extend(errors.map(|errors| ("errors".to_owned(), errors)));
    if !observed.is_empty() {
        facts.insert(OBSERVED.to_owned(), Value::Object(observed));
    }
    facts
}
