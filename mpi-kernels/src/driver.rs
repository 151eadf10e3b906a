//! Drives one point: preparation, validation, warm-up, timed iterations, validation, numbers.
//!
//! Iterations run in batches of about 100 ms. Between batches, outside of what is timed, the ranks
//! put their times together and agree whether to go on and how long the next batch is. So an
//! interruption is answered soon, a time budget holds to about a batch, memory does not grow with
//! the iterations, and all ranks always do the same number of them.

mod method;
mod pace;
mod tally;

use crate::evidence::{Evidence, Transport};
use crate::kernel::{INVALID, Kernel, Results, Timer};
use crate::kernels::{Kind, Row, Timed};
use crate::memory;
use crate::merge;
use crate::method::clock::Clocks;
use crate::method::{Meeting, Setting, Slack};
use crate::raw::{self, Raw};
use crate::spec::Point;
use crate::world::World;
pub(crate) use pace::MAX_BATCH;
use pace::{Limits, Pace, StoppedBy};
use reports::measure::{Clock, Ticks, Watch, histogram_record, stop_requested};
use reports::model::{Counter, Measurement, Validity};
use serde_json::{Map, Value, json};
use tally::{Batch, Tally};

/// The most times of all ranks together that rank 0 gathers at once for the raw samples.
const MAX_GATHERED: usize = 1 << 20;

/// The driver of one rank: its stamps, and what lasts from point to point.
pub struct Driver<'w> {
    world: &'w World,
    transport: Transport,
    clock: Clock,
    clocks: Clocks<'w>,
    meeting: Meeting,
    stamps: Stamps,
    raw: Option<RawSamples>,
    interrupted: bool,
}

/// This rank's stamps of a batch and what all ranks made of them: made once, as long as a batch may
/// be.
struct Stamps {
    ticks: Vec<Ticks>,
    own_ns: Vec<u64>,
    largest_ns: Vec<u64>,
    entered_ns: Vec<u64>,
    latest_ns: Vec<u64>,
    earliest_ns: Vec<u64>,
    /// Whether the last three are of this batch.
    has_entries: bool,
}

/// The raw samples of a run: the file on rank 0, on the others only that there is one.
struct RawSamples {
    file: Option<Raw>,
    gathered: Vec<u64>,
}

/// What a batch tells of the point that it belongs to.
struct Progress<'p> {
    timed: &'p Timed,
    point: &'p Point,
    pace: Pace,
    /// For Round-Time: how far ahead rounds are named.
    slack: Option<Slack>,
}

impl<'w> Driver<'w> {
    /// A driver for one rank of the world, all of which make theirs at once. For raw samples all
    /// ranks give `Some`, and rank 0 gives the file.
    #[must_use]
    pub fn new(world: &'w World, raw: Option<Option<Raw>>) -> Self {
        let room = || vec![0; MAX_BATCH];
        Self {
            world,
            transport: Transport::of(world),
            clock: Clock::get(),
            clocks: Clocks::new(world),
            meeting: Meeting::new(MAX_BATCH),
            stamps: Stamps {
                ticks: room(),
                own_ns: room(),
                largest_ns: room(),
                entered_ns: room(),
                latest_ns: room(),
                earliest_ns: room(),
                has_entries: false,
            },
            raw: raw.map(|file| RawSamples {
                file,
                gathered: Vec::new(),
            }),
            interrupted: false,
        }
    }

    /// Whether some rank was asked to stop. All ranks know the same.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// Measures a point. Only rank 0 gets the measurement.
    ///
    /// # Errors
    /// The same on all ranks: the first fault of the lowest rank that had one.
    pub fn measure(&mut self, row: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
        self.world.agree(enough_memory(self.world, row, point))?;
        let evidence = Evidence::before(self.world);
        let slack = self.prepare(point);
        let measurement = match &row.kind {
            Kind::Timed(timed) => {
                let progress = Progress {
                    timed,
                    point,
                    pace: Pace::up_to(self.largest_batch()),
                    slack,
                };
                self.iterate(&raw::case(row, point), progress)
            }
            Kind::Whole(whole) => (whole.run)(self, row, point),
        }?;
        Ok(evidence.after(&self.transport, row, point, measurement))
    }

    /// Asks all ranks whether one of them was told to stop, and remembers it. All ranks call it
    /// alike, and none leaves before all have entered.
    pub fn stop(&mut self) -> bool {
        let [stop] = self.world.max([u64::from(stop_requested())]);
        self.interrupted |= stop > 0;
        self.interrupted
    }

    /// The world that this rank is in.
    #[must_use]
    pub fn world(&self) -> &'w World {
        self.world
    }

    /// What a kernel at this point is made from.
    #[must_use]
    pub fn setting<'p>(&'p self, point: &'p Point) -> Setting<'w, 'p> {
        Setting {
            world: self.world,
            point,
            meeting: &self.meeting,
        }
    }

    /// Ends the run's raw samples.
    ///
    /// # Errors
    /// What became of their file. Only rank 0 has one.
    pub fn finish(self) -> anyhow::Result<()> {
        let file = self.raw.and_then(|raw| raw.file);
        file.map_or(Ok(()), Raw::finish)
    }

    fn largest_batch(&self) -> usize {
        match self.raw {
            Some(_) => MAX_GATHERED / self.world.ranks(),
            None => MAX_BATCH,
        }
    }

    /// Measures a point of a kernel of iterations.
    fn iterate(
        &mut self,
        case: &str,
        mut progress: Progress<'_>,
    ) -> anyhow::Result<Option<Measurement>> {
        let world = self.world;
        let Progress { timed, point, .. } = progress;
        let mut kernel = world.agree((timed.build)(self.setting(point)))?;
        let kernel = kernel.as_mut();
        let mut checks = world.agree(kernel.validate())?;
        self.warm_up(kernel, &mut progress)?;

        kernel.warmed_up();

        let mut tally = Tally::new(timed.timer, world);
        let watch = world.leads_node().then(Watch::start);
        let (done, stopped_by) = self.time(kernel, &mut progress, case, &mut tally)?;
        let (counters, mut validity) = disturbances(world, watch);

        checks += world.agree(kernel.validate())?;
        let checks = world.sum(checks);
        anyhow::ensure!(checks > 0, "nothing was verified");
        let extras = kernel.extras(world);
        let of_method = self.method_facts(&progress, &tally, stopped_by, &mut validity);
        let interval_width = tally.interval_width();
        let results = tally.results(world, done);
        // All ranks know how many were invalid, so all leave here or none.
        anyhow::ensure!(
            results.iterations > 0,
            "a rank was late for the beginning of each of {done} iterations: use --sync barrier"
        );
        if !world.is_root() {
            return Ok(None);
        }
        method::flag_ending(&mut validity, point, done, stopped_by, interval_width);
        world.flag_oversubscription(&mut validity);
        let mut metrics = (timed.metrics)(&results, point);
        metrics.extend(method::invalid_rounds(point, &results, &mut validity));
        metrics.extend(extras.metrics);
        let mut histograms = vec![histogram_record(timed.histogram, &results.histogram)];
        histograms.extend(extras.histograms);
        let mut facts = with(facts(world, &results), kernel.facts(&results));
        facts.extend(of_method);
        facts.extend(extras.facts);
        Ok(Some(Measurement {
            elapsed_s: results.elapsed_s().into(),
            work: (timed.work)(results.iterations, point).into(),
            verified: format!("{checks} {}", timed.verified),
            metrics,
            facts,
            histograms,
            intervals: Vec::new(),
            matrices: Vec::new(),
            counters,
            validity,
        }))
    }

    /// Warms up; for Round-Time until the slack is settled, too.
    fn warm_up(
        &mut self,
        kernel: &mut dyn Kernel,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<()> {
        let point = progress.point;
        let limits = Limits::of(point.warmup, point.time_budget_s);
        self.repeat(kernel, progress, limits, |_, _| Ok(false))?;
        for _ in 0..method::MAX_SETTLING {
            let settled = progress.slack.is_none_or(|slack| slack.is_settled());
            if settled || self.interrupted {
                break;
            }
            let limits = Limits::of(method::SETTLING_ROUNDS, None);
            self.repeat(kernel, progress, limits, |_, _| Ok(false))?;
        }
        Ok(())
    }

    /// Runs the timed iterations. Returns how many it were, and what ended them.
    fn time(
        &mut self,
        kernel: &mut dyn Kernel,
        progress: &mut Progress<'_>,
        case: &str,
        tally: &mut Tally,
    ) -> anyhow::Result<(u64, StoppedBy)> {
        let (timer, point) = (progress.timed.timer, progress.point);
        // An interrupted warm-up still leads to one iteration: a number, flagged as worthless,
        // says more than none.
        let wanted = if self.interrupted {
            1
        } else {
            point.iterations
        };
        let limits = Limits::of(wanted, point.time_budget_s);
        let mut first = 0;
        self.repeat(kernel, progress, limits, |driver, length| {
            let batch = driver.stamps.batch(length);
            tally.add(batch);
            driver.keep_raw(timer, case, point, first, length)?;
            first += length as u64;
            let is_root = driver.world.is_root();
            Ok(is_root && point.ci_width.is_some_and(|width| tally.is_narrow(width)))
        })
    }

    /// Runs iterations until a limit is reached, a rank was asked to stop, or rank 0's `take` of a
    /// batch says that it is enough. Returns how many it were, and what ended them.
    fn repeat(
        &mut self,
        kernel: &mut dyn Kernel,
        progress: &mut Progress<'_>,
        limits: Limits,
        mut take: impl FnMut(&mut Self, usize) -> anyhow::Result<bool>,
    ) -> anyhow::Result<(u64, StoppedBy)> {
        let began = self.clock.now();
        let (mut done, mut elapsed_ns, mut synchronised_ns) = (0, 0, 0);
        loop {
            if let Some(reason) = limits.reached(done, elapsed_ns) {
                return Ok((done, reason));
            }
            let left_ns = limits.budget_ns - elapsed_ns;
            let length = progress.pace.next(limits.iterations - done, left_ns);
            self.meeting.clear();
            let start = self.clock.now();
            let ran = kernel.run(&mut self.stamps.ticks[..length]);
            let batch_ns = self.clock.ns(self.clock.now().saturating_sub(start));
            self.world.agree(ran)?;
            self.merge(progress, length);
            let narrow = u64::from(take(self, length)?);
            done += length as u64;
            let stop = u64::from(stop_requested());
            let own_ns = self.clock.ns(self.clock.now().saturating_sub(began));
            let all = self.world.max([stop, batch_ns, own_ns, narrow]);
            let [stop, batch_ns, longest_ns, narrow] = all;
            elapsed_ns = longest_ns;
            progress.pace.learn(batch_ns, length);
            if stop > 0 {
                self.interrupted = true;
                return Ok((done, StoppedBy::Signal));
            }
            if narrow > 0 {
                return Ok((done, StoppedBy::Interval));
            }
            if elapsed_ns - synchronised_ns > method::CLOCK_LASTS_NS {
                self.synchronise(progress.point);
                synchronised_ns = elapsed_ns;
            }
        }
    }

    /// Puts the ranks' stamps of a batch together.
    fn merge(&mut self, progress: &mut Progress<'_>, length: usize) {
        let stamps = &mut self.stamps;
        for (ns, &ticks) in stamps.own_ns.iter_mut().zip(&stamps.ticks[..length]) {
            *ns = match ticks {
                INVALID => u64::MAX,
                ticks => self.clock.ns(ticks),
            };
        }
        let own = &stamps.own_ns[..length];
        match progress.timed.timer {
            Timer::RankZero { .. } => {
                stamps.largest_ns[..length].copy_from_slice(own);
                stamps.has_entries = false;
            }
            Timer::SlowestRank => {
                self.world.max_into(own, &mut stamps.largest_ns[..length]);
                self.compare_entries(length);
            }
        }
        let invalid = self.stamps.batch(length).invalid();
        if let Some(slack) = &mut progress.slack {
            slack.judge(length as u64, invalid);
            self.meeting.set_slack(slack.length());
        }
    }

    /// Finds out when the first rank and the last one entered each iteration, if there is a clock
    /// of all ranks.
    fn compare_entries(&mut self, length: usize) {
        let stamps = &mut self.stamps;
        stamps.has_entries = false;
        if self.meeting.model().is_none() {
            return;
        }
        let entered = &mut stamps.entered_ns[..length];
        match self.meeting.entries_ns(length) {
            // Rank 0's clock began at 0.
            Some(entries) => entered
                .iter_mut()
                .zip(entries)
                .for_each(|(slot, ns)| *slot = ns.max(0).cast_unsigned()),
            // So all ranks learn that one does not know.
            None => entered.fill(u64::MAX),
        }
        self.world
            .max_into(entered, &mut stamps.latest_ns[..length]);
        // The least is the complement of the largest complement.
        let earliest = &mut stamps.earliest_ns[..length];
        let complement = |numbers: &mut [u64]| numbers.iter_mut().for_each(|ns| *ns = !*ns);
        complement(entered);
        self.world.max_into(entered, earliest);
        complement(entered);
        complement(earliest);
        stamps.has_entries = true;
    }
}

impl Stamps {
    /// The first iterations, put together.
    fn batch(&self, length: usize) -> Batch<'_> {
        let entries = [&self.entered_ns, &self.latest_ns, &self.earliest_ns];
        Batch {
            own: &self.own_ns[..length],
            merged: &self.largest_ns[..length],
            entries: entries.map(|ns| if self.has_entries { &ns[..length] } else { &[] }),
        }
    }
}

fn enough_memory(world: &World, row: &Row, point: &Point) -> anyhow::Result<()> {
    let on_this_node = world.node_of(world.rank()).ranks();
    let (bytes, users) = match &row.kind {
        Kind::Timed(timed) => {
            let users = match timed.timer {
                Timer::RankZero { .. } => on_this_node.iter().filter(|&&rank| rank < 2).count(),
                Timer::SlowestRank => on_this_node.len(),
            };
            (timed.buffers * point.size() as u64, users)
        }
        Kind::Whole(whole) => ((whole.memory)(point), on_this_node.len()),
    };
    memory::ensure_available(bytes, users as u64)
}

/// What disturbed the nodes while the iterations were timed, and the counters of rank 0's node.
pub(crate) fn disturbances(world: &World, watch: Option<Watch>) -> (Vec<Counter>, Validity) {
    let (counters, own) = watch.map(Watch::stop).unwrap_or_default();
    // A struct of strings always serialises.
    let texts = world.gather_from_nodes(|| serde_json::to_string(&own).unwrap_or_default());
    let mut all = Validity::default();
    for (node, text) in world.nodes().iter().zip(texts) {
        let of_node: Validity = serde_json::from_str(&text).unwrap_or_default();
        for flag in of_node.flags {
            let evidence = format!("on {}: {}", node.name(), flag.evidence);
            all.flag(flag.severity, &flag.code, evidence);
        }
    }
    (counters, all)
}

/// What was really used, and who was slow.
fn facts(world: &World, results: &Results) -> Map<String, Value> {
    let mut facts = world.facts();
    if let Some((rank, count)) = merge::slowest_rank(&results.ranks) {
        let slowest = json!({
            "rank": rank,
            "host": world.node_of(rank).name(),
            "iterations": count,
            "of": results.iterations,
        });
        facts.insert("most_often_slowest".to_owned(), slowest);
    }
    facts
}

/// Facts and further ones; what is an object in both becomes one.
fn with(mut facts: Map<String, Value>, more: Map<String, Value>) -> Map<String, Value> {
    for (name, fact) in more {
        match (facts.get_mut(&name), fact) {
            (Some(Value::Object(known)), Value::Object(fact)) => known.extend(fact),
            (_, fact) => {
                facts.insert(name, fact);
            }
        }
    }
    facts
}
