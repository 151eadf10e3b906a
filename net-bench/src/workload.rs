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

/// What all workloads of one side and role share: each flow's bytes, and the request to stop.
#[derive(Debug, Clone)]
pub struct Shared {
    flow_bytes: Arc<[AtomicU64]>,
    stop: Arc<AtomicBool>,
}

impl Shared {
    /// For so many flows.
    #[must_use]
    pub fn new(flows: usize, stop: Arc<AtomicBool>) -> Self {
        Self {
            flow_bytes: (0..flows).map(|_| AtomicU64::new(0)).collect(),
            stop,
        }
    }

    /// Notes how many payload bytes a flow carried, when it is over.
    pub fn note(&self, flow: usize, bytes: u64) {
        self.flow_bytes[flow].store(bytes, Ordering::Relaxed);
    }

    /// What was noted.
    #[must_use]
    pub fn flow_bytes(&self) -> Vec<u64> {
        let read = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        self.flow_bytes.iter().map(read).collect()
    }

    /// Whether the peer asked to stop sending.
    #[inline]
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
