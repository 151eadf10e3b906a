//! A comparison for a terminal, in the manner of benchstat: environments first, then a line per
//! metric with `~` where nothing was found, then a footnote for everything left out.

use super::table::{plain_table, width_of};
use super::terminal::Style;
use super::text::{beside, columns, fold, push_folded, unbroken, visible};
use super::units::human;
use crate::compare::{
    CaseComparison, Class, Comparison, Difference, Group, MetricComparison, Scale, Verdict,
};
use comfy_table::{Cell, CellAlignment, Color, Table};
use std::collections::{BTreeMap, BTreeSet};

/// The whole comparison.
#[must_use]
pub fn comparison(comparison: &Comparison, style: &Style) -> String {
    let mut sheet = Lines {
        text: String::new(),
        style: *style,
    };
    let (a, b) = (comparison.a.runs, comparison.b.runs);
    sheet.line("", &format!("A: {a} runs, B: {b} runs"), Style::bold);
    environment(&mut sheet, comparison);
    for blocked in &comparison.blocked {
        let (a, b) = (blocked.a.join(", "), blocked.b.join(", "));
        let what = format!("{}: {}: A {a}; B {b}", blocked.case, blocked.field);
        sheet.line("not comparable:", &what, Style::bad);
    }
    if comparison.cases.iter().any(|case| !case.metrics.is_empty()) {
        let table = table(comparison, *style);
        let fits = |width| width_of(&table) <= width;
        sheet.text.push('\n');
        if style.width.is_none_or(fits) {
            sheet.text.push_str(&table.trim_fmt());
            sheet.text.push('\n');
        } else {
            narrow(&mut sheet, comparison);
        }
        sheet.text.push('\n');
    }
    footnotes(&mut sheet, comparison);
    style.finish(sheet.text)
}

/// Lines folded to the width, each led by a coloured mark.
struct Lines {
    text: String,
    style: Style,
}

impl Lines {
    /// A line, continued two columns in.
    fn line(&mut self, mark: &str, text: &str, paint: fn(Style, &str) -> String) {
        let line = format!("{mark} {text}");
        let mut folded = String::new();
        push_folded(
            &mut folded,
            visible(line.trim_start()).as_ref(),
            2,
            self.style.width,
        );
        let painted = paint(self.style, mark);
        self.text.push_str(&folded.replacen(mark, &painted, 1));
    }
}

fn plain(_: Style, text: &str) -> String {
    text.to_owned()
}

fn environment(lines: &mut Lines, comparison: &Comparison) {
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
        lines.line("environment:", "no difference that counts", plain);
    }
    for difference in shown {
        let (mark, paint): (_, fn(Style, &str) -> String) = match difference.class {
            Class::Confounder => ("confounder:", Style::doubtful),
            Class::Declared | Class::NotCounted => ("declared:", Style::good),
        };
        lines.line(mark, &in_words(difference), paint);
    }
    if !uncounted.is_empty() {
        let names = uncounted.join(", ");
        lines.line("differs, not counted:", &names, Style::faint);
    }
}

/// A difference in one line: the field, both sides' values, and what the difference means.
#[must_use]
pub(super) fn in_words(difference: &Difference) -> String {
    let (a, b) = (values(&difference.a), values(&difference.b));
    let why = difference.why.as_ref().map(|why| format!(" ({why})"));
    let field = &difference.field;
    format!("{field}: {a} → {b}{}", why.unwrap_or_default())
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

/// The columns of a comparison's table, after the case.
pub(super) const COLUMNS: [&str; 9] = [
    "metric",
    "A",
    "B",
    "B/A",
    "95 % interval",
    "p",
    "runs",
    "detectable",
    "verdict",
];

/// The cases without the words that all cases of their benchmark share: of a sweep the sizes remain.
#[must_use]
pub(super) fn labels(comparison: &Comparison) -> Vec<String> {
    let id = |case: &str| case.split(' ').next().unwrap_or_default().to_owned();
    let mut shared: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for case in &comparison.cases {
        let words: BTreeSet<&str> = case.case.split(' ').skip(1).collect();
        shared
            .entry(id(&case.case))
            .and_modify(|shared| shared.retain(|word| words.contains(word)))
            .or_insert(words);
    }
    let label = |case: &CaseComparison| {
        let shared = &shared[&id(&case.case)];
        let words = case.case.split(' ').enumerate();
        let own = words.filter(|(at, word)| *at == 0 || !shared.contains(word));
        own.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
    };
    let labels: Vec<String> = comparison.cases.iter().map(label).collect();
    let distinct: BTreeSet<&String> = labels.iter().collect();
    if distinct.len() == labels.len() {
        labels
    } else {
        let full = comparison.cases.iter().map(|case| case.case.clone());
        full.collect()
    }
}

fn table(comparison: &Comparison, style: Style) -> Table {
    let mut table = plain_table(Style {
        width: None,
        ..style
    });
    table.set_header(["case"].into_iter().chain(COLUMNS));
    for column in 2..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(last) = table.column_mut(9) {
        // Nothing follows that it would have to keep apart.
        last.set_padding((1, 0));
    }
    for (case, label) in comparison.cases.iter().zip(labels(comparison)) {
        for (index, metric) in case.metrics.iter().enumerate() {
            let label = if index == 0 { label.as_str() } else { "" };
            let [cells @ .., verdict] = cells(metric);
            let mut row: Vec<Cell> = vec![Cell::new(visible(label))];
            row.extend(cells.map(|cell| Cell::new(visible(&cell))));
            row.push(match color(metric) {
                Some(color) => Cell::new(verdict).fg(color),
                None => Cell::new(verdict),
            });
            table.add_row(row);
        }
    }
    table
}

/// Two lines per metric below its case: for terminals that the table overfills.
fn narrow(lines: &mut Lines, comparison: &Comparison) {
    let style = lines.style;
    let mut names = vec!["  metric".to_owned()];
    let mut numbers = vec![["B/A", "95 % interval"].map(str::to_owned).to_vec()];
    let metrics = || comparison.cases.iter().flat_map(|case| &case.metrics);
    for metric in metrics() {
        let [title, _, _, effect, interval, ..] = cells(metric);
        names.push(format!("  {}", visible(&title)));
        numbers.push(vec![effect, interval]);
    }
    let verdict = metrics().map(|metric| word(metric.verdict).len()).max();
    let width = style.width.unwrap_or(usize::MAX);
    let width = width.saturating_sub(verdict.unwrap_or(0) + 2);
    let mut laid_out = beside(&names, &numbers, width).into_iter();
    let header = laid_out.next().unwrap_or_default() + "  verdict";
    lines
        .text
        .push_str(&format!("{header}\n{}\n", "─".repeat(columns(&header))));
    for (case, label) in comparison.cases.iter().zip(labels(comparison)) {
        if case.metrics.is_empty() {
            continue;
        }
        for line in fold(&visible(&label), style.width) {
            lines.text.push_str(&(style.bold(&line) + "\n"));
        }
        for (metric, line) in case.metrics.iter().zip(laid_out.by_ref()) {
            let [_, a, b, _, _, p, runs, detectable, _] = cells(metric);
            let verdict = painted(metric, style);
            let runs = if metric.pairs.is_some() {
                runs
            } else {
                runs + " runs"
            };
            lines.text.push_str(&format!("{line}  {verdict}\n"));
            let words = [
                format!("A {a}"),
                format!("B {b}"),
                format!("p {p}"),
                runs,
                format!("detectable {detectable}"),
            ];
            let words = words.map(|words| unbroken(&words)).join(", ");
            if fails(metric) {
                let beyond = style.bad("beyond the gate");
                lines.text.push_str(&format!("    {beyond}\n"));
            }
            for line in fold(&words, style.width.map(|width| width - 4)) {
                lines
                    .text
                    .push_str(&format!("    {}\n", style.faint(&line)));
            }
        }
    }
}

/// One metric in words and numbers, in the order of [`COLUMNS`].
pub(super) fn cells(metric: &MetricComparison) -> [String; 9] {
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
    let word = word(metric.verdict);
    [
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
        match fails(metric) {
            true => format!("{word} beyond the gate"),
            false => word.to_owned(),
        },
    ]
}

fn signed(value: f64, metric: &MetricComparison) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}{}", human(value.abs(), metric.unit))
}

/// Whether the gate stops this metric.
pub(super) fn fails(metric: &MetricComparison) -> bool {
    metric.gate.is_some_and(|gate| gate.failed)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Differs => "differs",
        Verdict::Same => "~",
        Verdict::Confounded => "confounded",
        Verdict::Insufficient => "insufficient",
    }
}

fn color(metric: &MetricComparison) -> Option<Color> {
    match metric.verdict {
        _ if fails(metric) => Some(Color::DarkRed),
        Verdict::Better => Some(Color::DarkGreen),
        Verdict::Worse => Some(Color::DarkRed),
        Verdict::Confounded | Verdict::Insufficient => Some(Color::DarkYellow),
        Verdict::Differs | Verdict::Same => None,
    }
}

fn painted(metric: &MetricComparison, style: Style) -> String {
    let word = word(metric.verdict);
    match color(metric) {
        Some(Color::DarkGreen) => style.good(word),
        Some(Color::DarkRed) => style.bad(word),
        Some(_) => style.doubtful(word),
        None => word.to_owned(),
    }
}

fn footnotes(lines: &mut Lines, comparison: &Comparison) {
    for case in &comparison.cases {
        for metric in &case.metrics {
            if let Some(reason) = &metric.reason {
                let what = format!("{} {}: {reason}", case.case, metric.title());
                lines.line("insufficient:", &what, Style::doubtful);
            }
        }
        if case.metrics.is_empty() {
            let what = format!("{}: no valid run has a number", case.case);
            lines.line("insufficient:", &what, Style::doubtful);
        }
    }
    for (name, group) in [("A", &comparison.a), ("B", &comparison.b)] {
        notes(lines, name, group);
    }
}

fn notes(lines: &mut Lines, name: &str, group: &Group) {
    let mut reasons: Vec<((&str, &str), Vec<&str>)> = Vec::new();
    let mut known = BTreeMap::new();
    for left_out in &group.left_out {
        let reason = (left_out.case.as_str(), left_out.why.as_str());
        let at = *known.entry(reason).or_insert(reasons.len());
        if at == reasons.len() {
            reasons.push((reason, Vec::new()));
        }
        reasons[at].1.push(&left_out.run);
    }
    for ((case, why), runs) in reasons {
        let what = match runs.as_slice() {
            [run] => format!("{name} run {run}: {case}: {why}"),
            runs => format!(
                "{name} {} runs, first {}: {case}: {why}",
                runs.len(),
                runs[0]
            ),
        };
        lines.line("left out:", &what, Style::doubtful);
    }
    for case in &group.cases_of_its_own {
        lines.line(&format!("only in {name}:"), case, plain);
    }
    for (flag, count) in &group.degraded {
        let what = format!("{name}: {flag} in {count} results");
        lines.line("degraded:", &what, Style::doubtful);
    }
}
