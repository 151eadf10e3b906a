//! What is recorded of an operation that has ended.
//!
//! The main histogram counts from the intended start: in a closed loop that is when an operation
//! was prepared, and it is fio's `lat`; in an open loop it is the response time, and `lat` stands
//! beside it. Submission is not stamped apart, because one system call submits and waits; of a
//! sample of the calls it is (see [`Sample`]), and `slat` and `clat` are of those.

use super::running::Slot;
use crate::engine::Kind;
use crate::spec::{EngineName, Spec};
use reports::measure::{Recorder, Ticks};

/// Histograms beside the main one. Those that stay empty are not reported.
const CLOSED: &[&str] = &[
    "slat_ns",
    "clat_ns",
    "read_lat_ns",
    "write_lat_ns",
    "trim_lat_ns",
    "sync_lat_ns",
];
/// The same of an open loop. `late_start_ns` is of operations for which a slot was free.
const OPEN: &[&str] = &[
    "slat_ns",
    "clat_ns",
    "read_response_ns",
    "write_response_ns",
    "trim_response_ns",
    "sync_lat_ns",
    "lat_ns",
    "late_start_ns",
];

const SLAT: usize = 0;
const CLAT: usize = 1;
const READ: usize = 2;
const WRITE: usize = 3;
const TRIM: usize = 4;
const SYNC: usize = 5;
const LAT: usize = 6;
const LATE_START: usize = 7;

/// One call in this many is stamped when it has submitted.
const SAMPLE_EVERY: u64 = 32;

/// The names of a specification's histograms beside the main one.
#[must_use]
pub fn extras(spec: &Spec) -> &'static [&'static str] {
    match spec.offered_iops() {
        None => CLOSED,
        Some(_) => OPEN,
    }
}

/// What one job records.
#[derive(Debug)]
pub struct Tally {
    /// Whether directions are recorded apart.
    mixed: bool,
    open: bool,
    /// Whether each operation has more to be recorded than when it began.
    each: bool,
}

/// Operations that ended together, so far, and began together, at this moment: most of a batch are
/// alike, and are counted as one.
#[derive(Debug, Default)]
pub struct Alike {
    since: Ticks,
    count: u64,
}

impl Alike {
    /// Records those that are still to be counted.
    #[inline(always)]
    pub fn flush(&mut self, rec: &mut Recorder) {
        rec.record_since_n(self.since, std::mem::take(&mut self.count));
    }
}

impl Tally {
    /// For the jobs of a specification.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let mixed = spec.pattern.rw.mixed();
        let open = spec.offered_iops().is_some();
        let flushes = spec.pattern.fsync.or(spec.pattern.fdatasync).is_some();
        Self {
            mixed,
            open,
            each: mixed || open || flushes,
        }
    }

    /// Records an operation that was reaped at the recorder's last stamp; after all that were,
    /// [`Alike::flush`] is due.
    #[inline(always)]
    pub fn record(&self, rec: &mut Recorder, slot: &Slot, alike: &mut Alike) {
        if self.each || slot.issued != 0 {
            return self.record_each(rec, slot);
        }
        if slot.intended != alike.since {
            alike.flush(rec);
            alike.since = slot.intended;
        }
        alike.count += 1;
    }

    fn record_each(&self, rec: &mut Recorder, slot: &Slot) {
        if slot.request.kind.flushes() {
            let ns = rec.clock().ns(rec.last().saturating_sub(slot.start));
            return rec.record_extra(SYNC, ns);
        }
        rec.record_since(slot.intended);
        let ns = |rec: &Recorder, from: Ticks| rec.clock().ns(rec.last().saturating_sub(from));
        if self.mixed {
            let direction = match slot.request.kind {
                Kind::Read => READ,
                Kind::Write => WRITE,
                Kind::Trim => TRIM,
                Kind::Fsync | Kind::Fdatasync => SYNC,
            };
            rec.record_extra(direction, ns(rec, slot.intended));
        }
        if slot.issued != 0 {
            let slat = rec.clock().ns(slot.issued.saturating_sub(slot.start));
            rec.record_extra(SLAT, slat);
            rec.record_extra(CLAT, ns(rec, slot.issued));
        }
        if self.open {
            rec.record_extra(LAT, ns(rec, slot.start));
            if slot.prompt {
                let late = rec.clock().ns(slot.start.saturating_sub(slot.intended));
                rec.record_extra(LATE_START, late);
            }
        }
    }
}

/// Which of the calls that submit do nothing else, so that a stamp can follow them.
#[derive(Debug)]
pub struct Sample {
    left: u64,
}

impl Sample {
    /// For the jobs of a specification. Only io_uring has a submission of its own: the other
    /// engines' call is the operation.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let left = match spec.engine {
            EngineName::Uring => SAMPLE_EVERY,
            EngineName::Psync | EngineName::Null => u64::MAX,
        };
        Self { left }
    }

    /// Whether the next call is one of them.
    #[inline(always)]
    pub fn takes(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = SAMPLE_EVERY;
        true
    }
}
