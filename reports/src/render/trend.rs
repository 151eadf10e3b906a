//! A history for a terminal: a line per metric with its course in small, and below it every place
//! where it changed: since when, by how much, and what changed with it.

use super::terminal::Style;
use super::text::{columns, folded, pad, pad_left, visible};
use super::units::human;
use crate::compare::{Class, Difference, Effect, Scale, Verdict};
use crate::history::{CaseTrend, Change, ChangeKind, MetricTrend, Trend};
use crate::model::Unit;
use crate::stats;
use crate::summary::count;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The longest course, in characters, and the shortest of one that must make room.
const COURSE: usize = 40;
const SHORTEST_COURSE: usize = 12;
/// Columns for the latest number.
const LATEST: usize = 10;
/// The most changes that are shown of a metric, and fields of an environment.
const SHOWN: usize = 8;

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
    environments.list(&mut text, trend, style);
    footnotes(&mut text, &trend.cases, style);
    text.push_str(&tally(trend));
    style.finish(folded(&text, style.width))
}

/// What must be said of cases to tell them apart.
struct Names<'a> {
    cases: &'a [CaseTrend],
}

impl<'a> Names<'a> {
    fn of(cases: &'a [CaseTrend]) -> Self {
        Self { cases }
    }

    /// The benchmark and where it ran; the row and the definition where there are several.
    fn title(&self, case: &CaseTrend) -> String {
        let siblings = || self.cases.iter().filter(|other| other.id == case.id);
        let arm = case.arm.as_ref().map(|arm| format!(" [{arm}]"));
        let mut title = format!("{}{}", case.id, arm.unwrap_or_default());
        if siblings().any(|other| other.row != case.row) {
            let row = case.row.as_deref().unwrap_or("none");
            let _ = write!(title, " row {row}");
        }
        if siblings().any(|other| other.definition_hash != case.definition_hash) {
            let _ = write!(title, " definition {}", case.definition_hash);
        }
        let _ = write!(title, " on {}", case.hosts);
        if !case.environment.is_empty() {
            let _ = write!(title, "; {}", some(&case.environment, ", ", 3));
        }
        visible(&title).into_owned()
    }

    /// The parameters that differ from a sibling's: a sweep's size, not its defaults.
    fn params(&self, case: &CaseTrend) -> String {
        let siblings = || self.cases.iter().filter(|other| other.id == case.id);
        let differs =
            |name: &str, value| siblings().any(|other| other.params.get(name) != Some(value));
        let params = case
            .params
            .iter()
            .filter(|(name, value)| differs(name, value));
        let words = params.map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        });
        visible(&words.collect::<Vec<_>>().join(" ")).into_owned()
    }
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

/// `200 runs, 12 of them degraded`.
fn counts(case: &CaseTrend, metric: &MetricTrend) -> String {
    let runs = metric.points.len();
    let degraded = metric
        .points
        .iter()
        .filter(|point| !case.runs[point.run].degraded.is_empty());
    let mut text = count(runs, "run");
    match degraded.count() {
        0 => {}
        degraded => drop(write!(text, ", {degraded} degraded")),
    }
    match case.left_out.len() {
        0 => {}
        left_out => drop(write!(text, ", {left_out} left out")),
    }
    text
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
                let mark = style.doubtful("environment changed");
                let shift = match (change.effect, change.observed) {
                    (None, _) => change.note.clone().unwrap_or_default(),
                    (Some(effect), Verdict::Same) => {
                        format!("level as before, {}", by(&effect, metric.unit))
                    }
                    (Some(effect), _) => format!("{}, confounded", by(&effect, metric.unit)),
                };
                let _ = writeln!(
                    text,
                    "      {mark} {} [{number}]: {shift}",
                    day(&change.since)
                );
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
        Verdict::Better => style.good("better"),
        Verdict::Worse => style.bad("worse"),
        Verdict::Same => style.bold("spread changed"),
        Verdict::Differs | Verdict::Confounded | Verdict::Insufficient => style.bold("changed"),
    };
    let confounded = match change.verdict {
        Verdict::Confounded => format!(" {}", style.doubtful("(confounded)")),
        _ => String::new(),
    };
    let shift = change
        .effect
        .map(|effect| format!(": {}", by(&effect, metric.unit)));
    let _ = writeln!(
        text,
        "      {word} since {}{confounded}{}",
        day(&change.since),
        shift.unwrap_or_default()
    );
    let _ = writeln!(text, "        {}", place(case, metric, change));
    for difference in &change.differs {
        let line = format!("{}: {}", difference.field, across(difference));
        let line = visible(&line);
        let line = match difference.class {
            Class::NotCounted => style.faint(&line),
            Class::Confounder => style.doubtful(&line),
            Class::Declared => line.into_owned(),
        };
        let _ = writeln!(text, "        {line}");
    }
    if change.differs.is_empty() {
        let line = "nothing that is recorded differs: same commit, same environment, same hosts";
        let _ = writeln!(text, "        {}", style.faint(line));
    }
    if let Some(note) = &change.note {
        let _ = writeln!(text, "        {}", style.doubtful(note));
    }
}

/// The run at which it changed, and the runs at which it may have.
fn place(case: &CaseTrend, metric: &MetricTrend, change: &Change) -> String {
    let run = |point: usize| {
        let at = metric
            .points
            .get(point)
            .and_then(|point| case.runs.get(point.run));
        at.map_or(String::new(), |run| {
            let id: String = run.run.chars().take(8).collect();
            format!("{} ({})", visible(&id), day(&run.started))
        })
    };
    let id: String = change.run.chars().take(8).collect();
    let [first, last] = change.place;
    let between = format!("; it may be any from {} to {}", run(first), run(last));
    let between = if first == last {
        String::new()
    } else {
        between
    };
    format!("first run {}{between}", visible(&id))
}

fn by(effect: &Effect, unit: Unit) -> String {
    let show = |value: f64| match effect.scale {
        Scale::Ratio => format!("{value:.3}"),
        Scale::Difference => {
            let sign = if value < 0.0 { "−" } else { "+" };
            format!("{sign}{}", human(value.abs(), unit))
        }
    };
    let word = match effect.scale {
        Scale::Ratio => "ratio ",
        Scale::Difference => "",
    };
    let [value, low, high] = [effect.value, effect.low, effect.high].map(show);
    format!("{word}{value} [{low}, {high}]")
}

/// `a → b`; if several came within the place of a change, it may be any of them.
fn across(difference: &Difference) -> String {
    let (a, b) = (
        some(&difference.a, ", ", 3),
        some(&difference.b, ", ", SHOWN),
    );
    match difference.b.len() {
        0 | 1 => format!("{a} → {b}"),
        _ => format!("{a} → one of {b}"),
    }
}

/// The changes of environment that a text refers to by number.
#[derive(Default)]
struct Environments {
    /// What differs, and the first run after it.
    found: Vec<(Vec<String>, String)>,
}

impl Environments {
    fn number(&mut self, change: &Change) -> usize {
        let differences: Vec<String> = change
            .differs
            .iter()
            .map(|difference| format!("{}: {}", difference.field, across(difference)))
            .collect();
        let known = |(other, _): &(Vec<String>, String)| *other == differences;
        let place = self.found.iter().position(known).unwrap_or_else(|| {
            self.found.push((differences, change.since.clone()));
            self.found.len() - 1
        });
        place + 1
    }

    fn list(&self, text: &mut String, trend: &Trend, style: &Style) {
        for (index, (differences, since)) in self.found.iter().enumerate() {
            let line = format!("[{}] {}", index + 1, some(differences, "; ", SHOWN));
            let _ = writeln!(
                text,
                "{} {}",
                style.doubtful(&format!("environment {}:", day(since))),
                visible(&line)
            );
        }
        if let Some(hint) = restless(&trend.cases) {
            let _ = writeln!(text, "{} {}", style.doubtful("note:"), visible(&hint));
        }
    }
}

/// If the environment changes so often that nothing can be searched: which fields do.
fn restless(cases: &[CaseTrend]) -> Option<String> {
    let worst = cases
        .iter()
        .flat_map(|case| &case.metrics)
        .max_by_key(|metric| {
            metric
                .changes
                .iter()
                .filter(|change| change.kind == ChangeKind::Environment)
                .count()
        })?;
    let changes = worst
        .changes
        .iter()
        .filter(|change| change.kind == ChangeKind::Environment);
    let count = changes.clone().count();
    if count < 5 || worst.points.len() > 10 * count {
        return None;
    }
    let mut fields: BTreeMap<&str, usize> = BTreeMap::new();
    for difference in changes.flat_map(|change| &change.differs) {
        if difference.class == Class::Confounder {
            *fields.entry(&difference.field).or_default() += 1;
        }
    }
    let mut fields: Vec<(usize, &str)> = fields.into_iter().map(|(f, n)| (n, f)).collect();
    fields.sort_unstable_by(|a, b| b.cmp(a));
    let named: Vec<String> = fields
        .iter()
        .map(|(count, field)| format!("{field} ({count} times)"))
        .collect();
    let runs = worst.points.len();
    Some(format!(
        "the environment changed {count} times in {runs} runs, which leaves little to search; if \
         a field cannot matter, say --axis FIELD: {}",
        some(&named, ", ", 5)
    ))
}

fn footnotes(text: &mut String, cases: &[CaseTrend], style: &Style) {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for case in cases {
        for left_out in &case.left_out {
            *reasons.entry((&case.id, &left_out.why)).or_default() += 1;
        }
    }
    for ((id, why), count) in reasons {
        let line = format!("{id} ({count} results): {why}");
        let _ = writeln!(text, "{} {}", style.doubtful("left out:"), visible(&line));
    }
    let mut degraded: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for case in cases {
        for reason in case.runs.iter().flat_map(|run| &run.degraded) {
            let code = reason.split(':').next().unwrap_or(reason);
            *degraded.entry((&case.id, code)).or_default() += 1;
        }
    }
    for ((id, code), count) in degraded {
        let line = format!("{id} ({count} results): {code}");
        let _ = writeln!(text, "{} {}", style.doubtful("degraded:"), visible(&line));
    }
}

/// What it all comes to, and how much of it chance may have found.
fn tally(trend: &Trend) -> String {
    let metrics = || trend.cases.iter().flat_map(|case| &case.metrics);
    let changes = || metrics().flat_map(|metric| &metric.changes);
    let levels = || changes().filter(|change| change.kind == ChangeKind::Level);
    let of = |verdict| levels().filter(|change| change.verdict == verdict).count();
    let (worse, better) = (of(Verdict::Worse), of(Verdict::Better));
    let other = levels().count() - worse - better;
    let words = [
        (worse, "for the worse"),
        (better, "for the better"),
        (other, "that may be either"),
    ];
    let mut found: Vec<String> = Vec::new();
    for (number, what) in words.into_iter().filter(|(number, _)| *number > 0) {
        found.push(match found.is_empty() {
            true => format!("{} {what}", count(number, "change")),
            false => format!("{number} {what}"),
        });
    }
    let found = match found.is_empty() {
        true => "no change".to_owned(),
        false => found.join(", "),
    };
    let runs = count(trend.runs, "run");
    let mut text = format!("{runs}, {} series: {found}\n", metrics().count());
    if levels().next().is_some() {
        let _ = writeln!(
            text,
            "of 100 series in which nothing changed, about {:.0} would show a change by chance",
            100.0 * trend.level
        );
    }
    text
}

/// To the minute, as UTC; what is no time stays what it is.
fn day(started: &str) -> String {
    started.parse::<Timestamp>().map_or_else(
        |_| visible(started).into_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

/// The first few, and how many more there are.
fn some(items: &[String], between: &str, shown: usize) -> String {
    let first = items.iter().take(shown).cloned().collect::<Vec<_>>();
    let first = first.join(between);
    match items.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
