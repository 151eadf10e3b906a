//! Moves a rank's transfers through an engine: the timed loop of both phases.

use super::layout::Grid;
use super::spec::CheckRead;
use crate::engine::{Completion, Engine, Kind, Op, Wait};
use crate::sys::Buffers;
use crate::workload::content::{Content, Version};
use anyhow::Context;
use reports::measure::{Clock, Latencies, Ticks, stop_requested};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// How often a rank says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// Words of a transfer that a sample checks.
const SAMPLE_WORDS: usize = 8;

/// One rank's data: where they lie, and what stands in them.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    /// Where they lie.
    pub grid: Grid,
    /// The rank that writes them.
    pub writer: usize,
    /// Which writing this is, from 1.
    pub generation: u64,
    /// What stands in the file.
    pub content: Content,
}

impl Data {
    /// A transfer's version: who wrote it, and at which writing.
    fn sequence(&self) -> u64 {
        self.generation << 32 | self.writer as u64
    }

    /// What is wrong with what was read where `index` is expected.
    ///
    /// # Errors
    /// That, in words.
    pub fn check(&self, block: &[u8], index: u64, how: CheckRead) -> Result<(), String> {
        let offset = self.grid.offset(self.writer as u64, index);
        // A transfer's number shifts the sample, so that together they see all places.
        let found = match how {
            CheckRead::Full => self.content.check(block, offset),
            CheckRead::Sample => {
                self.content
                    .check_sample(block, offset, index as usize, SAMPLE_WORDS)
            }
        };
        let found = found.map_err(|fault| fault.to_string())?.sequence;
        if found == self.sequence() {
            return Ok(());
        }
        let (generation, writer) = (found >> 32, found & u64::from(u32::MAX));
        Err(match generation {
            older if older < self.generation && writer == self.writer as u64 => format!(
                "a stale read: it holds writing {older} of rank {writer}, who had closed the file \
                 after writing {} before it was opened here",
                self.generation
            ),
            _ => format!(
                "it holds writing {generation} of rank {writer} instead of writing {} of rank {}",
                self.generation, self.writer
            ),
        })
    }
}

/// What was read is not what was written, and where.
#[derive(Debug)]
pub struct WrongContent(String);

impl fmt::Display for WrongContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongContent {}

/// Which transfers are moved.
pub struct Work<'a> {
    /// Reads or writes.
    pub kind: Kind,
    /// Of whose data.
    pub data: &'a Data,
    /// The numbers of the transfers.
    pub indexes: &'a [u64],
    /// When no further one begins.
    pub until: Option<Instant>,
    /// How reads are checked.
    pub check: CheckRead,
    /// Says how far it is.
    pub say: &'a dyn Fn(u64),
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    began: Ticks,
    index: u64,
}

/// Moves transfers and returns how many. Latencies are of single transfers, from preparation to
/// reaping.
///
/// # Errors
/// The first transfer that failed, came short, or holds something else.
pub fn run<E: Engine>(
    engine: &mut E,
    depth: usize,
    work: &Work<'_>,
    latencies: &mut Latencies,
) -> anyhow::Result<u64> {
    let clock = Clock::get();
    let transfer = work.data.grid.transfer;
    let mut slots = vec![Slot::default(); depth];
    let mut free: Vec<usize> = (0..depth).rev().collect();
    let mut done: Vec<Completion> = Vec::with_capacity(depth);
    let mut next = work.indexes.iter();
    let (mut moved, mut said, mut open) = (0, Instant::now(), true);
    loop {
        let now = Instant::now();
        anyhow::ensure!(
            !stop_requested(),
            "a signal ended the {}s",
            work.kind.verb()
        );
        if work.until.is_some_and(|until| now >= until) {
            open = false;
        }
        let began = clock.now();
        while open && let Some(&slot) = free.last() {
            let Some(&index) = next.next() else {
                open = false;
                break;
            };
            free.pop();
            let offset = work.data.grid.offset(work.data.writer as u64, index);
            if work.kind == Kind::Write {
                stamp(work.data, engine.buffer_mut(slot), offset, slot);
            }
            slots[slot] = Slot { began, index };
            engine.queue(Op {
                kind: work.kind,
                offset,
                // Bounded by 1 GiB when the options were checked.
                len: transfer as u32,
                buffer: slot,
            });
        }
        if free.len() == depth {
            return Ok(moved);
        }
        engine
            .exchange(&mut done, Wait::One)
            .context("cannot exchange I/O with the kernel")?;
        let ended = clock.now();
        for completion in done.drain(..) {
            let Slot { began, index } = slots[completion.buffer];
            arrived(work, index, completion.result)?;
            latencies.record(clock.ns(ended.saturating_sub(began)));
            if work.kind == Kind::Read {
                let block = &engine.buffer(completion.buffer)[..transfer as usize];
                let checked = work.data.check(block, index, work.check);
                checked.map_err(|fault| wrong(work, index, &fault))?;
            }
            moved += 1;
            free.push(completion.buffer);
        }
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            (work.say)(moved * transfer);
        }
    }
}

/// Fills the buffers of an engine that is to write; [`run`] then only stamps headers.
pub fn prefill(buffers: &mut Buffers, data: &Data) {
    let bytes = data.grid.transfer as usize;
    for slot in 0..buffers.count() {
        let block = &mut buffers.get_mut(slot)[..bytes];
        data.content.fill(block, version(data, 0, slot));
    }
}

fn stamp(data: &Data, buffer: &mut [u8], offset: u64, slot: usize) {
    data.content.stamp(buffer, version(data, offset, slot));
}

fn version(data: &Data, offset: u64, slot: usize) -> Version {
    Version {
        offset,
        sequence: data.sequence(),
        key: data.content.writer_key(data.writer, slot, 0),
    }
}

fn arrived(work: &Work<'_>, index: u64, result: i32) -> anyhow::Result<()> {
    let transfer = work.data.grid.transfer;
    if u64::try_from(result) == Ok(transfer) {
        return Ok(());
    }
    let offset = work.data.grid.offset(work.data.writer as u64, index);
    let tried = format!(
        "{} of {transfer} bytes at offset {offset} of what rank {} writes",
        work.kind.verb(),
        work.data.writer
    );
    if result >= 0 {
        anyhow::bail!("{tried}: it ended after {result} bytes");
    }
    let hint = match -result {
        libc::EINVAL => ": direct I/O may want a larger --transfer here; try --direct false",
        libc::ENOSPC => ": the file system is full; use a smaller --block or fewer --segments",
        libc::EDQUOT => ": the quota is used up; use a smaller --block or fewer --segments",
        _ => "",
    };
    anyhow::bail!("{tried}: {}{hint}", io::Error::from_raw_os_error(-result))
}

fn wrong(work: &Work<'_>, index: u64, fault: &str) -> anyhow::Error {
    let writer = work.data.writer;
    let offset = work.data.grid.offset(writer as u64, index);
    WrongContent(format!(
        "read at offset {offset} of what rank {writer} wrote: {fault}"
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use super::super::layout::Layout;
    use super::*;

    const DATA_TRANSFER: u64 = 47008;

    fn data() -> Data {
        Data {
            grid: Grid {
                layout: Layout::SharedStrided,
                transfer: DATA_TRANSFER,
                per_block: 4,
                segments: 1,
                ranks: 3,
            },
            writer: 1,
            generation: 2,
            content: Content::new(5),
        }
    }

    fn block(data: &Data, index: u64) -> Vec<u8> {
        let mut block = vec![0; DATA_TRANSFER as usize];
        let offset = data.grid.offset(data.writer as u64, index);
        data.content.fill(&mut block, version(data, offset, 0));
        block
    }

    #[test]
    fn every_kind_of_wrong_read_is_told_apart() {
        let data = data();
        let sound = block(&data, 2);
        assert_eq!(data.check(&sound, 2, CheckRead::Full), Ok(()));
        let said = |block: &[u8], index| {
            let checked = data.check(block, index, CheckRead::Full);
            checked.expect_err("it is wrong")
        };
        assert!(said(&sound, 3).contains("belongs to offset"));
        let earlier = Data {
            generation: 1,
            ..data
        };
        assert!(said(&block(&earlier, 2), 2).contains("stale read: it holds writing 1"));
        let other = Data { writer: 2, ..data };
        let mut foreign = block(&other, 2);
        let offset = data.grid.offset(1, 2);
        data.content.stamp(&mut foreign, version(&other, offset, 0));
        assert!(said(&foreign, 2).contains("of rank 2 instead of"));
        for byte in [40, 1000, DATA_TRANSFER as usize - 1] {
            let mut damaged = sound.clone();
            damaged[byte] ^= 4;
            let text = said(&damaged, 2);
            assert!(
                text.contains(&format!("byte {byte} of the block")),
                "{text}"
            );
        }
    }
}
