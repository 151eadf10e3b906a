//! The options of each case, as clap reads them, and how they become a [`Spec`].

use super::size::bytes;
use super::{
    EngineArgs, EngineName, EngineOptions, ErrorArgs, ErrorSpec, PaceArgs, PaceSpec, PatternArgs,
    PatternSpec, Place, PlacementArgs, Spec, SteadyArgs, VerifyArgs, VerifySpec, human, usage,
};
use crate::engine;
use crate::target::{self, Machine, SharedScratch};
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
    /// Operations in flight per job; a list makes a curve [default: 32; 1 for psync]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub iodepth: Vec<usize>,
    /// The most operations that one call submits: many save CPU time, few let the device start
    /// sooner [default: 8; 1 for psync]
    #[arg(long, value_name = "N")]
    pub iodepth_batch: Option<usize>,
    /// Jobs, each a thread with an engine of its own; a list makes a curve
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    pub numjobs: Vec<usize>,
    /// Bytes of the target that are used [default: all of it; 256m of a file that is created]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub size: Option<u64>,
    /// Bytes of the target before those that are used
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "0")]
    pub offset: u64,
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

/// How the target is opened.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
pub struct AccessArgs {
    /// Bypass the page cache with O_DIRECT
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true)]
    pub direct: bool,
    /// Drop the target from the page cache before the run
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true)]
    pub invalidate: bool,
}

/// Options of `file` and `block` alike.
#[derive(Debug, Clone, Args)]
pub struct IoArgs {
    /// What is done.
    #[command(flatten)]
    pub pattern: PatternArgs,
    /// How much of it.
    #[command(flatten)]
    pub load: LoadArgs,
    /// When.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// Until when.
    #[command(flatten)]
    pub steady: SteadyArgs,
    /// How it reaches the kernel.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What is checked.
    #[command(flatten)]
    pub verify: VerifyArgs,
    /// What becomes of errors.
    #[command(flatten)]
    pub errors: ErrorArgs,
    /// How the target is opened.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Options of `file`.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// What is done, and how.
    #[command(flatten)]
    pub io: IoArgs,
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
    /// What is done, and how.
    #[command(flatten)]
    pub io: IoArgs,
    /// Block device: /dev/nvme1n1. It must not be in use
    #[arg(long, value_name = "DEV", help_heading = "Target")]
    pub device: PathBuf,
    /// Allow what writes and trims to destroy what is on the device, named by its serial number and
    /// by the signatures on it: vol0abc, or vol0abc:ext4. Without it the refusal says what is on
    /// the device and what to type
    #[arg(long, value_name = "SERIAL[:SIGNATURE,...]", help_heading = "Target")]
    pub destroy: Option<String>,
}

/// Options of `null`.
#[derive(Debug, Clone, Args)]
pub struct NullArgs {
    /// What is done.
    #[command(flatten)]
    pub pattern: PatternArgs,
    /// How much of it.
    #[command(flatten)]
    pub load: LoadArgs,
    /// When.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// Where jobs run.
    #[command(flatten)]
    pub placement: PlacementArgs,
    /// Accepted for symmetry: this case has no other engine
    #[arg(long, value_enum, default_value = "null", hide = true)]
    pub engine: EngineName,
}

impl LoadArgs {
    /// Bytes that are used of a target that has so many, if it is there already.
    fn size_of(&self, existing: Option<u64>, place: &Place) -> anyhow::Result<u64> {
        let offset = self.offset;
        let behind = match existing {
            Some(bytes) if bytes <= offset => {
                return Err(usage(format!(
                    "--offset {}: the target has {bytes} bytes, so that nothing is left behind it",
                    human(offset)
                )));
            }
            existing => existing.map(|bytes| bytes - offset),
        };
        match (self.size, behind) {
            (Some(asked), Some(left)) if offset > 0 && asked > left => Err(usage(format!(
                "--size {}: behind --offset {} the target has {left} bytes",
                human(asked),
                human(offset)
            ))),
            (asked, left) => target::choose_size(asked, left, SIZE, place),
        }
    }

    /// A specification with these numbers and with the defaults of everything else.
    pub(crate) fn spec(
        &self,
        engine: EngineName,
        pattern: PatternSpec,
        place: Place,
        size: u64,
    ) -> anyhow::Result<Spec> {
        let depth = if engine == EngineName::Psync {
            1
        } else {
            IODEPTH
        };
        let iodepth = self.iodepth.first().copied().unwrap_or(depth);
        let ramp_time = if self.number_ios.is_some() { 0.0 } else { 1.0 };
        let spec = Spec {
            engine,
            options: EngineOptions::default(),
            pattern,
            iodepth,
            iodepth_batch: self.iodepth_batch.unwrap_or(BATCH).min(iodepth.max(1)),
            numjobs: self.numjobs.first().copied().unwrap_or(1),
            pace: PaceSpec::default(),
            steady: None,
            verify: VerifySpec::default(),
            errors: ErrorSpec::default(),
            direct: false,
            invalidate: false,
            size,
            offset: self.offset,
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
            shared: SharedScratch::default(),
            destroy: None,
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

impl IoArgs {
    /// Checks everything against everything, and fills defaults in.
    fn spec(&self, place: Place, size: u64) -> anyhow::Result<Spec> {
        let (engine, fallback) = self.engine.choose(engine::probe_uring);
        if engine == EngineName::Null {
            return Err(usage(
                "--engine null does no I/O; the case for it is `storage-bench null`",
            ));
        }
        let pattern = self.pattern.spec()?;
        let mut load = self.load.clone();
        if fallback.is_some() {
            // The flag on the result says what became of it.
            (load.iodepth, load.iodepth_batch) = (Vec::new(), None);
        }
        let mut spec = load.spec(engine, pattern, place, size)?;
        spec.options = self
            .engine
            .options(fallback.map(|why| told(&why, &self.load.iodepth)));
        spec.pace = self.pace.spec()?;
        spec.check_pace()?;
        spec.steady = self.steady.spec(spec.interval_s)?;
        if spec.steady.is_some() {
            spec.runtime_s = None;
            if spec.pace.latency_target.is_some() {
                return Err(usage(
                    "--latency-target makes many short runs, and --steady-state is of a long one: \
                     leave one of them out",
                ));
            }
        }
        spec.verify = self.verify.spec()?;
        spec.errors = self.errors.spec();
        spec.direct = self.access.direct;
        spec.invalidate = self.access.invalidate;
        if let (EngineName::Psync, Some(option)) = (engine, self.engine.only_uring()) {
            return Err(usage(format!(
                "{option} is of io_uring: leave it or --engine psync out"
            )));
        }
        spec.options.check(&spec)?;
        target::check_alignment(&spec)?;
        Ok(spec)
    }
}

/// The evidence for another engine than the default one.
fn told(why: &str, iodepths: &[usize]) -> String {
    let others = iodepths.iter().filter(|depth| **depth != 1);
    let others: Vec<String> = others.map(usize::to_string).collect();
    let depth = match others.is_empty() {
        false => format!(" and iodepth 1 instead of {}", others.join(", ")),
        true => " and iodepth 1".to_owned(),
    };
    format!("measured with psync{depth}, because io_uring cannot be used: {why}")
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
        let existing = target::inspect_file(&place, self.io.pattern.rw.rw)?;
        let size = self.io.load.size_of(existing, &place)?;
        let spec = self.io.spec(place, size)?;
        spec.check_verify(existing.is_none())?;
        Ok(spec)
    }
}

impl BlockArgs {
    /// Checks the options and looks at the device, without holding it.
    ///
    /// # Errors
    /// As for [`FileArgs::spec`].
    pub fn spec(&self) -> anyhow::Result<Spec> {
        let device = self.block_device()?;
        let wish = target::Wish {
            path: &device,
            rw: self.io.pattern.rw.rw,
            destroy: self.destroy.as_deref(),
            flags: 0,
        };
        let size = wish.inspect()?;
        let place = Place::Device(device);
        let size = self.io.load.size_of(Some(size), &place)?;
        let mut spec = self.io.spec(place, size)?;
        spec.destroy.clone_from(&self.destroy);
        spec.check_verify(target::changes(spec.pattern.rw))?;
        Ok(spec)
    }
}

impl BlockArgs {
    /// The device itself, or for an NVMe namespace named by its character device, the block device
    /// by which its use is checked.
    fn block_device(&self) -> anyhow::Result<PathBuf> {
        let name = self.device.file_name().and_then(|name| name.to_str());
        match name.and_then(engine::block_name) {
            Some(block) if self.io.engine.uring_cmd => Ok(self.device.with_file_name(block)),
            Some(block) => Err(usage(format!(
                "--device {}: it takes commands only; use --uring-cmd, or --device {}",
                self.device.display(),
                self.device.with_file_name(block).display()
            ))),
            None => Ok(self.device.clone()),
        }
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
        let pattern = self.pattern.spec()?;
        let mut spec = self.load.spec(self.engine, pattern, Place::Nowhere, size)?;
        spec.pace = self.pace.spec()?;
        spec.options = self.placement.options();
        spec.options.check(&spec)?;
        spec.check_pace()?;
        Ok(spec)
    }
}
