//! What a job puts into the blocks that it writes, and what it demands of those that it reads.
//!
//! By default a sample is checked. With `--verify crc32c` every read is: its checksum, its place,
//! and its generation, which must lie between the last write that was complete when the read began
//! and the last one that had begun when it ended.

mod flights;

use super::{Expected, Setup};
use crate::engine::Kind;
use crate::workload::content::{Content, Fault, Seal, first_sequence};
use crate::workload::journal::Log;
use crate::workload::pattern::Request;
use crate::workload::readback::{Record, TRIMMED, UNKNOWN, Written};
use flights::Flights;
use std::fmt;
use std::fs::File;

/// One read in this many is checked inside the loop; a power of two.
const CHECK_EVERY: u64 = 64;
/// Words checked then, besides the header.
const WORDS_CHECKED: usize = 8;

/// What is wrong, and where in the target.
#[derive(Debug)]
pub struct Corruption {
    /// Byte in the target at which the unit begins.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrong data at offset {}: {}", self.offset, self.fault)
    }
}

/// How many reads were checked, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// By header and some words.
    pub sampled: u64,
    /// In full.
    pub full: u64,
    /// Of these, not whole, because a write to the block was under way.
    pub overlapped: u64,
}

/// One job's knowledge of the content.
#[derive(Debug)]
pub struct Checks {
    job: usize,
    expected: Expected,
    unit_bytes: usize,
    writes: bool,
    written: Option<Record>,
    /// The version of the write that was prepared last.
    sequence: u64,
    /// Reads so far.
    reads: u64,
    checked: Checked,
    /// Whether some units hold what nobody knows, because writing them failed.
    unsure: bool,
    /// Whether what a slot wrote last may have been trimmed since.
    trims: bool,
    sealing: Option<Sealing>,
    log: Option<Log>,
}

/// What it takes to seal blocks and to check sealed ones.
#[derive(Debug)]
struct Sealing {
    seal: Seal,
    units_per_buffer: usize,
    /// What the constant part of each unit of each buffer contributes to its checksum.
    constants: Vec<u32>,
    flights: Flights,
}

impl Checks {
    /// Of a job that has written nothing yet.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let writes = setup.spec.pattern.rw.writes();
        let sealed = matches!(setup.expected, Expected::Known(content) if content.is_sealed());
        let log = setup.journal.as_ref().map(Log::new);
        Self {
            job: setup.index,
            expected: setup.expected,
            unit_bytes: setup.unit_bytes(),
            writes,
            written: writes.then(|| Record::new(setup.units.clone(), setup.remembered)),
            sequence: first_sequence(setup.index),
            reads: 0,
            checked: Checked::default(),
            unsure: false,
            trims: setup.spec.pattern.rw.trims(),
            sealing: sealed.then(|| Sealing::new(setup)),
            log,
        }
    }

    /// Whether reads are checked by sample only, and nothing is written down of them.
    #[must_use]
    pub fn samples(&self) -> bool {
        self.sealing.is_none() && self.log.is_none()
    }

    /// Fills a buffer that will be written, before anything is timed.
    pub fn prefill(&mut self, buffer: usize, bytes: &mut [u8]) {
        let Expected::Known(content) = self.expected else {
            return;
        };
        for (at, unit) in bytes.chunks_exact_mut(self.unit_bytes).enumerate() {
            content.fill_body(unit, content.writer_key(self.job, buffer, at));
            if let Some(sealing) = &mut self.sealing {
                sealing.constants[buffer * sealing.units_per_buffer + at] = Seal::constant(unit);
            }
        }
    }

    /// Gives the units of a write their headers. Returns the write's version.
    #[inline]
    pub fn stamp(&mut self, request: Request, buffer: usize, bytes: &mut [u8]) -> u64 {
        self.sequence += 1;
        if let Expected::Known(content) = self.expected {
            let units = bytes.chunks_exact_mut(self.unit_bytes);
            for (at, unit) in units.take(request.units as usize).enumerate() {
                let offset = (request.unit + at as u64) * self.unit_bytes as u64;
                let mut version = content.laid_out(offset);
                version.sequence = self.sequence;
                version.key = content.writer_key(self.job, buffer, at);
                match &self.sealing {
                    None => content.stamp(unit, version),
                    Some(sealing) => {
                        let constant = sealing.constants[buffer * sealing.units_per_buffer + at];
                        content.stamp_sealed(unit, version, &sealing.seal, constant);
                    }
                }
            }
        }
        if let Some(sealing) = &mut self.sealing {
            sealing.flights.write_begins(buffer, request, self.sequence);
        }
        if let Some(log) = &mut self.log {
            log.intends(request, self.sequence);
        }
        self.sequence
    }

    /// Says that a trim is about to begin. Returns its version.
    pub fn trim(&mut self, request: Request, buffer: usize) -> u64 {
        self.sequence += 1;
        // A device may keep what it discards, or return anything.
        let sequence = match self.expected {
            Expected::Known(content) if content.is_over_foreign() => UNKNOWN,
            _ => self.sequence | TRIMMED,
        };
        if let Some(sealing) = &mut self.sealing {
            sealing.flights.write_begins(buffer, request, sequence);
        }
        sequence
    }

    /// Says that a write or trim failed, and may have done a part: what its units hold is unknown.
    pub fn failed(&mut self, request: Request, buffer: usize) {
        if matches!(request.kind, Kind::Write | Kind::Trim) {
            self.unsure = true;
            self.note(request, UNKNOWN);
            if let Some(sealing) = &mut self.sealing {
                sealing.flights.write_ended(buffer);
            }
        }
    }

    #[inline]
    fn note(&mut self, request: Request, sequence: u64) {
        if let Some(written) = &mut self.written {
            for unit in request.unit..request.unit + u64::from(request.units) {
                written.note(unit, sequence);
            }
        }
    }

    /// Says that a write or trim was done in full.
    #[inline]
    pub fn wrote(&mut self, request: Request, buffer: usize, sequence: u64) {
        self.note(request, sequence);
        if let Some(sealing) = &mut self.sealing {
            sealing.flights.write_ended(buffer);
        }
        if let Some(log) = &mut self.log {
            log.completed(request, sequence);
        }
    }

    /// Says that a read is about to begin.
    #[inline]
    pub fn read_begins(&mut self, request: Request, buffer: usize) {
        if let (Some(sealing), Some(written)) = (&mut self.sealing, &self.written) {
            sealing.flights.read_begins(buffer, request, written);
        }
    }

    /// Writes to the journal what is about to be handed to the kernel.
    ///
    /// # Errors
    /// What the kernel says of the journal.
    #[inline]
    pub fn before_submission(&mut self) -> anyhow::Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::write_intents)
    }

    /// Makes writes durable and notes it in the journal, if it is time for that.
    ///
    /// # Errors
    /// What the kernel says of the target or the journal.
    #[inline]
    pub fn after_completion(&mut self, file: &File) -> anyhow::Result<()> {
        match &mut self.log {
            Some(log) if log.is_due() => log.make_durable(file),
            _ => Ok(()),
        }
    }

    /// The last entry of the journal, when no operation is under way any more.
    ///
    /// # Errors
    /// What the kernel says of the target or the journal.
    pub fn end_journal(&mut self, file: &File) -> anyhow::Result<()> {
        self.log
            .as_mut()
            .map_or(Ok(()), |log| log.make_durable(file))
    }

    /// Checks what a read has brought: now and then, or always if blocks are sealed.
    ///
    /// # Errors
    /// What is wrong with it.
    #[inline(always)]
    pub fn read<'a>(
        &mut self,
        request: Request,
        buffer: usize,
        bytes: impl FnOnce() -> &'a [u8],
    ) -> Result<(), Corruption> {
        let content = match &self.expected {
            Expected::Unknown => return Ok(()),
            Expected::Echo => return self.echo(request, bytes()),
            Expected::Known(content) => content,
        };
        if self.sealing.is_some() {
            return self.whole(*content, request, buffer, bytes());
        }
        let due = self.reads.is_multiple_of(CHECK_EVERY);
        self.reads += 1;
        match due && !self.unsure {
            true => self.sample(*content, request, bytes()),
            false => Ok(()),
        }
    }

    fn whole(
        &mut self,
        content: Content,
        request: Request,
        buffer: usize,
        bytes: &[u8],
    ) -> Result<(), Corruption> {
        if let Some(sealing) = &self.sealing {
            let torn = self.read_sealed(content, sealing, request, buffer, bytes)?;
            self.checked.full += 1;
            self.checked.overlapped += u64::from(torn);
        }
        Ok(())
    }

    /// Whether some unit is torn, and rightly so.
    #[inline]
    fn read_sealed(
        &self,
        content: Content,
        sealing: &Sealing,
        request: Request,
        buffer: usize,
        bytes: &[u8],
    ) -> Result<bool, Corruption> {
        let mut torn = false;
        for (at, (offset, unit)) in self.units(request, bytes).enumerate() {
            let checked = content.check(unit, offset);
            let judged = match &self.written {
                None => checked.and_then(|version| content.check_laid_out(version)),
                // Nothing of this run stands there yet, as far as is known.
                Some(written)
                    if content.is_over_foreign()
                        && matches!(written.last(request.unit + at as u64), None | Some(0))
                        && checked.is_err() =>
                {
                    Ok(())
                }
                Some(written) => {
                    let place = (buffer, at, request.unit + at as u64);
                    sealing
                        .flights
                        .judge(place, written, checked)
                        .map(|whole| torn |= !whole)
                }
            };
            judged.map_err(|fault| Corruption { offset, fault })?;
        }
        Ok(torn)
    }

    #[cold]
    fn sample(
        &mut self,
        content: Content,
        request: Request,
        bytes: &[u8],
    ) -> Result<(), Corruption> {
        self.checked.sampled += 1;
        for (offset, unit) in self.units(request, bytes) {
            let checked = if self.writes {
                // A write to the unit may be under way: only its first words are sure to be whole.
                match content.version(unit, offset) {
                    Err(Fault::Foreign) if content.is_over_foreign() => Ok(()),
                    version => version.map(drop),
                }
            } else {
                let turn = self.checked.sampled as usize;
                content
                    .check_sample(unit, offset, turn, WORDS_CHECKED)
                    .and_then(|version| content.check_laid_out(version))
            };
            checked.map_err(|fault| Corruption { offset, fault })?;
        }
        Ok(())
    }

    #[inline]
    fn echo(&self, request: Request, bytes: &[u8]) -> Result<(), Corruption> {
        let offset = request.unit * self.unit_bytes as u64;
        let echo = bytes.first_chunk().copied().map(u64::from_le_bytes);
        if echo == Some(offset) {
            return Ok(());
        }
        let fault = Fault::NotExecuted;
        Err(Corruption { offset, fault })
    }

    /// After a run that only read: the buffers still hold what was read last, and all of it is
    /// checked, if that was not done yet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn last_read(&mut self, request: Request, bytes: &[u8]) -> Result<(), Corruption> {
        let Expected::Known(content) = self.expected else {
            return Ok(());
        };
        if self.writes || self.sealing.is_some() {
            return Ok(());
        }
        for (offset, unit) in self.units(request, bytes) {
            content
                .check(unit, offset)
                .and_then(|version| content.check_laid_out(version))
                .map_err(|fault| Corruption { offset, fault })?;
        }
        self.checked.full += 1;
        Ok(())
    }

    /// The units of an operation with their offsets in the target.
    fn units<'a>(
        &self,
        request: Request,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let unit_bytes = self.unit_bytes;
        let first = request.unit;
        let units = bytes.chunks_exact(unit_bytes).take(request.units as usize);
        units
            .enumerate()
            .map(move |(at, unit)| ((first + at as u64) * unit_bytes as u64, unit))
    }

    /// Reads checked so far.
    #[must_use]
    pub fn checked(&self) -> Checked {
        self.checked
    }

    /// What the job remembers of its writes; `last` are the last writes of its slots.
    #[must_use]
    pub fn into_written(self, last: Vec<(Request, u64)>) -> Option<Written> {
        // Of what was trimmed or failed since, only the record knows.
        let known = !self.unsure && !self.trims;
        let last = last
            .into_iter()
            .filter(|_| known)
            .map(|(request, sequence)| (request.unit, sequence))
            .collect();
        self.written.map(|record| Written { record, last })
    }
}

impl Sealing {
    fn new(setup: &Setup) -> Self {
        let units_per_buffer = setup.buffer_bytes() / setup.unit_bytes();
        // In a mix each slot has two.
        let buffers = 2 * setup.spec.iodepth;
        Self {
            seal: Seal::new(setup.unit_bytes()),
            units_per_buffer,
            constants: vec![0; buffers * units_per_buffer],
            flights: Flights::new(buffers, units_per_buffer),
        }
    }
}
