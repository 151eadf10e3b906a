//! Skewed random offsets: few blocks get most of the operations, as in caches and databases.
//!
//! The laws are fio's: zipf gives the block of rank k a share in proportion to k^-theta, pareto
//! gives the first share h of the blocks 1 - h of the operations, at every scale. fio draws zipf by
//! Gray's approximation, over at most ten million ranks, and scatters ranks by a hash under which
//! several may meet in one block; here zipf is drawn by rejection-inversion (Hörmann and Derflinger,
//! 1996), which follows the law itself for any theta without a table, and ranks are scattered by a
//! permutation.

use super::permutation::Permutation;
use crate::spec::Distribution;

/// A law over the positions of a range.
#[derive(Debug)]
pub struct Skew {
    law: Law,
    places: Permutation,
}

#[derive(Debug)]
enum Law {
    Zipf(Zipf),
    /// The power of an even number between 0 and 1 that gives the rank's share of all ranks.
    Pareto(f64),
}

impl Skew {
    /// A law over `count` positions; `None` where all are alike.
    #[must_use]
    pub fn new(distribution: Distribution, count: u64, rng: &mut fastrand::Rng) -> Option<Self> {
        let law = match distribution {
            Distribution::Uniform => return None,
            Distribution::Zipf(theta) => Law::Zipf(Zipf::new(count, theta)),
            Distribution::Pareto(h) => Law::Pareto(h.ln() / (1.0 - h).ln()),
        };
        Some(Self {
            law,
            places: Permutation::new(count, rng),
        })
    }

    /// Draws a rank, from zero.
    #[inline]
    pub fn rank(&self, rng: &mut fastrand::Rng) -> u64 {
        match &self.law {
            Law::Zipf(zipf) => zipf.draw(rng) - 1,
            Law::Pareto(power) => {
                let count = self.places.count();
                ((count as f64 * rng.f64().powf(*power)) as u64).min(count - 1)
            }
        }
    }

    /// The position of a rank; ranks beyond the last begin again.
    #[inline]
    #[must_use]
    pub fn position(&self, rank: u64) -> u64 {
        self.places.at(rank % self.places.count())
    }

    /// How many positions there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.places.count()
    }
}

/// Draws from 1 to `count`, each k in proportion to k^-theta.
#[derive(Debug)]
struct Zipf {
    count: f64,
    theta: f64,
    /// The integral of the density at 1.5, less one, and at the upper end.
    low: f64,
    high: f64,
    /// Below this distance from its rank a draw needs no second look.
    sure: f64,
}

impl Zipf {
    fn new(count: u64, theta: f64) -> Self {
        let mut zipf = Self {
            count: count as f64,
            theta,
            low: 0.0,
            high: 0.0,
            sure: 0.0,
        };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.count + 0.5);
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    fn density(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// The integral of the density from 1 on: (x^(1-theta) - 1) / (1-theta), and ln x for theta 1.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.theta) * log;
        log * if t.abs() > 1e-8 {
            t.exp_m1() / t
        } else {
            1.0 + t / 2.0
        }
    }

    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.theta)).max(-1.0);
        (y * if t.abs() > 1e-8 {
            t.ln_1p() / t
        } else {
            1.0 - t / 2.0
        })
        .exp()
    }

    #[inline]
    fn draw(&self, rng: &mut fastrand::Rng) -> u64 {
        loop {
            let y = self.high + rng.f64() * (self.low - self.high);
            let x = self.inverse(y);
            let rank = (x + 0.5).floor().clamp(1.0, self.count);
            if rank - x <= self.sure || y >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    /// The share of draws that fall on the first `top` ranks.
    fn drawn(distribution: Distribution, count: u64, top: u64) -> f64 {
        let mut rng = fastrand::Rng::with_seed(3);
        let skew = Skew::new(distribution, count, &mut rng).expect("skewed");
        let hits = (0..DRAWS).filter(|_| skew.rank(&mut rng) < top).count();
        hits as f64 / f64::from(DRAWS)
    }

    #[test]
    fn zipf_gives_the_top_ranks_what_the_law_says() {
        for theta in [0.5, 0.99, 1.0, 1.2, 2.0] {
            for count in [10, 1000, 100_000] {
                let weight = |top: u64| (1..=top).map(|k| (k as f64).powf(-theta)).sum::<f64>();
                for top in [1, 2, 10, 100].into_iter().filter(|top| *top <= count) {
                    let law = weight(top) / weight(count);
                    let found = drawn(Distribution::Zipf(theta), count, top);
                    // Five standard deviations of so many draws.
                    let off = 5.0 * (law * (1.0 - law) / f64::from(DRAWS)).sqrt() + 1e-9;
                    let what = format!("theta {theta}, {top} of {count}: {found} for {law}");
                    assert!((found - law).abs() <= off, "{what}");
                }
            }
        }
    }

    #[test]
    fn pareto_gives_a_fifth_of_the_blocks_four_fifths() {
        for (h, share) in [(0.2, 0.2), (0.1, 0.1), (0.5, 0.5), (0.2, 0.04)] {
            let power = (1.0_f64 - h).ln() / f64::ln(h);
            let law = f64::powf(share, power);
            let found = drawn(Distribution::Pareto(h), 10_000, (share * 10_000.0) as u64);
            assert!((found - law).abs() < 0.006, "h {h}: {found} for {law}");
        }
        assert!((drawn(Distribution::Pareto(0.2), 10_000, 2_000) - 0.8).abs() < 0.006);
    }

    #[test]
    fn one_position_is_always_drawn() {
        for law in [Distribution::Zipf(1.2), Distribution::Pareto(0.2)] {
            assert!((drawn(law, 1, 1) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn neighbouring_ranks_are_no_neighbours_on_the_disk() {
        let mut rng = fastrand::Rng::with_seed(3);
        let skew = Skew::new(Distribution::Zipf(1.1), 1 << 20, &mut rng).expect("skewed");
        let places: Vec<u64> = (0..100).map(|rank| skew.position(rank)).collect();
        let close = places
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) < 100);
        assert!(close.count() < 3, "{places:?}");
    }
}
