//! Lanes by the numbers of their queue pairs, which is all that tells whose receive of a shared queue
//! has completed.

/// A table with open addressing, at most half full.
pub(super) struct Numbers {
    entries: Box<[(u32, u32)]>,
}

impl Numbers {
    /// A number that no queue pair has: they have 24 bits.
    const NONE: u32 = u32::MAX;

    pub(super) fn of(numbers: impl ExactSizeIterator<Item = u32>) -> Self {
        let room = (2 * numbers.len()).next_power_of_two();
        let mut entries = vec![(Self::NONE, 0); room].into_boxed_slice();
        for (lane, number) in (0..).zip(numbers) {
            let mut place = number as usize & (room - 1);
            while entries[place].0 != Self::NONE {
                place = (place + 1) & (room - 1);
            }
            entries[place] = (number, lane);
        }
        Self { entries }
    }

    #[inline]
    pub(super) fn lane(&self, number: u32) -> Option<u32> {
        let last = self.entries.len() - 1;
        let mut place = number as usize & last;
        loop {
            let (found, lane) = self.entries[place];
            if found == number {
                return Some(lane);
            }
            if found == Self::NONE {
                return None;
            }
            place = (place + 1) & last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_found_by_the_numbers_of_their_queue_pairs() {
        let numbers = [17, 18, 33, 49, 0x00ff_fff1, 1];
        let table = Numbers::of(numbers.into_iter());
        for (lane, number) in (0..).zip(numbers) {
            assert_eq!(table.lane(number), Some(lane));
        }
        assert_eq!(table.lane(65), None);
        assert_eq!(Numbers::of(std::iter::empty::<u32>()).lane(1), None);
    }
}
