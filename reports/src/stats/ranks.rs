//! What rank tests share: midranks, ties, and the tail of the normal distribution.

use statrs::function::erf::{erfc, erfc_inv};

/// Ranks from 1, tied values sharing their mean rank, and Σ(t³ − t) over groups of t ties.
pub(super) fn midranks(values: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut ties = 0.0;
    let mut smaller = 0.0;
    for group in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let size = group.len() as f64;
        for &index in group {
            ranks[index] = smaller + (size + 1.0) / 2.0;
        }
        smaller += size;
        ties += size.powi(3) - size;
    }
    (ranks, ties)
}

/// P(Z > z) of a standard normal Z.
pub(super) fn normal_tail(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

/// The z with P(Z > z) = `tail`.
pub(super) fn normal_quantile_of_tail(tail: f64) -> f64 {
    std::f64::consts::SQRT_2 * erfc_inv(2.0 * tail)
}
