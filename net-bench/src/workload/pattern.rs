//! The bytes of a stream: each one follows from its position, so that a receiver can tell a byte
//! that is out of place.
//!
//! The pattern repeats every 16 KiB. A sender therefore sees its length plus one period of it and
//! sends from the right place, without ever filling it again; whole periods that go missing show in
//! the byte counts, which the two sides exchange. The periods are the same pages, so that a sender
//! reads from the core's cache however long its sends are, as peers do whose buffers were never
//! written and are the kernel's page of zeroes: what is measured is the way through the network.

use anyhow::Context;
use bench_sys::repeated::Repeated;

/// After how many bytes the pattern repeats: few enough to stay in a core's first cache.
pub const PERIOD: usize = 16 << 10;

/// How many bytes are compared at each end of a read.
pub const PROBE: usize = 8;

/// The byte at a position: a byte of the scrambled number of its eight-byte word.
const fn byte_at(position: usize) -> u8 {
    let word = ((position % PERIOD) / 8) as u64 + 1;
    // The multiplier of Fibonacci hashing spreads consecutive numbers over all bits.
    let scrambled = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (scrambled ^ (scrambled >> 32)).to_le_bytes()[position % 8]
}

/// The pattern in memory, to send from and to compare with.
#[derive(Debug)]
pub struct Pattern {
    bytes: Repeated,
}

impl Pattern {
    /// Enough of it to take `length` bytes from any position.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn new(length: usize) -> anyhow::Result<Self> {
        let period: Vec<u8> = (0..PERIOD).map(byte_at).collect();
        let bytes = Repeated::new(&period, length + PERIOD);
        Ok(Self {
            bytes: bytes.context("cannot map the pattern of a stream")?,
        })
    }

    /// The `length` bytes that belong at `position` of the stream.
    #[inline]
    #[must_use]
    pub fn at(&self, position: u64, length: usize) -> &[u8] {
        let start = (position % PERIOD as u64) as usize;
        &self.bytes[start..start + length]
    }

    /// Compares the first and the last eight bytes of what was read at `position`.
    ///
    /// # Errors
    /// Where the stream went wrong, and what was there.
    #[inline]
    pub fn check(&self, position: u64, read: &[u8]) -> anyhow::Result<()> {
        let probe = read.len().min(PROBE);
        let tail = read.len() - probe;
        if read[..probe] == *self.at(position, probe)
            && read[tail..] == *self.at(position + tail as u64, probe)
        {
            return Ok(());
        }
        Err(self.fault(position, read))
    }

    #[cold]
    fn fault(&self, position: u64, read: &[u8]) -> anyhow::Error {
        let probe = read.len().min(PROBE);
        for start in [0, read.len() - probe] {
            let (found, place) = (&read[start..start + probe], position + start as u64);
            let expected = self.at(place, probe);
            if found != expected {
                return anyhow::anyhow!(
                    "corrupt data: at byte {place} of the stream {expected:02x?} was expected and \
                     {found:02x?} came"
                );
            }
        }
        anyhow::anyhow!("corrupt data at byte {position} of the stream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_from_anywhere_passes_and_a_shifted_one_does_not() {
        let pattern = Pattern::new(100_000).expect("memory");
        for position in [0, 1, 65_535, 65_536, 1 << 40] {
            for length in [1, 7, 8, 9, 16, 100_000] {
                let read = pattern.at(position, length).to_vec();
                assert!(pattern.check(position, &read).is_ok());
                if length >= PROBE {
                    assert!(pattern.check(position + 8, &read).is_err());
                    let error = pattern.check(position + 1, &read).expect_err("shifted");
                    assert!(error.to_string().contains("corrupt"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_changed_byte_at_either_end_is_found_and_placed() {
        let pattern = Pattern::new(1000).expect("memory");
        for (spoilt, place) in [(0, "byte 500 "), (999, "byte 1492 ")] {
            let mut read = pattern.at(500, 1000).to_vec();
            read[spoilt] ^= 0x40;
            let error = pattern.check(500, &read).expect_err("changed");
            assert!(error.to_string().contains(place), "{error}");
        }
    }

    #[test]
    fn words_of_a_period_differ() {
        let pattern = Pattern::new(0).expect("memory");
        let words: std::collections::HashSet<&[u8]> = pattern.bytes.chunks(8).collect();
        assert_eq!(words.len(), PERIOD / 8);
    }
}
