//! What client and server say to each other once they trust each other.
//!
//! The client sends one [`Request::Test`]; the server answers [`Reply::Ready`] with the port and
//! the token of the data connections, then [`Reply::Go`] when all of them stand, and at the end
//! [`Reply::Done`] with what it measured. The client may send [`Request::Stop`] in between. At any
//! time the server may send [`Reply::Failed`], which is its last word.

use crate::observe::Observed;
use reports::host::Host;
use reports::model::{Fact, Flag, Interval, Work};
use serde::{Deserialize, Serialize};

/// Most flows of one test.
pub const MAX_FLOWS: u32 = 1024;
/// Most threads on one side of a test.
pub const MAX_THREADS: u32 = 128;
/// Longest measured window or warm-up, in seconds: one day.
pub const MAX_SECONDS: f64 = 86_400.0;
/// Largest buffer of a stream, largest request and response, in bytes.
pub const MAX_LENGTH: u64 = 64 << 20;
/// Most buffer memory that one side spends on one test, in bytes.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Most slices that a side reports.
pub const MAX_INTERVALS: usize = 10_000;

/// What a client may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Take part in this test.
    Test(Test),
    /// Stop sending: the client was told to end early.
    Stop,
}

/// What a server may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The data connections may come.
    Ready(Box<Ready>),
    /// All of them stand, and the server's threads start.
    Go,
    /// The server's part is over.
    Done(Vec<Leg>),
    /// The server's part failed, or never began.
    Failed {
        /// What was tried, on what, and what happened.
        error: String,
    },
}

/// Where the data goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The port of the data listener, on the address of the control channel.
    pub port: u16,
    /// What each data connection must show first, so that no stranger takes part.
    pub token: [u8; 16],
    /// What the server's machine is like; absent where it is the client's own.
    pub host: Option<Host>,
}

/// A test, as both sides carry it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// What moves.
    pub shape: Shape,
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
    /// As many bytes as go through.
    Stream {
        /// Bytes per send and most bytes per receive.
        length_bytes: u64,
        /// Who sends.
        direction: Direction,
    },
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

/// What a thread of one side does with its flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sends requests and times their responses.
    Request,
    /// Answers requests.
    Respond,
    /// Sends a stream.
    Send,
    /// Receives a stream.
    Receive,
}

impl Role {
    /// The role that the other side plays against this one.
    #[must_use]
    pub fn counterpart(self) -> Self {
        match self {
            Self::Request => Self::Respond,
            Self::Respond => Self::Request,
            Self::Send => Self::Receive,
            Self::Receive => Self::Send,
        }
    }
}

/// What one side measured in one role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// The role.
    pub role: Role,
    /// Work completed in the side's own measured window.
    pub work: Work,
    /// Length of that window in seconds.
    pub elapsed_s: f64,
    /// CPU seconds of the role's threads in that window, user mode and kernel together.
    pub cpu_s: f64,
    /// What was proven, in words and numbers.
    pub verified: String,
    /// What speaks against the numbers.
    pub flags: Vec<Flag>,
    /// The window in slices, at most [`MAX_INTERVALS`].
    pub intervals: Vec<Interval>,
    /// Payload bytes of each flow from its first to its last, warm-up included.
    pub flow_bytes: Vec<u64>,
    /// The socket buffer of the role's direction at the end, in bytes, for the first flow.
    pub buffer_bytes: Fact<f64>,
    /// The maximum segment size of the first flow at its start, in bytes.
    pub max_segment_bytes: Fact<f64>,
    /// What was behind the numbers, where the role had connections to observe.
    #[serde(default)]
    pub observed: Option<Box<Observed>>,
}

/// More operations or bytes than any machine moves in a day; sums of them do not overflow.
const MAX_AMOUNT: u64 = 1 << 56;

impl Leg {
    /// Refuses numbers that no measurement gives, so that nothing downstream computes with them.
    ///
    /// # Errors
    /// Which number it is.
    pub fn check(&self) -> Result<(), String> {
        let amounts = [self.work.ops, self.work.bytes];
        let of_slices = self.intervals.iter().map(|slice| slice.work);
        let of_slices = of_slices.flat_map(|work| [work.ops, work.bytes]);
        let mut all = amounts
            .into_iter()
            .chain(of_slices)
            .chain(self.flow_bytes.iter().copied());
        if let Some(amount) = all.find(|&amount| amount > MAX_AMOUNT) {
            return Err(format!(
                "{amount} operations or bytes in the role {:?}",
                self.role
            ));
        }
        let in_order = self.intervals.iter().all(|slice| slice.t0_s <= slice.t1_s);
        if !(self.elapsed_s >= 0.0 && self.cpu_s >= 0.0 && in_order) {
            return Err(format!(
                "times that run backwards in the role {:?}",
                self.role
            ));
        }
        Ok(())
    }
}

impl Test {
    /// How many connections the test needs.
    #[must_use]
    pub fn connections(&self) -> u32 {
        match self.shape {
            Shape::Stream {
                direction: Direction::Bidirectional,
                ..
            } => self.flows * 2,
            _ => self.flows,
        }
    }

    /// Refuses what no side should be asked to do. The client checks its own command line with
    /// this, and the server whatever a client sends.
    ///
    /// # Errors
    /// The option as it is spelled on the command line, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let count = |name: &str, value: u32, most: u32| {
            let fits = (1..=most).contains(&value);
            fits.then_some(())
                .ok_or_else(|| format!("{name} {value}: from 1 to {most}"))
        };
        let seconds = |name: &str, value: f64, least: f64| {
            let fits = (least..=MAX_SECONDS).contains(&value);
            fits.then_some(())
                .ok_or_else(|| format!("{name} {value}: from {least} to {MAX_SECONDS} seconds"))
        };
        count("--flows", self.flows, MAX_FLOWS)?;
        count("--threads", self.threads, MAX_THREADS)?;
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
        self.check_memory()
    }

    fn check_memory(&self) -> Result<(), String> {
        let length = |name: &str, bytes: u64| {
            let fits = (1..=MAX_LENGTH).contains(&bytes);
            fits.then_some(())
                .ok_or_else(|| format!("{name} {bytes}: from 1 byte to {MAX_LENGTH} (64M)"))
        };
        let (buffers, bytes) = match self.shape {
            Shape::RequestResponse {
                request_bytes,
                response_bytes,
            } => {
                length("--request-size", request_bytes)?;
                length("--response-size", response_bytes)?;
                (self.flows, request_bytes + response_bytes)
            }
            Shape::Stream { length_bytes, .. } => {
                length("--length", length_bytes)?;
                (self.threads, length_bytes)
            }
        };
        let memory = u64::from(buffers) * bytes;
        if memory > MAX_MEMORY {
            return Err(format!(
                "{buffers} buffers of {bytes} bytes are more than the {MAX_MEMORY} bytes (1G) that \
                 one side may use: choose fewer flows or threads, or shorter messages"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test() -> Test {
        Test {
            shape: Shape::RequestResponse {
                request_bytes: 1,
                response_bytes: 1,
            },
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
        let faults: [(&str, Spoil); 9] = [
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
        ];
        assert_eq!(test().check(), Ok(()));
        for (name, spoil) in faults {
            let mut spoilt = test();
            spoil(&mut spoilt);
            let error = spoilt.check().expect_err(name);
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn numbers_that_no_measurement_gives_are_refused() {
        let leg = Leg {
            role: Role::Receive,
            work: Work { ops: 1, bytes: 1 },
            elapsed_s: 1.0,
            cpu_s: 0.0,
            verified: String::new(),
            flags: Vec::new(),
            intervals: Vec::new(),
            flow_bytes: vec![1],
            buffer_bytes: Fact::Known(1.0),
            max_segment_bytes: Fact::Known(1.0),
            observed: None,
        };
        assert_eq!(leg.check(), Ok(()));
        type Spoil = fn(&mut Leg);
        let faults: [Spoil; 4] = [
            |leg| leg.work.bytes = u64::MAX,
            |leg| leg.flow_bytes[0] = u64::MAX,
            |leg| leg.elapsed_s = -1.0,
            |leg| leg.cpu_s = f64::NAN,
        ];
        for spoil in faults {
            let mut spoilt = leg.clone();
            spoil(&mut spoilt);
            assert!(spoilt.check().is_err());
        }
    }

    #[test]
    fn messages_of_other_shapes_are_not_messages() {
        let text = serde_json::to_string(&Request::Test(test())).expect("it serialises");
        assert_eq!(
            serde_json::from_str::<Request>(&text).expect("it comes back"),
            Request::Test(test())
        );
        let extra = text.replacen("{\"test\":{", "{\"test\":{\"sudo\":true,", 1);
        for bad in [
            extra.as_str(),
            "\"go\"",
            "{}",
            "[]",
            "null",
            "{\"stop\":{}}",
            "",
        ] {
            assert!(serde_json::from_str::<Request>(bad).is_err(), "{bad}");
        }
    }
}
