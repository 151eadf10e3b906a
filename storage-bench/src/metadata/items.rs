//! The items of a rank: their names, what stands in files, and the calls that a phase times.

use super::spec::{Directories, MetadataSpec};
use crate::workload::content::mix;
use anyhow::Context;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// Whose items, and where.
#[derive(Debug, Clone)]
pub struct Place {
    folder: PathBuf,
    rank: usize,
    nonce: u64,
    bytes: u64,
    sync: bool,
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
        }
    }

    /// An item's path, before it is renamed or after.
    #[must_use]
    pub fn path(&self, item: Item, index: u64, renamed: bool) -> PathBuf {
        let kind = match item {
            Item::File => "file",
            Item::Folder => "dir",
        };
        let renamed = if renamed { ".renamed" } else { "" };
        self.folder
            .join(format!("{kind}.{}.{index:09}{renamed}", self.rank))
    }

    /// Creates an item; a file with its bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create(&self, item: Item, index: u64, buffer: &mut [u8]) -> anyhow::Result<()> {
        let path = self.path(item, index, false);
        let created = match item {
            Item::Folder => DirBuilder::new().mode(0o700).create(&path),
            Item::File => {
                self.fill(index, buffer);
                self.create_file(&path, buffer)
            }
        };
        created.with_context(|| format!("cannot create {}", path.display()))
    }

    fn create_file(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
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
        let path = self.path(item, index, false);
        let found = fs::symlink_metadata(&path).with_context(|| self.lost(&path))?;
        let is = match item {
            Item::File => found.is_file() && found.size() == self.bytes,
            Item::Folder => found.is_dir(),
        };
        anyhow::ensure!(
            is,
            "{}, created by rank {}, has another type or size: {:?}, {} bytes instead of {}",
            path.display(),
            self.rank,
            found.file_type(),
            found.size(),
            self.bytes
        );
        Ok(())
    }

    /// Opens and reads a file, which must hold what was written.
    ///
    /// # Errors
    /// The first byte that differs, or what the kernel says.
    pub fn read(&self, index: u64, buffers: &mut [Vec<u8>; 2]) -> anyhow::Result<()> {
        let path = self.path(Item::File, index, false);
        let [expected, found] = buffers;
        let read = |found: &mut Vec<u8>| -> std::io::Result<()> {
            let mut file = File::open(&path)?;
            found.clear();
            if self.bytes > 0 {
                file.read_to_end(found)?;
            }
            Ok(())
        };
        read(found).with_context(|| self.lost(&path))?;
        self.fill(index, expected);
        if expected == found {
            return Ok(());
        }
        let pairs = expected.iter().zip(found.iter());
        let at = pairs
            .take_while(|(expected, found)| expected == found)
            .count();
        anyhow::bail!(
            "{}, written by rank {}, differs from byte {at} on; it has {} bytes of {}",
            path.display(),
            self.rank,
            found.len(),
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
        let path = self.path(item, index, true);
        let deleted = match item {
            Item::File => fs::remove_file(&path),
            Item::Folder => fs::remove_dir(&path),
        };
        deleted.with_context(|| format!("cannot delete {}", path.display()))
    }

    fn lost(&self, path: &Path) -> String {
        format!(
            "cannot find {}, created by rank {}",
            path.display(),
            self.rank
        )
    }

    /// What stands in a file: words that depend on the run, the rank and the file.
    fn fill(&self, index: u64, buffer: &mut [u8]) {
        let seed = mix(self.nonce ^ (self.rank as u64) << 40 ^ index);
        for (at, chunk) in buffer.chunks_mut(8).enumerate() {
            let word = mix(seed.wrapping_add(at as u64)).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
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
        }
    }

    #[test]
    fn an_item_lives_through_all_phases() {
        let dir = tempfile::tempdir().expect("a folder");
        for bytes in [0, 3901] {
            let place = place(dir.path(), bytes);
            let mut buffer = vec![0; bytes as usize];
            let mut buffers = [buffer.clone(), Vec::new()];
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
        let mut buffers = [vec![0; 3901], Vec::new()];
        place
            .create(Item::File, 0, &mut vec![0; 3901])
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
        fs::write(&path, &bytes[..100]).expect("writable");
        let short = place.stat(Item::File, 0).expect_err("short").to_string();
        assert!(short.contains("100 bytes instead of 3901"), "{short}");
        fs::remove_file(&path).expect("removable");
        let lost = format!("{:#}", place.stat(Item::File, 0).expect_err("lost"));
        assert!(lost.contains("created by rank 2"), "{lost}");
        assert!(place.rename(Item::File, 0).is_err() && place.delete(Item::File, 0).is_err());
    }
}
