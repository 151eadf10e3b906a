//! What the two sides' same threads tell each other before their lanes are connected, and what they
//! agree on: the smaller of both in everything, and addresses of one kind.

use super::choice::{Fit, Site};
use crate::rdma::test::{RdmaTest, Service, Verbs};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::net::{Ipv6Addr, SocketAddr};
use verbs::gid::{Gid, REACHES};
use verbs::{Lanes, Mtu, Peer, Route};

/// What a side could do, told first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The device's name, for errors.
    pub device: String,
    /// Whether the port is InfiniBand rather than Ethernet.
    pub infiniband: bool,
    /// How far its addresses reach, in words of [`verbs::gid::Reach`]; none on InfiniBand, where the
    /// port's own address does.
    pub reaches: Vec<String>,
    /// The port's MTU in bytes.
    pub mtu_bytes: u32,
    /// Operations that a lane may have in flight.
    pub depth: u32,
    /// Receives on a lane.
    pub receives: u32,
    /// Reads and atomic operations of the peer that are worked on at once.
    pub reads_answered: u8,
    /// What was reduced of what the test asks for.
    pub reduced: Vec<String>,
}

impl Offer {
    /// What a side can do of a test.
    ///
    /// # Errors
    /// The device has no room for so many lanes.
    pub fn of(test: &RdmaTest, wanted: &Verbs, site: &Site) -> anyhow::Result<Self> {
        let limits = site.context.limits();
        let device = site.context.name();
        let fit = Fit::of(test, wanted.shared_receives, limits)
            .with_context(|| format!("device {device}"))?;
        let reaches = REACHES
            .into_iter()
            .filter(|reach| site.gid_of(*reach).is_some());
        Ok(Self {
            device: device.to_owned(),
            infiniband: site.state.infiniband,
            reaches: reaches.map(|reach| reach.word().to_owned()).collect(),
            mtu_bytes: site.state.mtu.bytes(),
            depth: fit.depth,
            receives: fit.receives,
            reads_answered: limits.reads_answered,
            reduced: fit.reduced,
        })
    }
}

/// What a side's lanes are known by, told second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The numbers of the queue pairs, in the order of the lanes.
    pub numbers: Vec<u32>,
    /// The number of each one's first packet.
    pub first_packet: u32,
    /// The port's InfiniBand address; 0 on Ethernet.
    pub lid: u16,
    /// The port's address.
    pub gid: Option<Ipv6Addr>,
    /// Where the memory begins that the other side works on.
    pub address: u64,
    /// Its key.
    pub key: u32,
    /// Where the server waits for connections of the connection manager.
    pub listener: Option<SocketAddr>,
}

impl Card {
    /// What the lanes of a side are known by.
    #[must_use]
    pub fn of(
        lanes: &Lanes,
        site: &Site,
        agreed: &Agreed,
        first_packet: u32,
        listener: Option<SocketAddr>,
    ) -> Self {
        let (address, key) = lanes.memory();
        Self {
            numbers: lanes.numbers(),
            first_packet,
            lid: site.state.lid,
            gid: agreed.gid.as_ref().map(|gid| gid.value),
            address,
            key,
            listener,
        }
    }

    /// The way to the side whose card it is.
    #[must_use]
    pub fn route(&self, site: &Site, agreed: &Agreed) -> Route {
        Route {
            port: site.port,
            gid: match (&agreed.gid, self.gid) {
                (Some(ours), Some(theirs)) => Some((ours.index, theirs)),
                _ => None,
            },
            lid: self.lid,
            mtu: agreed.mtu,
            reads_answered: agreed.reads_answered,
        }
    }

    /// Its queue pairs, in the order of the lanes.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let peer = |number: &u32| Peer {
            number: *number,
            first_packet: self.first_packet,
        };
        self.numbers.iter().map(peer).collect()
    }
}

/// Told last: the receives are posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrived {}

/// What both sides take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Operations that a lane may have in flight.
    pub depth: u32,
    /// Receives on a lane.
    pub receives: u32,
    /// The path MTU.
    pub mtu: Mtu,
    /// This side's address; `None` on InfiniBand, where the port's own does.
    pub gid: Option<Gid>,
    /// Reads and atomic operations that the other side works on at once.
    pub reads_answered: u8,
    /// What was reduced of what the test asks for, by either side.
    pub reduced: Vec<String>,
}

impl Agreed {
    /// Out of what both sides can do.
    ///
    /// # Errors
    /// Addresses of different kinds, links of different kinds, an MTU that does not exist, or
    /// datagrams that are longer than a packet.
    pub fn on(
        test: &RdmaTest,
        wanted: &Verbs,
        site: &Site,
        ours: &Offer,
        theirs: &Offer,
    ) -> anyhow::Result<Self> {
        let reach = common_reach(ours, theirs)?;
        let gid = reach.and_then(|word| {
            let mut reaches = REACHES.into_iter();
            site.gid_of(reaches.find(|reach| reach.word() == word)?)
        });
        let mut reduced = ours.reduced.clone();
        for sentence in &theirs.reduced {
            if !reduced.contains(sentence) {
                reduced.push(format!("{sentence} (other side)"));
            }
        }
        let smaller = ours.mtu_bytes.min(theirs.mtu_bytes);
        let mtu_bytes = match wanted.mtu_bytes {
            Some(asked) if asked > smaller => {
                reduced.push(format!(
                    "path MTU: {asked} bytes were asked for, {smaller} is the smaller of both \
                     ports' active MTUs"
                ));
                smaller
            }
            Some(asked) => asked,
            None => smaller,
        };
        let mtu = Mtu::of_bytes(mtu_bytes).with_context(|| {
            format!("an MTU of {mtu_bytes} bytes: 256, 512, 1024, 2048 or 4096")
        })?;
        anyhow::ensure!(
            wanted.service != Service::Ud || test.length_bytes <= u64::from(mtu_bytes),
            "datagrams (UD) of {} bytes do not fit into a packet of {mtu_bytes}: take shorter ones, \
             or RC or UC",
            test.length_bytes
        );
        Ok(Self {
            depth: ours.depth.min(theirs.depth).max(1),
            receives: ours.receives.min(theirs.receives).max(1),
            mtu,
            gid: gid.cloned(),
            reads_answered: theirs.reads_answered,
            reduced,
        })
    }
}

/// The best reach that both have; `None` on InfiniBand without one that was asked for.
fn common_reach(ours: &Offer, theirs: &Offer) -> anyhow::Result<Option<String>> {
    let link = |offer: &Offer| {
        if offer.infiniband {
            "InfiniBand"
        } else {
            "Ethernet (RoCE)"
        }
    };
    anyhow::ensure!(
        ours.infiniband == theirs.infiniband,
        "device {} is on {} here, {} on {} at the other side",
        ours.device,
        link(ours),
        theirs.device,
        link(theirs)
    );
    if ours.reaches.is_empty() && theirs.reaches.is_empty() {
        return Ok(None);
    }
    let mut common = ours.reaches.iter();
    let found = common.find(|reach| theirs.reaches.contains(reach));
    found.cloned().map(Some).with_context(|| {
        format!(
            "no GID of this side's device {} ({}) is of a kind that the other side's {} has ({}): \
             give both an address of one kind, or name one with --gid-index",
            ours.device,
            ours.reaches.join(", "),
            theirs.device,
            theirs.reaches.join(", ")
        )
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rdma::test::{Device, Measure, Mode, Operation};

    /// A test over verbs of the plainest kind.
    pub(crate) fn test() -> RdmaTest {
        RdmaTest {
            device: Device::Verbs(Verbs {
                device: None,
                server_device: None,
                port: 1,
                gid_index: None,
                service: Service::Rc,
                mtu_bytes: None,
                shared_receives: false,
                rdma_cm: false,
            }),
            operation: Operation::Send,
            measure: Measure::Latency,
            mode: Mode::Fast,
            length_bytes: 64,
            lanes: 1,
            threads: 1,
            bidirectional: false,
            depth: 16,
            receives: 16,
            post_list: 1,
            moderation: 1,
            poll_batch: 16,
            inline_bytes: None,
            events: false,
            verify: true,
            spoil: None,
            placement: crate::place::Placement::default(),
            duration_s: 1.0,
            operations: None,
            omit_s: 0.0,
            interval_s: 1.0,
            timeout_s: 10.0,
        }
    }

    fn offer(infiniband: bool, reaches: &[&str]) -> Offer {
        Offer {
            device: "rxe0".to_owned(),
            infiniband,
            reaches: reaches.iter().map(|&reach| reach.to_owned()).collect(),
            mtu_bytes: 1024,
            depth: 16,
            receives: 16,
            reads_answered: 16,
            reduced: Vec::new(),
        }
    }

    #[test]
    fn both_sides_take_the_best_reach_that_both_have() {
        let (v4, v6, link) = (REACHES[0].word(), REACHES[1].word(), REACHES[2].word());
        let both = |ours: &[&str], theirs: &[&str]| {
            let (ours, theirs) = (offer(false, ours), offer(false, theirs));
            let found = common_reach(&ours, &theirs).ok().flatten();
            assert_eq!(found, common_reach(&theirs, &ours).ok().flatten());
            found
        };
        assert_eq!(both(&[v4, link], &[v4, link]).as_deref(), Some(v4));
        assert_eq!(both(&[v4, v6, link], &[v6, link]).as_deref(), Some(v6));
        assert_eq!(both(&[link], &[v4, link]).as_deref(), Some(link));
        assert_eq!(both(&[v4], &[v6]), None);
    }

    #[test]
    fn infiniband_needs_no_gid_and_does_not_meet_ethernet() {
        let none = common_reach(&offer(true, &[]), &offer(true, &[]));
        assert_eq!(none.expect("agreed"), None);
        let error = common_reach(&offer(true, &[]), &offer(false, &["x"])).expect_err("differ");
        assert!(error.to_string().contains("InfiniBand"), "{error}");
    }
}
