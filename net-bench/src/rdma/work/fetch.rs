//! Reads and atomic operations, one after the other: what comes back is the answer, and nobody on the
//! other side lifts a finger.

use super::lanes::Lanes;
use crate::rdma::port::{Completed, Completion, Port};
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;

/// The end that asks.
pub struct Fetch<P> {
    lanes: Lanes<P>,
    lane: usize,
}

impl<P: Port> Fetch<P> {
    /// For connected lanes, which take turns.
    pub fn new(lanes: Lanes<P>) -> Self {
        Self { lanes, lane: 0 }
    }
}

#[inline]
fn take<P: Port>(lanes: &mut Lanes<P>, completion: Completion) -> anyhow::Result<()> {
    if let Completed::Posted { first, count } = completion.completed {
        let lane = completion.lane as usize;
        for number in first..first + u64::from(count) {
            lanes.check_outcome(lane, number)?;
        }
        lanes.complete(lane, count);
    }
    Ok(())
}

impl<P: Port> Workload for Fetch<P> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.lanes.shared.stopped() {
            rec.finish();
            return Ok(Work::default());
        }
        let lane = self.lane;
        self.lane = self.lanes.after(lane);
        while self.lanes.post(lane, 1, true)? == 0 {
            self.lanes.poll()?;
        }
        while self.lanes.in_flight(lane) > 0 {
            let count = self.lanes.poll()?;
            for index in 0..count {
                let completion = self.lanes.completion(index);
                take(&mut self.lanes, completion)?;
            }
        }
        rec.lap();
        self.lanes.note(lane);
        Ok(self.lanes.work(1))
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        self.lanes.part(take)?;
        Ok(Work::default())
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        fetched(&self.lanes, total.ops)
    }
}

/// Compares what was counted with what came back.
///
/// # Errors
/// Both.
pub(super) fn fetched<P: Port>(lanes: &Lanes<P>, counted: u64) -> anyhow::Result<Verified> {
    let completed: u64 = lanes.completed.iter().sum();
    anyhow::ensure!(
        counted == completed && lanes.checks == completed,
        "{counted} operations were counted, {completed} completed and {} results compared",
        lanes.checks
    );
    if lanes.test.operation.atomic() {
        // Every value from 0 on was returned once on each lane: in order, or by their sum.
        let due = lanes.completed.iter().fold(0_u64, |sum, &count| {
            let pairs = u128::from(count) * u128::from(count.saturating_sub(1)) / 2;
            sum.wrapping_add(pairs as u64)
        });
        anyhow::ensure!(
            lanes.returned == due,
            "corrupt data: the values that atomic operations returned add up to {}, not to {due}",
            lanes.returned
        );
    }
    let what = match (lanes.test.operation.atomic(), lanes.test.verify) {
        (true, _) => "atomic operations found what the ones before them left",
        (false, true) => "reads brought every byte of what the other side's memory holds",
        (false, false) => "reads brought the number of what the other side's memory holds",
    };
    Ok(Verified {
        checks: lanes.checks,
        what: what.to_owned(),
    })
}
