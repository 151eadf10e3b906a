//! `reports compare`.

use super::complain;
use super::export::Place;
use anyhow::Context;
use clap::{Args, ValueEnum};
use reports::compare::gate::Threshold;
use reports::compare::{Axis, Gate, MetricComparison, Options, Status, compare};
use reports::model::{self, Report};
use reports::program::Usage;
use reports::render::export::{self, Format};
use reports::render::{compare as render, terminal::Style};
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) const HELP: &str = "A and B: two paths, or two groups of paths with -- between them, \
    as in: reports compare old1.json old2.json -- new/\n\
    The unit is a run, so give each side at least 4 runs (10 are a good number). Runs with pair \
    ids are compared as pairs (from 6 pairs on), others as two groups.\n\
    Exit codes: 0 pass, 1 regression (with --gate only), 2 wrong usage, 3 incomparable, 4 \
    insufficient or invalid data. Of several the first counts in the order 2, 1, 3, 4. A metric \
    beyond the gate while the environments differ is incomparable: hold them equal, or declare the \
    difference with --axis.";

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// The baseline: report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "A")]
    a: Vec<PathBuf>,
    /// What is compared with it, after --; without --, the second of two paths
    #[arg(last = true, value_name = "B")]
    b: Vec<PathBuf>,
    /// A field whose difference is under study: instance_type, kernel.release, program.commit
    #[arg(long = "axis", value_name = "FIELD")]
    axes: Vec<Axis>,
    /// Fail if a metric's whole interval is worse by more than this, such as 3%
    #[arg(long, value_name = "PERCENT")]
    gate: Option<Threshold>,
    /// TOML file with thresholds: default = "3%", and by metric under [metrics]
    #[arg(long, value_name = "FILE")]
    gate_file: Option<PathBuf>,
    /// Compare every metric, not the headlines alone
    #[arg(long)]
    all: bool,
    /// Print the comparison as JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write it in another tool's format: csv, markdown, junit, github-annotations, github-summary
    #[arg(short, long, value_name = "FORMAT", value_parser = of_comparisons)]
    format: Option<Format>,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", requires = "format")]
    output: Option<PathBuf>,
}

/// A format that has a place for comparisons.
fn of_comparisons(name: &str) -> Result<Format, String> {
    let known = Format::from_str(name, false)?;
    if Format::OF_COMPARISONS.contains(&known) {
        return Ok(known);
    }
    Err(format!(
        "{name} has no place for a comparison; reports export writes it"
    ))
}

pub(crate) fn run(args: CompareArgs) -> anyhow::Result<ExitCode> {
    let (a, b) = match (args.a.as_slice(), args.b.as_slice()) {
        ([a, b], []) => (vec![a.clone()], vec![b.clone()]),
        (a, b) if !b.is_empty() => (a.to_vec(), b.to_vec()),
        _ => {
            let fault = "compare takes two paths, or -- between the paths of A and those of B";
            return Err(Usage(fault.to_owned()).into());
        }
    };
    let place = match args.format {
        Some(format) => Place::of(format, args.output.as_deref())?,
        None => Place::Stdout,
    };
    let gate = match &args.gate_file {
        Some(path) => Some(Gate::load(path, args.gate).map_err(|e| Usage(e.to_string()))?),
        None => args.gate.map(Gate::new),
    };
    let options = Options {
        axes: args.axes,
        gate,
        all_metrics: args.all,
    };
    let (reports_a, faulty_a) = load(&a);
    let (reports_b, faulty_b) = load(&b);
    for (name, reports) in [("A", &reports_a), ("B", &reports_b)] {
        if reports.is_empty() {
            complain(format!("{name} has no report to read"));
            return Ok(ExitCode::from(Status::Insufficient.exit_code()));
        }
    }
    let comparison = match compare(&reports_a, &reports_b, &options) {
        Ok(comparison) => comparison,
        Err(error @ reports::compare::CompareError::OnBothSides { .. }) => {
            complain(error);
            return Ok(ExitCode::from(Status::Insufficient.exit_code()));
        }
        Err(error) => return Err(Usage(error.to_string()).into()),
    };
    if let Some(gate) = &options.gate {
        let metrics: Vec<&MetricComparison> = comparison
            .cases
            .iter()
            .flat_map(|case| &case.metrics)
            .collect();
        if let [rule, ..] = gate.unused(&metrics).as_slice() {
            let fault = format!("the gate file names {rule:?}, but no compared metric is it");
            return Err(Usage(fault).into());
        }
    }
    let text = match args.format {
        Some(format) => export::comparison(&comparison, format)?,
        None if args.json => {
            let json = serde_json::to_string_pretty(&comparison);
            json.context("cannot serialise the comparison")? + "\n"
        }
        None => render::comparison(&comparison, &Style::of_stdout()),
    };
    place.put(text)?;
    let status = match comparison.status {
        Status::Pass if faulty_a || faulty_b => Status::Insufficient,
        status => status,
    };
    Ok(ExitCode::from(status.exit_code()))
}

/// Loads what can be loaded and says what cannot.
fn load(paths: &[PathBuf]) -> (Vec<Report>, bool) {
    let (reports, faults) = model::load_all(paths);
    for fault in &faults {
        complain(fault);
    }
    (reports, !faults.is_empty())
}
