//! Statistics over runs: pure functions without input or output.
//!
//! The unit is a run, a fresh process, with one number per metric. Pooling the operations inside
//! runs gives about 80 % false alarms, so what judges here takes [`Runs`] or [`Pairs`], which can
//! only be built from one number per run id. The one exception is [`bootstrap`], whose
//! resampling starts with the runs and so keeps their spread.
//!
//! Ranks judge: [`mann_whitney`] for independent runs, [`signed_rank`] for pairs, each with the
//! Hodges-Lehmann estimate and the interval that belongs to the test. [`student`] is the
//! cross-check on logarithms. Every figure equals SciPy's to 1e-9; the fixtures name the calls.

pub mod bootstrap;
pub mod changes;
pub mod false_discovery;
pub mod mann_whitney;
mod order;
pub mod power;
pub mod random;
mod ranks;
mod runs;
mod selection;
pub mod signed_rank;
pub mod student;

pub use order::{
    MIN_RUNS_FOR_INTERVAL, MedianInterval, median, median_interval, median_interval_rank,
};
pub use runs::{NotRuns, Pairs, Runs};

/// The level of every test: the share of false alarms that is accepted where nothing changed.
pub const ALPHA: f64 = 0.05;

/// An estimate with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The best single value.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The coverage that the interval has, at least 1 − [`ALPHA`] where ranks allow no exact one.
    pub coverage: f64,
}

impl Estimate {
    /// The same on the scale of ratios, of an estimate made on logarithms.
    #[must_use]
    pub fn exp(self) -> Self {
        Self {
            value: self.value.exp(),
            low: self.low.exp(),
            high: self.high.exp(),
            coverage: self.coverage,
        }
    }

    /// Whether `value` lies outside the interval.
    #[must_use]
    pub fn excludes(&self, value: f64) -> bool {
        value < self.low || value > self.high
    }
}

/// A test's statistic and its two-sided p value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The statistic, as the test defines it.
    pub statistic: f64,
    /// The chance of a result at least as far from nothing, where there is nothing.
    pub p_value: f64,
}

#[cfg(test)]
mod scipy_tests;
#[cfg(test)]
pub(crate) mod simulation_tests;
