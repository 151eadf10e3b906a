//! Change points in a history of runs: e-divisive (Matteson and James 2014) with a seeded
//! permutation test.
//!
//! For each place to split, the energy statistic compares the distances between the two sides with
//! those within them. In one dimension all sums of distances come from sorted prefixes, and the
//! distances of a value to all others do not depend on the order: one pass over a prefix that
//! grows gives the statistic of every place at a cost of n log n, and a history of thousands of
//! runs is searched in a moment.

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
        if ranked.best_split(&order, min).1 >= found * (1.0 - 1e-9) {
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
    /// For each distinct value, the sum of its distances to all elements.
    to_all: Vec<f64>,
}

impl Ranked {
    fn new(segment: &[f64]) -> Self {
        let sorted = super::order::sorted(segment);
        let mut values = sorted.clone();
        values.dedup();
        let ranks = segment
            .iter()
            .map(|value| values.partition_point(|other| other < value))
            .collect();
        // Measured from the middle, sums stay small and lose no digits.
        let middle = values.get(values.len() / 2).copied().unwrap_or(0.0);
        for value in &mut values {
            *value -= middle;
        }
        let total: f64 = sorted.iter().map(|value| value - middle).sum();
        let mut below = (0.0, 0.0);
        let mut rest = sorted.iter().map(|value| value - middle).peekable();
        let to_all = values
            .iter()
            .map(|value| {
                while let Some(next) = rest.next_if(|next| next <= value) {
                    below = (below.0 + 1.0, below.1 + next);
                }
                value * (2.0 * below.0 - sorted.len() as f64) + total - 2.0 * below.1
            })
            .collect();
        Self {
            values,
            ranks,
            to_all,
        }
    }

    /// The split with the largest energy statistic, and that statistic.
    fn best_split(&self, order: &[usize], min: usize) -> (usize, f64) {
        let n = order.len();
        let mut seen = Fenwick::new(self.values.len());
        // Sums of distances: of pairs within the prefix, of its elements to all, of all pairs.
        let (mut left, mut to_all) = (0.0, 0.0);
        let whole = self
            .ranks
            .iter()
            .map(|rank| self.to_all[*rank])
            .sum::<f64>()
            / 2.0;
        let (mut count, mut total) = (0.0, 0.0);
        let mut best = (min, f64::NEG_INFINITY);
        for (index, &rank) in order[..n - min].iter().enumerate() {
            let value = self.values[rank];
            let (below, sum_below) = seen.at_or_below(rank);
            left += value * (2.0 * below - count) + total - 2.0 * sum_below;
            to_all += self.to_all[rank];
            seen.add(rank, value);
            count += 1.0;
            total += value;
            if index + 1 >= min {
                let energy = energy(left, to_all, whole, count, n as f64 - count);
                if energy > best.1 {
                    best = (index + 1, energy);
                }
            }
        }
        best
    }
}

/// The energy statistic of a split into m and k elements, from sums of distances: of pairs within
/// the first, of its elements to all, of all pairs.
fn energy(left: f64, to_all: f64, whole: f64, m: f64, k: f64) -> f64 {
    let between = to_all - 2.0 * left;
    let right = whole - left - between;
    let mean =
        2.0 * between / (m * k) - 2.0 * left / (m * (m - 1.0)) - 2.0 * right / (k * (k - 1.0));
    mean * m * k / (m + k)
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
        let distance = |a: &[f64], b: &[f64]| -> f64 {
            a.iter()
                .flat_map(|a| b.iter().map(move |b| (a - b).abs()))
                .sum()
        };
        let smooth = series(&[1.0, 1.05], 8);
        let tied: Vec<f64> = smooth.iter().map(|value| value.round()).collect();
        for values in [smooth, tied] {
            let ranked = Ranked::new(&values);
            // As the shortest segment grows, each place is the best of some range.
            for min in 2..=values.len() / 2 {
                let by_definition = (min..=values.len() - min)
                    .map(|at| {
                        let (x, y) = values.split_at(at);
                        let (m, k) = (x.len() as f64, y.len() as f64);
                        let energy = 2.0 * distance(x, y) / (m * k)
                            - distance(x, x) / (m * (m - 1.0))
                            - distance(y, y) / (k * (k - 1.0));
                        energy * m * k / (m + k)
                    })
                    .fold(f64::NEG_INFINITY, f64::max);
                let (_, found) = ranked.best_split(&ranked.ranks, min);
                assert!((found - by_definition).abs() < 1e-9 * by_definition.abs());
            }
        }
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
