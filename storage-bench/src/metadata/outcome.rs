//! From what each rank timed to what the report says: a rate for each phase by mdtest's
//! definition, and the latencies of single calls, which mdtest does not tell.

use super::phase::Times;
use crate::crew::Crew;
use crate::mounted;
use anyhow::Context;
use reports::measure::{
    Histogram, decode_histogram, histogram_record, latency_metrics, new_histogram,
};
use reports::model::{
    Aggregation, Direction, Measurement, Metric, OBSERVED, Severity, Unit, Validity, Work,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A phase as one rank saw it.
pub struct Phase {
    /// `file_create`.
    pub name: &'static str,
    /// What it came to.
    pub times: Times,
}

/// What a rank tells rank 0.
#[derive(Serialize, Deserialize)]
struct Told {
    host: String,
    /// In the order of the phases.
    phases: Vec<Times>,
    mounted: Map<String, Value>,
}

/// A phase over all ranks.
struct Merged {
    name: &'static str,
    items: u64,
    elapsed_s: f64,
    latencies: Histogram<u64>,
    slowest: usize,
}

/// The measurement, on rank 0. All ranks call it.
///
/// # Errors
/// What a rank told cannot be read.
pub fn of(
    crew: &dyn Crew,
    phases: &[Phase],
    mounted: Map<String, Value>,
) -> anyhow::Result<Option<Measurement>> {
    let own = serde_json::to_string(&Told {
        host: crew.host_of(crew.rank()),
        phases: phases.iter().map(|phase| phase.times.clone()).collect(),
        mounted,
    })?;
    let told = crew.gather(&own);
    if !crew.is_root() {
        return Ok(None);
    }
    let told = told.iter().map(|text| serde_json::from_str(text));
    let told: Vec<Told> = told
        .collect::<Result<_, _>>()
        .context("what a rank told cannot be read")?;
    let names = phases.iter().map(|phase| phase.name).enumerate();
    let merged: Vec<Merged> = names
        .map(|(at, name)| merge(name, &told, at))
        .collect::<Result<_, _>>()?;
    Ok(Some(measurement(crew, &told, &merged)))
}

fn merge(name: &'static str, told: &[Told], at: usize) -> anyhow::Result<Merged> {
    let mut merged = Merged {
        name,
        items: 0,
        elapsed_s: 0.0,
        latencies: new_histogram(),
        slowest: 0,
    };
    for (rank, told) in told.iter().enumerate() {
        let times = told
            .phases
            .get(at)
            .with_context(|| format!("rank {rank} told nothing of {name}"))?;
        let own = decode_histogram(&times.latencies)
            .map_err(|why| anyhow::anyhow!("latencies of rank {rank}: {why}"))?;
        merged
            .latencies
            .add(own)
            .map_err(|why| anyhow::anyhow!("latencies of rank {rank}: {why}"))?;
        merged.items += times.items;
        let elapsed_s = times.total_ns as f64 / 1e9;
        if elapsed_s > merged.elapsed_s {
            (merged.elapsed_s, merged.slowest) = (elapsed_s, rank);
        }
    }
    Ok(merged)
}

fn measurement(crew: &dyn Crew, told: &[Told], phases: &[Merged]) -> Measurement {
    let mut metrics = Vec::new();
    for phase in phases {
        let rate = Metric::new(
            &format!("{}_per_s", phase.name),
            Aggregation::Total,
            Unit::PerSecond,
            Direction::HigherIsBetter,
            phase.items as f64 / phase.elapsed_s,
            phase.items,
        );
        metrics.push(rate.clone().headline());
        // The same number, under the name by which it is looked for.
        metrics.push(rate.compat("mdtest"));
    }
    for phase in phases {
        metrics.extend(
            latency_metrics(&latency_name(phase), &phase.latencies)
                .into_iter()
                .map(|mut metric| {
                    // Ten phases have ten rates; their latencies are for those who look for them.
                    metric.headline = false;
                    metric
                }),
        );
    }
    let ops: u64 = phases.iter().map(|phase| phase.items).sum();
    let elapsed_s: f64 = phases.iter().map(|phase| phase.elapsed_s).sum();
    let histograms = phases
        .iter()
        .map(|phase| histogram_record(&latency_name(phase), &phase.latencies));
    Measurement {
        elapsed_s: elapsed_s.into(),
        work: Work { ops, bytes: 0 }.into(),
        verified: format!(
            "every item was found by {} with its type and size, every file that was read held \
             what was written, and the folders listed all items after the creation and none after \
             the deletion",
            if told.len() == 1 {
                "its own rank"
            } else {
                "the rank that looked for it"
            }
        ),
        histograms: histograms.collect(),
        metrics,
        intervals: Vec::new(),
        matrices: Vec::new(),
        counters: Vec::new(),
        facts: facts(crew, told, phases),
        validity: validity(crew, told),
    }
}

fn latency_name(phase: &Merged) -> String {
    format!("{}_lat_ns", phase.name)
}

fn facts(crew: &dyn Crew, told: &[Told], phases: &[Merged]) -> Map<String, Value> {
    let mut facts = crew.facts();
    facts.insert("target".to_owned(), Value::Object(told[0].mounted.clone()));
    let mut observed = match facts.remove(OBSERVED) {
        Some(Value::Object(observed)) => observed,
        _ => Map::new(),
    };
    let slowest = phases.iter().map(|phase| {
        let (rank, host) = (phase.slowest, &told[phase.slowest].host);
        (phase.name.to_owned(), json!({"rank": rank, "host": host}))
    });
    observed.insert("slowest_rank".to_owned(), Value::Object(slowest.collect()));
    facts.insert(OBSERVED.to_owned(), Value::Object(observed));
    facts
}

fn validity(crew: &dyn Crew, told: &[Told]) -> Validity {
    let mut validity = Validity::default();
    crew.flag_oversubscription(&mut validity);
    let mounts = told.iter().map(|rank| (rank.host.as_str(), &rank.mounted));
    mounted::flag(&mut validity, mounts);
    if told.len() == 1 {
        let text = "one rank looks at what it created itself: its own caches may answer; run it \
            under mpirun, on several nodes";
        validity.flag(Severity::Degraded, "one_rank", text);
    } else if crew.nodes() == 1 {
        let text = "all ranks are on one node: its caches may answer for items of other ranks; \
            run it on several nodes";
        validity.flag(Severity::Info, "one_node", text);
    }
    validity
}
