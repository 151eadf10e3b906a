//! The items of a rank: their names, what stands in files, and the calls that a phase times.

use super::spec::{Directories, MetadataSpec};
use crate::workload::content::mix;
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{Mode, SFlag, lstat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use std::cell::RefCell;
use std::ffi::CStr;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of a file that say whose they are: its first word, and that of every further sector, which is
/// what devices write as a whole. The others are the run's.
const SECTOR: usize = 512;

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// What an item is called within its folder.
struct Name {
    item: Item,
    rank: usize,
    index: u64,
    renamed: bool,
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.item {
            Item::File => "file",
            Item::Folder => "dir",
        };
        let renamed = if self.renamed { ".renamed" } else { "" };
        write!(f, "{kind}.{}.{:09}{renamed}", self.rank, self.index)
    }
}

/// Whose items, and where.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    rank: usize,
    nonce: u64,
    bytes: u64,
    sync: bool,
    /// The path of the latest item: phases time the calls, and not how their words are put together.
    latest: RefCell<Vec<u8>>,
}

/// The folder of a rank's items.
#[must_use]
pub fn folder_of(tree: &Path, spec: &MetadataSpec, rank: usize) -> PathBuf {
    match spec.directories {
        Directories::Own => tree.join(format!("own.{rank}")),
        Directories::Shared => tree.join("shared"),
    }
}

impl Place {
    /// The items of a rank below the folder of a run.
    #[must_use]
    pub fn of(tree: &Path, nonce: u64, spec: &MetadataSpec, rank: usize) -> Self {
        Self {
            folder: folder_of(tree, spec, rank),
            rank,
            nonce,
            bytes: spec.write,
            sync: spec.sync,
            latest: RefCell::default(),
        }
    }

    /// A buffer for the bytes of a file, of which those that are alike in all files are there.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        // At most 64 MiB, as the options were checked.
        let mut buffer = vec![0; self.bytes as usize];
        for (at, chunk) in buffer.chunks_mut(8).enumerate() {
            let word = mix(self.nonce.wrapping_add(at as u64)).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        buffer
    }

    /// Calls the kernel with an item's path.
    fn at<T>(
        &self,
        item: Item,
        index: u64,
        renamed: bool,
        call: impl FnOnce(&CStr) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let mut path = self.latest.borrow_mut();
        path.clear();
        path.extend_from_slice(self.folder.as_os_str().as_bytes());
        write!(path, "/{}\0", self.name(item, index, renamed))?;
        call(CStr::from_bytes_with_nul(&path).map_err(std::io::Error::other)?)
    }

    /// An item's path, before it is renamed or after.
    #[must_use]
    pub fn path(&self, item: Item, index: u64, renamed: bool) -> PathBuf {
        self.folder
            .join(self.name(item, index, renamed).to_string())
    }

    fn name(&self, item: Item, index: u64, renamed: bool) -> Name {
        Name {
            item,
            rank: self.rank,
            index,
            renamed,
        }
    }

    /// Creates an item; a file with its bytes, in a buffer that [`Self::buffer`] made.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(&self, item: Item, index: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        let created = match item {
            Item::Folder => self.at(item, index, false, |path| {
                Ok(mkdir(path, Mode::from_bits_truncate(0o700))?)
            }),
            Item::File => {
                self.label(index, buffer);
                self.at(item, index, false, |path| self.create_file(path, buffer))
            }
        };
        created.with_context(|| {
            let path = self.path(item, index, false);
            format!("cannot create {}", path.display())
        })
    }

    fn create_file(&self, path: &CStr, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = opened(path, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        if !bytes.is_empty() {
            file.write_all(bytes)?;
        }
        if self.sync {
            file.sync_all()?;
        }
        nix::unistd::close(file)?;
        Ok(())
    }

    /// Looks at an item: it must be what was created.
    ///
    /// # Errors
    /// What it is instead.
    pub fn stat(&self, item: Item, index: u64) -> anyhow::Result<()> {
        let found = self.at(item, index, false, |path| Ok(lstat(path)?));
        let found = found.with_context(|| self.lost(item, index))?;
        let (kind, size) = (found.st_mode & SFlag::S_IFMT.bits(), found.st_size as u64);
        let is = match item {
            Item::File => kind == SFlag::S_IFREG.bits() && size == self.bytes,
            Item::Folder => kind == SFlag::S_IFDIR.bits(),
        };
        anyhow::ensure!(
            is,
            "{}, created by rank {}, has another type or size: mode {:o}, {size} bytes instead of {}",
            self.path(item, index, false).display(),
            self.rank,
            found.st_mode,
            self.bytes
        );
        Ok(())
    }

    /// Opens and reads a file, which must hold what was written; [`Self::stat`] sees whether it is
    /// longer. The buffers are for what is expected, from [`Self::buffer`], and for what is
    /// found.
    ///
    /// # Errors
    /// The first byte that differs, or what the kernel says.
    pub fn read(&self, index: u64, [expected, found]: &mut [Vec<u8>; 2]) -> anyhow::Result<()> {
        let read = self.at(Item::File, index, false, |path| {
            let mut file = opened(path, OFlag::O_RDONLY)?;
            found.resize(expected.len(), 0);
            whole(&mut file, found)
        });
        let length = read.with_context(|| self.lost(Item::File, index))?;
        self.label(index, expected);
        if expected[..] == found[..length] {
            return Ok(());
        }
        let pairs = expected.iter().zip(&found[..length]);
        let at = pairs
            .take_while(|(expected, found)| expected == found)
            .count();
        anyhow::bail!(
            "{}, written by rank {}, differs from byte {at} on; it has {length} bytes of {}",
            self.path(Item::File, index, false).display(),
            self.rank,
            expected.len()
        )
    }

    /// Renames an item within its folder.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rename(&self, item: Item, index: u64) -> anyhow::Result<()> {
        let (from, to) = (self.path(item, index, false), self.path(item, index, true));
        fs::rename(&from, to).with_context(|| format!("cannot rename {}", from.display()))
    }

    /// Deletes a renamed item.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delete(&self, item: Item, index: u64) -> anyhow::Result<()> {
        let flag = match item {
            Item::File => UnlinkatFlags::NoRemoveDir,
            Item::Folder => UnlinkatFlags::RemoveDir,
        };
        let deleted = self.at(item, index, true, |path| {
            Ok(unlinkat(AT_FDCWD, path, flag)?)
        });
        deleted.with_context(|| {
            let path = self.path(item, index, true);
            format!("cannot delete {}", path.display())
        })
    }

    fn lost(&self, item: Item, index: u64) -> String {
        let path = self.path(item, index, false);
        format!(
            "cannot find {}, created by rank {}",
            path.display(),
            self.rank
        )
    }

    /// Makes the bytes of a buffer those of one file.
    fn label(&self, index: u64, buffer: &mut [u8]) {
        let seed = mix(self.nonce ^ (self.rank as u64) << 40 ^ index);
        for (at, sector) in buffer.chunks_mut(SECTOR).enumerate() {
            let word = mix(seed.wrapping_add(at as u64)).to_le_bytes();
            let length = sector.len().min(word.len());
            sector[..length].copy_from_slice(&word[..length]);
        }
    }
}

/// Opens a file, however often a signal comes between: a network file system may be slow.
fn opened(path: &CStr, flags: OFlag) -> std::io::Result<File> {
    loop {
        match open(
            path,
            flags | OFlag::O_CLOEXEC,
            Mode::from_bits_truncate(0o600),
        ) {
            Err(Errno::EINTR) => {}
            opened => return Ok(File::from(opened?)),
        }
    }
}

/// Reads until the buffer is full or the file has ended: how many bytes that were.
fn whole(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path, bytes: u64) -> Place {
        Place {
            folder: folder.to_owned(),
            rank: 2,
            nonce: 7,
            bytes,
            sync: true,
            latest: RefCell::default(),
        }
    }

    #[test]
    fn an_item_lives_through_all_phases() {
        let dir = tempfile::tempdir().expect("a folder");
        for bytes in [0, 3901] {
            let place = place(dir.path(), bytes);
            let mut buffer = place.buffer();
            let mut buffers = [place.buffer(), Vec::new()];
            for item in [Item::Folder, Item::File] {
                place.create(item, 4, &mut buffer).expect("created");
                assert!(place.create(item, 4, &mut buffer).is_err(), "once only");
                place.stat(item, 4).expect("it is there");
                if item == Item::File {
                    place.read(4, &mut buffers).expect("as written");
                }
                place.rename(item, 4).expect("renamed");
                assert!(place.stat(item, 4).is_err(), "its old name is gone");
                place.delete(item, 4).expect("deleted");
            }
        }
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);
    }

    #[test]
    fn lost_short_and_damaged_files_are_told_apart() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = place(dir.path(), 3901);
        let mut buffers = [place.buffer(), Vec::new()];
        place
            .create(Item::File, 0, &mut place.buffer())
            .expect("created");
        let path = place.path(Item::File, 0, false);
        let mut bytes = fs::read(&path).expect("readable");
        bytes[3000] ^= 1;
        fs::write(&path, &bytes).expect("writable");
        let damaged = place
            .read(0, &mut buffers)
            .expect_err("damaged")
            .to_string();
        assert!(
            damaged.contains("byte 3000") && damaged.contains("rank 2"),
            "{damaged}"
        );
        place
            .create(Item::File, 1, &mut place.buffer())
            .expect("created");
        fs::copy(place.path(Item::File, 1, false), &path).expect("writable");
        let other = place.read(0, &mut buffers).expect_err("another's");
        assert!(other.to_string().contains("byte 0"), "{other}");
        fs::write(&path, &bytes[..100]).expect("writable");
        let short = place.read(0, &mut buffers).expect_err("short").to_string();
        assert!(short.contains("byte 100 on; it has 100"), "{short}");
        let short = place.stat(Item::File, 0).expect_err("short").to_string();
        assert!(short.contains("100 bytes instead of 3901"), "{short}");
        fs::remove_file(&path).expect("removable");
        let lost = format!("{:#}", place.stat(Item::File, 0).expect_err("lost"));
        assert!(lost.contains("created by rank 2"), "{lost}");
        assert!(place.rename(Item::File, 0).is_err() && place.delete(Item::File, 0).is_err());
    }
}
