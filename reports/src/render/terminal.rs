//! Reports as text for a terminal: one block per case, in the manner of hyperfine's.

use super::sweep;
use super::units::{human, human_fact};
use crate::model::{
    Aggregation, Case, Flag, Interval, Measurement, Metric, Outcome, Report, Severity, Unit,
};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::IsTerminal;

/// Whether colours are used.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Whether to colour; otherwise the text is plain.
    pub color: bool,
}

impl Style {
    /// Plain text.
    pub const PLAIN: Self = Self { color: false };

    /// Colours if standard output is a terminal and NO_COLOR is not set. Open MPI's launcher gives
    /// every rank a terminal of its own, whatever its own output is: that one does not count.
    #[must_use]
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let refused = set("NO_COLOR") || set("OMPI_COMM_WORLD_RANK");
        Self {
            color: !refused && std::io::stdout().is_terminal(),
        }
    }

    /// `text` in bold.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// `text` in green: good.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// `text` in yellow: doubtful.
    #[must_use]
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// `text` in red: bad.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// `text` in grey: secondary.
    #[must_use]
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A whole report: a block per case; a sweep, three or more measured points of one benchmark, as
/// one table.
#[must_use]
pub fn report(report: &Report, style: &Style) -> String {
    let mut text = String::new();
    for cases in report
        .cases
        .chunk_by(|a, b| a.benchmark.id == b.benchmark.id)
    {
        let measured = cases
            .iter()
            .all(|case| case.outcome.measurement().is_some());
        if cases.len() > 2 && measured {
            text.push_str(&sweep::table(cases, style));
        } else {
            cases
                .iter()
                .for_each(|case| text.push_str(&block(case, style)));
        }
    }
    text
}

/// One case: its name and parameters, then its numbers, or why there are none.
#[must_use]
pub fn block(case: &Case, style: &Style) -> String {
    let mut text = String::new();
    let params: Vec<String> = case
        .benchmark
        .params
        .iter()
        .map(|(name, value)| match value.as_str() {
            Some(value) => format!("{name}={value}"),
            None => format!("{name}={value}"),
        })
        .collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", style.bold(&case.benchmark.id));
    if !params.is_empty() {
        let _ = writeln!(text, "  {}", style.faint(&params.join(" ")));
    }
    match &case.outcome {
        Outcome::Measured(measurement) => measured(&mut text, measurement, style),
        Outcome::Skipped { reason } => {
            let _ = writeln!(text, "  {} {reason}", style.doubtful("skipped:"));
        }
        Outcome::Failed { error } => {
            let _ = writeln!(text, "  {} {error}", style.bad("failed:"));
        }
    }
    text
}

fn measured(text: &mut String, measurement: &Measurement, style: &Style) {
    let mut distributions: Vec<(&str, Option<&str>)> = Vec::new();
    for metric in &measurement.metrics {
        if metric.aggregation == Aggregation::Total {
            let value = human_fact(&metric.value, metric.unit);
            let value = if metric.headline {
                style.bold(&value)
            } else {
                value
            };
            let peer = metric
                .compat
                .as_ref()
                .map(|peer| format!("  ({peer}'s definition)"));
            let bits = bits(metric)
                .map(|bits| format!("  = {bits}"))
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "  {:<28} {value}{bits}{}",
                metric.name,
                style.faint(&peer.unwrap_or_default())
            );
        } else {
            let family = (metric.name.as_str(), metric.compat.as_deref());
            if !distributions.contains(&family) {
                distributions.push(family);
            }
        }
    }
    for (name, compat) in distributions {
        let mut of_family: Vec<&Metric> = measurement
            .metrics
            .iter()
            .filter(|m| m.name == name && m.compat.as_deref() == compat)
            .filter(|m| m.aggregation != Aggregation::Total)
            .collect();
        of_family.sort_by_key(|metric| metric.aggregation);
        let values: Vec<String> = of_family
            .iter()
            .filter(|metric| metric.value.known().is_some())
            .map(|metric| {
                let value = human_fact(&metric.value, metric.unit);
                let value = if metric.headline {
                    style.bold(&value)
                } else {
                    value
                };
                format!("{} {value}", style.faint(&metric.aggregation.to_string()))
            })
            .collect();
        let peer = compat
            .map(|peer| format!("  ({peer}'s definition)"))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "  {name:<28} {}{}",
            values.join("  "),
            style.faint(&peer)
        );
    }
    let amount = match (measurement.work.known(), measurement.elapsed_s.known()) {
        (Some(work), Some(elapsed_s)) => format!("{} operations in {elapsed_s:.3} s; ", work.ops),
        (Some(work), None) => format!("{} operations; ", work.ops),
        (None, Some(elapsed_s)) => format!("in {elapsed_s:.3} s; "),
        (None, None) => String::new(),
    };
    let _ = writeln!(
        text,
        "  {:<28} {amount}{}",
        "verified", measurement.verified
    );
    for (name, fact) in &measurement.facts {
        let _ = writeln!(text, "  {name:<28} {}", style.faint(&in_words(fact)));
    }
    for flag in &measurement.validity.flags {
        text.push_str(&flag_line(flag, style));
    }
}

/// A flag in one line.
pub(super) fn flag_line(flag: &Flag, style: &Style) -> String {
    let (mark, code) = match flag.severity {
        Severity::Info => ("note", style.faint(&flag.code)),
        Severity::Degraded => ("degraded", style.doubtful(&flag.code)),
        Severity::Invalid => ("INVALID", style.bad(&flag.code)),
    };
    format!("  {mark:<28} {code}: {}\n", flag.evidence)
}

/// A fact in one line: nested values as `name=value`, lists with commas.
fn in_words(fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(","),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("unavailable") => {
            format!("unavailable ({})", in_words(&fields["unavailable"]))
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", in_words(value)))
            .collect::<Vec<_>>()
            .join(" "),
        plain => plain.to_string(),
    }
}

/// Bandwidth in bits as well, because networks are sold by them.
fn bits(metric: &Metric) -> Option<String> {
    let value = *metric.value.known()?;
    (metric.unit == Unit::BytesPerSecond).then(|| {
        let bits = human(value * 8.0, Unit::PerSecond);
        bits.trim_end_matches("/s").to_owned() + "bit/s"
    })
}

/// A slice of a running case in one line.
#[must_use]
pub fn interval_line(interval: &Interval) -> String {
    let length = (interval.t1_s - interval.t0_s).max(f64::MIN_POSITIVE);
    let mut line = format!(
        "{:8.2}-{:<8.2} s  {:>12}",
        interval.t0_s,
        interval.t1_s,
        human(interval.work.ops as f64 / length, Unit::PerSecond)
    );
    if interval.work.bytes > 0 {
        let rate = human(interval.work.bytes as f64 / length, Unit::BytesPerSecond);
        let _ = write!(line, "  {rate:>12}");
    }
    let quantiles = [
        ("p50", interval.p50_ns),
        ("p99", interval.p99_ns),
        ("max", interval.max_ns),
    ];
    for (name, value) in quantiles {
        if let Some(value) = value {
            let _ = write!(line, "  {name} {}", human(value, Unit::Nanoseconds));
        }
    }
    line
}

/// A host's fingerprint, or any other JSON, as indented lines; reasons for unknown values in grey.
#[must_use]
pub fn environment(value: &serde_json::Value, style: &Style) -> String {
    let mut text = String::new();
    tree(&mut text, value, 0, style);
    text
}

fn tree(text: &mut String, value: &serde_json::Value, depth: usize, style: &Style) {
    let serde_json::Value::Object(map) = value else {
        return;
    };
    for (name, value) in map {
        let indent = "  ".repeat(depth);
        let name = format!("{indent}{name}");
        match leaf(value, style) {
            // Writing to a string cannot fail.
            Some(value) => drop(writeln!(text, "{name:<30} {value}")),
            None => {
                let _ = writeln!(text, "{}", style.bold(&name));
                let items = value
                    .as_array()
                    .map_or(std::slice::from_ref(value), Vec::as_slice);
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        text.push('\n');
                    }
                    tree(text, item, depth + 1, style);
                }
            }
        }
    }
}

/// A value that fits on its name's line: a scalar, a reason, a list of scalars.
fn leaf(value: &serde_json::Value, style: &Style) -> Option<String> {
    match value {
        serde_json::Value::Object(map) => match (map.len(), map.get("unavailable")) {
            (1, Some(serde_json::Value::String(reason))) => {
                Some(style.faint(&format!("unavailable: {reason}")))
            }
            (0, _) => Some("none".to_owned()),
            _ => None,
        },
        serde_json::Value::Array(items) if items.is_empty() => Some("none".to_owned()),
        serde_json::Value::Array(items) => {
            let leaves: Option<Vec<_>> = items
                .iter()
                .map(|item| {
                    if item.is_object() {
                        None
                    } else {
                        leaf(item, style)
                    }
                })
                .collect();
            leaves.map(|leaves| leaves.join(" "))
        }
        serde_json::Value::String(text) => Some(text.trim().replace('\n', " ")),
        serde_json::Value::Null => Some(String::new()),
        other => Some(other.to_string()),
    }
}
