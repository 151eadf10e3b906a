//! The driver's part of the method: a clock and a slack for each point, raw samples, and what the
//! report says of them.

use super::pace::StoppedBy;
use super::tally::Tally;
use super::{Driver, Progress};
use crate::kernel::{Results, Timer};
use crate::method::Slack;
use crate::raw;
use crate::spec::{ClockKind, Point, Sync};
use crate::sys::Together;
use reports::model::{Aggregation, Direction, Metric, Severity, Unit, Validity};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A clock of all ranks is made anew after so long, between batches.
pub(super) const CLOCK_LASTS_NS: u64 = 2_000_000_000;

/// At most so many times so many untimed rounds find out whether the slack is enough.
pub(super) const MAX_SETTLING: usize = 20;
pub(super) const SETTLING_ROUNDS: u64 = 25;

/// Broadcasts whose lower quartile makes the first slack: in that many no rank waits for a CPU.
const BROADCASTS: usize = 21;

/// With more invalid rounds than this share, the result says so.
const TOLERATED_INVALID: f64 = 0.1;

impl Driver<'_> {
    /// Makes the clock of all ranks and the first slack for a point, as far as it asks for them.
    pub(super) fn prepare(&mut self, point: &Point) -> Option<Slack> {
        self.meeting.set_model(None);
        if let Some(kind) = point.clock {
            self.meeting.set_model(self.clocks.synchronise(kind));
        }
        if point.synchronisation != Some(Sync::RoundTime) {
            return None;
        }
        let slack = Slack::after_broadcasts_of(self.broadcast_time());
        self.meeting.set_slack(slack.length());
        Some(slack)
    }

    /// Makes the clock of all ranks anew, if it consists of several.
    pub(super) fn synchronise(&mut self, point: &Point) {
        if point.clock == Some(ClockKind::Hca3) && !self.clocks.is_one() {
            self.meeting
                .set_model(self.clocks.synchronise(ClockKind::Hca3));
        }
    }

    /// How long rank 0's word takes until all ranks have it: the lower
    /// quartile of several.
    fn broadcast_time(&self) -> Duration {
        let Some(model) = self.meeting.model() else {
            return Duration::ZERO;
        };
        let together = Together::of(self.world.comm());
        let mut lengths: Vec<u64> = (0..BROADCASTS)
            .map(|_| {
                together.barrier();
                let sent = together.broadcast(model.global_ns(self.clock.now()));
                let length = model.global_ns(self.clock.now()) - sent;
                self.world.max([length.max(0).cast_unsigned()])[0]
            })
            .collect();
        lengths.sort_unstable();
        Duration::from_nanos(lengths[BROADCASTS / 4])
    }

    /// Adds a batch to the raw samples, if they are wanted.
    pub(super) fn keep_raw(
        &mut self,
        timer: Timer,
        case: &str,
        point: &Point,
        first: u64,
        length: usize,
    ) -> anyhow::Result<()> {
        let (world, own) = (self.world, &self.stamps.own_ns[..length]);
        let Some(raw) = &mut self.raw else {
            return Ok(());
        };
        match timer {
            Timer::RankZero { .. } => {
                raw.gathered.clear();
                raw.gathered.extend_from_slice(own);
            }
            Timer::SlowestRank => world.gather_into(own, &mut raw.gathered),
        }
        let batch = raw::Batch {
            case,
            size_bytes: point.size_bytes,
            first,
            iterations: length,
            ns: &raw.gathered,
        };
        let written = match &mut raw.file {
            Some(file) => file.add(&batch, |rank| world.node_of(rank).name()),
            None => Ok(()),
        };
        world.agree(written)
    }

    /// What came of the method. All ranks call it; rank 0 gets the facts.
    pub(super) fn method_facts(
        &self,
        progress: &Progress<'_>,
        tally: &Tally,
        stopped_by: StoppedBy,
        validity: &mut Validity,
    ) -> Map<String, Value> {
        let mut facts = vec![("stopped_by", json!(stopped_by))];
        facts.extend(tally.facts(self.world));
        if let Some(slack) = progress.slack {
            let ns = slack.length().as_nanos() as u64;
            facts.push(("round_time_slack_ns", json!(ns)));
        }
        if progress.point.clock == Some(ClockKind::Hca3) {
            facts.extend(self.clock_facts(validity));
        }
        let named = facts.into_iter();
        named.map(|(name, fact)| (name.to_owned(), fact)).collect()
    }

    /// Each clock's model, and how far off it was at the end.
    fn clock_facts(&self, validity: &mut Validity) -> Vec<(&'static str, Value)> {
        if self.clocks.is_one() {
            let text = "all ranks read the same clock: there is nothing to model";
            return vec![("clock_model", json!(text))];
        }
        let clocks = self.clocks.check();
        for clock in clocks.iter().filter(|clock| clock.has_drifted()) {
            let evidence = format!(
                "rank {} on {} was {} ns off the clock of rank 0 at the end, and half of the \
                 shortest round trip is {} ns",
                clock.rank,
                self.world.node_of(clock.rank).name(),
                clock.error_ns,
                clock.round_trip_ns / 2
            );
            validity.flag(Severity::Degraded, "clock_drift", evidence);
        }
        let largest = clocks.iter().map(|clock| clock.error_ns.abs()).max();
        let models: Vec<Value> = clocks.iter().map(|clock| clock.fact(self.world)).collect();
        vec![
            ("clock_model", Value::Array(models)),
            ("clock_error_ns", json!(largest)),
        ]
    }
}

/// The share of rounds that did not count, for Round-Time; flagged if it is large.
pub(super) fn invalid_rounds(
    point: &Point,
    results: &Results,
    validity: &mut Validity,
) -> Option<Metric> {
    if point.synchronisation != Some(Sync::RoundTime) {
        return None;
    }
    let rounds = results.iterations + results.invalid;
    let share = results.invalid as f64 / rounds as f64;
    if share > TOLERATED_INVALID {
        let evidence = format!(
            "in {} of {rounds} rounds a rank was late for the beginning, and what made it late may \
             be what is to be measured",
            results.invalid
        );
        validity.flag(Severity::Degraded, "invalid_rounds", evidence);
    }
    Some(Metric::new(
        "invalid_rounds",
        Aggregation::Total,
        Unit::Ratio,
        Direction::LowerIsBetter,
        share,
        rounds,
    ))
}

/// Says when a point ended before it should.
pub(super) fn flag_ending(
    validity: &mut Validity,
    point: &Point,
    done: u64,
    stopped_by: StoppedBy,
    interval_width: Option<f64>,
) {
    if stopped_by == StoppedBy::Signal {
        let evidence = format!(
            "a signal ended the measurement after {done} of {} iterations",
            point.iterations
        );
        validity.flag(Severity::Invalid, "interrupted", evidence);
    }
    let Some(wanted) = point.ci_width.filter(|_| stopped_by != StoppedBy::Interval) else {
        return;
    };
    let limit = match stopped_by {
        StoppedBy::TimeBudget => "the time budget: raise --time-budget",
        _ => "all iterations: raise -i",
    };
    let width = match interval_width {
        Some(width) => format!("is {:.1} % of it wide", width * 100.0),
        None => "cannot be known".to_owned(),
    };
    let evidence = format!(
        "the 95 % interval of the median {width} after {done} iterations, and {:.1} % was asked \
         for; the point used {limit}",
        wanted * 100.0
    );
    validity.flag(Severity::Info, "interval_wide", evidence);
}
