//! Files: existing ones are only read, and what is written has just been created.

use super::device::{changes, kind_name};
use super::folder::{Folder, name_of, pin, unsuitable};
use super::machine::Machine;
use crate::spec::{Place, Rw, usage};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Looks at what `file` is to work on, and touches nothing. Returns the size of a file that is
/// already there.
///
/// # Errors
/// [`reports::program::Usage`]: why this cannot be a target, and what to do.
pub fn inspect(place: &Place, rw: Rw) -> anyhow::Result<Option<u64>> {
    match place {
        Place::Scratch(dir) => {
            Folder::open("--dir", dir)?;
            Ok(None)
        }
        Place::File(path) => match pin(path) {
            Ok(pinned) => check_existing(path, &metadata(path, &pinned)?, rw).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_new("--filename", path)?;
                Ok(None)
            }
            Err(error) => Err(usage(format!("--filename {}: {error}", path.display()))),
        },
        Place::Nowhere | Place::Device(_) => Ok(None),
    }
}

/// Opens the file of this name for reading, if there is one. What is decided is decided of what is
/// opened.
///
/// # Errors
/// As for [`inspect`], and what the kernel says.
pub fn existing(path: &Path, rw: Rw) -> anyhow::Result<Option<File>> {
    let pinned = match pin(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => anyhow::bail!("cannot open {}: {error}", path.display()),
        Ok(pinned) => pinned,
    };
    check_existing(path, &metadata(path, &pinned)?, rw)?;
    let opened = File::open(name_of(&pinned));
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => anyhow::anyhow!(
            "cannot open {}: {error}: this user may not read it",
            path.display()
        ),
        _ => anyhow::anyhow!("cannot open {}: {error}", path.display()),
    })?;
    Ok(Some(file))
}

/// A scratch file in the place of this name, which stands for nothing yet.
///
/// # Errors
/// As for [`inspect`], and what the kernel says.
pub fn create(path: &Path) -> anyhow::Result<File> {
    check_new("--filename", path)?.nameless()
}

fn metadata(path: &Path, file: &File) -> anyhow::Result<Metadata> {
    let found = file.metadata();
    found.map_err(|error| anyhow::anyhow!("cannot examine {}: {error}", path.display()))
}

fn check_existing(path: &Path, found: &Metadata, rw: Rw) -> anyhow::Result<u64> {
    let refused = |why: &str| Err(usage(format!("--filename {}: {why}", path.display())));
    let kind = found.file_type();
    if kind.is_block_device() {
        return refused("it is a block device; use it with `storage-bench block --device`");
    }
    if kind.is_dir() {
        return refused("it is a folder; for a scratch file in it use --dir");
    }
    if !kind.is_file() {
        let what = format!("it is {}, not a regular file", kind_name(kind));
        return refused(&what);
    }
    if let Some(why) = unsuitable(&Machine::default(), found.dev()) {
        return refused(&why);
    }
    if changes(rw) {
        return refused(
            "it exists, and files that this program did not create are only read; name a file \
             that does not exist yet, or leave --filename out for a scratch file",
        );
    }
    if found.len() == 0 {
        return refused("it is empty; there is nothing to read");
    }
    Ok(found.len())
}

/// The folder in which a file of this name may be created, for an option.
///
/// # Errors
/// [`reports::program::Usage`]: why it may not be, and what to do.
pub fn check_new(option: &str, path: &Path) -> anyhow::Result<Folder> {
    if fs::symlink_metadata(path).is_ok() {
        let text = "it is a symbolic link that leads nowhere; name the file itself";
        return Err(usage(format!("{option} {}: {text}", path.display())));
    }
    if path.file_name().is_none() {
        let text = "this names no file";
        return Err(usage(format!("{option} {}: {text}", path.display())));
    }
    Folder::open(option, folder_of(path))
}

/// The folder that a name lies in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
