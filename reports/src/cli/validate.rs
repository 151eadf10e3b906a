//! `reports validate`.

use super::complain;
use clap::Args;
use reports::model;
use reports::program;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) const HELP: &str = "Each fault is named with its file and its path in it.\n\
    Exit codes: 0 all are valid, 1 something is not, 2 wrong usage.";

#[derive(Args)]
pub(crate) struct ValidateArgs {
    /// Report files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let (reports, faults) = model::load_all(&args.paths);
    // Who validates wants to know of each.
    faults.iter().for_each(complain);
    program::print(&format!("{} valid, {} not\n", reports.len(), faults.len()))?;
    Ok(ExitCode::from(if faults.is_empty() {
        program::EXIT_MEASURED
    } else {
        program::EXIT_FAILED
    }))
}
