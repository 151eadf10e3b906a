//! Numbers between pairs of nodes by where the nodes stand: within and across placement groups,
//! partitions and zones, and by how deep in the network two nodes part.

use crate::host::{Cloud, Host};
use crate::model::{Case, Fact, Matrix, Outcome};
use crate::stats;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Adds the fact `placement` to a case with numbers between pairs of nodes. `paths` are the
/// network nodes above each host, top down, if a topology was given.
pub fn describe(case: &mut Case, hosts: &[Host], paths: Option<&[Vec<String>]>) {
    let Outcome::Measured(measurement) = &mut case.outcome else {
        return;
    };
    if measurement.matrices.is_empty() {
        return;
    }
    // Hosts without numbers have no say: one that is missing hides nothing of the others.
    let used: BTreeSet<usize> = measurement
        .matrices
        .iter()
        .flat_map(|matrix| matrix.nodes.iter().map(|node| node.host as usize))
        .collect();
    let mut placement = Map::new();
    for (kind, of_host) in Groups::of(hosts, &used).0 {
        let described = match of_host {
            Fact::Known(of_host) => with_cost(by_matrix(&measurement.matrices, |a, b| {
                let same = of_host[a] == of_host[b];
                if same { "within" } else { "across" }.to_owned()
            })),
            Fact::Unavailable { unavailable } => json!({ "unavailable": unavailable }),
        };
        placement.insert(kind.to_owned(), described);
    }
    if let Some(paths) = paths {
        let described = by_matrix(&measurement.matrices, |a, b| {
            let shared = shared_levels(&paths[a], &paths[b]);
            format!("{shared}_of_{}_levels_shared", paths[a].len())
        });
        placement.insert("topology".to_owned(), described);
    }
    let placement = Value::Object(placement);
    measurement.facts.insert("placement".to_owned(), placement);
}

/// Adds, where there are pairs of both classes, what it costs to be in another group: the medians
/// across over those within, by metric, under `across_over_within`.
fn with_cost(mut described: Value) -> Value {
    let Some(metrics) = described.as_object_mut() else {
        return described;
    };
    let ratio = |classes: &Value| {
        let p50 = |class: &str| classes[class]["p50"].as_f64();
        Some(p50("across")? / p50("within")?).filter(|ratio| ratio.is_finite())
    };
    let known = metrics
        .iter()
        .filter_map(|(name, classes)| Some((name.clone(), json!(ratio(classes)?))));
    let costs: Map<String, Value> = known.collect();
    if !costs.is_empty() {
        metrics.insert("across_over_within".to_owned(), Value::Object(costs));
    }
    described
}

/// Reads a group off what the cloud says.
type GroupOf = fn(&Cloud) -> Fact<String>;

/// A kind of group, and the group of each host; unavailable if one host does not tell its own.
struct Groups(Vec<(&'static str, Fact<Vec<String>>)>);

impl Groups {
    fn of(hosts: &[Host], used: &BTreeSet<usize>) -> Self {
        let kinds: [(&'static str, GroupOf); 3] = [
            ("az_id", |cloud| cloud.az_id.clone()),
            ("placement_group", |cloud| cloud.placement_group.clone()),
            ("partition", |cloud| {
                cloud.partition.clone().map(|number| number.to_string())
            }),
        ];
        Self(
            kinds
                .map(|(kind, of)| (kind, every(hosts, used, of)))
                .into(),
        )
    }
}

fn every(hosts: &[Host], used: &BTreeSet<usize>, of: GroupOf) -> Fact<Vec<String>> {
    let mut groups = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        if !used.contains(&index) {
            groups.push(String::new());
            continue;
        }
        let group = match &host.cloud {
            Fact::Known(cloud) => of(cloud),
            Fact::Unavailable { unavailable } => Fact::unavailable(unavailable),
        };
        match group {
            Fact::Known(group) => groups.push(group),
            Fact::Unavailable { unavailable } => {
                return Fact::unavailable(format!("{}: {unavailable}", host.name));
            }
        }
    }
    Fact::Known(groups)
}

/// For each metric the median over the pairs of each class, and how many pairs that are. Ranks of
/// one host are a class of their own.
fn by_matrix(matrices: &[Matrix], class: impl Fn(usize, usize) -> String) -> Value {
    let described = matrices.iter().map(|matrix| {
        let mut classes: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (from, row) in matrix.nodes.iter().zip(&matrix.values) {
            for (to, value) in matrix.nodes.iter().zip(row) {
                let (a, b) = (from.host as usize, to.host as usize);
                let class = if a == b {
                    "same_host".to_owned()
                } else {
                    class(a, b)
                };
                if let Some(value) = value {
                    classes.entry(class).or_default().push(*value);
                }
            }
        }
        let medians = classes.into_iter().map(|(class, values)| {
            let p50 = stats::median(&values);
            (class, json!({ "p50": p50, "pairs": values.len() }))
        });
        (matrix.name.clone(), Value::Object(medians.collect()))
    });
    Value::Object(described.collect())
}

/// How many network nodes two paths share, from the top.
#[must_use]
pub fn shared_levels(a: &[String], b: &[String]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Aggregation, Direction, MatrixNode, Unit};

    #[test]
    fn pairs_are_grouped_by_the_class_of_their_hosts() {
        let node = |(host, name): (u32, &str)| MatrixNode {
            name: name.to_owned(),
            host,
        };
        let x = None;
        let matrix = Matrix {
            name: "bandwidth_bytes_per_s".to_owned(),
            aggregation: Aggregation::P50,
            unit: Unit::BytesPerSecond,
            direction: Direction::HigherIsBetter,
            nodes: [
                (0, "a rank 0"),
                (0, "a rank 1"),
                (1, "b rank 2"),
                (2, "c rank 3"),
            ]
            .map(node)
            .into(),
            values: vec![
                vec![x, Some(90.0), Some(10.0), Some(4.0)],
                vec![Some(80.0), x, Some(12.0), Some(6.0)],
                vec![Some(11.0), Some(11.0), x, Some(5.0)],
                vec![Some(5.0), Some(5.0), x, x],
            ],
        };
        let zones = ["east", "east", "west"];
        let class = |a: usize, b: usize| {
            if zones[a] == zones[b] {
                "within"
            } else {
                "across"
            }
        };
        let found = by_matrix(std::slice::from_ref(&matrix), |a, b| class(a, b).to_owned());
        assert_eq!(
            found,
            json!({"bandwidth_bytes_per_s": {
                "same_host": {"p50": 85.0, "pairs": 2},
                "within": {"p50": 11.0, "pairs": 4},
                "across": {"p50": 5.0, "pairs": 5},
            }})
        );
        let found = with_cost(found);
        let cost = found["across_over_within"]["bandwidth_bytes_per_s"].as_f64();
        assert!((cost.expect("there are both") - 5.0 / 11.0).abs() < 1e-9);
        let alike = with_cost(by_matrix(&[matrix], |_, _| "within".to_owned()));
        assert!(alike.get("across_over_within").is_none(), "{alike}");
    }
}
