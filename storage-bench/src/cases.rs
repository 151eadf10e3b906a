//! The table of cases, and how one is run.

use crate::engine::{Engine, Null, Psync, Uring};
use crate::measurement;
use crate::spec::{EngineName, Spec};
use crate::target::{self, Target};
use crate::workload::job::{Evidence, Expected, Job, Setup};
use crate::workload::readback::{self, ReadBack};
use reports::case::{Availability, Entry};
use reports::measure::{self, Observer, Totals, Workload};
use reports::model::Measurement;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What all cases have in common; a macro because definitions are constants.
macro_rules! definition {
    ($target:literal) => {
        concat!(
            $target,
            " lat_ns is fio's `lat`: from the preparation of an I/O to its reaping (fio's `clat` \
             starts after submission, which under io_uring hides the time in between, and is not \
             comparable). Each job keeps iodepth I/Os in flight: all free slots are filled and \
             submitted, at most iodepth_batch with one call, and the last call waits for at least \
             one completion; one clock reading serves all I/Os of a call, one all of a reaping. \
             iops and \
             bandwidth_bytes_per_s count I/Os reaped in the window. Random offsets are multiples \
             of bs, uniform with replacement over the size: fio's norandommap=1 (by default fio \
             visits each block once per pass). Sequential jobs and jobs that write have equal \
             slices of the size and start over at the end of theirs; no two writes to one block \
             are in flight. Buffers that are written are random once, and get a new header per \
             write."
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
    "Reads of one block device, opened read-only and exclusively. What is on it is not known, so \
     that only the length of each read is verified."
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
        summary: "Reads of a block device, which must not be in use",
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
        EngineName::Uring => run_on::<Uring>(spec, observer),
        EngineName::Psync => run_on::<Psync>(spec, observer),
        EngineName::Null => run_on::<Null>(spec, observer),
    }
}

fn run_on<E: Engine + 'static>(
    spec: &Spec,
    observer: &dyn Observer,
) -> anyhow::Result<Measurement> {
    // Not from --seed: equal runs must not take each other's blocks for their own.
    let nonce = fastrand::u64(..);
    let target = target::open(spec, nonce)?;
    let (totals, evidence) = run_jobs::<E>(spec, &target, observer)?;
    let read_back = read_back(spec, &target, &evidence)?;
    Ok(measurement::of(spec, target, totals, &evidence, read_back))
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
    let totals = measure::run(&spec.plan(), observer, |index| {
        let setup = setup(spec, target, index);
        let job: Box<dyn Workload + Send> = Box::new(Job::<E>::new(setup, Arc::clone(&evidence)));
        Ok(job)
    })?;
    let evidence = std::mem::take(&mut *evidence.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((totals, evidence))
}

fn setup(spec: &Spec, target: &Target, index: usize) -> Setup {
    Setup {
        index,
        file: Arc::clone(&target.file),
        target: target.name.clone(),
        expected: target.expected,
        rw: spec.rw,
        read_percent: spec.rwmixread.unwrap_or(100),
        // Bounded by 1 GiB when the options were checked.
        block_bytes: spec.bs as usize,
        iodepth: spec.iodepth,
        iodepth_batch: spec.iodepth_batch,
        blocks: blocks(spec, index as u64),
        seed: spec
            .seed
            .wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        remembered: readback::remembered_per_job(spec.bs as usize, spec.numjobs),
    }
}

/// The blocks of one job: an equal slice where jobs are kept apart, else all.
fn blocks(spec: &Spec, index: u64) -> Range<u64> {
    let all = spec.blocks();
    if !spec.divided() {
        return 0..all;
    }
    let slice = all / spec.numjobs as u64;
    index * slice..(index + 1) * slice
}

/// Reads back what was written, once all jobs are done.
///
/// # Errors
/// The first block that does not hold what it must.
pub fn read_back(
    spec: &Spec,
    target: &Target,
    evidence: &Evidence,
) -> anyhow::Result<Option<ReadBack>> {
    match target.expected {
        Expected::Known(content) if spec.rw.writes() => readback::check(
            &target.file,
            &target.name,
            content,
            spec.bs as usize,
            &evidence.written,
        )
        .map(Some),
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
