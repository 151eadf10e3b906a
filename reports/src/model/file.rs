//! Reports as files: read with suspicion, written whole or not at all.

use super::Report;
use super::parse::{LoadError, parse};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The largest report that is read, in bytes. A run over 512 ranks stays below 64 MiB.
pub const MAX_REPORT_BYTES: u64 = 256 << 20;

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

/// Reads every report in the given files, folders and glob patterns; a folder stands for its
/// `.json` files, a session's folder for those in `runs`. What cannot be read is returned beside
/// what can. The order is that of the paths and names, whatever the number of threads.
pub fn load_all(paths: &[PathBuf]) -> (Vec<Report>, Vec<LoadError>) {
    let files = find(paths);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(threads).max(1);
    let mut loaded: Vec<Result<Report, LoadError>> = Vec::with_capacity(files.len());
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        let mut rest = files.into_iter().peekable();
        while rest.peek().is_some() {
            let files: Vec<_> = rest.by_ref().take(share).collect();
            workers.push(scope.spawn(move || {
                let loaded = files.into_iter().map(|file| load(&file?));
                loaded.collect::<Vec<_>>()
            }));
        }
        for worker in workers {
            // A worker does nothing but load, which returns its faults.
            loaded.extend(worker.join().expect("loading does not panic"));
        }
    });
    let mut faults = Vec::new();
    let good = loaded.into_iter().filter_map(|one| match one {
        Ok(report) => Some(report),
        Err(error) => {
            faults.push(error);
            None
        }
    });
    (good.collect(), faults)
}

/// The files that [`load_all`] loads, and what stands in the place of a path that has none.
pub(crate) fn find(paths: &[PathBuf]) -> Vec<Result<PathBuf, LoadError>> {
    let mut files = Vec::new();
    for path in paths {
        match files_of(path) {
            Ok(found) => files.extend(found.into_iter().map(Ok)),
            Err(error) => files.push(Err(error)),
        }
    }
    files
}

/// The files that a path on the command line stands for.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    if path.is_dir() {
        return files_in(path);
    }
    let pattern = path.to_str().filter(|text| text.contains(['*', '?', '[']));
    match pattern {
        Some(pattern) if !path.exists() => matching(pattern),
        _ => Ok(vec![path.to_owned()]),
    }
}

/// The files that match a pattern that no shell has expanded; of a folder that matches, its files.
fn matching(pattern: &str) -> Result<Vec<PathBuf>, LoadError> {
    let fault = |reason: String| LoadError::Pattern {
        pattern: pattern.to_owned(),
        reason,
    };
    let mut files = Vec::new();
    for found in glob::glob(pattern).map_err(|error| fault(error.to_string()))? {
        let found = found.map_err(|error| fault(error.to_string()))?;
        if found.is_dir() {
            files.extend(files_in(&found)?);
        } else {
            files.push(found);
        }
    }
    if files.is_empty() {
        return Err(fault("no file matches it".to_owned()));
    }
    Ok(files)
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
