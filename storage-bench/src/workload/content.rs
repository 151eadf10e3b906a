//! What stands in a block of a scratch file: incompressible, different in every block, and
//! recomputable from a few numbers, so that any word of it can be checked alone.
//!
//! A block is one I/O (`--bs`) long, because every offset is a multiple of that. It begins with a
//! header that says which run wrote it, where it belongs and how many writes came before; the rest
//! is a counter-based generator's output under a key that the header names. A block that was lost,
//! misplaced, torn, stale or damaged differs in one of these.

use std::fmt;

/// Header words: magic, offset, sequence, key.
const HEADER_WORDS: usize = 4;
const WORD: usize = 8;

/// One version of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Where the block belongs, in bytes.
    pub offset: u64,
    /// Zero for the layout; else grows with each write of a job.
    pub sequence: u64,
    /// The key of the words after the header.
    pub key: u64,
}

/// The content of one scratch file.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    /// Different in every run: a block left on the disk by an earlier run is not taken for ours.
    nonce: u64,
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It was not written by this run.
    Foreign,
    /// It belongs elsewhere.
    Misplaced {
        /// The offset in its header.
        belongs: u64,
    },
    /// Another version was expected there.
    Version {
        /// The sequence number in its header.
        found: u64,
        /// What was expected, in words.
        expected: String,
    },
    /// A word differs.
    Damaged {
        /// Byte within the block.
        at: usize,
        /// The word found.
        found: u64,
        /// The word expected.
        expected: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it holds no block of this run"),
            Self::Misplaced { belongs } => {
                write!(f, "it holds the block that belongs to offset {belongs}")
            }
            Self::Version { found, expected } => write!(
                f,
                "it holds version {found:#x} of the block where {expected} was expected: a write \
                 was lost, or went elsewhere"
            ),
            Self::Damaged {
                at,
                found,
                expected,
            } => write!(
                f,
                "the word at byte {at} of the block is {found:#018x} instead of {expected:#018x}"
            ),
        }
    }
}

/// The finaliser of SplitMix64: every input bit changes half of the output bits.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The `index`-th word of a block with this key.
const fn word(key: u64, index: usize) -> u64 {
    mix(key.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

impl Content {
    /// The content of a run that has drawn this number.
    #[must_use]
    pub fn new(nonce: u64) -> Self {
        Self { nonce }
    }

    /// What the layout puts at an offset.
    #[must_use]
    pub fn laid_out(&self, offset: u64) -> Version {
        Version {
            offset,
            sequence: 0,
            key: mix(self.nonce ^ offset),
        }
    }

    /// The key of what one buffer of one job writes.
    #[must_use]
    pub fn writer_key(&self, job: usize, buffer: usize) -> u64 {
        mix(mix(self.nonce ^ 0x77 ^ job as u64) ^ buffer as u64)
    }

    fn magic(&self) -> u64 {
        mix(self.nonce ^ u64::from_le_bytes(*b"scratch\0"))
    }

    /// Writes a whole block.
    pub fn fill(&self, block: &mut [u8], version: Version) {
        for (index, chunk) in block.chunks_exact_mut(WORD).enumerate() {
            chunk.copy_from_slice(&word(version.key, index).to_le_bytes());
        }
        self.stamp(block, version);
    }

    /// Writes the header alone, into a block already filled under the version's key.
    #[inline]
    pub fn stamp(&self, block: &mut [u8], version: Version) {
        let header = [self.magic(), version.offset, version.sequence, version.key];
        for (chunk, value) in block.chunks_exact_mut(WORD).zip(header) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Reads the header of what stands at `offset`.
    ///
    /// # Errors
    /// The header is not this run's or belongs elsewhere.
    #[inline]
    pub fn version(&self, block: &[u8], offset: u64) -> Result<Version, Fault> {
        let [magic, belongs, sequence, key] = std::array::from_fn(|index| read(block, index));
        if magic != self.magic() {
            return Err(Fault::Foreign);
        }
        if belongs != offset {
            return Err(Fault::Misplaced { belongs });
        }
        Ok(Version {
            offset,
            sequence,
            key,
        })
    }

    /// Checks header and `count` words of a block, from a place that `turn` shifts, so that
    /// repeated checks see all of it.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn check_sample(
        &self,
        block: &[u8],
        offset: u64,
        turn: usize,
        count: usize,
    ) -> Result<Version, Fault> {
        let version = self.version(block, offset)?;
        let body = block.len() / WORD - HEADER_WORDS;
        for step in 0..count.min(body) {
            let index = HEADER_WORDS + (turn.wrapping_mul(count).wrapping_add(step)) % body;
            self.check_word(block, version, index)?;
        }
        Ok(version)
    }

    /// Checks every word of a block.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn check(&self, block: &[u8], offset: u64) -> Result<Version, Fault> {
        let version = self.version(block, offset)?;
        for index in HEADER_WORDS..block.len() / WORD {
            self.check_word(block, version, index)?;
        }
        Ok(version)
    }

    fn check_word(&self, block: &[u8], version: Version, index: usize) -> Result<(), Fault> {
        let (found, expected) = (read(block, index), word(version.key, index));
        if found == expected {
            return Ok(());
        }
        Err(Fault::Damaged {
            at: index * WORD,
            found,
            expected,
        })
    }

    /// Checks that a block is exactly as the layout left it.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub fn check_laid_out(&self, version: Version) -> Result<(), Fault> {
        if version == self.laid_out(version.offset) {
            return Ok(());
        }
        Err(Fault::Version {
            found: version.sequence,
            expected: "the layout".to_owned(),
        })
    }
}

#[inline]
fn read(block: &[u8], index: usize) -> u64 {
    let bytes = &block[index * WORD..(index + 1) * WORD];
    u64::from_le_bytes(bytes.try_into().expect("a word is eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: u64 = 3 * 512;

    fn block(content: &Content) -> Vec<u8> {
        let mut block = vec![0; 512];
        content.fill(&mut block, content.laid_out(OFFSET));
        block
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let content = Content::new(7);
        let sound = block(&content);
        let version = content.check(&sound, OFFSET).expect("as laid out");
        assert_eq!(content.check_laid_out(version), Ok(()));
        for bit in 0..512 * 8 {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let found = content
                .check(&damaged, OFFSET)
                .and_then(|version| content.check_laid_out(version));
            assert!(found.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn rotating_samples_see_the_whole_block() {
        let content = Content::new(7);
        for byte in 32..512 {
            let mut damaged = block(&content);
            damaged[byte] ^= 0x10;
            let caught = (0..8)
                .filter(|&turn| content.check_sample(&damaged, OFFSET, turn, 8).is_err())
                .count();
            assert!(caught >= 1, "byte {byte}");
        }
    }

    #[test]
    fn blocks_of_elsewhere_or_of_another_run_are_told_apart() {
        let content = Content::new(7);
        let block = block(&content);
        let misplaced = content.check(&block, OFFSET + 512);
        assert_eq!(misplaced, Err(Fault::Misplaced { belongs: OFFSET }));
        assert_eq!(Content::new(8).check(&block, OFFSET), Err(Fault::Foreign));
        assert_eq!(content.check(&[0; 512], 0), Err(Fault::Foreign));
    }

    #[test]
    fn a_written_block_names_its_write() {
        let content = Content::new(7);
        let version = Version {
            offset: OFFSET,
            sequence: 9,
            key: content.writer_key(1, 4),
        };
        let mut block = vec![0; 1024];
        content.fill(&mut block, version);
        assert_eq!(content.check(&block, OFFSET), Ok(version));
        assert!(content.check_laid_out(version).is_err());
    }
}
