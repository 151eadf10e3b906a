//! A random order of all numbers below a bound, without a table: any of them can be asked for alone.
//!
//! A Feistel network permutes the numbers of an even count of bits, whatever its round function
//! does; what falls beyond the bound is sent through it again until it falls within (at most four
//! times on average, because at most three in four do not).

/// Rounds of the network; four make every output bit depend on every input bit.
const ROUNDS: usize = 4;

/// A permutation of `0..count`.
#[derive(Debug)]
pub struct Permutation {
    count: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// A permutation of `count` numbers, at least one, drawn from `rng`.
    #[must_use]
    pub fn new(count: u64, rng: &mut fastrand::Rng) -> Self {
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Self {
            count,
            half_bits: bits.div_ceil(2).max(1),
            keys: std::array::from_fn(|_| rng.u64(..)),
        }
    }

    /// How many numbers it permutes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The number at a place below [`Self::count`].
    #[inline]
    #[must_use]
    pub fn at(&self, place: u64) -> u64 {
        let mut number = place;
        loop {
            number = self.permute(number);
            if number < self.count {
                return number;
            }
        }
    }

    fn permute(&self, number: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (number >> self.half_bits, number & mask);
        for key in self.keys {
            (left, right) = (
                right,
                left ^ (scramble(right ^ key) >> (64 - self.half_bits)),
            );
        }
        left << self.half_bits | right
    }
}

const fn scramble(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_once() {
        let mut rng = fastrand::Rng::with_seed(7);
        for count in [1, 2, 3, 4, 5, 64, 65, 1000, 4097, 65_536, 100_003] {
            let permutation = Permutation::new(count, &mut rng);
            let mut seen: Vec<u64> = (0..count).map(|place| permutation.at(place)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..count), "{count}");
        }
    }

    #[test]
    fn the_order_looks_random() {
        let mut rng = fastrand::Rng::with_seed(7);
        let permutation = Permutation::new(10_000, &mut rng);
        let order: Vec<u64> = (0..10_000).map(|place| permutation.at(place)).collect();
        // Of a random order about one step in 5,000 leads to a neighbour, and half of all go up.
        let steps = || order.windows(2).map(|pair| pair[1] as i64 - pair[0] as i64);
        assert!(steps().filter(|step| step.abs() == 1).count() < 20);
        let up = steps().filter(|step| *step > 0).count();
        assert!((4_700..5_300).contains(&up), "{up}");
        let other = Permutation::new(10_000, &mut rng);
        assert!(
            (0..10_000)
                .filter(|&at| other.at(at) == order[at as usize])
                .count()
                < 20
        );
    }

    #[test]
    fn the_largest_ranges_fit() {
        let permutation = Permutation::new(1 << 54, &mut fastrand::Rng::with_seed(1));
        assert!((0..1000).all(|place| permutation.at(place) < 1 << 54));
    }
}
