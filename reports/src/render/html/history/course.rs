//! One course as a chart. Its x axis is the order of the runs, so that every place is exact, and its
//! ticks are labelled by time. A run is a dot as long as there is room for each; of more runs, or of
//! nodes that measure alone at the same time, neighbours become a column: their median and range.

use super::super::cluster::{MOST_ALONE, MOST_LISTED};
use super::super::svg::{Axis, Data, Mark, Series, plot};
use crate::history::{CaseTrend, Change, ChangeKind, MetricTrend, RunPoint};
use crate::render::trend::words::{confounded, day, shift, some, word};
use crate::render::units::human;
use crate::stats;
use crate::summary::count;
use std::collections::{BTreeMap, BTreeSet};

/// How many columns have room, and so many rows the table behind them.
const MOST_COLUMNS: usize = 200;
/// With more runs than these no line per node is drawn: the page would be mostly lines.
const MOST_IN_LINES: usize = 6000;
/// More triangles or rings than these hide what is below; then the columns that hold them are marked.
const MOST_MARKS: usize = 24;
/// The most nodes that are told from the others.
const MOST_TOLD: usize = 4;

/// The colours' numbers.
const RUNS: usize = 0;
const OF_PAGE: usize = 1;
const FAULTY: usize = 2;
const LEVEL: usize = 3;
const ENVIRONMENT: usize = 4;
const CHANGE: usize = 5;

/// A metric over the runs of a case.
pub(super) struct Course<'a> {
    pub(super) case: &'a CaseTrend,
    pub(super) metric: &'a MetricTrend,
    /// The page's runs.
    of_page: &'a BTreeSet<String>,
    /// The places of each node's points, if nodes come back; empty if all runs are of the same.
    nodes: BTreeMap<String, Vec<usize>>,
    /// Nodes to tell from the others.
    told: Vec<String>,
    columns: Vec<Column>,
}

/// Neighbouring points, from `start` up to and without `end`, all of one level.
struct Column {
    start: usize,
    end: usize,
    median: f64,
    low: f64,
    high: f64,
    level: f64,
}

impl Column {
    fn middle(&self) -> f64 {
        f64::midpoint(self.start as f64, (self.end - 1) as f64)
    }
}

impl<'a> Course<'a> {
    pub(super) fn of(
        case: &'a CaseTrend,
        metric: &'a MetricTrend,
        of_page: &'a BTreeSet<String>,
        faulty: &[&str],
    ) -> Self {
        let nodes = nodes(case, metric);
        let told = faulty.iter().filter(|host| nodes.contains_key(**host));
        let told = told.map(|host| (*host).to_owned()).collect();
        let abreast = if nodes.len() > MOST_ALONE {
            nodes.len()
        } else {
            1
        };
        let width = abreast.max(metric.points.len().div_ceil(MOST_COLUMNS));
        Self {
            case,
            metric,
            of_page,
            nodes,
            told,
            columns: columns(metric, width),
        }
    }

    /// Whether each run is a dot.
    fn is_dots(&self) -> bool {
        self.columns.len() == self.metric.points.len()
    }

    fn has_lines(&self) -> bool {
        (2..=MOST_LISTED).contains(&self.nodes.len()) && self.metric.points.len() <= MOST_IN_LINES
    }

    fn run(&self, point: usize) -> &'a RunPoint {
        // Points refer to the runs of their case.
        &self.case.runs[self.metric.points[point].run]
    }

    fn is_of_page(&self, point: usize) -> bool {
        self.of_page.contains(&self.run(point).run)
    }

    fn is_degraded(&self, point: usize) -> bool {
        !self.run(point).degraded.is_empty()
    }

    fn in_words(&self, value: f64) -> String {
        human(value, self.metric.unit)
    }

    /// Behind the number of runs: on how many nodes, and what is not drawn run by run.
    pub(super) fn scope(&self) -> String {
        let mut text = match self.nodes.len() {
            0 => String::new(),
            nodes => format!(", {nodes} nodes"),
        };
        if self.metric.missing > 0 {
            text += &format!(", {} without this number", self.metric.missing);
        }
        if !self.is_dots() {
            text += &format!(
                "; {} of neighbouring runs",
                count(self.columns.len(), "column")
            );
        }
        if self.nodes.len() > 1 && !self.has_lines() {
            text += ", their range in place of a line per node";
        }
        let more = self.told.len().saturating_sub(MOST_TOLD);
        if more > 0 {
            text += &format!("; {more} more nodes with a fault are not told from the others");
        }
        text
    }

    /// The chart with its table.
    pub(super) fn plot(&self, title: &str) -> maud::Markup {
        let last = self.metric.points.len() as f64 - 0.5;
        let x = Axis::fixed("runs in the order of time (UTC)", -0.5, last, self.ticks());
        let values = self.metric.points.iter().map(|point| point.value);
        let y = Axis::around(&self.metric.title, values, |value| self.in_words(value));
        plot(&self.spoken(title), &x, &y, &self.series(), &self.data())
    }

    /// What a screen reader says instead of the chart.
    fn spoken(&self, title: &str) -> String {
        let points = &self.metric.points;
        let [first, last] = [0, points.len() - 1].map(|at| day(&self.run(at).started));
        let mut text = format!(
            "Course of {title} over {} from {first} to {last}",
            count(points.len(), "run")
        );
        let latest = self.metric.segments.last();
        text += &latest.map_or(String::new(), |segment| {
            format!("; the latest level is {}", self.in_words(segment.median))
        });
        for change in self.metric.changes.iter().rev().take(MOST_TOLD).rev() {
            text += &format!("; {}", self.short(change));
        }
        text
    }

    /// A change in one line.
    fn short(&self, change: &Change) -> String {
        let doubt = confounded(change).map_or(String::new(), |doubt| format!(" {doubt}"));
        let (since, by) = (day(&change.since), shift(change, self.metric.unit));
        match change.kind {
            ChangeKind::Level => format!("{} since {since}{doubt}{by}", word(change)),
            ChangeKind::Environment => format!("{} {since}{by}", word(change)),
        }
    }

    /// Up to five moments: days, or hours where all is within few days.
    fn ticks(&self) -> Vec<(f64, String)> {
        let last = self.metric.points.len() - 1;
        let moment = |at: usize| day(&self.run(at).started);
        let days = |at: usize| self.run(at).started.parse::<jiff::Timestamp>().ok();
        let long = days(0).zip(days(last)).is_none_or(|(from, to)| {
            to.duration_since(from) > jiff::SignedDuration::from_hours(72)
        });
        // Of `2026-01-31 12:00` the date, or what follows the year.
        let short = |at: usize| {
            let text = moment(at);
            let part = if long { text.get(..10) } else { text.get(5..) };
            part.unwrap_or(&text).to_owned()
        };
        let steps = last.min(4);
        let places = (0..=steps).map(|step| step * last / steps.max(1));
        places.map(|at| (at as f64, short(at))).collect()
    }

    /// What is drawn, from the back to the front.
    fn series(&self) -> Vec<Series> {
        let mut series = Vec::new();
        self.draw_spread(&mut series);
        self.draw_levels(&mut series);
        self.draw_runs(&mut series);
        self.draw_changes(&mut series);
        series.retain(|one: &Series| !one.points.is_empty());
        series
    }

    /// A line per node, or the range of the columns.
    fn draw_spread(&self, series: &mut Vec<Series>) {
        if self.has_lines() {
            let lines = self.nodes.values();
            series.extend(lines.map(|at| one("a line per node", RUNS, Mark::Thin, self.at(at))));
        } else if !self.is_dots() {
            let upper = self
                .columns
                .iter()
                .map(|column| (column.middle(), column.high));
            let lower = self.columns.iter().rev();
            let lower = lower.map(|column| (column.middle(), column.low));
            let points = upper.chain(lower).collect();
            series.push(one("range of neighbouring runs", RUNS, Mark::Band, points));
        }
        let told = &self.told[..self.told.len().min(MOST_TOLD)];
        let name = some(told, ", ", MOST_TOLD);
        let lines = told.iter().map(|host| self.at(&self.nodes[host]));
        series.extend(lines.map(|points| one(&name, FAULTY, Mark::Line, points)));
    }

    fn draw_levels(&self, series: &mut Vec<Series>) {
        for segment in &self.metric.segments {
            let ends = [segment.start, segment.end].map(|at| at as f64 - 0.5);
            let points = ends.map(|x| (x, segment.median)).to_vec();
            series.push(one("level", LEVEL, Mark::Line, points));
        }
    }

    fn draw_runs(&self, series: &mut Vec<Series>) {
        let all: Vec<usize> = (0..self.metric.points.len()).collect();
        if self.is_dots() {
            let fine: Vec<usize> = all
                .iter()
                .copied()
                .filter(|at| !self.is_degraded(*at))
                .collect();
            series.push(one("runs", RUNS, Mark::Dots, self.at(&fine)));
        } else {
            let medians = self
                .columns
                .iter()
                .map(|column| (column.middle(), column.median));
            let medians = medians.collect();
            series.push(one(
                "median of neighbouring runs",
                RUNS,
                Mark::Line,
                medians,
            ));
        }
        let degraded = self.marks(&|at| self.is_degraded(at));
        series.push(one("degraded", RUNS, Mark::Warning, degraded));
        let of_page = self.marks(&|at| self.is_of_page(at));
        series.push(one("this page's runs", OF_PAGE, Mark::Ring, of_page));
    }

    fn draw_changes(&self, series: &mut Vec<Series>) {
        for change in &self.metric.changes {
            let at = change.point as f64 - 0.5;
            // What is drawn from top to bottom asks for no height; this one is on the chart.
            let points = vec![(at, self.metric.points[change.point].value)];
            series.push(match change.kind {
                ChangeKind::Level => one("level changed", CHANGE, Mark::Upright, points),
                ChangeKind::Environment => one(word(change), ENVIRONMENT, Mark::Dashed, points),
            });
        }
    }

    fn at(&self, points: &[usize]) -> Vec<(f64, f64)> {
        let place = |&at: &usize| (at as f64, self.metric.points[at].value);
        points.iter().map(place).collect()
    }

    /// The points of a kind, or the columns that hold some if they are too many.
    fn marks(&self, is: &dyn Fn(usize) -> bool) -> Vec<(f64, f64)> {
        let points: Vec<usize> = (0..self.metric.points.len()).filter(|at| is(*at)).collect();
        if points.len() <= MOST_MARKS || self.is_dots() {
            return self.at(&points);
        }
        let columns = self.columns.iter();
        let columns = columns.filter(|column| (column.start..column.end).any(is));
        columns
            .map(|column| (column.middle(), column.median))
            .collect()
    }

    /// The table behind the chart: a row per run, or per column.
    fn data(&self) -> Data {
        let title = &self.metric.title;
        let columns: Vec<&str> = match self.is_dots() {
            true => vec!["run", "started", title, "level", "on", "what is to be said"],
            false => vec![
                "runs",
                "started",
                title,
                "lowest",
                "highest",
                "level",
                "what is to be said",
            ],
        };
        let row = |column: &Column| {
            let cells = match self.is_dots() {
                true => self.row_of_run(column),
                false => self.row_of_column(column),
            };
            (column.middle(), cells)
        };
        Data {
            columns: columns.into_iter().map(str::to_owned).collect(),
            rows: self.columns.iter().map(row).collect(),
        }
    }

    fn row_of_run(&self, column: &Column) -> Vec<String> {
        let run = self.run(column.start);
        vec![
            run.run.chars().take(8).collect(),
            day(&run.started),
            self.in_words(column.median),
            self.in_words(column.level),
            some(&run.hosts, ", ", 2),
            self.remarks(column),
        ]
    }

    fn row_of_column(&self, column: &Column) -> Vec<String> {
        let [first, last] = [column.start, column.end - 1].map(|at| day(&self.run(at).started));
        let number = |value| self.in_words(value);
        vec![
            count(column.end - column.start, "run"),
            if first == last {
                first
            } else {
                format!("{first} – {last}")
            },
            number(column.median),
            self.end(column, column.low),
            self.end(column, column.high),
            number(column.level),
            self.remarks(column),
        ]
    }

    /// An end of a column's range, and the node whose it is.
    fn end(&self, column: &Column, value: f64) -> String {
        let mut points = column.start..column.end;
        let at = points.find(|at| self.metric.points[*at].value == value);
        match at.filter(|_| !self.nodes.is_empty()) {
            Some(at) => format!(
                "{} ({})",
                self.in_words(value),
                some(&self.run(at).hosts, ", ", 2)
            ),
            None => self.in_words(value),
        }
    }

    /// What changed before a column's first run, what speaks against its runs, and how many of them
    /// are the page's.
    fn remarks(&self, column: &Column) -> String {
        let points = || column.start..column.end;
        let changes = self.metric.changes.iter();
        let here = changes.filter(|change| change.point == column.start);
        let mut remarks: Vec<String> = here.map(|change| self.short(change)).collect();
        let number = |is: &dyn Fn(usize) -> bool| points().filter(|at| is(*at)).count();
        let degraded = number(&|at| self.is_degraded(at));
        let of_page = number(&|at| self.is_of_page(at));
        if self.is_dots() {
            remarks.extend(
                self.run(column.start)
                    .degraded
                    .iter()
                    .map(|why| format!("degraded: {why}")),
            );
            remarks.extend((of_page > 0).then(|| "this page's".to_owned()));
        } else {
            remarks.extend((degraded > 0).then(|| format!("{degraded} degraded")));
            remarks.extend((of_page > 0).then(|| format!("{of_page} of this page")));
        }
        remarks.join("; ")
    }
}

fn one(name: &str, color: usize, mark: Mark, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.to_owned(),
        color,
        mark,
        points,
    }
}

/// The points of each set of hosts, if there are several and they come back. Hosts that are new in
/// every run, as instances of a cloud are, have no course of their own.
fn nodes(case: &CaseTrend, metric: &MetricTrend) -> BTreeMap<String, Vec<usize>> {
    let mut nodes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, point) in metric.points.iter().enumerate() {
        let hosts = case.runs[point.run].hosts.join(", ");
        nodes.entry(hosts).or_default().push(at);
    }
    let come_back = metric.points.len() >= 2 * nodes.len();
    if nodes.len() > 1 && come_back {
        nodes
    } else {
        BTreeMap::new()
    }
}

/// Columns of about `width` points, of which none reaches over a change.
fn columns(metric: &MetricTrend, width: usize) -> Vec<Column> {
    let mut columns = Vec::new();
    for segment in &metric.segments {
        let length = segment.end - segment.start;
        let number = if width == 1 {
            length
        } else {
            (length + width / 2) / width
        };
        let number = number.clamp(1, length);
        let edge = |at: usize| segment.start + at * length / number;
        columns.extend((0..number).filter_map(|at| {
            let (start, end) = (edge(at), edge(at + 1));
            let values = metric.points[start..end].iter().map(|point| point.value);
            let values: Vec<f64> = values.collect();
            Some(Column {
                start,
                end,
                median: stats::median(&values)?,
                low: values.iter().copied().fold(f64::INFINITY, f64::min),
                high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                level: segment.median,
            })
        }));
    }
    columns
}
