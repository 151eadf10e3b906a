//! The tool around the reports: it runs suites, shows, draws and checks what they wrote.

mod cli;

use anyhow::Context;
use clap::{Parser, Subcommand};
use reports::model::{self, Report};
use reports::program::{self, Usage};
use reports::render::html;
use reports::render::progress::SuiteProgress;
use reports::render::table::{self, Depth};
use reports::render::terminal::{self, Style};
use reports::suite::{Plan, Session, Suite, Verdict};
use reports::summary::{self, CaseSummary};
use reports::{host, measure, ratios, suite};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs benchmark suites and reads what they reported
#[derive(Parser)]
#[command(version = program::version(), after_help = program::EXIT_CODES_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a suite: each row a command, each repetition a fresh process, rows taking turns
    Run {
        /// The suite, a TOML file
        #[arg(value_name = "SUITE.toml")]
        suite: PathBuf,
        /// Folder for the session: reports as they come, logs of failures, report.html
        #[arg(long, value_name = "DIR", default_value = "bench-results")]
        out: PathBuf,
        /// Go on with the session in --out that was interrupted
        #[arg(long)]
        resume: bool,
    },
    /// Show reports: one as blocks, several as a table of medians with intervals over runs
    Show {
        /// Report files, folders of them, or a session's folder
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Show every metric of every case, not the headlines alone
        #[arg(long)]
        all: bool,
    },
    /// Draw reports as one self-contained HTML page
    Html {
        /// Report files, folders of them, or a session's folder
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// The page to write
        #[arg(short, long, value_name = "FILE", default_value = "report.html")]
        output: PathBuf,
    },
    /// Turn the output of fio, iperf3, sockperf, perftest, fi_pingpong, OSU, IMB into reports
    Import(cli::import::ImportArgs),
    /// Compare two groups of runs: environments first, then every metric with interval and verdict
    #[command(after_help = cli::compare::HELP)]
    Compare(cli::compare::CompareArgs),
    /// Check that files are well-formed reports
    Validate {
        /// Report files, or folders of them
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Show what this machine is like, as every report records it
    Env {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of reports
    Schema,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    program::main("reports", || match cli.command {
        Command::Run { suite, out, resume } => run(&suite, &out, resume),
        Command::Show { paths, all } => show(&paths, all),
        Command::Html { paths, output } => draw(&paths, &output),
        Command::Import(args) => cli::import::run(&args),
        Command::Compare(args) => cli::compare::run(args),
        Command::Validate { paths } => validate(&paths),
        Command::Env { json } => env(json),
        Command::Schema => {
            program::print(&model::json_schema())?;
            Ok(ExitCode::SUCCESS)
        }
    })
}

fn run(path: &Path, out: &Path, resume: bool) -> anyhow::Result<ExitCode> {
    let (suite, text) = Suite::load(path).map_err(|error| Usage(error.to_string()))?;
    measure::install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
    let drawn = suite.seed.unwrap_or_else(|| fastrand::u64(..));
    let session = if resume {
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
        eprintln!("reports: {fault}");
    }
    anyhow::ensure!(!reports.is_empty(), "there is no report to read");
    let code = if faults.is_empty() {
        program::EXIT_MEASURED
    } else {
        program::EXIT_FAILED
    };
    Ok((reports, ExitCode::from(code)))
}

fn show(paths: &[PathBuf], all: bool) -> anyhow::Result<ExitCode> {
    let (reports, code) = load(paths)?;
    let style = Style::of_stdout();
    let text = match reports.as_slice() {
        [report] => terminal::report(report, &style),
        reports => {
            let cases = summary::summarise(reports);
            let depth = if all {
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

fn draw(paths: &[PathBuf], output: &Path) -> anyhow::Result<ExitCode> {
    let (reports, code) = load(paths)?;
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
    model::write(output, &html::page(&title, &reports, &cases)).context("cannot write the page")?;
    program::print(&format!("{}\n", output.display()))?;
    Ok(code)
}

fn validate(paths: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let (reports, faults) = model::load_all(paths);
    for fault in &faults {
        eprintln!("reports: {fault}");
    }
    program::print(&format!("{} valid, {} not\n", reports.len(), faults.len()))?;
    Ok(ExitCode::from(if faults.is_empty() {
        program::EXIT_MEASURED
    } else {
        program::EXIT_FAILED
    }))
}

fn env(json: bool) -> anyhow::Result<ExitCode> {
    let host = host::fingerprint();
    let value = serde_json::to_value(&host).context("cannot serialise the host")?;
    let text = if json {
        format!("{}\n", serde_json::to_string_pretty(&value)?)
    } else {
        terminal::environment(&value, &Style::of_stdout())
    };
    program::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
