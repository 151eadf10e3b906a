//! The gate: how much worse is a regression, for all metrics and for some.

use super::{MetricComparison, Scale, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How much worse a metric may become.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// For metrics without a rule of their own, as a share: 0.03 is 3 %.
    pub default: Threshold,
    /// Rules by metric: its name, or name and aggregation (`round_trip_ns p99`).
    pub overrides: BTreeMap<String, Threshold>,
}

/// A share by which a metric may become worse.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold(f64);

impl Threshold {
    /// The share: 0.03 is 3 %.
    #[must_use]
    pub fn share(self) -> f64 {
        self.0
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().strip_suffix('%').map(str::trim);
        match number.and_then(|number| number.parse::<f64>().ok()) {
            Some(percent) if (0.0..=1000.0).contains(&percent) => Ok(Self(percent / 100.0)),
            _ => Err(format!(
                "{text:?} is not a threshold: give a percentage from 0% to 1000%, such as 3%"
            )),
        }
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A binary fraction of a decimal percentage shows its rounding beyond nine digits.
        write!(f, "{}%", (self.0 * 1e11).round() / 1e9)
    }
}

/// Why a file of thresholds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The file could not be read.
    #[error("cannot read the gate file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is not a list of thresholds.
    #[error("{path} is not a gate file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Neither the command line nor the file says what holds for other metrics.
    #[error("{path} has no default: add default = \"3%\", or give --gate 3%")]
    NoDefault {
        /// The file.
        path: PathBuf,
    },
}

/// What a gate file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    default: Option<Threshold>,
    #[serde(default)]
    metrics: BTreeMap<String, Threshold>,
}

/// What the gate says of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GateVerdict {
    /// The threshold that holds for it.
    pub threshold: Threshold,
    /// Whether the whole interval lies beyond it in the worse direction.
    pub failed: bool,
}

impl Gate {
    /// One threshold for all metrics.
    #[must_use]
    pub fn new(default: Threshold) -> Self {
        Self {
            default,
            overrides: BTreeMap::new(),
        }
    }

    /// Reads thresholds by metric from a TOML file; `default` on the command line goes before the
    /// file's.
    ///
    /// # Errors
    /// [`GateError`], which names the file and the fault.
    pub fn load(path: &Path, default: Option<Threshold>) -> Result<Self, GateError> {
        let path = path.to_owned();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(GateError::Io { path, source }),
        };
        let file: File = match toml::from_str(&text) {
            Ok(file) => file,
            Err(error) => {
                let reason = format!(
                    "{}\nthresholds are written like this: default = \"3%\", and by metric under \
                     [metrics]: round_trip_ns = \"5%\"",
                    error.to_string().trim_end()
                );
                return Err(GateError::Malformed { path, reason });
            }
        };
        match default.or(file.default) {
            Some(default) => Ok(Self {
                default,
                overrides: file.metrics,
            }),
            None => Err(GateError::NoDefault { path }),
        }
    }

    /// Rules that no metric of the given names goes by: a misspelt name would gate nothing.
    #[must_use]
    pub fn unused<'a>(&'a self, metrics: &[&MetricComparison]) -> Vec<&'a str> {
        let used = |rule: &str| metrics.iter().any(|m| m.name == rule || m.title() == rule);
        self.overrides
            .keys()
            .map(String::as_str)
            .filter(|rule| !used(rule))
            .collect()
    }

    /// Judges a metric that has a verdict; `None` of one that has no better and worse, or nothing
    /// to judge.
    pub(super) fn judge(&self, metric: &MetricComparison) -> Option<GateVerdict> {
        let effect = metric.effect?;
        let sign = metric.worse_sign()?;
        let threshold = *self
            .overrides
            .get(&metric.title())
            .or_else(|| self.overrides.get(&metric.name))
            .unwrap_or(&self.default);
        let beyond = match effect.scale {
            // Worse by 3 % is a latency of 1.03 or a bandwidth of 0.97.
            Scale::Ratio if sign > 0.0 => effect.low > 1.0 + threshold.share(),
            Scale::Ratio => effect.high < 1.0 - threshold.share(),
            // Numbers that include zero have no ratio; the share is then of the baseline's median.
            Scale::Difference => {
                let allowed = threshold.share() * metric.a.median?.abs();
                let nearest = if sign > 0.0 { effect.low } else { -effect.high };
                nearest > allowed
            }
        };
        let seen = metric.observed == Verdict::Worse;
        Some(GateVerdict {
            threshold,
            failed: beyond && seen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_percentages() {
        assert_eq!("3%".parse(), Ok(Threshold(0.03)));
        assert_eq!(" 0.5 %".parse(), Ok(Threshold(0.005)));
        for wrong in ["3", "-1%", "NaN%", "1e9%", "%", "", "three%"] {
            let fault = wrong.parse::<Threshold>().expect_err(wrong);
            assert!(fault.contains("such as 3%"), "{fault}");
        }
        assert_eq!(Threshold(0.07).to_string(), "7%");
    }
}
