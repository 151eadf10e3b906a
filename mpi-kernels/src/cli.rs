//! The command line: one subcommand per row of the table, with the options that make sense for it
//! and OSU's letters and defaults for them.

use crate::kernels::{KERNELS, Row, SizeRule};
use crate::spec::{self, MAX_WINDOW, Repeats, Sizes, Sweep};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use reports::program::{self, EXIT_CODES_HELP, OutputArgs, Usage};

/// What the user wants.
pub enum Request {
    /// To see the table of kernels.
    List,
    /// To run one.
    Run {
        /// Which.
        row: &'static Row,
        /// At which points.
        sweep: Sweep,
        /// Where the report goes.
        output: OutputArgs,
    },
}

const ABOUT: &str = "Measures MPI point-to-point and collective operations";

const LAUNCH_HELP: &str = "\
Start it under a launcher: `mpirun -n 2 mpi-kernels latency`, `srun -n 64 mpi-kernels allreduce`.
Rank 0 alone prints and writes the report. Point-to-point kernels use ranks 0 and 1: to measure the
network, put them on two nodes (Open MPI: --map-by node).

Interruption: after Ctrl-C mpirun sends every rank SIGTERM and kills it a second later (Open MPI:
--mca odls_base_sigkill_timeout SECONDS). Within that time the ranks agree to stop, and rank 0
writes what was measured, flagged `interrupted`; mpirun itself then exits with 1. If a rank dies,
mpirun ends the job.";

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    let list = Command::new("list").about("Show all kernels");
    Command::new(crate::PROGRAM)
        .about(ABOUT)
        .version(program::version())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(format!("{LAUNCH_HELP}\n\n{EXIT_CODES_HELP}"))
        .subcommand(list)
        .subcommands(KERNELS.iter().map(subcommand))
}

fn subcommand(row: &Row) -> Command {
    let command = Command::new(row.name)
        .after_help(format!(
            "Definition: {}\n\nMin ranks: {}.\n\n{EXIT_CODES_HELP}",
            row.definition, row.min_ranks
        ))
        .args(row.sizes.map(|rule| sizes_arg(&rule)))
        .args([
            repeats_arg("iterations", 'i', row.iterations, row.sizes.is_some())
                .help(match row.sizes {
                    Some(_) => "Timed iterations per size; LARGE for messages above 8192 bytes",
                    None => "Timed iterations",
                })
                .value_parser(spec::iterations),
            repeats_arg("warmup", 'x', row.warmup, row.sizes.is_some())
                .help("Iterations before the timed ones, not measured")
                .value_parser(str::parse::<Repeats>),
        ])
        .args(row.window.map(window_arg));
    // The output options bring a description of their own, which would replace an earlier one.
    OutputArgs::augment_args(command).about(row.summary)
}

fn sizes_arg(rule: &SizeRule) -> Arg {
    let mut help = "Message sizes in bytes (suffixes K, M, G), doubling from MIN to MAX".to_owned();
    if rule.multiple > 1 {
        help += &format!("; multiples of {}", rule.multiple);
    }
    if rule.least == 0 {
        help += "; MIN may be 0";
    }
    Arg::new("sizes")
        .short('m')
        .long("message-size")
        .value_name("[MIN:]MAX")
        .default_value(rule.default)
        .allow_hyphen_values(true)
        .value_parser(str::parse::<Sizes>)
        .help(help)
}

fn repeats_arg(name: &'static str, short: char, default: &'static str, sized: bool) -> Arg {
    let (default, value_name) = match default.split_once(':') {
        Some((small, _)) if !sized => (small, "N"),
        _ => (default, "N[:LARGE]"),
    };
    Arg::new(name)
        .short(short)
        .long(name)
        .value_name(value_name)
        .default_value(default)
        .allow_hyphen_values(true)
}

fn window_arg(default: &'static str) -> Arg {
    Arg::new("window")
        .short('W')
        .long("window-size")
        .value_name("N")
        .default_value(default)
        .allow_hyphen_values(true)
        .value_parser(spec::window)
        .help(format!(
            "Messages in flight before the receiver answers, 1 to {MAX_WINDOW}"
        ))
}

/// Reads a parsed command line.
///
/// # Errors
/// [`Usage`] for options that parse one by one but make no sense for the kernel, and clap's own
/// error for an inconsistency between this table and clap's.
pub fn request(matches: &ArgMatches) -> anyhow::Result<Request> {
    let Some((name, matches)) = matches.subcommand() else {
        // clap requires a subcommand.
        anyhow::bail!(Usage("name a kernel, or `list`".to_owned()));
    };
    let row = KERNELS.iter().find(|row| row.name == name);
    let Some(row) = row else {
        return Ok(Request::List);
    };
    Ok(Request::Run {
        row,
        sweep: sweep(row, matches)?,
        output: OutputArgs::from_arg_matches(matches)?,
    })
}

fn sweep(row: &Row, matches: &ArgMatches) -> Result<Sweep, Usage> {
    let repeats = |name| {
        // Both options have defaults.
        *matches
            .get_one::<Repeats>(name)
            .expect("the option has a default")
    };
    let sizes = row.sizes.zip(
        matches
            .try_get_one::<Sizes>("sizes")
            .ok()
            .flatten()
            .copied(),
    );
    let window = matches.try_get_one::<usize>("window").ok().flatten();
    Ok(Sweep {
        sizes: sizes
            .map(|(rule, sizes)| checked_sizes(row.name, &rule, sizes))
            .transpose()?,
        iterations: repeats("iterations"),
        warmup: repeats("warmup"),
        window: window.copied(),
    })
}

/// The sizes of a sweep, if the kernel takes them.
fn checked_sizes(kernel: &str, rule: &SizeRule, sizes: Sizes) -> Result<Vec<usize>, Usage> {
    let max = sizes.max;
    // A lone MAX below the default's beginning asks for that one size.
    let min = sizes.min.unwrap_or(rule.default_min.min(max));
    let refuse = |why: String| {
        Err(Usage(format!(
            "-m {min}:{max}: {why}; `mpi-kernels {kernel} --help` shows the sizes it takes"
        )))
    };
    if min < rule.least {
        return refuse(format!(
            "{kernel} takes messages of at least {} bytes",
            rule.least
        ));
    }
    if !min.is_multiple_of(rule.multiple) {
        return refuse(format!(
            "{min} is not a multiple of {}, the size of an element in bytes",
            rule.multiple
        ));
    }
    Ok(Sizes::doubling(min, max))
}

/// The table of kernels as text.
#[must_use]
pub fn list() -> String {
    let width = KERNELS.iter().map(|row| row.name.len()).max().unwrap_or(0);
    KERNELS
        .iter()
        .map(|row| {
            format!(
                "{:<width$}  {} (at least {} ranks)\n",
                row.name, row.summary, row.min_ranks
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<(Sweep, OutputArgs), String> {
        let args = [crate::PROGRAM].into_iter().chain(args.split(' '));
        let matches = command()
            .try_get_matches_from(args)
            .map_err(|error| error.to_string())?;
        match request(&matches).map_err(|error| error.to_string())? {
            Request::Run { sweep, output, .. } => Ok((sweep, output)),
            Request::List => Err("a list".to_owned()),
        }
    }

    fn refused(args: &str) -> String {
        parse(args).expect_err(args)
    }

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn defaults_are_osus() {
        let (sweep, output) = parse("latency").expect("defaults parse");
        let sizes = sweep.sizes.expect("latency has sizes");
        assert_eq!((sizes[0], sizes.len()), (1, 23));
        let at = |repeats: Repeats| (repeats.of(1), repeats.of(1 << 20));
        assert_eq!(at(sweep.iterations), (10_000, 1000));
        assert_eq!(at(sweep.warmup), (100, 10));
        assert!(!output.json && output.output.is_none());
        let (sweep, _) = parse("bw -m 8:64 -W 2 -i 5:3 -x 0").expect("it is well-formed");
        assert_eq!(sweep.sizes, Some(vec![8, 16, 32, 64]));
        assert_eq!((sweep.window, at(sweep.iterations)), (Some(2), (5, 3)));
        let (sweep, _) = parse("barrier -i 5").expect("it is well-formed");
        assert_eq!((sweep.sizes, sweep.window), (None, None));
    }

    #[test]
    fn options_without_meaning_for_a_kernel_are_refused() {
        for args in [
            "barrier -W 4",
            "barrier -m 8",
            "latency -W 4",
            "allreduce -W 1",
        ] {
            assert!(refused(args).contains("unexpected argument"), "{args}");
        }
    }

    #[test]
    fn sizes_that_a_kernel_does_not_take_are_refused() {
        assert!(refused("allreduce -m 1:8").contains("at least 4"));
        assert!(refused("allreduce -m 6:64").contains("not a multiple of 4"));
        assert!(refused("bw -m 0:8").contains("at least 1 bytes"));
        assert!(parse("latency -m 0:8").is_ok());
        let (sweep, _) = parse("allreduce -m 4").expect("one size");
        assert_eq!(sweep.sizes, Some(vec![4]));
    }

    #[test]
    fn the_list_has_every_kernel() {
        assert_eq!(list().lines().count(), KERNELS.len());
    }
}
