//! What each queue carried, by the device's own counters, whatever its driver calls them.
//!
//! Drivers agree on nothing: ENA counts `queue_3_rx_cnt`, virtio `rx3_packets` or
//! `rx_queue_3_packets`, i40e `rx-3.packets`, bnxt `[3]: rx_ucast_packets`. What they share is a
//! direction, a number and what is counted. veth calls all that it received `xdp_packets`, which
//! elsewhere are those that an XDP program saw. New drivers tell the kernel itself and not ethtool.

use crate::observe::netlink::QueueStats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one queue carried in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueCount {
    /// The queue's number.
    pub queue: u32,
    /// Packets; what the card or the kernel put together counts as one where the driver does so.
    pub packets: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

/// What all queues of a device carried in the window, whoever sent it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueUse {
    /// The receive queues.
    pub rx: Vec<QueueCount>,
    /// The transmit queues.
    pub tx: Vec<QueueCount>,
    /// Packets of the busiest receive queue over the mean of all: 1 where they share evenly, the
    /// number of queues where one has everything. `null` where nothing was received or counted.
    pub rx_imbalance: Option<f64>,
    /// The same of the transmit queues.
    pub tx_imbalance: Option<f64>,
}

/// Which way a queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Receive.
    Rx,
    /// Transmit.
    Tx,
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Packets.
    Packets,
    /// Bytes.
    Bytes,
}

/// The direction, queue and kind of a counter of this driver, if it is a queue's packets or bytes.
#[must_use]
pub fn queue_counter(driver: &str, name: &str) -> Option<(Way, u32, Kind)> {
    let (mut way, mut queue, mut kind) = (None, None, None);
    let once = |place: bool| (!place).then_some(());
    for word in words(name) {
        if let Ok(number) = word.parse::<u32>() {
            once(queue.replace(number).is_some())?;
            continue;
        }
        match word {
            "rx" => once(way.replace(Way::Rx).is_some())?,
            "tx" => once(way.replace(Way::Tx).is_some())?,
            "packets" | "pkts" | "cnt" => once(kind.replace(Kind::Packets).is_some())?,
            "bytes" => once(kind.replace(Kind::Bytes).is_some())?,
            "queue" | "q" | "ring" | "ucast" => {}
            "xdp" if driver == "veth" => {}
            _ => return None,
        }
    }
    Some((way?, queue?, kind?))
}

/// The runs of letters and of digits in a name.
fn words(name: &str) -> impl Iterator<Item = &str> {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    parts.flat_map(|part| {
        let digit = part
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(part.len());
        let (letters, rest) = part.split_at(digit);
        let letter = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(letter);
        [letters, digits, tail]
            .into_iter()
            .filter(|word| !word.is_empty())
    })
}

impl QueueUse {
    /// From a driver's statistics before and after. `None` where it keeps none of single queues.
    #[must_use]
    pub fn between(
        driver: &str,
        before: &[(String, u64)],
        after: &[(String, u64)],
    ) -> Option<Self> {
        let earlier: BTreeMap<&str, u64> = before
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let mut queues: BTreeMap<(Way, u32), QueueCount> = BTreeMap::new();
        for (name, value) in after {
            let Some((way, queue, kind)) = queue_counter(driver, name) else {
                continue;
            };
            let grown = earlier
                .get(name.as_str())
                .map(|from| value.saturating_sub(*from));
            let count = queues.entry((way, queue)).or_insert(QueueCount {
                queue,
                ..QueueCount::default()
            });
            match kind {
                Kind::Packets => count.packets = grown,
                Kind::Bytes => count.bytes = grown,
            }
        }
        Self::of(&queues)
    }

    /// From the kernel's counters of queues before and after. `None` where it has none.
    #[must_use]
    pub fn between_stats(before: &[QueueStats], after: &[QueueStats]) -> Option<Self> {
        let same = |queue: &QueueStats| (queue.receives, queue.queue);
        let grown = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        let seen = after.iter().filter_map(|later| {
            let earlier = before.iter().find(|earlier| same(earlier) == same(later))?;
            let way = if later.receives { Way::Rx } else { Way::Tx };
            let count = QueueCount {
                queue: later.queue,
                packets: grown(earlier.packets, later.packets),
                bytes: grown(earlier.bytes, later.bytes),
            };
            Some(((way, later.queue), count))
        });
        Self::of(&seen.collect())
    }

    fn of(queues: &BTreeMap<(Way, u32), QueueCount>) -> Option<Self> {
        // Queues are numbered from 0 without gaps; `rx_64_bytes` is of a size, not of a queue.
        let all = |wanted: Way| -> Vec<QueueCount> {
            let each = (0..).map_while(|queue| queues.get(&(wanted, queue)).copied());
            each.collect()
        };
        let (rx, tx) = (all(Way::Rx), all(Way::Tx));
        (!rx.is_empty() || !tx.is_empty()).then(|| Self {
            rx_imbalance: imbalance(&rx),
            tx_imbalance: imbalance(&tx),
            rx,
            tx,
        })
    }
}

/// The busiest queue's packets over the mean.
fn imbalance(queues: &[QueueCount]) -> Option<f64> {
    let packets: Vec<u64> = queues
        .iter()
        .map(|queue| queue.packets)
        .collect::<Option<_>>()?;
    let most = *packets.iter().max()?;
    let total: u64 = packets.iter().sum();
    (total > 0).then(|| most as f64 * packets.len() as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drivers_name_for_a_queues_packets_is_known() {
        let packets = |way, queue| Some((way, queue, Kind::Packets));
        for (name, expected) in [
            ("queue_3_rx_cnt", packets(Way::Rx, 3)),
            ("queue_11_tx_cnt", packets(Way::Tx, 11)),
            ("rx_queue_0_packets", packets(Way::Rx, 0)),
            ("rx2_packets", packets(Way::Rx, 2)),
            ("tx-5.packets", packets(Way::Tx, 5)),
            ("[7]: rx_ucast_packets", packets(Way::Rx, 7)),
            ("rx_packets[4]", packets(Way::Rx, 4)),
            ("queue_3_rx_bytes", Some((Way::Rx, 3, Kind::Bytes))),
            ("tx0_bytes", Some((Way::Tx, 0, Kind::Bytes))),
            // Not a queue's packets or bytes.
            ("rx_packets", None),
            ("queue_3_tx_queue_stop", None),
            ("rx_queue_0_xdp_tx", None),
            ("rx_queue_0_drops", None),
            ("tx_queue_0_xdp_xmit", None),
            ("rx_65_to_127_bytes", None),
            ("rx_99999999999_packets", None),
            ("", None),
        ] {
            assert_eq!(queue_counter("any", name), expected, "{name:?}");
        }
        // virtio and others count here what an XDP program saw, which may be nothing.
        let xdp = "rx_queue_0_xdp_packets";
        assert_eq!(queue_counter("virtio_net", xdp), None);
        assert_eq!(queue_counter("veth", xdp), packets(Way::Rx, 0));
    }

    fn statistics(values: &[(&str, u64)]) -> Vec<(String, u64)> {
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn the_imbalance_is_the_busiest_over_the_mean() {
        let before = statistics(&[
            ("queue_0_rx_cnt", 10),
            ("queue_1_rx_cnt", 10),
            ("queue_0_rx_bytes", 100),
            ("rx_64_bytes", 1),
        ]);
        let after = statistics(&[
            ("queue_0_rx_cnt", 40),
            ("queue_1_rx_cnt", 20),
            ("queue_0_rx_bytes", 4100),
            ("rx_64_bytes", 9),
        ]);
        let seen = QueueUse::between("ena", &before, &after).expect("there are queues");
        assert_eq!(seen.rx.len(), 2, "{seen:?}");
        assert_eq!(
            (seen.rx[0].packets, seen.rx[0].bytes),
            (Some(30), Some(4000))
        );
        assert_eq!((seen.rx_imbalance, seen.tx_imbalance), (Some(1.5), None));
        let idle = QueueUse::between("ena", &after, &after).expect("there are queues");
        assert_eq!(idle.rx_imbalance, None, "nothing was received");
        let kernel = |packets| QueueStats {
            receives: true,
            queue: 0,
            packets: Some(packets),
            bytes: None,
        };
        let seen = QueueUse::between_stats(&[kernel(5)], &[kernel(12)]).expect("there is a queue");
        assert_eq!((seen.rx[0].packets, seen.rx[0].bytes), (Some(7), None));
        assert_eq!(QueueUse::between_stats(&[], &[kernel(12)]), None);
        let none = statistics(&[("peer_ifindex", 3), ("rx_64_bytes", 9)]);
        assert_eq!(QueueUse::between("ena", &none, &none), None);
    }
}
