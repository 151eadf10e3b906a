//! The subcommands, a module each: its arguments, and the function that carries it out.

pub(crate) mod compare;
pub(crate) mod env;
pub(crate) mod export;
pub(crate) mod html;
pub(crate) mod import;
pub(crate) mod merge;
pub(crate) mod rank;
pub(crate) mod run;
pub(crate) mod screen;
pub(crate) mod show;
pub(crate) mod trend;
pub(crate) mod validate;

use reports::model::{self, Report};
use reports::program;
use reports::ratios::{self, RowRatios};
use reports::render::text::visible_lines;
use reports::suite::{Plan, Recorded};
use reports::summary::tally;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit codes of commands that only read reports.
pub(crate) const READING_HELP: &str = "Exit codes: 0 done, 1 something cannot be read or written \
    (what can be read is done), 2 wrong usage.";

/// How many faults of one kind of thing are told one by one: a folder may hold thousands.
const MOST_FAULTS: usize = 10;

/// Loads what can be loaded; what cannot is said on standard error and makes the exit code 1.
fn load(paths: &[PathBuf]) -> anyhow::Result<(Vec<Report>, ExitCode)> {
    let (reports, faults) = model::load_all(paths);
    complain_of_all(&faults);
    anyhow::ensure!(!reports.is_empty(), "there is no report to read");
    let code = if faults.is_empty() {
        program::EXIT_MEASURED
    } else {
        program::EXIT_FAILED
    };
    Ok((reports, ExitCode::from(code)))
}

/// Says on standard error what is wrong with the first of many things, and how many follow.
fn complain_of_all(faults: &[impl Display]) {
    faults.iter().take(MOST_FAULTS).for_each(complain);
    if let more @ 1.. = faults.len().saturating_sub(MOST_FAULTS) {
        complain(format!(
            "{more} more cannot be read: `reports validate` names each"
        ));
    }
}

/// Says again, below all that was shown, that something is not in it: that decides the exit code.
fn say_incomplete(faulty: usize) {
    match faulty {
        0 => {}
        1 => complain("incomplete: what is named above could not be read"),
        faulty => complain(format!(
            "incomplete: {faulty} files could not be read, as said above"
        )),
    }
}

/// The ratios of the arms of the session in a folder; none if it holds no session.
fn ratios_of(folder: &Path, reports: &[Report]) -> Result<Vec<RowRatios>, String> {
    let Some(recorded) = Recorded::load(folder)? else {
        return Ok(Vec::new());
    };
    let suite = recorded.suite()?;
    Ok(ratios::of(
        &suite,
        &Plan::new(&suite, recorded.seed),
        reports,
    ))
}

/// Says on standard error what is wrong; files and what they hold may bear any name.
fn complain(fault: impl Display) {
    eprintln!("reports: {}", visible_lines(&fault.to_string()));
}
