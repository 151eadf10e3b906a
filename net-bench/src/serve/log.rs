//! Where a server's lines go: standard error, or a file that outlives terminals and is rotated.

use anyhow::Context;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use reports::program;
use reports::render::text::visible;
use signal_hook::consts::SIGHUP;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A server's log.
pub struct Log {
    file: Option<LogFile>,
    detached: AtomicBool,
    /// Whether SIGHUP came.
    hangup: Arc<AtomicBool>,
}

struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl Log {
    /// A log in a file, or on standard error.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let log = Self {
            file: path.map(LogFile::open).transpose()?,
            detached: AtomicBool::new(false),
            hangup: Arc::default(),
        };
        if log.file.is_some() {
            log.heed_hangup()?;
        }
        Ok(log)
    }

    /// Whether the lines go to a file.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Adds a line.
    pub fn line(&self, line: &str) {
        // Neither a full disk nor a closed terminal must end the server.
        let _ = match &self.file {
            None => writeln!(io::stderr(), "{line}"),
            Some(log) => {
                // In one write, so that lines of several processes do not mix.
                let stamped = format!("{} {}\n", program::now(), visible(line));
                let mut file = log.file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(stamped.as_bytes())
            }
        };
    }

    /// Opens the file anew if SIGHUP asked for that: whoever rotates logs has renamed it.
    pub fn reopen_if_asked(&self) {
        let asked = self.hangup.swap(false, Ordering::Relaxed);
        let Some(log) = self.file.as_ref().filter(|_| asked) else {
            return;
        };
        let reopened = open(&log.path).and_then(|file| {
            if self.detached.load(Ordering::Relaxed) {
                redirect(&file)?;
            }
            *log.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
            Ok(())
        });
        if let Err(error) = reopened {
            let path = log.path.display();
            self.line(&format!(
                "--log-file {path}: cannot open it anew, so lines still go to the file that was \
                 there; make room for it and send SIGHUP again: {error}"
            ));
        }
    }

    /// Lets go of the terminal: nothing is read any more, and what nobody expected to be printed,
    /// like the message of a panic, goes to the log's file or nowhere.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn detach(&self) -> anyhow::Result<()> {
        // A daemon has no terminal that could hang up; the signal asks for a new file, if any.
        self.heed_hangup()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.context("--daemon: cannot open /dev/null")?;
        dup2_stdin(&null)
            .map_err(io::Error::from)
            .and_then(|()| match &self.file {
                None => redirect(&null),
                Some(log) => redirect(&log.file.lock().unwrap_or_else(PoisonError::into_inner)),
            })
            .context("--daemon: cannot let go of the terminal")?;
        self.detached.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn heed_hangup(&self) -> anyhow::Result<()> {
        signal_hook::flag::register(SIGHUP, Arc::clone(&self.hangup))
            .context("cannot set a handler for SIGHUP")?;
        Ok(())
    }
}

impl LogFile {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = open(path).with_context(|| {
            let path = path.display();
            format!("--log-file {path}: cannot open it; name a file that may be written")
        })?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn redirect(to: &File) -> io::Result<()> {
    dup2_stdout(to)?;
    dup2_stderr(to)?;
    Ok(())
}
