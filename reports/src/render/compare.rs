//! A comparison for a terminal: the two sides, what differs between their environments, a table
//! with a line per metric, and below it everything that was left out and what the words mean.

use super::differences::environment;
use super::grid::{Alignment, Grid};
use super::terminal::Style;
use super::text::{folded, push_folded, unbroken, visible};
use super::units::human;
use crate::compare::{Comparison, Effect, Group, MetricComparison, Scale, Status, Verdict};
use crate::summary::count;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The whole comparison, in lines as wide as the style allows, as far as names do. Writing to a
/// string cannot fail, so results of `writeln!` are dropped.
#[must_use]
pub fn comparison(comparison: &Comparison, style: &Style) -> String {
    let mut text = String::new();
    for (name, group) in [("A", &comparison.a), ("B", &comparison.b)] {
        side(&mut text, name, group, style);
    }
    environment(&mut text, comparison, style);
    let mut text = folded(&text, style.width);
    if comparison.cases.iter().any(|case| !case.metrics.is_empty()) {
        text.push('\n');
        text.push_str(&table(comparison, style));
        text.push_str(&folded(&legend(comparison, style), style.width));
    }
    text.push('\n');
    let mut notes = String::new();
    blocked(&mut notes, comparison, style);
    footnotes(&mut notes, comparison, style);
    conclusion(&mut notes, comparison, style);
    text.push_str(&folded(&notes, style.width));
    style.finish(text)
}

fn side(text: &mut String, name: &str, group: &Group, style: &Style) {
    let runs = count(group.runs, "run");
    let called = match group.name.as_str() {
        "" => String::new(),
        called => format!("{}  ", visible(called)),
    };
    let time = group.time.as_ref().map_or(String::new(), |(from, to)| {
        let line = format!("  {} – {}", moment(from), moment(to));
        style.faint(&line)
    });
    let _ = writeln!(text, "{}  {called}{runs}{time}", style.bold(name));
}

/// A time of a report to the minute: `2026-11-20 08:12`.
fn moment(time: &str) -> String {
    let minutes = time.get(..16).unwrap_or(time);
    visible(&minutes.replace('T', " ")).into_owned()
}

fn table(comparison: &Comparison, style: &Style) -> String {
    let fits = |grid: &Grid<'_>| style.width.is_none_or(|width| grid.width() <= width);
    for grid in [wide(comparison, style), narrow(comparison, style)] {
        if fits(&grid) {
            return grid.finish(*style);
        }
    }
    lines(comparison, style)
}

/// A metric's numbers in a line below its name, for terminals that even the narrow table overfills.
fn lines(comparison: &Comparison, style: &Style) -> String {
    let mut text = String::new();
    for case in &comparison.cases {
        push_folded(
            &mut text,
            &style.bold(&visible(&case.label)),
            2,
            style.width,
        );
        for metric in &case.metrics {
            let Numbers {
                medians: [a, b],
                effect,
                interval,
                ..
            } = numbers(metric);
            let runs = style.faint(&unbroken(&format!("({})", runs(metric))));
            let title = format!("  {}  {runs}", visible(&metric.title()));
            push_folded(&mut text, &title, 2, style.width);
            let parts = [
                format!("{a} → {b}"),
                format!("B/A {effect}"),
                format!("[{interval}]"),
                verdict(metric, style),
            ];
            let line = format!("    {}", parts.map(|part| unbroken(&part)).join("  "));
            push_folded(&mut text, &line, 2, style.width);
        }
    }
    text
}

/// The columns of a comparison's table; all but the first and the last hold numbers.
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

/// A line per metric below the line of its case.
fn wide(comparison: &Comparison, style: &Style) -> Grid<'static> {
    let columns = COLUMNS.map(|name| match name {
        "metric" | "verdict" => (name, Alignment::Left),
        _ => (name, Alignment::Right),
    });
    let mut grid = Grid::new(&columns);
    for case in &comparison.cases {
        grid.heading(style.bold(&visible(&case.label)));
        for metric in &case.metrics {
            grid.row(cells(metric, style));
        }
    }
    grid
}

/// One metric in words and numbers, in the order of [`COLUMNS`].
pub(super) fn cells(metric: &MetricComparison, style: &Style) -> [String; 9] {
    let Numbers {
        medians: [a, b],
        effect,
        interval,
        detectable,
    } = numbers(metric);
    [
        visible(&metric.title()).into_owned(),
        a,
        b,
        effect,
        interval,
        p_value(metric),
        runs(metric),
        detectable,
        verdict(metric, style),
    ]
}

/// Whether the gate stops this metric.
pub(super) fn fails(metric: &MetricComparison) -> bool {
    metric.gate.is_some_and(|gate| gate.failed)
}

/// The numbers of a metric below its name, for terminals that the wide table overfills.
fn narrow(comparison: &Comparison, style: &Style) -> Grid<'static> {
    use Alignment::{Left, Right};
    let mut grid = Grid::new(&[
        ("A", Right),
        ("B", Right),
        ("B/A", Right),
        ("95 % interval", Right),
        ("detectable", Right),
        ("verdict", Left),
    ]);
    for case in &comparison.cases {
        grid.heading(style.bold(&visible(&case.label)));
        for metric in &case.metrics {
            let Numbers {
                medians: [a, b],
                effect,
                interval,
                detectable,
            } = numbers(metric);
            let (title, runs) = (metric.title(), style.faint(&format!("({})", runs(metric))));
            grid.heading(format!("  {}  {runs}", visible(&title)));
            let verdict = verdict(metric, style);
            grid.row([a, b, effect, interval, detectable, verdict]);
        }
    }
    grid
}

struct Numbers {
    medians: [String; 2],
    effect: String,
    interval: String,
    detectable: String,
}

fn numbers(metric: &MetricComparison) -> Numbers {
    let median = |value: Option<f64>| value.map_or("n/a".into(), |v| human(v, metric.unit));
    let show = |effect: &Effect, value: f64| match effect.scale {
        Scale::Ratio => format!("{value:.3}"),
        Scale::Difference => signed(value, metric),
    };
    let (effect, interval) = match &metric.effect {
        None => ("n/a".to_owned(), "n/a".to_owned()),
        Some(effect) => {
            let (low, high) = (show(effect, effect.low), show(effect, effect.high));
            (show(effect, effect.value), format!("{low} – {high}"))
        }
    };
    Numbers {
        medians: [metric.a.median, metric.b.median].map(median),
        effect,
        interval,
        detectable: detectable(metric),
    }
}

/// The smallest change that would have been found: relative, or in the metric's unit.
pub(super) fn detectable(metric: &MetricComparison) -> String {
    match (metric.detectable, metric.effect) {
        (None, _) => "n/a".to_owned(),
        (Some(size), Some(effect)) if effect.scale == Scale::Difference => human(size, metric.unit),
        (Some(size), _) => percent(size),
    }
}

/// A share in percent, with one decimal as long as it says something.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() < 100.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

fn signed(value: f64, metric: &MetricComparison) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}{}", human(value.abs(), metric.unit))
}

fn runs(metric: &MetricComparison) -> String {
    match metric.pairs {
        Some(pairs) => count(pairs, "pair"),
        None => format!("{} + {}", metric.a.runs, metric.b.runs),
    }
}

/// The adjusted p value; below a thousandth nobody cares by how much.
fn p_value(metric: &MetricComparison) -> String {
    match metric.adjusted_p_value {
        None => "n/a".to_owned(),
        Some(p) if p < 0.001 => "<0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}

/// A verdict's word in its colour.
pub(super) fn word(verdict: Verdict, style: &Style) -> String {
    match verdict {
        Verdict::Better => style.good("better"),
        Verdict::Worse => style.bad("worse"),
        Verdict::Differs => style.bold("differs"),
        Verdict::Same => "~".to_owned(),
        Verdict::Confounded => style.doubtful("confounded"),
        Verdict::Insufficient => style.doubtful("insufficient"),
    }
}

fn verdict(metric: &MetricComparison, style: &Style) -> String {
    let word = word(metric.verdict, style);
    match metric.gate {
        Some(gate) if gate.failed => {
            let beyond = format!("beyond {}", gate.threshold);
            format!("{word} {}", style.bad(&beyond))
        }
        _ => word,
    }
}

/// What the columns and words mean, of those that appear.
fn legend(comparison: &Comparison, style: &Style) -> String {
    let mut text = String::new();
    let metrics = || comparison.cases.iter().flat_map(|case| &case.metrics);
    let tested = metrics().filter(|metric| metric.p_value.is_some()).count();
    let any = |verdict| metrics().any(|metric| metric.verdict == verdict);
    let mut lines = vec![
        "A, B: medians over runs; detectable: the smallest change that so many runs with such a \
         spread show 4 times in 5; ~: no difference was found, which says little about smaller ones"
            .to_owned(),
    ];
    if tested > 1 {
        lines.push(format!(
            "p: adjusted for {tested} metrics at once (Benjamini-Hochberg)"
        ));
    }
    if any(Verdict::Confounded) {
        lines.push(
            "confounded: the numbers differ, and so do the environments: hold those equal, or say \
             with --axis FIELD which difference is under study"
                .into(),
        );
    }
    for line in lines {
        let _ = writeln!(text, "{}", style.faint(&line));
    }
    text
}

fn blocked(text: &mut String, comparison: &Comparison, style: &Style) {
    for blocked in &comparison.blocked {
        let list = |values: &[String]| visible(&some_of(values)).into_owned();
        let mark = style.bad("not comparable:");
        let _ = writeln!(
            text,
            "{mark} {}: {}: A {}; B {}",
            visible(&blocked.case),
            visible(&blocked.field),
            list(&blocked.a),
            list(&blocked.b)
        );
    }
}

/// The first few values; a field may have one per run.
pub(super) fn some_of(values: &[String]) -> String {
    const SHOWN: usize = 4;
    let shown = values[..values.len().min(SHOWN)].join(" | ");
    match values.len() {
        0..=SHOWN => shown,
        count => format!("{shown} and {} more", count - SHOWN),
    }
}

fn footnotes(text: &mut String, comparison: &Comparison, style: &Style) {
    let mark = style.doubtful("insufficient:");
    for case in &comparison.cases {
        let label = visible(&case.label);
        for metric in &case.metrics {
            if let Some(reason) = &metric.reason {
                let what = format!("{}: {reason}", metric.title());
                let _ = writeln!(text, "{mark} {label} {}", visible(&what));
            }
        }
        if case.metrics.is_empty() {
            let _ = writeln!(text, "{mark} {label}: no valid run has a number");
        }
    }
    for (name, group) in [("A", &comparison.a), ("B", &comparison.b)] {
        notes(text, name, group, style);
    }
}

fn notes(text: &mut String, name: &str, group: &Group, style: &Style) {
    // A thousand runs may be left out for one reason: one line.
    let mut reasons: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for left_out in &group.left_out {
        let reason = (left_out.why.as_str(), left_out.case.as_str());
        reasons.entry(reason).or_default().push(&left_out.run);
    }
    let mark = style.doubtful("left out:");
    for ((why, case), of_runs) in reasons {
        let runs = match of_runs.as_slice() {
            [run] => format!("run {}", visible(run)),
            [first, ..] => format!("{} ({}, ...)", count(of_runs.len(), "run"), visible(first)),
            [] => continue,
        };
        let (why, case) = (visible(why), visible(case));
        let _ = writeln!(text, "{mark} {name}: {runs} of {case}: {why}");
    }
    for case in &group.cases_of_its_own {
        let mark = style.doubtful(&format!("only in {name}:"));
        let _ = writeln!(text, "{mark} {}", visible(case));
    }
    for (flag, results) in &group.degraded {
        let mark = style.doubtful("degraded:");
        let results = count(*results, "result");
        let _ = writeln!(text, "{mark} {name}: {} in {results}", visible(flag));
    }
}

/// What it all comes to, in one line.
fn conclusion(text: &mut String, comparison: &Comparison, style: &Style) {
    let metrics = || comparison.cases.iter().flat_map(|case| &case.metrics);
    let mut counts = Vec::new();
    for (verdict, words) in [
        (Verdict::Worse, "worse"),
        (Verdict::Better, "better"),
        (Verdict::Differs, "different"),
        (Verdict::Confounded, "confounded"),
        (Verdict::Insufficient, "insufficient"),
        (Verdict::Same, "without a difference"),
    ] {
        let number = metrics().filter(|metric| metric.verdict == verdict).count();
        if number > 0 {
            counts.push(format!("{number} {words}"));
        }
    }
    let total = count(metrics().count(), "metric");
    let counts = match counts.as_slice() {
        [] => String::new(),
        counts => format!(": {}", counts.join(", ")),
    };
    let failing = metrics().filter(|metric| metric.gate.is_some_and(|gate| gate.failed));
    let gated = metrics().any(|metric| metric.gate.is_some());
    let gate = match (gated, failing.count()) {
        (false, _) => String::new(),
        (true, 0) => "; none beyond its gate".to_owned(),
        (true, failing) => format!("; {failing} beyond the gate"),
    };
    let status = match comparison.status {
        Status::Pass => String::new(),
        Status::Regression => format!("; {}", style.bad("regression")),
        Status::Incomparable => format!("; {}", style.bad("not everything can be compared")),
        Status::Insufficient => format!("; {}", style.doubtful("not everything can be told")),
    };
    let _ = writeln!(text, "{total} compared{counts}{gate}{status}");
}
