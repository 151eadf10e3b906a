//! Independent runs: the Mann-Whitney U test, and the shift with the interval that inverts it.

use super::order::sorted;
use super::ranks::{midranks, normal_quantile_of_tail, normal_tail};
use super::selection::{kth_difference, median_by};
use super::{ALPHA, Estimate, Runs, Test};

/// The test of SciPy's `mannwhitneyu(a, b)`: the exact distribution if there are no ties and one
/// side has at most 8 runs, else the normal approximation with corrections for ties and
/// continuity. The statistic is U of `a`. `None` if a side is empty.
#[must_use]
pub fn test(a: &Runs, b: &Runs) -> Option<Test> {
    let (m, n) = (a.len(), b.len());
    if m == 0 || n == 0 {
        return None;
    }
    let both: Vec<f64> = a.values().iter().chain(b.values()).copied().collect();
    let (ranks, ties) = midranks(&both);
    let (m_f, n_f) = (m as f64, n as f64);
    let u_a = ranks[..m].iter().sum::<f64>() - m_f * (m_f + 1.0) / 2.0;
    let u_small = u_a.min(m_f * n_f - u_a);
    let exact = if ties == 0.0 && m.min(n) <= 8 {
        lower_tails(m, n)
    } else {
        None
    };
    let p_value = match exact {
        // Without ties U is a whole number.
        Some(tails) => 2.0 * tails[u_small as usize],
        None => {
            let total = m_f + n_f;
            let tie_term = ties / (total * (total - 1.0));
            let deviation = (m_f * n_f / 12.0 * (total + 1.0 - tie_term)).sqrt();
            let distance = m_f * n_f / 2.0 - u_small - 0.5;
            if deviation > 0.0 {
                2.0 * normal_tail(distance / deviation)
            } else {
                1.0
            }
        }
    };
    Some(Test {
        statistic: u_a,
        p_value: p_value.min(1.0),
    })
}

/// How far B lies above A: the median of all differences b − a (Hodges and Lehmann 1963) and the
/// interval of all shifts that the test does not reject. Ties make the interval cover more, never
/// less. `None` if there are too few runs for an interval: 4 a side suffice.
#[must_use]
pub fn shift(a: &Runs, b: &Runs) -> Option<Estimate> {
    let (a, b) = (sorted(a.values()), sorted(b.values()));
    let pairs = a.len() as u64 * b.len() as u64;
    let (k, coverage) = interval_rank(a.len(), b.len())?;
    let kth = |k| kth_difference(&a, &b, k);
    Some(Estimate {
        value: median_by(pairs, kth),
        low: kth(k),
        high: kth(pairs + 1 - k),
        coverage,
    })
}

/// The largest k with 2·P(U < k) ≤ [`ALPHA`], and the coverage of the interval from the k-th
/// smallest to the k-th largest difference.
fn interval_rank(m: usize, n: usize) -> Option<(u64, f64)> {
    if m == 0 || n == 0 {
        return None;
    }
    if let Some(tails) = lower_tails(m, n) {
        let k = tails.partition_point(|tail| 2.0 * tail <= ALPHA);
        return (k > 0).then(|| (k as u64, 1.0 - 2.0 * tails[k - 1]));
    }
    let (m, n) = (m as f64, n as f64);
    let deviation = (m * n / 12.0 * (m + n + 1.0)).sqrt();
    let centre = m * n / 2.0 - 0.5;
    let last_rejected = (centre - normal_quantile_of_tail(ALPHA / 2.0) * deviation).floor();
    let coverage = 1.0 - 2.0 * normal_tail((centre - last_rejected) / deviation);
    (last_rejected >= 0.0).then_some((last_rejected as u64 + 1, coverage))
}

/// P(U ≤ u) for u from 0 to the middle, or `None` where counting would be too long or overflow.
///
/// The counts are the coefficients of the Gaussian binomial ∏ᵢ (1 − qⁿ⁺ⁱ)/(1 − qⁱ), i = 1..m.
/// Each partial product has whole coefficients that sum to a binomial, so integers keep them exact.
fn lower_tails(m: usize, n: usize) -> Option<Vec<f64>> {
    let (m, n) = (m.min(n), m.max(n));
    let ln_total: f64 = (1..=m).map(|i| ((n + i) as f64 / i as f64).ln()).sum();
    let countable = (m <= 8 || n <= 50) && m * n <= 1 << 20 && ln_total < 120.0 * 2f64.ln();
    if !countable {
        return None;
    }
    let middle = m * n / 2;
    let mut counts = vec![0i128; middle + 1];
    counts[0] = 1;
    for i in 1..=m {
        for u in (n + i..=middle).rev() {
            counts[u] -= counts[u - n - i];
        }
        for u in i..=middle {
            counts[u] += counts[u - i];
        }
    }
    let total = combinations(m, n);
    let mut sum = 0i128;
    Some(
        counts
            .into_iter()
            .map(|count| {
                sum += count;
                sum as f64 / total
            })
            .collect(),
    )
}

/// The binomial (m + n over m), rounded once per factor.
fn combinations(m: usize, n: usize) -> f64 {
    (1..=m).fold(1.0, |total, i| total * (n + i) as f64 / i as f64)
}
