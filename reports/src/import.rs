//! What other benchmarks printed, as reports.
//!
//! People trust the tools they know, and a figure of ours means little before it stands beside
//! theirs. This module reads the outputs of fio, iperf3, sockperf, netperf, neper, perftest,
//! fi_pingpong, fabtests, the OSU micro-benchmarks and the Intel MPI Benchmarks, one module each, so
//! that a comparison treats their runs as it treats our own.
//!
//! Three rules: a number keeps the peer's definition (the benchmark's text says which, and a metric
//! whose definition differs from ours is marked with the peer's name); units are converted exactly,
//! from the printed decimal to the SI base unit in one rounding; and what the peer does not print is
//! unavailable with that reason, never a zero. Nothing in such a text is trusted: each number is
//! taken by type, and the finished report must pass the checks of [`crate::model`].

mod draft;
mod fabtests;
mod fi_pingpong;
mod fio;
mod imb;
mod iperf3;
mod json;
mod neper;
mod netperf;
mod osu;
mod perftest;
mod sockperf;
mod text;

use crate::host::Host;
use crate::model::{self, Case, Fact, Outcome, Program, Report, Run, Schema, Unknown};
use clap::ValueEnum;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// The largest text that is imported, in bytes.
pub const MAX_IMPORT_BYTES: u64 = 64 << 20;

/// Whose output it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Format {
    /// fio --output-format=json or json+
    Fio,
    /// iperf3 -J
    Iperf3,
    /// sockperf ping-pong, under-load, throughput
    Sockperf,
    /// netperf TCP_STREAM, UDP_STREAM, TCP_RR and the like: its tables, or lines with -- -k
    Netperf,
    /// neper's tcp_stream, udp_stream, tcp_rr, udp_rr, tcp_crr
    Neper,
    /// ib_send_lat, ib_write_bw and the other tests of perftest
    Perftest,
    /// libfabric's fi_pingpong
    #[value(name = "fi_pingpong")]
    FiPingpong,
    /// fi_rdm_pingpong, fi_rma_bw and the other tests of fabtests: their tables, or lines with -m
    Fabtests,
    /// OSU micro-benchmarks
    Osu,
    /// Intel MPI Benchmarks
    Imb,
}

impl Format {
    /// All formats, in the order in which messages name them.
    pub const ALL: [Self; 10] = [
        Self::Fio,
        Self::Iperf3,
        Self::Sockperf,
        Self::Netperf,
        Self::Neper,
        Self::Perftest,
        Self::FiPingpong,
        Self::Fabtests,
        Self::Osu,
        Self::Imb,
    ];

    /// The name, as `--from` takes it and as benchmark ids begin.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fio => "fio",
            Self::Iperf3 => "iperf3",
            Self::Sockperf => "sockperf",
            Self::Netperf => "netperf",
            Self::Neper => "neper",
            Self::Perftest => "perftest",
            Self::FiPingpong => "fi_pingpong",
            Self::Fabtests => "fabtests",
            Self::Osu => "osu",
            Self::Imb => "imb",
        }
    }

    /// Whether a text has what only this peer prints.
    fn recognises(self, text: &str) -> bool {
        let any = |marks: &[&str]| marks.iter().any(|mark| text.contains(mark));
        match self {
            Self::Fio => any(&["\"fio version\""]),
            Self::Iperf3 => any(&["\"iperf 3"]),
            Self::Sockperf => any(&["sockperf: "]),
            Self::Netperf => any(&[
                " TEST from ",
                "THROUGHPUT_UNITS=",
                "are you sure there is a netserver",
            ]),
            Self::Neper => any(&["invalid_secret_count="]),
            Self::Perftest => any(&[
                "t_typical[usec]",
                "tps average",
                "BW average[",
                "Data ex. method :",
                "Data_ex_method",
            ]),
            Self::FiPingpong => any(&["#ack"]),
            Self::Fabtests => any(&["iters   total", "- { xfer_size: "]),
            Self::Osu => any(&["# OSU "]),
            Self::Imb => any(&["MPI Benchmarks", "# Benchmarking "]),
        }
    }

    /// Whether a text, of the peer or of its server, says that there is no device or provider for it
    /// on this machine.
    pub(crate) fn lacks_device(self, text: &str) -> bool {
        match self {
            // Which of the two it comes to depends on the tool.
            Self::Perftest => [
                "Unable to find the Infiniband/RoCE",
                "Did not detect devices",
            ]
            .iter()
            .any(|words| text.contains(words)),
            Self::FiPingpong | Self::Fabtests => {
                text.contains("fi_getinfo(): ") && text.contains("(No data available)")
            }
            _ => false,
        }
    }

    fn parse(self, text: &str, context: &Context) -> Result<Parsed, Fault> {
        match self {
            Self::Fio => fio::parse(text),
            Self::Iperf3 => iperf3::parse(text),
            Self::Sockperf => sockperf::parse(text, &context.argv),
            Self::Netperf => netperf::parse(text, &context.argv),
            Self::Neper => neper::parse(text),
            Self::Perftest => perftest::parse(text),
            Self::FiPingpong => fi_pingpong::parse(text),
            Self::Fabtests => fabtests::parse(text, &context.argv),
            Self::Osu => osu::parse(text),
            Self::Imb => imb::parse(text),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known about a text besides its words.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Where the text came from, for messages and reasons: a file's name.
    pub source: String,
    /// The command that printed it, program first; empty if it is not known.
    pub argv: Vec<String>,
    /// When that command started, RFC 3339, UTC.
    pub started: Option<String>,
    /// When it ended, likewise. Of a file: when it was last written.
    pub ended: Option<String>,
    /// The machine it ran on, if that is known.
    pub host: Option<Host>,
}

/// Why a text cannot be imported. Each names where the text came from.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is nothing in it.
    #[error("cannot import {origin}: it is empty")]
    Empty {
        /// Where the text came from.
        origin: String,
    },
    /// No peer that we know printed it.
    #[error(
        "cannot import {origin}: it is not the output of any of {} (of fio as json or json+, of \
         iperf3 with -J)", names(&Format::ALL)
    )]
    Unrecognised {
        /// Where the text came from.
        origin: String,
    },
    /// Several peers printed it.
    #[error(
        "cannot import {origin}: it has output of {}; say which with --from, or import them one \
         by one",
        names(found)
    )]
    Ambiguous {
        /// Where the text came from.
        origin: String,
        /// The formats that were recognised.
        found: Vec<Format>,
    },
    /// It is not what the format promises.
    #[error("cannot import {origin} as output of {format}: {reason}")]
    Malformed {
        /// Where the text came from.
        origin: String,
        /// The format.
        format: Format,
        /// What was expected, and what was found.
        reason: String,
    },
}

fn names(formats: &[Format]) -> String {
    let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
    names.join(", ")
}

/// What is wrong with a text.
type Fault = String;

/// What a peer's output says.
struct Parsed {
    version: Fact<String>,
    /// The name of the machine, if the peer prints it.
    host: Option<String>,
    /// The command line, if the peer prints it.
    argv: Vec<String>,
    /// Start and end in seconds since 1970, if the peer prints them.
    started_s: Option<f64>,
    ended_s: Option<f64>,
    cases: Vec<Case>,
}

impl Parsed {
    fn new(version: Fact<String>, cases: Vec<Case>) -> Self {
        Self {
            version,
            host: None,
            argv: Vec::new(),
            started_s: None,
            ended_s: None,
            cases,
        }
    }
}

/// Turns what a peer printed into a report.
///
/// The format is found from the content unless it is given. A case that the peer reports as failed
/// becomes [`Outcome::Failed`]; an error is what says nothing about any case.
///
/// # Errors
/// [`ImportError`]: where the text came from and what is wrong with it.
pub fn import(
    text: &str,
    format: Option<Format>,
    context: &Context,
) -> Result<Report, ImportError> {
    let origin = context.source.clone();
    let format = match format {
        _ if text.trim().is_empty() => return Err(ImportError::Empty { origin }),
        Some(format) => format,
        None => detect(text, &origin)?,
    };
    let malformed = |reason| ImportError::Malformed {
        origin,
        format,
        reason,
    };
    let parsed = match format.parse(text, context) {
        Ok(parsed) if parsed.cases.is_empty() => {
            let said = text::last_line(text);
            return Err(malformed(format!(
                "it holds no result; it ends with {said:?}"
            )));
        }
        Ok(parsed) => parsed,
        Err(reason) => return Err(malformed(reason)),
    };
    let report = frame(format, parsed, text, context);
    model::check(&report).map_err(malformed)?;
    Ok(report)
}

fn detect(text: &str, origin: &str) -> Result<Format, ImportError> {
    let origin = origin.to_owned();
    let mut found: Vec<Format> = Format::ALL
        .into_iter()
        .filter(|format| format.recognises(text))
        .collect();
    match found.len() {
        0 => Err(ImportError::Unrecognised { origin }),
        1 => Ok(found.remove(0)),
        _ => Err(ImportError::Ambiguous { origin, found }),
    }
}

/// A report around what a peer measured.
fn frame(format: Format, parsed: Parsed, text: &str, context: &Context) -> Report {
    let unknown = || format!("{format}'s output does not say");
    let (started, ended, clue) = times(&parsed, context);
    let argv = match (context.argv.as_slice(), parsed.argv) {
        ([], printed) => printed,
        (known, _) => known.to_vec(),
    };
    let host = match &context.host {
        Some(host) => host.clone(),
        None => imported_host(parsed.host.as_deref()),
    };
    let run = Run {
        id: run_id(text, context),
        started,
        ended,
        argv,
        environment: BTreeMap::new(),
        seed: Fact::unavailable(unknown()),
        clock: Fact::unavailable(unknown()),
        scheduler: Fact::unavailable(unknown()),
        session: None,
    };
    let program = Program {
        name: format.name().to_owned(),
        version: parsed.version,
        commit: Fact::unavailable(unknown()),
        dirty: Fact::unavailable(unknown()),
        build_profile: Fact::unavailable(unknown()),
        target: Fact::unavailable(unknown()),
    };
    let mut cases = parsed.cases;
    for case in &mut cases {
        if let Outcome::Measured(measurement) = &mut case.outcome {
            let facts = &mut measurement.facts;
            facts.insert("imported_from".to_owned(), context.source.clone().into());
            facts.insert("time_of_run".to_owned(), clue.into());
        }
    }
    number_repeated(&mut cases);
    Report {
        schema: Schema::default(),
        program,
        run,
        hosts: vec![host],
        cases,
        unknown: Unknown::default(),
    }
}

/// The machine of an imported run: nothing about it is in the text but, sometimes, its name.
fn imported_host(name: Option<&str>) -> Host {
    Host::unknown(
        name.unwrap_or("unknown"),
        "the output of the imported program does not tell",
    )
}

/// Start, end, and where they were learnt.
fn times(parsed: &Parsed, context: &Context) -> (String, String, &'static str) {
    if let (Some(started), Some(ended)) = (&context.started, &context.ended) {
        return (started.clone(), ended.clone(), "observed by who ran it");
    }
    let printed = |seconds: Option<f64>| seconds.and_then(text::rfc3339);
    let (started, ended) = (printed(parsed.started_s), printed(parsed.ended_s));
    if let Some(any) = started.as_ref().or(ended.as_ref()) {
        let end = ended.as_ref().unwrap_or(any).clone();
        return (any.clone(), end, "printed by the program");
    }
    match context.started.as_ref().or(context.ended.as_ref()) {
        Some(time) => (
            time.clone(),
            time.clone(),
            "not printed; the file's last change",
        ),
        None => {
            let now = crate::program::now();
            (now.clone(), now, "not printed; the time of the import")
        }
    }
}

/// The same text from the same place and time has the same id, so that a file imported twice is one
/// run; two runs that printed the same numbers are still two.
fn run_id(text: &str, context: &Context) -> String {
    let mut digest = Sha256::new();
    let started = context.started.as_deref().unwrap_or_default();
    let words = context.argv.iter().map(String::as_str);
    for part in [text, &context.source, started].into_iter().chain(words) {
        digest.update(part);
        digest.update([0]);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

/// Cases of one text that share all parameters are told apart by their position: they are parts
/// of one run, not repetitions.
fn number_repeated(cases: &mut [Case]) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for case in cases {
        let count = seen.entry(case.key()).or_default();
        *count += 1;
        if *count > 1 {
            let params = &mut case.benchmark.params;
            params.insert("occurrence".to_owned(), (*count).into());
        }
    }
}
