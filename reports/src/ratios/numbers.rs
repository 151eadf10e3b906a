//! The numbers of a row's arms, taken from its reports as they come, and put together by pairs.

use super::{ArmRatio, NoiseFloor, RowRatios};
use crate::compare::{Effect, MetricComparison};
use crate::model::{Case, Metric, Outcome, Report, Severity};
use crate::suite::{Plan, Row};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The arms of one row.
pub(crate) struct Arms {
    row: String,
    /// The metric by which they are set against each other; `None` for the first headline.
    metric: Option<String>,
    /// In the order of the suite; the first is the baseline.
    arms: Vec<Arm>,
    /// The place of each unit of the plan among them.
    of_unit: HashMap<usize, usize>,
}

struct Arm {
    name: String,
    again: bool,
    /// One per point of a sweep, in the order in which the reports name them.
    points: Vec<Point>,
    index: HashMap<(String, String), usize>,
    /// What the first run without a number said instead.
    instead: Option<String>,
}

/// One case of an arm over the rounds.
struct Point {
    id: String,
    params: Map<String, Value>,
    metric: Metric,
    values: BTreeMap<u32, f64>,
}

impl Arms {
    pub(crate) fn of_row(row: &Row, plan: &Plan) -> Self {
        let units = plan.units.iter().enumerate();
        let mut arms = Vec::new();
        let mut of_unit = HashMap::new();
        for (at, unit) in units.filter(|(_, unit)| unit.row == row.name) {
            of_unit.insert(at, arms.len());
            arms.push(Arm {
                name: unit.arm.clone().unwrap_or_default(),
                again: unit.again,
                points: Vec::new(),
                index: HashMap::new(),
                instead: None,
            });
        }
        Self {
            row: row.name.clone(),
            metric: row.metric.clone(),
            arms,
            of_unit,
        }
    }

    /// Takes what a run of a unit measured in a round. A number that does not stand is no number.
    pub(crate) fn add(&mut self, unit: usize, round: u32, report: &Report) {
        let Some(arm) = self
            .of_unit
            .get(&unit)
            .and_then(|&at| self.arms.get_mut(at))
        else {
            return;
        };
        for case in &report.cases {
            if let Some(metric) = metric_of(case, self.metric.as_deref())
                && let Some(value) = metric.value.known()
            {
                arm.point(case, metric).values.insert(round, *value);
            } else if arm.instead.is_none() {
                arm.instead = reason(&case.outcome);
            }
        }
    }

    /// Whether there is nothing to compare with.
    pub(crate) fn single(&self) -> bool {
        self.arms.len() < 2
    }

    /// The numbers of a row's only arm, point by point.
    pub(crate) fn values_of_single(&self) -> Vec<Vec<f64>> {
        let points = self.arms.iter().flat_map(|arm| &arm.points);
        points
            .map(|point| point.values.values().copied().collect())
            .collect()
    }

    /// How every arm stands to the baseline, point by point; `None` where there are too few pairs.
    pub(crate) fn effects(&self) -> Vec<Option<Effect>> {
        let ratios = self.ratios();
        let floors = ratios
            .iter()
            .filter_map(|row| Some(&row.noise_floor.as_ref()?.ratio));
        let arms = ratios.iter().flat_map(|row| &row.arms);
        arms.chain(floors)
            .filter_map(|arm| arm.result.as_ref().ok())
            .map(|comparison| comparison.effect)
            .collect()
    }

    /// Every point's ratios, without verdicts.
    pub(super) fn ratios(&self) -> Vec<RowRatios> {
        let Some((baseline, others)) = self.arms.split_first() else {
            return Vec::new();
        };
        if others.is_empty() || self.arms.iter().all(|arm| arm.points.is_empty()) {
            return Vec::new();
        }
        if baseline.points.is_empty() {
            let mut row = self.row_ratios(baseline, String::new(), self.metric.as_deref());
            row.arms = others.iter().map(|arm| without(arm, baseline)).collect();
            return vec![row];
        }
        let partners: Vec<_> = others.iter().map(|arm| partners(baseline, arm)).collect();
        let telling = baseline.varying();
        let rows = baseline.points.iter().enumerate().map(|(at, point)| {
            let name = in_words(point, &telling, baseline);
            let mut row = self.row_ratios(baseline, name, Some(&point.metric.key()));
            for (arm, partners) in others.iter().zip(&partners) {
                let ratio = ratio(&self.row, point, arm, partners.as_ref().map(|of| of[at]));
                if arm.again {
                    row.noise_floor = Some(NoiseFloor::of(ratio));
                } else {
                    row.arms.push(ratio);
                }
            }
            row
        });
        rows.collect()
    }

    fn row_ratios(&self, baseline: &Arm, point: String, metric: Option<&str>) -> RowRatios {
        RowRatios {
            row: self.row.clone(),
            point,
            metric: metric.unwrap_or("the first headline").to_owned(),
            baseline: baseline.name.clone(),
            noise_floor: None,
            arms: Vec::new(),
        }
    }
}

/// The metric of this name, or the first headline, if the case was measured and its numbers stand.
fn metric_of<'a>(case: &'a Case, name: Option<&str>) -> Option<&'a Metric> {
    let measurement = case.outcome.measurement()?;
    if measurement.validity.is_invalid() {
        return None;
    }
    let mut metrics = measurement.metrics.iter();
    match name {
        Some(name) => metrics.find(|metric| metric.key() == name),
        None => metrics.find(|metric| metric.headline),
    }
}

/// What a case without a number said of it.
fn reason(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Skipped { reason } => Some(reason.clone()),
        Outcome::Failed { error } => Some(error.clone()),
        Outcome::Measured(measurement) => {
            let mut flags = measurement.validity.flags.iter();
            let flag = flags.find(|flag| flag.severity == Severity::Invalid)?;
            Some(format!("{}: {}", flag.code, flag.evidence))
        }
    }
}

impl Arm {
    fn point(&mut self, case: &Case, metric: &Metric) -> &mut Point {
        let benchmark = &case.benchmark;
        let sorted: BTreeMap<_, _> = benchmark.params.iter().collect();
        let params = serde_json::to_string(&sorted).unwrap_or_default();
        let key = (benchmark.id.clone(), params);
        let at = *self.index.entry(key).or_insert_with(|| {
            self.points.push(Point {
                id: benchmark.id.clone(),
                params: benchmark.params.clone(),
                metric: metric.clone(),
                values: BTreeMap::new(),
            });
            self.points.len() - 1
        });
        &mut self.points[at]
    }

    /// Why there is nothing to compare.
    fn lack(&self) -> String {
        let fault = format!("no valid run of {} has this number", self.name);
        match &self.instead {
            Some(instead) if self.points.is_empty() => format!("{fault}: {instead}"),
            _ => fault,
        }
    }

    fn ids(&self) -> BTreeSet<&str> {
        self.points.iter().map(|point| point.id.as_str()).collect()
    }

    /// The parameters that have several values among the points.
    fn varying(&self) -> BTreeSet<&str> {
        let mut first: BTreeMap<&str, &Value> = BTreeMap::new();
        let mut varying = BTreeSet::new();
        for (name, value) in self.points.iter().flat_map(|point| &point.params) {
            if *first.entry(name).or_insert(value) != value {
                varying.insert(name.as_str());
            }
        }
        varying
    }
}

/// The point of the arm that belongs to each point of the baseline. Programs with benchmarks of
/// their own share no ids; what they share is the parameter that they sweep.
fn partners(baseline: &Arm, arm: &Arm) -> Result<Vec<Option<usize>>, String> {
    let by_id = baseline.ids() == arm.ids();
    let (of_baseline, of_arm) = (baseline.varying(), arm.varying());
    let names: Vec<&str> = of_baseline.intersection(&of_arm).copied().collect();
    let key = |point: &Point| {
        let values: Vec<Option<&Value>> =
            names.iter().map(|name| point.params.get(*name)).collect();
        let id = if by_id { point.id.as_str() } else { "" };
        format!("{id} {}", serde_json::json!(values))
    };
    let mut index = HashMap::new();
    for (at, point) in arm.points.iter().enumerate() {
        if index.insert(key(point), at).is_some() {
            let ids: Vec<&str> = arm.ids().into_iter().collect();
            return Err(format!(
                "several results of {} ({}) could belong to one of {}",
                arm.name,
                ids.join(", "),
                baseline.name
            ));
        }
    }
    let mut taken = BTreeSet::new();
    let found: Vec<Option<usize>> = baseline
        .points
        .iter()
        .map(|point| index.get(&key(point)).copied())
        .collect();
    match found.iter().flatten().find(|&at| !taken.insert(at)) {
        None => Ok(found),
        Some(_) => Err(format!(
            "several results of {} could belong to one of {}",
            baseline.name, arm.name
        )),
    }
}

fn ratio(row: &str, point: &Point, arm: &Arm, partner: Result<Option<usize>, &String>) -> ArmRatio {
    let result = match partner {
        Err(reason) => Err(reason.clone()),
        Ok(None) => Err(arm.lack()),
        Ok(Some(at)) => {
            let other = &arm.points[at];
            let rounds = point.values.iter();
            let pairs: Vec<(String, f64, f64)> = rounds
                .filter_map(|(round, a)| {
                    Some((format!("{row}-{round}"), *a, *other.values.get(round)?))
                })
                .collect();
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(id, a, b)| (id.as_str(), *a, *b))
                .collect();
            Ok(MetricComparison::of_pairs(&point.metric, &pairs))
        }
    };
    ArmRatio {
        arm: arm.name.clone(),
        result,
        within_noise: false,
    }
}

/// An arm beside a baseline without any number.
fn without(arm: &Arm, baseline: &Arm) -> ArmRatio {
    ArmRatio {
        arm: arm.name.clone(),
        result: Err(baseline.lack()),
        within_noise: false,
    }
}

fn in_words(point: &Point, telling: &BTreeSet<&str>, arm: &Arm) -> String {
    let id = Some(point.id.clone()).filter(|_| arm.ids().len() > 1);
    let params = point
        .params
        .iter()
        .filter(|(name, _)| telling.contains(name.as_str()));
    let params = params.map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    id.into_iter().chain(params).collect::<Vec<_>>().join(" ")
}
