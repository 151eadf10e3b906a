//! `reports html`.

use super::{complain, load, ratios_of};
use anyhow::Context;
use clap::Args;
use reports::model;
use reports::program;
use reports::render::html::Page;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct HtmlArgs {
    /// Report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub(crate) fn run(args: &HtmlArgs) -> anyhow::Result<ExitCode> {
    let (reports, code) = load(&args.paths)?;
    let mut sessions = reports.iter().filter_map(|r| r.run.session.as_ref());
    let title = sessions.next().map_or("benchmark report", |s| &s.suite);
    let ratios = match args.paths.as_slice() {
        [folder] if folder.is_dir() => ratios_of(folder, &reports).unwrap_or_else(|fault| {
            complain(format!("{}: no ratios: {fault}", folder.display()));
            Vec::new()
        }),
        _ => Vec::new(),
    };
    let page = Page::of_runs(title, &reports).with_ratios(&ratios);
    model::write(&args.output, &page.render()).context("cannot write the page")?;
    program::print(&format!("{}\n", args.output.display()))?;
    Ok(code)
}
