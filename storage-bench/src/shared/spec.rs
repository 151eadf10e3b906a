//! The options of `shared`, in IOR's words, and whether they make sense.

use super::layout::{Grid, Layout, Partners};
use crate::crew::{Crew, check_folder, check_folder_here};
use crate::engine::probe_uring;
use crate::spec::{EngineArgs, EngineName, EngineOptions, bytes, human, usage};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

const BLOCK: u64 = 64 << 20;
const DEPTH: usize = 8;
/// The largest transfer: one operation's length must fit the kernel's 31 bits.
const MAX_TRANSFER: u64 = 1 << 30;
/// The smallest: a transfer carries a header of its own.
const MIN_TRANSFER: u64 = 64;
/// What direct I/O takes on every device.
const SECTOR: u64 = 512;

/// How much of what is read is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckRead {
    /// Header and eight words of every transfer
    Sample,
    /// Every byte, within the timed reads (IOR -R)
    Full,
}

/// A fault put in on purpose, for tests of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spoil {
    /// One bit of what rank 0 wrote flips between the phases.
    Damage,
    /// Rank 0 keeps what it should write anew.
    Stale,
    /// The last rank fails while it writes.
    Fail,
}

/// The options as users type them.
#[derive(Debug, Clone, Args)]
pub struct SharedArgs {
    /// Folder on the shared file system; a scratch folder is made in it and removed afterwards
    #[arg(long, value_name = "DIR", default_value = ".", help_heading = "Target")]
    pub dir: PathBuf,
    /// Bypass the page cache with O_DIRECT
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = false, help_heading = "Target")]
    pub direct: bool,
    /// Drop what was written from the page caches of its writer and reader before it is read
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true, help_heading = "Target")]
    pub drop_cache: bool,
    /// How the ranks' data lie in files
    #[arg(
        long,
        value_enum,
        default_value = "file-per-rank",
        help_heading = "Load (IOR's words)"
    )]
    pub layout: Layout,
    /// Bytes per operation (k, m, g are powers of 1024); IOR's hard size is 47008
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1m", help_heading = "Load (IOR's words)")]
    pub transfer: u64,
    /// Contiguous bytes of a rank per segment [default: the largest multiple of
    /// --transfer up to 64m]
    #[arg(long, value_name = "SIZE", value_parser = bytes, help_heading = "Load (IOR's words)")]
    pub block: Option<u64>,
    /// Blocks of each rank
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load (IOR's words)"
    )]
    pub segments: u64,
    /// Operations in flight per rank [default: 8; 1 for psync]
    #[arg(long, value_name = "N", help_heading = "Load (IOR's words)")]
    pub iodepth: Option<usize>,
    /// Flush each file before it is closed (IOR -e)
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true, help_heading = "Load (IOR's words)")]
    pub fsync: bool,
    /// Stop writing after so many seconds (IOR -D); what was written then is read
    #[arg(
        long,
        value_name = "SECONDS",
        allow_negative_numbers = true,
        help_heading = "Load (IOR's words)"
    )]
    pub stonewall: Option<f64>,
    /// After the stonewall all ranks go on until each has written as much as the fastest had
    /// (IOR's stoneWallingWearOut)
    #[arg(long, requires = "stonewall", help_heading = "Load (IOR's words)")]
    pub wear_out: bool,
    /// Read what the rank N further wrote (IOR -Q) [default: the ranks of a node, so that nobody
    /// reads what its own node has cached]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "random_order",
        help_heading = "Load (IOR's words)"
    )]
    pub shift: Option<usize>,
    /// Read in random order of ranks instead (as IOR -Z, but never one's own)
    #[arg(long, help_heading = "Load (IOR's words)")]
    pub random_order: bool,
    /// Where random numbers begin [default: drawn, and recorded]
    #[arg(long, value_name = "N", help_heading = "Load (IOR's words)")]
    pub seed: Option<u64>,
    /// How I/O reaches the kernel.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// How much of what is read is checked
    #[arg(
        long,
        value_enum,
        default_value = "sample",
        help_heading = "Verification"
    )]
    pub check_read: CheckRead,
    /// After the reads, check that what is written anew and closed is what others then open and
    /// read: NFS's close-to-open
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = true, help_heading = "Verification")]
    pub close_to_open: bool,
    /// End the job if no rank gets on for so many seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1800.0,
        allow_negative_numbers = true,
        help_heading = "Verification"
    )]
    pub deadline: f64,
    /// Put a fault in, to see it found.
    #[arg(long, value_enum, hide = true)]
    pub spoil: Option<Spoil>,
}

/// What they come to. What serialises are the report's parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SharedSpec {
    /// How the ranks' data lie in files.
    pub layout: Layout,
    /// Bytes per operation.
    pub transfer: u64,
    /// Contiguous bytes of a rank per segment.
    pub block: u64,
    /// Blocks of each rank.
    pub segments: u64,
    /// How I/O reaches the kernel.
    pub engine: EngineName,
    /// How the engine is set up.
    #[serde(flatten)]
    pub options: EngineOptions,
    /// Operations in flight per rank.
    pub iodepth: usize,
    /// Whether the page cache is bypassed.
    pub direct: bool,
    /// Whether page caches are dropped before the reads.
    pub drop_cache: bool,
    /// Whether files are flushed before they are closed.
    pub fsync: bool,
    /// When the writing stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stonewall_s: Option<f64>,
    /// Whether all ranks then come up with the fastest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wear_out: bool,
    /// How far away the rank is whose data are read; `None` in random order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<usize>,
    /// How much of what is read is checked.
    pub check_read: CheckRead,
    /// Whether close-to-open is checked.
    #[serde(skip)]
    pub close_to_open: bool,
    /// Ranks.
    pub ranks: usize,
    /// Nodes.
    pub nodes: usize,
    /// Where random numbers begin.
    #[serde(skip)]
    pub seed: u64,
    /// When a job that hangs is ended.
    #[serde(skip)]
    pub deadline: Duration,
    /// Where.
    #[serde(skip)]
    pub dir: PathBuf,
    /// A fault put in on purpose.
    #[serde(skip)]
    pub spoil: Option<Spoil>,
    /// Whether `shift` is the default, to be chosen when the ranks are known.
    #[serde(skip)]
    shift_is_open: bool,
}

/// A time that is given in seconds.
pub(crate) fn seconds(option: &str, value: f64) -> anyhow::Result<Duration> {
    if !(0.001..=30.0 * 86_400.0).contains(&value) {
        return Err(usage(format!(
            "{option} {value}: it takes seconds from 0.001 to 2592000 (30 days)"
        )));
    }
    Ok(Duration::from_secs_f64(value))
}

impl SharedArgs {
    /// Checks the options, and touches nothing.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self) -> anyhow::Result<SharedSpec> {
        let (engine, fallback) = self.engine.choose(probe_uring);
        if engine == EngineName::Null {
            return Err(usage(
                "--engine null does no I/O; `storage-bench null` is its case",
            ));
        }
        if self.engine.hipri || self.engine.uring_cmd {
            return Err(usage(
                "--hipri and --uring-cmd are of block devices: leave them out",
            ));
        }
        let depth = if engine == EngineName::Psync {
            1
        } else {
            DEPTH
        };
        let block = self.block.unwrap_or_else(|| {
            let transfer = self.transfer.max(1);
            (BLOCK / transfer).max(1) * transfer
        });
        let spec = SharedSpec {
            layout: self.layout,
            transfer: self.transfer,
            block,
            segments: self.segments,
            engine,
            options: self.engine.options(fallback),
            iodepth: self.iodepth.unwrap_or(depth),
            direct: self.direct,
            drop_cache: self.drop_cache,
            fsync: self.fsync,
            stonewall_s: self.stonewall,
            wear_out: self.wear_out,
            shift: self.shift,
            check_read: self.check_read,
            close_to_open: self.close_to_open,
            ranks: 1,
            nodes: 1,
            // Half of the bits, so that every reader of JSON keeps them exactly.
            seed: self.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
            deadline: seconds("--deadline", self.deadline)?,
            dir: self.dir.clone(),
            spoil: self.spoil,
            shift_is_open: self.shift.is_none() && !self.random_order,
        };
        spec.check()?;
        Ok(spec)
    }
}

impl SharedSpec {
    fn check(&self) -> anyhow::Result<()> {
        let transfer = self.transfer;
        if !(MIN_TRANSFER..=MAX_TRANSFER).contains(&transfer) || !transfer.is_multiple_of(8) {
            return Err(usage(format!(
                "--transfer {transfer}: a multiple of 8 bytes, from {MIN_TRANSFER} to 1g"
            )));
        }
        if self.block == 0 || !self.block.is_multiple_of(transfer) {
            return Err(usage(format!(
                "--block {}: it must be a multiple of --transfer {}",
                human(self.block),
                human(transfer)
            )));
        }
        let whole = u128::from(self.block) * u128::from(self.segments);
        if self.segments == 0 || whole > 1 << 56 {
            return Err(usage(format!(
                "--segments {}: at least 1, and at most 64 PiB per rank",
                self.segments
            )));
        }
        if !(1..=4096).contains(&self.iodepth) {
            return Err(usage(format!("--iodepth {}: from 1 to 4096", self.iodepth)));
        }
        if self.engine == EngineName::Psync && self.iodepth != 1 {
            return Err(usage(format!(
                "--iodepth {}: the engine psync waits for each call, its depth is 1 by nature",
                self.iodepth
            )));
        }
        if self.direct && !transfer.is_multiple_of(SECTOR) {
            return Err(usage(format!(
                "--transfer {transfer} with --direct true: direct I/O takes multiples of {SECTOR} \
                 bytes; use --direct false, or --transfer {}",
                transfer.next_multiple_of(SECTOR)
            )));
        }
        if let Some(stonewall) = self.stonewall_s {
            seconds("--stonewall", stonewall)?;
        }
        check_folder_here(&self.dir)
    }

    /// Completes it with what the ranks are.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: a shift that leads nowhere else.
    pub fn settle(&mut self, crew: &dyn Crew) -> anyhow::Result<()> {
        crew.agree(check_folder(&self.dir))?;
        (self.ranks, self.nodes) = (crew.ranks(), crew.nodes());
        // Each rank drew one; rank 0's is the one that the report names.
        self.seed = crew.broadcast(self.seed.to_string()).parse()?;
        if self.shift_is_open {
            self.shift = Some(default_shift(crew));
        }
        match self.shift {
            Some(shift) if shift >= self.ranks && self.ranks > 1 => Err(usage(format!(
                "--shift {shift}: there are {} ranks; it takes 0 to {}",
                self.ranks,
                self.ranks - 1
            ))),
            _ => Ok(()),
        }
    }

    /// Which bytes belong to whom.
    #[must_use]
    pub fn grid(&self) -> Grid {
        Grid {
            layout: self.layout,
            transfer: self.transfer,
            per_block: self.block / self.transfer,
            segments: self.segments,
            ranks: self.ranks as u64,
        }
    }

    /// Who reads whose.
    #[must_use]
    pub fn partners(&self) -> Partners {
        match self.shift {
            Some(shift) => Partners::shifted(self.ranks, shift),
            None => Partners::random(self.ranks, self.seed),
        }
    }

    /// Bytes that all ranks write.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        (self.block * self.segments).saturating_mul(self.ranks as u64)
    }
}

/// By how many ranks to shift so that nobody reads what its own node wrote, where that can be.
pub(crate) fn default_shift(crew: &dyn Crew) -> usize {
    let ranks = crew.ranks();
    match crew.nodes() {
        _ if ranks == 1 => 0,
        1 => 1,
        _ => crew.ranks_per_node() % ranks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crew::Alone;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SharedArgs,
    }

    fn spec(line: &str) -> anyhow::Result<SharedSpec> {
        let words = std::iter::once("shared").chain(line.split_whitespace());
        Line::try_parse_from(words)?.args.spec()
    }

    #[test]
    fn nonsense_is_refused_with_the_option_named() {
        for (line, expected) in [
            ("--transfer 0", "--transfer 0"),
            ("--transfer 1001", "multiple of 8"),
            ("--transfer 2g", "to 1g"),
            ("--transfer 1m --block 1500k", "multiple of --transfer 1m"),
            ("--block 0", "--block 0"),
            ("--segments 0", "--segments 0"),
            ("--segments 99999999999999", "64 PiB"),
            ("--transfer 47008 --direct true", "--transfer 47104"),
            ("--engine psync --iodepth 4", "1 by nature"),
            ("--engine null", "storage-bench null"),
            ("--iodepth 0", "--iodepth 0"),
            ("--stonewall 0", "--stonewall 0"),
            ("--stonewall NaN", "--stonewall NaN"),
            ("--deadline -1", "--deadline -1"),
            ("--wear-out", "--stonewall"),
            ("--shift 1 --random-order", "cannot be used with"),
            ("--dir /absent", "/absent"),
            ("--dir /dev/shm/..", "under /dev"),
        ] {
            let error = spec(line).expect_err(line);
            assert!(format!("{error:#}").contains(expected), "{line}: {error:#}");
        }
    }

    #[test]
    fn the_hard_size_has_a_block_of_its_own() {
        let hard = spec("--transfer 47008").expect("valid");
        assert_eq!(hard.block % 47008, 0);
        assert!(hard.block <= BLOCK);
        assert_eq!(spec("--engine psync").expect("valid").iodepth, 1);
    }

    #[test]
    fn one_rank_reads_its_own() {
        let mut alone = spec("").expect("valid");
        alone.settle(&Alone).expect("it fits");
        assert_eq!((alone.shift, alone.ranks, alone.nodes), (Some(0), 1, 1));
        let params = reports::case::params(&alone);
        assert!(!params.contains_key("dir") && !params.contains_key("seed"));
    }
}
