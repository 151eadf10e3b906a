//! What is on a device: file systems, partition tables, members of volumes and arrays, known by
//! the bytes that their makers put there. Somebody's data that nothing mounts right now is what a
//! benchmark destroys most easily, because the kernel has no reason to object.

mod table;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A part of an opened device, or all of it.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// The device, opened for reading and not for direct I/O.
    pub file: &'a File,
    /// Where the part begins, in bytes.
    pub start: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

impl Window<'_> {
    /// The bytes at an offset; fewer where the window ends.
    fn read(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let count = (count as u64).min(self.bytes.saturating_sub(at)) as usize;
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, self.start + at)?;
        Ok(bytes)
    }
}

/// The names of everything that is recognised, without repetition, in the order of the table.
///
/// # Errors
/// What the kernel says when the device cannot be read.
pub fn find(window: &Window<'_>) -> io::Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for magic in table::MAGICS {
        let at = match magic.at {
            table::At::Start(at) => Some(at),
            table::At::End(back) => window.bytes.checked_sub(back),
        };
        let Some(at) = at else { continue };
        if window.read(at, magic.bytes.len())? == magic.bytes {
            found.push(magic.name);
        }
    }
    for (_, look) in table::LOOKS {
        found.extend(look(window)?);
    }
    let mut names: Vec<&'static str> = Vec::new();
    for name in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a name is one that [`find`] may give.
#[must_use]
pub fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    let looked = table::LOOKS.iter().flat_map(|(names, _)| names.iter());
    table::MAGICS
        .iter()
        .map(|magic| magic.name)
        .chain(looked.copied())
}

#[cfg(test)]
mod tests;
