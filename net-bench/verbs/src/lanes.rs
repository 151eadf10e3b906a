//! The lanes of one thread: queue pairs, their memory, and the calls of the timed loops.
//!
//! Everything that a loop posts ([`work`]) is built before: a ring of requests per lane, each with
//! its buffer, and a table of receives. Posting sets what differs (the link to the next of a list,
//! the flag of the last, the number) and makes one call.

mod inline;
mod numbers;
mod work;

use crate::device::{Context, Domain};
use crate::error::Error;
use crate::manager::Connections;
use crate::memory::{Region, Table};
use crate::pair::{AddressHandle, PairShape, Peer, QKEY, QueuePair, Route};
use crate::queue::{BATCH, Channel, CompletionQueue, SharedReceives};
use crate::{Operation, Service};
use inline::most_inline;
use numbers::Numbers;
use rdma_sys::{
    ibv_access_flags, ibv_recv_wr, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc, ibv_wr_opcode,
    rdma_t, ud_t,
};
use std::ptr;
use std::rc::Rc;

/// Slots begin at multiples of this many bytes, so that no two share a cache line.
const STRIDE: usize = 64;

/// What a device puts before a datagram: the header by which it came (GRH).
const GRH: usize = 40;

/// Where a datagram's header begins in its slot, so that the payload begins a cache line.
const GRH_AT: usize = STRIDE - GRH;

/// More than any device takes into a request; it says how much it does.
const MOST_INLINE: u32 = 4096;

/// What lanes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The transport.
    pub service: Service,
    /// What is posted, by both sides.
    pub operation: Operation,
    /// How many lanes.
    pub lanes: u32,
    /// Operations that a lane may have in flight, and slots of its rings.
    pub depth: u32,
    /// Receives on each lane; without meaning for operations that take none.
    pub receives: u32,
    /// Payload bytes of an operation; 8 of an atomic one.
    pub length: usize,
    /// Bytes that requests shall be able to carry themselves; the device may have fewer.
    pub inline: u32,
    /// Whether all lanes take from one queue of receives.
    pub shared_receives: bool,
    /// Receives that are posted with one call.
    pub gather: u32,
    /// Whether [`Lanes::wait`] sleeps.
    pub events: bool,
    /// The completion vector, modulo as many as there are.
    pub vector: u32,
}

/// Whether operations were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// So many.
    Taken(u32),
    /// The ring is full: poll, and try again.
    Full,
}

/// A completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The lane.
    pub lane: u32,
    /// What completed.
    pub completed: Completed,
}

/// What completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// `count` operations of the lane, from number `first` on.
    Posted {
        /// The number of the first.
        first: u64,
        /// How many.
        count: u32,
    },
    /// A receive.
    Received {
        /// Its slot.
        slot: u32,
        /// Payload bytes.
        length: u32,
        /// The immediate data that came along.
        data: Option<u32>,
    },
}

/// A request with its buffer.
struct Request {
    wr: ibv_send_wr,
    sge: ibv_sge,
}

/// A receive with its buffer.
struct Receive {
    wr: ibv_recv_wr,
    sge: ibv_sge,
}

/// What is known of a receive.
#[derive(Debug, Clone, Copy)]
struct Slot {
    lane: u32,
    length: u32,
    posted: bool,
}

/// A queue pair and where it stands in its ring.
struct Lane {
    pair: QueuePair,
    requests: Table<Request>,
    /// Operations posted.
    posted: u64,
    /// Operations known to have completed.
    completed: u64,
    /// The next operation's place in the ring.
    head: u32,
    /// Operations posted after the last signalled one.
    unsignalled: u32,
}

impl Lane {
    #[inline]
    fn in_flight(&self) -> u32 {
        // At most the depth.
        (self.posted - self.completed) as u32
    }
}

/// The lanes of one thread. See the crate's documentation.
pub struct Lanes {
    // Dropped in this order: what uses something before what it uses.
    lanes: Box<[Lane]>,
    connections: Option<Connections>,
    peer: Option<AddressHandle>,
    shared: Option<SharedReceives>,
    sends: CompletionQueue,
    /// Without receives there are none.
    arrivals: Option<CompletionQueue>,
    channel: Option<Rc<Channel>>,
    outgoing: Region,
    incoming: Option<Region>,
    target: Option<Region>,
    domain: Rc<Domain>,
    shape: Shape,
    /// Distance of two slots in bytes; of receives there may be more between.
    stride: usize,
    receive_stride: usize,
    /// Slots of the target per lane.
    target_slots: u32,
    flags: u32,
    inline: u32,
    /// Signalled operations in flight.
    signalled: u32,
    /// How often completions were read.
    polls: u32,
    /// Whether the queue of receives is read first in the next poll.
    arrivals_first: bool,
    /// Room for what is read of a queue.
    entries: Table<ibv_wc>,
    slots: Box<[Slot]>,
    receives: Table<Receive>,
    /// Receives to be posted, linked from the first to the last, all of one lane unless shared.
    gathered: u32,
    gathered_lane: u32,
    first_gathered: *mut ibv_recv_wr,
    last_gathered: *mut ibv_recv_wr,
    numbers: Numbers,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Lanes {
    /// Makes queue pairs and memory on a device. They are connected afterwards.
    ///
    /// # Errors
    /// The transport lacks the operation; the device has less than the shape wants of something that
    /// its limits tell; there is not enough memory, or this process may not lock it.
    pub fn open(context: &Context, shape: Shape) -> Result<Self, Error> {
        check(context, &shape)?;
        let domain = Domain::open(context)?;
        let Shape {
            operation, length, ..
        } = shape;
        let receives = if operation.receives() {
            shape.receives
        } else {
            0
        };
        let all_receives = product(&[receives as usize, shape.lanes as usize])?;
        let Memory {
            outgoing,
            incoming,
            target,
            stride,
            receive_stride,
            target_slots,
        } = Memory::of(&domain, &shape, all_receives)?;
        let Queues {
            channel,
            sends,
            arrivals,
            shared,
        } = Queues::of(&domain, &shape, all_receives)?;
        let pair = |inline| PairShape {
            service: shape.service,
            requests: shape.depth,
            receives: if shared.is_some() { 0 } else { receives },
            inline,
            sends: &sends,
            arrivals: arrivals.as_ref().unwrap_or(&sends),
            shared: shared.as_ref(),
        };
        let inline = shape.inline.min(MOST_INLINE);
        let inline = most_inline(inline, |inline| {
            QueuePair::open(&domain, &pair(inline)).map(|pair| pair.inline)
        })?;
        let lane = |_| -> Result<Lane, Error> {
            Ok(Lane {
                pair: QueuePair::open(&domain, &pair(inline.asked))?,
                requests: table(shape.depth as usize)?,
                posted: 0,
                completed: 0,
                head: 0,
                unsignalled: 0,
            })
        };
        let lanes: Box<[Lane]> = (0..shape.lanes).map(lane).collect::<Result<_, _>>()?;
        let slots = (0..all_receives).map(|slot| Slot {
            lane: (slot / (receives as usize).max(1)) as u32,
            length: 0,
            posted: false,
        });
        // A device may grant more than it was asked for.
        let granted = inline.granted.min(shape.inline);
        let can_inline = granted > 0 && !operation.fetches() && length <= granted as usize;
        let mut opened = Self {
            numbers: Numbers::of(lanes.iter().map(|lane| lane.pair.number())),
            lanes,
            connections: None,
            peer: None,
            shared,
            sends,
            arrivals,
            channel,
            outgoing,
            incoming,
            target,
            domain,
            shape,
            stride,
            receive_stride,
            target_slots,
            flags: if can_inline {
                ibv_send_flags::IBV_SEND_INLINE.0
            } else {
                0
            },
            inline: granted,
            signalled: 0,
            polls: 0,
            arrivals_first: true,
            entries: table(BATCH)?,
            slots: slots.collect(),
            receives: table(all_receives)?,
            gathered: 0,
            gathered_lane: 0,
            first_gathered: ptr::null_mut(),
            last_gathered: ptr::null_mut(),
        };
        opened.build_requests();
        opened.build_receives();
        Ok(opened)
    }

    /// Fills in what all rounds of the ring have in common.
    fn build_requests(&mut self) {
        let Shape {
            operation, length, ..
        } = self.shape;
        let opcode = match operation {
            Operation::Send => ibv_wr_opcode::IBV_WR_SEND,
            Operation::Write => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
            Operation::WriteData => ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM,
            Operation::Read => ibv_wr_opcode::IBV_WR_RDMA_READ,
            Operation::FetchAdd => ibv_wr_opcode::IBV_WR_ATOMIC_FETCH_AND_ADD,
            Operation::CompareSwap => ibv_wr_opcode::IBV_WR_ATOMIC_CMP_AND_SWP,
        };
        let key = self.outgoing.local_key();
        for (index, lane) in self.lanes.iter().enumerate() {
            for slot in 0..self.shape.depth as usize {
                let at = (index * self.shape.depth as usize + slot) * self.stride;
                let request = lane.requests.at(slot);
                // SAFETY: the slot is in the table, which was zeroed, and all zeroes is a valid
                // request.
                let request = unsafe { &mut *request };
                request.sge = ibv_sge {
                    addr: self.outgoing.at(at).addr() as u64,
                    // At most the longest message of the port, a u32.
                    length: length as u32,
                    lkey: key,
                };
                request.wr.sg_list = &raw mut request.sge;
                // Some devices take an entry of no length for one of 2 GiB.
                request.wr.num_sge = i32::from(length > 0);
                request.wr.opcode = opcode;
            }
        }
    }

    fn build_receives(&mut self) {
        for slot in 0..self.slots.len() {
            // SAFETY: the slot is in the table, which was zeroed, and all zeroes is a valid receive.
            let receive = unsafe { &mut *self.receives.at(slot) };
            receive.wr.wr_id = slot as u64;
            receive.wr.sg_list = &raw mut receive.sge;
            // A write with data brings nothing into a receive.
            let Some(incoming) = &self.incoming else {
                continue;
            };
            let (before, header) = match self.shape.service {
                Service::Ud => (GRH_AT, GRH),
                Service::Rc | Service::Uc => (0, 0),
            };
            let length = self.shape.length + header;
            let at = slot * self.receive_stride + before;
            receive.sge = ibv_sge {
                addr: incoming.at(at).addr() as u64,
                length: length as u32,
                lkey: incoming.local_key(),
            };
            receive.wr.num_sge = i32::from(length > 0);
        }
    }

    /// What the lanes are made of.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes that requests can carry themselves.
    #[must_use]
    pub fn inline_bytes(&self) -> u32 {
        self.inline
    }

    /// Whether these operations' payload goes with the request.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.flags != 0
    }

    /// For how many completions there is room: of operations, and of receives.
    #[must_use]
    pub fn completion_entries(&self) -> (u32, Option<u32>) {
        let arrivals = self.arrivals.as_ref();
        (self.sends.entries(), arrivals.map(CompletionQueue::entries))
    }

    /// The numbers of the queue pairs, in the order of the lanes.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        self.lanes.iter().map(|lane| lane.pair.number()).collect()
    }

    /// The address and the key of what the peer works on; zeroes if that is nothing.
    #[must_use]
    pub fn memory(&self) -> (u64, u32) {
        self.target.as_ref().map_or((0, 0), |target| {
            (target.at(0).addr() as u64, target.remote_key())
        })
    }

    /// Aims all operations at the memory of a peer whose lanes are made like these.
    pub fn aim(&mut self, address: u64, key: u32) {
        let slots = self.target_slots as usize;
        for (index, lane) in self.lanes.iter().enumerate() {
            for slot in 0..self.shape.depth as usize {
                let at = (index * slots + slot % slots) * self.stride;
                // SAFETY: the slot is in the table.
                let request = unsafe { &mut *lane.requests.at(slot) };
                let remote_addr = address.wrapping_add(at as u64);
                if self.shape.operation.is_atomic() {
                    request.wr.wr.atomic = rdma_sys::atomic_t {
                        remote_addr,
                        compare_add: 0,
                        swap: 0,
                        rkey: key,
                    };
                } else if self.shape.operation.has_target() {
                    request.wr.wr.rdma = rdma_t {
                        remote_addr,
                        rkey: key,
                    };
                }
            }
        }
    }

    /// Gives the queue pairs their port.
    ///
    /// # Errors
    /// The device's reason.
    pub fn initialise(&self, port: u8) -> Result<(), Error> {
        self.lanes
            .iter()
            .try_for_each(|lane| lane.pair.initialise(port))
    }

    /// Connects each lane with the peer of its number. `first_packet` numbers this side's packets.
    ///
    /// # Errors
    /// Not as many peers as lanes; or the device's reason, such as that there is no route.
    pub fn connect(
        &mut self,
        route: &Route,
        peers: &[Peer],
        first_packet: u32,
    ) -> Result<(), Error> {
        if peers.len() != self.lanes.len() {
            return Err(Error::Refused(format!(
                "{} lanes here, {} at the other side",
                self.lanes.len(),
                peers.len()
            )));
        }
        for (lane, peer) in self.lanes.iter().zip(peers) {
            lane.pair.connect(route, peer, first_packet)?;
        }
        if self.shape.service == Service::Ud {
            let handle = AddressHandle::open(&self.domain, route)?;
            self.address(handle, peers.iter().map(|peer| (peer.number, QKEY)))?;
        }
        Ok(())
    }

    /// Puts the peer's address into all requests, and the number and key of each lane's counterpart.
    pub(crate) fn address(
        &mut self,
        handle: AddressHandle,
        peers: impl ExactSizeIterator<Item = (u32, u32)>,
    ) -> Result<(), Error> {
        if peers.len() != self.lanes.len() {
            return Err(Error::Refused(format!(
                "{} lanes here, {} at the other side",
                self.lanes.len(),
                peers.len()
            )));
        }
        for (lane, (remote_qpn, remote_qkey)) in self.lanes.iter().zip(peers) {
            for slot in 0..self.shape.depth as usize {
                // SAFETY: the slot is in the table.
                let request = unsafe { &mut *lane.requests.at(slot) };
                request.wr.wr.ud = ud_t {
                    ah: handle.raw(),
                    remote_qpn,
                    remote_qkey,
                };
            }
        }
        self.peer = Some(handle);
        Ok(())
    }

    /// The queue pair of a lane, for the connection manager.
    pub(crate) fn pair(&self, lane: usize) -> &QueuePair {
        &self.lanes[lane].pair
    }

    /// Keeps the connections as long as the lanes.
    pub(crate) fn keep(&mut self, connections: Connections) {
        self.connections = Some(connections);
    }

    pub(crate) fn domain(&self) -> &Rc<Domain> {
        &self.domain
    }

    pub(crate) fn context(&self) -> &Context {
        &self.domain.context
    }

    /// Posts all receives.
    ///
    /// # Errors
    /// See [`Lanes::post_receive`].
    pub fn post_receives(&mut self) -> Result<(), Error> {
        (0..self.slots.len() as u32).try_for_each(|slot| self.post_receive(slot))?;
        self.flush()
    }
}

/// The memory of lanes, and where in it what is.
struct Memory {
    outgoing: Region,
    incoming: Option<Region>,
    target: Option<Region>,
    stride: usize,
    receive_stride: usize,
    target_slots: u32,
}

impl Memory {
    /// With so many receives over all lanes.
    fn of(domain: &Rc<Domain>, shape: &Shape, receives: usize) -> Result<Self, Error> {
        let operation = shape.operation;
        let (lanes, depth) = (shape.lanes as usize, shape.depth as usize);
        let stride = shape.length.next_multiple_of(STRIDE).max(STRIDE);
        let receive_stride = match shape.service {
            Service::Ud => stride + STRIDE,
            Service::Rc | Service::Uc => stride,
        };
        let write = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0;
        let rings = product(&[lanes, depth, stride])?;
        let outgoing = Region::new(domain, "what is sent", rings, write)?;
        let incoming = (operation == Operation::Send).then(|| {
            let bytes = product(&[receives, receive_stride])?;
            Region::new(domain, "what is received", bytes, write)
        });
        // All atomic operations of a lane work on one counter.
        let target_slots = if operation.is_atomic() {
            1
        } else {
            shape.depth
        };
        let target = operation.has_target().then(|| {
            let bytes = product(&[lanes, target_slots as usize, stride])?;
            let access = write | remote_access(operation);
            Region::new(domain, "what the peer works on", bytes, access)
        });
        Ok(Self {
            outgoing,
            incoming: incoming.transpose()?,
            target: target.transpose()?,
            stride,
            receive_stride,
            target_slots,
        })
    }
}

/// The queues that lanes have in common.
struct Queues {
    channel: Option<Rc<Channel>>,
    sends: CompletionQueue,
    arrivals: Option<CompletionQueue>,
    shared: Option<SharedReceives>,
}

impl Queues {
    /// With so many receives over all lanes; without any there is no queue of arrivals.
    fn of(domain: &Rc<Domain>, shape: &Shape, receives: usize) -> Result<Self, Error> {
        let context = &domain.context;
        let channel = shape.events.then(|| Channel::open(context)).transpose()?;
        let queue = |entries: usize| {
            let entries = u32::try_from(entries).unwrap_or(u32::MAX);
            CompletionQueue::open(context, entries, channel.as_ref(), shape.vector)
        };
        let sends = queue(product(&[shape.lanes as usize, shape.depth as usize])?)?;
        let arrivals = (receives > 0).then(|| queue(receives)).transpose()?;
        let shared = (receives > 0 && shape.shared_receives).then(|| {
            let requests = u32::try_from(receives).unwrap_or(u32::MAX);
            SharedReceives::open(domain, requests)
        });
        Ok(Self {
            sends,
            arrivals,
            shared: shared.transpose()?,
            channel,
        })
    }
}

fn remote_access(operation: Operation) -> u32 {
    let access = match operation {
        Operation::Send => return 0,
        Operation::Write | Operation::WriteData => ibv_access_flags::IBV_ACCESS_REMOTE_WRITE,
        Operation::Read => ibv_access_flags::IBV_ACCESS_REMOTE_READ,
        Operation::FetchAdd | Operation::CompareSwap => ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC,
    };
    access.0
}

fn table<T>(count: usize) -> Result<Table<T>, Error> {
    Table::new(count)
        .ok_or_else(|| Error::Refused(format!("there is no memory for {count} requests")))
}

/// A size in memory.
fn product(factors: &[usize]) -> Result<usize, Error> {
    let product = factors
        .iter()
        .try_fold(1_usize, |product, factor| product.checked_mul(*factor));
    product.ok_or_else(|| {
        Error::Refused(
            "so many lanes of that depth and length fit into no memory: take less of one"
                .to_owned(),
        )
    })
}

/// What no device could do, or this one cannot.
fn check(context: &Context, shape: &Shape) -> Result<(), Error> {
    let Shape {
        service, operation, ..
    } = *shape;
    let refuse = |words: String| Err(Error::Refused(words));
    if !operation.is_of(service) {
        return refuse(format!(
            "the transport {service} has no operation {operation}: RC has all, UC send and write, UD \
             send"
        ));
    }
    if operation.is_atomic() && shape.length != 8 {
        return refuse(format!(
            "a {operation} works on 8 bytes, not {}",
            shape.length
        ));
    }
    if operation.is_atomic() && !context.limits().atomics {
        return refuse(format!(
            "device {} has no atomic operations",
            context.name()
        ));
    }
    if shape.lanes == 0 || shape.depth == 0 || (operation.receives() && shape.receives == 0) {
        return refuse("no lanes, no depth or no receives".to_owned());
    }
    if u32::try_from(shape.length).is_err() {
        return refuse(format!("messages of {} bytes are too long", shape.length));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_have_the_operations_that_their_definition_gives_them() {
        use Operation::*;
        let all = [Send, Write, WriteData, Read, FetchAdd, CompareSwap];
        let of = |service| all.iter().filter(|o| o.is_of(service)).count();
        assert_eq!(
            [of(Service::Rc), of(Service::Uc), of(Service::Ud)],
            [6, 3, 1]
        );
    }
}
