//! The summary over repetitions as a table for a terminal.

use super::terminal::Style;
use super::units::{human, human_fact};
use crate::model::{Flag, Severity};
use crate::summary::{CaseSummary, Listed, MetricSummary, listed};
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

/// What a summary shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Headline metrics; of long sweeps the ends.
    Headlines,
    /// Every metric of every case.
    Everything,
}

/// The table, and below it a note per skip, failure and flag.
#[must_use]
pub fn summary(cases: &[CaseSummary], depth: Depth, style: &Style) -> String {
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
    let all = cases.iter().enumerate();
    let list = match depth {
        Depth::Headlines => listed(cases),
        Depth::Everything => all.map(|(index, case)| Listed::Case(index, case)).collect(),
    };
    for entry in list {
        match entry {
            Listed::Case(_, case) => rows(&mut table, case, cases, depth),
            Listed::Between(count) => drop(table.add_row([format!("  … {count} sizes between")])),
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    notes(&mut text, cases, style);
    text
}

fn rows(table: &mut Table, case: &CaseSummary, siblings: &[CaseSummary], depth: Depth) {
    let label = case.label(siblings);
    if case.measured == 0 {
        let (what, runs) = match case.failed.values().sum::<usize>() {
            0 => ("skipped", case.skipped.values().sum()),
            failed => ("FAILED", failed),
        };
        table.add_row([
            label,
            what.to_owned(),
            String::new(),
            String::new(),
            runs.to_string(),
        ]);
        return;
    }
    let metrics: Vec<&MetricSummary> = match depth {
        Depth::Headlines => case.headlines(),
        Depth::Everything => case.metrics.iter().collect(),
    };
    for (index, metric) in metrics.into_iter().enumerate() {
        let label = if index == 0 { label.as_str() } else { "" };
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

/// Every reason once. A flag that several points of a benchmark share is one line.
fn notes(text: &mut String, cases: &[CaseSummary], style: &Style) {
    // Writing to a string cannot fail.
    for case in cases {
        let label = case.label(cases);
        for (error, runs) in &case.failed {
            let _ = writeln!(
                text,
                "{} {label} ({}): {error}",
                style.bad("failed:"),
                count(*runs, "run")
            );
        }
        for (reason, runs) in &case.skipped {
            let mark = style.doubtful("skipped:");
            let _ = writeln!(text, "{mark} {label} ({}): {reason}", count(*runs, "run"));
        }
    }
    let mut shared: Vec<(&CaseSummary, &Flag, usize, usize)> = Vec::new();
    for case in cases {
        for (flag, runs) in &case.flags {
            let known = shared.iter_mut().find(|(first, other, ..)| {
                (&first.benchmark.id, &first.arm, &other.code, other.severity)
                    == (&case.benchmark.id, &case.arm, &flag.code, flag.severity)
            });
            match known {
                Some((_, _, flagged, measured)) => {
                    *flagged += runs;
                    *measured += case.measured;
                }
                None => shared.push((case, flag, *runs, case.measured)),
            }
        }
    }
    for (case, flag, flagged, measured) in shared {
        let mark = match flag.severity {
            Severity::Info => continue,
            Severity::Degraded => style.doubtful("degraded:"),
            Severity::Invalid => style.bad("INVALID:"),
        };
        let arm = case
            .arm
            .as_ref()
            .map(|arm| format!(" [{arm}]"))
            .unwrap_or_default();
        let id = &case.benchmark.id;
        let of = count(measured, "run");
        let _ = writeln!(
            text,
            "{mark} {id}{arm} ({flagged} of {of}) {}: {}",
            flag.code, flag.evidence
        );
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
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
        let text = summary(&summarise(&reports), Depth::Headlines, &Style::PLAIN);
        for expected in [
            "test/tcp_rr",
            "round_trip_ns p50",
            "3.50 µs",
            "1.00 µs – 6.00 µs",
            "skipped: test/efa (1 run): no EFA device",
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
