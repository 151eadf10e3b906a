//! The k-th smallest of all pairwise differences or averages, without writing them all down.
//!
//! Hodges-Lehmann estimates need order statistics of n² values. For thousands of runs those do not
//! fit, but how many lie at or below a bound is counted in linear time from the sorted runs, and
//! the k-th smallest is the smallest bound with a count of at least k. The search halves the
//! 2⁶⁴ bit patterns of f64, so the result is exact after at most 64 counts.

/// The k-th smallest, counted from 1, of all `b − a`; both slices sorted.
pub(super) fn kth_difference(a: &[f64], b: &[f64], k: u64) -> f64 {
    let range = (b[0] - a[a.len() - 1], b[b.len() - 1] - a[0]);
    kth(range, k, |bound| {
        let mut first = 0;
        let mut count = 0;
        for b in b {
            while first < a.len() && b - a[first] > bound {
                first += 1;
            }
            count += (a.len() - first) as u64;
        }
        count
    })
}

/// The k-th smallest, counted from 1, of all averages of two values, each with itself too
/// (Walsh averages); the slice sorted.
pub(super) fn kth_walsh(values: &[f64], k: u64) -> f64 {
    kth((values[0], values[values.len() - 1]), k, |bound| {
        let mut end = values.len();
        let mut count = 0;
        for (index, value) in values.iter().enumerate() {
            while end > index && 0.5 * (value + values[end - 1]) > bound {
                end -= 1;
            }
            if end <= index {
                break;
            }
            count += (end - index) as u64;
        }
        count
    })
}

/// The median of `count` values whose k-th smallest `kth` gives.
pub(super) fn median_by(count: u64, kth: impl Fn(u64) -> f64) -> f64 {
    let middle = kth(count.div_ceil(2));
    if count % 2 == 1 {
        middle
    } else {
        0.5 * (middle + kth(count / 2 + 1))
    }
}

/// The smallest f64 within `range` for which `count` reaches `k`.
fn kth(range: (f64, f64), k: u64, count: impl Fn(f64) -> u64) -> f64 {
    let (mut low, mut high) = (key(range.0), key(range.1));
    while low < high {
        let middle = low + ((i128::from(high) - i128::from(low)) / 2) as i64;
        if count(from_key(middle)) >= k {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    // −0 and 0 are equal numbers with different patterns.
    from_key(low) + 0.0
}

/// An integer that orders as the number does; its own inverse on the bits.
fn key(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn from_key(key: i64) -> f64 {
    f64::from_bits((key ^ (((key >> 63) as u64) >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Random;

    #[test]
    fn selection_equals_sorting_everything() {
        let mut random = Random::new(3);
        for (m, n) in [(1, 1), (2, 5), (7, 4), (12, 12)] {
            // Coarse values, so that there are ties, zeros and both signs.
            let mut draw = |n: usize| {
                let mut values: Vec<f64> = (0..n)
                    .map(|_| (random.normal() * 4.0).round() / 4.0)
                    .collect();
                values.sort_unstable_by(f64::total_cmp);
                values
            };
            let (a, b) = (draw(m), draw(n));
            let mut all: Vec<f64> = a
                .iter()
                .flat_map(|a| b.iter().map(move |b| b - a))
                .collect();
            all.sort_unstable_by(f64::total_cmp);
            for (index, expected) in all.iter().enumerate() {
                assert_eq!(kth_difference(&a, &b, index as u64 + 1), *expected);
            }
            let mut walsh: Vec<f64> = (0..n)
                .flat_map(|i| (i..n).map(move |j| (i, j)))
                .map(|(i, j)| 0.5 * (b[i] + b[j]))
                .collect();
            walsh.sort_unstable_by(f64::total_cmp);
            for (index, expected) in walsh.iter().enumerate() {
                assert_eq!(kth_walsh(&b, index as u64 + 1), *expected);
            }
        }
    }
}
