//! The tool around the reports: it runs suites, shows, draws and checks what they wrote.

mod cli;

use clap::{Parser, Subcommand};
use reports::{model, program};
use std::process::ExitCode;

/// Every command has exit codes of its own; these hold for all.
const EXIT_CODES_HELP: &str = "Exit codes: 0 done, 2 wrong usage; what else there is says each \
    command's --help. compare: 1 regression, 3 incomparable, 4 insufficient or invalid. run: 1 \
    something failed, 4 measured but invalid. merge: 4 a node is missing. screen: 5 slow, 6 unreachable.";

/// Runs benchmark suites and reads what they reported
#[derive(Parser)]
#[command(version = program::version(), after_help = EXIT_CODES_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a suite: each row a command, each repetition a fresh process, rows taking turns
    #[command(after_help = cli::run::help())]
    Run(cli::run::RunArgs),
    /// Show reports: one as blocks, several as a table of medians with intervals over runs
    #[command(after_help = cli::READING_HELP)]
    Show(cli::show::ShowArgs),
    /// Draw reports as one self-contained HTML page
    #[command(after_help = cli::READING_HELP)]
    Html(cli::html::HtmlArgs),
    /// Write reports as CSV, Markdown, JUnit XML, for GitHub, Bencher or Prometheus
    #[command(after_help = cli::export::HELP)]
    Export(cli::export::ExportArgs),
    /// Turn the output of fio, iperf3, sockperf, netperf, neper, perftest, fi_pingpong, fabtests,
    /// OSU, IMB into reports
    #[command(after_help = cli::import::HELP)]
    Import(cli::import::ImportArgs),
    /// Screen a cluster in minutes: which nodes are good, slow, or do not answer
    #[command(after_help = cli::screen::help())]
    Screen(cli::screen::ScreenArgs),
    /// Merge the reports of many nodes and programs into one cluster's, and name who is missing
    #[command(after_help = cli::merge::HELP)]
    Merge(cli::merge::MergeArgs),
    /// Compare two groups of runs: environments first, then every metric with interval and verdict
    #[command(after_help = cli::compare::HELP)]
    Compare(cli::compare::CompareArgs),
    /// Rank instance types, or any groups of runs, per metric and per dollar, with intervals
    #[command(after_help = cli::rank::help())]
    Rank(cli::rank::RankArgs),
    /// Follow results over time: since when a number is what it is, and what changed with it
    #[command(after_help = cli::trend::HELP, args_conflicts_with_subcommands = true)]
    Trend(cli::trend::TrendArgs),
    /// Check that files are well-formed reports
    #[command(after_help = cli::validate::HELP)]
    Validate(cli::validate::ValidateArgs),
    /// Show what this machine is like, as every report records it
    Env(cli::env::EnvArgs),
    /// Print the JSON Schema of reports
    Schema,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    program::main("reports", || match cli.command {
        Command::Run(args) => cli::run::run(&args),
        Command::Show(args) => cli::show::run(&args),
        Command::Html(args) => cli::html::run(&args),
        Command::Export(args) => cli::export::run(&args),
        Command::Import(args) => cli::import::run(&args),
        Command::Screen(args) => cli::screen::run(&args),
        Command::Merge(args) => cli::merge::run(&args),
        Command::Compare(args) => cli::compare::run(args),
        Command::Rank(args) => cli::rank::run(&args),
        Command::Trend(args) => cli::trend::run(args),
        Command::Validate(args) => cli::validate::run(&args),
        Command::Env(args) => cli::env::run(&args),
        Command::Schema => {
            program::print(&model::json_schema())?;
            Ok(ExitCode::SUCCESS)
        }
    })
}
