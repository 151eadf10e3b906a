//! The description of a test over an RDMA device: all that both sides need to know, in one message.
//!
//! As for sockets, the client makes it from its command line, the server has no flags for any of
//! it, and both check it with the same [`RdmaTest::check`].

use crate::place::Placement;
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
