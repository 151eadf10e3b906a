//! Where a job runs and where its memory lies: on CPUs of the user's choice, and on the NUMA node
//! of the device, so that no byte crosses between the sockets.

use crate::spec::{EngineOptions, NodeChoice, usage};
use crate::sys::{Buffers, Granted, Pages, Wish};
use crate::target::Machine;
use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use reports::model::{Flag, Severity};
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// What came of the wishes of one job.
#[derive(Debug, Default)]
pub struct Placed {
    /// For the report, beside what the engine says of itself.
    pub facts: Map<String, Value>,
    /// Which wishes were not granted.
    pub flags: Vec<Flag>,
}

/// Checks what can be checked before anything is opened.
///
/// # Errors
/// [`reports::program::Usage`]: a CPU that this process may not use, a node that does not exist.
pub fn check(options: &EngineOptions) -> anyhow::Result<()> {
    if let Some(cpus) = &options.cpus_allowed {
        let allowed = allowed_cpus()?;
        if let Some(cpu) = cpus.all().iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(usage(format!(
                "--cpus-allowed: CPU {cpu} is not among those that this process may use, which \
                 are {allowed:?}; choose others, or widen its cpuset or taskset"
            )));
        }
    }
    if let Some(NodeChoice::Node(node)) = options.numa_node {
        let nodes = Machine::default().numa_nodes();
        if !nodes.contains(&node) {
            return Err(usage(format!(
                "--numa-node {node}: this machine has the nodes {nodes:?}"
            )));
        }
    }
    Ok(())
}

/// Puts the calling thread where the job is to run, and makes the memory of its I/O.
///
/// # Errors
/// What the kernel says of a CPU, or a size that cannot be had. What else is not granted is told.
pub fn settle(
    options: &EngineOptions,
    job: usize,
    file: &File,
    (count, bytes): (usize, usize),
) -> anyhow::Result<(Buffers, Placed)> {
    let machine = Machine::default();
    let mut placed = Placed::default();
    let node = options
        .numa_node
        .map(|choice| node_of(choice, &machine, file));
    let node = match node {
        Some(Err(reason)) => {
            placed.refuse("numa_node", "--numa-node", reason);
            None
        }
        Some(Ok(node)) => Some(node),
        None => None,
    };
    placed.pin(options, job, node, &machine)?;
    let wish = Wish {
        huge: options.hugepages,
        node,
    };
    let (buffers, granted) = Buffers::placed(count, bytes, wish)?;
    placed.tell(wish, granted, &machine);
    Ok((buffers, placed))
}

impl Placed {
    fn refuse(&mut self, what: &str, option: &str, reason: String) {
        self.flags.push(Flag {
            code: format!("{what}_not_granted"),
            severity: Severity::Info,
            evidence: format!("{option}: {reason}"),
        });
        self.facts
            .insert(what.to_owned(), json!({"unavailable": reason}));
    }

    fn pin(
        &mut self,
        options: &EngineOptions,
        job: usize,
        node: Option<u32>,
        machine: &Machine,
    ) -> anyhow::Result<()> {
        let cpus = match (&options.cpus_allowed, node) {
            (Some(list), _) => vec![list.of_job(job)],
            (None, Some(node)) => {
                // Those of the node that this process may use: there may be none.
                let allowed = allowed_cpus()?;
                let cpus = machine.cpus_of_node(node).unwrap_or_default();
                cpus.into_iter()
                    .filter(|cpu| allowed.contains(cpu))
                    .collect()
            }
            (None, None) => return Ok(()),
        };
        if cpus.is_empty() {
            let reason = "this process may use no CPU of the node".to_owned();
            self.refuse("cpus", "--numa-node", reason);
            return Ok(());
        }
        let mut set = CpuSet::new();
        for &cpu in &cpus {
            set.set(cpu as usize)
                .with_context(|| format!("CPU {cpu} cannot be named"))?;
        }
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("cannot run job {job} on the CPUs {cpus:?}"))?;
        self.facts.insert("cpus".to_owned(), json!(allowed_cpus()?));
        Ok(())
    }

    fn tell(&mut self, wish: Wish, granted: Granted, machine: &Machine) {
        if let Some(node) = wish.node {
            match granted.node_refused {
                Some(reason) => self.refuse("numa_node", "--numa-node", reason),
                None => drop(self.facts.insert("numa_node".to_owned(), json!(node))),
            }
        }
        if !wish.huge {
            return;
        }
        if let Some(reason) = granted.pages_refused {
            self.refuse("hugepages", "--hugepages", reason);
        }
        let pages = match granted.pages {
            Pages::Hugetlb => json!("2 MiB, from the pool"),
            Pages::Transparent(bytes) => json!({"transparent_bytes": bytes}),
            Pages::Default => json!({
                "default": machine.transparent_hugepages().map_or_else(
                    |why| json!({"unavailable": why}),
                    |mode| json!(format!("transparent_hugepage/enabled is {mode}")),
                )
            }),
        };
        self.facts.insert("pages".to_owned(), pages);
    }
}

/// The node that is meant, or why it is not known.
fn node_of(choice: NodeChoice, machine: &Machine, file: &File) -> Result<u32, String> {
    if let NodeChoice::Node(node) = choice {
        return Ok(node);
    }
    let found = file.metadata().map_err(|error| error.to_string())?;
    let number = if found.file_type().is_block_device() {
        found.rdev()
    } else {
        found.dev()
    };
    machine.node_of_device(number)
}

fn allowed_cpus() -> anyhow::Result<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("cannot ask which CPUs may be used")?;
    let within = |cpu: &u32| set.is_set(*cpu as usize).unwrap_or(false);
    Ok((0..CpuSet::count() as u32).filter(within).collect())
}

impl Machine {
    /// The numbers of the NUMA nodes.
    #[must_use]
    pub fn numa_nodes(&self) -> Vec<u32> {
        let folder = self.sys.join("devices/system/node");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let number = |name: &str| name.strip_prefix("node")?.parse().ok();
        let mut nodes: Vec<u32> = entries
            .filter_map(|entry| number(entry.file_name().to_str()?))
            .collect();
        nodes.sort_unstable();
        nodes
    }

    /// The CPUs of a node.
    fn cpus_of_node(&self, node: u32) -> Result<Vec<u32>, String> {
        let file = format!("devices/system/node/node{node}/cpulist");
        let text = self.sys_value(&file)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let list: crate::spec::CpuList = text.parse()?;
        Ok(list.all().to_vec())
    }

    /// The node that a block device hangs on: its own word, or that of what it is plugged into.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn node_of_device(&self, number: u64) -> Result<u32, String> {
        let device = self.block_device(number)?;
        let nodes = self.numa_nodes();
        let said = device
            .folder
            .ancestors()
            .find_map(|folder| fs::read_to_string(folder.join("numa_node")).ok());
        match said.map(|text| text.trim().parse::<i64>()) {
            Some(Ok(node)) if node >= 0 => u32::try_from(node).map_err(|error| error.to_string()),
            // Machines of one node often name none: it cannot be another.
            _ if nodes.len() == 1 => Ok(nodes[0]),
            _ => Err(format!("the kernel names no NUMA node of {}", device.name)),
        }
    }

    fn transparent_hugepages(&self) -> Result<String, String> {
        let text = self.sys_value("kernel/mm/transparent_hugepage/enabled")?;
        let chosen = text.split(['[', ']']).nth(1).map(str::to_owned);
        Ok(chosen.unwrap_or(text))
    }

    /// A file of sysfs, trimmed.
    pub(crate) fn sys_value(&self, file: &str) -> Result<String, String> {
        let path = self.sys.join(file);
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests;
