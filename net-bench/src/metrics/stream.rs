//! The numbers of streams.

use super::{
    add_flags, bandwidth, bytes, cpu, facts, intervals, leg_of, schedule_metrics, segment, verified,
};
use crate::client::Finished;
use crate::control::message::{Leg, Role};
use crate::test::{Direction, Test};
use anyhow::Context;
use reports::model::{
    Aggregation, Direction as Better, Measurement, Metric, Severity, Unit, Validity, Work,
};
use serde_json::Map;

/// One direction of a stream: who sent and who received.
struct Pair<'a> {
    sender: &'a Leg,
    receiver: &'a Leg,
}

impl Pair<'_> {
    fn goodput(&self) -> f64 {
        self.receiver.work.bytes as f64 / self.receiver.elapsed_s
    }

    /// Rates of datagrams, and what became of those that were sent.
    fn datagrams(&self, prefix: &str) -> Vec<Metric> {
        let (Some(sent), Some(tally)) = (&self.sender.datagrams, &self.receiver.datagrams) else {
            return Vec::new();
        };
        let lost = sent.sent.saturating_sub(tally.received);
        let rate = |name: &str, leg: &Leg| {
            Metric::new(
                &format!("{prefix}{name}"),
                Aggregation::Total,
                Unit::PerSecond,
                Better::HigherIsBetter,
                leg.work.ops as f64 / leg.elapsed_s,
                leg.work.ops,
            )
        };
        let share = Metric::new(
            &format!("{prefix}loss_ratio"),
            Aggregation::Total,
            Unit::Ratio,
            Better::LowerIsBetter,
            lost as f64 / sent.sent as f64,
            sent.sent,
        );
        let count = |name: &str, value: u64| {
            Metric::new(
                &format!("{prefix}{name}"),
                Aggregation::Total,
                Unit::Count,
                Better::LowerIsBetter,
                value as f64,
                sent.sent,
            )
        };
        vec![
            rate("packets_per_s", self.receiver).headline(),
            share.headline(),
            rate("sender_packets_per_s", self.sender),
            count("lost_datagrams", lost),
            count("duplicate_datagrams", tally.duplicates),
            count("reordered_datagrams", tally.reordered),
            count("late_datagrams", tally.late),
            count("foreign_datagrams", tally.foreign),
        ]
    }

    fn metrics(&self, prefix: &str) -> Vec<Metric> {
        let named = |name: &str| format!("{prefix}{name}");
        let (sender, receiver) = (self.sender, self.receiver);
        let sent = sender.work.bytes as f64 / sender.elapsed_s;
        let mut metrics = self.datagrams(prefix);
        metrics.extend([
            bandwidth(
                &named("sender_bandwidth_bytes_per_s"),
                sent,
                sender.work.ops,
            ),
            cpu(&named("sender_cpu_s"), sender),
            cpu(&named("receiver_cpu_s"), receiver),
        ]);
        let buffers = [
            ("sender_buffer_bytes", &sender.buffer_bytes),
            ("receiver_buffer_bytes", &receiver.buffer_bytes),
        ];
        metrics.extend(buffers.into_iter().filter_map(|(name, size)| {
            let size = size.as_ref()?;
            Some(bytes(&named(name), size))
        }));
        metrics.extend(segment(prefix, sender));
        metrics.extend(sender.zerocopy.map(|tally| {
            let (lower, total) = (Better::LowerIsBetter, Aggregation::Total);
            let share = tally.copied as f64 / tally.sends as f64;
            let name = named("zerocopy_copied_ratio");
            Metric::new(&name, total, Unit::Ratio, lower, share, tally.sends)
        }));
        metrics
    }
}

/// The legs of streams; a probe may run beside them.
fn streaming(legs: impl Iterator<Item = Leg>) -> Vec<Leg> {
    legs.filter(|leg| matches!(leg.role, Role::Send | Role::Receive))
        .collect()
}

/// The numbers of a stream case.
///
/// # Errors
/// A side did not report its part.
pub fn stream(
    test: &Test,
    finished: &Finished,
    direction: Direction,
) -> anyhow::Result<Measurement> {
    let ours = streaming(finished.parts.iter().map(|part| part.leg()));
    let theirs = &streaming(finished.legs.iter().cloned());
    let pair = |sender: &'_ [Leg], receiver: &'_ [Leg]| -> anyhow::Result<(Leg, Leg)> {
        let sender = leg_of(sender, Role::Send)?.clone();
        Ok((sender, leg_of(receiver, Role::Receive)?.clone()))
    };
    let legs = match direction {
        Direction::Forward => vec![("", pair(&ours, theirs)?)],
        Direction::Reverse => vec![("", pair(theirs, &ours)?)],
        Direction::Bidirectional => vec![
            ("forward_", pair(&ours, theirs)?),
            ("reverse_", pair(theirs, &ours)?),
        ],
    };
    let pairs: Vec<(&str, Pair<'_>)> = legs
        .iter()
        .map(|(prefix, (sender, receiver))| (*prefix, Pair { sender, receiver }))
        .collect();
    let receivers: Vec<&Leg> = pairs.iter().map(|(_, pair)| pair.receiver).collect();
    let work: Work = receivers.iter().map(|leg| leg.work).sum();
    let total = pairs.iter().map(|(_, pair)| pair.goodput()).sum();
    let mut metrics = vec![bandwidth("bandwidth_bytes_per_s", total, work.ops).headline()];
    for (prefix, pair) in &pairs {
        if !prefix.is_empty() {
            let name = format!("{prefix}bandwidth_bytes_per_s");
            metrics.push(bandwidth(&name, pair.goodput(), pair.receiver.work.ops));
        }
        metrics.extend(pair.metrics(prefix));
    }
    let all: Vec<&Leg> = ours.iter().chain(theirs).collect();
    let totals = &finished.parts.first().context("no side took part")?.totals;
    let mut validity = Validity::default();
    add_flags(&mut validity, &ours, false);
    add_flags(&mut validity, theirs, finished.host.is_some());
    paced(&mut metrics, &mut validity, test, &pairs);
    Ok(Measurement {
        elapsed_s: receivers
            .iter()
            .map(|leg| leg.elapsed_s)
            .fold(0.0, f64::max)
            .into(),
        work: work.into(),
        verified: verified(&all),
        metrics,
        facts: pairs
            .first()
            .map_or_else(Map::new, |(_, pair)| facts(pair.sender)),
        histograms: Vec::new(),
        intervals: intervals(&receivers),
        matrices: Vec::new(),
        counters: totals.counters.clone(),
        validity,
    })
}

/// Adds to a stream how each sender kept its schedule.
fn paced(
    metrics: &mut Vec<Metric>,
    validity: &mut Validity,
    test: &Test,
    pairs: &[(&str, Pair<'_>)],
) {
    let Some(arrival) = test.stream_arrival() else {
        return;
    };
    for (prefix, pair) in pairs {
        let (sender, Some(kept)) = (pair.sender, &pair.sender.schedule) else {
            continue;
        };
        let achieved = sender.work.ops as f64 / (arrival.rate_per_s * sender.elapsed_s);
        let names = (*prefix, "unsent_sends");
        let done = (sender.work.ops, achieved);
        metrics.extend(schedule_metrics(names, arrival, kept, done));
        let observed = sender.observed.as_ref();
        let pace = observed.and_then(|observed| observed.pace);
        if pace.is_some_and(|pace| !pace.kept) {
            let evidence = format!(
                "the kernel took {:.1} % of the offered {} sends per second: they waited for a CPU, \
                 or for room in the socket's buffer behind a link that carries less",
                achieved * 100.0,
                arrival.rate_per_s
            );
            validity.flag(Severity::Degraded, "saturated", evidence);
        }
    }
}
