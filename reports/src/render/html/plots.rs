//! The page's plots: percentiles, the course of the runs, and curves over size.

use crate::model::{Aggregation, Interval, Unit};
use crate::render::svg::{Axis, Mark, Scale, Series, plot};
use crate::render::units::human;
use crate::summary::{CaseSummary, MetricSummary};
use hdrhistogram::Histogram;
use maud::{Markup, html};

/// Latency against percentile, the percentiles spread as log(1 − q): each step to the right is
/// ten times rarer. All runs' samples together; the runs' own spread is in the summary.
pub(super) fn percentiles(case: &CaseSummary) -> Markup {
    let drawn: Vec<(&str, Vec<(f64, f64)>)> = case
        .histograms
        .iter()
        .filter(|(_, histogram)| histogram.len() >= 10)
        .map(|(name, histogram)| (name.as_str(), quantiles(histogram)))
        .collect();
    if drawn.is_empty() {
        return html! {};
    }
    let deepest = drawn
        .iter()
        .flat_map(|(_, points)| points)
        .map(|p| p.0)
        .fold(1.0, f64::max);
    let ticks = [
        "0 %",
        "90 %",
        "99 %",
        "99.9 %",
        "99.99 %",
        "99.999 %",
        "99.9999 %",
    ];
    let ticks = (0..=deepest.ceil() as usize)
        .zip(ticks)
        .map(|(nines, label)| (nines as f64, label.to_owned()))
        .collect();
    let x = Axis::fixed("percentile", 0.0, deepest.ceil(), ticks);
    let values = drawn
        .iter()
        .flat_map(|(_, points)| points)
        .map(|point| point.1);
    let y = Axis::covering("latency", Scale::Log, values, |ns| {
        human(ns, Unit::Nanoseconds)
    });
    let series: Vec<Series> = drawn
        .into_iter()
        .enumerate()
        .map(|(color, (name, points))| Series {
            name: name.to_owned(),
            color,
            mark: Mark::Line,
            points,
        })
        .collect();
    plot(
        &format!("Latency by percentile of {}", case.benchmark.id),
        &x,
        &y,
        &series,
    )
}

/// Points (number of nines, value), up to the last percentile that a sample stands behind.
fn quantiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let deepest = (histogram.len() as f64).log10().min(6.0);
    let steps = (deepest * 24.0) as usize;
    (0..=steps)
        .map(|step| {
            let nines = step as f64 / 24.0;
            let value = histogram.value_at_quantile(1.0 - 10f64.powf(-nines));
            (nines, (value as f64).max(1.0))
        })
        .collect()
}

/// Rate against time, a line per run.
pub(super) fn over_time(case: &CaseSummary) -> Markup {
    let runs: Vec<&Vec<Interval>> = case.intervals.iter().filter(|run| run.len() > 1).collect();
    if runs.is_empty() {
        return html! {};
    }
    let bytes = runs
        .iter()
        .any(|run| run.iter().any(|interval| interval.work.bytes > 0));
    let unit = if bytes {
        Unit::BytesPerSecond
    } else {
        Unit::PerSecond
    };
    let rate = |interval: &Interval| {
        let amount = if bytes {
            interval.work.bytes
        } else {
            interval.work.ops
        };
        amount as f64 / (interval.t1_s - interval.t0_s).max(f64::MIN_POSITIVE)
    };
    let series: Vec<Series> = runs
        .iter()
        .map(|run| Series {
            name: "a line per run".to_owned(),
            color: 0,
            mark: Mark::Line,
            points: run
                .iter()
                .map(|interval| (f64::midpoint(interval.t0_s, interval.t1_s), rate(interval)))
                .collect(),
        })
        .collect();
    let points = || series.iter().flat_map(|one| &one.points);
    let x = Axis::covering("seconds", Scale::Linear, points().map(|p| p.0), |t| {
        format!("{}", (t * 1000.0).round() / 1000.0)
    });
    let y = Axis::covering("rate", Scale::Linear, points().map(|p| p.1), |v| {
        human(v, unit)
    });
    plot(
        &format!("Rate over time of {}", case.benchmark.id),
        &x,
        &y,
        &series,
    )
}

/// A metric against size: the medians as a line, a dot per run.
pub(super) fn sweep(cases: &[(f64, &CaseSummary)]) -> Markup {
    let Some(metric) = cases
        .iter()
        .find_map(|(_, case)| case.headlines().into_iter().next())
    else {
        return html! {};
    };
    let same = |case: &CaseSummary| -> Option<MetricSummary> {
        case.metrics
            .iter()
            .find(|other| other.title() == metric.title())
            .cloned()
    };
    let mut medians = Vec::new();
    let mut dots = Vec::new();
    for (size, case) in cases.iter().filter(|(size, _)| *size > 0.0) {
        let Some(summary) = same(case) else { continue };
        medians.extend(summary.median.known().map(|median| (*size, *median)));
        dots.extend(summary.values.iter().map(|value| (*size, *value)));
    }
    let x = Axis::of_sizes("message size", dots.iter().map(|point| point.0));
    let y = Axis::covering(
        &metric.name,
        Scale::Log,
        dots.iter().map(|p| p.1),
        |value| human(value, metric.unit),
    );
    let title = match metric.aggregation {
        Aggregation::Total => metric.name.clone(),
        aggregation => format!("{} {aggregation}", metric.name),
    };
    let id = &cases[0].1.benchmark.id;
    let line = Series {
        name: title.clone(),
        color: 0,
        mark: Mark::Line,
        points: medians,
    };
    let dots = Series {
        name: title.clone(),
        color: 0,
        mark: Mark::Dots,
        points: dots,
    };
    html! {
        div .sweep {
            h3 { (id) ": " (title) " by size" }
            (plot(&format!("{id}: {title} by message size"), &x, &y, &[line, dots]))
        }
    }
}
