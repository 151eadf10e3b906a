//! What can be wrong with a block, in words that tell a user where to look.

use crate::workload::readback::TRIMMED;
use std::fmt;

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It was not written by this run.
    Foreign,
    /// It holds nothing but zeros: never written, trimmed, or lost.
    Zeros,
    /// It is intact and belongs elsewhere.
    Misdirected {
        /// The offset in its header.
        belongs: u64,
    },
    /// It is intact and older than what had been written: a lost write.
    Stale {
        /// The sequence number in its header.
        found: u64,
        /// The oldest that it may hold.
        expected: u64,
    },
    /// It is intact and holds a write that nobody expected there.
    Unexpected {
        /// The sequence number in its header.
        found: u64,
        /// The newest that it may hold.
        expected: u64,
    },
    /// Its sectors are intact and of different writes.
    Torn {
        /// The first byte of another write than the block's beginning.
        at: usize,
        /// The sequence number before that byte.
        before: u64,
        /// The one from there on.
        after: u64,
        /// The oldest of all sectors.
        oldest: u64,
        /// The newest of all sectors.
        newest: u64,
    },
    /// Bytes differ from what was written.
    Damaged {
        /// The first byte that differs, within the block.
        at: usize,
        /// The last one.
        last: usize,
        /// How many bits differ.
        bits: u32,
        /// The byte found at the first place.
        found: u8,
        /// The byte expected there.
        expected: u8,
    },
    /// The null engine left no trace of the operation.
    NotExecuted,
}

impl Fault {
    /// The word under which faults of this kind are counted.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Zeros => "zeros",
            Self::Misdirected { .. } => "misdirected",
            Self::Stale { .. } => "stale",
            Self::Unexpected { .. } => "unexpected",
            Self::Torn { .. } => "torn",
            Self::Damaged { .. } => "damaged",
            Self::NotExecuted => "not executed",
        }
    }
}

/// The high bits of a sequence number tell the jobs apart, the others count a job's writes.
const JOB_SHIFT: u32 = 48;
/// The most jobs that write to one target.
const MAX_JOBS: u64 = 1 << 14;
/// More writes than a job can do.
const MAX_WRITES: u64 = 1 << 42;

/// What a job's sequence numbers begin after: its first write has the next one.
#[must_use]
pub fn first_sequence(job: usize) -> u64 {
    // Zero is the layout's.
    (job as u64 + 1) << JOB_SHIFT
}

/// Whether some job can have given this number to a write.
#[must_use]
pub(super) fn plausible(sequence: u64) -> bool {
    let (job, count) = (sequence >> JOB_SHIFT, sequence & ((1 << JOB_SHIFT) - 1));
    sequence == 0 || ((1..=MAX_JOBS).contains(&job) && (1..MAX_WRITES).contains(&count))
}

/// A sequence number in words.
#[derive(Debug, Clone, Copy)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0 & ((1 << JOB_SHIFT) - 1);
        let what = if self.0 & TRIMMED == 0 {
            "write"
        } else {
            "trim"
        };
        match (self.0 & !TRIMMED) >> JOB_SHIFT {
            0 => f.write_str("the layout"),
            job => write!(f, "{what} {count} of job {}", job - 1),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it holds no block of this run (foreign)"),
            Self::Zeros => {
                f.write_str("it holds only zeros: the block was never written, or was trimmed")
            }
            Self::Misdirected { belongs } => write!(
                f,
                "it holds the intact block that belongs to offset {belongs} (misdirected)"
            ),
            Self::NotExecuted => f.write_str("the null engine did not execute the read"),
            Self::Stale { found, expected } => write!(
                f,
                "it holds {} where {} had been completed (stale): a write was lost, or went \
                 elsewhere",
                Generation(*found),
                Generation(*expected)
            ),
            Self::Unexpected { found, expected } => write!(
                f,
                "it holds {} where nothing newer than {} had been written",
                Generation(*found),
                Generation(*expected)
            ),
            Self::Torn {
                at, before, after, ..
            } => write!(
                f,
                "it is torn: up to byte {at} it holds {}, from there on {}",
                Generation(*before),
                Generation(*after)
            ),
            Self::Damaged {
                at,
                last,
                bits,
                found,
                expected,
            } => {
                write!(
                    f,
                    "it is damaged: byte {at} of the block is {found:#04x} instead of \
                     {expected:#04x}"
                )?;
                if at == last {
                    return write!(f, ", {bits} of its bits wrong");
                }
                write!(f, "; {bits} bits up to byte {last} are wrong")
            }
        }
    }
}
