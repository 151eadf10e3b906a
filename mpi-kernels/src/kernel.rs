//! The timed loops. Each kernel is one rank's part; all ranks call the same methods in the same
//! order, because every one, construction included, may communicate.

pub mod collective;
pub mod network;
pub mod one_sided;
pub mod pt2pt;

use crate::merge::RankTotals;
use crate::world::World;
use hdrhistogram::Histogram;
use reports::measure::Ticks;
use reports::model::{HistogramRecord, Metric};
use serde_json::{Map, Value};

/// One rank's part of a kernel at one message size.
pub trait Kernel {
    /// Runs untimed rounds whose results are compared in full; the first time before the warm-up,
    /// the second after the timed iterations, whose last result is then compared as well. Returns
    /// how many things this rank compared.
    ///
    /// A fault is returned only after this rank has done its part of the communication: the other
    /// ranks must not wait for one that left.
    ///
    /// # Errors
    /// The first fault that this rank found.
    fn validate(&mut self) -> anyhow::Result<u64>;

    /// Runs one iteration per element of `ticks` and puts each one's length there, if this rank
    /// times; [`INVALID`] for an iteration that does not count. Nothing in it allocates.
    ///
    /// # Errors
    /// An MPI call that failed, where the library was told to return errors.
    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()>;

    /// Told when the warm-up is over: what was counted until then is to be forgotten.
    fn warmed_up(&mut self) {}

    /// What the kernel knows beyond the times of its iterations. All ranks are asked at the end;
    /// rank 0's answer goes into the report.
    fn extras(&mut self, _: &World) -> Extras {
        Extras::default()
    }

    /// What is to be said beside the numbers; asked of rank 0.
    fn facts(&self, _: &Results) -> Map<String, Value> {
        Map::new()
    }
}

/// What a kernel adds to a measurement.
#[derive(Debug, Default)]
pub struct Extras {
    /// Numbers beside those of its iterations.
    pub metrics: Vec<Metric>,
    /// Their distributions.
    pub histograms: Vec<HistogramRecord>,
    /// What was found out on the way.
    pub facts: Map<String, Value>,
}

/// Damages what was received, to prove that a check finds it: the test's `--spoil`.
fn damage(memory: &mut [u8]) {
    let middle = memory.len() / 2;
    if let Some(byte) = memory.get_mut(middle) {
        *byte ^= 1;
    }
}

/// The length of an iteration that does not count: this rank was late for its beginning. One such
/// rank makes the iteration invalid for all, because it is larger than every length.
pub const INVALID: Ticks = Ticks::MAX;

/// Who times an iteration, and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// Rank 0 alone; its time is divided by this number.
    RankZero {
        /// 2 for half a round trip.
        divisor: u64,
    },
    /// Every rank; an iteration lasts as long as its slowest rank needs.
    SlowestRank,
}

/// What rank 0 knows after the timed iterations of a point.
#[derive(Debug)]
pub struct Results {
    /// Timed iterations that count.
    pub iterations: u64,
    /// Iterations that do not, because a rank was late for their beginning.
    pub invalid: u64,
    /// One value per iteration, in nanoseconds.
    pub histogram: Histogram<u64>,
    /// The exact sum of the iterations in nanoseconds, before any division.
    pub sum_ns: u64,
    /// Each rank's own times; empty where rank 0 alone times.
    pub ranks: Vec<RankTotals>,
}

impl Results {
    /// The time inside the timed iterations, in seconds.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}
