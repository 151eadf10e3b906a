//! A connection per transaction: connect, request, response, close.
//!
//! The server closes first. The port that the client used is then free at once, and what lingers
//! is the server's half, which the kernel lets a new connection from the same port replace; with the
//! client closing first, a minute's worth of transactions would have to fit into its ports. The
//! client reads the response and the end behind it with one call.

use super::Shared;
use super::rr::{Sizes, check_number, proven, put_number};
use crate::test::{SocketOptions, Test, Transport};
use crate::transport::connections::Door;
use crate::transport::options;
use anyhow::Context;
use bench_sys::calls;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv};
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;
use socket2::{SockAddr, Socket, Type};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The histogram of connection set-ups, beside that of whole transactions.
pub const CONNECT: &str = "connect_ns";

/// The connecting end of one thread.
pub struct Caller {
    server: SockAddr,
    options: SocketOptions,
    patience: Duration,
    index: usize,
    shared: Shared,
    sizes: Sizes,
    request: Vec<u8>,
    response: Vec<u8>,
    number: u64,
}

impl Caller {
    /// Thread `index` of a test whose server is at `server`.
    #[must_use]
    pub fn new(test: &Test, server: SockAddr, index: usize, sizes: Sizes, shared: Shared) -> Self {
        Self {
            server,
            options: test.socket.clone(),
            patience: Duration::from_secs_f64(test.timeout_s),
            index,
            shared,
            sizes,
            request: vec![0; sizes.request],
            // One byte more, so that a full receive goes on to the end of the connection.
            response: vec![0; sizes.response + 1],
            number: 0,
        }
    }

    fn connect(&self) -> anyhow::Result<Socket> {
        // The socket, its two timeouts, the connection.
        calls::count(4);
        let socket = Socket::new(self.server.domain(), Type::STREAM, None)
            .context("cannot make a data socket")?;
        if self.options != SocketOptions::default() {
            options::apply(&socket, Transport::Tcp, &self.options)?;
        }
        // No watcher can reach a socket that lives so short; it gives up by itself.
        socket.set_read_timeout(Some(self.patience))?;
        socket.set_write_timeout(Some(self.patience))?;
        socket
            .connect(&self.server)
            .map_err(|error| self.failed(&error))?;
        Ok(socket)
    }

    #[cold]
    fn failed(&self, error: &std::io::Error) -> anyhow::Error {
        let place = crate::transport::rendezvous::place(&self.server);
        let number = self.number;
        match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => anyhow::anyhow!(
                "transaction {number} to {place}: {error}: no local port is free; widen \
                 net.ipv4.ip_local_port_range, or set net.ipv4.tcp_tw_reuse=1"
            ),
            _ => anyhow::anyhow!("transaction {number} to {place}: {error}"),
        }
    }

    #[inline]
    fn receive(&mut self, socket: &Socket) -> anyhow::Result<()> {
        let whole = MsgFlags::MSG_WAITALL;
        calls::count(1);
        let count = recv(socket.as_raw_fd(), &mut self.response, whole)
            .map_err(|errno| self.failed(&errno.into()))?;
        anyhow::ensure!(
            count == self.sizes.response,
            "transaction {}: the server sent {count} bytes in place of {} and an end",
            self.number,
            self.sizes.response
        );
        check_number(self.number, self.sizes.echoed(), &self.response)
    }
}

impl Workload for Caller {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let (clock, start) = (rec.clock(), rec.last());
        let mut flow = self.connect()?;
        rec.record_extra(0, clock.ns(clock.now().saturating_sub(start)));
        put_number(self.number, &mut self.request);
        // The request, and the end of the socket.
        calls::count(2);
        std::io::Write::write_all(&mut flow, &self.request).map_err(|error| self.failed(&error))?;
        self.receive(&flow)?;
        drop(flow);
        rec.lap();
        self.number += 1;
        let bytes = self.sizes.transaction();
        self.shared.note(self.index, self.number * bytes);
        Ok(Work::op(bytes))
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        proven(
            total,
            self.number,
            "connections brought the response to their request and then an end",
        )
    }

    fn extra_histograms(&self) -> &'static [&'static str] {
        &[CONNECT]
    }
}

/// The accepting end of one thread. It works until the listener is shut down.
pub struct Acceptor {
    listener: Socket,
    guest: Option<IpAddr>,
    index: usize,
    shared: Shared,
    sizes: Sizes,
    request: Vec<u8>,
    response: Vec<u8>,
    number: u64,
    ended: bool,
}

impl Acceptor {
    /// Thread `index` of a test, behind a door; on the CPU `seat`, it takes in that CPU's
    /// connections, where each has a listener of its own.
    ///
    /// # Errors
    /// The door is the client's, or the kernel refuses the listener a timeout or a duplicate.
    pub fn new(
        test: &Test,
        door: &Door,
        (index, seat): (usize, Option<u32>),
        sizes: Sizes,
        shared: Shared,
    ) -> anyhow::Result<Self> {
        let Door::Listener {
            sockets,
            cpus,
            guest,
        } = door
        else {
            anyhow::bail!("a server needs a listener");
        };
        let own = cpus.iter().position(|&cpu| Some(cpu) == seat);
        let socket = sockets.get(own.unwrap_or(0));
        let listener = socket.context("a door without a listener")?.try_clone()?;
        listener.set_nonblocking(false)?;
        // Inherited by what is accepted, so that a guest who says nothing is let go.
        listener.set_read_timeout(Some(Duration::from_secs_f64(test.timeout_s)))?;
        listener.set_write_timeout(Some(Duration::from_secs_f64(test.timeout_s)))?;
        Ok(Self {
            listener,
            guest: *guest,
            index,
            shared,
            sizes,
            request: vec![0; sizes.request],
            response: vec![0; sizes.response],
            number: 0,
            ended: false,
        })
    }

    /// Takes one connection in and serves it. Who comes from elsewhere, or asks for less than a
    /// request, is sent away and not counted.
    #[inline]
    fn serve(&mut self) -> anyhow::Result<Work> {
        calls::count(1);
        let (socket, peer) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.ended = true;
                return Ok(Work::default());
            }
            // A timeout, a signal, or a caller who went away.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) =>
            {
                return Ok(Work::default());
            }
            Err(error) => return Err(error).context("cannot accept a connection"),
        };
        if self.guest.is_some() && peer.as_socket().map(|peer| peer.ip()) != self.guest {
            return Ok(Work::default());
        }
        // The request, the response, the end of the socket.
        calls::count(3);
        let whole = MsgFlags::MSG_WAITALL;
        if recv(socket.as_raw_fd(), &mut self.request, whole) != Ok(self.sizes.request) {
            return Ok(Work::default());
        }
        let echoed = self.sizes.echoed();
        self.response[..echoed].copy_from_slice(&self.request[..echoed]);
        if std::io::Write::write_all(&mut &socket, &self.response).is_err() {
            return Ok(Work::default());
        }
        drop(socket);
        self.number += 1;
        let bytes = self.sizes.transaction();
        self.shared.note(self.index, self.number * bytes);
        Ok(Work::op(bytes))
    }
}

impl Workload for Acceptor {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let work = self.serve()?;
        if self.ended {
            rec.finish();
        }
        Ok(work)
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let mut work = Work::default();
        while !self.ended {
            work += self.serve()?;
        }
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        anyhow::ensure!(
            total.ops == self.number,
            "{} transactions were counted and {} served",
            total.ops,
            self.number
        );
        // One of several threads may have had nothing to do; that it served nobody else is a check.
        Ok(Verified {
            checks: self.number.max(1),
            what: "connections were served".to_owned(),
        })
    }
}
