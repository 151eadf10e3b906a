//! Files that outlive a run: the target of a journal, until it is proven.

use super::device::kind_name;
use super::file::{check_new, folder_of};
use super::identity::identity;
use super::machine::Machine;
use super::set_direct;
use crate::spec::{Place, Spec, usage};
use anyhow::Context;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
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

/// What an earlier run wrote, or is to have written.
#[derive(Debug)]
pub struct Kept {
    /// Opened for reading.
    pub file: File,
    /// Its size.
    pub bytes: u64,
    /// Its inode.
    pub inode: u64,
    /// What a block device is called by `--destroy`.
    pub device: Option<String>,
}

/// Opens a file or block device that an earlier run wrote, for reading, past the page cache where that
/// is possible.
///
/// # Errors
/// Why it cannot be read.
pub fn open_for_proof(path: &Path, direct: bool) -> anyhow::Result<Kept> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    let mut file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    let found = file
        .metadata()
        .with_context(|| format!("cannot examine {}", path.display()))?;
    let kind = found.file_type();
    anyhow::ensure!(
        kind.is_file() || kind.is_block_device(),
        "{} is {}, neither a regular file nor a block device",
        path.display(),
        kind_name(kind)
    );
    let (bytes, device) = if kind.is_block_device() {
        let machine = Machine::default();
        let device = machine.block_device(found.rdev());
        let device = device.map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
        let bytes = file.seek(SeekFrom::End(0))?;
        (bytes, Some(identity(&machine, &device)))
    } else {
        (found.len(), None)
    };
    // Where there is no direct I/O, the cache's clean pages are dropped as far as they can be.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    if direct {
        let _ = set_direct(&file, true);
    }
    Ok(Kept {
        file,
        bytes,
        inode: found.ino(),
        device,
    })
}
