//! From what each rank timed to what the report says: bandwidths by IOR's definition, phases,
//! merged latencies, the slowest rank, and what may have served the reads.

use super::phase::Times;
use super::spec::{CheckRead, SharedSpec};
use crate::crew::Crew;
use crate::mounted::{self, NfsBytes};
use anyhow::Context;
use reports::measure::{
    Histogram, decode_histogram, histogram_record, latency_metrics, new_histogram,
};
use reports::model::{
    Aggregation, Direction, Measurement, Metric, OBSERVED, Severity, Unit, Validity, Work,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Below this share of fetched bytes, memory has served enough of the reads to be seen in a result.
const FETCHED: f64 = 0.9;
/// File systems whose reads the kernel accounts for.
const ACCOUNTED: [&str; 7] = ["ext4", "ext3", "xfs", "btrfs", "overlay", "nfs", "nfs4"];

/// What one rank saw of a run.
pub struct Seen {
    /// Its write phase.
    pub write: Times,
    /// Its read phase.
    pub read: Times,
    /// What its NFS client had moved before the reads and after them.
    pub served: Option<(NfsBytes, NfsBytes)>,
    /// Transfers of all ranks whose new content was looked for after the reads.
    pub anew: Option<u64>,
    /// The engine as the kernel granted it.
    pub engine: Value,
    /// How many ranks read what their own node had written.
    pub within_nodes: usize,
}

/// What a rank tells rank 0.
#[derive(Serialize, Deserialize)]
struct Told {
    host: String,
    write: Times,
    read: Times,
    /// What programs of the node read of the mount meanwhile, and what the server sent for it.
    served: Option<(u64, u64)>,
    mounted: Map<String, Value>,
}

/// One phase over all ranks.
struct Phase<'a> {
    name: &'static str,
    of: fn(&Told) -> &Times,
    told: &'a [Told],
    transfer: u64,
    latencies: Histogram<u64>,
}

/// The measurement, on rank 0. All ranks call it.
///
/// # Errors
/// What a rank told cannot be read.
pub fn of(
    spec: &SharedSpec,
    crew: &dyn Crew,
    seen: &Seen,
    mounted: Map<String, Value>,
) -> anyhow::Result<Option<Measurement>> {
    let served = seen.served.map(|(before, after)| {
        let read = |bytes: NfsBytes| bytes.read + bytes.direct_read;
        (
            read(after).saturating_sub(read(before)),
            after.server_read.saturating_sub(before.server_read),
        )
    });
    let own = serde_json::to_string(&Told {
        host: crew.host_of(crew.rank()),
        write: seen.write.clone(),
        read: seen.read.clone(),
        served,
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
    measurement(spec, crew, seen, &told).map(Some)
}

fn measurement(
    spec: &SharedSpec,
    crew: &dyn Crew,
    seen: &Seen,
    told: &[Told],
) -> anyhow::Result<Measurement> {
    let write = Phase::new("write", |told| &told.write, told, spec.transfer)?;
    let read = Phase::new("read", |told| &told.read, told, spec.transfer)?;
    let mut metrics = Vec::new();
    let mut histograms = Vec::new();
    for phase in [&write, &read] {
        metrics.extend(phase.bandwidth());
        histograms.push(histogram_record(&phase.latency_name(), &phase.latencies));
    }
    metrics.extend(write.at_stonewall());
    for phase in [&write, &read] {
        metrics.extend(phase.times());
        metrics.extend(latency_metrics(&phase.latency_name(), &phase.latencies));
    }
    let total = write.work() + read.work();
    Ok(Measurement {
        elapsed_s: (write.elapsed_s() + read.elapsed_s()).into(),
        work: total.into(),
        verified: verified(spec, seen, read.work().ops),
        metrics,
        histograms,
        intervals: Vec::new(),
        matrices: Vec::new(),
        counters: Vec::new(),
        facts: facts(crew, seen, told, [&write, &read]),
        validity: validity(spec, crew, seen, told, &read),
    })
}

impl<'a> Phase<'a> {
    fn new(
        name: &'static str,
        of: fn(&Told) -> &Times,
        told: &'a [Told],
        transfer: u64,
    ) -> anyhow::Result<Self> {
        let mut latencies = new_histogram();
        for rank in told {
            let own = decode_histogram(&of(rank).latencies);
            let own = own.map_err(|why| anyhow::anyhow!("a rank's {name} latencies: {why}"))?;
            latencies
                .add(own)
                .map_err(|why| anyhow::anyhow!("a rank's {name} latencies: {why}"))?;
        }
        Ok(Self {
            name,
            of,
            told,
            transfer,
            latencies,
        })
    }

    fn each(&self) -> impl Iterator<Item = &'a Times> + use<'a> {
        let of = self.of;
        self.told.iter().map(of)
    }

    fn work(&self) -> Work {
        let ops: u64 = self.each().map(|times| times.transfers).sum();
        Work {
            ops,
            bytes: ops * self.transfer,
        }
    }

    /// From the first opening to the last closing: all ranks begin at a barrier.
    fn elapsed_s(&self) -> f64 {
        seconds(self.each().map(|times| times.total_ns).max().unwrap_or(0))
    }

    fn latency_name(&self) -> String {
        format!("{}_lat_ns", self.name)
    }

    fn rate(&self, what: &str, unit: Unit, value: f64, n: u64) -> Metric {
        Metric::new(
            &format!("{}_{what}", self.name),
            Aggregation::Total,
            unit,
            Direction::HigherIsBetter,
            value,
            n,
        )
    }

    fn bandwidth(&self) -> Vec<Metric> {
        let (work, elapsed) = (self.work(), self.elapsed_s());
        let bandwidth = self.rate(
            "bandwidth_bytes_per_s",
            Unit::BytesPerSecond,
            work.bytes as f64 / elapsed,
            work.ops,
        );
        let iops = self.rate("iops", Unit::PerSecond, work.ops as f64 / elapsed, work.ops);
        vec![
            bandwidth.clone().headline(),
            iops,
            // The same number, under the name by which it is looked for.
            bandwidth.compat("ior"),
        ]
    }

    fn at_stonewall(&self) -> Option<Metric> {
        let walls: Option<Vec<(u64, u64)>> = self.each().map(|times| times.stonewall).collect();
        let walls = walls?;
        let transfers: u64 = walls.iter().map(|(transfers, _)| transfers).sum();
        let ended = walls.iter().map(|&(_, ended)| ended).max().unwrap_or(0);
        Some(self.rate(
            "bandwidth_at_stonewall_bytes_per_s",
            Unit::BytesPerSecond,
            (transfers * self.transfer) as f64 / seconds(ended),
            transfers,
        ))
    }

    /// The steps of the phase, each the slowest rank's.
    fn times(&self) -> Vec<Metric> {
        let step = |what: &str, of: fn(&Times) -> u64| {
            let slowest = self.each().map(of).max().unwrap_or(0);
            Metric::new(
                &format!("{}_{what}_s", self.name),
                Aggregation::Max,
                Unit::Seconds,
                Direction::LowerIsBetter,
                seconds(slowest),
                self.told.len() as u64,
            )
        };
        let mut steps = vec![
            step("open", |times| times.open_ns),
            step("transfer", |times| times.transfer_ns),
        ];
        if self.name == "write" {
            steps.push(step("fsync", |times| times.fsync_ns));
        }
        steps.push(step("close", |times| times.close_ns));
        steps
    }

    /// The rank that ended last, in words: `rank 3 on n2 after 1.204 s, the first after 0.951 s`.
    fn slowest(&self) -> String {
        let ranks = self.each().map(|times| times.total_ns).enumerate();
        let slowest = ranks.max_by_key(|&(_, ns)| ns).unwrap_or((0, 0));
        let first = self.each().map(|times| times.total_ns).min().unwrap_or(0);
        format!(
            "rank {} on {} after {:.3} s, the first after {:.3} s",
            slowest.0,
            self.told[slowest.0].host,
            seconds(slowest.1),
            seconds(first)
        )
    }

    /// The share of the bytes read that the storage layer fetched, as far as the kernel tells.
    fn fetched(&self) -> Option<f64> {
        let kind = self.told[0].mounted.get("file_system")?.as_str()?;
        if !ACCOUNTED.contains(&kind) {
            return None;
        }
        let fetched: Option<u64> = self.each().map(|times| times.fetched_bytes).sum();
        Some(fetched? as f64 / self.work().bytes as f64)
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn verified(spec: &SharedSpec, seen: &Seen, reads: u64) -> String {
    let how = match spec.check_read {
        CheckRead::Full => "in every byte",
        CheckRead::Sample => "in their header and eight words",
    };
    let anew = match seen.anew {
        Some(count) => format!(
            "; close-to-open: {count} transfers that were written anew and closed were found by \
             the ranks that opened them then"
        ),
        None => String::new(),
    };
    format!("{reads} transfers held what their writer wrote, checked {how}{anew}")
}

fn facts(
    crew: &dyn Crew,
    seen: &Seen,
    told: &[Told],
    phases: [&Phase<'_>; 2],
) -> Map<String, Value> {
    let mut facts = crew.facts();
    facts.insert("engine".to_owned(), seen.engine.clone());
    facts.insert("target".to_owned(), Value::Object(told[0].mounted.clone()));
    let mut observed = match facts.remove(OBSERVED) {
        Some(Value::Object(observed)) => observed,
        _ => Map::new(),
    };
    for phase in phases {
        let slowest = json!(phase.slowest());
        observed.insert(format!("last_to_{}", phase.name), slowest);
    }
    let within = format!("{} of {}", seen.within_nodes, told.len());
    observed.insert("readers_of_their_own_node".to_owned(), json!(within));
    if let Some(fetched) = phases[1].fetched() {
        let text = format!("{:.1} %", fetched * 100.0);
        observed.insert("fetched_from_storage".to_owned(), json!(text));
    }
    if let Some((asked, sent)) = served(told) {
        let nfs = json!({"read_by_programs_bytes": asked, "sent_by_server_bytes": sent});
        observed.insert("nfs".to_owned(), nfs);
    }
    facts.insert(OBSERVED.to_owned(), Value::Object(observed));
    facts
}

/// What NFS mounts moved during the reads: each node's once.
fn served(told: &[Told]) -> Option<(u64, u64)> {
    let mut hosts = Vec::new();
    let mut sum = None;
    for rank in told {
        if let Some((asked, sent)) = rank.served
            && !hosts.contains(&&rank.host)
        {
            hosts.push(&rank.host);
            let (all_asked, all_sent) = sum.unwrap_or((0, 0));
            sum = Some((all_asked + asked, all_sent + sent));
        }
    }
    sum
}

fn validity(
    spec: &SharedSpec,
    crew: &dyn Crew,
    seen: &Seen,
    told: &[Told],
    read: &Phase<'_>,
) -> Validity {
    let mut validity = Validity::default();
    crew.flag_oversubscription(&mut validity);
    if let Some(fallback) = &spec.options.fallback {
        validity.flag(Severity::Degraded, "engine_fallback", fallback.as_str());
    }
    let mounts = told.iter().map(|rank| (rank.host.as_str(), &rank.mounted));
    mounted::flag(&mut validity, mounts);
    if told.len() == 1 {
        let text = "one rank reads what it wrote itself, and nothing is shared: run it under \
            mpirun, on several nodes";
        validity.flag(Severity::Degraded, "one_rank", text);
    }
    match read.fetched() {
        Some(share) if share < FETCHED => {
            let evidence = format!(
                "{:.0} % of the bytes read came from storage; memory served the rest",
                share * 100.0
            );
            validity.flag(Severity::Degraded, "page_cache", evidence);
        }
        None if !spec.direct && seen.within_nodes > 0 => {
            let evidence = format!(
                "{} of {} ranks read, through the page cache, what was written on their own node: \
                 this may be the speed of its memory; use several nodes, or --direct true",
                seen.within_nodes,
                told.len()
            );
            validity.flag(Severity::Degraded, "page_cache", evidence);
        }
        _ => {}
    }
    if !spec.direct && !spec.fsync {
        let text = "the write bandwidth is that of memory as far as it took the data: they were \
            not flushed (--fsync false)";
        validity.flag(Severity::Degraded, "not_flushed", text);
    }
    validity
}
