//! `reports trend`.

use anyhow::Context;
use clap::{Args, Subcommand};
use glob::Pattern;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use reports::compare::Axis;
use reports::history::{self, Batch, HistoryError, LineFault, Options};
use reports::model;
use reports::program::{self, Usage};
use reports::render::{terminal::Style, trend as render};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "Runs of the same case on the same kind of hosts are searched for \
    changes of their level (e-divisive, at least 5 runs on each side). Where the environment \
    changed the history is divided, and the shift over that place is confounded; a changed commit \
    divides nothing and is named beside a change, as are the fields of --axis.\n\
    Trend advises and never fails because of a change: the gate is reports compare --gate.\n\
    Exit codes: 0 shown or added, 1 some line or report cannot be used (the others are), 2 wrong \
    usage, which includes a history that is none.";

/// Where a history is kept unless another place is named.
const DEFAULT: &str = "bench-history.jsonl";

#[derive(Args)]
pub(crate) struct TrendArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Add runs to a history; those that are there already are not added again
    Add(AddArgs),
}

#[derive(Args)]
struct AddArgs {
    /// Report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The history, made if it is not there
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    history: PathBuf,
}

#[derive(Args)]
struct ShowArgs {
    /// The history
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    history: PathBuf,
    /// Only cases or rows of this name: net-bench/tcp_rr, tcp_rr, 'mpi-kernels/*', '*iodepth=32*'
    #[arg(long, value_name = "GLOB")]
    case: Option<Pattern>,
    /// Only metrics of this name: 'round_trip_ns p99', bandwidth_bytes_per_s, '*p99*'
    #[arg(long, value_name = "GLOB")]
    metric: Option<Pattern>,
    /// Every metric, not the headlines alone
    #[arg(long, conflicts_with = "metric")]
    all: bool,
    /// Only runs from this day or moment on, UTC: 2026-03-02, 2026-03-02T14:00:00Z
    #[arg(long, value_name = "DATE", value_parser = moment)]
    since: Option<Timestamp>,
    /// A field under study beside the commit: cloud.ami, kernel.release
    #[arg(long = "axis", value_name = "FIELD")]
    axes: Vec<Axis>,
    /// Print the runs, segments and changes as JSON
    #[arg(long)]
    json: bool,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let of_day = |day: Date| {
        day.to_zoned(TimeZone::UTC)
            .map(|midnight| midnight.timestamp())
    };
    text.parse()
        .or_else(|_| text.parse().and_then(of_day))
        .map_err(|_| "give a day or a moment, as in 2026-03-02 or 2026-03-02T14:00:00Z".to_owned())
}

pub(crate) fn run(args: TrendArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Some(Command::Add(args)) => add(&args),
        None => show(args.show),
    }
}

fn add(args: &AddArgs) -> anyhow::Result<ExitCode> {
    let mut batch = Batch::default();
    let mut all_read = true;
    let mut found = 0;
    for path in &args.paths {
        let (reports, faults) = model::load_all(std::slice::from_ref(path));
        found += reports.len();
        let faults = faults.iter().map(ToString::to_string);
        let refused = reports.iter().filter_map(|report| {
            let reason = batch.take(report).err()?;
            Some(format!("run {:?} is not added: {reason}", report.run.id))
        });
        for fault in faults.chain(refused.collect::<Vec<_>>()) {
            eprintln!("reports: {fault}");
            all_read = false;
        }
    }
    anyhow::ensure!(found > 0, "there is no report to add");
    anyhow::ensure!(!batch.is_empty(), "no report has a case to add");
    let added = history::append(&args.history, batch).map_err(fault)?;
    if let Some(LineFault { line, .. }) = &added.removed {
        eprintln!("reports: removed line {line}, which a writer that died left cut off");
    }
    say_faults(&args.history, &added.faults);
    let path = args.history.display();
    let (results, runs, known) = (added.results, added.runs, added.known);
    let known = match known {
        0 => String::new(),
        known => format!("; {known} were there already"),
    };
    program::print(&format!(
        "added {results} results of {runs} runs to {path}{known}\n"
    ))?;
    Ok(code(all_read && added.faults.is_empty()))
}

fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let history = history::load(&args.history).map_err(fault)?;
    say_faults(&args.history, &history.faults);
    let options = Options {
        case: args.case,
        metric: args.metric,
        all_metrics: args.all,
        since: args.since,
        axes: args.axes,
    };
    let path = args.history.display();
    let trend = match history::trend(&history, &options) {
        Ok(trend) => trend,
        Err(error @ history::TrendError::Empty) => anyhow::bail!("{path}: {error}"),
        Err(error) => return Err(Usage(format!("{path}: {error}")).into()),
    };
    let text = if args.json {
        serde_json::to_string_pretty(&trend).context("cannot serialise the trend")? + "\n"
    } else {
        render::trend(&trend, &Style::of_stdout())
    };
    program::print(&text)?;
    Ok(code(history.faults.is_empty()))
}

/// Another file should have been named, or something failed.
pub(super) fn fault(error: HistoryError) -> anyhow::Error {
    if error.is_usage() {
        Usage(error.to_string()).into()
    } else {
        error.into()
    }
}

/// Names every line that cannot be used, unless there are too many to read.
pub(super) fn say_faults(path: &Path, faults: &[LineFault]) {
    const SHOWN: usize = 20;
    let path = path.display();
    for LineFault { line, reason } in faults.iter().take(SHOWN) {
        eprintln!("reports: {path}: line {line}: {reason}");
    }
    if faults.len() > SHOWN {
        let more = faults.len() - SHOWN;
        eprintln!("reports: {path}: {more} more lines cannot be used");
    }
}

fn code(all_used: bool) -> ExitCode {
    ExitCode::from(match all_used {
        true => program::EXIT_MEASURED,
        false => program::EXIT_FAILED,
    })
}
