//! Options: what users type, what it means, and whether it makes sense.
//!
//! The words are fio's, because that is what people who measure storage have in their fingers and
//! in their job files. What follows from the target (its size, its logical block) is checked in
//! [`crate::target`].

mod args;
mod cpus;
mod curve;
mod engine;
mod errors;
mod pace;
mod pattern;
mod size;
mod steady;
mod verify;

pub use args::{BlockArgs, FileArgs, LoadArgs, NullArgs};
pub use cpus::{CpuList, NodeChoice};
pub use engine::{EngineArgs, EngineName, EngineOptions, PlacementArgs, RingArgs};
pub use errors::{ErrorArgs, ErrorSpec, Tolerance};
pub use pace::{Arrival, LatencyTarget, PaceArgs, PaceSpec, latency_target};
pub use pattern::{
    Distribution, Kinds, PatternArgs, PatternSpec, Rw, RwArg, Share, Sizes, Split, SyncMode,
};
pub use size::{bytes, human};
pub use steady::{SteadyArgs, SteadySpec};
pub use verify::{Method, VerifyArgs, VerifySpec};

use crate::target::SharedScratch;
use reports::measure::{Limit, Plan};
use reports::program::Usage;
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What the I/O goes to, as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nothing: the null engine.
    Nowhere,
    /// A scratch file without a name, in this folder.
    Scratch(PathBuf),
    /// The file of this name.
    File(PathBuf),
    /// The block device of this name.
    Device(PathBuf),
}

/// Everything that shapes a run. What serialises are the report's parameters: they are equal on
/// machines that are to be compared, so the place is not among them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spec {
    /// How I/O reaches the kernel.
    pub engine: EngineName,
    /// How the engine is set up.
    #[serde(flatten)]
    pub options: EngineOptions,
    /// What is done, in which order and sizes.
    #[serde(flatten)]
    pub pattern: PatternSpec,
    /// Operations in flight per job.
    pub iodepth: usize,
    /// The most operations that one call submits.
    pub iodepth_batch: usize,
    /// Jobs, each a thread.
    pub numjobs: usize,
    /// When operations begin.
    #[serde(flatten)]
    pub pace: PaceSpec,
    /// Whether to run until the rate is steady.
    #[serde(flatten)]
    pub steady: Option<SteadySpec>,
    /// How much of the content is checked.
    #[serde(flatten)]
    pub verify: VerifySpec,
    /// What becomes of errors.
    #[serde(flatten)]
    pub errors: ErrorSpec,
    /// Whether the page cache is bypassed.
    pub direct: bool,
    /// Whether the target is dropped from the page cache first.
    pub invalidate: bool,
    /// Bytes of the target that are used.
    pub size: u64,
    /// Bytes of the target before those.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// Unmeasured time before the window, in seconds.
    pub ramp_time_s: f64,
    /// Length of the window in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_s: Option<f64>,
    /// Length of the window in operations per job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_ios: Option<u64>,
    /// Length of the reported slices in seconds.
    #[serde(skip)]
    pub interval_s: f64,
    /// Where random numbers begin.
    #[serde(skip)]
    pub seed: u64,
    /// What the I/O goes to.
    #[serde(skip)]
    pub place: Place,
    /// The scratch file that the points of a curve share.
    #[serde(skip)]
    pub shared: SharedScratch,
    /// Which device may be destroyed: a permission, and no parameter of what is measured.
    #[serde(skip)]
    pub destroy: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Direct I/O and block headers both want it.
pub const SECTOR: u64 = 512;
/// The largest `--bs`: one operation's length must fit the kernel's 31 bits.
const MAX_BS: u64 = 1 << 30;
/// The largest `--iodepth`, far beyond what any device queues.
const MAX_IODEPTH: usize = 4096;
const MAX_NUMJOBS: usize = 1024;
/// The most slices that each keep their distribution: an hour of seconds, below 10 MB of report.
pub(crate) const MOST_HISTOGRAMS: f64 = 3600.0;
/// The longest of all times.
const MAX_SECONDS: f64 = 30.0 * 86_400.0;

/// An error about the command line.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

impl Spec {
    /// The units of one of the jobs: an equal part where jobs are kept apart, else all.
    #[must_use]
    pub fn units_of(&self, job: usize) -> Range<u64> {
        let (align, unit) = (self.pattern.align(), self.pattern.unit());
        let first = self.offset / unit;
        let parts = if self.divided() { self.numjobs } else { 1 };
        // As many operations of the least length for each.
        let length = self.size / align / parts as u64 * (align / unit);
        let part = (job % parts) as u64;
        first + part * length..first + (part + 1) * length
    }

    /// Length of the window in seconds, where time bounds it.
    #[must_use]
    pub fn window_s(&self) -> f64 {
        let steady = self.steady.map(|steady| steady.timeout_s);
        steady.or(self.runtime_s).unwrap_or(args::RUNTIME_S)
    }

    /// How the harness drives this.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let seconds = Duration::from_secs_f64;
        let run = match self.number_ios {
            Some(count) => Limit::Ops(count),
            None => Limit::Duration(seconds(self.window_s())),
        };
        Plan {
            threads: self.numjobs,
            ramp: Duration::ZERO,
            warmup: Limit::Duration(seconds(self.ramp_time_s)),
            run,
            interval: seconds(self.interval_s),
            slice_histograms: self.slices() <= MOST_HISTOGRAMS,
        }
    }

    /// How many slices the window has; of a window that ends by a count, none is foreseen.
    fn slices(&self) -> f64 {
        let steady = self.steady.map(|steady| steady.timeout_s);
        steady.or(self.runtime_s).unwrap_or(0.0) / self.interval_s
    }

    /// Checks everything that can be checked without looking at the target.
    ///
    /// # Errors
    /// [`Usage`]: which option is wrong, why, and what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_sizes()?;
        self.check_counts()?;
        let times = [
            ("--runtime", self.runtime_s.unwrap_or(1.0), 0.001),
            ("--ramp-time", self.ramp_time_s, 0.0),
            ("--interval", self.interval_s, 0.01),
        ];
        for (option, seconds, least) in times {
            if !(least..=MAX_SECONDS).contains(&seconds) {
                return Err(usage(format!(
                    "{option} {seconds}: it takes seconds from {least} to {MAX_SECONDS} (30 days)"
                )));
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> anyhow::Result<()> {
        let (bs, size) = (self.pattern.largest(), self.size);
        if size < bs {
            return Err(usage(format!(
                "--size {}: it must hold at least one block of --bs {}",
                human(size),
                human(bs)
            )));
        }
        let end = size.checked_add(self.offset);
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(usage(format!("--size {size}: files end at 8 EiB")));
        }
        let align = self.pattern.align();
        if !self.offset.is_multiple_of(align) {
            return Err(usage(format!(
                "--offset {}: it takes a multiple of the block, which is {}",
                human(self.offset),
                human(align)
            )));
        }
        Ok(())
    }

    fn check_counts(&self) -> anyhow::Result<()> {
        let within = |option: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            Err(usage(format!("{option} {value}: from 1 to {most}")))
        };
        within("--iodepth", self.iodepth, MAX_IODEPTH)?;
        within("--iodepth-batch", self.iodepth_batch, MAX_IODEPTH)?;
        within("--numjobs", self.numjobs, MAX_NUMJOBS)?;
        if self.number_ios == Some(0) {
            return Err(usage("--number-ios 0: at least one operation is needed"));
        }
        if self.engine == EngineName::Psync && self.iodepth != 1 {
            return Err(usage(format!(
                "--iodepth {}: the engine psync waits for each call, its depth is 1 by nature; \
                 leave --iodepth out, or use --numjobs or --engine uring",
                self.iodepth
            )));
        }
        let part = self.units_of(0);
        let length = (part.end - part.start) * self.pattern.unit();
        if self.divided() && length < self.pattern.largest() {
            return Err(usage(format!(
                "--size {}: each of {} jobs needs at least one block of --bs {} for itself",
                human(self.size),
                self.numjobs,
                human(self.pattern.largest())
            )));
        }
        Ok(())
    }

    /// Whether each job has blocks of its own: sequential jobs would otherwise all do the same,
    /// and what two jobs write to one block could not be verified.
    #[must_use]
    pub fn divided(&self) -> bool {
        self.pattern.rw.writes() || !self.pattern.rw.random()
    }

    /// Slices of a round, where the run is to become steady.
    #[must_use]
    pub fn slices_per_round(&self) -> Option<usize> {
        let round_s = self.steady?.round_s;
        // Both were checked: at least one, at most 30 days of hundredths of a second.
        Some((round_s / self.interval_s).round() as usize)
    }

    /// Bytes of I/O buffers over all jobs.
    #[must_use]
    pub fn buffer_bytes(&self) -> u128 {
        let per_slot = if self.pattern.rw.both_ways() { 2 } else { 1 };
        u128::from(self.pattern.largest()) * self.iodepth as u128 * self.numjobs as u128 * per_slot
    }
}

/// A small specification, to be changed where a test or bench needs it.
#[must_use]
pub fn example() -> Spec {
    Spec {
        engine: EngineName::Psync,
        options: EngineOptions::default(),
        pattern: PatternSpec::default(),
        iodepth: 1,
        iodepth_batch: 1,
        numjobs: 1,
        pace: PaceSpec::default(),
        steady: None,
        verify: VerifySpec::default(),
        errors: ErrorSpec::default(),
        direct: false,
        invalidate: true,
        size: 1 << 20,
        offset: 0,
        ramp_time_s: 0.0,
        runtime_s: None,
        number_ios: Some(100),
        interval_s: 1.0,
        seed: 1,
        place: Place::Nowhere,
        shared: SharedScratch::default(),
        destroy: None,
    }
}

#[cfg(test)]
mod tests;
