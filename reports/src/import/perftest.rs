//! The text of perftest's ib_*_lat and ib_*_bw.
//!
//! A banner names the test and its settings, a table has a row per size. Its columns differ
//! between versions and options, so they are found by their names. perftest can print `inf` or
//! `nan` and still exit 0: such numbers are unavailable and make the case invalid. What
//! `--out_json` writes ([`json_file`]) has one size only.

mod json_file;

use super::draft::{Draft, Family, work};
use super::text::{decimal, is_numeric, last_line, microseconds, positive, snake_case};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Fact, Severity};
use serde_json::{Map, Value};

const PEER: &str = "perftest";
const LATENCY: &str = "perftest's latency tests. The difference of consecutive post stamps, halved \
    (half_round_trip_ns) for send and write, whole (latency_ns) for read and atomics. Of the n-1 \
    differences perftest drops the two largest before mean and percentiles; its max is the second \
    largest. p50 is its t_typical. Its standard deviation truncates each deviation to an integer. \
    With -D only the mean is known.";
const BANDWIDTH: &str = "perftest's bandwidth tests. Average: bytes over the time from the first post \
    to the last completion. Peak: the best of all pairs of post and completion, only without -D. \
    MB are 2^20 bytes, Gb 10^9 bits, Mpps 10^6 messages. Bidirectional tests count both directions.";
const NOTHING: &str = "nothing: perftest does not look at the bytes it receives";

/// Settings that name this machine's device, not the work.
const NOT_THE_WORK: [&str; 5] = [
    "device",
    "gid_index",
    "data_ex_method",
    "dual_port",
    "gid_index2",
];

/// One run of a test: what stands between its banner and the end of its table.
#[derive(Default)]
struct Section {
    test: Option<String>,
    settings: Map<String, Value>,
    columns: Vec<String>,
    flags: Vec<String>,
    finished: bool,
}

pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let (mut section, mut cases) = (Section::default(), Vec::new());
    if json_file::is_one(text) {
        return json_file::parse(text).map(parsed);
    }
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.ends_with(" Test") && !trimmed.contains(':') {
            section = Section {
                test: Some(trimmed.to_owned()),
                ..Section::default()
            };
        } else if trimmed.starts_with("#bytes") {
            section.columns = columns(trimmed);
            section.finished = false;
        } else if !section.columns.is_empty() && trimmed.starts_with("----") {
            section.finished = true;
        } else if let Some(cells) = row(trimmed, &section.columns) {
            cases.push(case(&section, &cells));
            section.flags.clear();
        } else if section.columns.is_empty() {
            settings(trimmed, &mut section.settings);
        } else if trimmed.starts_with("Conflicting CPU frequency") {
            section.flags.push(trimmed.chars().take(200).collect());
        }
    }
    if cases.is_empty() {
        return Err(format!(
            "its table has no row; it ends with {:?}",
            last_line(text)
        ));
    }
    if !section.finished
        && let Some(last) = cases.last_mut()
    {
        let evidence = "the line that ends the table is missing: the last row may be cut";
        last.flag(Severity::Degraded, "truncated", evidence);
    }
    Ok(parsed(cases))
}

fn parsed(cases: Vec<Draft>) -> Parsed {
    let version = Fact::unavailable("perftest's output does not name its version");
    let cases: Vec<Case> = cases.into_iter().map(Draft::finish).collect();
    Parsed::new(version, cases)
}

/// The names of the columns, each as one word.
fn columns(header: &str) -> Vec<String> {
    // A log of both sides can hold the header twice in one line.
    let header = header.rfind("#bytes").map_or(header, |at| &header[at..]);
    let joined = [
        ("BW ", "BW_"),
        ("% percentile", "%_percentile"),
        ("tps average", "tps_average"),
        ("MsgRate ", "MsgRate_"),
    ];
    let mut header = header.to_owned();
    for (apart, whole) in joined {
        header = header.replace(apart, whole);
    }
    header.split_whitespace().map(str::to_owned).collect()
}

/// The cells of a line, if it is a row of the table.
fn row<'a>(line: &'a str, columns: &[String]) -> Option<Vec<&'a str>> {
    let cells: Vec<&str> = line.split_whitespace().collect();
    let is_row = columns.len() >= 3
        && cells.len() >= 3
        && cells[..2]
            .iter()
            .all(|cell| cell.bytes().all(|b| b.is_ascii_digit()))
        && cells.iter().all(|cell| is_numeric(cell));
    is_row.then_some(cells)
}

/// ` Number of qps   : 1    Transport type : IB`: one or two settings in a line.
fn settings(line: &str, into: &mut Map<String, Value>) {
    // Addresses differ in each run and say nothing of the work.
    if line.contains("address:") || line.starts_with("GID:") {
        return;
    }
    let parts: Vec<&str> = line.split(':').map(str::trim).collect();
    let (first, second) = match parts.as_slice() {
        [name, value] => ((*name, *value), None),
        [name, middle, value] => {
            let cut = middle.find(['\t', ' ']).unwrap_or(middle.len());
            let (own, next) = middle.split_at(cut);
            ((*name, own), Some((next.trim(), *value)))
        }
        _ => return,
    };
    for (name, value) in [Some(first), second].into_iter().flatten() {
        setting(name, value, into);
    }
}

fn setting(name: &str, value: &str, into: &mut Map<String, Value>) {
    let name = snake_case(name);
    let value = value.trim_end_matches("[B]");
    if !name.is_empty() && name.len() <= 40 && !value.is_empty() {
        into.insert(name, value.into());
    }
}

/// The operation that a banner names.
fn verb_of(title: &str) -> Option<&'static str> {
    let verbs = ["Send", "RDMA_Write", "RDMA_Read", "Atomic"];
    verbs.into_iter().find(|verb| title.starts_with(verb))
}

fn case(section: &Section, cells: &[&str]) -> Draft {
    let latency = section.columns.iter().any(|name| name.starts_with("t_avg"));
    let title = section.test.clone().unwrap_or_default();
    let verb = verb_of(&title);
    let kind = if latency { "lat" } else { "bw" };
    let id = match verb {
        Some(verb) => {
            let verb = verb.trim_start_matches("RDMA_").to_lowercase();
            format!("{PEER}/ib_{verb}_{kind}")
        }
        None => format!("{PEER}/{kind}"),
    };
    let definition = if latency { LATENCY } else { BANDWIDTH };
    let mut draft = Draft::new(id, definition, NOTHING);
    draft.param("bidirectional", title.contains("Bidirectional"));
    let atomic = ["FETCH_AND_ADD", "CMP_AND_SWAP"];
    if let Some(operation) = atomic.into_iter().find(|name| title.contains(name)) {
        draft.param("operation", operation.to_lowercase());
    }
    for (name, value) in &section.settings {
        if NOT_THE_WORK.contains(&name.as_str()) {
            draft.fact(name, value.clone());
        } else {
            draft.param(name, value.clone());
        }
    }
    for flag in &section.flags {
        draft.flag(Severity::Info, "cpu_frequency", flag.as_str());
    }
    let cell = |name: &str| {
        let at = section
            .columns
            .iter()
            .position(|column| column.starts_with(name))?;
        Some((section.columns[at].as_str(), *cells.get(at)?))
    };
    let counted = |name: &str| match cell(name).and_then(|(_, cell)| cell.parse().ok()) {
        Some(count) => Fact::<u64>::Known(count),
        None => Fact::unavailable(format!("the table has no count in the column {name}")),
    };
    let (size, iterations) = (counted("#bytes"), counted("#iterations"));
    for (name, count) in [("size_bytes", &size), ("iterations", &iterations)] {
        if let Some(&count) = count.known() {
            draft.param(name, count);
        }
    }
    draft.measurement.work = work(&iterations, &size);
    if cells.len() < section.columns.len() {
        let evidence = format!(
            "{} of {} columns have a number",
            cells.len(),
            section.columns.len()
        );
        draft.flag(Severity::Degraded, "truncated", evidence);
    }
    if latency {
        latencies(&mut draft, verb, &cell, iterations);
    } else {
        bandwidths(&mut draft, &cell, iterations);
    }
    draft
}

type Cell<'a> = dyn Fn(&str) -> Option<(&'a str, &'a str)> + 'a;

fn latencies(draft: &mut Draft, verb: Option<&str>, cell: &Cell<'_>, iterations: Fact<u64>) {
    let timed = cell("tps_average").is_some();
    let family = Family {
        name: match verb {
            Some("RDMA_Read" | "Atomic") => "latency_ns",
            _ => "half_round_trip_ns",
        },
        compat: Some(PEER),
        n: match timed {
            true => iterations,
            false => iterations.map(|n| n.saturating_sub(3)),
        },
        headlines: &[Aggregation::Mean, Aggregation::P50, Aggregation::P99],
    };
    let columns = [
        ("t_min[", Aggregation::Min),
        ("t_max[", Aggregation::Max),
        ("t_typical[", Aggregation::P50),
        ("t_avg[", Aggregation::Mean),
        ("t_stdev[", Aggregation::Stddev),
        ("99%_", Aggregation::P99),
        ("99.9%_", Aggregation::P999),
    ];
    for (name, how) in columns {
        if let Some((_, printed)) = cell(name) {
            let value = match (how, microseconds(printed)) {
                // Its sum of squares overflows from some ms on; the other numbers stand.
                (Aggregation::Stddev, Fact::Unavailable { .. }) => {
                    Fact::unavailable(format!("perftest's sum overflowed and was {printed:?}"))
                }
                (_, value) => value,
            };
            draft.latency(&family, how, value);
        }
    }
    if let Some((_, printed)) = cell("tps_average") {
        let rate = positive(decimal(printed, 0), printed);
        draft.rate("transactions_per_s", rate, family.n.clone());
    }
}

fn bandwidths(draft: &mut Draft, cell: &Cell<'_>, iterations: Fact<u64>) {
    let bytes_per_s = |(column, printed): (&str, &str)| {
        let value = match column.contains("[Gb/sec]") {
            true => decimal(printed, 9).map(|bits| bits / 8.0),
            false if column.contains(json_file::NO_UNIT) => {
                Fact::unavailable("its JSON tells no unit, and the rate of messages fits none")
            }
            false => decimal(printed, 0).map(|mebibytes| mebibytes * 1_048_576.0),
        };
        positive(value, printed)
    };
    let missing = || Fact::unavailable("the table has no such column");
    let average = cell("BW_average[").map_or_else(missing, bytes_per_s);
    draft
        .bandwidth("bandwidth_bytes_per_s", average, iterations.clone())
        .headline = true;
    let peak = match cell("BW_peak[").map_or_else(missing, bytes_per_s) {
        Fact::Known(0.0) => {
            Fact::unavailable("perftest prints 0 where it does not measure the peak")
        }
        peak => peak,
    };
    draft.bandwidth("peak_bandwidth_bytes_per_s", peak, iterations.clone());
    let rate = cell("MsgRate[").map_or_else(missing, |(_, printed)| {
        positive(decimal(printed, 6), printed)
    });
    draft.rate("operations_per_s", rate, iterations).headline = true;
}
