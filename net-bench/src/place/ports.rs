//! Source ports by which a test's flows land on receive queues of the server's device.
//!
//! The device chooses the queue by a hash over addresses and ports. The addresses and the server's
//! port are given, so what can be chosen is the client's port of each flow.

use super::pin;
use crate::observe::queues::steer::local_ports;
use crate::observe::queues::{SteerError, Steering};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The queues that flows are dealt out to. As text: `all`, or numbers as in `0,2,4-7`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Queues {
    /// All that the indirection table leads to.
    All,
    /// These in turn.
    These(Vec<u32>),
}

/// Text that names no queues.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither all nor a list of queues up to 1023 such as 0,2,4-7")]
pub struct QueuesError(String);

impl FromStr for Queues {
    type Err = QueuesError;

    fn from_str(text: &str) -> Result<Self, QueuesError> {
        if text == "all" {
            return Ok(Self::All);
        }
        let these = pin::list(text).map(Self::These);
        these.ok_or_else(|| QueuesError(text.to_owned()))
    }
}

impl TryFrom<String> for Queues {
    type Error = QueuesError;

    fn try_from(text: String) -> Result<Self, QueuesError> {
        text.parse()
    }
}

impl From<Queues> for String {
    fn from(queues: Queues) -> Self {
        queues.to_string()
    }
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::These(queues) => f.write_str(&pin::in_words(queues)),
        }
    }
}

/// A flow's source and the receive queue that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landing {
    /// Address and port at the client.
    pub source: SocketAddr,
    /// The queue of the server's device.
    pub queue: u32,
}

/// Sources at `client`'s address for `count` flows to `server`, whose device steers like this.
/// Ports are tried from a random one on, so that tests at the same time seldom meet; those that
/// somebody uses are passed over.
///
/// # Errors
/// A queue that no packet reaches, or too few free ports.
pub fn landings(
    queues: &Queues,
    steering: &Steering,
    kind: Type,
    (client, server): (SocketAddr, SocketAddr),
    count: usize,
) -> Result<Vec<Landing>, SteerError> {
    let asked = match queues {
        Queues::All => None,
        Queues::These(queues) => Some(queues.as_slice()),
    };
    let at = |port| {
        let mut source = client;
        source.set_port(port);
        source
    };
    let (first, last) = local_ports().into_inner();
    let begin = fastrand::u16(first..=last);
    let ports = (begin..=last).chain(first..begin);
    let free = ports.filter(|&port| is_free(kind, at(port)));
    let chosen = steering.ports((client, server), asked, count, free)?;
    let landing = |port| {
        let source = at(port);
        let queue = steering.queue(source, server)?;
        Ok(Landing { source, queue })
    };
    chosen.into_iter().map(landing).collect()
}

/// Whether a socket can have this address now.
fn is_free(kind: Type, address: SocketAddr) -> bool {
    let socket = Socket::new(Domain::for_address(address), kind, None);
    socket.is_ok_and(|socket| socket.bind(&address.into()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    /// A device with four queues and Microsoft's example key, as its host would tell of it.
    fn steering() -> Steering {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let table: Vec<u32> = (0..128).map(|entry| entry % 4).collect();
        let told = json!({"table": table, "key": key.to_vec(), "seed": 0});
        serde_json::from_value(told).expect("it is one")
    }

    #[test]
    fn every_form_is_read_and_written_and_nonsense_is_not() {
        for (text, queues) in [
            ("all", Queues::All),
            ("0", Queues::These(vec![0])),
            ("2,0", Queues::These(vec![2, 0])),
            ("0-3", Queues::These(vec![0, 1, 2, 3])),
        ] {
            assert_eq!(text.parse(), Ok(queues.clone()), "{text}");
            assert_eq!(queues.to_string(), text);
        }
        for text in ["", "none", "3-1", "-1", "0,,1", "1024", "All"] {
            assert!(text.parse::<Queues>().is_err(), "{text}");
        }
    }

    #[test]
    fn flows_that_connect_from_their_landings_have_the_queues_that_were_asked_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let server = listener.local_addr().expect("bound");
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let steering = steering();
        for (queues, expected) in [
            (Queues::All, [0, 1, 2, 3, 0, 1]),
            (Queues::These(vec![3, 1]), [3, 1, 3, 1, 3, 1]),
        ] {
            let landings = landings(&queues, &steering, Type::STREAM, (client, server), 6)
                .expect("there are ports");
            let mut clients = Vec::new();
            for landing in &landings {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                socket.bind(&landing.source.into()).expect("it is free");
                socket.connect(&server.into()).expect("it listens");
                clients.push(socket);
            }
            // What the server's host sees of them is what its device would hash.
            let seen = landings.iter().map(|_| {
                let (_, peer) = listener.accept().expect("a flow");
                steering.queue(peer, server).expect("one family")
            });
            assert_eq!(seen.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn ports_in_use_are_passed_over_and_unreachable_queues_named() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = taken.local_addr().expect("bound");
        assert!(!is_free(Type::DGRAM, address));
        drop(taken);
        assert!(is_free(Type::DGRAM, address));
        let error = landings(
            &Queues::These(vec![4]),
            &steering(),
            Type::DGRAM,
            (address, address),
            1,
        );
        assert!(
            matches!(error, Err(SteerError::Unreachable { queue: 4, .. })),
            "{error:?}"
        );
    }
}
