//! Datagrams, over one flow.

use super::{PATIENCE, REARM, RingUse, UNPREPARED, buffers, refusal};
use crate::transport::socket::SocketFlow;
use crate::workload::udp_stream::BATCH;
use anyhow::Context;
use bench_sys::ring::{ReceiveRing, Received, SendKind, SendRing};

/// Datagrams to send, several with one system call.
///
/// They are sent in order, one when the one before was taken, because several that wait for room in
/// the socket's buffer would overtake each other.
pub struct SendSlots {
    length: usize,
    stride: usize,
    content: Vec<u8>,
    ring: Option<SendRing<SocketFlow>>,
}

impl SendSlots {
    /// For datagrams that begin as `content` does; each is numbered before it is sent.
    #[must_use]
    pub fn new(content: &[u8]) -> Self {
        Self {
            length: content.len(),
            stride: content.len().next_multiple_of(64),
            content: content.to_vec(),
            ring: None,
        }
    }

    /// Makes the ring.
    ///
    /// # Errors
    /// What the kernel refuses, and the remedy.
    pub fn prepare(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        let mut memory = vec![0; BATCH * self.stride];
        for slot in memory.chunks_exact_mut(self.stride) {
            slot[..self.length].copy_from_slice(&self.content);
        }
        let ring = SendRing::new(flow.clone(), &memory, BATCH, SendKind::Copied);
        self.ring = Some(ring.map_err(|refused| refusal("--engine uring", &refused))?);
        Ok(())
    }

    /// Sends as many datagrams as there are slots, numbered from `next` on by `put`. Returns how
    /// many the kernel took: all, unless the flow was cut.
    ///
    /// # Errors
    /// The peer is gone.
    #[inline]
    pub fn send(
        &mut self,
        flow: &SocketFlow,
        next: u64,
        put: impl Fn(u64, &mut [u8]),
    ) -> anyhow::Result<u64> {
        let ring = self.ring.as_mut().context(UNPREPARED)?;
        let slots = ring.memory_mut().chunks_exact_mut(self.stride);
        for (number, slot) in (next..).zip(slots) {
            put(number, &mut slot[..self.length]);
        }
        for slot in 0..BATCH {
            ring.queue(slot * self.stride, self.length);
        }
        loop {
            match ring.flush(PATIENCE) {
                Ok(true) => return Ok(BATCH as u64),
                Ok(false) => super::check_cut(flow)?,
                Err(error) => {
                    flow.explain("sending to", &error)?;
                }
            }
        }
    }

    /// How the ring fared, after the last send.
    pub fn finish(&mut self) -> Option<RingUse> {
        let ring = self.ring.take()?;
        let mut told = RingUse::new(ring.grants(), BATCH, self.length);
        told.enters = ring.enters();
        Some(told)
    }
}

/// Receives datagrams with one request that stays armed.
pub struct ReceiveSlots {
    bytes: usize,
    ring: Option<(SocketFlow, ReceiveRing<SocketFlow>)>,
}

impl ReceiveSlots {
    /// For datagrams of at most `bytes` bytes; of longer ones the rest is cut off.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { bytes, ring: None }
    }

    /// Makes the ring.
    ///
    /// # Errors
    /// What the kernel refuses, and the remedy.
    pub fn prepare(&mut self, flow: &SocketFlow) -> anyhow::Result<()> {
        // A bundle would join datagrams.
        let ring = ReceiveRing::new(flow.clone(), buffers(self.bytes as u64), self.bytes, false);
        let ring = ring.map_err(|refused| refusal("--receive uring", &refused))?;
        self.ring = Some((flow.clone(), ring));
        Ok(())
    }

    /// Waits a while for something to receive. `None` means that nothing came, `Some(0)` that nothing
    /// will, `Some(1)` that there is something.
    ///
    /// # Errors
    /// What the kernel says of waiting.
    #[inline]
    pub fn wait(&mut self) -> anyhow::Result<Option<usize>> {
        let (flow, ring) = self.ring.as_mut().context(UNPREPARED)?;
        match ring.wait(REARM) {
            Ok(true) => Ok(Some(1)),
            Ok(false) => Ok(flow.is_closed().then_some(0)),
            Err(error) => flow.explain("receiving from", &error),
        }
    }

    /// Hands what is there to `take`, up to a batch, without waiting.
    ///
    /// # Errors
    /// The peer is gone, or what `take` says.
    #[inline]
    pub fn take(
        &mut self,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (flow, ring) = self.ring.as_mut().context(UNPREPARED)?;
        for _ in 0..BATCH {
            match ring.poll() {
                Ok(Received::Bytes(datagram)) => take(datagram)?,
                // Somebody's datagram without a byte is nobody's.
                Ok(Received::Empty) => take(&[])?,
                Ok(Received::Nothing) => break,
                Err(error) => {
                    flow.explain("receiving from", &error)?;
                }
            }
        }
        Ok(())
    }

    /// How the ring fared, after the last receive.
    pub fn finish(&mut self) -> Option<RingUse> {
        let (_, ring) = self.ring.take()?;
        let mut told = RingUse::new(ring.grants(), ring.buffers().into(), self.bytes);
        told.enters = ring.enters();
        told.starved = ring.starved();
        Some(told)
    }
}
