//! From what both sides observed to what the report says: metrics that can be compared, counters,
//! the verdict, and everything else in its full length under one fact. A few words of each stand
//! on the terminal.

use super::verdict::{self, Verdict};
use super::{CoreUse, Observed, opening};
use crate::control::message::{Leg, Role};
use reports::model::{
    Aggregation, Counter, Direction as Better, Fact, Measurement, Metric, OBSERVED, Unit,
};
use serde_json::{Map, Value, json};
use std::slice;

const GIB: f64 = (1_u64 << 30) as f64;

/// One direction of a test: who sends, who receives, and what both observed.
struct Pair<'a> {
    prefix: &'static str,
    names: [&'static str; 2],
    legs: [&'a Leg; 2],
    observed: [&'a Observed; 2],
}

/// Adds to a measurement what was behind it. `ours` and `theirs` are the two sides' legs; `remote`
/// says that the server is another process, which may be on another machine.
pub fn report(measurement: &mut Measurement, ours: &[Leg], theirs: &[Leg], remote: bool) {
    let pairs = pairs(ours, theirs);
    for pair in &pairs {
        measurement.metrics.extend(pair.metrics());
    }
    if remote {
        let first = theirs.iter().find_map(|leg| leg.observed.as_ref());
        let counters = first.into_iter().flat_map(|observed| &observed.counters);
        measurement.counters.extend(counters.map(|counter| Counter {
            source: format!("server: {}", counter.source),
            ..counter.clone()
        }));
    }
    let mut observed = Map::new();
    words(&pairs, remote, &mut observed);
    details(&pairs, measurement, &mut observed);
    measurement
        .facts
        .insert(OBSERVED.to_owned(), Value::Object(observed));
}

/// The same for a test over an RDMA device, whose bytes no socket saw. `words` stand on the terminal
/// before all others.
pub fn report_device(
    measurement: &mut Measurement,
    (ours, theirs): (&Leg, &Leg),
    remote: bool,
    words: Vec<(String, String)>,
) {
    let mut observed: Map<String, Value> = words
        .into_iter()
        .map(|(name, text)| (name, text.into()))
        .collect();
    let (ours, theirs) = (slice::from_ref(ours), slice::from_ref(theirs));
    for pair in pairs(ours, theirs) {
        observed.insert("cpu".to_owned(), cpu(&pair, remote).into());
        if let Some(pinned) = pinned(&pair) {
            observed.insert("pinned".to_owned(), pinned.into());
        }
        for (name, leg) in [("client", &ours[0]), ("server", &theirs[0])] {
            let seen = leg.observed.as_deref();
            let details = json!({
                "way": leg.way,
                "threads": seen.map(|seen| &seen.threads),
                "thread_cpus": seen.map(|seen| &seen.thread_cpus),
                "cores": seen.map(|seen| &seen.cores),
            });
            observed.insert(name.to_owned(), details);
        }
    }
    if let Some(flag) = opening::flag(&measurement.intervals) {
        measurement
            .validity
            .flag(flag.severity, &flag.code, flag.evidence);
    }
    measurement
        .facts
        .insert(OBSERVED.to_owned(), Value::Object(observed));
}

/// The directions of a test, each side with its observation.
fn pairs<'a>(ours: &'a [Leg], theirs: &'a [Leg]) -> Vec<Pair<'a>> {
    let streams = ours
        .iter()
        .filter(|leg| matches!(leg.role, Role::Send | Role::Receive))
        .count();
    let named = |way: &'static str| if streams > 1 { way } else { "" };
    // Beside streams, requests and responses are a probe.
    let probe = if streams > 0 { "probe_" } else { "" };
    let found = ours.iter().filter_map(|leg| {
        let other = theirs
            .iter()
            .find(|other| other.role == leg.role.counterpart())?;
        let (prefix, names, legs) = match leg.role {
            Role::Send => (named("forward_"), ["sender", "receiver"], [leg, other]),
            Role::Receive => (named("reverse_"), ["sender", "receiver"], [other, leg]),
            Role::Request => asked(probe, leg, other),
            Role::Respond => asked(probe, other, leg),
        };
        let observed = [legs[0].observed.as_deref()?, legs[1].observed.as_deref()?];
        Some(Pair {
            prefix,
            names,
            legs,
            observed,
        })
    });
    found.collect()
}

/// The two ends of requests and responses. Who sends most of the bytes stands first, as a sender
/// does; messages of like sizes have the client first.
fn asked<'a>(
    probe: &'static str,
    client: &'a Leg,
    server: &'a Leg,
) -> (&'static str, [&'static str; 2], [&'a Leg; 2]) {
    let sent = |leg: &Leg| match &leg.observed.as_deref()?.flows {
        Fact::Known(flows) => flows.totals.sent_bytes,
        Fact::Unavailable { .. } => None,
    };
    let mostly_back = sent(server)
        .zip(sent(client))
        .is_some_and(|(back, there)| back / 2 > there);
    if mostly_back {
        (probe, ["server", "client"], [server, client])
    } else {
        (probe, ["client", "server"], [client, server])
    }
}

impl Pair<'_> {
    fn is_stream(&self) -> bool {
        self.legs[0].role == Role::Send
    }

    /// The receiver's rate, as the metric of that name has it.
    fn goodput_bytes_per_s(&self) -> f64 {
        self.legs[1].work.bytes as f64 / self.legs[1].elapsed_s.max(f64::MIN_POSITIVE)
    }

    fn verdict(&self) -> Verdict {
        verdict::judge(
            self.names,
            self.observed[0],
            self.observed[1],
            self.goodput_bytes_per_s(),
        )
    }

    /// CPU per GiB of streams, per million packets of what comes in packets of its own, and what TCP
    /// sent again.
    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for (index, name) in self.names.iter().enumerate() {
            let leg = self.legs[index];
            let mut add = |what: &str, value: Fact<f64>| {
                let name = format!("{}{name}_{what}", self.prefix);
                let (unit, better) = (Unit::Seconds, Better::LowerIsBetter);
                let n = leg.work.ops;
                metrics.push(Metric::new(
                    &name,
                    Aggregation::Total,
                    unit,
                    better,
                    value,
                    n,
                ));
            };
            if self.is_stream() {
                add(
                    "cpu_s_per_gib",
                    Fact::Known(leg.cpu_s / (leg.work.bytes as f64 / GIB)),
                );
            }
            let bytes_alone = self.is_stream() && is_tcp(leg);
            if !bytes_alone && !is_local(leg) {
                add("cpu_s_per_mpacket", self.cpu_s_per_million_packets(index));
            }
        }
        if self.is_stream() && is_tcp(self.legs[0]) {
            metrics.push(Metric::new(
                &format!("{}retransmits", self.prefix),
                Aggregation::Total,
                Unit::Count,
                // From none to a few is no ratio: it describes and is not judged.
                Better::Neutral,
                retransmits(self.legs[0]),
                1,
            ));
        }
        metrics
    }

    /// CPU of a side's threads per million packets that it sent or received.
    fn cpu_s_per_million_packets(&self, index: usize) -> Fact<f64> {
        let leg = self.legs[index];
        let packets = match (is_tcp(leg), is_local(leg)) {
            (_, true) => return Fact::unavailable("the flows have no packets"),
            (true, _) => self.segments(index),
            // A datagram each; of requests and responses one each way.
            (false, _) if self.is_stream() => Fact::Known(leg.work.ops as f64),
            (false, _) => Fact::Known(leg.work.ops as f64 * 2.0),
        };
        packets.map(|packets| leg.cpu_s / packets * 1e6)
    }

    /// The segments that a side sent or received in its measured window. The observation lasts a
    /// little longer than that, so it gives the rate.
    fn segments(&self, index: usize) -> Fact<f64> {
        let observed = self.observed[index];
        let flows = match &observed.flows {
            Fact::Known(flows) => &flows.totals,
            Fact::Unavailable { unavailable } => return Fact::unavailable(unavailable),
        };
        match (flows.segments_out, flows.segments_in) {
            (Some(sent), Some(received)) => {
                let per_s = (sent as f64 + received as f64) / observed.elapsed_s;
                Fact::Known(per_s * self.legs[index].elapsed_s)
            }
            _ => Fact::unavailable("the kernel's TCP_INFO does not count segments"),
        }
    }
}

/// The segments that a side's TCP sent again during the test.
#[must_use]
pub fn retransmits(leg: &Leg) -> Fact<f64> {
    match leg.observed.as_deref().map(|observed| &observed.flows) {
        Some(Fact::Known(flows)) => match flows.totals.retransmits {
            Some(count) => Fact::Known(count as f64),
            None => Fact::unavailable("the kernel's TCP_INFO has no such field"),
        },
        Some(Fact::Unavailable { unavailable }) => Fact::unavailable(unavailable),
        None => Fact::unavailable("the side had no connections to observe"),
    }
}

/// Whether a leg's flows are TCP's.
fn is_tcp(leg: &Leg) -> bool {
    leg.max_segment_bytes.is_some()
}

/// Whether a leg's flows stay within the kernel, as those of Unix sockets do.
fn is_local(leg: &Leg) -> bool {
    !is_tcp(leg) && leg.datagrams.is_none()
}

/// What stands on the terminal: a line each.
fn words(pairs: &[Pair<'_>], remote: bool, observed: &mut Map<String, Value>) {
    let mut add = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            observed.insert(name.to_owned(), text.into());
        }
    };
    for pair in pairs {
        let named = |name: &str| format!("{}{name}", pair.prefix);
        add(&named("limited_by"), Some(pair.verdict().to_string()));
        add(&named("tcp"), tcp(pair.observed[0]));
        add(&named("cpu"), Some(cpu(pair, remote)));
        add(&named("system_calls"), calls(pair));
        add(&named("pinned"), pinned(pair));
        add(&named("queues"), queues(pair));
    }
}

fn tcp(sender: &Observed) -> Option<String> {
    let totals = &sender.flows.known()?.totals;
    let mut parts = Vec::new();
    if let Some(mean_us) = totals.mean_rtt_us {
        let least = totals.min_rtt_us.map(|us| format!(" (least {us} µs)"));
        parts.push(format!("rtt {mean_us:.0} µs{}", least.unwrap_or_default()));
    }
    if let Some(cwnd) = totals.mean_cwnd_segments {
        parts.push(format!("cwnd {cwnd:.0} segments"));
    }
    if let (Some(again), Some(sent)) = (totals.retransmits, totals.segments_out) {
        parts.push(format!("{again} of {sent} segments sent again"));
    }
    if let (Some(busy), Some(rwnd), Some(sndbuf)) = (
        totals.busy_us.filter(|&us| us > 0),
        totals.rwnd_limited_us,
        totals.sndbuf_limited_us,
    ) {
        let share = |part: u64| part as f64 / busy as f64 * 100.0;
        parts.push(format!(
            "window full {:.0} %, send buffer short {:.0} % of the time",
            share(rwnd),
            share(sndbuf)
        ));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn cpu(pair: &Pair<'_>, remote: bool) -> String {
    let core = |observed: &Observed| {
        let cores = observed.cores.known()?.iter();
        let known = cores.filter_map(|core| Some((core, core.busy()?)));
        let (core, busy) = known.max_by(|a, b| a.1.total_cmp(&b.1))?;
        let softirq = core.interrupted().unwrap_or(0.0);
        Some(format!(
            "busiest CPU {} at {:.0} % ({:.0} % interrupts)",
            core.cpu,
            busy * 100.0,
            softirq * 100.0
        ))
    };
    let side = |index: usize, with_core: bool| {
        let (name, observed) = (pair.names[index], pair.observed[index]);
        let threads = &observed.threads;
        let used = format!(
            "{name} {:.2} s user + {:.2} s kernel",
            threads.user_s, threads.system_s
        );
        match core(observed).filter(|_| with_core) {
            Some(core) => format!("{used}, {core}"),
            None => used,
        }
    };
    // Within one process both sides see the same cores, which are told once.
    format!("{}; {}", side(0, remote), side(1, true))
}

/// How much of the kernel an operation takes: calls of a side's threads, and how often they waited.
fn calls(pair: &Pair<'_>) -> Option<String> {
    let sides = pair.names.iter().zip(pair.legs).zip(pair.observed);
    let told = sides.filter_map(|((name, leg), observed)| {
        let per_op = |count: u64| count as f64 / leg.work.ops as f64;
        let threads = &observed.threads;
        (leg.work.ops > 0).then(|| {
            format!(
                "{name} {:.2} calls and {:.2} waits per operation",
                per_op(threads.system_calls),
                per_op(threads.voluntary_switches)
            )
        })
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Told of the sides whose threads have CPUs of their own.
fn pinned(pair: &Pair<'_>) -> Option<String> {
    let sides = pair.names.iter().zip(pair.observed);
    let told = sides.filter_map(|(name, observed)| {
        let cpus = observed.thread_cpus.known()?;
        let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
        let listeners = match observed.listener_cpus.len() {
            0 | 1 => String::new(),
            count => format!(", with {count} listeners steered by CPU"),
        };
        Some(format!(
            "{name}'s threads on CPU {}{listeners}",
            cpus.join(", ")
        ))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Told where there is more than one queue to choose from.
fn queues(pair: &Pair<'_>) -> Option<String> {
    let told = pair
        .names
        .iter()
        .zip(pair.observed)
        .filter_map(|(name, observed)| {
            let device = observed.device.known()?;
            let queues = device.queues.known()?;
            let count = queues.rx.len();
            (count > 1).then_some(())?;
            let busiest = queues.rx_imbalance?;
            Some(format!(
                "{name}'s {}: {count} receive queues, the busiest {busiest:.2} × the mean",
                device.name
            ))
        });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// What stands in the report alone.
fn details(pairs: &[Pair<'_>], measurement: &mut Measurement, observed: &mut Map<String, Value>) {
    for pair in pairs {
        let verdict = json!(pair.verdict());
        observed.insert(format!("{}verdict", pair.prefix), verdict);
        for index in 0..2 {
            let packets = pair.cpu_s_per_million_packets(index);
            let side = side(pair.observed[index], packets);
            observed.insert(format!("{}{}", pair.prefix, pair.names[index]), side);
        }
    }
    if let Some(flag) = opening::flag(&measurement.intervals) {
        measurement
            .validity
            .flag(flag.severity, &flag.code, flag.evidence);
    }
    let opening = opening::compare(&measurement.intervals);
    observed.insert("opening".to_owned(), json!(Fact::of(opening)));
}

/// A side's observation without its counters, which have a place of their own in the report.
fn side(observed: &Observed, cpu_s_per_million_packets: Fact<f64>) -> Value {
    json!({
        "elapsed_s": observed.elapsed_s,
        "threads": observed.threads,
        "thread_cpus": observed.thread_cpus,
        "listener_cpus": observed.listener_cpus,
        "pace": observed.pace,
        "ring": observed.ring,
        "cpu_s_per_million_packets": cpu_s_per_million_packets,
        "cores": observed.cores,
        "busy_cores": observed.cores.clone().map(|cores| busy_cores(&cores)),
        "device": observed.device,
        "flows": observed.flows,
    })
}

/// How many cores' worth of time were spent; `null` in windows too short to tell.
fn busy_cores(cores: &[CoreUse]) -> Option<f64> {
    cores.iter().map(CoreUse::busy).sum()
}
