//! What a thread does with its flows while the clock runs.
//!
//! One flow per thread is served by blocking calls and nothing else, because that is the shortest
//! path through the kernel; several flows per thread take turns under epoll ([`many_rr`],
//! [`many_stream`]).

pub mod many_rr;
pub mod many_stream;
pub mod pattern;
pub mod rr;
pub mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
}

impl Vitals {
    /// For so many connections.
    #[must_use]
    pub fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            flow_bytes: (0..connections).map(|_| Padded::default()).collect(),
            stop: AtomicBool::new(false),
        })
    }

    /// All bytes so far, over all flows.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let read = |bytes: &Padded| bytes.0.load(Ordering::Relaxed);
        self.flow_bytes.iter().map(read).sum()
    }

    /// Asks the senders to stop.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The vitals of the flows of one role.
#[derive(Debug, Clone)]
pub struct Shared {
    vitals: Arc<Vitals>,
    first: usize,
    count: usize,
}

impl Shared {
    /// For `count` flows from connection `first` on.
    #[must_use]
    pub fn new(vitals: &Arc<Vitals>, first: usize, count: usize) -> Self {
        Self {
            vitals: Arc::clone(vitals),
            first,
            count,
        }
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

    /// Whether the senders were asked to stop.
    #[inline]
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.vitals.stop.load(Ordering::Relaxed)
    }
}
