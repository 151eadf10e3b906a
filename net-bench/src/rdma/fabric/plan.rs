//! What a thread's endpoints consist of, and where in them everything is.

use super::find::Found;
use crate::rdma::test::{Fabric, Operation, RdmaTest};
use libfabric_sys::{ATOMIC_BYTES, Ring, Shape};

/// Slots of the memory that the peer reaches begin at multiples of this many bytes, so that no two
/// share a cache line.
const STRIDE: usize = 64;

/// Bytes of a receive that only tells of a write.
const TOKEN_BYTES: usize = 64;

/// Injected operations of a lane that a completion queue is made for: providers that queue more hold
/// none of them back.
const MOST_QUEUED: usize = 8192;

/// Which slot is what.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) operation: Operation,
    /// Endpoints of the thread.
    pub(super) lanes: u32,
    /// Operations that a lane may have in flight, and slots that the peer reaches.
    pub(super) depth: u32,
    /// Receives that a lane has posted.
    pub(super) receives: u32,
    /// Payload bytes of an operation.
    pub(super) length: usize,
    /// Bytes from one slot that the peer reaches to the next.
    pub(super) stride: usize,
    /// Whether operations are injected.
    pub(super) inject: bool,
    /// Operations of a lane that are posted without a signal before one has to have it.
    pub(super) longest_run: u32,
    pub(super) shape: Shape,
}

impl Plan {
    pub(super) fn new(test: &RdmaTest, fabric: &Fabric, found: &Found) -> anyhow::Result<Self> {
        let operation = test.operation;
        let lanes = test.lanes / test.threads.max(1);
        anyhow::ensure!(lanes > 0 && test.depth > 0, "a thread has lanes, with room");
        let length = usize::try_from(test.length_bytes)?;
        let carries = !operation.fetches();
        let inject = carries && length <= found.inject_bytes;
        let stride = length.next_multiple_of(STRIDE);
        let target = match operation {
            Operation::Send | Operation::Tagged => 0,
            Operation::FetchAdd | Operation::CompareSwap => STRIDE,
            Operation::Write | Operation::WriteData | Operation::Read => {
                stride * test.depth as usize
            }
        };
        let outgoing = if operation.atomic() {
            ATOMIC_BYTES
        } else {
            length.max(1)
        };
        let incoming = if operation == Operation::WriteData {
            TOKEN_BYTES
        } else {
            length.max(1)
        };
        let (depth, receives) = (test.depth as usize, found.receives as usize);
        // Injected operations are told to be complete at once, and so more of them are under way than
        // a lane's depth: as many as the provider queues. Some (verbs) complete inwardly, and break
        // when the queue overruns.
        let outward = if inject {
            depth.max(found.offer.tx_size.min(MOST_QUEUED))
        } else {
            depth
        };
        // A peer's writes with data complete here without receives with some providers.
        let completions = lanes as usize * (outward + receives.max(outward));
        let queued = u32::try_from(found.offer.tx_size).unwrap_or(u32::MAX);
        Ok(Self {
            operation,
            lanes,
            depth: test.depth,
            receives: found.receives,
            length,
            stride,
            inject,
            longest_run: (test.depth.min(queued) / 2).max(1),
            shape: Shape {
                endpoints: lanes as usize,
                outgoing: Ring {
                    count: depth,
                    length: outgoing,
                },
                receives: Ring {
                    count: receives,
                    length: incoming,
                },
                target,
                completions: Some(completions),
                selective: carries && !inject && test.moderation > 1,
                wait: test.events,
                register: fabric.register,
            },
        })
    }

    /// The first of a lane's slots for what it posts.
    pub(super) fn first(&self, lane: u32) -> usize {
        lane as usize * (self.depth as usize + self.receives as usize)
    }

    /// The first of a lane's receives.
    pub(super) fn first_receive(&self, lane: u32) -> usize {
        self.first(lane) + self.depth as usize
    }

    /// All slots of the thread.
    pub(super) fn slots(&self) -> usize {
        self.first(self.lanes)
    }
}

/// How the data of a write say which lane and which operation it is of, in 32 bits: devices have no
/// more of them, and not all tell by which lane it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    /// Bits of the operation's number.
    bits: u32,
}

impl Label {
    pub(super) fn new(lanes: u32) -> Self {
        let of_lane = u32::BITS - lanes.saturating_sub(1).leading_zeros();
        Self {
            bits: u32::BITS - of_lane,
        }
    }

    #[inline]
    pub(super) fn of(self, lane: u32, number: u64) -> u64 {
        // A shift by 32 is one of nothing: then there is one lane, number 0.
        let lane = u64::from(lane) << self.bits;
        lane | (number & self.mask())
    }

    /// Lane and number, both as far as the label has them.
    #[inline]
    pub(super) fn read(self, data: u64) -> (u32, u64) {
        let data = data & u64::from(u32::MAX);
        ((data >> self.bits) as u32, data & self.mask())
    }

    /// The 32 lowest bits of the number next to `near` that ends in `low`.
    #[inline]
    pub(super) fn widen(self, low: u64, near: u64) -> u64 {
        let span = 1_u64 << self.bits;
        let ahead = low.wrapping_sub(near) & self.mask();
        let number = if ahead < span / 2 {
            near.wrapping_add(ahead)
        } else {
            near.wrapping_add(ahead).wrapping_sub(span)
        };
        number & u64::from(u32::MAX)
    }

    fn mask(self) -> u64 {
        (1 << self.bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_lane_and_number() {
        for lanes in [1, 2, 3, 64, 1000] {
            let label = Label::new(lanes);
            for lane in [0, lanes / 2, lanes - 1] {
                for number in [0, 1, 1 << 20, (1 << 40) + 17] {
                    let data = label.of(lane, number);
                    assert!(data <= u64::from(u32::MAX));
                    let (read, low) = label.read(data);
                    assert_eq!(read, lane, "{lanes} lanes");
                    for near in [number.saturating_sub(100), number, number + 100] {
                        assert_eq!(label.widen(low, near), number & u64::from(u32::MAX));
                    }
                }
            }
        }
        assert_eq!(Label::new(1).of(0, 7), 7);
    }
}
