//! Which case of A belongs to which case of B, and what blocks their comparison.

use super::Group;
use super::environment::Axis;
use crate::model::{Case, Measurement, Outcome, Report, Severity};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A difference that makes two results measure different things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The case.
    pub case: String,
    /// What differs: `definition_hash`, `params.size_bytes`, `unit of …`, `node count`.
    pub field: String,
    /// The values in A.
    pub a: Vec<String>,
    /// The values in B.
    pub b: Vec<String>,
}

/// A run that was left out of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The run's id.
    pub run: String,
    /// The case.
    pub case: String,
    /// Why.
    pub why: String,
}

/// One run of one case that was measured and is valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub report: &'a Report,
    pub measurement: &'a Measurement,
}

/// A case with its runs on both sides.
pub(super) struct CasePair<'a> {
    pub label: String,
    pub sides: [Vec<Run<'a>>; 2],
}

/// All cases of two groups, matched.
pub(super) struct Matched<'a> {
    pub groups: [Group; 2],
    pub blocked: Vec<Blocked>,
    pub pairs: Vec<CasePair<'a>>,
    fields: BTreeSet<String>,
}

impl Matched<'_> {
    /// Whether the axis is a parameter or the node count.
    pub(super) fn declares(&self, axis: &Axis) -> bool {
        axis.covers("nodes") || self.fields.iter().any(|field| axis.covers(field))
    }
}

type Found<'a> = Vec<(&'a Report, &'a Case)>;
/// Id and parameters without the axis; then, under it, the suite's rows.
type Cases<'a> = BTreeMap<(String, String), BTreeMap<Option<&'a str>, Found<'a>>>;

/// Matches cases by id, parameters and, where a side has several, the suite's row.
pub(super) fn match_cases<'a>(a: &'a [Report], b: &'a [Report], axes: &[Axis]) -> Matched<'a> {
    let mut matched = Matched {
        groups: [Group::default(), Group::default()],
        blocked: Vec::new(),
        pairs: Vec::new(),
        fields: BTreeSet::new(),
    };
    let [mut cases_a, mut cases_b] = [(a, 0), (b, 1)].map(|(reports, side)| {
        collect(
            reports,
            axes,
            &mut matched.groups[side],
            &mut matched.fields,
        )
    });
    let keys: BTreeSet<_> = cases_a.keys().chain(cases_b.keys()).cloned().collect();
    let mut lone: BTreeMap<String, [Found<'a>; 2]> = BTreeMap::new();
    for key in keys {
        let mut rows_a = cases_a.remove(&key).unwrap_or_default();
        let mut rows_b = cases_b.remove(&key).unwrap_or_default();
        if rows_a.len() == 1 && rows_b.len() == 1 {
            let [found_a, found_b] =
                [rows_a, rows_b].map(|rows| rows.into_values().flatten().collect());
            pair(&mut matched, [found_a, found_b], axes);
            continue;
        }
        let rows: BTreeSet<_> = rows_a.keys().chain(rows_b.keys()).copied().collect();
        for row in rows {
            match (rows_a.remove(&row), rows_b.remove(&row)) {
                (Some(a), Some(b)) => pair(&mut matched, [a, b], axes),
                (a, b) => {
                    let sides = lone.entry(key.0.clone()).or_default();
                    sides[0].extend(a.unwrap_or_default());
                    sides[1].extend(b.unwrap_or_default());
                }
            }
        }
    }
    for (id, sides) in lone {
        judge_lone(&mut matched, &id, &sides);
    }
    matched
}

fn collect<'a>(
    reports: &'a [Report],
    axes: &[Axis],
    group: &mut Group,
    fields: &mut BTreeSet<String>,
) -> Cases<'a> {
    let mut seen = BTreeSet::new();
    let mut cases = Cases::new();
    let mut degraded: BTreeMap<String, usize> = BTreeMap::new();
    for report in reports {
        if !seen.insert(report.run.id.as_str()) {
            group.left_out.push(LeftOut {
                run: report.run.id.clone(),
                case: "every case".to_owned(),
                why: "the run was given twice and counts once".to_owned(),
            });
            continue;
        }
        group.runs += 1;
        let row = report.run.session.as_ref().map(|s| s.row.as_str());
        for case in &report.cases {
            fields.extend(case.benchmark.params.keys().map(|name| field_of(name)));
            let mut kept = case.benchmark.params.clone();
            kept.retain(|name, _| !declared(axes, &field_of(name)));
            let ordered: BTreeMap<_, _> = kept.into_iter().collect();
            let params = serde_json::to_string(&ordered).unwrap_or_default();
            let rows = cases
                .entry((case.benchmark.id.clone(), params))
                .or_default();
            rows.entry(row).or_default().push((report, case));
            if let Outcome::Measured(measurement) = &case.outcome {
                for flag in &measurement.validity.flags {
                    if flag.severity == Severity::Degraded {
                        *degraded.entry(flag.code.clone()).or_default() += 1;
                    }
                }
            }
        }
    }
    group.degraded = degraded.into_iter().collect();
    cases
}

fn field_of(param: &str) -> String {
    format!("params.{param}")
}

fn declared(axes: &[Axis], field: &str) -> bool {
    axes.iter().any(|axis| axis.covers(field))
}

/// Puts two matched sides together, unless something blocks it.
fn pair<'a>(matched: &mut Matched<'a>, sides: [Found<'a>; 2], axes: &[Axis]) {
    let label = sides[0][0].1.key();
    let mut checks = vec![(
        "definition_hash".to_owned(),
        values(&sides, |_, case| case.benchmark.definition_hash.clone()),
    )];
    if !declared(axes, "nodes") {
        let nodes = values(&sides, |report, _| report.hosts.len().to_string());
        checks.push(("node count".to_owned(), nodes));
    }
    // A parameter under study must have one value a side, or it is unclear what is compared.
    let params: BTreeSet<&String> = sides[0][0].1.benchmark.params.keys().collect();
    let mut mixed = false;
    for name in params
        .into_iter()
        .filter(|name| declared(axes, &field_of(name)))
    {
        let [a, b] = values(&sides, |_, case| text(case.benchmark.params.get(name)));
        if a.len() > 1 || b.len() > 1 {
            mixed = true;
            checks.push((format!("{} (several a side)", field_of(name)), [a, b]));
        }
    }
    let before = matched.blocked.len();
    for (field, [a, b]) in checks {
        if a != b || a.len() > 1 || mixed && field.ends_with("a side)") {
            let [a, b] = [a, b].map(|values| values.into_iter().collect());
            let case = label.clone();
            matched.blocked.push(Blocked { case, field, a, b });
        }
    }
    if matched.blocked.len() > before {
        return;
    }
    let [a, b] = sides;
    let groups = &mut matched.groups;
    let sides = [
        valid(a, &mut groups[0], &label),
        valid(b, &mut groups[1], &label),
    ];
    matched.pairs.push(CasePair { label, sides });
}

fn values(
    sides: &[Found<'_>; 2],
    value: impl Fn(&Report, &Case) -> String,
) -> [BTreeSet<String>; 2] {
    sides.each_ref().map(|found| {
        found
            .iter()
            .map(|(report, case)| value(report, case))
            .collect()
    })
}

fn text(value: Option<&Value>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The runs whose numbers stand; what happened to the others is noted.
fn valid<'a>(found: Found<'a>, group: &mut Group, label: &str) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for (report, case) in found {
        let why = match &case.outcome {
            Outcome::Measured(measurement) => {
                let invalid = |flag: &&crate::model::Flag| flag.severity == Severity::Invalid;
                match measurement.validity.flags.iter().find(invalid) {
                    None => {
                        runs.push(Run {
                            report,
                            measurement,
                        });
                        continue;
                    }
                    Some(flag) => format!("invalid: {}: {}", flag.code, flag.evidence),
                }
            }
            Outcome::Skipped { reason } => format!("skipped: {reason}"),
            Outcome::Failed { error } => format!("failed: {error}"),
        };
        group.left_out.push(LeftOut {
            run: report.run.id.clone(),
            case: label.to_owned(),
            why,
        });
    }
    runs
}

/// Cases without a partner: a blocking difference of parameters if both sides have some of this
/// id, else cases of one side's own.
fn judge_lone(matched: &mut Matched<'_>, id: &str, sides: &[Found<'_>; 2]) {
    if sides.iter().any(Vec::is_empty) {
        for (group, found) in matched.groups.iter_mut().zip(sides) {
            let names: BTreeSet<String> = found.iter().map(|(_, case)| case.key()).collect();
            group.cases_of_its_own.extend(names);
        }
        return;
    }
    let names: BTreeSet<&String> = sides
        .iter()
        .flatten()
        .flat_map(|(_, case)| case.benchmark.params.keys())
        .collect();
    let mut found = false;
    for name in names {
        let [a, b] = values(sides, |_, case| text(case.benchmark.params.get(name)));
        if a != b {
            found = true;
            let [a, b] = [a, b].map(|values| values.into_iter().collect());
            let (case, field) = (id.to_owned(), field_of(name));
            matched.blocked.push(Blocked { case, field, a, b });
        }
    }
    if !found {
        let [a, b] = values(sides, |report, _| {
            let session = report.run.session.as_ref();
            session.map_or("no suite".to_owned(), |session| session.row.clone())
        })
        .map(|values| values.into_iter().collect());
        let (case, field) = (id.to_owned(), "row of the suite".to_owned());
        matched.blocked.push(Blocked { case, field, a, b });
    }
}
