//! Page-aligned memory for I/O, one region cut into equal buffers.

use anyhow::Context;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Direct I/O wants buffers aligned to the device's logical block, which is at most a page.
const ALIGNMENT: usize = 4096;

/// Buffers of equal size in one region, so that the kernel can be given all of them at once.
#[derive(Debug)]
pub struct Buffers {
    region: NonNull<u8>,
    layout: Layout,
    bytes: usize,
    stride: usize,
    count: usize,
}

// SAFETY: the region is owned by this value alone and tied to no thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// `count` zeroed buffers of `bytes` each, every one aligned to 512 bytes or, if it is at least
    /// a page long, to a page.
    ///
    /// # Errors
    /// The size that could not be had.
    pub fn new(count: usize, bytes: usize) -> anyhow::Result<Self> {
        let unit = if bytes < ALIGNMENT { 512 } else { ALIGNMENT };
        let sized = || {
            let stride = bytes.checked_next_multiple_of(unit)?;
            let total = stride.checked_mul(count).filter(|&total| total > 0)?;
            Some((stride, Layout::from_size_align(total, ALIGNMENT).ok()?))
        };
        let refusal = || format!("cannot allocate {count} I/O buffers of {bytes} bytes");
        let (stride, layout) = sized().with_context(refusal)?;
        // SAFETY: the layout's size was checked to be above zero.
        let region = NonNull::new(unsafe { alloc_zeroed(layout) }).with_context(refusal)?;
        Ok(Self {
            region,
            layout,
            bytes,
            stride,
            count,
        })
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

    /// Start and length of the whole region.
    pub(super) fn region(&self) -> (*mut u8, usize) {
        (self.region.as_ptr(), self.layout.size())
    }

    /// The address of one buffer.
    #[inline(always)]
    pub(super) fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.count, "a buffer of this pool");
        // SAFETY: index × stride lies inside the region, because it holds count × stride bytes.
        unsafe { self.region.as_ptr().add(index * self.stride) }
    }

    /// One buffer's content. The caller owns all buffers; a [`super::Ring`] that has lent some to
    /// the kernel keeps its `Buffers` to itself.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        // SAFETY: the address is inside the region, `bytes` ≤ stride follow it, all initialised at
        // allocation, and nothing writes to them while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.address(index), self.bytes) }
    }

    /// One buffer, to be written.
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as for `get`, and the exclusive borrow keeps everybody else out.
        unsafe { std::slice::from_raw_parts_mut(self.address(index), self.bytes) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout and freed only here.
        unsafe { dealloc(self.region.as_ptr(), self.layout) }
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
}
