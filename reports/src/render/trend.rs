//! A history for a terminal: a line per metric with its course in small, and below it every place
//! where it changed: since when, by how much, and what changed with it.

pub(in crate::render) mod words;

use super::terminal::Style;
use super::text::{columns, folded, pad, pad_left, visible};
use super::units::human;
use crate::compare::{Class, Verdict};
use crate::history::{CaseTrend, Change, ChangeKind, MetricTrend, Trend};
use crate::stats;
use std::fmt::Write as _;
use words::{
    Environments, NOTHING_DIFFERS, Names, SHOWN, confounded, counts, day, differing, footnotes,
    place, restless, shift, tally, word,
};

/// The longest course, in characters, and the shortest of one that must make room.
const COURSE: usize = 40;
const SHORTEST_COURSE: usize = 12;
/// Columns for the latest number.
const LATEST: usize = 10;

/// The whole trend. Writing to a string cannot fail, so results of `writeln!` are dropped.
#[must_use]
pub fn trend(trend: &Trend, style: &Style) -> String {
    let mut text = String::new();
    let mut environments = Environments::default();
    let names = Names::of(&trend.cases);
    for cases in trend
        .cases
        .chunk_by(|a, b| names.title(a) == names.title(b))
    {
        let _ = writeln!(text, "{}", style.bold(&names.title(&cases[0])));
        block(&mut text, cases, &names, &mut environments, style);
    }
    closing(&mut text, trend, &environments, style);
    text.push_str(&tally(trend));
    style.finish(folded(&text, style.width))
}

/// Cases under one title, aligned.
fn block(
    text: &mut String,
    cases: &[CaseTrend],
    names: &Names<'_>,
    environments: &mut Environments,
    style: &Style,
) {
    let widest = |texts: &mut dyn Iterator<Item = String>| {
        texts.map(|text| columns(&text)).max().unwrap_or(0)
    };
    let metrics = || cases.iter().flat_map(|case| &case.metrics);
    let params = widest(&mut cases.iter().map(|case| names.params(case)));
    let titles = widest(&mut metrics().map(|metric| visible(&metric.title).into_owned()));
    let gap = if params > 0 { "  " } else { "" };
    let counted = cases
        .iter()
        .flat_map(|case| case.metrics.iter().map(move |metric| counts(case, metric)));
    let beside = 2 + params + gap.len() + titles + 2 + 2 + LATEST + 2 + widest(&mut { counted });
    let longest = style.width.map_or(COURSE, |width| {
        width.saturating_sub(beside).clamp(SHORTEST_COURSE, COURSE)
    });
    let courses = metrics()
        .map(|metric| metric.points.len().min(longest))
        .max();
    for case in cases {
        let mut label = names.params(case);
        for metric in &case.metrics {
            let title = pad(&visible(&metric.title), titles);
            let course = pad(&course(metric, longest), courses.unwrap_or(0));
            let latest = case
                .latest(metric)
                .map(|(_, value)| human(value, metric.unit));
            let latest = pad_left(&latest.unwrap_or("n/a".to_owned()), LATEST);
            let _ = writeln!(
                text,
                "  {}{gap}{title}  {course}  {}  {}",
                pad(&label, params),
                style.bold(&latest),
                style.faint(&counts(case, metric))
            );
            label.clear();
            changes(text, case, metric, environments, style);
        }
        if case.metrics.is_empty() {
            let _ = writeln!(text, "  {label}  {}", style.doubtful("no run counts"));
        }
    }
}

/// The medians of the runs in small. Ten percent fill the height at least, so that noise looks
/// like noise.
fn course(metric: &MetricTrend, longest: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (points, width) = (&metric.points, metric.points.len().min(longest));
    let medians: Vec<f64> = (0..width)
        .filter_map(|at| {
            let [start, end] = [at, at + 1].map(|at| at * points.len() / width);
            let values: Vec<f64> = points[start..end].iter().map(|point| point.value).collect();
            stats::median(&values)
        })
        .collect();
    let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let high = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = low / 2.0 + high / 2.0;
    let height = (high - low).max(0.1 * middle.abs());
    let level = |value: &f64| {
        let share = 0.5 + (value - middle) / height;
        // Not a number where every value is zero: the middle is as good as any.
        let share = if share.is_finite() { share } else { 0.5 };
        LEVELS[((share * 8.0) as usize).min(7)]
    };
    medians.iter().map(level).collect()
}

fn changes(
    text: &mut String,
    case: &CaseTrend,
    metric: &MetricTrend,
    environments: &mut Environments,
    style: &Style,
) {
    let hidden = metric.changes.len().saturating_sub(SHOWN);
    if hidden > 0 {
        let line = format!("{hidden} earlier changes; --json shows all");
        let _ = writeln!(text, "      {}", style.faint(&line));
    }
    for change in &metric.changes[hidden..] {
        match change.kind {
            ChangeKind::Level => level(text, case, metric, change, style),
            ChangeKind::Environment => {
                let number = environments.number(change);
                let mark = style.doubtful(word(change));
                let (since, shift) = (day(&change.since), shift(change, metric.unit));
                let _ = writeln!(text, "      {mark} {since} [{number}]{shift}");
            }
        }
    }
}

/// A change of level: since when, by how much, and what else differs.
fn level(
    text: &mut String,
    case: &CaseTrend,
    metric: &MetricTrend,
    change: &Change,
    style: &Style,
) {
    let word = match change.observed {
        Verdict::Better => style.good(word(change)),
        Verdict::Worse => style.bad(word(change)),
        _ => style.bold(word(change)),
    };
    let confounded = confounded(change).map_or(String::new(), |confounded| {
        format!(" {}", style.doubtful(confounded))
    });
    let (since, shift) = (day(&change.since), shift(change, metric.unit));
    let _ = writeln!(text, "      {word} since {since}{confounded}{shift}");
    let _ = writeln!(text, "        {}", place(case, metric, change));
    for difference in &change.differs {
        let line = differing(difference);
        let line = visible(&line);
        let line = match difference.class {
            Class::NotCounted => style.faint(&line),
            Class::Confounder => style.doubtful(&line),
            Class::Declared => line.into_owned(),
        };
        let _ = writeln!(text, "        {line}");
    }
    if change.differs.is_empty() {
        let _ = writeln!(text, "        {}", style.faint(NOTHING_DIFFERS));
    }
    if let Some(note) = &change.note {
        let _ = writeln!(text, "        {}", style.doubtful(note));
    }
}

/// What the text refers to by number, what may be done about it, and what does not count in full.
fn closing(text: &mut String, trend: &Trend, environments: &Environments, style: &Style) {
    for (index, (since, differences)) in environments.lines().enumerate() {
        let head = style.doubtful(&format!("environment {since}:"));
        let _ = writeln!(text, "{head} [{}] {differences}", index + 1);
    }
    let hint = restless(&trend.cases).map(|hint| ("note:", visible(&hint).into_owned()));
    for (what, line) in hint.into_iter().chain(footnotes(&trend.cases)) {
        let _ = writeln!(text, "{} {line}", style.doubtful(what));
    }
}
