//! Kernels between two ranks: the ping-pong and the window of messages. Rank 0 times, rank 1 is
//! its peer, and all others wait.

use super::{Kernel, Results};
use crate::memory::Buffer;
use crate::pattern::Stamp;
use crate::spec::Point;
use crate::sys::Window;
use crate::world::World;
use mpi::topology::Process;
use mpi::traits::{Communicator, Destination, Equivalence, Source};
use reports::measure::{Clock, Ticks, latency_metrics, rate_metrics};
use reports::model::{Aggregation, Direction, Metric, Unit, Work};

/// Untimed rounds in each validation.
const ROUNDS: u64 = 2;

/// The number that the timed messages carry; the validation's own count from 0.
const TIMED: u64 = 200;

const TAG: i32 = 1;
const ACK_TAG: i32 = 2;

/// What a rank does in a kernel of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Rank 0: sends first and times.
    Timer,
    /// Rank 1: answers.
    Peer,
    /// All others.
    Idle,
}

impl Part {
    fn of(rank: usize) -> Self {
        match rank {
            0 => Self::Timer,
            1 => Self::Peer,
            _ => Self::Idle,
        }
    }
}

/// Both buffers of a rank, and what they contain.
struct Messages {
    rank: usize,
    size: usize,
    out: Buffer<u8>,
    into: Buffer<u8>,
    validations: u64,
}

impl Messages {
    fn new(rank: usize, part: Part, size: usize) -> anyhow::Result<Self> {
        let size = if part == Part::Idle { 0 } else { size };
        Ok(Self {
            rank,
            size,
            out: Buffer::filled(size, 0)?,
            into: Buffer::filled(size, 0)?,
            validations: 0,
        })
    }

    fn stamp(&self, sender: usize, iteration: u64) -> Stamp {
        Stamp {
            sender,
            iteration,
            size: self.size,
        }
    }

    /// Makes ready for a message: its content in the one buffer, something else in the other.
    fn load(&mut self, iteration: u64) {
        self.stamp(self.rank, iteration).fill(&mut self.out);
        // What the peer sends, with every byte inverted: wherever nothing arrives, it shows.
        self.stamp(1 - self.rank, iteration).fill(&mut self.into);
        self.into.iter_mut().for_each(|byte| *byte = !*byte);
    }

    /// Compares what arrived with what the peer sends as `iteration`.
    fn check(&self, iteration: u64) -> anyhow::Result<()> {
        self.stamp(1 - self.rank, iteration).check(&self.into)
    }

    /// Runs rounds of `exchange`, each with a content of its own, and ends with the buffers ready
    /// for the timed loop. `receives` says whether this rank gets the peer's messages, and so has
    /// something to compare. The first fault is returned when all rounds are over.
    fn validate(
        &mut self,
        receives: bool,
        mut exchange: impl FnMut(&Buffer<u8>, &mut Buffer<u8>) -> anyhow::Result<u64>,
    ) -> anyhow::Result<u64> {
        let mut checks = 0;
        let mut fault = Ok(());
        if self.validations > 0 && receives {
            fault = self.check(TIMED);
            checks += 1;
        }
        for round in 0..ROUNDS {
            let iteration = self.validations * ROUNDS + round;
            self.load(iteration);
            let exchanged = exchange(&self.out, &mut self.into);
            if receives {
                fault = fault.and_then(|()| self.check(iteration));
            }
            match exchanged {
                Ok(messages) => checks += messages,
                Err(error) => fault = fault.and(Err(error)),
            }
        }
        self.validations += 1;
        self.load(TIMED);
        fault.map(|()| checks)
    }
}

/// `latency`: a blocking ping-pong.
pub struct PingPong<'w> {
    part: Part,
    peer: Process<'w>,
    clock: Clock,
    messages: Messages,
}

impl<'w> PingPong<'w> {
    /// This rank's part, with buffers for the point's size.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(world: &'w World, point: &Point) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let part = Part::of(world.rank());
        let peer = i32::from(part == Part::Timer);
        Ok(Box::new(Self {
            part,
            peer: world.comm().process_at_rank(peer),
            clock: Clock::get(),
            messages: Messages::new(world.rank(), part, point.size())?,
        }))
    }
}

impl Kernel for PingPong<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let (part, peer, size) = (self.part, &self.peer, self.messages.size);
        if part == Part::Idle {
            return Ok(0);
        }
        self.messages.validate(true, |out, into| {
            if part == Part::Timer {
                peer.send_with_tag(&out[..], TAG);
            }
            let status = peer.receive_into_with_tag(&mut into[..], TAG);
            if part == Part::Peer {
                peer.send_with_tag(&out[..], TAG);
            }
            let received = status.count(u8::equivalent_datatype());
            anyhow::ensure!(
                usize::try_from(received) == Ok(size),
                "MPI_Recv gave {received} bytes of a message of {size}"
            );
            Ok(1)
        })
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let (peer, messages) = (&self.peer, &mut self.messages);
        let (out, into) = (&messages.out[..], &mut messages.into[..]);
        match self.part {
            Part::Idle => {}
            Part::Peer => {
                for _ in 0..=ticks.len() {
                    peer.receive_into_with_tag(into, TAG);
                    peer.send_with_tag(out, TAG);
                }
            }
            Part::Timer => {
                // The first round trip is not timed: the peer may still be on its way here.
                peer.send_with_tag(out, TAG);
                peer.receive_into_with_tag(into, TAG);
                let mut last = self.clock.now();
                for slot in ticks {
                    peer.send_with_tag(out, TAG);
                    peer.receive_into_with_tag(into, TAG);
                    let now = self.clock.now();
                    *slot = now.saturating_sub(last);
                    last = now;
                }
            }
        }
        Ok(())
    }
}

/// `bw`: windows of non-blocking messages from rank 0 to rank 1, each answered by one byte.
pub struct Stream<'w> {
    part: Part,
    peer: Process<'w>,
    clock: Clock,
    window: Window,
    messages: Messages,
}

impl<'w> Stream<'w> {
    /// This rank's part, with buffers for the point's size and requests for its window.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(world: &'w World, point: &Point) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let part = Part::of(world.rank());
        let peer = i32::from(part == Part::Timer);
        Ok(Box::new(Self {
            part,
            peer: world.comm().process_at_rank(peer),
            clock: Clock::get(),
            window: Window::new(world.comm(), peer, TAG, point.window.unwrap_or(1)),
            messages: Messages::new(world.rank(), part, point.size())?,
        }))
    }
}

fn acknowledge(peer: &Process<'_>) {
    peer.send_with_tag(&[1u8], ACK_TAG);
}

fn await_acknowledgement(peer: &Process<'_>) {
    let mut ack = [0u8];
    peer.receive_into_with_tag(&mut ack, ACK_TAG);
}

impl Kernel for Stream<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let (peer, window, size) = (&self.peer, &mut self.window, self.messages.size);
        match self.part {
            Part::Idle => Ok(0),
            Part::Timer => self.messages.validate(false, |out, _| {
                let sent = window.send(out);
                await_acknowledgement(peer);
                sent.map(|()| 0)
            }),
            Part::Peer => self.messages.validate(true, |_, into| {
                let received = window.receive(into);
                acknowledge(peer);
                received?;
                let mut messages = 0;
                for bytes in window.received_bytes() {
                    anyhow::ensure!(
                        usize::try_from(bytes) == Ok(size),
                        "message {messages} of a window has {bytes} bytes instead of {size}"
                    );
                    messages += 1;
                }
                Ok(messages)
            }),
        }
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let (peer, window) = (&self.peer, &mut self.window);
        match self.part {
            Part::Idle => {}
            Part::Peer => {
                acknowledge(peer);
                for _ in ticks {
                    window.receive(&mut self.messages.into)?;
                    acknowledge(peer);
                }
            }
            Part::Timer => {
                // As after every window: the peer is about to post its receives.
                await_acknowledgement(peer);
                let mut last = self.clock.now();
                for slot in ticks {
                    window.send(&self.messages.out)?;
                    await_acknowledgement(peer);
                    let now = self.clock.now();
                    *slot = now.saturating_sub(last);
                    last = now;
                }
            }
        }
        Ok(())
    }
}

/// The distribution of half round trips, and OSU's mean of them.
#[must_use]
pub fn ping_pong_metrics(results: &Results, _: &Point) -> Vec<Metric> {
    let mut metrics = latency_metrics("latency_ns", &results.histogram);
    let mean = results.sum_ns as f64 / 2.0 / results.iterations as f64;
    let osu = Metric::new(
        "latency_ns",
        Aggregation::Mean,
        Unit::Nanoseconds,
        Direction::LowerIsBetter,
        mean,
        results.iterations,
    );
    metrics.push(osu.compat("OSU"));
    metrics
}

/// Messages and bytes per second over all windows, and the distribution of the windows' times.
#[must_use]
pub fn stream_metrics(results: &Results, point: &Point) -> Vec<Metric> {
    let work = stream_work(results.iterations, point);
    let mut metrics = rate_metrics("messages_per_s", work, results.elapsed_s());
    for metric in &mut metrics {
        metric.headline = metric.name == "bandwidth_bytes_per_s";
    }
    metrics.reverse();
    let mut windows = latency_metrics("window_ns", &results.histogram);
    windows
        .iter_mut()
        .for_each(|metric| metric.headline = false);
    metrics.extend(windows);
    metrics
}

/// Round trips, and the bytes that they moved both ways.
#[must_use]
pub fn ping_pong_work(iterations: u64, point: &Point) -> Work {
    Work {
        ops: iterations,
        bytes: iterations * 2 * point.size() as u64,
    }
}

/// Messages, and their bytes.
#[must_use]
pub fn stream_work(iterations: u64, point: &Point) -> Work {
    let ops = iterations * point.window.unwrap_or(1) as u64;
    Work {
        ops,
        bytes: ops * point.size() as u64,
    }
}
