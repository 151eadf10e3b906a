//! `reports export`, and where an exported text goes.

use super::{complain, load};
use anyhow::Context;
use clap::Args;
use reports::model;
use reports::program::{self, Usage};
use reports::render::export::{self, Format, Per, Selection};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "csv: a row per run, case and metric, or with --per case a row per \
    case and metric.\n\
    github-annotations: print it in a step of a workflow; failures and invalid results are errors, \
    degraded ones warnings, skips notices.\n\
    github-summary: appends Markdown to the file that $GITHUB_STEP_SUMMARY names.\n\
    bmf, openmetrics: valid runs alone, because these tools keep no flags beside a number; what is \
    left out is said on standard error. openmetrics --per run has a point per run, for promtool \
    tsdb create-blocks-from openmetrics.\n\
    Exit codes: 0 written, 1 something cannot be read (the rest is written) or written, 2 wrong \
    usage.";

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// Report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The format to write
    #[arg(short, long, value_name = "FORMAT")]
    format: Format,
    /// What a row of csv (by default a run) or a point of openmetrics (by default a case) is
    #[arg(long, value_name = "WHAT")]
    per: Option<Per>,
    /// Every metric in markdown, github-summary and bmf, not the headlines alone
    #[arg(long)]
    all: bool,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    if args.per.is_some() && !args.format.has_runs() {
        let fault = "--per belongs to --format csv and openmetrics; other formats are per case";
        return Err(Usage(fault.to_owned()).into());
    }
    let place = Place::of(args.format, args.output.as_deref())?;
    let (reports, code) = load(&args.paths)?;
    let per = match (args.per, args.format) {
        (Some(per), _) => per,
        (None, Format::Csv) => Per::Run,
        (None, _) => Per::Case,
    };
    let all = args.all;
    let export = export::reports(reports, args.format, Selection { per, all })?;
    export.left_out.iter().for_each(complain);
    place.put(export.text)?;
    Ok(code)
}

/// Where an exported text goes.
pub(crate) enum Place {
    /// Standard output.
    Stdout,
    /// A file, written whole or not at all.
    File(PathBuf),
    /// The step's job summary, which other commands of the step may have begun.
    JobSummary(PathBuf),
}

impl Place {
    /// # Errors
    /// [`Usage`], if a job summary is asked for where there is no job.
    pub(crate) fn of(format: Format, output: Option<&Path>) -> Result<Self, Usage> {
        const SUMMARY: &str = "GITHUB_STEP_SUMMARY";
        match (output, format) {
            (Some(file), _) => Ok(Self::File(file.to_owned())),
            (None, Format::GithubSummary) => match std::env::var_os(SUMMARY) {
                Some(file) if !file.is_empty() => Ok(Self::JobSummary(file.into())),
                _ => Err(Usage(format!(
                    "--format github-summary: {SUMMARY} is not set, so this is no step of a \
                     GitHub workflow; give -o FILE, or --format markdown"
                ))),
            },
            (None, _) => Ok(Self::Stdout),
        }
    }

    /// # Errors
    /// What the kernel says of the file, and a job summary that is full.
    pub(crate) fn put(&self, text: String) -> anyhow::Result<()> {
        match self {
            Self::Stdout => program::print(&text),
            Self::File(file) => model::write(file, &text).context("cannot write the export"),
            Self::JobSummary(file) => append(file, text)
                .with_context(|| format!("cannot append to the job summary {}", file.display())),
        }
    }
}

fn append(file: &Path, text: String) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    let held = usize::try_from(file.metadata()?.len())?;
    let text = export::fit_summary(text, held).with_context(|| {
        format!(
            "it holds {held} bytes, and GitHub shows {} at most",
            export::SUMMARY_LIMIT
        )
    })?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
