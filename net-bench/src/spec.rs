//! The options of the cases, and the one struct that they become.

use crate::client::{Family, Place};
use crate::control::Key;
use crate::place::Placement;
use crate::place::pin::Pin;
use crate::place::ports::Queues;
use crate::size;
use crate::test::{
    Arrival, Direction, Engine, MAX_SECONDS, MAX_THREADS, Process, Receive, Shape, SocketOptions,
    Test, Transport,
};
use clap::Args;
use reports::host::Host;
use reports::program::{OutputArgs, Usage};
use serde::{Serialize, Serializer};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The port of the control channel where none is named.
pub const DEFAULT_PORT: u16 = 5280;

/// Warm-up of a timed run where none is asked for, in seconds.
const DEFAULT_OMIT_S: f64 = 1.0;

/// Stands where nothing can time out.
const NO_TIMEOUT_S: f64 = MAX_SECONDS;

/// How much is done, and how it is shown while it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Length of the measured window in seconds
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 10.0)]
    time: f64,
    /// Stop after N operations of each thread, instead of after --time [default: no bound]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "time")]
    operations: Option<u64>,
    /// Warm-up in seconds, not measured [default: 1, or 0 with --operations]
    #[arg(short = 'O', long, value_name = "SECONDS")]
    omit: Option<f64>,
    /// Length of the reported slices in seconds, shown while they pass [default: 1, shown only on
    /// a terminal]
    #[arg(short = 'i', long, value_name = "SECONDS")]
    interval: Option<f64>,
}

/// Flows and threads.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct FlowArgs {
    /// Number of connections
    #[arg(short = 'P', long, value_name = "N", default_value_t = 1)]
    flows: u32,
    /// Threads on each side that share the flows [default: one per flow, at most 128]
    #[arg(short = 'T', long, value_name = "N")]
    threads: Option<u32>,
}

/// The server to use.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Host that runs `net-bench serve` [default: a server inside this process, over loopback]
    #[arg(short = 'c', long = "connect", value_name = "HOST")]
    connect: Option<String>,
    /// Use IPv4 only [default: whatever --connect resolves to, IPv4 without it]
    #[arg(short = '4', long)]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    ipv6: bool,
    /// Port of the server's control channel
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_PORT,
          requires = "connect", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Give up when nothing moves on any connection for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    /// File with the key that the server holds [default: $NET_BENCH_KEY, else no key]
    #[arg(long, value_name = "FILE", requires = "connect")]
    key_file: Option<PathBuf>,
}

/// What the sockets of TCP cases are told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct TcpArgs {
    #[command(flatten)]
    buffers: BufferArgs,
    #[command(flatten)]
    ip: IpArgs,
    /// Congestion control of both sides [default: the kernel's]
    #[arg(short = 'C', long, value_name = "NAME")]
    congestion: Option<String>,
    /// Largest segment's payload in bytes (TCP_MAXSEG) [default: what the path allows]
    #[arg(short = 'M', long, value_name = "BYTES")]
    mss: Option<u32>,
    /// Leave Nagle's algorithm on, which holds small sends back [default: TCP_NODELAY]
    #[arg(long)]
    nagle: bool,
}

/// What the sockets of UDP cases are told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
struct UdpArgs {
    #[command(flatten)]
    buffers: BufferArgs,
    #[command(flatten)]
    ip: IpArgs,
}

impl UdpArgs {
    fn options(self) -> SocketOptions {
        self.ip.options(self.buffers)
    }
}

/// What every kind of socket can be told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct BufferArgs {
    /// Let the kernel poll the network device for so many microseconds before a receiver sleeps
    /// (SO_BUSY_POLL) [default: net.core.busy_read]
    #[arg(long, value_name = "MICROSECONDS")]
    so_busy_poll: Option<u32>,
    /// Send and receive buffer of each socket in bytes, which the kernel doubles; K, M, G are
    /// powers of 1024 [default: the kernel's own tuning]
    #[arg(short = 'w', long, value_name = "SIZE", value_parser = size::parse)]
    window: Option<u64>,
}

/// What every socket over IP can be told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct IpArgs {
    /// Differentiated services code point of all packets, 0 to 63 [default: 0]
    #[arg(long, value_name = "N")]
    dscp: Option<u8>,
    /// Rate in bytes per second at which the kernel paces each flow (SO_MAX_PACING_RATE); K, M, G
    /// are powers of 1024 [default: not paced]
    #[arg(long, value_name = "RATE", value_parser = size::parse)]
    fq_rate: Option<u64>,
}

impl TcpArgs {
    fn options(self) -> SocketOptions {
        SocketOptions {
            nagle: self.nagle,
            congestion: self.congestion,
            segment_bytes: self.mss,
            ..self.ip.options(self.buffers)
        }
    }
}

impl IpArgs {
    fn options(self, buffers: BufferArgs) -> SocketOptions {
        SocketOptions {
            dscp: self.dscp,
            pacing_bytes_per_s: self.fq_rate,
            ..buffers.options()
        }
    }
}

impl BufferArgs {
    fn options(self) -> SocketOptions {
        SocketOptions {
            window_bytes: self.window,
            device_poll_us: self.so_busy_poll,
            ..SocketOptions::default()
        }
    }
}

/// When requests go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
struct ArrivalArgs {
    /// Open loop: N requests per second over all flows, whether or not earlier ones were answered;
    /// latency counts from when a request was meant to go [default: one outstanding per flow]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// How the requests of an open loop are spread over time
    #[arg(long, value_enum, default_value_t, requires = "rate")]
    arrival: Process,
    /// What the random numbers of --arrival poisson begin with [default: drawn, and in the report]
    #[arg(long, value_name = "N", requires = "rate")]
    seed: Option<u64>,
}

impl ArrivalArgs {
    fn arrival(&self) -> anyhow::Result<Option<Arrival>> {
        let Some(rate_per_s) = self.rate else {
            return Ok(None);
        };
        let seed = match self.seed {
            Some(seed) => seed,
            None => u64::from(getrandom::u32()?),
        };
        Ok(Some(Arrival {
            rate_per_s,
            process: self.arrival,
            seed,
        }))
    }
}

/// The sizes of request and response.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct SizeArgs {
    /// Bytes of a request; K, M, G are powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "1", value_parser = size::parse)]
    request_size: u64,
    /// Bytes of a response; K, M, G are powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "1", value_parser = size::parse)]
    response_size: u64,
}

/// Where threads run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Placement")]
struct PinArgs {
    /// CPUs of the threads of both sides: rx-queue (each on the CPU that takes in the packets of its
    /// first flow, none on another's while there are CPUs; of tcp_crr the server's threads, each
    /// with a listener for the connections of its CPU), rx-queue+N (N allowed CPUs further), a list
    /// such as 0,2,4-7 used in turn, or none (the scheduler decides)
    #[arg(long, value_name = "WHERE", default_value = "none")]
    pin: Pin,
    /// The same for the server's threads alone [default: as --pin]
    #[arg(long, value_name = "WHERE")]
    server_pin: Option<Pin>,
    /// Receive queues of the server's device that flows are led to in turn, by source ports chosen
    /// from the device's hash key and indirection table: all, or a list such as 0,2 [default: the
    /// kernel chooses ports]
    #[arg(long, value_name = "QUEUES")]
    queues: Option<Queues>,
}

impl PinArgs {
    fn placement(self) -> Placement {
        Placement {
            server: self.server_pin.unwrap_or_else(|| self.pin.clone()),
            client: self.pin,
            queues: self.queues,
        }
    }
}

/// Options of `null`.
#[derive(Debug, Clone, Args)]
pub struct NullArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Number of threads
    #[arg(
        short = 'T',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load"
    )]
    threads: u32,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `tcp_rr`.
#[derive(Debug, Clone, Args)]
pub struct TcpRrArgs {
    #[command(flatten)]
    rr: RrArgs,
    #[command(flatten)]
    socket: TcpArgs,
}

/// Options of `unix_rr`.
#[derive(Debug, Clone, Args)]
pub struct UnixRrArgs {
    #[command(flatten)]
    rr: RrArgs,
    #[command(flatten)]
    socket: BufferArgs,
}

/// Options of `tcp_crr`.
#[derive(Debug, Clone, Args)]
pub struct CrrArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Threads on each side, each with one connection at a time
    #[arg(
        short = 'T',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load"
    )]
    threads: u32,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    socket: TcpArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `under_load`.
#[derive(Debug, Clone, Args)]
pub struct UnderLoadArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Streams that load the way
    #[arg(
        short = 'P',
        long,
        value_name = "N",
        default_value_t = 8,
        help_heading = "Load"
    )]
    flows: u32,
    /// Threads on each side that share the streams [default: one per stream, at most 128]
    #[arg(short = 'T', long, value_name = "N", help_heading = "Load")]
    threads: Option<u32>,
    /// Bytes per send and most bytes per receive of the streams; K, M, G are powers of 1024
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "128K",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    direction: DirectionArgs,
    #[command(flatten)]
    arrival: ArrivalArgs,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    socket: TcpArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `incast`.
#[derive(Debug, Clone, Args)]
pub struct IncastArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Number of connections, on each of which a block is asked for in every round
    #[arg(
        short = 'P',
        long,
        value_name = "N",
        default_value_t = 32,
        help_heading = "Load"
    )]
    flows: u32,
    /// Threads of the server that share the flows; the client has one [default: one per flow, at
    /// most 128]
    #[arg(short = 'T', long, value_name = "N", help_heading = "Load")]
    threads: Option<u32>,
    /// Bytes of a block; K, M, G are powers of 1024
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "64K",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    socket: TcpArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `udp_rr`.
#[derive(Debug, Clone, Args)]
pub struct UdpRrArgs {
    #[command(flatten)]
    rr: RrArgs,
    #[command(flatten)]
    socket: UdpArgs,
}

/// Options of all request-response cases.
#[derive(Debug, Clone, Args)]
struct RrArgs {
    /// Ask for data again and again instead of sleeping until it comes, on both sides: lower
    /// latency for a processor per thread
    #[arg(long, help_heading = "Load")]
    busy_poll: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    flows: FlowArgs,
    #[command(flatten)]
    arrival: ArrivalArgs,
    #[command(flatten)]
    sizes: SizeArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Who sends in a stream.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
struct DirectionArgs {
    /// The server sends and the client receives [default: the client sends]
    #[arg(short = 'R', long, conflicts_with = "bidir")]
    reverse: bool,
    /// Both send at once, each over --flows connections of its own [default: the client sends]
    #[arg(long)]
    bidir: bool,
}

impl DirectionArgs {
    fn direction(&self) -> Direction {
        match (self.reverse, self.bidir) {
            (false, false) => Direction::Forward,
            (true, _) => Direction::Reverse,
            (false, true) => Direction::Bidirectional,
        }
    }
}

/// Options of `udp_stream`.
#[derive(Debug, Clone, Args)]
pub struct UdpStreamArgs {
    /// How datagrams are handed to the kernel
    #[arg(short = 'e', long, value_enum, default_value_t, help_heading = "Load")]
    engine: Engine,
    /// How datagrams are taken from the kernel
    #[arg(long, value_enum, default_value_t, help_heading = "Load")]
    receive: Receive,
    /// Bytes of a datagram's payload; more than the path's MTU less 28 (IPv4) or 48 (IPv6) makes
    /// fragments
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "1448",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    stream: DatagramArgs,
}

/// Options of `pps`.
#[derive(Debug, Clone, Args)]
pub struct PpsArgs {
    /// How datagrams are handed to the kernel
    #[arg(short = 'e', long, value_enum, default_value_t = Engine::Mmsg, help_heading = "Load")]
    engine: Engine,
    /// How datagrams are taken from the kernel
    #[arg(long, value_enum, default_value_t = Receive::Mmsg, help_heading = "Load")]
    receive: Receive,
    /// Bytes of a datagram's payload; 18 make the smallest Ethernet frame over IPv4
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "18",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    stream: DatagramArgs,
}

/// Options of all streams of datagrams.
#[derive(Debug, Clone, Args)]
struct DatagramArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    flows: FlowArgs,
    #[command(flatten)]
    socket: UdpArgs,
    #[command(flatten)]
    direction: DirectionArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Options of `tcp_stream`.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    flows: FlowArgs,
    #[command(flatten)]
    socket: TcpArgs,
    /// How data is handed to the kernel
    #[arg(short = 'e', long, value_enum, default_value_t, help_heading = "Load")]
    engine: Engine,
    /// How data is taken from the kernel
    #[arg(long, value_enum, default_value_t, help_heading = "Load")]
    receive: Receive,
    /// The same as --receive discard, in iperf3's words
    #[arg(long, conflicts_with = "receive", help_heading = "Load")]
    skip_rx_copy: bool,
    /// Bytes per send and most bytes per receive; K, M, G are powers of 1024
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "128K",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    direction: DirectionArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A case's options, checked and complete.
#[derive(Debug)]
pub struct Spec {
    /// What both sides do.
    pub test: Test,
    /// Where the server is; `None` for the case that needs none.
    pub place: Option<Place>,
    /// Where the report goes.
    pub output: OutputArgs,
    /// Whether slices were asked to be shown.
    pub show_intervals: bool,
    /// The server's machine, once the case has met it.
    pub server_host: OnceLock<Host>,
}

/// The report's parameters: what shapes the work, and nothing that does not.
#[derive(Serialize)]
struct Params {
    #[serde(flatten)]
    shape: ShapeParams,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<Engine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receive: Option<Receive>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    busy_poll: bool,
    #[serde(flatten)]
    socket: SocketParams,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<Pin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_pin: Option<Pin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<Queues>,
    flows: u32,
    threads: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<u64>,
    omit_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'static str>,
}

/// The options that were set; the kernel's defaults are no parameters.
#[derive(Serialize)]
struct SocketParams {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    nagle: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dscp: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pacing_bytes_per_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_poll_us: Option<u32>,
}

impl From<&SocketOptions> for SocketParams {
    fn from(options: &SocketOptions) -> Self {
        Self {
            nagle: options.nagle,
            window_bytes: options.window_bytes,
            congestion: options.congestion.clone(),
            dscp: options.dscp,
            segment_bytes: options.segment_bytes,
            pacing_bytes_per_s: options.pacing_bytes_per_s,
            device_poll_us: options.device_poll_us,
        }
    }
}

/// A placement that was asked for.
fn pinned(pin: &Pin) -> Option<Pin> {
    (*pin != Pin::None).then(|| pin.clone())
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShapeParams {
    Rr {
        request_bytes: u64,
        response_bytes: u64,
    },
    UnderLoad {
        request_bytes: u64,
        response_bytes: u64,
        length_bytes: u64,
        direction: Direction,
    },
    Stream {
        length_bytes: u64,
        direction: Direction,
    },
    Incast {
        length_bytes: u64,
    },
}

impl From<&Shape> for ShapeParams {
    fn from(shape: &Shape) -> Self {
        match *shape {
            Shape::RequestResponse {
                request_bytes,
                response_bytes,
            }
            | Shape::ConnectRequestResponse {
                request_bytes,
                response_bytes,
            } => Self::Rr {
                request_bytes,
                response_bytes,
            },
            Shape::UnderLoad {
                request_bytes,
                response_bytes,
                length_bytes,
                direction,
            } => Self::UnderLoad {
                request_bytes,
                response_bytes,
                length_bytes,
                direction,
            },
            Shape::Incast { length_bytes } => Self::Incast { length_bytes },
            Shape::Stream {
                length_bytes,
                direction,
            } => Self::Stream {
                length_bytes,
                direction,
            },
        }
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let test = &self.test;
        let timed = test.operations.is_none();
        let stream = matches!(test.shape, Shape::Stream { .. });
        let params = Params {
            shape: ShapeParams::from(&test.shape),
            engine: stream.then_some(test.engine),
            receive: stream.then_some(test.receive),
            busy_poll: test.busy_poll,
            socket: SocketParams::from(&test.socket),
            rate_per_s: test.arrival.as_ref().map(|arrival| arrival.rate_per_s),
            arrival: test.arrival.as_ref().map(|arrival| arrival.process),
            pin: pinned(&test.placement.client),
            server_pin: pinned(&test.placement.server),
            queues: test.placement.queues.clone(),
            flows: test.flows,
            threads: test.threads,
            duration_s: timed.then_some(test.duration_s),
            operations: test.operations,
            omit_s: test.omit_s,
            server: self.place.as_ref().map(|place| match place {
                Place::InProcess { .. } => "in_process",
                Place::Remote { .. } => "remote",
            }),
        };
        params.serialize(serializer)
    }
}

impl ServerArgs {
    /// Where the server is, and how long it may be silent.
    fn place(self) -> anyhow::Result<(Option<Place>, f64)> {
        let family = match (self.ipv4, self.ipv6) {
            (false, false) => Family::Any,
            (true, _) => Family::V4,
            (false, true) => Family::V6,
        };
        let place = match self.connect {
            None => Place::InProcess { family },
            Some(host) => Place::Remote {
                host,
                port: self.port,
                family,
                key: Key::find(self.key_file.as_deref())?,
            },
        };
        Ok((Some(place), self.timeout))
    }
}

/// What is moved and how, before it is known how much.
struct Kind {
    transport: Transport,
    shape: Shape,
    engine: Engine,
    receive: Receive,
    busy_poll: bool,
    socket: SocketOptions,
    arrival: Option<Arrival>,
    placement: Placement,
}

/// Puts the pieces together and checks them as a whole.
fn spec(
    kind: Kind,
    load: &LoadArgs,
    (flows, threads): (u32, Option<u32>),
    (place, timeout_s): (Option<Place>, f64),
    output: OutputArgs,
) -> anyhow::Result<Spec> {
    let default_omit_s = match load.operations {
        None => DEFAULT_OMIT_S,
        Some(_) => 0.0,
    };
    let default_threads = flows.min(MAX_THREADS);
    let test = Test {
        transport: kind.transport,
        shape: kind.shape,
        engine: kind.engine,
        receive: kind.receive,
        busy_poll: kind.busy_poll,
        socket: kind.socket,
        arrival: kind.arrival,
        placement: kind.placement,
        flows,
        threads: threads.unwrap_or(default_threads),
        duration_s: load.time,
        operations: load.operations,
        omit_s: load.omit.unwrap_or(default_omit_s),
        interval_s: load.interval.unwrap_or(1.0),
        timeout_s,
    };
    test.check().map_err(Usage)?;
    Ok(Spec {
        test,
        place,
        output,
        show_intervals: load.interval.is_some(),
        server_host: OnceLock::new(),
    })
}

impl FlowArgs {
    fn counts(&self) -> (u32, Option<u32>) {
        (self.flows, self.threads)
    }
}

impl SizeArgs {
    fn shape(&self) -> Shape {
        Shape::RequestResponse {
            request_bytes: self.request_size,
            response_bytes: self.response_size,
        }
    }
}

impl NullArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let kind = Kind {
            // The null case has no socket; its description is never sent.
            transport: Transport::Unix,
            shape: self.sizes.shape(),
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: SocketOptions::default(),
            arrival: None,
            placement: Placement::default(),
        };
        let threads = (self.threads, Some(self.threads));
        let nowhere = (None, NO_TIMEOUT_S);
        spec(kind, &self.load, threads, nowhere, self.output)
    }
}

impl RrArgs {
    fn spec(self, transport: Transport, socket: SocketOptions) -> anyhow::Result<Spec> {
        let kind = Kind {
            transport,
            shape: self.sizes.shape(),
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: self.busy_poll,
            socket,
            arrival: self.arrival.arrival()?,
            placement: self.pin.placement(),
        };
        let place = self.server.place()?;
        spec(kind, &self.load, self.flows.counts(), place, self.output)
    }
}

impl TcpRrArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.rr.spec(Transport::Tcp, self.socket.options())
    }
}

impl CrrArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let kind = Kind {
            transport: Transport::Tcp,
            shape: Shape::ConnectRequestResponse {
                request_bytes: self.sizes.request_size,
                response_bytes: self.sizes.response_size,
            },
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: self.socket.options(),
            arrival: None,
            placement: self.pin.placement(),
        };
        let threads = (self.threads, Some(self.threads));
        spec(kind, &self.load, threads, self.server.place()?, self.output)
    }
}

impl UnderLoadArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let kind = Kind {
            transport: Transport::Tcp,
            shape: Shape::UnderLoad {
                request_bytes: self.sizes.request_size,
                response_bytes: self.sizes.response_size,
                length_bytes: self.length,
                direction: self.direction.direction(),
            },
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: self.socket.options(),
            arrival: self.arrival.arrival()?,
            placement: self.pin.placement(),
        };
        let flows = (self.flows, self.threads);
        spec(kind, &self.load, flows, self.server.place()?, self.output)
    }
}

impl IncastArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let kind = Kind {
            transport: Transport::Tcp,
            shape: Shape::Incast {
                length_bytes: self.length,
            },
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: self.socket.options(),
            arrival: None,
            placement: self.pin.placement(),
        };
        let flows = (self.flows, self.threads);
        spec(kind, &self.load, flows, self.server.place()?, self.output)
    }
}

impl UdpRrArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.rr.spec(Transport::Udp, self.socket.options())
    }
}

impl UnixRrArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.rr.spec(Transport::Unix, self.socket.options())
    }
}

impl DatagramArgs {
    fn spec(self, length_bytes: u64, engine: Engine, receive: Receive) -> anyhow::Result<Spec> {
        let kind = Kind {
            engine,
            receive,
            busy_poll: false,
            transport: Transport::Udp,
            shape: Shape::Stream {
                length_bytes,
                direction: self.direction.direction(),
            },
            socket: self.socket.options(),
            arrival: None,
            placement: self.pin.placement(),
        };
        let place = self.server.place()?;
        spec(kind, &self.load, self.flows.counts(), place, self.output)
    }
}

impl UdpStreamArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.stream.spec(self.length, self.engine, self.receive)
    }
}

impl PpsArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.stream.spec(self.length, self.engine, self.receive)
    }
}

impl StreamArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let kind = Kind {
            transport: Transport::Tcp,
            shape: Shape::Stream {
                length_bytes: self.length,
                direction: self.direction.direction(),
            },
            engine: self.engine,
            receive: if self.skip_rx_copy {
                Receive::Discard
            } else {
                self.receive
            },
            busy_poll: false,
            socket: self.socket.options(),
            arrival: None,
            placement: self.pin.placement(),
        };
        let place = self.server.place()?;
        spec(kind, &self.load, self.flows.counts(), place, self.output)
    }
}
