//! `verify`: what a run with a journal promised, proven by another process.

use super::Family;
use crate::engine::{Engine, Files, Psync, Uring, probe_uring};
use crate::spec::{EngineArgs, EngineName, EngineOptions, usage};
use crate::target::{self, Kept};
use crate::workload::journal::{self, Found};
use crate::workload::proof::{Promise, Tally};
use crate::workload::readback::in_parallel;
use crate::workload::scan::{Ended, Scan};
use anyhow::Context;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use nix::fcntl::{Flock, FlockArg};
use reports::case::{Availability, Entry};
use reports::measure::{Observer, rate_metrics};
use reports::model::{Fact, Measurement, Severity, Validity, Work};
use serde::Serialize;
use serde_json::json;
use std::fs::{self, File};
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// See the module.
pub struct Verify;

const DEFINITION: &str = "Every block of what `storage-bench file --journal` or `block --journal` wrote \
    is read once and checked: its CRC-32C, the run, its place, and its generation. A block must hold the \
    newest write that the journal calls durable (completed before an fdatasync that was completed), \
    or a newer one that was issued; it may be torn between writes only where the newest of them was \
    not durable, and only between sectors of 512 bytes. Where no write to a device was durable, \
    what stood there before may stand there still. The rates are those of this reading, \
    256 KiB and 32 at a time, with one thread for each processor.";

/// What the options come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProofSpec {
    /// How reads reach the kernel.
    pub engine: EngineName,
    /// How the engine is set up.
    #[serde(flatten)]
    pub options: EngineOptions,
    /// The journal.
    #[serde(skip)]
    pub journal: PathBuf,
    /// The file, if it is not where the journal says.
    #[serde(skip)]
    pub filename: Option<PathBuf>,
    /// Whether file and journal stay.
    #[serde(skip)]
    pub keep: bool,
}

/// The options as users type them.
#[derive(Debug, Clone, Args)]
pub struct ProofArgs {
    /// The journal of the run, named with its --journal
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub journal: PathBuf,
    /// The file or device that the run wrote, if it is not where the journal says, or a copy of it; it
    /// will not be removed
    #[arg(long, value_name = "PATH", help_heading = "Target")]
    pub filename: Option<PathBuf>,
    /// Leave file and journal where they are; else both are removed once they are proven sound, or of
    /// a device the journal alone
    #[arg(long, help_heading = "Target")]
    pub keep: bool,
    /// How reads reach the kernel.
    #[command(flatten)]
    pub engine: EngineArgs,
}

impl ProofArgs {
    fn spec(&self) -> anyhow::Result<ProofSpec> {
        let (engine, fallback) = self.engine.choose(probe_uring);
        if engine == EngineName::Null {
            return Err(usage("--engine null reads nothing, and proves nothing"));
        }
        let missing = |option: &str, path: &Path, error: &std::io::Error| {
            usage(format!("{option} {}: {error}", path.display()))
        };
        fs::metadata(&self.journal).map_err(|error| missing("--journal", &self.journal, &error))?;
        if let Some(path) = &self.filename {
            fs::metadata(path).map_err(|error| missing("--filename", path, &error))?;
        }
        Ok(ProofSpec {
            engine,
            options: self.engine.options(fallback),
            journal: self.journal.clone(),
            filename: self.filename.clone(),
            keep: self.keep,
        })
    }
}

impl Family for Verify {
    type Spec = ProofSpec;

    const CASES: &'static [Entry<ProofSpec>] = &[Entry {
        name: "verify",
        summary: "Proof after a crash of what a run's journal promised",
        definition: DEFINITION,
        probe: || Availability::Available,
        run: |spec, observer| match spec.engine {
            EngineName::Psync => prove::<Psync>(spec, observer),
            EngineName::Uring | EngineName::Null => prove::<Uring<Files>>(spec, observer),
        },
    }];

    fn options(_: &str, command: Command) -> Command {
        ProofArgs::augment_args(command)
    }

    fn specs(_: &str, options: &ArgMatches) -> anyhow::Result<Vec<ProofSpec>> {
        Ok(vec![ProofArgs::from_arg_matches(options)?.spec()?])
    }

    fn seed(_: &ProofSpec) -> Fact<u64> {
        Fact::unavailable("no random numbers are drawn")
    }
}

fn prove<E: Engine>(spec: &ProofSpec, _: &dyn Observer) -> anyhow::Result<Measurement> {
    let journal = open_journal(&spec.journal)?;
    let found = read_journal(&journal, &spec.journal)?;
    let path = spec.filename.as_ref().unwrap_or(&found.header.target);
    let file = open_target(spec, path, &found)?;
    let name = path.display().to_string();
    let started = Instant::now();
    let scan = Scan {
        file: &file,
        target: &name,
        // Bounded by 1 GiB when the journal was read.
        unit_bytes: found.header.unit_bytes as usize,
        options: &spec.options,
        interruptible: true,
    };
    let tally = read_all::<E>(&scan, &found)?;
    let elapsed_s = started.elapsed().as_secs_f64();
    if let Some(wrong) = tally.wrong() {
        anyhow::bail!(
            "{name} does not hold what its journal promises: {wrong}; nothing was removed"
        );
    }
    let ends = !spec.keep && spec.filename.is_none();
    let removed = ends && found.header.device.is_none();
    let done = [(removed, path), (ends, &spec.journal)];
    for (_, path) in done.iter().filter(|(goes, _)| *goes) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let work = Work {
        ops: tally.blocks(),
        bytes: tally.blocks() * found.header.unit_bytes,
    };
    Ok(measurement(&found, &tally, (work, elapsed_s), removed))
}

/// Opens the journal, and makes sure that nobody writes to it any more.
fn open_journal(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => anyhow::anyhow!(
            "the run that writes the journal {} is still going; verify once it has ended",
            path.display()
        ),
        errno => anyhow::anyhow!("cannot lock {}: {errno}", path.display()),
    })
}

fn read_journal(journal: &File, path: &Path) -> anyhow::Result<Found> {
    let length = journal.metadata()?.len();
    journal::read(BufReader::with_capacity(1 << 20, journal), length)
        .map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
}

/// Opens the target for reading, if it is the one that the journal is about.
fn open_target(spec: &ProofSpec, path: &Path, found: &Found) -> anyhow::Result<Arc<File>> {
    let kept = target::open_for_proof(path, found.header.direct)?;
    let (bytes, size) = (kept.bytes, found.header.size);
    anyhow::ensure!(
        bytes >= size,
        "{} has {bytes} bytes of the {size} that its journal speaks of: its end is lost",
        path.display()
    );
    if spec.filename.is_none() {
        check_identity(path, &kept, found)?;
    }
    Ok(Arc::new(kept.file))
}

/// Whether what stands under the name that the journal gives is what the run wrote.
fn check_identity(path: &Path, kept: &Kept, found: &Found) -> anyhow::Result<()> {
    let name = path.display();
    match (&found.header.device, &kept.device) {
        (Some(wrote), Some(is)) => anyhow::ensure!(
            wrote == is,
            "{name} is the device {is} now, and the run wrote {wrote}: names under /dev change; name \
             that one with --filename"
        ),
        (Some(wrote), None) => anyhow::bail!(
            "{name} is a regular file, and the run wrote the device {wrote}; if it is a copy of that, \
             name it with --filename"
        ),
        (None, Some(_)) => anyhow::bail!("{name} is a block device, and the run wrote a file"),
        (None, None) => anyhow::ensure!(
            kept.inode == found.header.inode,
            "{name} is another file than the one that the run created (its inode is {}, not {}); if \
             it is a copy of that, name it with --filename",
            kept.inode,
            found.header.inode
        ),
    }
    Ok(())
}

fn read_all<E: Engine>(scan: &Scan<'_>, found: &Found) -> anyhow::Result<Tally> {
    let promise = Promise::new(found);
    let units = found.header.size / found.header.unit_bytes;
    let parts = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let bound = |part: u64| (u128::from(units) * u128::from(part) / u128::from(parts)) as u64;
    let slices: Vec<Range<u64>> = (0..parts)
        .map(|part| bound(part)..bound(part + 1))
        .collect();
    let tallies = in_parallel(&slices, |slice| {
        let mut tally = Tally::default();
        let ended = scan.run::<E>(slice.clone(), |unit, block| {
            promise.judge(unit, block, &mut tally);
            Ok(())
        })?;
        Ok((tally, ended))
    })?;
    let mut all = Tally::default();
    let mut interrupted = false;
    for (tally, ended) in tallies {
        all.add(tally);
        interrupted |= ended == Ended::Interrupted;
    }
    anyhow::ensure!(
        !interrupted,
        "a signal ended the verification after {} of {units} blocks; nothing was removed",
        all.blocks()
    );
    Ok(all)
}

fn measurement(
    found: &Found,
    tally: &Tally,
    (work, elapsed_s): (Work, f64),
    removed: bool,
) -> Measurement {
    let mut validity = Validity::default();
    if found.ignored_bytes > 0 {
        let evidence = format!(
            "the last {} bytes of the journal are cut off or damaged, and were ignored",
            found.ignored_bytes
        );
        validity.flag(Severity::Info, "journal_tail", evidence);
    }
    let mut metrics = rate_metrics("iops", work, elapsed_s);
    metrics.reverse();
    metrics[0].headline = true;
    let facts = json!({
        "journal": {
            "writes_issued": found.issued,
            "writes_durable": found.durable,
            "ignored_bytes": found.ignored_bytes,
        },
        "target": {
            "bytes": found.header.size,
            "unit_bytes": found.header.unit_bytes,
            "removed": removed,
        },
    });
    Measurement {
        elapsed_s: elapsed_s.into(),
        work: work.into(),
        verified: format!(
            "{} (the journal knows {} writes, {} of them durable)",
            tally.sound(),
            found.issued,
            found.durable
        ),
        metrics,
        histograms: Vec::new(),
        intervals: Vec::new(),
        matrices: Vec::new(),
        counters: Vec::new(),
        facts: facts.as_object().cloned().unwrap_or_default(),
        validity,
    }
}
