//! How data connections find their test: the server listens on an address of its own per test, and
//! each connection shows the token that the client was given over the control channel.
//!
//! Whoever shows anything else is dropped, and nobody can hold the others up: connections that
//! have not spoken yet wait side by side, and the eldest makes room when there are too many.

use super::options;
use super::socket::SocketFlow;
use crate::test::{Test, Transport};
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long all of a test's connections may take to be made.
pub const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a data connection sends first: the token and the flow's number, big-endian.
pub const PREAMBLE_BYTES: usize = 20;

/// Connections that may be waiting to speak, beyond those that are due.
const STRANGERS: usize = 64;

/// Longest name of a Unix data listener that is taken from the other side.
const MAX_NAME: usize = 64;

/// A random word that lets a connection into one test.
pub type Token = [u8; 16];

/// Where a test's data connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataAddress {
    /// A port, on the server's address of the control channel.
    Port(u16),
    /// A name in the abstract namespace of Unix sockets, which no file stands for.
    Name(String),
}

/// A test's data listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: DataAddress,
}

impl Listener {
    /// Listens for a test's connections, on this address of the machine where it has one.
    ///
    /// # Errors
    /// The kernel refuses the address or an option of the test.
    pub fn bind(test: &Test, ip: IpAddr) -> anyhow::Result<Self> {
        let (name, address) = match test.transport {
            Transport::Tcp => (None, SockAddr::from(SocketAddr::new(ip, 0))),
            Transport::Unix => {
                let name = random_name()?;
                let address = abstract_address(&name)?;
                (Some(name), address)
            }
        };
        let socket = stream_socket(test, address.domain())?;
        let place = place(&address);
        let listening = socket.bind(&address).and_then(|()| {
            // The caller polls; between the kernel's word and our answer somebody may be gone.
            socket.set_nonblocking(true)?;
            socket.listen(1024)
        });
        listening.with_context(|| format!("cannot listen for data on {place}"))?;
        let address = match name {
            Some(name) => DataAddress::Name(name),
            None => {
                let bound = socket.local_addr()?.as_socket();
                DataAddress::Port(bound.context("the listener has no port")?.port())
            }
        };
        Ok(Self { socket, address })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> &DataAddress {
        &self.address
    }
}

/// A name that nobody else has, under which a Unix listener is found.
fn random_name() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("no random numbers from the kernel")?;
    Ok(format!("net-bench-{:016x}", u64::from_le_bytes(bytes)))
}

fn abstract_address(name: &str) -> anyhow::Result<SockAddr> {
    // A leading zero byte keeps a name out of the file system.
    SockAddr::unix(format!("\0{name}")).with_context(|| format!("no Unix socket address: {name:?}"))
}

/// An address as messages call it.
fn place(address: &SockAddr) -> String {
    match address.as_socket() {
        Some(address) => address.to_string(),
        None => "a Unix socket".to_owned(),
    }
}

/// A socket of the test, told what the test wants.
fn stream_socket(test: &Test, domain: Domain) -> anyhow::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None).context("cannot make a data socket")?;
    options::apply(&socket, test.transport, &test.socket)?;
    Ok(socket)
}

/// What the connection of flow `index` sends first.
#[must_use]
pub fn preamble(token: &Token, index: u32) -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..16].copy_from_slice(token);
    bytes[16..].copy_from_slice(&index.to_be_bytes());
    bytes
}

/// The flow that a preamble announces, or `None` if it is a stranger's.
#[must_use]
pub fn flow_of(bytes: &[u8; PREAMBLE_BYTES], token: &Token, count: u32) -> Option<u32> {
    let (shown, index) = bytes.split_at(16);
    // All bytes are compared, so that the time does not tell how many were right.
    let difference = shown.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    let index = u32::from_be_bytes(index.try_into().expect("four bytes are left"));
    (difference == 0 && index < count).then_some(index)
}

/// Makes all connections of a test with the server that `control` leads to.
///
/// # Errors
/// One of them cannot be made: which, and what the kernel says.
pub fn connect(
    test: &Test,
    control: SocketAddr,
    data: &DataAddress,
    token: &Token,
) -> anyhow::Result<Vec<SocketFlow>> {
    let address = match (test.transport, data) {
        (Transport::Tcp, DataAddress::Port(port)) => {
            let mut address = control;
            address.set_port(*port);
            SockAddr::from(address)
        }
        (Transport::Unix, DataAddress::Name(name)) if name.len() <= MAX_NAME => {
            abstract_address(name)?
        }
        _ => anyhow::bail!("the server named a data address of another kind: {data:?}"),
    };
    let count = test.connections();
    let remedy = match test.transport {
        Transport::Tcp => "is the port closed by a firewall?",
        Transport::Unix => "Unix sockets need a server on this machine, in this network namespace",
    };
    let connect = |index| -> anyhow::Result<SocketFlow> {
        let mut socket = stream_socket(test, address.domain())?;
        match test.transport {
            Transport::Tcp => socket.connect_timeout(&address, RENDEZVOUS_TIMEOUT)?,
            Transport::Unix => socket.connect(&address)?,
        }
        socket.write_all(&preamble(token, index))?;
        Ok(SocketFlow::new(socket, place(&address))?.with_engine(test.engine))
    };
    (0..count)
        .map(|index| {
            connect(index).with_context(|| {
                format!(
                    "cannot make data connection {} of {count} to {} ({remedy})",
                    index + 1,
                    place(&address)
                )
            })
        })
        .collect()
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
        Ok(SocketFlow::new(self.socket, place(&self.peer))?.with_engine(test.engine))
    }
}

/// Waits until all connections of a test stand. `control` is the control channel, on which the
/// client has nothing to say meanwhile: when it moves, the client is gone.
///
/// # Errors
/// They do not within [`RENDEZVOUS_TIMEOUT`]: how many did.
pub fn gather(
    listener: &Listener,
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
            let secs = RENDEZVOUS_TIMEOUT.as_secs();
            anyhow::bail!(
                "{missing} of {count} data connections did not come within {secs} s; is the port \
                 of the data listener closed by a firewall?"
            );
        }
        wait(&listener.socket, &callers, control, left)?;
        accept_all(&listener.socket, &mut callers, missing + STRANGERS)?;
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
    use crate::test::{Engine, Shape, SocketOptions};
    use std::net::Ipv4Addr;
    use std::os::unix::net::UnixStream;

    fn test(transport: Transport, flows: u32) -> Test {
        Test {
            transport,
            shape: Shape::RequestResponse {
                request_bytes: 1,
                response_bytes: 1,
            },
            engine: Engine::Plain,
            socket: SocketOptions::default(),
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
        let listener = Listener::bind(test, Ipv4Addr::LOCALHOST.into()).expect("loopback");
        let address = match listener.address() {
            DataAddress::Port(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, *port)).into(),
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
                let socket = Socket::new(address.domain(), Type::STREAM, None).expect("a socket");
                socket.connect(&address).expect("it listens");
                socket
            };
            let silent = stranger();
            let (mut wrong, mut outside) = (stranger(), stranger());
            wrong.write_all(&preamble(&[8; 16], 0)).expect("it speaks");
            outside.write_all(&preamble(&token, 3)).expect("it speaks");
            let (theirs, data) = (test.clone(), listener.address().clone());
            let control = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let client = std::thread::spawn(move || connect(&theirs, control, &data, &token));
            let (control, _quiet) = UnixStream::pair().expect("a pair");
            let server = gather(&listener, &test, &token, &control).expect("three flows");
            let client = client.join().expect("no panic").expect("three flows");
            assert_eq!(client.len(), server.len());
            for (ours, theirs) in client.into_iter().zip(server) {
                ours.try_send(b"x").expect("open");
                assert_eq!(theirs.try_receive(&mut [0; 2]).expect("open"), Some(1));
            }
            drop(silent);
        }
    }

    #[test]
    fn a_data_address_of_another_kind_is_refused() {
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for (transport, data) in [
            (Transport::Tcp, DataAddress::Name("x".to_owned())),
            (Transport::Unix, DataAddress::Port(1)),
            (Transport::Unix, DataAddress::Name("x".repeat(65))),
        ] {
            let error = connect(&test(transport, 1), control, &data, &[0; 16]);
            let error = error.expect_err("of another kind").to_string();
            assert!(error.contains("another kind"), "{error}");
        }
    }

    #[test]
    fn a_preamble_is_a_token_and_a_flow_of_the_test() {
        let token = [9; 16];
        assert_eq!(flow_of(&preamble(&token, 2), &token, 3), Some(2));
        assert_eq!(flow_of(&preamble(&token, 3), &token, 3), None);
        let mut wrong = preamble(&token, 0);
        wrong[15] ^= 1;
        assert_eq!(flow_of(&wrong, &token, 3), None);
    }
}
