//! Ways for bytes to get from one end to the other.
//!
//! A [`Flow`] is one end of one connection. Workloads are generic over it, so that the compiler
//! sees the whole path from the timed loop to the system call; dynamic dispatch stops above.

pub mod buffer;
pub mod connections;
pub mod null;
pub(crate) mod options;
pub mod poller;
pub mod rendezvous;
pub mod socket;

/// One end of a connection that carries bytes in order.
///
/// Errors name the peer and say what was being done.
pub trait Flow: Send {
    /// Sends all of `data`.
    ///
    /// # Errors
    /// The peer is gone.
    fn send_all(&mut self, data: &[u8]) -> anyhow::Result<()>;

    /// Receives what is there, waiting for the first byte; 0 means that the peer has ended.
    ///
    /// # Errors
    /// The peer is gone.
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize>;

    /// Tells the peer that nothing more will be sent.
    ///
    /// # Errors
    /// The peer is gone.
    fn end(&mut self) -> anyhow::Result<()>;

    /// Fills `buffer`; `false` means that the peer ended before its first byte.
    ///
    /// # Errors
    /// As for [`Flow::receive`]; and the peer ended inside the message.
    #[inline]
    fn receive_exact(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.receive(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => anyhow::bail!(
                    "the peer closed the connection after {filled} of {} bytes of a message",
                    buffer.len()
                ),
                count => filled += count,
            }
        }
        Ok(true)
    }
}
