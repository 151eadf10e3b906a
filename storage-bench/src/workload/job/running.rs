//! The timed loop of one job: fill every free slot, hand the batch to the engine, stamp once,
//! record and check what came back.

use super::Setup;
use super::checks::{Checks, Corruption};
use super::pace::Pace;
use super::tally::{Sample, Tally};
use crate::engine::{Completion, Engine, Kind, Op, Opening, Wait};
use crate::placement::{self, Placed};
use crate::workload::errors::{Brake, Errors, Failure};
use crate::workload::pattern::{Pattern, Request};
use crate::workload::readback::Written;
use anyhow::Context;
use reports::measure::{Recorder, Ticks};
use reports::model::Work;
use std::sync::Arc;

/// One place in the queue, and the operation that is or was in it.
#[derive(Debug, Clone, Copy)]
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
    fn plain(now: Ticks, request: Request) -> Self {
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
}

/// What [`Running::fill`] came to.
pub(super) enum Filled {
    /// A batch is full, and there is more to queue.
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
    pub(super) unit_bytes: usize,
    /// The length in units of every operation, if the run is the plainest one: reads of one length,
    /// anywhere or in turn, in a closed loop. Its steps are compiled apart, where all other questions have
    /// been answered.
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
        let nothing = Request {
            kind: Kind::Read,
            unit: 0,
            units: 0,
        };
        let idle = Slot {
            used: false,
            ..Slot::plain(0, nothing)
        };
        let pattern = Pattern::new(&spec.pattern, setup.units.clone(), setup.seed);
        let pace = Pace::new(&spec, setup.index, setup.seed);
        let closed = matches!(pace, Pace::Closed);
        Ok(Self {
            plain: pattern.only_reads().filter(|_| closed && checks.samples()),
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
    pub(super) fn step<const PLAIN: bool>(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let wait = loop {
            let start = rec.stamp();
            match self.fill::<PLAIN>(start) {
                Filled::Batch => self.submit()?,
                Filled::All { wait, some } => {
                    if some && self.sample.takes() {
                        self.submit()?;
                        self.issued(start, rec.stamp());
                    }
                    break wait;
                }
            }
        };
        self.exchange(wait)?;
        let now = rec.stamp();
        let work = self.complete::<PLAIN>(|tally, slot| tally.record(rec, slot))?;
        self.tally.flush(rec);
        self.pace.reaped(now, work.ops > 0);
        if self.brake.ended() || self.over {
            rec.finish();
        }
        Ok(work)
    }

    /// Queues operations in free slots, all of them begun at `now`, up to the size of a batch.
    #[inline(always)]
    pub(super) fn fill<const PLAIN: bool>(&mut self, now: Ticks) -> Filled {
        let mut queued = 0;
        while let Some(&index) = self.free.last() {
            if queued == self.iodepth_batch {
                return Filled::Batch;
            }
            if let (true, Some(units)) = (PLAIN, self.plain) {
                queued += 1;
                self.free.pop();
                let request = self.pattern.read(units);
                self.begin(index, index, Slot::plain(now, request));
                continue;
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
                ..Slot::plain(now, request)
            };
            self.begin(index, buffer, slot);
        }
        self.pace.full();
        Filled::All {
            wait: Wait::One,
            some: queued > 0,
        }
    }

    #[inline(always)]
    fn begin(&mut self, index: usize, buffer: usize, slot: Slot) {
        let request = slot.request;
        self.slots[index] = slot;
        self.engine.queue(Op {
            kind: request.kind,
            offset: request.unit * self.unit_bytes as u64,
            len: self.length(request) as u32,
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
    fn length(&self, request: Request) -> usize {
        if E::MOVES {
            request.units as usize * self.unit_bytes
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
    pub(super) fn complete<const PLAIN: bool>(
        &mut self,
        mut record: impl FnMut(&mut Tally, &Slot),
    ) -> anyhow::Result<Work> {
        let depth = self.slots.len();
        let mut work = Work::default();
        for at in 0..self.done.len() {
            let Completion { buffer, result } = self.done[at];
            let index = if PLAIN || buffer < depth {
                buffer
            } else {
                buffer - depth
            };
            let slot = &self.slots[index];
            let (request, sequence) = (slot.request, slot.sequence);
            let kind = if PLAIN { Kind::Read } else { request.kind };
            let length = self.length(request);
            let full = if kind.moves_bytes() { length } else { 0 };
            if !PLAIN {
                self.pattern.ended(request);
            }
            self.free.push(index);
            if usize::try_from(result) != Ok(full) {
                self.failed((index, buffer), result, work.ops);
                continue;
            }
            record(&mut self.tally, slot);
            match kind {
                // Nothing was read.
                Kind::Read if !E::MOVES => {}
                Kind::Read => {
                    let bytes = || self.engine.buffer(buffer);
                    let read = self.checks.read(request, buffer, bytes);
                    read.map_err(|corruption| corruption_of(&self.setup, &corruption))?;
                }
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
            bytes: self.length(request),
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
