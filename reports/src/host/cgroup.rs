//! The control group this process runs in: in a container or under a batch scheduler it, and not
//! the machine, says how much processor and memory there is.
//!
//! A limit anywhere on the way up binds, so each value is the tightest over the group and its
//! ancestors. Inside a container the path in /proc may be the host's; then only the levels that
//! are visible here count, and the topmost of them is the container's own.

use super::Limit;
use super::tree::{Lookup, Tree, quote};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Component, PathBuf};

/// What the control group allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cgroup {
    /// The hierarchy in use: 1 or 2.
    pub version: Fact<u32>,
    /// Processor time allowed, in CPUs: quota over period of `cpu.max`.
    pub cpu_limit_cpus: Fact<Limit<f64>>,
    /// Memory allowed: `memory.max`.
    pub memory_limit_bytes: Fact<Limit<u64>>,
    /// CPUs allowed, as a list: `cpuset.cpus.effective`, which the kernel narrows by ancestors.
    pub cpuset_cpus: Fact<String>,
}

/// The memory limit of version 1 that means none: the largest multiple of a page in 63 bits.
const V1_NO_MEMORY_LIMIT: u64 = (i64::MAX as u64) & !0xffff;

/// Learns what the control group allows.
pub(super) fn read(sys: &Tree, proc: &Tree) -> Cgroup {
    let mount = sys.sub("fs/cgroup");
    let version = version(&mount);
    match version {
        Ok(2) => {
            let levels = levels(proc, "", &mount);
            Cgroup {
                version: 2.into(),
                cpu_limit_cpus: tightest(&levels, v2_cpus),
                memory_limit_bytes: tightest(&levels, |level| bytes(level, "memory.max")),
                cpuset_cpus: first(&levels, "cpuset.cpus.effective"),
            }
        }
        Ok(_) => {
            let levels = |controller| levels(proc, controller, &mount.sub(controller));
            let cpuset = levels("cpuset");
            Cgroup {
                version: 1.into(),
                cpu_limit_cpus: tightest(&levels("cpu"), v1_cpus),
                memory_limit_bytes: tightest(&levels("memory"), |level| {
                    bytes(level, "memory.limit_in_bytes")
                }),
                cpuset_cpus: match first(&cpuset, "cpuset.effective_cpus") {
                    Fact::Unavailable { .. } => first(&cpuset, "cpuset.cpus"),
                    known => known,
                },
            }
        }
        Err(reason) => Cgroup {
            version: Fact::unavailable(&reason),
            cpu_limit_cpus: Fact::unavailable(&reason),
            memory_limit_bytes: Fact::unavailable(&reason),
            cpuset_cpus: Fact::unavailable(&reason),
        },
    }
}

fn version(mount: &Tree) -> Lookup<u32> {
    match mount.text("cgroup.controllers") {
        Ok(_) => Ok(2),
        Err(_) if mount.exists("cpu") || mount.exists("memory") => Ok(1),
        Err(error) => Err(error),
    }
}

/// The group of this process under one controller (none for version 2) and its ancestors, as far
/// as they are visible, the deepest first.
fn levels(proc: &Tree, controller: &str, mount: &Tree) -> Lookup<Vec<Tree>> {
    const FILE: &str = "self/cgroup";
    let text = proc.text(FILE)?;
    let path = text
        .lines()
        .find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            controllers
                .split(',')
                .any(|name| name == controller)
                .then_some(path)
        })
        .ok_or_else(|| {
            proc.wrong(
                FILE,
                format!("names no group for controller {controller:?}"),
            )
        })?;
    let inside = PathBuf::from(path)
        .components()
        .filter(|component| matches!(component, Component::Normal(_)))
        .collect::<PathBuf>();
    let levels: Vec<_> = inside.ancestors().map(|path| mount.sub(path)).collect();
    let visible: Vec<_> = levels
        .into_iter()
        .filter(|level| level.exists(""))
        .collect();
    if visible.is_empty() {
        return Err(mount.wrong("", "does not exist"));
    }
    Ok(visible)
}

/// The tightest limit of all levels. A level without the file sets none: the root never has one,
/// and a group has one only where its controller is enabled.
fn tightest<T: PartialOrd>(
    levels: &Lookup<Vec<Tree>>,
    limit: impl Fn(&Tree) -> Lookup<Limit<T>>,
) -> Fact<Limit<T>> {
    let levels = match levels {
        Ok(levels) => levels,
        Err(reason) => return Fact::unavailable(reason),
    };
    let mut tightest = Limit::UNLIMITED;
    for level in levels {
        match limit(level) {
            Ok(limit) => tightest = limit.tighter(tightest),
            Err(reason) => return Fact::unavailable(reason),
        }
    }
    Fact::Known(tightest)
}

fn first(levels: &Lookup<Vec<Tree>>, file: &str) -> Fact<String> {
    match levels {
        Err(reason) => Fact::unavailable(reason),
        Ok(levels) => levels
            .iter()
            .find_map(|level| level.line(file).ok())
            .map_or_else(
                || Fact::unavailable(levels[0].wrong(file, "no such file, nor in an ancestor")),
                Fact::Known,
            ),
    }
}

fn v2_cpus(level: &Tree) -> Lookup<Limit<f64>> {
    const FILE: &str = "cpu.max";
    if !level.exists(FILE) {
        return Ok(Limit::UNLIMITED);
    }
    let line = level.line(FILE)?;
    let (quota, period) = line.split_once(' ').unwrap_or((&line, "100000"));
    if quota == "max" {
        return Ok(Limit::UNLIMITED);
    }
    cpus(quota, period)
        .ok_or_else(|| level.wrong(FILE, format!("holds {}, no quota and period", quote(&line))))
}

fn v1_cpus(level: &Tree) -> Lookup<Limit<f64>> {
    const FILE: &str = "cpu.cfs_quota_us";
    if !level.exists(FILE) {
        return Ok(Limit::UNLIMITED);
    }
    let quota = level.line(FILE)?;
    if quota.starts_with('-') {
        return Ok(Limit::UNLIMITED);
    }
    let period = level.line("cpu.cfs_period_us")?;
    cpus(&quota, &period)
        .ok_or_else(|| level.wrong(FILE, format!("holds {}, no quota", quote(&quota))))
}

/// Quota over period, to a thousandth of a CPU so that it survives JSON unchanged.
fn cpus(quota_us: &str, period_us: &str) -> Option<Limit<f64>> {
    let quota: u64 = quota_us.trim().parse().ok()?;
    let period: u64 = period_us.trim().parse().ok().filter(|&period| period > 0)?;
    let thousandths = quota.checked_mul(1000)? / period;
    Some(Limit::At(thousandths as f64 / 1000.0))
}

fn bytes(level: &Tree, file: &str) -> Lookup<Limit<u64>> {
    if !level.exists(file) {
        return Ok(Limit::UNLIMITED);
    }
    match level.line(file)?.as_str() {
        "max" => Ok(Limit::UNLIMITED),
        line => match line.parse::<u64>() {
            Ok(bytes) if bytes >= V1_NO_MEMORY_LIMIT => Ok(Limit::UNLIMITED),
            Ok(bytes) => Ok(Limit::At(bytes)),
            Err(_) => Err(level.wrong(file, format!("holds {}, no limit", quote(line)))),
        },
    }
}
