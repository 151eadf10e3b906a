//! The arms of one session set against each other: which runs belong to which side, and what the
//! arms were made to differ in.

use super::Axis;
use super::environment::Environments;
use super::matching::{field_of, text};
use crate::model::Report;
use std::collections::{BTreeMap, BTreeSet};

/// Why arms cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// No run has an arm.
    #[error("--arm {arm}: no run has an arm; give A and B as two groups of paths")]
    NoArms {
        /// The arm asked for.
        arm: String,
    },
    /// No run has this arm.
    #[error("--arm {arm}: no run has this arm; there are: {}", .arms.join(" "))]
    NoSuchArm {
        /// The arm asked for.
        arm: String,
        /// The arms that the runs have.
        arms: Vec<String>,
    },
}

/// The runs of two arms. An arm is named as the suite names it (`new`), or by one part of a
/// combination (`engine=uring` of `new,bs=4k,engine=uring`): the other parts then stay, so that
/// like is compared with like. Runs of other arms are left out.
///
/// # Errors
/// [`ArmError`], which names the arms that there are.
pub fn split(reports: Vec<Report>, arms: [&str; 2]) -> Result<[Vec<Report>; 2], ArmError> {
    let sessions = reports
        .iter()
        .filter_map(|report| report.run.session.as_ref());
    let known: BTreeSet<String> = sessions.filter_map(|s| s.arm.clone()).collect();
    let mut sides = [Vec::new(), Vec::new()];
    for report in reports {
        for (side, rest) in arms
            .map(|arm| without(&report, arm))
            .into_iter()
            .enumerate()
        {
            if let Some(rest) = rest {
                // A run of both arms stands on both sides, which `compare` refuses with its id.
                let mut report = report.clone();
                if let Some(session) = &mut report.run.session {
                    session.arm = Some(rest).filter(|rest| !rest.is_empty());
                }
                sides[side].push(report);
            }
        }
    }
    match arms
        .into_iter()
        .zip(&sides)
        .find(|(_, runs)| runs.is_empty())
    {
        None => Ok(sides),
        Some((arm, _)) if known.is_empty() => Err(ArmError::NoArms {
            arm: arm.to_owned(),
        }),
        Some((arm, _)) => Err(ArmError::NoSuchArm {
            arm: arm.to_owned(),
            arms: known.into_iter().collect(),
        }),
    }
}

/// The name of the run's arm without the wanted parts, if it has them all.
fn without(report: &Report, wanted: &str) -> Option<String> {
    let arm = report.run.session.as_ref()?.arm.as_ref()?;
    let mut parts: Vec<&str> = arm.split(',').collect();
    for wanted in wanted.split(',') {
        let at = parts.iter().position(|part| *part == wanted)?;
        parts.remove(at);
    }
    Some(parts.join(","))
}

/// What the arms of a session were made to differ in, and so is under study: builds, environment
/// variables, parameters of which they have no value in common, and with them everything that the
/// runs found themselves to use, since the order of the runs was drawn. Hosts are not among it,
/// since arms run on the same ones, unless the suite says otherwise.
#[must_use]
pub fn axes(a: &[Report], b: &[Report]) -> Vec<Axis> {
    let differing = Environments::of(a, b).differences(&[]);
    let by_design =
        |field: &str| field.starts_with("program.") || field.starts_with("environment.");
    let fields = differing.into_iter().map(|difference| difference.field);
    let fields = fields.filter(|field| by_design(field));
    let [of_a, of_b] = [a, b].map(params);
    let params = of_a.into_iter().filter_map(|(name, values)| {
        let others = of_b.get(name)?;
        values.is_disjoint(others).then(|| field_of(name))
    });
    let cases = || a.iter().chain(b).flat_map(|report| &report.cases);
    let mut measured = cases().filter_map(|case| case.outcome.measurement());
    let facts = measured
        .any(|measurement| !measurement.facts.is_empty())
        .then(|| "facts".to_owned());
    // Paths that were just made are well-formed.
    fields
        .chain(params)
        .chain(facts)
        .filter_map(|path| path.parse().ok())
        .collect()
}

fn params(reports: &[Report]) -> BTreeMap<&str, BTreeSet<String>> {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for case in reports.iter().flat_map(|report| &report.cases) {
        for (name, value) in &case.benchmark.params {
            values.entry(name).or_default().insert(text(Some(value)));
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::Session;

    fn run(arm: &str, engine: &str) -> Report {
        let mut report = fixtures::report(&[("read", 1e3)]);
        let params = &mut report.cases[0].benchmark.params;
        params.insert("engine".to_owned(), engine.into());
        report.run.session = Some(Session {
            id: "s".to_owned(),
            suite: "x".to_owned(),
            row: "r".to_owned(),
            position: 1,
            repetition: 1,
            order_index: 1,
            pair_id: Some("r-1".to_owned()),
            arm: Some(arm.to_owned()),
        });
        report
    }

    #[test]
    fn arms_go_by_their_names_or_parts_of_them() {
        let reports = vec![
            run("new,bs=4k,engine=uring", "uring"),
            run("new,bs=4k,engine=psync", "psync"),
            run("old,bs=4k,engine=psync", "psync"),
        ];
        let [a, b] =
            split(reports.clone(), ["engine=psync,new", "engine=uring"]).expect("both are there");
        assert_eq!((a.len(), b.len()), (1, 1));
        let rest = |report: &Report| report.run.session.as_ref().and_then(|s| s.arm.clone());
        assert_eq!(rest(&a[0]).as_deref(), Some("bs=4k"));
        assert_eq!(rest(&b[0]).as_deref(), Some("new,bs=4k"));
        let axes: Vec<String> = axes(&a, &b).iter().map(Axis::to_string).collect();
        assert_eq!(axes, ["params.engine"]);
        let with_fact = |report: &Report| {
            let mut report = report.clone();
            let name = report.cases[0].benchmark.params["engine"].clone();
            let facts = &mut fixtures::measurement_mut(&mut report, 0).facts;
            facts.insert("engine".to_owned(), serde_json::json!({"name": name}));
            report
        };
        let [a, b] = [&a, &b].map(|runs| runs.iter().map(with_fact).collect::<Vec<_>>());
        let axes = super::axes(&a, &b);
        let options = crate::compare::Options {
            axes,
            ..Default::default()
        };
        let comparison = crate::compare::compare(&a, &b, &options).expect("comparable");
        let case = &comparison.cases[0];
        assert!(case.confounders.is_empty(), "{:?}", case.confounders);
        assert_eq!(case.under_study[0].field, "facts.engine.name");
        let fault = split(reports, ["old", "older"])
            .expect_err("there is none")
            .to_string();
        assert!(fault.contains("--arm older") && fault.contains("old,bs=4k,engine=psync"));
        let by_hand = vec![fixtures::report(&[("read", 1.0)])];
        let fault = split(by_hand, ["old", "new"]).expect_err("no arms");
        assert!(fault.to_string().contains("two groups of paths"));
    }
}
