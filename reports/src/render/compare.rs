//! A comparison for a terminal, in the manner of benchstat: environments first, then a line per
//! metric with `~` where nothing was found, then a footnote for everything left out.

use super::terminal::Style;
use super::units::human;
use crate::compare::{Class, Comparison, Difference, Group, MetricComparison, Scale, Verdict};
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, presets};
use std::fmt::Write as _;

/// The whole comparison. Writing to a string cannot fail, so results of `writeln!` are dropped.
#[must_use]
pub fn comparison(comparison: &Comparison, style: &Style) -> String {
    let mut text = format!(
        "A: {} runs, B: {} runs\n",
        comparison.a.runs, comparison.b.runs
    );
    environment(&mut text, comparison, style);
    for blocked in &comparison.blocked {
        let (a, b) = (blocked.a.join(", "), blocked.b.join(", "));
        let mark = style.bad("not comparable:");
        let _ = writeln!(
            text,
            "{mark} {}: {}: A {a}; B {b}",
            blocked.case, blocked.field
        );
    }
    if comparison.cases.iter().any(|case| !case.metrics.is_empty()) {
        let _ = writeln!(text, "\n{}", table(comparison, style));
    }
    footnotes(&mut text, comparison, style);
    text
}

fn environment(text: &mut String, comparison: &Comparison, style: &Style) {
    let mut uncounted = Vec::new();
    let of_cases = comparison.cases.iter().flat_map(|case| &case.confounders);
    let mut shown: Vec<&Difference> = Vec::new();
    for difference in comparison.environment.iter().chain(of_cases) {
        if difference.class == Class::NotCounted {
            uncounted.push(difference.field.as_str());
        } else if !shown.contains(&difference) {
            shown.push(difference);
        }
    }
    if shown.is_empty() {
        let _ = writeln!(text, "environment: no difference that counts");
    }
    for difference in shown {
        let mark = match difference.class {
            Class::Confounder => style.doubtful("confounder"),
            Class::Declared | Class::NotCounted => style.good("declared"),
        };
        let (a, b) = (values(&difference.a), values(&difference.b));
        let why = difference.why.as_ref().map(|why| format!(" ({why})"));
        let field = &difference.field;
        let _ = writeln!(
            text,
            "{mark}: {field}: {a} → {b}{}",
            why.unwrap_or_default()
        );
    }
    if !uncounted.is_empty() {
        let line = format!("differs, not counted: {}", uncounted.join(", "));
        let _ = writeln!(text, "{}", style.faint(&line));
    }
}

/// The first few values; a field may have one per run.
fn values(values: &[String]) -> String {
    let shown = values
        .iter()
        .take(3)
        .cloned()
        .collect::<Vec<_>>()
        .join(" | ");
    match values.len() {
        0..=3 => shown,
        count => format!("{shown} and {} more", count - 3),
    }
}

fn table(comparison: &Comparison, style: &Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::new('─', '─', '─', '─')));
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !style.color {
        table.force_no_tty();
    }
    table.set_header([
        "case",
        "metric",
        "A",
        "B",
        "B/A",
        "95 % interval",
        "p",
        "runs",
        "detectable",
        "verdict",
    ]);
    for column in 2..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for case in &comparison.cases {
        for (index, metric) in case.metrics.iter().enumerate() {
            let label = if index == 0 { case.case.as_str() } else { "" };
            table.add_row(row(label, metric, style).map(Cell::new));
        }
    }
    table
}

fn row(label: &str, metric: &MetricComparison, style: &Style) -> [String; 10] {
    let number = |value: Option<f64>| value.map_or("n/a".into(), |v| human(v, metric.unit));
    let (effect, interval) = match metric.effect {
        None => ("n/a".to_owned(), "n/a".to_owned()),
        Some(effect) => {
            let show = |value: f64| match effect.scale {
                Scale::Ratio => format!("{value:.3}"),
                Scale::Difference => signed(value, metric),
            };
            let interval = format!("{} – {}", show(effect.low), show(effect.high));
            (show(effect.value), interval)
        }
    };
    let runs = match metric.pairs {
        Some(pairs) => format!("{pairs} pairs"),
        None => format!("{}+{}", metric.a.runs, metric.b.runs),
    };
    let detectable = metric.detectable.map(|size| match metric.effect {
        Some(effect) if effect.scale == Scale::Difference => human(size, metric.unit),
        _ => format!("{:.1} %", size * 100.0),
    });
    [
        label.to_owned(),
        metric.title(),
        number(metric.a.median),
        number(metric.b.median),
        effect,
        interval,
        metric
            .adjusted_p_value
            .map_or("n/a".into(), |p| format!("{p:.3}")),
        runs,
        detectable.unwrap_or("n/a".into()),
        verdict(metric, style),
    ]
}

fn signed(value: f64, metric: &MetricComparison) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}{}", human(value.abs(), metric.unit))
}

fn verdict(metric: &MetricComparison, style: &Style) -> String {
    let word = match metric.verdict {
        Verdict::Better => style.good("better"),
        Verdict::Worse => style.bad("worse"),
        Verdict::Differs => style.bold("differs"),
        Verdict::Same => "~".to_owned(),
        Verdict::Confounded => style.doubtful("confounded"),
        Verdict::Insufficient => style.doubtful("insufficient"),
    };
    match metric.gate {
        Some(gate) if gate.failed => format!("{word} {}", style.bad("beyond the gate")),
        _ => word,
    }
}

fn footnotes(text: &mut String, comparison: &Comparison, style: &Style) {
    for case in &comparison.cases {
        for metric in &case.metrics {
            if let Some(reason) = &metric.reason {
                let mark = style.doubtful("insufficient:");
                let _ = writeln!(text, "{mark} {} {}: {reason}", case.case, metric.title());
            }
        }
        if case.metrics.is_empty() {
            let _ = writeln!(
                text,
                "insufficient: {}: no valid run has a number",
                case.case
            );
        }
    }
    for (name, group) in [("A", &comparison.a), ("B", &comparison.b)] {
        notes(text, name, group, style);
    }
}

fn notes(text: &mut String, name: &str, group: &Group, style: &Style) {
    for left_out in &group.left_out {
        let mark = style.doubtful("left out:");
        let _ = writeln!(
            text,
            "{mark} {name} run {}: {}: {}",
            left_out.run, left_out.case, left_out.why
        );
    }
    for case in &group.cases_of_its_own {
        let _ = writeln!(text, "only in {name}: {case}");
    }
    for (flag, count) in &group.degraded {
        let _ = writeln!(
            text,
            "{} {name}: {flag} in {count} results",
            style.doubtful("degraded:")
        );
    }
}
