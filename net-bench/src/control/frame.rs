//! Frames: a length, a payload, and a tag that binds both to their place in this conversation.
//!
//! On the wire: the payload's length (4 bytes, big-endian), the payload, and HMAC-SHA256 over the
//! direction's label, the frame's number, the length and the payload. The label keeps a frame from
//! being sent back to its author; the number, which is never transmitted, from being sent twice.

use super::ControlError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// The longest payload: the result of an hour in slices fits several times.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// Length of a frame's tag.
pub const TAG_BYTES: usize = 32;

/// Which way frames go; part of every tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction(&'static [u8]);

/// From the client to the server.
pub const TO_SERVER: Direction = Direction(b"net-bench frame to server");
/// From the server to the client.
pub const TO_CLIENT: Direction = Direction(b"net-bench frame to client");

/// One direction of a channel: it numbers frames and makes or checks their tags.
pub struct Sealer {
    session: [u8; 32],
    direction: Direction,
    number: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The session key stays out of every log.
        f.debug_struct("Sealer")
            .field("direction", &self.direction)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// The payload's length that a frame announces, checked before memory is taken for it.
///
/// # Errors
/// [`ControlError::TooLong`] above [`MAX_PAYLOAD`].
pub fn payload_length(header: [u8; 4]) -> Result<usize, ControlError> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_PAYLOAD {
        return Err(ControlError::TooLong(length as u64));
    }
    Ok(length)
}

impl Sealer {
    /// One direction of a fresh session.
    #[must_use]
    pub fn new(session: [u8; 32], direction: Direction) -> Self {
        Self {
            session,
            direction,
            number: 0,
        }
    }

    /// Wraps a payload as the next frame.
    ///
    /// # Errors
    /// [`ControlError::TooLong`] above [`MAX_PAYLOAD`].
    pub fn seal(&mut self, payload: &[u8]) -> Result<Vec<u8>, ControlError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(ControlError::TooLong(payload.len() as u64));
        }
        let tag = self.authenticator(payload).finalize().into_bytes();
        self.number += 1;
        let mut frame = Vec::with_capacity(4 + payload.len() + TAG_BYTES);
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(payload);
        frame.extend_from_slice(&tag);
        Ok(frame)
    }

    /// Checks the next frame's body, payload and tag, and returns the payload.
    ///
    /// # Errors
    /// [`ControlError::Forged`] if the tag does not fit.
    pub fn open<'a>(&mut self, body: &'a [u8]) -> Result<&'a [u8], ControlError> {
        let Some(end) = body.len().checked_sub(TAG_BYTES) else {
            return Err(ControlError::Forged);
        };
        let (payload, tag) = body.split_at(end);
        // The comparison takes the same time wherever the tags differ.
        self.authenticator(payload)
            .verify_slice(tag)
            .map_err(|_| ControlError::Forged)?;
        self.number += 1;
        Ok(payload)
    }

    fn authenticator(&self, payload: &[u8]) -> Hmac<Sha256> {
        // HMAC takes keys of any length.
        let mut mac = Hmac::new_from_slice(&self.session).expect("any key length is valid");
        mac.update(self.direction.0);
        mac.update(&self.number.to_be_bytes());
        mac.update(&(payload.len() as u64).to_be_bytes());
        mac.update(payload);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Sealer, Sealer) {
        (
            Sealer::new([7; 32], TO_SERVER),
            Sealer::new([7; 32], TO_SERVER),
        )
    }

    #[test]
    fn frames_arrive_in_order() {
        let (mut from, mut to) = pair();
        for payload in [&b"first"[..], b"", b"third"] {
            let frame = from.seal(payload).expect("short");
            let header = frame[..4].try_into().expect("four bytes");
            assert_eq!(payload_length(header).expect("short"), payload.len());
            assert_eq!(to.open(&frame[4..]).expect("authentic"), payload);
        }
    }

    #[test]
    fn changed_replayed_reordered_and_reflected_frames_are_refused() {
        let (mut from, mut to) = pair();
        let first = from.seal(b"first").expect("short");
        let second = from.seal(b"second").expect("short");
        assert!(to.open(&second[4..]).is_err(), "out of order");
        for bit in 0..(first.len() - 4) * 8 {
            let mut changed = first[4..].to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(to.open(&changed).is_err(), "bit {bit}");
        }
        assert!(to.open(&first[4..]).is_ok());
        assert!(to.open(&first[4..]).is_err(), "replayed");
        let mut author = Sealer::new([7; 32], TO_CLIENT);
        assert!(author.open(&first[4..]).is_err(), "reflected");
        assert!(to.open(b"short").is_err(), "no room for a tag");
    }

    #[test]
    fn the_cap_holds_both_ways() {
        let over = (MAX_PAYLOAD as u32 + 1).to_be_bytes();
        assert!(matches!(
            payload_length(over),
            Err(ControlError::TooLong(_))
        ));
        assert!(payload_length([0xff; 4]).is_err());
        assert!(payload_length((MAX_PAYLOAD as u32).to_be_bytes()).is_ok());
        assert!(pair().0.seal(&vec![0; MAX_PAYLOAD + 1]).is_err());
    }
}
