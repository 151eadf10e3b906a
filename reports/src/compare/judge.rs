//! One case's metrics judged: ratio or difference, interval, test and verdict.

use super::columns::{self, Column, Partners};
use super::gate::GateVerdict;
use super::matching::{Blocked, CasePair, LeftOut};
use crate::model::{Aggregation, Direction, Metric, Unit};
use crate::stats::{
    self, ALPHA, Estimate, NotRuns, Pairs, Runs, mann_whitney, power, signed_rank, student,
};
use serde::Serialize;

/// The fewest runs a side: with three, no rank test reaches 5 %.
pub(crate) const MIN_RUNS: usize = 4;
/// The fewest pairs for which the signed-rank test reaches 5 %; fewer are compared as groups.
const MIN_PAIRS: usize = 6;

/// What a comparison says of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// B is better than A.
    Better,
    /// B is worse than A.
    Worse,
    /// B differs from A, and neither way is better.
    Differs,
    /// No difference was found.
    #[serde(rename = "~")]
    Same,
    /// They differ, and so do their environments: who can say why.
    Confounded,
    /// Too few runs.
    Insufficient,
}

/// On which scale B is set against A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// B/A.
    Ratio,
    /// B − A in the metric's unit, where a number is zero or negative.
    Difference,
}

/// How B stands to A, with a 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    /// Ratio or difference.
    pub scale: Scale,
    /// The Hodges-Lehmann estimate.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The interval's coverage.
    pub coverage: f64,
}

impl Effect {
    /// How the runs of B stand to those of A, as two independent groups: the ratio where every
    /// number is positive, else the difference. `None` if there are too few runs for an interval,
    /// or if it leaves the range of numbers.
    pub(crate) fn of_groups(a: &Runs, b: &Runs) -> Option<Self> {
        let (scale, a, b) = on_scale(a, b);
        let effect = effect(scale, mann_whitney::shift(&a, &b)?);
        let finite = [effect.value, effect.low, effect.high].map(f64::is_finite);
        (finite == [true; 3]).then_some(effect)
    }

    /// The smallest relative change (or difference, on that scale) that so many runs with such a
    /// spread would have shown with a chance of 80 %; `freedom` as in [`power::detectable_shift`].
    pub(crate) fn detectable(&self, freedom: f64) -> Option<f64> {
        let [value, low, high] = [self.value, self.low, self.high].map(|end| match self.scale {
            Scale::Ratio => end.ln(),
            Scale::Difference => end,
        });
        let interval = Estimate {
            value,
            low,
            high,
            coverage: self.coverage,
        };
        let shift = power::detectable_shift(&interval, freedom)?;
        Some(relative(self.scale, shift)).filter(|size| size.is_finite())
    }

    /// The value that means that nothing differs.
    #[must_use]
    pub fn nothing(&self) -> f64 {
        match self.scale {
            Scale::Ratio => 1.0,
            Scale::Difference => 0.0,
        }
    }

    /// Whether the interval excludes that nothing differs.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.low > self.nothing() || self.high < self.nothing()
    }

    /// What the interval says by itself: it excludes that nothing changed, or does not.
    pub(crate) fn reading(&self, direction: Direction) -> Verdict {
        match worse_sign(direction) {
            _ if !self.is_clear() => Verdict::Same,
            None => Verdict::Differs,
            Some(sign) if (self.value - self.nothing()) * sign > 0.0 => Verdict::Worse,
            Some(_) => Verdict::Better,
        }
    }
}

/// The sign of a change for the worse.
fn worse_sign(direction: Direction) -> Option<f64> {
    match direction {
        Direction::LowerIsBetter => Some(1.0),
        Direction::HigherIsBetter => Some(-1.0),
        Direction::Neutral => None,
    }
}

/// Both groups on logarithms if each number has one, so that a shift is a ratio.
fn on_scale(a: &Runs, b: &Runs) -> (Scale, Runs, Runs) {
    match a.ln().zip(b.ln()) {
        Some((a, b)) => (Scale::Ratio, a, b),
        None => (Scale::Difference, a.clone(), b.clone()),
    }
}

/// One side's runs of a metric.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Side {
    /// How many runs have the metric.
    pub runs: usize,
    /// Their median.
    pub median: Option<f64>,
}

/// One metric compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricComparison {
    /// The metric's name.
    pub name: String,
    /// How each run's samples became its number.
    pub aggregation: Aggregation,
    /// The peer whose definition it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<String>,
    /// The unit.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// The baseline.
    pub a: Side,
    /// The other side.
    pub b: Side,
    /// How many pairs were compared; `None` if the runs were compared as two groups.
    pub pairs: Option<usize>,
    /// How B stands to A.
    pub effect: Option<Effect>,
    /// The two-sided p value: signed rank of pairs, else Mann-Whitney.
    pub p_value: Option<f64>,
    /// The p value adjusted over all metrics (Benjamini and Hochberg).
    pub adjusted_p_value: Option<f64>,
    /// The cross-check: Student's t on logarithms, with the ratio of geometric means.
    pub cross_check: Option<Effect>,
    /// The smallest relative change (or difference, on that scale) that would have been found
    /// with a chance of 80 %.
    pub detectable: Option<f64>,
    /// What the numbers say, whatever the environments.
    pub observed: Verdict,
    /// What can be concluded.
    pub verdict: Verdict,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the gate says, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateVerdict>,
}

impl MetricComparison {
    /// Name and aggregation, and the peer where it follows one.
    #[must_use]
    pub fn title(&self) -> String {
        let peer = self.compat.as_ref().map(|peer| format!(" ({peer})"));
        let peer = peer.unwrap_or_default();
        match self.aggregation {
            Aggregation::Total => format!("{}{peer}", self.name),
            aggregation => format!("{} {aggregation}{peer}", self.name),
        }
    }

    /// The sign of a change for the worse.
    pub(super) fn worse_sign(&self) -> Option<f64> {
        worse_sign(self.direction)
    }

    /// Reaches the verdict, once the adjusted p value is known: a difference needs both the test
    /// and the interval.
    pub(crate) fn conclude(&mut self, confounded: bool) {
        let (Some(effect), Some(p_value)) = (self.effect, self.adjusted_p_value) else {
            return;
        };
        self.observed = match effect.reading(self.direction) {
            _ if p_value > ALPHA => Verdict::Same,
            reading => reading,
        };
        self.verdict = match self.observed {
            Verdict::Same => Verdict::Same,
            _ if confounded => Verdict::Confounded,
            observed => observed,
        };
    }
}

/// What was made of one case.
#[derive(Default)]
pub(super) struct Judged {
    pub metrics: Vec<MetricComparison>,
    pub blocked: Vec<Blocked>,
    pub left_out: [Vec<LeftOut>; 2],
}

/// Judges the metrics that both sides have; the headlines, or all of them.
pub(super) fn judge(pair: &CasePair<'_>, all: bool) -> Judged {
    let mut judged = Judged::default();
    let columns = columns::of(&pair.sides);
    let has_headline = columns.iter().any(|column| column.headline);
    let partners = Partners::of(&pair.sides);
    let mut compared_in_pairs = false;
    for column in &columns {
        if !all && has_headline && !column.headline {
            continue;
        }
        let [a, b] = &column.units;
        if !a.is_empty() && !b.is_empty() && (a != b || a.len() > 1) {
            let [a, b] = [a, b].map(|units| units.iter().map(word).collect());
            let field = format!("unit of {}", column.first.key());
            let case = pair.label.clone();
            judged.blocked.push(Blocked { case, field, a, b });
            continue;
        }
        let metric = judge_column(pair, column, &partners);
        compared_in_pairs |= metric.pairs.is_some();
        judged.metrics.push(metric);
    }
    if compared_in_pairs {
        for (side, left_out) in judged.left_out.iter_mut().enumerate() {
            let alone = partners.alone[side].iter();
            left_out.extend(alone.map(|&run| {
                LeftOut {
                run: pair.sides[side][run].report.run.id.clone(),
                case: pair.label.clone(),
                why: "its partner is missing or has no valid result, and the others are compared \
                      in pairs"
                    .to_owned(),
            }
            }));
        }
    }
    judged
}

/// A unit as reports spell it.
fn word(unit: &Unit) -> String {
    let word = serde_json::to_value(unit).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

fn judge_column(pair: &CasePair<'_>, column: &Column<'_>, partners: &Partners) -> MetricComparison {
    let mut judged = MetricComparison::unjudged(column.first);
    let side = |side: usize| Side::of(column.values[side].iter().map(|(_, value)| *value));
    (judged.a, judged.b) = (side(0), side(1));
    if judged.a.runs.min(judged.b.runs) < MIN_RUNS {
        let (a, b) = (judged.a.runs, judged.b.runs);
        judged.reason = Some(format!(
            "{a} and {b} runs have it; it takes {MIN_RUNS} a side"
        ));
        return judged;
    }
    let together: Vec<(&str, f64, f64)> = column.values[0]
        .iter()
        .filter_map(|&(run, value)| {
            let id = pair.sides[0][run].report.run.id.as_str();
            Some((id, value, column.value(1, partners.of_a[run]?)?))
        })
        .collect();
    let result = if together.len() >= MIN_PAIRS {
        judged.take_pairs(&together)
    } else {
        as_groups(&mut judged, pair, column)
    };
    if let Err(fault) = result {
        judged.reason = Some(fault.to_string());
    }
    judged
}

impl Side {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        Self {
            runs: values.len(),
            median: stats::median(&values),
        }
    }
}

impl MetricComparison {
    /// A metric that has not been looked at yet.
    fn unjudged(metric: &Metric) -> Self {
        Self {
            name: metric.name.clone(),
            aggregation: metric.aggregation,
            compat: metric.compat.clone(),
            unit: metric.unit,
            direction: metric.direction,
            a: Side::default(),
            b: Side::default(),
            pairs: None,
            effect: None,
            p_value: None,
            adjusted_p_value: None,
            cross_check: None,
            detectable: None,
            observed: Verdict::Insufficient,
            verdict: Verdict::Insufficient,
            reason: None,
            gate: None,
        }
    }

    /// One metric over pairs of runs, each with an id of its own, its number in A and in B. No
    /// verdict yet: that takes the p values of all metrics.
    pub(crate) fn of_pairs(metric: &Metric, pairs: &[(&str, f64, f64)]) -> Self {
        let mut judged = Self::unjudged(metric);
        judged.a = Side::of(pairs.iter().map(|(_, a, _)| *a));
        judged.b = Side::of(pairs.iter().map(|(_, _, b)| *b));
        let result = judged.take_pairs(pairs);
        judged.reason = match result {
            Err(fault) => Some(fault.to_string()),
            Ok(()) if judged.effect.is_none() => {
                let complete = match pairs.len() {
                    1 => "1 complete pair".to_owned(),
                    count => format!("{count} complete pairs"),
                };
                Some(format!("{complete}; it takes {MIN_PAIRS}"))
            }
            Ok(()) => None,
        };
        judged
    }

    fn take_pairs(&mut self, together: &[(&str, f64, f64)]) -> Result<(), NotRuns> {
        let pairs = Pairs::new(together.iter().copied())?;
        self.pairs = Some(pairs.len());
        let logs = pairs.ln();
        let scale = scale(logs.is_some());
        let judgeable = logs.unwrap_or(pairs);
        self.effect = signed_rank::shift(&judgeable).map(|shift| effect(scale, shift));
        self.p_value = signed_rank::test(&judgeable).map(|test| test.p_value);
        self.cross_check = student::paired(&judgeable).map(|(_, shift)| effect(scale, shift));
        let freedom = judgeable.len() as f64 - 1.0;
        self.detectable = self.effect.and_then(|effect| effect.detectable(freedom));
        Ok(())
    }
}

fn as_groups(
    judged: &mut MetricComparison,
    pair: &CasePair<'_>,
    column: &Column<'_>,
) -> Result<(), NotRuns> {
    let runs = |side: usize| {
        let values = column.values[side].iter();
        Runs::new(values.map(|(run, value)| {
            let run = &pair.sides[side][*run];
            (run.report.run.id.as_str(), *value)
        }))
    };
    let (a, b) = (runs(0)?, runs(1)?);
    judged.effect = Effect::of_groups(&a, &b);
    judged.p_value = mann_whitney::test(&a, &b).map(|test| test.p_value);
    let freedom = (a.len() + b.len()) as f64 - 2.0;
    judged.detectable = judged.effect.and_then(|effect| effect.detectable(freedom));
    let (scale, a, b) = on_scale(&a, &b);
    judged.cross_check = student::welch(&a, &b).map(|(_, shift)| effect(scale, shift));
    Ok(())
}

fn scale(has_logs: bool) -> Scale {
    if has_logs {
        Scale::Ratio
    } else {
        Scale::Difference
    }
}

fn effect(scale: Scale, shift: Estimate) -> Effect {
    let shift = match scale {
        Scale::Ratio => shift.exp(),
        Scale::Difference => shift,
    };
    Effect {
        scale,
        value: shift.value,
        low: shift.low,
        high: shift.high,
        coverage: shift.coverage,
    }
}

fn relative(scale: Scale, shift: f64) -> f64 {
    match scale {
        Scale::Ratio => shift.exp_m1(),
        Scale::Difference => shift,
    }
}
