//! What is ranked: by which field runs are put into groups, and which group each case of a run
//! belongs to.

use super::RankError;
use crate::compare::Axis;
use crate::compare::fields::Surroundings;
use crate::host::Host;
use crate::model::{Case, Report};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The most groups: every pair of them is tested, for every metric.
pub(super) const MAX_GROUPS: usize = 100;

/// By what runs are grouped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// The instance types of the hosts, or their names where no type is known.
    InstanceType,
    /// How many hosts took part.
    Nodes,
    /// The arm of the suite's row.
    Arm,
    /// A field of the environment.
    Environment(String),
    /// A parameter of the case.
    Parameter(String),
}

impl Field {
    /// The one field that is meant.
    pub(super) fn find(
        by: &Axis,
        reports: &[Report],
        surroundings: &Surroundings,
    ) -> Result<Self, RankError> {
        let by = by.to_string();
        match by.as_str() {
            "instance_type" | "cloud.instance_type" => return Ok(Self::InstanceType),
            "nodes" => return Ok(Self::Nodes),
            "arm" => return Ok(Self::Arm),
            _ => {}
        }
        let fields = surroundings.names();
        let params = reports.iter().flat_map(|report| &report.cases);
        let params = params.flat_map(|case| case.benchmark.params.keys());
        let mut meant: BTreeMap<String, Self> = BTreeMap::new();
        for field in fields {
            if ends_with(field, &by) {
                meant.insert(field.clone(), Self::Environment(field.clone()));
            }
        }
        for name in params {
            let path = format!("params.{name}");
            if ends_with(&path, &by) {
                meant.insert(path, Self::Parameter(name.clone()));
            }
        }
        if let Some(exact) = meant.remove(&by) {
            return Ok(exact);
        }
        let names: Vec<String> = meant.keys().cloned().collect();
        match (meant.pop_first(), names.len()) {
            (Some((_, field)), 1) => Ok(field),
            (Some(_), _) => Err(RankError::AmbiguousField { by, names }),
            (None, _) => Err(RankError::NoSuchField { by }),
        }
    }

    /// Its path.
    pub(super) fn name(&self) -> String {
        match self {
            Self::InstanceType => "cloud.instance_type".to_owned(),
            Self::Nodes => "nodes".to_owned(),
            Self::Arm => "arm".to_owned(),
            Self::Environment(field) => field.clone(),
            Self::Parameter(name) => format!("params.{name}"),
        }
    }

    /// The same as a field under study, whose difference confounds nothing.
    pub(super) fn axes(&self) -> Vec<Axis> {
        self.name().parse().into_iter().collect()
    }

    /// The group of a case of a run, or why it has none.
    fn group(
        &self,
        report: &Report,
        case: &Case,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        match self {
            Self::InstanceType => Ok(types_of(report)),
            Self::Nodes => Ok(report.hosts.len().to_string()),
            Self::Arm => report
                .run
                .session
                .as_ref()
                .and_then(|session| session.arm.clone())
                .ok_or_else(|| "it belongs to no arm of a suite".to_owned()),
            Self::Environment(field) => match environment(field) {
                None => Err(format!("it has no {field}")),
                Some(value) if value.contains("unavailable: ") => {
                    Err(format!("its {field} is unknown ({value})"))
                }
                Some(value) => Ok(value),
            },
            Self::Parameter(name) => match case.benchmark.params.get(name) {
                None => Err(format!("its case has no parameter {name}")),
                Some(Value::String(text)) => Ok(text.clone()),
                Some(value) => Ok(value.to_string()),
            },
        }
    }
}

/// Whether `by` is the field or its last segments.
fn ends_with(field: &str, by: &str) -> bool {
    field
        .strip_suffix(by)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// A case of a run in its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    /// The index of the group.
    pub group: usize,
    /// The index of the run among all reports.
    pub run: usize,
    pub report: &'a Report,
    pub case: &'a Case,
}

/// All cases in their groups.
pub(super) struct Grouped<'a> {
    /// The groups' names, in the order in which the reports first name them.
    pub names: Vec<String>,
    pub found: Vec<Found<'a>>,
    /// Why cases belong to no group, each with the runs that it concerns.
    pub without: BTreeMap<String, BTreeSet<usize>>,
    /// Reports whose run another report already has.
    pub twice: usize,
}

pub(super) fn group<'a>(
    field: &Field,
    reports: &'a [Report],
    surroundings: &Surroundings,
) -> Result<Grouped<'a>, RankError> {
    let mut grouped = Grouped {
        names: Vec::new(),
        found: Vec::new(),
        without: BTreeMap::new(),
        twice: 0,
    };
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (run, report) in reports.iter().enumerate() {
        if !seen.insert(report.run.id.as_str()) {
            grouped.twice += 1;
            continue;
        }
        for case in &report.cases {
            let value = |field: &str| surroundings.value(run, field).cloned();
            match field.group(report, case, value) {
                Ok(name) => {
                    let names = &mut grouped.names;
                    let group = *index.entry(name).or_insert_with_key(|name| {
                        names.push(name.clone());
                        names.len() - 1
                    });
                    grouped.found.push(Found {
                        group,
                        run,
                        report,
                        case,
                    });
                }
                Err(why) => drop(grouped.without.entry(why).or_default().insert(run)),
            }
        }
    }
    if grouped.names.len() > MAX_GROUPS {
        return Err(RankError::TooManyGroups {
            by: field.name(),
            groups: grouped.names.len(),
        });
    }
    Ok(grouped)
}

/// The machines that took part, each once: a server on the client's own machine is listed as a
/// second host and is none.
pub(super) fn machines(report: &Report) -> Vec<&Host> {
    let mut seen = BTreeSet::new();
    let hosts = report.hosts.iter();
    hosts.filter(|host| seen.insert(identity(host))).collect()
}

/// What tells a machine from others.
pub(super) fn identity(host: &Host) -> &str {
    let cloud = host.cloud.known();
    let id = cloud.and_then(|cloud| cloud.instance_id.known());
    id.unwrap_or(&host.name)
}

pub(super) fn instance_type(host: &Host) -> Option<&str> {
    let cloud = host.cloud.known()?;
    cloud.instance_type.known().map(String::as_str)
}

/// Why a host's instance type is unknown.
pub(super) fn why_unknown(host: &Host) -> Option<&str> {
    match host.cloud.known() {
        None => host.cloud.reason(),
        Some(cloud) => cloud.instance_type.reason(),
    }
}

/// The types of a run's machines. Of two, the first is that of the machine that wrote the report,
/// the client; of more, what counts is how many there are of each.
fn types_of(report: &Report) -> String {
    let names: Vec<String> = machines(report)
        .into_iter()
        .map(|host| match instance_type(host) {
            Some(name) => name.to_owned(),
            None => format!("host {}", host.name),
        })
        .collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in &names {
        *counts.entry(name).or_default() += 1;
    }
    match names.as_slice() {
        [first, ..] if counts.len() == 1 => first.clone(),
        [_, _] => names.join(" + "),
        _ => {
            let counted = counts.iter().map(|(name, count)| match count {
                1 => (*name).to_owned(),
                count => format!("{count} × {name}"),
            });
            counted.collect::<Vec<_>>().join(" + ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::rank::fixtures::host_of;

    #[test]
    fn hosts_of_several_types_have_a_joint_name() {
        let mut report = fixtures::report(&[("x", 1.0)]);
        let mut named = |types: &[&str]| {
            let hosts = types.iter().enumerate();
            let host = |(index, name): (usize, &&str)| {
                let machine = format!("n{index}");
                match *name {
                    "" => Host::unknown(&machine, "imported"),
                    name => host_of(&machine, name, "r", "spot"),
                }
            };
            report.hosts = hosts.map(host).collect();
            types_of(&report)
        };
        assert_eq!(named(&["a"]), "a");
        assert_eq!(named(&["a", "a", "a"]), "a");
        assert_eq!(named(&["b", "a"]), "b + a", "the client comes first");
        assert_eq!(named(&["b", "a", "b"]), "a + 2 × b");
        assert_eq!(named(&["", "a"]), "host n0 + a");
        let twice = host_of("n", "a", "r", "spot");
        report.hosts = vec![twice.clone(), twice];
        assert_eq!(
            machines(&report).len(),
            1,
            "a server on the client's own machine"
        );
    }

    #[test]
    fn a_field_is_a_path_or_its_end_and_only_one() {
        let report = {
            let mut report = fixtures::report(&[("x", 1.0)]);
            let params = &mut report.cases[0].benchmark.params;
            params.insert("release".to_owned(), 7.into());
            params.insert("flows".to_owned(), 8.into());
            vec![report]
        };
        let surroundings = Surroundings::of(&report);
        let find = |by: &str| Field::find(&by.parse().expect("a field"), &report, &surroundings);
        assert_eq!(find("instance_type"), Ok(Field::InstanceType));
        assert_eq!(find("flows"), Ok(Field::Parameter("flows".to_owned())));
        assert_eq!(
            find("params.release"),
            Ok(Field::Parameter("release".to_owned()))
        );
        let kernel = Field::Environment("kernel.release".to_owned());
        assert_eq!(find("kernel.release"), Ok(kernel));
        let fault = find("release").expect_err("the kernel's and the parameter");
        assert!(
            fault.to_string().contains("kernel.release, params.release"),
            "{fault}"
        );
        let fault = find("warp").expect_err("nothing has it");
        assert!(
            fault.to_string().contains("no report has such a field"),
            "{fault}"
        );
    }
}
