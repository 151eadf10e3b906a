//! `--sweep NAME=V1,V2,...`: one case under several values of its options, without a suite file.
//!
//! Nothing here measures or compares. A sweep becomes the text of a suite with one row, whose arms
//! are this very program with the values filled in; from there on it is a session like those of
//! `reports run`, which can also go on with it.

mod arms;

use crate::measure;
use crate::model;
use crate::perform::Performance;
use crate::program::{self, OutputArgs, Usage};
use crate::suite::{self, Asked, MAX_REPETITIONS, Plan, Session, SessionError, Suite};
use anyhow::Context;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A run by hand is killed by nobody, so the runs of a sweep are neither: this is as long as a
/// suite may wait.
const TIMEOUT_S: f64 = 1e7;

/// The suite's file in the session's folder.
const SUITE_FILE: &str = "sweep.toml";

/// The options of a sweep.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sweep")]
pub struct SweepArgs {
    /// Compare values of one of the options above: the case runs under each, in fresh processes
    /// that take turns in a drawn and then reversed order, as the arms of a suite of `reports run`.
    /// NAME is the option's long name; a value holds no comma; a flag has true and false; several
    /// --sweep multiply, up to 64 combinations. Ratios are to the first values. With it -o names the
    /// session's folder [default: a new one in bench-results], --json prints the ratios and all
    /// reports, and an arm that is unavailable here says why and fails nothing
    #[arg(long = "sweep", value_name = "NAME=V1,V2,...", value_parser = Axis::parse)]
    axes: Vec<Axis>,
    /// How often each combination runs
    #[arg(long, value_name = "N", default_value_t = 10, requires = "axes",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REPETITIONS)))]
    repetitions: u32,
    /// End early once the interval of every ratio is narrower than this, such as 2%
    #[arg(long, value_name = "PERCENT", requires = "axes", value_parser = suite::width)]
    stop_width: Option<f64>,
}

/// An option and the values that it takes in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Axis {
    name: String,
    values: Vec<String>,
}

impl Axis {
    fn parse(text: &str) -> Result<Self, String> {
        let Some((name, values)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err("name an option and its values, as in engine=plain,zerocopy".to_owned());
        };
        let values: Vec<String> = values.split(',').map(str::to_owned).collect();
        for (at, value) in values.iter().enumerate() {
            if value.is_empty() || value.contains(char::is_whitespace) {
                return Err(format!(
                    "{value:?} is no value: give values without spaces, with a comma between two"
                ));
            }
            if values[..at].contains(value) {
                return Err(format!("{value} stands there twice: leave one out"));
            }
        }
        if let [only] = values.as_slice() {
            return Err(format!(
                "one value alone has nothing to be compared with: add another, or give --{name} \
                 {only}"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            values,
        })
    }
}

/// What a program's case is, to be run under several values of its options.
pub struct Swept<'a> {
    /// The program's name.
    pub program: &'a str,
    /// The case's subcommand, as the program defines it.
    pub command: &'a Command,
    /// What the user gave.
    pub matches: &'a ArgMatches,
    /// Checks a command line of the case beyond what its parser does.
    pub check: &'a dyn Fn(&ArgMatches) -> anyhow::Result<()>,
}

/// Parses the command line of a program whose cases have the options of a sweep, or ends the
/// process as clap does. What one option requires of another may be what is swept, so there the
/// command lines of the arms are judged instead.
#[must_use]
pub fn matches(command: &Command) -> ArgMatches {
    let error = match command.clone().try_get_matches() {
        Ok(matches) => return matches,
        Err(error) => error,
    };
    let lenient = || command.clone().ignore_errors(true).try_get_matches();
    let sweeps = |matches: &ArgMatches| {
        let case = matches.subcommand().map(|(_, case)| case);
        // Not every subcommand is a case that can be swept.
        case.is_some_and(|case| matches!(case.try_contains_id("axes"), Ok(true)))
    };
    match error.kind() {
        ErrorKind::MissingRequiredArgument => match lenient() {
            Ok(matches) if sweeps(&matches) => matches,
            _ => error.exit(),
        },
        _ => error.exit(),
    }
}

#[derive(Serialize)]
struct SuiteText<'a> {
    name: String,
    description: String,
    repetitions: u32,
    timeout_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_width: Option<f64>,
    row: [RowText<'a>; 1],
}

#[derive(Serialize)]
struct RowText<'a> {
    name: &'a str,
    arm: Vec<ArmText>,
}

#[derive(Serialize)]
struct ArmText {
    name: String,
    command: Vec<String>,
}

impl SweepArgs {
    /// Whether a sweep was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        !self.axes.is_empty()
    }

    /// Runs the sweep and puts its result where the user asked.
    ///
    /// # Errors
    /// [`Usage`] before anything runs, if an option or a value does not fit the case; after that
    /// what cannot be read or written, and that a signal ended the session.
    pub fn run(&self, case: &Swept<'_>) -> anyhow::Result<ExitCode> {
        let output = OutputArgs::from_arg_matches(case.matches)?;
        let dir = folder(case, &output)?;
        output.check()?;
        let text = self.suite_text(case)?;
        let suite = Suite::parse(&text).map_err(|fault| Usage(format!("--sweep: {fault}")))?;
        measure::install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
        let seed = fastrand::u64(..);
        let (session, file) = open(&dir, &text, seed)?;
        let go_on = format!(
            "reports run {} --out {} --resume",
            file.display(),
            session.dir().display()
        );
        let performance = Performance {
            program: case.program,
            suite: &suite,
            plan: &Plan::new(&suite, seed),
            session: &session,
            go_on: &go_on,
            json: output.json,
        };
        performance.run()
    }

    /// The suite that the sweep is.
    fn suite_text(&self, case: &Swept<'_>) -> anyhow::Result<String> {
        let exe = std::env::current_exe().context("cannot tell where this program lies")?;
        let exe = exe.to_str().with_context(|| {
            format!(
                "--sweep: {} is no UTF-8: rename its folder",
                exe.to_string_lossy()
            )
        })?;
        let name = case.command.get_name();
        let arm = |arm: arms::Arm| ArmText {
            name: arm.name,
            command: [exe.to_owned(), name.to_owned()]
                .into_iter()
                .chain(arm.options)
                .collect(),
        };
        let arms = arms::of(&self.axes, case)?;
        let axes = self.axes.iter();
        let axes = axes.map(|axis| format!("--sweep {}={}", axis.name, axis.values.join(",")));
        let suite = SuiteText {
            name: format!("{} {name}", case.program),
            description: axes.collect::<Vec<_>>().join(" "),
            repetitions: self.repetitions,
            timeout_s: TIMEOUT_S,
            stop_width: self.stop_width,
            row: [RowText {
                name,
                arm: arms.into_iter().map(arm).collect(),
            }],
        };
        toml::to_string_pretty(&suite).context("cannot write the sweep as a suite")
    }
}

/// Where the session goes: where the user asked, or a new folder.
fn folder(case: &Swept<'_>, output: &OutputArgs) -> Result<PathBuf, Usage> {
    let Some(path) = &output.output else {
        let stamp = program::now().replace([':', '-'], "").replace('.', "-");
        let name = format!("{}-{}-{stamp}", case.program, case.command.get_name());
        return Ok(Path::new("bench-results").join(name));
    };
    let is_file = path.is_file() || path.extension().is_some_and(|end| end == "json");
    match is_file {
        false => Ok(path.clone()),
        true => Err(Usage(format!(
            "-o {}: a sweep writes a report per run, so -o names a folder, as in -o sweep",
            path.display()
        ))),
    }
}

/// Starts the session, its suite as a file beside it, with which `reports run` can go on.
fn open(dir: &Path, text: &str, seed: u64) -> anyhow::Result<(Session, PathBuf)> {
    let fault = |what: &str| Usage(format!("-o {}: {what}", dir.display()));
    let file = dir.join(SUITE_FILE);
    if file.exists() {
        let what = format!("it already holds a {SUITE_FILE}: choose another folder");
        return Err(fault(&what).into());
    }
    let session = Session::create(dir, text, seed, Asked::default());
    let session = session.map_err(|error| match error {
        SessionError::Exists { .. } => fault("it already holds a session: choose another folder"),
        SessionError::NotOurs { dir } => fault(&format!(
            "{} holds files that belong to no session: choose another folder",
            dir.display()
        )),
        SessionError::Busy { .. } => {
            fault("another session runs there: wait for its end, or choose another folder")
        }
        error => fault(&format!("{error}: choose another folder")),
    })?;
    model::write(&file, text).context("cannot write the sweep as a suite")?;
    Ok((session, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_a_name_and_two_values_at_least() {
        let axis = Axis::parse("engine=plain,uring").expect("well-formed");
        assert_eq!(axis.name, "engine");
        assert_eq!(axis.values, ["plain", "uring"]);
        // Only the first sign divides.
        let axis = Axis::parse("x=a=1,a=2").expect("well-formed");
        assert_eq!(axis.values, ["a=1", "a=2"]);
        for (text, words) in [
            ("engine", "engine=plain,zerocopy"),
            ("=a,b", "engine=plain,zerocopy"),
            ("engine=plain", "give --engine plain"),
            ("engine=plain,", "\"\" is no value"),
            ("engine=", "\"\" is no value"),
            ("engine=plain, uring", "without spaces"),
            ("engine=plain,uring,plain", "plain stands there twice"),
        ] {
            let fault = Axis::parse(text).expect_err("malformed");
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }
}
