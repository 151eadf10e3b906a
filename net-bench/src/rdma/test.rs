//! The description of a test over an RDMA device: all that both sides need to know, in one message.
//!
//! As for sockets, the client makes it from its command line, the server has no flags for any of
//! it, and both check it with the same [`RdmaTest::check`].

use super::work::lanes::BATCH;
use crate::place::Placement;
use crate::place::pin::Pin;
use crate::test::check::{Amount, within};
use crate::test::{MAX_FLOWS, MAX_LENGTH, MAX_MEMORY, MAX_THREADS};
use serde::{Deserialize, Serialize};

/// A test over verbs or libfabric, as both sides carry it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RdmaTest {
    /// What drives the device.
    pub device: Device,
    /// What is posted.
    pub operation: Operation,
    /// What is measured of it.
    pub measure: Measure,
    /// Whose definitions are followed.
    pub mode: Mode,
    /// Payload bytes of an operation; 8 of an atomic one.
    pub length_bytes: u64,
    /// Pairs of queue pairs or of endpoints, over all threads: a multiple of `threads`.
    pub lanes: u32,
    /// Threads on each side, each with a device context of its own.
    pub threads: u32,
    /// Whether both sides post at once, in a measurement of bandwidth.
    pub bidirectional: bool,
    /// Operations that a lane may have in flight.
    pub depth: u32,
    /// Receives that are posted ahead on each lane.
    pub receives: u32,
    /// Operations that are posted with one call.
    pub post_list: u32,
    /// Every how many operations one is signalled.
    pub moderation: u32,
    /// Most completions that one call reads.
    pub poll_batch: u32,
    /// Most bytes that are sent from the request itself (inline, inject) [`None`: as the mode has it].
    pub inline_bytes: Option<u32>,
    /// Whether who waits for a completion sleeps until the device has one.
    pub events: bool,
    /// Whether every byte is compared, rather than the number at the beginning.
    pub verify: bool,
    /// The client spoils a byte of its operation of this number: for tests of the comparison.
    pub spoil: Option<u64>,
    /// Where the sides' threads run.
    pub placement: Placement,
    /// Length of the measured window in seconds.
    pub duration_s: f64,
    /// Operations of each thread that end the window instead of its length.
    pub operations: Option<u64>,
    /// Length of the warm-up in seconds.
    pub omit_s: f64,
    /// Length of the slices in seconds.
    pub interval_s: f64,
    /// For how many seconds nothing may move before a side gives the test up.
    pub timeout_s: f64,
}

/// What drives the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// libibverbs.
    Verbs(Verbs),
    /// libfabric.
    Fabric(Fabric),
}

/// How verbs are used. Names of devices are those of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verbs {
    /// The client's device [`None`: the first with an active port].
    pub device: Option<String>,
    /// The server's device.
    pub server_device: Option<String>,
    /// The device's port, from 1.
    pub port: u8,
    /// The index of the GID on both sides [`None`: a routable RoCE v2 one first].
    pub gid_index: Option<u8>,
    /// The transport of the queue pairs.
    pub service: Service,
    /// The path MTU in bytes [`None`: the smaller of both active MTUs].
    pub mtu_bytes: Option<u32>,
    /// Whether the lanes of a thread take their receives from one shared queue (SRQ).
    pub shared_receives: bool,
    /// Whether lanes are connected with the connection manager rather than by exchanged numbers.
    pub rdma_cm: bool,
}

/// The transport of queue pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Reliable, connected
    #[default]
    Rc,
    /// Unreliable, connected
    Uc,
    /// Unreliable datagrams
    Ud,
}

/// How libfabric is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fabric {
    /// The provider, as `fi_info -p` takes it [`None`: the library's first].
    pub provider: Option<String>,
    /// The client's domain [`None`: the first].
    pub domain: Option<String>,
    /// The server's domain.
    pub server_domain: Option<String>,
    /// The type of endpoint [`None`: RDM, or MSG where the provider has no other].
    pub endpoint: Option<EndpointType>,
    /// Who drives operations on [`None`: the provider's choice].
    pub progress: Option<ProgressModel>,
    /// Whether memory is registered even if the provider does not ask for it.
    pub register: bool,
}

/// The type of a libfabric endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EndpointType {
    /// Reaches any peer (FI_EP_RDM)
    Rdm,
    /// Is connected to one (FI_EP_MSG)
    Msg,
}

/// Who drives a libfabric provider's operations on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum ProgressModel {
    /// The provider, by threads or hardware of its own (FI_PROGRESS_AUTO)
    Auto,
    /// Whoever polls (FI_PROGRESS_MANUAL)
    Manual,
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A message, which a receive takes
    Send,
    /// A message that is matched by its tag (libfabric)
    Tagged,
    /// A write into the peer's memory
    Write,
    /// A write that also completes a receive of the peer's
    WriteData,
    /// A read of the peer's memory
    Read,
    /// An addition in the peer's memory that returns the value before
    FetchAdd,
    /// A comparison and exchange in the peer's memory
    CompareSwap,
}

impl Operation {
    /// Whether it takes a receive of the peer's, which completes.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::Send | Self::Tagged | Self::WriteData)
    }

    /// Whether its result comes back to whoever posted it.
    #[must_use]
    pub fn fetches(self) -> bool {
        matches!(self, Self::Read | Self::FetchAdd | Self::CompareSwap)
    }

    /// Whether it is atomic, on 8 bytes.
    #[must_use]
    pub fn atomic(self) -> bool {
        matches!(self, Self::FetchAdd | Self::CompareSwap)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// The time of one operation after the other
    #[default]
    Latency,
    /// Bytes per second of many at once
    Bandwidth,
    /// Operations per second of many short ones at once
    Rate,
}

/// Whose definitions are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Those of perftest and fabtests, so that numbers compare
    Compat,
    /// What the device can do: most requests unsignalled, as much inline as there is room, receives
    /// posted after the answer
    #[default]
    Fast,
}

/// Most operations that a lane may have in flight.
pub const MAX_DEPTH: u32 = 8192;
/// Most operations in flight in a measurement of latency, whose writes are told by their last byte.
pub const MAX_LATENCY_DEPTH: u32 = 128;
/// Most receives of a lane.
pub const MAX_RECEIVES: u32 = 16_384;

impl RdmaTest {
    /// The case that the test belongs to.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (&self.device, self.operation) {
            (Device::Verbs(_), Operation::Send | Operation::Tagged) => "verbs_send",
            (Device::Verbs(_), Operation::Write | Operation::WriteData) => "verbs_write",
            (Device::Verbs(_), Operation::Read) => "verbs_read",
            (Device::Verbs(_), Operation::FetchAdd | Operation::CompareSwap) => "verbs_atomic",
            (Device::Fabric(_), Operation::Send | Operation::Tagged) => match self.measure {
                Measure::Latency => "fabric_pingpong",
                Measure::Bandwidth | Measure::Rate => "fabric_stream",
            },
            (Device::Fabric(_), Operation::FetchAdd | Operation::CompareSwap) => "fabric_atomic",
            (Device::Fabric(_), _) => "fabric_rma",
        }
    }

    /// What the server's log calls it.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{} over {} lane(s)", self.name(), self.lanes)
    }

    /// Buffer memory that each side needs, in bytes: what it posts, what the other side reaches, and
    /// its receives.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let slot = self.length_bytes.next_multiple_of(64);
        let receives = if self.operation.receives() {
            self.receives
        } else {
            0
        };
        let slots = 2 * u64::from(self.depth) + u64::from(receives);
        slot.saturating_mul(slots)
            .saturating_mul(u64::from(self.lanes))
    }

    /// Refuses what no side should be asked to do.
    ///
    /// # Errors
    /// The option as it is spelled on the command line, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        within("--threads", self.threads.into(), 1, MAX_THREADS.into())?;
        let lanes = match self.device {
            Device::Verbs(_) => "--qps",
            Device::Fabric(_) => "--endpoints",
        };
        within(lanes, self.lanes.into(), 1, MAX_FLOWS.into())?;
        if !self.lanes.is_multiple_of(self.threads) {
            return Err(format!(
                "{lanes} {}: a multiple of --threads {}, so that all threads have as much to do",
                self.lanes, self.threads
            ));
        }
        self.check_length()?;
        self.check_service()?;
        self.check_queues()?;
        if self.bidirectional && self.measure == Measure::Latency {
            return Err(
                "--bidir: of --measure bandwidth or rate; latency goes both ways".to_owned(),
            );
        }
        Amount {
            duration_s: self.duration_s,
            operations: self.operations,
            omit_s: self.omit_s,
            interval_s: self.interval_s,
            timeout_s: self.timeout_s,
        }
        .check()?;
        for pin in [&self.placement.client, &self.placement.server] {
            if matches!(pin, Pin::RxQueue { .. }) {
                return Err(format!(
                    "--pin {pin}: an RDMA device has no receive queues of a socket: give a list of \
                     CPUs"
                ));
            }
        }
        if let Some(queues) = &self.placement.queues {
            return Err(format!("--queues {queues}: of flows of sockets"));
        }
        let memory = self.memory_bytes();
        if memory > MAX_MEMORY {
            return Err(format!(
                "--size {}, --depth {}, --receives {} and {lanes} {} need {memory} bytes of buffers \
                 on each side, and {MAX_MEMORY} are the most: make one of them less",
                self.length_bytes, self.depth, self.receives, self.lanes
            ));
        }
        Ok(())
    }

    fn check_length(&self) -> Result<(), String> {
        if self.operation.atomic() {
            return within("--size of an atomic operation", self.length_bytes, 8, 8);
        }
        within("--size", self.length_bytes, 1, MAX_LENGTH)
    }

    fn check_service(&self) -> Result<(), String> {
        let Device::Verbs(verbs) = &self.device else {
            return Ok(());
        };
        let defined = match verbs.service {
            Service::Rc => self.operation != Operation::Tagged,
            Service::Uc => matches!(
                self.operation,
                Operation::Send | Operation::Write | Operation::WriteData
            ),
            Service::Ud => self.operation == Operation::Send,
        };
        if !defined {
            return Err(format!(
                "--service {:?} has no operation {:?}: RC has all, UC sends and writes, UD only \
                 sends (InfiniBand architecture, table of transport functions)",
                verbs.service, self.operation
            ));
        }
        if let Some(mtu) = verbs.mtu_bytes
            && ![256, 512, 1024, 2048, 4096].contains(&mtu)
        {
            return Err(format!("--mtu {mtu}: 256, 512, 1024, 2048 or 4096"));
        }
        Ok(())
    }

    fn check_queues(&self) -> Result<(), String> {
        let latency = self.measure == Measure::Latency;
        let most = if latency {
            MAX_LATENCY_DEPTH
        } else {
            MAX_DEPTH
        };
        within("--depth", self.depth.into(), 1, most.into())?;
        within("--receives", self.receives.into(), 1, MAX_RECEIVES.into())?;
        within("--poll-batch", self.poll_batch.into(), 1, BATCH as u64)?;
        if self.verify && self.operation == Operation::WriteData && self.receives >= self.depth {
            return Err(format!(
                "--receives {}: with --verify fewer than --depth {}, so that no write overtakes the \
                 comparison of the one before it in the same place",
                self.receives, self.depth
            ));
        }
        let depth = u64::from(self.depth);
        within("--post-list", self.post_list.into(), 1, depth)?;
        within("--moderation", self.moderation.into(), 1, depth)?;
        if latency && self.post_list > 1 {
            return Err("--post-list: of --measure bandwidth or rate".to_owned());
        }
        if self.operation.fetches() && latency && self.moderation > 1 {
            return Err("--moderation: each read or atomic operation is waited for".to_owned());
        }
        Ok(())
    }
}
