//! Running a suite: one process after another, each with a deadline, each report kept as it comes.

use super::nodes;
use super::process::{Ended, OWN_PROGRAMS, execute, resolved, tail};
use super::stopping::{Stopped, Stopping};
use super::{Plan, Scheduled, Session, SessionError, Suite, Unit};
use crate::host;
use crate::import::{self, Format};
use crate::model::{self, Benchmark, Case, Outcome, Report};
use crate::program;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::ExitStatus;

/// What happens while a suite runs.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// A run starts.
    Started {
        /// What runs.
        unit: &'a Unit,
        /// Which repetition, counted from 1.
        repetition: u32,
    },
    /// A run ended and its report is kept.
    Finished {
        /// What ran.
        unit: &'a Unit,
        /// Its report; where each node wrote one, the first.
        report: &'a Report,
    },
    /// A run was finished by an earlier session.
    Found {
        /// What ran.
        unit: &'a Unit,
    },
    /// A run is not needed.
    NotNeeded {
        /// Why its row needs no further rounds.
        stopped: &'a Stopped,
    },
}

/// Watches a suite run.
pub trait Progress {
    /// Takes one event.
    fn event(&mut self, event: &RunEvent<'_>);
}

/// What came of a session.
#[derive(Debug)]
pub struct Ran {
    /// All its reports, in the order in which they ran.
    pub reports: Vec<Report>,
    /// The rows that needed fewer rounds than planned.
    pub stopped: Vec<Stopped>,
    /// How it ended.
    pub verdict: Verdict,
}

/// How a suite ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every run that was needed has its report.
    Complete,
    /// A signal ended it; what is finished is kept.
    Interrupted {
        /// Finished runs.
        finished: usize,
        /// Planned runs.
        planned: usize,
    },
}

/// Runs what the session has not finished yet.
///
/// # Errors
/// What cannot be read or written in the session's folder. A run that fails is no error here: its
/// report says so.
pub fn run(
    suite: &Suite,
    plan: &Plan,
    session: &Session,
    progress: &mut dyn Progress,
) -> Result<Ran, SessionError> {
    let mut reports = Vec::with_capacity(plan.order.len());
    let mut stopping = Stopping::new(suite, plan);
    let mut finished = 0;
    for (index, &scheduled) in plan.order.iter().enumerate() {
        let unit = &plan.units[scheduled.unit];
        let found = session.finished(plan, scheduled)?;
        if let Some(report) = found.first() {
            progress.event(&RunEvent::Found { unit });
            stopping.count(scheduled, report);
            finished += 1;
            reports.extend(found);
            continue;
        }
        if let Some(stopped) = stopping.not_needed(scheduled) {
            progress.event(&RunEvent::NotNeeded { stopped });
            continue;
        }
        let repetition = scheduled.repetition;
        progress.event(&RunEvent::Started { unit, repetition });
        let Some(mut of_run) = run_once(plan, session, scheduled)? else {
            let planned = plan.order.len();
            let verdict = Verdict::Interrupted { finished, planned };
            let stopped = stopping.into_stopped();
            return Ok(Ran {
                reports,
                stopped,
                verdict,
            });
        };
        for report in &mut of_run {
            report.run.session = Some(place(suite, plan, session, index));
        }
        session.keep(plan, scheduled, &of_run)?;
        for report in of_run.iter().take(1) {
            stopping.count(scheduled, report);
            progress.event(&RunEvent::Finished { unit, report });
        }
        finished += 1;
        reports.extend(of_run);
    }
    session.end()?;
    Ok(Ran {
        reports,
        stopped: stopping.into_stopped(),
        verdict: Verdict::Complete,
    })
}

/// Where the run at this index of the order stands in the session.
fn place(suite: &Suite, plan: &Plan, session: &Session, index: usize) -> model::Session {
    let scheduled = plan.order[index];
    let unit = &plan.units[scheduled.unit];
    let counted = |index: usize| u32::try_from(index + 1).unwrap_or(u32::MAX);
    model::Session {
        id: session.id().to_owned(),
        suite: suite.name.clone(),
        row: unit.row.clone(),
        position: counted(scheduled.unit),
        repetition: scheduled.repetition,
        order_index: counted(index),
        pair_id: plan.pair_id(scheduled),
        arm: unit.arm.clone(),
    }
}

/// One run in a process of its own, with the reports that it wrote, at least one; `None` if a signal
/// asked the session to stop.
fn run_once(
    plan: &Plan,
    session: &Session,
    scheduled: Scheduled,
) -> Result<Option<Vec<Report>>, SessionError> {
    let unit = &plan.units[scheduled.unit];
    if let Some(reason) = unit.needs.and_then(nodes::lacks) {
        let outcome = Outcome::Skipped { reason };
        let report = stand_in(unit, &unit.command, program::now(), outcome);
        return Ok(Some(vec![report]));
    }
    let log_path = session.log_path(plan, scheduled);
    let io_error = |what: String| move |source| SessionError::Io { what, source };
    let log = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&log_path)
        .map_err(io_error(format!("write {}", log_path.display())))?;
    let scratch = tempfile::tempdir_in(session.scratch()).map_err(io_error(format!(
        "make a folder in {}",
        session.scratch().display()
    )))?;
    let wanted = scratch.path().join("report.json");
    let mut argv = resolved(&unit.command, unit);
    let started = program::now();
    let (ended, reports) = work(unit, &wanted, &mut argv, &log, &started)?;
    let fault = match (&ended, reports) {
        (Ended::Exited(_), Ok(reports)) => {
            // The log is for finding out what went wrong: it is kept only if something did.
            let cases = reports.iter().flat_map(|report| &report.cases);
            if program::exit_code(cases) == program::EXIT_MEASURED {
                let _ = fs::remove_file(&log_path);
            }
            return Ok(Some(reports));
        }
        (_, Ok(_)) => String::new(),
        (_, Err(_)) if !wanted.exists() => " and wrote no report".to_owned(),
        (_, Err(fault)) => format!(": {fault}"),
    };
    let outcome = match ended {
        Ended::Stopped => {
            let _ = fs::remove_file(&log_path);
            return Ok(None);
        }
        Ended::Exited(status) => without_report(&argv, status, &fault, log, remedy(unit)),
        Ended::TimedOut => {
            let limit = unit.timeout.as_secs_f64();
            let tail = tail(log);
            let error = format!(
                "{}: no end after {limit} s, so it was killed{tail}",
                argv[0]
            );
            Outcome::Failed { error }
        }
        Ended::Missing(program) => {
            let _ = fs::remove_file(&log_path);
            let reason = format!(
                "{program} is not installed: scripts/setup installs what the suite needs, with \
                 --peers other benchmarks too"
            );
            Outcome::Skipped { reason }
        }
        Ended::NotStarted(error) => Outcome::Failed {
            error: format!("cannot start {}: {error}", argv[0]),
        },
        Ended::NoServer(error) => Outcome::Failed {
            error: format!("{} has no server: {error}{}", argv[0], tail(log)),
        },
    };
    let outcome = without_device(unit.import, outcome);
    Ok(Some(vec![stand_in(unit, &argv, started, outcome)]))
}

/// Runs the command, which leaves its report, or what is to become one, at `wanted`.
fn work(
    unit: &Unit,
    wanted: &Path,
    argv: &mut Vec<String>,
    log: &File,
    started: &str,
) -> Result<(Ended, Result<Vec<Report>, String>), SessionError> {
    let work = match unit.import {
        None => {
            // What ends with a slash is a folder, in which each process finds a name of its own.
            let slash = if unit.per_node { "/" } else { "" };
            argv.extend(["-o".to_owned(), format!("{}{slash}", wanted.display())]);
            let ended = execute(unit, argv, log, log);
            let reports = match unit.per_node {
                true => nodes::collect(wanted),
                false => model::load(wanted).map(|report| vec![report]),
            };
            (ended, reports.map_err(|error| error.to_string()))
        }
        Some(format) => {
            let stdout = File::create_new(wanted).map_err(|source| SessionError::Io {
                what: format!("write {}", wanted.display()),
                source,
            })?;
            let ended = execute(unit, argv, &stdout, log);
            let report = imported(format, wanted, argv, started);
            if report.is_err() {
                // What could not be imported is what one wants to see; the log is a courtesy.
                let printed = File::open(wanted);
                let _ = printed.and_then(|mut printed| io::copy(&mut printed, &mut &*log));
            }
            (ended, report.map(|report| vec![report]))
        }
    };
    Ok(work)
}

/// A peer that says that there is no device for it did not fail.
fn without_device(format: Option<Format>, outcome: Outcome) -> Outcome {
    match (format, outcome) {
        (Some(format), Outcome::Failed { error }) if format.lacks_device(&error) => {
            Outcome::Skipped { reason: error }
        }
        (_, outcome) => outcome,
    }
}

/// What to do about a program that writes no report, if it is none of this suite's.
fn remedy(unit: &Unit) -> &'static str {
    let own = |word: &String| OWN_PROGRAMS.iter().any(|own| word.contains(own));
    match unit.import.is_some() || unit.command.iter().any(own) {
        true => "",
        false => {
            "; if it knows no `-o FILE`, which was added, let its row say whose output it prints, \
             as in import = \"fio\""
        }
    }
}

/// What a peer printed, as a report of this machine.
fn imported(
    format: Format,
    printed: &Path,
    argv: &[String],
    started: &str,
) -> Result<Report, String> {
    let text = fs::read_to_string(printed).map_err(|error| error.to_string())?;
    let context = import::Context {
        source: argv[0].clone(),
        argv: argv.to_vec(),
        started: Some(started.to_owned()),
        ended: Some(program::now()),
        host: Some(host::fingerprint()),
    };
    import::import(&text, Some(format), &context).map_err(|error| error.to_string())
}

/// What to say of a process that ended without a readable report.
fn without_report(
    argv: &[String],
    status: ExitStatus,
    fault: &str,
    log: File,
    remedy: &str,
) -> Outcome {
    let text = format!("{} ended with {status}{fault}{}", argv[0], tail(log));
    if status.code() == Some(program::EXIT_UNAVAILABLE.into()) {
        return Outcome::Skipped { reason: text };
    }
    Outcome::Failed {
        error: text + remedy,
    }
}

/// The name of one of the suite's own programs, which a word names alone or by a path.
fn own_program(word: &str) -> Option<&str> {
    let name = Path::new(word).file_name()?.to_str()?;
    OWN_PROGRAMS.contains(&name).then_some(name)
}

/// The report of a run that could not write its own.
fn stand_in(unit: &Unit, argv: &[String], started: String, outcome: Outcome) -> Report {
    let own = |word: &String| own_program(word).is_some();
    let at = unit.command.iter().position(own).unwrap_or(0);
    let (word, rest) = (&unit.command[at], &unit.command[at + 1..]);
    let name = own_program(word).unwrap_or(word);
    let case = rest
        .first()
        .filter(|word| !word.starts_with('-'))
        .unwrap_or(&unit.row);
    let mut params = serde_json::Map::new();
    params.insert("command".to_owned(), unit.command.join(" ").into());
    let definition = program::STAND_IN_DEFINITION;
    let benchmark = Benchmark::new(format!("{name}/{case}"), definition, params);
    let case = Case { benchmark, outcome };
    let mut report = program::Session::stand_in(name, started)
        .finish_with_hosts(vec![host::fingerprint()], vec![case]);
    report.run.argv = argv.to_vec();
    report
}
