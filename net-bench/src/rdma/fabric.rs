//! Ports that libfabric drives.
//!
//! A provider's offer is found and judged ([`find`], [`offer`]), a thread's endpoints and memory are
//! planned ([`plan`]) and connected to those of its counterpart ([`connect`]). The port itself is
//! what the timed loops call: it posts with one call of the provider's each, as fabtests do, and
//! turns completions of slots into those of numbered operations.

mod connect;
mod facts;
mod find;
mod offer;
mod plan;

use super::meeting::Meeting;
use super::port::{Completed, Completion, Delivery, Facts, NO_RECEIVE, Port, Posted};
use super::test::{Device, Operation, RdmaTest};
use crate::side::End;
use anyhow::Context;
use libfabric_sys::{Atomic, Domain, Endpoints, Info, Library, Query, Transfer, Version};
use offer::Offer;
use plan::{Label, Plan};
use reports::case::Availability;
use reports::model::Unavailable;
use std::time::Duration;

/// After how many polls that brought nothing a port looks whether the peer has hung up.
const LOOK: u32 = 1 << 16;

/// For how many such polls one that slept stands.
const SLEPT: u32 = 1 << 12;

/// Endpoints of a libfabric domain, which one thread drives.
#[derive(Debug)]
pub struct FabricPort {
    endpoints: Endpoints,
    plan: Plan,
    label: Label,
    lanes: Box<[Lane]>,
    slots: Box<[Slot]>,
    /// Lanes with injected operations whose completion is to be told.
    owed: u32,
    /// Receives that the provider had no room for yet.
    deferred: Vec<u32>,
    /// Polls since the last that brought something.
    idle: u32,
    delivery: Delivery,
    facts: Facts,
}

/// A lane's counts.
#[derive(Debug, Clone)]
struct Lane {
    /// Its first slot.
    first: usize,
    /// The number of the next operation.
    posted: u64,
    /// Its place in the ring.
    next: u32,
    /// All operations before this number were told to be complete.
    told: u64,
    /// The place in the ring of the first that was not.
    oldest: u32,
    /// All operations before this number were injected, and their completion is to be told.
    injected: u64,
    /// Operations since the last that was signalled.
    unsignalled: u32,
    /// The number of the other side's operation that the next posted receive will take.
    awaited: u64,
    /// Writes of the other side that arrived.
    heard: u64,
}

/// What the port knows of a slot.
#[derive(Debug, Clone, Copy)]
struct Slot {
    lane: u32,
    /// Of a receive, the bytes that came.
    length: u32,
    /// Whether its operation has completed before older ones.
    early: bool,
    operands: (u64, u64),
}

/// Opens a thread's endpoints and connects them to those of its counterpart. Belongs to the thread
/// that will drive them.
///
/// # Errors
/// [`Unavailable`]: there is no libfabric, provider or operation. Otherwise: messages are too long,
/// the other side does something else or gave up, or the provider's reason.
pub fn open(
    test: &RdmaTest,
    end: End,
    thread: u32,
    meeting: &Meeting,
) -> anyhow::Result<FabricPort> {
    let Device::Fabric(fabric) = &test.device else {
        anyhow::bail!("a test over verbs was given to libfabric");
    };
    let address = meeting.address();
    let found = find::find(test, fabric, end, address)?;
    let plan = Plan::new(test, fabric, &found)?;
    let delivery = offer::delivery(&found.offer, test.operation);
    let (provider, mut reduced) = (found.offer.provider, found.reduced);
    let domain = Domain::open(found.info)?;
    let endpoints = connect::connect(&domain, &plan, end, meeting)
        .with_context(|| format!("thread {thread} with libfabric's provider {provider}"))?;
    require_atomics(&endpoints, test.operation)?;
    reduced.extend(facts::reduced(&endpoints, &plan, test));
    let facts = facts::facts(&endpoints, &plan, reduced, found.inject_bytes, address)?;
    Ok(FabricPort::new(endpoints, plan, delivery, facts))
}

/// What the cases would do with an offer: the operations that it has, in which order they arrive, and
/// up to which size they are injected. Operations that defects of this version spoil say so.
#[must_use]
pub fn uses(info: &Info, version: Version) -> Vec<String> {
    let offer = Offer::of(info);
    let used = |(case, operation): (&str, Operation)| {
        let caps = offer::caps(operation);
        if info.caps() & caps != caps {
            return None;
        }
        if let Some(defect) = offer::defect(&offer.provider, operation, version) {
            return Some(format!("{case}: no: {defect}"));
        }
        let order = match offer::delivery(&offer, operation) {
            Delivery::InOrder => "in order",
            Delivery::Unordered => "in any order",
            Delivery::Lossy => "may be lost",
        };
        Some(match operation {
            Operation::Read => case.to_owned(),
            Operation::Send | Operation::Tagged => {
                let most = offer.inject_bytes.min(offer.max_message_bytes);
                format!("{case}: {order}: injected up to {most} B")
            }
            _ => format!("{case}: {order}"),
        })
    };
    let cases = [
        ("fabric_pingpong and fabric_stream", Operation::Send),
        ("--tagged", Operation::Tagged),
        ("fabric_rma write", Operation::Write),
        ("write_data", Operation::WriteData),
        ("read", Operation::Read),
        ("fabric_atomic", Operation::FetchAdd),
    ];
    cases.into_iter().filter_map(used).collect()
}

/// Whether libfabric and any provider are here.
#[must_use]
pub fn probe() -> Availability {
    let found = Library::load().map_err(|missing| missing.to_string());
    let any = found.and_then(|_| Query::default().find().map_err(|error| error.to_string()));
    match any {
        Ok(_) => Availability::Available,
        Err(reason) => Availability::Unavailable { reason },
    }
}

/// Capabilities do not tell which atomic operations a provider has.
fn require_atomics(endpoints: &Endpoints, operation: Operation) -> anyhow::Result<()> {
    let atomic = match operation {
        Operation::FetchAdd => Atomic::FetchAdd(1),
        Operation::CompareSwap => Atomic::CompareSwap(0, 1),
        _ => return Ok(()),
    };
    if endpoints.has_atomic(0, atomic)? {
        return Ok(());
    }
    let provider = endpoints.domain().info().provider();
    let text = format!("provider {provider} has no {operation:?} on numbers of 8 bytes");
    Err(Unavailable(text).into())
}

impl FabricPort {
    fn new(endpoints: Endpoints, plan: Plan, delivery: Delivery, facts: Facts) -> Self {
        let lanes = (0..plan.lanes).map(|lane| Lane {
            first: plan.first(lane),
            posted: 0,
            next: 0,
            told: 0,
            oldest: 0,
            injected: 0,
            unsignalled: 0,
            awaited: plan.receives.into(),
            heard: 0,
        });
        let mut slots = Vec::with_capacity(plan.slots());
        for lane in 0..plan.lanes {
            let slot = Slot {
                lane,
                length: 0,
                early: false,
                operands: (0, 0),
            };
            slots.resize(plan.first(lane + 1), slot);
        }
        Self {
            lanes: lanes.collect(),
            slots: slots.into(),
            label: Label::new(plan.lanes),
            owed: 0,
            deferred: Vec::with_capacity(plan.lanes as usize * plan.receives as usize),
            idle: 0,
            endpoints,
            plan,
            delivery,
            facts,
        }
    }

    /// The slot of a lane's `ahead`-th next operation.
    #[inline]
    fn slot_ahead(&self, lane: u32, ahead: u32) -> usize {
        let lane = &self.lanes[lane as usize];
        let mut place = lane.next + ahead;
        while place >= self.plan.depth {
            place -= self.plan.depth;
        }
        lane.first + place as usize
    }

    /// The place in a ring of the operation with a number.
    #[inline]
    fn place(&self, number: u64) -> usize {
        let depth = u64::from(self.plan.depth);
        // A division takes long where memory is watched.
        let place = if depth.is_power_of_two() {
            number & (depth - 1)
        } else {
            number % depth
        };
        place as usize
    }

    /// Posts a lane's next operation.
    #[inline]
    fn post_one(&mut self, index: u32, signal: bool) -> anyhow::Result<bool> {
        let lane = &mut self.lanes[index as usize];
        let (slot, number) = (lane.first + lane.next as usize, lane.posted);
        let length = self.plan.length;
        let offset = lane.next as usize * self.plan.stride;
        let transfer = match self.plan.operation {
            Operation::Send => Transfer::Send,
            Operation::Tagged => Transfer::Tagged(number),
            Operation::Write => Transfer::Write(offset),
            Operation::WriteData => Transfer::WriteData(offset, self.label.of(index, number)),
            Operation::Read | Operation::FetchAdd | Operation::CompareSwap => {
                return self.post_fetch(index, slot, offset);
            }
        };
        let posted = if self.plan.inject {
            self.endpoints.inject(slot, length, transfer)?
        } else if self.endpoints.free(slot) {
            let signal = signal || lane.unsignalled + 1 >= self.plan.longest_run;
            let posted = self.endpoints.transmit(slot, length, transfer, signal)?;
            if posted == libfabric_sys::Posted::Taken {
                lane.unsignalled = if signal { 0 } else { lane.unsignalled + 1 };
            }
            posted
        } else {
            return Ok(false);
        };
        if posted == libfabric_sys::Posted::Full {
            return Ok(false);
        }
        lane.advance(self.plan.depth);
        if self.plan.inject && signal {
            self.owed += u32::from(lane.injected == lane.told);
            lane.injected = lane.posted;
        }
        Ok(true)
    }

    #[inline]
    fn post_fetch(&mut self, lane: u32, slot: usize, offset: usize) -> anyhow::Result<bool> {
        if !self.endpoints.free(slot) {
            return Ok(false);
        }
        let (first, second) = self.slots[slot].operands;
        let posted = match self.plan.operation {
            Operation::FetchAdd => self.endpoints.atomic(slot, 0, Atomic::FetchAdd(first))?,
            Operation::CompareSwap => {
                let atomic = Atomic::CompareSwap(first, second);
                self.endpoints.atomic(slot, 0, atomic)?
            }
            _ => self.endpoints.read(slot, self.plan.length, offset)?,
        };
        let taken = posted == libfabric_sys::Posted::Taken;
        if taken {
            self.lanes[lane as usize].advance(self.plan.depth);
        }
        Ok(taken)
    }

    /// Tells of injected operations, which nobody else does; how many entries it took.
    #[cold]
    fn tell_injected(&mut self, into: &mut [Completion]) -> usize {
        let mut filled = 0;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.injected == lane.told {
                continue;
            }
            let Some(entry) = into.get_mut(filled) else {
                break;
            };
            let most = lane.injected - lane.told;
            let count = u32::try_from(most).unwrap_or(u32::MAX);
            *entry = Completion {
                lane: index as u32,
                completed: Completed::Posted {
                    first: lane.told,
                    count,
                },
            };
            filled += 1;
            lane.told += u64::from(count);
            self.owed -= u32::from(lane.injected == lane.told);
        }
        filled
    }

    /// Posts what there was no room for before.
    #[cold]
    fn post_deferred(&mut self) -> anyhow::Result<()> {
        while let Some(slot) = self.deferred.pop() {
            if !self.try_receive(slot)? {
                self.deferred.push(slot);
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn try_receive(&mut self, slot: u32) -> anyhow::Result<bool> {
        let index = slot as usize;
        let posted = if self.plan.operation == Operation::Tagged {
            let lane = &mut self.lanes[self.slots[index].lane as usize];
            let posted = self.endpoints.receive_tagged(index, lane.awaited, 0)?;
            if posted == libfabric_sys::Posted::Taken {
                lane.awaited += 1;
            }
            posted
        } else {
            self.endpoints.receive(index)?
        };
        Ok(posted == libfabric_sys::Posted::Taken)
    }

    /// An operation's error, and whether the other side's end is behind it.
    #[cold]
    fn explain(&mut self, error: libfabric_sys::Error) -> anyhow::Error {
        let error = anyhow::Error::from(error);
        match self.endpoints.peer_left() {
            Ok(true) => error.context("the other side has closed a connection"),
            _ => error,
        }
    }

    /// Nothing came for long: whether anybody is left to send something.
    #[cold]
    fn look_for_peer(&mut self) -> anyhow::Result<()> {
        self.idle = 0;
        if self.endpoints.peer_left()? {
            anyhow::bail!("the other side has closed a connection, and nothing more comes");
        }
        Ok(())
    }
}

impl Lane {
    #[inline]
    fn advance(&mut self, depth: u32) {
        self.posted += 1;
        self.next += 1;
        if self.next == depth {
            self.next = 0;
        }
    }

    /// Counts operations whose slots have become free, the last of them being `slot`, and tells which
    /// are complete in a row: buffers are used in that order.
    #[inline]
    fn land(
        &mut self,
        slot: usize,
        count: u32,
        slots: &mut [Slot],
        depth: u32,
    ) -> Option<Completed> {
        let place = (slot - self.first) as u32;
        let after = |place: u32, count: u32| {
            let next = place + count;
            if next >= depth { next - depth } else { next }
        };
        // The first of them.
        let begin = after(place, depth + 1 - count);
        if begin != self.oldest {
            let mut early = begin;
            for _ in 0..count {
                slots[self.first + early as usize].early = true;
                early = after(early, 1);
            }
            return None;
        }
        let mut row = count;
        self.oldest = after(begin, count);
        while slots[self.first + self.oldest as usize].early {
            slots[self.first + self.oldest as usize].early = false;
            self.oldest = after(self.oldest, 1);
            row += 1;
        }
        let first = self.told;
        self.told += u64::from(row);
        Some(Completed::Posted { first, count: row })
    }
}

impl Port for FabricPort {
    // Some providers have threads or hardware for that; polling them as well costs nothing.
    const POLL_TO_PROGRESS: bool = true;

    fn lanes(&self) -> u32 {
        self.plan.lanes
    }

    fn depth(&self) -> u32 {
        self.plan.depth
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    #[inline]
    fn outgoing(&mut self, lane: u32, ahead: u32) -> &mut [u8] {
        let slot = self.slot_ahead(lane, ahead);
        &mut self.endpoints.bytes(slot)[..self.plan.length]
    }

    #[inline]
    fn operands(&mut self, lane: u32, ahead: u32, compare_or_add: u64, swap: u64) {
        let slot = self.slot_ahead(lane, ahead);
        self.slots[slot].operands = (compare_or_add, swap);
    }

    #[inline]
    fn post(&mut self, lane: u32, count: u32, signal: bool) -> anyhow::Result<Posted> {
        for taken in 0..count {
            if !self.post_one(lane, signal && taken + 1 == count)? {
                return Ok(if taken == 0 {
                    Posted::Full
                } else {
                    Posted::Taken(taken)
                });
            }
        }
        Ok(Posted::Taken(count))
    }

    #[inline]
    fn poll(&mut self, into: &mut [Completion]) -> anyhow::Result<usize> {
        let mut filled = 0;
        if self.owed > 0 {
            filled = self.tell_injected(into);
        }
        if !self.deferred.is_empty() {
            self.post_deferred()?;
        }
        let Self {
            endpoints,
            plan,
            label,
            lanes,
            slots,
            ..
        } = self;
        let polled = endpoints.poll(into.len() - filled, |completion| {
            let told = match completion {
                libfabric_sys::Completion::Posted { slot, count } => {
                    let index = slots[slot].lane;
                    let lane = &mut lanes[index as usize];
                    let Some(completed) = lane.land(slot, count, slots, plan.depth) else {
                        return;
                    };
                    Completion {
                        lane: index,
                        completed,
                    }
                }
                libfabric_sys::Completion::Received {
                    slot,
                    length,
                    tag,
                    data,
                } => {
                    // No message is longer than its receive, and none longer than 4 GiB is asked for.
                    let length = length as u32;
                    slots[slot].length = length;
                    let lane = slots[slot].lane;
                    let data = match plan.operation {
                        Operation::Tagged => Some(tag),
                        Operation::WriteData => data.map(|data| {
                            let lane = &mut lanes[lane as usize];
                            let (_, low) = label.read(data);
                            lane.heard += 1;
                            label.widen(low, lane.heard - 1)
                        }),
                        _ => None,
                    };
                    Completion {
                        lane,
                        completed: Completed::Received {
                            slot: slot as u32,
                            length,
                            data,
                        },
                    }
                }
                libfabric_sys::Completion::Written { length, data } => {
                    let (index, low) = label.read(data);
                    // A label of no lane is not one of this test.
                    let Some(lane) = lanes.get_mut(index as usize) else {
                        return;
                    };
                    lane.heard += 1;
                    Completion {
                        lane: index,
                        completed: Completed::Received {
                            slot: NO_RECEIVE,
                            length: length as u32,
                            data: Some(label.widen(low, lane.heard - 1)),
                        },
                    }
                }
            };
            into[filled] = told;
            filled += 1;
        });
        if let Err(error) = polled {
            return Err(self.explain(error));
        }
        if filled == 0 {
            self.idle += 1;
            if self.idle >= LOOK {
                self.look_for_peer()?;
            }
        } else {
            self.idle = 0;
        }
        Ok(filled)
    }

    fn wait(&mut self, patience: Duration) -> anyhow::Result<()> {
        if self.owed > 0 || !self.deferred.is_empty() {
            return Ok(());
        }
        if self.endpoints.waits() {
            self.idle += SLEPT;
            self.endpoints.wait(patience)?;
        }
        Ok(())
    }

    #[inline]
    fn outcome(&mut self, lane: u32, number: u64) -> &[u8] {
        let slot = self.lanes[lane as usize].first + self.place(number);
        &self.endpoints.bytes(slot)[..self.plan.length]
    }

    #[inline]
    fn incoming(&mut self, slot: u32) -> &[u8] {
        // What came with a write is in the target, not in its receive.
        if self.plan.operation == Operation::WriteData {
            return &[];
        }
        let length = self.slots[slot as usize].length as usize;
        let bytes = self.endpoints.bytes(slot as usize);
        &bytes[..length.min(bytes.len())]
    }

    #[inline]
    fn post_receive(&mut self, slot: u32) -> anyhow::Result<()> {
        if slot != NO_RECEIVE && !self.try_receive(slot)? {
            self.deferred.push(slot);
        }
        Ok(())
    }

    #[inline]
    fn peek(&self, lane: u32, number: u64) -> u8 {
        let last = self.place(number) * self.plan.stride + self.plan.length - 1;
        self.endpoints.peek(lane as usize, last)
    }

    #[inline]
    fn target(&mut self, lane: u32, number: u64) -> &mut [u8] {
        let start = if self.plan.operation.atomic() {
            0
        } else {
            self.place(number) * self.plan.stride
        };
        let bytes = self.endpoints.target_bytes(lane as usize);
        &mut bytes[start..start + self.plan.length]
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }
}
