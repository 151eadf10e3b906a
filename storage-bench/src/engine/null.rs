//! The engine that does nothing: every operation ends at once and in full. What a job costs over
//! it is the floor under every other result.

use super::{Completion, Direction, Engine, Op};
use crate::sys::Buffers;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// See the module.
pub struct Null {
    buffers: Buffers,
    queued: Vec<Op>,
}

impl Engine for Null {
    fn open(_: Arc<File>, buffers: Buffers) -> anyhow::Result<Self> {
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
    fn exchange(&mut self, done: &mut Vec<Completion>) -> io::Result<()> {
        // Sizes are bounded by 1 GiB when the options are checked.
        let result = self.buffers.bytes() as i32;
        for op in self.queued.drain(..) {
            if op.direction == Direction::Read {
                // The one trace that proves to the job that this very operation was executed.
                let trace = self.buffers.get_mut(op.buffer).first_chunk_mut();
                *trace.expect("a buffer holds a number") = op.offset.to_le_bytes();
            }
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
        json!({"name": "null"})
    }
}
