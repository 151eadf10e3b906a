//! The timed loop of one job: fill every free slot, hand the batch to the engine, stamp once,
//! record and check what came back.

use super::content::{Content, Fault};
use super::pattern::Pattern;
use super::readback::{Record, Written};
use crate::engine::{Completion, Direction, Engine, Op};
use crate::spec::Rw;
use crate::sys::Buffers;
use anyhow::Context;
use reports::measure::{Recorder, Ticks, Verified, Workload};
use reports::model::Work;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// One read in this many is checked inside the loop; a power of two.
const CHECK_EVERY: u64 = 64;
/// Words checked then, besides the header.
const WORDS_CHECKED: usize = 8;

/// What a job finds in the blocks that it reads.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// What this run laid out and wrote.
    Known(Content),
    /// The offset, put there by the null engine.
    Echo,
    /// Somebody else's data.
    Unknown,
}

/// Everything that shapes one job.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The job's number, from zero.
    pub index: usize,
    /// What it works on.
    pub file: Arc<File>,
    /// What to call that in errors.
    pub target: String,
    /// What is to be read there.
    pub expected: Expected,
    /// Reads, writes, and their order.
    pub rw: Rw,
    /// Share of reads in a mix.
    pub read_percent: u32,
    /// Bytes per operation.
    pub block_bytes: usize,
    /// Operations in flight.
    pub iodepth: usize,
    /// Operations submitted with one call.
    pub iodepth_batch: usize,
    /// The blocks that are its own.
    pub blocks: Range<u64>,
    /// Where its random numbers begin.
    pub seed: u64,
    /// How many blocks of a job are remembered to be read back.
    pub remembered: usize,
}

/// What jobs leave behind for the report.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The engine as the kernel granted it, per job.
    pub engines: Vec<Value>,
    /// Reads whose content was checked in the loop.
    pub sampled_reads: u64,
    /// Reads whose content was checked word for word after it.
    pub full_reads: u64,
    /// What the jobs remember of their writes.
    pub written: Vec<Written>,
}

/// One thread's share of a case, over the engine `E`.
pub struct Job<E> {
    setup: Setup,
    evidence: Arc<Mutex<Evidence>>,
    running: Option<Running<E>>,
}

impl<E: Engine> Job<E> {
    /// A job; nothing is opened before `prepare`.
    #[must_use]
    pub fn new(setup: Setup, evidence: Arc<Mutex<Evidence>>) -> Self {
        Self {
            setup,
            evidence,
            running: None,
        }
    }

    fn running(&mut self) -> &mut Running<E> {
        self.running.as_mut().expect("the harness prepares first")
    }
}

impl<E: Engine> Workload for Job<E> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.running = Some(Running::new(self.setup.clone())?);
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let running = self.running();
        while running.queue_batch(rec.stamp()) {
            running.submit()?;
        }
        running.exchange()?;
        rec.stamp();
        running.complete(|slot, mixed| {
            let ns = rec.clock().ns(rec.last().saturating_sub(slot.start));
            rec.record_ns(ns);
            if mixed {
                rec.record_extra(slot.direction as usize, ns);
            }
        })
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let running = self.running();
        let mut work = Work::default();
        while running.free.len() < running.slots.len() {
            running.exchange()?;
            work += running.complete(|_, _| {})?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let running = self.running();
        anyhow::ensure!(
            running.completed == total.ops,
            "{} operations had their full length, but {} were counted",
            running.completed,
            total.ops
        );
        let full_reads = running.check_last_reads()?;
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running.take().expect("the harness prepares first");
        evidence.engines.push(running.engine.facts());
        evidence.sampled_reads += running.sampled;
        evidence.full_reads += full_reads;
        evidence.written.extend(running.into_written());
        Ok(Verified {
            checks: total.ops,
            what: "I/Os had their full length".to_owned(),
        })
    }

    fn extra_histograms(&self) -> &'static [&'static str] {
        // In the order of `Direction`.
        if self.setup.rw.mixed() {
            &["read_lat_ns", "write_lat_ns"]
        } else {
            &[]
        }
    }
}

/// One place in the queue, and the operation that is or was in it.
#[derive(Debug, Clone, Copy)]
struct Slot {
    start: Ticks,
    direction: Direction,
    block: u64,
    sequence: u64,
    used: bool,
}

struct Running<E> {
    setup: Setup,
    engine: E,
    pattern: Pattern,
    slots: Vec<Slot>,
    free: Vec<usize>,
    done: Vec<Completion>,
    written: Option<Record>,
    completed: u64,
    sampled: u64,
    sequence: u64,
}

impl<E: Engine> Running<E> {
    fn new(setup: Setup) -> anyhow::Result<Self> {
        let depth = setup.iodepth;
        // Reads must not overwrite what is to be written: in a mix each slot has two buffers.
        let count = if setup.rw.mixed() { 2 * depth } else { depth };
        let buffers = Buffers::new(count, setup.block_bytes)?;
        let mut engine = E::open(Arc::clone(&setup.file), buffers)?;
        if let (Expected::Known(content), true) = (setup.expected, setup.rw.writes()) {
            for buffer in count - depth..count {
                let mut version = content.laid_out(0);
                version.key = content.writer_key(setup.index, buffer);
                content.fill(engine.buffer_mut(buffer), version);
            }
        }
        let idle = Slot {
            start: 0,
            direction: Direction::Read,
            block: 0,
            sequence: 0,
            used: false,
        };
        let blocks = setup.blocks.clone();
        Ok(Self {
            pattern: Pattern::new(setup.rw, setup.read_percent, blocks.clone(), setup.seed),
            slots: vec![idle; depth],
            free: (0..depth).rev().collect(),
            done: Vec::with_capacity(count),
            written: setup
                .rw
                .writes()
                .then(|| Record::new(blocks, setup.remembered)),
            completed: 0,
            sampled: 0,
            // The layout has zero; the high bits keep the jobs' versions apart.
            sequence: (setup.index as u64 + 1) << 48,
            engine,
            setup,
        })
    }

    /// Queues operations in free slots, all of them begun at `start`, up to the size of a batch.
    /// Returns whether there is more to queue.
    #[inline]
    fn queue_batch(&mut self, start: Ticks) -> bool {
        let mut queued = 0;
        while let Some(&index) = self.free.last() {
            if queued == self.setup.iodepth_batch {
                return true;
            }
            let Some((direction, block)) = self.pattern.draw() else {
                return false;
            };
            queued += 1;
            self.free.pop();
            let offset = block * self.setup.block_bytes as u64;
            let mut buffer = index;
            if direction == Direction::Write {
                buffer = self.write_buffer(index);
                self.prepare_write(buffer, block, offset);
            }
            self.slots[index] = Slot {
                start,
                direction,
                block,
                sequence: self.sequence,
                used: true,
            };
            self.engine.queue(Op {
                direction,
                offset,
                buffer,
            });
        }
        false
    }

    #[inline]
    fn write_buffer(&self, slot: usize) -> usize {
        if self.setup.rw.mixed() {
            self.slots.len() + slot
        } else {
            slot
        }
    }

    #[inline]
    fn prepare_write(&mut self, buffer: usize, block: u64, offset: u64) {
        self.sequence += 1;
        if let Some(written) = &mut self.written {
            written.note(block, self.sequence);
        }
        if let Expected::Known(content) = self.setup.expected {
            let mut version = content.laid_out(offset);
            version.sequence = self.sequence;
            version.key = content.writer_key(self.setup.index, buffer);
            content.stamp(self.engine.buffer_mut(buffer), version);
        }
    }

    #[inline]
    fn submit(&mut self) -> anyhow::Result<()> {
        let submitted = self.engine.submit();
        submitted.with_context(|| format!("cannot submit I/O to {}", self.setup.target))
    }

    #[inline]
    fn exchange(&mut self) -> anyhow::Result<()> {
        self.engine
            .exchange(&mut self.done)
            .with_context(|| format!("cannot exchange I/O with {}", self.setup.target))
    }

    /// Takes back what has ended: tells `record`, checks, and frees the slots.
    #[inline]
    fn complete(&mut self, mut record: impl FnMut(&Slot, bool)) -> anyhow::Result<Work> {
        let depth = self.slots.len();
        let count = self.done.len();
        for at in 0..count {
            let Completion { buffer, result } = self.done[at];
            let index = if buffer < depth {
                buffer
            } else {
                buffer - depth
            };
            let slot = self.slots[index];
            if usize::try_from(result) != Ok(self.setup.block_bytes) {
                return Err(self.failure(&slot, result));
            }
            record(&slot, self.setup.rw.mixed());
            match slot.direction {
                Direction::Write => self.pattern.written(slot.block),
                Direction::Read => self.check_now_and_then(&slot, buffer)?,
            }
            self.completed += 1;
            self.free.push(index);
        }
        self.done.clear();
        Ok(Work {
            ops: count as u64,
            bytes: (count * self.setup.block_bytes) as u64,
        })
    }

    #[inline]
    fn check_now_and_then(&mut self, slot: &Slot, buffer: usize) -> anyhow::Result<()> {
        let due = self.completed.is_multiple_of(CHECK_EVERY);
        match self.setup.expected {
            Expected::Known(content) if due => {
                self.sampled += 1;
                self.check_sample(content, slot, buffer)
            }
            Expected::Echo => self.check_echo(slot, buffer),
            Expected::Known(_) | Expected::Unknown => Ok(()),
        }
    }

    fn check_sample(&self, content: Content, slot: &Slot, buffer: usize) -> anyhow::Result<()> {
        let offset = slot.block * self.setup.block_bytes as u64;
        let block = self.engine.buffer(buffer);
        let checked = if self.setup.rw.writes() {
            // A write to the block may be under way: only its first words are sure to be whole.
            content.version(block, offset).map(drop)
        } else {
            let turn = self.sampled as usize;
            content
                .check_sample(block, offset, turn, WORDS_CHECKED)
                .and_then(|version| content.check_laid_out(version))
        };
        checked.map_err(|fault| self.corruption(offset, &fault))
    }

    #[inline]
    fn check_echo(&self, slot: &Slot, buffer: usize) -> anyhow::Result<()> {
        let offset = slot.block * self.setup.block_bytes as u64;
        let echo = self.engine.buffer(buffer).first_chunk().copied();
        anyhow::ensure!(
            echo.map(u64::from_le_bytes) == Some(offset),
            "the null engine did not execute the read of offset {offset}"
        );
        Ok(())
    }

    /// After a run that only read: every buffer still holds its slot's last block; all of each is
    /// checked.
    fn check_last_reads(&self) -> anyhow::Result<u64> {
        let Expected::Known(content) = self.setup.expected else {
            return Ok(0);
        };
        if self.setup.rw.writes() {
            return Ok(0);
        }
        let mut checked = 0;
        for (buffer, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.used) {
            let offset = slot.block * self.setup.block_bytes as u64;
            content
                .check(self.engine.buffer(buffer), offset)
                .and_then(|version| content.check_laid_out(version))
                .map_err(|fault| self.corruption(offset, &fault))?;
            checked += 1;
        }
        Ok(checked)
    }

    fn into_written(self) -> Option<Written> {
        let last = self
            .slots
            .iter()
            .filter(|slot| slot.used && slot.direction == Direction::Write)
            .map(|slot| (slot.block, slot.sequence))
            .collect();
        self.written.map(|record| Written { record, last })
    }

    #[cold]
    fn corruption(&self, offset: u64, fault: &Fault) -> anyhow::Error {
        anyhow::anyhow!(
            "{} returned wrong data at offset {offset}: {fault}",
            self.setup.target
        )
    }

    #[cold]
    fn failure(&self, slot: &Slot, result: i32) -> anyhow::Error {
        let bytes = self.setup.block_bytes;
        let offset = slot.block * bytes as u64;
        let tried = format!(
            "{} of {bytes} bytes at offset {offset} of {}",
            slot.direction.verb(),
            self.setup.target
        );
        if result >= 0 {
            return anyhow::anyhow!("{tried}: it ended after {result} bytes");
        }
        let hint = match -result {
            libc::EINVAL => {
                ": direct I/O takes only multiples of the device's logical block size; try a \
                 larger --bs, or --direct false"
            }
            libc::EOPNOTSUPP => ": the file system cannot do this; try --direct false",
            _ => "",
        };
        anyhow::anyhow!("{tried}: {}{hint}", io::Error::from_raw_os_error(-result))
    }
}

#[cfg(test)]
mod tests;
