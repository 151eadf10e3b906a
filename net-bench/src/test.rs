//! The description of a test: all that both sides need to know, in one message.
//!
//! A test is a transport, a shape, an engine and the options of its sockets, with an amount of
//! work. The client makes it from its command line and sends it over the control channel; the
//! server has no flags of its own for any of it. Because a stranger may have written it, the server
//! checks whatever it is sent with the same [`Test::check`] that checks a command line.

pub(crate) mod check;

use crate::place::Placement;
use crate::workload::udp_stream::{BATCH, timed};
use crate::workload::uring;
use serde::{Deserialize, Serialize};

/// Most flows of one test.
pub const MAX_FLOWS: u32 = 1024;
/// Most threads on one side of a test.
pub const MAX_THREADS: u32 = 128;
/// Longest measured window or warm-up, in seconds: one day.
pub const MAX_SECONDS: f64 = 86_400.0;
/// Largest buffer of a stream, largest request and response, in bytes.
pub const MAX_LENGTH: u64 = 64 << 20;
/// Largest payload of a UDP datagram over IPv4, in bytes.
pub const MAX_DATAGRAM: u64 = 65_507;
/// Most buffer memory that one side spends on one test, in bytes.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Most slices that a side reports.
pub const MAX_INTERVALS: usize = 10_000;
/// A test, as both sides carry it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What carries the data.
    pub transport: Transport,
    /// What moves.
    pub shape: Shape,
    /// How it is handed to the kernel.
    pub engine: Engine,
    /// How it is taken from the kernel.
    pub receive: Receive,
    /// Whether who waits for data asks for it again and again instead of sleeping.
    pub busy_poll: bool,
    /// What its sockets are told.
    pub socket: SocketOptions,
    /// When requests or a stream's sends go; absent where each follows the one before at once. Under
    /// load it is the streams'; the probe has its own.
    pub arrival: Option<Arrival>,
    /// Where the sides' threads run.
    pub placement: Placement,
    /// Connections; in each direction, where data goes both ways at once.
    pub flows: u32,
    /// Threads on each side; in each direction, likewise.
    pub threads: u32,
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

/// What carries the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP over IPv4 or IPv6, whichever the control channel uses.
    Tcp,
    /// UDP, likewise.
    Udp,
    /// Stream sockets of the Unix domain, between processes of one machine.
    Unix,
}

/// What moves over the flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// A request there, a response back, one outstanding per flow.
    RequestResponse {
        /// Payload bytes of a request.
        request_bytes: u64,
        /// Payload bytes of a response.
        response_bytes: u64,
    },
    /// A connection for each request and its response.
    ConnectRequestResponse {
        /// Payload bytes of a request.
        request_bytes: u64,
        /// Payload bytes of a response.
        response_bytes: u64,
    },
    /// Requests and responses on one flow, while streams keep the way busy. The rest of the test
    /// says how the streams go.
    UnderLoad {
        /// What asks.
        probe: Probe,
        /// Bytes per send and most bytes per receive of the streams.
        length_bytes: u64,
        /// Who sends the streams.
        direction: Direction,
    },
    /// Rounds in which all flows ask at once for a block each.
    Incast {
        /// Payload bytes of a block.
        length_bytes: u64,
    },
    /// As many bytes as go through.
    Stream {
        /// Bytes per send and most bytes per receive.
        length_bytes: u64,
        /// Who sends.
        direction: Direction,
    },
}

/// Requests and responses beside streams, on a flow of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What carries them.
    pub transport: Transport,
    /// Payload bytes of a request.
    pub request_bytes: u64,
    /// Payload bytes of a response.
    pub response_bytes: u64,
    /// When requests go; absent where each follows the response before.
    pub arrival: Option<Arrival>,
}

/// When requests go, in an open loop, or the sends of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrival {
    /// Requests per second, or datagrams, or sends of other streams: over all flows of a direction.
    pub rate_per_s: f64,
    /// How they are spread.
    pub process: Process,
    /// What the random numbers begin with.
    pub seed: u64,
}

impl Arrival {
    /// So many per second at equal distances.
    #[must_use]
    pub fn evenly(rate_per_s: f64) -> Self {
        Self {
            rate_per_s,
            process: Process::Const,
            seed: 0,
        }
    }
}

/// How the requests of an open loop are spread over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// At equal distances
    #[default]
    Const,
    /// Independently of each other: the distances are exponential
    Poisson,
}

/// Who sends in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The client.
    Forward,
    /// The server.
    Reverse,
    /// Both, over flows of their own.
    Bidirectional,
}

/// How data is handed to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// One send or receive call per operation
    #[default]
    Plain,
    /// Sends with MSG_MORE: the kernel fills whole segments before it sends one
    More,
    /// The network reads the sender's memory, if it can (MSG_ZEROCOPY); the share that the kernel
    /// copied all the same is reported
    Zerocopy,
    /// Sends from a file in memory (sendfile)
    Sendfile,
    /// Sends from a file in memory by way of a pipe (splice)
    Splice,
    /// Several sends per call through io_uring, in order (IORING_OP_SEND)
    Uring,
    /// The same, and the network reads the sender's memory, if it can (IORING_OP_SEND_ZC); the share
    /// that the kernel copied all the same is reported
    UringZerocopy,
    /// Sends up to 64 datagrams per call (sendmmsg)
    Mmsg,
    /// Sends up to 64 datagrams per call, each with the time at which it is to go, as --bitrate or
    /// --rate have it; the queueing discipline fq keeps them until then (SO_TXTIME)
    Txtime,
    /// Sends up to 64 datagrams as one, which the kernel or the card cuts (UDP_SEGMENT)
    Gso,
}

/// How data is taken from the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Receive {
    /// One receive call per operation
    #[default]
    Plain,
    /// The kernel throws away what came, uncopied (MSG_TRUNC); iperf3's --skip-rx-copy
    #[value(alias = "skip-rx-copy")]
    Discard,
    /// Moves what came by way of a pipe to /dev/null (splice)
    Splice,
    /// One io_uring request that goes on receiving, into buffers that the kernel takes from a ring
    /// (IORING_OP_RECV multishot)
    Uring,
    /// Receives up to 64 datagrams per call (recvmmsg)
    Mmsg,
    /// Receives datagrams that the kernel has joined (UDP_GRO), several per call
    Gro,
}

/// What the sockets of a test are told, beyond the kernel's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketOptions {
    /// Whether Nagle's algorithm stays on.
    pub nagle: bool,
    /// Send and receive buffer in bytes, before the kernel doubles it.
    pub window_bytes: Option<u64>,
    /// The congestion control's name.
    pub congestion: Option<String>,
    /// The differentiated services code point.
    pub dscp: Option<u8>,
    /// Payload of the largest segment in bytes.
    pub segment_bytes: Option<u32>,
    /// The rate in bytes per second at which the kernel paces each flow.
    pub pacing_bytes_per_s: Option<u64>,
    /// For how many microseconds the kernel polls the device before it lets a receiver sleep.
    pub device_poll_us: Option<u32>,
}

impl SocketOptions {
    /// The options for flows of this transport, of a test that also has flows of the other: what only
    /// TCP knows, or does by itself as it paces, is meant for those that are TCP's.
    fn beside(&self, transport: Transport, other: Transport) -> Self {
        if transport == Transport::Tcp || other != Transport::Tcp {
            return self.clone();
        }
        Self {
            nagle: false,
            congestion: None,
            segment_bytes: None,
            pacing_bytes_per_s: None,
            ..self.clone()
        }
    }
}

impl Test {
    /// The tests of one shape each that the test consists of, side by side: under load the probe,
    /// then the streams; of all others itself.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let Shape::UnderLoad {
            probe,
            length_bytes,
            direction,
        } = &self.shape
        else {
            return vec![self.clone()];
        };
        let streams = Self {
            shape: Shape::Stream {
                length_bytes: *length_bytes,
                direction: *direction,
            },
            socket: self.socket.beside(self.transport, probe.transport),
            ..self.clone()
        };
        let probe = Self {
            transport: probe.transport,
            shape: Shape::RequestResponse {
                request_bytes: probe.request_bytes,
                response_bytes: probe.response_bytes,
            },
            engine: Engine::Plain,
            receive: Receive::Plain,
            socket: SocketOptions {
                nagle: false,
                ..self.socket.beside(probe.transport, self.transport)
            },
            arrival: probe.arrival.clone(),
            flows: 1,
            threads: 1,
            ..self.clone()
        };
        vec![probe, streams]
    }

    /// How many connections the test needs.
    #[must_use]
    pub fn connections(&self) -> u32 {
        match self.shape {
            Shape::RequestResponse { .. } | Shape::Incast { .. } => self.flows,
            Shape::Stream {
                direction: Direction::Bidirectional,
                ..
            } => self.flows * 2,
            Shape::Stream { .. } => self.flows,
            Shape::ConnectRequestResponse { .. } => 0,
            Shape::UnderLoad { .. } => self.parts().iter().map(Self::connections).sum(),
        }
    }

    /// The schedule of the test's sends, where it is a stream and has one.
    #[must_use]
    pub fn stream_arrival(&self) -> Option<&Arrival> {
        let stream = matches!(self.shape, Shape::Stream { .. });
        self.arrival.as_ref().filter(|_| stream)
    }

    /// The schedule of the test's requests, where it has any and they have one.
    #[must_use]
    pub fn request_arrival(&self) -> Option<&Arrival> {
        match &self.shape {
            Shape::RequestResponse { .. } => self.arrival.as_ref(),
            Shape::UnderLoad { probe, .. } => probe.arrival.as_ref(),
            _ => None,
        }
    }

    /// Payload bytes per second that the test keeps to in all its directions together, be it by the
    /// kernel's pacing or by a schedule; `None` where nothing holds it.
    #[must_use]
    pub fn bytes_per_s(&self) -> Option<f64> {
        let parts = self.parts();
        if parts.len() > 1 {
            return parts.iter().map(Self::bytes_per_s).sum();
        }
        let scheduled = self.arrival.as_ref().and_then(|arrival| match self.shape {
            Shape::Stream {
                length_bytes,
                direction,
            } => {
                let directions = match direction {
                    Direction::Bidirectional => 2.0,
                    Direction::Forward | Direction::Reverse => 1.0,
                };
                Some(arrival.rate_per_s * length_bytes as f64 * directions)
            }
            Shape::RequestResponse {
                request_bytes,
                response_bytes,
            } => Some(arrival.rate_per_s * (request_bytes + response_bytes) as f64),
            _ => None,
        });
        // The kernel paces UDP only where a queueing discipline does it.
        let by_kernel = self.socket.pacing_bytes_per_s;
        let by_kernel = by_kernel.filter(|_| self.transport == Transport::Tcp);
        let paced = by_kernel.map(|rate| rate as f64 * f64::from(self.lanes()));
        match (scheduled, paced) {
            (Some(scheduled), Some(paced)) => Some(scheduled.min(paced)),
            (scheduled, paced) => scheduled.or(paced),
        }
    }

    /// Most operations that one call sends.
    #[must_use]
    pub fn batch(&self) -> u64 {
        match (self.engine, &self.shape) {
            (Engine::Mmsg, Shape::Stream { .. }) => BATCH as u64,
            (Engine::Txtime, Shape::Stream { .. }) => {
                let rate_per_s = self
                    .arrival
                    .as_ref()
                    .map_or(0.0, |arrival| arrival.rate_per_s);
                timed::batch(rate_per_s / f64::from(self.threads)) as u64
            }
            (Engine::Gso, Shape::Stream { length_bytes, .. }) => {
                (MAX_DATAGRAM / length_bytes.max(&1)).clamp(1, BATCH as u64)
            }
            (Engine::Uring | Engine::UringZerocopy, Shape::Stream { length_bytes, .. }) => {
                match self.transport {
                    Transport::Udp => BATCH as u64,
                    _ => uring::stream::depth(*length_bytes as usize) as u64,
                }
            }
            _ => 1,
        }
    }

    /// Whether connections come and go during the test.
    #[must_use]
    pub fn has_door(&self) -> bool {
        matches!(self.shape, Shape::ConnectRequestResponse { .. })
    }

    /// Whether a side has to be told over the control channel that the other starts no more.
    #[must_use]
    pub fn ends_by_word(&self) -> bool {
        let datagrams = |part: &Self| part.transport == Transport::Udp;
        self.has_door() || self.parts().iter().any(datagrams)
    }

    /// How many flows are counted one by one; connections that come and go count by thread.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        match self.shape {
            Shape::ConnectRequestResponse { .. } => self.flows,
            _ => self.connections(),
        }
    }

    /// The name of the case that the test belongs to.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match (self.transport, &self.shape) {
            (Transport::Tcp, Shape::RequestResponse { .. }) => "tcp_rr",
            (Transport::Tcp, Shape::Stream { .. }) => "tcp_stream",
            (_, Shape::ConnectRequestResponse { .. }) => "tcp_crr",
            (_, Shape::UnderLoad { .. }) => "under_load",
            (_, Shape::Incast { .. }) => "incast",
            (Transport::Udp, Shape::RequestResponse { .. }) => "udp_rr",
            (Transport::Udp, Shape::Stream { .. }) => "udp_stream",
            (Transport::Unix, Shape::RequestResponse { .. }) => "unix_rr",
            (Transport::Unix, Shape::Stream { .. }) => "unix_stream",
        }
    }
}

/// A small test of requests and responses, for tests to change.
#[cfg(test)]
pub(crate) fn example() -> Test {
    Test {
        transport: Transport::Tcp,
        shape: Shape::RequestResponse {
            request_bytes: 1,
            response_bytes: 1,
        },
        engine: Engine::Plain,
        receive: Receive::Plain,
        busy_poll: false,
        socket: SocketOptions::default(),
        arrival: None,
        placement: Placement::default(),
        flows: 2,
        threads: 2,
        duration_s: 1.0,
        operations: None,
        omit_s: 0.0,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}
