//! Reports as files: read with suspicion, written whole or not at all.

use super::{Report, SCHEMA_NAME, SCHEMA_VERSION, Schema};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The largest report that is read, in bytes. A run over 512 ranks stays below 64 MiB.
pub const MAX_REPORT_BYTES: u64 = 256 << 20;

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

/// Reads a report from a file.
///
/// # Errors
/// [`LoadError`], which names the file, the fault and its place.
pub fn load(path: &Path) -> Result<Report, LoadError> {
    let io_error = |source| LoadError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    let mut text = String::new();
    let read = file
        .take(MAX_REPORT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|source| {
            if source.kind() == io::ErrorKind::InvalidData {
                LoadError::Malformed {
                    path: path.to_owned(),
                    reason: "it is not UTF-8 text".into(),
                }
            } else {
                io_error(source)
            }
        })?;
    if read as u64 > MAX_REPORT_BYTES {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
        });
    }
    parse(&text, path)
}

/// Reads every report in the given files and folders; a folder stands for its `.json` files, a
/// session's folder for those in `runs`. What cannot be read is returned beside what can.
pub fn load_all(paths: &[PathBuf]) -> (Vec<Report>, Vec<LoadError>) {
    let mut reports = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        let files = if path.is_dir() {
            files_in(path)
        } else {
            Ok(vec![path.clone()])
        };
        match files {
            Ok(files) => files.iter().for_each(|file| match load(file) {
                Ok(report) => reports.push(report),
                Err(error) => faults.push(error),
            }),
            Err(error) => faults.push(error),
        }
    }
    (reports, faults)
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let runs = dir.join("runs");
    let dir = if runs.is_dir() { runs.as_path() } else { dir };
    let io_error = |source| LoadError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && path.is_file()
        {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(LoadError::EmptyFolder {
            path: dir.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

/// Reads a report from text; `path` is used in errors only.
///
/// # Errors
/// [`LoadError`], which names the file, the fault and its place.
pub fn parse(text: &str, path: &Path) -> Result<Report, LoadError> {
    // The schema is read first and alone: a report of another version may differ anywhere else.
    #[derive(Deserialize)]
    struct Envelope {
        schema: Schema,
    }
    let malformed = |error: serde_json::Error| {
        let reason = match error.classify() {
            serde_json::error::Category::Eof if text.trim().is_empty() => "it is empty".to_owned(),
            serde_json::error::Category::Eof => format!("it is truncated: {error}"),
            _ => error.to_string(),
        };
        LoadError::Malformed {
            path: path.to_owned(),
            reason,
        }
    };
    let Envelope { schema } = serde_json::from_str(text).map_err(malformed)?;
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
    let report: Report = serde_json::from_str(text).map_err(malformed)?;
    super::check::check(&report).map_err(|reason| LoadError::Malformed {
        path: path.to_owned(),
        reason,
    })?;
    Ok(report)
}

/// The report as indented JSON with a final newline.
#[must_use]
pub fn to_json(report: &Report) -> String {
    // Every map in the model has string keys and no value of it can fail to serialise.
    let mut text = serde_json::to_string_pretty(report).expect("a report always serialises");
    text.push('\n');
    text
}

/// Writes text to a file whole or not at all: a reader never sees half a report, and a full disk
/// leaves nothing behind. What is there and is no regular file (`/dev/stdout`, `/dev/null`, a FIFO)
/// is written to and never replaced.
///
/// # Errors
/// Whatever the kernel says of the folder or the disk, with the path in the message.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let with_path =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            let opened = fs::OpenOptions::new().write(true).open(path);
            let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
            written.map_err(with_path)
        }
        // A link keeps leading where it led: what it names is replaced, not the link.
        Ok(_) => replace(&path.canonicalize().map_err(with_path)?, text).map_err(with_path),
        Err(_) => replace(path, text).map_err(with_path),
    }
}

/// Puts a new file of this content in the place of `path`.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".report-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[test]
    fn files_are_replaced_and_links_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("new/report.json");
        let link = dir.path().join("link");
        write(&file, "first").expect("folders are created");
        symlink(&file, &link).expect("a link");
        write(&link, "second").expect("the file is replaced");
        assert_eq!(fs::read_to_string(&file).expect("there"), "second");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(
            fs::read_dir(dir.path().join("new")).expect("there").count(),
            1
        );
    }

    #[test]
    fn devices_are_written_to_and_never_replaced() {
        // A link in a folder of our own: were it replaced, the machine would keep its device.
        let dir = tempfile::tempdir().expect("a folder");
        let link = dir.path().join("full");
        symlink("/dev/full", &link).expect("a link");
        let error = write(&link, "text").expect_err("nothing fits");
        assert!(error.to_string().contains("full"), "{error}");
        assert!(
            fs::metadata(&link)
                .expect("there")
                .file_type()
                .is_char_device()
        );
    }
}
