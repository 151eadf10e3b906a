//! What stands in an object: incompressible, different in every version of every object, and known
//! byte for byte from a few numbers, so that each read is compared in full at the speed of memory.
//!
//! An object is a row of blocks. A block begins with a header (run, object, generation, block) and
//! goes on with a stretch of one random pool, from a place that follows from the header. A put
//! hands over references to the pool and copies nothing. The pool is shorter than most objects: a
//! store that finds long repetitions over many MiB at any offset can save space, one that
//! compresses or deduplicates blocks cannot.

use bytes::Bytes;
use object_store::PutPayload;
use std::ops::Range;

const BLOCK: u64 = 64 << 10;
/// Header words: run, object, generation, block.
const HEADER: u64 = 32;
const POOL: u64 = 8 << 20;

/// One version of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The object's number in its run.
    pub object: u64,
    /// How many puts came before, and this one.
    pub generation: u64,
}

/// The content of a run's objects.
#[derive(Debug, Clone)]
pub struct Content {
    nonce: u64,
    pool: Bytes,
}

/// The finaliser of SplitMix64: every input bit changes half of the output bits.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Content {
    /// The content of the run that has drawn this number.
    #[must_use]
    pub fn new(nonce: u64) -> Self {
        let mut pool = vec![0; POOL as usize];
        fastrand::Rng::with_seed(nonce).fill(&mut pool);
        Self {
            nonce,
            pool: pool.into(),
        }
    }

    /// The bytes of a part of an object, as references.
    #[must_use]
    pub fn payload(&self, version: Version, part: Range<u64>) -> PutPayload {
        self.pieces(version, part).collect()
    }

    /// Compares what was read from `at` on.
    ///
    /// # Errors
    /// What stands there instead, in words.
    pub fn check(&self, version: Version, at: u64, read: &[u8]) -> Result<(), String> {
        let mut rest = read;
        let mut begin = at;
        for piece in self.pieces(version, at..at + read.len() as u64) {
            let (found, behind) = rest.split_at(piece.len());
            if found != piece {
                return Err(self.difference(version, begin, found, &piece));
            }
            rest = behind;
            begin += piece.len() as u64;
        }
        Ok(())
    }

    fn pieces(&self, version: Version, part: Range<u64>) -> impl Iterator<Item = Bytes> {
        let blocks = part.start / BLOCK..part.end.div_ceil(BLOCK);
        blocks.flat_map(move |block| {
            let begin = block * BLOCK;
            let clip = |piece: Bytes, offset: u64| {
                let from = part
                    .start
                    .saturating_sub(begin + offset)
                    .min(piece.len() as u64);
                let to = part
                    .end
                    .saturating_sub(begin + offset)
                    .min(piece.len() as u64);
                piece.slice(from as usize..to.max(from) as usize)
            };
            let header = Bytes::copy_from_slice(&self.header(version, block));
            [clip(header, 0), clip(self.body(version, block), HEADER)]
                .into_iter()
                .filter(|piece| !piece.is_empty())
        })
    }

    fn header(&self, version: Version, block: u64) -> [u8; HEADER as usize] {
        let words = [self.nonce, version.object, version.generation, block];
        let mut header = [0; HEADER as usize];
        for (chunk, word) in header.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        header
    }

    fn body(&self, version: Version, block: u64) -> Bytes {
        let length = BLOCK - HEADER;
        let key = mix(self.nonce ^ mix(version.object ^ mix(version.generation ^ mix(block))));
        let from = key % (POOL - length);
        self.pool.slice(from as usize..(from + length) as usize)
    }

    #[cold]
    fn difference(&self, version: Version, begin: u64, found: &[u8], expected: &[u8]) -> String {
        if begin.is_multiple_of(BLOCK) && found.len() as u64 == HEADER {
            let word = |index: usize| {
                let bytes = &found[index * 8..][..8];
                u64::from_le_bytes(bytes.try_into().expect("a word is eight bytes"))
            };
            if word(0) == self.nonce {
                return format!(
                    "where generation {} of object {} was expected at byte {begin}, it holds block \
                     {} of generation {} of object {}",
                    version.generation,
                    version.object,
                    word(3),
                    word(2),
                    word(1)
                );
            }
        }
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        let at = differs.unwrap_or_default();
        format!(
            "byte {} is {:#04x} instead of {:#04x}",
            begin + at as u64,
            found[at],
            expected[at]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version {
        object: 5,
        generation: 2,
    };

    fn bytes(content: &Content, version: Version, part: Range<u64>) -> Vec<u8> {
        let payload = content.payload(version, part);
        payload.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn parts_of_an_object_are_its_bytes() {
        let content = Content::new(7);
        let whole = bytes(&content, VERSION, 0..200_000);
        assert_eq!(whole.len(), 200_000);
        for part in [0..1, 10..40, 31..33, 65_530..65_580, 131_072..200_000, 5..5] {
            let expected = &whole[part.start as usize..part.end as usize];
            assert_eq!(bytes(&content, VERSION, part.clone()), expected, "{part:?}");
            assert_eq!(content.check(VERSION, part.start, expected), Ok(()));
        }
    }

    #[test]
    fn a_changed_byte_is_found_wherever_it_is() {
        let content = Content::new(7);
        let sound = bytes(&content, VERSION, 0..70_000);
        for at in [0, 8, 31, 32, 1000, 65_535, 65_536, 65_570, 69_999] {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            assert!(content.check(VERSION, 0, &damaged).is_err(), "{at}");
        }
        let mut damaged = sound;
        damaged[1000] = !damaged[1000];
        let fault = content.check(VERSION, 0, &damaged).expect_err("damaged");
        assert!(fault.starts_with("byte 1000 is"), "{fault}");
    }

    #[test]
    fn other_objects_and_older_generations_are_named() {
        let content = Content::new(7);
        let old = Version {
            generation: 1,
            ..VERSION
        };
        let fault = content
            .check(VERSION, 0, &bytes(&content, old, 0..100))
            .expect_err("an older one");
        assert!(fault.contains("generation 1 of object 5"), "{fault}");
        let foreign = bytes(&Content::new(8), VERSION, 0..100);
        assert!(content.check(VERSION, 0, &foreign).is_err());
    }

    #[test]
    fn no_block_is_another_ones() {
        let content = Content::new(7);
        let whole = bytes(&content, VERSION, 0..4 * BLOCK);
        let blocks: std::collections::HashSet<_> = whole.chunks(BLOCK as usize).collect();
        assert_eq!(blocks.len(), 4);
    }
}
