//! What network and RDMA devices of this node have counted, and the sockets of this process.
//!
//! Network devices are read from `/proc/net/dev`, which is always the one of this process's network
//! namespace; `/sys/class/net` need not be. Ports of RDMA devices are read from sysfs. What is not
//! there is left out.

use bench_sys::TcpInfo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What everything is sent through that stays in a network stack.
const LOOPBACK: &str = "lo";

/// The most ports and devices that are read.
const MOST: usize = 256;

/// Counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, (Kind, u64, u64)>);

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The loopback interface.
    Loopback,
    /// Another network device.
    Netdev,
    /// The port of an RDMA device.
    Rdma,
}

/// By how much the bytes of a device grew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grown {
    /// `eth0`, `rdmap0s6 port 1`.
    pub place: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

impl Counters {
    /// Reads those of this node.
    pub fn read() -> Self {
        let netdevs = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        let mut counters = Self(netdevs_in(&netdevs));
        counters
            .0
            .extend(ports_in(Path::new("/sys/class/infiniband")));
        counters
    }

    /// Whether there is an RDMA device that counts.
    pub fn has_rdma(&self) -> bool {
        self.0.values().any(|(kind, ..)| *kind == Kind::Rdma)
    }

    /// By how much each device grew until `later`. One that ran backwards was reset: it counted at
    /// least what it shows then.
    pub fn grown(&self, later: &Self) -> Vec<Grown> {
        let since = |was: u64, is: u64| is.checked_sub(was).unwrap_or(is);
        let devices = later
            .0
            .iter()
            .filter_map(|(place, &(kind, sent, received))| {
                let &(_, had_sent, had_received) = self.0.get(place)?;
                Some(Grown {
                    place: place.clone(),
                    kind,
                    sent: since(had_sent, sent),
                    received: since(had_received, received),
                })
            });
        devices.collect()
    }
}

/// The devices of `/proc/net/dev`: name, eight numbers received, eight sent, the first of each in
/// bytes.
fn netdevs_in(text: &str) -> BTreeMap<String, (Kind, u64, u64)> {
    let devices = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        let (received, sent) = (*numbers.first()?, *numbers.get(8)?);
        let name = name.trim().to_owned();
        let kind = match name == LOOPBACK {
            true => Kind::Loopback,
            false => Kind::Netdev,
        };
        Some((name, (kind, sent, received)))
    });
    devices.take(MOST).collect()
}

/// Counters whose sum is all that a port sent, and what one step of theirs stands for in bytes; the
/// gauge that shows the most counts. InfiniBand counts in words of four bytes; EFA, bnxt_re and mana
/// have `tx_bytes`; EFA counts by kinds of work as well; irdma has octets.
const SENT: [(u64, &[&str]); 4] = [
    (4, &["counters/port_xmit_data"]),
    (1, &["hw_counters/tx_bytes"]),
    (
        1,
        &[
            "hw_counters/send_bytes",
            "hw_counters/rdma_write_bytes",
            "hw_counters/rdma_read_resp_bytes",
        ],
    ),
    (1, &["hw_counters/ip4OutOctets", "hw_counters/ip6OutOctets"]),
];

/// The same the other way.
const RECEIVED: [(u64, &[&str]); 4] = [
    (4, &["counters/port_rcv_data"]),
    (1, &["hw_counters/rx_bytes"]),
    (
        1,
        &[
            "hw_counters/recv_bytes",
            "hw_counters/rdma_read_bytes",
            "hw_counters/rdma_write_recv_bytes",
        ],
    ),
    (1, &["hw_counters/ip4InOctets", "hw_counters/ip6InOctets"]),
];

/// Every port below `/sys/class/infiniband` that counts bytes.
fn ports_in(class: &Path) -> BTreeMap<String, (Kind, u64, u64)> {
    let mut all = BTreeMap::new();
    for device in names_in(class) {
        let ports = class.join(&device).join("ports");
        for port in names_in(&ports) {
            let folder = ports.join(&port);
            let gauges = (bytes(&folder, &SENT), bytes(&folder, &RECEIVED));
            if let (Some(sent), Some(received)) = gauges {
                all.insert(
                    format!("{device} port {port}"),
                    (Kind::Rdma, sent, received),
                );
            }
        }
    }
    all
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.take(MOST).collect()
}

/// The largest of the gauges that a port has.
fn bytes(port: &Path, gauges: &[(u64, &[&str])]) -> Option<u64> {
    let value = |name: &&str| {
        let text = fs::read_to_string(port.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let gauge = |(step, names): &(u64, &[&str])| {
        let values: Vec<u64> = names.iter().filter_map(value).collect();
        let sum = values.iter().copied().fold(0, u64::saturating_add);
        (!values.is_empty()).then(|| sum.saturating_mul(*step))
    };
    gauges.iter().filter_map(gauge).max()
}

/// Payload that peers acknowledged to the TCP sockets which this process has open. Interfaces are
/// shared with others; sockets are not. `None` if the kernel does not tell.
pub fn sent_by_own_sockets() -> Option<u64> {
    let mut sum = 0_u64;
    for name in fs::read_dir("/proc/self/fd").ok()?.flatten() {
        let target = fs::read_link(name.path()).unwrap_or_default();
        let is_socket = target
            .to_str()
            .is_some_and(|name| name.starts_with("socket:"));
        let number = name.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|_| is_socket)
            && let Ok(info) = crate::sys::with_descriptor(number, |socket| TcpInfo::of(&socket))
        {
            // A kernel that knows no such counter says nothing of any socket.
            sum = sum.saturating_add(info.acked_bytes?);
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn network_devices_are_read_from_the_kernels_table() {
        let table = "Inter-|   Receive                |  Transmit\n face |bytes    packets\n\
            \x20   lo: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n\
            eth0:300 3 0 0 0 0 0 0 400 4 0 0 0 0 0 0\n";
        let before = Counters(netdevs_in(table));
        let table = table.replace("400", "1400").replace("100 1", "150 1");
        let grown = before.grown(&Counters(netdevs_in(&table)));
        let of = |place: &str| grown.iter().find(|grown| grown.place == place);
        let eth0 = of("eth0").expect("it is in the table");
        assert_eq!(
            (eth0.kind, eth0.sent, eth0.received),
            (Kind::Netdev, 1000, 0)
        );
        let lo = of("lo").expect("it is in the table");
        assert_eq!((lo.kind, lo.sent, lo.received), (Kind::Loopback, 0, 50));
        assert!(Counters::read().0.contains_key(LOOPBACK), "of this machine");
    }

    #[test]
    fn ports_are_read_by_the_gauge_that_shows_most() {
        let class = tempfile::tempdir().expect("a folder");
        let write = |path: &str, value: u64| {
            let path = class.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            fs::write(path, format!("{value}\n")).expect("it can be written");
        };
        let efa = "rdmap0s6/ports/1/hw_counters";
        write(&format!("{efa}/tx_bytes"), 900);
        write(&format!("{efa}/rx_bytes"), 10);
        write(&format!("{efa}/send_bytes"), 100);
        write(&format!("{efa}/rdma_read_resp_bytes"), 700);
        write(&format!("{efa}/rdma_read_bytes"), 5000);
        let mlx5 = "mlx5_0/ports/1/counters";
        write(&format!("{mlx5}/port_xmit_data"), 25);
        write(&format!("{mlx5}/port_rcv_data"), 50);
        write("none/ports/1/hw_counters/lifespan", 10);
        let ports = ports_in(class.path());
        assert_eq!(ports["rdmap0s6 port 1"], (Kind::Rdma, 900, 5000));
        assert_eq!(ports["mlx5_0 port 1"], (Kind::Rdma, 100, 200));
        assert_eq!(ports.len(), 2, "a port that counts no bytes is none");
    }

    #[test]
    fn own_sockets_count_what_this_process_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
        let address = listener.local_addr().expect("it is bound");
        let mut near = TcpStream::connect(address).expect("it listens");
        let (mut far, _) = listener.accept().expect("it called");
        let before = sent_by_own_sockets().expect("this kernel tells");
        let mut bytes = vec![1; 1 << 20];
        std::thread::scope(|scope| {
            scope.spawn(|| near.write_all(&vec![2; 1 << 20]).expect("it is open"));
            far.read_exact(&mut bytes).expect("it is open");
        });
        let grown = sent_by_own_sockets().expect("this kernel tells") - before;
        assert!(grown >= (1 << 20) * 9 / 10, "{grown}");
    }
}
