//! A session on disk: the suite as it was, and one report per finished run.
//!
//! ```text
//! DIR/session.json     which suite, which wishes beside it, the seed, and when it ended
//! DIR/runs/*.json      one report per finished run, complete or absent
//! DIR/logs/*.log       what a run printed, kept when it failed
//! DIR/scratch/         what the run of this moment writes; gone when none runs
//! ```
//!
//! A session holds a lock on its folder (flock), so that no two processes work on one, and none
//! stays locked after a process that was killed.

use super::{Asked, Plan, Scheduled, Suite};
use crate::model::{self, LoadError, Report};
use crate::program;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of what is not kept, below the session's.
const SCRATCH: &str = "scratch";

/// A session's folder.
#[derive(Debug)]
pub struct Session {
    recorded: Recorded,
    dir: PathBuf,
    _lock: Flock<File>,
}

/// What `session.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The session's id, shared by all its runs.
    pub id: String,
    /// The seed of the order of its runs.
    pub seed: u64,
    /// What was asked of the suite beyond its file.
    #[serde(default)]
    pub asked: Asked,
    /// When every run that was needed had its report; absent while some have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The suite's text: a resumed session must be the same suite, to the letter.
    pub suite: String,
}

impl Recorded {
    /// What the session of this folder is; `None` if the folder holds none.
    ///
    /// # Errors
    /// What is wrong with its `session.json`.
    pub fn load(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join("session.json");
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&error)),
            Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| fault(&e)),
        }
    }

    /// The suite with what was asked for.
    ///
    /// # Errors
    /// What is wrong with the suite's text, as this build understands it.
    pub fn suite(&self) -> Result<Suite, String> {
        self.asked.of(Suite::parse(&self.suite)?)
    }
}

/// Why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The folder already holds a session.
    #[error("{dir} already holds a session: go on with --resume, or choose another --out")]
    Exists {
        /// The folder.
        dir: PathBuf,
    },
    /// A new session would write where somebody else's files lie.
    #[error("{dir} holds files that belong to no session: choose another --out")]
    NotOurs {
        /// The folder with the files.
        dir: PathBuf,
    },
    /// Another process works on the session.
    #[error(
        "another `reports run` works in {dir}: wait for its end, stop it, or choose another --out"
    )]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no session to resume.
    #[error("{dir} holds no session to resume: {reason}")]
    Absent {
        /// The folder.
        dir: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The session ran another suite.
    #[error(
        "{dir} was started with another version of the suite: mixing them would compare different \
         things; choose another --out"
    )]
    OtherSuite {
        /// The folder.
        dir: PathBuf,
    },
    /// A file could not be read or written.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on which file.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A finished run's report cannot be read.
    #[error("{0}; remove the file to run it again")]
    Report(#[from] LoadError),
}

impl Session {
    /// Starts a session in a folder, which is made if need be and must not hold one already.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn create(
        dir: &Path,
        suite_text: &str,
        seed: u64,
        asked: Asked,
    ) -> Result<Self, SessionError> {
        let exists = || dir.join("session.json").exists();
        let refused = || SessionError::Exists {
            dir: dir.to_owned(),
        };
        if exists() {
            return Err(refused());
        }
        let lock = occupy(dir)?;
        // Another process may have been faster until now.
        if exists() {
            return Err(refused());
        }
        // A resumed session empties its folder; what lies here before the first run is not ours.
        let scratch = dir.join(SCRATCH);
        if fs::read_dir(&scratch).is_ok_and(|mut files| files.next().is_some()) {
            return Err(SessionError::NotOurs { dir: scratch });
        }
        let recorded = Recorded {
            id: uuid::Uuid::new_v4().to_string(),
            seed,
            asked,
            ended: None,
            suite: suite_text.to_owned(),
        };
        Self::begin(recorded, dir, lock)
    }

    fn begin(recorded: Recorded, dir: &Path, lock: Flock<File>) -> Result<Self, SessionError> {
        let session = Self {
            recorded,
            dir: dir.to_owned(),
            _lock: lock,
        };
        session.write(&session.recorded)?;
        Ok(session)
    }

    /// Opens a session that was started earlier with the same suite. Of what is asked now,
    /// repetitions and width replace what was asked then.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn resume(dir: &Path, suite_text: &str, asked: &Asked) -> Result<Self, SessionError> {
        let of_dir = || dir.to_owned();
        let found = Recorded::load(dir);
        let found = found.and_then(|found| found.ok_or("there is no session.json".to_owned()));
        let mut recorded = match found {
            Ok(recorded) => recorded,
            Err(reason) => {
                let dir = of_dir();
                return Err(SessionError::Absent { dir, reason });
            }
        };
        if recorded.suite != suite_text {
            return Err(SessionError::OtherSuite { dir: of_dir() });
        }
        let lock = occupy(dir)?;
        // What a killed process left there goes.
        let scratch = dir.join(SCRATCH);
        fs::remove_dir_all(&scratch)
            .and_then(|()| fs::create_dir(&scratch))
            .map_err(|source| SessionError::Io {
                what: format!("empty {}", scratch.display()),
                source,
            })?;
        recorded.asked = recorded.asked.renewed(asked);
        recorded.ended = None;
        Self::begin(recorded, dir, lock)
    }

    fn write(&self, recorded: &Recorded) -> Result<(), SessionError> {
        // Strings and numbers always serialise.
        let text = serde_json::to_string_pretty(recorded).expect("strings serialise");
        model::write(&self.dir.join("session.json"), &text).map_err(|source| SessionError::Io {
            what: "write the session".into(),
            source,
        })
    }

    /// Notes that every run that was needed has its report.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub fn end(&self) -> Result<(), SessionError> {
        let ended = Some(program::now());
        self.write(&Recorded {
            ended,
            ..self.recorded.clone()
        })
    }

    /// The session's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the processes of a run may write what is not kept.
    #[must_use]
    pub fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    /// The session's id, shared by all its runs.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.recorded.id
    }

    /// The seed of the order of its runs.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.recorded.seed
    }

    /// What was asked of the suite beyond its file.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        &self.recorded.asked
    }

    /// Where a run's report belongs.
    #[must_use]
    pub fn report_path(&self, plan: &Plan, run: Scheduled) -> PathBuf {
        self.dir
            .join("runs")
            .join(format!("{}.json", Self::stem(plan, run)))
    }

    /// Where a run's output is kept.
    #[must_use]
    pub fn log_path(&self, plan: &Plan, run: Scheduled) -> PathBuf {
        self.dir
            .join("logs")
            .join(format!("{}.log", Self::stem(plan, run)))
    }

    fn stem(plan: &Plan, run: Scheduled) -> String {
        format!("{}-{:04}", plan.units[run.unit].file_stem, run.repetition)
    }

    /// Where the reports of a run's further nodes belong, counted from 2.
    fn further_path(&self, plan: &Plan, run: Scheduled, number: usize) -> PathBuf {
        let name = format!("{}.{number}.json", Self::stem(plan, run));
        self.dir.join("runs").join(name)
    }

    /// The reports of a run that is finished, one unless it is one of nodes that each write their
    /// own; empty of one that is not finished.
    ///
    /// # Errors
    /// [`SessionError::Report`] for a file that is there and is no report.
    pub fn finished(&self, plan: &Plan, run: Scheduled) -> Result<Vec<Report>, SessionError> {
        let mut reports = Vec::new();
        let mut path = self.report_path(plan, run);
        while path.exists() {
            reports.push(model::load(&path)?);
            path = self.further_path(plan, run, reports.len() + 1);
        }
        Ok(reports)
    }

    /// Keeps a finished run.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub fn keep(
        &self,
        plan: &Plan,
        run: Scheduled,
        reports: &[Report],
    ) -> Result<(), SessionError> {
        // The first comes last: it is what makes the run finished.
        for (index, report) in reports.iter().enumerate().rev() {
            let path = match index {
                0 => self.report_path(plan, run),
                _ => self.further_path(plan, run, index + 1),
            };
            let written = model::write(&path, &model::to_json(report));
            written.map_err(|source| SessionError::Io {
                what: "keep the run's report".into(),
                source,
            })?;
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Only an empty one goes.
        let _ = fs::remove_dir(self.scratch());
    }
}

/// Makes the session's folders and locks them.
fn occupy(dir: &Path) -> Result<Flock<File>, SessionError> {
    let made = |folder: &str| {
        let path = dir.join(folder);
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(SessionError::Io {
                what: format!("make {}", path.display()),
                source,
            }),
        }
    };
    let runs = made("runs")?;
    made("logs")?;
    let io_error = |what: &str, path: &Path, source| SessionError::Io {
        what: format!("{what} {}", path.display()),
        source,
    };
    let folder = File::open(&runs).map_err(|source| io_error("open", &runs, source))?;
    let lock = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => {
            return Err(SessionError::Busy {
                dir: dir.to_owned(),
            });
        }
        Err((_, errno)) => return Err(io_error("lock", &runs, errno.into())),
    };
    made(SCRATCH)?;
    Ok(lock)
}
