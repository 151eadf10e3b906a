//! The report: the one language that every program of the suite speaks.
//!
//! A [`Report`] is what one process measured: which program, on which hosts, and one [`Case`] per
//! benchmark point with its [`Outcome`]. Everything that prints, compares or gates reads this and
//! nothing else. Units are SI base units (and nanoseconds for latency), spelled in the names;
//! whatever could not be learnt is an [`Fact::Unavailable`] with the reason, never a zero and
//! never missing.

mod check;
mod fact;
mod file;
mod first_key;
mod measurement;
mod migrate;
mod outcome;
mod parse;
mod run;
mod schema;
mod unknown;

pub(crate) use check::check;
pub use fact::Fact;
pub(crate) use file::find as find_files;
pub use file::{MAX_REPORT_BYTES, load, load_all, write};
pub use measurement::{
    Aggregation, Counter, Direction, Flag, HistogramRecord, Interval, Matrix, MatrixNode,
    Measurement, Metric, OBSERVED, Severity, Unit, Validity, ValidityStatus, Work,
};
pub use outcome::{Outcome, Unavailable};
pub use parse::{LoadError, parse, to_json, to_value};
pub use run::{ClockRecord, Program, Run, Scheduler, Session};
pub use schema::json_schema;
pub use unknown::Unknown;

use crate::host::Host;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt;

/// The name in every report's `schema` field.
pub const SCHEMA_NAME: &str = "hpc-bench-report";

/// The version of the report format this build writes, and the newest it reads.
pub const SCHEMA_VERSION: u32 = 2;

/// Which format a report is in. The first thing read, before anything else is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Schema {
    /// Always [`SCHEMA_NAME`].
    pub name: String,
    /// The format's version; grows by one with each change that an older reader would misread.
    pub version: u32,
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            name: SCHEMA_NAME.to_owned(),
            version: SCHEMA_VERSION,
        }
    }
}

/// What one run of one program measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Format name and version.
    pub schema: Schema,
    /// The program and build that measured.
    pub program: Program,
    /// The run: when, with which arguments, in which session.
    pub run: Run,
    /// Every host that took part; the one that wrote the report comes first.
    pub hosts: Vec<Host>,
    /// One case per benchmark point (a size of a sweep is a point).
    pub cases: Vec<Case>,
    /// Fields that this build does not know, kept for whoever wrote them.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// One benchmark point and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// What was to be measured.
    pub benchmark: Benchmark,
    /// What came of it.
    pub outcome: Outcome,
}

impl Case {
    /// Id and parameters in one line: two cases with equal keys measured the same thing.
    #[must_use]
    pub fn key(&self) -> String {
        self.benchmark.to_string()
    }
}

/// What a case measures: its name, its definition in words, and its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Benchmark {
    /// Program and case, as in `net-bench/tcp_rr`.
    pub id: String,
    /// What exactly is timed, and whose definition it follows.
    pub definition: String,
    /// The first 16 hex digits of the SHA-256 of id and definition. Results with different hashes
    /// measured different things and are never compared.
    pub definition_hash: String,
    /// Every parameter that shapes the work, with defaults filled in.
    pub params: Map<String, Value>,
}

impl Benchmark {
    /// Describes a benchmark; the hash is computed here and nowhere else.
    #[must_use]
    pub fn new(id: impl Into<String>, definition: &str, params: Map<String, Value>) -> Self {
        let id = id.into();
        let definition_hash = definition_hash(&id, definition);
        Self {
            id,
            definition: definition.to_owned(),
            definition_hash,
            params,
        }
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&case_key(&self.id, &self.params))
    }
}

/// A benchmark's id and parameters in one line.
pub(crate) fn case_key(id: &str, params: &Map<String, Value>) -> String {
    let params = params.iter().map(|(name, value)| match value {
        Value::String(text) => format!(" {name}={text}"),
        other => format!(" {name}={other}"),
    });
    std::iter::once(id.to_owned()).chain(params).collect()
}

/// The hash that says whether two results follow the same definition.
#[must_use]
pub fn definition_hash(id: &str, definition: &str) -> String {
    let digest = Sha256::new()
        .chain_update(id)
        .chain_update([0])
        .chain_update(definition);
    digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
