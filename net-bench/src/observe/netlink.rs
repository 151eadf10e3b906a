//! The kernel's routing socket, as far as it is needed to ask which device a peer is behind and
//! what that device, its queueing disciplines and its queues ([`queue_stats`]) counted.
//!
//! `/sys` would answer some of it, but shows the network namespace in which it was mounted, which
//! need not be the one this process sends from; the routing socket is always in the right one.
//! Messages are read from bytes without trust: every length is checked, and what does not fit is
//! left out.

mod queue_stats;

pub use queue_stats::{QueueStats, napi_queues, queue_stats};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

// Numbers of include/uapi/linux/{netlink,rtnetlink,if_link,pkt_sched}.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_STATS64: u16 = 23;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;

/// Bytes of a message's header, and of the part of it that follows for each family of messages.
const HEADER: usize = 16;
const IFINFO: usize = 16;
const RTMSG: usize = 12;
const TCMSG: usize = 20;

/// Largest answer that is taken in one piece; the kernel sends at most 32 KiB.
const ANSWER_BYTES: usize = 64 << 10;

/// Most messages of one answer that are read.
const MAX_MESSAGES: usize = 4096;

/// How long the kernel may take; it answers at once.
const PATIENCE_S: i64 = 2;

/// The counters of a link in the order of `struct rtnl_link_stats64`.
const LINK_COUNTERS: [&str; 24] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
];

/// The way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The index of the device that packets leave by.
    pub device: u32,
    /// The path's maximum transmission unit, where the route has one of its own.
    pub mtu_bytes: Option<u32>,
}

/// A device and its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The largest packet it sends.
    pub mtu_bytes: Option<u32>,
    /// Its counters by the kernel's names.
    pub counters: BTreeMap<&'static str, u64>,
}

/// A queueing discipline of a device and its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Its kind: `tbf`, `fq`, `mq`.
    pub kind: String,
    /// Its own handle, major number in the upper half.
    pub handle: u32,
    /// Where it hangs; the lower half of a multi-queue's child is the transmit queue, from 1.
    pub parent: u32,
    /// The rate it shapes to, in bytes per second, where it is a token bucket.
    pub rate_bytes_per_s: Option<u64>,
    /// Bytes it let through.
    pub sent_bytes: Option<u64>,
    /// Packets it let through; a packet may be cut into several segments later.
    pub sent_packets: Option<u64>,
    /// Packets it dropped.
    pub drops: Option<u32>,
    /// How often it held the device back because its limit was reached.
    pub overlimits: Option<u32>,
    /// Bytes waiting in it.
    pub backlog_bytes: Option<u32>,
}

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub struct Netlink(Socket);

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// What the kernel says, for example that this process has too many open files.
    pub fn open() -> io::Result<Self> {
        Socket::open(SockProtocol::NetlinkRoute).map(Self)
    }

    /// The way to `address`, as the kernel would send to it now.
    ///
    /// # Errors
    /// What the kernel says, for example that there is no route.
    pub fn route(&self, address: IpAddr) -> io::Result<Route> {
        let octets = match address.to_canonical() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let family = family(address);
        let mut body = vec![0; RTMSG];
        body[0] = family;
        body[1] = (octets.len() * 8) as u8;
        push_attribute(&mut body, RTA_DST, &octets);
        let answers = self.0.ask(RTM_GETROUTE, 0, &body)?;
        let route = answers.iter().find_map(|(kind, body)| {
            let attributes = Attributes(body.get(RTMSG..)?);
            (*kind == RTM_NEWROUTE).then_some(())?;
            let metrics = attributes.find(RTA_METRICS).map(Attributes);
            Some(Route {
                device: word(attributes.find(RTA_OIF)?, 0)?,
                mtu_bytes: metrics
                    .and_then(|metrics| metrics.find(RTAX_MTU))
                    .and_then(|mtu| word(mtu, 0)),
            })
        });
        route.ok_or_else(|| incomplete("the route has no device"))
    }

    /// A device and its counters.
    ///
    /// # Errors
    /// What the kernel says, for example that there is no such device.
    pub fn link(&self, device: u32) -> io::Result<Link> {
        let mut body = vec![0; IFINFO];
        body[4..8].copy_from_slice(&device.to_ne_bytes());
        let answers = self.0.ask(RTM_GETLINK, 0, &body)?;
        let link = answers.iter().find_map(|(kind, body)| {
            (*kind == RTM_NEWLINK).then_some(())?;
            let attributes = Attributes(body.get(IFINFO..)?);
            let counters = LINK_COUNTERS.iter().enumerate();
            let values = attributes.find(IFLA_STATS64).unwrap_or_default();
            Some(Link {
                name: string(attributes.find(IFLA_IFNAME)?)?,
                mtu_bytes: attributes.find(IFLA_MTU).and_then(|mtu| word(mtu, 0)),
                counters: counters
                    .filter_map(|(index, name)| Some((*name, long(values, index * 8)?)))
                    .collect(),
            })
        });
        link.ok_or_else(|| incomplete("the device has no name"))
    }

    /// The queueing disciplines of a device, its root first.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn qdiscs(&self, device: u32) -> io::Result<Vec<Qdisc>> {
        let mut body = vec![0; TCMSG];
        body[4..8].copy_from_slice(&device.to_ne_bytes());
        let answers = self.0.ask(RTM_GETQDISC, NLM_F_DUMP, &body)?;
        let of_device = answers.iter().filter(|(kind, body)| {
            // Older kernels dump those of every device.
            *kind == RTM_NEWQDISC && word(body, 4) == Some(device)
        });
        Ok(of_device.filter_map(|(_, body)| qdisc(body)).collect())
    }
}

/// A socket to a part of the kernel.
#[derive(Debug)]
struct Socket(OwnedFd);

impl Socket {
    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        nix::sys::socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(PATIENCE_S, 0),
        )?;
        Ok(Self(socket))
    }

    /// Sends a request and collects the messages of its answer.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        let length = HEADER + body.len();
        let mut request = Vec::with_capacity(length);
        request.extend((length as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        // Sequence number and port: one question is asked at a time, and the kernel fills in ours.
        request.extend([0; 8]);
        request.extend(body);
        send(self.0.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut messages = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let count = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            for (kind, body) in Messages(&buffer[..count]) {
                match kind {
                    NLMSG_DONE => return Ok(messages),
                    NLMSG_ERROR => {
                        let code = word(body, 0).map_or(0, u32::cast_signed);
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => messages.push((kind, body.to_vec())),
                }
            }
            // An answer that is no dump is one message and has no end mark.
            if flags & NLM_F_DUMP != NLM_F_DUMP || count == 0 || messages.len() > MAX_MESSAGES {
                return Ok(messages);
            }
        }
    }
}

fn family(address: IpAddr) -> u8 {
    match address.to_canonical() {
        IpAddr::V4(_) => AddressFamily::Inet as u8,
        IpAddr::V6(_) => AddressFamily::Inet6 as u8,
    }
}

fn incomplete(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the kernel's answer is incomplete: {what}"),
    )
}

/// Appends an attribute: length and kind, the value, and padding to four bytes.
fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn qdisc(body: &[u8]) -> Option<Qdisc> {
    let attributes = Attributes(body.get(TCMSG..)?);
    let kind = string(attributes.find(TCA_KIND)?)?;
    let stats = Attributes(attributes.find(TCA_STATS2).unwrap_or_default());
    let basic = stats.find(TCA_STATS_BASIC).unwrap_or_default();
    let queue = stats.find(TCA_STATS_QUEUE).unwrap_or_default();
    let rate_bytes_per_s = match kind.as_str() {
        "tbf" => tbf_rate(Attributes(attributes.find(TCA_OPTIONS)?)),
        _ => None,
    };
    Some(Qdisc {
        kind,
        handle: word(body, 8)?,
        parent: word(body, 12)?,
        rate_bytes_per_s,
        sent_bytes: long(basic, 0),
        sent_packets: word(basic, 8).map(u64::from),
        // struct gnet_stats_queue: queue length, backlog, drops, requeues, overlimits.
        backlog_bytes: word(queue, 4),
        drops: word(queue, 8),
        overlimits: word(queue, 16),
    })
}

/// A token bucket's rate: 64 bits where 32 do not suffice, else within `struct tc_tbf_qopt`.
fn tbf_rate(options: Attributes<'_>) -> Option<u64> {
    let wide = options.find(TCA_TBF_RATE64).and_then(|rate| long(rate, 0));
    // struct tc_ratespec: eight bytes, then the rate.
    wide.or_else(|| word(options.find(TCA_TBF_PARMS)?, 8).map(u64::from))
}

/// The messages in what the kernel sent: kind and body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = word(self.0, 0)? as usize;
        let kind = half(self.0, 4)?;
        let message = self.0.get(HEADER..length)?;
        let next = length.next_multiple_of(4).min(self.0.len());
        self.0 = &self.0[next..];
        Some((kind, message))
    }
}

/// Attributes one after the other.
#[derive(Clone, Copy)]
struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    fn find(self, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.0;
        loop {
            let length = usize::from(half(rest, 0)?);
            // The two upper bits say how the value is made up, not what it is.
            let kind = half(rest, 2)? & 0x3fff;
            let value = rest.get(4..length)?;
            if kind == wanted {
                return Some(value);
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn string(bytes: &[u8]) -> Option<String> {
    let text = CStr::from_bytes_until_nul(bytes).ok()?;
    Some(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn loopback_is_behind_the_loopback_device() {
        let netlink = Netlink::open().expect("a routing socket");
        let route = netlink.route(Ipv4Addr::LOCALHOST.into()).expect("a route");
        let link = netlink.link(route.device).expect("a device");
        assert_eq!(link.name, "lo");
        assert!(link.mtu_bytes > Some(1280), "{link:?}");
        assert!(link.counters.contains_key("rx_over_errors"), "{link:?}");
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        assert_eq!(netlink.route(mapped.into()).expect("a route"), route);
        if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            let v6 = netlink.route(Ipv6Addr::LOCALHOST.into()).expect("a route");
            assert_eq!(v6.device, route.device);
        }
        for qdisc in netlink.qdiscs(route.device).expect("a list") {
            assert!(!qdisc.kind.is_empty());
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let netlink = Netlink::open().expect("a routing socket");
        let error = netlink.link(u32::MAX >> 1).expect_err("no such device");
        assert_eq!(error.raw_os_error(), Some(Errno::ENODEV as i32));
        // The socket still answers after an error.
        netlink.route(Ipv4Addr::LOCALHOST.into()).expect("a route");
    }

    #[test]
    fn bytes_that_are_no_messages_end_the_reading() {
        let mut seed = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let length = seed.usize(0..80);
            let mut bytes: Vec<u8> = (0..length).map(|_| seed.u8(0..24)).collect();
            if let Some(first) = bytes.first_mut() {
                *first = length as u8;
            }
            let read: usize = Messages(&bytes).map(|(_, body)| body.len()).sum();
            assert!(read <= length);
            let _ = qdisc(&bytes);
            let _ = Attributes(&bytes).find(TCA_STATS2);
        }
    }
}
