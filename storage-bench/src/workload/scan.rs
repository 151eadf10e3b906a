//! Reading many blocks of a target as fast as an engine can, when nothing is timed: consecutive
//! ones together, and many at a time.

use crate::engine::{Engine, Kind, Op, Opening, Wait};
use crate::spec::EngineOptions;
use crate::sys::Buffers;
use anyhow::Context;
use reports::measure::stop_requested;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Read at a time, if blocks are not larger.
const CHUNK_BYTES: usize = 256 << 10;
/// In flight at a time.
const DEPTH: usize = 32;

/// What is read, and how.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// The file or device.
    pub file: &'a Arc<File>,
    /// What to call it in errors.
    pub target: &'a str,
    /// Bytes of a unit.
    pub unit_bytes: usize,
    /// How the engine is set up.
    pub options: &'a EngineOptions,
    /// Whether a signal ends it; a sample is read all the same.
    pub interruptible: bool,
}

/// Whether all was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was.
    Complete,
    /// A signal came first.
    Interrupted,
}

/// Some units in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    unit: u64,
    units: u32,
}

impl Scan<'_> {
    /// Reads these units, which ascend, and shows each with its number. They come in any order.
    ///
    /// # Errors
    /// A read that failed, or what `show` found.
    pub fn run<E: Engine>(
        &self,
        units: impl Iterator<Item = u64>,
        mut show: impl FnMut(u64, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ended> {
        let most = (CHUNK_BYTES / self.unit_bytes).max(1);
        let depth = (DEPTH * CHUNK_BYTES / (most * self.unit_bytes)).clamp(2, DEPTH);
        let mut engine = E::open(Opening {
            file: Arc::clone(self.file),
            buffers: Buffers::new(depth, most * self.unit_bytes)?,
            options: self.options.clone(),
        })?;
        let mut chunks = chunks(units, most as u32);
        let mut reading = vec![Chunk { unit: 0, units: 0 }; depth];
        let mut free: Vec<usize> = (0..depth).collect();
        let mut done = Vec::with_capacity(depth);
        loop {
            if self.interruptible && stop_requested() {
                return Ok(Ended::Interrupted);
            }
            while let Some(buffer) = free.pop() {
                let Some(chunk) = chunks.next() else {
                    free.push(buffer);
                    break;
                };
                reading[buffer] = chunk;
                engine.queue(self.read(chunk, buffer));
            }
            if free.len() == depth {
                return Ok(Ended::Complete);
            }
            engine
                .exchange(&mut done, Wait::One)
                .with_context(|| format!("cannot exchange I/O with {}", self.target))?;
            for completion in done.drain(..) {
                let chunk = reading[completion.buffer];
                self.succeeded(chunk, completion.result)?;
                let bytes = engine.buffer(completion.buffer);
                let blocks = bytes.chunks_exact(self.unit_bytes);
                for (unit, block) in (chunk.unit..).zip(blocks.take(chunk.units as usize)) {
                    show(unit, block)?;
                }
                free.push(completion.buffer);
            }
        }
    }

    fn read(&self, chunk: Chunk, buffer: usize) -> Op {
        Op {
            kind: Kind::Read,
            offset: chunk.unit * self.unit_bytes as u64,
            len: chunk.units * self.unit_bytes as u32,
            buffer,
        }
    }

    fn succeeded(&self, chunk: Chunk, result: i32) -> anyhow::Result<()> {
        let Op { offset, len, .. } = self.read(chunk, 0);
        if result >= 0 && result as u32 == len {
            return Ok(());
        }
        let what = match result {
            0.. => format!("it ended after {result} bytes"),
            errno => io::Error::from_raw_os_error(-errno).to_string(),
        };
        anyhow::bail!(
            "cannot read {} back, {len} bytes at offset {offset}: {what}",
            self.target
        )
    }
}

/// Joins consecutive units, up to so many.
fn chunks(units: impl Iterator<Item = u64>, most: u32) -> impl Iterator<Item = Chunk> {
    let mut units = units.peekable();
    std::iter::from_fn(move || {
        let mut chunk = Chunk {
            unit: units.next()?,
            units: 1,
        };
        while chunk.units < most
            && units
                .next_if_eq(&(chunk.unit + u64::from(chunk.units)))
                .is_some()
        {
            chunk.units += 1;
        }
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Psync;
    use std::os::unix::fs::FileExt;

    fn scan(file: &Arc<File>, units: &[u64]) -> anyhow::Result<Vec<(u64, u8)>> {
        let scan = Scan {
            file,
            target: "the test's file",
            unit_bytes: 4096,
            options: &EngineOptions::default(),
            interruptible: false,
        };
        let mut seen = Vec::new();
        let ended = scan.run::<Psync>(units.iter().copied(), |unit, block| {
            seen.push((unit, block[17]));
            Ok(())
        })?;
        assert_eq!(ended, Ended::Complete);
        seen.sort_unstable();
        Ok(seen)
    }

    #[test]
    fn every_unit_is_shown_once_under_its_number() {
        let file = tempfile::tempfile().expect("a file");
        for unit in 0..200u8 {
            let at = u64::from(unit) * 4096;
            file.write_all_at(&[unit; 4096], at).expect("room");
        }
        let file = Arc::new(file);
        let wanted: Vec<u64> = (0..200).filter(|unit| unit % 7 != 3).collect();
        let seen = scan(&file, &wanted).expect("it reads");
        let expected: Vec<_> = wanted.iter().map(|&unit| (unit, unit as u8)).collect();
        assert_eq!(seen, expected);
        assert_eq!(scan(&file, &[]).expect("nothing to do"), []);
        let error = scan(&file, &[198, 199, 200]).expect_err("the file ends");
        assert_eq!(
            error.to_string(),
            "cannot read the test's file back, 12288 bytes at offset 811008: it ended after 8192 \
             bytes"
        );
    }
}
