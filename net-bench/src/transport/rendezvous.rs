//! How data connections find their test: the server listens on an address of its own per test, and
//! each connection shows the token that the client was given over the control channel.
//!
//! Whoever shows anything else is dropped, and nobody can hold the others up. How that is done
//! depends on the transport: [`stream`] accepts connections, [`datagram`] has addresses prove that
//! they are real before anything of a test is sent to them.

mod datagram;
mod stream;

use super::connections::{Connections, Door};
use super::options;
use super::socket::SocketFlow;
use crate::control::Channel;
use crate::observe::queues::Steering;
use crate::place::ports::{self, Landing};
use crate::place::reuseport;
use crate::test::{Test, Transport};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long all of a test's connections may take to be made.
pub const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a data connection sends first: the token and the flow's number, big-endian.
pub const PREAMBLE_BYTES: usize = 20;

/// Longest name of a Unix data listener that is taken from the other side.
const MAX_NAME: usize = 64;

/// A random word that lets a connection into one test.
pub type Token = [u8; 16];

/// Where a test's data connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DataAddress {
    /// A port.
    Port {
        /// The server's address; absent where it is that of the control channel.
        ip: Option<IpAddr>,
        /// Its port.
        port: u16,
    },
    /// A name in the abstract namespace of Unix sockets, which no file stands for.
    Name(String),
}

/// A test's data listener.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Those that share its port where each CPU has one of its own.
    others: Vec<Socket>,
    /// The CPU of `socket`, then those of the others; empty where there is one for all.
    cpus: Vec<u32>,
    address: DataAddress,
    /// Whether data comes another way than the control channel, from addresses that are not known.
    apart: bool,
}

impl Listener {
    /// Listens for a test's connections: on the machine's address of the control channel, or on
    /// another where data goes apart.
    ///
    /// # Errors
    /// The kernel refuses the address or an option of the test.
    pub fn bind(test: &Test, control: IpAddr, apart: Option<IpAddr>) -> anyhow::Result<Self> {
        let ip = apart.unwrap_or(control);
        let (name, address) = match test.transport {
            Transport::Tcp | Transport::Udp => (None, SocketAddr::new(ip, 0).into()),
            Transport::Unix => {
                let name = random_name()?;
                let address = abstract_address(&name)?;
                (Some(name), address)
            }
        };
        let cpus = door_cpus(test)?;
        let place = place(&address);
        let (socket, others) = match (address.as_socket(), cpus.is_empty()) {
            (Some(address), false) => listen_by_cpu(test, address, &cpus),
            _ => listen(test, &address).map(|socket| (socket, Vec::new())),
        }
        .with_context(|| format!("cannot listen for data on {place}"))?;
        // The caller polls; between the kernel's word and our answer somebody may be gone.
        socket.set_nonblocking(true)?;
        let address = match name {
            Some(name) => DataAddress::Name(name),
            None => {
                let bound = socket.local_addr()?.as_socket();
                let port = bound.context("the listener has no port")?.port();
                DataAddress::Port { ip: apart, port }
            }
        };
        Ok(Self {
            socket,
            others,
            cpus,
            address,
            apart: apart.is_some(),
        })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> &DataAddress {
        &self.address
    }
}

/// The backlog of data listeners.
const BACKLOG: i32 = 1024;

/// One socket for all.
fn listen(test: &Test, address: &SockAddr) -> anyhow::Result<Socket> {
    let socket = data_socket(test, address.domain())?;
    socket.bind(address)?;
    match test.transport {
        Transport::Udp => {}
        Transport::Tcp | Transport::Unix => socket.listen(BACKLOG)?,
    }
    Ok(socket)
}

/// A socket for each CPU.
fn listen_by_cpu(
    test: &Test,
    address: SocketAddr,
    cpus: &[u32],
) -> anyhow::Result<(Socket, Vec<Socket>)> {
    let make = |_| data_socket(test, Domain::for_address(address));
    let mut sockets: Vec<Socket> = cpus.iter().map(make).collect::<Result<_, _>>()?;
    reuseport::listen(&sockets, cpus, address, BACKLOG)?;
    let others = sockets.split_off(1);
    let first = sockets.pop().context("there is a socket for each CPU")?;
    Ok((first, others))
}

/// The CPUs of the server's threads, each once, where they take in connections that come and go.
fn door_cpus(test: &Test) -> anyhow::Result<Vec<u32>> {
    if !test.has_door() {
        return Ok(Vec::new());
    }
    let pin = &test.placement.server;
    let seats = pin
        .place_at_door(test.threads as usize)
        .with_context(|| format!("--server-pin (or --pin) {pin}"))?;
    let mut cpus = Vec::new();
    for cpu in seats.into_iter().flatten() {
        if !cpus.contains(&cpu) {
            cpus.push(cpu);
        }
    }
    Ok(cpus)
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
pub(crate) fn place(address: &SockAddr) -> String {
    match address.as_socket() {
        Some(address) => address.to_string(),
        None => "a Unix socket".to_owned(),
    }
}

/// A socket of the test, told what the test wants.
fn data_socket(test: &Test, domain: Domain) -> anyhow::Result<Socket> {
    let kind = match test.transport {
        Transport::Tcp | Transport::Unix => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(domain, kind, None).context("cannot make a data socket")?;
    if test.transport == Transport::Udp {
        // The flows of a server share its port: clients behind a firewall open one and not many.
        socket.set_reuse_port(true)?;
    }
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

/// Makes all connections of a test with the server at the other end of the control channel, whose
/// device chooses receive queues by `steering`, where that matters.
///
/// # Errors
/// One of them cannot be made: which, and what the kernel says.
pub fn connect(
    test: &Test,
    control: &Channel,
    data: &DataAddress,
    token: &Token,
    steering: Option<&Steering>,
) -> anyhow::Result<Connections> {
    let address = data_address(test.transport, control.peer(), data)?;
    let landings = landings(test, control, &address, steering)?;
    let flows = match test.transport {
        Transport::Udp => datagram::connect(test, &address, token, control, &landings),
        Transport::Tcp | Transport::Unix => connect_streams(test, &address, token, &landings),
    }?;
    let door = test.has_door().then(|| Door::Server(address));
    let queues = landings.iter().map(|landing| landing.queue).collect();
    Ok(Connections {
        flows,
        door,
        queues,
    })
}

/// Where the flows are to come from, of a test that leads them to receive queues.
fn landings(
    test: &Test,
    control: &Channel,
    address: &SockAddr,
    steering: Option<&Steering>,
) -> anyhow::Result<Vec<Landing>> {
    let Some(queues) = &test.placement.queues else {
        return Ok(Vec::new());
    };
    let steering = steering.context("the server does not tell how its device chooses queues")?;
    let server = address.as_socket().context("the server has no port")?;
    let kind = match test.transport {
        Transport::Udp => Type::DGRAM,
        Transport::Tcp | Transport::Unix => Type::STREAM,
    };
    let ends = (control.local()?, server);
    let count = test.connections() as usize;
    ports::landings(queues, steering, kind, ends, count).with_context(|| {
        format!("--queues {queues}: no source ports for the server's device; name other queues")
    })
}

/// Gives a client's socket the address that its flow is to come from.
fn come_from(socket: &Socket, landing: Option<&Landing>) -> anyhow::Result<()> {
    let Some(Landing { source, .. }) = landing else {
        return Ok(());
    };
    socket.bind(&(*source).into()).with_context(|| {
        format!("cannot send from {source}, which was free a moment ago; try again")
    })
}

fn connect_streams(
    test: &Test,
    address: &SockAddr,
    token: &Token,
    landings: &[Landing],
) -> anyhow::Result<Vec<SocketFlow>> {
    let count = test.connections();
    let remedy = match test.transport {
        Transport::Unix => "Unix sockets need a server on this machine, in this network namespace",
        _ => "is the port closed by a firewall?",
    };
    (0..count)
        .map(|index| {
            let landing = landings.get(index as usize);
            stream::connect(test, address, (token, index), landing).with_context(|| {
                format!(
                    "cannot make data connection {} of {count} to {} ({remedy})",
                    index + 1,
                    place(address)
                )
            })
        })
        .collect()
}

/// The address that a server named, if it is one of the test's transport.
fn data_address(
    transport: Transport,
    control: SocketAddr,
    data: &DataAddress,
) -> anyhow::Result<SockAddr> {
    match (transport, data) {
        (Transport::Tcp | Transport::Udp, DataAddress::Port { ip, port }) => {
            let mut address = control;
            if let Some(ip) = ip {
                address = SocketAddr::new(*ip, *port);
            }
            address.set_port(*port);
            Ok(address.into())
        }
        (Transport::Unix, DataAddress::Name(name)) if name.len() <= MAX_NAME => {
            abstract_address(name)
        }
        _ => anyhow::bail!("the server named a data address of another kind: {data:?}"),
    }
}

/// Waits until all connections of a test stand. On the control channel the client has nothing to
/// say meanwhile: when it moves, the client is gone.
///
/// # Errors
/// They do not within [`RENDEZVOUS_TIMEOUT`]: how many did.
pub fn gather(
    listener: Listener,
    test: &Test,
    token: &Token,
    control: &Channel,
) -> anyhow::Result<Connections> {
    let flows = match test.transport {
        Transport::Tcp | Transport::Unix => stream::gather(&listener.socket, test, token, control),
        Transport::Udp => datagram::gather(&listener.socket, test, token, control),
    }?;
    let door = test.has_door().then(|| Door::Listener {
        sockets: std::iter::once(listener.socket)
            .chain(listener.others)
            .collect(),
        cpus: listener.cpus,
        guest: (!listener.apart).then(|| control.peer().ip()),
    });
    Ok(Connections {
        flows,
        door,
        queues: Vec::new(),
    })
}

fn did_not_come(missing: usize, count: u32) -> anyhow::Error {
    let secs = RENDEZVOUS_TIMEOUT.as_secs();
    anyhow::anyhow!(
        "{missing} of {count} data connections did not come within {secs} s; is the port of the \
         data listener closed by a firewall?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_data_address_of_another_kind_is_refused() {
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for (transport, data) in [
            (Transport::Tcp, DataAddress::Name("x".to_owned())),
            (Transport::Unix, DataAddress::Port { ip: None, port: 1 }),
            (Transport::Unix, DataAddress::Name("x".repeat(65))),
        ] {
            let error = data_address(transport, control, &data);
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
