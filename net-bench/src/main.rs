//! The command line: the subcommands of the table, `mesh`, `list`, `fabric_info` and `serve`.

mod fabric_info;
mod list;
mod serve;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use net_bench::PROGRAM;
use net_bench::cases::{CASES, Row};
use net_bench::mesh;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reports::host;
use reports::model::Fact;
use reports::program::{self, Progress, Session};
use reports::sweep::{self, SweepArgs, Swept};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before there is another thread: it changes the environment that libfabric will read.
    libfabric_sys::small_universe();
    let matches = sweep::matches(&command());
    program::main(PROGRAM, || {
        raise_descriptor_limit();
        match matches.subcommand() {
            Some(("list", matches)) => list::run(&list::ListArgs::from_arg_matches(matches)?),
            Some(("fabric_info", matches)) => {
                fabric_info::run(&fabric_info::FabricInfoArgs::from_arg_matches(matches)?)
            }
            Some((mesh::NAME, matches)) => mesh::command::run(matches),
            Some(("serve", matches)) => serve::run(&serve::ServeArgs::from_arg_matches(matches)?),
            Some((name, matches)) => {
                let row = CASES.iter().find(|row| row.entry.name == name);
                measure(row.expect("clap knows the table's names only"), matches)
            }
            None => unreachable!("clap insists on a subcommand"),
        }
    })
}

fn command() -> Command {
    let list = list::ListArgs::augment_args(Command::new("list"))
        .about("List all cases: what can run here, and why what cannot does not");
    let fabric_info = fabric_info::FabricInfoArgs::augment_args(Command::new("fabric_info"))
        .about("Show what libfabric's providers offer here, and which library it is")
        .after_help(program::EXIT_CODES_HELP);
    let serve = serve::ServeArgs::augment_args(Command::new("serve"))
        .about("Serve the tests of clients on other hosts")
        .after_help(serve::AFTER_HELP);
    let program = Command::new(PROGRAM)
        .about(
            "Measures the latency and bandwidth of a network between two hosts, or of this host's \
             loopback",
        )
        .after_help(program::EXIT_CODES_HELP)
        .version(program::version())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(list)
        .subcommand(fabric_info)
        .subcommand(serve);
    let cases = CASES.iter().map(case);
    program
        .subcommands(cases)
        .subcommand(mesh::command::command())
}

/// The subcommand of a case.
fn case(row: &Row) -> Command {
    let definition = format!("Definition: {}", row.entry.definition);
    let options = (row.options)(Command::new(row.entry.name));
    // After the options: their documentation would replace it.
    SweepArgs::augment_args(options)
        .about(row.entry.summary)
        .after_help(format!("{definition}\n\n{}", program::EXIT_CODES_HELP))
}

/// Runs one case, or several variants of it, and puts the report where the user asked.
fn measure(row: &Row, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let sweep = SweepArgs::from_arg_matches(matches)?;
    if sweep.asked() {
        return sweep.run(&Swept {
            program: PROGRAM,
            command: &case(row),
            matches,
            check: &|matches| (row.spec)(matches).map(drop),
        });
    }
    let spec = (row.spec)(matches)?;
    spec.output.check()?;
    let arrival = spec.sockets().ok().and_then(|test| test.request_arrival());
    let seed = match arrival {
        Some(arrival) => Fact::Known(arrival.seed),
        None => Fact::unavailable("nothing in the run depends on a seed"),
    };
    let session = Session::begin(PROGRAM, seed)?;
    let progress = Progress::new(spec.show_intervals || Progress::visible());
    let case = row.entry.execute(PROGRAM, &spec, &progress);
    let mut hosts = vec![host::fingerprint()];
    hosts.extend(spec.server_host.get().cloned());
    program::emit(&session.finish_with_hosts(hosts, vec![case]), &spec.output)
}

/// A thousand flows need more descriptors than a shell usually grants; the hard limit is ours to
/// use. Where it does not suffice, the connection that fails says so.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_every_case_can_be_swept_by_its_long_name() {
        command().debug_assert();
        for case in CASES.iter().map(case) {
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
