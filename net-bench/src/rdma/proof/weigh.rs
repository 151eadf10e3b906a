//! How much of a claim each direction's counters show.

use super::counters::{Counters, LOOPBACK, Place};
use super::{CLEARLY_LESS, Claim, ENOUGH};
use crate::rdma::port::Path;

/// What one step of a counter stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    /// Words of four bytes, in which the InfiniBand architecture counts data.
    Words,
    Packets,
}

/// Counters whose sum sees all payload of one direction.
struct Gauge {
    names: &'static [&'static str],
    unit: Unit,
    /// Whether it is known to count what a device sends to itself.
    counts_own: bool,
}

const fn gauge(unit: Unit, names: &'static [&'static str]) -> Gauge {
    Gauge {
        names,
        unit,
        counts_own: false,
    }
}

/// Of ports: InfiniBand's and mlx5's; EFA's, bnxt_re's and mana's; EFA's by kinds of work; irdma's;
/// then, where there are no bytes, packets, the first of them rxe's.
const SENT: [Gauge; 8] = [
    gauge(Unit::Words, &["counters/port_xmit_data"]),
    gauge(Unit::Bytes, &["hw_counters/tx_bytes"]),
    gauge(
        Unit::Bytes,
        &[
            "hw_counters/send_bytes",
            "hw_counters/rdma_write_bytes",
            "hw_counters/rdma_read_resp_bytes",
        ],
    ),
    gauge(
        Unit::Bytes,
        &["hw_counters/ip4OutOctets", "hw_counters/ip6OutOctets"],
    ),
    Gauge {
        counts_own: true,
        ..gauge(Unit::Packets, &["hw_counters/sent_pkts"])
    },
    gauge(Unit::Packets, &["hw_counters/tx_pkts"]),
    gauge(Unit::Packets, &["counters/port_xmit_packets"]),
    gauge(Unit::Packets, &["counters/unicast_xmit_packets"]),
];

/// The same the other way.
const RECEIVED: [Gauge; 8] = [
    gauge(Unit::Words, &["counters/port_rcv_data"]),
    gauge(Unit::Bytes, &["hw_counters/rx_bytes"]),
    gauge(
        Unit::Bytes,
        &[
            "hw_counters/recv_bytes",
            "hw_counters/rdma_read_bytes",
            "hw_counters/rdma_write_recv_bytes",
        ],
    ),
    gauge(
        Unit::Bytes,
        &["hw_counters/ip4InOctets", "hw_counters/ip6InOctets"],
    ),
    Gauge {
        counts_own: true,
        ..gauge(Unit::Packets, &["hw_counters/rcvd_pkts"])
    },
    gauge(Unit::Packets, &["hw_counters/rx_pkts"]),
    gauge(Unit::Packets, &["counters/port_rcv_packets"]),
    gauge(Unit::Packets, &["counters/unicast_rcv_packets"]),
];

/// Of network devices.
const NETDEV_SENT: [Gauge; 1] = [gauge(Unit::Bytes, &["tx_bytes"])];
const NETDEV_RECEIVED: [Gauge; 1] = [gauge(Unit::Bytes, &["rx_bytes"])];

/// Payload of a packet where nobody says; only the estimate of headers depends on it.
const USUAL_MTU: u32 = 1024;

/// More than headers and acknowledgements of a packet take, and what other small things do.
const OVERHEAD_BYTES: u64 = 128;
const SLACK_BYTES: u64 = 1 << 20;
const SLACK_PACKETS: u64 = 1000;

/// What is claimed of one direction.
struct Part {
    verb: &'static str,
    bytes: u64,
    operations: u64,
    gauges: &'static [Gauge],
}

/// What counters show of one direction of a claim.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weight {
    /// What moved and what was needed, in words.
    pub sentence: String,
    state: State,
    excess: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// A share of what was needed; less than the claim contradicts it, if so marked.
    Shown { share: f64, may_contradict: bool },
    /// Nothing that could be read again tells.
    Nothing,
}

impl Weight {
    /// Whether a later reading may show more, and has to.
    pub(super) fn may_grow(&self) -> bool {
        matches!(self.state, State::Shown { share, .. } if share < 1.0)
    }

    pub(super) fn proves(&self) -> bool {
        matches!(self.state, State::Shown { share, .. } if share >= ENOUGH)
    }

    pub(super) fn contradicts(&self) -> bool {
        matches!(self.state, State::Shown { share, may_contradict: true } if share < CLEARLY_LESS)
    }

    /// What moved much more than was claimed, in words.
    pub(super) fn excess(&self) -> Option<String> {
        self.excess.clone()
    }
}

/// The directions in which something is claimed, none where there are no counters.
pub(super) fn weigh(
    path: &Path,
    before: &Counters,
    after: &Counters,
    claim: &Claim,
) -> Vec<Weight> {
    if before.missing.is_some() || after.missing.is_some() {
        return Vec::new();
    }
    let (sent, received): (&[Gauge], &[Gauge]) = match path {
        Path::Sockets { .. } => (&NETDEV_SENT, &NETDEV_RECEIVED),
        _ => (&SENT, &RECEIVED),
    };
    let parts = [
        Part {
            verb: "sent",
            bytes: claim.sent_bytes,
            operations: claim.sent_operations,
            gauges: sent,
        },
        Part {
            verb: "received",
            bytes: claim.received_bytes,
            operations: claim.received_operations,
            gauges: received,
        },
    ];
    let mtu = match path {
        Path::Rdma { mtu_bytes, .. } => (*mtu_bytes).max(1),
        _ => USUAL_MTU,
    };
    let most = Most::of(&parts, mtu);
    let claimed = parts
        .iter()
        .filter(|part| part.bytes > 0 || part.operations > 0);
    claimed
        .map(|part| part.weigh(mtu, before, after, claim, &most))
        .collect()
}

/// The most that a claim explains: both directions and their acknowledgements, twice because the
/// peer may use the same device.
struct Most {
    bytes: u64,
    packets: u64,
}

impl Most {
    fn of(parts: &[Part], mtu: u32) -> Self {
        let packets = parts.iter().map(|part| part.packets(mtu));
        let packets = packets.fold(0, u64::saturating_add);
        let bytes = parts.iter().map(|part| part.bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        let overhead = packets.saturating_mul(OVERHEAD_BYTES);
        let twice = |value: u64| value.saturating_mul(2);
        Self {
            bytes: twice(bytes.saturating_add(overhead)).saturating_add(SLACK_BYTES),
            packets: twice(packets).saturating_add(SLACK_PACKETS),
        }
    }
}

impl Part {
    /// The fewest packets that it takes: no two operations share one.
    fn packets(&self, mtu: u32) -> u64 {
        let mtu = u64::from(mtu);
        match self.operations {
            0 => self.bytes.div_ceil(mtu),
            // Operations of one length, as those of a test are.
            count if self.bytes.is_multiple_of(count) => {
                let each = (self.bytes / count).div_ceil(mtu).max(1);
                count.saturating_mul(each)
            }
            count => self.bytes.div_ceil(mtu).max(count),
        }
    }

    fn weigh(
        &self,
        mtu: u32,
        before: &Counters,
        after: &Counters,
        claim: &Claim,
        most: &Most,
    ) -> Weight {
        let seen = self.seen(before, after);
        let packets = self.packets(mtu);
        let share = |seen: &Seen| match seen.gauge.unit {
            Unit::Packets => seen.moved as f64 / packets.max(1) as f64,
            Unit::Bytes | Unit::Words => seen.moved as f64 / self.bytes as f64,
        };
        let best = seen.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        let Some(best) = best else {
            let verb = self.verb;
            let name = after.places.first().map_or("the path", |place| &place.name);
            return Weight {
                sentence: format!("{name} has no counter of bytes or packets {verb}"),
                state: State::Nothing,
                excess: None,
            };
        };
        let share = share(best);
        let torn = seen.iter().find_map(|seen| seen.torn.as_ref());
        let own = claim.same_device && !best.gauge.counts_own && !best.is_loopback();
        let mut sentence = self.sentence(best, packets, mtu);
        if best.is_loopback() && after.places.len() > 1 {
            sentence.push_str("; both ends are on this host");
        }
        if share < ENOUGH {
            let caveat = match (torn, own) {
                (Some(torn), _) => format!(", and {torn}"),
                (None, true) => {
                    ", but both sides use this device, which need not count what stays in it".into()
                }
                (None, false) if share >= CLEARLY_LESS => {
                    ", which is too little to prove it and too much to contradict it".into()
                }
                (None, false) => String::new(),
            };
            sentence.push_str(&caveat);
        }
        Weight {
            sentence,
            state: State::Shown {
                share,
                may_contradict: torn.is_none() && !own,
            },
            excess: self.excess(best, most),
        }
    }

    /// What the gauges that exist show: of bytes, or where there are none of packets.
    fn seen<'a>(&self, before: &'a Counters, after: &'a Counters) -> Vec<Seen<'a>> {
        let places = after.places.iter();
        let places = places.filter_map(|after| Some((before.place(&after.name)?, after)));
        let all: Vec<Seen<'_>> = places
            .flat_map(|(before, after)| {
                let gauges = self.gauges.iter();
                gauges.filter_map(move |gauge| Seen::between(gauge, before, after))
            })
            .collect();
        let bytes = |seen: &Seen<'_>| seen.gauge.unit != Unit::Packets;
        // Empty messages are packets and no bytes.
        let by_bytes = self.bytes > 0 && all.iter().any(bytes);
        let of_unit = all.into_iter().filter(|seen| bytes(seen) == by_bytes);
        of_unit.collect()
    }

    fn sentence(&self, seen: &Seen<'_>, packets: u64, mtu: u32) -> String {
        let (verb, bytes, operations) = (self.verb, self.bytes, self.operations);
        let moved = seen.moved;
        let names = seen.names.join(" + ");
        let counted = format!("{} {names} grew by {moved}", seen.place);
        match seen.gauge.unit {
            Unit::Packets => format!(
                "{counted} packets; {bytes} bytes {verb} in {operations} operations take at least \
                 {packets} of up to {mtu} bytes"
            ),
            Unit::Bytes => format!("{counted} bytes; {bytes} were {verb}"),
            Unit::Words => format!("{counted} bytes (counted in words of 4); {bytes} were {verb}"),
        }
    }

    fn excess(&self, seen: &Seen<'_>, most: &Most) -> Option<String> {
        let (unit, most) = match seen.gauge.unit {
            Unit::Packets => ("packets", most.packets),
            Unit::Bytes | Unit::Words => ("bytes", most.bytes),
        };
        (seen.moved > most).then(|| {
            format!(
                "{} {} grew by {} {unit}, where this test explains at most {most}: others use it",
                seen.place,
                seen.names.join(" + "),
                seen.moved
            )
        })
    }
}

/// What one gauge shows.
struct Seen<'a> {
    gauge: &'static Gauge,
    place: &'a str,
    names: Vec<&'static str>,
    /// In bytes or packets.
    moved: u64,
    /// Why it is no more than a lower bound.
    torn: Option<String>,
}

impl<'a> Seen<'a> {
    fn between(gauge: &'static Gauge, before: &'a Place, after: &'a Place) -> Option<Self> {
        let mut names = Vec::new();
        let mut moved = 0_u64;
        let mut torn = None;
        for name in gauge.names {
            let Some(&was) = before.values.get(*name) else {
                continue;
            };
            names.push(*name);
            let (grown, fault) = match after.values.get(*name) {
                None => (0, Some("vanished meanwhile")),
                // InfiniBand's counters of 32 bits stop at the top.
                Some(&is) if gauge.unit != Unit::Packets && is == u64::from(u32::MAX) => {
                    (is.saturating_sub(was), Some("is at its limit of 32 bits"))
                }
                // It was reset, or wrapped: either way it counted at least what it shows now.
                Some(&is) if is < was => (is, Some("ran backwards meanwhile")),
                Some(&is) => (is - was, None),
            };
            moved = moved.saturating_add(grown);
            torn = torn.or(fault.map(|fault| format!("{name} {fault}")));
        }
        let scale = match gauge.unit {
            Unit::Words => 4,
            Unit::Bytes | Unit::Packets => 1,
        };
        (!names.is_empty()).then(|| Self {
            gauge,
            place: &after.name,
            names,
            moved: moved.saturating_mul(scale),
            torn,
        })
    }

    fn is_loopback(&self) -> bool {
        self.place == LOOPBACK
    }
}
