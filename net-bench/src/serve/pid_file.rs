//! The file that says which process the server is.
//!
//! It is locked as long as the server lives, so that two servers cannot share it, and removed when
//! the server ends in good order. One that a killed server left behind is replaced; nothing else is.

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

/// More than a process number takes.
const MAX_BYTES: u64 = 32;

/// How often the file is opened again because another server removed it meanwhile.
const ATTEMPTS: usize = 10;

/// A pid file that is this server's, removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: Flock<File>,
}

impl PidFile {
    /// Takes the file for this process, without writing to it yet.
    ///
    /// # Errors
    /// It is another process's, or no pid file at all.
    pub fn claim(path: &Path) -> anyhow::Result<Self> {
        let name = format!("--pid-file {}", path.display());
        for _ in 0..ATTEMPTS {
            let mut file = open(path).with_context(|| {
                format!("{name}: cannot open it; name a file in a folder that may be written")
            })?;
            // Before the lock: what is no pid file is left alone.
            let content = content(&mut file).with_context(|| format!("{name}: cannot read it"))?;
            let pid = pid_in(&content).with_context(|| {
                format!("{name}: it holds no process number, so it is no pid file; name another")
            })?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => anyhow::bail!("{name}: {}", taken(pid)),
                Err((_, error)) => {
                    return Err(error).with_context(|| format!("{name}: cannot lock it"));
                }
            };
            // Between opening and locking the server that had it may have removed it.
            if !is_at(&file, path) {
                continue;
            }
            if let Some(pid) = pid.filter(|&pid| is_another(pid)) {
                anyhow::bail!(
                    "{name}: process {pid} lives, though it does not hold the file; if it is no \
                     server, remove the file, else stop it with `kill {pid}` or name another file"
                );
            }
            return Ok(Self {
                path: path.to_owned(),
                file,
            });
        }
        anyhow::bail!("{name}: others keep removing it; name another file")
    }

    /// Writes the number of this process into the file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self) -> anyhow::Result<()> {
        let write = || -> io::Result<()> {
            let mut file: &File = &self.file;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(format!("{}\n", process::id()).as_bytes())
        };
        write().with_context(|| format!("--pid-file {}: cannot write it", self.path.display()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Still locked: nobody can have taken it. Somebody may have put another in its place.
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the file, or makes it. A link would lead to a file that somebody else chose.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

fn content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// The process number that a pid file holds, none if it is empty; `None` if it is no pid file.
fn pid_in(content: &[u8]) -> Option<Option<i32>> {
    let text = std::str::from_utf8(content).ok()?.trim();
    if text.is_empty() {
        return Some(None);
    }
    let pid = text.parse().ok().filter(|&pid| pid > 0)?;
    Some(Some(pid))
}

fn taken(pid: Option<i32>) -> String {
    match pid {
        Some(pid) => format!(
            "the server of process {pid} has it; stop that one with `kill {pid}`, or name another \
             file"
        ),
        None => "a server that is starting has it; name another file".to_owned(),
    }
}

/// Whether a process of this number lives beside this one, be it another user's. In a container
/// that was started again, our own number is often that of the server before us.
fn is_another(pid: i32) -> bool {
    let pid = Pid::from_raw(pid);
    pid != Pid::this() && kill(pid, None) != Err(Errno::ESRCH)
}

/// Whether a path still leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_holds_a_number_or_nothing() {
        assert_eq!(pid_in(b"17\n"), Some(Some(17)));
        assert_eq!(pid_in(b" \n"), Some(None));
        for other in [
            &b"root:x:0"[..],
            b"0",
            b"-1",
            b"17 18",
            b"\xff",
            b"99999999999",
        ] {
            assert_eq!(pid_in(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_number_that_is_ours_was_left_behind() {
        assert!(!is_another(Pid::this().as_raw()));
        assert!(is_another(Pid::parent().as_raw()));
    }
}
