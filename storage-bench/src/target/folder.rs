//! Folders and files, pinned before anything is decided about them: what was looked at is what is
//! opened, whatever happens to the names meanwhile.

use super::machine::Machine;
use crate::spec::usage;
use anyhow::Context;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// File systems that are windows into the kernel: reading their files may do anything, and none of
/// it is storage.
const PSEUDO: &[&str] = &[
    "proc",
    "sysfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
    "bpf",
    "pstore",
    "efivarfs",
    "mqueue",
    "binfmt_misc",
    "fusectl",
    "selinuxfs",
    "nsfs",
];

/// Takes hold of what a name leads to without opening it: no device reacts, no FIFO waits.
///
/// # Errors
/// What the kernel says.
pub fn pin(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH).open(path)
}

/// A name for exactly what was pinned.
#[must_use]
pub fn name_of(pinned: &File) -> PathBuf {
    format!("/proc/self/fd/{}", pinned.as_raw_fd()).into()
}

/// Why a file system of this number is no place for files, if it is none.
#[must_use]
pub fn unsuitable(machine: &Machine, device: u64) -> Option<String> {
    let kind = machine.kind_of(device)?;
    match kind.as_str() {
        "devtmpfs" => Some("it lies in devtmpfs, where devices have their names".to_owned()),
        kind if PSEUDO.contains(&kind) => Some(format!(
            "it lies in {kind}, which is a window into the kernel and no storage"
        )),
        _ => None,
    }
}

/// A folder in which a file may be created.
#[derive(Debug)]
pub struct Folder {
    pinned: File,
    path: PathBuf,
}

impl Folder {
    /// Takes hold of a folder and judges it.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: why no file is created there, with the option named.
    pub fn open(option: &str, path: &Path) -> anyhow::Result<Self> {
        let refused = |why: &str| usage(format!("{option}: folder {}: {why}", path.display()));
        let pinned = pin(path).map_err(|error| refused(&error.to_string()))?;
        let found = pinned
            .metadata()
            .map_err(|error| refused(&error.to_string()))?;
        if !found.is_dir() {
            return Err(refused("it is not a folder"));
        }
        let real = fs::read_link(name_of(&pinned)).unwrap_or_default();
        if real.starts_with("/dev") {
            return Err(refused(
                "nothing is ever created under /dev; to use a device there is `storage-bench \
                 block --device`",
            ));
        }
        if let Some(why) = unsuitable(&Machine::default(), found.dev()) {
            return Err(refused(&why));
        }
        Ok(Self {
            pinned,
            path: path.to_owned(),
        })
    }

    /// The file system's number.
    #[must_use]
    pub fn device(&self) -> Option<u64> {
        self.pinned.metadata().ok().map(|found| found.dev())
    }

    /// A file without a name. It vanishes with its last descriptor, however the process ends. Where
    /// the file system has no such files it is one that loses its name at once.
    ///
    /// # Errors
    /// What the kernel says, with the remedy where there is one.
    pub fn nameless(&self) -> anyhow::Result<File> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_EXCL)
            .open(name_of(&self.pinned));
        match opened {
            // What kernels and file systems without O_TMPFILE say; the flag has O_DIRECTORY in it.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT)
                ) =>
            {
                let name = format!(".storage-bench-{:016x}", fastrand::u64(..));
                self.unlinked(OsStr::new(&name))
            }
            Err(error) => Err(self.cannot_create(error)),
            Ok(file) => Ok(file),
        }
    }

    /// A new file of this name.
    ///
    /// # Errors
    /// As for `nameless`.
    pub fn named(&self, name: &OsStr) -> anyhow::Result<File> {
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = nix::fcntl::openat(&self.pinned, name, flags, mode)
            .map_err(|errno| self.cannot_create(errno.into()))?;
        Ok(File::from(file))
    }

    /// A new file of this name, which is taken away again at once: only the descriptor remains.
    fn unlinked(&self, name: &OsStr) -> anyhow::Result<File> {
        let file = self.named(name)?;
        let path = self.path.join(name);
        let found = file
            .metadata()
            .with_context(|| format!("cannot examine {}", path.display()))?;
        // Where others may write, the name may already stand for something of theirs.
        let named = fstatat(&self.pinned, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let is_ours =
            named.is_ok_and(|named| (named.st_dev, named.st_ino) == (found.dev(), found.ino()));
        anyhow::ensure!(
            is_ours,
            "{} was created just now and has been replaced by somebody else; use a folder in which \
             nobody else may write",
            path.display()
        );
        unlinkat(&self.pinned, name, UnlinkatFlags::NoRemoveDir).with_context(|| {
            format!(
                "cannot unlink {}, which was created just now; remove it",
                path.display()
            )
        })?;
        Ok(file)
    }

    fn cannot_create(&self, error: io::Error) -> anyhow::Error {
        let remedy = match error.raw_os_error() {
            Some(libc::EROFS) => ": the file system is mounted read-only; use another place",
            Some(libc::EACCES | libc::EPERM) => {
                ": this user may not write there; use another folder, or another user"
            }
            Some(libc::ENOSPC) => ": the file system has no room or no inode left",
            Some(libc::EDQUOT) => ": the quota is used up; use another place",
            _ => "",
        };
        anyhow::anyhow!(
            "cannot create a scratch file in {}: {error}{remedy}",
            self.path.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_file_that_loses_its_name_is_new_and_replaces_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open("--dir", dir.path()).expect("a good folder");
        let file = folder
            .unlinked(OsStr::new("scratch"))
            .expect("a scratch file");
        file.write_all_at(b"text", 0).expect("room");
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0);
        fs::write(dir.path().join("taken"), "a document").expect("a file");
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).expect("a link");
        for name in ["taken", "link"] {
            let error = folder.unlinked(OsStr::new(name)).expect_err("it exists");
            assert!(error.to_string().contains("File exists"), "{error}");
        }
        assert!(!dir.path().join("nowhere").exists());
        assert_eq!(
            fs::read(dir.path().join("taken")).expect("there"),
            b"a document"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_says_why() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open("--dir", dir.path()).expect("a good folder");
        for (errno, remedy) in [
            (libc::EROFS, "mounted read-only"),
            (libc::EACCES, "may not write there"),
            (libc::ENOSPC, "no inode"),
            (libc::EDQUOT, "quota"),
        ] {
            let text = folder
                .cannot_create(io::Error::from_raw_os_error(errno))
                .to_string();
            assert!(text.contains(remedy), "{text}");
        }
    }
}
