//! One run: a prefix is claimed, jobs work in it, and what they made is removed.

use super::claim::Claim;
use super::content::Content;
use super::job::{self, Evidence, Job, Setup};
use super::measured;
use super::spec::ObjectSpec;
use reports::measure::{self, Observer, Totals, Workload};
use reports::model::Measurement;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs a case.
///
/// # Errors
/// The store cannot be reached or refuses, the prefix is not empty, an operation failed, or what
/// was read is not what was put.
pub fn run(spec: &ObjectSpec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    // Not from --seed: equal runs must not take each other's objects for their own.
    let nonce = fastrand::u64(..);
    let mut claim = Claim::take(&spec.store, nonce)?;
    let (result, evidence) = run_jobs(spec, &claim, nonce, observer);
    let removed = claim.remove(&evidence.open_uploads);
    match (result, removed) {
        (Ok(totals), removed) => Ok(measured::of(spec, totals, evidence, removed.err())),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(anyhow::anyhow!("{error:#}; then, {left:#}")),
    }
}

fn run_jobs(
    spec: &ObjectSpec,
    claim: &Claim,
    nonce: u64,
    observer: &dyn Observer,
) -> (anyhow::Result<Totals>, Evidence) {
    let evidence = Arc::new(Mutex::new(Evidence::default()));
    let setup = Setup {
        index: 0,
        spec: Arc::new(spec.clone()),
        content: Arc::new(Content::new(nonce)),
        folder: claim.folder(),
        evidence: Arc::clone(&evidence),
    };
    let maker = |index| {
        let setup = Setup {
            index,
            ..setup.clone()
        };
        move || -> anyhow::Result<Box<dyn Workload>> { Ok(Box::new(Job::new(setup))) }
    };
    let makers = (0..spec.numjobs).map(maker).collect();
    let names = job::extra_histograms();
    let result = measure::run_where_made(&spec.plan(), observer, names, makers);
    let evidence = std::mem::take(&mut *evidence.lock().unwrap_or_else(PoisonError::into_inner));
    (result, evidence)
}
