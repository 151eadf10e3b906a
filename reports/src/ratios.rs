//! Ratios of the arms of a suite's rows, over the pairs of runs that were neighbours in time.
//!
//! Peers define their benchmarks in their own words, so [`mod@crate::compare`] rightly refuses to
//! compare them as if they were one. A suite's author who sets a row's arms against each other by a
//! named metric takes that decision; the row then says which metric of both is the same thing.

use crate::model::{Direction, Report};
use crate::stats::{Estimate, Pairs, signed_rank};
use crate::suite::{Row, Suite};
use std::collections::BTreeMap;

/// How one arm stands to another.
#[derive(Debug, Clone)]
pub struct Ratio {
    /// The suite's row.
    pub row: String,
    /// The metric, as reports name it.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// The arm above the line: the row's first.
    pub first: String,
    /// The arm below it.
    pub other: String,
    /// Pairs of runs in which both arms have the metric.
    pub pairs: usize,
    /// The Hodges-Lehmann estimate of the ratio with its signed-rank interval, or why there is
    /// none.
    pub value: Result<Estimate, String>,
}

/// The ratios of every row that names a metric, its first arm to each other one.
#[must_use]
pub fn of(suite: &Suite, reports: &[Report]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for row in &suite.rows {
        if let Some(metric) = &row.metric {
            of_row(row, metric, reports, &mut ratios);
        }
    }
    ratios
}

/// An arm's value per pair.
type Values = BTreeMap<String, f64>;

fn of_row(row: &Row, metric: &str, reports: &[Report], ratios: &mut Vec<Ratio>) {
    let mut arms: BTreeMap<u32, (String, Values)> = BTreeMap::new();
    let mut direction = Direction::Neutral;
    for report in reports {
        let Some(session) = report.run.session.as_ref().filter(|s| s.row == row.name) else {
            continue;
        };
        let (Some(arm), Some(pair)) = (&session.arm, &session.pair_id) else {
            continue;
        };
        let (_, values) = arms
            .entry(session.position)
            .or_insert_with(|| (arm.clone(), Values::new()));
        let measurements = report
            .cases
            .iter()
            .filter_map(|case| case.outcome.measurement());
        let sound = measurements.filter(|measurement| !measurement.validity.is_invalid());
        let found = sound
            .flat_map(|measurement| &measurement.metrics)
            .find(|m| m.key() == metric);
        if let Some(found) = found
            && let Some(value) = found.value.known()
        {
            direction = found.direction;
            values.insert(pair.clone(), *value);
        }
    }
    let mut arms = arms.into_values();
    let Some((first, above)) = arms.next() else {
        return;
    };
    for (other, below) in arms {
        let pairs: Vec<(&str, f64, f64)> = above
            .iter()
            .filter_map(|(pair, a)| below.get(pair).map(|b| (pair.as_str(), *b, *a)))
            .collect();
        ratios.push(Ratio {
            row: row.name.clone(),
            metric: metric.to_owned(),
            direction,
            first: first.clone(),
            other,
            pairs: pairs.len(),
            value: ratio(&pairs),
        });
    }
}

/// The ratio of the second values to the first.
fn ratio(pairs: &[(&str, f64, f64)]) -> Result<Estimate, String> {
    let found = Pairs::new(pairs.iter().copied()).map_err(|error| error.to_string())?;
    let logarithms = found.ln().ok_or("a value is not positive")?;
    let shift = signed_rank::shift(&logarithms);
    shift
        .map(Estimate::exp)
        .ok_or_else(|| format!("{} pairs are too few", pairs.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::Session;

    #[test]
    fn the_first_arm_stands_above_the_line() {
        let text = r#"
            name = "peers"
            [[row]]
            name = "rr"
            metric = "round_trip_ns p50"
            [[row.arm]]
            name = "ours"
            command = ["net-bench", "tcp_rr"]
            [[row.arm]]
            name = "theirs"
            command = ["peer"]
        "#;
        let suite = Suite::parse(text).expect("it is well-formed");
        let mut reports = Vec::new();
        for pair in 0..8u32 {
            for (position, arm, factor) in [(2, "theirs", 2.0), (1, "ours", 1.0)] {
                let mut report = fixtures::report(&[("rr", factor * 1000.0 + f64::from(pair))]);
                report.run.session = Some(Session {
                    id: "session".into(),
                    suite: "peers".into(),
                    row: "rr".into(),
                    position,
                    repetition: pair + 1,
                    order_index: 1,
                    pair_id: Some(format!("rr-{pair}")),
                    arm: Some(arm.into()),
                });
                reports.push(report);
            }
        }
        let ratios = of(&suite, &reports);
        assert_eq!(ratios.len(), 1);
        assert_eq!(
            (ratios[0].first.as_str(), ratios[0].other.as_str()),
            ("ours", "theirs")
        );
        let estimate = ratios[0].value.as_ref().expect("eight pairs are enough");
        assert!((estimate.value - 0.5).abs() < 0.01, "{estimate:?}");
        assert_eq!(ratios[0].pairs, 8);
        assert!(
            of(&suite, &reports[..4])[0].value.is_err(),
            "two pairs are too few"
        );
    }
}
