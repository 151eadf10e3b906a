//! The subcommands, a module each: its arguments, and the function that carries it out.

pub(crate) mod compare;
pub(crate) mod env;
pub(crate) mod html;
pub(crate) mod import;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod validate;

use reports::model::{self, Report};
use reports::program;
use reports::render::text::visible_lines;
use reports::summary::CaseSummary;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

/// How many cases were measured, skipped, failed.
fn tally(cases: &[CaseSummary]) -> String {
    let failed = cases.iter().filter(|case| !case.failed.is_empty()).count();
    let skipped = cases
        .iter()
        .filter(|c| c.failed.is_empty() && !c.skipped.is_empty())
        .count();
    let invalid = cases.iter().filter(|case| case.is_invalid()).count();
    let measured = cases.len() - failed - skipped;
    format!(
        "{measured} cases measured ({invalid} of them invalid), {skipped} skipped, {failed} failed"
    )
}

/// Loads what can be loaded; what cannot is said on standard error and makes the exit code 1.
fn load(paths: &[PathBuf]) -> anyhow::Result<(Vec<Report>, ExitCode)> {
    let (reports, faults) = model::load_all(paths);
    for fault in &faults {
        complain(fault);
    }
    anyhow::ensure!(!reports.is_empty(), "there is no report to read");
    let code = if faults.is_empty() {
        program::EXIT_MEASURED
    } else {
        program::EXIT_FAILED
    };
    Ok((reports, ExitCode::from(code)))
}

/// Says on standard error what is wrong; files and what they hold may bear any name.
fn complain(fault: impl Display) {
    eprintln!("reports: {}", visible_lines(&fault.to_string()));
}
