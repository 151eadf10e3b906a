//! Suites: rows of commands, each repeated in fresh processes and interleaved.
//!
//! A run is a process. Caches, address layout and scheduling differ from process to process, and
//! only repeated processes show by how much; and since a machine drifts, the rows take turns
//! instead of being repeated one after another. What is finished is on disk before the next run
//! starts, so an interrupted session can go on.

mod runner;
mod session;

pub use runner::{Progress, RunEvent, Verdict, run};
pub use session::{Session, SessionError};

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A suite as its file describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The suite's name.
    pub name: String,
    /// What it is for, in a sentence.
    #[serde(default)]
    pub description: String,
    /// How often each row runs, unless it says otherwise.
    #[serde(default = "default_repetitions")]
    pub repetitions: u32,
    /// After how many seconds a run is killed, unless its row says otherwise.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// Environment variables for every run.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The rows, in order.
    #[serde(rename = "row", default)]
    pub rows: Vec<Row>,
}

/// One row: a command that writes a report.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The row's name: letters, digits, `-`, `_` and `.`, since files are named after it.
    pub name: String,
    /// The command line. The suite's own programs are found beside `reports`; `-o FILE` is added.
    pub command: Vec<String>,
    /// How often it runs.
    pub repetitions: Option<u32>,
    /// After how many seconds a run is killed.
    pub timeout_s: Option<f64>,
    /// Environment variables for this row.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

fn default_repetitions() -> u32 {
    10
}

fn default_timeout_s() -> f64 {
    300.0
}

/// The most repetitions of a row: more is a typing error.
const MAX_REPETITIONS: u32 = 10_000;

/// Why a suite file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file could not be read.
    #[error("cannot read the suite {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file is not a suite.
    #[error("{path} is not a suite: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

impl Suite {
    /// Reads a suite from a file.
    ///
    /// # Errors
    /// [`SuiteError`], which names the file, the row and the fault.
    pub fn load(path: &Path) -> Result<(Self, String), SuiteError> {
        let io_error = |source| SuiteError::Io {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(io_error)?;
        let malformed = |reason| SuiteError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let suite = Self::parse(&text).map_err(malformed)?;
        Ok((suite, text))
    }

    /// Reads a suite from text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let suite: Self =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        suite.check()?;
        Ok(suite)
    }

    fn check(&self) -> Result<(), String> {
        if self.rows.is_empty() {
            return Err("it has no [[row]]".to_owned());
        }
        for (index, row) in self.rows.iter().enumerate() {
            row.check()
                .map_err(|fault| format!("row {} ({:?}): {fault}", index + 1, row.name))?;
            if self.rows[..index]
                .iter()
                .any(|other| other.name == row.name)
            {
                return Err(format!("two rows are named {:?}", row.name));
            }
        }
        check_repetitions(self.repetitions)?;
        check_timeout(self.timeout_s)
    }

    /// How often a row runs.
    #[must_use]
    pub fn repetitions_of(&self, row: &Row) -> u32 {
        row.repetitions.unwrap_or(self.repetitions)
    }

    /// After how long a run of the row is killed.
    #[must_use]
    pub fn timeout_of(&self, row: &Row) -> Duration {
        Duration::from_secs_f64(row.timeout_s.unwrap_or(self.timeout_s))
    }

    /// Every run in the order in which they start: round by round, so that rows take turns, and
    /// every other round backwards, so that a steady drift weighs on all rows alike.
    #[must_use]
    pub fn schedule(&self) -> Vec<Scheduled> {
        let rounds = self
            .rows
            .iter()
            .map(|row| self.repetitions_of(row))
            .max()
            .unwrap_or(0);
        (1..=rounds)
            .flat_map(|repetition| {
                let mut round: Vec<usize> = (0..self.rows.len())
                    .filter(|&row| repetition <= self.repetitions_of(&self.rows[row]))
                    .collect();
                if repetition % 2 == 0 {
                    round.reverse();
                }
                round
                    .into_iter()
                    .map(move |row| Scheduled { row, repetition })
            })
            .collect()
    }
}

impl Row {
    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            return Err(
                "the name must be letters, digits, '-', '_' and '.', not starting with '.'".into(),
            );
        }
        if self.command.first().is_none_or(String::is_empty) {
            return Err("the command is empty".to_owned());
        }
        self.repetitions.map_or(Ok(()), check_repetitions)?;
        self.timeout_s.map_or(Ok(()), check_timeout)
    }
}

fn check_repetitions(repetitions: u32) -> Result<(), String> {
    if (1..=MAX_REPETITIONS).contains(&repetitions) {
        return Ok(());
    }
    Err(format!(
        "repetitions = {repetitions}: it must be 1 to {MAX_REPETITIONS}"
    ))
}

fn check_timeout(timeout_s: f64) -> Result<(), String> {
    if timeout_s.is_finite() && timeout_s > 0.0 && timeout_s <= 1e7 {
        return Ok(());
    }
    Err(format!(
        "timeout_s = {timeout_s}: it must be above 0 and at most 10000000 seconds"
    ))
}

/// One run of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The row's index.
    pub row: usize,
    /// Which repetition, counted from 1.
    pub repetition: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_ROWS: &str = r#"
        name = "two"
        repetitions = 3
        [[row]]
        name = "a"
        command = ["net-bench", "null"]
        [[row]]
        name = "b"
        command = ["storage-bench", "null"]
        repetitions = 2
    "#;

    #[test]
    fn rows_take_turns_and_every_other_round_runs_backwards() {
        let suite = Suite::parse(TWO_ROWS).expect("it is well-formed");
        let order: Vec<_> = suite
            .schedule()
            .iter()
            .map(|run| (run.row, run.repetition))
            .collect();
        assert_eq!(order, [(0, 1), (1, 1), (1, 2), (0, 2), (0, 3)]);
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| Suite::parse(text).expect_err("it is malformed");
        assert!(fault("name = \"x\"").contains("no [[row]]"));
        assert!(fault("name = 3").contains("expected a string"));
        assert!(fault(&TWO_ROWS.replace("\"b\"", "\"a\"")).contains("two rows are named \"a\""));
        assert!(fault(&TWO_ROWS.replace("\"b\"", "\"../b\"")).contains("row 2"));
        assert!(fault(&TWO_ROWS.replace("repetitions = 3", "repetitions = 0")).contains("1 to"));
        assert!(
            fault(&TWO_ROWS.replace("repetitions = 3", "repetition = 3")).contains("repetition")
        );
        let empty = TWO_ROWS.replace(r#"["storage-bench", "null"]"#, "[]");
        assert!(fault(&empty).contains("the command is empty"));
    }
}
