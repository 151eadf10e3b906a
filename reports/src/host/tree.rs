//! Reading /sys, /proc and /etc with suspicion.
//!
//! In a container, on a broken machine or in a fixture any of these files may be absent, huge, a
//! pipe that never answers, or bytes that would upset a terminal. Every reader here is bounded,
//! never blocks, and turns whatever is wrong into a reason that names the file.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The most bytes that are read of one file; /proc/cpuinfo of 512 CPUs stays below.
const MAX_FILE_BYTES: u64 = 2 << 20;
/// The most entries that are read of one folder.
const MAX_ENTRIES: usize = 4096;

/// Why something could not be read: the file, and what happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

impl Unreadable {
    fn new(path: &Path, problem: impl fmt::Display) -> Self {
        Self(format!("{}: {problem}", path.display()))
    }
}

/// The result of a look-up.
pub(super) type Lookup<T> = Result<T, Unreadable>;

/// A folder that is read from.
#[derive(Debug, Clone)]
pub(super) struct Tree(PathBuf);

impl Tree {
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The folder `path` below this one.
    pub(super) fn sub(&self, path: impl AsRef<Path>) -> Self {
        Self(self.path(path))
    }

    /// Where `path` is, for a reason.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            self.0.clone()
        } else {
            self.0.join(path.strip_prefix("/").unwrap_or(path))
        }
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The text of a file without surrounding white space, which may be empty.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Lookup<String> {
        let path = self.path(path);
        let bytes = read_bounded(&path).map_err(|error| Unreadable::new(&path, error))?;
        let text = String::from_utf8(bytes)
            .ok()
            .filter(|text| text.chars().all(|c| !c.is_control() || "\n\t".contains(c)))
            .ok_or_else(|| Unreadable::new(&path, "holds bytes that are not text"))?;
        Ok(text.trim().to_owned())
    }

    /// The one line that a file holds. Empty is a reason, never a value.
    pub(super) fn line(&self, path: impl AsRef<Path>) -> Lookup<String> {
        let path = path.as_ref();
        let text = self.text(path)?;
        match text.lines().next() {
            None => Err(self.wrong(path, "is empty")),
            Some(_) if text.contains('\n') => Err(self.wrong(path, "has more than one line")),
            Some(line) => Ok(line.to_owned()),
        }
    }

    /// The number that a file holds.
    pub(super) fn number<T: FromStr>(&self, path: impl AsRef<Path>) -> Lookup<T> {
        let path = path.as_ref();
        let line = self.line(path)?;
        line.parse()
            .map_err(|_| self.wrong(path, format!("holds {}, no such number", quote(&line))))
    }

    /// The yes or no that a file holds as 1 or 0.
    pub(super) fn flag(&self, path: impl AsRef<Path>) -> Lookup<bool> {
        let path = path.as_ref();
        match self.line(path)?.as_str() {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(self.wrong(path, format!("holds {}, neither 0 nor 1", quote(other)))),
        }
    }

    /// The choice in brackets, as in `always [madvise] never`.
    pub(super) fn chosen(&self, path: impl AsRef<Path>) -> Lookup<String> {
        let path = path.as_ref();
        let line = self.line(path)?;
        let inner = line
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        inner
            .map(|(choice, _)| choice.to_owned())
            .ok_or_else(|| self.wrong(path, format!("holds {}, no [choice]", quote(&line))))
    }

    /// The names in a folder, numbers within them in numeric order: `cpu2` before `cpu10`.
    pub(super) fn names(&self, path: &str) -> Lookup<Vec<String>> {
        let path = self.path(path);
        let entries = fs::read_dir(&path).map_err(|error| Unreadable::new(&path, error))?;
        let mut names = Vec::new();
        for entry in entries.take(MAX_ENTRIES) {
            let entry = entry.map_err(|error| Unreadable::new(&path, error))?;
            names.extend(
                entry
                    .file_name()
                    .to_str()
                    .filter(|n| plain(n))
                    .map(str::to_owned),
            );
        }
        names.sort_by_cached_key(|name| natural_key(name));
        Ok(names)
    }

    /// What a driver's `uevent` file says of a key, as in `DRIVER=ena`.
    pub(super) fn uevent(&self, path: &str, key: &str) -> Lookup<String> {
        let text = self.text(path)?;
        value_of(&text, key, '=')
            .map(str::to_owned)
            .ok_or_else(|| self.wrong(path, format!("has no {key}")))
    }

    /// A reason about a file of this tree.
    pub(super) fn wrong(&self, path: impl AsRef<Path>, problem: impl fmt::Display) -> Unreadable {
        Unreadable::new(&self.path(path), problem)
    }
}

/// The value of the first `key: value` line, whatever white space surrounds the separator.
pub(super) fn value_of<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(separator)?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The CPUs or nodes of a list like `0-3,8`, if it is one. Bounded: a list naming more than 65536
/// is no list of CPUs.
pub(super) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut members = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= 65536 {
            return None;
        }
        members.extend(first..=last);
        if members.len() > 65536 {
            return None;
        }
    }
    Some(members)
}

/// A piece of a file in a reason, cut short: the file may be anything.
pub(super) fn quote(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// Reads a regular file without ever waiting for a writer on the other end of a pipe.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "is larger than {MAX_FILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

/// Whether a name can stand in a report and in a path.
fn plain(name: &str) -> bool {
    name.len() < 128
        && name.chars().all(|c| !c.is_control())
        && Path::new(name).file_name() == Some(OsStr::new(name))
}

fn natural_key(name: &str) -> (String, u64, String) {
    let start = name
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(name.len());
    let (head, rest) = name.split_at(start);
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, tail) = rest.split_at(end);
    let number = digits.parse().unwrap_or(u64::MAX);
    (head.to_owned(), number, tail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_nonsense_is_not() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list(""), Some(vec![]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("0-99999999"), None);
        assert_eq!(parse_list("-1"), None);
        assert_eq!(parse_list(&"0-65535,".repeat(1000)), None);
    }

    #[test]
    fn names_come_in_the_order_of_their_numbers() {
        let mut names = ["cpu10", "cpu2", "cpu", "nvme1n1", "nvme0n1", "nvme0n12"];
        names.sort_by_cached_key(|name| natural_key(name));
        assert_eq!(
            names,
            ["cpu2", "cpu10", "cpu", "nvme0n1", "nvme0n12", "nvme1n1"]
        );
    }

    #[test]
    fn whatever_is_no_text_file_becomes_a_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = Tree::new(folder.path());
        let write = |name: &str, bytes: &[u8]| {
            fs::write(folder.path().join(name), bytes).expect("a file");
        };
        write("empty", b"");
        write("binary", b"\x00\x1b[31m\xff");
        write("huge", &vec![b'x'; (MAX_FILE_BYTES + 1) as usize]);
        write("lines", b"one\ntwo\n");
        write("word", b"word\n");
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).expect("a link");
        nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU)
            .expect("a pipe");
        for (name, reason) in [
            ("empty", "is empty"),
            ("binary", "not text"),
            ("huge", "larger than"),
            ("lines", "more than one line"),
            ("loop", "symbolic links"),
            ("pipe", "not a regular file"),
            ("absent", "No such file"),
            ("", "not a regular file"),
        ] {
            let error = tree.line(name).expect_err(name).to_string();
            assert!(error.contains(reason), "{name}: {error}");
            assert!(
                error.starts_with(&*folder.path().to_string_lossy()),
                "{error}"
            );
        }
        assert!(tree.number::<u64>("word").is_err());
        assert!(tree.flag("word").is_err());
        assert!(tree.chosen("word").is_err());
        assert_eq!(tree.line("word").as_deref(), Ok("word"));
    }
}
