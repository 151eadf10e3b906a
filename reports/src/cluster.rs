//! Many nodes' reports as one cluster: which nodes there are, what each was measured by, and what
//! does not fit together.
//!
//! A cluster is measured by many processes. Some write one report for all nodes (`mpi-kernels`
//! under `mpirun`), some one on each node (`storage-bench`). Reports are never melted into one: each
//! keeps its hosts, its command line and its clock, so that whatever reads reports reads those of a
//! cluster too. What is new is the look at all of them at once. [`Cluster::of`] finds the nodes by
//! who they are, and the faults: a node that is missing makes what it is missing from invalid,
//! because a median over the nodes that answered says nothing of the one that did not. [`merge`]
//! does this for files and writes a folder.

mod addresses;
mod clocks;
mod coverage;
mod hosts;
pub mod merge;
mod nodes;

#[cfg(test)]
mod tests;

pub(crate) use addresses::{is_this_host, why_absent};
pub(crate) use hosts::same_host;
pub use hosts::{HostfileError, lines_of, read_hostfile};
pub(crate) use nodes::natural;
pub use nodes::{Node, Nodes};

use crate::model::{Fact, Outcome, Program, Report, Severity};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

/// Which nodes there ought to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Those that the reports themselves speak of.
    #[default]
    AsReported,
    /// So many.
    Count(usize),
    /// These, by their host names. An address is a name that no report has: see [`Expected::named`].
    Hosts(Vec<String>),
}

/// What kind of fault it is. Its name is also the code of the flag on the results that it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node is missing, from everything or from one benchmark.
    MissingNode,
    /// A launcher started more ranks than left a report.
    MissingRank,
    /// A report is there, that nobody expected.
    UnexpectedNode,
    /// A node has fewer repetitions than the others.
    FewerReports,
    /// Nodes ran other builds of a program.
    OtherVersion,
    /// A report is in an older or newer format.
    OtherSchema,
    /// A node's clock is apart from the others'.
    ClocksApart,
    /// A report was given twice.
    Duplicate,
    /// Two reports claim to be the same run and differ.
    SameRunTwice,
    /// Nobody can tell which node it was.
    AmbiguousName,
    /// A file could not be read.
    Unreadable,
}

impl Kind {
    /// Its code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::MissingNode => "missing_node",
            Self::MissingRank => "missing_rank",
            Self::UnexpectedNode => "unexpected_node",
            Self::FewerReports => "fewer_reports",
            Self::OtherVersion => "other_version",
            Self::OtherSchema => "other_schema",
            Self::ClocksApart => "clocks_apart",
            Self::Duplicate => "duplicate",
            Self::SameRunTwice => "same_run_twice",
            Self::AmbiguousName => "ambiguous_name",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Something that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What kind it is.
    pub kind: Kind,
    /// What it means for the results it touches.
    pub severity: Severity,
    /// What was found, with names and figures.
    pub evidence: String,
    /// The nodes that are to blame, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The reports that it touches, as indices, and of those the benchmark, if it is not all.
    #[serde(skip)]
    touches: Vec<(usize, Option<String>)>,
}

impl Fault {
    /// A fault that touches no report that is there.
    #[must_use]
    pub fn new(kind: Kind, severity: Severity, evidence: String) -> Self {
        Self {
            kind,
            severity,
            evidence,
            nodes: Vec::new(),
            touches: Vec::new(),
        }
    }
}

/// The nodes that some reports are of, and what does not fit together.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The nodes, in the order of their names.
    pub nodes: Vec<Node>,
    /// Nodes that were expected and are in no report.
    pub absent: Vec<String>,
    /// What does not fit together, the worst first.
    pub faults: Vec<Fault>,
}

impl Cluster {
    /// Looks at all reports at once. Nothing is read or written.
    #[must_use]
    pub fn of<R: Borrow<Report>>(reports: &[R], expected: &Expected) -> Self {
        let reports: Vec<&Report> = reports.iter().map(Borrow::borrow).collect();
        let reports = reports.as_slice();
        let nodes = Nodes::of(reports);
        let mut faults = nodes.faults();
        let (absent, missing) = coverage::faults(reports, &nodes, expected);
        faults.extend(missing);
        faults.extend(clocks::faults(reports, &nodes));
        faults.extend(other_versions(reports, &nodes));
        faults.sort_by_key(|fault| (std::cmp::Reverse(fault.severity), fault.kind));
        Self {
            nodes: nodes.into_list(),
            absent,
            faults,
        }
    }

    /// Flags the results that the faults touch, so that whatever reads the reports knows of them.
    pub fn flag(&self, reports: &mut [Report]) {
        for fault in &self.faults {
            for (index, benchmark) in &fault.touches {
                let Some(report) = reports.get_mut(*index) else {
                    continue;
                };
                for case in &mut report.cases {
                    let meant = benchmark.as_ref().is_none_or(|id| *id == case.benchmark.id);
                    if let (true, Outcome::Measured(measurement)) = (meant, &mut case.outcome) {
                        let flags = &measurement.validity.flags;
                        let known = flags.iter().any(|flag| {
                            flag.code == fault.kind.code() && flag.evidence == fault.evidence
                        });
                        if !known {
                            let (code, evidence) = (fault.kind.code(), &fault.evidence);
                            measurement.validity.flag(fault.severity, code, evidence);
                        }
                    }
                }
            }
        }
    }

    /// Whether some fault makes results invalid.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| fault.severity == Severity::Invalid)
    }
}

/// Names nodes whose build of a program is not the one that most have.
fn other_versions(reports: &[&Report], nodes: &Nodes) -> Vec<Fault> {
    type Build = (Option<String>, Option<String>);
    let build = |program: &Program| -> Build {
        (
            program.version.known().cloned(),
            program.commit.known().cloned(),
        )
    };
    let mut programs: BTreeMap<&str, BTreeMap<Build, Vec<usize>>> = BTreeMap::new();
    for (index, report) in reports.iter().enumerate() {
        let builds = programs.entry(&report.program.name).or_default();
        builds
            .entry(build(&report.program))
            .or_default()
            .push(index);
    }
    let in_words = |(version, commit): &Build| {
        let version = version.as_deref().unwrap_or("of an unknown version");
        match commit {
            Some(commit) => format!("{version} (commit {})", commit.get(..12).unwrap_or(commit)),
            None => version.to_owned(),
        }
    };
    let mut faults = Vec::new();
    for (program, builds) in programs.into_iter().filter(|(_, builds)| builds.len() > 1) {
        let hosts = |indices: &[usize]| -> BTreeSet<usize> {
            let hosts = indices.iter().flat_map(|&at| nodes.of_report(reports[at]));
            hosts.collect()
        };
        let usual = builds
            .iter()
            .max_by_key(|(_, of)| (hosts(of).len(), of.len()));
        // There are several.
        let Some((usual, _)) = usual else { continue };
        for (build, indices) in builds.iter().filter(|(build, _)| *build != usual) {
            let named = nodes.names(hosts(indices));
            let evidence = format!(
                "{program} is {} on {}, {} on the others: install one build everywhere",
                in_words(build),
                some(&named),
                in_words(usual)
            );
            let mut fault = Fault::new(Kind::OtherVersion, Severity::Degraded, evidence);
            fault.nodes = named;
            fault.touches = indices.iter().map(|&at| (at, None)).collect();
            faults.push(fault);
        }
    }
    faults
}

/// The first of some names, and how many follow.
pub(crate) fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A fact in a word or two.
pub(crate) fn word<T: std::fmt::Display>(fact: &Fact<T>) -> String {
    fact.known().map_or_else(|| "–".to_owned(), T::to_string)
}
