//! Getting the endpoints of two threads connected: names or connections first, then the keys of the
//! memory that each may reach of the other.

use super::plan::Plan;
use crate::rdma::meeting::Meeting;
use crate::rdma::test::Operation;
use crate::side::End;
use anyhow::Context;
use libfabric_sys::raw::constants::{EP_TYPES, FI_EP_MSG};
use libfabric_sys::{Domain, Endpoints, Error, Listener, Posted, Remote};
use serde::{Deserialize, Serialize};

/// Tries to post a receive before its provider is believed to have no room for it.
const TRIES: u32 = 1000;

/// The first thing that two threads say.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    provider: String,
    endpoint: String,
    /// Of each lane's endpoint; of endpoints with connections the server's listener only.
    addresses: Vec<Vec<u8>>,
}

/// The second: what may be reached, lane by lane; nothing where nothing is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Targets {
    regions: Vec<Region>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Region {
    base: u64,
    key: u64,
    bytes: u64,
}

/// The endpoints of a thread, each joined to the other side's, with their receives posted.
pub(super) fn connect(
    domain: &Domain,
    plan: &Plan,
    end: End,
    meeting: &Meeting,
) -> anyhow::Result<Endpoints> {
    let mut endpoints = if domain.info().endpoint().r#type == FI_EP_MSG {
        by_connection(domain, plan, end, meeting)?
    } else {
        by_name(domain, plan, meeting)?
    };
    swap_targets(&mut endpoints, plan, meeting)?;
    Ok(endpoints)
}

fn by_name(domain: &Domain, plan: &Plan, meeting: &Meeting) -> anyhow::Result<Endpoints> {
    let mut endpoints = Endpoints::unconnected(domain, plan.shape)?;
    for lane in 0..plan.lanes {
        plan.post_receives(&mut endpoints, lane)?;
    }
    let addresses = (0..plan.lanes).map(|lane| endpoints.address(lane as usize));
    let theirs = swap_names(domain, addresses.collect::<Result<_, _>>()?, meeting)?;
    anyhow::ensure!(
        theirs.len() == plan.lanes as usize,
        "the other side has {} endpoints where this has {}",
        theirs.len(),
        plan.lanes
    );
    for (lane, address) in theirs.iter().enumerate() {
        endpoints.set_peer(lane, address)?;
    }
    Ok(endpoints)
}

/// Connections are made one after the other, so that both sides know which lane each is.
fn by_connection(
    domain: &Domain,
    plan: &Plan,
    end: End,
    meeting: &Meeting,
) -> anyhow::Result<Endpoints> {
    let patience = meeting.patience();
    let mut endpoints = Endpoints::connected(domain, plan.shape)?;
    match end {
        End::Server => {
            let listener = Listener::open(domain)?;
            swap_names(domain, vec![listener.address()?], meeting)?;
            for lane in 0..plan.lanes {
                let prepare = |set: &mut _| plan.post_receives(set, lane);
                endpoints
                    .accept(&listener, patience, prepare)
                    .with_context(|| format!("cannot accept the connection of lane {lane}"))?;
            }
        }
        End::Client => {
            let theirs = swap_names(domain, Vec::new(), meeting)?;
            let address = theirs.first().context("the other side does not listen")?;
            for lane in 0..plan.lanes {
                let prepare = |set: &mut _| plan.post_receives(set, lane);
                endpoints
                    .connect(address, patience, prepare)
                    .with_context(|| format!("cannot connect lane {lane}"))?;
            }
        }
    }
    Ok(endpoints)
}

fn swap_names(
    domain: &Domain,
    addresses: Vec<Vec<u8>>,
    meeting: &Meeting,
) -> anyhow::Result<Vec<Vec<u8>>> {
    let info = domain.info();
    let ours = Name {
        provider: info.provider(),
        endpoint: EP_TYPES.word(info.endpoint().r#type.into()),
        addresses,
    };
    let theirs = meeting.swap(&ours)?;
    anyhow::ensure!(
        (&ours.provider, &ours.endpoint) == (&theirs.provider, &theirs.endpoint),
        "the other side uses provider {} with an endpoint of type {}, this side provider {} with {}: \
         name one that both have with --provider",
        theirs.provider,
        theirs.endpoint,
        ours.provider,
        ours.endpoint
    );
    Ok(theirs.addresses)
}

/// Also a barrier: once it is over, both sides have posted their receives and know their peers.
fn swap_targets(endpoints: &mut Endpoints, plan: &Plan, meeting: &Meeting) -> anyhow::Result<()> {
    let targets = (0..plan.lanes).filter_map(|lane| endpoints.target(lane as usize));
    let regions = targets.map(|target| Region {
        base: target.base,
        key: target.key,
        bytes: target.bytes,
    });
    let ours = Targets {
        regions: regions.collect(),
    };
    let theirs = meeting.swap(&ours)?;
    anyhow::ensure!(
        theirs.regions.len() == ours.regions.len(),
        "the other side has made {} regions of memory accessible where this has {}",
        theirs.regions.len(),
        ours.regions.len()
    );
    for (lane, region) in theirs.regions.iter().enumerate() {
        anyhow::ensure!(
            region.bytes >= plan.shape.target as u64,
            "the other side has made {} bytes accessible, {} are needed",
            region.bytes,
            plan.shape.target
        );
        let remote = Remote {
            base: region.base,
            key: region.key,
            bytes: region.bytes,
        };
        endpoints.set_remote(lane, remote)?;
    }
    Ok(())
}

impl Plan {
    /// Posts all receives of a lane. Tagged ones take the other side's operations by their numbers.
    fn post_receives(&self, endpoints: &mut Endpoints, lane: u32) -> Result<(), Error> {
        for receive in 0..self.receives {
            let slot = self.first_receive(lane) + receive as usize;
            let mut tries = 0;
            loop {
                let posted = match self.operation {
                    Operation::Tagged => endpoints.receive_tagged(slot, receive.into(), 0)?,
                    _ => endpoints.receive(slot)?,
                };
                if posted == Posted::Taken {
                    break;
                }
                tries += 1;
                if tries == TRIES {
                    return Err(Error::Refused(format!(
                        "the provider takes {receive} receives on an endpoint, not {}: choose fewer \
                         with --receives",
                        self.receives
                    )));
                }
                endpoints.poll(0, |_| ())?;
            }
        }
        Ok(())
    }
}
