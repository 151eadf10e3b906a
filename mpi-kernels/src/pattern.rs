//! What messages contain, so that a wrong byte, a stale message or a missing rank is found out.
//!
//! The functions are pure and know nothing of MPI: the sender fills, the receiver checks against
//! the same formula, and the tests damage buffers in between. Here are the messages of two ranks,
//! in [`block`] what collectives move, in [`reduction`] what they reduce.

mod block;
mod reduction;

pub use block::Block;
pub use reduction::{Element, Operation as ReductionOperation, Reduction};

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
}
