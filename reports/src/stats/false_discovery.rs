//! Many metrics at once: 100 of them tested at 5 % give a false alarm with probability 0.994, so
//! their p values are adjusted together.

/// Adjusted p values (Benjamini and Hochberg 1995), as SciPy's `false_discovery_control`: calling
/// everything at or below α a finding keeps the expected share of false ones at or below α.
#[must_use]
pub fn adjust(p_values: &[f64]) -> Vec<f64> {
    let total = p_values.len() as f64;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut smallest: f64 = 1.0;
    for (rank, &index) in order.iter().enumerate().rev() {
        smallest = smallest.min(p_values[index] * total / (rank as f64 + 1.0));
        adjusted[index] = smallest;
    }
    adjusted
}
