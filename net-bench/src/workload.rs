//! What a thread does with its flows while the clock runs.
//!
//! One flow per thread is served by blocking calls and nothing else, because that is the shortest
//! path through the kernel, by the way in which they are told to send ([`outlet`]) and receive
//! ([`inlet`]), through io_uring if so ([`uring`]); several flows per thread take turns under epoll
//! ([`many_rr`], [`many_stream`]). [`crr`] makes a connection per transaction, [`incast`] asks on
//! all flows at once. [`open_rr`] keeps a schedule instead of waiting, and so does [`pace`] for
//! streams. Datagrams need counting instead of order ([`udp_rr`], [`udp_stream`]).

pub mod crr;
pub mod incast;
pub mod inlet;
pub mod many_rr;
pub mod many_stream;
pub mod open_rr;
pub mod outlet;
pub mod pace;
pub mod pattern;
pub mod rr;
pub mod schedule;
pub mod sequence;
pub mod stream;
pub mod udp_rr;
pub mod udp_stream;
pub mod uring;

use outlet::ZeroCopy;
use schedule::Schedule;
use sequence::Datagrams;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use uring::RingUse;

/// A counter in cache lines of its own, so that threads do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// What the threads of one side show to those who watch over them: each flow's bytes so far. And
/// what those may ask of them: to stop.
#[derive(Debug)]
pub struct Vitals {
    flow_bytes: Vec<Padded>,
    stop: AtomicBool,
    cut: AtomicBool,
    ended: AtomicBool,
    peer_ended: OnceLock<Instant>,
}

impl Vitals {
    /// For so many connections.
    #[must_use]
    pub fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            flow_bytes: (0..connections).map(|_| Padded::default()).collect(),
            stop: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            peer_ended: OnceLock::new(),
        })
    }

    /// Notes that this side starts no more traffic.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether this side starts no more traffic.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Notes that the other side starts no more traffic.
    pub fn peer_ended(&self) {
        let _ = self.peer_ended.set(Instant::now());
    }

    /// For how long the other side has started no more traffic; `None` while it does.
    #[must_use]
    pub fn since_peer_ended(&self) -> Option<Duration> {
        self.peer_ended.get().map(Instant::elapsed)
    }

    /// All bytes so far, over all flows.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let read = |bytes: &Padded| bytes.0.load(Ordering::Relaxed);
        self.flow_bytes.iter().map(read).sum()
    }

    /// Asks whoever starts traffic to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Tells whoever polls without end that the test was given up.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Whether the test was given up.
    #[inline]
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// The vitals of the flows of one role.
#[derive(Debug, Clone)]
pub struct Shared {
    vitals: Arc<Vitals>,
    first: usize,
    count: usize,
    findings: Arc<Mutex<Findings>>,
}

/// What the threads of a role found out beyond bytes and latencies.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What became of its datagrams, where there are any.
    pub datagrams: Option<Datagrams>,
    /// How its schedule was kept, where it has one.
    pub schedule: Option<Schedule>,
    /// What became of its sends without a copy, where there are any.
    pub zerocopy: Option<ZeroCopy>,
    /// How its rings fared, where it has any.
    pub ring: Option<RingUse>,
    /// How long each flow of an incast waited for its blocks, in nanoseconds, warm-up included.
    pub waits_ns: Vec<u64>,
    /// Whether a receiver never heard that its sender ended.
    pub end_lost: bool,
}

impl Shared {
    /// For `count` flows from connection `first` on.
    #[must_use]
    pub fn new(vitals: &Arc<Vitals>, first: usize, count: usize) -> Self {
        Self {
            vitals: Arc::clone(vitals),
            first,
            count,
            findings: Arc::default(),
        }
    }

    /// Adds a thread's datagrams to those of its role.
    pub fn report_datagrams(&self, tally: Datagrams) {
        *self.findings_mut().datagrams.get_or_insert_default() += tally;
    }

    /// Adds how a thread kept its schedule to its role's.
    pub fn report_schedule(&self, schedule: Schedule) {
        *self.findings_mut().schedule.get_or_insert_default() += schedule;
    }

    /// Adds a thread's sends without a copy to its role's.
    pub fn report_zerocopy(&self, tally: ZeroCopy) {
        *self.findings_mut().zerocopy.get_or_insert_default() += tally;
    }

    /// Adds how a thread's ring fared to its role's.
    pub fn report_ring(&self, ring: RingUse) {
        match &mut self.findings_mut().ring {
            Some(sum) => sum.add(&ring),
            none => *none = Some(ring),
        }
    }

    /// Says how long each flow waited for its blocks, in nanoseconds.
    pub fn report_waits(&self, waits_ns: Vec<u64>) {
        self.findings_mut().waits_ns = waits_ns;
    }

    /// Notes that a receiver never heard that its sender ended.
    pub fn report_end_lost(&self) {
        self.findings_mut().end_lost = true;
    }

    /// What was reported so far.
    #[must_use]
    pub fn findings(&self) -> Findings {
        self.findings_mut().clone()
    }

    fn findings_mut(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how many payload bytes a flow has carried so far.
    #[inline]
    pub fn note(&self, flow: usize, bytes: u64) {
        let counter = &self.vitals.flow_bytes[self.first + flow];
        counter.0.store(bytes, Ordering::Relaxed);
    }

    /// What was shown last, by flow.
    #[must_use]
    pub fn flow_bytes(&self) -> Vec<u64> {
        let own = &self.vitals.flow_bytes[self.first..self.first + self.count];
        own.iter()
            .map(|bytes| bytes.0.load(Ordering::Relaxed))
            .collect()
    }

    /// Whether those who start traffic were asked to stop.
    #[inline]
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.vitals.stop.load(Ordering::Relaxed)
    }

    /// Tells this side's other threads that the test was given up.
    pub fn cut(&self) {
        self.vitals.cut();
    }

    /// Whether the test was given up.
    #[inline]
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.vitals.was_cut()
    }
}
