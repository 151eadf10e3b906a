//! The timed loop of one job: fill every free slot, hand the batch to the engine, stamp once,
//! record and check what came back.

use super::Setup;
use super::checks::{Checks, Corruption};
use super::pace::Pace;
use super::tally::{Alike, Sample, Tally};
use crate::engine::{Completion, Engine, Kind, Op, Opening, Wait};
use crate::placement::{self, Placed};
use crate::workload::errors::{Brake, Errors, Failure};
use crate::workload::pattern::{Pattern, Request};
use crate::workload::readback::Written;
use anyhow::Context;
use reports::measure::{Recorder, Ticks};
use reports::model::Work;
use std::sync::Arc;

/// One place in the queue, and the operation that is or was in it. Each has a cache line for itself.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Slot {
    /// When its operation was meant to begin.
    pub(super) intended: Ticks,
    /// When its operation was prepared.
    pub(super) start: Ticks,
    /// When the call that submitted it had returned; zero where that was not stamped.
    pub(super) issued: Ticks,
    /// Whether a slot was free when it was meant to begin.
    pub(super) prompt: bool,
    pub(super) request: Request,
    /// The version of what is written.
    pub(super) sequence: u64,
    pub(super) used: bool,
}

impl Slot {
    /// Of an operation that begins now and was not meant to begin before.
    #[inline(always)]
    fn of_closed(now: Ticks, request: Request) -> Self {
        Self {
            intended: now,
            start: now,
            issued: 0,
            prompt: false,
            request,
            sequence: 0,
            used: true,
        }
    }

    /// Of another operation of the same kind and length.
    #[inline(always)]
    fn restart(&mut self, now: Ticks, unit: u64) {
        self.intended = now;
        self.start = now;
        self.issued = 0;
        self.request.unit = unit;
        self.used = true;
    }
}

/// What [`Running::fill`] came to.
pub(super) enum Filled {
    /// A batch is full, and there is more to queue: what has ended is looked at in between.
    Batch,
    /// Everything that can begin now is queued.
    All {
        /// How long to wait for what is under way.
        wait: Wait,
        /// Whether anything was queued.
        some: bool,
    },
}

/// A job at work.
pub(super) struct Running<E> {
    pub(super) setup: Setup,
    pub(super) engine: E,
    pub(super) placed: Placed,
    pub(super) pattern: Pattern,
    pub(super) pace: Pace,
    pub(super) tally: Tally,
    pub(super) sample: Sample,
    pub(super) checks: Checks,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<usize>,
    pub(super) done: Vec<Completion>,
    /// Where the buffers of writes begin. Reads must not overwrite what is to be written: in a mix
    /// each slot has two buffers.
    pub(super) write_buffers: usize,
    pub(super) iodepth_batch: usize,
    /// So many slots may stay free while a call waits. Who waits for many completions at a time in a
    /// closed loop has them refilled a batch at a time as well, not with a call for every remainder.
    pub(super) spare: usize,
    pub(super) unit_bytes: usize,
    /// The length in units of every operation, if the run is the plainest one: reads of one length,
    /// anywhere or in turn, in a closed loop. Filling and reaping are loops of their own then, in which
    /// all other questions have been answered.
    pub(super) plain: Option<u32>,
    pub(super) completed: u64,
    pub(super) errors: Errors,
    /// Whether as many operations as were asked for have ended, some of them in errors: of nothing
    /// but errors there would be no end.
    pub(super) over: bool,
    pub(super) brake: Arc<Brake>,
}

impl<E: Engine> Running<E> {
    pub(super) fn new(setup: Setup, brake: Arc<Brake>) -> anyhow::Result<Self> {
        let spec = Arc::clone(&setup.spec);
        let depth = spec.iodepth;
        let write_buffers = if spec.pattern.rw.both_ways() {
            depth
        } else {
            0
        };
        let count = write_buffers + depth;
        let memory = (count, setup.buffer_bytes());
        let (buffers, placed) = placement::settle(&spec.options, setup.index, &setup.file, memory)?;
        let mut engine = E::open(Opening {
            file: Arc::clone(&setup.file),
            buffers,
            options: spec.options.clone(),
        })?;
        let mut checks = Checks::new(&setup);
        if spec.pattern.rw.puts() {
            for buffer in write_buffers..count {
                checks.prefill(buffer, engine.buffer_mut(buffer));
            }
        }
        let pattern = Pattern::new(&spec.pattern, setup.units.clone(), setup.seed);
        let pace = Pace::new(&spec, setup.index, setup.seed);
        let closed = matches!(pace, Pace::Closed);
        let plain = pattern.only_reads().filter(|_| closed && checks.samples());
        let idle = Slot {
            used: false,
            ..Slot::of_closed(
                0,
                Request {
                    kind: Kind::Read,
                    unit: 0,
                    units: plain.unwrap_or(0),
                },
            )
        };
        Ok(Self {
            plain,
            pattern,
            pace,
            tally: Tally::new(&spec),
            sample: Sample::new(&spec),
            checks,
            slots: vec![idle; depth],
            free: (0..depth).rev().collect(),
            done: Vec::with_capacity(count),
            write_buffers,
            iodepth_batch: spec.iodepth_batch,
            spare: match closed {
                true => {
                    spec.iodepth_batch
                        .min(spec.options.iodepth_batch_complete_min)
                        - 1
                }
                false => 0,
            },
            unit_bytes: setup.unit_bytes(),
            completed: 0,
            errors: Errors::default(),
            over: false,
            brake,
            engine,
            placed,
            setup,
        })
    }

    #[inline(always)]
    pub(super) fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let start = rec.stamp();
        let filled = match self.plain {
            Some(units) => self.fill_plain(start, units),
            None => self.fill(start),
        };
        let (wait, some) = match filled {
            Filled::Batch => (Wait::Peek, true),
            Filled::All { wait, some } => (wait, some),
        };
        if some && self.sample.takes() {
            self.submit()?;
            self.issued(start, rec.stamp());
        }
        self.exchange(wait)?;
        let now = rec.stamp();
        let work = match self.plain {
            Some(units) => self.complete_plain(rec, units)?,
            None => {
                let mut alike = Alike::default();
                let work = self.complete(|tally, slot| tally.record(rec, slot, &mut alike))?;
                alike.flush(rec);
                work
            }
        };
        self.pace.reaped(now, work.ops > 0);
        if self.brake.ended() || self.over {
            rec.finish();
        }
        Ok(work)
    }

    /// Queues operations in free slots, all of them begun at `now`, up to the size of a batch.
    #[inline(always)]
    pub(super) fn fill(&mut self, now: Ticks) -> Filled {
        let mut queued = 0;
        while let Some(&index) = self.free.last() {
            if queued == self.iodepth_batch {
                match self.free.len() > self.spare {
                    true => return Filled::Batch,
                    false => break,
                }
            }
            let Some(intended) = self.pace.due(now) else {
                let wait = self.pace.wait(now);
                let some = queued > 0;
                return Filled::All { wait, some };
            };
            let Some(request) = self.pattern.draw() else {
                break;
            };
            let prompt = self.pace.prompt(intended);
            // A flush belongs to the writes before it and is none of the schedule's.
            if !request.kind.flushes() {
                self.pace.begun();
            }
            queued += 1;
            self.free.pop();
            let mut buffer = index;
            let mut sequence = 0;
            match request.kind {
                Kind::Read => self.checks.read_begins(request, buffer),
                Kind::Fsync | Kind::Fdatasync => {}
                Kind::Write => {
                    buffer += self.write_buffers;
                    let bytes = self.engine.buffer_mut(buffer);
                    sequence = self.checks.stamp(request, buffer, bytes);
                }
                Kind::Trim => sequence = self.checks.trim(request, buffer),
            }
            let slot = Slot {
                intended,
                prompt,
                sequence,
                ..Slot::of_closed(now, request)
            };
            self.begin(index, buffer, slot);
        }
        self.pace.full();
        Filled::All {
            wait: Wait::One,
            some: queued > 0,
        }
    }

    /// [`Self::fill`] of the plainest run.
    #[inline(always)]
    pub(super) fn fill_plain(&mut self, now: Ticks, units: u32) -> Filled {
        let free = self.free.len();
        let left = free - free.min(self.iodepth_batch);
        let len = self.length(units) as u32;
        for &index in self.free[left..].iter().rev() {
            // What touches no byte has no place.
            let unit = match E::MOVES {
                true => self.pattern.place_of_read(units),
                false => 0,
            };
            self.slots[index].restart(now, unit);
            self.engine.queue(Op {
                kind: Kind::Read,
                offset: unit * self.unit_bytes as u64,
                len,
                buffer: index,
            });
        }
        self.free.truncate(left);
        match left > self.spare {
            true => Filled::Batch,
            false => Filled::All {
                wait: Wait::One,
                some: left < free,
            },
        }
    }

    #[inline(always)]
    fn begin(&mut self, index: usize, buffer: usize, slot: Slot) {
        let request = slot.request;
        self.slots[index] = slot;
        self.engine.queue(Op {
            kind: request.kind,
            offset: request.unit * self.unit_bytes as u64,
            len: self.length(request.units) as u32,
            buffer,
        });
    }

    /// Notes when the call had returned that submitted the operations begun at `start`.
    #[cold]
    fn issued(&mut self, start: Ticks, now: Ticks) {
        for slot in self.slots.iter_mut().filter(|slot| slot.start == start) {
            slot.issued = now;
        }
    }

    /// Bytes of an operation; bounded by 1 GiB when the options were checked.
    #[inline(always)]
    fn length(&self, units: u32) -> usize {
        if E::MOVES {
            units as usize * self.unit_bytes
        } else {
            0
        }
    }

    #[inline]
    pub(super) fn submit(&mut self) -> anyhow::Result<()> {
        self.checks.before_submission()?;
        let submitted = self.engine.submit();
        submitted.with_context(|| format!("cannot submit I/O to {}", self.setup.target))
    }

    #[inline]
    pub(super) fn exchange(&mut self, wait: Wait) -> anyhow::Result<()> {
        self.checks.before_submission()?;
        self.engine
            .exchange(&mut self.done, wait)
            .with_context(|| format!("cannot exchange I/O with {}", self.setup.target))
    }

    /// Takes back what has ended: tells `record`, checks, and frees the slots.
    #[inline(always)]
    pub(super) fn complete(
        &mut self,
        mut record: impl FnMut(&mut Tally, &Slot),
    ) -> anyhow::Result<Work> {
        let depth = self.slots.len();
        let mut work = Work::default();
        for at in 0..self.done.len() {
            let Completion { buffer, result } = self.done[at];
            let index = if buffer < depth {
                buffer
            } else {
                buffer - depth
            };
            let slot = &self.slots[index];
            let (request, sequence) = (slot.request, slot.sequence);
            let kind = request.kind;
            let length = self.length(request.units);
            let full = if kind.moves_bytes() { length } else { 0 };
            self.pattern.ended(request);
            self.free.push(index);
            if usize::try_from(result) != Ok(full) {
                self.failed((index, buffer), result, work.ops);
                continue;
            }
            record(&mut self.tally, slot);
            match kind {
                Kind::Read => self.check_read(request, buffer)?,
                Kind::Write | Kind::Trim => self.checks.wrote(request, buffer, sequence),
                Kind::Fsync | Kind::Fdatasync => {}
            }
            if !kind.flushes() {
                work += Work::op(length as u64);
            }
        }
        self.completed += work.ops;
        self.done.clear();
        self.checks.after_completion(&self.setup.file)?;
        Ok(work)
    }

    /// [`Self::complete`] of the plainest run.
    #[inline(always)]
    fn complete_plain(&mut self, rec: &mut Recorder, units: u32) -> anyhow::Result<Work> {
        let length = self.length(units);
        let mut ops = 0;
        let mut alike = Alike::default();
        self.free.extend(self.done.iter().map(|done| done.buffer));
        let done = std::mem::take(&mut self.done);
        for &Completion { buffer, result } in &done {
            if usize::try_from(result) != Ok(length) {
                self.failed((buffer, buffer), result, ops);
                continue;
            }
            let slot = &self.slots[buffer];
            let request = slot.request;
            self.tally.record(rec, slot, &mut alike);
            self.check_read(request, buffer)?;
            ops += 1;
        }
        alike.flush(rec);
        self.done = done;
        self.completed += ops;
        self.done.clear();
        Ok(Work {
            ops,
            bytes: ops * length as u64,
        })
    }

    #[inline(always)]
    fn check_read(&mut self, request: Request, buffer: usize) -> anyhow::Result<()> {
        if !E::MOVES {
            return Ok(());
        }
        let bytes = || self.engine.buffer(buffer);
        let read = self.checks.read(request, buffer, bytes);
        read.map_err(|corruption| corruption_of(&self.setup, &corruption))
    }

    /// Checks the last block that each slot has read, after a run that only read.
    pub(super) fn check_last_reads(&mut self) -> anyhow::Result<()> {
        for (buffer, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.used) {
            self.checks
                .last_read(slot.request, self.engine.buffer(buffer))
                .map_err(|corruption| corruption_of(&self.setup, &corruption))?;
        }
        Ok(())
    }

    pub(super) fn into_written(self) -> Option<Written> {
        let last = self
            .slots
            .iter()
            .filter(|slot| slot.used && slot.request.kind == Kind::Write)
            .map(|slot| (slot.request, slot.sequence))
            .collect();
        self.checks.into_written(last)
    }

    /// Takes note of an operation that failed after others of this reaping had `succeeded`.
    #[cold]
    fn failed(&mut self, (index, buffer): (usize, usize), result: i32, succeeded: u64) {
        let slot = &mut self.slots[index];
        // Its buffer holds nothing that could be checked.
        slot.used = false;
        let request = slot.request;
        self.checks.failed(request, buffer);
        self.errors.note(&Failure {
            kind: request.kind,
            bytes: self.length(request.units),
            offset: request.unit * self.unit_bytes as u64,
            target: &self.setup.target,
            result,
            succeeded: self.completed + succeeded,
        });
        self.brake.count(self.setup.spec.errors.allowed());
        let seen = self.completed + succeeded + self.errors.count();
        self.over |= self
            .setup
            .spec
            .number_ios
            .is_some_and(|bound| seen >= bound);
    }
}

#[cold]
fn corruption_of(setup: &Setup, corruption: &Corruption) -> anyhow::Error {
    anyhow::anyhow!("{} returned {corruption}", setup.target)
}
