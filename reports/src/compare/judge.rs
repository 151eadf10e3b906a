//! One case's metrics judged: ratio or difference, interval, test and verdict.

use super::gate::GateVerdict;
use super::matching::{Blocked, CasePair, LeftOut, Run};
use crate::model::{Aggregation, Direction, Metric, Unit};
use crate::stats::{
    self, ALPHA, Estimate, NotRuns, Pairs, Runs, mann_whitney, power, signed_rank, student,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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

/// The smallest relative change (or difference, on that scale) between two independent groups that
/// would have been found with a chance of 80 %.
pub(crate) fn detectable(a: &Runs, b: &Runs) -> Option<f64> {
    let (scale, a, b) = on_scale(a, b);
    power::detectable_shift(&a, &b).map(|shift| relative(scale, shift))
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
    pub(super) fn conclude(&mut self, confounded: bool) {
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
pub(super) struct Judged {
    pub metrics: Vec<MetricComparison>,
    pub blocked: Vec<Blocked>,
    pub left_out: [Vec<LeftOut>; 2],
}

/// Judges the metrics that both sides have; the headlines, or all of them.
pub(super) fn judge(pair: &CasePair<'_>, all: bool) -> Judged {
    let mut judged = Judged {
        metrics: Vec::new(),
        blocked: Vec::new(),
        left_out: [Vec::new(), Vec::new()],
    };
    let runs = || pair.sides.iter().flatten();
    let has_headline = runs().any(|run| run.measurement.metrics.iter().any(|m| m.headline));
    let mut seen = BTreeSet::new();
    for metric in runs().flat_map(|run| &run.measurement.metrics) {
        let wanted = all || metric.headline || !has_headline;
        if !wanted || !seen.insert(metric.key()) {
            continue;
        }
        let [a, b] = pair.sides.each_ref().map(|runs| units(runs, metric));
        if !a.is_empty() && !b.is_empty() && (a != b || a.len() > 1) {
            let [a, b] = [a, b].map(|units| units.into_iter().collect());
            let field = format!("unit of {}", metric.key());
            let case = pair.label.clone();
            judged.blocked.push(Blocked { case, field, a, b });
            continue;
        }
        judged
            .metrics
            .push(judge_metric(pair, metric, &mut judged.left_out));
    }
    judged
}

fn units(runs: &[Run<'_>], metric: &Metric) -> BTreeSet<String> {
    runs.iter()
        .filter_map(|run| same(run, metric))
        .map(|metric| format!("{:?}", metric.unit))
        .collect()
}

fn same<'a>(run: &Run<'a>, metric: &Metric) -> Option<&'a Metric> {
    let same = |m: &&Metric| {
        m.name == metric.name && m.aggregation == metric.aggregation && m.compat == metric.compat
    };
    run.measurement.metrics.iter().find(same)
}

fn judge_metric(
    pair: &CasePair<'_>,
    metric: &Metric,
    left_out: &mut [Vec<LeftOut>; 2],
) -> MetricComparison {
    let numbers = pair.sides.each_ref().map(|runs| values(runs, metric));
    let [a, b] = numbers.each_ref().map(|numbers| {
        let values: Vec<f64> = numbers.iter().map(|(_, value)| *value).collect();
        Side {
            runs: values.len(),
            median: stats::median(&values),
        }
    });
    let mut judged = MetricComparison {
        name: metric.name.clone(),
        aggregation: metric.aggregation,
        compat: metric.compat.clone(),
        unit: metric.unit,
        direction: metric.direction,
        a,
        b,
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
    };
    if judged.a.runs.min(judged.b.runs) < MIN_RUNS {
        let (a, b) = (judged.a.runs, judged.b.runs);
        judged.reason = Some(format!(
            "{a} and {b} runs have it; it takes {MIN_RUNS} a side"
        ));
        return judged;
    }
    let together = paired(&numbers);
    let result = if together.len() >= MIN_PAIRS {
        for (side, numbers) in numbers.iter().enumerate() {
            left_out[side].extend(without_partner(numbers, &together, &pair.label, metric));
        }
        as_pairs(&mut judged, &together)
    } else {
        as_groups(&mut judged, &numbers)
    };
    if let Err(fault) = result {
        judged.reason = Some(fault.to_string());
    }
    judged
}

fn values<'a>(runs: &[Run<'a>], metric: &Metric) -> Vec<(Run<'a>, f64)> {
    runs.iter()
        .filter_map(|run| Some((*run, *same(run, metric)?.value.known()?)))
        .collect()
}

/// A pair's key: pair ids are unique within a session only.
fn pair_key(run: &Run<'_>) -> Option<String> {
    let session = run.report.run.session.as_ref()?;
    Some(format!("{}/{}", session.id, session.pair_id.as_ref()?))
}

type Together = BTreeMap<String, (f64, f64)>;

/// The pairs that are complete. A pair id with two runs on one side pairs nothing.
fn paired(numbers: &[Vec<(Run<'_>, f64)>; 2]) -> Together {
    let [a, b] = numbers.each_ref().map(|numbers| {
        let mut by_pair: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (run, value) in numbers {
            if let Some(key) = pair_key(run) {
                by_pair.entry(key).or_default().push(*value);
            }
        }
        by_pair
    });
    a.into_iter()
        .filter_map(|(key, a)| match (a.as_slice(), b.get(&key)?.as_slice()) {
            ([a], [b]) => Some((key, (*a, *b))),
            _ => None,
        })
        .collect()
}

fn without_partner(
    numbers: &[(Run<'_>, f64)],
    together: &Together,
    case: &str,
    metric: &Metric,
) -> Vec<LeftOut> {
    numbers
        .iter()
        .filter(|(run, _)| pair_key(run).is_none_or(|key| !together.contains_key(&key)))
        .map(|(run, _)| LeftOut {
            run: run.report.run.id.clone(),
            case: case.to_owned(),
            why: format!("it has no partner for {}", metric.key()),
        })
        .collect()
}

fn as_pairs(judged: &mut MetricComparison, together: &Together) -> Result<(), NotRuns> {
    let pairs = Pairs::new(together.iter().map(|(key, (a, b))| (key.as_str(), *a, *b)))?;
    judged.pairs = Some(pairs.len());
    let logs = pairs.ln();
    let scale = scale(logs.is_some());
    let judgeable = logs.unwrap_or(pairs);
    judged.effect = signed_rank::shift(&judgeable).map(|shift| effect(scale, shift));
    judged.p_value = signed_rank::test(&judgeable).map(|test| test.p_value);
    judged.cross_check = student::paired(&judgeable).map(|(_, shift)| effect(scale, shift));
    judged.detectable = power::detectable_paired_shift(&judgeable).map(|d| relative(scale, d));
    Ok(())
}

fn as_groups(
    judged: &mut MetricComparison,
    numbers: &[Vec<(Run<'_>, f64)>; 2],
) -> Result<(), NotRuns> {
    let runs = |numbers: &[(Run<'_>, f64)]| {
        Runs::new(
            numbers
                .iter()
                .map(|(run, value)| (run.report.run.id.as_str(), *value)),
        )
    };
    let (a, b) = (runs(&numbers[0])?, runs(&numbers[1])?);
    judged.effect = Effect::of_groups(&a, &b);
    judged.p_value = mann_whitney::test(&a, &b).map(|test| test.p_value);
    judged.detectable = detectable(&a, &b);
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
