//! Which block comes next.

use crate::engine::Direction;
use crate::spec::Rw;
use std::ops::Range;

/// One job's choice of blocks and directions, reproducible from its seed.
#[derive(Debug)]
pub struct Pattern {
    blocks: Range<u64>,
    random: bool,
    read_percent: u32,
    rng: fastrand::Rng,
    /// The next block of a sequential pass; reads and writes advance each on their own, as in fio.
    next: [u64; 2],
    /// One bit per block: whether a write to it is under way. Two writes to one block at a time
    /// would leave content that nobody can predict. Empty where nothing is written.
    busy: Vec<u64>,
}

impl Pattern {
    /// A pattern over a job's blocks.
    #[must_use]
    pub fn new(rw: Rw, read_percent: u32, blocks: Range<u64>, seed: u64) -> Self {
        let length = blocks.end - blocks.start;
        let bits = if rw.writes() { length.div_ceil(64) } else { 0 };
        Self {
            random: rw.random(),
            read_percent: match rw {
                Rw::Read | Rw::Randread => 100,
                Rw::Write | Rw::Randwrite => 0,
                Rw::Rw | Rw::Randrw => read_percent,
            },
            rng: fastrand::Rng::with_seed(seed),
            next: [blocks.start; 2],
            busy: vec![0; bits as usize],
            blocks,
        }
    }

    /// The next operation, or `None` if a write must be waited for first.
    #[inline]
    pub fn draw(&mut self) -> Option<(Direction, u64)> {
        let direction = match self.read_percent {
            100 => Direction::Read,
            0 => Direction::Write,
            percent if self.rng.u32(0..100) < percent => Direction::Read,
            _ => Direction::Write,
        };
        let block = match (self.random, direction) {
            (true, Direction::Read) => self.rng.u64(self.blocks.clone()),
            (true, Direction::Write) => {
                let drawn = self.rng.u64(self.blocks.clone());
                self.idle_from(drawn)?
            }
            (false, Direction::Read) => self.advance(0),
            (false, Direction::Write) => {
                if self.is_busy(self.next[1]) {
                    return None;
                }
                self.advance(1)
            }
        };
        if direction == Direction::Write {
            self.mark(block, true);
        }
        Some((direction, block))
    }

    fn advance(&mut self, cursor: usize) -> u64 {
        let block = self.next[cursor];
        self.next[cursor] = if block + 1 == self.blocks.end {
            self.blocks.start
        } else {
            block + 1
        };
        block
    }

    /// The first block from here on, round the end, to which no write is under way.
    fn idle_from(&self, block: u64) -> Option<u64> {
        (block..self.blocks.end)
            .chain(self.blocks.start..block)
            .find(|&block| !self.is_busy(block))
    }

    fn is_busy(&self, block: u64) -> bool {
        let bit = (block - self.blocks.start) as usize;
        self.busy[bit / 64] >> (bit % 64) & 1 == 1
    }

    fn mark(&mut self, block: u64, busy: bool) {
        let bit = (block - self.blocks.start) as usize;
        if busy {
            self.busy[bit / 64] |= 1 << (bit % 64);
        } else {
            self.busy[bit / 64] &= !(1 << (bit % 64));
        }
    }

    /// Says that a write has ended.
    #[inline]
    pub fn written(&mut self, block: u64) {
        self.mark(block, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_passes_wrap_inside_their_slice() {
        let mut pattern = Pattern::new(Rw::Read, 0, 4..7, 1);
        let blocks: Vec<_> = (0..5)
            .filter_map(|_| pattern.draw())
            .map(|(_, b)| b)
            .collect();
        assert_eq!(blocks, [4, 5, 6, 4, 5]);
    }

    #[test]
    fn a_block_is_never_written_twice_at_a_time() {
        for rw in [Rw::Write, Rw::Randwrite] {
            let mut pattern = Pattern::new(rw, 0, 10..14, 1);
            let mut held: Vec<_> = (0..4)
                .filter_map(|_| pattern.draw())
                .map(|(_, b)| b)
                .collect();
            assert_eq!(pattern.draw(), None, "{rw:?}");
            held.sort_unstable();
            assert_eq!(held, [10, 11, 12, 13], "{rw:?}");
            pattern.written(10);
            assert_eq!(pattern.draw(), Some((Direction::Write, 10)), "{rw:?}");
        }
    }

    #[test]
    fn random_choices_are_even_and_reproducible() {
        let draw = |seed| {
            let mut pattern = Pattern::new(Rw::Randread, 0, 0..16, seed);
            (0..16_000)
                .filter_map(|_| pattern.draw())
                .map(|(_, b)| b as usize)
                .collect::<Vec<_>>()
        };
        let blocks = draw(3);
        assert_eq!(blocks, draw(3));
        assert_ne!(blocks, draw(4));
        let mut counts = [0u32; 16];
        blocks.iter().for_each(|&block| counts[block] += 1);
        assert!(
            counts.iter().all(|&count| (800..1200).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_mix_keeps_its_share() {
        let mut pattern = Pattern::new(Rw::Randrw, 70, 0..1_000_000, 3);
        let reads = (0..10_000)
            .filter_map(|_| pattern.draw())
            .filter(|&(direction, _)| direction == Direction::Read)
            .count();
        assert!((6700..7300).contains(&reads), "{reads}");
    }
}
