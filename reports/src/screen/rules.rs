//! The rules: a TOML file, read with suspicion.

use crate::model::Direction;
use glob::Pattern;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};

/// The rules where none are given.
pub const DEFAULT_RULES: &str = include_str!("rules.toml");

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("cannot read the rules {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file holds no rules.
    #[error("{path} holds no rules: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A rule names something that the reports do not have.
    #[error("rule {rule:?}: {case} has no {kind} {name:?}; it has: {known}")]
    Unknown {
        /// The rule.
        rule: String,
        /// The case.
        case: String,
        /// Metric, matrix or fact.
        kind: &'static str,
        /// What the rule names.
        name: String,
        /// What there is.
        known: String,
    },
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// By what share of the median a node falls short before it is slow.
    #[serde(default = "default_deviation", deserialize_with = "share")]
    deviation: f64,
    /// By how many median absolute deviations.
    #[serde(default = "default_mads")]
    mads: f64,
    /// The rules, in the order in which findings are listed.
    #[serde(rename = "rule", default)]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the list of nodes calls it.
    pub name: String,
    /// Which cases.
    #[serde(deserialize_with = "pattern")]
    pub case: Pattern,
    /// Which rows of a suite.
    #[serde(default, deserialize_with = "some_pattern")]
    pub row: Option<Pattern>,
    metric: Option<String>,
    matrix: Option<String>,
    fact: Option<String>,
    #[serde(default, deserialize_with = "some_pattern")]
    finding: Option<Pattern>,
    /// Which way is better, of a fact.
    pub direction: Option<Direction>,
    #[serde(default, deserialize_with = "some_share")]
    deviation: Option<f64>,
    mads: Option<f64>,
    /// The least that is good, whatever the others do.
    pub at_least: Option<f64>,
    /// The most that is good.
    pub at_most: Option<f64>,
}

/// Where a rule's numbers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source<'a> {
    /// A metric of each node's own report.
    Metric(&'a str),
    /// Numbers between nodes.
    Matrix(&'a str),
    /// A fact that gives a number to each host.
    Fact(&'a str),
    /// What the case found by itself.
    Finding(&'a Pattern),
}

fn default_deviation() -> f64 {
    0.1
}

fn default_mads() -> f64 {
    6.0
}

impl Rules {
    /// Reads them from a file.
    ///
    /// # Errors
    /// [`RulesError`], which names the file, the rule and the fault.
    pub fn load(path: &Path) -> Result<Self, RulesError> {
        let text = std::fs::read_to_string(path).map_err(|source| RulesError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| RulesError::Malformed {
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads them from text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if rules.rules.is_empty() {
            return Err("it has no [[rule]]".to_owned());
        }
        check_mads(rules.mads)?;
        for (index, rule) in rules.rules.iter().enumerate() {
            rule.check()
                .map_err(|fault| format!("rule {} ({:?}): {fault}", index + 1, rule.name))?;
        }
        Ok(rules)
    }

    /// Share and deviations by which a rule sets nodes against each other; `None` if it holds bounds
    /// alone.
    pub(super) fn against_others(&self, rule: &Rule) -> Option<(f64, f64)> {
        let asked = rule.deviation.is_some() || rule.mads.is_some();
        let bound = rule.at_least.is_some() || rule.at_most.is_some();
        (asked || !bound).then(|| {
            (
                rule.deviation.unwrap_or(self.deviation),
                rule.mads.unwrap_or(self.mads),
            )
        })
    }
}

impl Rule {
    /// Where its numbers are.
    ///
    /// # Panics
    /// Never: rules are checked when they are read.
    #[must_use]
    pub fn source(&self) -> Source<'_> {
        self.sources()
            .into_iter()
            .flatten()
            .next()
            .expect("checked")
    }

    fn sources(&self) -> [Option<Source<'_>>; 4] {
        [
            self.metric.as_deref().map(Source::Metric),
            self.matrix.as_deref().map(Source::Matrix),
            self.fact.as_deref().map(Source::Fact),
            self.finding.as_ref().map(Source::Finding),
        ]
    }

    fn check(&self) -> Result<(), String> {
        if self.sources().iter().flatten().count() != 1 {
            return Err("it takes exactly one of metric, matrix, fact and finding".to_owned());
        }
        self.mads.map_or(Ok(()), check_mads)?;
        let bounds = [("at_least", self.at_least), ("at_most", self.at_most)];
        for (name, bound) in bounds {
            if bound.is_some_and(|bound| !bound.is_finite()) {
                return Err(format!("{name}: it must be a number"));
            }
        }
        let limits = self
            .deviation
            .or(self.mads)
            .or(self.at_least)
            .or(self.at_most);
        match self.source() {
            Source::Finding(_) if limits.is_some() => {
                Err("what a case found by itself has no limits here: leave them out".to_owned())
            }
            Source::Fact(_) if self.direction.is_none() => {
                Err("a fact does not tell which way is better: add direction".to_owned())
            }
            Source::Metric(_) | Source::Matrix(_) | Source::Finding(_)
                if self.direction.is_some() =>
            {
                Err("direction: only a fact takes it, the reports tell it of the others".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn check_mads(mads: f64) -> Result<(), String> {
    if mads.is_finite() && (0.0..=1000.0).contains(&mads) {
        return Ok(());
    }
    Err(format!("mads = {mads}: it must be 0 to 1000"))
}

/// `25%` as a share.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let percent = text.trim().strip_suffix('%');
    let percent = percent.and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent < 100.0 => Ok(percent / 100.0),
        _ => Err(D::Error::custom(format!(
            "{text:?} is no deviation: give more than 0% and less than 100%"
        ))),
    }
}

fn some_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    share(deserializer).map(Some)
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
    let text = String::deserialize(deserializer)?;
    Pattern::new(&text).map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

fn some_pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pattern>, D::Error> {
    pattern(deserializer).map(Some)
}
