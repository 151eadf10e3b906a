//! A server without a terminal: a process of its own session, whose parent waits until it listens.

use anyhow::Context;
use bench_sys::process::fork;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, setsid};
use reports::model::Unavailable;
use reports::program::{self, EXIT_MEASURED, EXIT_UNAVAILABLE, EXIT_USAGE, Usage};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::process::{self, ExitCode};

/// The process that started the daemon and waits for its word.
pub struct Parent(Option<PipeWriter>);

impl Parent {
    /// Says that the daemon listens, with the line to print, and lets the parent end.
    pub fn listening(&mut self, line: &str) -> anyhow::Result<()> {
        self.tell(EXIT_MEASURED, line)
            .context("whoever started the daemon did not wait for it")
    }

    /// An exit code and what to print. Only the first word counts.
    fn tell(&mut self, code: u8, text: &str) -> io::Result<()> {
        match self.0.take() {
            Some(mut pipe) => pipe.write_all(&[&[code], text.as_bytes()].concat()),
            None => Ok(()),
        }
    }
}

/// Has `serve` run in a daemon. This process prints what the daemon says when it listens or why it
/// cannot, and ends with the exit code that goes with it.
pub fn start(serve: impl FnOnce(&mut Parent) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let (answer, pipe) = io::pipe().context("--daemon: cannot make a pipe")?;
    match fork().context("--daemon: cannot start a process")? {
        ForkResult::Parent { child } => {
            drop(pipe);
            // It only starts the daemon.
            let _ = waitpid(child, None);
            wait_for(answer)
        }
        ForkResult::Child => {
            drop(answer);
            let mut parent = Parent(Some(pipe));
            let code = match leave().and_then(|()| serve(&mut parent)) {
                Ok(()) => EXIT_MEASURED,
                Err(error) => {
                    let code = program::error_code(&error);
                    // Once the daemon listens, nobody waits: its log has the error.
                    let _ = parent.tell(code, &format!("{error:#}"));
                    code
                }
            };
            Ok(ExitCode::from(code))
        }
    }
}

/// Leaves the session, its terminal and the folder in which the daemon was started. The second fork
/// makes sure that it leads no session, so that no terminal it opens can become its own.
fn leave() -> anyhow::Result<()> {
    setsid().context("--daemon: cannot leave the session")?;
    if fork()
        .context("--daemon: cannot start a process")?
        .is_parent()
    {
        process::exit(0);
    }
    std::env::set_current_dir("/").context("--daemon: cannot leave the folder")
}

/// The daemon's word.
fn wait_for(mut answer: PipeReader) -> anyhow::Result<ExitCode> {
    let mut said = Vec::new();
    answer
        .read_to_end(&mut said)
        .context("--daemon: cannot hear the daemon")?;
    let Some((code, text)) = said.split_first() else {
        anyhow::bail!(
            "the daemon died before it listened; start it without --daemon to see what it does"
        );
    };
    let text = String::from_utf8_lossy(text).into_owned();
    match *code {
        EXIT_MEASURED => {
            program::print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        EXIT_USAGE => Err(Usage(text).into()),
        EXIT_UNAVAILABLE => Err(Unavailable(text).into()),
        _ => Err(anyhow::anyhow!(text)),
    }
}
