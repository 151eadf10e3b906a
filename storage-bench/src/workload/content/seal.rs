//! The checksum of a block, and how a write gets it without reading the block again.
//!
//! CRC-32C is linear: the checksum of a block is the exclusive or of what its parts contribute,
//! each part shifted by the bytes that follow it. What a write changes is the header and one tag
//! per sector, the same in all; the rest of a buffer is constant. So the contribution of the rest
//! is computed once for each buffer, and shifting is one linear operator of 32 bits for the header
//! and one for the sum of all tags, each four look-ups in a table.

use super::{SECTOR_BYTES, WORD};
use crc32c::{crc32c, crc32c_append, crc32c_combine};

/// Bytes of the header that the checksum covers; the word after them holds it.
pub(super) const COVERED: usize = 4 * WORD;
/// Where the rest of the block begins.
const REST: usize = COVERED + WORD;

/// The checksum of a block, over everything but its own word.
#[must_use]
pub(super) fn checksum(block: &[u8]) -> u32 {
    crc32c_append(crc32c(&block[..COVERED]), &block[REST..])
}

/// The state of the register after `data`, which a finished CRC is the complement of.
fn register(state: u32, data: &[u8]) -> u32 {
    !crc32c_append(!state, data)
}

/// A linear function of 32 bits, as a table for each byte of its argument.
#[derive(Debug, Clone)]
struct Operator(Box<[[u32; 256]; 4]>);

impl Operator {
    fn of(function: impl Fn(u32) -> u32) -> Self {
        let mut tables = Box::new([[0; 256]; 4]);
        for (byte, table) in tables.iter_mut().enumerate() {
            for bit in 0..8 {
                let image = function(1 << (8 * byte + bit));
                for below in 0..1 << bit {
                    table[below + (1 << bit)] = table[below] ^ image;
                }
            }
        }
        Self(tables)
    }

    /// What a register becomes by so many zero bytes.
    fn zeros(bytes: usize) -> Self {
        Self::of(|state| crc32c_combine(state, 0, bytes))
    }

    #[inline]
    fn apply(&self, argument: u32) -> u32 {
        let [a, b, c, d] = argument.to_le_bytes().map(usize::from);
        self.0[0][a] ^ self.0[1][b] ^ self.0[2][c] ^ self.0[3][d]
    }
}

/// How blocks of one size get their checksums.
#[derive(Debug, Clone)]
pub struct Seal {
    header: Operator,
    tags: Operator,
}

impl Seal {
    /// For blocks of so many bytes, which are whole words; the last sector may be a part of one.
    #[must_use]
    pub fn new(block_bytes: usize) -> Self {
        let sector = Operator::zeros(SECTOR_BYTES);
        let tagged = block_bytes.div_ceil(SECTOR_BYTES) - 1;
        let after_last = block_bytes - tagged * SECTOR_BYTES - WORD;
        let tags = Operator::of(|tag| {
            let sum = (0..tagged).fold(0, |sum, _| sector.apply(sum) ^ tag);
            crc32c_combine(sum, 0, after_last)
        });
        Self {
            header: Operator::zeros(block_bytes - REST),
            tags,
        }
    }

    /// What the constant part of a block contributes; its tags must be zero.
    #[must_use]
    pub fn constant(block: &[u8]) -> u32 {
        register(0, &block[REST..])
    }

    /// The checksum of a block of this header and tag over that constant part.
    #[inline]
    pub(super) fn of(&self, header: &[u8; COVERED], tag: u64, constant: u32) -> u32 {
        let header = self.header.apply(register(!0, header));
        let tags = self.tags.apply(register(0, &tag.to_le_bytes()));
        !(header ^ tags ^ constant)
    }
}
