//! What client and server say to each other once they trust each other.
//!
//! The client sends a [`Request::Test`], and another when that is over, if it likes; the server
//! answers [`Reply::Ready`] with the addresses and the token of the data connections, then
//! [`Reply::Stand`] when those of a part stand, [`Reply::Go`] when all do, and at the end
//! [`Reply::Done`] with what it measured. Either may ask the other to stop in between. Over UDP
//! each side says when it starts no more traffic ([`Request::Ended`], [`Reply::Ended`]). A test over
//! an RDMA device begins with [`Request::Rdma`] and [`Reply::Joined`], and while it runs both sides say
//! [`Word`]s. Whoever has servers measure among each other asks each what it is
//! ([`Request::Describe`], [`Reply::Machine`]) and sends it on errands to the others
//! ([`Request::Errand`], [`Reply::Brought`]). At any time
//! the server may send [`Reply::Failed`] or [`Reply::Unavailable`], which is its last word.

use crate::errand::{Brought, Errand};
use crate::observe::Observed;
use crate::observe::queues::Steering;
use crate::rdma::conduct::Word;
use crate::rdma::side::Way;
use crate::rdma::test::RdmaTest;
use crate::test::Test;
use crate::transport::rendezvous::{DataAddress, Token};
use crate::workload::outlet::ZeroCopy;
use crate::workload::schedule::Schedule;
use crate::workload::sequence::Datagrams;
use crate::workload::uring::RingUse;
use reports::host::Host;
use reports::model::{Fact, Flag, Interval, Work};
use serde::{Deserialize, Serialize};

/// What a client may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Take part in this test.
    Test(Box<Test>),
    /// Stop sending: the client was told to end early.
    Stop,
    /// The client starts no more traffic; of transports that cannot say it themselves.
    Ended,
    /// Take part in this test over an RDMA device.
    Rdma(Box<RdmaTest>),
    /// What is said while such a test runs.
    Word(Word),
    /// Say what machine you are on.
    Describe,
    /// Be the client of another server in a test.
    Errand(Box<Errand>),
}

/// What a server may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The data connections may come.
    Ready(Box<Ready>),
    /// Those of one part of the test stand.
    Stand,
    /// All of them stand, and the server's threads start.
    Go,
    /// Stop sending: the server was told to end. Its result follows.
    Stop,
    /// The server starts no more traffic; of transports that cannot say it themselves.
    Ended,
    /// The server takes part in a test over an RDMA device; what its machine is like, where that is
    /// not the client's own.
    Joined(Box<Option<Host>>),
    /// What is said while such a test runs.
    Word(Word),
    /// The server's part is over.
    Done(Vec<Leg>),
    /// What machine the server is on.
    Machine(Box<Host>),
    /// What an errand brought.
    Brought(Box<Brought>),
    /// The server's machine does not offer what the test asks for.
    Unavailable {
        /// What it is, the kernel's word, and what would make it run.
        reason: String,
    },
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
    /// Where the data connections go, by part of the test.
    pub data: Vec<DataAddress>,
    /// What each data connection must show first, so that no stranger takes part.
    pub token: Token,
    /// What the server's machine is like; absent where it is the client's own.
    pub host: Option<Host>,
    /// How the server's device chooses receive queues, where the test wants to know.
    pub steering: Option<Steering>,
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
    /// What was behind the numbers, where the role had connections to observe.
    #[serde(default)]
    pub observed: Option<Box<Observed>>,
    /// What speaks against the numbers.
    pub flags: Vec<Flag>,
    /// The window in slices, at most [`crate::test::MAX_INTERVALS`].
    pub intervals: Vec<Interval>,
    /// Payload bytes of each flow from its first to its last, warm-up included.
    pub flow_bytes: Vec<u64>,
    /// The socket buffer of the role's direction at the end, in bytes, for the first flow; of flows
    /// that stand.
    pub buffer_bytes: Option<Fact<f64>>,
    /// The maximum segment size of the first flow at its start, in bytes; of TCP only.
    pub max_segment_bytes: Option<Fact<f64>>,
    /// The congestion control of the first flow; of TCP only.
    pub congestion_control: Option<Fact<String>>,
    /// What became of its datagrams; of UDP only.
    pub datagrams: Option<Datagrams>,
    /// How its schedule was kept; of open loops only.
    pub schedule: Option<Schedule>,
    /// What became of its sends without a copy; of the engine that has such.
    pub zerocopy: Option<ZeroCopy>,
    /// What an RDMA device did; of tests over one.
    #[serde(default)]
    pub way: Option<Box<Way>>,
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
            .chain(self.flow_bytes.iter().copied())
            .chain(self.datagrams.iter().flat_map(Datagrams::counts))
            .chain(self.schedule.iter().flat_map(Schedule::counts))
            .chain(self.zerocopy.iter().flat_map(ZeroCopy::counts))
            .chain(self.way.iter().flat_map(|way| way.counts()))
            .chain(self.observed.iter().flat_map(|observed| {
                let ring = observed.ring.as_ref();
                ring.map(RingUse::counts).into_iter().flatten()
            }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::example;

    #[test]
    fn numbers_that_no_measurement_gives_are_refused() {
        let leg = Leg {
            role: Role::Receive,
            work: Work { ops: 1, bytes: 1 },
            elapsed_s: 1.0,
            cpu_s: 0.0,
            verified: String::new(),
            observed: None,
            flags: Vec::new(),
            intervals: Vec::new(),
            flow_bytes: vec![1],
            buffer_bytes: Some(Fact::Known(1.0)),
            max_segment_bytes: None,
            congestion_control: None,
            datagrams: None,
            schedule: None,
            zerocopy: None,
            way: None,
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
        let text =
            serde_json::to_string(&Request::Test(Box::new(example()))).expect("it serialises");
        assert_eq!(
            serde_json::from_str::<Request>(&text).expect("it comes back"),
            Request::Test(Box::new(example()))
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
