//! The engine of plain system calls: `pread`, `pwrite`, and those of trims and flushes, one operation
//! at a time.

use super::{Completion, Engine, Kind, Op, Opening, Wait, trim};
use crate::sys::Buffers;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// See the module.
pub struct Psync {
    file: Arc<File>,
    buffers: Buffers,
    queued: Vec<Op>,
}

impl Psync {
    #[inline]
    fn perform(&mut self, op: Op) -> i32 {
        let moved = loop {
            let len = op.len as usize;
            let result = match op.kind {
                Kind::Read => self
                    .file
                    .read_at(&mut self.buffers.get_mut(op.buffer)[..len], op.offset),
                Kind::Write => self
                    .file
                    .write_at(&self.buffers.get(op.buffer)[..len], op.offset),
                Kind::Fsync => self.file.sync_all().map(|()| 0),
                Kind::Fdatasync => self.file.sync_data().map(|()| 0),
                Kind::Trim => return trim::perform(&self.file, op),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match moved {
            // Sizes are bounded by 1 GiB when the options are checked.
            Ok(bytes) => bytes as i32,
            Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl Engine for Psync {
    fn open(opening: Opening) -> anyhow::Result<Self> {
        let Opening { file, buffers, .. } = opening;
        let queued = Vec::with_capacity(buffers.count());
        Ok(Self {
            file,
            buffers,
            queued,
        })
    }

    #[inline]
    fn queue(&mut self, op: Op) {
        self.queued.push(op);
    }

    #[inline]
    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    #[inline]
    fn exchange(&mut self, done: &mut Vec<Completion>, wait: Wait) -> io::Result<()> {
        if let (true, Wait::AtMost(time)) = (self.queued.is_empty(), wait) {
            std::thread::sleep(time);
        }
        while let Some(op) = self.queued.pop() {
            let result = self.perform(op);
            done.push(Completion {
                buffer: op.buffer,
                result,
            });
        }
        Ok(())
    }

    #[inline]
    fn buffer(&self, index: usize) -> &[u8] {
        self.buffers.get(index)
    }

    #[inline]
    fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        self.buffers.get_mut(index)
    }

    fn facts(&self) -> Value {
        json!({"name": "psync", "calls": "pread64, pwrite64"})
    }
}
