//! One number per run: the only data that the tests accept.

use std::collections::HashSet;

/// Why numbers are not one per run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotRuns {
    /// A run gave two numbers.
    #[error("run {0} appears twice, and a run counts once")]
    Twice(String),
    /// A number is NaN or infinite.
    #[error("run {run} has {value}, which is not a number")]
    NotFinite {
        /// The run.
        run: String,
        /// Its number.
        value: f64,
    },
}

/// One number per run. It is built from run ids, each at most once, so that the operations inside
/// a run cannot be passed off as runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    values: Vec<f64>,
}

impl Runs {
    /// Takes one finite number for each run id.
    ///
    /// # Errors
    /// [`NotRuns`], which names the run.
    pub fn new<'a>(runs: impl IntoIterator<Item = (&'a str, f64)>) -> Result<Self, NotRuns> {
        let mut seen = HashSet::new();
        let mut values = Vec::new();
        for (run, value) in runs {
            if !value.is_finite() {
                let run = run.to_owned();
                return Err(NotRuns::NotFinite { run, value });
            }
            if !seen.insert(run) {
                return Err(NotRuns::Twice(run.to_owned()));
            }
            values.push(value);
        }
        Ok(Self { values })
    }

    /// The numbers, in the order in which the runs were given.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// How many runs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Natural logarithms, on which a ratio becomes a difference; `None` if some number has none.
    #[must_use]
    pub fn ln(&self) -> Option<Self> {
        let positive = self.values.iter().all(|value| *value > 0.0);
        positive.then(|| Self {
            values: self.values.iter().map(|value| value.ln()).collect(),
        })
    }
}

/// Pairs of runs that ran next to each other, one of each side.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    a: Runs,
    b: Runs,
}

impl Pairs {
    /// Takes one number of A and one of B for each pair id.
    ///
    /// # Errors
    /// [`NotRuns`], which names the pair.
    pub fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a str, f64, f64)> + Clone,
    ) -> Result<Self, NotRuns> {
        let a = Runs::new(pairs.clone().into_iter().map(|(pair, a, _)| (pair, a)))?;
        let b = Runs::new(pairs.into_iter().map(|(pair, _, b)| (pair, b)))?;
        Ok(Self { a, b })
    }

    /// How many pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.a.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.a.is_empty()
    }

    /// The pairs on logarithms; `None` if some number has none.
    #[must_use]
    pub fn ln(&self) -> Option<Self> {
        Some(Self {
            a: self.a.ln()?,
            b: self.b.ln()?,
        })
    }

    /// B − A, pair by pair.
    #[must_use]
    pub fn differences(&self) -> Vec<f64> {
        self.b
            .values
            .iter()
            .zip(&self.a.values)
            .map(|(b, a)| b - a)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_once_and_has_a_number() {
        let twice = Runs::new([("r1", 1.0), ("r1", 2.0)]);
        assert_eq!(twice, Err(NotRuns::Twice("r1".to_owned())));
        let nan = Runs::new([("r1", f64::NAN)]).expect_err("NaN is no number");
        assert!(nan.to_string().contains("run r1 has NaN"));
        assert!(Runs::new([("r1", 0.0)]).expect("a number").ln().is_none());
        assert!(Pairs::new([("p", 1.0, 2.0), ("p", 1.0, 2.0)]).is_err());
    }
}
