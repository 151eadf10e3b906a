//! `random_access`: GUPS, updates of random words of a table that is spread over all ranks, by the
//! rules of HPCC's RandomAccess.

use super::{Frame, Numbers, least, most, slowest_of};
use crate::driver::Driver;
use crate::kernels::Row;
use crate::memory::Buffer;
use crate::spec::Point;
use crate::world::World;
use mpi::Count;
use mpi::collective::SystemOperation;
use mpi::datatype::{Partition, PartitionMut};
use mpi::traits::CommunicatorCollectives;
use reports::measure::Clock;
use reports::model::{Aggregation, Direction, Measurement, Metric, Unit, Work};
use reports::stats;
use serde_json::json;

/// The most updates that a rank holds back before it sends them, HPCC's limit.
const LOOK_AHEAD: usize = 1024;

/// Updates per word of the table, as in HPCC.
const UPDATES_PER_WORD: u64 = 4;

/// The primitive polynomial over GF(2) of HPCC's stream of random numbers, x⁶³ + x² + x + 1 as the
/// step of a shift register.
const POLYNOMIAL: u64 = 7;

/// The period of that stream.
const PERIOD: u64 = 1_317_624_576_693_539_401;

/// How often ranks ask each other in a pass whether to stop.
const ROUNDS_BETWEEN_STOPS: u64 = 256;

/// A rank's table, and room for the updates of all ranks at once.
#[must_use]
pub fn memory(point: &Point) -> u64 {
    let words = (1 << point.count("log2_words")) + point.ranks * LOOK_AHEAD;
    words as u64 * 8
}

/// The next number of the stream.
fn next(number: u64) -> u64 {
    (number << 1) ^ (if number >> 63 == 1 { POLYNOMIAL } else { 0 })
}

/// The number at a position of the stream, found by squaring in GF(2)⁶⁴ (HPCC_starts).
fn at(position: u64) -> u64 {
    let position = position % PERIOD;
    if position == 0 {
        return 1;
    }
    // squares[i] is what bit i of a number becomes when the number is taken twice as far.
    let mut squares = [0u64; 64];
    let mut number = 1;
    for square in &mut squares {
        *square = number;
        number = next(next(number));
    }
    let mut number = 2;
    let highest = 63 - position.leading_zeros();
    for bit in (0..highest).rev() {
        let doubled = (0..64).filter(|place| number >> place & 1 == 1);
        number = doubled.fold(0, |sum, place| sum ^ squares[place]);
        if position >> bit & 1 == 1 {
            number = next(number);
        }
    }
    number
}

/// How the table is spread.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Words in all, a power of two.
    words: u64,
    /// Words of each rank but the last ones, which may have fewer or none.
    each: u64,
    /// Updates of each rank in a pass, whole batches of them.
    updates: u64,
}

impl Shape {
    fn of(ranks: usize, log2_words: u64) -> Self {
        let ranks = ranks as u64;
        // The largest power of two that the ranks hold together, as in HPCC.
        let words = 1 << (ranks << log2_words).ilog2();
        Self {
            words,
            each: u64::div_ceil(words, ranks),
            updates: (UPDATES_PER_WORD * words)
                .div_ceil(ranks)
                .next_multiple_of(LOOK_AHEAD as u64),
        }
    }

    /// The words of a rank.
    fn of_rank(self, rank: usize) -> std::ops::Range<u64> {
        let first = (rank as u64 * self.each).min(self.words);
        first..(first + self.each).min(self.words)
    }
}

/// One rank's part.
struct Table<'w> {
    world: &'w World,
    shape: Shape,
    first: u64,
    words: Buffer<u64>,
    /// This rank's updates of a batch, as drawn and sorted by owner.
    drawn: Vec<u64>,
    sorted: Vec<u64>,
    arrived: Vec<u64>,
    sent_counts: Vec<Count>,
    sent_starts: Vec<Count>,
    places: Vec<Count>,
    counts: Vec<Count>,
    starts: Vec<Count>,
}

impl<'w> Table<'w> {
    fn new(world: &'w World, shape: Shape) -> anyhow::Result<Self> {
        let own = shape.of_rank(world.rank());
        let ranks = world.ranks();
        let mut words = Buffer::filled(usize::try_from(own.end - own.start)?, 0)?;
        words
            .iter_mut()
            .zip(own.clone())
            .for_each(|(word, index)| *word = index);
        Ok(Self {
            world,
            shape,
            first: own.start,
            words,
            drawn: vec![0; LOOK_AHEAD],
            sorted: vec![0; LOOK_AHEAD],
            arrived: vec![0; LOOK_AHEAD * ranks],
            sent_counts: vec![0; ranks],
            sent_starts: vec![0; ranks],
            places: vec![0; ranks],
            counts: vec![0; ranks],
            starts: vec![0; ranks],
        })
    }

    /// Every update of the stream once; run twice, it changes nothing, because each is an
    /// exclusive or. Returns whether it was complete: the same on all ranks.
    fn pass(&mut self, driver: &mut Driver<'_>) -> bool {
        let batches = self.shape.updates / LOOK_AHEAD as u64;
        let mut number = at(self.world.rank() as u64 * self.shape.updates);
        for batch in 0..batches {
            if batch % ROUNDS_BETWEEN_STOPS == 0 && driver.stop() {
                return false;
            }
            self.draw(&mut number);
            self.send();
            self.apply();
        }
        true
    }

    fn owner(&self, number: u64) -> usize {
        ((number & (self.shape.words - 1)) / self.shape.each) as usize
    }

    /// Draws a batch and sorts it by owner.
    fn draw(&mut self, number: &mut u64) {
        self.sent_counts.fill(0);
        for index in 0..LOOK_AHEAD {
            *number = next(*number);
            self.drawn[index] = *number;
            let owner = self.owner(*number);
            self.sent_counts[owner] += 1;
        }
        accumulate(&self.sent_counts, &mut self.sent_starts);
        self.places.copy_from_slice(&self.sent_starts);
        for index in 0..LOOK_AHEAD {
            let number = self.drawn[index];
            let owner = self.owner(number);
            self.sorted[self.places[owner] as usize] = number;
            self.places[owner] += 1;
        }
    }

    /// Exchanges how many come from whom, and then them.
    fn send(&mut self) {
        let comm = self.world.comm();
        comm.all_to_all_into(&self.sent_counts[..], &mut self.counts[..]);
        accumulate(&self.counts, &mut self.starts);
        let out = Partition::new(
            &self.sorted[..],
            &self.sent_counts[..],
            &self.sent_starts[..],
        );
        let mut into = PartitionMut::new(&mut self.arrived[..], &self.counts[..], &self.starts[..]);
        comm.all_to_all_varcount_into(&out, &mut into);
    }

    fn apply(&mut self) {
        let arrived: usize = self.counts.iter().map(|&count| count as usize).sum();
        let mask = self.shape.words - 1;
        for &number in &self.arrived[..arrived] {
            self.words[((number & mask) - self.first) as usize] ^= number;
        }
    }

    /// How many words are not what they were at the beginning.
    fn changed(&self) -> u64 {
        let words = self.words.iter().zip(self.first..);
        words.filter(|&(&word, index)| word != index).count() as u64
    }

    /// The exclusive or over the table of all ranks.
    fn parity(&self) -> u64 {
        over_ranks(
            self.world,
            self.words.iter().fold(0, |sum, word| sum ^ word),
        )
    }

    /// The exclusive or over all updates of a pass of all ranks, drawn anew.
    fn parity_of_updates(&self) -> u64 {
        let mut number = at(self.world.rank() as u64 * self.shape.updates);
        let mut sum = 0;
        for _ in 0..self.shape.updates {
            number = next(number);
            sum ^= number;
        }
        over_ranks(self.world, sum)
    }
}

fn over_ranks(world: &World, own: u64) -> u64 {
    let mut all = [0];
    let xor = SystemOperation::bitwise_xor();
    world.comm().all_reduce_into(&[own][..], &mut all[..], xor);
    all[0]
}

fn accumulate(counts: &[Count], starts: &mut [Count]) {
    let mut sum = 0;
    for (start, count) in starts.iter_mut().zip(counts) {
        *start = sum;
        sum += count;
    }
}

/// Times passes over the table.
///
/// # Errors
/// Too little memory, an update that was lost or done twice, or an interruption within the first
/// pass.
pub fn run(driver: &mut Driver<'_>, _: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
    let (world, clock) = (driver.world(), Clock::get());
    let shape = Shape::of(world.ranks(), point.count("log2_words"));
    let mut table = world.agree(Table::new(world, shape))?;
    let parity = table.parity() ^ table.parity_of_updates();
    let frame = Frame::open(world);
    let mut own = Vec::with_capacity(point.iterations as usize);
    let mut complete = true;
    let mut passes = 0;
    for iteration in 0..point.warmup + point.iterations {
        world.comm().barrier();
        let began = clock.now();
        complete = table.pass(driver);
        let ns = clock.ns(clock.now().saturating_sub(began));
        if !complete {
            break;
        }
        passes += 1;
        if iteration >= point.warmup {
            own.push(ns);
        }
        if passes == 1 {
            world.agree(check_first(&table, parity))?;
        }
    }
    let slowest = slowest_of(world, &own);
    anyhow::ensure!(
        !slowest.is_empty(),
        "interrupted before a pass was complete"
    );
    if complete && passes % 2 == 1 {
        complete = table.pass(driver);
    }
    if let (true, Some(word)) = (point.spoil, table.words.first_mut()) {
        *word ^= 1;
    }
    let checks = world.agree(if complete { check_last(&table) } else { Ok(1) })?;
    let verified = "words of the table compared exactly with their first values, after every \
                    update was undone by another of its kind; after the first pass the exclusive \
                    or over the table was compared with that over all updates";
    frame.close(driver, checks, verified, || {
        Ok(numbers(shape, world.ranks(), &slowest))
    })
}

/// After the first pass words must be other ones, and the parity that of all updates.
fn check_first(table: &Table<'_>, parity: u64) -> anyhow::Result<()> {
    let changed = table.world.sum(table.changed());
    let found = table.parity();
    anyhow::ensure!(
        found == parity,
        "the exclusive or over the table is {found:#x} instead of {parity:#x}: updates were lost"
    );
    anyhow::ensure!(changed > 0, "a whole pass changed no word of the table");
    Ok(())
}

fn check_last(table: &Table<'_>) -> anyhow::Result<u64> {
    let changed = table.changed();
    anyhow::ensure!(
        changed == 0,
        "{changed} of {} words are wrong after all updates were undone",
        table.words.len()
    );
    Ok(table.words.len() as u64)
}

fn numbers(shape: Shape, ranks: usize, slowest_ns: &[u64]) -> Numbers {
    let updates = shape.updates * ranks as u64;
    let rates: Vec<f64> = slowest_ns
        .iter()
        .map(|&ns| updates as f64 * 1e9 / ns.max(1) as f64)
        .collect();
    let rate = |aggregation, value| {
        let (unit, direction) = (Unit::PerSecond, Direction::HigherIsBetter);
        Metric::new(
            "updates_per_s",
            aggregation,
            unit,
            direction,
            value,
            rates.len() as u64,
        )
    };
    let median = stats::median(&rates).unwrap_or(f64::NAN);
    let total: u64 = slowest_ns.iter().sum();
    let all = updates as f64 * rates.len() as f64 * 1e9 / total.max(1) as f64;
    let passes = rates.len() as u64;
    let mut numbers = Numbers {
        work: Work {
            ops: passes * updates,
            bytes: passes * updates * 8,
        },
        metrics: vec![
            rate(Aggregation::P50, median).headline(),
            rate(Aggregation::Min, least(&rates)),
            rate(Aggregation::Max, most(&rates)),
            rate(Aggregation::Total, all).compat("HPCC"),
        ],
        ..Numbers::default()
    };
    numbers
        .facts
        .insert("table_words".to_owned(), json!(shape.words));
    numbers
        .facts
        .insert("updates_per_pass".to_owned(), json!(updates));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_the_stream_are_found_without_walking_there() {
        let mut number = 1;
        for position in 0..3000 {
            assert_eq!(at(position), number, "position {position}");
            number = next(number);
        }
        assert_eq!(at(PERIOD), 1, "the stream begins anew");
        assert_eq!(at(123_456_789), next(at(123_456_788)));
    }

    #[test]
    fn the_table_is_spread_over_all_ranks_without_gap_or_overlap() {
        for ranks in 1..20 {
            let shape = Shape::of(ranks, 10);
            assert!(shape.words.is_power_of_two() && shape.words <= (ranks as u64) << 10);
            let mut next = 0;
            for rank in 0..ranks {
                let own = shape.of_rank(rank);
                assert_eq!(own.start, next);
                assert!(
                    own.end - own.start <= 1 << 10,
                    "what the memory check counts with"
                );
                next = own.end;
            }
            assert_eq!(next, shape.words);
            assert_eq!(shape.updates % LOOK_AHEAD as u64, 0);
        }
    }
}
