//! Comparing two groups of runs: first what differs between their environments, then what the
//! numbers say, and whether a gate lets them pass.
//!
//! A comparison answers one question, "did the thing under study change the result?", and three
//! kinds of difference stand in its way. A *blocking* one (another definition, parameter, unit or
//! node count) means that the numbers measure different things: the case is not compared. A
//! *declared* one is the axis under study. Everything else is a *confounder*: the numbers may well
//! differ, but who can say why, so the verdict becomes `confounded`.
//!
//! The unit is a run ([`crate::stats::Runs`]). Runs that share a pair id are compared as pairs,
//! others as two independent groups.

pub mod arms;
mod cases;
mod columns;
pub mod environment;
pub(crate) mod fields;
pub mod gate;
mod judge;
mod matching;
mod path;

pub use environment::{Axis, Class, Difference};
pub use gate::{Gate, GateError};
pub(crate) use judge::MIN_RUNS;
pub use judge::{Effect, MetricComparison, Scale, Side, Verdict};
pub(crate) use matching::field_of;
pub use matching::{Blocked, LeftOut};

use crate::model::Report;
use crate::stats::false_discovery;
use environment::Environments;
use serde::Serialize;
use std::collections::BTreeSet;

/// What is asked of a comparison.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The fields under study, whose difference is expected.
    pub axes: Vec<Axis>,
    /// What counts as a regression; without a gate nothing does.
    pub gate: Option<Gate>,
    /// Whether every metric is judged, not the headlines alone.
    pub all_metrics: bool,
}

/// Two groups of runs compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first group, the baseline.
    pub a: Group,
    /// The second group.
    pub b: Group,
    /// What differs between the environments, what matters most first.
    pub environment: Vec<Difference>,
    /// Why not even processor and kernel are known on either side, as of imported results: then no
    /// difference says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_environment: Option<String>,
    /// Cases that cannot be compared, and why.
    pub blocked: Vec<Blocked>,
    /// The compared cases, in the order in which A names them.
    pub cases: Vec<CaseComparison>,
    /// What it all comes to.
    pub status: Status,
}

/// One group of runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Group {
    /// What the user calls it: paths, an arm.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How many runs.
    pub runs: usize,
    /// When the first of them started and the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<(String, String)>,
    /// Runs that were left out, case by case, and why.
    pub left_out: Vec<LeftOut>,
    /// Cases that the other group lacks.
    pub cases_of_its_own: Vec<String>,
    /// Flags that make numbers stand for less, with the number of cases that raised them.
    pub degraded: Vec<(String, usize)>,
}

/// One case in both groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseComparison {
    /// Id and parameters; row and arm of the suite where those are needed to tell it from others.
    pub case: String,
    /// The same, short: of the parameters only those that tell it from its siblings.
    pub label: String,
    /// Confounders of this case alone: what was really used.
    pub confounders: Vec<Difference>,
    /// What was really used and differs because of what is under study.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub under_study: Vec<Difference>,
    /// The metrics.
    pub metrics: Vec<MetricComparison>,
}

/// What a comparison comes to. Each has its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No regression beyond the gate, or no gate.
    Pass,
    /// A whole interval lies beyond the gate in the worse direction.
    Regression,
    /// Something cannot be compared, or fails the gate for a reason that cannot be told.
    Incomparable,
    /// Too few runs, or none that is valid.
    Insufficient,
}

impl Status {
    /// 0 pass, 1 regression, 3 incomparable, 4 insufficient; 2 is wrong usage.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Regression => 1,
            Self::Incomparable => 3,
            Self::Insufficient => 4,
        }
    }
}

/// Why nothing can be compared at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// No report has the declared field.
    #[error("--axis {axis}: no report has such a field; `reports env --json` shows the names")]
    NoSuchAxis {
        /// The axis.
        axis: String,
    },
    /// A side has no run that the other has not.
    #[error(
        "run {run} is in both A and B: a run compared with itself tells nothing; give each run to \
         one side"
    )]
    OnBothSides {
        /// The run's id.
        run: String,
    },
}

/// Compares the runs of B with those of A.
///
/// # Errors
/// [`CompareError`]. What concerns some cases only is in the [`Comparison`] instead.
pub fn compare(a: &[Report], b: &[Report], options: &Options) -> Result<Comparison, CompareError> {
    let [of_a, of_b] = [a, b].map(|side| -> BTreeSet<&str> {
        side.iter().map(|report| report.run.id.as_str()).collect()
    });
    let shared: BTreeSet<&str> = of_a.intersection(&of_b).copied().collect();
    if !shared.is_empty() {
        return without_shared(a, b, &shared, options);
    }
    let environments = Environments::of(a, b);
    let matched = matching::match_cases(a, b, &options.axes);
    for axis in &options.axes {
        let is_fact = || environment::some_fact_lies_below(axis, a.iter().chain(b));
        if !environments.has(axis) && !matched.declares(axis) && !is_fact() {
            return Err(CompareError::NoSuchAxis {
                axis: axis.to_string(),
            });
        }
    }
    let environment = environments.differences(&options.axes);
    let confounded = environment.iter().any(|d| d.class == Class::Confounder);
    let matching::Matched {
        groups: [mut group_a, mut group_b],
        mut blocked,
        pairs,
        ..
    } = matched;
    let mut cases = Vec::new();
    for pair in &pairs {
        let facts = environment::fact_differences(&pair.sides, &options.axes);
        let (confounders, under_study) = facts
            .into_iter()
            .partition(|difference| difference.class == Class::Confounder);
        let judged = judge::judge(pair, options.all_metrics);
        group_a.left_out.extend(judged.left_out[0].iter().cloned());
        group_b.left_out.extend(judged.left_out[1].iter().cloned());
        blocked.extend(judged.blocked);
        cases.push(CaseComparison {
            case: pair.key.clone(),
            label: pair.label.clone(),
            confounders,
            under_study,
            metrics: judged.metrics,
        });
    }
    conclude(&mut cases, confounded, options.gate.as_ref());
    for (group, reports) in [(&mut group_a, a), (&mut group_b, b)] {
        let started = reports.iter().map(|report| &report.run.started).min();
        let ended = reports.iter().map(|report| &report.run.ended).max();
        group.time = started.cloned().zip(ended.cloned());
    }
    let missing = options.gate.is_some() && !group_a.cases_of_its_own.is_empty();
    let status = match status(&blocked, &cases) {
        // A case that has gone cannot pass a gate.
        Status::Pass if missing => Status::Insufficient,
        status => status,
    };
    Ok(Comparison {
        a: group_a,
        b: group_b,
        environment,
        unknown_environment: environments.unknown(),
        blocked,
        cases,
        status,
    })
}

/// Compares what is left without the runs that stand on both sides, which belong to neither. That
/// cannot pass: what was meant to be compared was something else.
fn without_shared(
    a: &[Report],
    b: &[Report],
    shared: &BTreeSet<&str>,
    options: &Options,
) -> Result<Comparison, CompareError> {
    let is_shared = |report: &Report| shared.contains(report.run.id.as_str());
    let [kept_a, kept_b] = [a, b].map(|side| -> Vec<Report> {
        let kept = side.iter().filter(|report| !is_shared(report));
        kept.cloned().collect()
    });
    if let Some(run) = shared.first()
        && (kept_a.is_empty() || kept_b.is_empty())
    {
        return Err(CompareError::OnBothSides {
            run: (*run).to_owned(),
        });
    }
    let mut comparison = compare(&kept_a, &kept_b, options)?;
    for group in [&mut comparison.a, &mut comparison.b] {
        group.left_out.extend(shared.iter().map(|run| LeftOut {
            run: (*run).to_owned(),
            case: "every case".to_owned(),
            why: "the run is in both A and B and belongs to neither".to_owned(),
        }));
    }
    if comparison.status == Status::Pass {
        comparison.status = Status::Insufficient;
    }
    Ok(comparison)
}

/// Adjusts the p values of all metrics together and lets them, the confounders and the gate speak.
fn conclude(cases: &mut [CaseComparison], confounded: bool, gate: Option<&Gate>) {
    let p_values: Vec<f64> = cases
        .iter()
        .flat_map(|case| &case.metrics)
        .filter_map(|metric| metric.p_value)
        .collect();
    let mut adjusted = false_discovery::adjust(&p_values).into_iter();
    for case in cases {
        let confounded = confounded || !case.confounders.is_empty();
        for metric in &mut case.metrics {
            if metric.p_value.is_some() {
                metric.adjusted_p_value = adjusted.next();
            }
            metric.conclude(confounded);
            metric.gate = gate.and_then(|gate| gate.judge(metric));
        }
    }
}

/// The worst of everything: a regression, then what cannot be compared, then what cannot be told.
fn status(blocked: &[Blocked], cases: &[CaseComparison]) -> Status {
    let metrics = || cases.iter().flat_map(|case| &case.metrics);
    let failing = |metric: &&MetricComparison| metric.gate.is_some_and(|gate| gate.failed);
    let is = |verdict| move |metric: &MetricComparison| metric.verdict == verdict;
    if metrics().filter(failing).any(is(Verdict::Worse)) {
        Status::Regression
    } else if !blocked.is_empty() || metrics().filter(failing).any(is(Verdict::Confounded)) {
        Status::Incomparable
    } else if metrics().next().is_none() || metrics().any(is(Verdict::Insufficient)) {
        Status::Insufficient
    } else {
        Status::Pass
    }
}

#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
