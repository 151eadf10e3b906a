//! The table of cases, and how one is run.

use crate::engine::{Commands, Engine, Files, Null, Psync, Uring};
use crate::measurement::{self, Seen};
use crate::observe::{UntilSteady, Watch};
use crate::search;
use crate::spec::{EngineName, Place, Spec};
use crate::target::{self, Target};
use crate::workload::job::{Evidence, Expected, Job, Setup};
use crate::workload::journal::{self, Journal};
use crate::workload::readback::{self, ReadBack};
use crate::workload::scan::Scan;
use reports::case::{Availability, Entry};
use reports::measure::{self, Event, Observer, Phase, Totals, Workload};
use reports::model::{Measurement, Unavailable};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What all cases have in common; a macro because definitions are constants.
macro_rules! definition {
    ($target:literal) => {
        concat!(
            $target,
            " lat_ns is fio's `lat`: from the preparation of an I/O to its reaping (fio's `clat` \
             starts after submission, which under io_uring hides the time in between, and is not \
             comparable). Of one call in 32 that submits under io_uring the submission is \
             stamped apart, and slat_ns and clat_ns, as fio has them, are of those I/Os; psync \
             has no slat, and its clat is its lat. Each job keeps iodepth I/Os in flight: all \
             free slots are filled and submitted, at most iodepth_batch with one call, after each \
             of which what has ended is reaped, and the last call waits for at least \
             iodepth_batch_complete_min completions (1 by default); in a closed loop it waits \
             as soon as fewer slots are free than both batches have, as t/io_uring does; one clock reading serves all I/Os of a call, one all of a reaping. iops and bandwidth_bytes_per_s count I/Os reaped in the \
             window. Random offsets are multiples of bs, uniform with replacement over the size: \
             fio's norandommap=1 (by default fio visits each block once per pass). Sequential \
             jobs and jobs that write have equal slices of the size and start over at the end of \
             theirs; no two writes to one block are in flight. With a rate the loop is open: \
             I/Os are due at moments of a schedule, equal for equal seeds, that knows nothing of \
             the device and never skips; each begins when it is due and a slot is free; \
             response_ns, from when it was due to its reaping, is then the main latency and \
             lat_ns stands beside it; late_start_ns is how late those began that found a free \
             slot, and cpu_per_io_ns holds the polling for the next to become due. \
             context_switches_per_io is fio's ctx. Buffers that are written are random once, and \
             get a new header per write."
        )
    };
}

const NULL: &str = definition!(
    "The floor: the loop of the other cases over an engine that completes every I/O at once, in \
     memory, without a system call. As fio's ioengine=null."
);

const FILE: &str = definition!(
    "I/O on one file, by default on a scratch file that was just written in full with \
     incompressible data and flushed. In scratch files one read in 64 is checked in the loop \
     (header and 8 words), and the last block of every slot in full after it; of the writes up to \
     1024 blocks, evenly spread, are read back and must hold their last version."
);

const BLOCK: &str = definition!(
    "I/O on one block device, opened exclusively and held. Reads leave it as it is: it is opened \
     read-only, and as its content is not known, only the length of each read is verified. Writes \
     destroy what is on it and take --destroy=SERIAL; the device is not laid out before, and of \
     the blocks that the run wrote up to 1024 are read back and must hold their last version."
);

/// All cases, in the order in which users see them.
pub const CASES: &[Entry<Spec>] = &[
    Entry {
        name: "file",
        summary: "I/O on a scratch file, or reads of an existing one",
        definition: FILE,
        probe: available,
        run,
    },
    Entry {
        name: "block",
        summary: "I/O on a block device, which must not be in use",
        definition: BLOCK,
        probe: available,
        run,
    },
    Entry {
        name: "null",
        summary: "No I/O: what the benchmark itself costs per operation",
        definition: NULL,
        probe: available,
        run,
    },
];

/// Every case has an engine that needs nothing; what the chosen one lacks shows when it is opened.
fn available() -> Availability {
    Availability::Available
}

fn run(spec: &Spec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    match spec.engine {
        EngineName::Uring if spec.options.uring_cmd => run_on::<Uring<Commands>>(spec, observer),
        EngineName::Uring => run_on::<Uring<Files>>(spec, observer),
        EngineName::Psync => run_on::<Psync>(spec, observer),
        EngineName::Null => run_on::<Null>(spec, observer),
    }
}

/// Runs a specification on an engine and tells what came of it.
///
/// # Errors
/// What the guard, the engine or the verification found.
pub fn run_on<E: Engine + 'static>(
    spec: &Spec,
    observer: &dyn Observer,
) -> anyhow::Result<Measurement> {
    let mut target = None;
    let mut probe = |spec: &Spec| {
        // A search's runs share one target, unless one would find what another wrote or cached.
        if spec.pattern.rw.writes() || !spec.direct {
            target = None;
        }
        let target = match &mut target {
            Some(target) => target,
            none => none.insert(open(spec)?),
        };
        run_once::<E>(spec, target, observer)
    };
    match spec.pace.latency_target {
        None => probe(spec),
        Some(goal) => search::highest_rate(spec, goal, &mut probe),
    }
}

/// Opens the target, and the journal of what is written there.
fn open(spec: &Spec) -> anyhow::Result<Target> {
    // Not from --seed: equal runs must not take each other's blocks for their own.
    let nonce = fastrand::u64(..);
    let mut target = target::open(spec, nonce)?;
    target.journal =
        begin_journal(spec, &target, nonce).inspect_err(|_| target::remove_kept(spec))?;
    Ok(target)
}

fn run_once<E: Engine + 'static>(
    spec: &Spec,
    target: &Target,
    observer: &dyn Observer,
) -> anyhow::Result<Measurement> {
    let watch = Watch::start(target);
    let (totals, mut evidence) = run_jobs::<E>(spec, target, &watch.observer(observer))?;
    let observed = watch.stop(spec, &totals)?;
    if let Some(failure) = evidence.errors.first().filter(|_| totals.work.ops == 0) {
        let not_polled = evidence.errors.first_result() == Some(-libc::EOPNOTSUPP);
        if spec.options.hipri && not_polled {
            let why = "--hipri polls, and this kernel does that only where there are poll queues; \
                       for NVMe, load the driver with nvme.poll_queues=N";
            return Err(Unavailable(format!("{failure}: {why}")).into());
        }
        anyhow::bail!("no operation of the window succeeded: {failure}");
    }
    announce_verification(spec, &totals, observer);
    let read_back = match read_back::<E>(spec, target, &evidence) {
        // After errors a device may be gone; wrong content is wrong all the same.
        Err(why) if evidence.errors.count() > 0 && why.is::<std::io::Error>() => {
            evidence.errors.not_read_back(format!("{why:#}"));
            None
        }
        found => found?,
    };
    let seen = Seen {
        evidence,
        observed,
        read_back,
    };
    Ok(measurement::of(spec, target, totals, seen))
}

/// The journal, if there is to be one: from here on target and journal stay, whatever happens.
fn begin_journal(spec: &Spec, target: &Target, nonce: u64) -> anyhow::Result<Option<Arc<Journal>>> {
    let (Some(path), Place::File(file) | Place::Device(file)) = (&spec.verify.journal, &spec.place)
    else {
        return Ok(None);
    };
    let destroyed = target.facts["destroyed"]["device"].as_str();
    let unit_bytes = spec.pattern.unit();
    let header = journal::Header {
        version: journal::VERSION,
        nonce,
        unit_bytes,
        size: spec.size / unit_bytes * unit_bytes,
        // Bounded by 1 GiB in sectors when the options were checked.
        units_per_operation: (spec.pattern.largest() / unit_bytes) as u32,
        target: file.canonicalize()?,
        inode: target.file.metadata()?.ino(),
        device: destroyed.map(str::to_owned),
        direct: spec.direct,
        boot: journal::boot(),
    };
    let every = spec.verify.journal_every.unwrap_or(u64::MAX);
    let journal = Journal::create(path, &header, every)?;
    Ok(Some(Arc::new(journal)))
}

/// Says that everything is read back, and how long that will take at the rate of the run.
fn announce_verification(spec: &Spec, totals: &Totals, observer: &dyn Observer) {
    if spec.verify.sealed() && spec.pattern.rw.writes() {
        let seconds = spec.size as f64 * totals.elapsed_s / totals.work.bytes as f64;
        observer.event(&Event::Phase {
            phase: Phase::Verify,
            expected: Duration::try_from_secs_f64(seconds).ok(),
        });
    }
}

/// Runs one job per thread over an opened target.
///
/// # Errors
/// What the guard, the engine or the verification found.
pub fn run_jobs<E: Engine + 'static>(
    spec: &Spec,
    target: &Target,
    observer: &dyn Observer,
) -> anyhow::Result<(Totals, Evidence)> {
    let evidence = Arc::new(Mutex::new(Evidence::default()));
    let shared = Arc::new(spec.clone());
    let build = |index| -> Box<dyn Workload + Send> {
        let setup = setup(&shared, target, index);
        Box::new(Job::<E>::new(setup, Arc::clone(&evidence)))
    };
    let totals = match spec.slices_per_round() {
        None => measure::run(&spec.plan(), observer, |index| Ok(build(index))),
        Some(per_round) => {
            let until = UntilSteady::new(observer, per_round);
            measure::run(&spec.plan(), &until, |index| Ok(until.ending(build(index))))
        }
    }?;
    let evidence = std::mem::take(&mut *evidence.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((totals, evidence))
}

fn setup(spec: &Arc<Spec>, target: &Target, index: usize) -> Setup {
    Setup {
        index,
        file: Arc::clone(&target.file),
        target: target.name.clone(),
        expected: target.expected,
        spec: Arc::clone(spec),
        units: spec.units_of(index),
        seed: spec
            .seed
            .wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        // Bounded by 1 GiB when the options were checked.
        remembered: readback::remembered_per_job(
            spec.pattern.unit() as usize,
            spec.numjobs,
            spec.verify.sealed(),
        ),
        journal: target.journal.clone(),
    }
}

/// Reads back what was written, once all jobs are done.
///
/// # Errors
/// The first block that does not hold what it must.
pub fn read_back<E: Engine>(
    spec: &Spec,
    target: &Target,
    evidence: &Evidence,
) -> anyhow::Result<Option<ReadBack>> {
    match target.expected {
        Expected::Known(content) if spec.pattern.rw.writes() => {
            let scan = Scan {
                file: &target.file,
                target: &target.name,
                unit_bytes: spec.pattern.unit() as usize,
                options: &spec.options,
                interruptible: spec.verify.sealed(),
            };
            readback::check::<E>(scan, content, &evidence.written).map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_told_apart_and_complete() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
        assert!(CASES.iter().all(|case| case.definition.contains("fio")));
    }
}
