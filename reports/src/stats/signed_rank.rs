//! Pairs of runs: Wilcoxon's signed-rank test, and the shift with the interval that inverts it.

use super::order::sorted;
use super::ranks::{midranks, normal_quantile_of_tail, normal_tail};
use super::selection::{kth_walsh, median_by};
use super::{ALPHA, Estimate, Pairs, Test};

/// Up to how many pairs the exact distribution is used, as in SciPy.
const EXACT_PAIRS: usize = 50;
/// Up to how many pairs with ties or zeros all signs are tried, as in SciPy.
const EXACT_TIED_PAIRS: usize = 13;

/// The test of SciPy's `wilcoxon(b - a)`: the exact distribution up to 50 pairs without ties and
/// zeros or up to 13 with them, else the normal approximation corrected for ties. The statistic
/// is the smaller sum of ranks. `None` without pairs.
#[must_use]
pub fn test(pairs: &Pairs) -> Option<Test> {
    let differences = pairs.differences();
    if differences.is_empty() {
        return None;
    }
    let nonzero: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let magnitudes: Vec<f64> = nonzero.iter().map(|d| d.abs()).collect();
    let (ranks, ties) = midranks(&magnitudes);
    let n = nonzero.len() as f64;
    let positive: f64 = std::iter::zip(&nonzero, &ranks)
        .filter(|(d, _)| **d > 0.0)
        .map(|(_, rank)| rank)
        .sum();
    let statistic = positive.min(n * (n + 1.0) / 2.0 - positive);
    let clean = ties == 0.0 && nonzero.len() == differences.len();
    let limit = if clean { EXACT_PAIRS } else { EXACT_TIED_PAIRS };
    let p_value = if differences.len() <= limit {
        exact_p(&ranks, statistic)
    } else {
        let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - ties / 2.0) / 24.0;
        let distance = n * (n + 1.0) / 4.0 - statistic;
        if variance > 0.0 {
            2.0 * normal_tail(distance / variance.sqrt())
        } else {
            1.0
        }
    };
    Some(Test {
        statistic,
        p_value: p_value.min(1.0),
    })
}

/// How far B lies above A within pairs: the median of the Walsh averages of b − a and the interval
/// of all shifts that the exact test does not reject. `None` below 6 pairs, where even the whole
/// range covers less than 95 %.
#[must_use]
pub fn shift(pairs: &Pairs) -> Option<Estimate> {
    let differences = sorted(&pairs.differences());
    let n = differences.len();
    let averages = n as u64 * (n as u64 + 1) / 2;
    let (k, coverage) = interval_rank(n)?;
    let kth = |k| kth_walsh(&differences, k);
    Some(Estimate {
        value: median_by(averages, kth),
        low: kth(k),
        high: kth(averages + 1 - k),
        coverage,
    })
}

/// The largest k with 2·P(T < k) ≤ [`ALPHA`], and the coverage of the interval from the k-th
/// smallest to the k-th largest average.
fn interval_rank(n: usize) -> Option<(u64, f64)> {
    if n == 0 {
        return None;
    }
    if n <= EXACT_PAIRS {
        let tails = lower_tails(&(1..=n).map(|rank| 2 * rank).collect::<Vec<_>>());
        // Sums are counted in half ranks; without ties every second one is empty.
        let whole: Vec<f64> = tails.into_iter().step_by(2).collect();
        let k = whole.partition_point(|tail| 2.0 * tail <= ALPHA);
        return (k > 0).then(|| (k as u64, 1.0 - 2.0 * whole[k - 1]));
    }
    let n = n as f64;
    let deviation = (n * (n + 1.0) * (2.0 * n + 1.0) / 24.0).sqrt();
    let centre = n * (n + 1.0) / 4.0;
    let last_rejected = (centre - normal_quantile_of_tail(ALPHA / 2.0) * deviation).floor();
    let coverage = 1.0 - 2.0 * normal_tail((centre - last_rejected) / deviation);
    (last_rejected >= 0.0).then_some((last_rejected as u64 + 1, coverage))
}

/// Two-sided p of the smaller sum of ranks, over all signs.
fn exact_p(ranks: &[f64], statistic: f64) -> f64 {
    // Midranks are whole or half numbers.
    let halves: Vec<usize> = ranks.iter().map(|rank| (2.0 * rank) as usize).collect();
    2.0 * lower_tails(&halves)[(2.0 * statistic) as usize]
}

/// P(sum ≤ s) for every s, of the sum of the given ranks with each taken or left by a fair coin.
/// Up to 50 ranks the counts are whole numbers below 2⁵³, hence exact.
fn lower_tails(ranks: &[usize]) -> Vec<f64> {
    let top: usize = ranks.iter().sum();
    let mut counts = vec![0.0; top + 1];
    counts[0] = 1.0;
    let mut reached = 0;
    for rank in ranks {
        reached += rank;
        for sum in (*rank..=reached).rev() {
            counts[sum] += counts[sum - rank];
        }
    }
    let total = 2f64.powi(ranks.len() as i32);
    let mut sum = 0.0;
    counts
        .into_iter()
        .map(|count| {
            sum += count;
            sum / total
        })
        .collect()
}
