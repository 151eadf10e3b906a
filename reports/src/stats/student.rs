//! Student's t on logarithms: the cross-check of the rank tests, which it equals in power for
//! well-behaved runs and loses to where outliers are.

use super::{ALPHA, Estimate, Pairs, Runs, Test};
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::beta::beta_reg;

/// Welch's test of SciPy's `ttest_ind(b, a, equal_var=False)` and the interval of the difference
/// of means, b − a. `None` below two runs a side or if nothing varies.
#[must_use]
pub fn welch(a: &Runs, b: &Runs) -> Option<(Test, Estimate)> {
    let (mean_a, error_a) = mean_and_squared_error(a.values())?;
    let (mean_b, error_b) = mean_and_squared_error(b.values())?;
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let freedom = (error_a + error_b).powi(2)
        / (error_a.powi(2) / (n_a - 1.0) + error_b.powi(2) / (n_b - 1.0));
    judge(mean_b - mean_a, error_a + error_b, freedom)
}

/// The paired test of SciPy's `ttest_rel(b, a)` and the interval of the mean difference, b − a.
/// `None` below two pairs or if the differences do not vary.
#[must_use]
pub fn paired(pairs: &Pairs) -> Option<(Test, Estimate)> {
    let (mean, error) = mean_and_squared_error(&pairs.differences())?;
    judge(mean, error, pairs.len() as f64 - 1.0)
}

fn judge(difference: f64, squared_error: f64, freedom: f64) -> Option<(Test, Estimate)> {
    let error = squared_error.sqrt();
    if error == 0.0 || !freedom.is_finite() {
        return None;
    }
    let t = difference / error;
    let test = Test {
        statistic: t,
        p_value: beta_reg(freedom / 2.0, 0.5, freedom / (freedom + t * t)),
    };
    let reach = quantile(1.0 - ALPHA / 2.0, freedom)? * error;
    let estimate = Estimate {
        value: difference,
        low: difference - reach,
        high: difference + reach,
        coverage: 1.0 - ALPHA,
    };
    Some((test, estimate))
}

/// The quantile of Student's t; `None` if the degrees of freedom are not positive.
pub(super) fn quantile(probability: f64, freedom: f64) -> Option<f64> {
    let t = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(t.inverse_cdf(probability))
}

/// The mean and the square of its standard error, with n − 1 in the variance: a t test that is fed
/// the standard deviation with n in the denominator raises false alarms.
pub(super) fn mean_and_squared_error(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, squares / (n - 1.0) / n))
}
