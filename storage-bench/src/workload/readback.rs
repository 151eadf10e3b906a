//! The proof that writes arrived: after the run a sample of the blocks is read back, past the page
//! cache, and each must hold exactly the last version that was written to it.

use super::content::{Content, Fault};
use crate::sys::Buffers;
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The most blocks remembered over all jobs, and the most bytes in them: reading back one by one
/// must stay short on a slow disk.
const BLOCKS: usize = 1024;
const BYTES: usize = 64 << 20;

/// How many blocks each of some jobs remembers.
#[must_use]
pub fn remembered_per_job(block_bytes: usize, jobs: usize) -> usize {
    (BYTES / block_bytes).clamp(8, BLOCKS).div_ceil(jobs)
}

/// A job's memory of what it wrote last, for an even sample of its blocks.
#[derive(Debug)]
pub struct Record {
    blocks: Range<u64>,
    /// Every 2^shift-th block is remembered.
    shift: u32,
    last: Vec<u64>,
}

impl Record {
    /// Remembers at most `limit` of these blocks, evenly spread.
    #[must_use]
    pub fn new(blocks: Range<u64>, limit: usize) -> Self {
        let length = blocks.end - blocks.start;
        let mut shift = 0;
        while (length - 1) >> shift >= limit as u64 {
            shift += 1;
        }
        let count = ((length - 1) >> shift) + 1;
        Self {
            blocks,
            shift,
            last: vec![0; count as usize],
        }
    }

    /// Notes a write at its submission. Writes to one block never overlap, so the last one
    /// submitted is the last one done.
    #[inline]
    pub fn note(&mut self, block: u64, sequence: u64) {
        let index = block - self.blocks.start;
        if index & ((1 << self.shift) - 1) == 0 {
            self.last[(index >> self.shift) as usize] = sequence;
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        let (start, shift) = (self.blocks.start, self.shift);
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
}

/// Reads the sample back and checks every word of it.
///
/// # Errors
/// The first block that does not hold what it must.
pub fn check(
    file: &File,
    target: &str,
    content: Content,
    block_bytes: usize,
    jobs: &[Written],
) -> anyhow::Result<ReadBack> {
    file.sync_data()
        .with_context(|| format!("cannot flush {target} before reading it back"))?;
    // Clean pages are dropped, so that the device answers and not memory. Where that is not
    // possible (tmpfs) there is no device.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut buffer = Buffers::new(1, block_bytes)?;
    let mut found = ReadBack::default();
    let mut version_at = |block: u64| {
        let offset = block * block_bytes as u64;
        file.read_exact_at(buffer.get_mut(0), offset)
            .with_context(|| format!("cannot read {target} back at offset {offset}"))?;
        content
            .check(buffer.get(0), offset)
            .map_err(|fault| wrong(target, offset, &fault))
    };
    for job in jobs {
        for (block, sequence) in job.record.entries() {
            let version = version_at(block)?;
            if sequence == 0 {
                content
                    .check_laid_out(version)
                    .map_err(|fault| wrong(target, version.offset, &fault))?;
                found.untouched += 1;
            } else {
                let matches = version.sequence == sequence;
                ensure_version(matches, target, version, format!("{sequence:#x}"))?;
                found.written += 1;
            }
        }
        for &(block, sequence) in &job.last {
            let version = version_at(block)?;
            let matches = version.sequence >= sequence && version.sequence >> 48 == sequence >> 48;
            ensure_version(matches, target, version, format!("{sequence:#x} or later"))?;
            found.written += 1;
        }
    }
    Ok(found)
}

fn ensure_version(
    matches: bool,
    target: &str,
    version: super::content::Version,
    expected: String,
) -> anyhow::Result<()> {
    if matches {
        return Ok(());
    }
    let fault = Fault::Version {
        found: version.sequence,
        expected,
    };
    Err(wrong(target, version.offset, &fault))
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
    fn a_record_keeps_the_last_version() {
        let mut record = Record::new(10..12, 8);
        record.note(11, 1);
        record.note(11, 2);
        assert_eq!(record.entries().collect::<Vec<_>>(), [(10, 0), (11, 2)]);
    }
}
