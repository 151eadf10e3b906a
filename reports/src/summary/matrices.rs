//! Numbers between pairs of nodes over the runs of a case: the median of the runs, pair by pair.
//!
//! A matrix of 512 nodes has a quarter of a million pairs, so the runs' matrices are read in place
//! and never copied side by side.

use crate::host::Host;
use crate::model::{Aggregation, Direction, Fact, Matrix, MatrixNode, Measurement, Report, Unit};
use crate::stats;

/// One metric between every pair of nodes, over runs.
#[derive(Debug, Clone)]
pub struct MatrixSummary {
    /// The metric's name.
    pub name: String,
    /// How the samples of a pair became one number in each run.
    pub aggregation: Aggregation,
    /// The unit.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// The nodes, in the order of rows and columns.
    pub nodes: Vec<NodeSummary>,
    /// `medians[from][to]` over the runs that measured the pair; `None` if none did.
    pub medians: Vec<Vec<Option<f64>>>,
    /// How many runs have this matrix.
    pub runs: usize,
    /// Whether some node was placed elsewhere in another run; the first run's place is kept.
    pub moved: bool,
}

impl MatrixSummary {
    /// Whether it holds a bound of what another matrix holds: `bandwidth_ci_low_bytes_per_s`.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.name.contains("_ci_low") || self.name.contains("_ci_high")
    }

    /// The matrix among these with one of its bounds, of the same nodes.
    #[must_use]
    pub fn bound<'a>(&self, mark: &str, among: &'a [Self]) -> Option<&'a Self> {
        let is = |other: &&Self| {
            other.name.contains(mark)
                && other.name.replacen(mark, "", 1) == self.name
                && other.nodes == self.nodes
        };
        among.iter().find(is)
    }
}

/// A row and column of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its name.
    pub name: String,
    /// Its host's name.
    pub host: String,
    /// Where its host stands.
    pub placement: Placement,
}

/// Where a host stands in its cloud, as far as that tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The zone, by the name that is the same for all accounts.
    pub az_id: Fact<String>,
    /// The placement group.
    pub placement_group: Fact<String>,
    /// The partition of a partition placement group.
    pub partition: Fact<u32>,
}

impl Placement {
    fn of(host: &Host) -> Self {
        match &host.cloud {
            Fact::Known(cloud) => Self {
                az_id: cloud.az_id.clone(),
                placement_group: cloud.placement_group.clone(),
                partition: cloud.partition.clone(),
            },
            Fact::Unavailable { unavailable } => Self {
                az_id: Fact::unavailable(unavailable),
                placement_group: Fact::unavailable(unavailable),
                partition: Fact::unavailable(unavailable),
            },
        }
    }
}

/// Matrices of the same metric between the same nodes belong together.
type Group<'a> = Vec<(&'a Report, &'a Matrix)>;

pub(super) fn over_runs(measured: &[(&Report, &Measurement)]) -> Vec<MatrixSummary> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (report, measurement) in measured {
        for matrix in &measurement.matrices {
            match groups.iter_mut().find(|group| same(group[0].1, matrix)) {
                Some(group) => group.push((report, matrix)),
                None => groups.push(vec![(report, matrix)]),
            }
        }
    }
    groups.iter().map(|group| summarise(group)).collect()
}

fn same(a: &Matrix, b: &Matrix) -> bool {
    let names = |matrix: &Matrix| matrix.nodes.len();
    (&a.name, a.aggregation, a.unit, a.direction) == (&b.name, b.aggregation, b.unit, b.direction)
        && names(a) == names(b)
        && a.nodes.iter().zip(&b.nodes).all(|(a, b)| a.name == b.name)
}

fn summarise(group: &[(&Report, &Matrix)]) -> MatrixSummary {
    let (_, first) = group[0];
    let places = |report: &Report, matrix: &Matrix| -> Vec<NodeSummary> {
        matrix
            .nodes
            .iter()
            .map(|node| place(report, node))
            .collect()
    };
    let nodes = places(group[0].0, first);
    let moved = group.iter().any(|(report, matrix)| {
        let now = matrix.nodes.iter().map(|node| place(report, node));
        now.zip(&nodes)
            .any(|(now, then)| now.placement != then.placement)
    });
    let mut values = Vec::with_capacity(group.len());
    let medians = (0..nodes.len())
        .map(|from| {
            let of_pair = |to: usize| {
                values.clear();
                // A loaded matrix is square; one made by hand need not be.
                let found = group
                    .iter()
                    .filter_map(|(_, m)| *m.values.get(from)?.get(to)?);
                values.extend(found.filter(|value| value.is_finite()));
                stats::median(&values)
            };
            (0..nodes.len()).map(of_pair).collect()
        })
        .collect();
    MatrixSummary {
        name: first.name.clone(),
        aggregation: first.aggregation,
        unit: first.unit,
        direction: first.direction,
        nodes,
        medians,
        runs: group.len(),
        moved,
    }
}

fn place(report: &Report, node: &MatrixNode) -> NodeSummary {
    let unknown = || Fact::unavailable("the report has no such host");
    match report.hosts.get(node.host as usize) {
        Some(host) => NodeSummary {
            name: node.name.clone(),
            host: host.name.clone(),
            placement: Placement::of(host),
        },
        None => NodeSummary {
            name: node.name.clone(),
            host: "unknown".to_owned(),
            placement: Placement {
                az_id: unknown(),
                placement_group: unknown(),
                partition: Fact::unavailable("the report has no such host"),
            },
        },
    }
}
