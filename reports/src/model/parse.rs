//! From text to a report and back: what is wrong is named by its path, what is not known is kept.

use super::check::check;
use super::migrate;
use super::unknown::{Step, Unknown};
use super::{MAX_REPORT_BYTES, Report, SCHEMA_NAME, SCHEMA_VERSION, Schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::error::Category;
use std::io;
use std::path::{Path, PathBuf};

/// Why a report could not be read. Each names the file, what is wrong, and where.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be opened or read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is larger than [`MAX_REPORT_BYTES`].
    #[error("{path} is larger than {MAX_REPORT_BYTES} bytes, the limit for a report")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The text is not JSON, or not a report.
    #[error("{path} is not a report: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected, and at which line and column.
        reason: String,
    },
    /// The text is JSON of another kind.
    #[error("{path} is not a report of this suite: schema.name is {found:?}, not {SCHEMA_NAME:?}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The name found.
        found: String,
    },
    /// A folder has no reports.
    #[error("the folder {path} holds no reports (*.json, or runs/*.json of a session)")]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A pattern stands for no file.
    #[error("{pattern}: {reason}")]
    Pattern {
        /// The pattern, as given.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// The report was written by a newer version of the suite.
    #[error(
        "{path} has schema version {found}; this build reads versions up to {SCHEMA_VERSION}: \
         use a newer build of `reports`"
    )]
    Future {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
}

/// Reads a report from text; `path` is used in errors only. A report of an older version is brought
/// to this one.
///
/// # Errors
/// [`LoadError`], which names the file, the fault and its place.
pub fn parse(text: &str, path: &Path) -> Result<Report, LoadError> {
    let report = match plain(text) {
        Some(report) => report,
        None => thorough(text, path)?,
    };
    check(&report).map_err(|reason| LoadError::Malformed {
        path: path.to_owned(),
        reason,
    })?;
    Ok(report)
}

/// A report of this version without fields that this build does not know, which nearly all are;
/// `None` of everything else, for which [`thorough`] finds out what it is. Thousands of reports load
/// in two thirds of the time because nobody keeps track of where the reader is.
fn plain(text: &str) -> Option<Report> {
    let mut input = serde_json::Deserializer::from_str(text);
    let mut knows_all = true;
    let report = serde_ignored::deserialize(&mut input, |_| knows_all = false);
    let report: Report = report.ok().filter(|_| knows_all)?;
    input.end().ok()?;
    (report.schema == Schema::default()).then_some(report)
}

/// Reads what may be of another version, know more, or be faulty, and then says where.
fn thorough(text: &str, path: &Path) -> Result<Report, LoadError> {
    let malformed = |reason: String| LoadError::Malformed {
        path: path.to_owned(),
        reason,
    };
    let in_words = |error: serde_json::Error| match error.classify() {
        Category::Eof if text.trim().is_empty() => "it is empty".to_owned(),
        Category::Eof => format!("it is truncated: {error}"),
        _ => error.to_string(),
    };
    if let Some(first) = text.trim_start().chars().next().filter(|c| *c != '{') {
        let reason = format!("a report is a JSON object, and this begins with {first:?}");
        return Err(malformed(reason));
    }
    // The schema is read first and alone: a report of another version may differ anywhere else.
    #[derive(Deserialize)]
    struct Envelope {
        schema: Schema,
    }
    let Envelope { schema } =
        serde_json::from_str(text).map_err(|error| malformed(in_words(error)))?;
    if schema.name != SCHEMA_NAME {
        return Err(LoadError::Foreign {
            path: path.to_owned(),
            found: schema.name,
        });
    }
    if schema.version > SCHEMA_VERSION {
        return Err(LoadError::Future {
            path: path.to_owned(),
            found: schema.version,
        });
    }
    let report = if schema.version < SCHEMA_VERSION {
        let old = serde_json::from_str(text).map_err(|error| malformed(in_words(error)))?;
        let value = migrate::to_current(old, schema.version).map_err(malformed)?;
        read(&value, || Ok(value.clone()))
    } else {
        let mut input = serde_json::Deserializer::from_str(text);
        let report = read(&mut input, || serde_json::from_str(text).map_err(in_words));
        report.and_then(|report| match input.end() {
            Ok(()) => Ok(report),
            Err(error) => Err(error.to_string()),
        })
    }
    .map_err(malformed)?;
    Ok(report)
}

/// Reads a report from `input`; unknown fields, if there are any, from the whole as a value. The
/// error begins with the path of the fault.
fn read<'de, D>(input: D, whole: impl FnOnce() -> Result<Value, String>) -> Result<Report, String>
where
    D: Deserializer<'de, Error = serde_json::Error>,
{
    let mut track = serde_path_to_error::Track::new();
    let mut ignored: Vec<Vec<Step>> = Vec::new();
    let result = {
        let input = serde_path_to_error::Deserializer::new(input, &mut track);
        let mut note = |path: serde_ignored::Path<'_>| ignored.push(Step::of(&path));
        let input = serde_ignored::Deserializer::new(input, &mut note);
        Report::deserialize(input)
    };
    let mut report = result.map_err(|error| match track.path().to_string() {
        path if path == "." => error.to_string(),
        path => format!("{path}: {error}"),
    })?;
    if !ignored.is_empty() {
        report.unknown = Unknown::taken(ignored, &whole()?);
    }
    Ok(report)
}

/// The report as a JSON value, with the fields that this build does not know in their places.
#[must_use]
pub fn to_value(report: &Report) -> Value {
    // Every map in the model has string keys and no value of it can fail to serialise.
    let mut value = serde_json::to_value(report).expect("a report always serialises");
    report.unknown.put_back(&mut value);
    value
}

/// The report as indented JSON with a final newline.
#[must_use]
pub fn to_json(report: &Report) -> String {
    let text = if report.unknown.is_empty() {
        serde_json::to_string_pretty(report)
    } else {
        serde_json::to_string_pretty(&to_value(report))
    };
    let mut text = text.expect("a report always serialises");
    text.push('\n');
    text
}
