//! `reports html`.

use super::load;
use anyhow::Context;
use clap::Args;
use reports::model;
use reports::program;
use reports::render::html;
use reports::summary;
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
    let cases = summary::summarise(&reports);
    let title = reports
        .iter()
        .find_map(|report| {
            report
                .run
                .session
                .as_ref()
                .map(|session| session.suite.clone())
        })
        .unwrap_or_else(|| "benchmark report".to_owned());
    model::write(&args.output, &html::page(&title, &reports, &cases))
        .context("cannot write the page")?;
    program::print(&format!("{}\n", args.output.display()))?;
    Ok(code)
}
