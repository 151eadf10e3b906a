//! What perftest writes with `--out_json`.
//!
//! Up to the version of Debian 12 it is no JSON: names and words are bare, commas trail, and since a
//! shorter text is written over a longer one without cutting it, pieces of the longer may follow. So
//! it is read line by line, and what follows its end is left alone. Of several sizes only the last is
//! in it. No unit is: that of the bandwidth follows from the rate of messages.

use super::{Draft, Fault, Section, case, setting};
use crate::import::text::last_line;

/// In place of a unit that does not follow.
pub(super) const NO_UNIT: &str = "[?]";

/// Names of results, and of the columns that tables have for them.
const RESULTS: [(&str, &str); 13] = [
    ("MsgSize", "#bytes"),
    ("n_iterations", "#iterations"),
    ("t_min", "t_min[usec]"),
    ("t_max", "t_max[usec]"),
    ("t_typical", "t_typical[usec]"),
    ("t_avg", "t_avg[usec]"),
    ("t_stdev", "t_stdev[usec]"),
    ("percentile_99", "99%_percentile[usec]"),
    ("percentile_99.9", "99.9%_percentile[usec]"),
    ("tps_average", "tps_average"),
    ("BW_peak", "BW_peak"),
    ("BW_average", "BW_average"),
    ("MsgRate", "MsgRate[Mpps]"),
];

/// Whether a text begins as one.
pub(super) fn is_one(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

pub(super) fn parse(text: &str) -> Result<Vec<Draft>, Fault> {
    let mut section = Section::default();
    let mut cells: Vec<&str> = Vec::new();
    let mut part = "";
    for line in text.lines() {
        let line = line.trim().trim_end_matches(',');
        let Some((name, value)) = line.split_once(':') else {
            if line == "}" && part == "results" {
                section.finished = true;
                break;
            }
            continue;
        };
        let [name, value] = [name, value].map(|word| word.trim().trim_matches('"'));
        match (part, name) {
            _ if value == "{" => part = name,
            ("results", name) => {
                let known = RESULTS.into_iter().find(|(known, _)| *known == name);
                if let Some((_, column)) = known {
                    section.columns.push(column.to_owned());
                    cells.push(value);
                }
            }
            (_, "test") => section.test = Some(value.to_owned()),
            (_, name) => setting(name, value, &mut section.settings),
        }
    }
    if !section.finished || cells.len() < 3 {
        let end = last_line(text);
        return Err(format!("it has no whole results; it ends with {end:?}"));
    }
    let unit = unit(&section.columns, &cells);
    for column in &mut section.columns {
        if column.starts_with("BW_") {
            column.push_str(unit);
        }
    }
    Ok(vec![case(&section, &cells)])
}

/// The unit in which the bandwidth comes closest to the messages' size times their rate: the two
/// that there are lie a factor of 119 apart.
fn unit(columns: &[String], cells: &[&str]) -> &'static str {
    let number = |name: &str| -> Option<f64> {
        let at = columns.iter().position(|column| column == name)?;
        cells.get(at)?.parse().ok()
    };
    let value = || {
        Some((
            number("BW_average")?,
            number("#bytes")?,
            number("MsgRate[Mpps]")?,
        ))
    };
    let Some((bandwidth, size, millions)) = value() else {
        return NO_UNIT;
    };
    let bytes_per_s = size * millions * 1e6;
    let is_near = |unit: f64| (0.2..5.0).contains(&(bandwidth * unit / bytes_per_s));
    match (is_near(1_048_576.0), is_near(1e9 / 8.0)) {
        (true, _) => "[MB/sec]",
        (false, true) => "[Gb/sec]",
        (false, false) => NO_UNIT,
    }
}
