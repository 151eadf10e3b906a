//! `reports compare`.

use super::export::Place;
use super::{complain, complain_of_all, ratios_of, say_incomplete};
use anyhow::Context;
use clap::{Args, ValueEnum};
use reports::compare::gate::Threshold;
use reports::compare::{
    Axis, CompareError, Comparison, Gate, MetricComparison, Options, Status, arms, compare,
};
use reports::model::{self, Report};
use reports::program::{self, Usage};
use reports::ratios;
use reports::render::export::{self, Format};
use reports::render::html::Page;
use reports::render::{compare as render, ratios as render_ratios, terminal::Style};
use reports::suite::Recorded;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "A and B are files, folders of reports, folders of `reports run`, or \
    quoted patterns. Two of them stand for A and B; of more, -- ends those of A:\n  \
    reports compare before/ after/\n  \
    reports compare 'old-*.json' -- new/ newer/\n  \
    reports compare results/ --arm old --arm new    two arms of one session, in pairs\n  \
    reports compare results/                        all arms of a session to their baselines\n\n\
    The unit is a run, so give each side at least 4 runs (10 are a good number). Runs with pair \
    ids are compared as pairs (from 6 pairs on), others as two groups.\n\
    A difference between the environments that is not named with --axis makes verdicts \
    `confounded`; another definition, parameter, unit or number of nodes makes a case \
    incomparable.\n\n\
    Exit codes: 0 pass, 1 regression (with --gate only), 2 wrong usage, 3 incomparable, 4 \
    insufficient or invalid data, or with --gate a case that B lacks. Of several the first counts \
    in the order 2, 1, 3, 4. A metric beyond the gate while the environments differ is \
    incomparable: hold them equal, or declare the difference with --axis.";

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// The baseline: report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "A")]
    a: Vec<PathBuf>,
    /// What is compared with it, after --; without --, the second of two paths
    #[arg(last = true, value_name = "B")]
    b: Vec<PathBuf>,
    /// Compare two arms of a session, A first: the arm's name, or a part of it such as engine=uring
    #[arg(long = "arm", value_name = "ARM")]
    arms: Vec<String>,
    /// A field whose difference is under study: instance_type, kernel.release, program.commit
    #[arg(long = "axis", value_name = "FIELD")]
    axes: Vec<Axis>,
    /// Fail if a metric's whole interval is worse by more than this, such as 3%
    #[arg(long, value_name = "PERCENT")]
    gate: Option<Threshold>,
    /// TOML file with thresholds: default = "3%", and by metric under [metrics]
    #[arg(long, value_name = "FILE")]
    gate_file: Option<PathBuf>,
    /// Compare every metric, not the headlines alone
    #[arg(long)]
    all: bool,
    /// Print the comparison as JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write it in another tool's format: csv, markdown, junit, github-annotations, github-summary
    #[arg(short, long, value_name = "FORMAT", value_parser = of_comparisons)]
    format: Option<Format>,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE", requires = "format")]
    output: Option<PathBuf>,
    /// Write a page too: the verdict, what differs, a forest plot, both sides' distributions
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A format that has a place for comparisons.
fn of_comparisons(name: &str) -> Result<Format, String> {
    let known = Format::from_str(name, false)?;
    if Format::OF_COMPARISONS.contains(&known) {
        return Ok(known);
    }
    Err(format!(
        "{name} has no place for a comparison; reports export writes it"
    ))
}

/// What a command line asks to be compared.
enum Wish<'a> {
    /// Two groups of paths.
    Groups([&'a [PathBuf]; 2]),
    /// Two arms of the runs of some paths.
    Arms(&'a [PathBuf], [&'a str; 2]),
    /// The arms of a session to their baselines.
    Session(&'a Path),
}

impl CompareArgs {
    fn wish(&self) -> Result<Wish<'_>, Usage> {
        let arms: Vec<&str> = self.arms.iter().map(String::as_str).collect();
        let is_option = |path: &&PathBuf| path.as_os_str().as_encoded_bytes().starts_with(b"--");
        if let Some(option) = self.b.iter().find(is_option).filter(|path| !path.exists()) {
            return Err(Usage(format!(
                "{}: what follows -- are the paths of B, so options stand before it",
                option.display()
            )));
        }
        match (self.a.as_slice(), self.b.as_slice(), arms.as_slice()) {
            (a, [], &[one, other]) => Ok(Wish::Arms(a, [one, other])),
            (_, _, [_, ..]) => Err(Usage(
                "--arm compares two arms of one session: give it twice, and the paths of that \
                 session alone"
                    .to_owned(),
            )),
            ([a, b], [], []) => {
                let of = std::slice::from_ref;
                Ok(Wish::Groups([of(a), of(b)]))
            }
            (a, b, []) if !b.is_empty() => Ok(Wish::Groups([a, b])),
            ([session], [], []) if session.join("session.json").is_file() => {
                match self.gate.is_some() || self.gate_file.is_some() || !self.axes.is_empty() {
                    false => Ok(Wish::Session(session)),
                    true => Err(Usage(
                        "--gate and --axis judge two groups: name the arms that they are with \
                         --arm A --arm B, or give a second path"
                            .to_owned(),
                    )),
                }
            }
            _ => Err(Usage(
                "compare takes two paths, or -- between the paths of A and those of B, or the \
                 folder of one session"
                    .to_owned(),
            )),
        }
    }
}

pub(crate) fn run(args: CompareArgs) -> anyhow::Result<ExitCode> {
    let place = match args.format {
        Some(format) => Place::of(format, args.output.as_deref())?,
        None => Place::Stdout,
    };
    let gate = match &args.gate_file {
        Some(path) => Some(Gate::load(path, args.gate).map_err(|e| Usage(e.to_string()))?),
        None => args.gate.map(Gate::new),
    };
    let mut options = Options {
        axes: args.axes.clone(),
        gate,
        all_metrics: args.all,
    };
    let Sides {
        sides,
        names,
        notes,
        faulty,
    } = match args.wish()? {
        Wish::Session(folder) => return of_session(folder, &args),
        Wish::Groups(groups) => Sides::of_groups(groups),
        Wish::Arms(paths, arms) => {
            let sides = Sides::of_arms(paths, arms)?;
            options
                .axes
                .extend(arms::axes(&sides.sides[0], &sides.sides[1]));
            sides
        }
    };
    for (name, reports) in ["A", "B"].iter().zip(&sides) {
        if reports.is_empty() {
            complain(format!("{name} has no report to read"));
            return Ok(ExitCode::from(Status::Insufficient.exit_code()));
        }
    }
    let mut comparison = match compare(&sides[0], &sides[1], &options) {
        Ok(comparison) => comparison,
        Err(error @ CompareError::OnBothSides { .. }) => {
            complain(error);
            return Ok(ExitCode::from(Status::Insufficient.exit_code()));
        }
        Err(error) => return Err(Usage(error.to_string()).into()),
    };
    let [name_a, name_b] = names;
    (comparison.a.name, comparison.b.name) = (name_a, name_b);
    if let Some(gate) = &options.gate {
        check_gate(gate, &comparison)?;
    }
    let text = match args.format {
        Some(format) => export::comparison(&comparison, format)?,
        None if args.json => {
            let json = serde_json::to_string_pretty(&comparison);
            json.context("cannot serialise the comparison")? + "\n"
        }
        None => render::comparison(&comparison, &Style::of_stdout()),
    };
    if let Some(path) = &args.html {
        let title = format!("{} against {}", comparison.b.name, comparison.a.name);
        let [a, b] = &sides;
        let page = Page::of_comparison(&title, [a, b], &comparison, &options.axes);
        model::write(path, &page.render()).context("cannot write the page")?;
    }
    place.put(text)?;
    notes.iter().for_each(complain);
    if !args.arms.is_empty() && comparison.cases.is_empty() && comparison.blocked.is_empty() {
        complain(
            "note: these arms have no case in common, as programs of different suites: `reports \
             compare DIR` sets them against each other by the metric that their row names",
        );
    }
    say_incomplete(faulty);
    let status = match comparison.status {
        Status::Pass if faulty > 0 => Status::Insufficient,
        status => status,
    };
    Ok(ExitCode::from(status.exit_code()))
}

/// A misspelt metric would gate nothing.
fn check_gate(gate: &Gate, comparison: &Comparison) -> Result<(), Usage> {
    let cases = comparison.cases.iter();
    let metrics: Vec<&MetricComparison> = cases.flat_map(|case| &case.metrics).collect();
    match gate.unused(&metrics).as_slice() {
        [] => Ok(()),
        [rule, ..] => Err(Usage(format!(
            "the gate file names {rule:?}, but no compared metric is it"
        ))),
    }
}

/// What is compared, and how to speak of it.
struct Sides {
    sides: [Vec<Report>; 2],
    names: [String; 2],
    notes: Vec<String>,
    /// How many files could not be read.
    faulty: usize,
}

impl Sides {
    fn of_groups(groups: [&[PathBuf]; 2]) -> Self {
        let [(a, faulty_a), (b, faulty_b)] = groups.map(load);
        Self {
            sides: [a, b],
            names: groups.map(in_words),
            notes: groups
                .into_iter()
                .flatten()
                .filter_map(|path| unfinished(path))
                .collect(),
            faulty: faulty_a + faulty_b,
        }
    }

    fn of_arms(paths: &[PathBuf], arms: [&str; 2]) -> Result<Self, Usage> {
        let (reports, faulty) = load(paths);
        let folder = in_words(paths);
        Ok(Self {
            sides: arms::split(reports, arms).map_err(|error| Usage(error.to_string()))?,
            names: arms.map(|arm| format!("{folder}, arm {arm}")),
            notes: paths.iter().filter_map(|path| unfinished(path)).collect(),
            faulty,
        })
    }
}

/// The first of the paths, and how many follow.
fn in_words(paths: &[PathBuf]) -> String {
    let first = paths
        .first()
        .map_or(String::new(), |path| path.display().to_string());
    match paths.len() {
        0 | 1 => first,
        count => format!("{first} and {} more", count - 1),
    }
}

/// Loads what can be loaded and says what cannot; how many those were comes with it.
fn load(paths: &[PathBuf]) -> (Vec<Report>, usize) {
    let (reports, faults) = model::load_all(paths);
    complain_of_all(&faults);
    (reports, faults.len())
}

/// A note if the folder's session was interrupted.
fn unfinished(folder: &Path) -> Option<String> {
    let recorded = Recorded::load(folder).ok()??;
    recorded.ended.is_none().then(|| {
        format!(
            "note: the session in {} has not ended, so runs may lack their partners; `reports run \
             ... --resume` goes on with it",
            folder.display()
        )
    })
}

/// The ratios of a session's arms, as `reports run` prints them at its end.
fn of_session(folder: &Path, args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let (reports, faulty) = load(&[folder.to_owned()]);
    let fault = |fault: String| Usage(format!("{}: {fault}", folder.display()));
    let ratios = ratios_of(folder, &reports).map_err(fault)?;
    if ratios.is_empty() {
        let what = "its rows have no arms with results: compare it with another path, as in \
                    reports compare before/ after/";
        return Err(fault(what.to_owned()).into());
    }
    if let Some(path) = &args.html {
        let title = folder.display().to_string();
        let page = Page::of_runs(&title, &reports).with_ratios(&ratios);
        model::write(path, &page.render()).context("cannot write the page")?;
    }
    let text = if args.json {
        let json = serde_json::to_string_pretty(&ratios);
        json.context("cannot serialise the ratios")? + "\n"
    } else {
        render_ratios::ratios(&ratios, &Style::of_stdout())
    };
    program::print(&text)?;
    if let Some(note) = unfinished(folder) {
        complain(note);
    }
    say_incomplete(faulty);
    let arms = ratios.iter().flat_map(|row| &row.arms);
    let told = |arm: &ratios::ArmRatio| arm.result.as_ref().is_ok_and(|c| c.effect.is_some());
    let status = match faulty == 0 && arms.clone().all(told) {
        true => Status::Pass,
        false => Status::Insufficient,
    };
    Ok(ExitCode::from(status.exit_code()))
}
