//! The harness: it drives a workload through ramp, warm-up and a measured window on one or more
//! threads, and merges what the threads recorded.
//!
//! The timed loop is [`thread`]'s; everything that allocates, locks or prints happens on the
//! coordinating thread in [`harness`]. A workload is called through one dynamic dispatch per step
//! and is monomorphic inside it. What the loop itself costs is measured by the `null` case of
//! every program and published with the results.

mod clock;
mod harness;
mod latencies;
mod metrics;
mod recorder;
mod stop;
mod thread;
mod watch;

pub use clock::{Clock, Ticks};
pub use harness::{NeighbourFailed, Totals, run, run_where_made};
pub use latencies::Latencies;
pub use metrics::{
    coarse_histogram, decode_histogram, histogram_record, latency_metrics, percentile, rate_metrics,
};
pub use recorder::{MAX_LATENCY_NS, Recorder, new_histogram};
pub use stop::{install_signal_handlers, stop_requested};
pub use thread::ThreadTotals;
pub use watch::{Cpu, Watch};

/// The histogram of every latency distribution outside the timed loops.
pub use hdrhistogram::Histogram;

use crate::model::{Interval, Work};
use std::time::Duration;

/// What is measured: one thread's share of a case.
///
/// The harness builds one per thread and calls, in this order: `prepare`, then `step` for as long
/// as the [`Plan`] says (between two of them `window_opens`), then `drain`, then `verify`.
pub trait Workload {
    /// Everything that must not be timed: connections, buffers, files.
    ///
    /// # Errors
    /// Anything that makes the case impossible; a [`crate::model::Unavailable`] makes it a skip.
    fn prepare(&mut self) -> anyhow::Result<()>;

    /// A bounded quantum of work: at least one operation, ideally below a millisecond. It stamps
    /// through the recorder at least once and returns the work *completed* in this step.
    ///
    /// # Errors
    /// Whatever went wrong with an operation; the run stops and the case fails.
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work>;

    /// Told when the measured window opens: what was counted so far belongs to the warm-up.
    fn window_opens(&mut self, _now: Ticks) {}

    /// Ends work in flight after the window closed: reaps outstanding I/O, shuts sockets down. Not
    /// timed. Returns work completed here, which counts for `verify` and for no metric.
    ///
    /// # Errors
    /// As for `step`.
    fn drain(&mut self) -> anyhow::Result<Work> {
        Ok(Work::default())
    }

    /// Proves that the work was done. `total` counts everything since `prepare`: warm-up, window
    /// and drain.
    ///
    /// # Errors
    /// What was expected, what was found, and where.
    fn verify(&mut self, total: Work) -> anyhow::Result<Verified>;

    /// CPU time in seconds that threads of the kernel have used so far for this workload, beside
    /// the calling thread's own. Read where the window opens and where it closes.
    fn kernel_cpu_s(&mut self) -> f64 {
        0.0
    }

    /// Names of histograms beyond the main one, in the order of [`Recorder::record_extra`].
    fn extra_histograms(&self) -> &'static [&'static str] {
        &[]
    }
}

/// What a workload proved about its own work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many things were checked. Zero is a failure.
    pub checks: u64,
    /// What each check was, as the end of a sentence: "responses matched their requests".
    pub what: String,
}

/// When a phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After this time.
    Duration(Duration),
    /// After this many operations of each thread.
    Ops(u64),
    /// When the workload calls [`Recorder::finish`]: a receiver ends when its sender does.
    UntilDone,
}

/// How a case is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Threads, each with a workload of its own.
    pub threads: usize,
    /// Time over which the threads start, evenly spread; zero starts them together.
    pub ramp: Duration,
    /// Work that is done but not measured.
    pub warmup: Limit,
    /// The measured window.
    pub run: Limit,
    /// Length of the slices reported while the window is open; at least 10 ms.
    pub interval: Duration,
    /// Whether each slice keeps its whole distribution.
    pub slice_histograms: bool,
}

impl Plan {
    /// The shortest interval: below it the ticks would disturb what they observe.
    pub const MIN_INTERVAL: Duration = Duration::from_millis(10);
}

/// What happens while a case runs, for whoever shows it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A phase began, and how long it is expected to take, if that is known.
    Phase {
        /// Which.
        phase: Phase,
        /// Its expected length.
        expected: Option<Duration>,
    },
    /// A slice of the measured window is complete over all threads.
    Interval(&'a Interval),
}

/// The phases of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Connections, files, buffers.
    Prepare,
    /// Work that is not measured.
    WarmUp,
    /// The measured window.
    Measure,
    /// The proof that the work was done.
    Verify,
}

/// Watches a run without taking part in it. Called on the coordinating thread only.
pub trait Observer: Sync {
    /// Takes one event.
    fn event(&self, event: &Event<'_>);
}

/// The observer that shows nothing.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}
