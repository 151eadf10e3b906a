//! Memory for the timed loops, at the start of a page.
//!
//! The allocator puts large vectors sixteen bytes behind a page's start. The kernel copies a payload
//! with string instructions, which are slower from and to such an address; the peers' buffers are
//! mapped, and so aligned.

use std::ops::{Deref, DerefMut};

/// More than any page or cache line that Linux runs on here wants; 64 KiB pages need no more
/// alignment for a copy to be fast.
const ALIGNMENT: usize = 4096;

/// A fixed number of bytes at a page's start.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// `length` bytes, each zero.
    #[must_use]
    pub fn zeroed(length: usize) -> Self {
        // Ones first: pages of a fresh zeroed mapping are all the same page until they are written.
        let mut bytes = vec![1; length + ALIGNMENT];
        bytes.fill(0);
        // The vector never grows, so its memory stays where it is.
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self {
            bytes,
            start,
            length,
        }
    }

    /// `length` bytes, each from its index.
    #[must_use]
    pub fn from_fn(length: usize, byte: impl Fn(usize) -> u8) -> Self {
        let mut buffer = Self::zeroed(length);
        for (index, slot) in buffer.iter_mut().enumerate() {
            *slot = byte(index);
        }
        buffer
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_a_page() {
        for length in [0, 1, 14, 4096, 131_072, 1 << 20] {
            let buffer = Buffer::from_fn(length, |index| index as u8);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT), 0);
            assert!(
                buffer
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == at as u8)
            );
        }
    }
}
