//! Options: what users type, what it means, and whether it makes sense.
//!
//! The words are fio's, because that is what people who measure storage have in their fingers and
//! in their job files. What follows from the target (its size, its logical block) is checked in
//! [`crate::target`].

mod args;
mod size;

pub use args::{BlockArgs, FileArgs, LoadArgs, NullArgs};
pub use size::{bytes, human};

use clap::ValueEnum;
use reports::measure::{Limit, Plan};
use reports::program::Usage;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How I/O reaches the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// io_uring, submitted and reaped in batches
    Uring,
    /// pread and pwrite, one at a time
    Psync,
    /// No I/O at all; for the case `null`
    Null,
}

/// fio's words for what is done in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rw {
    /// Sequential reads
    Read,
    /// Sequential writes
    Write,
    /// Random reads
    Randread,
    /// Random writes
    Randwrite,
    /// Sequential reads and writes, mixed
    Rw,
    /// Random reads and writes, mixed
    Randrw,
}

impl Rw {
    /// Whether some of the operations are writes.
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::Randread)
    }

    /// Whether some of the operations are reads.
    #[must_use]
    pub fn reads(self) -> bool {
        !matches!(self, Self::Write | Self::Randwrite)
    }

    /// Whether there are both.
    #[must_use]
    pub fn mixed(self) -> bool {
        matches!(self, Self::Rw | Self::Randrw)
    }

    /// Whether the order is random.
    #[must_use]
    pub fn random(self) -> bool {
        matches!(self, Self::Randread | Self::Randwrite | Self::Randrw)
    }
}

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
    /// What is done in which order.
    pub rw: Rw,
    /// Share of reads in a mix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rwmixread: Option<u32>,
    /// Bytes per operation.
    pub bs: u64,
    /// Operations in flight per job.
    pub iodepth: usize,
    /// The most operations that one call submits.
    pub iodepth_batch: usize,
    /// Jobs, each a thread.
    pub numjobs: usize,
    /// Whether the page cache is bypassed.
    pub direct: bool,
    /// Whether the target is dropped from the page cache first.
    pub invalidate: bool,
    /// Bytes of the target that are used.
    pub size: u64,
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
}

/// Direct I/O and block headers both want it.
pub const SECTOR: u64 = 512;
/// The largest `--bs`: one operation's length must fit the kernel's 31 bits.
const MAX_BS: u64 = 1 << 30;
/// The largest `--iodepth`, far beyond what any device queues.
const MAX_IODEPTH: usize = 4096;
const MAX_NUMJOBS: usize = 1024;
/// The longest of all times.
const MAX_SECONDS: f64 = 30.0 * 86_400.0;

/// An error about the command line.
pub(crate) fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

impl Spec {
    /// Blocks of the target that are used.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.size / self.bs
    }

    /// How the harness drives this.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let seconds = Duration::from_secs_f64;
        let run = match (self.number_ios, self.runtime_s) {
            (Some(count), _) => Limit::Ops(count),
            (None, length) => Limit::Duration(seconds(length.unwrap_or(args::RUNTIME_S))),
        };
        Plan {
            threads: self.numjobs,
            ramp: Duration::ZERO,
            warmup: Limit::Duration(seconds(self.ramp_time_s)),
            run,
            interval: seconds(self.interval_s),
        }
    }

    /// Checks everything that can be checked without looking at the target.
    ///
    /// # Errors
    /// [`Usage`]: which option is wrong, why, and what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_sizes()?;
        self.check_counts()?;
        if self.rwmixread.is_some_and(|percent| percent > 100) {
            return Err(usage("--rwmixread is a percentage, from 0 to 100"));
        }
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
        let (bs, size) = (self.bs, self.size);
        if bs == 0 || !bs.is_multiple_of(SECTOR) || bs > MAX_BS {
            return Err(usage(format!(
                "--bs {bs}: a block is a multiple of {SECTOR} bytes, from {SECTOR} to 1g"
            )));
        }
        if size < bs {
            return Err(usage(format!(
                "--size {}: it must hold at least one block of --bs {}",
                human(size),
                human(bs)
            )));
        }
        if i64::try_from(size).is_err() {
            return Err(usage(format!("--size {size}: files end at 8 EiB")));
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
        if self.divided() && self.blocks() < self.numjobs as u64 {
            return Err(usage(format!(
                "--size {}: each of {} jobs needs at least one block of --bs {} for itself",
                human(self.size),
                self.numjobs,
                human(self.bs)
            )));
        }
        Ok(())
    }

    /// Whether each job has blocks of its own: sequential jobs would otherwise all do the same,
    /// and what two jobs write to one block could not be verified.
    #[must_use]
    pub fn divided(&self) -> bool {
        self.rw.writes() || !self.rw.random()
    }

    /// Bytes of I/O buffers over all jobs.
    #[must_use]
    pub fn buffer_bytes(&self) -> u128 {
        let per_slot = if self.rw.mixed() { 2 } else { 1 };
        u128::from(self.bs) * self.iodepth as u128 * self.numjobs as u128 * per_slot
    }
}

#[cfg(test)]
mod tests;
