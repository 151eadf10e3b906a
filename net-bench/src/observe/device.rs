//! The device that the flows go through: which one, asked of the kernel and not guessed; what its
//! driver, its link and its queueing disciplines counted; how its queues are served.
//!
//! On EC2 the driver's counters are the only witness of an instance that was held back: the
//! `*_allowance_exceeded` grow when packets were queued or dropped because the instance used more
//! than its share. A counter that the driver does not have is unavailable, never 0.

use super::netlink::{Link, Netlink, Qdisc, QueueStats, napi_queues, queue_stats};
use super::queues::layout::Roots;
use super::queues::{Layout, QueueUse, count::queue_counter};
use bench_sys::ethtool::Ethtool;
use nix::sys::socket::{SockaddrStorage, getpeername};
use reports::model::{Counter, Fact, Severity, Validity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// ENA's allowances, which are told even where they are not kept.
const ALLOWANCES: [&str; 5] = [
    "bw_in_allowance_exceeded",
    "bw_out_allowance_exceeded",
    "pps_allowance_exceeded",
    "conntrack_allowance_exceeded",
    "linklocal_allowance_exceeded",
];

/// Names of statistics that say how a device fares, besides its queues' and allowances'.
const HEALTH: [&str; 9] = [
    "total_resets",
    "reset_fail",
    "tx_timeout",
    "wd_expired",
    "missing_tx_cmpl",
    "suspected_poll_starvation",
    "interface_up",
    "interface_down",
    "num_of_active_io_queues",
];

/// Parts of names that betray a loss or a fault in any driver's words.
const FAULTS: [&str; 8] = [
    "drop", "discard", "err", "miss", "no_buf", "timeout", "reset", "bad_",
];

/// Growth of these means that the device was restarted or hung during the test.
const RESETS: [&str; 4] = ["total_resets", "reset_fail", "tx_timeout", "wd_expired"];

/// Growth of these means that the device or the kernel below the protocols lost packets.
const LOSSES: [&str; 5] = [
    "rx_over_errors",
    "rx_missed_errors",
    "rx_fifo_errors",
    "rx_dropped",
    "tx_dropped",
];

/// Why a driver was not asked.
const NO_SOCKET: &str = "the kernel gave no socket to ask ethtool's questions";

/// The most queueing disciplines that are told of a device.
const MOST_QDISCS: usize = 256;

/// The most statistics that are told of a device.
const MOST: usize = 1024;

/// The device and what it did in the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSeen {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Fact<String>,
    /// The largest packet it sends.
    pub mtu_bytes: Option<u32>,
    /// The rate of its link. Most virtual cards tell none.
    pub speed_bits_per_s: Fact<u64>,
    /// Growth of the instance's allowance counters: packets queued or dropped.
    pub allowances: BTreeMap<String, Fact<f64>>,
    /// What each queue carried.
    pub queues: Fact<QueueUse>,
    /// How the queues are served.
    pub layout: Layout,
    /// Its queueing disciplines.
    pub qdiscs: Fact<Vec<QdiscUse>>,
}

/// A queueing discipline in the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QdiscUse {
    /// Its kind.
    pub kind: String,
    /// The transmit queue, from 0, of a multi-queue device's child.
    pub tx_queue: Option<u32>,
    /// The rate that it shapes to, where it is a token bucket.
    pub rate_bytes_per_s: Option<u64>,
    /// Bytes let through.
    pub sent_bytes: Option<u64>,
    /// Packets let through.
    pub sent_packets: Option<u64>,
    /// Packets dropped.
    pub drops: Option<u32>,
    /// How often it held the device back because its limit was reached.
    pub overlimits: Option<u32>,
}

/// A device under observation.
#[derive(Debug)]
pub(super) struct Device {
    netlink: Netlink,
    ethtool: Option<Ethtool>,
    index: u32,
    name: String,
    driver: Result<String, String>,
    before: Reading,
}

/// A device's counters at one moment.
#[derive(Debug)]
struct Reading {
    statistics: Result<Vec<(String, u64)>, String>,
    link: Result<Link, String>,
    qdiscs: Result<Vec<Qdisc>, String>,
    queues: Result<Vec<QueueStats>, String>,
}

impl Device {
    /// Finds the device that `socket`'s packets leave by.
    ///
    /// # Errors
    /// What the kernel says: the socket is not connected, or there is no way to its peer.
    pub(super) fn of(socket: BorrowedFd<'_>) -> Result<Self, String> {
        let peer = peer(socket)?;
        let netlink = Netlink::open().map_err(|error| format!("routing socket: {error}"))?;
        let failed = |error| format!("the route to the peer: {error}");
        let index = netlink.route(peer).map_err(failed)?.device;
        let link = netlink.link(index);
        let name = link
            .map_err(|error| format!("device {index} of the route: {error}"))?
            .name;
        let ethtool = Ethtool::open().ok();
        let driver = driver(ethtool.as_ref(), &name);
        Ok(Self {
            before: Reading::of(&netlink, ethtool.as_ref(), &name, index),
            netlink,
            ethtool,
            index,
            name,
            driver,
        })
    }

    /// Whether the kernel paces datagrams on their way out of this device.
    ///
    /// # Errors
    /// It does not, or cannot be asked; and the remedy.
    pub(super) fn paces_datagrams(&self) -> Result<(), String> {
        let qdiscs = self.before.qdiscs.as_ref().map_err(String::clone)?;
        paced(&self.name, qdiscs.iter().map(|qdisc| qdisc.kind.as_str()))
    }

    /// Notes that the window opens.
    pub(super) fn open(&mut self) {
        self.before = self.read();
    }

    fn read(&self) -> Reading {
        Reading::of(&self.netlink, self.ethtool.as_ref(), &self.name, self.index)
    }

    /// The receive queues of the device's NAPI instances; none where the kernel does not tell.
    pub(super) fn napi_queues(&self) -> BTreeMap<u32, u32> {
        napi_queues(self.index).unwrap_or_default()
    }

    /// Notes that the window is closed: what the device did, its counters, and what speaks against
    /// the numbers.
    pub(super) fn close(self) -> (DeviceSeen, Vec<Counter>, Validity) {
        let after = self.read();
        let roots = Roots::system();
        let seen = DeviceSeen {
            queues: queues(self.driver.as_deref().unwrap_or(""), &self.before, &after),
            driver: Fact::of(self.driver.clone()),
            mtu_bytes: after.link.as_ref().ok().and_then(|link| link.mtu_bytes),
            speed_bits_per_s: Fact::of(speed(&roots, &self.name, self.index)),
            allowances: allowances(&self.before, &after),
            layout: Layout::read(&roots, self.ethtool.as_ref(), &self.name, self.index),
            qdiscs: qdiscs(&self.before, &after),
            name: self.name,
        };
        let driver = seen.driver.known().map_or("", String::as_str);
        let counters = counters(driver, &seen.name, &self.before, &after);
        let validity = suspicions(&seen, &counters);
        (seen, counters, validity)
    }
}

/// TCP paces itself; a datagram with a rate waits in fq alone, and every other queueing discipline
/// sends it at once.
fn paced<'a>(name: &str, qdiscs: impl Iterator<Item = &'a str>) -> Result<(), String> {
    // It holds one discipline per queue of the device and delays nothing itself.
    let mut kinds: Vec<&str> = qdiscs.filter(|&kind| kind != "mq").collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds == ["fq"] {
        return Ok(());
    }
    let kinds = match kinds.is_empty() {
        true => "none".to_owned(),
        false => kinds.join(", "),
    };
    Err(format!(
        "datagrams are paced by the queueing discipline fq alone, and that of {name} is {kinds}: \
         `tc qdisc replace dev {name} root fq`, or have the sender keep a rate with --bitrate and another --engine"
    ))
}

fn driver(ethtool: Option<&Ethtool>, name: &str) -> Result<String, String> {
    match ethtool {
        None => Err(NO_SOCKET.to_owned()),
        Some(ethtool) => ethtool
            .driver(name)
            .map(|driver| driver.name)
            .map_err(|error| format!("ethtool -i {name}: {error}")),
    }
}

fn peer(socket: BorrowedFd<'_>) -> Result<IpAddr, String> {
    let address: SockaddrStorage =
        getpeername(socket.as_raw_fd()).map_err(|error| format!("the flow's peer: {error}"))?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
    v4.or(v6)
        .ok_or_else(|| "the flow's peer has no address of the Internet".to_owned())
}

impl Reading {
    fn of(netlink: &Netlink, ethtool: Option<&Ethtool>, name: &str, index: u32) -> Self {
        let statistics = match ethtool {
            None => Err(NO_SOCKET.to_owned()),
            Some(ethtool) => ethtool
                .statistics(name)
                .map_err(|error| format!("ethtool -S {name}: {error}")),
        };
        Self {
            statistics,
            queues: queue_stats(index)
                .map_err(|error| format!("queue statistics of {name}: {error}")),
            link: netlink
                .link(index)
                .map_err(|error| format!("link {name}: {error}")),
            qdiscs: netlink
                .qdiscs(index)
                .map_err(|error| format!("qdiscs of {name}: {error}")),
        }
    }

    fn statistic(&self, name: &str) -> Fact<f64> {
        match &self.statistics {
            Err(reason) => Fact::unavailable(reason),
            Ok(statistics) => match statistics.iter().find(|(other, _)| other == name) {
                Some((_, value)) => Fact::Known(*value as f64),
                None => Fact::unavailable("the driver's statistics have no such counter"),
            },
        }
    }
}

/// sysfs gives Mb/s, and -1 where the driver does not know.
fn speed(roots: &Roots, name: &str, index: u32) -> Result<u64, String> {
    let path = roots.device(name, index)?.join("speed");
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    match text.trim().parse::<i64>() {
        Ok(megabits @ 1..) => Ok(megabits.unsigned_abs().saturating_mul(1_000_000)),
        _ => Err(format!(
            "{} is {}: the driver reports no speed",
            path.display(),
            text.trim()
        )),
    }
}

/// The growth of every allowance: ENA's own even where they are not kept, and whatever else is
/// called one.
fn allowances(before: &Reading, after: &Reading) -> BTreeMap<String, Fact<f64>> {
    let kept = after.statistics.iter().flatten();
    let kept = kept.map(|(name, _)| name.as_str());
    let kept = kept.filter(|name| name.ends_with("_allowance_exceeded"));
    let grown = |name: &str| match (before.statistic(name), after.statistic(name)) {
        (Fact::Known(before), Fact::Known(after)) => Fact::Known((after - before).max(0.0)),
        (reason @ Fact::Unavailable { .. }, _) | (_, reason) => reason,
    };
    let names = ALLOWANCES.into_iter().chain(kept);
    names.map(|name| (name.to_owned(), grown(name))).collect()
}

/// What the queues carried, by the driver's statistics or, where these do not tell, the kernel's.
fn queues(driver: &str, before: &Reading, after: &Reading) -> Fact<QueueUse> {
    let by_driver = match (&before.statistics, &after.statistics) {
        (Ok(before), Ok(after)) => QueueUse::between(driver, before, after)
            .ok_or_else(|| "the driver's statistics count nothing of single queues".to_owned()),
        (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
    };
    by_driver.map_or_else(
        |reason| match (&before.queues, &after.queues) {
            (Ok(before), Ok(after)) => match QueueUse::between_stats(before, after) {
                Some(seen) => Fact::Known(seen),
                None => Fact::unavailable(format!("{reason}, and the kernel's neither")),
            },
            (Err(error), _) | (_, Err(error)) => Fact::unavailable(format!("{reason}; {error}")),
        },
        Fact::Known,
    )
}

fn qdiscs(before: &Reading, after: &Reading) -> Fact<Vec<QdiscUse>> {
    let (before, after) = match (&before.qdiscs, &after.qdiscs) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(reason), _) | (_, Err(reason)) => return Fact::unavailable(reason),
    };
    let seen = after.iter().filter_map(|qdisc| {
        // A discipline that was put there meanwhile has no beginning to count from.
        let same = |other: &&Qdisc| {
            other.handle == qdisc.handle && other.parent == qdisc.parent && other.kind == qdisc.kind
        };
        let earlier = before.iter().find(same)?;
        let longs =
            |field: fn(&Qdisc) -> Option<u64>| Some(field(qdisc)?.saturating_sub(field(earlier)?));
        let words =
            |field: fn(&Qdisc) -> Option<u32>| Some(field(qdisc)?.wrapping_sub(field(earlier)?));
        let root = qdisc.parent == u32::MAX || qdisc.parent == 0;
        Some(QdiscUse {
            kind: qdisc.kind.clone(),
            tx_queue: (!root).then(|| (qdisc.parent & 0xffff).saturating_sub(1)),
            rate_bytes_per_s: qdisc.rate_bytes_per_s,
            sent_bytes: longs(|qdisc| qdisc.sent_bytes),
            sent_packets: longs(|qdisc| qdisc.sent_packets),
            drops: words(|qdisc| qdisc.drops),
            overlimits: words(|qdisc| qdisc.overlimits),
        })
    });
    Fact::Known(seen.take(MOST_QDISCS).collect())
}

/// Whether a driver's statistic says something of queues, limits or health.
fn wanted(driver: &str, name: &str) -> bool {
    queue_counter(driver, name).is_some()
        || name.starts_with("queue_")
        || name.contains("_allowance_")
        || ["ena_srd_", "ena_admin_q_", "phc_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || HEALTH.contains(&name)
        || FAULTS.iter().any(|part| name.contains(part))
}

fn counters(driver: &str, device: &str, before: &Reading, after: &Reading) -> Vec<Counter> {
    let mut counters = Vec::new();
    if let Ok(statistics) = &after.statistics {
        let names = statistics.iter().map(|(name, _)| name);
        let earlier: BTreeMap<&str, u64> = match &before.statistics {
            Ok(earlier) => earlier
                .iter()
                .map(|(name, value)| (name.as_str(), *value))
                .collect(),
            Err(_) => BTreeMap::new(),
        };
        for (name, value) in names.zip(statistics.iter().map(|(_, value)| *value)) {
            if wanted(driver, name) && counters.len() < MOST {
                let before = earlier.get(name.as_str()).map(|value| *value as f64);
                counters.push(Counter {
                    source: format!("ethtool -S {device}"),
                    name: name.clone(),
                    before: before.map_or_else(|| Fact::unavailable("it came later"), Fact::Known),
                    after: Fact::Known(value as f64),
                });
            }
        }
    }
    let of = |reading: &Reading, name: &str| match &reading.link {
        Err(reason) => Fact::unavailable(reason),
        Ok(link) => match link.counters.get(name) {
            Some(value) => Fact::Known(*value as f64),
            None => Fact::unavailable("the kernel keeps no such counter"),
        },
    };
    let of_link = after.link.iter().flat_map(|link| link.counters.keys());
    counters.extend(of_link.map(|name| Counter {
        source: format!("link {device}"),
        name: (*name).to_owned(),
        before: of(before, name),
        after: of(after, name),
    }));
    counters
}

/// What speaks against numbers measured over this device.
fn suspicions(seen: &DeviceSeen, counters: &[Counter]) -> Validity {
    let mut validity = Validity::default();
    let name = &seen.name;
    for (allowance, grown) in &seen.allowances {
        if let Some(&grown) = grown.known()
            && grown > 0.0
        {
            let evidence = format!(
                "{name} {allowance} grew by {grown}: the instance used more than its allowance, and \
                 so many packets were queued or dropped"
            );
            validity.flag(Severity::Degraded, "instance_allowance_exceeded", evidence);
        }
    }
    for counter in counters {
        let Some(grown) = super::grown(counter).filter(|&grown| grown > 0.0) else {
            continue;
        };
        let of_link = counter.source.starts_with("link ");
        if !of_link && RESETS.contains(&counter.name.as_str()) {
            let evidence = format!("{name} {} grew by {grown} during the test", counter.name);
            validity.flag(Severity::Degraded, "device_reset", evidence);
        } else if of_link && LOSSES.contains(&counter.name.as_str()) {
            let evidence = format!("{name} {} grew by {grown}: packets were lost", counter.name);
            validity.flag(Severity::Info, "device_losses", evidence);
        }
    }
    validity
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn reading(statistics: &[(&str, u64)], lost: u64) -> Reading {
        let own = statistics
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        Reading {
            statistics: Ok(own.collect()),
            link: Ok(Link {
                name: "eth0".to_owned(),
                mtu_bytes: Some(9001),
                counters: BTreeMap::from([("rx_over_errors", lost), ("rx_bytes", 5)]),
            }),
            qdiscs: Err("qdiscs of eth0: Operation not permitted".to_owned()),
            queues: Err("queue statistics of eth0: No such file".to_owned()),
        }
    }

    fn seen(before: &Reading, after: &Reading) -> DeviceSeen {
        DeviceSeen {
            name: "eth0".to_owned(),
            driver: Fact::Known("ena".to_owned()),
            mtu_bytes: Some(9001),
            speed_bits_per_s: Fact::unavailable("no speed"),
            allowances: allowances(before, after),
            queues: queues("ena", before, after),
            layout: Layout::read(&Roots::system(), None, "no-such-nic", 0),
            qdiscs: qdiscs(before, after),
        }
    }

    #[test]
    fn only_fq_everywhere_paces_datagrams() {
        let ask = |kinds: &[&str]| paced("eth0", kinds.iter().copied());
        assert_eq!(ask(&["fq"]), Ok(()));
        assert_eq!(ask(&["mq", "fq", "fq"]), Ok(()));
        for (kinds, told) in [
            (&["noqueue"][..], "noqueue"),
            (&["mq", "fq", "fq_codel"], "fq, fq_codel"),
            (&["mq"], "none"),
            (&[], "none"),
        ] {
            let reason = ask(kinds).expect_err("not paced");
            assert!(reason.contains(&format!("eth0 is {told}:")), "{reason}");
        }
    }

    #[test]
    fn an_exceeded_allowance_degrades_and_an_absent_one_is_unknown() {
        let before = [
            ("bw_out_allowance_exceeded", 10),
            ("pps_allowance_exceeded", 4),
            ("queue_0_rx_cnt", 7),
            ("total_resets", 0),
            ("boring", 3),
        ];
        let mut after = before;
        after[0].1 = 25;
        after[3].1 = 1;
        let (before, after) = (reading(&before, 0), reading(&after, 6));
        let seen = seen(&before, &after);
        assert_eq!(
            seen.allowances["bw_out_allowance_exceeded"],
            Fact::Known(15.0)
        );
        assert_eq!(seen.allowances["pps_allowance_exceeded"], Fact::Known(0.0));
        let absent = &seen.allowances["bw_in_allowance_exceeded"];
        assert!(
            absent
                .reason()
                .is_some_and(|reason| reason.contains("no such counter"))
        );
        let counters = counters("ena", "eth0", &before, &after);
        let names: Vec<&str> = counters
            .iter()
            .map(|counter| counter.name.as_str())
            .collect();
        assert!(
            names.contains(&"queue_0_rx_cnt") && !names.contains(&"boring"),
            "{names:?}"
        );
        let flags = suspicions(&seen, &counters).flags;
        let codes: Vec<(&str, Severity)> = flags
            .iter()
            .map(|flag| (flag.code.as_str(), flag.severity))
            .collect();
        let expected = [
            ("instance_allowance_exceeded", Severity::Degraded),
            ("device_reset", Severity::Degraded),
            ("device_losses", Severity::Info),
        ];
        assert_eq!(codes, expected, "{flags:?}");
        assert!(seen.qdiscs.reason().is_some());
    }

    #[test]
    fn what_ena_counts_is_wanted() {
        for name in [
            "queue_3_rx_refil_partial",
            "queue_0_tx_doorbells",
            "ena_srd_mode",
            "ena_srd_resource_utilization",
            "conntrack_allowance_available",
            "conntrack_allowance_exceeded",
            "suspected_poll_starvation",
            "ena_admin_q_aborted_cmd",
            "phc_cnt",
            "missing_tx_cmpl",
        ] {
            assert!(wanted("ena", name), "{name}");
        }
    }

    #[test]
    fn loopback_is_found_and_keeps_no_statistics() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a flow");
        let device = Device::of(client.as_fd()).expect("there is a route");
        let (seen, counters, validity) = device.close();
        assert_eq!(seen.name, "lo");
        assert!(
            seen.queues
                .reason()
                .is_some_and(|reason| reason.contains("ethtool -S lo"))
        );
        assert!(
            seen.allowances
                .values()
                .all(|grown| grown.reason().is_some())
        );
        assert!(
            counters
                .iter()
                .any(|counter| counter.name == "rx_over_errors")
        );
        assert_eq!(validity.worst(), None, "{validity:?}");
        let error = Device::of(listener.as_fd()).expect_err("it has no peer");
        assert!(error.contains("peer"), "{error}");
    }
}
