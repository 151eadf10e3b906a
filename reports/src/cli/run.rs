//! `reports run`.

use anyhow::Context;
use clap::Args;
use reports::perform::Performance;
use reports::program::{self, Usage};
use reports::render::terminal::Style;
use reports::suite::{Asked, Plan, Session, Suite};
use reports::{measure, render, suite};
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
    #[arg(long, value_name = "PERCENT", value_parser = suite::width)]
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
    let out = args.out.display();
    let go_on = format!("reports run {} --out {out} --resume", args.suite.display());
    let performance = Performance {
        program: "reports",
        suite: &suite,
        plan: &plan,
        session: &session,
        go_on: &go_on,
        json: false,
    };
    performance.run()
}
