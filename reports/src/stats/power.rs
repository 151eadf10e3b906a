//! What a comparison could have seen: "no difference" means little without it.

use super::student::{mean_and_squared_error, quantile};
use super::{ALPHA, Pairs, Runs};
use std::f64::consts::PI;

/// The chance of finding an effect of the stated size.
pub const POWER: f64 = 0.8;

/// The smallest shift b − a that runs with this spread and number would show with probability
/// [`POWER`] at level [`ALPHA`], by the t approximation, widened by √(π/3) for what a rank test
/// loses on normal data. On logarithms e^shift − 1 is the relative change. `None` below two runs a
/// side.
#[must_use]
pub fn detectable_shift(a: &Runs, b: &Runs) -> Option<f64> {
    let (_, error_a) = mean_and_squared_error(a.values())?;
    let (_, error_b) = mean_and_squared_error(b.values())?;
    detectable(error_a + error_b, (a.len() + b.len()) as f64 - 2.0)
}

/// As [`detectable_shift`], of pairs.
#[must_use]
pub fn detectable_paired_shift(pairs: &Pairs) -> Option<f64> {
    let (_, error) = mean_and_squared_error(&pairs.differences())?;
    detectable(error, pairs.len() as f64 - 1.0)
}

fn detectable(squared_error: f64, freedom: f64) -> Option<f64> {
    let quantiles = quantile(1.0 - ALPHA / 2.0, freedom)? + quantile(POWER, freedom)?;
    Some(quantiles * (squared_error * PI / 3.0).sqrt())
}
