//! The page's plots: percentiles, the course of the window, the runs in their order, and curves
//! over size. Each has a table behind it with the same numbers.

use super::family::{Family, Member, Over};
use super::svg::{Axis, COLORS, Data, Mark, Scale, Series, plot};
use crate::model::{Severity, Unit};
use crate::render::slices::{self, Point};
use crate::render::units::human;
use crate::stats;
use crate::summary::{CaseSummary, MetricSummary, RunSummary};
use hdrhistogram::Histogram;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Up to so many runs are drawn as a line each; of more, the median and the range.
const MOST_LINES: usize = 8;
/// More slices than these are too fine to be drawn or read; neighbours are taken together.
const MOST_SLICES: usize = 120;

/// The percentiles of the table behind the plot.
const PERCENTILES: [(f64, &str); 9] = [
    (0.0, "min"),
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.999_99, "99.999 %"),
    (0.999_999, "99.9999 %"),
    (1.0, "max"),
];

/// Latency against percentile, the percentiles spread as log(1 − q): each step to the right is
/// ten times rarer. All runs' samples together; the runs' own spread is in the summary.
pub(super) fn percentiles(family: &Family<'_>) -> Markup {
    let drawn: Vec<(String, &Histogram<u64>)> = family
        .members
        .iter()
        .flat_map(|member| member.case.histograms.iter().map(move |of| (member, of)))
        .filter(|(_, (_, histogram))| histogram.len() >= 10)
        .map(|(member, (name, histogram))| {
            let words = [member.name.as_str(), name.as_str()];
            let several = member.case.histograms.len() > 1 || member.name.is_empty();
            let words = if several { &words[..] } else { &words[..1] };
            (words.join(" ").trim().to_owned(), histogram)
        })
        .take(COLORS)
        .collect();
    let Some(deepest) = drawn
        .iter()
        .map(|(_, histogram)| nines(histogram))
        .max_by(f64::total_cmp)
    else {
        return html! {};
    };
    let right = deepest.ceil();
    let ticks = PERCENTILES[2..8]
        .iter()
        .map(|(_, label)| (*label).to_owned());
    let ticks = std::iter::once("0 %".to_owned()).chain(ticks);
    let ticks = ticks.enumerate().take(right as usize + 1);
    let ticks = ticks.map(|(nines, label)| (nines as f64, label)).collect();
    let series: Vec<Series> = drawn
        .iter()
        .enumerate()
        .map(|(color, (name, histogram))| Series {
            name: name.clone(),
            color,
            mark: Mark::Line,
            points: quantiles(histogram),
        })
        .collect();
    let values = series.iter().flat_map(|one| &one.points).map(|p| p.1);
    let latency = |ns| human(ns, Unit::Nanoseconds);
    let x = Axis::fixed("percentile", 0.0, right, ticks);
    let y = Axis::covering("latency", Scale::Log, values, latency);
    let rows = PERCENTILES
        .iter()
        .map(|(q, label)| (-(1.0 - q).log10(), q, label))
        .filter(|(nines, ..)| *nines <= deepest || nines.is_infinite())
        .map(|(at, q, label)| {
            let value = |histogram: &Histogram<u64>| match at.is_finite() && at > nines(histogram) {
                true => "too few samples".to_owned(),
                false => latency(histogram.value_at_quantile(*q) as f64),
            };
            let mut cells = vec![(*label).to_owned()];
            cells.extend(drawn.iter().map(|(_, histogram)| value(histogram)));
            (at.min(deepest), cells)
        });
    let data = Data {
        columns: named("percentile", drawn.iter().map(|(name, _)| name.as_str())),
        rows: rows.collect(),
    };
    let title = format!("Latency by percentile of {}", family.label);
    plot(&title, &x, &y, &series, &data)
}

fn named<'a>(first: &'a str, others: impl Iterator<Item = &'a str>) -> Vec<String> {
    std::iter::once(first)
        .chain(others)
        .map(str::to_owned)
        .collect()
}

/// How many nines a histogram reaches before less than one sample stands behind a percentile.
fn nines(histogram: &Histogram<u64>) -> f64 {
    (histogram.len() as f64).log10().min(6.0)
}

/// Points (number of nines, value), up to the last percentile that a sample stands behind.
fn quantiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = (nines(histogram) * 24.0) as usize;
    (0..=steps)
        .map(|step| {
            let nines = step as f64 / 24.0;
            let value = histogram.value_at_quantile(1.0 - 10f64.powf(-nines));
            (nines, (value as f64).max(1.0))
        })
        .collect()
}

/// Rate against time. Few runs are a line each; many are their median and range. A triangle marks
/// a slice in which something held the machine back.
pub(super) fn over_time(family: &Family<'_>) -> Markup {
    let has_slices = |member: &&Member<'_>| member.case.intervals.iter().any(|run| run.len() > 1);
    let members: Vec<&Member<'_>> = family
        .members
        .iter()
        .filter(has_slices)
        .take(COLORS)
        .collect();
    if members.is_empty() {
        return html! {};
    }
    let moves_bytes = |member: &&Member<'_>| {
        let mut runs = member.case.intervals.iter();
        runs.any(|run| slices::unit(run) == Unit::BytesPerSecond)
    };
    let unit = match members.iter().all(moves_bytes) {
        true => Unit::BytesPerSecond,
        false => Unit::PerSecond,
    };
    let mut series = Vec::new();
    let mut columns = vec!["time".to_owned()];
    let mut rows: BTreeMap<usize, (f64, Vec<String>)> = BTreeMap::new();
    for (color, member) in members.iter().enumerate() {
        let runs: Vec<Vec<Point>> = member
            .case
            .intervals
            .iter()
            .map(|run| slices::points(run, unit, MOST_SLICES))
            .collect();
        let merged = over_runs(&runs);
        columns.push(match member.name.as_str() {
            "" => "rate".to_owned(),
            name => name.to_owned(),
        });
        for (index, slice) in merged.iter().enumerate() {
            let (_, cells) = rows
                .entry(index)
                .or_insert_with(|| (slice.at_s, Vec::new()));
            cells.resize(color, String::new());
            cells.push(slice.in_words(unit, runs.len()));
        }
        draw_course(&mut series, color, &member.name, &runs, &merged);
    }
    let all = || series.iter().flat_map(|one: &Series| &one.points);
    let x = Axis::covering("seconds", Scale::Linear, all().map(|p| p.0), |t| {
        format!("{}", (t * 1000.0).round() / 1000.0)
    });
    let y = Axis::covering("rate", Scale::Linear, all().map(|p| p.1), |v| {
        human(v, unit)
    });
    let rows = rows.into_values().map(|(at_s, mut cells)| {
        cells.insert(0, human(at_s, Unit::Seconds));
        cells.resize(columns.len(), String::new());
        (at_s, cells)
    });
    let rows = rows.collect();
    let title = format!("Rate over time of {}", family.label);
    plot(&title, &x, &y, &series, &Data { columns, rows })
}

fn draw_course(
    series: &mut Vec<Series>,
    color: usize,
    member: &str,
    runs: &[Vec<Point>],
    merged: &[Slice],
) {
    let named = |what: &str| format!("{member} {what}").trim_start().to_owned();
    let mut push = |name: String, mark, points| {
        series.push(Series {
            name,
            color,
            mark,
            points,
        });
    };
    if runs.len() <= MOST_LINES {
        for run in runs {
            let points = run.iter().map(|point| (point.at_s, point.rate)).collect();
            push(named("a line per run"), Mark::Line, points);
        }
    } else {
        let upper = merged.iter().map(|slice| (slice.at_s, slice.high));
        let lower = merged.iter().rev().map(|slice| (slice.at_s, slice.low));
        push(
            named("range of the runs"),
            Mark::Band,
            upper.chain(lower).collect(),
        );
        let median = merged.iter().map(|slice| (slice.at_s, slice.median));
        push(named("median of the runs"), Mark::Line, median.collect());
    }
    let mut marks: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for point in runs.iter().flatten() {
        for flag in &point.flags {
            marks
                .entry(flag)
                .or_default()
                .push((point.at_s, point.rate));
        }
    }
    for (flag, points) in marks {
        push(named(flag), Mark::Warning, points);
    }
}

/// The same slice of all runs.
struct Slice {
    at_s: f64,
    median: f64,
    low: f64,
    high: f64,
    /// How many runs were held back in it, by flag.
    flags: BTreeMap<String, usize>,
}

impl Slice {
    fn in_words(&self, unit: Unit, runs: usize) -> String {
        let mut text = human(self.median, unit);
        if runs > 1 {
            text.push_str(&format!(
                " ({} – {})",
                human(self.low, unit),
                human(self.high, unit)
            ));
        }
        for (flag, runs) in &self.flags {
            text.push_str(&format!("; {flag} in {runs}"));
        }
        text
    }
}

fn over_runs(runs: &[Vec<Point>]) -> Vec<Slice> {
    let longest = runs.iter().map(Vec::len).max().unwrap_or(0);
    let slice = |index: usize| {
        let points = || runs.iter().filter_map(|run| run.get(index));
        let rates: Vec<f64> = points().map(|point| point.rate).collect();
        let times: Vec<f64> = points().map(|point| point.at_s).collect();
        let mut flags: BTreeMap<String, usize> = BTreeMap::new();
        for flag in points().flat_map(|point| &point.flags) {
            *flags.entry(flag.clone()).or_default() += 1;
        }
        Some(Slice {
            at_s: stats::median(&times)?,
            median: stats::median(&rates)?,
            low: rates.iter().copied().fold(f64::INFINITY, f64::min),
            high: rates.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            flags,
        })
    };
    (0..longest).filter_map(slice).collect()
}

/// One run on the plot of runs.
struct Dot<'a> {
    member: usize,
    run: &'a RunSummary,
    value: f64,
}

impl Dot<'_> {
    /// What speaks against the run, in words.
    fn doubts(&self) -> Vec<String> {
        let flags = self.run.flags.iter();
        let telling = flags.filter(|flag| flag.severity != Severity::Info);
        let mut doubts: Vec<String> = telling.map(|flag| flag.code.clone()).collect();
        doubts.dedup();
        let risen = self.run.risen.iter();
        doubts.extend(risen.map(|(counter, by)| format!("{counter} +{by}")));
        doubts
    }
}

/// The first headline of each run in the order in which the runs were started: drift shows as a
/// slope, and what speaks against a run as a triangle.
pub(super) fn run_order(family: &Family<'_>) -> Markup {
    let members: Vec<&Member<'_>> = family.members.iter().take(COLORS).collect();
    let Some((metric, unit)) = members.iter().find_map(|member| {
        let metric = *member.case.headlines().first()?;
        Some((metric.title(), metric.unit))
    }) else {
        return html! {};
    };
    let mut dots: Vec<Dot<'_>> = Vec::new();
    for (at, member) in members.iter().enumerate() {
        dots.extend(of_member(at, member.case, &metric, unit));
    }
    if dots.len() < 2 {
        return html! {};
    }
    let session = |dot: &Dot<'_>| dot.run.order.as_ref().map(|(session, _)| session.clone());
    let one_session =
        session(&dots[0]).is_some() && dots.iter().all(|dot| session(dot) == session(&dots[0]));
    dots.sort_by(|a, b| a.run.started.cmp(&b.run.started));
    let place = |index: usize, dot: &Dot<'_>| match &dot.run.order {
        Some((_, order)) if one_session => f64::from(*order),
        _ => index as f64 + 1.0,
    };
    let placed: Vec<(f64, &Dot<'_>)> = dots
        .iter()
        .enumerate()
        .map(|(i, dot)| (place(i, dot), dot))
        .collect();
    let mut series = Vec::new();
    for (color, member) in members.iter().enumerate() {
        let of_member = || placed.iter().filter(move |(_, dot)| dot.member == color);
        let points = |doubtful: bool| {
            let these = of_member().filter(move |(_, dot)| dot.doubts().is_empty() != doubtful);
            these.map(|(x, dot)| (*x, dot.value)).collect::<Vec<_>>()
        };
        let named = |what: &str| format!("{} {what}", member.name).trim().to_owned();
        for (mark, name, points) in [
            (
                Mark::Dots,
                named(if member.name.is_empty() { "runs" } else { "" }),
                points(false),
            ),
            (Mark::Warning, named("doubtful"), points(true)),
        ] {
            if !points.is_empty() {
                series.push(Series {
                    name,
                    color,
                    mark,
                    points,
                });
            }
        }
    }
    let x = Axis::around(
        if one_session {
            "order in the session"
        } else {
            "order of the starts"
        },
        placed.iter().map(|(x, _)| *x),
        |x| {
            if x.fract() == 0.0 && x >= 0.0 {
                format!("{x}")
            } else {
                String::new()
            }
        },
    );
    let y = Axis::around(&metric, dots.iter().map(|dot| dot.value), |v| {
        human(v, unit)
    });
    let rows = placed.iter().map(|(x, dot)| {
        let cells = vec![
            format!("{x}"),
            dot.run.started.clone(),
            members[dot.member].name.clone(),
            human(dot.value, unit),
            dot.doubts().join(", "),
            dot.run.id.clone(),
        ];
        (*x, cells)
    });
    let columns = [
        "order",
        "started",
        "of",
        metric.as_str(),
        "against it",
        "run",
    ];
    let data = Data {
        columns: columns.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    };
    let title = format!("{metric} of {} in the order of the runs", family.label);
    plot(&title, &x, &y, &series, &data)
}

/// The runs of a member, by the named metric or else its first headline in the same unit: other
/// programs call the same thing otherwise.
fn of_member<'a>(
    member: usize,
    case: &'a CaseSummary,
    metric: &str,
    unit: Unit,
) -> impl Iterator<Item = Dot<'a>> {
    let headlines = case.headlines();
    let found = headlines
        .iter()
        .find(|one| one.title() == metric && one.unit == unit)
        .or_else(|| headlines.iter().find(|one| one.unit == unit))
        .copied();
    found.into_iter().flat_map(move |metric| {
        let runs = metric.of_runs.iter().zip(&metric.values);
        runs.filter_map(move |(&run, &value)| {
            let run = case.runs.get(run)?;
            Some(Dot { member, run, value })
        })
    })
}

/// The headlines of a sweep against its size or depth: the medians as a line, a dot per run.
pub(super) fn sweep(points: &[&Family<'_>]) -> Markup {
    const MOST_METRICS: usize = 4;
    let mut metrics: Vec<(String, Unit)> = Vec::new();
    for member in points.iter().flat_map(|point| &point.members) {
        for metric in member.case.headlines() {
            let known = (metric.title(), metric.unit);
            if !metrics.contains(&known) && metrics.len() < MOST_METRICS {
                metrics.push(known);
            }
        }
    }
    let labels = points.iter().map(|point| point.label.as_str());
    html! {
        @for (title, unit) in &metrics {
            div .sweep data-words=(labels.clone().collect::<Vec<_>>().join(" ")) {
                (curve(points, title, *unit))
            }
        }
    }
}

fn curve(points: &[&Family<'_>], title: &str, unit: Unit) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for member in points.iter().flat_map(|point| &point.members) {
        if !names.contains(&member.name.as_str()) && names.len() < COLORS {
            names.push(&member.name);
        }
    }
    let of = |point: &Family<'_>, name: &str| -> Option<MetricSummary> {
        let member = point.members.iter().find(|member| member.name == name)?;
        let mut metrics = member.case.metrics.iter();
        metrics
            .find(|one| one.title() == title && one.unit == unit)
            .cloned()
    };
    let mut series = Vec::new();
    for (color, name) in names.iter().enumerate() {
        let (mut medians, mut dots) = (Vec::new(), Vec::new());
        for point in points {
            let (Some(size), Some(metric)) = (point.place.map(|place| place.at), of(point, name))
            else {
                continue;
            };
            medians.extend(metric.median.known().map(|median| (size, *median)));
            dots.extend(metric.values.iter().map(|value| (size, *value)));
        }
        for (mark, points) in [(Mark::Line, medians), (Mark::Dots, dots)] {
            let name = match *name {
                "" => title.to_owned(),
                name => name.to_owned(),
            };
            series.push(Series {
                name,
                color,
                mark,
                points,
            });
        }
    }
    let all = || series.iter().flat_map(|one: &Series| &one.points);
    let over = points[0].place.map_or(Over::Size, |place| place.over);
    let places = all().map(|point| point.0);
    let x = match over {
        Over::Size => Axis::of_sizes("message size", places),
        Over::Depth => Axis::of_powers("operations in flight", places, |power| {
            (1u64 << power).to_string()
        }),
    };
    let y = Axis::covering(title, Scale::Log, all().map(|point| point.1), |value| {
        human(value, unit)
    });
    let rows = points.iter().filter_map(|point| {
        let size = point.place?.at;
        let mut cells = vec![match over {
            Over::Size => human(size, Unit::Bytes),
            Over::Depth => human(size, Unit::Count),
        }];
        for name in &names {
            cells.push(of(point, name).map_or(String::new(), |metric| in_words(&metric)));
        }
        Some((size, cells))
    });
    let label = points[0].label.split(' ').filter(|word| !over.tells(word));
    let label = label.collect::<Vec<_>>().join(" ");
    let data = Data {
        columns: named(
            over.word(),
            series.iter().step_by(2).map(|one| one.name.as_str()),
        ),
        rows: rows.collect(),
    };
    html! {
        h3 { (label) ": " (title) " by " (over.word()) }
        (plot(&format!("{label}: {title} by {}", over.word()), &x, &y, &series, &data))
    }
}

/// A metric's median with its interval and the number of its runs.
fn in_words(metric: &MetricSummary) -> String {
    let Some(median) = metric.median.known() else {
        return "n/a".to_owned();
    };
    let median = human(*median, metric.unit);
    match &metric.interval {
        Ok(interval) => format!(
            "{median} ({} – {}), {} runs",
            human(interval.low, metric.unit),
            human(interval.high, metric.unit),
            metric.values.len()
        ),
        Err(_) => format!("{median}, {} runs", metric.values.len()),
    }
}
