//! TCP sockets.
//!
//! They have no timeouts of their own: a receive timeout makes the kernel arm and disarm a timer
//! for every wait, which costs a percent of a round trip on loopback. The watcher beside the run
//! sees that nothing moves any more and cuts the flows (see [`crate::attend`]).

use super::Flow;
use anyhow::Context;
use reports::model::Fact;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

/// One end of a TCP connection that carries data.
#[derive(Debug, Clone)]
pub struct TcpFlow {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
}

impl TcpFlow {
    /// Takes a connected socket and switches Nagle's algorithm off.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            peer: stream.peer_addr()?,
            stream: Arc::new(stream),
        })
    }

    /// The other end's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Ends both directions at once, so that whoever waits on the flow wakes up with an error or
    /// an end.
    pub fn cut(&self) {
        // A flow that is already gone needs no cutting.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Switches between waiting and not waiting for the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_blocking(&self, blocking: bool) -> anyhow::Result<()> {
        self.stream
            .set_nonblocking(!blocking)
            .with_context(|| format!("flow to {}: cannot change its blocking mode", self.peer))
    }

    /// Sends what the kernel takes now; `None` if that is nothing. For non-blocking flows.
    ///
    /// # Errors
    /// The peer is gone.
    #[inline]
    pub fn try_send(&self, data: &[u8]) -> anyhow::Result<Option<usize>> {
        match (&*self.stream).write(data) {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(self.failed("sending to", &error)),
        }
    }

    /// Receives what is there now; `None` if that is nothing, `Some(0)` at the end. For
    /// non-blocking flows.
    ///
    /// # Errors
    /// The peer is gone.
    #[inline]
    pub fn try_receive(&self, buffer: &mut [u8]) -> anyhow::Result<Option<usize>> {
        match (&*self.stream).read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(self.failed("receiving from", &error)),
        }
    }

    /// Waits for the first byte, or the end, without taking it.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn wait_for_first_byte(&self) -> anyhow::Result<()> {
        loop {
            match self.stream.peek(&mut [0]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("receiving from", &error)),
            }
        }
    }

    /// The send buffer's size in bytes, as the kernel has it now.
    #[must_use]
    pub fn send_buffer_bytes(&self) -> Fact<f64> {
        let size = SockRef::from(&*self.stream).send_buffer_size();
        Fact::of(size.map(|bytes| bytes as f64))
    }

    /// The receive buffer's size in bytes, as the kernel has it now.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> Fact<f64> {
        let size = SockRef::from(&*self.stream).recv_buffer_size();
        Fact::of(size.map(|bytes| bytes as f64))
    }

    /// The maximum segment size in bytes, as negotiated; known while the connection stands.
    #[must_use]
    pub fn max_segment_bytes(&self) -> Fact<f64> {
        Fact::of(SockRef::from(&*self.stream).tcp_mss().map(f64::from))
    }

    #[cold]
    fn failed(&self, doing: &str, error: &io::Error) -> anyhow::Error {
        let peer = self.peer;
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                anyhow::anyhow!("{doing} {peer}: the peer closed the connection ({error})")
            }
            _ => anyhow::anyhow!("{doing} {peer}: {error}"),
        }
    }
}

/// The congestion control that new sockets of this machine use.
#[must_use]
pub fn default_congestion_control() -> Fact<String> {
    let ask = || -> io::Result<String> {
        let name = Socket::new(Domain::IPV4, Type::STREAM, None)?.tcp_congestion()?;
        let end = name.iter().position(|&byte| byte == 0);
        Ok(String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned())
    };
    Fact::of(ask())
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

impl Flow for TcpFlow {
    #[inline]
    fn send_all(&mut self, mut data: &[u8]) -> anyhow::Result<()> {
        loop {
            match (&*self.stream).write(data) {
                Ok(count) if count == data.len() => return Ok(()),
                Ok(count) => data = &data[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("sending to", &error)),
            }
        }
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        loop {
            match (&*self.stream).read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("receiving from", &error)),
            }
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| self.failed("ending the flow to", &error))
    }
}
