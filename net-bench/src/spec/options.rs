//! The groups of options that cases have in common.

use crate::client::{Family, Place};
use crate::control::Key;
use crate::place::Placement;
use crate::place::pin::Pin;
use crate::place::ports::Queues;
use crate::size;
use crate::test::{Arrival, Direction, Engine, Process, Receive, Shape, SocketOptions};
use clap::Args;
use std::path::PathBuf;

/// The port of the control channel where none is named.
pub const DEFAULT_PORT: u16 = 5280;

/// How much is done, and how it is shown while it is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Length of the measured window in seconds
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 10.0)]
    pub(super) time: f64,
    /// Stop after N operations of each thread, instead of after --time; an engine that sends several
    /// with one call ends with a whole call [default: no bound]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "time")]
    pub(super) operations: Option<u64>,
    /// Warm-up in seconds, not measured [default: 1, or 0 with --operations]
    #[arg(short = 'O', long, value_name = "SECONDS")]
    pub(super) omit: Option<f64>,
    /// Length of the reported slices in seconds, shown while they pass [default: 1, shown only on
    /// a terminal]
    #[arg(short = 'i', long, value_name = "SECONDS")]
    pub(super) interval: Option<f64>,
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

impl FlowArgs {
    pub(super) fn counts(&self) -> (u32, Option<u32>) {
        (self.flows, self.threads)
    }
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

impl ServerArgs {
    /// Where the server is, and how long it may be silent.
    pub(super) fn place(self) -> anyhow::Result<(Option<Place>, f64)> {
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
}

impl TcpArgs {
    pub(super) fn options(self, nagle: bool) -> SocketOptions {
        SocketOptions {
            nagle,
            congestion: self.congestion,
            segment_bytes: self.mss,
            ..self.ip.options(self.buffers)
        }
    }
}

/// Whether requests and responses may be held back.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct NagleArgs {
    /// Leave Nagle's algorithm on, which holds small sends back [default: TCP_NODELAY]
    #[arg(long)]
    pub(super) nagle: bool,
}

/// Whether the ends of a stream's sends may be held back.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct NoDelayArgs {
    /// Turn Nagle's algorithm off (TCP_NODELAY), so that the end of each send leaves at once, in a
    /// segment that may not be full [default: on, as the peers' streams have it]
    #[arg(short = 'N', long)]
    pub(super) no_delay: bool,
}

/// What the sockets of UDP cases are told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct UdpArgs {
    #[command(flatten)]
    buffers: BufferArgs,
    #[command(flatten)]
    ip: IpArgs,
}

impl UdpArgs {
    pub(super) fn options(self) -> SocketOptions {
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

impl BufferArgs {
    pub(super) fn options(self) -> SocketOptions {
        SocketOptions {
            window_bytes: self.window,
            device_poll_us: self.so_busy_poll,
            ..SocketOptions::default()
        }
    }
}

/// What every socket over IP can be told.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sockets")]
pub struct IpArgs {
    /// Differentiated services code point of all packets, 0 to 63 [default: 0]
    #[arg(long, value_name = "N")]
    dscp: Option<u8>,
    /// Rate in bytes per second at which the kernel paces each flow (SO_MAX_PACING_RATE); of datagrams
    /// only the queueing discipline fq does it; K, M, G are powers of 1024 [default: not paced]
    #[arg(long, value_name = "RATE", value_parser = size::parse)]
    fq_rate: Option<u64>,
}

impl IpArgs {
    pub(super) fn options(self, buffers: BufferArgs) -> SocketOptions {
        SocketOptions {
            dscp: self.dscp,
            pacing_bytes_per_s: self.fq_rate,
            ..buffers.options()
        }
    }
}

/// When requests go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct ArrivalArgs {
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
    pub(super) fn arrival(&self) -> anyhow::Result<Option<Arrival>> {
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

/// When a stream's sends go.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct PaceArgs {
    /// Offer N datagrams per second over all flows of a direction (of TCP, sends of --length bytes),
    /// at equal distances [default: as fast as they go]
    #[arg(long, value_name = "N", conflicts_with = "bitrate")]
    rate: Option<f64>,
    /// The same in bits of payload per second, as iperf3's -b, but for all flows together; K, M, G
    /// are powers of 1000, 0 is as fast as they go
    #[arg(short = 'b', long, value_name = "BITS", value_parser = size::parse_decimal,
          visible_alias = "bandwidth")]
    bitrate: Option<f64>,
}

impl PaceArgs {
    /// The schedule of sends of so many bytes.
    pub(super) fn arrival(&self, length_bytes: u64) -> Option<Arrival> {
        match self.rate {
            Some(rate_per_s) => Some(Arrival::evenly(rate_per_s)),
            None => at_bitrate(self.bitrate, length_bytes),
        }
    }
}

/// The schedule of sends of so many bytes at so many bits of payload per second; 0 is none.
pub(super) fn at_bitrate(bits: Option<f64>, length_bytes: u64) -> Option<Arrival> {
    let bits = bits.filter(|&bits| bits > 0.0)?;
    Some(Arrival::evenly(bits / 8.0 / length_bytes.max(1) as f64))
}

/// How streams are handed to the kernel and taken from it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct EngineArgs {
    /// How data is handed to the kernel
    #[arg(short = 'e', long, value_enum, default_value_t)]
    pub(super) engine: Engine,
    /// How data is taken from the kernel
    #[arg(long, value_enum, default_value_t)]
    pub(super) receive: Receive,
    /// Nobody sleeps: threads that wait for data, or for room to send, ask the kernel again and again;
    /// each takes a CPU of its own
    #[arg(long)]
    pub(super) busy_poll: bool,
}

/// The sizes of request and response.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct SizeArgs {
    /// Bytes of a request; K, M, G are powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "1", value_parser = size::parse)]
    pub(super) request_size: u64,
    /// Bytes of a response; K, M, G are powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "1", value_parser = size::parse)]
    pub(super) response_size: u64,
}

impl SizeArgs {
    pub(super) fn shape(&self) -> Shape {
        Shape::RequestResponse {
            request_bytes: self.request_size,
            response_bytes: self.response_size,
        }
    }
}

/// Where threads run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Placement")]
pub struct PinArgs {
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
    pub(super) fn placement(self) -> Placement {
        Placement {
            server: self.server_pin.unwrap_or_else(|| self.pin.clone()),
            client: self.pin,
            queues: self.queues,
        }
    }
}

/// Who sends in a stream.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct DirectionArgs {
    /// The server sends and the client receives [default: the client sends]
    #[arg(short = 'R', long, conflicts_with = "bidir")]
    reverse: bool,
    /// Both send at once, each over --flows connections of its own [default: the client sends]
    #[arg(long)]
    bidir: bool,
}

impl DirectionArgs {
    pub(super) fn direction(&self) -> Direction {
        match (self.reverse, self.bidir) {
            (false, false) => Direction::Forward,
            (true, _) => Direction::Reverse,
            (false, true) => Direction::Bidirectional,
        }
    }
}
