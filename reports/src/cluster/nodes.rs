//! Which nodes some reports are of. A host has a name, which may be given twice, and on EC2 an
//! instance id, which is never; so the id tells who it is, and the name where there is no id.

use super::{Fault, Kind};
use crate::host::{Cloud, Host};
use crate::model::{Fact, Report, Severity};
use crate::program;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name; with its instance id if another has the same.
    pub name: String,
    /// Its host's own name for itself.
    pub host: String,
    /// Its id in the cloud.
    pub instance_id: Fact<String>,
    /// For example `hpc7g.16xlarge`.
    pub instance_type: Fact<String>,
    /// The zone, by the name that is the same for all accounts.
    pub az_id: Fact<String>,
    /// The placement group.
    pub placement_group: Fact<String>,
    /// The partition of a partition placement group.
    pub partition: Fact<u32>,
    /// Whether it has an Elastic Fabric Adapter.
    pub efa: Fact<bool>,
    /// The kernel's release.
    pub kernel: Fact<String>,
    /// In how many reports it is.
    pub reports: usize,
    /// By which programs it was measured.
    pub programs: BTreeSet<String>,
}

/// The nodes of some reports.
#[derive(Debug, Clone)]
pub struct Nodes {
    list: Vec<Node>,
    /// By host name and instance id.
    places: HashMap<(String, Option<String>), usize>,
    /// Names that several instances have, of hosts that did not tell their id.
    ambiguous: BTreeSet<String>,
}

/// Who a host is.
type Who<'a> = (&'a str, Option<&'a str>);

fn who(host: &Host) -> Who<'_> {
    let cloud = host.cloud.known();
    let id = cloud.and_then(|cloud| cloud.instance_id.known());
    (&host.name, id.map(String::as_str))
}

impl Nodes {
    /// Finds them, in the order of their names. A report on behalf of a program that wrote none is of
    /// no node: it was written where the launcher is.
    #[must_use]
    pub fn of(reports: &[&Report]) -> Self {
        let reports = reports.iter().copied();
        let reports: Vec<&Report> = reports.filter(|one| !program::is_stand_in(one)).collect();
        let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for host in reports.iter().flat_map(|report| &report.hosts) {
            let (name, id) = who(host);
            ids.entry(name).or_default().extend(id);
        }
        // A host that could not ask for its id once is the one that told it at another time.
        let known = |(name, id): Who<'_>| -> Option<String> {
            let ids = &ids[name];
            let only = ids.first().filter(|_| ids.len() == 1);
            id.or(only.copied()).map(str::to_owned)
        };
        let mut found: BTreeMap<(Vec<Part>, Option<String>), Node> = BTreeMap::new();
        for report in &reports {
            let mut counted = BTreeSet::new();
            for host in &report.hosts {
                let (name, id) = who(host);
                let key = (natural(name), known((name, id)));
                let node = found.entry(key.clone()).or_insert_with(|| Node::of(host));
                if node.instance_id.known().is_none() && id.is_some() {
                    let (reports, programs) = (node.reports, std::mem::take(&mut node.programs));
                    *node = Node::of(host);
                    (node.reports, node.programs) = (reports, programs);
                }
                node.reports += usize::from(counted.insert(key));
                node.programs.insert(report.program.name.clone());
            }
        }
        let mut nodes = Self {
            list: Vec::with_capacity(found.len()),
            places: HashMap::new(),
            ambiguous: BTreeSet::new(),
        };
        for ((_, id), mut node) in found {
            let of_name = &ids[node.host.as_str()];
            if of_name.len() > 1 {
                match &id {
                    Some(id) => node.name = format!("{} ({id})", node.host),
                    None => drop(nodes.ambiguous.insert(node.host.clone())),
                }
            }
            let place = nodes.list.len();
            nodes.places.insert((node.host.clone(), id.clone()), place);
            if of_name.len() == 1 {
                nodes.places.insert((node.host.clone(), None), place);
            }
            nodes.list.push(node);
        }
        nodes
    }

    /// The node that a host is, if it is in these reports.
    #[must_use]
    pub fn find(&self, host: &Host) -> Option<usize> {
        let (name, id) = who(host);
        let place = (name.to_owned(), id.map(str::to_owned));
        self.places.get(&place).copied()
    }

    /// The nodes of a report.
    #[must_use]
    pub fn of_report(&self, report: &Report) -> BTreeSet<usize> {
        match program::is_stand_in(report) {
            true => BTreeSet::new(),
            false => report
                .hosts
                .iter()
                .filter_map(|host| self.find(host))
                .collect(),
        }
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Node] {
        &self.list
    }

    pub(super) fn into_list(self) -> Vec<Node> {
        self.list
    }

    pub(super) fn names(&self, nodes: impl IntoIterator<Item = usize>) -> Vec<String> {
        let names = nodes.into_iter().map(|at| self.list[at].name.clone());
        names.collect()
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let fault = |name: &String| {
            let evidence = format!(
                "several instances call themselves {name}, and a report of one of them has no \
                 instance id: give every host a name of its own"
            );
            let mut fault = Fault::new(Kind::AmbiguousName, Severity::Degraded, evidence);
            fault.nodes = vec![name.clone()];
            fault
        };
        self.ambiguous.iter().map(fault).collect()
    }
}

impl Node {
    fn of(host: &Host) -> Self {
        let reason = host.cloud.reason().unwrap_or_default();
        let told = |of: fn(&Cloud) -> &Fact<String>| match host.cloud.known() {
            Some(cloud) => of(cloud).clone(),
            None => Fact::unavailable(reason),
        };
        let efa = host.rdma.clone().map(|devices| {
            let mut devices = devices.iter();
            devices.any(|device| device.efa == Fact::Known(true))
        });
        Self {
            name: host.name.clone(),
            host: host.name.clone(),
            instance_id: told(|cloud| &cloud.instance_id),
            instance_type: told(|cloud| &cloud.instance_type),
            az_id: told(|cloud| &cloud.az_id),
            placement_group: told(|cloud| &cloud.placement_group),
            partition: match host.cloud.known() {
                Some(cloud) => cloud.partition.clone(),
                None => Fact::unavailable(reason),
            },
            efa,
            kernel: host.kernel.release.clone(),
            reports: 0,
            programs: BTreeSet::new(),
        }
    }
}

/// A piece of a name: digits count as a number, so that n10 comes after n9.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Digits, with how many there are: 07 is not 7.
    Number(u128, usize),
    /// Anything else.
    Text(String),
}

/// A name in pieces that sort as people count.
pub(crate) fn natural(name: &str) -> Vec<Part> {
    let characters: Vec<char> = name.chars().collect();
    let runs = characters.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let part = |run: &[char]| {
        let text: String = run.iter().collect();
        match text.parse() {
            Ok(number) => Part::Number(number, run.len()),
            // Also of more digits than a number holds.
            Err(_) => Part::Text(text),
        }
    };
    runs.map(part).collect()
}
