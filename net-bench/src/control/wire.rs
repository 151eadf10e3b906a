//! Reading and writing whole messages by a deadline, however slowly the peer's bytes come.

use super::ControlError;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A connection with a moment after which the peer has lost its chance.
pub(super) struct Wire<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl<'a> Wire<'a> {
    pub(super) fn new(stream: &'a TcpStream, patience: Duration) -> Result<Self, ControlError> {
        // A socket that was accepted from a non-blocking listener must block all the same.
        stream.set_nonblocking(false)?;
        Ok(Self::until(stream, Instant::now() + patience))
    }

    pub(super) fn until(stream: &'a TcpStream, deadline: Instant) -> Self {
        Self { stream, deadline }
    }

    /// The time left, which a socket takes as its timeout; zero is an error there.
    fn left(&self, doing: &'static str) -> Result<Duration, ControlError> {
        match self.deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left.max(Duration::from_millis(1))),
            _ => Err(ControlError::Silent(doing)),
        }
    }

    pub(super) fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<(), ControlError> {
        while !buffer.is_empty() {
            let left = self.left("send a whole message")?;
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(ControlError::Closed),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) => tolerate(error)?,
            }
        }
        Ok(())
    }

    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), ControlError> {
        while !bytes.is_empty() {
            let left = self.left("take a message")?;
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => tolerate(error)?,
            }
        }
        Ok(())
    }
}

/// A timeout or a signal sends the caller round its loop, where the deadline decides.
fn tolerate(error: io::Error) -> Result<(), ControlError> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Err(ControlError::Closed),
        _ => Err(error.into()),
    }
}
