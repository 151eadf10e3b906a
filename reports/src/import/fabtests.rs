//! The tables of fabtests, libfabric's own tests: fi_rdm_pingpong, fi_msg_bw, fi_rma_bw and others.
//!
//! All of them print the same columns, whatever they measure: what a row is of follows from the
//! command, if it is known, or from the bytes in all, which count both directions of a ping-pong.
//! With `-m` the numbers are exact and the command stands above them; the table rounds iterations
//! from 1000 on.

use super::draft::{Draft, Family, work};
use super::fi_pingpong::scaled;
use super::text::{decimal, last_line, microseconds, positive};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Fact};

const PEER: &str = "fabtests";
const PINGPONG: &str = "fabtests' ping-pong tests: the time of the whole loop over twice the round \
    trips is half_round_trip_ns; its MB/sec are 10^6 bytes and count both directions, hence \
    bidirectional_bandwidth_bytes_per_s. 10 iterations of warm-up.";
const BANDWIDTH: &str = "fabtests' bandwidth tests: messages of one side in windows of 64 by default, \
    after each of which it waits for all completions and, but in tests of RMA, for an answer. MB are \
    10^6 bytes; operations per second are one over the printed time per transfer, as fabtests has \
    it. 10 iterations of warm-up.";
const NOTHING: &str = "nothing: fabtests ran without -v, or does not say so";

const COLUMNS: [&str; 7] = [
    "bytes",
    "iters",
    "total",
    "time",
    "MB/sec",
    "usec/xfer",
    "Mxfers/sec",
];

/// Numbers of a row as they are printed, the scaled ones still with their letters.
struct Row<'a> {
    name: String,
    cells: [&'a str; COLUMNS.len()],
}

pub(super) fn parse(text: &str, argv: &[String]) -> Result<Parsed, Fault> {
    let mut argv = argv.to_vec();
    let mut printed_argv = Vec::new();
    let mut in_table = false;
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        if cells.ends_with(&COLUMNS) {
            in_table = true;
        } else if let Some(command) = line.strip_suffix(" :") {
            printed_argv = command.split_whitespace().map(str::to_owned).collect();
            if argv.is_empty() {
                argv.clone_from(&printed_argv);
            }
        } else if let Some(row) = machine_row(line).or_else(|| table_row(in_table, &cells)) {
            cases.extend(case(&row, &argv).map(Draft::finish));
        }
    }
    if cases.is_empty() {
        return Err(format!(
            "its table has no row; it ends with {:?}",
            last_line(text)
        ));
    }
    let version = Fact::unavailable("fabtests' output does not name its version");
    let mut parsed = Parsed::new(version, cases);
    parsed.argv = printed_argv;
    Ok(parsed)
}

/// `- { xfer_size: 64, iterations: 1000, ... }`.
fn machine_row(line: &str) -> Option<Row<'_>> {
    let inner = line.trim().strip_prefix("- { ")?.strip_suffix(" }")?;
    let values: Vec<&str> = inner
        .split(", ")
        .filter_map(|pair| Some(pair.split_once(": ")?.1.trim()))
        .collect();
    let name = String::new();
    let cells = values.try_into().ok()?;
    Some(Row { name, cells })
}

/// A row of the table; tests that print several kinds of rows have a name before them.
fn table_row<'a>(in_table: bool, cells: &[&'a str]) -> Option<Row<'a>> {
    let names = cells.len().checked_sub(COLUMNS.len())?;
    let (name, numbers) = cells.split_at(names);
    if !in_table || !numbers[3].ends_with('s') {
        return None;
    }
    Some(Row {
        name: name.join(" "),
        cells: numbers.try_into().ok()?,
    })
}

/// What stands after an option: `-I 1000` or `-I1000`.
fn option<'a>(argv: &'a [String], name: &str) -> Option<&'a str> {
    let at = argv.iter().position(|word| word.starts_with(name))?;
    match &argv[at][name.len()..] {
        "" => argv.get(at + 1).map(String::as_str),
        value => Some(value),
    }
}

/// The test's name, if the command is known.
fn test(argv: &[String]) -> Option<&str> {
    let program = argv
        .iter()
        .map(|word| word.rsplit('/').next().unwrap_or(word));
    program.into_iter().find(|name| name.starts_with("fi_"))
}

fn case(row: &Row<'_>, argv: &[String]) -> Option<Draft> {
    let [size, iterations, total, time, rate, per_transfer, _] = row.cells;
    // A printed size has no more than 15 digits.
    let size = scaled(size, 1024.0)? as u64;
    let shown = scaled(iterations, 1000.0)?;
    let both_ways = match test(argv) {
        Some(name) if name.contains("pingpong") => true,
        Some(name) if name.contains("_bw") => false,
        // Up to a thousand the ratio is 1 or 2, beyond the count may be cut by nearly a half.
        _ => scaled(total, 1024.0)? >= 1.9 * size as f64 * shown,
    };
    let kind = if both_ways { "pingpong" } else { "bandwidth" };
    let id = format!("{PEER}/{}", test(argv).unwrap_or(kind));
    let definition = if both_ways { PINGPONG } else { BANDWIDTH };
    let mut draft = Draft::new(id, definition, NOTHING);
    draft.param("size_bytes", size);
    if !row.name.is_empty() {
        draft.param("name", row.name.clone());
    }
    for (name, flag) in [("provider", "-p"), ("operation", "-o")] {
        if let Some(value) = option(argv, flag) {
            draft.param(name, value);
        }
    }
    let exact = iterations.parse().ok();
    let asked = || option(argv, "-I").and_then(|count| count.parse::<u64>().ok());
    let asked = || asked().filter(|&count| ((count / 1000 * 1000) as f64 - shown).abs() < 1.0);
    let iterations = match exact.or_else(asked) {
        Some(count) => {
            draft.param("iterations", count);
            Fact::Known(count)
        }
        None => {
            draft.param("iterations", iterations);
            Fact::unavailable(format!("fabtests rounds it to {iterations}"))
        }
    };
    let directions = if both_ways { 2 } else { 1 };
    let bytes = Fact::Known(size.saturating_mul(directions));
    draft.measurement.work = work(&iterations, &bytes);
    let seconds = time.trim_end_matches('s');
    draft.measurement.elapsed_s = resolved(positive(decimal(seconds, 0), time));
    let rate = resolved(positive(decimal(rate, 6), rate));
    let per_transfer_ns = resolved(microseconds(per_transfer));
    if both_ways {
        let family = Family {
            name: "half_round_trip_ns",
            compat: None,
            n: iterations.clone(),
            headlines: &[Aggregation::Mean],
        };
        draft.latency(&family, Aggregation::Mean, per_transfer_ns);
        draft.bandwidth("bidirectional_bandwidth_bytes_per_s", rate, iterations);
    } else {
        let name = "bandwidth_bytes_per_s";
        draft.bandwidth(name, rate, iterations.clone()).headline = true;
        let operations = per_transfer_ns.map(|ns| 1e9 / ns);
        draft.rate("operations_per_s", operations, iterations);
    }
    Some(draft)
}

/// A number of which 0.00 says only that it is small.
fn resolved(value: Fact<f64>) -> Fact<f64> {
    match value {
        Fact::Known(0.0) => Fact::unavailable("0.00, less than what fabtests resolves"),
        value => value,
    }
}
