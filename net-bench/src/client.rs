//! The client: it finds a server, or brings its own, agrees on a test, and does its own part.

use crate::attend::{Line, Patient, Rope, Turn, Watch, attend};
use crate::companion::Companion;
use crate::control::message::{Leg, Ready, Reply, Request, Role};
use crate::control::{Channel, HANDSHAKE_TIMEOUT, Key, MESSAGE_TIMEOUT};
use crate::rdma::conduct;
use crate::rdma::test::RdmaTest;
use crate::server::{self, Limits, Server};
use crate::side::{self, End, Part};
use crate::test::{Test, Transport};
use crate::transport::connections::Connections;
use crate::transport::rendezvous::{self, RENDEZVOUS_TIMEOUT};
use crate::workload::Vitals;
use anyhow::Context;
use reports::host::Host;
use reports::measure::{Observer, stop_requested};
use reports::model::Unavailable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long the server may take for its result after the client's own part is over, beyond the
/// time after which it gives up by itself.
const RESULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client whose flows broke waits for the server's reason.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this process, on a port of loopback that nobody knows.
    InProcess {
        /// Which loopback.
        family: Family,
    },
    /// In a process of its own beside this one, started for the test and ended with it.
    OwnProcess {
        /// Which loopback.
        family: Family,
    },
    /// At a host's port.
    Remote {
        /// Its name or address.
        host: String,
        /// The port of its control channel.
        port: u16,
        /// Which of its addresses.
        family: Family,
        /// The key that it shares with us.
        key: Key,
    },
}

/// Which version of IP to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Whichever works.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::Any | Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// What both sides did in one test.
#[derive(Debug)]
pub struct Finished {
    /// This side.
    pub parts: Vec<Part>,
    /// The server's side.
    pub legs: Vec<Leg>,
    /// The receive queue of the server's device that each flow was led to; empty where none was.
    pub queues: Vec<u32>,
    /// What the server's machine is like, if it is another process's.
    pub host: Option<Host>,
}

/// Runs tests one after the other with the server at `place`, in one conversation.
///
/// # Errors
/// What went wrong, where, and what to do about it.
pub fn run(
    tests: &[Test],
    place: &Place,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Finished>> {
    match place {
        Place::InProcess { family } => in_process(tests, family.loopback(), observer),
        Place::OwnProcess { family } => {
            let companion = Companion::start(family.loopback())?;
            converse(tests, companion.connect()?, &companion.key, observer)
        }
        Place::Remote {
            host,
            port,
            family,
            key,
        } => {
            let stream = connect(host, *port, *family)?;
            converse(tests, stream, key, observer).with_context(|| format!("server {host}:{port}"))
        }
    }
}

/// Runs a test over an RDMA device with the server at `place`.
///
/// # Errors
/// What went wrong, where, and what to do about it.
pub fn run_rdma(
    test: &RdmaTest,
    place: &Place,
    observer: &dyn Observer,
) -> anyhow::Result<conduct::Finished> {
    match place {
        Place::InProcess { family } | Place::OwnProcess { family } => {
            let companion = Companion::start(family.loopback())?;
            let mut channel = Channel::connect(companion.connect()?, &companion.key)?;
            let finished = conduct::as_client(&mut channel, test, observer, &stop_requested)?;
            // It is this machine's, which the report knows already.
            Ok(conduct::Finished {
                host: None,
                ..finished
            })
        }
        Place::Remote {
            host,
            port,
            family,
            key,
        } => {
            let stream = connect(host, *port, *family)?;
            let mut channel = Channel::connect(stream, key)?;
            conduct::as_client(&mut channel, test, observer, &stop_requested)
                .with_context(|| format!("server {host}:{port}"))
        }
    }
}

fn in_process(
    tests: &[Test],
    ip: IpAddr,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Finished>> {
    let key = Key::random()?;
    let options = server::Options {
        key: key.clone(),
        host: None,
        max_clients: 1,
        once: true,
        data_ip: None,
        limits: Limits::default(),
    };
    let server = Server::bind(SocketAddr::new(ip, 0), options)?;
    let address = server.address()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(|| over.load(Ordering::Relaxed), &|_| ()));
        let result = TcpStream::connect_timeout(&address, HANDSHAKE_TIMEOUT)
            .with_context(|| format!("cannot connect to the server of this process at {address}"))
            .and_then(|stream| converse(tests, stream, &key, observer));
        over.store(true, Ordering::Relaxed);
        let served = serving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let finished = result?;
        served.map(|()| finished)
    })
}

/// A connection to the server at a host's port.
///
/// # Errors
/// The name means nothing, or nobody answers.
pub(crate) fn connect(host: &str, port: u16, family: Family) -> anyhow::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve the host name {host:?}"))?
        .filter(|address| family.has(address))
        .collect();
    let mut last = None;
    for address in &addresses {
        match TcpStream::connect_timeout(address, HANDSHAKE_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    let none = || match family {
        Family::Any => "the name has no address".to_owned(),
        Family::V4 => "the name has no IPv4 address (-4)".to_owned(),
        Family::V6 => "the name has no IPv6 address (-6)".to_owned(),
    };
    let error = last.map_or_else(none, |error| error.to_string());
    anyhow::bail!(
        "cannot connect to {host}:{port}: {error}; start `net-bench serve` there, with --bind and \
         --key-file for other hosts to reach it, and check the port and the firewall"
    )
}

/// Handshake and tests.
fn converse(
    tests: &[Test],
    stream: TcpStream,
    key: &Key,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Finished>> {
    let mut channel = Channel::connect(stream, key)?;
    let take_part = |test| take_part(&mut channel, test, observer, &stop_requested);
    tests.iter().map(take_part).collect()
}

/// Agreement, the test itself, and the server's result. `stop` is asked several times a second
/// whether the test is to end early.
///
/// # Errors
/// What went wrong, on which side.
pub(crate) fn take_part(
    channel: &mut Channel,
    test: &Test,
    observer: &dyn Observer,
    stop: &dyn Fn() -> bool,
) -> anyhow::Result<Finished> {
    channel.send(&Request::Test(Box::new(test.clone())))?;
    let ready = match channel.receive(MESSAGE_TIMEOUT)? {
        Reply::Ready(ready) => ready,
        other => return Err(unexpected(other)),
    };
    let connections = connect_parts(test, channel, &ready)?;
    let seats = side::seats(test, End::Client, &connections)?;
    match channel.receive(RENDEZVOUS_TIMEOUT)? {
        Reply::Go => {}
        other => return Err(unexpected(other)),
    }
    let (parts, reply) = measure(channel, test, (&connections, &seats), observer, stop)?;
    // What this machine does not offer is the cause of whatever the server says to it.
    let parts = match parts {
        Err(error) if error.is::<Unavailable>() => return Err(error),
        parts => parts,
    };
    let legs = match (reply, &parts) {
        (Some(Reply::Done(legs)), _) => legs,
        (Some(other), _) => return Err(unexpected(other)),
        (None, Ok(_)) => {
            let patience = RESULT_TIMEOUT + Duration::from_secs_f64(test.timeout_s);
            result(channel.receive(patience)?, channel, patience)?
        }
        // The server's reason, if it can still give one, explains more than a broken flow.
        (None, Err(_)) => match channel.receive(REASON_TIMEOUT) {
            Ok(reason @ (Reply::Failed { .. } | Reply::Unavailable { .. })) => {
                return Err(unexpected(reason));
            }
            _ => Vec::new(),
        },
    };
    let parts = parts?;
    compare_bytes(test, &parts, &legs)?;
    Ok(Finished {
        parts,
        legs,
        queues: connections.queues,
        host: ready.host,
    })
}

/// All data connections, part by part of the test.
fn connect_parts(test: &Test, channel: &mut Channel, ready: &Ready) -> anyhow::Result<Connections> {
    let parts = test.parts();
    anyhow::ensure!(
        ready.data.len() == parts.len(),
        "the server named {} data addresses for a test of {} parts",
        ready.data.len(),
        parts.len()
    );
    let mut connections = Connections::default();
    for (part, data) in parts.iter().zip(&ready.data) {
        let (token, steering) = (&ready.token, ready.steering.as_ref());
        connections.add(rendezvous::connect(part, channel, data, token, steering)?);
        match channel.receive(RENDEZVOUS_TIMEOUT)? {
            Reply::Stand => {}
            other => return Err(unexpected(other)),
        }
    }
    Ok(connections)
}

/// The client's part, with an ear for the server: returns what the server said meanwhile.
fn measure(
    channel: &mut Channel,
    test: &Test,
    (connections, seats): (&Connections, &[Option<u32>]),
    observer: &dyn Observer,
    stop: &dyn Fn() -> bool,
) -> anyhow::Result<(anyhow::Result<Vec<Part>>, Option<Reply>)> {
    let vitals = Vitals::new(test.lanes() as usize);
    let patient = Patient {
        connections,
        vitals: &vitals,
        ends_by_word: test.ends_by_word(),
        patience: Duration::from_secs_f64(test.timeout_s),
    };
    let mut asked_to_stop = false;
    let mut told_end = !patient.ends_by_word;
    let mut reply = None;
    let mut lost = None;
    let work = |_: &Rope| side::run(test, End::Client, connections, seats, &vitals, observer);
    let parts = attend(channel, &patient, work, |channel, turn| {
        if turn == Turn::Quiet {
            if !asked_to_stop && stop() {
                asked_to_stop = true;
                vitals.stop();
                // If the server cannot hear it, it is gone, which the next turn will show.
                let _ = channel.send(&Request::Stop);
            }
            if vitals.ended() && !told_end {
                told_end = true;
                let _ = channel.send(&Request::Ended);
            }
            return Watch::On;
        }
        match channel.receive(MESSAGE_TIMEOUT) {
            Ok(Reply::Ended) => {
                vitals.peer_ended();
                return Watch::On;
            }
            Ok(Reply::Stop) => {
                vitals.stop();
                return Watch::On;
            }
            Ok(done @ Reply::Done(_)) => {
                vitals.peer_ended();
                reply = Some(done);
            }
            Ok(other) => {
                reply = Some(other);
                connections.cut();
            }
            Err(error) => {
                lost = Some(error);
                connections.cut();
            }
        }
        Watch::Over
    })?;
    if let Some(error) = lost {
        return Err(anyhow::Error::from(error).context("the server was lost"));
    }
    if !told_end && reply.is_none() {
        channel.send(&Request::Ended)?;
    }
    Ok((parts, reply))
}

pub(crate) fn unexpected(reply: Reply) -> anyhow::Error {
    let text = match reply {
        Reply::Unavailable { reason } => {
            return Unavailable(format!("on the server's side: {reason}")).into();
        }
        Reply::Failed { error } => format!("the server's part failed: {error}"),
        Reply::Ready(_) => "the server announced a second test".to_owned(),
        Reply::Stand => "the server counted connections a second time".to_owned(),
        Reply::Go => "the server started before its time or a second time".to_owned(),
        Reply::Stop => "the server was told to end".to_owned(),
        Reply::Ended | Reply::Done(_) => "the server ended before the test began".to_owned(),
        Reply::Joined(_) | Reply::Word(_) => {
            "the server speaks of a test over an RDMA device where none was due".to_owned()
        }
        Reply::Machine(_) | Reply::Brought(_) => {
            "the server answers what it was not asked".to_owned()
        }
    };
    anyhow::anyhow!(text)
}

/// The server's result, before which it may still say that it has ended, or that we should.
fn result(reply: Reply, channel: &mut Channel, patience: Duration) -> anyhow::Result<Vec<Leg>> {
    let mut reply = reply;
    // Both of these may have crossed our own end.
    for _ in 0..2 {
        match reply {
            Reply::Ended | Reply::Stop => reply = channel.receive(patience)?,
            _ => break,
        }
    }
    match reply {
        Reply::Done(legs) => Ok(legs),
        other => Err(unexpected(other)),
    }
}

/// Proves that every byte sent on a flow arrived on it; of datagrams, that no more arrived than
/// were sent.
fn compare_bytes(test: &Test, parts: &[Part], legs: &[Leg]) -> anyhow::Result<()> {
    for leg in legs {
        let checked = leg.check().map_err(anyhow::Error::msg);
        checked.context("the server reported what cannot be")?;
    }
    for part in parts {
        let leg = legs.iter().find(|leg| leg.role == part.role.counterpart());
        let theirs = &leg
            .with_context(|| format!("the server reported nothing against {:?}", part.role))?
            .flow_bytes;
        anyhow::ensure!(
            theirs.len() == part.flow_bytes.len(),
            "the server counted {} flows and we {}",
            theirs.len(),
            part.flow_bytes.len()
        );
        if test.has_door() {
            // Who accepted which connection is the kernel's choice.
            let (ours, theirs): (u64, u64) = (part.flow_bytes.iter().sum(), theirs.iter().sum());
            anyhow::ensure!(
                ours == theirs,
                "we counted {ours} bytes and the server {theirs}; did somebody else connect?"
            );
            continue;
        }
        for (flow, (ours, theirs)) in part.flow_bytes.iter().zip(theirs).enumerate() {
            let fits = match (part.transport, part.role) {
                (Transport::Udp, Role::Send | Role::Respond) => theirs <= ours,
                (Transport::Udp, Role::Receive | Role::Request) => ours <= theirs,
                (Transport::Tcp | Transport::Unix, _) => ours == theirs,
            };
            anyhow::ensure!(
                fits,
                "flow {flow}: we counted {ours} bytes in role {:?} and the server {theirs}",
                part.role
            );
        }
    }
    Ok(())
}
