//! What is said of a history, in the same words on a terminal and on a page: what a case is called,
//! where it changed, by how much, and what else did there.

use super::super::text::visible;
use super::super::units::human;
use crate::compare::{Class, Difference, Effect, Scale, Verdict};
use crate::history::{CaseTrend, Change, ChangeKind, MetricTrend, Trend};
use crate::model::Unit;
use crate::summary::count;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The most changes that are shown of a metric, and fields of an environment.
pub(in crate::render) const SHOWN: usize = 8;

/// What must be said of cases to tell them apart.
pub(in crate::render) struct Names<'a> {
    cases: &'a [CaseTrend],
}

impl<'a> Names<'a> {
    pub(in crate::render) fn of(cases: &'a [CaseTrend]) -> Self {
        Self { cases }
    }

    /// The benchmark and where it ran; the row and the definition where there are several.
    pub(in crate::render) fn title(&self, case: &CaseTrend) -> String {
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
    pub(in crate::render) fn params(&self, case: &CaseTrend) -> String {
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

/// `200 runs, 12 of them degraded`.
pub(in crate::render) fn counts(case: &CaseTrend, metric: &MetricTrend) -> String {
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

/// What the numbers did, in a word.
pub(in crate::render) fn word(change: &Change) -> &'static str {
    match (change.kind, change.observed) {
        (ChangeKind::Environment, _) => "environment changed",
        (_, Verdict::Better) => "better",
        (_, Verdict::Worse) => "worse",
        (_, Verdict::Same) => "spread changed",
        (_, Verdict::Differs | Verdict::Confounded | Verdict::Insufficient) => "changed",
    }
}

/// What follows the place of a change: by how much, and whether that says anything.
pub(in crate::render) fn shift(change: &Change, unit: Unit) -> String {
    match (change.kind, change.effect) {
        (ChangeKind::Level, None) => String::new(),
        (ChangeKind::Level, Some(effect)) => format!(": {}", by(&effect, unit)),
        (ChangeKind::Environment, None) => {
            format!(": {}", change.note.as_deref().unwrap_or_default())
        }
        (ChangeKind::Environment, Some(effect)) => match change.observed {
            Verdict::Same => format!(": level as before, {}", by(&effect, unit)),
            _ => format!(": {}, confounded", by(&effect, unit)),
        },
    }
}

/// What stands behind the moment of a change that may have another cause.
pub(in crate::render) fn confounded(change: &Change) -> Option<&'static str> {
    let doubtful = change.kind == ChangeKind::Level && change.verdict == Verdict::Confounded;
    doubtful.then_some("(confounded)")
}

/// What is said where nothing explains a change.
pub(in crate::render) const NOTHING_DIFFERS: &str =
    "nothing that is recorded differs: same commit, same environment, same hosts";

/// A field that differs, and how.
pub(in crate::render) fn differing(difference: &Difference) -> String {
    format!("{}: {}", difference.field, across(difference))
}

/// The run at which it changed, and the runs at which it may have.
pub(in crate::render) fn place(case: &CaseTrend, metric: &MetricTrend, change: &Change) -> String {
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

/// By how much, with its interval.
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
pub(in crate::render) struct Environments {
    /// What differs, and the first run after it.
    found: Vec<(Vec<String>, String)>,
}

impl Environments {
    /// Its number, from 1 on; the same differences have one number.
    pub(in crate::render) fn number(&mut self, change: &Change) -> usize {
        let differences: Vec<String> = change.differs.iter().map(differing).collect();
        let known = |(other, _): &(Vec<String>, String)| *other == differences;
        let place = self.found.iter().position(known).unwrap_or_else(|| {
            self.found.push((differences, change.since.clone()));
            self.found.len() - 1
        });
        place + 1
    }

    /// Each in words, in the order of their numbers: when it was, and what differs.
    pub(in crate::render) fn lines(&self) -> impl Iterator<Item = (String, String)> {
        let line = |(differences, since): &(Vec<String>, String)| {
            let text = some(differences, "; ", SHOWN);
            (day(since), visible(&text).into_owned())
        };
        self.found.iter().map(line)
    }
}

/// If the environment changes so often that nothing can be searched: which fields do.
pub(in crate::render) fn restless(cases: &[CaseTrend]) -> Option<String> {
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

/// What was left out and what is degraded, and how often: the kind of thing, and the rest.
pub(in crate::render) fn footnotes(cases: &[CaseTrend]) -> Vec<(&'static str, String)> {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut degraded: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for case in cases {
        for left_out in &case.left_out {
            *reasons.entry((&case.id, &left_out.why)).or_default() += 1;
        }
        for reason in case.runs.iter().flat_map(|run| &run.degraded) {
            let code = reason.split(':').next().unwrap_or(reason);
            *degraded.entry((&case.id, code)).or_default() += 1;
        }
    }
    let line = |(what, ((id, why), count)): (&'static str, ((&str, &str), usize))| {
        let line = format!("{id} ({count} results): {why}");
        (what, visible(&line).into_owned())
    };
    let reasons = reasons.into_iter().map(|reason| ("left out:", reason));
    let degraded = degraded.into_iter().map(|code| ("degraded:", code));
    reasons.chain(degraded).map(line).collect()
}

/// What it all comes to, and how much of it chance may have found.
pub(in crate::render) fn tally(trend: &Trend) -> String {
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
pub(in crate::render) fn day(started: &str) -> String {
    started.parse::<Timestamp>().map_or_else(
        |_| visible(started).into_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}

/// The first few, and how many more there are.
pub(in crate::render) fn some(items: &[String], between: &str, shown: usize) -> String {
    let first = items.iter().take(shown).cloned().collect::<Vec<_>>();
    let first = first.join(between);
    match items.len().saturating_sub(shown) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
