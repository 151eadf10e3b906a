//! Which numbers fall short of the others: median and median absolute deviation, on logarithms, so
//! that half as fast is as far off as twice as fast.

use crate::model::Direction;
use crate::stats;

/// The fewest nodes that can judge each other: of three, nobody can tell one slow from two fast.
pub const MIN_NODES: usize = 4;

/// How many more deviations it takes where nodes are few: with as many as this, twice as many. The
/// deviation of four numbers is often small by luck. By simulation of normal noise, six deviations
/// so widened blame somebody in 1 of 100 runs of 4 to 512 equal nodes.
const FEW: f64 = 8.0;

/// Too few to judge each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} nodes are too few to judge each other, it takes {MIN_NODES}; a rule with at_least or at_most \
     judges any number"
)]
pub struct TooFew(
    /// How many there are.
    pub usize,
);

/// A number that falls short.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// Its index.
    pub index: usize,
    /// The median of all.
    pub usual: f64,
    /// What it should have reached.
    pub limit: f64,
}

/// The numbers that fall short of the median by more than the share `deviation` and by more than
/// `mads` median absolute deviations. All of them are finite.
///
/// # Errors
/// [`TooFew`].
pub fn outliers(
    values: &[f64],
    direction: Direction,
    deviation: f64,
    mads: f64,
) -> Result<Vec<Outlier>, TooFew> {
    let too_few = TooFew(values.len());
    if values.len() < MIN_NODES {
        return Err(too_few);
    }
    // A rate of zero has no logarithm, and then plain differences must do.
    let logarithms = values.iter().all(|value| *value > 0.0);
    let scaled = |value: f64| if logarithms { value.ln() } else { value };
    let numbers: Vec<f64> = values.iter().map(|value| scaled(*value)).collect();
    let median = stats::median(&numbers).ok_or(too_few)?;
    let apart: Vec<f64> = numbers
        .iter()
        .map(|number| (number - median).abs())
        .collect();
    let mad = stats::median(&apart).ok_or(too_few)?;
    let by_noise = mads * (1.0 + FEW / values.len() as f64) * mad;
    let higher = direction != Direction::LowerIsBetter;
    let by_share = match (logarithms, higher) {
        (true, true) => -(1.0 - deviation).ln(),
        (true, false) => deviation.ln_1p(),
        (false, _) => deviation * median.abs(),
    };
    let most = by_noise.max(by_share);
    let limit = if higher { median - most } else { median + most };
    let plain = |number: f64| if logarithms { number.exp() } else { number };
    let short = |number: f64| match higher {
        true => median - number > most,
        false => number - median > most,
    };
    let found = numbers
        .iter()
        .enumerate()
        .filter(|(_, number)| short(**number));
    Ok(found
        .map(|(index, _)| Outlier {
            index,
            usual: plain(median),
            limit: plain(limit),
        })
        .collect())
}
