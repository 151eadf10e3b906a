//! The timed loops. Each kernel is one rank's part; all ranks call the same methods in the same
//! order, because every method but construction may communicate.

pub mod collective;
pub mod pt2pt;

use crate::merge::RankTotals;
use hdrhistogram::Histogram;
use reports::measure::Ticks;

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
    /// times. Nothing in it allocates.
    ///
    /// # Errors
    /// An MPI call that failed, where the library was told to return errors.
    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()>;
}

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
    /// Timed iterations.
    pub iterations: u64,
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
