//! `storage-bench`: one subcommand per case, and `list`.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::{Availability, Entry};
use reports::model::Fact;
use reports::program::{self, OutputArgs, Progress, Session};
use reports::sweep::{self, SweepArgs, Swept};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use storage_bench::cases::CASES;
use storage_bench::engine::probe_uring;
use storage_bench::spec::{BlockArgs, FileArgs, NullArgs, Spec};

const PROGRAM: &str = "storage-bench";

fn main() -> ExitCode {
    let matches = sweep::matches(&command());
    program::main(PROGRAM, || match matches.subcommand() {
        Some((name, options)) => match CASES.iter().find(|case| case.name == name) {
            Some(case) => measure(case, options),
            None => list(),
        },
        None => unreachable!("clap demands a subcommand"),
    })
}

/// The command line: the table of cases, each with the options that its target takes.
fn command() -> Command {
    Command::new(PROGRAM)
        .about("Measures files and block devices through io_uring, safely and verifiably")
        .version(program::version())
        .after_help(program::EXIT_CODES_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(CASES.iter().map(subcommand))
        .subcommand(
            Command::new("list")
                .about("Show all cases and engines, and what is missing for them here"),
        )
}

/// The subcommand of a case.
fn subcommand(case: &Entry<Spec>) -> Command {
    let command = Command::new(case.name);
    let command = match case.name {
        "null" => NullArgs::augment_args(command),
        "block" => BlockArgs::augment_args(command),
        _ => FileArgs::augment_args(command),
    };
    // After the options: their documentation would replace it.
    SweepArgs::augment_args(OutputArgs::augment_args(command))
        .about(case.summary)
        .long_about(format!("{}\n\n{}", case.summary, case.definition))
        .after_help(program::EXIT_CODES_HELP)
}

fn spec_of(case: &str, options: &ArgMatches) -> anyhow::Result<Spec> {
    match case {
        "null" => NullArgs::from_arg_matches(options)?.spec(),
        "block" => BlockArgs::from_arg_matches(options)?.spec(),
        _ => FileArgs::from_arg_matches(options)?.spec(),
    }
}

fn measure(case: &Entry<Spec>, options: &ArgMatches) -> anyhow::Result<ExitCode> {
    let sweep = SweepArgs::from_arg_matches(options)?;
    if sweep.asked() {
        return sweep.run(&Swept {
            program: PROGRAM,
            command: &subcommand(case),
            matches: options,
            check: &|options| spec_of(case.name, options).map(drop),
        });
    }
    // Writing beyond `ulimit -f` must be an error of the write and not the end of the process.
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(AtomicBool::new(false)),
    )?;
    let output = OutputArgs::from_arg_matches(options)?;
    let spec = spec_of(case.name, options)?;
    let asked = options.contains_id("interval") && options.get_one::<f64>("interval").is_some();
    let progress = Progress::new(asked || (Progress::visible() && !output.json));
    let session = Session::begin(PROGRAM, Fact::Known(spec.seed))?;
    let outcome = case.execute(PROGRAM, &spec, &progress);
    program::emit(&session.finish(vec![outcome]), &output)
}

fn list() -> anyhow::Result<ExitCode> {
    let mut text = String::from("cases\n");
    for case in CASES {
        text.push_str(&line(case.name, case.summary, &(case.probe)()));
    }
    text.push_str("\nengines\n");
    let engines = [
        (
            "uring",
            "io_uring, submitted and reaped in batches",
            probe_uring(),
        ),
        (
            "psync",
            "pread and pwrite, one at a time",
            Availability::Available,
        ),
        ("null", "no I/O at all", Availability::Available),
    ];
    for (name, summary, availability) in engines {
        text.push_str(&line(name, summary, &availability));
    }
    program::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn line(name: &str, summary: &str, availability: &Availability) -> String {
    let state = match availability {
        Availability::Available => "available".to_owned(),
        Availability::Unavailable { reason } => format!("unavailable: {reason}"),
    };
    format!("  {name:<10} {summary:<54} {state}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_every_case_can_be_swept_by_its_long_name() {
        command().debug_assert();
        for case in CASES.iter().map(subcommand) {
            for option in case.get_arguments() {
                assert!(
                    option.get_long().is_some(),
                    "{} {option:?}",
                    case.get_name()
                );
            }
        }
    }
}
