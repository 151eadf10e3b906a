//! The options of each case, as clap reads them, and how they become a [`Spec`].

use super::size::bytes;
use super::{EngineName, Place, Rw, Spec, usage};
use crate::target::{self, Machine};
use clap::{ArgAction, Args};
use std::path::PathBuf;

/// Default length of the window in seconds.
pub(super) const RUNTIME_S: f64 = 10.0;
const IODEPTH: usize = 32;
const BATCH: usize = 8;
const SIZE: u64 = 256 << 20;

/// Options of every case.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load (fio's words)")]
pub struct LoadArgs {
    /// What is done in which order
    #[arg(long, value_enum, default_value = "randread")]
    pub rw: Rw,
    /// Share of reads in rw and randrw, in percent [default: 50]
    #[arg(long, value_name = "PERCENT")]
    pub rwmixread: Option<u32>,
    /// Bytes per operation (k, m, g are powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "4k")]
    pub bs: u64,
    /// Operations in flight per job [default: 32; 1 for psync]
    #[arg(long, value_name = "N")]
    pub iodepth: Option<usize>,
    /// The most operations that one call submits: many save CPU time, few let the device start
    /// sooner [default: 8; 1 for psync]
    #[arg(long, value_name = "N")]
    pub iodepth_batch: Option<usize>,
    /// Jobs, each a thread with an engine of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub numjobs: usize,
    /// Bytes of the target that are used [default: all of it; 256m of a file that is created]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub size: Option<u64>,
    /// Length of the measured window in seconds [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "number_ios",
        allow_negative_numbers = true
    )]
    pub runtime: Option<f64>,
    /// End each job's window after N operations instead (the batch under way is completed)
    #[arg(long, value_name = "N")]
    pub number_ios: Option<u64>,
    /// Unmeasured time before the window in seconds [default: 1; 0 with --number-ios]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub ramp_time: Option<f64>,
    /// Length of the reported slices in seconds; given explicitly, each is also shown [default: 1]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub interval: Option<f64>,
    /// Where random offsets begin; equal seeds give equal offsets [default: drawn, and recorded]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Options of the cases that do I/O.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// How I/O reaches the kernel
    #[arg(long, value_enum, default_value = "uring")]
    pub engine: EngineName,
    /// Bypass the page cache with O_DIRECT
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true)]
    pub direct: bool,
    /// Drop the target from the page cache before the run
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true)]
    pub invalidate: bool,
}

/// Options of `file`.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// What is done.
    #[command(flatten)]
    pub load: LoadArgs,
    /// How.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// File to use: an existing one is only read; a missing one is created and removed afterwards
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "dir",
        help_heading = "Target"
    )]
    pub filename: Option<PathBuf>,
    /// Folder for the scratch file, which has no name and vanishes with the process
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "Target")]
    pub dir: PathBuf,
}

/// Options of `block`.
#[derive(Debug, Clone, Args)]
pub struct BlockArgs {
    /// What is done.
    #[command(flatten)]
    pub load: LoadArgs,
    /// How.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Block device to read: /dev/nvme1n1. It must not be in use
    #[arg(long, value_name = "DEV", help_heading = "Target")]
    pub device: PathBuf,
}

/// Options of `null`.
#[derive(Debug, Clone, Args)]
pub struct NullArgs {
    /// What is done.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Accepted for symmetry: this case has no other engine
    #[arg(long, value_enum, default_value = "null", hide = true)]
    pub engine: EngineName,
}

impl LoadArgs {
    /// Fills defaults in.
    fn spec(&self, engine: EngineName, place: Place, size: u64) -> anyhow::Result<Spec> {
        let rwmixread = match (self.rw.mixed(), self.rwmixread) {
            (true, percent) => Some(percent.unwrap_or(50)),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(usage(
                    "--rwmixread divides reads from writes: it needs --rw rw or --rw randrw",
                ));
            }
        };
        let depth = if engine == EngineName::Psync {
            1
        } else {
            IODEPTH
        };
        let iodepth = self.iodepth.unwrap_or(depth);
        let ramp_time = if self.number_ios.is_some() { 0.0 } else { 1.0 };
        let spec = Spec {
            engine,
            rw: self.rw,
            rwmixread,
            bs: self.bs,
            iodepth,
            iodepth_batch: self.iodepth_batch.unwrap_or(BATCH).min(iodepth.max(1)),
            numjobs: self.numjobs,
            direct: false,
            invalidate: false,
            size,
            ramp_time_s: self.ramp_time.unwrap_or(ramp_time),
            runtime_s: match self.number_ios {
                None => Some(self.runtime.unwrap_or(RUNTIME_S)),
                Some(_) => None,
            },
            number_ios: self.number_ios,
            interval_s: self.interval.unwrap_or(1.0),
            // Half of the bits, so that every reader of JSON keeps them exactly.
            seed: self.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
            place,
        };
        spec.check()?;
        check_memory(&spec)?;
        Ok(spec)
    }
}

/// Refuses buffers that would push everything else out of memory.
fn check_memory(spec: &Spec) -> anyhow::Result<()> {
    let needed = spec.buffer_bytes();
    match Machine::default().available_bytes() {
        Ok(available) if needed > u128::from(available / 2) => Err(usage(format!(
            "the I/O buffers (--bs x --iodepth x --numjobs) need {needed} bytes, more than half of \
             the {available} bytes of available memory; lower one of the three"
        ))),
        _ => Ok(()),
    }
}

impl EngineArgs {
    fn apply(&self, mut spec: Spec) -> anyhow::Result<Spec> {
        if self.engine == EngineName::Null {
            return Err(usage(
                "--engine null does no I/O; the case for it is `storage-bench null`",
            ));
        }
        spec.direct = self.direct;
        spec.invalidate = self.invalidate;
        target::check_alignment(&spec)?;
        Ok(spec)
    }
}

impl FileArgs {
    /// Checks the options and looks at the target, without touching it.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self) -> anyhow::Result<Spec> {
        let place = match &self.filename {
            None => Place::Scratch(self.dir.clone()),
            Some(path) => Place::File(path.clone()),
        };
        let existing = target::inspect_file(&place, self.load.rw)?;
        let size = target::choose_size(self.load.size, existing, SIZE, &place)?;
        let spec = self.load.spec(self.engine.engine, place, size)?;
        self.engine.apply(spec)
    }
}

impl BlockArgs {
    /// Checks the options and looks at the device, without opening it.
    ///
    /// # Errors
    /// As for [`FileArgs::spec`].
    pub fn spec(&self) -> anyhow::Result<Spec> {
        let size = target::inspect_device(&self.device, self.load.rw)?;
        let place = Place::Device(self.device.clone());
        let size = target::choose_size(self.load.size, Some(size), SIZE, &place)?;
        let spec = self.load.spec(self.engine.engine, place, size)?;
        self.engine.apply(spec)
    }
}

impl NullArgs {
    /// Checks the options.
    ///
    /// # Errors
    /// As for [`FileArgs::spec`].
    pub fn spec(&self) -> anyhow::Result<Spec> {
        if self.engine != EngineName::Null {
            return Err(usage(
                "the case null has no engine but null; leave --engine out",
            ));
        }
        let size = self.load.size.unwrap_or(SIZE);
        self.load.spec(self.engine, Place::Nowhere, size)
    }
}
