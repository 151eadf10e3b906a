//! Screening: which of a cluster's nodes are good, which are slow, and which do not answer.
//!
//! A suite measures (`scripts/suites/screen.toml`), [`Rules`] say what counts, and [`judge()`] comes
//! to a verdict on every node with the evidence. A node is set against the other nodes of the same
//! run, so no number needs to be known beforehand; where one is known, a rule may hold a bound.
//! All of it is pure: reports in, verdicts out.

mod judgement;
mod outliers;
pub mod reach;
mod rules;
mod values;

#[cfg(test)]
mod tests;

pub use judgement::judge;
pub(crate) use judgement::names;
pub use outliers::{MIN_NODES, Outlier, TooFew, outliers};
pub use rules::{DEFAULT_RULES, Rule, Rules, RulesError, Source};

use crate::model::{Fact, Unit};
use serde::Serialize;

/// All nodes are good.
pub const EXIT_GOOD: u8 = 0;
/// Some node is slow.
pub const EXIT_SLOW: u8 = 5;
/// Some node does not answer, or fails.
pub const EXIT_UNREACHABLE: u8 = 6;

/// What is said of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing speaks against it.
    Good,
    /// No rule could judge it.
    NotJudged,
    /// It does less than the others, or than a bound asks for.
    Slow,
    /// It answers, but something does not work there.
    Failed,
    /// It does not answer.
    Unreachable,
}

impl Status {
    /// In words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NotJudged => "not judged",
            Self::Slow => "slow",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Something in which a node is slow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The rule that says so.
    pub rule: String,
    /// The case, with its row.
    pub case: String,
    /// What was looked at: `iops`, `latency_ns received`.
    pub what: String,
    /// What the node does.
    pub value: Fact<f64>,
    /// What the others do.
    pub usual: Fact<f64>,
    /// What was asked for.
    pub limit: Fact<f64>,
    /// The unit of the three; a fact does not tell its own.
    pub unit: Option<Unit>,
    /// All of it in words.
    pub evidence: String,
}

/// The verdict on a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The node.
    pub node: String,
    /// What is said of it.
    pub status: Status,
    /// In what it is slow.
    pub findings: Vec<Finding>,
    /// What failed there, or why it is out of reach.
    pub reasons: Vec<String>,
    /// By how many numbers it was judged.
    pub judged_by: usize,
}

/// Something that was not judged, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotJudged {
    /// The rule, or the case that nothing came of.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What the screening came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Screening {
    /// The verdict on every node, the worst first.
    pub nodes: Vec<Verdict>,
    /// What is slow and no single node's fault: links, and the nodes together.
    pub together: Vec<Finding>,
    /// Cases that failed on all nodes at once.
    pub failed: Vec<NotJudged>,
    /// What was not judged.
    pub not_judged: Vec<NotJudged>,
    /// What else does not fit together: other builds, clocks that are apart.
    pub notes: Vec<String>,
}

impl Screening {
    /// How many nodes are so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        let nodes = self.nodes.iter();
        nodes.filter(|node| node.status == status).count()
    }

    /// The exit code: of all that is wrong, what weighs most.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let any = |status| self.count(status) > 0;
        if any(Status::Unreachable) || any(Status::Failed) {
            EXIT_UNREACHABLE
        } else if any(Status::Slow) || !self.together.is_empty() {
            EXIT_SLOW
        } else if !self.failed.is_empty() {
            crate::program::EXIT_FAILED
        } else if self.count(Status::Good) == 0 || any(Status::NotJudged) {
            crate::program::EXIT_UNAVAILABLE
        } else {
            EXIT_GOOD
        }
    }
}
