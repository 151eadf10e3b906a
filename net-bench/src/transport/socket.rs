//! Sockets that carry data: streams of TCP and the Unix domain, connected sockets of UDP.
//!
//! Streams have no timeouts of their own: a receive timeout makes the kernel arm and disarm a timer
//! for every wait, which costs a percent of a round trip on loopback. The watcher beside the run
//! sees that nothing moves any more and cuts the flows (see [`crate::attend`]).

use super::Flow;
use crate::test::Engine;
use anyhow::Context;
use bench_sys::calls;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use reports::model::Fact;
use socket2::{Socket, Type};
use std::io::{self, ErrorKind, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a flow that busy-polls asks between two looks at the clock.
const ASKS: u32 = 256;

/// One end of a connection that carries data. Clones share the socket.
#[derive(Debug, Clone)]
pub struct SocketFlow {
    socket: Arc<Socket>,
    /// Whether this side ended receiving. A non-blocking UDP socket does not say so: the kernel
    /// reports it ready for ever, and every receive as one to be tried again.
    closed: Arc<AtomicBool>,
    peer: Arc<str>,
    datagrams: bool,
    send_flags: libc::c_int,
    busy_poll: bool,
}

impl SocketFlow {
    /// Takes a connected socket, whose other end is called `peer` in messages.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(socket: Socket, peer: String) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        Ok(Self {
            datagrams: socket.r#type()? == Type::DGRAM,
            socket: Arc::new(socket),
            closed: Arc::default(),
            peer: peer.into(),
            send_flags: libc::MSG_NOSIGNAL,
            busy_poll: false,
        })
    }

    /// The flow as an engine sends on it.
    #[must_use]
    pub fn with_engine(mut self, engine: Engine) -> Self {
        if engine == Engine::More {
            self.send_flags |= libc::MSG_MORE;
        }
        self
    }

    /// The flow as one on which nobody sleeps: who waits to receive or to send asks again and again.
    #[must_use]
    pub fn with_busy_poll(mut self) -> Self {
        self.busy_poll = true;
        self
    }

    /// Has no call on the flow's socket wait, if nobody is to sleep: for streams, whose calls are not
    /// all made here.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn prepare_stream(&self) -> anyhow::Result<()> {
        match self.busy_poll {
            true => self.set_blocking(false),
            false => Ok(()),
        }
    }

    /// The other end, as messages call it.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether the peer cannot say on the flow itself that it has ended: datagrams have no end.
    #[must_use]
    pub fn ends_by_word(&self) -> bool {
        self.datagrams
    }

    /// Ends both directions at once, so that whoever waits on the flow wakes up with an error or
    /// an end.
    pub fn cut(&self) {
        self.closed.store(true, Ordering::Relaxed);
        // A flow that is already gone needs no cutting.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Ends receiving only: what has come can still be read, and then comes the end. For flows
    /// whose peer cannot say that it has ended.
    pub fn hang_up(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Waits at most so long for something to receive.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_receive_timeout(&self, patience: Duration) -> anyhow::Result<()> {
        self.socket
            .set_read_timeout(Some(patience))
            .with_context(|| format!("flow to {}: cannot set a receive timeout", self.peer))
    }

    /// Switches between waiting and not waiting for the kernel.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_blocking(&self, blocking: bool) -> anyhow::Result<()> {
        self.socket
            .set_nonblocking(!blocking)
            .with_context(|| format!("flow to {}: cannot change its blocking mode", self.peer))
    }

    /// Sends what the kernel takes now; `None` if that is nothing. For non-blocking flows.
    ///
    /// # Errors
    /// The peer is gone.
    #[inline]
    pub fn try_send(&self, data: &[u8]) -> anyhow::Result<Option<usize>> {
        calls::count(1);
        match self.socket.send_with_flags(data, self.send_flags) {
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
        calls::count(1);
        match (&*self.socket).read(buffer) {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_transient(&error) => Ok(self.is_closed().then_some(0)),
            Err(error) => Err(self.failed("receiving from", &error)),
        }
    }

    /// Whether this side ended receiving. Only then is a datagram without a byte the end.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Receives what is there, waiting for it at most `patience`, or without an end for `None`: by
    /// sleeping or by asking, as the flow was told. `None` after that time, or a signal. For
    /// blocking flows, whose receive timeout has been set if there is a patience.
    ///
    /// # Errors
    /// The peer is gone.
    #[inline]
    pub fn wait_receive(
        &self,
        buffer: &mut [u8],
        patience: Option<Duration>,
    ) -> anyhow::Result<Option<usize>> {
        if !self.busy_poll {
            return self.try_receive(buffer);
        }
        let begun = patience.map(|_| Instant::now());
        loop {
            for _ in 0..ASKS {
                let received = self.ask(buffer)?;
                if received.is_some() {
                    return Ok(received);
                }
            }
            if begun
                .zip(patience)
                .is_some_and(|(begun, patience)| begun.elapsed() > patience)
            {
                return Ok(None);
            }
        }
    }

    /// Receives what is there now, whether or not the flow blocks.
    #[inline]
    fn ask(&self, buffer: &mut [u8]) -> anyhow::Result<Option<usize>> {
        calls::count(1);
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(self.is_closed().then_some(0)),
            Err(errno) => Err(self.failed("receiving from", &errno.into())),
        }
    }

    /// Turns an error of a call on the socket that another module made into one that names the
    /// flow; `None` where the call is to be tried again, `Some(0)` where this side has ended.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn explain(&self, doing: &str, error: &io::Error) -> anyhow::Result<Option<usize>> {
        if is_transient(error) {
            return Ok(self.is_closed().then_some(0));
        }
        Err(self.failed(doing, error))
    }

    /// Waits for the first byte, or the end, without taking it.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn wait_for_first_byte(&self) -> anyhow::Result<()> {
        loop {
            match self.socket.peek(&mut [MaybeUninit::uninit()]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("receiving from", &error)),
            }
        }
    }

    /// The send buffer's size in bytes, as the kernel has it now.
    #[must_use]
    pub fn send_buffer_bytes(&self) -> Fact<f64> {
        Fact::of(self.socket.send_buffer_size().map(|bytes| bytes as f64))
    }

    /// The receive buffer's size in bytes, as the kernel has it now.
    #[must_use]
    pub fn receive_buffer_bytes(&self) -> Fact<f64> {
        Fact::of(self.socket.recv_buffer_size().map(|bytes| bytes as f64))
    }

    /// The maximum segment size in bytes, as negotiated; known while a TCP connection stands.
    #[must_use]
    pub fn max_segment_bytes(&self) -> Fact<f64> {
        Fact::of(self.socket.tcp_mss().map(f64::from))
    }

    /// The congestion control in use; known of TCP only.
    #[must_use]
    pub fn congestion_control(&self) -> Fact<String> {
        Fact::of(self.socket.tcp_congestion().map(|name| {
            let end = name.iter().position(|&byte| byte == 0);
            String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
        }))
    }

    #[cold]
    fn failed(&self, doing: &str, error: &io::Error) -> anyhow::Error {
        let peer = &self.peer;
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                anyhow::anyhow!("{doing} {peer}: the peer closed the connection ({error})")
            }
            // On a connected UDP socket: the peer's machine says that nobody listens there.
            ErrorKind::ConnectionRefused => {
                anyhow::anyhow!("{doing} {peer}: the peer closed its socket ({error})")
            }
            _ if error.raw_os_error() == Some(libc::EMSGSIZE) => anyhow::anyhow!(
                "{doing} {peer}: {error}: what is to be one packet is larger than the path's MTU; \
                 choose a smaller --length"
            ),
            _ => anyhow::anyhow!("{doing} {peer}: {error}"),
        }
    }
}

impl AsFd for SocketFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Errors after which the same call is tried again: not now, a signal, a device's queue is full.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}

impl Flow for SocketFlow {
    #[inline]
    fn send_all(&mut self, mut data: &[u8]) -> anyhow::Result<()> {
        loop {
            calls::count(1);
            match self.socket.send_with_flags(data, self.send_flags) {
                Ok(count) if count == data.len() => return Ok(()),
                Ok(count) => data = &data[count..],
                // No room: only a flow on which nobody sleeps is told so.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(self.failed("sending to", &error)),
            }
        }
    }

    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        if self.busy_poll {
            loop {
                if let Some(count) = self.ask(buffer)? {
                    return Ok(count);
                }
            }
        }
        loop {
            calls::count(1);
            match (&*self.socket).read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("receiving from", &error)),
            }
        }
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.socket
            .shutdown(Shutdown::Write)
            .map_err(|error| self.failed("ending the flow to", &error))
    }
}
