//! What the timed loops need of a device, be it driven by verbs or by libfabric.
//!
//! A port is what one thread drives: a number of *lanes*, each connected to the same lane of the
//! other side's same thread. A lane is a pair of queue pairs or of endpoints. It has a ring of
//! buffers for what it posts, so that operation `n` of a lane (its *number*, from 0) uses buffer `n`
//! modulo the ring's size; and each port has receives that are posted ahead. The loops are generic
//! over the port: nothing is dispatched while the clock runs.

use std::time::Duration;

/// Whether what was asked for was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// So many operations were posted, from the next number on; at least one.
    Taken(u32),
    /// There is no room: poll, and try again.
    Full,
}

/// The receive of a write with data that took none; posting it again does nothing.
pub const NO_RECEIVE: u32 = u32::MAX;

/// What a completion is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// Operations that this side posted on the lane: `count` of them from number `first` on.
    Posted {
        /// The number of the first.
        first: u64,
        /// How many; more than one where only the last of a list is signalled.
        count: u32,
    },
    /// A message, or the data that came with a write.
    Received {
        /// The receive, for [`Port::incoming`] and [`Port::post_receive`], or [`NO_RECEIVE`].
        slot: u32,
        /// Payload bytes. Of a write with data, zero where the device does not tell.
        length: u32,
        /// The immediate data or the tag that came along: the operation's number, shortened.
        data: Option<u64>,
    },
}

/// A completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The lane.
    pub lane: u32,
    /// What completed.
    pub completed: Completed,
}

impl Completion {
    /// What an array of completions begins with.
    pub const NONE: Self = Self {
        lane: 0,
        completed: Completed::Posted { first: 0, count: 0 },
    };
}

/// What is known of the order and the arrival of messages on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// All arrive, in the order in which they were posted (RC, most libfabric providers).
    InOrder,
    /// All arrive, in any order (efa).
    Unordered,
    /// Some may be lost (UC, UD).
    Lossy,
}

/// What one thread drives. All numbers and lengths are of this thread's lanes.
///
/// Errors name the operation, the device's word for what happened to it, and what to do where that
/// is known; a port is of no further use after one.
pub trait Port {
    /// Whether operations of this side, the answers to the peer's included, make progress only while
    /// [`Port::poll`] is called (libfabric's manual progress).
    const POLL_TO_PROGRESS: bool;

    /// How many lanes.
    fn lanes(&self) -> u32;

    /// How many operations a lane may have posted and not completed, and the size of its ring.
    fn depth(&self) -> u32;

    /// What may be taken for granted of messages.
    fn delivery(&self) -> Delivery;

    /// The buffer of a lane's `ahead`-th next operation: of what is sent or written the payload, of a
    /// read or an atomic operation where its result will be. It must not be in flight.
    fn outgoing(&mut self, lane: u32, ahead: u32) -> &mut [u8];

    /// Says what a lane's `ahead`-th next atomic operation works with: the value to add, or the
    /// values to compare with and to swap in.
    fn operands(&mut self, lane: u32, ahead: u32, compare_or_add: u64, swap: u64);

    /// Posts a lane's next operations, at most `count`, in one call where the device takes lists.
    /// With `signal` the last of them completes with a [`Completed::Posted`] that stands for all of
    /// the lane before it too; without, none of them may (a port may signal nevertheless).
    ///
    /// # Errors
    /// See [`Port`].
    fn post(&mut self, lane: u32, count: u32, signal: bool) -> anyhow::Result<Posted>;

    /// Reads completions, of all lanes, and drives operations on; how many it were.
    ///
    /// # Errors
    /// See [`Port`]; an operation that failed, with its status in words.
    fn poll(&mut self, into: &mut [Completion]) -> anyhow::Result<usize>;

    /// Sleeps until there may be something to poll, at most `patience`; ports that were not asked for
    /// events return at once.
    ///
    /// # Errors
    /// See [`Port`].
    fn wait(&mut self, patience: Duration) -> anyhow::Result<()>;

    /// The payload of operation `number` of a lane, which has completed: where a read or an atomic
    /// operation left its result, in the byte order of this host.
    fn outcome(&mut self, lane: u32, number: u64) -> &[u8];

    /// What a receive that has completed brought.
    fn incoming(&mut self, slot: u32) -> &[u8];

    /// Posts a receive again; a port may gather several and post them at the next poll.
    ///
    /// # Errors
    /// See [`Port`].
    fn post_receive(&mut self, slot: u32) -> anyhow::Result<()>;

    /// The last byte of what the peer's next write will fill, read from memory; `number` is that of
    /// the peer's operation.
    fn peek(&self, lane: u32, number: u64) -> u8;

    /// Whether that byte becomes `value` while it is looked at so many times.
    #[inline]
    fn watch(&self, lane: u32, number: u64, value: u8, looks: u32) -> bool {
        (0..looks).any(|_| self.peek(lane, number) == value)
    }

    /// The memory of this side that the peer's operation `number` on a lane reads or writes. The peer
    /// must not be working on it.
    fn target(&mut self, lane: u32, number: u64) -> &mut [u8];

    /// What is really used, for the report: sorted names and words.
    fn facts(&self) -> Facts;
}

/// What a port really uses, after the device has said what it can.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The device: `rxe0`, or libfabric's domain.
    pub device: String,
    /// Network devices whose counters see the bytes, if the port knows any.
    pub netdevs: Vec<String>,
    /// Names and values: `mtu_bytes`, `inline_bytes`, `gid`, `provider`, `cq_entries`.
    pub used: std::collections::BTreeMap<String, serde_json::Value>,
    /// What was asked for, could not be had and was reduced: a sentence each.
    pub reduced: Vec<String>,
    /// What counts packets or bytes on the way.
    pub path: Path,
}

/// Where the bytes of a port go, for the proof that they did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Through an RDMA device's port, which has counters of its own.
    Rdma {
        /// The device: `rxe0`.
        device: String,
        /// Its port, from 1.
        port: u8,
        /// Payload bytes of a packet.
        mtu_bytes: u32,
    },
    /// Through the kernel's network stack, out of this address.
    Sockets {
        /// The local address.
        address: std::net::IpAddr,
    },
    /// Through memory of this host.
    SharedMemory,
    /// Nobody knows.
    #[default]
    Unknown,
}
