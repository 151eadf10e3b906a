//! Files that outlive a run: the target of a journal, until it is proven.

use super::device::kind_name;
use super::file::{check_new, folder_of};
use super::set_direct;
use crate::spec::{Place, Spec, usage};
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Looks at where a journal is to be, and touches nothing.
///
/// # Errors
/// [`reports::program::Usage`]: why it cannot be there, and what to do.
pub fn check_journal(path: &Path) -> anyhow::Result<()> {
    if fs::metadata(path).is_ok() {
        return Err(usage(format!(
            "--journal {}: it exists; a journal begins with a new file",
            path.display()
        )));
    }
    check_new("--journal", path).map(drop)
}

/// A new file of this name, which stays.
///
/// # Errors
/// What the guard or the kernel says.
pub fn create(path: &Path) -> anyhow::Result<File> {
    let name = path.file_name().context("this names no file")?;
    check_new("--filename", path)?.named(name)
}

/// Makes the name of a new file durable.
///
/// # Errors
/// What the kernel says of its folder.
pub fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = folder_of(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot make the folder {} durable", folder.display()))
}

/// Removes the file that was created for a run with a journal, which cannot begin.
pub fn remove_kept(spec: &Spec) {
    if let (Place::File(path), Some(_)) = (&spec.place, &spec.verify.journal) {
        // There is an error already, which says more.
        let _ = fs::remove_file(path);
    }
}

/// Opens a file that an earlier run wrote, for reading, past the page cache where that is possible.
///
/// # Errors
/// Why it cannot be read.
pub fn open_for_proof(path: &Path, direct: bool) -> anyhow::Result<(File, Metadata)> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    let found = file
        .metadata()
        .with_context(|| format!("cannot examine {}", path.display()))?;
    anyhow::ensure!(
        found.is_file(),
        "{} is {}, not a regular file",
        path.display(),
        kind_name(found.file_type())
    );
    // Where there is no direct I/O, the cache's clean pages are dropped as far as they can be.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    if direct {
        let _ = set_direct(&file, true);
    }
    Ok((file, found))
}
