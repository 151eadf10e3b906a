//! `reports run`.

use super::tally;
use anyhow::Context;
use clap::Args;
use reports::program::{self, Usage};
use reports::render::html;
use reports::render::progress::SuiteProgress;
use reports::render::table::{self, Depth};
use reports::render::terminal::Style;
use reports::suite::{Plan, Session, Suite, Verdict};
use reports::{measure, model, ratios, suite, summary};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The suite, a TOML file
    #[arg(value_name = "SUITE.toml")]
    suite: PathBuf,
    /// Folder for the session: reports as they come, logs of failures, report.html
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,
    /// Go on with the session in --out that was interrupted
    #[arg(long)]
    resume: bool,
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs {
        suite: path,
        out,
        resume,
    } = args;
    let (suite, text) = Suite::load(path).map_err(|error| Usage(error.to_string()))?;
    measure::install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
    let drawn = suite.seed.unwrap_or_else(|| fastrand::u64(..));
    let session = if *resume {
        Session::resume(out, &text)
    } else {
        Session::create(out, &text, drawn)
    }
    .map_err(|error| Usage(error.to_string()))?;
    let plan = Plan::new(&suite, session.seed);
    let mut progress = SuiteProgress::new(plan.order.len());
    let result = suite::run(&suite, &plan, &session, &mut progress);
    progress.finish();
    let (reports, verdict) = result?;
    if let Verdict::Interrupted { finished, planned } = verdict {
        anyhow::bail!(
            "interrupted: {finished} of {planned} runs are kept in {}; go on with: reports run {} \
             --out {} --resume",
            out.display(),
            path.display(),
            out.display()
        );
    }
    let cases = summary::summarise(&reports);
    let page = out.join("report.html");
    model::write(&page, &html::page(&suite.name, &reports, &cases))
        .context("cannot write the page")?;
    let mut text = table::summary(&cases, Depth::Headlines, &Style::of_stdout());
    text.push_str(&table::ratios(&ratios::of(&suite, &reports)));
    text.push_str(&format!(
        "\n{}\nreport: {}\n",
        tally(&cases),
        page.display()
    ));
    program::print(&text)?;
    // A skip says why, and a suite may well hold cases for hardware that is not here.
    let all = reports.iter().flat_map(|report| &report.cases);
    Ok(match program::exit_code(all) {
        program::EXIT_UNAVAILABLE => ExitCode::SUCCESS,
        code => ExitCode::from(code),
    })
}
