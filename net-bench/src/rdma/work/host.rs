//! The side whose memory the other works on. It posts nothing, and looks at its memory at the end.

use super::lanes::Lanes;
use crate::rdma::port::{Delivery, Port};
use reports::measure::{Recorder, Verified, Workload};
use reports::model::Work;
use std::time::Duration;

/// How often it looks whether the other side has ended, where nothing else is to be done.
const LOOK: Duration = Duration::from_millis(1);

/// A side that lends its memory.
pub struct Host<P> {
    lanes: Lanes<P>,
}

impl<P: Port> Host<P> {
    /// For connected lanes.
    pub fn new(lanes: Lanes<P>) -> Self {
        Self { lanes }
    }
}

impl<P: Port> Workload for Host<P> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.lanes.ending.theirs().is_some() {
            rec.finish();
        } else if P::POLL_TO_PROGRESS {
            self.lanes.poll()?;
        } else {
            std::thread::sleep(LOOK);
            self.lanes.look_around()?;
        }
        Ok(Work::default())
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        while self.lanes.ending.theirs().is_none() {
            self.lanes.poll()?;
            self.lanes.look_around()?;
        }
        self.lanes.part(|_, _| Ok(()))?;
        Ok(Work::default())
    }

    fn verify(&mut self, _: Work) -> anyhow::Result<Verified> {
        let operation = self.lanes.test.operation;
        let lossy = self.lanes.delivery() == Delivery::Lossy;
        let what = if operation.fetches() && !operation.atomic() {
            "places in memory held to the end what was lent; who reads them compares as well"
        } else if operation.atomic() {
            "counters in memory hold as many as were added"
        } else if lossy {
            // Nobody here knows which were lost: a place holds the last that came.
            "places in memory held a write that was posted there"
        } else {
            "writes were in memory at the end"
        };
        Ok(Verified {
            checks: self.lanes.settled,
            what: what.to_owned(),
        })
    }
}
