//! From what each rank timed to what the world took: pure functions without MPI.

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
    pub fn add(&mut self, own_ns: &[u64], largest_ns: &[u64]) {
        self.sum_ns += own_ns.iter().sum::<u64>();
        let slowest = own_ns.iter().zip(largest_ns);
        self.slowest_count += slowest.filter(|(own, largest)| own == largest).count() as u64;
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

/// Ranks as text, runs of neighbours shortened: `0-3,8`.
#[must_use]
pub fn ranges(sorted: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &rank in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let text = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
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
