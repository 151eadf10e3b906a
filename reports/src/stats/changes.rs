//! Change points in a history of runs: e-divisive (Matteson and James 2014) with a seeded
//! permutation test.
//!
//! For each place to split, the energy statistic compares the distances between the two sides with
//! those within them. In one dimension all sums of distances come from sorted prefixes, so a scan
//! over every place costs n log n, and a history of thousands of runs is searched in a moment.

use super::random::Random;

const SEED: u64 = 0x6368_616e_6765_7365;
const PERMUTATIONS: usize = 199;

/// How a history is searched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// The fewest runs between two changes, at least 2.
    pub min_segment: usize,
    /// A change is kept if its permutation p value is at most this.
    pub level: f64,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            min_segment: 5,
            level: 0.05,
        }
    }
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The index of the first value after the change.
    pub index: usize,
    /// How often a random order splits at least as well; no finer than 1 of 200.
    pub p_value: f64,
}

/// The changes in a series of one finite number per run, in the order of the runs.
#[must_use]
pub fn find(series: &[f64], search: Search) -> Vec<Change> {
    let mut random = Random::new(SEED);
    let mut changes = Vec::new();
    let mut open = vec![(0, series.len())];
    while let Some((start, end)) = open.pop() {
        let segment = &series[start..end];
        let min = search.min_segment.max(2);
        if let Some((at, p_value)) = split(segment, min, search.level, &mut random) {
            changes.push(Change {
                index: start + at,
                p_value,
            });
            open.extend([(start, start + at), (start + at, end)]);
        }
    }
    changes.sort_unstable_by_key(|change| change.index);
    changes
}

/// The best place to split a segment, if it is better than chance.
fn split(segment: &[f64], min: usize, level: f64, random: &mut Random) -> Option<(usize, f64)> {
    if segment.len() < 2 * min {
        return None;
    }
    let ranked = Ranked::new(segment);
    let mut order = ranked.ranks.clone();
    let (at, found) = ranked.best_split(&order, min);
    if found <= 0.0 {
        return None;
    }
    // Once this many random orders do as well, no further one can make the change significant.
    let hopeless = (level * (PERMUTATIONS as f64 + 1.0)).floor() as usize;
    let mut as_good = 0;
    for _ in 0..PERMUTATIONS {
        random.shuffle(&mut order);
        // A rounding error must not decide between equal splits.
        if ranked.best_split(&order, min).1 >= found * (1.0 - 1e-12) {
            as_good += 1;
            if as_good >= hopeless {
                return None;
            }
        }
    }
    Some((at, (as_good as f64 + 1.0) / (PERMUTATIONS as f64 + 1.0)))
}

/// A segment with its distinct values in order.
struct Ranked {
    values: Vec<f64>,
    /// Each element's place among the distinct values.
    ranks: Vec<usize>,
}

impl Ranked {
    fn new(segment: &[f64]) -> Self {
        let mut values = super::order::sorted(segment);
        values.dedup();
        let ranks = segment
            .iter()
            .map(|value| values.partition_point(|other| other < value))
            .collect();
        Self { values, ranks }
    }

    /// The split with the largest energy statistic, and that statistic.
    fn best_split(&self, order: &[usize], min: usize) -> (usize, f64) {
        let n = order.len();
        let before = self.inner_distances(order.iter());
        let after = self.inner_distances(order.iter().rev());
        let whole = before[n];
        (min..=n - min)
            .map(|at| {
                let (m, k) = (at as f64, (n - at) as f64);
                let (left, right) = (before[at], after[n - at]);
                let between = whole - left - right;
                let energy = 2.0 * between / (m * k)
                    - 2.0 * left / (m * (m - 1.0))
                    - 2.0 * right / (k * (k - 1.0));
                (at, energy * m * k / (m + k))
            })
            .fold((min, f64::NEG_INFINITY), |best, candidate| {
                if candidate.1 > best.1 {
                    candidate
                } else {
                    best
                }
            })
    }

    /// For each length of prefix, the sum of the distances between all its pairs.
    fn inner_distances<'a>(&self, order: impl Iterator<Item = &'a usize>) -> Vec<f64> {
        let mut seen = Fenwick::new(self.values.len());
        let mut sums = vec![0.0];
        let (mut sum, mut count, mut total) = (0.0, 0.0, 0.0);
        // Measured from the middle, the running sums stay small and lose no digits.
        let middle = self.values[self.values.len() / 2];
        for &rank in order {
            let value = self.values[rank] - middle;
            let (below, sum_below) = seen.at_or_below(rank);
            sum += value * (2.0 * below - count) + total - 2.0 * sum_below;
            seen.add(rank, value);
            count += 1.0;
            total += value;
            sums.push(sum);
        }
        sums
    }
}

/// Counts and sums by rank, prefix-summed in logarithmic time (Fenwick 1994).
struct Fenwick {
    nodes: Vec<(f64, f64)>,
}

impl Fenwick {
    fn new(ranks: usize) -> Self {
        Self {
            nodes: vec![(0.0, 0.0); ranks + 1],
        }
    }

    fn add(&mut self, rank: usize, value: f64) {
        let mut node = rank + 1;
        while node < self.nodes.len() {
            self.nodes[node].0 += 1.0;
            self.nodes[node].1 += value;
            node += node & node.wrapping_neg();
        }
    }

    fn at_or_below(&self, rank: usize) -> (f64, f64) {
        let (mut count, mut sum) = (0.0, 0.0);
        let mut node = rank + 1;
        while node > 0 {
            count += self.nodes[node].0;
            sum += self.nodes[node].1;
            node -= node & node.wrapping_neg();
        }
        (count, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A noisy series whose level is multiplied by each factor in turn, for `length` runs each.
    fn series(factors: &[f64], length: usize) -> Vec<f64> {
        let mut random = Random::new(11);
        factors
            .iter()
            .flat_map(|factor| std::iter::repeat_n(*factor, length))
            .map(|factor| 100.0 * factor * (1.0 + 0.02 * random.normal()))
            .collect()
    }

    #[test]
    fn steps_are_found_where_they_are() {
        let changes = find(&series(&[1.0, 1.1, 0.95], 60), Search::default());
        let places: Vec<usize> = changes.iter().map(|change| change.index).collect();
        assert_eq!(places.len(), 2, "{changes:?}");
        assert!(places[0].abs_diff(60) <= 2 && places[1].abs_diff(120) <= 2);
        assert!(changes.iter().all(|change| change.p_value <= 0.05));
    }

    #[test]
    fn steady_constant_and_short_series_have_none() {
        let strict = Search {
            level: 0.01,
            ..Search::default()
        };
        assert_eq!(find(&series(&[1.0], 200), strict), []);
        assert_eq!(find(&[5.0; 100], Search::default()), []);
        assert_eq!(find(&[], Search::default()), []);
        assert_eq!(find(&[1.0, 1.0, 9.0, 9.0], Search::default()), []);
    }

    #[test]
    fn the_statistic_equals_its_definition() {
        let values = series(&[1.0, 1.05], 8);
        let distance = |a: &[f64], b: &[f64]| -> f64 {
            a.iter()
                .flat_map(|a| b.iter().map(move |b| (a - b).abs()))
                .sum()
        };
        let by_definition = (3..=values.len() - 3)
            .map(|at| {
                let (x, y) = values.split_at(at);
                let (m, k) = (x.len() as f64, y.len() as f64);
                let energy = 2.0 * distance(x, y) / (m * k)
                    - distance(x, x) / (m * (m - 1.0))
                    - distance(y, y) / (k * (k - 1.0));
                energy * m * k / (m + k)
            })
            .fold(f64::NEG_INFINITY, f64::max);
        let ranked = Ranked::new(&values);
        let (_, found) = ranked.best_split(&ranked.ranks, 3);
        assert!((found - by_definition).abs() < 1e-9 * by_definition.abs());
    }

    #[test]
    fn thousands_of_runs_are_searched_and_the_result_is_repeatable() {
        let long = series(&[1.0, 1.03], 2000);
        let changes = find(&long, Search::default());
        assert!(
            changes
                .iter()
                .any(|change| change.index.abs_diff(2000) <= 40)
        );
        assert_eq!(changes, find(&long, Search::default()));
    }
}
