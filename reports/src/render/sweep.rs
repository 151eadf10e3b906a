//! A sweep as one table: a row per point, its parameters, its headline numbers and the peers'.

use super::knee;
use super::sheet::Sheet;
use super::spark;
use super::table::plain_table;
use super::terminal::{Style, assignments, flag};
use super::text::{self, visible};
use super::units::human_fact;
use crate::model::{Aggregation, Case, Direction, Measurement, Metric, Severity};
use comfy_table::{CellAlignment, ColumnConstraint, Width};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The spaces around a cell.
const CELL_PADDING: usize = 2;

/// The parameter of curves over depth, and the one that follows it.
const DEPTH: &str = "iodepth";
const BATCH: &str = "iodepth_batch";
/// What marks the row of a knee.
const KNEE: &str = "▸";

/// The table, what all points share above it, the curves, what was verified and flagged below it.
/// Every case must be of one benchmark and measured.
pub(super) fn table(cases: &[Case], style: Style) -> String {
    let Some(first) = cases.first() else {
        return String::new();
    };
    let params = &first.benchmark.params;
    let varies = |name: &&String| {
        let value = params.get(*name);
        let others = cases.iter().map(|case| case.benchmark.params.get(*name));
        others.into_iter().any(|other| other != value)
    };
    let (mut varying, common): (Vec<&String>, Vec<&String>) = params.keys().partition(varies);
    if varying.iter().any(|name| *name == DEPTH) {
        // How many go with one call is bounded by the depth: it follows, and tells nothing apart.
        varying.retain(|name| *name != BATCH);
    }
    let common = common
        .into_iter()
        .map(|name| (name.clone(), params[name].clone()));
    let common = assignments(&common.collect());

    let measurements: Vec<&Measurement> = cases
        .iter()
        .filter_map(|case| case.outcome.measurement())
        .collect();
    let shown = shown(&measurements);
    let knees = knees(cases, &varying);
    let points: Vec<Vec<String>> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| {
            let params = varying.iter();
            let params = params.map(|name| plain(case.benchmark.params.get(*name)));
            let mark = match &knees {
                Some(knees) if knees.contains(&at) => Some(KNEE.to_owned()),
                knees => knees.as_ref().map(|_| String::new()),
            };
            mark.into_iter().chain(params).collect()
        })
        .collect();
    let columns: Vec<Vec<Option<&Metric>>> = shown
        .iter()
        .map(|metric| column(metric, &measurements))
        .collect();

    let titles: Vec<String> = shown.iter().map(|metric| metric.key()).collect();
    let mut sheet = Sheet::new(style, titles.iter().map(String::as_str));
    sheet.title(&visible(&first.benchmark.id));
    if !common.is_empty() {
        sheet.unlabelled(&visible(&common), |line| style.faint(line));
    }
    let mut text = sheet.into_text();
    let mark = knees.as_ref().map(|_| String::new());
    let names = mark.iter().chain(varying.iter().copied()).chain(&titles);
    let header: Vec<String> = names.map(|name| visible(name).into_owned()).collect();
    text.push_str(&grids(&header, &points, &columns, style));

    let mut sheet = Sheet::new(style, titles.iter().map(String::as_str));
    if let Some(knees) = &knees {
        let text = match knees.is_empty() {
            true => format!("none ({})", knee::rule()),
            false => format!("{KNEE} {}", knee::rule()),
        };
        sheet.field("knee", &text, |line| style.faint(line));
    }
    for (title, column) in titles.iter().zip(&columns) {
        curve(&mut sheet, title, column, style);
    }
    if let Some(last) = measurements.last() {
        let verified = format!("each point; of the last: {}", visible(&last.verified));
        sheet.field("verified", &verified, str::to_owned);
    }
    flags(&mut sheet, &measurements, style);
    text + &sheet.into_text()
}

/// The rows that are knees, where depth varies: of each curve over depth alone, told apart by what
/// else varies, at most one. The rate is the first headline, the latency the first median.
fn knees(cases: &[Case], varying: &[&String]) -> Option<Vec<usize>> {
    varying.iter().find(|name| **name == DEPTH)?;
    let mut curves: BTreeMap<String, Vec<(usize, knee::Point)>> = BTreeMap::new();
    for (at, case) in cases.iter().enumerate() {
        let params = &case.benchmark.params;
        let others = varying.iter().filter(|name| **name != DEPTH);
        let others: Vec<String> = others.map(|name| plain(params.get(*name))).collect();
        let metrics = case.outcome.measurement().map(|found| &found.metrics);
        let headlines = || {
            metrics
                .into_iter()
                .flatten()
                .filter(|metric| metric.headline)
        };
        let rate = headlines().find(|metric| metric.direction == Direction::HigherIsBetter);
        let median = headlines().find(|metric| metric.aggregation == Aggregation::P50);
        let rate = rate.and_then(|metric| metric.value.known().copied());
        if let (Some(depth), Some(rate)) = (params.get(DEPTH).and_then(Value::as_f64), rate) {
            let latency = median.and_then(|metric| metric.value.known().copied());
            let point = knee::Point {
                depth,
                rate,
                latency,
            };
            curves
                .entry(others.join(" "))
                .or_default()
                .push((at, point));
        }
    }
    let knee_of = |mut curve: Vec<(usize, knee::Point)>| {
        curve.sort_by(|(_, a), (_, b)| a.depth.total_cmp(&b.depth));
        let points: Vec<knee::Point> = curve.iter().map(|(_, point)| *point).collect();
        knee::knee(&points).map(|knee| curve[knee].0)
    };
    Some(curves.into_values().filter_map(knee_of).collect())
}

/// The headline metrics and those in a peer's definition, in the order of the first point.
fn shown<'a>(measurements: &[&'a Measurement]) -> Vec<&'a Metric> {
    let mut keys = BTreeSet::new();
    measurements
        .iter()
        .flat_map(|measurement| &measurement.metrics)
        .filter(|metric| metric.headline || metric.compat.is_some())
        .filter(|metric| keys.insert(metric.key()))
        .collect()
}

/// A metric at every point.
fn column<'a>(metric: &Metric, measurements: &[&'a Measurement]) -> Vec<Option<&'a Metric>> {
    let key = metric.key();
    let find = |measurement: &&'a Measurement| {
        let mut metrics = measurement.metrics.iter();
        metrics.find(|metric| metric.key() == key)
    };
    measurements.iter().map(find).collect()
}

/// A row per point. No number is folded: the header gives way, and columns that still find no room
/// follow in a table of their own.
fn grids(
    header: &[String],
    points: &[Vec<String>],
    columns: &[Vec<Option<&Metric>>],
    style: Style,
) -> String {
    let numbers: Vec<Vec<String>> = columns
        .iter()
        .map(|column| {
            let value = |metric: &Option<&Metric>| match metric {
                Some(metric) => human_fact(&metric.value, metric.unit),
                None => String::new(),
            };
            column.iter().map(value).collect()
        })
        .collect();
    let params: Vec<Vec<String>> = (0..header.len() - columns.len())
        .map(|at| {
            points
                .iter()
                .map(|point| visible(&point[at]).into_owned())
                .collect()
        })
        .collect();
    let (param_titles, titles) = header.split_at(params.len());
    let least = |column: &Vec<String>| {
        let widest = column.iter().map(|cell| text::columns(cell)).max();
        widest.unwrap_or(0) + CELL_PADDING
    };
    let taken: usize = params.iter().map(least).sum();
    let room = style.width.unwrap_or(usize::MAX).saturating_sub(taken);
    let mut text = String::new();
    let mut from = 0;
    while from < numbers.len() {
        let mut left = room;
        let fitting = numbers[from..].iter().take_while(|column| {
            let fits = least(column) <= left;
            left = left.saturating_sub(least(column));
            fits
        });
        let to = from + fitting.count().max(1);
        let header = param_titles.iter().chain(&titles[from..to]);
        let columns: Vec<&Vec<String>> = params.iter().chain(&numbers[from..to]).collect();
        let mut table = plain_table(style);
        table.set_header(header);
        for row in 0..points.len() {
            table.add_row(columns.iter().map(|column| &column[row]));
        }
        for (column, cells) in table.column_iter_mut().zip(&columns) {
            column.set_cell_alignment(CellAlignment::Right);
            let least = u16::try_from(least(cells)).unwrap_or(u16::MAX);
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
        }
        text.push_str(&table.trim_fmt());
        text.push('\n');
        from = to;
    }
    text
}

/// A metric over the points in one line.
fn curve(sheet: &mut Sheet, title: &str, column: &[Option<&Metric>], style: Style) {
    let value = |metric: &Option<&Metric>| metric.and_then(|metric| metric.value.known().copied());
    let values: Vec<Option<f64>> = column.iter().map(value).collect();
    let unit = column.iter().flatten().map(|metric| metric.unit).next();
    let known = values.iter().flatten().copied();
    let Some(range) = unit.and_then(|unit| spark::range(known, unit)) else {
        return;
    };
    let curve = spark::curve(&values);
    let scale = if curve.logarithmic { ", log scale" } else { "" };
    let range = format!("{range}{scale}");
    sheet.field(
        &visible(title),
        &format!("{}  {range}", curve.line),
        |line| line.replacen(&range, &style.faint(&range), 1),
    );
}

/// Each kind of flag once, with the number of points that raised it.
fn flags(sheet: &mut Sheet, measurements: &[&Measurement], style: Style) {
    let all = || {
        let validities = measurements.iter().map(|measurement| &measurement.validity);
        validities.flat_map(|validity| &validity.flags)
    };
    let codes: BTreeSet<(Severity, &str)> = all()
        .map(|flag| (flag.severity, flag.code.as_str()))
        .collect();
    for (severity, code) in codes.into_iter().rev() {
        let same = || all().filter(|flag| flag.severity == severity && flag.code == code);
        let Some(mut first) = same().next().cloned() else {
            continue;
        };
        let (flagged, points) = (same().count(), measurements.len());
        first
            .evidence
            .push_str(&format!(" ({flagged} of {points} points)"));
        flag(sheet, &first, style);
    }
}

fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::Unit;

    #[test]
    fn the_knee_of_each_curve_over_depth_is_marked() {
        let mut report = fixtures::report(&[("rand", 1000.0); 6]);
        // Two block sizes over three depths: the small one is full at depth 8, the large one at 1.
        let points = [
            (4096, 1, 10.0),
            (4096, 8, 80.0),
            (4096, 64, 81.0),
            (65536, 1, 9.0),
            (65536, 8, 9.5),
            (65536, 64, 9.6),
        ];
        for (index, (bs, depth, rate)) in points.into_iter().enumerate() {
            let params = &mut report.cases[index].benchmark.params;
            params.insert("bs".to_owned(), bs.into());
            params.insert("iodepth".to_owned(), depth.into());
            params.insert("iodepth_batch".to_owned(), depth.min(8).into());
            let measurement = fixtures::measurement_mut(&mut report, index);
            measurement.metrics[0].value = (f64::from(depth) * 1000.0).into();
            let rate = Metric::new(
                "iops",
                Aggregation::Total,
                Unit::PerSecond,
                Direction::HigherIsBetter,
                rate,
                100,
            );
            measurement.metrics.insert(0, rate.headline());
        }
        let text = table(&report.cases, Style::PLAIN);
        let marked = text
            .lines()
            .filter(|line| line.trim_start().starts_with(KNEE));
        let marked: Vec<Vec<&str>> = marked
            .map(|line| line.split_whitespace().skip(1).take(2).collect())
            .collect();
        assert_eq!(marked, [["4096", "8"], ["65536", "1"]], "{text}");
        assert!(
            text.contains("knee") && text.contains("per doubling"),
            "{text}"
        );
        assert!(!text.contains("iodepth_batch"), "{text}");
    }

    #[test]
    fn points_become_rows_and_flags_are_counted() {
        let mut report = fixtures::report(&[("bw", 1000.0), ("bw", 2000.0), ("bw", 4000.0)]);
        for (index, size) in [1u64, 2, 4].into_iter().enumerate() {
            let params = &mut report.cases[index].benchmark.params;
            params.insert("size_bytes".to_owned(), size.into());
            params.insert("window".to_owned(), 64.into());
            fixtures::measurement_mut(&mut report, index).validity.flag(
                Severity::Degraded,
                "oversubscribed",
                "3 ranks on 2 CPUs",
            );
        }
        let text = table(&report.cases, Style::PLAIN);
        assert!(text.contains("size_bytes"), "{text}");
        assert!(text.contains("window=64"), "{text}");
        assert!(text.contains("4.00 µs"), "{text}");
        assert!(
            text.contains("oversubscribed: 3 ranks on 2 CPUs (3 of 3 points)"),
            "{text}"
        );
        assert_eq!(text.matches("oversubscribed").count(), 1);
    }
}
