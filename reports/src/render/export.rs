//! Reports and comparisons in the formats of other tools: spreadsheets, forges, dashboards.
//!
//! An exporter sees reports, summaries and comparisons and writes one text. Strings from reports may
//! mean harm there as well, each format in its own way: a formula in a spreadsheet, a command in a
//! workflow's log, markup in a page. Each module says what it does about that.

mod bmf;
mod csv;
mod github;
mod junit;
mod markdown;
mod openmetrics;

use crate::compare::Comparison;
use crate::model::{Fact, Measurement, Outcome, Report};
use crate::summary::{CaseSummary, labels, summarise};
use clap::ValueEnum;
use std::collections::{BTreeMap, BTreeSet};

pub use github::SUMMARY_LIMIT;

/// A format of another tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A row per number, for spreadsheets and statistics
    Csv,
    /// Tables for a page or a comment
    Markdown,
    /// JUnit XML: a case is a test, what failed or is invalid fails
    Junit,
    /// Workflow commands that GitHub shows as annotations
    GithubAnnotations,
    /// Markdown appended to the job summary, the file in $GITHUB_STEP_SUMMARY
    GithubSummary,
    /// Bencher Metric Format, JSON
    Bmf,
    /// OpenMetrics text for Prometheus and its relatives
    Openmetrics,
}

impl Format {
    /// The formats that a comparison can be written in.
    pub const OF_COMPARISONS: [Self; 5] = [
        Self::Csv,
        Self::Markdown,
        Self::Junit,
        Self::GithubAnnotations,
        Self::GithubSummary,
    ];

    /// Whether a row per run makes sense, beside one per case.
    #[must_use]
    pub fn has_runs(self) -> bool {
        matches!(self, Self::Csv | Self::Openmetrics)
    }
}

/// What one number of an export stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Per {
    /// One run
    Run,
    /// The median over the runs of a case, with its interval
    Case,
}

/// Which numbers to export.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// What one number stands for, in formats that have both.
    pub per: Per,
    /// Every metric instead of the headlines alone, in formats that show few.
    pub all: bool,
}

/// An exported text, and what the format had no place for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The text.
    pub text: String,
    /// A line for each thing that was left out.
    pub left_out: Vec<String>,
}

/// Why an export could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The library that writes CSV refused.
    #[error("cannot write CSV: {0}")]
    Csv(String),
    /// The library that writes XML refused.
    #[error("cannot write JUnit XML: {0}")]
    Xml(#[from] quick_junit::SerializeError),
    /// The format is one of single reports.
    #[error("{0:?} has no place for a comparison")]
    NoPlace(Format),
}

/// Exports reports. A run that appears twice (the same run id) counts once.
///
/// # Errors
/// [`ExportError`], from the libraries that write CSV and XML.
pub fn reports(
    mut reports: Vec<Report>,
    format: Format,
    selection: Selection,
) -> Result<Export, ExportError> {
    let mut seen = BTreeSet::new();
    reports.retain(|report| seen.insert(report.run.id.clone()));
    let cases = Cases::of(&reports);
    let text = match format {
        Format::Csv if selection.per == Per::Run => csv::runs(&reports)?,
        Format::Csv => csv::cases(&cases, &reports)?,
        Format::Markdown | Format::GithubSummary => {
            markdown::cases(&cases, &reports, selection.all)
        }
        Format::Junit => junit::cases(&cases, &reports)?,
        Format::GithubAnnotations => github::cases(&cases),
        Format::Bmf => {
            let (cases, left_out) = cases.sound(reports);
            let text = bmf::cases(&cases, selection.all);
            return Ok(Export { text, left_out });
        }
        Format::Openmetrics => return Ok(openmetrics(cases, reports, selection.per)),
    };
    let left_out = Vec::new();
    Ok(Export { text, left_out })
}

fn openmetrics(cases: Cases, reports: Vec<Report>, per: Per) -> Export {
    if per == Per::Run {
        let text = openmetrics::runs(&reports);
        let left_out = invalid(&reports);
        return Export { text, left_out };
    }
    let places = places(&reports);
    let ended = reports
        .iter()
        .filter_map(|report| openmetrics::milliseconds(&report.run.ended));
    let as_of = ended.max();
    let all = cases.summaries.clone();
    let (cases, left_out) = cases.sound(reports);
    let text = openmetrics::cases(&all, &cases.summaries, &places, as_of);
    Export { text, left_out }
}

/// Exports a comparison in one of [`Format::OF_COMPARISONS`].
///
/// # Errors
/// [`ExportError`], from the libraries that write CSV and XML, or because the format has no place
/// for comparisons.
pub fn comparison(comparison: &Comparison, format: Format) -> Result<String, ExportError> {
    match format {
        Format::Csv => csv::comparison(comparison),
        Format::Markdown | Format::GithubSummary => Ok(markdown::comparison(comparison)),
        Format::Junit => junit::comparison(comparison),
        Format::GithubAnnotations => Ok(github::comparison(comparison)),
        Format::Bmf | Format::Openmetrics => Err(ExportError::NoPlace(format)),
    }
}

/// Cut to what a job summary may hold, `held` bytes of which are there already.
#[must_use]
pub fn fit_summary(text: String, held: usize) -> Option<String> {
    github::fit_summary(text, held)
}

/// Summaries with their labels.
struct Cases {
    summaries: Vec<CaseSummary>,
    labels: Vec<String>,
}

impl Cases {
    fn of(reports: &[Report]) -> Self {
        let summaries = summarise(reports);
        let labels = labels(&summaries);
        Self { summaries, labels }
    }

    fn iter(&self) -> impl Iterator<Item = (&CaseSummary, &str)> {
        self.summaries
            .iter()
            .zip(self.labels.iter().map(String::as_str))
    }

    /// The cases with their valid runs alone, and what was left out: for tools that keep numbers
    /// without the flags beside them.
    fn sound(self, mut reports: Vec<Report>) -> (Self, Vec<String>) {
        let left_out = invalid(&reports);
        if left_out.is_empty() {
            return (self, left_out);
        }
        for report in &mut reports {
            report
                .cases
                .retain(|case| !case.outcome.measurement().is_some_and(is_invalid));
        }
        (Self::of(&reports), left_out)
    }
}

fn is_invalid(measurement: &Measurement) -> bool {
    measurement.validity.is_invalid()
}

/// A line per case with runs whose numbers do not stand.
fn invalid(reports: &[Report]) -> Vec<String> {
    let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for case in reports.iter().flat_map(|report| &report.cases) {
        if let Some(measurement) = case.outcome.measurement().filter(|m| is_invalid(m)) {
            let flags = flags(measurement);
            found.entry(case.key()).or_insert((0, flags)).0 += 1;
        }
    }
    let lines = found.into_iter().map(|(case, (runs, flags))| {
        let runs = crate::summary::count(runs, "invalid run");
        format!("left out: {case}: {runs} ({flags})")
    });
    lines.collect()
}

/// The codes of what speaks against a result.
fn flags(measurement: &Measurement) -> String {
    let codes: BTreeSet<&str> = measurement
        .validity
        .flags
        .iter()
        .map(|flag| flag.code.as_str())
        .collect();
    codes.into_iter().collect::<Vec<_>>().join(" ")
}

/// Each host's instance type, where it is known.
fn places(reports: &[Report]) -> BTreeMap<String, String> {
    let hosts = reports.iter().flat_map(|report| &report.hosts);
    let known = hosts.filter_map(|host| {
        let Fact::Known(cloud) = &host.cloud else {
            return None;
        };
        let instance_type = cloud.instance_type.known()?;
        Some((host.name.clone(), instance_type.clone()))
    });
    known.collect()
}

/// The word for what came of a case in one run.
fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Measured(measurement) if is_invalid(measurement) => "invalid",
        Outcome::Measured(_) => "measured",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Failed { .. } => "failed",
    }
}
