//! From what each rank timed to what the world took: pure functions without MPI.

pub use mpi_world::ranges::ranges;

use hdrhistogram::Histogram;
use reports::stats::{MedianInterval, median_interval_rank};

/// One rank's share of the timed iterations of a collective.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RankTotals {
    /// The sum of its own times in nanoseconds.
    pub sum_ns: u64,
    /// In how many iterations no rank took longer. Ranks that tie all count.
    pub slowest_count: u64,
}

impl RankTotals {
    /// Adds a batch: this rank's times and the largest over all ranks, iteration by iteration.
    /// Iterations whose largest is [`u64::MAX`] do not count.
    pub fn add(&mut self, own_ns: &[u64], largest_ns: &[u64]) {
        let counting = |&(_, largest): &(&u64, &u64)| *largest != u64::MAX;
        for (own, largest) in own_ns.iter().zip(largest_ns).filter(counting) {
            self.sum_ns += own;
            self.slowest_count += u64::from(own == largest);
        }
    }
}

/// The rank that was the slowest most often, and in how many iterations; the lowest of several.
/// `None` of no ranks.
#[must_use]
pub fn slowest_rank(totals: &[RankTotals]) -> Option<(usize, u64)> {
    totals
        .iter()
        .map(|rank| rank.slowest_count)
        .enumerate()
        .max_by_key(|&(rank, count)| (count, std::cmp::Reverse(rank)))
}

/// When the ranks entered an iteration, on a clock of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// This rank.
    pub own_ns: u64,
    /// The last of all.
    pub latest_ns: u64,
    /// The first of all.
    pub earliest_ns: u64,
}

/// Whether an iteration that took `largest_ns` was slow because of a rank: because it entered last,
/// if between the first entry and the last one at least half of that time passed; else, and where
/// no common clock says who entered when, because its own time was the largest.
///
/// A rank that enters late need not take long itself: it finds the others waiting, and their times
/// are the long ones.
#[must_use]
pub fn is_to_blame(own_ns: u64, largest_ns: u64, entry: Option<Entry>) -> bool {
    match entry {
        Some(entry) if 2 * (entry.latest_ns - entry.earliest_ns) >= largest_ns => {
            entry.own_ns == entry.latest_ns
        }
        _ => own_ns == largest_ns,
    }
}

/// How many values are not below the 99th percentile `p99`, to the histogram's resolution.
#[must_use]
pub fn count_beyond(histogram: &Histogram<u64>, p99: u64) -> u64 {
    histogram.count_between(histogram.lowest_equivalent(p99), u64::MAX)
}

/// The order-statistic 95 % interval of the median, as [`reports::stats::median_interval`] has it,
/// to the histogram's resolution (0.1 %). It takes iterations as independent; where neighbours
/// resemble each other it is too narrow. `None` below six values.
#[must_use]
pub fn median_interval(histogram: &Histogram<u64>) -> Option<MedianInterval> {
    let n = histogram.len();
    let (k, coverage) = match usize::try_from(n) {
        Ok(n) if n <= LARGEST_EXACT => median_interval_rank(n)?,
        _ => {
            // The normal approximation, rounded outwards.
            let n = n as f64;
            ((n / 2.0 - 1.96 * n.sqrt() / 2.0) as usize, 0.95)
        }
    };
    Some(MedianInterval {
        low: value_of_rank(histogram, k as u64) as f64,
        high: value_of_rank(histogram, n + 1 - k as u64) as f64,
        coverage,
    })
}

/// Up to so many values the ranks of the interval are computed exactly: beyond, summing up the
/// binomial distribution takes long, and its normal approximation is the same to a few ranks.
const LARGEST_EXACT: usize = 20_000;

/// The value of the `rank`-th smallest, counted from 1.
fn value_of_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    let mut below = 0;
    let reaches = histogram.iter_recorded().find(|value| {
        below += value.count_since_last_iteration();
        below >= rank
    });
    reaches.map_or(0, |value| value.value_iterated_to())
}

/// OSU's columns of a collective, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OsuColumns {
    /// The mean over ranks of each rank's mean.
    pub mean_ns: f64,
    /// The least of the ranks' means.
    pub min_ns: f64,
    /// The largest of the ranks' means.
    pub max_ns: f64,
}

/// Avg, Min and Max Latency as `osu_allreduce` prints them: over ranks, of per-rank means, which
/// hides what differs between iterations.
#[must_use]
pub fn osu_columns(totals: &[RankTotals], iterations: u64) -> OsuColumns {
    let means = totals
        .iter()
        .map(|rank| rank.sum_ns as f64 / iterations as f64);
    OsuColumns {
        mean_ns: means.clone().sum::<f64>() / totals.len() as f64,
        min_ns: means.clone().fold(f64::INFINITY, f64::min),
        max_ns: means.fold(f64::NEG_INFINITY, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three ranks, four iterations; rank 2 is late twice, once together with rank 0.
    const TIMES: [[u64; 4]; 3] = [[10, 10, 30, 10], [20, 10, 10, 10], [10, 40, 30, 10]];

    fn totals() -> Vec<RankTotals> {
        let largest: Vec<u64> = (0..4)
            .map(|i| TIMES.iter().map(|rank| rank[i]).max().unwrap_or(0))
            .collect();
        assert_eq!(largest, [20, 40, 30, 10]);
        let of = |times: &[u64; 4]| {
            let mut totals = RankTotals::default();
            totals.add(&times[..2], &largest[..2]);
            totals.add(&times[2..], &largest[2..]);
            totals
        };
        TIMES.iter().map(of).collect()
    }

    #[test]
    fn the_slowest_rank_is_the_one_that_was_it_most_often() {
        let counts: Vec<u64> = totals().iter().map(|rank| rank.slowest_count).collect();
        assert_eq!(counts, [2, 2, 3], "ties count for all");
        assert_eq!(slowest_rank(&totals()), Some((2, 3)));
        assert_eq!(
            slowest_rank(&totals()[..2]),
            Some((0, 2)),
            "lowest of equals"
        );
        assert_eq!(slowest_rank(&[]), None);
    }

    #[test]
    fn who_entered_late_is_to_blame_and_not_who_waited() {
        let entry = |own_ns| {
            Some(Entry {
                own_ns,
                latest_ns: 1200,
                earliest_ns: 1000,
            })
        };
        // Everybody waited 200 ns for the rank that came at 1200, and took 10 ns then.
        assert!(is_to_blame(10, 210, entry(1200)), "the late one");
        assert!(!is_to_blame(210, 210, entry(1000)), "one that waited");
        // An iteration of 900 ns is not explained by 200 ns.
        assert!(is_to_blame(900, 900, entry(1000)));
        assert!(!is_to_blame(890, 900, entry(1200)));
        assert!(is_to_blame(210, 210, None), "no clock: the longest time");
        assert!(!is_to_blame(10, 210, None));
    }

    fn histogram(values: &[f64]) -> Histogram<u64> {
        let mut histogram = reports::measure::new_histogram();
        for &value in values {
            histogram.record(value as u64).expect("in bounds");
        }
        histogram
    }

    #[test]
    fn intervals_of_histograms_are_those_of_their_values() {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            200.0 + (state >> 48) as f64
        };
        for n in [0, 5, 6, 7, 30, 101, 1000, 20_000, 20_001, 50_000] {
            let values: Vec<f64> = (0..n).map(|_| next()).collect();
            let exact = reports::stats::median_interval(&values);
            let of_histogram = median_interval(&histogram(&values));
            assert_eq!(exact.is_some(), of_histogram.is_some(), "{n}");
            if let Some((exact, found)) = exact.zip(of_histogram) {
                let near = |a: f64, b: f64| (a / b - 1.0).abs() < 2e-3;
                assert!(near(exact.low, found.low), "{n}: {exact:?} {found:?}");
                assert!(near(exact.high, found.high), "{n}: {exact:?} {found:?}");
                assert!((exact.coverage - found.coverage).abs() < 1e-3 || n > 20_000);
            }
        }
    }

    #[test]
    fn what_is_at_p99_counts_as_beyond() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        let histogram = histogram(&values);
        assert_eq!(histogram.value_at_quantile(0.99), 198);
        assert_eq!(count_beyond(&histogram, 198), 3);
        assert_eq!(count_beyond(&histogram, 1_000_000), 0);
    }

    #[test]
    fn osu_averages_over_ranks_what_it_averaged_over_iterations() {
        let columns = osu_columns(&totals(), 4);
        assert_eq!((columns.min_ns, columns.max_ns), (12.5, 22.5));
        assert!((columns.mean_ns - (15.0 + 12.5 + 22.5) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn neighbouring_ranks_are_written_as_runs() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
    }
}
