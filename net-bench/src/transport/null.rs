//! The transport that goes nowhere: it echoes in memory, so that what remains is the harness.

use super::Flow;

/// How much of a request the echo carries: the part that the check looks at.
const ECHO_BYTES: usize = 8;

/// Both ends of a connection in one, without a kernel in between.
#[derive(Debug, Default)]
pub struct NullFlow {
    echo: [u8; ECHO_BYTES],
}

impl Flow for NullFlow {
    #[inline]
    fn send_all(&mut self, data: &[u8]) -> anyhow::Result<()> {
        let carried = data.len().min(ECHO_BYTES);
        self.echo[..carried].copy_from_slice(&data[..carried]);
        Ok(())
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        let carried = buffer.len().min(ECHO_BYTES);
        buffer[..carried].copy_from_slice(&self.echo[..carried]);
        Ok(buffer.len())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}
