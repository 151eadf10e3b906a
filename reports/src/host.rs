//! The fingerprint of a machine: everything that can explain why two results differ.
//!
//! Each field is a [`Fact`]: a value, or the reason why there is none, naming the file or request
//! that failed. Nothing is left out and nothing is guessed, so two fingerprints can be compared
//! field by field. The unit of a number stands in its name. Addresses, of the network or of the
//! hardware, and serial numbers never enter a fingerprint (an EBS volume's id does).
//!
//! One module reads one part of the machine: `cpu`, `kernel`, `memory`,
//! `cgroup`, `nic` with `ethtool`, `block` with `mounts`,
//! `rdma`, and `cloud`, which asks EC2's metadata service through `imds`. All
//! read through `tree`, which trusts no file, and start at injectable [`Roots`], so that
//! tests read the files of machines that are not here.

mod block;
mod cgroup;
mod cloud;
mod cpu;
mod ethtool;
mod imds;
mod kernel;
mod memory;
mod mounts;
mod nic;
mod rdma;
mod tree;

pub use block::{BlockDevice, BlockKind};
pub use cgroup::Cgroup;
pub use cloud::{Cloud, CloudInterface};
pub use cpu::{Cpu, NumaNode};
pub use ethtool::EthtoolSource;
pub use kernel::{ClockSource, Kernel};
pub use memory::{HugePages, Memory};
pub use mounts::FileSystem;
pub use nic::{Channels, Coalescing, Nic, NicKind, Rings};
pub use rdma::{RdmaDevice, RdmaPort};

use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tree::Tree;

/// One machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its own name for itself; `unknown` if it tells none.
    pub name: String,
    /// The distribution.
    pub os: Fact<String>,
    /// The processors.
    pub cpu: Cpu,
    /// The kernel.
    pub kernel: Kernel,
    /// The clock the kernel reads.
    pub clocksource: ClockSource,
    /// What this process's control group allows.
    pub cgroup: Cgroup,
    /// The memory.
    pub memory: Memory,
    /// The network interfaces.
    pub nics: Fact<Vec<Nic>>,
    /// The block devices.
    pub block: Fact<Vec<BlockDevice>>,
    /// The RDMA devices.
    pub rdma: Fact<Vec<RdmaDevice>>,
    /// The instance, if this is a cloud's machine.
    pub cloud: Fact<Cloud>,
}

/// A limit that may not be set. In JSON the number, or the word `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit<T> {
    /// The limit.
    At(T),
    /// There is none.
    None(Unlimited),
}

/// The word that stands for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlimited {
    /// There is no limit.
    Unlimited,
}

impl<T> Limit<T> {
    /// No limit.
    pub const UNLIMITED: Self = Self::None(Unlimited::Unlimited);

    /// The limit, if there is one.
    pub fn at(&self) -> Option<&T> {
        match self {
            Self::At(value) => Some(value),
            Self::None(_) => None,
        }
    }
}

impl<T: PartialOrd> Limit<T> {
    /// The one of two limits that binds.
    fn tighter(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::At(mine), Self::At(theirs)) if mine < theirs => self,
            (_, Self::None(_)) => self,
            _ => other,
        }
    }
}

/// Where the facts about a machine are read.
#[derive(Debug, Clone)]
pub struct Roots {
    /// In place of /sys.
    pub sys: PathBuf,
    /// In place of /proc.
    pub proc: PathBuf,
    /// In place of /etc.
    pub etc: PathBuf,
    /// Who is asked about network cards.
    pub ethtool: EthtoolSource,
    /// Who is asked about the cloud.
    pub metadata: MetadataSource,
}

/// Who is asked about the cloud.
#[derive(Debug, Clone)]
pub enum MetadataSource {
    /// EC2's metadata service, if the machine says that it runs on EC2; nobody otherwise.
    System,
    /// A service at this address, whatever the machine says.
    Address(SocketAddr),
    /// Nobody, for this reason.
    Off(String),
}

impl Roots {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
            etc: "/etc".into(),
            ethtool: EthtoolSource::Kernel,
            metadata: MetadataSource::System,
        }
    }
}

impl Host {
    /// A machine that is not here and left no fingerprint: its name if that is known, and for
    /// every field the same reason why nothing is.
    #[must_use]
    pub fn unknown(name: &str, reason: &str) -> Self {
        // A machine without files has every field, each unavailable; only the reasons are wrong.
        let nowhere = PathBuf::from("/nonexistent");
        let host = fingerprint_at(&Roots {
            sys: nowhere.clone(),
            proc: nowhere.clone(),
            etc: nowhere.clone(),
            ethtool: EthtoolSource::Dir(nowhere),
            metadata: MetadataSource::Off(reason.to_owned()),
        });
        let told = serde_json::to_value(&host).map(|mut fields| {
            give_reason(&mut fields, reason);
            fields
        });
        let host = told.and_then(serde_json::from_value).unwrap_or(host);
        Self {
            name: name.to_owned(),
            ..host
        }
    }
}

/// Puts `reason` in the place of every reason.
fn give_reason(value: &mut serde_json::Value, reason: &str) {
    match value {
        serde_json::Value::Object(fields) => match fields.get_mut("unavailable") {
            Some(old) => *old = reason.into(),
            None => fields
                .values_mut()
                .for_each(|field| give_reason(field, reason)),
        },
        serde_json::Value::Array(items) => {
            items.iter_mut().for_each(|item| give_reason(item, reason));
        }
        _ => {}
    }
}

/// Learns what this machine is like. Takes some milliseconds, on EC2 at most 200 more: call it
/// outside of timed windows.
#[must_use]
pub fn fingerprint() -> Host {
    fingerprint_at(&Roots::system())
}

/// Learns of one whole block device of the machine whose files lie below these two, by its name in
/// /sys/block. What is not there is unavailable, field by field.
#[must_use]
pub fn block_device(sys: &Path, proc: &Path, name: &str) -> BlockDevice {
    block::one(&Tree::new(sys), &Tree::new(proc), name)
}

/// Learns what the machine whose files lie below `roots` is like.
#[must_use]
pub fn fingerprint_at(roots: &Roots) -> Host {
    let sys = Tree::new(&roots.sys);
    let proc = Tree::new(&roots.proc);
    let etc = Tree::new(&roots.etc);
    let asker = ethtool::Asker::open(&roots.ethtool);
    let name = proc.line("sys/kernel/hostname");
    Host {
        name: name.unwrap_or_else(|_| "unknown".to_owned()),
        os: Fact::of(kernel::os_name(&etc)),
        cpu: cpu::read(&sys, &proc),
        kernel: kernel::read(&proc),
        clocksource: kernel::clock_source(&sys),
        cgroup: cgroup::read(&sys, &proc),
        memory: memory::read(&sys, &proc),
        nics: Fact::of(nic::read(&sys, &asker)),
        block: Fact::of(block::read(&sys, &proc)),
        rdma: Fact::of(rdma::read(&sys)),
        cloud: cloud::read(&sys, &roots.metadata),
    }
}
