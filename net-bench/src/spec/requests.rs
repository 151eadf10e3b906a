//! The options of the cases that ask and wait for an answer.

use super::options::{
    ArrivalArgs, BufferArgs, DirectionArgs, EngineArgs, FlowArgs, LoadArgs, NagleArgs, NoDelayArgs,
    PinArgs, ServerArgs, SizeArgs, TcpArgs, UdpArgs, at_bitrate,
};
use super::{Kind, Spec};
use crate::size;
use crate::test::{MAX_SECONDS, Probe, Shape, SocketOptions, Transport};
use clap::{Args, ValueEnum};
use reports::program::OutputArgs;

/// Stands where nothing can time out.
const NO_TIMEOUT_S: f64 = MAX_SECONDS;

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

impl NullArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        // The null case has no socket; its description is never sent.
        let shape = self.sizes.shape();
        let kind = Kind::new(Transport::Unix, shape);
        let threads = (self.threads, Some(self.threads));
        let nowhere = (None, NO_TIMEOUT_S);
        kind.spec(&self.load, threads, nowhere, self.output)
    }
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

impl RrArgs {
    fn spec(self, transport: Transport, socket: SocketOptions) -> anyhow::Result<Spec> {
        let shape = self.sizes.shape();
        let kind = Kind {
            busy_poll: self.busy_poll,
            socket,
            arrival: self.arrival.arrival()?,
            placement: self.pin.placement(),
            ..Kind::new(transport, shape)
        };
        let place = self.server.place()?;
        kind.spec(&self.load, self.flows.counts(), place, self.output)
    }
}

/// Options of `tcp_rr`.
#[derive(Debug, Clone, Args)]
pub struct TcpRrArgs {
    #[command(flatten)]
    rr: RrArgs,
    #[command(flatten)]
    socket: TcpArgs,
    #[command(flatten)]
    nagle: NagleArgs,
}

impl TcpRrArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.rr
            .spec(Transport::Tcp, self.socket.options(self.nagle.nagle))
    }
}

/// Options of `udp_rr`.
#[derive(Debug, Clone, Args)]
pub struct UdpRrArgs {
    #[command(flatten)]
    rr: RrArgs,
    #[command(flatten)]
    socket: UdpArgs,
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

/// Options of `unix_rr`.
#[derive(Debug, Clone, Args)]
pub struct UnixRrArgs {
    #[command(flatten)]
    rr: RrArgs,
    #[command(flatten)]
    socket: BufferArgs,
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
    nagle: NagleArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl CrrArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let shape = Shape::ConnectRequestResponse {
            request_bytes: self.sizes.request_size,
            response_bytes: self.sizes.response_size,
        };
        let kind = Kind {
            socket: self.socket.options(self.nagle.nagle),
            placement: self.pin.placement(),
            ..Kind::new(Transport::Tcp, shape)
        };
        let threads = (self.threads, Some(self.threads));
        kind.spec(&self.load, threads, self.server.place()?, self.output)
    }
}

/// What carries a probe or its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carrier {
    /// A TCP connection
    Tcp,
    /// Datagrams
    Udp,
}

impl Carrier {
    fn transport(self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }
}

/// Options of `under_load`.
#[derive(Debug, Clone, Args)]
pub struct UnderLoadArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// What carries the requests and responses that are timed
    #[arg(long = "probe", value_enum, value_name = "TRANSPORT", default_value_t = Carrier::Tcp,
          help_heading = "Load")]
    probe: Carrier,
    #[command(flatten)]
    arrival: ArrivalArgs,
    #[command(flatten)]
    sizes: SizeArgs,
    /// What carries the streams that load the way
    #[arg(long = "load", value_enum, value_name = "TRANSPORT", default_value_t = Carrier::Tcp,
          help_heading = "Load")]
    carrier: Carrier,
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
    /// [default: 128K, or 1448 with --load udp]
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = size::parse,
          help_heading = "Load")]
    length: Option<u64>,
    /// Offer the streams' load at so many bits of payload per second, all of a direction together;
    /// K, M, G are powers of 1000 [default: as fast as they go]
    #[arg(short = 'b', long, value_name = "BITS", value_parser = size::parse_decimal,
          help_heading = "Load")]
    load_bitrate: Option<f64>,
    #[command(flatten)]
    engines: EngineArgs,
    #[command(flatten)]
    direction: DirectionArgs,
    #[command(flatten)]
    socket: TcpArgs,
    #[command(flatten)]
    delay: NoDelayArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl UnderLoadArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let length_bytes = self.length.unwrap_or(match self.carrier {
            Carrier::Tcp => 128 << 10,
            Carrier::Udp => 1448,
        });
        let probe = Probe {
            transport: self.probe.transport(),
            request_bytes: self.sizes.request_size,
            response_bytes: self.sizes.response_size,
            arrival: self.arrival.arrival()?,
        };
        let shape = Shape::UnderLoad {
            probe,
            length_bytes,
            direction: self.direction.direction(),
        };
        // The probe's requests are never held back.
        let nagle = self.carrier == Carrier::Tcp && !self.delay.no_delay;
        let kind = Kind {
            engine: self.engines.engine,
            receive: self.engines.receive,
            busy_poll: self.engines.busy_poll,
            socket: self.socket.options(nagle),
            arrival: at_bitrate(self.load_bitrate, length_bytes),
            placement: self.pin.placement(),
            ..Kind::new(self.carrier.transport(), shape)
        };
        let flows = (self.flows, self.threads);
        kind.spec(&self.load, flows, self.server.place()?, self.output)
    }
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
    nagle: NagleArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl IncastArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let shape = Shape::Incast {
            length_bytes: self.length,
        };
        let kind = Kind {
            socket: self.socket.options(self.nagle.nagle),
            placement: self.pin.placement(),
            ..Kind::new(Transport::Tcp, shape)
        };
        let flows = (self.flows, self.threads);
        kind.spec(&self.load, flows, self.server.place()?, self.output)
    }
}
