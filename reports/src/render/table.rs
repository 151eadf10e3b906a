//! The summary over repetitions as a table for a terminal.

use super::terminal::Style;
use super::units::{human, human_fact};
use crate::model::Severity;
use crate::summary::{CaseSummary, MetricSummary};
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, presets};
use std::fmt::Write as _;

/// An empty table: a rule under its header and nothing else, folded to the terminal's width.
pub(super) fn plain_table(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─')));
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !style.color {
        table.force_no_tty();
    }
    table
}

/// The table, and below it a note per skip, failure and flag.
#[must_use]
pub fn summary(cases: &[CaseSummary], style: &Style) -> String {
    let mut table = plain_table(*style);
    table.set_header([
        "case",
        "metric",
        "median",
        "95 % interval over runs",
        "runs",
    ]);
    for column in 2..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for case in cases {
        rows(&mut table, case, cases);
    }
    let mut text = table.to_string();
    text.push('\n');
    for case in cases {
        notes(&mut text, case, cases, style);
    }
    text
}

fn rows(table: &mut Table, case: &CaseSummary, siblings: &[CaseSummary]) {
    let label = case.label(siblings);
    if case.measured == 0 {
        let what = if case.failed.is_empty() {
            "skipped"
        } else {
            "FAILED"
        };
        let runs = case.skipped.values().sum::<usize>() + case.failed.values().sum::<usize>();
        table.add_row([
            label,
            what.to_owned(),
            String::new(),
            String::new(),
            runs.to_string(),
        ]);
        return;
    }
    for (index, metric) in case.headlines().into_iter().enumerate() {
        let label = if index == 0 {
            label.clone()
        } else {
            String::new()
        };
        table.add_row([
            Cell::new(label),
            Cell::new(metric.title()),
            Cell::new(human_fact(&metric.median, metric.unit)),
            Cell::new(interval(metric)),
            Cell::new(metric.values.len()),
        ]);
    }
}

/// An interval, or `n/a` and why.
#[must_use]
pub fn interval(metric: &MetricSummary) -> String {
    match &metric.interval {
        Ok(interval) => {
            format!(
                "{} – {}",
                human(interval.low, metric.unit),
                human(interval.high, metric.unit)
            )
        }
        Err(reason) => format!("n/a ({reason})"),
    }
}

fn notes(text: &mut String, case: &CaseSummary, siblings: &[CaseSummary], style: &Style) {
    let label = case.label(siblings);
    // Writing to a string cannot fail.
    for (error, runs) in &case.failed {
        let _ = writeln!(
            text,
            "{} {label} ({runs} runs): {error}",
            style.bad("failed:")
        );
    }
    for (reason, runs) in &case.skipped {
        let _ = writeln!(
            text,
            "{} {label} ({runs} runs): {reason}",
            style.doubtful("skipped:")
        );
    }
    for (flag, runs) in &case.flags {
        let mark = match flag.severity {
            Severity::Info => continue,
            Severity::Degraded => style.doubtful("degraded:"),
            Severity::Invalid => style.bad("INVALID:"),
        };
        let of = case.measured;
        let _ = writeln!(
            text,
            "{mark} {label} ({runs} of {of} runs) {}: {}",
            flag.code, flag.evidence
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::Outcome;
    use crate::summary::summarise;

    #[test]
    fn the_table_shows_medians_intervals_and_every_reason() {
        let mut reports: Vec<_> = (1..=6)
            .map(|run| fixtures::report(&[("tcp_rr", f64::from(run) * 1000.0)]))
            .collect();
        let mut skipped = fixtures::report(&[("efa", 1.0)]);
        skipped.cases[0].outcome = Outcome::Skipped {
            reason: "no EFA device".into(),
        };
        reports.push(skipped);
        fixtures::measurement_mut(&mut reports[0], 0).validity.flag(
            Severity::Degraded,
            "cpu_steal",
            "2 % stolen",
        );
        let text = summary(&summarise(&reports), &Style::PLAIN);
        for expected in [
            "test/tcp_rr",
            "round_trip_ns p50",
            "3.50 µs",
            "1.00 µs – 6.00 µs",
            "skipped: test/efa (1 runs): no EFA device",
            "degraded: test/tcp_rr (1 of 6 runs) cpu_steal: 2 % stolen",
        ] {
            assert!(
                text.contains(expected),
                "{expected:?} is missing in:\n{text}"
            );
        }
        assert!(!text.contains('\u{1b}'), "plain text has no escape codes");
    }
}
