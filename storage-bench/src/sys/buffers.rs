//! Page-aligned memory for I/O, one region cut into equal buffers.

use super::memory::{Granted, Region, Wish};
use anyhow::Context;

/// Direct I/O wants buffers aligned to the device's logical block, which is at most a page.
const ALIGNMENT: usize = 4096;

/// The most bytes that io_uring registers as one buffer.
const MAX_PIECE: usize = 1 << 30;

/// Buffers of equal size in one region, so that the kernel can be given all of them at once.
#[derive(Debug)]
pub struct Buffers {
    region: Region,
    bytes: usize,
    stride: usize,
    count: usize,
}

impl Buffers {
    /// `count` zeroed buffers of `bytes` each, every one aligned to 512 bytes or, if it is at least
    /// a page long, to a page.
    ///
    /// # Errors
    /// The size that could not be had.
    pub fn new(count: usize, bytes: usize) -> anyhow::Result<Self> {
        let plain = |total| Region::plain(total).map(|region| (region, ()));
        Self::over(count, bytes, plain).map(|(buffers, ())| buffers)
    }

    /// The same in memory as wished for, with what came of the wish.
    ///
    /// # Errors
    /// As for `new`: a wish that is not granted is none.
    pub fn placed(count: usize, bytes: usize, wish: Wish) -> anyhow::Result<(Self, Granted)> {
        Self::over(count, bytes, |total| Region::placed(total, wish))
    }

    fn over<T>(
        count: usize,
        bytes: usize,
        region: impl FnOnce(usize) -> std::io::Result<(Region, T)>,
    ) -> anyhow::Result<(Self, T)> {
        let refusal = || format!("cannot allocate {count} I/O buffers of {bytes} bytes");
        let unit = if bytes < ALIGNMENT { 512 } else { ALIGNMENT };
        let stride = bytes.checked_next_multiple_of(unit);
        let total = stride
            .and_then(|stride| stride.checked_mul(count))
            .filter(|&total| total > 0 && isize::try_from(total).is_ok())
            .with_context(refusal)?;
        let (region, told) = region(total).with_context(refusal)?;
        let buffers = Self {
            region,
            bytes,
            stride: total / count,
            count,
        };
        Ok((buffers, told))
    }

    /// The size of each buffer in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all of them, with what lies between.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.count * self.stride
    }

    /// Start and length of the memory as the kernel is to be told of it: in one piece, or where
    /// that is not `whole` or more than it takes, buffer by buffer.
    pub(super) fn pieces(&self, whole: bool) -> Vec<libc::iovec> {
        let piece = |index, len| libc::iovec {
            iov_base: self.address(index).cast(),
            iov_len: len,
        };
        if whole && self.total_bytes() <= MAX_PIECE {
            return vec![piece(0, self.total_bytes())];
        }
        (0..self.count).map(|at| piece(at, self.stride)).collect()
    }

    /// The address of one buffer.
    #[inline(always)]
    pub(super) fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.count, "a buffer of this pool");
        // SAFETY: index × stride lies inside the region, because it holds count × stride bytes.
        unsafe { self.region.start.as_ptr().add(index * self.stride) }
    }

    /// One buffer's content. The caller owns all buffers; a [`super::Ring`] that has lent some to
    /// the kernel keeps its `Buffers` to itself.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        // SAFETY: the address is inside the region, `bytes` ≤ stride follow it, all zeroed by the
        // kernel, and nothing writes to them while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.address(index), self.bytes) }
    }

    /// One buffer, to be written.
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as for `get`, and the exclusive borrow keeps everybody else out.
        unsafe { std::slice::from_raw_parts_mut(self.address(index), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_apart() {
        for (bytes, unit) in [(512, 512), (4096, 4096), (6144, 4096)] {
            let mut buffers = Buffers::new(3, bytes).expect("memory for three buffers");
            for index in 0..3 {
                assert_eq!(buffers.address(index) as usize % unit, 0);
                buffers.get_mut(index).fill(index as u8 + 1);
            }
            assert!((0..3).all(|i| buffers.get(i).iter().all(|&b| b == i as u8 + 1)));
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(Buffers::new(0, 4096).is_err());
        assert!(Buffers::new(usize::MAX / 2, 4096).is_err());
    }

    #[test]
    fn memory_is_told_in_one_piece_or_by_buffer() {
        let buffers = Buffers::new(3, 6144).expect("memory for three buffers");
        let lengths = |buffers: &Buffers, whole| -> Vec<usize> {
            let pieces = buffers.pieces(whole);
            pieces.iter().map(|piece| piece.iov_len).collect()
        };
        assert_eq!(lengths(&buffers, true), [3 * 8192]);
        assert_eq!(lengths(&buffers, false), [8192; 3]);
        // Not touched, so that no memory is needed.
        let large = Buffers::new(3, 1 << 29).expect("addresses for three buffers");
        assert_eq!(lengths(&large, true), [1 << 29; 3]);
    }
}
