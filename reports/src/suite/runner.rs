//! Running a suite: one process after another, each with a deadline, each report kept as it comes.

use super::{Row, Scheduled, Session, SessionError, Suite};
use crate::host;
use crate::model::{self, Benchmark, Case, Outcome, Report};
use crate::program;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The suite's own programs, which are found beside `reports` before the PATH is searched.
const OWN_PROGRAMS: [&str; 4] = ["net-bench", "storage-bench", "mpi-kernels", "reports"];

/// How long a run has to end in good order after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How often a waiting runner looks at its child and at the stop flag.
const POLL: Duration = Duration::from_millis(5);

/// How much of a failed run's output goes into its error.
const TAIL_BYTES: u64 = 2000;

/// What happens while a suite runs.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// A run starts.
    Started {
        /// Its row.
        row: &'a Row,
        /// Which repetition, counted from 1.
        repetition: u32,
    },
    /// A run ended and its report is kept.
    Finished {
        /// Its row.
        row: &'a Row,
        /// Its report.
        report: &'a Report,
    },
    /// A run was finished by an earlier session.
    Found {
        /// Its row.
        row: &'a Row,
    },
}

/// Watches a suite run.
pub trait Progress {
    /// Takes one event.
    fn event(&mut self, event: &RunEvent<'_>);
}

/// How a suite ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every run has its report.
    Complete,
    /// A signal ended it; what is finished is kept.
    Interrupted {
        /// Finished runs.
        finished: usize,
        /// Planned runs.
        planned: usize,
    },
}

/// Runs what the session has not finished yet and returns all its reports in schedule order.
///
/// # Errors
/// What cannot be read or written in the session's folder. A run that fails is no error here: its
/// report says so.
pub fn run(
    suite: &Suite,
    session: &Session,
    progress: &mut dyn Progress,
) -> Result<(Vec<Report>, Verdict), SessionError> {
    let schedule = suite.schedule();
    let mut reports = Vec::with_capacity(schedule.len());
    for (index, &scheduled) in schedule.iter().enumerate() {
        let row = &suite.rows[scheduled.row];
        if let Some(report) = session.finished(suite, scheduled)? {
            progress.event(&RunEvent::Found { row });
            reports.push(report);
            continue;
        }
        progress.event(&RunEvent::Started {
            row,
            repetition: scheduled.repetition,
        });
        let Some(mut report) = run_once(suite, session, scheduled)? else {
            let finished = reports.len();
            let verdict = Verdict::Interrupted {
                finished,
                planned: schedule.len(),
            };
            return Ok((reports, verdict));
        };
        report.run.session = Some(model::Session {
            id: session.id.clone(),
            suite: suite.name.clone(),
            row: row.name.clone(),
            repetition: scheduled.repetition,
            order_index: u32::try_from(index + 1).unwrap_or(u32::MAX),
            pair_id: None,
            arm: None,
        });
        session.keep(suite, scheduled, &report)?;
        progress.event(&RunEvent::Finished {
            row,
            report: &report,
        });
        reports.push(report);
    }
    Ok((reports, Verdict::Complete))
}

/// One run in a process of its own; `None` if a signal asked the session to stop.
fn run_once(
    suite: &Suite,
    session: &Session,
    scheduled: Scheduled,
) -> Result<Option<Report>, SessionError> {
    let row = &suite.rows[scheduled.row];
    let log_path = session.log_path(suite, scheduled);
    let io_error = |what: String| move |source| SessionError::Io { what, source };
    let log = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&log_path)
        .map_err(io_error(format!("write {}", log_path.display())))?;
    let scratch = tempfile::tempdir_in(session.dir()).map_err(io_error(format!(
        "make a folder in {}",
        session.dir().display()
    )))?;
    let wanted = scratch.path().join("report.json");
    let argv = command_line(row, &wanted);
    let started = program::now();

    let ended = match spawn(&argv, suite, row, &log) {
        Ok(child) => wait(child, suite.timeout_of(row)),
        Err(error) => Ended::NotStarted(error),
    };
    let outcome = match ended {
        Ended::Stopped => {
            let _ = fs::remove_file(&log_path);
            return Ok(None);
        }
        Ended::Exited(status) => match model::load(&wanted) {
            Ok(report) => {
                // The log is for finding out what went wrong; with a report that says it, it is
                // kept only if something did.
                if program::exit_code(&report.cases) == program::EXIT_MEASURED {
                    let _ = fs::remove_file(&log_path);
                }
                return Ok(Some(report));
            }
            Err(error) => without_report(&argv, status, &error, wanted.exists(), log),
        },
        Ended::TimedOut => {
            let limit = suite.timeout_of(row).as_secs_f64();
            let tail = tail(log);
            let error = format!(
                "{}: no end after {limit} s, so it was killed{tail}",
                argv[0]
            );
            Outcome::Failed { error }
        }
        Ended::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => {
            let _ = fs::remove_file(&log_path);
            let reason = format!(
                "{} is not installed: scripts/setup installs what the suite needs",
                argv[0]
            );
            Outcome::Skipped { reason }
        }
        Ended::NotStarted(error) => Outcome::Failed {
            error: format!("cannot start {}: {error}", argv[0]),
        },
    };
    Ok(Some(stand_in(row, &argv, started, outcome)))
}

/// How a child ended.
enum Ended {
    Exited(ExitStatus),
    TimedOut,
    Stopped,
    NotStarted(io::Error),
}

/// The row's command with the suite's own programs as paths and the report's place at the end.
fn command_line(row: &Row, report: &Path) -> Vec<String> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let resolve = |word: &String| {
        let own = OWN_PROGRAMS.contains(&word.as_str());
        let path = beside.as_ref().filter(|_| own).map(|dir| dir.join(word));
        match path.filter(|path| path.is_file()) {
            Some(path) => path.to_string_lossy().into_owned(),
            None => word.clone(),
        }
    };
    let output = ["-o".to_owned(), report.to_string_lossy().into_owned()];
    row.command.iter().map(resolve).chain(output).collect()
}

fn spawn(argv: &[String], suite: &Suite, row: &Row, log: &File) -> io::Result<Child> {
    let env: BTreeMap<_, _> = suite.env.iter().chain(&row.env).collect();
    // A group of its own, so that a launcher and all it started end together.
    Command::new(&argv[0])
        .args(&argv[1..])
        .envs(env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .process_group(0)
        .spawn()
}

/// Waits for a child, a deadline or a stop request, and leaves no process behind.
fn wait(mut child: Child, limit: Duration) -> Ended {
    let started = Instant::now();
    let ended = loop {
        if has_ended(&child) {
            break None;
        } else if crate::measure::stop_requested() {
            break Some(Ended::Stopped);
        } else if started.elapsed() >= limit {
            break Some(Ended::TimedOut);
        }
        std::thread::sleep(POLL);
    };
    if ended.is_some() {
        signal(&child, Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < GRACE && !has_ended(&child) {
            std::thread::sleep(POLL);
        }
    }
    // A launcher that ended or crashed may have left ranks behind: nothing of a run outlives it.
    signal(&child, Signal::SIGKILL);
    let status = child.wait();
    ended.unwrap_or_else(|| status.map_or_else(Ended::NotStarted, Ended::Exited))
}

/// Whether the child has ended. It is not reaped here, so its process group stays its own and can
/// be signalled without hitting a stranger that got the same number.
fn has_ended(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    !matches!(
        waitid(Id::Pid(pid(child)), flags),
        Ok(WaitStatus::StillAlive)
    )
}

fn pid(child: &Child) -> Pid {
    // Linux pids are positive and below 2²².
    Pid::from_raw(child.id() as i32)
}

fn signal(child: &Child, signal: Signal) {
    // The group may be gone already, which is what was wanted.
    let _ = killpg(pid(child), signal);
}

/// What to say of a process that ended without a readable report.
fn without_report(
    argv: &[String],
    status: ExitStatus,
    error: &model::LoadError,
    written: bool,
    log: File,
) -> Outcome {
    let tail = tail(log);
    let problem = if written {
        format!(": {error}")
    } else {
        " and wrote no report".to_owned()
    };
    let text = format!("{} ended with {status}{problem}{tail}", argv[0]);
    if !written && status.code() == Some(program::EXIT_UNAVAILABLE.into()) {
        return Outcome::Skipped { reason: text };
    }
    Outcome::Failed { error: text }
}

/// The end of what a run printed, as the end of an error message.
fn tail(mut log: File) -> String {
    let read = (|| -> io::Result<String> {
        let length = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        log.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    })();
    match read {
        Ok(text) if text.is_empty() => "; it printed nothing".to_owned(),
        Ok(text) => format!("; it printed: {text}"),
        Err(error) => format!("; its output cannot be read: {error}"),
    }
}

/// The report of a run that could not write its own.
fn stand_in(row: &Row, argv: &[String], started: String, outcome: Outcome) -> Report {
    let name = row
        .command
        .iter()
        .find(|word| OWN_PROGRAMS.contains(&word.as_str()));
    let name = name.unwrap_or(&row.command[0]);
    let case = row
        .command
        .iter()
        .skip_while(|word| *word != name)
        .nth(1)
        .filter(|word| !word.starts_with('-'))
        .unwrap_or(&row.name);
    let mut params = serde_json::Map::new();
    params.insert("command".to_owned(), row.command.join(" ").into());
    let definition = "A command of a suite that wrote no report of its own.";
    let benchmark = Benchmark::new(format!("{name}/{case}"), definition, params);
    let mut report = program::Session::stand_in(name, started)
        .finish_with_hosts(vec![host::fingerprint()], vec![Case { benchmark, outcome }]);
    report.run.argv = argv.to_vec();
    report
}
