//! One run's process: found, started with its server, waited for with a deadline, and ended with
//! everything it started.

use super::{Unit, server};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The suite's own programs, which are found beside `reports` before the PATH is searched.
pub(super) const OWN_PROGRAMS: [&str; 4] = ["net-bench", "storage-bench", "mpi-kernels", "reports"];

/// How long a run has to end in good order after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How often a waiting runner looks at its child and at the stop flag.
const POLL: Duration = Duration::from_millis(5);

/// How much of a failed run's output goes into its error.
const TAIL_BYTES: u64 = 2000;

/// How a child ended.
pub(super) enum Ended {
    Exited(ExitStatus),
    TimedOut,
    Stopped,
    Missing(String),
    NotStarted(io::Error),
    NoServer(io::Error),
}

/// Runs a command to its end, its server beside it.
pub(super) fn execute(unit: &Unit, argv: &[String], stdout: &File, log: &File) -> Ended {
    let not_started =
        |program: &str, error: io::Error, otherwise: fn(io::Error) -> Ended| match error.kind() {
            io::ErrorKind::NotFound => Ended::Missing(program.to_owned()),
            _ => otherwise(error),
        };
    let _server = match &unit.server {
        None => None,
        Some(server) => {
            let argv = resolved(&server.command, unit);
            match server::start(server, command(&argv, unit), log) {
                Ok(running) => Some(running),
                Err(error) => return not_started(&argv[0], error, Ended::NoServer),
            }
        }
    };
    match spawn(argv, unit, stdout, log) {
        Ok(child) => wait(child, unit.timeout),
        Err(error) => not_started(&argv[0], error, Ended::NotStarted),
    }
}

/// A command line with the suite's own programs as paths: the arm's, or those beside `reports`.
pub(super) fn resolved(command: &[String], unit: &Unit) -> Vec<String> {
    let beside = || {
        let exe = std::env::current_exe().ok();
        exe.and_then(|exe| exe.parent().map(Path::to_owned))
    };
    let dir = unit.bin.clone().or_else(beside);
    let resolve = |word: &String| {
        let own = OWN_PROGRAMS.contains(&word.as_str());
        let path = dir.as_ref().filter(|_| own).map(|dir| dir.join(word));
        // An arm's folder was named, so another program of that name must not stand in for it.
        match path.filter(|path| unit.bin.is_some() || path.is_file()) {
            Some(path) => path.to_string_lossy().into_owned(),
            None => word.clone(),
        }
    };
    command.iter().map(resolve).collect()
}

fn command(argv: &[String], unit: &Unit) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).envs(&unit.env);
    command
}

/// Runs a command that is to succeed within a time.
///
/// # Errors
/// How it ended instead, with what it printed.
pub(crate) fn attempt(argv: &[String], limit: Duration) -> Result<(), String> {
    let start = || -> io::Result<(Child, File)> {
        let log = tempfile::tempfile()?;
        let child = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0)
            .spawn()?;
        Ok((child, log))
    };
    let name = &argv[0];
    let (child, log) = start().map_err(|error| format!("cannot start {name}: {error}"))?;
    match wait(child, limit) {
        Ended::Exited(status) if status.success() => Ok(()),
        Ended::Exited(status) => Err(format!("{name} ended with {status}{}", tail(log))),
        Ended::Stopped => Err("interrupted".to_owned()),
        _ => Err(format!(
            "no answer to {name} within {} s",
            limit.as_secs_f64()
        )),
    }
}

fn spawn(argv: &[String], unit: &Unit, stdout: &File, log: &File) -> io::Result<Child> {
    // A group of its own, so that a launcher and all it started end together.
    command(argv, unit)
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
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

/// The end of what a run printed, as the end of an error message.
pub(super) fn tail(mut log: File) -> String {
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
