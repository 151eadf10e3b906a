//! `storage-bench`: one subcommand per case, and `list`.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::{Availability, Entry};
use reports::measure::stop_requested;
use reports::model::{Case, Outcome};
use reports::program::{self, EXIT_USAGE, OutputArgs, Progress, Session};
use reports::sweep::{self, SweepArgs, Swept};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use storage_bench::PROGRAM;
use storage_bench::crew::{self, Ranked};
use storage_bench::engine::probe_uring;
use storage_bench::family::{Family, Io, Metadata, Nop, Object, Shared, Verify};
use storage_bench::object::{self, spec::CleanArgs};

/// A family of cases as this program sees it: subcommands, a way to measure, lines of `list`.
struct Member {
    subcommands: fn() -> Vec<Command>,
    measure: fn(&str, &ArgMatches) -> Option<anyhow::Result<ExitCode>>,
    list: fn() -> String,
}

const fn member<F: Family>() -> Member {
    member_by::<F>(|name, options| Some(measure::<F>(case::<F>(name)?, options)))
}

/// A family whose cases ranks measure together.
const fn ranked<F: Ranked>() -> Member {
    member_by::<F>(|name, options| Some(measure_ranked::<F>(case::<F>(name)?, options)))
}

fn case<F: Family>(name: &str) -> Option<&'static Entry<F::Spec>> {
    F::CASES.iter().find(|case| case.name == name)
}

const fn member_by<F: Family>(
    measure: fn(&str, &ArgMatches) -> Option<anyhow::Result<ExitCode>>,
) -> Member {
    Member {
        subcommands: || F::CASES.iter().map(subcommand::<F>).collect(),
        measure,
        list: || {
            let cases = F::CASES.iter();
            cases
                .map(|case| line(case.name, case.summary, &(case.probe)()))
                .collect()
        },
    }
}

/// Not a case: it removes what killed runs left in a store.
const CLEAN: Member = Member {
    subcommands: || {
        let command = CleanArgs::augment_args(Command::new("object_clean"));
        vec![
            command
                .about("S3: remove what a killed run left, or list the runs that left something")
                .after_help(program::EXIT_CODES_HELP),
        ]
    },
    measure: |name, options| (name == "object_clean").then(|| clean(options)),
    list: String::new,
};

const FAMILIES: &[Member] = &[
    member::<Io>(),
    member::<Nop>(),
    member::<Verify>(),
    ranked::<Shared>(),
    ranked::<Metadata>(),
    member::<Object>(),
    CLEAN,
];

fn main() -> ExitCode {
    if let Some(code) = crew::sweep_if_asked() {
        return code;
    }
    // Of the ranks of a job one says what is wrong with the command line, or helps.
    let matches = match command().try_get_matches() {
        Err(error) if !crew::speaks() => {
            return crew::refused(u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE));
        }
        _ => sweep::matches(&command()),
    };
    program::main(PROGRAM, || {
        let Some((name, options)) = matches.subcommand() else {
            unreachable!("clap demands a subcommand");
        };
        let mut families = FAMILIES.iter();
        families
            .find_map(|family| (family.measure)(name, options))
            .unwrap_or_else(list)
    })
}

/// The command line: the tables of cases, each with the options that it takes.
fn command() -> Command {
    Command::new(PROGRAM)
        .about("Measures files, block devices and object stores, safely and verifiably")
        .version(program::version())
        .after_help(program::EXIT_CODES_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(FAMILIES.iter().flat_map(|family| (family.subcommands)()))
        .subcommand(
            Command::new("list")
                .about("Show all cases and engines, and what is missing for them here"),
        )
}

/// The subcommand of a case.
fn subcommand<F: Family>(case: &Entry<F::Spec>) -> Command {
    let command = F::options(case.name, Command::new(case.name));
    // After the options: their documentation would replace it.
    SweepArgs::augment_args(OutputArgs::augment_args(command))
        .about(case.summary)
        .long_about(format!("{}\n\n{}", case.summary, case.definition))
        .after_help(program::EXIT_CODES_HELP)
}

fn measure<F: Family>(case: &Entry<F::Spec>, options: &ArgMatches) -> anyhow::Result<ExitCode> {
    let sweep = SweepArgs::from_arg_matches(options)?;
    if sweep.asked() {
        return sweep.run(&Swept {
            program: PROGRAM,
            command: &subcommand::<F>(case),
            matches: options,
            check: &|options| F::specs(case.name, options).map(drop),
        });
    }
    end_no_process_at_file_size()?;
    let output = OutputArgs::from_arg_matches(options)?;
    output.check()?;
    let specs = F::specs(case.name, options)?;
    let asked = matches!(options.try_get_one::<f64>("interval"), Ok(Some(_)));
    let progress = Progress::new(asked || (Progress::visible() && !output.json));
    let session = Session::begin(PROGRAM, F::seed(&specs[0]))?;
    let outcomes = specs
        .iter()
        .map(|spec| match stop_requested() {
            false => case.execute(PROGRAM, spec, &progress),
            true => Case {
                benchmark: case.benchmark(PROGRAM, spec),
                outcome: Outcome::Skipped {
                    reason: "a signal ended the session before this point".to_owned(),
                },
            },
        })
        .collect();
    program::emit(&session.finish(outcomes), &output)
}

fn measure_ranked<F: Ranked>(
    case: &Entry<F::Spec>,
    options: &ArgMatches,
) -> anyhow::Result<ExitCode> {
    let sweep = SweepArgs::from_arg_matches(options)?;
    if sweep.asked() {
        return match crew::launched() {
            false => sweep.run(&Swept {
                program: PROGRAM,
                command: &subcommand::<F>(case),
                matches: options,
                check: &|options| F::specs(case.name, options).map(drop),
            }),
            true if !crew::speaks() => Ok(crew::refused(EXIT_USAGE)),
            true => Err(program::Usage(
                "a sweep starts processes of its own, which ranks of a launcher cannot; start each \
                 combination with mpirun, or let `reports run` do it"
                    .to_owned(),
            )
            .into()),
        };
    }
    end_no_process_at_file_size()?;
    crew::measure::<F>(case, options)
}

/// Writing beyond `ulimit -f` must be an error of the write and not the end of the process.
fn end_no_process_at_file_size() -> anyhow::Result<()> {
    signal_hook::flag::register(
        signal_hook::consts::SIGXFSZ,
        Arc::new(AtomicBool::new(false)),
    )?;
    Ok(())
}

fn clean(options: &ArgMatches) -> anyhow::Result<ExitCode> {
    program::print(&object::clean(&CleanArgs::from_arg_matches(options)?)?)?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> anyhow::Result<ExitCode> {
    let mut text = String::from("cases\n");
    for family in FAMILIES {
        text.push_str(&(family.list)());
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
    format!("  {name:<16} {summary:<54} {state}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_every_case_can_be_swept_by_its_long_name() {
        command().debug_assert();
        for case in FAMILIES.iter().flat_map(|family| (family.subcommands)()) {
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
