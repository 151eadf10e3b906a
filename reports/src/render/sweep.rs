//! A sweep as one table: a row per point, its parameters, its headline numbers and the peers'.

use super::table::plain_table;
use super::terminal::{Style, flag_line};
use super::units::human_fact;
use crate::model::{Case, Measurement, Metric, Severity};
use comfy_table::{Cell, CellAlignment};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The table, what all points share above it, what was verified and flagged below it. Every case
/// must be of one benchmark and measured.
pub(super) fn table(cases: &[Case], style: &Style) -> String {
    let Some(first) = cases.first() else {
        return String::new();
    };
    let varies = |name: &str| {
        let value = first.benchmark.params.get(name);
        cases
            .iter()
            .any(|case| case.benchmark.params.get(name) != value)
    };
    let (varying, common): (Vec<_>, Vec<_>) =
        first.benchmark.params.keys().partition(|name| varies(name));
    let common: Vec<String> = common
        .iter()
        .map(|name| format!("{name}={}", plain(first.benchmark.params.get(*name))))
        .collect();

    let measurements: Vec<&Measurement> = cases
        .iter()
        .filter_map(|case| case.outcome.measurement())
        .collect();
    let shown = shown(&measurements);
    let mut table = plain_table(*style);
    let titles = shown.iter().map(|metric| metric.key());
    table.set_header(varying.iter().map(|name| (*name).clone()).chain(titles));
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (case, measurement) in cases.iter().zip(&measurements) {
        let params = varying
            .iter()
            .map(|name| plain(case.benchmark.params.get(*name)));
        let numbers = shown.iter().map(|wanted| {
            let found = measurement
                .metrics
                .iter()
                .find(|metric| metric.key() == wanted.key());
            found.map_or_else(String::new, |metric| human_fact(&metric.value, metric.unit))
        });
        table.add_row(params.chain(numbers).map(Cell::new));
    }

    let mut text = format!("{}\n", style.bold(&first.benchmark.id));
    if !common.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", style.faint(&common.join(" ")));
    }
    let _ = writeln!(text, "{}", table.trim_fmt());
    if let Some(last) = measurements.last() {
        let _ = writeln!(
            text,
            "  {:<28} each size; of the last: {}",
            "verified", last.verified
        );
    }
    flags(&mut text, &measurements, style);
    text
}

/// The headline metrics and those in a peer's definition, in the order of the first point.
fn shown<'a>(measurements: &[&'a Measurement]) -> Vec<&'a Metric> {
    let mut keys = BTreeSet::new();
    measurements
        .iter()
        .flat_map(|measurement| &measurement.metrics)
        .filter(|metric| metric.headline || metric.compat.is_some())
        .filter(|metric| keys.insert(metric.key()))
        .collect()
}

/// Each kind of flag once, by its worst point, with the number of points that raised it.
fn flags(text: &mut String, measurements: &[&Measurement], style: &Style) {
    let all = || {
        measurements
            .iter()
            .flat_map(|measurement| &measurement.validity.flags)
    };
    let codes: BTreeSet<(Severity, &str)> = all()
        .map(|flag| (flag.severity, flag.code.as_str()))
        .collect();
    for (severity, code) in codes.into_iter().rev() {
        let same = || all().filter(|flag| flag.severity == severity && flag.code == code);
        let Some(mut flag) = same().next().cloned() else {
            continue;
        };
        let points = same().count();
        let _ = write!(
            flag.evidence,
            " ({points} of {} points)",
            measurements.len()
        );
        text.push_str(&flag_line(&flag, style));
    }
}

fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn points_become_rows_and_flags_are_counted() {
        let mut report = fixtures::report(&[("bw", 1000.0), ("bw", 2000.0), ("bw", 4000.0)]);
        for (index, size) in [1u64, 2, 4].into_iter().enumerate() {
            let params = &mut report.cases[index].benchmark.params;
            params.insert("size_bytes".to_owned(), size.into());
            params.insert("window".to_owned(), 64.into());
            fixtures::measurement_mut(&mut report, index).validity.flag(
                Severity::Degraded,
                "oversubscribed",
                "3 ranks on 2 CPUs",
            );
        }
        let text = table(&report.cases, &Style::PLAIN);
        assert!(text.contains("size_bytes"), "{text}");
        assert!(text.contains("window=64"), "{text}");
        assert!(text.contains("4.00 µs"), "{text}");
        assert!(
            text.contains("oversubscribed: 3 ranks on 2 CPUs (3 of 3 points)"),
            "{text}"
        );
        assert_eq!(text.matches("oversubscribed").count(), 1);
    }
}
