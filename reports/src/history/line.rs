//! A history's lines: what is kept of a run, and the text that keeps it.
//!
//! Every line is a JSON object that begins with `"history"`, the version of the format, so that
//! histories can be concatenated and merged line by line. It describes either an *environment*,
//! once per distinct one, or a *result*: what came of one case in one run. Results carry every
//! metric, because a question about p99 may come up years later; they carry no distribution and no
//! slice, which the reports keep.
//!
//! Of an environment, what never explains a result (an instance's id, free memory) is left out,
//! or every run would have one of its own; the hosts' names stand in the result. The program's
//! build stands in the result too, because it is what changes from run to run.

use crate::compare::environment;
use crate::compare::fields::Fields;
use crate::model::{Case, Flag, Measurement, Metric, Outcome, Report, Session, Severity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The version of the lines this build writes, and the newest it reads.
pub const HISTORY_VERSION: u32 = 1;

/// How every line of every version begins.
pub(super) const BEGINNING: &str = "{\"history\":";

/// One line. Exactly one of the two is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    history: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<Environment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Entry>,
}

/// An environment and the digest by which results refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The first 16 hex digits of the SHA-256 of the fields.
    pub digest: String,
    /// Each value under its path: `kernel.release`, `nics.eth0.mtu_bytes`.
    pub fields: Fields,
}

/// What came of one case in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The run's id.
    pub run: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// Its place in a suite's session, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The names of the hosts, in the report's order.
    pub hosts: Vec<String>,
    /// The program's build: `program.commit`, `program.version` and so on.
    pub program: Fields,
    /// The digest of the environment.
    pub environment: String,
    /// The benchmark's id: `net-bench/tcp_rr`.
    pub id: String,
    /// The hash of its definition.
    pub definition_hash: String,
    /// Every parameter that shapes the work.
    pub params: Map<String, Value>,
    /// What was really used.
    #[serde(default, skip_serializing_if = "Fields::is_empty")]
    pub facts: Fields,
    /// What came of it.
    pub state: State,
    /// Why it is not simply valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
}

/// What came of a case: the worst flag of a measurement, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Measured, and nothing speaks against it.
    Valid,
    /// Measured, and it stands for less than it seems.
    Degraded,
    /// Measured, and it does not stand.
    Invalid,
    /// It could not run there.
    Skipped,
    /// It should have run and did not.
    Failed,
}

/// What a line says.
#[derive(Debug)]
pub(super) enum Content {
    Environment(Environment),
    Result(Box<Entry>),
}

/// Why a line says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoLine {
    /// It is of a version that this build does not know.
    Newer(u32),
    /// It is one of ours, and something is wrong with it.
    Faulty(String),
    /// It is none of ours.
    Foreign(String),
}

/// Reads one line, without its newline.
pub(super) fn parse(text: &[u8]) -> Result<Content, NoLine> {
    let line: Line = match serde_json::from_slice(text) {
        Ok(line) => line,
        Err(error) => return Err(what_else(text, &error)),
    };
    if line.history > HISTORY_VERSION {
        return Err(NoLine::Newer(line.history));
    }
    match (line.environment, line.result) {
        (Some(environment), None) => Ok(Content::Environment(environment)),
        (None, Some(entry)) => match time(&entry.started) {
            Ok(_) => Ok(Content::Result(Box::new(entry))),
            Err(reason) => Err(NoLine::Faulty(reason)),
        },
        _ => {
            let reason = "it is neither an environment nor a result";
            Err(NoLine::Faulty(reason.to_owned()))
        }
    }
}

/// A line of another version may differ in everything but its beginning.
fn what_else(text: &[u8], error: &serde_json::Error) -> NoLine {
    #[derive(Deserialize)]
    struct Envelope {
        history: u32,
    }
    match serde_json::from_slice::<Envelope>(text) {
        Ok(Envelope { history }) if history > HISTORY_VERSION => NoLine::Newer(history),
        Ok(_) => NoLine::Faulty(error.to_string()),
        Err(_) if text.starts_with(BEGINNING.as_bytes()) => NoLine::Faulty(error.to_string()),
        Err(error) => {
            let reason = format!("it is no line of a history, which begins with {BEGINNING}");
            NoLine::Foreign(format!("{reason}: {error}"))
        }
    }
}

/// A run's start as a moment.
pub(super) fn time(started: &str) -> Result<Timestamp, String> {
    started
        .parse()
        .map_err(|error| format!("started: {started:?} is not a time: {error}"))
}

/// What a report gives to a history: its environment, and a result per case.
///
/// # Errors
/// Why the run has no place in a history.
pub(super) fn of_report(report: &Report) -> Result<(Environment, Vec<Entry>), String> {
    time(&report.run.started).map_err(|reason| format!("run.{reason}"))?;
    let (program, fields): (Fields, Fields) = environment::counted_fields(report)
        .into_iter()
        .partition(|(field, _)| field.starts_with("program."));
    let environment = Environment {
        digest: digest(&fields),
        fields,
    };
    let hosts: Vec<String> = report.hosts.iter().map(|host| host.name.clone()).collect();
    let entry = |case: &Case| {
        let (state, reasons) = judge(&case.outcome);
        let measurement = case.outcome.measurement();
        Entry {
            run: report.run.id.clone(),
            started: report.run.started.clone(),
            session: report.run.session.clone(),
            hosts: hosts.clone(),
            program: program.clone(),
            environment: environment.digest.clone(),
            id: case.benchmark.id.clone(),
            definition_hash: case.benchmark.definition_hash.clone(),
            params: case.benchmark.params.clone(),
            facts: measurement.map_or_else(Fields::new, environment::counted_facts),
            state,
            reasons,
            metrics: measurement.map_or_else(Vec::new, |m| m.metrics.clone()),
        }
    };
    let entries = report.cases.iter().map(entry).collect();
    Ok((environment, entries))
}

fn judge(outcome: &Outcome) -> (State, Vec<String>) {
    let of_severity = |measurement: &Measurement, severity| {
        let flags = measurement.validity.flags.iter();
        flags
            .filter(|flag| flag.severity == severity)
            .map(|Flag { code, evidence, .. }| format!("{code}: {evidence}"))
            .collect()
    };
    match outcome {
        Outcome::Measured(measurement) => match measurement.validity.worst() {
            Some(Severity::Invalid) => {
                (State::Invalid, of_severity(measurement, Severity::Invalid))
            }
            Some(Severity::Degraded) => (
                State::Degraded,
                of_severity(measurement, Severity::Degraded),
            ),
            Some(Severity::Info) | None => (State::Valid, Vec::new()),
        },
        Outcome::Skipped { reason } => (State::Skipped, vec![reason.clone()]),
        Outcome::Failed { error } => (State::Failed, vec![error.clone()]),
    }
}

fn digest(fields: &Fields) -> String {
    let mut hash = Sha256::new();
    for text in fields.iter().flat_map(|(field, value)| [field, value]) {
        // The length before each text tells apart what runs together without it.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A line of this content, newline included.
pub(super) fn text(content: Content) -> String {
    let (environment, result) = match content {
        Content::Environment(environment) => (Some(environment), None),
        Content::Result(entry) => (None, Some(*entry)),
    };
    let line = Line {
        history: HISTORY_VERSION,
        environment,
        result,
    };
    // Every map in it has string keys and no number of it can fail to serialise.
    let mut text = serde_json::to_string(&line).expect("a line always serialises");
    text.push('\n');
    text
}

impl Entry {
    /// Id and parameters in one line, as in a report.
    #[must_use]
    pub fn case(&self) -> String {
        crate::model::case_key(&self.id, &self.params)
    }
}
