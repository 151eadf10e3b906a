//! `reports run`.

use super::tally;
use anyhow::Context;
use clap::Args;
use reports::model::Report;
use reports::program::{self, Usage};
use reports::render::html::Page;
use reports::render::progress::SuiteProgress;
use reports::render::table::{self, Depth};
use reports::render::terminal::Style;
use reports::suite::{Asked, Plan, Ran, Session, Suite, Verdict};
use reports::{measure, model, ratios, render, suite, summary};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "A suite's rows may have arms: other binaries, options or whole \
    other programs. They run next to each other in every round, in an order that is drawn and then \
    reversed, and the first arm is the baseline of the ratios that are printed at the end. \
    scripts/suites/peers.toml is an example; `reports compare DIR` prints the ratios again.\n\
    Exit codes: 0 every case was measured, or skipped with a reason; 1 something failed, or a \
    signal ended the session; 2 wrong usage; 4 measured but invalid.\n\n\
    What a suite may hold (all but name and the rows may be left out):\n\n";

/// The text after the options.
pub(crate) fn help() -> String {
    let example = suite::EXAMPLE.lines().map(|line| format!("  {line}\n"));
    format!("{HELP}{}", example.collect::<String>())
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The suite, a TOML file
    #[arg(value_name = "SUITE.toml")]
    suite: PathBuf,
    /// Folder for the session: reports as they come, logs of failures, report.html
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    out: PathBuf,
    /// Go on with the session in --out: after an interruption, or with more --repetitions
    #[arg(long)]
    resume: bool,
    /// Print the commands and the order in which they would run, and run nothing
    #[arg(long, visible_alias = "plan")]
    dry_run: bool,
    /// Run every row so often, whatever the suite says
    #[arg(long, value_name = "N")]
    repetitions: Option<u32>,
    /// Start no round after so long: 90, 90s, 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    budget: Option<f64>,
    /// End a row early once its interval is narrower than this (of the ratios of its arms, else of
    /// its median), such as 2%
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    stop_width: Option<f64>,
    /// Run each row's first arm a second time as an arm of its own: how far equal things differ
    #[arg(long, conflicts_with = "resume")]
    noise_floor: bool,
    /// Run only these rows, by name or quoted pattern: 'tcp-*'
    #[arg(long = "row", value_name = "NAME", conflicts_with = "resume")]
    rows: Vec<String>,
    /// Run only these arms, by name, part of a combination or quoted pattern: new, 'engine=*'
    #[arg(long = "arm", value_name = "NAME", conflicts_with = "resume")]
    arms: Vec<String>,
    /// The seed of the order, instead of the suite's or a drawn one
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    seed: Option<u64>,
}

/// `90`, `90s`, `10m`, `1h` in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => text
            .parse()
            .ok()
            .map(|time: jiff::SignedDuration| time.as_secs_f64()),
    };
    match seconds {
        Some(seconds) if seconds > 0.0 && seconds <= 1e7 => Ok(seconds),
        _ => Err("give a time such as 90s, 10m or 1h".to_owned()),
    }
}

/// `2%` as a share.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix('%');
    let percent: Option<f64> = percent.and_then(|text| text.trim().parse().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent < 100.0 => Ok(percent / 100.0),
        _ => Err("give a percentage between 0% and 100%, such as 2%".to_owned()),
    }
}

impl RunArgs {
    fn asked(&self) -> Asked {
        Asked {
            repetitions: self.repetitions,
            stop_width: self.stop_width,
            noise_floor: self.noise_floor,
            rows: self.rows.clone(),
            arms: self.arms.clone(),
        }
    }

    /// The suite as asked for, and its plan.
    fn planned(&self, suite: Suite, asked: &Asked, seed: u64) -> Result<(Suite, Plan), Usage> {
        let fault = |fault: String| Usage(format!("{}: {fault}", self.suite.display()));
        let mut suite = asked.of(suite).map_err(fault)?;
        suite.budget_s = self.budget.or(suite.budget_s);
        let mut plan = Plan::new(&suite, seed);
        asked.select(&mut plan).map_err(fault)?;
        Ok((suite, plan))
    }
}

pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (suite, text) = Suite::load(&args.suite).map_err(|error| Usage(error.to_string()))?;
    let drawn = || fastrand::u64(..);
    let seed = args.seed.or(suite.seed).unwrap_or_else(drawn);
    let asked = args.asked();
    // Wishes that cannot be fulfilled leave no session behind.
    let (planned, plan) = args.planned(suite.clone(), &asked, seed)?;
    if args.dry_run && !args.resume {
        program::print(&render::plan::plan(
            &planned,
            &plan,
            seed,
            &Style::of_stdout(),
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.dry_run {
        let fault = "--dry-run shows a new session: leave out --resume";
        return Err(Usage(fault.to_owned()).into());
    }
    measure::install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
    let session = if args.resume {
        Session::resume(&args.out, &text, &asked)
    } else {
        Session::create(&args.out, &text, seed, asked)
    }
    .map_err(|error| Usage(error.to_string()))?;
    let (suite, plan) = args.planned(suite, session.asked(), session.seed())?;
    eprintln!(
        "reports: {} runs in {}, their order drawn with seed {}",
        plan.order.len(),
        args.out.display(),
        session.seed()
    );
    let mut progress = SuiteProgress::new(plan.order.len());
    let ran = suite::run(&suite, &plan, &session, &mut progress);
    progress.finish();
    let ran = ran?;
    if let Verdict::Interrupted { finished, planned } = ran.verdict {
        anyhow::bail!(
            "interrupted: {finished} of {planned} runs are kept in {}; go on with: reports run {} \
             --out {} --resume",
            args.out.display(),
            args.suite.display(),
            args.out.display()
        );
    }
    conclude(args, &suite, &plan, &session, &ran)?;
    Ok(exit_code(&ran.reports))
}

/// Writes the page and prints what came of the session.
fn conclude(
    args: &RunArgs,
    suite: &Suite,
    plan: &Plan,
    session: &Session,
    ran: &Ran,
) -> anyhow::Result<()> {
    let style = Style::of_stdout();
    let cases = summary::summarise(&ran.reports);
    let page = args.out.join("report.html");
    let ratios = ratios::of(suite, plan, &ran.reports);
    let shown = Page::of_runs(&suite.name, &ran.reports).with_ratios(&ratios);
    model::write(&page, &shown.render()).context("cannot write the page")?;
    let mut text = table::summary(&cases, Depth::Headlines, &style);
    if !ratios.is_empty() {
        text.push('\n');
        text.push_str(&render::ratios::ratios(&ratios, &style));
    }
    text.push('\n');
    for stopped in &ran.stopped {
        let (row, rounds, reason) = (&stopped.row, stopped.rounds, stopped.reason);
        text.push_str(&format!("{row}: done after {rounds} rounds: {reason}\n"));
    }
    text.push_str(&format!(
        "{}\norder of the runs: seed {}\nreport: {}\n",
        tally(&cases),
        session.seed(),
        page.display()
    ));
    program::print(&text)
}

fn exit_code(reports: &[Report]) -> ExitCode {
    // A skip says why, and a suite may well hold cases for hardware that is not here.
    let all = reports.iter().flat_map(|report| &report.cases);
    match program::exit_code(all) {
        program::EXIT_UNAVAILABLE => ExitCode::SUCCESS,
        code => ExitCode::from(code),
    }
}
