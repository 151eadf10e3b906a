//! What messages contain, so that a wrong byte, a stale message or a missing rank is found out.
//!
//! The functions are pure and know nothing of MPI: the sender fills, the receiver checks against
//! the same formula, and the tests damage buffers in between.

/// Who sent a message, and as which of how many: what its content depends on besides the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The sending rank.
    pub sender: usize,
    /// The message's number within the case; neighbours differ in every byte.
    pub iteration: u64,
    /// The message's length in bytes.
    pub size: usize,
}

impl Stamp {
    /// The first byte of a block of 256; the others count up from it. The shifted terms tell
    /// blocks apart, also 64 KiB apart, so that exchanged pages do not pass.
    fn first_of(self, block: usize) -> u8 {
        let place = block
            .wrapping_mul(31)
            .wrapping_add((block >> 8).wrapping_mul(101));
        let message = self
            .sender
            .wrapping_mul(59)
            .wrapping_add(self.size.wrapping_mul(7))
            .wrapping_add(self.iteration as usize);
        // Only the lowest byte counts: the sum is taken modulo 256 on purpose.
        place.wrapping_add(message) as u8
    }

    /// Fills a message.
    pub fn fill(self, message: &mut [u8]) {
        for (number, block) in message.chunks_mut(BLOCK).enumerate() {
            let first = self.first_of(number);
            for (byte, place) in block.iter_mut().zip(0..=u8::MAX) {
                *byte = first.wrapping_add(place);
            }
        }
    }

    /// Compares a message with what this sender sends, byte by byte.
    ///
    /// # Errors
    /// The first byte that differs: where, what was expected and what is there.
    pub fn check(self, message: &[u8]) -> anyhow::Result<()> {
        anyhow::ensure!(
            message.len() == self.size,
            "a message of rank {} has {} bytes instead of {}",
            self.sender,
            message.len(),
            self.size
        );
        for (number, block) in message.chunks(BLOCK).enumerate() {
            let first = self.first_of(number);
            let wrong = |(&found, place): (&u8, u8)| found != first.wrapping_add(place);
            if let Some(index) = block.iter().zip(0..=u8::MAX).position(wrong) {
                anyhow::bail!(
                    "message {} of rank {} ({} bytes) is damaged: byte {} is {:#04x} instead of \
                     {:#04x}",
                    self.iteration,
                    self.sender,
                    self.size,
                    number * BLOCK + index,
                    block[index],
                    // An index into a block of 256 fits a byte.
                    first.wrapping_add(index as u8)
                );
            }
        }
        Ok(())
    }
}

/// Bytes over which the pattern counts up before it jumps.
const BLOCK: usize = 256;

/// How many different values the elements of a reduction take. A prime, so that no power-of-two
/// block can be exchanged for its neighbour unnoticed.
const PERIOD: usize = 251;

/// The largest world whose sums are exact: each rank adds at most [`PERIOD`], and f32 holds every
/// integer up to 2²⁴.
pub const MAX_RANKS_OF_SUM: usize = (1 << f32::MANTISSA_DIGITS) / PERIOD;

/// Fills one rank's contribution to a sum: integers from 1 to 251, so that a missing rank shows in
/// every element.
pub fn fill_contribution(elements: &mut [f32], rank: usize, round: usize) {
    let first = rank * 13 + round * 29;
    for (index, element) in elements.iter_mut().enumerate() {
        *element = contribution(first + index);
    }
}

fn contribution(place: usize) -> f32 {
    // At most 251: exact in f32.
    (1 + place % PERIOD) as f32
}

/// Compares a sum over `ranks` ranks with what it must be, element by element, exactly.
///
/// # Errors
/// The first element that differs: where, what was expected and what is there.
pub fn check_sum(sums: &[f32], ranks: usize, round: usize) -> anyhow::Result<()> {
    let expected: Vec<f32> = (0..PERIOD)
        .map(|index| {
            (0..ranks)
                .map(|rank| contribution(rank * 13 + round * 29 + index))
                .sum()
        })
        .collect();
    for (index, &found) in sums.iter().enumerate() {
        let expected = expected[index % PERIOD];
        anyhow::ensure!(
            found == expected,
            "the sum of element {index} of {} over {ranks} ranks is {found} instead of {expected}",
            sums.len()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        sender: 1,
        iteration: 4,
        size: 70_000,
    };

    fn filled() -> Vec<u8> {
        let mut message = vec![0; STAMP.size];
        STAMP.fill(&mut message);
        message
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mut message = filled();
        assert!(STAMP.check(&message).is_ok());
        for index in [0, 1, 255, 4096, 65_536, STAMP.size - 1] {
            for bit in 0..8 {
                message[index] ^= 1 << bit;
                let error = STAMP.check(&message).expect_err("it is damaged");
                assert!(error.to_string().contains(&format!("byte {index} ")));
                message[index] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn exchanged_blocks_and_short_messages_are_found() {
        let mut message = filled();
        message.copy_within(256..512, 0);
        assert!(STAMP.check(&message).is_err(), "a block of 256 bytes");
        let mut message = filled();
        message.copy_within(4096..8192, 0);
        assert!(STAMP.check(&message).is_err(), "a page");
        assert!(STAMP.check(&filled()[1..]).is_err(), "a byte less");
    }

    #[test]
    fn a_message_of_another_rank_or_iteration_or_of_nobody_is_found() {
        let others = [
            Stamp { sender: 0, ..STAMP },
            Stamp {
                iteration: 5,
                ..STAMP
            },
        ];
        for other in others {
            assert!(other.check(&filled()).is_err());
        }
        assert!(STAMP.check(&vec![0; STAMP.size]).is_err());
    }

    fn sum_of(ranks: impl Iterator<Item = usize>, round: usize) -> Vec<f32> {
        let mut sums = vec![0.0; 1000];
        for rank in ranks {
            let mut part = vec![0.0; sums.len()];
            fill_contribution(&mut part, rank, round);
            sums.iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
        sums
    }

    #[test]
    fn sums_are_exact_and_a_missing_rank_shows() {
        assert!(check_sum(&sum_of(0..5, 1), 5, 1).is_ok());
        assert!(
            check_sum(&sum_of(0..4, 1), 5, 1).is_err(),
            "a rank is missing"
        );
        assert!(check_sum(&sum_of(0..5, 0), 5, 1).is_err(), "a stale round");
        let mut wrong = sum_of(0..5, 1);
        wrong[999] += 0.5;
        let error = check_sum(&wrong, 5, 1).expect_err("half too much");
        assert!(error.to_string().contains("element 999"), "{error}");
    }
}
