//! The text of libfabric's fi_pingpong.

use super::draft::{Draft, Family, work};
use super::text::{decimal, last_line, microseconds};
use super::{Fault, Parsed};
use crate::model::{Aggregation, Case, Fact, Severity};

const PEER: &str = "fi_pingpong";
const DEFINITION: &str = "fi_pingpong's ping-pong: the time of the whole loop over twice the round \
    trips is half_round_trip_ns; 10 round trips by default, without warm-up. Its MB/sec are 10^6 \
    bytes and count both directions, hence bidirectional_bandwidth_bytes_per_s; a transfer is one \
    message in one direction. It prints sizes to two digits and rates to 0.01.";
const NOTHING: &str = "nothing: fi_pingpong ran without -c, or does not say so";

const COLUMNS: [&str; 8] = [
    "bytes",
    "#sent",
    "#ack",
    "total",
    "time",
    "MB/sec",
    "usec/xfer",
    "Mxfers/sec",
];

pub(super) fn parse(text: &str) -> Result<Parsed, Fault> {
    let mut in_table = false;
    let mut drafts: Vec<Draft> = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        if cells.ends_with(&COLUMNS) {
            in_table = true;
        } else if in_table && cells.len() == COLUMNS.len() && scaled(cells[0], 1024.0).is_some() {
            drafts.push(case(&cells));
        }
    }
    let error = text
        .lines()
        .find(|line| line.contains("Error at iteration="));
    let mut cases: Vec<Case> = Vec::new();
    if let (Some(last), None) = (drafts.last_mut(), error)
        && !text.ends_with('\n')
    {
        let evidence = "the text does not end with a line end: its last row may be cut";
        last.flag(Severity::Degraded, "truncated", evidence);
    }
    cases.extend(drafts.into_iter().map(Draft::finish));
    if let Some(error) = error {
        let draft = Draft::new(format!("{PEER}/pingpong"), DEFINITION, NOTHING);
        let error = format!("fi_pingpong received wrong data: {}", error.trim());
        cases.push(draft.failed(error).finish());
    }
    if cases.is_empty() {
        return Err(format!(
            "its table has no row; it ends with {:?}",
            last_line(text)
        ));
    }
    let version = Fact::unavailable("fi_pingpong's output does not name its version");
    Ok(Parsed::new(version, cases))
}

/// A size or count as printed: `64`, `1.5k`, `1m`.
pub(super) fn scaled(printed: &str, step: f64) -> Option<f64> {
    let digits = printed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &printed[digits.len()..] {
        "" => 1.0,
        "k" => step,
        "m" => step * step,
        "g" | "b" => step * step * step,
        _ => return None,
    };
    let value = decimal(digits, 0).known().map(|value| value * factor)?;
    (0.0..9e15).contains(&value).then_some(value)
}

/// A rate with two decimals, of which 0.00 says only that it is small.
fn rate(printed: &str, exponent: i32) -> Fact<f64> {
    match super::text::positive(decimal(printed, exponent), printed) {
        Fact::Known(0.0) => Fact::unavailable("0.00, less than fi_pingpong's resolution of 0.01"),
        value => value,
    }
}

fn case(cells: &[&str]) -> Draft {
    let mut draft = Draft::new(format!("{PEER}/pingpong"), DEFINITION, NOTHING);
    // A printed size has no more than 15 digits.
    let size = scaled(cells[0], 1024.0).unwrap_or_default() as u64;
    draft.param("size_bytes", size);
    let sent: Fact<u64> = match cells[1].parse() {
        Ok(sent) => Fact::Known(sent),
        Err(_) => Fact::unavailable(format!("fi_pingpong rounds it to {}", cells[1])),
    };
    match sent.known() {
        Some(&sent) => draft.param("iterations", sent),
        None => draft.param("iterations", cells[1]),
    }
    if !cells[2].starts_with('=') {
        let evidence = format!("sent {}, acknowledged {} of that", cells[1], cells[2]);
        draft.flag(Severity::Degraded, "not_all_acknowledged", evidence);
    }
    let both_ways = Fact::Known(size.saturating_mul(2));
    draft.measurement.work = work(&sent, &both_ways);
    draft.measurement.elapsed_s = rate(cells[4].trim_end_matches('s'), 0);
    let family = Family {
        name: "half_round_trip_ns",
        // The mean of half round trips is that of ours, however it comes about.
        compat: None,
        n: sent.clone(),
        headlines: &[Aggregation::Mean],
    };
    draft.latency(&family, Aggregation::Mean, microseconds(cells[6]));
    if size > 0 {
        let name = "bidirectional_bandwidth_bytes_per_s";
        draft.bandwidth(name, rate(cells[5], 6), sent.clone());
    }
    let messages = sent.map(|sent| sent.saturating_mul(2));
    draft.rate("transfers_per_s", rate(cells[7], 6), messages);
    draft
}
