//! The description of a test: all that both sides need to know, in one message.
//!
//! A test is a transport, a shape, an engine and the options of its sockets, with an amount of
//! work. The client makes it from its command line and sends it over the control channel; the
//! server has no flags of its own for any of it. Because a stranger may have written it, the server
//! checks whatever it is sent with the same [`Test::check`] that checks a command line.

use crate::place::Placement;
use crate::place::pin::Pin;
use crate::workload::incast::REQUEST_BYTES;
use crate::workload::udp_stream::{BATCH, NUMBER_BYTES};
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
/// Fewest requests per second of an open loop.
const MIN_RATE: f64 = 0.01;
/// Most requests per second of an open loop.
const MAX_RATE: f64 = 1e8;
/// Longest name of a congestion control, as the kernel has it.
const MAX_CONGESTION_NAME: usize = 15;
/// Largest differentiated services code point: it has six bits.
const MAX_DSCP: u8 = 63;
/// Largest socket buffer that may be asked for, in bytes: the kernel doubles it into 31 bits.
const MAX_WINDOW: u64 = 1 << 29;

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
    /// When requests or a stream's sends go; absent where each follows the one before at once.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Requests and responses on one flow, while streams keep the way busy.
    UnderLoad {
        /// Payload bytes of a request.
        request_bytes: u64,
        /// Payload bytes of a response.
        response_bytes: u64,
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

/// The sizes of a transaction's messages, or of a stream's buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Buffers {
    count: u32,
    bytes: u64,
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    let fits = (least..=most).contains(&value);
    fits.then_some(())
        .ok_or_else(|| format!("{name} {value}: from {least} to {most}"))
}

fn seconds(name: &str, value: f64, least: f64) -> Result<(), String> {
    let fits = (least..=MAX_SECONDS).contains(&value);
    fits.then_some(())
        .ok_or_else(|| format!("{name} {value}: from {least} to {MAX_SECONDS} seconds"))
}

fn length(name: &str, bytes: u64, transport: Transport) -> Result<(), String> {
    if transport == Transport::Udp {
        let fits = (1..=MAX_DATAGRAM).contains(&bytes);
        return fits.then_some(()).ok_or_else(|| {
            format!("{name} {bytes}: from 1 byte to {MAX_DATAGRAM}, which is all a datagram holds")
        });
    }
    let fits = (1..=MAX_LENGTH).contains(&bytes);
    fits.then_some(())
        .ok_or_else(|| format!("{name} {bytes}: from 1 byte to {MAX_LENGTH} (64M)"))
}

impl Test {
    /// How many connections the test needs.
    #[must_use]
    pub fn connections(&self) -> u32 {
        let streams = |direction| match direction {
            Direction::Bidirectional => self.flows * 2,
            Direction::Forward | Direction::Reverse => self.flows,
        };
        match self.shape {
            Shape::RequestResponse { .. } | Shape::Incast { .. } => self.flows,
            Shape::Stream { direction, .. } => streams(direction),
            Shape::UnderLoad { direction, .. } => 1 + streams(direction),
            Shape::ConnectRequestResponse { .. } => 0,
        }
    }

    /// The schedule of the test's sends, where it is a stream and has one. Beside streams that load
    /// the way a schedule is the probe's.
    #[must_use]
    pub fn stream_arrival(&self) -> Option<&Arrival> {
        let stream = matches!(self.shape, Shape::Stream { .. });
        self.arrival.as_ref().filter(|_| stream)
    }

    /// Most operations that one call sends.
    #[must_use]
    pub fn batch(&self) -> u64 {
        match (self.engine, &self.shape) {
            (Engine::Mmsg, Shape::Stream { .. }) => BATCH as u64,
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
        self.transport == Transport::Udp || self.has_door()
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

    /// Refuses what no side should be asked to do. The client checks its own command line with
    /// this, and the server whatever a client sends.
    ///
    /// # Errors
    /// The option as it is spelled on the command line, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        within("--flows", self.flows.into(), 1, MAX_FLOWS.into())?;
        within("--threads", self.threads.into(), 1, MAX_THREADS.into())?;
        if self.threads > self.flows {
            return Err(format!(
                "--threads {} is more than --flows {}: a thread needs a flow of its own",
                self.threads, self.flows
            ));
        }
        seconds("--time", self.duration_s, 0.01)?;
        seconds("--omit", self.omit_s, 0.0)?;
        seconds("--interval", self.interval_s, 0.01)?;
        seconds("--timeout", self.timeout_s, 0.1)?;
        if self.operations == Some(0) {
            return Err("--operations 0: at least 1".to_owned());
        }
        if self.operations.is_none() && self.duration_s / self.interval_s > MAX_INTERVALS as f64 {
            return Err(format!(
                "--interval {} cuts --time {} into more than {MAX_INTERVALS} slices: choose a \
                 longer interval",
                self.interval_s, self.duration_s
            ));
        }
        self.check_memory()?;
        self.check_engine()?;
        self.check_arrival()?;
        self.check_placement()?;
        self.socket.check(self.transport)
    }

    fn check_engine(&self) -> Result<(), String> {
        let stream = match self.shape {
            Shape::Stream { .. } | Shape::UnderLoad { .. } => Some(self.transport),
            _ => None,
        };
        match (self.engine, stream) {
            (Engine::Plain, _)
            | (Engine::More, Some(Transport::Tcp))
            | (Engine::Zerocopy | Engine::Sendfile | Engine::Splice, Some(Transport::Tcp))
            | (Engine::Uring, Some(Transport::Tcp | Transport::Udp))
            | (Engine::UringZerocopy, Some(Transport::Tcp))
            | (Engine::Mmsg | Engine::Gso, Some(Transport::Udp)) => {}
            (Engine::More, _) => {
                return Err("--engine more: MSG_MORE gathers segments of TCP streams".to_owned());
            }
            (Engine::Zerocopy | Engine::Sendfile | Engine::Splice, _) => {
                return Err(
                    "--engine zerocopy, sendfile, splice: these send TCP streams".to_owned(),
                );
            }
            (Engine::Uring, _) => {
                return Err("--engine uring: it sends streams over TCP and UDP".to_owned());
            }
            (Engine::UringZerocopy, _) => {
                return Err("--engine uring-zerocopy: it sends TCP streams".to_owned());
            }
            (Engine::Mmsg | Engine::Gso, _) => {
                return Err("--engine mmsg, gso: these send streams of datagrams".to_owned());
            }
        }
        let ring = matches!(self.engine, Engine::Uring | Engine::UringZerocopy)
            || self.receive == Receive::Uring;
        let alone = !matches!(self.engine, Engine::Plain | Engine::More)
            || !matches!(self.receive, Receive::Plain);
        let alone = ring || (stream == Some(Transport::Tcp) && alone);
        if alone && self.threads != self.flows {
            return Err(format!(
                "--threads {} for --flows {}: with this --engine or --receive a thread serves one \
                 flow; leave --threads out",
                self.threads, self.flows
            ));
        }
        match (self.receive, stream) {
            (Receive::Plain, _)
            | (Receive::Discard | Receive::Splice, Some(Transport::Tcp))
            | (Receive::Uring, Some(Transport::Tcp | Transport::Udp))
            | (Receive::Mmsg | Receive::Gro, Some(Transport::Udp)) => Ok(()),
            (Receive::Discard | Receive::Splice, _) => {
                Err("--receive discard, splice: these receive TCP streams".to_owned())
            }
            (Receive::Uring, _) => {
                Err("--receive uring: it receives streams over TCP and UDP".to_owned())
            }
            (Receive::Mmsg | Receive::Gro, _) => {
                Err("--receive mmsg, gro: these receive streams of datagrams".to_owned())
            }
        }
    }

    fn check_arrival(&self) -> Result<(), String> {
        let Some(arrival) = &self.arrival else {
            return Ok(());
        };
        if !(MIN_RATE..=MAX_RATE).contains(&arrival.rate_per_s) {
            let what = match self.shape {
                Shape::Stream { .. } => "sends of --length bytes (--bitrate / 8 / --length)",
                _ => "requests",
            };
            return Err(format!(
                "--rate {}: from {MIN_RATE} to {MAX_RATE} {what} per second",
                arrival.rate_per_s
            ));
        }
        let gap_s = self.batch() as f64 / arrival.rate_per_s;
        if gap_s > self.timeout_s {
            return Err(format!(
                "--rate {}: {gap_s} s pass between two calls that send, and a test in which nothing \
                 moves for --timeout {} is given up: raise it",
                arrival.rate_per_s, self.timeout_s
            ));
        }
        let (request_bytes, response_bytes) = match self.shape {
            Shape::RequestResponse {
                request_bytes,
                response_bytes,
            }
            | Shape::UnderLoad {
                request_bytes,
                response_bytes,
                ..
            } => (request_bytes, response_bytes),
            Shape::Stream { .. } if arrival.process == Process::Const => return Ok(()),
            Shape::Stream { .. } => {
                return Err("--arrival: streams are sent at equal distances only".to_owned());
            }
            Shape::ConnectRequestResponse { .. } | Shape::Incast { .. } => {
                return Err(
                    "--rate: only requests on standing flows and streams go by a schedule"
                        .to_owned(),
                );
            }
        };
        if self.transport == Transport::Udp && request_bytes.min(response_bytes) < 8 {
            return Err(
                "--rate over UDP: the number that tells which request a response belongs to takes \
                 8 bytes: --request-size 8 --response-size 8, or more"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn check_placement(&self) -> Result<(), String> {
        let Placement {
            client,
            server,
            queues,
        } = &self.placement;
        let by_queue = [client, server]
            .iter()
            .any(|pin| matches!(pin, Pin::RxQueue { .. }));
        if by_queue && self.transport == Transport::Unix {
            return Err(
                "--pin rx-queue: Unix sockets have no receive queue; name CPUs instead".to_owned(),
            );
        }
        let led = queues.is_some();
        if led && (self.transport == Transport::Unix || self.has_door()) {
            return Err(format!(
                "--queues: the flows of {} have no source ports to choose; tcp_rr, udp_rr and \
                 streams have",
                self.name()
            ));
        }
        Ok(())
    }

    fn need_tcp(&self) -> Result<(), String> {
        let fits = self.transport == Transport::Tcp;
        fits.then_some(())
            .ok_or_else(|| format!("{} goes over TCP only", self.name()))
    }

    /// The buffer memory that one side needs, in bytes; of a test that passes [`Test::check`].
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.buffers()
            .map_or(0, |buffers| u64::from(buffers.count) * buffers.bytes)
    }

    fn check_memory(&self) -> Result<(), String> {
        let Buffers { count, bytes } = self.buffers()?;
        if u64::from(count) * bytes > MAX_MEMORY {
            return Err(format!(
                "{count} buffers of {bytes} bytes are more than the {MAX_MEMORY} bytes (1G) that \
                 one side may use: choose fewer flows or threads, or shorter messages"
            ));
        }
        Ok(())
    }

    /// Bytes of the buffers of a stream's thread.
    fn stream_bytes(&self, length_bytes: u64) -> u64 {
        match self.receive {
            Receive::Uring => length_bytes * u64::from(uring::buffers(length_bytes)),
            _ => length_bytes,
        }
    }

    /// What one side allocates, once each length is known to be possible.
    fn buffers(&self) -> Result<Buffers, String> {
        match self.shape {
            Shape::RequestResponse {
                request_bytes,
                response_bytes,
            } => {
                length("--request-size", request_bytes, self.transport)?;
                length("--response-size", response_bytes, self.transport)?;
                Ok(Buffers {
                    count: self.flows,
                    bytes: request_bytes + response_bytes,
                })
            }
            Shape::ConnectRequestResponse {
                request_bytes,
                response_bytes,
            } => {
                self.need_tcp()?;
                length("--request-size", request_bytes, self.transport)?;
                length("--response-size", response_bytes, self.transport)?;
                if self.flows != self.threads {
                    return Err("--flows: each thread makes one connection at a time".to_owned());
                }
                Ok(Buffers {
                    count: self.threads,
                    bytes: request_bytes + response_bytes,
                })
            }
            Shape::UnderLoad {
                request_bytes,
                response_bytes,
                length_bytes,
                ..
            } => {
                self.need_tcp()?;
                length("--request-size", request_bytes, self.transport)?;
                length("--response-size", response_bytes, self.transport)?;
                length("--length", length_bytes, self.transport)?;
                Ok(Buffers {
                    count: self.threads + 1,
                    bytes: self
                        .stream_bytes(length_bytes)
                        .max(request_bytes + response_bytes),
                })
            }
            Shape::Incast { length_bytes } => {
                self.need_tcp()?;
                length("--length", length_bytes, self.transport)?;
                Ok(Buffers {
                    count: self.flows,
                    bytes: REQUEST_BYTES + length_bytes,
                })
            }
            Shape::Stream { length_bytes, .. } => {
                length("--length", length_bytes, self.transport)?;
                if self.transport == Transport::Udp && length_bytes < NUMBER_BYTES as u64 {
                    return Err(format!(
                        "--length {length_bytes}: a numbered datagram has at least {NUMBER_BYTES} \
                         bytes"
                    ));
                }
                Ok(Buffers {
                    count: self.threads,
                    bytes: self.stream_bytes(length_bytes),
                })
            }
        }
    }
}

impl SocketOptions {
    fn check(&self, transport: Transport) -> Result<(), String> {
        if let Some(bytes) = self.window_bytes {
            within("--window", bytes, 1, MAX_WINDOW)?;
        }
        if let Some(dscp) = self.dscp {
            within("--dscp", dscp.into(), 0, MAX_DSCP.into())?;
        }
        if let Some(bytes) = self.segment_bytes {
            within("--mss", bytes.into(), 88, 65_495)?;
        }
        if let Some(rate) = self.pacing_bytes_per_s {
            within("--fq-rate", rate, 1, u64::from(u32::MAX) << 16)?;
        }
        if let Some(us) = self.device_poll_us {
            within("--so-busy-poll", us.into(), 1, 1_000_000)?;
        }
        if let Some(name) = &self.congestion {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let fits = (1..=MAX_CONGESTION_NAME).contains(&name.len()) && name.bytes().all(plain);
            if !fits {
                return Err(format!(
                    "--congestion {name:?}: a name of 1 to {MAX_CONGESTION_NAME} letters, digits, \
                     _ or -, of those in /proc/sys/net/ipv4/tcp_available_congestion_control"
                ));
            }
        }
        if transport != Transport::Tcp
            && let Some(option) = self.first_of_tcp()
        {
            return Err(format!("{option} is an option of TCP sockets only"));
        }
        if transport == Transport::Unix && self.dscp.is_some() {
            return Err("--dscp: Unix sockets have no IP header to mark".to_owned());
        }
        if transport == Transport::Unix && self.pacing_bytes_per_s.is_some() {
            return Err("--fq-rate: the kernel does not pace Unix sockets".to_owned());
        }
        Ok(())
    }

    /// An option that only TCP knows, if one is set.
    fn first_of_tcp(&self) -> Option<&'static str> {
        [
            (self.nagle, "--nagle"),
            (self.congestion.is_some(), "--congestion"),
            (self.segment_bytes.is_some(), "--mss"),
        ]
        .into_iter()
        .find_map(|(set, name)| set.then_some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test() -> Test {
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

    #[test]
    fn impossible_tests_are_refused_by_the_option_at_fault() {
        type Spoil = fn(&mut Test);
        let faults: &[(&str, Spoil)] = &[
            ("--flows", |t| t.flows = 0),
            ("--flows", |t| t.flows = MAX_FLOWS + 1),
            ("--threads", |t| t.threads = 3),
            ("--time", |t| t.duration_s = 0.0),
            ("--time", |t| t.duration_s = f64::NAN),
            ("--omit", |t| t.omit_s = -1.0),
            ("--interval", |t| t.interval_s = 0.000_05),
            ("--operations", |t| t.operations = Some(0)),
            ("buffers", |t| {
                t.flows = 1024;
                t.shape = Shape::RequestResponse {
                    request_bytes: MAX_LENGTH,
                    response_bytes: MAX_LENGTH,
                };
            }),
            ("buffers", |t| {
                t.flows = 1024;
                t.shape = Shape::Incast {
                    length_bytes: MAX_LENGTH,
                };
            }),
            ("incast goes over TCP", |t| {
                t.transport = Transport::Unix;
                t.shape = Shape::Incast { length_bytes: 1 };
            }),
            ("--window", |t| t.socket.window_bytes = Some(u64::MAX)),
            ("--dscp", |t| t.socket.dscp = Some(64)),
            ("--mss", |t| t.socket.segment_bytes = Some(0)),
            ("--fq-rate", |t| t.socket.pacing_bytes_per_s = Some(0)),
            ("--congestion", |t| {
                t.socket.congestion = Some("../../etc".to_owned());
            }),
            ("--congestion", |t| {
                t.socket.congestion = Some(String::new())
            }),
            ("--congestion", |t| {
                t.socket.congestion = Some("a_name_that_is_too_long".to_owned());
            }),
            ("--nagle", |t| {
                t.transport = Transport::Unix;
                t.socket.nagle = true;
            }),
            ("--length", |t| {
                t.transport = Transport::Udp;
                t.shape = Shape::Stream {
                    length_bytes: 7,
                    direction: Direction::Forward,
                };
            }),
            ("--request-size", |t| {
                t.transport = Transport::Udp;
                t.shape = Shape::RequestResponse {
                    request_bytes: 65_508,
                    response_bytes: 1,
                };
            }),
            ("--engine", |t| t.engine = Engine::Gso),
            ("--receive", |t| t.receive = Receive::Gro),
            ("--threads", |t| {
                t.shape = Shape::Stream {
                    length_bytes: 1,
                    direction: Direction::Forward,
                };
                t.receive = Receive::Discard;
                t.threads = 1;
            }),
            ("--receive", |t| t.receive = Receive::Discard),
            ("--engine", |t| t.engine = Engine::Sendfile),
            ("--rate", |t| {
                t.arrival = Some(Arrival {
                    rate_per_s: f64::NAN,
                    process: Process::Const,
                    seed: 0,
                });
            }),
            ("--timeout 10", |t| {
                t.arrival = Some(Arrival {
                    rate_per_s: 0.05,
                    process: Process::Const,
                    seed: 0,
                });
            }),
            ("--arrival", |t| {
                t.shape = Shape::Stream {
                    length_bytes: 1,
                    direction: Direction::Forward,
                };
                t.arrival = Some(Arrival {
                    rate_per_s: 10.0,
                    process: Process::Poisson,
                    seed: 0,
                });
            }),
            ("--rate", |t| {
                t.shape = Shape::Incast { length_bytes: 1 };
                t.arrival = Some(Arrival {
                    rate_per_s: 10.0,
                    process: Process::Const,
                    seed: 0,
                });
            }),
            ("--request-size 8", |t| {
                t.transport = Transport::Udp;
                t.arrival = Some(Arrival {
                    rate_per_s: 1.0,
                    process: Process::Const,
                    seed: 0,
                });
            }),
            ("--engine", |t| {
                t.transport = Transport::Udp;
                t.engine = Engine::More;
            }),
            ("--dscp", |t| {
                t.transport = Transport::Unix;
                t.socket.dscp = Some(1);
            }),
        ];
        assert_eq!(test().check(), Ok(()));
        for (name, spoil) in faults {
            let mut spoilt = test();
            spoil(&mut spoilt);
            let error = spoilt.check().expect_err(name);
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
