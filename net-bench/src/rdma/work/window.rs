//! As many operations as fit at once: bandwidth and message rate.
//!
//! A sliding window over all lanes, which is never drained before it is filled again: whatever has
//! completed makes room at once. The same loop receives, where messages come: alone, or in turn with
//! what it posts itself when both sides post.

use super::fetch::fetched;
use super::lanes::Lanes;
use crate::rdma::port::{Completed, Completion, Delivery, Port};
use crate::rdma::test::Operation;
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// One end of a bandwidth test.
pub struct Window<P> {
    lanes: Lanes<P>,
    /// Whether this end posts; else it only receives.
    posts: bool,
    /// Operations that each lane posts at most.
    limit: u64,
    list: u32,
    /// A lane's first completions, which came before the window opened.
    early: Vec<Completion>,
}

impl<P: Port> Window<P> {
    /// For connected lanes. `posts` is whether this end posts.
    pub fn new(lanes: Lanes<P>, posts: bool) -> Self {
        let test = &lanes.test;
        // Exactly as many as asked for go, so that the last completion ends the window.
        let limit = match test.operations {
            Some(operations) if test.omit_s == 0.0 => operations.div_ceil(lanes.count() as u64),
            _ => u64::MAX,
        };
        Self {
            posts,
            limit,
            list: test.post_list.min(lanes.port.depth()).max(1),
            early: Vec::with_capacity(super::lanes::BATCH),
            lanes,
        }
    }

    /// Posts what there is room for; whether it was anything.
    #[inline]
    fn fill(&mut self) -> anyhow::Result<()> {
        let depth = u64::from(self.lanes.port.depth());
        for lane in 0..self.lanes.count() {
            loop {
                let left = self.limit - self.lanes.posted[lane];
                let count = u64::from(self.list).min(left);
                let room = depth - self.lanes.in_flight(lane);
                if count == 0 || room < count {
                    break;
                }
                let count = count as u32;
                if self.lanes.post(lane, count, u64::from(count) == left)? < count {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Counts a completion: operations of this side that completed, and those that arrived.
    #[inline]
    fn take(lanes: &mut Lanes<P>, completion: Completion) -> anyhow::Result<(u64, u64)> {
        let lane = completion.lane as usize;
        match completion.completed {
            Completed::Posted { first, count } => {
                if lanes.test.operation.fetches() {
                    for number in first..first + u64::from(count) {
                        lanes.check_outcome(lane, number)?;
                    }
                }
                lanes.complete(lane, count);
                lanes.note(lane);
                Ok((u64::from(count), 0))
            }
            received @ Completed::Received { slot, .. } => {
                let first = lanes.receive(lane, received)?;
                lanes.port.post_receive(slot)?;
                lanes.note(lane);
                Ok((0, u64::from(first)))
            }
        }
    }

    /// The operations by which this end is measured, of both kinds.
    #[inline]
    fn counted(&self, (completed, received): (u64, u64)) -> u64 {
        if self.posts { completed } else { received }
    }

    #[inline]
    fn poll(&mut self) -> anyhow::Result<(u64, u64)> {
        let count = self.lanes.poll()?;
        let mut done = (0, 0);
        for index in 0..count {
            let completion = self.lanes.completion(index);
            let (completed, received) = Self::take(&mut self.lanes, completion)?;
            done = (done.0 + completed, done.1 + received);
        }
        Ok(done)
    }
}

impl<P: Port> Workload for Window<P> {
    /// The window of a receiver opens when there is something to receive.
    fn prepare(&mut self) -> anyhow::Result<()> {
        while !self.posts && self.early.is_empty() {
            let count = self.lanes.poll()?;
            for index in 0..count {
                self.early.push(self.lanes.completion(index));
            }
            if count == 0 && self.lanes.all_came() {
                break;
            }
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let mut done = (0, 0);
        if !self.early.is_empty() {
            for completion in std::mem::take(&mut self.early) {
                let (completed, received) = Self::take(&mut self.lanes, completion)?;
                done = (done.0 + completed, done.1 + received);
            }
            return Ok(self.lanes.work(self.counted(done)));
        }
        loop {
            if self.posts {
                if self.lanes.shared.stopped() {
                    rec.finish();
                    break;
                }
                self.fill()?;
            }
            let (completed, received) = self.poll()?;
            done = (done.0 + completed, done.1 + received);
            if self.counted(done) > 0 {
                break;
            }
            if !self.posts && received == 0 && self.lanes.all_came() {
                // Between the look and the word that no more will come, some may have come.
                let last = self.poll()?;
                done = (done.0 + last.0, done.1 + last.1);
                if last.1 == 0 {
                    rec.finish();
                }
                break;
            }
        }
        Ok(self.lanes.work(self.counted(done)))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let before = self.counted(self.sums());
        self.lanes
            .part(|lanes, completion| Self::take(lanes, completion).map(drop))?;
        Ok(self.lanes.work(self.counted(self.sums()) - before))
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let lanes = &mut self.lanes;
        let operation = lanes.test.operation;
        if operation.fetches() {
            return fetched(lanes, total.ops);
        }
        let (completed, received): (u64, u64) =
            (lanes.completed.iter().sum(), lanes.received.iter().sum());
        let counted = if self.posts { completed } else { received };
        anyhow::ensure!(
            total.ops == counted,
            "{} operations were counted and {counted} completed",
            total.ops
        );
        let posted: u64 = lanes.posted.iter().sum();
        let mut what = Vec::new();
        if self.posts {
            anyhow::ensure!(
                posted == completed,
                "{posted} operations were posted and {completed} completed"
            );
            what.push("posted operations completed".to_owned());
        }
        if operation.receives() && (!self.posts || lanes.test.bidirectional) {
            let order = match lanes.delivery() {
                Delivery::InOrder => "came in order",
                Delivery::Unordered => "came once each, in any order",
                Delivery::Lossy => "came once each, as far as they came",
            };
            let bytes = if lanes.test.verify && operation == Operation::WriteData {
                "with their numbers, and memory held every byte of what was written last"
            } else if lanes.test.verify {
                "with every byte of their payload"
            } else {
                "with their numbers"
            };
            let came = if self.posts {
                format!("{received} operations of the other side")
            } else {
                "operations".to_owned()
            };
            what.push(format!("{came} {order}, {bytes}"));
        }
        Ok(Verified {
            checks: lanes.checks + lanes.settled + if self.posts { completed } else { 0 },
            what: what.join("; "),
        })
    }
}

impl<P: Port> Window<P> {
    fn sums(&self) -> (u64, u64) {
        (
            self.lanes.completed.iter().sum(),
            self.lanes.received.iter().sum(),
        )
    }
}
