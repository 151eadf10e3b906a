//! Datagrams that carry the time at which they are to go: the kernel's queueing discipline keeps the
//! schedule, and the sender hands over many at once.
//!
//! A batch is handed over when its first datagram is due by the test's schedule; all times lie
//! [`LEAD`] behind that schedule, so that none is past when the discipline sees it.

use super::{BATCH, put};
use crate::transport::socket::SocketFlow;
use bench_sys::mmsg::SendBatch;
use bench_sys::sockopt::set_txtime;
use nix::time::{ClockId, clock_gettime};
use reports::model::Unavailable;
use std::os::fd::AsFd;
use std::time::Duration;

/// How far the times lie behind the schedule: more than a sender is late, but for a machine that
/// stands still.
const LEAD: Duration = Duration::from_millis(2);

/// The longest time that one batch covers.
const SPAN: Duration = Duration::from_millis(10);

/// How long the last datagram may still wait after the kernel took it.
pub const AHEAD: Duration = Duration::from_millis(12);

/// How many datagrams a thread that sends `per_s` of them hands over with one call.
#[must_use]
pub fn batch(per_s: f64) -> usize {
    ((per_s * SPAN.as_secs_f64()) as usize).clamp(1, BATCH)
}

/// Several datagrams and their times.
pub struct TimedBatch {
    batch: SendBatch,
    gap_ns: f64,
    /// When the next datagram is to go, by the monotonic clock; 0 before the first.
    next_ns: f64,
}

impl TimedBatch {
    /// For a thread that sends `per_s` datagrams per second.
    pub(super) fn new(batch: SendBatch, per_s: f64) -> Self {
        Self {
            batch,
            gap_ns: 1e9 / per_s,
            next_ns: 0.0,
        }
    }

    /// Hands over the datagrams from number `next` on; says how many the kernel took.
    #[inline]
    pub(super) fn send(&mut self, flow: &SocketFlow, next: u64) -> anyhow::Result<u64> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as f64;
        let lead = LEAD.as_nanos() as f64;
        // At first, and when the schedule and this clock have come apart: the sender was held up, or
        // the clock is being set right.
        if (self.next_ns - now - lead).abs() > lead {
            self.next_ns = now + lead;
        }
        for index in 0..self.batch.count() {
            put(next + index as u64, self.batch.datagram_mut(index));
            let due = self.next_ns + index as f64 * self.gap_ns;
            self.batch.set_time(index, due as u64);
        }
        match self.batch.send(flow.as_fd()) {
            Ok(count) => {
                self.next_ns += count as f64 * self.gap_ns;
                Ok(count as u64)
            }
            Err(error) => flow.explain("sending to", &error).map(|_| 0),
        }
    }
}

/// Tells a flow's socket that what is sent has a time.
pub(super) fn prepare(flow: &SocketFlow) -> anyhow::Result<()> {
    set_txtime(flow.as_fd()).map_err(|error| {
        let refusal = Unavailable(format!(
            "--engine txtime: the kernel takes no times for datagrams to {}: {error} (SO_TXTIME, \
             since Linux 4.19); use --engine mmsg",
            flow.peer()
        ));
        refusal.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_no_longer_than_its_span() {
        assert_eq!([batch(0.1), batch(99.0), batch(100.0)], [1, 1, 1]);
        assert_eq!([batch(1000.0), batch(6400.0), batch(1e6)], [10, 64, 64]);
        assert!(AHEAD >= LEAD + SPAN);
    }
}
