//! The ranks of an MPI world, and how a case is measured in one.

use super::run::Ranked;
use super::{Crew, run};
use crate::PROGRAM;
use mpi_world::beginning;
use mpi_world::job::{self, Done};
use mpi_world::ledger::Ledger;
use mpi_world::watchdog::Watchdog;
use mpi_world::world::World;
use reports::case::Entry;
use reports::model::{Severity, Validity};
use reports::program::{OutputArgs, Session};
use serde_json::{Map, Value};
use std::process::ExitCode;
use std::sync::Arc;

impl Crew for World {
    fn rank(&self) -> usize {
        World::rank(self)
    }

    fn ranks(&self) -> usize {
        World::ranks(self)
    }

    fn host_of(&self, rank: usize) -> String {
        self.node_of(rank).name().to_owned()
    }

    fn nodes(&self) -> usize {
        World::nodes(self).len()
    }

    fn ranks_per_node(&self) -> usize {
        self.node_of(0).ranks().len()
    }

    fn barrier(&self) {
        World::barrier(self);
    }

    fn max_into(&self, own: &[u64], largest: &mut [u64]) {
        World::max_into(self, own, largest);
    }

    fn gather(&self, own: &str) -> Vec<String> {
        self.gather_texts(own)
    }

    fn broadcast(&self, own: String) -> String {
        self.broadcast_text(0, own)
    }

    fn agree_all(&self, own: anyhow::Result<()>) -> anyhow::Result<()> {
        World::agree(self, own)
    }

    fn say(&self, what: String) {
        self.progress().say(what);
    }

    fn facts(&self) -> Map<String, Value> {
        World::facts(self)
    }

    fn flag_oversubscription(&self, validity: &mut Validity) {
        World::flag_oversubscription(self, validity);
    }
}

/// Measures all specifications in a world of ranks. An error is everybody's, and rank 0's to tell.
pub fn measure<F: Ranked>(
    case: &Entry<F::Spec>,
    specs: Vec<F::Spec>,
    output: &OutputArgs,
) -> anyhow::Result<ExitCode> {
    job::run(PROGRAM, |world| measure_in::<F>(world, case, specs, output))
}

fn measure_in<F: Ranked>(
    world: &World,
    case: &Entry<F::Spec>,
    mut specs: Vec<F::Spec>,
    output: &OutputArgs,
) -> anyhow::Result<Done> {
    world.ensure_same(
        "the programs or MPI libraries of the nodes",
        &beginning::build(PROGRAM),
    )?;
    for spec in &mut specs {
        F::settle(spec, world)?;
    }
    let session = world.agree(Session::begin(PROGRAM, F::seed(&specs[0])))?;
    world
        .progress()
        .begin("the fingerprints of the nodes".to_owned());
    let (hosts, missing) = beginning::hosts(world);
    let ledger = world.is_root().then(|| {
        let benchmarks = specs.iter().map(|spec| case.benchmark(PROGRAM, spec));
        let describe = Arc::new(|_: &mut _, _: &_| {});
        let output = output.clone();
        let ledger = Ledger::open(PROGRAM, session, hosts, describe, output, benchmarks);
        if !missing.is_empty() {
            ledger.flag(Severity::Invalid, "fingerprint_missing", missing.join("; "));
        }
        Arc::new(ledger)
    });
    let watchdog = Watchdog::start(world, ledger.clone(), F::deadline(&specs[0]))?;
    for spec in &specs {
        world.progress().begin(case.name.to_owned());
        let outcome = run::outcome::<F>(spec, world);
        if let Some((ledger, outcome)) = ledger.as_ref().zip(outcome) {
            ledger.enter(outcome);
        }
    }
    let code = job::conclude(&watchdog, ledger.as_deref());
    Ok(job::end(world, watchdog, code))
}
