//! What is observed of the target and the machine while the jobs run, and what it means.
//!
//! Before the jobs, `layers` finds the devices below the target. A thread of its own
//! (`sampler`) reads their `counters`, and of Amazon's devices their log page (`ebs`), before,
//! once a second and after; `cgroup` knows the limits in force. Afterwards `accounts` compares
//! what the devices did with what the jobs did, `warnings` knows the runs that mislead,
//! `limiter` names what held the run back, and `report` puts all of it into the report.

mod accounts;
mod cgroup;
mod counters;
mod ebs;
mod layers;
mod limiter;
mod report;
mod sampler;
mod until_steady;
mod warnings;

pub use until_steady::UntilSteady;

use crate::analysis::burst::Burst;
use crate::analysis::steady::Window;
use crate::spec::Spec;
use crate::target::{Machine, Target};
use ebs::{Kind, Log};
use layers::Layer;
use reports::host::{self, BlockDevice, BlockKind};
use reports::measure::{Observer, Totals};
use reports::model::{Counter, Validity};
use sampler::{Probes, Sampler};
use serde_json::{Map, Value};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// An observation that is under way.
pub struct Watch {
    site: Site,
    sampler: Sampler,
}

/// What is known of the target's surroundings before the jobs start.
struct Site {
    machine: Machine,
    /// Why no device is observed, if none is.
    layers: Result<(), String>,
    /// The disk of the target, as the host's fingerprint describes it.
    disk: Option<BlockDevice>,
    /// The Amazon devices with a log page, or why there is none.
    logs: Result<Vec<String>, String>,
    limits: Result<cgroup::Limits, String>,
    pressure: Result<(String, [u64; 2]), String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Observed {
    /// For the report, below [`reports::model::OBSERVED`].
    pub facts: Map<String, Value>,
    /// Counters before and after.
    pub counters: Vec<Counter>,
    /// What it means for the numbers.
    pub validity: Validity,
    /// Whether it is known how much of what was read came from memory.
    pub page_cache_judged: bool,
    /// Which part of the window is the result.
    pub headline: Headline,
}

/// Which part of the window is the result.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum Headline {
    /// All of it.
    #[default]
    Whole,
    /// What came after a burst.
    Plateau(Burst),
    /// The last five rounds, which are steady.
    Steady(Window),
}

impl Watch {
    /// Begins to observe, before the jobs start.
    #[must_use]
    pub fn start(target: &Target) -> Self {
        let machine = Machine::default();
        let found = layers_of(&machine, target);
        let (layers, reason) = match found {
            Ok(layers) => (layers, Ok(())),
            Err(reason) => (Vec::new(), Err(reason)),
        };
        let mut disks = disks(&machine, &layers);
        let logs = open_logs(&disks);
        let numbers: Vec<&str> = layers.iter().map(|layer| layer.number.as_str()).collect();
        let site = Site {
            layers: reason,
            limits: cgroup::limits(&machine, &numbers),
            pressure: cgroup::pressure(&machine),
            logs: match &logs {
                Ok(logs) => Ok(logs.iter().map(Log::name).collect()),
                Err(why) => Err(why.clone()),
            },
            disk: disks.pop().filter(|_| disks.is_empty()),
            machine,
        };
        let logs = logs.unwrap_or_default();
        Self {
            site,
            sampler: Sampler::start(Probes { layers, logs }),
        }
    }

    /// What the harness is to tell, so that the window's counters can be told from the rest.
    #[must_use]
    pub fn observer<'a>(&self, inner: &'a dyn Observer) -> impl Observer + use<'a> {
        self.sampler.observer(inner)
    }

    /// Ends it, once they are done.
    ///
    /// # Errors
    /// If the observing thread panicked.
    pub fn stop(self, spec: &Spec, totals: &Totals) -> anyhow::Result<Observed> {
        let (probes, samples) = self.sampler.stop().map_err(anyhow::Error::msg)?;
        Ok(report::of(
            &self.site,
            &probes.layers,
            &samples,
            spec,
            totals,
        ))
    }
}

fn layers_of(machine: &Machine, target: &Target) -> Result<Vec<Layer>, String> {
    let found = target.file.metadata().map_err(|error| error.to_string())?;
    if found.file_type().is_char_device() {
        return Err("nothing is read or written".to_owned());
    }
    layers::of(machine, &found)
}

/// The whole disks below the target: one, or those of a RAID.
fn disks(machine: &Machine, layers: &[Layer]) -> Vec<BlockDevice> {
    let lowest = layers
        .iter()
        .filter(|layer| layer.lowest && !layer.number.is_empty());
    let fingerprint = |disk: &Layer| host::block_device(&machine.sys, &machine.proc, &disk.name);
    lowest.map(fingerprint).collect()
}

fn open_logs(disks: &[BlockDevice]) -> Result<Vec<Log>, String> {
    if disks.is_empty() {
        return Err("there is no disk below the target".to_owned());
    }
    let log = |disk: &BlockDevice| {
        let kind = match disk.kind {
            BlockKind::AwsEbs => Kind::Ebs,
            BlockKind::AwsInstanceStore => Kind::InstanceStore,
            _ => return Err(format!("{} is no NVMe device of Amazon's", disk.name)),
        };
        Log::open(&Path::new("/dev").join(&disk.name), kind)
    };
    disks.iter().map(log).collect()
}

/// A file of the kernel's, without blanks around it.
fn text(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
