//! The journal: what a run writes down of its writes, so that another process can prove after a
//! crash that nothing was lost that had been promised.
//!
//! It is an append-only file of frames, each with a checksum that the run's nonce seeds. The first
//! frame describes the target. Before writes are handed to the kernel their blocks and sequence
//! numbers are appended (*intents*), with one `write` for each batch: that survives the end of the
//! process. After some writes the target is made durable with fdatasync; then the writes that had
//! been completed before it are appended as *durable*, and the journal itself is made durable: that
//! survives the end of the machine. A frame that a crash cut off makes no promise.

mod read;

pub use read::{Found, Known, read};

use super::pattern::Request;
use anyhow::Context;
use crc32c::{crc32c, crc32c_append};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a journal begins with, for people who look into it.
const GREETING: &[u8] = b"storage-bench journal\n";
/// The format that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Length, checksum, kind.
const FRAME_HEADER: usize = 12;
/// Unit, sequence number, units.
const ENTRY: usize = 24;
/// Entries of a frame, at most.
const MAX_ENTRIES: usize = 1 << 14;
/// Bytes of the first frame, at most.
const MAX_HEADER: usize = 64 << 10;
/// The most units of a target that has a journal: who reads it needs memory for each.
pub const MAX_UNITS: u64 = 1 << 27;
/// The most writes between two times that they are made durable.
pub const MAX_EVERY: u64 = 1 << 20;

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Frame {
    Header = 1,
    Intents = 2,
    Durable = 3,
}

/// What the first frame says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Of the format.
    pub version: u32,
    /// The number that the run has drawn: all its blocks derive from it.
    pub nonce: u64,
    /// Bytes of a unit.
    pub unit_bytes: u64,
    /// Bytes of the target that are used.
    pub size: u64,
    /// The most units of one operation.
    pub units_per_operation: u32,
    /// Where the target is.
    pub target: PathBuf,
    /// Its inode, if it is a file: the run created it.
    pub inode: u64,
    /// What it is called by `--destroy`, if it is a block device: names under /dev change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whether it was opened with O_DIRECT.
    pub direct: bool,
    /// The kernel's name of the boot: in the same one every intent is known.
    pub boot: Option<String>,
}

/// What stands in a frame about one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    request: Request,
    sequence: u64,
}

impl Entry {
    fn append_to(self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.request.unit.to_le_bytes());
        payload.extend_from_slice(&self.sequence.to_le_bytes());
        payload.extend_from_slice(&u64::from(self.request.units).to_le_bytes());
    }
}

/// The kernel's name of this boot.
#[must_use]
pub fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

fn frame_checksum(nonce: u64, kind: u32, payload: &[u8]) -> u32 {
    let seeded = crc32c(&nonce.to_le_bytes());
    crc32c_append(crc32c_append(seeded, &kind.to_le_bytes()), payload)
}

/// Puts the header of a frame into the room left for it before the payload.
fn finish_frame(frame: &mut [u8], nonce: u64, kind: Frame) {
    let (header, payload) = frame.split_at_mut(FRAME_HEADER);
    let sum = frame_checksum(nonce, kind as u32, payload);
    // Payloads are bounded by MAX_ENTRIES and MAX_HEADER.
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    header[8..].copy_from_slice(&(kind as u32).to_le_bytes());
}

/// A journal that all jobs of a run write to.
#[derive(Debug)]
pub struct Journal {
    /// Locked while the run lasts; appending is atomic, so jobs need no lock among themselves.
    file: Flock<File>,
    path: PathBuf,
    nonce: u64,
    every: u64,
}

impl Journal {
    /// Creates it, durably, with this description of the target.
    ///
    /// # Errors
    /// What could not be created or written; then no file is left.
    pub fn create(path: &Path, header: &Header, every: u64) -> anyhow::Result<Self> {
        let refusal = || format!("cannot create the journal {}", path.display());
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(refusal)?;
        let written = || -> anyhow::Result<Self> {
            let file =
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
            let mut frame = vec![0; FRAME_HEADER];
            serde_json::to_writer(&mut frame, header)?;
            anyhow::ensure!(
                frame.len() <= MAX_HEADER,
                "the target's path is too long for it"
            );
            finish_frame(&mut frame, 0, Frame::Header);
            (&*file).write_all(&[GREETING, &frame].concat())?;
            file.sync_all()?;
            crate::target::sync_folder_of(path)?;
            Ok(Self {
                file,
                path: path.to_owned(),
                nonce: header.nonce,
                every,
            })
        };
        written()
            .inspect_err(|_| drop(std::fs::remove_file(path)))
            .with_context(refusal)
    }

    fn append(&self, frame: &[u8]) -> anyhow::Result<()> {
        (&*self.file).write_all(frame).with_context(|| {
            format!(
                "cannot write the journal {}, which takes {} bytes per write (it and the file \
                     stay)",
                self.path.display(),
                2 * ENTRY
            )
        })
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot make the journal {} durable", self.path.display()))
    }
}

/// One job's part of the journal.
#[derive(Debug)]
pub struct Log {
    journal: Arc<Journal>,
    /// A frame of intents in the making, with room for its header.
    intents: Vec<u8>,
    /// Completed, and not yet noted as durable.
    completed: Vec<Entry>,
}

impl Log {
    /// Of a job that has written nothing yet.
    #[must_use]
    pub fn new(journal: &Arc<Journal>) -> Self {
        Self {
            journal: Arc::clone(journal),
            intents: vec![0; FRAME_HEADER],
            completed: Vec::new(),
        }
    }

    /// Notes a write that will be handed to the kernel.
    pub fn intends(&mut self, request: Request, sequence: u64) {
        Entry { request, sequence }.append_to(&mut self.intents);
    }

    /// Writes all intents down.
    ///
    /// # Errors
    /// What the kernel says of the journal.
    pub fn write_intents(&mut self) -> anyhow::Result<()> {
        if self.intents.len() == FRAME_HEADER {
            return Ok(());
        }
        finish_frame(&mut self.intents, self.journal.nonce, Frame::Intents);
        self.journal.append(&self.intents)?;
        self.intents.truncate(FRAME_HEADER);
        Ok(())
    }

    /// Notes a write that was done in full.
    pub fn completed(&mut self, request: Request, sequence: u64) {
        self.completed.push(Entry { request, sequence });
    }

    /// Whether there are so many of them that they should be made durable.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.completed.len() as u64 >= self.journal.every
    }

    /// Makes all completed writes durable and writes that down.
    ///
    /// # Errors
    /// What the kernel says of the target or the journal.
    pub fn make_durable(&mut self, target: &File) -> anyhow::Result<()> {
        target
            .sync_data()
            .context("cannot make the target durable (fdatasync)")?;
        self.are_durable()
    }

    /// Writes down that all completed writes are durable, and makes the journal durable.
    ///
    /// # Errors
    /// What the kernel says of the journal.
    pub fn are_durable(&mut self) -> anyhow::Result<()> {
        for entries in self.completed.chunks(MAX_ENTRIES) {
            let mut frame = vec![0; FRAME_HEADER];
            entries.iter().for_each(|entry| entry.append_to(&mut frame));
            finish_frame(&mut frame, self.journal.nonce, Frame::Durable);
            self.journal.append(&frame)?;
        }
        self.completed.clear();
        self.journal.sync()
    }
}

#[cfg(test)]
mod tests;
