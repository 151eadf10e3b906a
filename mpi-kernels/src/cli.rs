//! The command line: one subcommand per row of the table, with the options that make sense for it
//! and OSU's letters and defaults for them.

use crate::kernels::{self, FAMILIES, Kind, Row, SizeRule};
use crate::spec::{
    self, Choice, ClockKind, ClockSource, Delay, MAX_WINDOW, Method, Repeats, Sizes, Sweep, Sync,
};
use clap::builder::PossibleValuesParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use reports::program::{self, EXIT_CODES_HELP, OutputArgs, Usage};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What the user wants.
pub enum Request {
    /// To see the table of kernels.
    List,
    /// To run one.
    Run {
        /// Which.
        row: &'static Row,
        /// At which points.
        sweep: Box<Sweep>,
        /// Where the report goes.
        output: OutputArgs,
    },
}

const ABOUT: &str =
    "Measures MPI point-to-point, collective and one-sided operations, and the nodes they run on";

/// The time budget of a point where iterations are the default's, too: a sweep of some twenty sizes
/// ends within half a minute, whatever the kernel. Who says how many means it.
const DEFAULT_BUDGET: Duration = Duration::from_secs(1);

const LAUNCH_HELP: &str = "\
Start it under a launcher: `mpirun -n 2 mpi-kernels latency`, `srun -n 64 mpi-kernels allreduce`.
Rank 0 alone prints and writes the report. Point-to-point kernels use ranks 0 and 1: to measure the
network, put them on two nodes (Open MPI: --map-by node).

Kernels of all ranks report the median over iterations of the largest time of all ranks. Where the
ranks share a clock (on one node, or with --clock hca3), entry_spread_ns says how far apart they
entered the operation, and slowest_beyond_p99 names the rank that made most of the iterations at and
beyond p99 slow: by entering last or, where that does not explain half of the time, by its own time.
Without such a clock own times are all there is.

Interruption: after Ctrl-C mpirun sends every rank SIGTERM and kills it a second later (Open MPI:
--mca odls_base_sigkill_timeout SECONDS). Within that time the ranks agree to stop, and rank 0
writes what was measured, flagged `interrupted`; mpirun itself then exits with 1.

Ranks that die or hang: every rank tells rank 0 over a TCP connection that it lives and how far it
is. When one dies, falls silent, or nobody makes progress for --deadline seconds, rank 0 names it,
writes a report of what was measured until then, and ends the job. So it is until all processes
are gone: of one that stops on its way out, after the report was written, the report stays.

Transport: the report says which way the library claims to use and whether the byte counters of
lo, of network and RDMA devices, and of the ranks' own sockets bear it out (transport_proof). Numbers
of a claim that they contradict are invalid.";

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
        .subcommands(kernels::all().map(subcommand))
}

fn subcommand(row: &'static Row) -> Command {
    let command = Command::new(row.name)
        .after_help(format!(
            "Definition: {}\n\nMin ranks: {}{}.\n\n{EXIT_CODES_HELP}",
            row.definition,
            row.min_ranks,
            if row.pairs { ", an even number" } else { "" }
        ))
        .args(row.sizes.map(|rule| sizes_arg(row, &rule)))
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
        .args(row.window.map(window_arg))
        .args(row.choices.iter().map(choice_arg))
        .args(method_args(row));
    // The output options bring a description of their own, which would replace an earlier one.
    OutputArgs::augment_args(command).about(row.summary)
}

fn choice_arg(choice: &'static Choice) -> Arg {
    let arg = Arg::new(choice.name()).long(choice.name());
    match choice {
        Choice::Flag { help, .. } => arg.help(*help).action(ArgAction::SetTrue),
        Choice::Words {
            help,
            values,
            default,
            ..
        } => arg
            .help(format!("{help}; several with commas"))
            .value_delimiter(',')
            .default_value(*default)
            .value_parser(PossibleValuesParser::new(*values)),
        Choice::Count {
            help,
            least,
            most,
            default,
            ..
        } => arg
            .help(*help)
            .value_name("N")
            .default_value(*default)
            .value_parser(value_parser!(u64).range(*least..=*most)),
        Choice::Text {
            help,
            default,
            check,
            ..
        } => arg
            .help(*help)
            .default_value(*default)
            .value_parser(move |text: &str| check(text).map(|()| text.to_owned())),
    }
}

/// How a kernel is measured: for those of iterations, for those of all ranks, and for all.
fn method_args(row: &Row) -> Vec<Arg> {
    let mut args = Vec::new();
    if matches!(row.kind, Kind::Timed(_)) {
        args.extend(ending_args());
    }
    args.push(
        Arg::new("spoil")
            .long("spoil")
            .action(ArgAction::SetTrue)
            .hide(true)
            .help("Damage a byte of what arrives before it is compared, to test the checks"),
    );
    if row.synchronised {
        args.extend(beginning_args());
    }
    args.push(
        Arg::new("topology")
            .long("topology")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("What `aws ec2 describe-instance-topology` printed: the network above each node"),
    );
    args.push(
        Arg::new("deadline")
            .long("deadline")
            .value_name("SECONDS")
            .default_value("60")
            .value_parser(seconds)
            .help(
                "End the job when no rank made progress for so long, name the rank that is behind, \
                 and report what was measured",
            ),
    );
    args
}

/// When a point of a kernel of iterations ends, and where its samples go.
fn ending_args() -> [Arg; 3] {
    [
        Arg::new("time-budget")
            .long("time-budget")
            .value_name("SECONDS")
            .allow_hyphen_values(true)
            .value_parser(seconds)
            .help(
                "The longest that the timed iterations of a point last, and its warm-up \
                     likewise, to about a batch of 100 ms [default: 1, or no limit with -i]",
            ),
        Arg::new("ci-width")
            .long("ci-width")
            .value_name("SHARE")
            .allow_hyphen_values(true)
            .value_parser(share)
            .help(
                "Stop a point when the 95 % interval of its median is no wider than this share \
                     of it, as in 0.02 or 2%, after 30 iterations [default: all iterations]",
            ),
        Arg::new("raw")
            .long("raw")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help(
                "Write every rank's time of every iteration there, as CSV: \
                     case,size_bytes,iteration,rank,host,ns; `invalid` for ns where a rank was \
                     late for a round; only rank 0's where it alone times",
            ),
    ]
}

/// How the iterations of a kernel of all ranks begin; the first two are for tests.
fn beginning_args() -> [Arg; 4] {
    [
        // For tests: is a late rank found out?
        Arg::new("delay")
            .long("delay")
            .hide(true)
            .value_name("RANK:MICROSECONDS:SHARE")
            .value_parser(str::parse::<Delay>),
        // For tests: time namespaces shift the kernel's clock by a known amount.
        Arg::new("clock-source")
            .long("clock-source")
            .hide(true)
            .value_parser(value_parser!(ClockSource)),
        Arg::new("sync")
            .long("sync")
            .default_value("barrier")
            .value_parser(value_parser!(Sync))
            .help("What makes the ranks begin an iteration together"),
        Arg::new("clock")
            .long("clock")
            .default_value("none")
            .value_parser(value_parser!(ClockKind))
            .help(
                "Whether the nodes' clocks are fitted to one, anew at each point; the report \
                     then has each node's model and how far off it was at the end",
            ),
    ]
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: give seconds, as in 10 or 0.5");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if seconds <= 0.0 {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(share) if share > 0.0 && share < unit => Ok(share / unit),
        _ => Err(format!(
            "{text:?} is no share: give more than 0 and less than 1, as in 0.02 or 2%"
        )),
    }
}

fn sizes_arg(row: &Row, rule: &SizeRule) -> Arg {
    let mut help = "Message sizes in bytes (suffixes K, M, G), doubling from MIN to MAX".to_owned();
    if row.choices.iter().any(|choice| choice.name() == "type") {
        help += "; multiples of an element";
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
            "Messages or operations in flight at a time, 1 to {MAX_WINDOW}"
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
    let Some(row) = kernels::find(name) else {
        return Ok(Request::List);
    };
    Ok(Request::Run {
        row,
        sweep: Box::new(sweep(row, matches)?),
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
    let window = matches.try_get_one::<usize>("window").ok().flatten();
    let sweep = Sweep {
        sizes: matches
            .try_get_one::<Sizes>("sizes")
            .ok()
            .flatten()
            .copied(),
        iterations: repeats("iterations"),
        warmup: repeats("warmup"),
        window: window.copied(),
        choices: row
            .choices
            .iter()
            .map(|choice| (choice.param(), values(choice, matches)))
            .filter(|(_, values)| !values.is_empty())
            .collect(),
        method: method(matches)?,
    };
    // What the sizes cannot be is found here, before MPI is initialised.
    for combination in sweep.combinations() {
        sizes_of(row, &sweep, combination.get("type"))?;
    }
    Ok(sweep)
}

/// The values that a choice was given; none for a hidden one that was not.
fn values(choice: &Choice, matches: &ArgMatches) -> Vec<Value> {
    let name = choice.name();
    match choice {
        Choice::Flag { .. } => vec![json!(matches.get_flag(name))],
        Choice::Words { .. } => matches
            .get_many::<String>(name)
            .into_iter()
            .flatten()
            .map(|word| json!(word))
            .collect(),
        Choice::Count { .. } => vec![json!(matches.get_one::<u64>(name))],
        Choice::Text { .. } => vec![json!(matches.get_one::<String>(name))],
    }
}

fn method(matches: &ArgMatches) -> Result<Method, Usage> {
    fn given<T: Clone + Send + std::marker::Sync + 'static>(
        matches: &ArgMatches,
        name: &str,
    ) -> Option<T> {
        matches.try_get_one::<T>(name).ok().flatten().cloned()
    }
    let counted = matches.value_source("iterations") != Some(ValueSource::DefaultValue);
    // Kernels with a schedule of their own have no budget.
    let has_budget = matches.try_contains_id("time-budget").is_ok();
    let of_default = (has_budget && !counted).then_some(DEFAULT_BUDGET);
    let method = Method {
        sync: given(matches, "sync").unwrap_or_default(),
        clock: given(matches, "clock").unwrap_or_default(),
        time_budget: given(matches, "time-budget").or(of_default),
        ci_width: given(matches, "ci-width"),
        raw: given(matches, "raw"),
        delay: given(matches, "delay"),
        clock_source: given(matches, "clock-source").unwrap_or_default(),
        topology: given(matches, "topology"),
        // The option has a default.
        deadline: given(matches, "deadline").unwrap_or(Duration::from_secs(60)),
        spoil: given(matches, "spoil").unwrap_or_default(),
    };
    if method.sync == Sync::RoundTime && method.clock == ClockKind::None {
        return Err(Usage(
            "--sync round-time needs a clock that all ranks share: add --clock hca3".to_owned(),
        ));
    }
    Ok(method)
}

/// The message sizes of a kernel for elements of a type; `None` for a kernel without messages.
///
/// # Errors
/// Sizes that the kernel does not take.
pub fn sizes_of(
    row: &Row,
    sweep: &Sweep,
    element_type: Option<&Value>,
) -> Result<Option<Vec<usize>>, Usage> {
    let Some((rule, sizes)) = row.sizes.zip(sweep.sizes) else {
        return Ok(None);
    };
    let element = element_type
        .and_then(Value::as_str)
        .map_or(1, spec::element_bytes);
    let max = sizes.max;
    let least = rule.least.next_multiple_of(element);
    // A lone MAX below the default's beginning asks for that one size.
    let default_min = rule.default_min.next_multiple_of(element);
    let is_default = rule.default.parse() == Ok(sizes);
    let min = match sizes.min {
        Some(min) if !is_default => min,
        _ => default_min.min(max),
    };
    let refuse = |why: String| {
        let kernel = row.name;
        Err(Usage(format!(
            "-m {min}:{max}: {why}; `mpi-kernels {kernel} --help` shows the sizes it takes"
        )))
    };
    if min < least {
        let kernel = row.name;
        return refuse(format!("{kernel} takes messages of at least {least} bytes"));
    }
    if !min.is_multiple_of(element) {
        return refuse(format!(
            "{min} is not a multiple of {element}, the size of an element in bytes"
        ));
    }
    Ok(Some(Sizes::doubling(min, max)))
}

/// The table of kernels as text.
#[must_use]
pub fn list() -> String {
    let width = kernels::all().map(|row| row.name.len()).max().unwrap_or(0);
    let line = |row: &Row| {
        format!(
            "  {:<width$}  {} (at least {} {})\n",
            row.name,
            row.summary,
            row.min_ranks,
            if row.min_ranks == 1 { "rank" } else { "ranks" }
        )
    };
    FAMILIES
        .iter()
        .filter(|family| !family.rows.is_empty())
        .map(|family| {
            let lines: String = family.rows.iter().map(line).collect();
            format!("{}\n{lines}", family.title)
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
            Request::Run { sweep, output, .. } => Ok((*sweep, output)),
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
        let sizes = |kernel: &str, sweep: &Sweep| {
            let row = kernels::find(kernel).expect(kernel);
            let element_type = sweep.combinations()[0].get("type").cloned();
            sizes_of(row, sweep, element_type.as_ref()).expect("they are well-formed")
        };
        let of_latency = sizes("latency", &sweep).expect("latency has sizes");
        assert_eq!((of_latency[0], of_latency.len()), (1, 23));
        let at = |repeats: Repeats| (repeats.of(1), repeats.of(1 << 20));
        assert_eq!(at(sweep.iterations), (10_000, 1000));
        assert_eq!(at(sweep.warmup), (100, 10));
        assert_eq!(sweep.method.time_budget, Some(DEFAULT_BUDGET));
        assert!(!output.json && output.output.is_none());
        let (sweep, _) = parse("bw -m 8:64 -W 2 -i 5:3 -x 0").expect("it is well-formed");
        assert_eq!(sizes("bw", &sweep), Some(vec![8, 16, 32, 64]));
        assert_eq!((sweep.window, at(sweep.iterations)), (Some(2), (5, 3)));
        assert_eq!(sweep.method.time_budget, None, "who counts means it");
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
        let row = kernels::find("allreduce").expect("it is there");
        let sizes = |element| sizes_of(row, &sweep, Some(&json!(element)));
        assert_eq!(sizes("f32").ok(), Some(Some(vec![4])));
        assert!(sizes("f64").is_err(), "an element has 8 bytes");
    }

    #[test]
    fn the_list_has_every_kernel() {
        for row in kernels::all() {
            assert!(list().contains(&format!("  {} ", row.name)), "{}", row.name);
        }
    }
}
