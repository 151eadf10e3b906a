//! Ends a run when it is steady: an observer that looks at the slices as they are completed, and
//! workloads that end when it says so.

use crate::analysis::steady;
use reports::measure::{Event, Observer, Recorder, Ticks, Verified, Workload};
use reports::model::{Interval, Work};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The observer.
pub struct UntilSteady<'a> {
    inner: &'a dyn Observer,
    per_round: usize,
    slices: Mutex<Vec<Interval>>,
    steady: Arc<AtomicBool>,
}

impl<'a> UntilSteady<'a> {
    /// With rounds of so many slices; tells `inner` everything.
    #[must_use]
    pub fn new(inner: &'a dyn Observer, per_round: usize) -> Self {
        Self {
            inner,
            per_round,
            slices: Mutex::default(),
            steady: Arc::default(),
        }
    }

    /// A workload that ends when the run is steady.
    #[must_use]
    pub fn ending(&self, job: Box<dyn Workload + Send>) -> Box<dyn Workload + Send> {
        let steady = Arc::clone(&self.steady);
        Box::new(Ending { job, steady })
    }
}

impl Observer for UntilSteady<'_> {
    fn event(&self, event: &Event<'_>) {
        if let Event::Interval(slice) = event {
            let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
            // Its rate is all that is asked for.
            slices.push(Interval {
                hdr_v2_base64: None,
                flags: Vec::new(),
                ..(*slice).clone()
            });
            let whole_rounds = slices.len().is_multiple_of(self.per_round);
            let window = steady::last_window(&slices, self.per_round);
            if whole_rounds && window.is_some_and(|window| window.steady) {
                self.steady.store(true, Ordering::Relaxed);
            }
        }
        self.inner.event(event);
    }
}

struct Ending {
    job: Box<dyn Workload + Send>,
    steady: Arc<AtomicBool>,
}

impl Workload for Ending {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.job.prepare()
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        if self.steady.load(Ordering::Relaxed) {
            rec.finish();
        }
        self.job.step(rec)
    }

    fn window_opens(&mut self, now: Ticks) {
        self.job.window_opens(now);
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        self.job.drain()
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        self.job.verify(total)
    }

    fn kernel_cpu_s(&mut self) -> f64 {
        self.job.kernel_cpu_s()
    }

    fn extra_histograms(&self) -> &'static [&'static str] {
        self.job.extra_histograms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::seconds;
    use reports::measure::Silent;

    #[test]
    fn it_ends_after_the_first_steady_window() {
        let until = UntilSteady::new(&Silent, 2);
        let mut rates = vec![900.0, 900.0, 500.0, 500.0];
        rates.extend([300.0; 10]);
        let ended = seconds(&rates).iter().position(|slice| {
            until.event(&Event::Interval(slice));
            until.steady.load(Ordering::Relaxed)
        });
        assert_eq!(ended, Some(13), "two unsteady rounds, then five");
    }
}
