//! One side's part in a test over an RDMA device: its threads open their ports, drive them through
//! the same harness as all else, and what came of it is put together.

use super::ending::Ending;
use super::meeting::{Card, Meeting};
use super::port::{Delivery, Facts, Port};
use super::proof::{Claim, Counters, Proof};
use super::test::{Device, Measure, Operation, RdmaTest};
use super::work::fetch::Fetch;
use super::work::host::Host;
use super::work::lanes::{Lanes, Setting};
use super::work::pingpong::PingPong;
use super::work::window::Window;
use super::{fabric, verbs};
use crate::attend::Rope;
use crate::control::message::{Leg, Role};
use crate::observe::{Observed, Watch};
use crate::place::pin::pin_this_thread;
use crate::side::{End, INTERRUPTED, flag_request_to_stop};
use crate::test::MAX_INTERVALS;
use crate::workload::sequence::Datagrams;
use crate::workload::{Shared, Vitals};
use anyhow::Context;
use reports::measure::{self, Limit, Observer, Plan, Recorder, Totals, Verified, Workload};
use reports::model::{Fact, Flag, Severity, Unavailable, Work};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What carried a side's operations, and what is known of the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// What its first thread's port really used.
    pub facts: Facts,
    /// Operations posted, by lane, warm-up included.
    pub posted: Vec<u64>,
    /// Operations of the other side that arrived, by lane, as far as they leave a trace.
    pub received: Vec<u64>,
    /// Whether the device's counters account for the bytes.
    pub proof: Proof,
}

impl Way {
    /// All counts, to be checked.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        let (posted, received) = (self.posted.iter(), self.received.iter());
        posted.chain(received).copied()
    }
}

/// What a side did.
#[derive(Debug)]
pub struct Part {
    /// What the harness measured.
    pub totals: Totals,
    /// What travels to the other side.
    pub leg: Leg,
}

/// What threads find out, for the one who puts it together.
#[derive(Debug, Default)]
pub struct Found {
    facts: Option<Facts>,
    before: Option<Counters>,
    same_device: bool,
    posted: Vec<u64>,
    received: Vec<u64>,
    theirs: Vec<u64>,
    tally: Option<Datagrams>,
}

impl Found {
    /// For so many lanes.
    #[must_use]
    pub fn of(lanes: usize) -> Self {
        Self {
            posted: vec![0; lanes],
            received: vec![0; lanes],
            theirs: vec![0; lanes],
            ..Self::default()
        }
    }

    /// Adds what a thread counted on its lanes, from lane `first` on, and what its counterpart says
    /// that it posted on them.
    pub fn add(&mut self, first: usize, posted: &[u64], received: &[u64], theirs: &[u64]) {
        let lanes = first..first + posted.len();
        self.posted[lanes.clone()].copy_from_slice(posted);
        self.received[lanes.clone()].copy_from_slice(received);
        self.theirs[lanes].copy_from_slice(theirs);
    }

    /// Adds what became of a thread's messages that may be lost or come in any order.
    pub fn add_messages(&mut self, tally: Datagrams) {
        *self.tally.get_or_insert_default() += tally;
    }
}

/// The threads' way out to the control channel.
#[derive(Debug)]
pub struct Mail {
    /// What threads have to say.
    pub outbox: Receiver<Card>,
    /// Where each thread hears from its counterpart.
    pub inboxes: Vec<Sender<Card>>,
    sender: Sender<Card>,
    ears: Vec<Receiver<Card>>,
}

impl Mail {
    /// For so many threads.
    #[must_use]
    pub fn new(threads: u32) -> Self {
        let (sender, outbox) = channel();
        let (inboxes, ears) = (0..threads).map(|_| channel()).unzip();
        Self {
            outbox,
            inboxes,
            sender,
            ears,
        }
    }

    /// What the threads need of it, for the side; the rest stays with the control channel.
    #[must_use]
    pub fn split(self) -> (Post, Receiver<Card>, Vec<Sender<Card>>) {
        let post = Post {
            sender: self.sender,
            ears: self.ears,
        };
        (post, self.outbox, self.inboxes)
    }
}

/// The threads' ends of a [`Mail`].
#[derive(Debug)]
pub struct Post {
    sender: Sender<Card>,
    ears: Vec<Receiver<Card>>,
}

/// Carries out one end's part.
///
/// # Errors
/// The first error of any thread.
pub fn run(
    test: &RdmaTest,
    end: End,
    post: Post,
    (rope, address): (&Rope, IpAddr),
    (vitals, ending): (&Arc<Vitals>, &Arc<Ending>),
    observer: &dyn Observer,
) -> anyhow::Result<Part> {
    ending.tie(rope.again()?);
    let seats = seats(test, end)?;
    let lanes = test.lanes as usize;
    let shared = Shared::new(vitals, 0, lanes);
    let found = Arc::new(Mutex::new(Found::of(lanes)));
    let patience = Duration::from_secs_f64(test.timeout_s);
    let mut makers = Vec::new();
    for (thread, (ear, seat)) in post.ears.into_iter().zip(seats).enumerate() {
        let bell = rope.again()?;
        let ring = Box::new(move || bell.pull());
        let meeting = Meeting::new(thread as u32, post.sender.clone(), ear, ring, patience);
        let meeting = meeting.at(address);
        let maker = Maker {
            test: test.clone(),
            end,
            thread,
            seat,
            meeting,
            shared: shared.clone(),
            ending: Arc::clone(ending),
            found: Arc::clone(&found),
        };
        makers.push(move || maker.make());
    }
    drop(post.sender);
    let watch = Watch::start(Vec::new(), observer);
    let totals = measure::run_where_made(&plan(test, end), &watch, &[], makers);
    let mut totals = totals.inspect_err(|_| vitals.cut())?;
    flag_request_to_stop(&mut totals.validity, &shared);
    let mut observed = Box::new(watch.finish(&mut totals));
    observed.device = Fact::unavailable("see `way`: the device is not a socket's");
    observed.flows = Fact::unavailable("there are no sockets");
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    put_together(test, end, totals, observed, found)
}

/// How long nothing may move on this side before it gives up. Memory that is lent shows nothing; its
/// owner hears of the other side's death on the control channel.
#[must_use]
pub fn patience(test: &RdmaTest, end: End) -> Duration {
    if !starts(test, end) && lends(test) {
        Duration::MAX
    } else {
        Duration::from_secs_f64(test.timeout_s)
    }
}

/// The CPUs of a side's threads.
fn seats(test: &RdmaTest, end: End) -> anyhow::Result<Vec<Option<u32>>> {
    let (pin, option) = match end {
        End::Client => (&test.placement.client, "--pin"),
        End::Server => (&test.placement.server, "--server-pin (or --pin)"),
    };
    pin.place_at_door(test.threads as usize)
        .with_context(|| format!("{option} {pin}"))
}

/// Whether an end posts operations of its own accord, rather than in answer or not at all.
fn starts(test: &RdmaTest, end: End) -> bool {
    end == End::Client || test.bidirectional
}

fn plan(test: &RdmaTest, end: End) -> Plan {
    let run = match (starts(test, end), test.operations) {
        (false, _) => Limit::UntilDone,
        (true, Some(operations)) => Limit::Ops(operations),
        (true, None) => Limit::Duration(Duration::from_secs_f64(test.duration_s)),
    };
    // Who only lends memory has no operations to warm up with.
    let lends = !starts(test, end) && lends(test);
    let warmup = if lends { 0.0 } else { test.omit_s };
    Plan {
        threads: test.threads as usize,
        ramp: Duration::ZERO,
        warmup: Limit::Duration(Duration::from_secs_f64(warmup)),
        run,
        interval: Duration::from_secs_f64(test.interval_s),
        slice_histograms: false,
    }
}

/// Whether the side that does not start leaves everything to its device.
fn lends(test: &RdmaTest) -> bool {
    match test.operation {
        Operation::Send | Operation::Tagged | Operation::WriteData => false,
        Operation::Write => test.measure != Measure::Latency,
        Operation::Read | Operation::FetchAdd | Operation::CompareSwap => true,
    }
}

/// All that a thread needs to make its workload.
struct Maker {
    test: RdmaTest,
    end: End,
    thread: usize,
    seat: Option<u32>,
    meeting: Meeting,
    shared: Shared,
    ending: Arc<Ending>,
    found: Arc<Mutex<Found>>,
}

impl Maker {
    fn make(self) -> anyhow::Result<Box<dyn Workload>> {
        if let Some(cpu) = self.seat {
            // Before anything is allocated: memory is given where it is first touched.
            pin_this_thread(cpu)?;
        }
        let thread = self.thread as u32;
        match &self.test.device {
            Device::Verbs(_) => {
                let port = verbs::open(&self.test, self.end, thread, &self.meeting)?;
                self.work(port)
            }
            Device::Fabric(_) => {
                let port = fabric::open(&self.test, self.end, thread, &self.meeting)?;
                self.work(port)
            }
        }
    }

    fn work<P: Port + 'static>(self, port: P) -> anyhow::Result<Box<dyn Workload>> {
        let waits_for_last_byte =
            self.test.operation == Operation::Write && self.test.measure == Measure::Latency;
        if waits_for_last_byte && port.delivery() == Delivery::Unordered {
            return Err(Unavailable(
                "the device keeps no order, so that the last byte of a write does not tell that the \
                 others have arrived: take --operation write_data"
                    .to_owned(),
            )
            .into());
        }
        let facts = port.facts();
        let device = facts.device.clone();
        if self.thread == 0 {
            let before = Counters::read(Path::new("/"), &facts.path);
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.before = Some(before);
            found.facts = Some(facts);
        }
        let per_thread = (self.test.lanes / self.test.threads) as usize;
        let starts = starts(&self.test, self.end);
        let (measure, operation, lends) = (
            self.test.measure,
            self.test.operation,
            lends(&self.test) && !starts,
        );
        let setting = Setting {
            first_lane: self.thread * per_thread,
            client: self.end == End::Client,
            shared: self.shared.clone(),
            ending: Arc::clone(&self.ending),
            found: Arc::clone(&self.found),
            test: self.test,
        };
        let lanes = Lanes::new(port, setting)?;
        // What was read of counters, and what memory holds, is so before the other side begins.
        let theirs = self.meeting.swap(&device)?;
        if self.meeting.address().is_loopback() && theirs == device {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.same_device = true;
        }
        let shared = self.shared;
        Ok(if lends {
            Box::new(Guarded::new(Host::new(lanes), shared))
        } else if measure != Measure::Latency {
            Box::new(Guarded::new(Window::new(lanes, starts), shared))
        } else if operation.fetches() {
            Box::new(Guarded::new(Fetch::new(lanes), shared))
        } else {
            Box::new(Guarded::new(PingPong::new(lanes, starts), shared))
        })
    }
}

/// Work whose failure ends that of the side's other threads, which poll without end.
struct Guarded<W> {
    inner: W,
    shared: Shared,
}

impl<W> Guarded<W> {
    fn new(inner: W, shared: Shared) -> Self {
        Self { inner, shared }
    }

    #[inline]
    fn guard<T>(&self, result: anyhow::Result<T>) -> anyhow::Result<T> {
        if result.is_err() {
            self.shared.cut();
        }
        result
    }
}

impl<W: Workload> Workload for Guarded<W> {
    fn prepare(&mut self) -> anyhow::Result<()> {
        let result = self.inner.prepare();
        self.guard(result)
    }

    #[inline]
    fn step(&mut self, rec: &mut Recorder) -> anyhow::Result<Work> {
        let result = self.inner.step(rec);
        self.guard(result)
    }

    fn drain(&mut self) -> anyhow::Result<Work> {
        let result = self.inner.drain();
        self.guard(result)
    }

    fn verify(&mut self, total: Work) -> anyhow::Result<Verified> {
        self.inner.verify(total)
    }
}

/// The role that an end plays, for those who read the report.
fn role(test: &RdmaTest, end: End) -> Role {
    match (test.measure, end) {
        (Measure::Latency, End::Client) => Role::Request,
        (Measure::Latency, End::Server) => Role::Respond,
        (_, End::Client) => Role::Send,
        (_, End::Server) => Role::Receive,
    }
}

fn put_together(
    test: &RdmaTest,
    end: End,
    totals: Totals,
    observed: Box<Observed>,
    found: Found,
) -> anyhow::Result<Part> {
    let interrupted = totals
        .validity
        .flags
        .iter()
        .any(|flag| flag.code == INTERRUPTED);
    // Nobody looks at the rate of a side that only answers.
    let answers = test.measure == Measure::Latency && end == End::Server;
    let counts = (starts(test, end) || !lends(test)) && !answers;
    if counts && totals.work.ops == 0 && !interrupted {
        anyhow::bail!(
            "nothing was left to measure after the warm-up of {} s: measure longer, or omit less",
            test.omit_s
        );
    }
    let claim = claim(test, &found);
    let facts = found.facts.context("no thread opened its port")?;
    let before = found.before.context("no thread read the counters")?;
    let after = Counters::read(Path::new("/"), &facts.path);
    let proof = Proof::of(&facts.path, &before, after, &claim);
    let bytes = |operations: &u64| operations * test.length_bytes;
    let moved: Vec<u64> = found
        .posted
        .iter()
        .zip(&found.received)
        .map(|(posted, received)| bytes(posted) + bytes(received))
        .collect();
    let mut leg = Leg {
        role: role(test, end),
        work: totals.work,
        elapsed_s: totals.elapsed_s,
        cpu_s: totals.cpu.user_s + totals.cpu.system_s,
        verified: totals.verified.clone(),
        observed: Some(observed),
        flags: totals.validity.flags.clone(),
        intervals: totals
            .intervals
            .iter()
            .take(MAX_INTERVALS)
            .cloned()
            .collect(),
        flow_bytes: moved,
        buffer_bytes: None,
        max_segment_bytes: None,
        congestion_control: None,
        datagrams: found.tally,
        schedule: None,
        zerocopy: None,
        way: None,
    };
    for reduced in &facts.reduced {
        leg.flags.push(Flag {
            code: "reduced".to_owned(),
            severity: Severity::Info,
            evidence: reduced.clone(),
        });
    }
    leg.flags.extend(proof.validity().flags);
    leg.way = Some(Box::new(Way {
        facts,
        posted: found.posted,
        received: found.received,
        proof,
    }));
    Ok(Part { totals, leg })
}

/// What a side's counters have to account for.
fn claim(test: &RdmaTest, found: &Found) -> Claim {
    let sum = |operations: &[u64]| operations.iter().sum::<u64>();
    // What leaves no trace on this side is known from the other's word.
    let traced = test.operation.receives() || !lends(test);
    let arrived = sum(if traced {
        &found.received
    } else {
        &found.theirs
    });
    let posted = sum(&found.posted);
    // What is fetched comes to whoever asks for it.
    let (sent, received) = if test.operation.fetches() {
        (arrived, posted)
    } else {
        (posted, arrived)
    };
    Claim {
        sent_bytes: sent * test.length_bytes,
        sent_operations: sent,
        received_bytes: received * test.length_bytes,
        received_operations: received,
        same_device: found.same_device,
    }
}
