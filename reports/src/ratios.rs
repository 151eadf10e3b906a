//! Ratios of the arms of a suite's rows, over the pairs of runs that were neighbours in time.
//!
//! Peers define their benchmarks in their own words, so [`mod@crate::compare`] rightly refuses to
//! compare them as if they were one. A suite's author who sets a row's arms against each other by a
//! named metric takes that decision; the row then says which metric of both is the same thing.
//!
//! A row's first arm is the baseline. Where it ran a second time as an arm of its own, the ratio of
//! the two shows how far equal things differ here, and no ratio within that is called a difference.

mod numbers;

use crate::compare::{Effect, MetricComparison, Scale, Verdict};
use crate::model::Report;
use crate::stats::false_discovery;
use crate::suite::{Plan, Suite};
pub(crate) use numbers::Arms;
use serde::Serialize;
use std::collections::BTreeMap;

/// How the arms of one row stand to its baseline at one point: a size of a sweep, or the only one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowRatios {
    /// The suite's row.
    pub row: String,
    /// What tells the point from the others of its sweep; empty if there is only one.
    pub point: String,
    /// The metric, as reports name it.
    pub metric: String,
    /// The baseline's name; empty if the row has no arms of its own.
    pub baseline: String,
    /// The baseline against its own second run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<NoiseFloor>,
    /// The other arms, in the order of the suite.
    pub arms: Vec<ArmRatio>,
}

/// One arm against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmRatio {
    /// The arm's name.
    pub arm: String,
    /// The baseline as A, the arm as B; or why there is nothing to compare.
    #[serde(serialize_with = "comparison_or_reason")]
    pub result: Result<MetricComparison, String>,
    /// Whether the difference that was seen lies within the noise floor, and so is none.
    pub within_noise: bool,
}

/// How far two identical arms differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NoiseFloor {
    /// The baseline as A, its second run as B.
    #[serde(flatten)]
    pub ratio: ArmRatio,
    /// The largest change that the interval of their ratio holds, as a share (of differences, in
    /// the metric's unit).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<f64>,
    /// The smallest change that can be told from it: the spread, or what so few runs can show,
    /// whichever is larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
    /// Whether their interval excludes that they are equal, which it should do once in twenty times.
    pub differs: bool,
}

fn comparison_or_reason<S: serde::Serializer>(
    result: &Result<MetricComparison, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match result {
        Ok(comparison) => comparison.serialize(serializer),
        Err(reason) => serde_json::json!({"unavailable": reason}).serialize(serializer),
    }
}

/// The ratios of every row that ran under several arms.
#[must_use]
pub fn of(suite: &Suite, plan: &Plan, reports: &[Report]) -> Vec<RowRatios> {
    let mut rows: BTreeMap<&str, Arms> = BTreeMap::new();
    for row in &suite.rows {
        rows.insert(&row.name, Arms::of_row(row, plan));
    }
    for report in reports {
        if let Some(session) = &report.run.session
            && let Some(arms) = rows.get_mut(session.row.as_str())
            && let Some(unit) = (session.position as usize).checked_sub(1)
        {
            arms.add(unit, session.repetition, report);
        }
    }
    let rows = suite
        .rows
        .iter()
        .filter_map(|row| rows.get(row.name.as_str()));
    let mut ratios: Vec<RowRatios> = rows.flat_map(Arms::ratios).collect();
    conclude(&mut ratios);
    ratios
}

/// Adjusts the p values of all ratios together and lets them and the noise floor speak.
fn conclude(rows: &mut [RowRatios]) {
    let compared = |arm: &ArmRatio| arm.result.as_ref().ok().and_then(|c| c.p_value);
    let arms = rows.iter().flat_map(|row| &row.arms);
    let p_values: Vec<f64> = arms.filter_map(compared).collect();
    let mut adjusted = false_discovery::adjust(&p_values).into_iter();
    for row in rows {
        let floor = row.noise_floor.as_ref().and_then(NoiseFloor::reach);
        for arm in &mut row.arms {
            let Ok(comparison) = &mut arm.result else {
                continue;
            };
            if comparison.p_value.is_some() {
                comparison.adjusted_p_value = adjusted.next();
            }
            comparison.conclude(false);
            let within =
                |effect: Effect| floor.is_some_and(|floor| distance(effect, effect.value) <= floor);
            let seen = comparison.verdict != Verdict::Same;
            arm.within_noise = seen && comparison.effect.is_some_and(within);
            if arm.within_noise {
                comparison.verdict = Verdict::Same;
            }
        }
    }
}

/// How far a value is from nothing: on logarithms of ratios, so that half and double are alike.
fn distance(effect: Effect, value: f64) -> f64 {
    match effect.scale {
        Scale::Ratio => value.ln().abs(),
        Scale::Difference => value.abs(),
    }
}

impl NoiseFloor {
    /// The noise floor that two identical arms show.
    pub(crate) fn of(ratio: ArmRatio) -> Self {
        let comparison = ratio.result.as_ref().ok();
        let effect = comparison.and_then(|comparison| comparison.effect);
        let spread = effect.map(|effect| {
            let reach = distance(effect, effect.low).max(distance(effect, effect.high));
            match effect.scale {
                Scale::Ratio => reach.exp_m1(),
                Scale::Difference => reach,
            }
        });
        let detectable = comparison.and_then(|comparison| comparison.detectable);
        Self {
            spread,
            detectable: spread.map(|spread| spread.max(detectable.unwrap_or(0.0))),
            differs: effect.is_some_and(|effect| effect.is_clear()),
            ratio,
        }
    }

    /// The spread as a distance.
    fn reach(&self) -> Option<f64> {
        let effect = self.ratio.result.as_ref().ok()?.effect?;
        match effect.scale {
            Scale::Ratio => self.spread.map(f64::ln_1p),
            Scale::Difference => self.spread,
        }
    }
}

#[cfg(test)]
mod tests;
