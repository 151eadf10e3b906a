//! Which datagrams of a numbered flow have come: how many, how often, and in which order.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// How far behind the newest a datagram may come and still be told from a duplicate.
pub const WINDOW: u64 = 1 << 14;

const WORDS: usize = (WINDOW / 64) as usize;

/// What became of the datagrams of one or more flows. All counts are from the first datagram to
/// the last, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datagrams {
    /// Handed to the kernel by this side.
    pub sent: u64,
    /// Received by this side for the first time.
    pub received: u64,
    /// Received again.
    pub duplicates: u64,
    /// Received after one with a higher number (RFC 4737, type-P-reordered).
    pub reordered: u64,
    /// Received more than [`WINDOW`] behind the newest: too late to be told from duplicates, and
    /// therefore counted as lost.
    pub late: u64,
    /// Received, but of no kind that this test sends.
    pub foreign: u64,
    /// Requests that had no response in time.
    pub unanswered: u64,
}

impl AddAssign for Datagrams {
    fn add_assign(&mut self, other: Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.late += other.late;
        self.foreign += other.foreign;
        self.unanswered += other.unanswered;
    }
}

impl Datagrams {
    /// All counts, to be checked.
    pub fn counts(&self) -> [u64; 7] {
        [
            self.sent,
            self.received,
            self.duplicates,
            self.reordered,
            self.late,
            self.foreign,
            self.unanswered,
        ]
    }
}

/// The numbers that one flow has seen.
#[derive(Debug)]
pub struct Sequence {
    /// One more than the highest number.
    next: u64,
    /// One bit for each of the last [`WINDOW`] numbers below `next`.
    seen: Box<[u64; WORDS]>,
}

impl Default for Sequence {
    fn default() -> Self {
        Self {
            next: 0,
            seen: Box::new([0; WORDS]),
        }
    }
}

impl Sequence {
    /// Notes that a number came. Says whether it came for the first time.
    #[inline]
    pub fn note(&mut self, number: u64, tally: &mut Datagrams) -> bool {
        if number == self.next {
            self.set(number);
            self.next += 1;
            tally.received += 1;
            return true;
        }
        self.note_out_of_order(number, tally)
    }

    fn note_out_of_order(&mut self, number: u64, tally: &mut Datagrams) -> bool {
        if number > self.next {
            // What was skipped has not been seen; beyond a whole window nothing is left to forget.
            let first = self.next.max((number + 1).saturating_sub(WINDOW));
            (first..number).for_each(|skipped| self.clear(skipped));
            self.set(number);
            self.next = number + 1;
            tally.received += 1;
            return true;
        }
        if self.next - number > WINDOW {
            tally.late += 1;
            return false;
        }
        if self.has(number) {
            tally.duplicates += 1;
            return false;
        }
        self.set(number);
        tally.received += 1;
        tally.reordered += 1;
        true
    }

    fn place(number: u64) -> (usize, u64) {
        let bit = number % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    fn set(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.seen[word] &= !bit;
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.seen[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn tally(numbers: impl IntoIterator<Item = u64>) -> Datagrams {
        let (mut sequence, mut tally) = (Sequence::default(), Datagrams::default());
        for number in numbers {
            sequence.note(number, &mut tally);
        }
        tally
    }

    #[test]
    fn gaps_repeats_and_stragglers_are_told_apart() {
        let clean = tally(0..100_000);
        assert_eq!((clean.received, clean.reordered), (100_000, 0));
        let odd = tally([0, 1, 4, 2, 4, 2, 9]);
        assert_eq!((odd.received, odd.duplicates, odd.reordered), (5, 2, 1));
        let far = tally([0, WINDOW * 3, 1, WINDOW * 2 + 1, WINDOW * 2]);
        assert_eq!((far.received, far.late, far.reordered), (3, 2, 1));
        let huge = tally([u64::MAX >> 1, 0]);
        assert_eq!((huge.received, huge.late), (1, 1));
    }

    #[test]
    fn random_arrivals_are_counted_as_a_set_counts_them() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20 {
            let (mut sequence, mut tally) = (Sequence::default(), Datagrams::default());
            let (mut seen, mut newest, mut reordered) = (HashSet::new(), 0, 0);
            let mut base = 0;
            for _ in 0..5000 {
                base += random.u64(0..40);
                let number = (base + random.u64(0..2000)).saturating_sub(1000);
                let fresh = seen.insert(number);
                reordered += u64::from(fresh && number < newest);
                newest = newest.max(number);
                assert_eq!(sequence.note(number, &mut tally), fresh);
            }
            assert_eq!(tally.received, seen.len() as u64);
            assert_eq!(tally.duplicates, 5000 - seen.len() as u64);
            assert_eq!((tally.reordered, tally.late), (reordered, 0));
        }
    }
}
