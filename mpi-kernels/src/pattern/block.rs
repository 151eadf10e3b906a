//! What the blocks of a collective contain: bytes that depend on who sends them, as which of its
//! blocks, in which round and at which place.

/// One block that a rank sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The sending rank.
    pub sender: usize,
    /// Which of its blocks; 0 where it sends the same to all.
    pub part: usize,
    /// The round; in rounds that are less than 256 apart every byte differs.
    pub round: usize,
}

impl Block {
    /// Fills the block.
    pub fn fill(self, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut();
        let last = self.word(words.len());
        for (index, place) in words.iter_mut().enumerate() {
            *place = self.word(index);
        }
        rest.copy_from_slice(&last[..rest.len()]);
    }

    /// Compares the block byte by byte.
    ///
    /// # Errors
    /// The first byte that differs: where, what was expected and what is there.
    pub fn check(self, bytes: &[u8]) -> anyhow::Result<()> {
        let (words, rest) = bytes.as_chunks();
        for (index, place) in words.iter().enumerate() {
            if *place != self.word(index) {
                return Err(self.damage(bytes, index));
            }
        }
        if *rest != self.word(words.len())[..rest.len()] {
            return Err(self.damage(bytes, words.len()));
        }
        Ok(())
    }

    /// Says which byte of a word that differs is the first that does.
    fn damage(self, bytes: &[u8], word: usize) -> anyhow::Error {
        let (expected, place) = (self.word(word), &bytes[word * WORD..]);
        let mut pairs = place.iter().zip(expected);
        let differs = |(&found, expected): (&u8, u8)| found != expected;
        // The caller saw one.
        let offset = pairs.position(differs).unwrap_or(0);
        anyhow::anyhow!(
            "block {} of rank {} ({} bytes) is damaged in round {}: byte {} is {:#04x} instead of \
             {:#04x}",
            self.part,
            self.sender,
            bytes.len(),
            self.round,
            word * WORD + offset,
            place[offset],
            expected[offset]
        )
    }

    /// Eight bytes: a mixture of sender, part and place, to which the round is added byte by byte.
    fn word(self, index: usize) -> [u8; WORD] {
        let name = (self.sender as u64) << 32 | self.part as u64;
        let mixed = mix(mix(name).wrapping_add(index as u64));
        // Only the round's lowest byte counts.
        mixed
            .to_le_bytes()
            .map(|byte| byte.wrapping_add(self.round as u8))
    }
}

/// Bytes that one mixture gives.
const WORD: usize = 8;

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014): every bit of the argument changes half of
/// the result's.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = Block {
        sender: 2,
        part: 1,
        round: 3,
    };

    fn filled(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        BLOCK.fill(&mut bytes);
        bytes
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut bytes = filled(5003);
        assert!(BLOCK.check(&bytes).is_ok());
        for index in [0, 7, 8, 4096, 5002] {
            for bit in 0..8 {
                bytes[index] ^= 1 << bit;
                let error = BLOCK.check(&bytes).expect_err("it is damaged");
                assert!(error.to_string().contains(&format!("byte {index} ")));
                bytes[index] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn another_rank_part_or_place_is_found() {
        let others = [
            Block { sender: 1, ..BLOCK },
            Block { part: 2, ..BLOCK },
            Block {
                sender: BLOCK.part,
                part: BLOCK.sender,
                ..BLOCK
            },
        ];
        for other in others {
            assert!(other.check(&filled(64)).is_err());
            assert!(other.check(&filled(1)).is_err(), "even of one byte");
        }
        let mut bytes = filled(1 << 17);
        bytes.copy_within(65_536.., 0);
        assert!(BLOCK.check(&bytes).is_err(), "64 KiB further");
    }

    #[test]
    fn a_stale_round_differs_in_every_byte() {
        let fresh = filled(100);
        let mut stale = vec![0; 100];
        for round in [0, 1, 2, 4, 100, 258] {
            Block { round, ..BLOCK }.fill(&mut stale);
            assert!(fresh.iter().zip(&stale).all(|(a, b)| a != b));
        }
    }
}
