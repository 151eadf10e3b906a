//! The runs of a case turned into columns: for each metric one number per run, and which runs are
//! each other's partners. Every run is looked at once, whatever the number of its metrics.

use super::matching::Run;
use crate::model::{Metric, Unit};
use std::collections::HashMap;

/// One metric of a case, over the runs of both sides.
pub(super) struct Column<'a> {
    /// The metric of the first run that has it.
    pub first: &'a Metric,
    /// Whether some run marks it as a headline.
    pub headline: bool,
    /// Its units on each side, each once.
    pub units: [Vec<Unit>; 2],
    /// The numbers on each side, each with the place of its run; runs without one are left out.
    pub values: [Vec<(usize, f64)>; 2],
}

impl Column<'_> {
    /// The number of one run.
    pub(super) fn value(&self, side: usize, run: usize) -> Option<f64> {
        let values = &self.values[side];
        let found = values.binary_search_by_key(&run, |(run, _)| *run).ok()?;
        Some(values[found].1)
    }
}

/// The metrics of a case, in the order in which the runs first name them.
pub(super) fn of<'a>(sides: &[Vec<Run<'a>>; 2]) -> Vec<Column<'a>> {
    let mut columns: Vec<Column<'a>> = Vec::new();
    let mut index = HashMap::new();
    for (side, runs) in sides.iter().enumerate() {
        for (at, run) in runs.iter().enumerate() {
            for (place, metric) in run.measurement.metrics.iter().enumerate() {
                // Most runs of a case list their metrics alike.
                let alike = columns.get(place).is_some_and(|c| same(c.first, metric));
                let column = if alike {
                    place
                } else {
                    *index.entry(identity(metric)).or_insert_with(|| {
                        columns.push(Column {
                            first: metric,
                            headline: false,
                            units: [Vec::new(), Vec::new()],
                            values: [Vec::new(), Vec::new()],
                        });
                        columns.len() - 1
                    })
                };
                let column = &mut columns[column];
                column.headline |= metric.headline;
                column.values[side].extend(metric.value.known().map(|value| (at, *value)));
                let units = &mut column.units[side];
                if !units.contains(&metric.unit) {
                    units.push(metric.unit);
                }
            }
        }
    }
    columns
}

fn identity(metric: &Metric) -> (&str, crate::model::Aggregation, Option<&str>) {
    (&metric.name, metric.aggregation, metric.compat.as_deref())
}

fn same(one: &Metric, other: &Metric) -> bool {
    identity(one) == identity(other)
}

/// Runs of A and of B that ran next to each other.
pub(super) struct Partners {
    /// For each run of A the place of its partner in B.
    pub of_a: Vec<Option<usize>>,
    /// The places of the runs on each side that have no partner.
    pub alone: [Vec<usize>; 2],
}

impl Partners {
    /// Pairs by session and pair id, which is unique within its session only. A pair id with two
    /// runs on one side pairs nothing.
    pub(super) fn of(sides: &[Vec<Run<'_>>; 2]) -> Self {
        let mut of_pair: HashMap<(&str, &str), [Vec<usize>; 2]> = HashMap::new();
        for (side, runs) in sides.iter().enumerate() {
            for (at, run) in runs.iter().enumerate() {
                if let Some(key) = pair_key(run) {
                    of_pair.entry(key).or_default()[side].push(at);
                }
            }
        }
        let [mut of_a, mut of_b] = sides.each_ref().map(|runs| vec![None; runs.len()]);
        for runs in of_pair.values() {
            if let [[a], [b]] = runs.each_ref().map(Vec::as_slice) {
                of_a[*a] = Some(*b);
                of_b[*b] = Some(*a);
            }
        }
        let alone = |partners: &[Option<usize>]| -> Vec<usize> {
            (0..partners.len())
                .filter(|&run| partners[run].is_none())
                .collect()
        };
        let alone = [alone(&of_a), alone(&of_b)];
        Self { of_a, alone }
    }
}

fn pair_key<'a>(run: &Run<'a>) -> Option<(&'a str, &'a str)> {
    let session = run.report.run.session.as_ref()?;
    Some((session.id.as_str(), session.pair_id.as_deref()?))
}
