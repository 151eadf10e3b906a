//! A session on disk: the suite as it was, and one report per finished run.
//!
//! ```text
//! DIR/session.json     which suite, which session id
//! DIR/runs/*.json      one report per finished run, complete or absent
//! DIR/logs/*.log       what a run printed, kept when it failed
//! ```

use super::{Plan, Scheduled};
use crate::model::{self, LoadError, Report};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A session's folder.
#[derive(Debug)]
pub struct Session {
    /// The session's id, shared by all its runs.
    pub id: String,
    /// The seed of the order of its runs.
    pub seed: u64,
    dir: PathBuf,
}

/// What `session.json` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    id: String,
    seed: u64,
    /// The suite's text: a resumed session must be the same suite, to the letter.
    suite: String,
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
    pub fn create(dir: &Path, suite_text: &str, seed: u64) -> Result<Self, SessionError> {
        if dir.join("session.json").exists() {
            return Err(SessionError::Exists {
                dir: dir.to_owned(),
            });
        }
        let id = uuid::Uuid::new_v4().to_string();
        let record = Record {
            id: id.clone(),
            seed,
            suite: suite_text.to_owned(),
        };
        // Strings always serialise.
        let text = serde_json::to_string_pretty(&record).expect("strings serialise");
        model::write(&dir.join("session.json"), &text).map_err(|source| SessionError::Io {
            what: "start the session".into(),
            source,
        })?;
        Self {
            id,
            seed,
            dir: dir.to_owned(),
        }
        .with_folders()
    }

    /// Opens a session that was started earlier with the same suite.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn resume(dir: &Path, suite_text: &str) -> Result<Self, SessionError> {
        let absent = |reason: String| SessionError::Absent {
            dir: dir.to_owned(),
            reason,
        };
        let path = dir.join("session.json");
        let text = fs::read_to_string(&path).map_err(|error| absent(error.to_string()))?;
        let record: Record = serde_json::from_str(&text)
            .map_err(|error| absent(format!("{}: {error}", path.display())))?;
        if record.suite != suite_text {
            return Err(SessionError::OtherSuite {
                dir: dir.to_owned(),
            });
        }
        Self {
            id: record.id,
            seed: record.seed,
            dir: dir.to_owned(),
        }
        .with_folders()
    }

    fn with_folders(self) -> Result<Self, SessionError> {
        for folder in ["runs", "logs"] {
            let path = self.dir.join(folder);
            fs::create_dir_all(&path).map_err(|source| SessionError::Io {
                what: format!("make {}", path.display()),
                source,
            })?;
        }
        Ok(self)
    }

    /// The session's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
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
        format!("{}-{:04}", plan.units[run.unit].name(), run.repetition)
    }

    /// The report of a run that is finished, or `None` of one that is not.
    ///
    /// # Errors
    /// [`SessionError::Report`] for a file that is there and is no report.
    pub fn finished(&self, plan: &Plan, run: Scheduled) -> Result<Option<Report>, SessionError> {
        let path = self.report_path(plan, run);
        if path.exists() {
            Ok(Some(model::load(&path)?))
        } else {
            Ok(None)
        }
    }

    /// Keeps a finished run.
    ///
    /// # Errors
    /// [`SessionError::Io`].
    pub fn keep(&self, plan: &Plan, run: Scheduled, report: &Report) -> Result<(), SessionError> {
        model::write(&self.report_path(plan, run), &model::to_json(report)).map_err(|source| {
            SessionError::Io {
                what: "keep the run's report".into(),
                source,
            }
        })
    }
}
