//! What was behind the number: what the kernel and the device counted while a side did its part.
//!
//! A [`Watch`] takes the place of the harness's observer: it sees when the window opens, when a
//! slice ends and when all is over, and at these moments reads the flows' `TCP_INFO`
//! ([`flow`]), where the CPU time went ([`cpu`]), what the protocols counted (`protocols`), and
//! what the device of the route did ([`device`], asked through `netlink` and ethtool; its queues
//! in [`queues`]). It runs on the coordinating thread, never on one that measures. The two sides'
//! observations meet in the client's [`report`], which also gives the [`verdict`]; [`landing`] says
//! whether flows came in on the queues that they were led to.

pub mod cpu;
pub mod device;
pub mod flow;
pub mod landing;
mod netlink;
pub mod opening;
mod protocols;
pub mod queues;
pub mod report;
pub mod verdict;

pub use cpu::{CoreUse, ThreadUse};
pub use device::DeviceSeen;
pub use flow::FlowsSeen;

use crate::workload::uring::RingUse;
use device::Device;
use flow::Flows;
use reports::measure::{Event, Observer, Phase, Totals};
use reports::model::{Counter, Fact};
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two looks at the flows: a thousand flows take about a millisecond.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// What one side observed while it played one role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// Seconds between the two readings: the measured window and what it took to end.
    pub elapsed_s: f64,
    /// The flows.
    pub flows: Fact<FlowsSeen>,
    /// This side's own threads.
    pub threads: ThreadUse,
    /// The CPU on which each of them ran and nowhere else, where they were pinned.
    pub thread_cpus: Fact<Vec<u32>>,
    /// CPUs whose connections the kernel handed to listeners of their own; empty where one listener
    /// took them all, or none came during the test.
    pub listener_cpus: Vec<u32>,
    /// The schedule of its sends, where it had one.
    #[serde(default)]
    pub pace: Option<Pace>,
    /// How the rings of its threads fared, where they went through io_uring.
    #[serde(default)]
    pub ring: Option<RingUse>,
    /// The machine's cores.
    pub cores: Fact<Vec<CoreUse>>,
    /// The device of the route.
    pub device: Fact<DeviceSeen>,
    /// Counters of the protocols and the device.
    pub counters: Vec<Counter>,
}

/// What a stream's sender was to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// Payload bytes per second that were due, over all flows.
    pub bytes_per_s: f64,
    /// Whether the sender kept to it, but for its last batch.
    pub kept: bool,
}

/// Observes a side, and passes on to another observer what it sees.
pub struct Watch<'a> {
    inner: &'a dyn Observer,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    opened: Instant,
    closed: Option<Instant>,
    looked: Instant,
    warmed_up: bool,
    flows: Result<Flows<'a>, String>,
    device: Result<Device, String>,
    cores: Result<Vec<CoreUse>, String>,
    cores_after: Option<Result<Vec<CoreUse>, String>>,
    protocols: protocols::Reading,
}

impl<'a> Watch<'a> {
    /// Starts to observe connected flows. What is slow to find out is found out here, before
    /// anything is timed.
    pub fn start(sockets: Vec<BorrowedFd<'a>>, inner: &'a dyn Observer) -> Self {
        let device = match sockets.first() {
            Some(&first) => Device::of(first),
            None => Err("there is no flow to ask for its route".to_owned()),
        };
        let now = Instant::now();
        let flows = match sockets.is_empty() {
            true => Err(std::io::Error::other("none lasts as long as the test")),
            false => Flows::start(sockets),
        };
        Self {
            inner,
            state: Mutex::new(State {
                opened: now,
                closed: None,
                looked: now,
                warmed_up: false,
                flows: flows.map_err(|error| format!("TCP_INFO of a flow: {error}")),
                device,
                cores: cpu::cores(),
                cores_after: None,
                protocols: protocols::read(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kernel paces datagrams on their way to the peer.
    ///
    /// # Errors
    /// It does not, or cannot be asked; and the remedy.
    pub fn paces_datagrams(&self) -> Result<(), String> {
        self.state()
            .device
            .as_ref()
            .map_err(String::clone)?
            .paces_datagrams()
    }

    /// Ends the observation. Counters and flags go to where the harness puts its own.
    #[must_use]
    pub fn finish(self, totals: &mut Totals) -> Observed {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let closed = state.closed.unwrap_or_else(Instant::now);
        let napi_queues = state.device.iter().map(Device::napi_queues).next();
        let (mut counters, mut validity) = protocols::between(&state.protocols, &protocols::read());
        if state.flows.is_ok() {
            // These flows are TCP's: somebody else lost datagrams.
            validity.flags.retain(|flag| !flag.code.starts_with("udp_"));
        }
        let device = match state.device.map(Device::close) {
            Ok((seen, of_device, found)) => {
                counters.extend(of_device);
                validity.flags.extend(found.flags);
                Fact::Known(seen)
            }
            Err(reason) => Fact::unavailable(reason),
        };
        totals.counters.extend(counters.iter().cloned());
        for flag in validity.flags {
            totals
                .validity
                .flag(flag.severity, &flag.code, flag.evidence);
        }
        let cores_after = state.cores_after.unwrap_or_else(cpu::cores);
        Observed {
            elapsed_s: (closed - state.opened).as_secs_f64().max(f64::MIN_POSITIVE),
            flows: match state.flows {
                Ok(flows) => flows.close(&napi_queues.unwrap_or_default()),
                Err(reason) => Fact::unavailable(reason),
            },
            threads: ThreadUse::of(totals),
            thread_cpus: Fact::unavailable("nobody told where the threads run"),
            listener_cpus: Vec::new(),
            pace: None,
            ring: None,
            cores: cpu::between(&state.cores, &cores_after),
            device,
            counters,
        }
    }
}

impl Observer for Watch<'_> {
    fn event(&self, event: &Event<'_>) {
        let mut state = self.state();
        match event {
            Event::Phase {
                phase: Phase::WarmUp,
                ..
            } => state.warmed_up = true,
            Event::Phase {
                phase: Phase::Measure,
                ..
            } => state.open(),
            Event::Phase {
                phase: Phase::Verify,
                ..
            } => state.close(),
            Event::Phase {
                phase: Phase::Prepare,
                ..
            } => {}
            Event::Interval(_) => state.look(),
        }
        drop(state);
        self.inner.event(event);
    }
}

impl State<'_> {
    /// The window opens. Without a warm-up nothing happened since the first readings, and reading
    /// again would only disturb a short run.
    fn open(&mut self) {
        if !self.warmed_up {
            return;
        }
        if let Ok(flows) = &mut self.flows {
            flows.open();
        }
        if let Ok(device) = &mut self.device {
            device.open();
        }
        self.cores = cpu::cores();
        self.protocols = protocols::read();
        self.opened = Instant::now();
    }

    fn look(&mut self) {
        let now = Instant::now();
        if now - self.looked < LEAST_PAUSE {
            return;
        }
        self.looked = now;
        if let Ok(flows) = &mut self.flows {
            flows.look((now - self.opened).as_secs_f64());
        }
    }

    fn close(&mut self) {
        self.closed = Some(Instant::now());
        self.cores_after = Some(cpu::cores());
    }
}

/// By how much a counter grew, if both of its readings are known.
fn grown(counter: &Counter) -> Option<f64> {
    Some(counter.after.known()? - counter.before.known()?)
}
