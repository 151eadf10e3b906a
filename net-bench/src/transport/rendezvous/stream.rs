//! Data connections of stream sockets: accepted from a listener, known by what they say first.

use super::{PREAMBLE_BYTES, RENDEZVOUS_TIMEOUT, Token, did_not_come, flow_of, place, preamble};
use crate::place::ports::Landing;
use crate::test::{Test, Transport};
use crate::transport::options;
use crate::transport::socket::SocketFlow;
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockAddr, Socket};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Connections that may be waiting to speak, beyond those that are due.
const STRANGERS: usize = 64;

/// Makes connection `index` of a test.
pub(super) fn connect(
    test: &Test,
    address: &SockAddr,
    (token, index): (&Token, u32),
    landing: Option<&Landing>,
) -> anyhow::Result<SocketFlow> {
    let mut socket = super::data_socket(test, address.domain())?;
    super::come_from(&socket, landing)?;
    match test.transport {
        // A Unix listener with a full queue makes callers wait, without a time limit of its own.
        Transport::Unix => socket.connect(address)?,
        _ => socket.connect_timeout(address, RENDEZVOUS_TIMEOUT)?,
    }
    socket.write_all(&preamble(token, index))?;
    Ok(SocketFlow::new(socket, place(address))?)
}

/// A connection that has not said all of its preamble yet.
struct Caller {
    socket: Socket,
    peer: SockAddr,
    said: [u8; PREAMBLE_BYTES],
    length: usize,
}

impl Caller {
    /// Reads on; `Some(true)` when the preamble is complete, `Some(false)` when it never will be.
    fn listen(&mut self) -> Option<bool> {
        match self.socket.read(&mut self.said[self.length..]) {
            Ok(0) => Some(false),
            Ok(count) => {
                self.length += count;
                (self.length == PREAMBLE_BYTES).then_some(true)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                None
            }
            Err(_) => Some(false),
        }
    }

    /// The flow that it has become.
    fn into_flow(self, test: &Test) -> anyhow::Result<SocketFlow> {
        // Not every option is inherited from the listener.
        options::apply(&self.socket, test.transport, &test.socket)?;
        Ok(SocketFlow::new(self.socket, place(&self.peer))?)
    }
}

/// Waits until all connections of a test stand.
pub(super) fn gather(
    listener: &Socket,
    test: &Test,
    token: &Token,
    control: &impl AsFd,
) -> anyhow::Result<Vec<SocketFlow>> {
    let count = test.connections();
    let deadline = Instant::now() + RENDEZVOUS_TIMEOUT;
    let mut flows: Vec<Option<SocketFlow>> = (0..count).map(|_| None).collect();
    let mut callers: VecDeque<Caller> = VecDeque::new();
    loop {
        let missing = flows.iter().filter(|flow| flow.is_none()).count();
        if missing == 0 {
            return Ok(flows.into_iter().flatten().collect());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(did_not_come(missing, count));
        }
        wait(listener, &callers, control, left)?;
        accept_all(listener, &mut callers, missing + STRANGERS)?;
        for _ in 0..callers.len() {
            let Some(mut caller) = callers.pop_front() else {
                break;
            };
            match caller.listen() {
                None => callers.push_back(caller),
                Some(false) => {}
                Some(true) => {
                    if let Some(index) = flow_of(&caller.said, token, count)
                        && let place @ None = &mut flows[index as usize]
                    {
                        *place = Some(caller.into_flow(test)?);
                    }
                }
            }
        }
    }
}

/// Waits until somebody calls or speaks.
fn wait(
    listener: &Socket,
    callers: &VecDeque<Caller>,
    control: &impl AsFd,
    patience: Duration,
) -> anyhow::Result<()> {
    let mut watched = vec![
        PollFd::new(control.as_fd(), PollFlags::POLLIN),
        PollFd::new(listener.as_fd(), PollFlags::POLLIN),
    ];
    let speaking = |caller| PollFd::new(AsFd::as_fd(caller), PollFlags::POLLIN);
    watched.extend(callers.iter().map(|caller| &caller.socket).map(speaking));
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).context("cannot wait for data connections"),
    }
    anyhow::ensure!(
        watched[0].any() != Some(true),
        "the client went away before its data connections stood"
    );
    Ok(())
}

/// Takes in everybody who calls; beyond `room` the eldest has to go.
fn accept_all(
    listener: &Socket,
    callers: &mut VecDeque<Caller>,
    room: usize,
) -> anyhow::Result<()> {
    loop {
        match listener.accept() {
            Ok((socket, peer)) => {
                socket.set_nonblocking(true)?;
                callers.push_back(Caller {
                    socket,
                    peer,
                    said: [0; PREAMBLE_BYTES],
                    length: 0,
                });
                if callers.len() > room {
                    callers.pop_front();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The caller went away before it was let in.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => return Err(error).context("cannot accept a data connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{Engine, Receive, Shape, SocketOptions};
    use crate::transport::rendezvous::{DataAddress, Listener, abstract_address};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::os::unix::net::UnixStream;

    fn test(transport: Transport, flows: u32) -> Test {
        Test {
            transport,
            shape: Shape::RequestResponse {
                request_bytes: 1,
                response_bytes: 1,
            },
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: SocketOptions::default(),
            arrival: None,
            placement: Default::default(),
            flows,
            threads: 1,
            duration_s: 1.0,
            operations: None,
            omit_s: 0.0,
            interval_s: 1.0,
            timeout_s: 10.0,
        }
    }

    fn loopback(test: &Test) -> (Listener, SockAddr) {
        let listener = Listener::bind(test, Ipv4Addr::LOCALHOST.into(), None).expect("loopback");
        let address = match listener.address() {
            DataAddress::Port { port, .. } => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).into(),
            DataAddress::Name(name) => abstract_address(name).expect("short"),
        };
        (listener, address)
    }

    #[test]
    fn strangers_stay_outside_and_hold_nobody_up() {
        for transport in [Transport::Tcp, Transport::Unix] {
            let test = test(transport, 3);
            let (listener, address) = loopback(&test);
            let token = [9; 16];
            let stranger = || {
                let socket =
                    Socket::new(address.domain(), socket2::Type::STREAM, None).expect("a socket");
                socket.connect(&address).expect("it listens");
                socket
            };
            let silent = stranger();
            let (mut wrong, mut outside) = (stranger(), stranger());
            wrong.write_all(&preamble(&[8; 16], 0)).expect("it speaks");
            outside.write_all(&preamble(&token, 3)).expect("it speaks");
            let theirs = test.clone();
            let client = std::thread::spawn(move || {
                let connect = |index| connect(&theirs, &address, (&token, index), None);
                (0..3).map(connect).collect::<anyhow::Result<Vec<_>>>()
            });
            let (control, _quiet) = UnixStream::pair().expect("a pair");
            let server = gather(&listener.socket, &test, &token, &control).expect("three flows");
            let client = client.join().expect("no panic").expect("three flows");
            assert_eq!(client.len(), server.len());
            for (ours, theirs) in client.into_iter().zip(server) {
                ours.try_send(b"x").expect("open");
                assert_eq!(theirs.try_receive(&mut [0; 2]).expect("open"), Some(1));
            }
            drop(silent);
        }
    }
}
