//! Order statistics: the median of a few runs and the interval that needs no assumption.

use serde::Serialize;

/// The median of the values, the mean of the two middle ones for an even count; `None` of none.
///
/// The values must be finite, as every number in a report is.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// A confidence interval for the median.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MedianInterval {
    /// Lower end: an order statistic of the sample.
    pub low: f64,
    /// Upper end, likewise.
    pub high: f64,
    /// The coverage that this pair of order statistics has, at least 0.95.
    pub coverage: f64,
}

/// The fewest runs for which [`median_interval`] exists: with five, even the whole range covers
/// the median with probability 0.9375 only.
pub const MIN_RUNS_FOR_INTERVAL: usize = 6;

/// The narrowest symmetric order-statistic interval for the median with coverage of at least
/// 95 %, free of assumptions on the distribution: P(X₍ₖ₎ ≤ median ≤ X₍ₙ₊₁₋ₖ₎) = 1 − 2·P(B < k) with
/// B binomial(n, ½). `None` below [`MIN_RUNS_FOR_INTERVAL`] values.
#[must_use]
pub fn median_interval(values: &[f64]) -> Option<MedianInterval> {
    let sorted = sorted(values);
    let (k, coverage) = median_interval_rank(sorted.len())?;
    Some(MedianInterval {
        low: sorted[k - 1],
        high: sorted[sorted.len() - k],
        coverage,
    })
}

/// The k of [`median_interval`] for n values and the interval's coverage: the k-th smallest and the
/// k-th largest value are its ends. `None` below [`MIN_RUNS_FOR_INTERVAL`] values.
#[must_use]
pub fn median_interval_rank(n: usize) -> Option<(usize, f64)> {
    // tail = P(B ≤ k − 1), grown term by term; the k-th value is usable while 2·tail ≤ 0.05. The
    // terms are kept as logarithms: 2⁻ⁿ leaves the range of f64 beyond a thousand runs.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = ln_term.exp();
    let mut best = None;
    for k in 1..=n / 2 {
        if 2.0 * tail > 0.05 {
            break;
        }
        best = Some((k, 1.0 - 2.0 * tail));
        ln_term += ((n - k + 1) as f64 / k as f64).ln();
        tail += ln_term.exp();
    }
    best
}

pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn intervals_have_the_textbook_ranks() {
        // Ranks and coverage from tables of the sign test, e.g. Conover, Table A3.
        let ranks = |n: usize| {
            let values: Vec<f64> = (1..=n).map(|value| value as f64).collect();
            median_interval(&values).map(|i| (i.low, i.high, (i.coverage * 1e4).round() / 1e4))
        };
        assert_eq!(ranks(0), None);
        assert_eq!(ranks(5), None);
        assert_eq!(ranks(6), Some((1.0, 6.0, 0.9688)));
        assert_eq!(ranks(9), Some((2.0, 8.0, 0.9609)));
        assert_eq!(ranks(10), Some((2.0, 9.0, 0.9785)));
        assert_eq!(ranks(20), Some((6.0, 15.0, 0.9586)));
        assert_eq!(ranks(100), Some((40.0, 61.0, 0.9648)));
    }

    #[test]
    fn a_large_sample_still_has_an_interval() {
        // scipy.stats.binom.ppf(0.025, n, 0.5) gives k - 1 + 1 = 469 of 1000 and 4902 of 10000.
        for (n, low) in [(1000, 468.0), (10_000, 4901.0)] {
            let values: Vec<f64> = (0..n).map(f64::from).collect();
            let interval = median_interval(&values).expect("that is enough");
            assert_eq!(
                (interval.low, interval.high),
                (low, f64::from(n) - 1.0 - low)
            );
        }
    }
}
