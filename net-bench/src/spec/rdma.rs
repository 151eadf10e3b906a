//! The options of the cases over RDMA devices.

use super::options::{LoadArgs, PinArgs, ServerArgs};
use super::{DEFAULT_OMIT_S, Spec, Tested};
use crate::client::Place;
use crate::rdma::test::{
    Device, EndpointType, Fabric, MAX_LATENCY_DEPTH, Measure, Mode, Operation, ProgressModel,
    RdmaTest, Service, Verbs,
};
use crate::size;
use clap::{Args, ValueEnum};
use reports::program::{OutputArgs, Usage};
use std::sync::OnceLock;

/// Bytes in flight of a lane where nobody says how many: as much as 400 Gb/s carry in 20 µs.
const RING_BYTES: u64 = 1 << 20;
/// Bytes of a lane's ring in a measurement of latency.
const CACHED_BYTES: u64 = 8 << 10;
/// Seconds in which providers connect endpoints at their first message, which fabtests leaves out with
/// its first 10.
const CONNECTING_S: f64 = 0.05;
/// perftest's depth of a send queue in a measurement of bandwidth.
const DEPTH: u32 = 128;
/// fabtests' window.
const WINDOW: u32 = 64;
/// perftest's size in a measurement of bandwidth, in bytes.
const LARGE: u64 = 64 << 10;
/// perftest's size in a measurement of latency, in bytes.
const SMALL: u64 = 2;
/// Above so many bytes perftest signals every operation.
const SIGNAL_EACH: u64 = 8 << 10;
/// Every how many operations perftest signals one below that.
const SIGNAL_EVERY: u32 = 100;

/// Options of all cases over RDMA devices.
#[derive(Debug, Clone, Args)]
struct DeviceArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Whose definitions are followed: perftest's and fabtests', or what the device can do
    #[arg(long, value_enum, default_value_t, help_heading = "Load")]
    mode: Mode,
    /// Bytes of an operation; K, M, G are powers of 1024 [default: 2 for latency and rate, 64K for
    /// bandwidth]
    #[arg(short = 's', long, value_name = "SIZE", value_parser = size::parse, help_heading = "Load")]
    size: Option<u64>,
    /// Threads on each side that share the pairs of queues, each with a device context of its own
    #[arg(
        short = 'T',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load"
    )]
    threads: u32,
    /// Operations that each pair of queues may have in flight [default: 1 for latency with --mode
    /// compat, else 2 to 64; for bandwidth 128, of libfabric 64, fewer of more than 8K]
    #[arg(
        long,
        value_name = "N",
        visible_alias = "window",
        help_heading = "Queues"
    )]
    depth: Option<u32>,
    /// Receives that are posted ahead for each pair of queues [default: 2 for latency, else 4
    /// times --depth, at least 16]
    #[arg(long, value_name = "N", help_heading = "Queues")]
    receives: Option<u32>,
    /// Operations that are posted with one call, in a measurement of bandwidth or rate
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Queues")]
    post_list: u32,
    /// Signal one of N operations [default: with --mode compat each for latency and above 8K, else one
    /// of 100; with --mode fast half of --depth, at most 64]
    #[arg(short = 'Q', long, value_name = "N", help_heading = "Queues")]
    moderation: Option<u32>,
    /// Most completions that one call reads
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Queues")]
    poll_batch: u32,
    /// Send up to so many bytes from the request itself; 0 for none [default: with --mode compat what
    /// the peers take, else the device's most]
    #[arg(
        short = 'I',
        long,
        value_name = "BYTES",
        visible_alias = "inject",
        help_heading = "Queues"
    )]
    inline: Option<u32>,
    /// Sleep until the device has a completion, in place of polling
    #[arg(short = 'e', long, help_heading = "Queues")]
    events: bool,
    /// Compare every byte that arrives, which takes time [default: the number that each operation
    /// carries]
    #[arg(long, help_heading = "Load")]
    verify: bool,
    /// Spoil a byte of operation N, to see that it is noticed
    #[arg(long, value_name = "N", hide = true)]
    spoil: Option<u64>,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is measured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
struct MeasureArgs {
    /// What is measured
    #[arg(short = 'm', long, value_enum, default_value_t)]
    measure: Measure,
    #[command(flatten)]
    directions: DirectionsArgs,
}

/// Whether both sides post.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
struct DirectionsArgs {
    /// Both sides post at once, and bandwidth is that of both together
    #[arg(short = 'b', long)]
    bidir: bool,
}

/// What a case measures of which operation.
struct Asked {
    device: Device,
    operation: Operation,
    measure: Measure,
    bidirectional: bool,
    lanes: u32,
}

impl DeviceArgs {
    fn spec(self, asked: Asked) -> anyhow::Result<Spec> {
        let Asked {
            device,
            operation,
            measure,
            bidirectional,
            lanes,
        } = asked;
        let latency = measure == Measure::Latency;
        let length_bytes = self.size.unwrap_or(match (operation.atomic(), measure) {
            (true, _) => 8,
            (false, Measure::Bandwidth) => LARGE,
            (false, Measure::Latency | Measure::Rate) => SMALL,
        });
        let window = match device {
            Device::Verbs(_) => DEPTH,
            Device::Fabric(_) => WINDOW,
        };
        let depth = self.depth.unwrap_or(match (latency, self.mode) {
            // One is in flight; what the write before it left is checked meanwhile.
            (true, Mode::Compat)
                if matches!(operation, Operation::Write | Operation::WriteData) =>
            {
                2
            }
            (true, Mode::Compat) => 1,
            (true, Mode::Fast) => in_cache(length_bytes),
            (false, _) => in_ring(length_bytes).min(window),
        });
        let receives = self.receives.unwrap_or(match operation {
            // Its payload is in the ring that the other side writes, not in the receive.
            Operation::WriteData if depth > 1 => depth - 1,
            // One is filled while the other is read.
            _ if latency => 2,
            _ => (4 * depth.min(DEPTH)).max(16),
        });
        let list = self.post_list.min(depth);
        let moderation = self.moderation.unwrap_or(match self.mode {
            _ if operation.fetches() && latency => 1,
            Mode::Compat if latency || length_bytes > SIGNAL_EACH => list,
            Mode::Compat => SIGNAL_EVERY.min(depth).max(list),
            Mode::Fast => (depth / 2).clamp(1, 64).max(list),
        });
        let default_omit_s = match (self.load.operations, &device) {
            (None, _) => DEFAULT_OMIT_S,
            (Some(_), Device::Fabric(_)) if latency => CONNECTING_S,
            (Some(_), _) => 0.0,
        };
        let (place, timeout_s) = self.server.place()?;
        let test = RdmaTest {
            device,
            operation,
            measure,
            mode: self.mode,
            length_bytes,
            lanes,
            threads: self.threads,
            bidirectional,
            depth,
            receives,
            post_list: self.post_list,
            moderation,
            poll_batch: self.poll_batch,
            inline_bytes: self.inline,
            events: self.events,
            verify: self.verify,
            spoil: self.spoil,
            placement: self.pin.placement(),
            duration_s: self.load.time,
            operations: self.load.operations,
            omit_s: self.load.omit.unwrap_or(default_omit_s),
            interval_s: self.load.interval.unwrap_or(1.0),
            timeout_s,
        };
        test.check().map_err(Usage)?;
        Ok(Spec {
            test: Tested::Rdma(test),
            place: place.map(|place| match place {
                Place::InProcess { family } => Place::OwnProcess { family },
                place => place,
            }),
            output: self.output,
            show_intervals: self.load.interval.is_some(),
            server_host: OnceLock::new(),
        })
    }
}

/// How many buffers of so many bytes stay in a core's first cache, beside each other.
fn in_cache(length_bytes: u64) -> u32 {
    let buffer = length_bytes.max(1).next_multiple_of(64);
    // The minimum is small enough.
    (CACHED_BYTES / buffer).clamp(2, u64::from(MAX_LATENCY_DEPTH) / 2) as u32
}

/// How many operations of so many bytes keep a fast way busy.
fn in_ring(length_bytes: u64) -> u32 {
    // At most a 64-bit size over one: the minimum is small enough.
    (RING_BYTES / length_bytes.max(1)).clamp(8, DEPTH.into()) as u32
}

/// Options of all cases over verbs.
#[derive(Debug, Clone, Args)]
struct VerbsArgs {
    /// RDMA device of this side, such as rxe0 [default: the first with an active port]
    #[arg(short = 'd', long, value_name = "DEVICE", help_heading = "Device")]
    device: Option<String>,
    /// RDMA device of the server [default: its first with an active port]
    #[arg(long, value_name = "DEVICE", help_heading = "Device")]
    server_device: Option<String>,
    /// Port of the devices
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Device",
          value_parser = clap::value_parser!(u8).range(1..))]
    ib_port: u8,
    /// Index of the GID on both sides [default: chosen by each: RoCE v2 with a routable address first]
    #[arg(short = 'x', long, value_name = "N", help_heading = "Device")]
    gid_index: Option<u8>,
    /// Transport of the queue pairs
    #[arg(long, value_enum, default_value_t, help_heading = "Device")]
    service: Service,
    /// Path MTU in bytes [default: the smaller of both ports' active MTUs]
    #[arg(long, value_name = "BYTES", help_heading = "Device")]
    mtu: Option<u32>,
    /// Queue pairs on each side, over all threads
    #[arg(
        short = 'q',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load"
    )]
    qps: u32,
    /// The queue pairs of a thread share one queue of receives
    #[arg(long, help_heading = "Queues")]
    srq: bool,
    /// Connect with the RDMA connection manager [default: over the control channel]
    #[arg(long, help_heading = "Device")]
    rdma_cm: bool,
    #[command(flatten)]
    common: DeviceArgs,
}

impl VerbsArgs {
    fn spec(
        self,
        operation: Operation,
        (measure, bidirectional): (Measure, bool),
    ) -> anyhow::Result<Spec> {
        let device = Device::Verbs(Verbs {
            device: self.device,
            server_device: self.server_device,
            port: self.ib_port,
            gid_index: self.gid_index,
            service: self.service,
            mtu_bytes: self.mtu,
            shared_receives: self.srq,
            rdma_cm: self.rdma_cm,
        });
        self.common.spec(Asked {
            device,
            operation,
            measure,
            bidirectional,
            lanes: self.qps,
        })
    }
}

impl MeasureArgs {
    fn asked(&self) -> (Measure, bool) {
        (self.measure, self.directions.bidir)
    }
}

/// Options of `verbs_send`.
#[derive(Debug, Clone, Args)]
pub struct VerbsSendArgs {
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(flatten)]
    verbs: VerbsArgs,
}

impl VerbsSendArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.verbs.spec(Operation::Send, self.measure.asked())
    }
}

/// The kinds of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum WriteKind {
    /// A write alone, which the other side does not hear of
    #[default]
    Write,
    /// A write with data, which completes a receive of the other side
    WriteData,
}

/// Options of `verbs_write`.
#[derive(Debug, Clone, Args)]
pub struct VerbsWriteArgs {
    /// Which operation
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        default_value_t,
        help_heading = "Load"
    )]
    operation: WriteKind,
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(flatten)]
    verbs: VerbsArgs,
}

impl VerbsWriteArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let operation = match self.operation {
            WriteKind::Write => Operation::Write,
            WriteKind::WriteData => Operation::WriteData,
        };
        self.verbs.spec(operation, self.measure.asked())
    }
}

/// Options of `verbs_read`.
#[derive(Debug, Clone, Args)]
pub struct VerbsReadArgs {
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(flatten)]
    verbs: VerbsArgs,
}

impl VerbsReadArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.verbs.spec(Operation::Read, self.measure.asked())
    }
}

/// The kinds of atomic operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum AtomicKind {
    /// Adds, and returns the value before
    #[default]
    FetchAdd,
    /// Compares and exchanges
    CompareSwap,
}

impl AtomicKind {
    fn operation(self) -> Operation {
        match self {
            Self::FetchAdd => Operation::FetchAdd,
            Self::CompareSwap => Operation::CompareSwap,
        }
    }
}

/// Options of `verbs_atomic`.
#[derive(Debug, Clone, Args)]
pub struct VerbsAtomicArgs {
    /// Which operation
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        default_value_t,
        help_heading = "Load"
    )]
    operation: AtomicKind,
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(flatten)]
    verbs: VerbsArgs,
}

impl VerbsAtomicArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let operation = self.operation.operation();
        self.verbs.spec(operation, self.measure.asked())
    }
}

/// Options of all cases over libfabric.
#[derive(Debug, Clone, Args)]
struct FabricArgs {
    /// Provider, such as tcp, "tcp;ofi_rxm", shm, verbs, "verbs;ofi_rxm", efa [default: the library's
    /// first; see `net-bench fabric_info`]
    #[arg(short = 'p', long, value_name = "PROVIDER", help_heading = "Device")]
    provider: Option<String>,
    /// Domain of this side, such as eth0 [default: the provider's first]
    #[arg(long, value_name = "DOMAIN", help_heading = "Device")]
    domain: Option<String>,
    /// Domain of the server [default: the provider's first]
    #[arg(long, value_name = "DOMAIN", help_heading = "Device")]
    server_domain: Option<String>,
    /// Type of the endpoints [default: rdm, or msg where the provider has no other]
    #[arg(long, value_enum, value_name = "TYPE", help_heading = "Device")]
    endpoint: Option<EndpointType>,
    /// Who drives operations on [default: the provider's choice]
    #[arg(long, value_enum, value_name = "WHO", help_heading = "Device")]
    progress: Option<ProgressModel>,
    /// Register all memory, even if the provider does not ask for it
    #[arg(long, help_heading = "Device")]
    register: bool,
    /// Endpoints on each side, over all threads
    #[arg(
        short = 'q',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load"
    )]
    endpoints: u32,
    #[command(flatten)]
    common: DeviceArgs,
}

impl FabricArgs {
    fn spec(
        self,
        operation: Operation,
        (measure, bidirectional): (Measure, bool),
    ) -> anyhow::Result<Spec> {
        let device = Device::Fabric(Fabric {
            provider: self.provider,
            domain: self.domain,
            server_domain: self.server_domain,
            endpoint: self.endpoint,
            progress: self.progress,
            register: self.register,
        });
        self.common.spec(Asked {
            device,
            operation,
            measure,
            bidirectional,
            lanes: self.endpoints,
        })
    }
}

/// Whether messages have tags.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
struct TagArgs {
    /// Match messages by their tags (fi_tsend) [default: by their order (fi_send)]
    #[arg(long)]
    tagged: bool,
}

impl TagArgs {
    fn operation(&self) -> Operation {
        if self.tagged {
            Operation::Tagged
        } else {
            Operation::Send
        }
    }
}

/// Options of `fabric_pingpong`.
#[derive(Debug, Clone, Args)]
pub struct FabricPingpongArgs {
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    fabric: FabricArgs,
}

impl FabricPingpongArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let asked = (Measure::Latency, false);
        self.fabric.spec(self.tags.operation(), asked)
    }
}

/// Options of `fabric_stream`.
#[derive(Debug, Clone, Args)]
pub struct FabricStreamArgs {
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    directions: DirectionsArgs,
    #[command(flatten)]
    fabric: FabricArgs,
}

impl FabricStreamArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let asked = (Measure::Bandwidth, self.directions.bidir);
        self.fabric.spec(self.tags.operation(), asked)
    }
}

/// The kinds of remote memory access.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum RmaKind {
    /// A write alone, which the other side does not hear of
    #[default]
    Write,
    /// A write with data, which completes at the other side
    #[value(alias = "writedata")]
    WriteData,
    /// A read
    Read,
}

/// Options of `fabric_rma`.
#[derive(Debug, Clone, Args)]
pub struct FabricRmaArgs {
    /// Which operation
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        default_value_t,
        help_heading = "Load"
    )]
    operation: RmaKind,
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(flatten)]
    fabric: FabricArgs,
}

impl FabricRmaArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let operation = match self.operation {
            RmaKind::Write => Operation::Write,
            RmaKind::WriteData => Operation::WriteData,
            RmaKind::Read => Operation::Read,
        };
        self.fabric.spec(operation, self.measure.asked())
    }
}

/// Options of `fabric_atomic`.
#[derive(Debug, Clone, Args)]
pub struct FabricAtomicArgs {
    /// Which operation
    #[arg(
        long,
        value_enum,
        value_name = "KIND",
        default_value_t,
        help_heading = "Load"
    )]
    operation: AtomicKind,
    #[command(flatten)]
    measure: MeasureArgs,
    #[command(flatten)]
    fabric: FabricArgs,
}

impl FabricAtomicArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let operation = self.operation.operation();
        self.fabric.spec(operation, self.measure.asked())
    }
}
