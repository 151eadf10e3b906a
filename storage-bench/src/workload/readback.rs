//! The proof that writes arrived: after the run blocks are read back, past the page cache, and each
//! must hold exactly the last version that was written to it. By default a sample is; sealed
//! blocks (`--verify crc32c`) all are.

use super::content::{Content, Fault, Version};
use super::scan::{Ended, Scan};
use crate::engine::Engine;
use crate::target::Machine;
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Marks a sequence number: it is that of a trim, which leaves zeros.
pub const TRIMMED: u64 = 1 << 63;
/// Instead of a sequence number: a write failed, and nobody knows what it left.
pub const UNKNOWN: u64 = u64::MAX;

/// The most blocks remembered over all jobs, and the most bytes in them: reading back one by one
/// must stay short on a slow disk.
const BLOCKS: usize = 1024;
const BYTES: usize = 64 << 20;

/// The most that are remembered of sealed blocks, in eight bytes each: 1 GiB.
const SEALED_BLOCKS: usize = 1 << 27;
/// The part of the available memory that they may take, as a divisor.
const SEALED_SHARE: u64 = 4;

/// How many blocks each of some jobs remembers.
#[must_use]
pub fn remembered_per_job(block_bytes: usize, jobs: usize, sealed: bool) -> usize {
    let blocks = if sealed {
        sealed_blocks(Machine::default().available_bytes().ok())
    } else {
        (BYTES / block_bytes).clamp(8, BLOCKS)
    };
    blocks.div_ceil(jobs)
}

/// How many sealed blocks are remembered over all jobs, with so much memory available.
fn sealed_blocks(available_bytes: Option<u64>) -> usize {
    let affordable = available_bytes.map(|bytes| bytes / SEALED_SHARE / 8);
    let affordable = affordable.and_then(|blocks| usize::try_from(blocks).ok());
    affordable.map_or(SEALED_BLOCKS, |blocks| blocks.clamp(BLOCKS, SEALED_BLOCKS))
}

/// A job's memory of what it wrote last, for an even sample of its blocks.
#[derive(Debug)]
pub struct Record {
    units: Range<u64>,
    /// Every 2^shift-th block is remembered.
    shift: u32,
    last: Vec<u64>,
}

impl Record {
    /// Remembers at most `limit` of these blocks, evenly spread.
    #[must_use]
    pub fn new(units: Range<u64>, limit: usize) -> Self {
        let length = units.end - units.start;
        let mut shift = 0;
        while (length - 1) >> shift >= limit as u64 {
            shift += 1;
        }
        let count = ((length - 1) >> shift) + 1;
        Self {
            units,
            shift,
            last: vec![0; count as usize],
        }
    }

    /// Notes a write that was done. Writes to one block never overlap.
    #[inline]
    pub fn note(&mut self, unit: u64, sequence: u64) {
        if let Some(index) = self.index(unit) {
            self.last[index] = sequence;
        }
    }

    /// The last write to a block that was done, zero for the layout; `None` if it is not one of
    /// those remembered.
    #[inline]
    #[must_use]
    pub fn last(&self, unit: u64) -> Option<u64> {
        self.index(unit).map(|index| self.last[index])
    }

    #[inline]
    fn index(&self, unit: u64) -> Option<usize> {
        let index = unit - self.units.start;
        let remembered = index & ((1 << self.shift) - 1) == 0;
        remembered.then_some((index >> self.shift) as usize)
    }

    /// Whether every block is remembered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.shift == 0
    }

    fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        let (start, shift) = (self.units.start, self.shift);
        self.last
            .iter()
            .enumerate()
            .map(move |(index, &sequence)| (start + ((index as u64) << shift), sequence))
    }
}

/// What a job knows of its writes when it ends.
#[derive(Debug)]
pub struct Written {
    /// Exact knowledge of a sample of the blocks.
    pub record: Record,
    /// Block and version of each slot's last write; a later write by another slot may have
    /// replaced it.
    pub last: Vec<(u64, u64)>,
}

/// How many blocks were read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadBack {
    /// They hold what the run wrote.
    pub written: u64,
    /// They hold the layout, untouched.
    pub untouched: u64,
    /// They were trimmed, and hold zeros.
    pub trimmed: u64,
    /// Whether a signal came before all of them were.
    pub interrupted: bool,
    /// Whether it was known of every block which write it must hold.
    pub exact: bool,
}

/// Reads back what was written, and checks every word of it: the sample, or all if blocks are
/// sealed, each job's blocks by a thread of its own as far as there are processors.
///
/// # Errors
/// A block that does not hold what it must.
pub fn check<E: Engine>(
    scan: Scan<'_>,
    content: Content,
    jobs: &[Written],
) -> anyhow::Result<ReadBack> {
    let (file, target) = (scan.file, scan.target);
    file.sync_data()
        .with_context(|| format!("cannot flush {target} before reading it back"))?;
    // Clean pages are dropped, so that the device answers and not memory. Where that is not
    // possible (tmpfs) there is no device.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let found = in_parallel(jobs, |job| job.check::<E>(&scan, content))?;
    let mut all = ReadBack {
        exact: true,
        ..ReadBack::default()
    };
    for part in found {
        all.written += part.written;
        all.untouched += part.untouched;
        all.trimmed += part.trimmed;
        all.interrupted |= part.interrupted;
        all.exact &= part.exact;
    }
    Ok(all)
}

/// Does something with every item, on as many threads as there are processors.
///
/// # Errors
/// The first error of any; what was not begun then is left.
pub fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            results.push(work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?);
        }
        Ok(results)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors.min(items.len()))
            .map(|_| scope.spawn(worker))
            .collect();
        let mut results = Vec::new();
        for worker in workers {
            let part: anyhow::Result<Vec<R>> = worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            results.extend(part?);
        }
        Ok(results)
    })
}

impl Written {
    fn check<E: Engine>(&self, scan: &Scan<'_>, content: Content) -> anyhow::Result<ReadBack> {
        let record = &self.record;
        let mut found = ReadBack {
            exact: record.is_complete(),
            ..ReadBack::default()
        };
        // All that may have been written, or what is remembered and the last writes.
        let mut units: Vec<u64> = Vec::new();
        let all = content.is_sealed().then(|| record.units.clone());
        if all.is_none() {
            units.extend(record.entries().map(|(unit, _)| unit));
            units.extend(self.last.iter().map(|&(unit, _)| unit));
            units.sort_unstable();
            units.dedup();
        }
        let written = |&unit: &u64| match record.last(unit) {
            Some(UNKNOWN) => false,
            Some(0) => all.is_none() && !content.is_over_foreign(),
            _ => true,
        };
        let units = all
            .clone()
            .into_iter()
            .flatten()
            .chain(units)
            .filter(written);
        let ended = scan.run::<E>(units, |unit, block| {
            let offset = unit * scan.unit_bytes as u64;
            let held = self
                .judge(content, unit, content.check(block, offset))
                .map_err(|fault| wrong(scan.target, offset, &fault))?;
            found.written += u64::from(held == Held::Write);
            found.untouched += u64::from(held == Held::Layout);
            found.trimmed += u64::from(held == Held::Nothing);
            Ok(())
        })?;
        found.interrupted = ended == Ended::Interrupted;
        Ok(found)
    }

    /// Whether a block holds what it must.
    fn judge(
        &self,
        content: Content,
        unit: u64,
        checked: Result<Version, Fault>,
    ) -> Result<Held, Fault> {
        let remembered = self.record.last(unit);
        if let Some(trim) = remembered.filter(|sequence| sequence & TRIMMED != 0) {
            return match checked {
                Err(Fault::Zeros) => Ok(Held::Nothing),
                Ok(version) => Err(Fault::Stale {
                    found: version.sequence,
                    expected: trim,
                }),
                Err(fault) => Err(fault),
            };
        }
        let version = checked?;
        let found = version.sequence;
        if remembered == Some(0) || (remembered.is_none() && found == 0) {
            content.check_laid_out(version)?;
        }
        let last = self.last.iter().filter(|&&(last, _)| last == unit);
        let least = remembered.or_else(|| last.map(|&(_, sequence)| sequence).max());
        match (remembered, least) {
            (_, Some(expected)) if found < expected => Err(Fault::Stale { found, expected }),
            (Some(expected), _) if found > expected => Err(Fault::Unexpected { found, expected }),
            _ if found == 0 => Ok(Held::Layout),
            _ => Ok(Held::Write),
        }
    }
}

/// What a block that is as it must be holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Write,
    Layout,
    Nothing,
}

fn wrong(target: &str, offset: u64, fault: &Fault) -> anyhow::Error {
    anyhow::anyhow!("{target} was read back after the run; at offset {offset} {fault}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_spreads_over_its_blocks_and_stays_small() {
        for (blocks, limit) in [(0..1, 8), (0..8, 8), (5..14, 8), (0..1_000_000, 1024)] {
            let record = Record::new(blocks.clone(), limit);
            let entries: Vec<_> = record.entries().collect();
            assert!(
                entries.len() <= limit
                    && entries.len() * 2 > limit.min((blocks.end - blocks.start) as usize)
            );
            assert_eq!(entries[0].0, blocks.start);
            assert!(entries.iter().all(|(block, _)| blocks.contains(block)));
        }
    }

    #[test]
    fn sealed_blocks_are_remembered_as_far_as_memory_goes() {
        assert_eq!(sealed_blocks(None), SEALED_BLOCKS);
        assert_eq!(sealed_blocks(Some(u64::MAX)), SEALED_BLOCKS);
        assert_eq!(sealed_blocks(Some(32 << 20)), 1 << 20);
        assert_eq!(sealed_blocks(Some(0)), BLOCKS);
    }

    #[test]
    fn a_record_keeps_the_last_version() {
        let mut record = Record::new(10..12, 8);
        record.note(11, 1);
        record.note(11, 2);
        assert_eq!(record.entries().collect::<Vec<_>>(), [(10, 0), (11, 2)]);
    }
}
