//! What is done, in which order and in which sizes.

mod order;
mod rw;
mod sizes;

pub use order::Distribution;
pub use rw::{Rw, RwArg};
pub(super) use sizes::divisor;
pub use sizes::{Share, Sizes, Split};

use super::size::bytes;
use super::{MAX_BS, SECTOR, human, usage};
use clap::{ArgAction, Args, ValueEnum};
use serde::Serialize;

/// The options as users type them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pattern (fio's words)")]
pub struct PatternArgs {
    /// What is done in which order: read, write, rw, trim, trimwrite; randread, randwrite, randrw,
    /// randtrim, randtrimwrite. trimwrite trims each block and then writes it. A number behind a
    /// colon: read:8k skips 8 KiB after each operation, randread:8 does 8 in a row before it draws
    /// the next offset
    #[arg(long, value_name = "PATTERN", value_parser = rw::parse, default_value = "randread")]
    pub rw: RwArg,
    /// Share of reads in rw and randrw, in percent [default: 50]
    #[arg(long, value_name = "PERCENT")]
    pub rwmixread: Option<u32>,
    /// Bytes per operation (k, m, g are powers of 1024). A list makes a curve: each size is a case
    /// of the report (fio's `bs=4k,64k`, sizes of reads and of writes, is --bssplit 4k/100,64k/100)
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = bytes,
        value_delimiter = ',',
        default_value = "4k"
    )]
    pub bs: Vec<u64>,
    /// Several sizes with their shares in percent: 4k/50:64k/50; a share left out (4k/:64k/) is an
    /// equal part of the rest; after a comma those of writes and trims. Offsets are multiples of the
    /// sizes' greatest common divisor
    #[arg(long, value_name = "SIZES", value_parser = sizes::parse, conflicts_with = "bs")]
    pub bssplit: Option<Split>,
    /// How random offsets are spread: random (or uniform), zipf:THETA, pareto:H. Blocks of
    /// neighbouring rank are scattered over the range
    #[arg(long, value_name = "LAW", value_parser = order::parse, default_value = "random")]
    pub random_distribution: Distribution,
    /// Visit each block once per pass, as fio does by default, instead of drawing with replacement
    #[arg(long, action = ArgAction::Set, value_name = "BOOL", default_value_t = false)]
    pub randommap: bool,
    /// Flush with fsync after every N writes of a job; as in fio it takes a place in the queue, and
    /// covers the writes that had ended when it began. Its time is sync_lat_ns, and it is no I/O of
    /// iops
    #[arg(long, value_name = "N", conflicts_with = "fdatasync")]
    pub fsync: Option<u64>,
    /// As --fsync, with fdatasync
    #[arg(long, value_name = "N")]
    pub fdatasync: Option<u64>,
    /// Have every write return once it is durable: dsync opens with O_DSYNC, sync with O_SYNC
    #[arg(long, value_enum, default_value = "none")]
    pub sync: SyncMode,
}

/// When a write returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    /// Once the device, or the page cache, has taken it
    #[default]
    None,
    /// Once its data is durable
    Dsync,
    /// Once its data and all metadata are durable
    Sync,
}

impl SyncMode {
    /// The flags of `open` that say so.
    #[must_use]
    pub fn flags(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Dsync => libc::O_DSYNC,
            Self::Sync => libc::O_SYNC,
        }
    }

    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What they come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternSpec {
    /// What is done in which order.
    pub rw: Rw,
    /// Share of reads in a mix, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rwmixread: Option<u32>,
    /// Bytes that are skipped after each sequential operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rw_skip: Option<u64>,
    /// Operations in a row from each random offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rw_sequence: Option<u64>,
    /// Bytes per operation; of several sizes the largest.
    pub bs: u64,
    /// Several sizes with their shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bssplit: Option<Split>,
    /// How random offsets are spread.
    #[serde(skip_serializing_if = "Distribution::is_uniform")]
    pub random_distribution: Distribution,
    /// Whether each block is visited once per pass.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub randommap: bool,
    /// An fsync follows after so many writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsync: Option<u64>,
    /// An fdatasync follows after so many writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdatasync: Option<u64>,
    /// When a write returns.
    #[serde(skip_serializing_if = "SyncMode::is_none")]
    pub sync: SyncMode,
    /// Bytes of a unit where the points of a curve share a scratch file: a divisor of all their
    /// sizes.
    #[serde(skip)]
    pub shared_unit: Option<u64>,
}

impl Default for PatternSpec {
    /// Random reads of 4 KiB, as the options' defaults.
    fn default() -> Self {
        Self {
            rw: Rw::Randread,
            rwmixread: None,
            rw_skip: None,
            rw_sequence: None,
            bs: 4096,
            bssplit: None,
            random_distribution: Distribution::Uniform,
            randommap: false,
            fsync: None,
            fdatasync: None,
            sync: SyncMode::None,
            shared_unit: None,
        }
    }
}

impl PatternArgs {
    /// Fills defaults in; of a list of `--bs` the first counts.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self) -> anyhow::Result<PatternSpec> {
        let RwArg { rw, number } = self.rw;
        let rwmixread = match (rw.both_ways(), self.rwmixread) {
            (true, percent) => Some(percent.unwrap_or(50)),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(usage(
                    "--rwmixread divides reads from writes: it needs --rw rw or --rw randrw",
                ));
            }
        };
        let largest = self.bssplit.as_ref().map(Split::largest);
        let spec = PatternSpec {
            rw,
            rwmixread,
            rw_skip: number.filter(|_| !rw.random()),
            rw_sequence: number.filter(|_| rw.random()),
            bs: largest.unwrap_or_else(|| self.bs.first().copied().unwrap_or_default()),
            bssplit: self.bssplit.clone(),
            random_distribution: self.random_distribution,
            randommap: self.randommap,
            fsync: self.fsync,
            fdatasync: self.fdatasync,
            sync: self.sync,
            shared_unit: None,
        };
        spec.check_sizes()?;
        spec.check_order()?;
        spec.check_syncs()?;
        Ok(spec)
    }
}

impl PatternSpec {
    fn check_sizes(&self) -> anyhow::Result<()> {
        if self.rwmixread.is_some_and(|percent| percent > 100) {
            return Err(usage("--rwmixread is a percentage, from 0 to 100"));
        }
        let option = match self.bssplit {
            Some(_) => "--bssplit",
            None => "--bs",
        };
        let sizes = Kinds::BOTH.map(|of| self.sizes(of));
        for Share { bytes: bs, .. } in sizes.iter().flatten() {
            if *bs == 0 || !bs.is_multiple_of(SECTOR) || *bs > MAX_BS {
                return Err(usage(format!(
                    "{option} {bs}: a block is a multiple of {SECTOR} bytes, from {SECTOR} to 1g"
                )));
            }
        }
        Ok(())
    }

    fn check_order(&self) -> anyhow::Result<()> {
        let (random, align) = (self.rw.random(), self.align());
        let uniform = self.random_distribution.is_uniform();
        if let Some(skip) = self.rw_skip.filter(|skip| !skip.is_multiple_of(align)) {
            return Err(usage(format!(
                "--rw: {} bytes cannot be skipped: it takes a multiple of the block, which is {}",
                human(skip),
                human(align)
            )));
        }
        if !uniform && !random {
            return Err(usage(
                "--random-distribution spreads random offsets: it needs --rw randread, randwrite, \
                 randrw or randtrim",
            ));
        }
        if !uniform && self.rw_sequence.is_some() {
            return Err(usage(
                "--rw with a number of operations in a row draws offsets evenly: leave \
                 --random-distribution out",
            ));
        }
        if self.randommap && !random {
            return Err(usage(
                "--randommap is about random offsets: sequential passes visit each block once \
                 anyway",
            ));
        }
        if self.randommap && (!uniform || self.rw_sequence.is_some()) {
            return Err(usage(
                "--randommap true visits each block once: leave --random-distribution, and the \
                 number after --rw's colon, out",
            ));
        }
        let one_size = |of: &Kinds| matches!(*self.sizes(*of), [size] if size.bytes == align);
        if self.randommap && !Kinds::BOTH.iter().all(one_size) {
            return Err(usage(
                "--randommap true visits each block once: it needs one size, not --bssplit",
            ));
        }
        Ok(())
    }

    fn check_syncs(&self) -> anyhow::Result<()> {
        let flushes = [("--fsync", self.fsync), ("--fdatasync", self.fdatasync)];
        for (option, every) in flushes {
            match every {
                Some(0) => {
                    return Err(usage(format!(
                        "{option} 0: at least one write comes before"
                    )));
                }
                Some(_) if !self.rw.puts() => {
                    return Err(usage(format!("{option} flushes writes: --rw has none")));
                }
                _ => {}
            }
        }
        if !self.sync.is_none() && !self.rw.puts() {
            return Err(usage("--sync is about writes: --rw has none"));
        }
        Ok(())
    }

    /// Whether what is written is made durable within the window.
    #[must_use]
    pub fn flushes(&self) -> bool {
        self.fsync.or(self.fdatasync).is_some() || !self.sync.is_none()
    }

    /// Share of reads, in percent.
    #[must_use]
    pub fn read_percent(&self) -> u32 {
        match (self.rw.reads(), self.rw.writes()) {
            (true, false) => 100,
            (true, true) => self.rwmixread.unwrap_or(50),
            (false, _) => 0,
        }
    }

    /// The sizes of one kind of operations, with their shares in percent.
    #[must_use]
    pub fn sizes(&self, of: Kinds) -> Sizes {
        match (&self.bssplit, of) {
            (None, _) => vec![Share {
                bytes: self.bs,
                percent: 100,
            }],
            (Some(split), Kinds::Reads) => split.reads.clone(),
            (Some(split), Kinds::Writes) => split.writes.clone(),
        }
    }

    /// The largest operation in bytes.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.bs
    }

    /// Every operation begins at a multiple of so many bytes, and is as long.
    #[must_use]
    pub fn align(&self) -> u64 {
        self.bssplit.as_ref().map_or(self.bs, Split::divisor)
    }

    /// The mean of the operations' lengths in bytes.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let reads = f64::from(self.read_percent()) / 100.0;
        let mean = |kinds| {
            let sizes = self.sizes(kinds);
            let shares = sizes.iter();
            shares
                .map(|share| share.bytes as f64 * f64::from(share.percent) / 100.0)
                .sum::<f64>()
        };
        reads * mean(Kinds::Reads) + (1.0 - reads) * mean(Kinds::Writes)
    }

    /// The unit in bytes: every operation covers whole ones, and each carries a header of its own
    /// in files whose content this program knows.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.shared_unit.unwrap_or_else(|| self.align())
    }
}

/// Operations that have sizes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// Reads.
    Reads,
    /// Writes and trims.
    Writes,
}

impl Kinds {
    /// All of them, in the order of their indices.
    pub const BOTH: [Self; 2] = [Self::Reads, Self::Writes];
}
