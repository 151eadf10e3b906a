//! The coordinator: starts the threads together, collects their slices while they run, and merges
//! what they recorded.

use super::clock::{Clock, Ticks};
use super::latencies::Latencies;
use super::metrics::coarse_histogram;
use super::recorder::{Recorder, new_histogram};
use super::thread::{Link, Slice, ThreadTotals, drive};
use super::watch::{Cpu, Watch};
use super::{Event, Limit, Observer, Phase, Plan, Verified, Workload};
use crate::model::{Counter, Interval, Severity, Validity, Work};
use anyhow::Context;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// Empty histograms per thread: one in use, one on its way, one in reserve.
const SPARES: usize = 2;

/// What all threads did together.
#[derive(Debug)]
pub struct Totals {
    /// Work completed in the measured window, over all threads.
    pub work: Work,
    /// From the first thread's opening of the window to the last one's closing, in seconds.
    pub elapsed_s: f64,
    /// Each thread's own part.
    pub threads: Vec<ThreadTotals>,
    /// The main histogram, merged. Empty where operations were not timed one by one.
    pub latencies: Histogram<u64>,
    /// The extra histograms, merged, with their names.
    pub extra: Vec<(&'static str, Histogram<u64>)>,
    /// The window in slices.
    pub intervals: Vec<Interval>,
    /// CPU used in the window, over all threads.
    pub cpu: Cpu,
    /// What was proven, over all threads.
    pub verified: String,
    /// Counters of the machine around the run.
    pub counters: Vec<Counter>,
    /// What disturbed the run.
    pub validity: Validity,
}

/// Runs a case: builds one workload per thread, prepares all, drives them through ramp, warm-up
/// and window, and merges the results.
///
/// # Errors
/// The first error of any thread, with its number where there are several; the others are stopped.
pub fn run(
    plan: &Plan,
    observer: &dyn Observer,
    mut build: impl FnMut(usize) -> anyhow::Result<Box<dyn Workload + Send>>,
) -> anyhow::Result<Totals> {
    let mut workloads = Vec::with_capacity(plan.threads);
    for thread in 0..plan.threads {
        workloads.push(build(thread)?);
    }
    let names = workloads
        .first()
        .map_or(&[][..], |first| first.extra_histograms());
    let handed_over = |workload: Box<dyn Workload + Send>| {
        move || -> anyhow::Result<Box<dyn Workload>> { Ok(workload) }
    };
    let makers = workloads.into_iter().map(handed_over).collect();
    run_where_made(plan, observer, names, makers)
}

/// As [`run`], for workloads that cannot change threads: each maker is called on the thread that
/// then drives what it made. `names` are those of the workloads' extra histograms.
///
/// # Errors
/// As for [`run`].
pub fn run_where_made<M>(
    plan: &Plan,
    observer: &dyn Observer,
    names: &'static [&'static str],
    makers: Vec<M>,
) -> anyhow::Result<Totals>
where
    M: FnOnce() -> anyhow::Result<Box<dyn Workload>> + Send,
{
    anyhow::ensure!(plan.threads > 0, "a case needs at least one thread");
    anyhow::ensure!(
        plan.threads == makers.len(),
        "{} threads and {} workloads",
        plan.threads,
        makers.len()
    );
    anyhow::ensure!(
        plan.interval >= Plan::MIN_INTERVAL,
        "interval {:?} is below the least, {:?}",
        plan.interval,
        Plan::MIN_INTERVAL
    );
    let clock = Clock::get();
    observer.event(&Event::Phase {
        phase: Phase::Prepare,
        expected: None,
    });
    let gate = Gate::default();
    let abort = AtomicBool::new(false);
    let (slice_tx, slice_rx) = channel();
    let (ready_tx, ready_rx) = channel();
    let mut collector = Collector::new(plan);
    let watch = Watch::start();
    let results = thread::scope(|scope| {
        let mut handles = Vec::with_capacity(plan.threads);
        for (thread, make) in makers.into_iter().enumerate() {
            let (spare_tx, spares) = channel();
            collector.supply(spare_tx);
            let link = Link {
                slices: slice_tx.clone(),
                spares,
                thread,
            };
            let shared = Shared {
                plan,
                clock,
                gate: &gate,
                abort: &abort,
            };
            let ready = ready_tx.clone();
            handles.push(scope.spawn(move || shared.run_thread(make, &link, &ready)));
        }
        drop((slice_tx, ready_tx));
        start(plan, clock, &gate, &ready_rx);
        let first = announce(plan, observer, &slice_rx);
        collector.collect(first.into_iter().chain(slice_rx), clock, observer);
        observer.event(&Event::Phase {
            phase: Phase::Verify,
            expected: None,
        });
        join(handles)
    });
    let (counters, validity) = watch.stop();
    let threads = results?;
    Ok(merge(threads, collector, clock, names, counters, validity))
}

/// What every thread needs besides its workload.
struct Shared<'a> {
    plan: &'a Plan,
    clock: Clock,
    gate: &'a Gate,
    abort: &'a AtomicBool,
}

impl Shared<'_> {
    fn run_thread(
        &self,
        make: impl FnOnce() -> anyhow::Result<Box<dyn Workload>>,
        link: &Link,
        ready: &Sender<bool>,
    ) -> anyhow::Result<ThreadTotals> {
        let result = (|| {
            let prepared = make().and_then(|mut workload| {
                workload.prepare()?;
                Ok(workload)
            });
            // The coordinator waits for exactly one message of each thread.
            let _ = ready.send(prepared.is_ok());
            let mut workload = prepared?;
            let Some(go) = self.gate.wait() else {
                anyhow::bail!(NeighbourFailed);
            };
            let rec = Recorder::new(self.clock, workload.extra_histograms().len());
            drive(&mut *workload, rec, self.plan, go, self.abort, link)
        })();
        if result.is_err() {
            self.abort.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Why a thread never started or gave up: it is not the error to show where there is another.
#[derive(Debug, thiserror::Error)]
#[error("another thread or the other side failed")]
pub struct NeighbourFailed;

/// Opens the gate once every thread is prepared, or closes it for good if one is not.
fn start(plan: &Plan, clock: Clock, gate: &Gate, ready: &Receiver<bool>) {
    let all_ready = (0..plan.threads).all(|_| ready.recv().unwrap_or(false));
    gate.open(if all_ready {
        Start::At(clock.now())
    } else {
        Start::Never
    });
}

/// Tells the observer of the warm-up and then of the window. The window's beginning shows in the
/// first slice, which is returned, or, where the warm-up's length is known, when that has passed.
fn announce(
    plan: &Plan,
    observer: &dyn Observer,
    slices: &Receiver<(usize, Slice)>,
) -> Option<(usize, Slice)> {
    let length = |limit| match limit {
        Limit::Duration(length) => Some(length),
        Limit::Ops(_) | Limit::UntilDone => None,
    };
    let mut first = None;
    let warmup = length(plan.warmup).map(|length| length + plan.ramp);
    if warmup != Some(Duration::ZERO) && plan.warmup != Limit::Ops(0) {
        observer.event(&Event::Phase {
            phase: Phase::WarmUp,
            expected: warmup,
        });
        first = slices.recv_timeout(warmup.unwrap_or(Duration::MAX)).ok();
    }
    observer.event(&Event::Phase {
        phase: Phase::Measure,
        expected: length(plan.run),
    });
    first
}

/// Where prepared threads wait for the start.
#[derive(Default)]
struct Gate {
    start: Mutex<Option<Start>>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
enum Start {
    At(Ticks),
    Never,
}

impl Gate {
    fn open(&self, start: Start) {
        *self.start.lock().unwrap_or_else(PoisonError::into_inner) = Some(start);
        self.changed.notify_all();
    }

    /// The common starting moment, or `None` if there will be no start.
    fn wait(&self) -> Option<Ticks> {
        let mut start = self.start.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *start {
                Some(Start::At(moment)) => return Some(moment),
                Some(Start::Never) => return None,
                None => {
                    start = self
                        .changed
                        .wait(start)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Waits for all threads. Of several errors the first that is a cause is returned.
fn join(
    handles: Vec<ScopedJoinHandle<'_, anyhow::Result<ThreadTotals>>>,
) -> anyhow::Result<Vec<ThreadTotals>> {
    let several = handles.len() > 1;
    let mut totals = Vec::with_capacity(handles.len());
    let mut failure: Option<anyhow::Error> = None;
    for (thread, handle) in handles.into_iter().enumerate() {
        let result = handle.join().unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(anyhow::anyhow!(
                "the thread panicked: {}",
                what.unwrap_or("no message")
            ))
        });
        let result = if several {
            result.with_context(|| format!("thread {thread}"))
        } else {
            result
        };
        match result {
            Ok(total) => totals.push(total),
            Err(error) => {
                let cause = error.downcast_ref::<NeighbourFailed>().is_none();
                let shown_is_cause = failure
                    .as_ref()
                    .is_some_and(|e| e.downcast_ref::<NeighbourFailed>().is_none());
                if cause && !shown_is_cause || failure.is_none() {
                    failure = Some(error);
                }
            }
        }
    }
    failure.map_or(Ok(totals), Err)
}

/// Puts the threads' slices together and keeps their histograms going round.
struct Collector {
    threads: usize,
    spares: Vec<Sender<Box<Latencies>>>,
    open: BTreeMap<usize, Partial>,
    latencies: Histogram<u64>,
    intervals: Vec<Interval>,
    opened: Option<Ticks>,
    /// As of the end of the last slice.
    watch: Watch,
    /// Whether slices keep their distributions.
    histograms: bool,
}

/// A slice that some threads have not delivered yet.
struct Partial {
    delivered: usize,
    t0: Ticks,
    t1: Ticks,
    work: Work,
    latencies: Option<Histogram<u64>>,
}

impl Collector {
    fn new(plan: &Plan) -> Self {
        Self {
            threads: plan.threads,
            spares: Vec::with_capacity(plan.threads),
            open: BTreeMap::new(),
            latencies: new_histogram(),
            intervals: Vec::new(),
            opened: None,
            watch: Watch::start(),
            histograms: plan.slice_histograms,
        }
    }

    fn supply(&mut self, spares: Sender<Box<Latencies>>) {
        for _ in 0..SPARES {
            let _ = spares.send(Box::default());
        }
        self.spares.push(spares);
    }

    /// Takes slices until every thread is done; a slice is complete when all delivered theirs.
    fn collect(
        &mut self,
        slices: impl Iterator<Item = (usize, Slice)>,
        clock: Clock,
        observer: &dyn Observer,
    ) {
        self.watch = Watch::start();
        for (thread, slice) in slices {
            let index = slice.index;
            self.take((thread, slice));
            if self
                .open
                .get(&index)
                .is_some_and(|partial| partial.delivered == self.threads)
            {
                self.finish(index, clock, observer);
            }
        }
        // Threads that ended early leave slices that others never deliver.
        while let Some((&index, _)) = self.open.first_key_value() {
            self.finish(index, clock, observer);
        }
    }

    fn take(&mut self, (thread, slice): (usize, Slice)) {
        self.opened = Some(self.opened.map_or(slice.t0, |opened| opened.min(slice.t0)));
        let partial = self.open.entry(slice.index).or_insert_with(|| Partial {
            delivered: 0,
            t0: slice.t0,
            t1: slice.t1,
            work: Work::default(),
            latencies: None,
        });
        partial.delivered += 1;
        partial.t0 = partial.t0.min(slice.t0);
        partial.t1 = partial.t1.max(slice.t1);
        partial.work += slice.work;
        if let Some(mut latencies) = slice.latencies {
            latencies.add_to(partial.latencies.get_or_insert_with(new_histogram));
            latencies.add_to(&mut self.latencies);
            latencies.reset();
            let _ = self.spares[thread].send(latencies);
        }
    }

    fn finish(&mut self, index: usize, clock: Clock, observer: &dyn Observer) {
        let (Some(partial), Some(opened)) = (self.open.remove(&index), self.opened) else {
            return;
        };
        let quantile = |q| {
            partial
                .latencies
                .as_ref()
                .map(|h| h.value_at_quantile(q) as f64)
        };
        let interval = Interval {
            t0_s: clock.seconds(partial.t0.saturating_sub(opened)),
            t1_s: clock.seconds(partial.t1.saturating_sub(opened)),
            work: partial.work,
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            max_ns: partial.latencies.as_ref().map(|h| h.max() as f64),
            hdr_v2_base64: partial
                .latencies
                .as_ref()
                .filter(|_| self.histograms)
                .map(coarse_histogram),
            flags: self.held_back(),
        };
        observer.event(&Event::Interval(&interval));
        self.intervals.push(interval);
    }

    /// What held the machine back since the slice before.
    fn held_back(&mut self) -> Vec<String> {
        let now = Watch::start();
        let flags = std::mem::replace(&mut self.watch, now.clone()).until(&now);
        flags.into_iter().map(|(code, _)| code.to_owned()).collect()
    }
}

fn merge(
    threads: Vec<ThreadTotals>,
    collector: Collector,
    clock: Clock,
    names: &'static [&'static str],
    counters: Vec<Counter>,
    mut validity: Validity,
) -> Totals {
    let mut latencies = collector.latencies;
    let mut extra: Vec<_> = names.iter().map(|name| (*name, new_histogram())).collect();
    for thread in &threads {
        thread.main.add_to(&mut latencies);
        for ((_, into), from) in extra.iter_mut().zip(&thread.extra) {
            from.add_to(into);
        }
    }
    if threads.iter().any(|thread| thread.stopped_early) {
        let evidence = "a signal ended the measured window before its time";
        validity.flag(Severity::Invalid, "interrupted", evidence);
    }
    let opened = threads
        .iter()
        .map(|thread| thread.window.0)
        .min()
        .unwrap_or(0);
    let closed = threads
        .iter()
        .map(|thread| thread.window.1)
        .max()
        .unwrap_or(0);
    Totals {
        work: threads.iter().map(|thread| thread.work).sum(),
        elapsed_s: clock.seconds(closed.saturating_sub(opened)),
        cpu: threads.iter().map(|thread| thread.cpu).sum(),
        verified: verified(&threads),
        threads,
        latencies,
        extra,
        intervals: collector.intervals,
        counters,
        validity,
    }
}

/// The threads' proofs in one sentence, with equal kinds added up.
fn verified(threads: &[ThreadTotals]) -> String {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for Verified { checks, what } in threads.iter().map(|thread| &thread.verified) {
        *kinds.entry(what).or_default() += checks;
    }
    let parts: Vec<_> = kinds
        .iter()
        .map(|(what, checks)| format!("{checks} {what}"))
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests;
