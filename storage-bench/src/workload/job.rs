//! One job of a case: what shapes it, and what it leaves behind for the report. Its timed loop is
//! in [`running`].

mod checks;
mod pace;
mod running;
mod tally;

use super::content::Content;
use super::errors::{Brake, Errors};
use super::journal::Journal;
use super::readback::Written;
use crate::engine::{Engine, Helpers, Wait, Workers};
use crate::placement::Placed;
use crate::spec::Spec;
pub use pace::Kept;
use reports::measure::{Recorder, Ticks, Verified, Workload};
use reports::model::{Flag, Work};
use running::Running;
use serde_json::Value;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What a job finds in the blocks that it reads.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// What this run laid out and wrote.
    Known(Content),
    /// The offset, put there by the null engine.
    Echo,
    /// Somebody else's data.
    Unknown,
}

/// Everything that shapes one job.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The job's number, from zero.
    pub index: usize,
    /// What it works on.
    pub file: Arc<File>,
    /// What to call that in errors.
    pub target: String,
    /// What is to be read there.
    pub expected: Expected,
    /// Everything that shapes the run.
    pub spec: Arc<Spec>,
    /// The units of the target that are its own.
    pub units: Range<u64>,
    /// Where its random numbers begin.
    pub seed: u64,
    /// How many units of a job are remembered to be read back.
    pub remembered: usize,
    /// Where its writes are written down.
    pub journal: Option<Arc<Journal>>,
}

impl Setup {
    /// Bytes of a unit; bounded by 1 GiB when the options were checked.
    #[must_use]
    pub fn unit_bytes(&self) -> usize {
        self.spec.pattern.unit() as usize
    }

    /// Bytes of the largest operation; bounded likewise.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.spec.pattern.largest() as usize
    }
}

/// What jobs leave behind for the report.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The engine as the kernel granted it, per job.
    pub engines: Vec<Value>,
    /// What was asked for and not granted, each once.
    pub flags: Vec<Flag>,
    /// What threads of the kernel did in the window, where an engine has such.
    pub helpers: Option<Helpers>,
    /// Reads whose content was checked by sample.
    pub sampled_reads: u64,
    /// Reads whose content was checked in full.
    pub full_reads: u64,
    /// Those of them that were not whole, because a write was under way.
    pub overlapped_reads: u64,
    /// What the jobs remember of their writes.
    pub written: Vec<Written>,
    /// What failed.
    pub errors: Errors,
    /// What ends every job's window once too much has failed.
    pub brake: Arc<Brake>,
    /// How the schedule of an open loop was kept, over all jobs.
    pub kept: Kept,
}

impl Evidence {
    fn add_engine<E: Engine>(&mut self, engine: &E, placed: &Placed) {
        let mut facts = engine.facts();
        for (name, value) in &placed.facts {
            facts[name] = value.clone();
        }
        self.engines.push(facts);
        for flag in engine.flags().iter().chain(&placed.flags) {
            if !self.flags.contains(flag) {
                self.flags.push(flag.clone());
            }
        }
    }
}

/// One thread's share of a case, over the engine `E`.
pub struct Job<E> {
    setup: Setup,
    evidence: Arc<Mutex<Evidence>>,
    running: Option<Running<E>>,
    /// The kernel's threads are the whole process's: the first job looks at them for all.
    workers: Option<Workers>,
    /// What they had done at the window's two ends.
    helped: Vec<Helpers>,
}

impl<E: Engine> Job<E> {
    /// A job; nothing is opened before `prepare`.
    #[must_use]
    pub fn new(setup: Setup, evidence: Arc<Mutex<Evidence>>) -> Self {
        let looks = E::HELPED && setup.index == 0;
        Self {
            setup,
            evidence,
            running: None,
            workers: looks.then(Workers::default),
            helped: Vec::new(),
        }
    }

    fn running(&mut self) -> &mut Running<E> {
        self.running.as_mut().expect("the harness prepares first")
    }
}

impl<E: Engine> Workload for Job<E> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        let evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        let brake = Arc::clone(&evidence.brake);
        drop(evidence);
        self.running = Some(Running::new(self.setup.clone(), brake)?);
        Ok(())
    }

    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        self.running().step(rec)
    }

    fn window_opens(&mut self, now: Ticks) {
        self.running().pace.opens(now);
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let running = self.running();
        let kept = running.pace.close();
        let mut work = Work::default();
        while running.free.len() < running.slots.len() {
            running.exchange(Wait::One)?;
            work += running.complete(|_, _| {})?;
        }
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        evidence.kept += kept;
        Ok(work)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        let running = self.running();
        anyhow::ensure!(
            running.completed == total.ops,
            "{} operations had their full length, but {} were counted",
            running.completed,
            total.ops
        );
        running.check_last_reads()?;
        running.checks.end_journal(&running.setup.file)?;
        let mut evidence = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = self.running.take().expect("the harness prepares first");
        evidence.add_engine(&running.engine, &running.placed);
        if let [before, after] = self.helped[..] {
            evidence.helpers = Some(after - before);
        }
        let checked = running.checks.checked();
        evidence.sampled_reads += checked.sampled;
        evidence.full_reads += checked.full;
        evidence.overlapped_reads += checked.overlapped;
        let failed = running.errors.count();
        evidence.errors.absorb(std::mem::take(&mut running.errors));
        evidence.written.extend(running.into_written());
        if total.ops == 0 && failed > 0 {
            return Ok(Verified {
                checks: failed,
                what: "I/Os failed".to_owned(),
            });
        }
        Ok(Verified {
            checks: total.ops,
            what: "I/Os had their full length".to_owned(),
        })
    }

    fn kernel_cpu_s(&mut self) -> f64 {
        let Some(workers) = &mut self.workers else {
            return 0.0;
        };
        let helpers = workers.look();
        self.helped.push(helpers);
        helpers.cpu_s
    }

    fn extra_histograms(&self) -> &'static [&'static str] {
        tally::extras(&self.setup.spec)
    }
}

#[cfg(test)]
mod open_loop_tests;
#[cfg(test)]
mod tests;
