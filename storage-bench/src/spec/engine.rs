//! How I/O reaches the kernel, on which CPUs and through which memory.

use super::cpus::{CpuList, NodeChoice};
use super::{Place, Spec, usage};
use crate::placement;
use clap::{ArgAction, Args, ValueEnum};
use reports::case::Availability;
use serde::Serialize;

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineName {
    /// io_uring, submitted and reaped in batches
    Uring,
    /// pread and pwrite, one at a time
    Psync,
    /// No I/O at all; for the case `null`
    Null,
}

/// The options as users type them, of the cases that do I/O.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Engine (fio's words)")]
pub struct EngineArgs {
    /// How I/O reaches the kernel [default: uring; psync where the kernel refuses io_uring, with a
    /// flag on the result]
    #[arg(long, value_enum)]
    pub engine: Option<EngineName>,
    /// Poll for completions instead of waiting for interrupts (IORING_SETUP_IOPOLL); takes a device
    /// with poll queues, such as NVMe with nvme.poll_queues=N
    #[arg(long)]
    pub hipri: bool,
    /// Send commands of the device past the block layer (NVMe passthrough, IORING_OP_URING_CMD)
    #[arg(long)]
    pub uring_cmd: bool,
    /// How the ring is set up.
    #[command(flatten)]
    pub ring: RingArgs,
    /// Where jobs run.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// Options of every ring.
#[derive(Debug, Clone, Args)]
pub struct RingArgs {
    /// Have a thread of the kernel submit, so that this program makes no system calls
    /// (IORING_SETUP_SQPOLL); it takes a CPU for itself
    #[arg(long)]
    pub sqthread_poll: bool,
    /// The CPU of that thread
    #[arg(long, value_name = "CPU", requires = "sqthread_poll")]
    pub sqthread_poll_cpu: Option<u32>,
    /// Register the I/O buffers with the ring [default: true]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub fixedbufs: Option<bool>,
    /// Register the file with the ring [default: true]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub registerfiles: Option<bool>,
    /// Wait until N operations have ended before any is taken and replaced: fewer calls, but the
    /// first of them wait for the last [default: 1]
    #[arg(long, value_name = "N")]
    pub iodepth_batch_complete_min: Option<usize>,
    /// The most ended operations that are taken at a time [default: all that there are]
    #[arg(long, value_name = "N")]
    pub iodepth_batch_complete_max: Option<usize>,
    /// Have every Nth operation done by a thread of the kernel without trying first whether the file
    /// takes it without blocking (IOSQE_ASYNC); saves the attempt where the file never does, which the
    /// report tells under io_workers [default: 0, none]
    #[arg(long, value_name = "N")]
    pub force_async: Option<u32>,
}

/// Where jobs run and where their memory lies.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Placement")]
pub struct PlacementArgs {
    /// Run each job on one of these CPUs, in turn: 0,2,4-7
    #[arg(long, value_name = "LIST")]
    pub cpus_allowed: Option<CpuList>,
    /// Bind the I/O buffers to a NUMA node, and the jobs to its CPUs unless --cpus-allowed names
    /// others; auto: the device's
    #[arg(long, value_name = "N|auto")]
    pub numa_node: Option<NodeChoice>,
    /// I/O buffers in huge pages of 2 MiB; where there are none, in what comes closest
    #[arg(long)]
    pub hugepages: bool,
}

/// How an engine is set up: parameters, left out of reports where they are the defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EngineOptions {
    /// Completions are polled for.
    #[serde(skip_serializing_if = "is_false")]
    pub hipri: bool,
    /// Operations are commands of the device.
    #[serde(skip_serializing_if = "is_false")]
    pub uring_cmd: bool,
    /// A thread of the kernel submits.
    #[serde(skip_serializing_if = "is_false")]
    pub sqthread_poll: bool,
    /// The CPU of that thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqthread_poll_cpu: Option<u32>,
    /// Buffers are registered.
    #[serde(skip_serializing_if = "is_true")]
    pub fixedbufs: bool,
    /// The file is registered.
    #[serde(skip_serializing_if = "is_true")]
    pub registerfiles: bool,
    /// Completions that are waited for at a time.
    #[serde(skip_serializing_if = "is_one")]
    pub iodepth_batch_complete_min: usize,
    /// The most completions that are taken at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iodepth_batch_complete_max: Option<usize>,
    /// One operation in so many goes to a thread of the kernel at once; none of them if zero.
    #[serde(skip_serializing_if = "is_zero")]
    pub force_async: u32,
    /// The CPUs of the jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus_allowed: Option<CpuList>,
    /// The node of the jobs' memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<NodeChoice>,
    /// Buffers are to lie in huge pages.
    #[serde(skip_serializing_if = "is_false")]
    pub hugepages: bool,
    /// Why another engine than io_uring is used although nobody asked for one.
    #[serde(skip)]
    pub fallback: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            hipri: false,
            uring_cmd: false,
            sqthread_poll: false,
            sqthread_poll_cpu: None,
            fixedbufs: true,
            registerfiles: true,
            iodepth_batch_complete_min: 1,
            iodepth_batch_complete_max: None,
            force_async: 0,
            cpus_allowed: None,
            numa_node: None,
            hugepages: false,
            fallback: None,
        }
    }
}

impl EngineArgs {
    /// The engine, and why it is not io_uring if that would be the default. `uring` says whether
    /// the kernel has it.
    #[must_use]
    pub fn choose(&self, uring: impl FnOnce() -> Availability) -> (EngineName, Option<String>) {
        match self.engine {
            Some(engine) => (engine, None),
            // What only io_uring can do is asked for: the engine will say that it is unavailable.
            None if self.only_uring().is_some() => (EngineName::Uring, None),
            None => match uring() {
                Availability::Available => (EngineName::Uring, None),
                Availability::Unavailable { reason } => (EngineName::Psync, Some(reason)),
            },
        }
    }

    /// Fills defaults in.
    #[must_use]
    pub fn options(&self, fallback: Option<String>) -> EngineOptions {
        EngineOptions {
            hipri: self.hipri,
            uring_cmd: self.uring_cmd,
            fallback,
            ..self.ring.options(&self.placement)
        }
    }

    /// The first option in use that psync has nothing for.
    #[must_use]
    pub fn only_uring(&self) -> Option<&'static str> {
        let ring = &self.ring;
        let asked = [
            (self.hipri, "--hipri"),
            (self.uring_cmd, "--uring-cmd"),
            (ring.sqthread_poll, "--sqthread-poll"),
            (ring.fixedbufs.is_some(), "--fixedbufs"),
            (ring.registerfiles.is_some(), "--registerfiles"),
            (
                ring.iodepth_batch_complete_min.is_some(),
                "--iodepth-batch-complete-min",
            ),
            (
                ring.iodepth_batch_complete_max.is_some(),
                "--iodepth-batch-complete-max",
            ),
            (ring.force_async.is_some(), "--force-async"),
        ];
        let first = asked.iter().find(|(asked, _)| *asked);
        first.map(|&(_, option)| option)
    }
}

impl RingArgs {
    /// Fills defaults in.
    #[must_use]
    pub fn options(&self, placement: &PlacementArgs) -> EngineOptions {
        EngineOptions {
            sqthread_poll: self.sqthread_poll,
            sqthread_poll_cpu: self.sqthread_poll_cpu,
            fixedbufs: self.fixedbufs.unwrap_or(true),
            registerfiles: self.registerfiles.unwrap_or(true),
            iodepth_batch_complete_min: self.iodepth_batch_complete_min.unwrap_or(1),
            iodepth_batch_complete_max: self.iodepth_batch_complete_max,
            force_async: self.force_async.unwrap_or(0),
            ..placement.options()
        }
    }
}

impl PlacementArgs {
    /// Fills defaults in.
    #[must_use]
    pub fn options(&self) -> EngineOptions {
        EngineOptions {
            cpus_allowed: self.cpus_allowed.clone(),
            numa_node: self.numa_node,
            hugepages: self.hugepages,
            ..EngineOptions::default()
        }
    }
}

impl EngineOptions {
    /// Checks them against each other and against everything else.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn check(&self, spec: &Spec) -> anyhow::Result<()> {
        if self.hipri && !spec.direct {
            return Err(usage(
                "--hipri polls the device for completions, and buffered I/O waits for memory: use \
                 it with --direct true",
            ));
        }
        if self.hipri && (spec.pattern.rw.trims() || spec.pattern.flushes()) {
            return Err(usage(
                "--hipri polls for reads and writes; the kernel does not poll for trims and flushes",
            ));
        }
        if self.uring_cmd {
            check_passthrough(spec)?;
        }
        let (min, depth) = (self.iodepth_batch_complete_min, spec.iodepth);
        if min == 0 || min > depth {
            return Err(usage(format!(
                "--iodepth-batch-complete-min {min}: from 1 to --iodepth, which is {depth}"
            )));
        }
        if let Some(max) = self.iodepth_batch_complete_max.filter(|&max| max < min) {
            return Err(usage(format!(
                "--iodepth-batch-complete-max {max}: at least --iodepth-batch-complete-min, which \
                 is {min}"
            )));
        }
        placement::check(self)
    }
}

fn check_passthrough(spec: &Spec) -> anyhow::Result<()> {
    if !matches!(spec.place, Place::Device(_)) {
        return Err(usage(
            "--uring-cmd sends commands to an NVMe namespace: use `storage-bench block --device \
             /dev/nvmeXnY`",
        ));
    }
    if spec.pattern.rw.trims() {
        return Err(usage(
            "--uring-cmd reads and writes: for trims leave it out",
        ));
    }
    if !spec.direct {
        return Err(usage(
            "--uring-cmd goes past the page cache by nature: leave --direct false out",
        ));
    }
    Ok(())
}
