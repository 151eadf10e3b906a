//! A program's table of cases: one const row each, in the order in which users see them.
//!
//! The table drives the subcommands, their help, `list`, and the tests that run every case once.

use crate::measure::Observer;
use crate::model::{Benchmark, Case, Measurement, Outcome};
use serde::Serialize;
use serde_json::{Map, Value};

/// Whether a case can run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Available,
    /// It cannot.
    Unavailable {
        /// Why, and what would make it run.
        reason: String,
    },
}

/// One row of a program's table of cases; `S` is the program's options.
pub struct Entry<S: 'static> {
    /// The case's name, as typed: `tcp_rr`.
    pub name: &'static str,
    /// One line for `list` and `--help`.
    pub summary: &'static str,
    /// What exactly is timed and whose definition it follows. Its hash decides whether results
    /// may be compared, so a change of the measured loop is a change of this text.
    pub definition: &'static str,
    /// Finds out whether it can run here, without running it.
    pub probe: fn() -> Availability,
    /// Runs it.
    pub run: fn(&S, &dyn Observer) -> anyhow::Result<Measurement>,
}

impl<S: Serialize> Entry<S> {
    /// Probes and runs the case and says what came of it. `program` prefixes the benchmark's id.
    pub fn execute(&self, program: &str, spec: &S, observer: &dyn Observer) -> Case {
        let outcome = match (self.probe)() {
            Availability::Available => Outcome::of((self.run)(spec, observer)),
            Availability::Unavailable { reason } => Outcome::Skipped { reason },
        };
        Case {
            benchmark: self.benchmark(program, spec),
            outcome,
        }
    }

    /// What the case measures under these options.
    pub fn benchmark(&self, program: &str, spec: &S) -> Benchmark {
        Benchmark::new(
            format!("{program}/{}", self.name),
            self.definition,
            params(spec),
        )
    }
}

/// Options as a report's parameters: the fields that `Serialize` shows.
pub fn params<S: Serialize>(spec: &S) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(map)) => map,
        // Options are structs of plain values: anything else is a mistake in the program.
        other => unreachable!("options serialise to a map, not to {other:?}"),
    }
}
