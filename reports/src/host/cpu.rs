//! The processor: what it is, how its threads are laid out, and what slows or speeds it.

use super::tree::{Lookup, Tree, Unreadable, parse_list, value_of};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The processors of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    /// The model's name; on ARM the core's name and revision.
    pub model: Fact<String>,
    /// Who made it.
    pub vendor: Fact<String>,
    /// The instruction set, as `uname -m` names it.
    pub architecture: Fact<String>,
    /// Logical CPUs that are online.
    pub logical_cpus: Fact<u32>,
    /// Physical cores with a CPU online.
    pub cores: Fact<u32>,
    /// Packages with a CPU online.
    pub sockets: Fact<u32>,
    /// The most online threads of one core.
    pub threads_per_core: Fact<u32>,
    /// Whether any core runs more than one thread.
    pub smt_active: Fact<bool>,
    /// The memory nodes and their CPUs.
    pub numa_nodes: Fact<Vec<NumaNode>>,
    /// The frequency governor of the first CPU.
    pub governor: Fact<String>,
    /// The frequency driver of the first CPU.
    pub frequency_driver: Fact<String>,
    /// Whether the processor may exceed its nominal frequency.
    pub boost: Fact<bool>,
    /// The frequency the governor may go up to, of the first CPU.
    pub max_frequency_mhz: Fact<u64>,
    /// What the kernel does about each known vulnerability.
    pub mitigations: Fact<BTreeMap<String, String>>,
    /// The microcode revision.
    pub microcode: Fact<String>,
    /// Whether the processor says that it runs under a hypervisor.
    pub hypervisor: Fact<bool>,
}

/// One memory node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// Its CPUs as a list like `0-23,48-71`; empty for a node of memory alone.
    pub cpus: Fact<String>,
}

/// Learns what the processors are.
pub(super) fn read(sys: &Tree, proc: &Tree) -> Cpu {
    let cpus = sys.sub("devices/system/cpu");
    let info = first_cpu(proc);
    let architecture = architecture(proc, &info);
    let topology = Topology::read(&cpus);
    let count = |set: fn(&Topology) -> u32| Fact::of(topology.as_ref().map(set));
    Cpu {
        model: Fact::of(info.model()),
        vendor: Fact::of(info.vendor()),
        logical_cpus: count(|topology| topology.online),
        cores: count(|topology| topology.cores),
        sockets: count(|topology| topology.sockets),
        threads_per_core: count(|topology| topology.threads_per_core),
        smt_active: Fact::of(cpus.flag("smt/active").or_else(|error| match &topology {
            Ok(topology) => Ok(topology.threads_per_core > 1),
            Err(_) => Err(error),
        })),
        numa_nodes: Fact::of(numa_nodes(&sys.sub("devices/system/node"))),
        governor: Fact::of(cpus.line("cpu0/cpufreq/scaling_governor")),
        frequency_driver: Fact::of(cpus.line("cpu0/cpufreq/scaling_driver")),
        boost: Fact::of(boost(&cpus)),
        max_frequency_mhz: Fact::of(
            cpus.number::<u64>("cpu0/cpufreq/scaling_max_freq")
                .map(|khz| khz / 1000),
        ),
        mitigations: Fact::of(mitigations(&cpus.sub("vulnerabilities"))),
        microcode: Fact::of(info.x86_only("microcode", &architecture)),
        hypervisor: Fact::of(
            info.x86_only("flags", &architecture)
                .map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        ),
        architecture: Fact::of(architecture),
    }
}

/// The first processor's entry in /proc/cpuinfo; all are alike on the machines measured here.
struct CpuInfo {
    tree: Tree,
    entry: Lookup<String>,
}

fn first_cpu(proc: &Tree) -> CpuInfo {
    let entry = proc
        .text("cpuinfo")
        .map(|text| text.split("\n\n").next().unwrap_or_default().to_owned());
    CpuInfo {
        tree: proc.clone(),
        entry,
    }
}

impl CpuInfo {
    fn field(&self, key: &str) -> Lookup<&str> {
        let entry = self.entry.as_deref().map_err(Unreadable::clone)?;
        value_of(entry, key, ':')
            .filter(|value| !value.is_empty())
            .ok_or_else(|| self.tree.wrong("cpuinfo", format!("has no {key:?}")))
    }

    fn model(&self) -> Lookup<String> {
        self.field("model name")
            .map(str::to_owned)
            .or_else(|_| self.arm_model())
    }

    fn vendor(&self) -> Lookup<String> {
        if let Ok(vendor) = self.field("vendor_id") {
            return Ok(vendor.to_owned());
        }
        let implementer = self.field("CPU implementer")?;
        Ok(match implementer {
            "0x41" => "ARM".to_owned(),
            other => format!("implementer {other}"),
        })
    }

    /// ARM gives numbers, not names. The names are Arm's for the cores of the Graviton family;
    /// any other core keeps its numbers.
    fn arm_model(&self) -> Lookup<String> {
        let implementer = self.field("CPU implementer")?;
        let part = self.field("CPU part")?;
        let name = match (implementer, part) {
            ("0x41", "0xd08") => "Cortex-A72".to_owned(),
            ("0x41", "0xd0c") => "Neoverse-N1".to_owned(),
            ("0x41", "0xd40") => "Neoverse-V1".to_owned(),
            ("0x41", "0xd49") => "Neoverse-N2".to_owned(),
            ("0x41", "0xd4f") => "Neoverse-V2".to_owned(),
            ("0x41", "0xd84") => "Neoverse-V3".to_owned(),
            _ => format!("implementer {implementer} part {part}"),
        };
        let variant = self.field("CPU variant").unwrap_or_default();
        let revision = self.field("CPU revision").unwrap_or_default();
        match u32::from_str_radix(variant.trim_start_matches("0x"), 16) {
            Ok(variant) if !revision.is_empty() => Ok(format!("{name} r{variant}p{revision}")),
            _ => Ok(name),
        }
    }

    /// A field that only x86 processors have.
    fn x86_only(&self, key: &str, architecture: &Lookup<String>) -> Lookup<String> {
        self.field(key)
            .map(str::to_owned)
            .map_err(|error| match architecture {
                Ok(name) if name != "x86_64" => Unreadable(format!(
                    "an {name} processor does not tell: {key} in cpuinfo is an x86 field"
                )),
                _ => error,
            })
    }
}

/// The kernel names its architecture since Linux 6.1; before, /proc/cpuinfo betrays it.
fn architecture(proc: &Tree, info: &CpuInfo) -> Lookup<String> {
    proc.line("sys/kernel/arch").or_else(|error| {
        if info.field("CPU implementer").is_ok() {
            Ok("aarch64".to_owned())
        } else if info
            .field("flags")
            .is_ok_and(|flags| flags.split(' ').any(|flag| flag == "lm"))
        {
            Ok("x86_64".to_owned())
        } else {
            Err(error)
        }
    })
}

/// How the online CPUs are grouped.
struct Topology {
    online: u32,
    cores: u32,
    sockets: u32,
    threads_per_core: u32,
}

impl Topology {
    fn read(cpus: &Tree) -> Lookup<Self> {
        let online: BTreeSet<u32> = list(cpus, "online")?.into_iter().collect();
        // Older kernels know the same lists by other names.
        let cores = groups(cpus, &online, ["core_cpus_list", "thread_siblings_list"])?;
        let sockets = groups(cpus, &online, ["package_cpus_list", "core_siblings_list"])?;
        Ok(Self {
            online: count(online.len()),
            cores: count(cores.len()),
            sockets: count(sockets.len()),
            threads_per_core: count(cores.into_iter().max().unwrap_or(0)),
        })
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The sizes of the groups that the online CPUs fall into. One file per group is read, not one per
/// CPU: a group's first member names the others.
fn groups(cpus: &Tree, online: &BTreeSet<u32>, names: [&str; 2]) -> Lookup<Vec<usize>> {
    let mut left = online.clone();
    let mut sizes = Vec::new();
    while let Some(cpu) = left.pop_first() {
        let file = |name: &str| format!("cpu{cpu}/topology/{name}");
        let members = list(cpus, &file(names[0]))
            .or_else(|error| list(cpus, &file(names[1])).map_err(|_| error))?;
        let members: BTreeSet<u32> = members
            .into_iter()
            .chain([cpu])
            .filter(|member| online.contains(member))
            .collect();
        sizes.push(members.len());
        left.retain(|cpu| !members.contains(cpu));
    }
    Ok(sizes)
}

fn list(tree: &Tree, path: &str) -> Lookup<Vec<u32>> {
    let line = tree.line(path)?;
    parse_list(&line).ok_or_else(|| tree.wrong(path, "holds no list of CPUs"))
}

fn numa_nodes(nodes: &Tree) -> Lookup<Vec<NumaNode>> {
    let online = list(nodes, "online")?;
    Ok(online
        .into_iter()
        .map(|node| NumaNode {
            node,
            cpus: Fact::of(nodes.text(format!("node{node}/cpulist"))),
        })
        .collect())
}

/// Intel's driver says whether turbo is off, the others whether boost is on.
fn boost(cpus: &Tree) -> Lookup<bool> {
    cpus.flag("intel_pstate/no_turbo")
        .map(|off| !off)
        .or_else(|_| cpus.flag("cpufreq/boost"))
}

fn mitigations(folder: &Tree) -> Lookup<BTreeMap<String, String>> {
    let names = folder.names("")?;
    Ok(names
        .into_iter()
        .map(|name| {
            let text = folder.text(&name);
            let text = text.unwrap_or_else(|error| format!("unreadable: {error}"));
            (name, text)
        })
        .collect())
}
