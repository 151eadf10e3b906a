//! Tests over RDMA verbs: a [`Port`] whose lanes are queue pairs.
//!
//! The crate `verbs` holds what touches the device. Here is decided what to ask it for
//! ([`choice`]: the device, its port and address, what fits its limits), what both sides agree on
//! ([`agree`]), and how that becomes a port.

pub mod agree;
pub mod choice;

use super::meeting::Meeting;
use super::port::{Completed, Completion, Delivery, Facts, Path, Port, Posted};
use super::test::{Device, Measure, Mode, Operation, RdmaTest, Service, Verbs};
use crate::side::End;
use agree::{Agreed, Arrived, Card, Offer};
use anyhow::Context as _;
use choice::Site;
use reports::case::Availability;
use reports::model::Unavailable;
use std::time::Duration;
use verbs::{Lanes, Shape};

/// Inline bytes of perftest's latency tests, where it knows the device: of sends over RC and UC, of
/// sends over UD, and of writes.
const PERFTEST_INLINE: (u32, u32, u32) = (236, 188, 220);

/// Longer messages are not sent inline in mode fast; no device takes so much.
const MOST_INLINE: u64 = 1024;

/// Receives that are posted with one call in mode fast, unless one after the other comes anyway.
const GATHERED: u32 = 16;

/// Packet numbers have 24 bits.
const PACKET_NUMBERS: u32 = 1 << 24;

/// What one thread drives over verbs.
#[derive(Debug)]
pub struct VerbsPort {
    lanes: Lanes,
    facts: Facts,
    delivery: Delivery,
}

/// Whether tests over verbs can run here: libibverbs is there, and a device with an active port.
#[must_use]
pub fn probe() -> Availability {
    let reason = match choice::any_active() {
        Ok(()) => return Availability::Available,
        Err(reason) => reason,
    };
    Availability::Unavailable {
        reason: format!("{reason:#}"),
    }
}

/// Opens a thread's port and connects its lanes with those of its counterpart, in the thread that
/// will drive it. When both sides return, the receives of both are posted.
///
/// # Errors
/// [`Unavailable`] where this host lacks a library, the kernel's part, or a device with an active
/// port; else what is wrong with what was asked for, what the device or the counterpart refuses, or
/// that it did not come in time.
pub fn open(
    test: &RdmaTest,
    end: End,
    thread: u32,
    meeting: &Meeting,
) -> anyhow::Result<VerbsPort> {
    let Device::Verbs(wanted) = &test.device else {
        anyhow::bail!("a test over libfabric has no queue pairs");
    };
    let operation = operation(test.operation)?;
    let site = Site::find(wanted, end)?;
    let ours = Offer::of(test, wanted, &site)?;
    let theirs = meeting.swap(&ours)?;
    let agreed = Agreed::on(test, wanted, &site, &ours, &theirs)?;
    let shape = Shape {
        service: service(wanted.service),
        operation,
        lanes: choice::lanes(test),
        depth: agreed.depth,
        receives: agreed.receives,
        length: usize::try_from(test.length_bytes).context("longer than memory")?,
        inline: inline(test, wanted.service, &site),
        shared_receives: wanted.shared_receives,
        gather: gathered(test).min(agreed.receives / 4),
        events: test.events,
        vector: thread,
    };
    let mut lanes = Lanes::open(&site.context, shape).map_err(refine)?;
    let gid_index = if wanted.rdma_cm {
        manage(&mut lanes, &site, &agreed, end, meeting)?
    } else {
        exchange(&mut lanes, &site, &agreed, meeting)?;
        agreed.gid.as_ref().map(|gid| gid.index)
    };
    lanes.post_receives().map_err(refine)?;
    // Neither side may post before the other is ready to receive.
    let _: Arrived = meeting.swap(&Arrived {})?;
    let facts = facts(test, wanted, &site, &agreed, &lanes, gid_index);
    Ok(VerbsPort {
        lanes,
        facts,
        delivery: match wanted.service {
            Service::Rc => Delivery::InOrder,
            Service::Uc | Service::Ud => Delivery::Lossy,
        },
    })
}

/// What is missing is absence; everything else is an error.
fn refine(error: verbs::Error) -> anyhow::Error {
    match error {
        verbs::Error::Missing(words) => Unavailable(words).into(),
        other => other.into(),
    }
}

fn operation(operation: Operation) -> anyhow::Result<verbs::Operation> {
    Ok(match operation {
        Operation::Send => verbs::Operation::Send,
        Operation::Tagged => anyhow::bail!("verbs know no tags: send without, or over libfabric"),
        Operation::Write => verbs::Operation::Write,
        Operation::WriteData => verbs::Operation::WriteData,
        Operation::Read => verbs::Operation::Read,
        Operation::FetchAdd => verbs::Operation::FetchAdd,
        Operation::CompareSwap => verbs::Operation::CompareSwap,
    })
}

fn service(service: Service) -> verbs::Service {
    match service {
        Service::Rc => verbs::Service::Rc,
        Service::Uc => verbs::Service::Uc,
        Service::Ud => verbs::Service::Ud,
    }
}

/// Inline bytes to ask the device for.
fn inline(test: &RdmaTest, service: Service, site: &Site) -> u32 {
    let (send, datagram, write) = PERFTEST_INLINE;
    match (test.inline_bytes, test.mode) {
        _ if test.operation.fetches() => 0,
        (Some(bytes), _) => bytes,
        // perftest goes by the vendor's number; it knows no device in software.
        (None, Mode::Compat) if test.measure != Measure::Latency || site.is_software() => 0,
        (None, Mode::Compat) => match (test.operation, service) {
            (Operation::Send, Service::Ud) => datagram,
            (Operation::Send, _) => send,
            _ => write,
        },
        (None, Mode::Fast) if test.length_bytes > MOST_INLINE => 0,
        // As much as is needed: more makes requests longer.
        (None, Mode::Fast) => test.length_bytes as u32,
    }
}

/// Receives to post with one call.
fn gathered(test: &RdmaTest) -> u32 {
    match (test.measure, test.mode) {
        (Measure::Latency, _) => 1,
        (_, Mode::Compat) => test.post_list,
        (_, Mode::Fast) => test.post_list.max(GATHERED),
    }
}

/// Connects the lanes by numbers that both sides tell each other.
fn exchange(
    lanes: &mut Lanes,
    site: &Site,
    agreed: &Agreed,
    meeting: &Meeting,
) -> anyhow::Result<()> {
    let first_packet = fastrand::u32(..PACKET_NUMBERS);
    let ours = Card::of(lanes, site, agreed, first_packet, None);
    let theirs: Card = meeting.swap(&ours)?;
    lanes.initialise(site.port).map_err(refine)?;
    lanes
        .connect(&theirs.route(site, agreed), &theirs.peers(), first_packet)
        .map_err(refine)?;
    lanes.aim(theirs.address, theirs.key);
    Ok(())
}

/// Connects the lanes by the connection manager; the index of the GID that it chose.
fn manage(
    lanes: &mut Lanes,
    site: &Site,
    agreed: &Agreed,
    end: End,
    meeting: &Meeting,
) -> anyhow::Result<Option<u8>> {
    let from = site.address(agreed)?;
    let listener = match end {
        End::Server => {
            let shape = lanes.shape();
            let listener = verbs::Listener::bind(from, shape.service, shape.lanes);
            Some(listener.map_err(refine)?)
        }
        End::Client => None,
    };
    let address = listener.as_ref().map(verbs::Listener::address);
    let theirs: Card = meeting.swap(&Card::of(lanes, site, agreed, 0, address))?;
    let patience = meeting.patience();
    let index = match listener {
        Some(listener) => {
            let back = theirs.route(site, agreed);
            listener.accept(lanes, &back, &theirs.peers(), patience)
        }
        None => {
            let mut to = theirs
                .listener
                .context("the server told no address to connect with")?;
            // The zone of a link-local address is that of this host's network device.
            if let (std::net::SocketAddr::V6(to), std::net::SocketAddr::V6(from)) = (&mut to, from)
            {
                to.set_scope_id(from.scope_id());
            }
            verbs::connect(lanes, from, to, agreed.mtu, patience)
        }
    };
    let index = index.map_err(refine).context("the connection manager")?;
    lanes.aim(theirs.address, theirs.key);
    Ok((!site.state.infiniband).then_some(index))
}

fn facts(
    test: &RdmaTest,
    wanted: &Verbs,
    site: &Site,
    agreed: &Agreed,
    lanes: &Lanes,
    gid_index: Option<u8>,
) -> Facts {
    let mut facts = Facts {
        device: site.context.name().to_owned(),
        netdevs: site.netdevs(gid_index),
        reduced: agreed.reduced.clone(),
        path: Path::Rdma {
            device: site.context.name().to_owned(),
            port: site.port,
            mtu_bytes: agreed.mtu.bytes(),
        },
        ..Facts::default()
    };
    let shape = lanes.shape();
    let (send_entries, receive_entries) = lanes.completion_entries();
    let mut fact = |name: &str, value: serde_json::Value| {
        facts.used.insert(name.to_owned(), value);
    };
    fact("service", shape.service.to_string().into());
    fact("port", site.port.into());
    fact("mtu_bytes", agreed.mtu.bytes().into());
    fact("inline_bytes", lanes.inline_bytes().into());
    fact("inline", lanes.is_inline().into());
    fact("queue_pairs", shape.lanes.into());
    fact("depth", shape.depth.into());
    fact("send_cq_entries", send_entries.into());
    if let Some(entries) = receive_entries {
        fact("receive_cq_entries", entries.into());
        fact("receives", shape.receives.into());
        fact("shared_receives", wanted.shared_receives.into());
    }
    if shape.operation.fetches() {
        let reads = site.context.limits().reads_begun.min(agreed.reads_answered);
        fact("reads_at_once", reads.into());
    }
    let connected_by = if wanted.rdma_cm {
        "connection manager"
    } else {
        "exchanged numbers"
    };
    fact("connected_by", connected_by.into());
    match gid_index.and_then(|index| site.gid(index)) {
        Some(gid) => {
            fact("gid", gid.value.to_string().into());
            fact("gid_index", gid.index.into());
            fact("gid_type", gid.kind.to_string().into());
        }
        None => fact("lid", site.state.lid.into()),
    }
    if let Some(efa) = efa(&site.context) {
        fact("efa", efa);
    }
    let limits = site.context.limits();
    fact("vendor", format!("{:#x}", limits.vendor).into());
    fact("part", limits.part.into());
    if !limits.firmware.is_empty() {
        fact("firmware", limits.firmware.clone().into());
    }
    if let Some(asked) = test.inline_bytes
        && asked > lanes.inline_bytes()
        && !test.operation.fetches()
    {
        facts.reduced.push(format!(
            "inline bytes: {asked} were asked for, the device has {} at this depth",
            lanes.inline_bytes()
        ));
    }
    facts
}

/// What a device says of itself that is an Elastic Fabric Adapter, or why that is not known; `None` of
/// others.
pub(super) fn efa(context: &verbs::Context) -> Option<serde_json::Value> {
    let efa = match context.efa() {
        Ok(efa) => efa?,
        Err(error) => return Some(serde_json::json!({ "unavailable": error.to_string() })),
    };
    Some(serde_json::json!({
        "send_requests": efa.send_requests,
        "receives": efa.receives,
        "inline_bytes": efa.inline_bytes,
        "longest_rdma_bytes": efa.longest_rdma_bytes,
        "reads": efa.reads,
        "writes": efa.writes,
        "retries_for_receives": efa.retries_for_receives,
        "writes_without_receives": efa.writes_without_receives,
    }))
}

impl From<verbs::Completion> for Completion {
    #[inline]
    fn from(completion: verbs::Completion) -> Self {
        Self {
            lane: completion.lane,
            completed: match completion.completed {
                verbs::Completed::Posted { first, count } => Completed::Posted { first, count },
                verbs::Completed::Received { slot, length, data } => Completed::Received {
                    slot,
                    length,
                    data: data.map(u64::from),
                },
            },
        }
    }
}

impl Port for VerbsPort {
    /// Devices make progress by themselves.
    const POLL_TO_PROGRESS: bool = false;

    #[inline]
    fn lanes(&self) -> u32 {
        self.lanes.shape().lanes
    }

    #[inline]
    fn depth(&self) -> u32 {
        self.lanes.shape().depth
    }

    #[inline]
    fn delivery(&self) -> Delivery {
        self.delivery
    }

    #[inline]
    fn outgoing(&mut self, lane: u32, ahead: u32) -> &mut [u8] {
        self.lanes.outgoing(lane, ahead)
    }

    #[inline]
    fn operands(&mut self, lane: u32, ahead: u32, compare_or_add: u64, swap: u64) {
        self.lanes.operands(lane, ahead, compare_or_add, swap);
    }

    #[inline(always)]
    fn post(&mut self, lane: u32, count: u32, signal: bool) -> anyhow::Result<Posted> {
        match self.lanes.post(lane, count, signal) {
            Ok(verbs::Posted::Taken(count)) => Ok(Posted::Taken(count)),
            Ok(verbs::Posted::Full) => Ok(Posted::Full),
            Err(error) => Err(error.into()),
        }
    }

    #[inline]
    fn poll(&mut self, into: &mut [Completion]) -> anyhow::Result<usize> {
        Ok(self.lanes.poll(into)?)
    }

    #[inline]
    fn wait(&mut self, patience: Duration) -> anyhow::Result<()> {
        Ok(self.lanes.wait(patience)?)
    }

    #[inline]
    fn outcome(&mut self, lane: u32, number: u64) -> &[u8] {
        self.lanes.outcome(lane, number)
    }

    #[inline]
    fn incoming(&mut self, slot: u32) -> &[u8] {
        self.lanes.incoming(slot)
    }

    #[inline]
    fn post_receive(&mut self, slot: u32) -> anyhow::Result<()> {
        Ok(self.lanes.post_receive(slot)?)
    }

    #[inline]
    fn peek(&self, lane: u32, number: u64) -> u8 {
        self.lanes.peek(lane, number)
    }

    #[inline]
    fn watch(&self, lane: u32, number: u64, value: u8, looks: u32) -> bool {
        self.lanes.watch(lane, number, value, looks)
    }

    #[inline]
    fn target(&mut self, lane: u32, number: u64) -> &mut [u8] {
        self.lanes.target(lane, number)
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }
}
