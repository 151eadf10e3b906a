//! The file of a history: append-only, one JSON object a line, shared by any number of writers.
//!
//! A batch of lines is appended by a single write to a file opened with O_APPEND, under a lock
//! (flock) that readers share, so writers do not interleave and readers see whole batches. A
//! writer that is killed half-way leaves at most one cut-off line, the last: readers name it, and
//! the next writer removes it. What the dead writer wanted to add is added when its reports are
//! given again, because only what is missing is ever added.

use super::line::{self, BEGINNING, Content, Entry, Environment, HISTORY_VERSION, NoLine};
use crate::compare::fields::Fields;
use crate::model::Report;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

/// The longest line that is read, in bytes. A result with a thousand metrics stays below 1 MiB.
pub const MAX_LINE_BYTES: u64 = 64 << 20;

/// Everything that a history file says.
#[derive(Debug, Default)]
pub struct History {
    /// What came of every case in every run, each once, in the file's order.
    pub entries: Vec<Entry>,
    /// The environments by their digests.
    pub environments: BTreeMap<String, Fields>,
    /// The lines that cannot be used.
    pub faults: Vec<LineFault>,
    /// How many lines repeat a result that stands before them. That harms nothing.
    pub repeated: usize,
    seen: HashSet<(String, String)>,
    /// How many lines are in our format, of whatever version and state.
    ours: usize,
    newer: Option<(usize, u32)>,
    end: End,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// Its number, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// How the file ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// With a newline, or it is empty.
    #[default]
    Whole,
    /// With something that lacks a newline.
    NoNewline,
    /// With the beginning of a line of ours, at this byte.
    CutOff { at: u64 },
}

/// Why a history cannot be read or written. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is none.
    #[error("there is no history {path}: `reports trend add PATHS… --history {path}` makes one")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is a folder, a device or a pipe.
    #[error("{path} is not a regular file, and a history is one")]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// No line of it is ours.
    #[error("{path} is not a history: line {line}: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its first line with anything on it.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer build wrote to it, so that this one cannot tell which runs are in it.
    #[error(
        "line {line} of {path} has version {version}; this build knows versions up to \
         {HISTORY_VERSION}: use a newer build of `reports`"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The first such line.
        line: usize,
        /// Its version.
        version: u32,
    },
    /// The kernel refused.
    #[error("cannot {what} the history {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl HistoryError {
    /// Whether another file should have been named, rather than something failed.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// What was added to a history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// Runs of which something was added.
    pub runs: usize,
    /// Results added, one per run and case.
    pub results: usize,
    /// Results that were there already.
    pub known: usize,
    /// The cut-off last line that was removed.
    pub removed: Option<LineFault>,
    /// The lines that cannot be used.
    pub faults: Vec<LineFault>,
}

/// What is to be added to a history.
#[derive(Debug, Default)]
pub struct Batch {
    environments: BTreeMap<String, Environment>,
    entries: Vec<Entry>,
}

impl Batch {
    /// Takes what a history keeps of a report.
    ///
    /// # Errors
    /// Why the run has no place in a history.
    pub fn take(&mut self, report: &Report) -> Result<(), String> {
        let (environment, entries) = line::of_report(report)?;
        if !entries.is_empty() {
            self.entries.extend(entries);
            let digest = environment.digest.clone();
            self.environments.entry(digest).or_insert(environment);
        }
        Ok(())
    }

    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Reads a history.
///
/// # Errors
/// [`HistoryError`]. Lines that cannot be used are in the [`History`] instead.
pub fn load(path: &Path) -> Result<History, HistoryError> {
    let path_buf = || path.to_owned();
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(HistoryError::NotAFile { path: path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HistoryError::Missing { path: path_buf() });
        }
        _ => {}
    }
    let file = File::open(path).map_err(io_error("open", path))?;
    let file = lock(file, FlockArg::LockShared).map_err(io_error("lock", path))?;
    read_ours(&file, path)
}

/// Appends what the history does not have yet; makes the file if there is none.
///
/// # Errors
/// [`HistoryError`]. After an error the file says what it said before.
pub fn append(path: &Path, batch: Batch) -> Result<Added, HistoryError> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let path = path.to_owned();
        return Err(HistoryError::NotAFile { path });
    }
    let file = open_to_append(path).map_err(io_error("open", path))?;
    let file = lock(file, FlockArg::LockExclusive).map_err(io_error("lock", path))?;
    let mut history = read_ours(&file, path)?;
    if let Some((line, version)) = history.newer {
        let path = path.to_owned();
        return Err(HistoryError::Newer {
            path,
            line,
            version,
        });
    }
    let (mut added, lines) = history.missing(batch);
    write(&file, history.end, &lines).map_err(io_error("write to", path))?;
    if let End::CutOff { .. } = history.end {
        added.removed = history.faults.pop();
    }
    added.faults = history.faults;
    Ok(added)
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Io { what, path, source }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).open(path)
}

fn lock(file: File, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(file, how).map_err(|(_, errno)| errno.into())
}

fn read_ours(file: &File, path: &Path) -> Result<History, HistoryError> {
    let history = History::read(file).map_err(io_error("read", path))?;
    match history.faults.first() {
        Some(LineFault { line, reason }) if history.ours == 0 => Err(HistoryError::Foreign {
            path: path.to_owned(),
            line: *line,
            reason: reason.clone(),
        }),
        _ => Ok(history),
    }
}

/// Appends lines in one write; what cannot be written whole is taken back.
fn write(mut file: &File, end: End, lines: &str) -> io::Result<()> {
    if let End::CutOff { at } = end {
        file.set_len(at)?;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let before = file.metadata()?.len();
    let first = match end {
        End::NoNewline => "\n",
        End::Whole | End::CutOff { .. } => "",
    };
    let text = format!("{first}{lines}");
    let written = file.write_all(text.as_bytes());
    written.and_then(|()| file.sync_data()).or_else(|error| {
        file.set_len(before)?;
        Err(error)
    })
}

impl History {
    /// Reads lines.
    ///
    /// # Errors
    /// What the reader says. Lines that cannot be used are in [`Self::faults`].
    pub fn read(reader: impl Read) -> io::Result<Self> {
        let mut reader = BufReader::new(reader);
        let mut history = Self::default();
        // Kept with their lines, because in merged histories an environment may follow its results.
        let mut results = Vec::new();
        let mut text = Vec::new();
        let (mut number, mut at) = (0, 0);
        loop {
            text.clear();
            let mut limited = reader.by_ref().take(MAX_LINE_BYTES);
            let mut length = limited.read_until(b'\n', &mut text)?;
            if length == 0 {
                break;
            }
            number += 1;
            history.end = End::Whole;
            let ended = text.ends_with(b"\n");
            if !ended && length as u64 == MAX_LINE_BYTES {
                length += reader.skip_until(b'\n')?;
                let reason = format!("it is longer than {MAX_LINE_BYTES} bytes");
                history.fault(number, reason);
            } else if !text.trim_ascii().is_empty() {
                let unfinished = (!ended).then_some(at);
                results.extend(history.line(number, &text, unfinished));
            }
            at += length as u64;
        }
        history.keep(results);
        Ok(history)
    }

    fn fault(&mut self, line: usize, reason: String) {
        self.faults.push(LineFault { line, reason });
    }

    /// Takes one line in; `unfinished` is where it starts if it lacks a newline.
    fn line(
        &mut self,
        number: usize,
        text: &[u8],
        unfinished: Option<u64>,
    ) -> Option<(usize, Entry)> {
        if unfinished.is_some() {
            self.end = End::NoNewline;
        }
        let content = line::parse(text);
        let ours = !matches!(content, Err(NoLine::Foreign(_)));
        self.ours += usize::from(ours);
        match content {
            Ok(Content::Environment(Environment { digest, fields })) => {
                self.environments.entry(digest).or_insert(fields);
            }
            Ok(Content::Result(entry)) => return Some((number, *entry)),
            Err(NoLine::Newer(version)) => {
                self.newer.get_or_insert((number, version));
                let reason = format!(
                    "it has version {version}; this build knows versions up to \
                     {HISTORY_VERSION}: use a newer build of `reports`"
                );
                self.fault(number, reason);
            }
            Err(NoLine::Faulty(reason) | NoLine::Foreign(reason)) => match unfinished {
                Some(at) if ours || BEGINNING.as_bytes().starts_with(text) => {
                    self.ours += usize::from(!ours);
                    self.end = End::CutOff { at };
                    let reason = "it is cut off, as a writer that died half-way leaves it; the \
                                  next `reports trend add` removes it";
                    self.fault(number, reason.to_owned());
                }
                _ => self.fault(number, reason),
            },
        }
        None
    }

    /// Keeps the results that are new and whose environment is known.
    fn keep(&mut self, results: Vec<(usize, Entry)>) {
        for (line, entry) in results {
            if !self.seen.insert(key(&entry)) {
                self.repeated += 1;
            } else if self.environments.contains_key(&entry.environment) {
                self.entries.push(entry);
            } else {
                let digest = &entry.environment;
                let reason = format!(
                    "no line describes its environment {digest:?}; adding the report of run {:?} \
                     again mends that",
                    entry.run
                );
                self.fault(line, reason);
            }
        }
        self.faults.sort_by_key(|fault| fault.line);
    }

    /// The lines of a batch that are not here yet. Environments go first, so that a result that is
    /// there has one.
    fn missing(&mut self, batch: Batch) -> (Added, String) {
        let mut added = Added::default();
        let mut runs = BTreeSet::new();
        let mut lines = String::new();
        for (digest, environment) in batch.environments {
            if !self.environments.contains_key(&digest) {
                lines += &line::text(Content::Environment(environment));
            }
        }
        for entry in batch.entries {
            if self.seen.insert(key(&entry)) {
                added.results += 1;
                runs.insert(entry.run.clone());
                lines += &line::text(Content::Result(Box::new(entry)));
            } else {
                added.known += 1;
            }
        }
        added.runs = runs.len();
        (added, lines)
    }
}

/// What makes a result unique: its run, and the case by its definition.
fn key(entry: &Entry) -> (String, String) {
    let case = format!("{} {}", entry.definition_hash, entry.case());
    (entry.run.clone(), case)
}
