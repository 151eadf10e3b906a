//! How near a group comes to what is documented of its instance types.
//!
//! A limit is set against a metric only where it can bind: the network's where the traffic left
//! the machine, that of EBS where the device was an EBS volume and the page cache stood aside.
//! Everywhere else there is no share, and the reason says why. Goodput stays below 100 % of a
//! network's limit, which counts headers too.

use super::groups::{instance_type, machines, why_unknown};
use super::instance_types::{InstanceTypes, Limit, TypeLimits};
use super::judge::Valid;
use crate::host::{BlockKind, Host};
use crate::model::{Fact, Unit};
use serde::Serialize;
use serde_json::Value;

/// A metric's share of the documented limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// What is limited: `network bandwidth`, `EBS bandwidth`, `EBS IOPS`.
    pub limit: String,
    /// The unit of both limits.
    pub unit: Unit,
    /// The sustained limit.
    pub baseline: Fact<f64>,
    /// The limit of bursts.
    pub peak: Fact<f64>,
    /// The median's share of the sustained limit; 1 is all of it.
    pub of_baseline: Fact<f64>,
    /// The median's share of the limit of bursts.
    pub of_peak: Fact<f64>,
    /// What else may bind, and is not in the file.
    pub notes: Vec<String>,
}

/// What is asked for.
pub(super) struct Asked<'a> {
    /// The metric's name, with its aggregation.
    pub metric: &'a str,
    pub unit: Unit,
    pub median: Option<f64>,
}

/// A limit that binds.
struct Binding {
    name: &'static str,
    limit: Limit,
    notes: Vec<String>,
}

/// The share of the limit that binds the metric in these runs, or why there is none.
pub(super) fn share(types: &InstanceTypes, runs: &[Valid<'_>], asked: &Asked<'_>) -> Fact<Share> {
    // Whether a limit binds is a question of the case, its hosts and what they used, so a group has
    // an answer only if all its runs agree.
    let mut agreed: Option<Share> = None;
    for run in runs {
        let found = match binding(types, run, asked) {
            Ok(binding) => of_limit(binding, asked),
            Err(reason) => {
                return Fact::Unavailable {
                    unavailable: reason,
                };
            }
        };
        match &agreed {
            None => agreed = Some(found),
            Some(first) if *first == found => {}
            Some(_) => return Fact::unavailable("its runs have different limits"),
        }
    }
    agreed.map_or_else(|| Fact::unavailable("it has no valid run"), Fact::Known)
}

fn of_limit(binding: Binding, asked: &Asked<'_>) -> Share {
    let part = |limit: &Fact<f64>| match (limit, asked.median) {
        (Fact::Known(limit), Some(median)) => Fact::Known(median / limit),
        (Fact::Unavailable { unavailable }, _) => Fact::unavailable(unavailable),
        (_, None) => Fact::unavailable("no run has a number"),
    };
    Share {
        limit: binding.name.to_owned(),
        unit: asked.unit,
        of_baseline: part(&binding.limit.baseline),
        of_peak: part(&binding.limit.peak),
        baseline: binding.limit.baseline,
        peak: binding.limit.peak,
        notes: binding.notes,
    }
}

/// Programs whose bandwidth goes over a network; the first part of a benchmark's id.
const NETWORK: [&str; 11] = [
    "net-bench",
    "mpi-kernels",
    "iperf3",
    "sockperf",
    "netperf",
    "neper",
    "perftest",
    "fi_pingpong",
    "fabtests",
    "osu",
    "imb",
];
/// Those whose ranks may share a machine.
const MPI: [&str; 3] = ["mpi-kernels", "osu", "imb"];
/// Programs whose rates are those of a disk.
const STORAGE: [&str; 2] = ["storage-bench", "fio"];

fn binding(types: &InstanceTypes, run: &Valid<'_>, asked: &Asked<'_>) -> Result<Binding, String> {
    let id = &run.found.case.benchmark.id;
    let program = id.split('/').next().unwrap_or_default();
    match asked.unit {
        Unit::BytesPerSecond if NETWORK.contains(&program) => network(types, run, program, asked),
        Unit::BytesPerSecond | Unit::PerSecond if STORAGE.contains(&program) => {
            ebs(types, run, asked)
        }
        Unit::BytesPerSecond => Err(format!("it is not known what limits {id}")),
        _ => Err("EC2 documents no limit of it".to_owned()),
    }
}

fn limits_of<'t>(types: &'t InstanceTypes, host: &Host) -> Result<&'t TypeLimits, String> {
    let Some(name) = instance_type(host) else {
        let why = why_unknown(host).unwrap_or_default();
        return Err(format!("its instance type is unknown ({why})"));
    };
    let found = types.get(name);
    found.ok_or_else(|| format!("{} has no {name}", types.file))
}

/// The bandwidth between the machines of a run.
fn network(
    types: &InstanceTypes,
    run: &Valid<'_>,
    program: &str,
    asked: &Asked<'_>,
) -> Result<Binding, String> {
    let machines = machines(run.found.report);
    let params = &run.found.case.benchmark.params;
    if machines.len() < 2 {
        return Err(
            "only one machine is in the report, so no network is known to have been \
                    between the ends"
                .to_owned(),
        );
    }
    let is_mpi = MPI.contains(&program);
    if is_mpi {
        let number = |name: &str| params.get(name).and_then(Value::as_u64);
        if number("ranks").is_none_or(|ranks| ranks != machines.len() as u64) {
            return Err(
                "the report does not say which ranks share a machine; run one rank per \
                        node to see the network's share"
                    .to_owned(),
            );
        }
    } else if machines.len() > 2 {
        return Err("it sums up over more than two machines".to_owned());
    }
    let mut limit: Option<Limit> = None;
    let mut notes = Vec::new();
    for host in machines {
        let of_type = limits_of(types, host)?;
        // An MPI library may use every card; a socket's address belongs to one.
        let own = if is_mpi {
            &of_type.network
        } else {
            &of_type.network_card
        };
        if of_type.network_cards > 1 && notes.is_empty() {
            let cards = of_type.network_cards;
            notes.push(match is_mpi {
                true => format!("the limit is that of all {cards} network cards together"),
                false => format!("the limit is that of one of {cards} network cards"),
            });
        }
        limit = Some(match limit {
            None => own.clone(),
            Some(other) => tighter(&other, own),
        });
    }
    let mut limit = limit.ok_or("no host is in the report")?;
    let flows = params.get("flows").and_then(Value::as_u64);
    if flows == Some(1) {
        notes.push(
            "one flow: EC2 limits it to 5 Gbit/s, to 10 Gbit/s inside a cluster placement group, \
             to 25 Gbit/s with ENA Express, whatever the type"
                .to_owned(),
        );
    }
    // The limit holds for each direction, and this metric adds both up.
    let both = params.get("direction").and_then(Value::as_str) == Some("bidirectional");
    if both && asked.metric == "bandwidth_bytes_per_s" {
        let twice = |fact: Fact<f64>| fact.map(|limit| 2.0 * limit);
        limit = Limit {
            baseline: twice(limit.baseline),
            peak: twice(limit.peak),
        };
        notes.push("both directions together, each with the documented limit".to_owned());
    }
    Ok(Binding {
        name: "network bandwidth",
        limit,
        notes,
    })
}

fn tighter(a: &Limit, b: &Limit) -> Limit {
    let least = |a: &Fact<f64>, b: &Fact<f64>| match (a, b) {
        (Fact::Known(a), Fact::Known(b)) => Fact::Known(a.min(*b)),
        (unknown @ Fact::Unavailable { .. }, _) | (_, unknown) => unknown.clone(),
    };
    Limit {
        baseline: least(&a.baseline, &b.baseline),
        peak: least(&a.peak, &b.peak),
    }
}

/// The limits of the instance towards EBS, if that is where the I/O went.
fn ebs(types: &InstanceTypes, run: &Valid<'_>, asked: &Asked<'_>) -> Result<Binding, String> {
    let [host] = machines(run.found.report)[..] else {
        return Err("it sums up over several machines".to_owned());
    };
    let target = run.measurement.facts.get("target");
    let target = target.ok_or("the report does not say on which device it ran")?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let device = &target["device"];
    if word(&target["kind"]) == "none" {
        return Err("it used no device".to_owned());
    }
    if word(&target["access"]) != "direct" {
        return Err("the I/O was buffered, so the page cache may have answered".to_owned());
    }
    match kind(host, device) {
        Some(BlockKind::AwsEbs) => {}
        Some(BlockKind::AwsInstanceStore) => {
            let of_type = limits_of(types, host)?;
            let disks = of_type.instance_store.known();
            let disks = disks.map(|disks| format!(" ({disks})")).unwrap_or_default();
            return Err(format!(
                "its device is an instance store{disks}, of which EC2 documents no limit there"
            ));
        }
        _ => {
            let name = device["name"].as_str();
            let name = name.map(|name| format!(" {name}")).unwrap_or_default();
            return Err(format!("its device{name} is not known to be an EBS volume"));
        }
    }
    let of_type = limits_of(types, host)?;
    let (name, limit) = match asked.unit {
        Unit::PerSecond => ("EBS IOPS", &of_type.ebs_iops),
        _ => ("EBS bandwidth", &of_type.ebs_bandwidth),
    };
    let mut notes = vec![
        "the volume's own limits may bind before the instance's and are not in the file".to_owned(),
    ];
    if asked.unit == Unit::PerSecond {
        notes.push("EC2 states its limit of IOPS for I/O of 16 KiB".to_owned());
    }
    Ok(Binding {
        name,
        limit: limit.clone(),
        notes,
    })
}

/// What the device is: by its model, or by what the host says of the disk of that name.
fn kind(host: &Host, device: &Value) -> Option<BlockKind> {
    match device["model"].as_str() {
        Some("Amazon Elastic Block Store") => return Some(BlockKind::AwsEbs),
        Some("Amazon EC2 NVMe Instance Storage") => return Some(BlockKind::AwsInstanceStore),
        _ => {}
    }
    let name = device["name"].as_str()?;
    let disks = host.block.known()?;
    let holds = |disk: &str| {
        let partition = name
            .strip_prefix(disk)
            .and_then(|rest| rest.strip_prefix('p'));
        let is_partition = partition.is_some_and(|number| number.parse::<u32>().is_ok());
        name == disk || is_partition
    };
    disks
        .iter()
        .find(|disk| holds(&disk.name))
        .map(|disk| disk.kind)
}
