//! What no side should be asked to do, by the option at fault.

use super::{
    Engine, MAX_DATAGRAM, MAX_FLOWS, MAX_INTERVALS, MAX_LENGTH, MAX_MEMORY, MAX_SECONDS,
    MAX_THREADS, Process, Receive, Shape, SocketOptions, Test, Transport,
};
use crate::place::Placement;
use crate::place::pin::Pin;
use crate::workload::incast::REQUEST_BYTES;
use crate::workload::udp_stream::NUMBER_BYTES;
use crate::workload::uring;

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

/// The sizes of a transaction's messages, or of a stream's buffer, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Buffers {
    count: u32,
    bytes: u64,
}

/// Refuses what is out of range.
pub(crate) fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    let fits = (least..=most).contains(&value);
    fits.then_some(())
        .ok_or_else(|| format!("{name} {value}: from {least} to {most}"))
}

/// Refuses a time that is out of range.
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

/// How much is done, of tests of every kind.
pub(crate) struct Amount {
    pub(crate) duration_s: f64,
    pub(crate) operations: Option<u64>,
    pub(crate) omit_s: f64,
    pub(crate) interval_s: f64,
    pub(crate) timeout_s: f64,
}

impl Amount {
    /// Refuses times and counts that are out of range.
    pub(crate) fn check(&self) -> Result<(), String> {
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
        Ok(())
    }
}

impl Test {
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
        Amount {
            duration_s: self.duration_s,
            operations: self.operations,
            omit_s: self.omit_s,
            interval_s: self.interval_s,
            timeout_s: self.timeout_s,
        }
        .check()?;
        let parts = self.parts();
        if parts.len() > 1 && parts.iter().any(|part| part.transport == Transport::Unix) {
            return Err(format!(
                "{} has a probe and a load over TCP or UDP",
                self.name()
            ));
        }
        parts.iter().try_for_each(Self::check_part)?;
        self.check_memory()?;
        self.check_placement()
    }

    /// Refuses what no part of a test may be, of one shape as it is.
    fn check_part(&self) -> Result<(), String> {
        self.buffers()?;
        self.check_engine()?;
        self.check_arrival()?;
        self.socket.check(self.transport)
    }

    fn check_engine(&self) -> Result<(), String> {
        let stream = match self.shape {
            Shape::Stream { .. } => Some(self.transport),
            _ => None,
        };
        match (self.engine, stream) {
            (Engine::Plain, _)
            | (Engine::More, Some(Transport::Tcp))
            | (Engine::Zerocopy | Engine::Sendfile | Engine::Splice, Some(Transport::Tcp))
            | (Engine::Uring, Some(Transport::Tcp | Transport::Udp))
            | (Engine::UringZerocopy, Some(Transport::Tcp))
            | (Engine::Mmsg | Engine::Txtime | Engine::Gso, Some(Transport::Udp)) => {}
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
            (Engine::Mmsg | Engine::Txtime | Engine::Gso, _) => {
                return Err(
                    "--engine mmsg, txtime, gso: these send streams of datagrams".to_owned(),
                );
            }
        }
        if self.engine == Engine::Txtime && self.arrival.is_none() {
            return Err(
                "--engine txtime: at which rate? Give --bitrate or --rate; or use --engine mmsg"
                    .to_owned(),
            );
        }
        let ring = matches!(self.engine, Engine::Uring | Engine::UringZerocopy)
            || self.receive == Receive::Uring;
        if ring && self.busy_poll {
            return Err(
                "--busy-poll: io_uring waits for its answers by itself; leave it out, or choose \
                 another --engine and --receive"
                    .to_owned(),
            );
        }
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
            } => (request_bytes, response_bytes),
            Shape::Stream { .. } if arrival.process == Process::Const => return Ok(()),
            Shape::Stream { .. } => {
                return Err("--arrival: streams are sent at equal distances only".to_owned());
            }
            Shape::ConnectRequestResponse { .. }
            | Shape::Incast { .. }
            | Shape::UnderLoad { .. } => {
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
        let of_part = |part: &Self| {
            let buffers = part.buffers();
            buffers.map_or(0, |buffers| u64::from(buffers.count) * buffers.bytes)
        };
        self.parts().iter().map(of_part).sum()
    }

    fn check_memory(&self) -> Result<(), String> {
        let bytes = self.memory_bytes();
        if bytes > MAX_MEMORY {
            return Err(format!(
                "its buffers take {bytes} bytes, more than the {MAX_MEMORY} (1G) that one side may \
                 use: choose fewer flows or threads, or shorter messages"
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

    /// What one side allocates for a part of a test, once each length is known to be possible.
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
            Shape::UnderLoad { .. } => {
                Err("a probe and its load are checked one by one".to_owned())
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
    use crate::test::{Arrival, Direction, example};

    fn stream(length_bytes: u64) -> Shape {
        Shape::Stream {
            length_bytes,
            direction: Direction::Forward,
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
                t.shape = stream(7);
            }),
            ("--request-size", |t| {
                t.transport = Transport::Udp;
                t.shape = Shape::RequestResponse {
                    request_bytes: 65_508,
                    response_bytes: 1,
                };
            }),
            ("--engine", |t| t.engine = Engine::Gso),
            ("--engine txtime", |t| {
                t.transport = Transport::Udp;
                t.engine = Engine::Txtime;
                t.shape = stream(100);
            }),
            ("--receive", |t| t.receive = Receive::Gro),
            ("--threads", |t| {
                t.shape = stream(1);
                t.receive = Receive::Discard;
                t.threads = 1;
            }),
            ("--receive", |t| t.receive = Receive::Discard),
            ("--engine", |t| t.engine = Engine::Sendfile),
            ("--rate", |t| {
                t.arrival = Some(Arrival::evenly(f64::NAN));
            }),
            ("--timeout 10", |t| {
                t.arrival = Some(Arrival::evenly(0.05));
            }),
            ("--arrival", |t| {
                t.shape = stream(1);
                t.arrival = Some(Arrival {
                    rate_per_s: 10.0,
                    process: Process::Poisson,
                    seed: 0,
                });
            }),
            ("--rate", |t| {
                t.shape = Shape::Incast { length_bytes: 1 };
                t.arrival = Some(Arrival::evenly(10.0));
            }),
            ("--request-size 8", |t| {
                t.transport = Transport::Udp;
                t.arrival = Some(Arrival::evenly(1.0));
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
        assert_eq!(example().check(), Ok(()));
        for (name, spoil) in faults {
            let mut spoilt = example();
            spoil(&mut spoilt);
            let error = spoilt.check().expect_err(name);
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
