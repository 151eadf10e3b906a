//! The summary over repetitions as a table for a terminal.

use super::spark;
use super::terminal::Style;
use super::text::{beside, columns, push_folded, visible};
use super::units::{human, human_fact};
use crate::stats::MIN_RUNS_FOR_INTERVAL;
use crate::summary::{
    CaseSummary, Listed, MetricSummary, Note, NoteKind, count, labels, listed, notes,
};
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, presets};
use std::fmt::Write as _;

/// An empty table: a rule under its header and nothing else, folded to the width of the style.
pub(super) fn plain_table(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─')));
    // The library's own look at the terminal knows neither COLUMNS nor what is piped.
    table.force_no_tty();
    if style.color {
        table.enforce_styling();
        table.style_text_only();
    }
    match style.width {
        None => table.set_content_arrangement(ContentArrangement::Disabled),
        Some(width) => table
            .set_width(u16::try_from(width).unwrap_or(u16::MAX))
            .set_content_arrangement(ContentArrangement::Dynamic),
    };
    table
}

/// The columns that a table takes.
pub(super) fn width_of(table: &Table) -> usize {
    table
        .lines()
        .map(|line| columns(line.trim_end()))
        .max()
        .unwrap_or(0)
}

/// What a summary shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Headline metrics; of long sweeps the ends.
    Headlines,
    /// Every metric of every case.
    Everything,
}

/// A case in the table, or the points of a sweep that are left out.
struct Entry<'a> {
    label: String,
    metrics: Vec<&'a MetricSummary>,
    runs: usize,
    /// What stands in the place of metrics where there are none.
    instead: &'static str,
}

/// The table, and below it a note per skip, failure and flag.
#[must_use]
pub fn summary(cases: &[CaseSummary], depth: Depth, style: &Style) -> String {
    let labels = labels(cases);
    let entries = entries(cases, &labels, depth);
    let table = wide(&entries);
    let fits = |width| width_of(&table) <= width;
    let mut text = if style.width.is_none_or(fits) {
        table.trim_fmt() + "\n"
    } else {
        narrow(&entries, *style)
    };
    write_notes(&mut text, cases, &labels, *style);
    style.finish(text)
}

fn entries<'a>(cases: &'a [CaseSummary], labels: &[String], depth: Depth) -> Vec<Entry<'a>> {
    let list = match depth {
        Depth::Headlines => listed(cases),
        Depth::Everything => cases
            .iter()
            .enumerate()
            .map(|(index, case)| Listed::Case(index, case))
            .collect(),
    };
    let mut next = 0;
    let mut entries = Vec::new();
    for entry in list {
        entries.push(match entry {
            Listed::Case(index, case) => {
                next = index + 1;
                case_entry(case, &labels[index], depth)
            }
            Listed::Between(count) => {
                let curve = curve(&cases[next..next + count]);
                Entry {
                    label: format!("  … {count} points between  {curve}"),
                    metrics: Vec::new(),
                    runs: 0,
                    instead: "",
                }
            }
        });
    }
    entries
}

fn case_entry<'a>(case: &'a CaseSummary, label: &str, depth: Depth) -> Entry<'a> {
    let failed: usize = case.failed.values().sum();
    let (metrics, instead, runs) = match (case.measured, failed) {
        (0, 0) => (Vec::new(), "skipped", case.skipped.values().sum()),
        (0, failed) => (Vec::new(), "FAILED", failed),
        (measured, _) => {
            let metrics = match depth {
                Depth::Headlines => case.headlines(),
                Depth::Everything => case.metrics.iter().collect(),
            };
            (metrics, "no number", measured)
        }
    };
    Entry {
        label: visible(label).into_owned(),
        metrics,
        runs,
        instead,
    }
}

/// The first headline over the points of a sweep.
fn curve(points: &[CaseSummary]) -> String {
    let first = points
        .first()
        .and_then(|case| case.headlines().first().map(|m| m.title()));
    let median = |case: &CaseSummary| {
        let metrics = case.metrics.iter();
        let mut same = metrics.filter(|metric| Some(metric.title()) == first);
        same.next()
            .and_then(|metric| metric.median.known().copied())
    };
    let medians: Vec<Option<f64>> = points.iter().map(median).collect();
    spark::curve(&medians).line
}

/// A row per metric, the case beside the first of them.
fn wide(entries: &[Entry<'_>]) -> Table {
    let mut table = plain_table(Style::PLAIN);
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
    for entry in entries {
        if entry.metrics.is_empty() {
            let runs = match entry.runs {
                0 => String::new(),
                runs => runs.to_string(),
            };
            table.add_row([entry.label.as_str(), entry.instead, "", "", &runs]);
        }
        for (index, metric) in entry.metrics.iter().enumerate() {
            let label = if index == 0 { entry.label.as_str() } else { "" };
            table.add_row([
                Cell::new(label),
                Cell::new(visible(&metric.title())),
                Cell::new(human_fact(&metric.median, metric.unit)),
                Cell::new(interval(metric)),
                Cell::new(metric.values.len()),
            ]);
        }
    }
    table
}

/// The case on a line of its own, its metrics below it: for terminals that the wide table overfills.
fn narrow(entries: &[Entry<'_>], style: Style) -> String {
    let width = style.width.unwrap_or(usize::MAX);
    let mut names = vec!["  metric".to_owned()];
    let mut numbers = vec![["median", "95 % interval"].map(str::to_owned).to_vec()];
    for entry in entries {
        for metric in &entry.metrics {
            let interval = match (&metric.interval, metric.values.len()) {
                (Err(_), _) => "n/a".to_owned(),
                (Ok(_), runs) if runs == entry.runs => interval(metric),
                (Ok(_), runs) => format!("{} ({})", interval(metric), count(runs, "run")),
            };
            names.push(format!("  {}", visible(&metric.title())));
            numbers.push(vec![human_fact(&metric.median, metric.unit), interval]);
        }
    }
    let mut lines = beside(&names, &numbers, width).into_iter();
    let header = lines.next().unwrap_or_default();
    let rule = "─".repeat(columns(&header));
    let mut text = format!("{header}\n{rule}\n");
    for entry in entries {
        let runs = match (entry.runs, entry.instead) {
            (0, _) => String::new(),
            (runs, _) if !entry.metrics.is_empty() => format!("  {}", count(runs, "run")),
            (runs, instead) => format!("  {instead}, {}", count(runs, "run")),
        };
        let mut label = String::new();
        push_folded(
            &mut label,
            &format!("{}{runs}", entry.label),
            2,
            style.width,
        );
        for line in label.lines() {
            // Writing to a string cannot fail.
            let _ = match entry.runs {
                0 => writeln!(text, "{line}"),
                _ => writeln!(text, "{}", style.bold(line)),
            };
        }
        for line in lines.by_ref().take(entry.metrics.len()) {
            let _ = writeln!(text, "{line}");
        }
    }
    let mut metrics = entries.iter().flat_map(|entry| &entry.metrics);
    if metrics.any(|metric| metric.interval.is_err()) {
        let note = format!("n/a: an interval takes {MIN_RUNS_FOR_INTERVAL} runs");
        push_folded(&mut text, &note, 2, style.width);
    }
    text
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

/// Every reason, a note each, folded to the width.
fn write_notes(text: &mut String, cases: &[CaseSummary], labels: &[String], style: Style) {
    for note in notes(cases, labels) {
        let mark = format!("{}:", note.kind.word());
        let painted = match note.kind {
            NoteKind::Failed | NoteKind::Invalid => style.bad(&mark),
            NoteKind::Skipped | NoteKind::Degraded => style.doubtful(&mark),
        };
        let Note {
            about,
            runs,
            text: reason,
            kind,
        } = &note;
        // A flag's code leads its evidence as the colon of a failure leads its error.
        let colon = match kind {
            NoteKind::Failed | NoteKind::Skipped => ":",
            NoteKind::Invalid | NoteKind::Degraded => "",
        };
        let line = format!("{mark} {about} ({runs}){colon} {reason}");
        let mut folded = String::new();
        push_folded(&mut folded, &visible(&line), 2, style.width);
        text.push_str(&folded.replacen(&mark, &painted, 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::{Outcome, Severity};
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
