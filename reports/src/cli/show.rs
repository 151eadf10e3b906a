//! `reports show`.

use super::{load, tally};
use clap::Args;
use reports::program;
use reports::render::table::{self, Depth};
use reports::render::terminal::{self, Style};
use reports::summary;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct ShowArgs {
    /// Report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Show every metric of every case, not the headlines alone
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let (reports, code) = load(&args.paths)?;
    let style = Style::of_stdout();
    let text = match reports.as_slice() {
        [report] => terminal::report(report, &style),
        reports => {
            let cases = summary::summarise(reports);
            let depth = if args.all {
                Depth::Everything
            } else {
                Depth::Headlines
            };
            format!(
                "{}{}\n",
                table::summary(&cases, depth, &style),
                tally(&cases)
            )
        }
    };
    program::print(&text)?;
    Ok(code)
}
