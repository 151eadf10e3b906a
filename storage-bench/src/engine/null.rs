//! The engine that does nothing: every operation ends at once and in full. What a job costs over
//! it is the floor under every other result.

use super::{Completion, Engine, Kind, Op, Opening, Wait};
use crate::sys::Buffers;
use serde_json::{Value, json};
use std::io;

/// See the module.
pub struct Null {
    buffers: Buffers,
    queued: Vec<Op>,
}

impl Engine for Null {
    fn open(opening: Opening) -> anyhow::Result<Self> {
        let buffers = opening.buffers;
        let queued = Vec::with_capacity(buffers.count());
        Ok(Self { buffers, queued })
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
        for op in self.queued.drain(..) {
            if op.kind == Kind::Read {
                // The one trace that proves to the job that this very operation was executed.
                let trace = self.buffers.get_mut(op.buffer).first_chunk_mut();
                *trace.expect("a buffer holds a number") = op.offset.to_le_bytes();
            }
            // Bounded by 1 GiB when the options were checked.
            let moved = if op.kind.moves_bytes() { op.len } else { 0 };
            done.push(Completion {
                buffer: op.buffer,
                result: moved as i32,
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
        json!({"name": "null"})
    }
}
