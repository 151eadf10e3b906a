//! What the ranks contribute to a reduction, and what must come out: exactly, for every type.
//!
//! Contributions are small whole numbers times a constant of the type. The constant gives every
//! byte of the element a part in it, so that a reduction in a narrower type shows; the numbers are
//! small enough that no sum overflows or is rounded, in whatever order the library adds.

use std::fmt::Display;
use std::ops::Range;

/// A type that reductions work on.
pub trait Element: Copy + PartialEq + PartialOrd + Display + 'static {
    /// What contributions are multiples of.
    const UNIT: Self;
    /// How many units a sum may have and still be exact.
    const EXACT: u64;
    /// So many units; at most [`Self::EXACT`].
    fn units(number: u64) -> Self;
    /// Writes the element as it is in memory, into as many bytes as it has.
    fn store(self, bytes: &mut [u8]);
    /// Reads an element from as many bytes as it has.
    fn load(bytes: &[u8]) -> Self;
}

macro_rules! elements {
    ($($element:ty: $unit:expr, $exact:expr;)*) => { $(
        impl Element for $element {
            const UNIT: Self = $unit;
            const EXACT: u64 = $exact;
            fn units(number: u64) -> Self {
                // At most EXACT: no type loses anything here.
                number as Self * Self::UNIT
            }
            fn store(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_ne_bytes());
            }
            fn load(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(bytes);
                Self::from_ne_bytes(own)
            }
        }
    )* };
}

elements! {
    // Half the range: it holds for MPI_CHAR as well, where that is signed.
    u8: 1, 127;
    i32: 0x101, i32::MAX as u64 / 0x101;
    i64: (1 << 33) + 1, i64::MAX as u64 / ((1 << 33) + 1);
    f32: 1.0, 1 << f32::MANTISSA_DIGITS;
    // 1 + 2^-30 has 31 digits, of which f32 would lose some.
    f64: 1.0 + 1.0 / (1u64 << 30) as f64, 1 << (f64::MANTISSA_DIGITS - 31);
}

/// What the library does with the contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// MPI_SUM.
    Sum,
    /// MPI_MAX.
    Max,
}

/// The largest number of a contribution, in units, where the type has room for it. A prime, so
/// that no power-of-two block can be exchanged for its neighbour unnoticed.
const MAX_UNITS: u64 = 251;

/// The contributions of so many ranks and what becomes of them.
#[derive(Debug, Clone, Copy)]
pub struct Reduction {
    operation: Operation,
    /// Contributions are 1 to so many units.
    period: usize,
}

impl Reduction {
    /// The reduction over `ranks` ranks, or the largest world that it is exact in.
    ///
    /// # Errors
    /// So many ranks at most.
    pub fn new<T: Element>(operation: Operation, ranks: usize) -> Result<Self, u64> {
        let added = match operation {
            Operation::Sum => ranks as u64,
            Operation::Max => 1,
        };
        let period = MAX_UNITS.min(T::EXACT / added);
        // With less than two values no element would depend on rank or place.
        if period < 2 {
            return Err(T::EXACT / 2);
        }
        Ok(Self {
            operation,
            period: period as usize,
        })
    }

    /// Fills a rank's contribution.
    pub fn fill<T: Element>(&self, bytes: &mut [u8], rank: usize, round: usize) {
        let table = self.table::<T>(rank..rank + 1, round);
        self.write(&table, bytes);
    }

    /// Writes what the ranks' contributions, from element `first` on, must become.
    pub fn fill_result<T: Element>(
        &self,
        bytes: &mut [u8],
        ranks: Range<usize>,
        round: usize,
        first: usize,
    ) {
        let mut table = self.table::<T>(ranks, round);
        table.rotate_left(first % self.period);
        self.write(&table, bytes);
    }

    /// Compares what came out, from element `first` on, with what must come out, exactly.
    ///
    /// # Errors
    /// The first element that differs: where, what was expected and what is there.
    pub fn check<T: Element>(
        &self,
        bytes: &[u8],
        ranks: Range<usize>,
        round: usize,
        first: usize,
    ) -> anyhow::Result<()> {
        let table = self.table::<T>(ranks.clone(), round);
        for (index, place) in bytes.chunks_exact(size_of::<T>()).enumerate() {
            let (found, expected) = (T::load(place), table[(first + index) % self.period]);
            anyhow::ensure!(
                found == expected,
                "the {} of element {} over {} ranks is {found} instead of {expected} in round \
                 {round}",
                self.name(),
                first + index,
                ranks.len()
            );
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self.operation {
            Operation::Sum => "sum",
            Operation::Max => "maximum",
        }
    }

    /// The results of one period of elements.
    fn table<T: Element>(&self, ranks: Range<usize>, round: usize) -> Vec<T> {
        let of_index = |index| {
            let units = ranks.clone().map(|rank| self.units(rank, round, index));
            T::units(match self.operation {
                Operation::Sum => units.sum(),
                Operation::Max => units.max().unwrap_or(0),
            })
        };
        (0..self.period).map(of_index).collect()
    }

    /// What a rank contributes: at least 1, so that a missing rank shows in every element of a sum.
    fn units(&self, rank: usize, round: usize, index: usize) -> u64 {
        (1 + (rank * 13 + round * 29 + index) % self.period) as u64
    }

    fn write<T: Element>(&self, table: &[T], bytes: &mut [u8]) {
        let places = bytes.chunks_exact_mut(size_of::<T>());
        for (place, &value) in places.zip(table.iter().cycle()) {
            value.store(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Max, Sum};

    const ELEMENTS: usize = 1000;

    /// The sum that a library would give, in the type itself.
    fn sum_of<T: Element + std::ops::Add<Output = T>>(
        reduction: &Reduction,
        mut ranks: impl Iterator<Item = usize>,
        round: usize,
    ) -> Vec<u8> {
        let part = |rank| {
            let mut bytes = vec![0; ELEMENTS * size_of::<T>()];
            reduction.fill::<T>(&mut bytes, rank, round);
            bytes
        };
        let mut sums = part(ranks.next().expect("a rank"));
        for rank in ranks {
            let parts = part(rank);
            let pairs = sums.chunks_exact_mut(size_of::<T>());
            for (sum, part) in pairs.zip(parts.chunks_exact(size_of::<T>())) {
                (T::load(sum) + T::load(part)).store(sum);
            }
        }
        sums
    }

    fn faults_are_found<T: Element + std::ops::Add<Output = T>>() {
        for ranks in [2, 3, 4, 5, 7, 63] {
            let reduction = Reduction::new::<T>(Sum, ranks).expect("few ranks");
            let check = |bytes: &[u8]| reduction.check::<T>(bytes, 0..ranks, 1, 0);
            let sums = sum_of::<T>(&reduction, 0..ranks, 1);
            check(&sums).expect("exact");
            assert!(check(&sum_of::<T>(&reduction, 1..ranks, 1)).is_err());
            assert!(check(&sum_of::<T>(&reduction, 0..ranks, 0)).is_err());
            let mut wrong = sums.clone();
            for index in [0, 1, ELEMENTS * size_of::<T>() - 1] {
                for bit in 0..8 {
                    wrong[index] ^= 1 << bit;
                    assert!(check(&wrong).is_err(), "byte {index} bit {bit}");
                    wrong[index] ^= 1 << bit;
                }
            }
            assert!(
                reduction
                    .check::<T>(&sums[size_of::<T>()..], 0..ranks, 1, 1)
                    .is_ok()
            );
        }
    }

    #[test]
    fn sums_are_exact_and_missing_ranks_stale_rounds_and_flipped_bits_show() {
        faults_are_found::<u8>();
        faults_are_found::<i32>();
        faults_are_found::<i64>();
        faults_are_found::<f32>();
        faults_are_found::<f64>();
    }

    #[test]
    fn half_too_much_is_found_in_either_float() {
        fn off_by_half<T: Element + std::ops::Add<Output = T>>(half: T) {
            let reduction = Reduction::new::<T>(Sum, 5).expect("few ranks");
            let mut sums = sum_of::<T>(&reduction, 0..5, 1);
            let last = sums.chunks_exact_mut(size_of::<T>()).last().expect("1000");
            (T::load(last) + half).store(last);
            let error = reduction.check::<T>(&sums, 0..5, 1, 0);
            let text = error.expect_err("half too much").to_string();
            assert!(text.contains("element 999"), "{text}");
        }
        off_by_half(0.5f32);
        off_by_half(0.5f64);
    }

    #[test]
    fn a_sum_in_a_narrower_type_is_found() {
        let wide = Reduction::new::<f64>(Sum, 2).expect("few ranks");
        let mut sums = vec![0; 8 * ELEMENTS];
        wide.fill_result::<f64>(&mut sums, 0..2, 0, 0);
        for place in sums.chunks_exact_mut(8) {
            f64::from(f64::load(place) as f32).store(place);
        }
        assert!(wide.check::<f64>(&sums, 0..2, 0, 0).is_err());
        let wide = Reduction::new::<i64>(Sum, 2).expect("few ranks");
        wide.fill_result::<i64>(&mut sums, 0..2, 0, 0);
        for place in sums.chunks_exact_mut(8) {
            i64::from(i64::load(place) as i32).store(place);
        }
        assert!(wide.check::<i64>(&sums, 0..2, 0, 0).is_err());
    }

    #[test]
    fn maxima_are_the_largest_contribution() {
        let reduction = Reduction::new::<i32>(Max, 3).expect("few ranks");
        let mut largest = vec![0; 4 * ELEMENTS];
        reduction.fill_result::<i32>(&mut largest, 0..3, 2, 5);
        assert_eq!(i32::load(&largest[..4]) / 0x101, 1 + (2 * 13 + 2 * 29 + 5));
        assert!(reduction.check::<i32>(&largest, 0..3, 2, 5).is_ok());
        assert!(reduction.check::<i32>(&largest, 0..2, 2, 5).is_err());
    }

    #[test]
    fn worlds_too_large_to_be_exact_are_refused() {
        assert!(Reduction::new::<u8>(Sum, 63).is_ok());
        assert_eq!(Reduction::new::<u8>(Sum, 64).err(), Some(63));
        assert!(Reduction::new::<u8>(Max, 1000).is_ok());
        assert!(Reduction::new::<i32>(Sum, 30_000).is_ok());
        assert!(Reduction::new::<f64>(Sum, 10_000).is_ok());
    }
}
