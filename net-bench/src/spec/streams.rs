//! The options of the cases that send as much as goes through, or as a schedule says.

use super::options::{
    DirectionArgs, EngineArgs, FlowArgs, LoadArgs, NoDelayArgs, PaceArgs, PinArgs, ServerArgs,
    TcpArgs, UdpArgs,
};
use super::{Kind, Spec};
use crate::size;
use crate::test::{Engine, Receive, Shape, Transport};
use clap::Args;
use reports::program::OutputArgs;

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
    pace: PaceArgs,
    #[command(flatten)]
    socket: UdpArgs,
    #[command(flatten)]
    direction: DirectionArgs,
    #[command(flatten)]
    pin: PinArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl DatagramArgs {
    fn spec(self, length_bytes: u64, engines: EngineArgs) -> anyhow::Result<Spec> {
        let shape = Shape::Stream {
            length_bytes,
            direction: self.direction.direction(),
        };
        let kind = Kind {
            engine: engines.engine,
            receive: engines.receive,
            busy_poll: engines.busy_poll,
            arrival: self.pace.arrival(length_bytes),
            socket: self.socket.options(),
            placement: self.pin.placement(),
            ..Kind::new(Transport::Udp, shape)
        };
        let place = self.server.place()?;
        kind.spec(&self.load, self.flows.counts(), place, self.output)
    }
}

/// Options of `udp_stream`.
#[derive(Debug, Clone, Args)]
pub struct UdpStreamArgs {
    #[command(flatten)]
    engines: EngineArgs,
    /// Bytes of a datagram's payload; more than the path's MTU less 28 (IPv4) or 48 (IPv6) makes
    /// fragments
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "1448",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    stream: DatagramArgs,
}

impl UdpStreamArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        self.stream.spec(self.length, self.engines)
    }
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
    /// Nobody sleeps: threads that wait for data, or for room to send, ask the kernel again and again;
    /// each takes a CPU of its own
    #[arg(long, help_heading = "Load")]
    busy_poll: bool,
    /// Bytes of a datagram's payload; 18 make the smallest Ethernet frame over IPv4
    #[arg(short = 'l', long, value_name = "SIZE", default_value = "18",
          value_parser = size::parse, help_heading = "Load")]
    length: u64,
    #[command(flatten)]
    stream: DatagramArgs,
}

impl PpsArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let engines = EngineArgs {
            engine: self.engine,
            receive: self.receive,
            busy_poll: self.busy_poll,
        };
        self.stream.spec(self.length, engines)
    }
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
    pace: PaceArgs,
    #[command(flatten)]
    socket: TcpArgs,
    #[command(flatten)]
    delay: NoDelayArgs,
    #[command(flatten)]
    engines: EngineArgs,
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

impl StreamArgs {
    /// The spec of these options.
    ///
    /// # Errors
    /// [`Usage`], which names the option at fault.
    pub fn spec(self) -> anyhow::Result<Spec> {
        let shape = Shape::Stream {
            length_bytes: self.length,
            direction: self.direction.direction(),
        };
        let kind = Kind {
            engine: self.engines.engine,
            receive: if self.skip_rx_copy {
                Receive::Discard
            } else {
                self.engines.receive
            },
            busy_poll: self.engines.busy_poll,
            arrival: self.pace.arrival(self.length),
            socket: self.socket.options(!self.delay.no_delay),
            placement: self.pin.placement(),
            ..Kind::new(Transport::Tcp, shape)
        };
        let place = self.server.place()?;
        kind.spec(&self.load, self.flows.counts(), place, self.output)
    }
}
