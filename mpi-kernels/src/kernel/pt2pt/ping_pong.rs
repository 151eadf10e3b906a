//! The ping-pong, of one pair and of all.

use super::{Calls, Messages, Part, Role, pairs};
use crate::kernel::{INVALID, Kernel, Results};
use crate::method::{Setting, Start};
use crate::spec::Point;
use crate::sys::Endpoint;
use crate::world::World;
use reports::measure::{Clock, Ticks, latency_metrics};
use reports::model::{Aggregation, Direction, Metric, Unit, Work};
use serde_json::{Map, Value};

/// Round trips of a batch beside the timed ones.
const UNTIMED: usize = 2;

/// `latency`: messages of one size to and fro between ranks 0 and 1.
pub struct PingPong<'w> {
    world: &'w World,
    part: Part,
    calls: Calls,
    clock: Clock,
    messages: Messages,
}

impl<'w> PingPong<'w> {
    /// This rank's part, with buffers for the point's size.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let role = Role::of_two(setting.world.rank());
        let calls = Calls::of(setting.point.word("calls"));
        Ok(Box::new(Self {
            world: setting.world,
            part: role.part,
            calls,
            clock: Clock::get(),
            messages: Messages::new(setting, role, calls)?,
        }))
    }

    /// Runs round trips with these calls and times them from one send to the next. The first is not
    /// timed, because the peer may still be on its way here, nor is the last arrival.
    #[inline(always)]
    fn round_trips(
        &mut self,
        ticks: &mut [Ticks],
        send: impl Fn(&mut Endpoint) -> anyhow::Result<()>,
        receive: impl Fn(&mut Endpoint) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let end = &mut self.messages.end;
        match self.part {
            Part::Idle => {}
            Part::Second => {
                for _ in 0..ticks.len() + UNTIMED {
                    receive(end)?;
                    send(end)?;
                }
            }
            Part::First => {
                send(end)?;
                receive(end)?;
                send(end)?;
                let mut last = self.clock.now();
                for slot in ticks {
                    receive(end)?;
                    send(end)?;
                    // Taken while the message is on its way, so that it costs no round trip.
                    let now = self.clock.now();
                    *slot = now.saturating_sub(last);
                    last = now;
                }
                receive(end)?;
            }
        }
        Ok(())
    }
}

impl Kernel for PingPong<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        validate_round_trips(&mut self.messages, self.part, self.calls)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        match self.calls {
            Calls::Blocking => self.round_trips(ticks, Endpoint::send, Endpoint::receive),
            Calls::Nonblocking | Calls::Persistent => {
                self.round_trips(ticks, Endpoint::post_send, Endpoint::post_receive)
            }
        }
    }

    fn facts(&self, results: &Results) -> Map<String, Value> {
        pairs::facts(self.world, results)
    }
}

/// `multi_lat`: a round trip in every pair at a time.
pub struct MultiPingPong<'w> {
    world: &'w World,
    part: Part,
    calls: Calls,
    start: Start<'w>,
    messages: Messages,
}

impl<'w> MultiPingPong<'w> {
    /// This rank's part, with buffers for the point's size.
    ///
    /// # Errors
    /// Too little memory, or no way to begin together.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let world = setting.world;
        let role = Role::of_halves(world.rank(), world.ranks());
        let calls = Calls::of(setting.point.word("calls"));
        Ok(Box::new(Self {
            world,
            part: role.part,
            calls,
            start: setting.start()?,
            messages: Messages::new(setting, role, calls)?,
        }))
    }

    /// Runs round trips with these calls, and times half of each.
    #[inline(always)]
    fn round_trips(
        &mut self,
        ticks: &mut [Ticks],
        send: impl Fn(&mut Endpoint) -> anyhow::Result<()>,
        receive: impl Fn(&mut Endpoint) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (end, begins) = (&mut self.messages.end, self.part == Part::First);
        for slot in ticks {
            let began = self.start.begin();
            if begins {
                send(end)?;
                receive(end)?;
            } else {
                receive(end)?;
                send(end)?;
            }
            // The first of a pair times; the second only says when it was late.
            *slot = match self.start.length(began) {
                INVALID => INVALID,
                length if begins => length / 2,
                _ => 0,
            };
        }
        Ok(())
    }
}

impl Kernel for MultiPingPong<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        validate_round_trips(&mut self.messages, self.part, self.calls)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        match self.calls {
            Calls::Blocking => self.round_trips(ticks, Endpoint::send, Endpoint::receive),
            Calls::Nonblocking | Calls::Persistent => {
                self.round_trips(ticks, Endpoint::post_send, Endpoint::post_receive)
            }
        }
    }

    fn facts(&self, results: &Results) -> Map<String, Value> {
        pairs::facts(self.world, results)
    }
}

/// Untimed round trips with the calls that are timed; returns how many things it compared.
fn validate_round_trips(messages: &mut Messages, part: Part, calls: Calls) -> anyhow::Result<u64> {
    if part == Part::Idle {
        return Ok(0);
    }
    let size = messages.size;
    let send = |end: &mut Endpoint| match calls {
        Calls::Blocking => end.send(),
        Calls::Nonblocking | Calls::Persistent => end.send_window(),
    };
    let receive = |end: &mut Endpoint| match calls {
        Calls::Blocking => end.receive_counted().map(Some),
        Calls::Nonblocking | Calls::Persistent => {
            end.receive_window()?;
            Ok(end.received_bytes().next())
        }
    };
    messages.validate(true, |end| {
        if part == Part::First {
            send(end)?;
        }
        let received = receive(end);
        if part == Part::Second {
            send(end)?;
        }
        let received = received?.unwrap_or_default();
        anyhow::ensure!(
            usize::try_from(received) == Ok(size),
            "a message has {received} bytes instead of {size}"
        );
        Ok(1)
    })
}

fn mean(aggregation: Aggregation, ns: f64, iterations: u64, peer: &str) -> Metric {
    let (unit, direction) = (Unit::Nanoseconds, Direction::LowerIsBetter);
    Metric::new("latency_ns", aggregation, unit, direction, ns, iterations).compat(peer)
}

/// The distribution of half round trips, and the means that OSU and IMB print.
#[must_use]
pub fn ping_pong_metrics(results: &Results, _: &Point) -> Vec<Metric> {
    let mut metrics = latency_metrics("latency_ns", &results.histogram);
    let ns = results.sum_ns as f64 / 2.0 / results.iterations as f64;
    metrics
        .extend(["OSU", "IMB"].map(|peer| mean(Aggregation::Mean, ns, results.iterations, peer)));
    metrics
}

/// The distribution over iterations of the slowest pair's half round trip, that of the pairs'
/// means, and what OSU (mean over pairs) and IMB (the slowest pair's mean) print.
#[must_use]
pub fn multi_ping_pong_metrics(results: &Results, _: &Point) -> Vec<Metric> {
    let mut metrics = latency_metrics("latency_ns", &results.histogram);
    let means = pairs::mean_ns(results);
    let pairs = means.len() as f64;
    let osu = means.iter().sum::<f64>() / pairs;
    let slowest = means.iter().copied().fold(0.0, f64::max);
    metrics.push(mean(Aggregation::Mean, osu, results.iterations, "OSU"));
    metrics.push(mean(Aggregation::Max, slowest, results.iterations, "IMB"));
    let direction = Direction::LowerIsBetter;
    metrics.extend(pairs::spread(
        "pair_latency_ns",
        Unit::Nanoseconds,
        direction,
        means,
    ));
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

/// Round trips of all pairs, and their bytes.
#[must_use]
pub fn multi_ping_pong_work(iterations: u64, point: &Point) -> Work {
    ping_pong_work(iterations * (point.ranks / 2) as u64, point)
}
