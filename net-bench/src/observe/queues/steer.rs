//! Which receive queue a flow lands on, predicted from the device's key and indirection table, and
//! source ports chosen so that flows spread over all queues or land on given ones.
//!
//! What is predicted is the *receiving* device's choice: the tuple is the packet's as it arrives
//! there. Flows of one direction are steered by the server's device, their answers by the client's.

use super::toeplitz;
use crate::observe::netlink::Netlink;
use bench_sys::ethtool::{Ethtool, HashFunction, Rss};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Why no queue can be predicted or reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// The device has one queue or tells nothing of how it chooses.
    #[error(
        "the device has no indirection table: it has one receive queue, or the sender's kernel \
         chooses the queue, as on veth"
    )]
    NoTable,
    /// The device hashes in a way that is not known here.
    #[error(
        "the device hashes with {0:?}, which cannot be predicted here; `ethtool -X DEVICE hfunc \
         toeplitz` changes it where the driver allows"
    )]
    Function(HashFunction),
    /// The driver keeps its key to itself.
    #[error("the driver tells a key of {0} bytes, and 36 are needed to hash IPv6")]
    ShortKey(usize),
    /// A queue that no entry of the table leads to.
    #[error("queue {queue} is in no entry of the indirection table, which leads to {reached:?}")]
    Unreachable {
        /// The queue that was asked for.
        queue: u32,
        /// The queues that packets reach.
        reached: Vec<u32>,
    },
    /// No queue was asked for.
    #[error("no queue was named")]
    NoQueue,
    /// Too few ports are left.
    #[error(
        "{found} of {wanted} source ports were found for the queues among the {tried} that may be \
         used"
    )]
    Ports {
        /// Ports that lead to the queues.
        found: usize,
        /// Ports that are needed.
        wanted: usize,
        /// Ports that were tried.
        tried: usize,
    },
    /// Addresses that no packet has.
    #[error("{0}")]
    Addresses(String),
    /// The device cannot be found or asked.
    #[error("{what}: {why}")]
    Unknown {
        /// What was asked.
        what: String,
        /// What the kernel said.
        why: String,
    },
}

/// How a device chooses the receive queue of a packet. It travels from the host that has the device
/// to the one that chooses source ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Steering {
    table: Vec<u32>,
    key: Vec<u8>,
    seed: u32,
}

/// A [`Steering`] as it comes from another host, before it is believed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    table: Vec<u32>,
    key: Vec<u8>,
    seed: u32,
}

impl TryFrom<Parts> for Steering {
    type Error = SteerError;

    fn try_from(parts: Parts) -> Result<Self, SteerError> {
        Self::new(parts.table, parts.key, parts.seed)
    }
}

/// Bytes of input of the largest packet header, and four more, which the window covers.
const LEAST_KEY: usize = 40 - 4;

impl Steering {
    /// The steering of a device with this driver.
    ///
    /// ENA's hardware takes the key in reversed byte order and starts from all ones; its Linux
    /// driver tells the key in the order of the wire's definition. (Drivers 2.2.11g to 2.6.0g
    /// start from 0 until a key is set; the vector in the tests is the documented one of the
    /// others.)
    ///
    /// # Errors
    /// The device has no table, or hashes in a way that is not known here.
    pub fn of(rss: &Rss, driver: &str) -> Result<Self, SteerError> {
        if !rss.table.is_empty() && rss.function != HashFunction::Toeplitz {
            return Err(SteerError::Function(rss.function));
        }
        let mut key = rss.key.clone();
        let mut seed = 0;
        if driver == "ena" {
            key.reverse();
            seed = u32::MAX;
        }
        Self::new(rss.table.clone(), key, seed)
    }

    fn new(table: Vec<u32>, key: Vec<u8>, seed: u32) -> Result<Self, SteerError> {
        if table.is_empty() {
            return Err(SteerError::NoTable);
        }
        if key.len() < LEAST_KEY {
            return Err(SteerError::ShortKey(key.len()));
        }
        Ok(Self { table, key, seed })
    }

    /// The steering of this host's device on the way to `peer`, which is the one that takes in the
    /// peer's packets wherever the way back is the same.
    ///
    /// # Errors
    /// There is no way to the peer, or the device cannot be predicted.
    pub fn on_the_way_to(peer: IpAddr) -> Result<Self, SteerError> {
        let unknown = |what: String| {
            move |error: std::io::Error| SteerError::Unknown {
                what,
                why: error.to_string(),
            }
        };
        let netlink = Netlink::open().map_err(unknown("routing socket".to_owned()))?;
        let route = netlink.route(peer);
        let device = route.map_err(unknown(format!("route to {peer}")))?.device;
        let link = netlink.link(device);
        let name = link.map_err(unknown(format!("device {device}")))?.name;
        let ethtool = Ethtool::open().map_err(unknown("ethtool socket".to_owned()))?;
        let driver = ethtool.driver(&name).map(|driver| driver.name);
        match ethtool.rss(&name) {
            Ok(rss) => Self::of(&rss, &driver.unwrap_or_default()),
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
                Err(SteerError::NoTable)
            }
            Err(error) => Err(unknown(format!("ethtool -x {name}"))(error)),
        }
    }

    /// The entry of the table that a packet falls on: the hash's low bits.
    ///
    /// # Errors
    /// The addresses are of different families.
    pub fn entry(&self, source: SocketAddr, destination: SocketAddr) -> Result<usize, SteerError> {
        let input = toeplitz::input(source, destination).map_err(SteerError::Addresses)?;
        let hash = toeplitz::hash(&self.key, &input, self.seed);
        Ok(hash as usize % self.table.len())
    }

    /// The receive queue of a packet.
    ///
    /// # Errors
    /// The addresses are of different families.
    pub fn queue(&self, source: SocketAddr, destination: SocketAddr) -> Result<u32, SteerError> {
        Ok(self.table[self.entry(source, destination)?])
    }

    /// The queues that packets reach, in order.
    #[must_use]
    pub fn queues(&self) -> Vec<u32> {
        let distinct: BTreeSet<u32> = self.table.iter().copied().collect();
        distinct.into_iter().collect()
    }

    /// Source ports for `count` flows from `source`'s address to `destination`, dealt out to
    /// `queues` in turn, so that no queue has more than one flow more than another. `ports` are
    /// tried in their order; none is used twice. Without `queues` all of the table's are meant.
    ///
    /// # Errors
    /// A queue that the table does not lead to, or too few ports.
    pub fn ports(
        &self,
        (source, destination): (SocketAddr, SocketAddr),
        queues: Option<&[u32]>,
        count: usize,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<Vec<u16>, SteerError> {
        let reached = self.queues();
        let queues = match queues {
            Some([]) => return Err(SteerError::NoQueue),
            Some(asked) => asked.to_vec(),
            None => reached.clone(),
        };
        if let Some(&queue) = queues.iter().find(|queue| !reached.contains(queue)) {
            return Err(SteerError::Unreachable { queue, reached });
        }
        // Flow i goes to queue i modulo their number: the places still open, by queue.
        let mut open: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for flow in (0..count).rev() {
            open.entry(queues[flow % queues.len()])
                .or_default()
                .push(flow);
        }
        let mut chosen = vec![None; count];
        let (mut found, mut tried) = (0, 0);
        for port in ports {
            if found == count {
                break;
            }
            tried += 1;
            let from = SocketAddr::new(source.ip(), port);
            let queue = self.queue(from, destination)?;
            if let Some(flow) = open.get_mut(&queue).and_then(Vec::pop) {
                chosen[flow] = Some(port);
                found += 1;
            }
        }
        let chosen: Option<Vec<u16>> = chosen.into_iter().collect();
        chosen.ok_or(SteerError::Ports {
            found,
            wanted: count,
            tried,
        })
    }
}

/// The ports that this host's kernel itself would choose a connection's source port from; where it
/// does not tell, those that it chooses from by default.
#[must_use]
pub fn local_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    parse_ports(&text.unwrap_or_default()).unwrap_or(32768..=60999)
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (first, last) = (words.next()?.ok()?, words.next()?.ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the packet of the vector in the ENA driver's documentation.
    const ENA_KEY: [u8; 40] = [
        0x77, 0xd1, 0xc9, 0x34, 0xa4, 0xc9, 0xbd, 0x87, 0x6e, 0x35, 0xdd, 0x17, 0xb2, 0xe3, 0x23,
        0x9e, 0x39, 0x6d, 0x8a, 0x93, 0x2a, 0x95, 0xb4, 0x72, 0x3a, 0xb3, 0x7f, 0x56, 0x8e, 0xde,
        0xb6, 0x01, 0x97, 0xaf, 0x3b, 0x2f, 0x3a, 0x70, 0xe7, 0x04,
    ];

    fn packet() -> (SocketAddr, SocketAddr) {
        let at = |last| SocketAddr::from(([1, 2, 3, last], 7000));
        (at(4), at(5))
    }

    fn rss(queues: u32) -> Rss {
        Rss {
            function: HashFunction::Toeplitz,
            table: (0..128).map(|entry| entry % queues).collect(),
            key: ENA_KEY.to_vec(),
        }
    }

    #[test]
    fn enas_vector_comes_out_by_the_definition_and_with_its_reversed_key() {
        let (source, destination) = packet();
        let input = toeplitz::input(source, destination).expect("one family");
        assert_eq!(toeplitz::hash(&ENA_KEY, &input, 0), 0xa982_8bd4);
        let plain = Steering::of(&rss(8), "ice").expect("it can be predicted");
        assert_eq!(plain.entry(source, destination), Ok(84));
        let mut reversed = ENA_KEY;
        reversed.reverse();
        assert_eq!(toeplitz::hash(&reversed, &input, u32::MAX), 0x5b5e_b8e5);
        let ena = Steering::of(&rss(8), "ena").expect("it can be predicted");
        assert_eq!(ena.entry(source, destination), Ok(101));
        assert_eq!(ena.queue(source, destination), Ok(101 % 8));
    }

    #[test]
    fn ports_are_dealt_out_to_the_queues_in_turn() {
        let steering = Steering::of(&rss(4), "ena").expect("it can be predicted");
        let (source, destination) = packet();
        let queue_of = |port: &u16| {
            let from = SocketAddr::new(source.ip(), *port);
            steering.queue(from, destination).expect("one family")
        };
        let all = steering
            .ports(packet(), None, 10, 32768..61000)
            .expect("there are ports");
        let queues: Vec<u32> = all.iter().map(queue_of).collect();
        assert_eq!(queues, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]);
        let distinct: BTreeSet<&u16> = all.iter().collect();
        assert_eq!(distinct.len(), 10);
        let some = steering.ports(packet(), Some(&[2, 0]), 5, 32768..61000);
        let queues: Vec<u32> = some
            .expect("there are ports")
            .iter()
            .map(queue_of)
            .collect();
        assert_eq!(queues, [2, 0, 2, 0, 2]);
    }

    #[test]
    fn a_steering_travels_and_is_checked_on_arrival() {
        let steering = Steering::of(&rss(4), "ena").expect("it can be predicted");
        let text = serde_json::to_string(&steering).expect("it serialises");
        assert_eq!(
            serde_json::from_str::<Steering>(&text).expect("it is one"),
            steering
        );
        let key: Vec<u8> = ENA_KEY.to_vec();
        let spoilt = serde_json::json!({"table": [], "key": key, "seed": 0});
        let error = serde_json::from_value::<Steering>(spoilt).expect_err("no table");
        assert!(
            error.to_string().contains("no indirection table"),
            "{error}"
        );
        let spoilt = serde_json::json!({"table": [1], "key": [1, 2], "seed": 0});
        assert!(serde_json::from_value::<Steering>(spoilt).is_err());
    }

    #[test]
    fn source_ports_are_the_kernels_own() {
        assert_eq!(parse_ports("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_ports("9 5"), None);
        assert_eq!(parse_ports("0 5"), None);
        assert_eq!(parse_ports("70000 80000"), None);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let port = socket.local_addr().expect("bound").port();
        assert!(local_ports().contains(&port), "{port}");
    }

    #[test]
    fn loopback_has_no_table() {
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        assert_eq!(Steering::on_the_way_to(peer), Err(SteerError::NoTable));
    }

    #[test]
    fn what_cannot_be_reached_or_predicted_is_an_error() {
        let steering = Steering::of(&rss(4), "ena").expect("it can be predicted");
        let ports = |queues: &[u32], count, range: std::ops::Range<u16>| {
            steering.ports(packet(), Some(queues), count, range)
        };
        let error = ports(&[0, 9], 2, 1024..2000).expect_err("no queue 9");
        assert!(error.to_string().contains("queue 9"), "{error}");
        assert_eq!(ports(&[], 2, 1024..2000), Err(SteerError::NoQueue));
        let error = ports(&[1], 5, 1024..1027).expect_err("three ports");
        assert!(
            matches!(
                error,
                SteerError::Ports {
                    wanted: 5,
                    tried: 3,
                    ..
                }
            ),
            "{error}"
        );
        let spoilt = |spoil: fn(&mut Rss)| {
            let mut rss = rss(4);
            spoil(&mut rss);
            Steering::of(&rss, "ena").expect_err("it cannot be predicted")
        };
        assert_eq!(spoilt(|rss| rss.table.clear()), SteerError::NoTable);
        assert_eq!(spoilt(|rss| rss.key.clear()), SteerError::ShortKey(0));
        let crc = spoilt(|rss| rss.function = HashFunction::Crc32);
        assert_eq!(crc, SteerError::Function(HashFunction::Crc32));
    }
}
