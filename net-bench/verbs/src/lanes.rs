//! The lanes of one thread: queue pairs, their memory, and the calls of the timed loops.
//!
//! Everything that a loop posts was built before: a ring of requests per lane, each with its buffer,
//! and a table of receives. Posting sets what differs (the link to the next of a list, the flag of
//! the last, the number) and makes one call.

use crate::device::{Context, Domain};
use crate::error::{Error, meaning, text};
use crate::manager::Connections;
use crate::memory::{Region, Table};
use crate::pair::{AddressHandle, PairShape, Peer, QKEY, QueuePair, Route};
use crate::queue::{BATCH, Channel, CompletionQueue, SharedReceives};
use crate::{Operation, Service};
use rdma_sys::{
    ibv_access_flags, ibv_post_recv, ibv_post_send, ibv_post_srq_recv, ibv_qp, ibv_recv_wr,
    ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wc, ibv_wc_flags, ibv_wc_status, ibv_wr_opcode,
    imm_data_invalidated_rkey_union_t, rdma_t, ud_t,
};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Slots begin at multiples of this many bytes, so that no two share a cache line.
const STRIDE: usize = 64;

/// What a device puts before a datagram: the header by which it came (GRH).
const GRH: usize = 40;

/// Where a datagram's header begins in its slot, so that the payload begins a cache line.
const GRH_AT: usize = STRIDE - GRH;

/// Every so many polls the queue of sends is read even if nothing is expected there.
const FAILURES_SOUGHT_EVERY: u32 = 64;

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
    /// Whether sends are looked at first in the next poll, since receives left them no room.
    sends_first: bool,
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

/// Lanes by the numbers of their queue pairs: a table with open addressing, at most half full.
struct Numbers {
    entries: Box<[(u32, u32)]>,
}

impl Numbers {
    /// A number that no queue pair has: they have 24 bits.
    const NONE: u32 = u32::MAX;

    fn of(numbers: impl ExactSizeIterator<Item = u32>) -> Self {
        let room = (2 * numbers.len()).next_power_of_two();
        let mut entries = vec![(Self::NONE, 0); room].into_boxed_slice();
        for (lane, number) in (0..).zip(numbers) {
            let mut place = number as usize & (room - 1);
            while entries[place].0 != Self::NONE {
                place = (place + 1) & (room - 1);
            }
            entries[place] = (number, lane);
        }
        Self { entries }
    }

    #[inline]
    fn lane(&self, number: u32) -> Option<u32> {
        let last = self.entries.len() - 1;
        let mut place = number as usize & last;
        loop {
            let (found, lane) = self.entries[place];
            if found == number {
                return Some(lane);
            }
            if found == Self::NONE {
                return None;
            }
            place = (place + 1) & last;
        }
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
        let with_receives = operation.receives();
        let receives = if with_receives { shape.receives } else { 0 };
        let all_receives = product(&[receives as usize, shape.lanes as usize])?;
        let stride = length.next_multiple_of(STRIDE).max(STRIDE);
        let receive_stride = match shape.service {
            Service::Ud => stride + STRIDE,
            Service::Rc | Service::Uc => stride,
        };
        let rings = product(&[shape.lanes as usize, shape.depth as usize, stride])?;
        let write = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0;
        let outgoing = Region::new(&domain, "what is sent", rings, write)?;
        let incoming = (operation == Operation::Send).then(|| {
            let bytes = product(&[all_receives, receive_stride])?;
            Region::new(&domain, "what is received", bytes, write)
        });
        // All atomic operations of a lane work on one counter.
        let target_slots = if operation.is_atomic() {
            1
        } else {
            shape.depth
        };
        let target = operation.has_target().then(|| {
            let bytes = product(&[shape.lanes as usize, target_slots as usize, stride])?;
            let access = write | remote_access(operation);
            Region::new(&domain, "what the peer works on", bytes, access)
        });
        let channel = shape.events.then(|| Channel::open(context)).transpose()?;
        let queue = |entries: usize| {
            let entries = u32::try_from(entries).unwrap_or(u32::MAX);
            CompletionQueue::open(context, entries, channel.as_ref(), shape.vector)
        };
        let sends = queue(product(&[shape.lanes as usize, shape.depth as usize])?)?;
        let arrivals = with_receives.then(|| queue(all_receives)).transpose()?;
        let shared = (with_receives && shape.shared_receives).then(|| {
            let requests = u32::try_from(all_receives).unwrap_or(u32::MAX);
            SharedReceives::open(&domain, requests)
        });
        let shared = shared.transpose()?;
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
            incoming: incoming.transpose()?,
            target: target.transpose()?,
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
            sends_first: false,
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
            self.address(route, peers)?;
        }
        Ok(())
    }

    /// Puts the peers' addresses into all requests.
    fn address(&mut self, route: &Route, peers: &[Peer]) -> Result<(), Error> {
        let handle = AddressHandle::open(&self.domain, route)?;
        for (lane, peer) in self.lanes.iter().zip(peers) {
            for slot in 0..self.shape.depth as usize {
                // SAFETY: the slot is in the table.
                let request = unsafe { &mut *lane.requests.at(slot) };
                request.wr.wr.ud = ud_t {
                    ah: handle.raw(),
                    remote_qpn: peer.number,
                    remote_qkey: QKEY,
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

    /// A number's place in a ring.
    #[inline]
    fn place(number: u64, slots: u32) -> usize {
        let slots = u64::from(slots);
        // A division takes longer than the check.
        let place = if slots.is_power_of_two() {
            number & (slots - 1)
        } else {
            number % slots
        };
        place as usize
    }

    /// The place in the ring of a lane's `ahead`-th next operation, which is not in flight.
    #[inline]
    fn next_place(&self, lane: u32, ahead: u32) -> usize {
        let depth = self.shape.depth;
        let lane = &self.lanes[lane as usize];
        assert!(
            ahead < depth - lane.in_flight(),
            "operation {ahead} from now is in flight"
        );
        let place = lane.head + ahead;
        (if place >= depth { place - depth } else { place }) as usize
    }

    #[inline]
    fn ring(&self, lane: u32, place: usize) -> *mut u8 {
        let first = lane as usize * self.shape.depth as usize;
        self.outgoing.at((first + place) * self.stride)
    }

    /// The buffer of a lane's `ahead`-th next operation.
    ///
    /// # Panics
    /// There is no such lane, or the buffer is in flight.
    #[inline]
    #[must_use]
    pub fn outgoing(&mut self, lane: u32, ahead: u32) -> &mut [u8] {
        let place = self.next_place(lane, ahead);
        // SAFETY: the lane exists and the place is in its ring, so the slot is in the region; no
        // operation works on it, and the borrow keeps everyone else out.
        unsafe { std::slice::from_raw_parts_mut(self.ring(lane, place), self.shape.length) }
    }

    /// Says what a lane's `ahead`-th next atomic operation works with; for others it does nothing.
    ///
    /// # Panics
    /// As [`Lanes::outgoing`].
    #[inline]
    pub fn operands(&mut self, lane: u32, ahead: u32, compare_or_add: u64, swap: u64) {
        let place = self.next_place(lane, ahead);
        if self.shape.operation.is_atomic() {
            // SAFETY: the place is in the table, and no call reads it at present. For an atomic
            // operation this is the union's part in use.
            unsafe {
                let request = self.lanes[lane as usize].requests.at(place);
                (*request).wr.wr.atomic.compare_add = compare_or_add;
                (*request).wr.wr.atomic.swap = swap;
            }
        }
    }

    /// Posts a lane's next operations, at most `count`, with one call. With `signal` the last of them
    /// completes, for all before it too. Without, none does, unless nothing else would ever make room
    /// in a ring that is full.
    ///
    /// # Errors
    /// The device's reason.
    ///
    /// # Panics
    /// There is no such lane.
    #[inline]
    pub fn post(&mut self, lane_index: u32, count: u32, signal: bool) -> Result<Posted, Error> {
        let depth = self.shape.depth;
        let with_data = self.shape.operation == Operation::WriteData;
        let lane = &mut self.lanes[lane_index as usize];
        let count = count.min(depth - lane.in_flight());
        if count == 0 {
            return Ok(Posted::Full);
        }
        let signal = signal || lane.unsignalled + count == depth;
        let first = lane.head;
        let mut place = first;
        for step in 0..count {
            let request = lane.requests.at(place as usize);
            let number = lane.posted + u64::from(step);
            place = if place + 1 == depth { 0 } else { place + 1 };
            let last = step + 1 == count;
            // SAFETY: both places are in the table, and no call reads it at present.
            unsafe {
                let wr = &raw mut (*request).wr;
                (*wr).next = if last {
                    ptr::null_mut()
                } else {
                    &raw mut (*lane.requests.at(place as usize)).wr
                };
                (*wr).send_flags = if last && signal {
                    self.flags | ibv_send_flags::IBV_SEND_SIGNALED.0
                } else {
                    self.flags
                };
                (*wr).wr_id = u64::from(lane_index) << 32 | u64::from(number as u32);
                if with_data {
                    (*wr).imm_data_invalidated_rkey_union = imm_data_invalidated_rkey_union_t {
                        imm_data: (number as u32).to_be(),
                    };
                }
            }
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair is open, the list ends, and its buffers stay in place and untouched
        // until it completes.
        let returned = unsafe {
            let request = lane.requests.at(first as usize);
            ibv_post_send(lane.pair.raw(), &raw mut (*request).wr, &raw mut bad)
        };
        if returned != 0 {
            return self.refused(lane_index, returned, bad);
        }
        lane.posted += u64::from(count);
        lane.head = place;
        if signal {
            lane.unsignalled = 0;
            self.signalled += 1;
        } else {
            lane.unsignalled += count;
        }
        Ok(Posted::Taken(count))
    }

    /// What of a list was posted, if the device did not take all of it. The last is not among it,
    /// nor its signal.
    #[cold]
    fn refused(
        &mut self,
        lane_index: u32,
        returned: i32,
        bad: *mut ibv_send_wr,
    ) -> Result<Posted, Error> {
        let depth = self.shape.depth;
        let operation = self.shape.operation;
        let lane = &mut self.lanes[lane_index as usize];
        let mut taken = 0;
        let mut place = lane.head;
        // SAFETY: the places are in the table; the list ends with a null pointer.
        unsafe {
            let mut request = &raw mut (*lane.requests.at(place as usize)).wr;
            while !request.is_null() && request != bad {
                request = (*request).next;
                place = if place + 1 == depth { 0 } else { place + 1 };
                taken += 1;
            }
        }
        let room_comes = lane.in_flight() > lane.unsignalled;
        let full = returned.abs() == libc::ENOMEM && room_comes;
        if bad.is_null() || !full {
            let what = format!("ibv_post_send of a {operation} on lane {lane_index}");
            return Err(Error::returned(what, returned));
        }
        if taken == 0 {
            return Ok(Posted::Full);
        }
        lane.posted += u64::from(taken);
        lane.head = place;
        lane.unsignalled += taken;
        Ok(Posted::Taken(taken))
    }

    /// Posts a receive; up to [`Shape::gather`] are gathered, and posted at the next poll at the
    /// latest.
    ///
    /// # Errors
    /// The device's reason.
    ///
    /// # Panics
    /// There is no such slot, or it is posted already.
    #[inline]
    pub fn post_receive(&mut self, slot: u32) -> Result<(), Error> {
        let state = &mut self.slots[slot as usize];
        assert!(!state.posted, "receive {slot} is posted already");
        let lane = state.lane;
        if self.gathered > 0 && lane != self.gathered_lane && self.shared.is_none() {
            self.flush()?;
        }
        self.slots[slot as usize].posted = true;
        self.gathered_lane = lane;
        // SAFETY: the slot is in the table; the last gathered one is in it too, and no call reads
        // the table at present.
        unsafe {
            let wr = &raw mut (*self.receives.at(slot as usize)).wr;
            (*wr).next = ptr::null_mut();
            if self.gathered == 0 {
                self.first_gathered = wr;
            } else {
                (*self.last_gathered).next = wr;
            }
            self.last_gathered = wr;
        }
        self.gathered += 1;
        if self.gathered >= self.shape.gather {
            self.flush()?;
        }
        Ok(())
    }

    /// Posts the receives that were gathered.
    #[inline]
    fn flush(&mut self) -> Result<(), Error> {
        if self.gathered == 0 {
            return Ok(());
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queues are open; the list ends, and its buffers stay in place and untouched
        // until they complete.
        let returned = unsafe {
            match &self.shared {
                Some(shared) => ibv_post_srq_recv(shared.raw(), self.first_gathered, &raw mut bad),
                None => {
                    let pair: *mut ibv_qp = self.lanes[self.gathered_lane as usize].pair.raw();
                    ibv_post_recv(pair, self.first_gathered, &raw mut bad)
                }
            }
        };
        self.gathered = 0;
        if returned != 0 {
            let what = format!("posting receives on lane {}", self.gathered_lane);
            return Err(Error::returned(what, returned));
        }
        Ok(())
    }

    /// Reads completions, as many as there is room for and at most [`BATCH`] of each kind.
    ///
    /// # Errors
    /// An operation failed: which, and why.
    #[inline]
    pub fn poll<E: From<Completion>>(&mut self, into: &mut [E]) -> Result<usize, Error> {
        self.flush()?;
        let mut count = 0;
        let sends_first = std::mem::take(&mut self.sends_first);
        if sends_first {
            count = self.poll_sends(into)?;
        }
        if self.arrivals.is_some() {
            count += self.poll_arrivals(&mut into[count..])?;
            self.sends_first = count == into.len() && self.signalled > 0;
        }
        self.polls = self.polls.wrapping_add(1);
        // An operation that is not signalled completes nevertheless when it fails.
        let may_have_failed = self.polls.is_multiple_of(FAILURES_SOUGHT_EVERY);
        if !sends_first && (self.signalled > 0 || may_have_failed) {
            count += self.poll_sends(&mut into[count..])?;
        }
        Ok(count)
    }

    #[inline]
    fn poll_sends<E: From<Completion>>(&mut self, into: &mut [E]) -> Result<usize, Error> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut entries = [const { MaybeUninit::<ibv_wc>::uninit() }; BATCH];
        let read = self.sends.read(&mut entries, into.len())?;
        for (entry, place) in entries[..read].iter().zip(&mut *into) {
            // SAFETY: so many of them were filled in.
            let entry = unsafe { entry.assume_init_ref() };
            if entry.status != ibv_wc_status::IBV_WC_SUCCESS {
                return Err(self.failure(entry, true));
            }
            let index = (entry.wr_id >> 32) as u32;
            let lane = &mut self.lanes[index as usize];
            let (first, count) = since(lane.completed, entry.wr_id as u32);
            lane.completed += u64::from(count);
            self.signalled -= 1;
            *place = E::from(Completion {
                lane: index,
                completed: Completed::Posted { first, count },
            });
        }
        Ok(read)
    }

    #[inline]
    fn poll_arrivals<E: From<Completion>>(&mut self, into: &mut [E]) -> Result<usize, Error> {
        let (Some(arrivals), false) = (&self.arrivals, into.is_empty()) else {
            return Ok(0);
        };
        let mut entries = [const { MaybeUninit::<ibv_wc>::uninit() }; BATCH];
        let read = arrivals.read(&mut entries, into.len())?;
        let header = match self.shape.service {
            Service::Ud => GRH as u32,
            Service::Rc | Service::Uc => 0,
        };
        for (entry, place) in entries[..read].iter().zip(&mut *into) {
            // SAFETY: so many of them were filled in.
            let entry = unsafe { entry.assume_init_ref() };
            if entry.status != ibv_wc_status::IBV_WC_SUCCESS {
                return Err(self.failure(entry, false));
            }
            let slot = entry.wr_id as u32;
            let length = entry.byte_len.saturating_sub(header);
            let state = &mut self.slots[slot as usize];
            state.posted = false;
            state.length = length;
            if self.shared.is_some() {
                state.lane = self.numbers.lane(entry.qp_num).unwrap_or(0);
            }
            let with_data = entry.wc_flags & ibv_wc_flags::IBV_WC_WITH_IMM.0 != 0;
            // SAFETY: with this flag it is the union's part in use.
            let data = with_data
                .then(|| u32::from_be(unsafe { entry.imm_data_invalidated_rkey_union.imm_data }));
            *place = E::from(Completion {
                lane: state.lane,
                completed: Completed::Received { slot, length, data },
            });
        }
        Ok(read)
    }

    /// The error of a completion. What was flushed failed because of something else, which may be
    /// among the completions that were not read yet.
    #[cold]
    fn failure(&self, entry: &ibv_wc, of_sends: bool) -> Error {
        let flushed = ibv_wc_status::IBV_WC_WR_FLUSH_ERR;
        if entry.status == flushed {
            let queues = [(Some(&self.sends), true), (self.arrivals.as_ref(), false)];
            for (queue, of_sends) in queues {
                let mut entries = [const { MaybeUninit::<ibv_wc>::uninit() }; BATCH];
                while let Some(Ok(read @ 1..)) = queue.map(|queue| queue.read(&mut entries, BATCH))
                {
                    for entry in &entries[..read] {
                        // SAFETY: so many of them were filled in.
                        let entry = unsafe { entry.assume_init_ref() };
                        let fine = ibv_wc_status::IBV_WC_SUCCESS;
                        if entry.status != fine && entry.status != flushed {
                            return self.completion_error(entry, of_sends);
                        }
                    }
                }
            }
        }
        self.completion_error(entry, of_sends)
    }

    fn completion_error(&self, entry: &ibv_wc, of_sends: bool) -> Error {
        let what = if of_sends {
            let lane = (entry.wr_id >> 32) as u32;
            let completed = self
                .lanes
                .get(lane as usize)
                .map_or(0, |lane| lane.completed);
            let (first, count) = since(completed, entry.wr_id as u32);
            let number = first + u64::from(count) - 1;
            format!("{} {number} on lane {lane}", self.shape.operation)
        } else {
            let lane = self.numbers.lane(entry.qp_num).unwrap_or(0);
            format!("a receive (slot {}) on lane {lane}", entry.wr_id)
        };
        // SAFETY: the function takes any number, and returns text that is never freed.
        let status = unsafe { text((self.domain.verbs().ibv_wc_status_str)(entry.status)) };
        Error::Completion {
            what,
            status: status.unwrap_or_else(|| "unknown status".to_owned()),
            code: entry.status,
            vendor: entry.vendor_err,
            remedy: meaning(entry.status).to_owned(),
        }
    }

    /// Sleeps until there may be something to poll, at most some time; without events it returns at
    /// once. It also returns at once when it has just asked for events, since what completed before
    /// makes none.
    ///
    /// # Errors
    /// The system's reason.
    pub fn wait(&mut self, patience: Duration) -> Result<(), Error> {
        if self.channel.is_none() {
            return Ok(());
        }
        self.flush()?;
        let waiting = [
            self.arrivals.as_ref(),
            (self.signalled > 0).then_some(&self.sends),
        ];
        let mut armed = true;
        for queue in waiting.into_iter().flatten() {
            armed &= queue.arm()?;
        }
        if !armed {
            return Ok(());
        }
        let told = match &self.channel {
            Some(channel) => channel.wait(patience)?,
            None => None,
        };
        let queues = [Some(&self.sends), self.arrivals.as_ref()];
        let told = queues
            .into_iter()
            .flatten()
            .find(|queue| Some(queue.raw()) == told);
        if let Some(queue) = told {
            queue.told();
            // Before what is there is polled, so that nothing falls between.
            queue.arm()?;
        }
        Ok(())
    }

    /// The payload of a lane's operation that has completed, and whose buffer was not posted again.
    ///
    /// # Panics
    /// There is no such lane, or the buffer is in flight or belongs to another operation.
    #[inline]
    #[must_use]
    pub fn outcome(&mut self, lane: u32, number: u64) -> &[u8] {
        let state = &self.lanes[lane as usize];
        assert!(
            number < state.completed && state.posted <= number + u64::from(self.shape.depth),
            "operation {number} has not completed, or its buffer was posted again"
        );
        let place = Self::place(number, self.shape.depth);
        // SAFETY: the lane exists and the place is in its ring, so the slot is in the region; the
        // operation has completed, and none was posted on it since.
        unsafe { std::slice::from_raw_parts(self.ring(lane, place), self.shape.length) }
    }

    /// What a receive that has completed brought; of a write with data nothing, that is in the
    /// target.
    ///
    /// # Panics
    /// There is no such slot, or it is posted.
    #[inline]
    #[must_use]
    pub fn incoming(&mut self, slot: u32) -> &[u8] {
        let state = self.slots[slot as usize];
        assert!(!state.posted, "receive {slot} is posted");
        let Some(incoming) = &self.incoming else {
            return &[];
        };
        let before = match self.shape.service {
            Service::Ud => STRIDE,
            Service::Rc | Service::Uc => 0,
        };
        let at = incoming.at(slot as usize * self.receive_stride + before);
        let length = self.shape.length.min(state.length as usize);
        // SAFETY: the slot is in the region; the device works on it only while it is posted.
        unsafe { std::slice::from_raw_parts(at, length) }
    }

    /// Where the peer's operation works.
    #[inline]
    fn target_at(&self, lane: u32, number: u64) -> Option<*mut u8> {
        let target = self.target.as_ref()?;
        assert!(lane < self.shape.lanes, "there is no lane {lane}");
        let first = lane as usize * self.target_slots as usize;
        let place = Self::place(number, self.target_slots);
        Some(target.at((first + place) * self.stride))
    }

    /// The last byte of what the peer's operation `number` fills, as it is in memory; what came
    /// before it in that operation is seen by whoever sees it.
    ///
    /// # Panics
    /// There is no such lane.
    #[inline]
    #[must_use]
    pub fn peek(&self, lane: u32, number: u64) -> u8 {
        let last = self.shape.length.wrapping_sub(1);
        match self.target_at(lane, number) {
            Some(start) if self.shape.length > 0 => {
                // SAFETY: the byte is in the slot; the device changes it at any time, which an atomic
                // load allows for.
                unsafe { AtomicU8::from_ptr(start.wrapping_add(last)) }.load(Ordering::Acquire)
            }
            _ => 0,
        }
    }

    /// The memory in which the peer's operation `number` on a lane works; the peer must not be at
    /// it. Empty for messages.
    ///
    /// # Panics
    /// There is no such lane.
    #[inline]
    #[must_use]
    pub fn target(&mut self, lane: u32, number: u64) -> &mut [u8] {
        match self.target_at(lane, number) {
            // SAFETY: the slot is in the region, and the borrow keeps this side out. The peer is
            // outside of what this program's memory model knows: if it works on the slot against
            // the rule, bytes change under the reference, as they do in C.
            Some(start) => unsafe { std::slice::from_raw_parts_mut(start, self.shape.length) },
            None => &mut [],
        }
    }
}

/// The operations that a signalled one stands for: those after the last that are known to have
/// completed, up to the one with these low bits of its number.
#[inline]
fn since(completed: u64, last: u32) -> (u64, u32) {
    let count = last.wrapping_sub(completed as u32).wrapping_add(1);
    (completed, count)
}

/// How many inline bytes a device was asked for, and granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Inline {
    /// What to ask for.
    asked: u32,
    /// What that gives.
    granted: u32,
}

/// The most inline bytes up to `wanted` that a device grants: no call tells, so it is found by
/// trying.
fn most_inline(
    wanted: u32,
    mut grant: impl FnMut(u32) -> Result<u32, Error>,
) -> Result<Inline, Error> {
    let (mut low, mut high) = match grant(wanted) {
        Ok(granted) => {
            return Ok(Inline {
                asked: wanted,
                granted,
            });
        }
        Err(error) if wanted == 0 => return Err(error),
        Err(_) => (0, wanted),
    };
    let mut best = Inline {
        asked: 0,
        // If not even this goes, inline is not what is wrong.
        granted: grant(0)?,
    };
    // `low` goes, `high` does not.
    while high - low > 1 {
        let middle = low.midpoint(high);
        match grant(middle) {
            Ok(granted) => {
                best = Inline {
                    asked: middle,
                    granted,
                };
                low = granted.clamp(middle, high - 1);
            }
            Err(_) => high = middle,
        }
    }
    Ok(best)
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
    fn a_signalled_operation_stands_for_those_before_it() {
        assert_eq!(since(0, 0), (0, 1));
        assert_eq!(since(100, 163), (100, 64));
        // Across the end of what a request's number keeps.
        let completed = (1 << 32) - 2;
        assert_eq!(since(completed, 1), (completed, 4));
    }

    #[test]
    fn places_in_rings_are_remainders() {
        for slots in [1, 2, 3, 64, 100, 128] {
            for number in [0, 1, 99, 100, 12_345, u64::from(u32::MAX) + 7] {
                assert_eq!(
                    Lanes::place(number, slots) as u64,
                    number % u64::from(slots)
                );
            }
        }
    }

    #[test]
    fn lanes_are_found_by_the_numbers_of_their_queue_pairs() {
        let numbers = [17, 18, 33, 49, 0x00ff_fff1, 1];
        let table = Numbers::of(numbers.into_iter());
        for (lane, number) in (0..).zip(numbers) {
            assert_eq!(table.lane(number), Some(lane));
        }
        assert_eq!(table.lane(65), None);
        assert_eq!(Numbers::of(std::iter::empty::<u32>()).lane(1), None);
    }

    #[test]
    fn the_most_inline_is_found_by_trying() {
        // A device that rounds up to 16 and has at most 220.
        let device = |inline: u32| match inline {
            0..=220 => Ok(inline.next_multiple_of(16).min(220)),
            _ => Err(Error::Refused("too much".to_owned())),
        };
        let most = |wanted| most_inline(wanted, device).expect("some");
        assert_eq!(most(1024).granted, 220);
        assert_eq!(most(100).granted, 112);
        assert_eq!(most(0).granted, 0);
        let none = |inline: u32| match inline {
            0 => Ok(0),
            _ => Err(Error::Refused("none".to_owned())),
        };
        assert_eq!(
            most_inline(236, none).expect("none"),
            Inline {
                asked: 0,
                granted: 0
            }
        );
        let broken = |_| Err(Error::Refused("no queue pairs".to_owned()));
        assert!(most_inline(236, broken).is_err());
    }

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
