//! The words of the channel between rank 0 and the others: what they are and their bytes.
//!
//! A rank opens with a [`Hello`]; then both sides send frames of one letter and its fields, numbers
//! in little-endian order. Whoever does not know the token is not listened to.

use super::process::Process;

/// A secret of this run, which only its ranks know.
pub type Token = [u8; 32];

/// The bytes of a [`Hello`].
pub const HELLO_BYTES: usize = 32 + 4 + 12;

/// The longest text in a frame, in bytes.
const MAX_TEXT: usize = 255;

/// The most processes in a frame.
const MAX_PROCESSES: usize = 4096;

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    pub rank: u32,
    pub process: Process,
}

impl Hello {
    pub fn to_bytes(self, token: &Token) -> Vec<u8> {
        let mut bytes = token.to_vec();
        bytes.extend(self.rank.to_le_bytes());
        bytes.extend(self.process.to_bytes());
        bytes
    }

    /// `None` if the token is not ours.
    pub fn from_bytes(bytes: &[u8; HELLO_BYTES], token: &Token) -> Option<Self> {
        // All bytes are looked at, whatever the first ones are: the time tells nothing.
        let wrong = bytes.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
        (wrong == 0).then(|| Self {
            rank: u32::from_le_bytes(field(bytes, 32)),
            process: Process::from_bytes(field(bytes, 36)),
        })
    }
}

/// What is said on the channel, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// I live, have taken so many steps, and do this.
    Beat { steps: u64, doing: String },
    /// From a rank: I am through. From rank 0: all are, and nobody is watched any more.
    Bye,
    /// From rank 0: the job is over; end yourself, and these processes of your node.
    End(Vec<Process>),
}

impl Frame {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Beat { steps, doing } => {
                let text = &doing.as_bytes()[..doing.len().min(MAX_TEXT)];
                let mut bytes = vec![b'H'];
                bytes.extend(steps.to_le_bytes());
                bytes.push(text.len() as u8);
                bytes.extend(text);
                bytes
            }
            Self::Bye => vec![b'B'],
            Self::End(processes) => {
                let processes = &processes[..processes.len().min(MAX_PROCESSES)];
                let mut bytes = vec![b'E'];
                bytes.extend((processes.len() as u16).to_le_bytes());
                bytes.extend(processes.iter().flat_map(|process| process.to_bytes()));
                bytes
            }
        }
    }

    /// Takes the first frame from what was received; `None` if it is not complete yet.
    ///
    /// # Errors
    /// The letter of no frame.
    pub fn take(received: &mut Vec<u8>) -> Result<Option<Self>, u8> {
        let Some(&letter) = received.first() else {
            return Ok(None);
        };
        let (length, frame) = match letter {
            b'H' if received.len() >= 10 => {
                let length = 10 + usize::from(received[9]);
                let Some(text) = received.get(10..length) else {
                    return Ok(None);
                };
                let doing = String::from_utf8_lossy(text).into_owned();
                let steps = u64::from_le_bytes(field(received, 1));
                (length, Self::Beat { steps, doing })
            }
            b'B' => (1, Self::Bye),
            b'E' if received.len() >= 3 => {
                let count = usize::from(u16::from_le_bytes(field(received, 1)));
                let length = 3 + 12 * count.min(MAX_PROCESSES);
                let Some(processes) = received.get(3..length) else {
                    return Ok(None);
                };
                let processes = processes.chunks_exact(12);
                let processes = processes.map(|bytes| Process::from_bytes(field(bytes, 0)));
                (length, Self::End(processes.collect()))
            }
            b'H' | b'E' => return Ok(None),
            other => return Err(other),
        };
        received.drain(..length);
        Ok(Some(frame))
    }
}

/// `N` bytes from a place on; the caller has looked that they are there.
fn field<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[from + index])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: Process = Process {
        pid: 77,
        started: 1 << 40,
    };

    #[test]
    fn who_does_not_know_the_token_is_not_heard() {
        let hello = Hello {
            rank: 3,
            process: PROCESS,
        };
        let token = [7; 32];
        let bytes: [u8; HELLO_BYTES] = hello.to_bytes(&token).try_into().expect("its length");
        assert_eq!(Hello::from_bytes(&bytes, &token), Some(hello));
        for place in [0, 31] {
            let mut other = token;
            other[place] ^= 1;
            assert_eq!(Hello::from_bytes(&bytes, &other), None);
        }
    }

    #[test]
    fn frames_are_taken_one_by_one_however_they_arrive() {
        let frames = [
            Frame::Beat {
                steps: 5,
                doing: "latency, 8 bytes".to_owned(),
            },
            Frame::End(vec![PROCESS, PROCESS]),
            Frame::End(Vec::new()),
            Frame::Bye,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        let mut received = Vec::new();
        let mut taken = Vec::new();
        for byte in bytes {
            received.push(byte);
            taken.extend(Frame::take(&mut received).expect("no other letter"));
        }
        assert_eq!(taken, frames);
        assert!(received.is_empty());
        assert_eq!(Frame::take(&mut vec![b'x']), Err(b'x'));
    }

    #[test]
    fn long_words_are_cut() {
        let doing = "x".repeat(1000);
        let mut bytes = Frame::Beat { steps: 1, doing }.to_bytes();
        let frame = Frame::take(&mut bytes).expect("no other letter");
        assert!(matches!(frame, Some(Frame::Beat { doing, .. }) if doing.len() == 255));
        assert!(bytes.is_empty());
    }
}
