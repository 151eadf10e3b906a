//! Latency over the window: median and 99th percentile of each slice, on a logarithmic scale, so
//! that a stall or a step stands out that a percentile of the whole window hides.

use super::family::Family;
use super::svg::{Axis, COLORS, Data, Mark, Scale, Series, plot};
use crate::model::{Interval, Unit};
use crate::render::units::human;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Fewer slices than these are no course.
const FEWEST: usize = 3;
/// More slices than these are too fine to be drawn: of neighbours the worst stands for all.
const MOST: usize = 120;

type Quantile = fn(&Interval) -> Option<f64>;

const QUANTILES: [(&str, Quantile); 2] = [("p50", |s| s.p50_ns), ("p99", |s| s.p99_ns)];

/// The last run of each member: runs of one case overlap, and a stall of one is not the others'.
pub(super) fn latency_over_time(family: &Family<'_>) -> Markup {
    let mut series = Vec::new();
    let mut columns = vec!["time".to_owned()];
    let mut rows: BTreeMap<usize, (f64, Vec<String>)> = BTreeMap::new();
    for member in &family.members {
        let last = member.case.intervals.last();
        let Some(run) = last.filter(|run| run.len() >= FEWEST) else {
            continue;
        };
        for (name, quantile) in QUANTILES {
            let points = course(run, quantile);
            if points.len() < FEWEST || series.len() == COLORS {
                continue;
            }
            let name = format!("{} {name}", member.name).trim_start().to_owned();
            for (index, &(at_s, value)) in points.iter().enumerate() {
                let heading = || (at_s, vec![human(at_s, Unit::Seconds)]);
                let (_, cells) = rows.entry(index).or_insert_with(heading);
                cells.resize(columns.len(), String::new());
                cells.push(latency(value));
            }
            columns.push(name.clone());
            series.push(Series {
                name,
                color: series.len(),
                mark: Mark::Line,
                points,
            });
        }
    }
    if series.is_empty() {
        return html! {};
    }
    let all = || series.iter().flat_map(|one: &Series| &one.points);
    let x = Axis::covering("seconds", Scale::Linear, all().map(|p| p.0), |t| {
        format!("{}", (t * 1000.0).round() / 1000.0)
    });
    let y = Axis::covering("latency", Scale::Log, all().map(|p| p.1), latency);
    let rows = rows.into_values().map(|(at_s, mut cells)| {
        cells.resize(columns.len(), String::new());
        (at_s, cells)
    });
    let rows = rows.collect();
    let title = format!("Latency over time of {}", family.label);
    plot(&title, &x, &y, &series, &Data { columns, rows })
}

fn latency(ns: f64) -> String {
    human(ns, Unit::Nanoseconds)
}

fn course(run: &[Interval], quantile: Quantile) -> Vec<(f64, f64)> {
    let chunks = run.chunks(run.len().div_ceil(MOST).max(1));
    let point = |slices: &[Interval]| {
        let worst = slices.iter().filter_map(quantile).max_by(f64::total_cmp)?;
        let middle = f64::midpoint(slices[0].t0_s, slices[slices.len() - 1].t1_s);
        Some((middle, worst.max(1.0)))
    };
    chunks.filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Work;

    #[test]
    fn of_many_slices_the_worst_is_drawn() {
        let slice = |index: u32| Interval {
            t0_s: index.into(),
            t1_s: f64::from(index) + 1.0,
            work: Work::op(1),
            p50_ns: (index != 4).then_some(100.0),
            p99_ns: Some(if index == 77 { 9e6 } else { 500.0 }),
            max_ns: None,
            hdr_v2_base64: None,
            flags: Vec::new(),
        };
        let run: Vec<Interval> = (0..1000).map(slice).collect();
        let points = course(&run, |slice| slice.p99_ns);
        assert!(points.len() <= MOST);
        assert!(points.iter().any(|point| point.1 == 9e6));
        assert_eq!(course(&run[..10], |slice| slice.p50_ns).len(), 9);
        assert!(course(&[], |slice| slice.p50_ns).is_empty());
    }
}
