//! Windows of non-blocking messages: one way, both ways, and of all pairs at a time.

use super::{Calls, Messages, Part, Role, count_messages, pairs};
use crate::kernel::{INVALID, Kernel, Results};
use crate::method::{Setting, Start};
use crate::spec::Point;
use crate::sys::Endpoint;
use crate::world::World;
use reports::measure::{Clock, Ticks, latency_metrics, rate_metrics};
use reports::model::{Direction, Metric, Unit, Work};
use serde_json::{Map, Value};

/// The window of IMB's Uniband and Biband.
const IMB_WINDOW: usize = 256;

/// One window with its acknowledgement, from either end.
#[inline(always)]
fn window(end: &mut Endpoint, part: Part) -> anyhow::Result<()> {
    if part == Part::First {
        end.send_window()?;
        end.await_acknowledgement()
    } else {
        end.receive_window()?;
        end.acknowledge()
    }
}

/// An untimed window in each round of a validation.
fn validate_windows(messages: &mut Messages, part: Part) -> anyhow::Result<u64> {
    let size = messages.size;
    match part {
        Part::Idle => Ok(0),
        Part::First => messages.validate(false, |end| window(end, part).map(|()| 0)),
        Part::Second => messages.validate(true, |end| {
            window(end, part)?;
            count_messages(end, size)
        }),
    }
}

/// `bw`: windows of messages from rank 0 to rank 1, each answered by one byte.
pub struct Stream<'w> {
    world: &'w World,
    part: Part,
    clock: Clock,
    messages: Messages,
}

impl<'w> Stream<'w> {
    /// This rank's part, with buffers for the point's size and requests for its window.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let role = Role::of_two(setting.world.rank());
        let calls = Calls::of(setting.point.word("calls"));
        Ok(Box::new(Self {
            world: setting.world,
            part: role.part,
            clock: Clock::get(),
            messages: Messages::new(setting, role, calls)?,
        }))
    }
}

impl Kernel for Stream<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        validate_windows(&mut self.messages, self.part)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let end = &mut self.messages.end;
        match self.part {
            Part::Idle => {}
            Part::Second => {
                end.acknowledge()?;
                for _ in ticks {
                    window(end, Part::Second)?;
                }
            }
            Part::First => {
                // As after every window: the peer is about to post its receives.
                end.await_acknowledgement()?;
                let mut last = self.clock.now();
                for slot in ticks {
                    window(end, Part::First)?;
                    let now = self.clock.now();
                    *slot = now.saturating_sub(last);
                    last = now;
                }
            }
        }
        Ok(())
    }

    fn facts(&self, results: &Results) -> Map<String, Value> {
        pairs::facts(self.world, results)
    }
}

/// `bibw`: ranks 0 and 1 send windows to each other at the same time.
pub struct BidirectionalStream<'w> {
    world: &'w World,
    part: Part,
    clock: Clock,
    messages: Messages,
}

impl<'w> BidirectionalStream<'w> {
    /// This rank's part, with buffers for the point's size and requests for its windows.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let role = Role::of_two(setting.world.rank());
        let calls = Calls::of(setting.point.word("calls"));
        Ok(Box::new(Self {
            world: setting.world,
            part: role.part,
            clock: Clock::get(),
            messages: Messages::new(setting, role, calls)?,
        }))
    }
}

impl Kernel for BidirectionalStream<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let size = self.messages.size;
        match self.part {
            Part::Idle => Ok(0),
            _ => self.messages.validate(true, |end| {
                end.exchange_windows()?;
                count_messages(end, size)
            }),
        }
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        if self.part == Part::Idle {
            return Ok(());
        }
        let end = &mut self.messages.end;
        // The first window is not timed: the peer may still be on its way here.
        end.exchange_windows()?;
        let mut last = self.clock.now();
        for slot in ticks {
            end.exchange_windows()?;
            let now = self.clock.now();
            *slot = now.saturating_sub(last);
            last = now;
        }
        Ok(())
    }

    fn facts(&self, results: &Results) -> Map<String, Value> {
        pairs::facts(self.world, results)
    }
}

/// `mbw_mr`: a window in every pair at a time.
pub struct MultiStream<'w> {
    world: &'w World,
    part: Part,
    start: Start<'w>,
    messages: Messages,
}

impl<'w> MultiStream<'w> {
    /// This rank's part, with buffers for the point's size and requests for its window.
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
            start: setting.start()?,
            messages: Messages::new(setting, role, calls)?,
        }))
    }
}

impl Kernel for MultiStream<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        validate_windows(&mut self.messages, self.part)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        for slot in ticks {
            let began = self.start.begin();
            window(&mut self.messages.end, self.part)?;
            let length = self.start.length(began);
            // Senders time; a receiver only says when it was late.
            *slot = match self.part {
                Part::First => length,
                _ if length == INVALID => INVALID,
                _ => 0,
            };
        }
        Ok(())
    }

    fn facts(&self, results: &Results) -> Map<String, Value> {
        pairs::facts(self.world, results)
    }
}

/// Bandwidth first, then the message rate.
pub fn rates(work: Work, elapsed_s: f64) -> Vec<Metric> {
    let mut metrics = rate_metrics("messages_per_s", work, elapsed_s);
    for metric in &mut metrics {
        metric.headline = metric.name == "bandwidth_bytes_per_s";
    }
    metrics.reverse();
    metrics
}

/// The same as a peer prints them.
pub fn compat_rates(peer: &str, work: Work, elapsed_s: f64) -> impl Iterator<Item = Metric> {
    let plain = |metric: Metric| Metric {
        headline: false,
        ..metric
    };
    let peer = peer.to_owned();
    rates(work, elapsed_s)
        .into_iter()
        .map(move |metric| plain(metric).compat(&peer))
}

/// The distribution of the windows' times, beside the headlines.
pub fn windows(results: &Results) -> Vec<Metric> {
    let mut windows = latency_metrics("window_ns", &results.histogram);
    windows
        .iter_mut()
        .for_each(|metric| metric.headline = false);
    windows
}

/// Rates of a pair, in the columns of OSU, and of IMB where the window is its own.
fn pair_metrics(results: &Results, point: &Point, work: Work) -> Vec<Metric> {
    let elapsed_s = results.elapsed_s();
    let mut metrics = rates(work, elapsed_s);
    metrics.extend(compat_rates("OSU", work, elapsed_s));
    if point.window == Some(IMB_WINDOW) {
        metrics.extend(compat_rates("IMB", work, elapsed_s));
    }
    metrics.extend(windows(results));
    metrics
}

/// Messages and bytes per second over all windows, and the distribution of the windows' times.
#[must_use]
pub fn stream_metrics(results: &Results, point: &Point) -> Vec<Metric> {
    pair_metrics(results, point, stream_work(results.iterations, point))
}

/// Likewise, of both directions together.
#[must_use]
pub fn bidirectional_metrics(results: &Results, point: &Point) -> Vec<Metric> {
    pair_metrics(
        results,
        point,
        bidirectional_work(results.iterations, point),
    )
}

/// Messages and bytes per second of all pairs together, by the slowest of them in each iteration;
/// OSU's by the mean of the pairs' times, IMB's by the longest; and the spread of the pairs.
#[must_use]
pub fn multi_stream_metrics(results: &Results, point: &Point) -> Vec<Metric> {
    let work = multi_stream_work(results.iterations, point);
    let times_s: Vec<f64> = pairs::sum_ns(results).map(|ns| ns as f64 / 1e9).collect();
    let mut metrics = rates(work, results.elapsed_s());
    let mean_s = times_s.iter().sum::<f64>() / times_s.len() as f64;
    metrics.extend(compat_rates("OSU", work, mean_s));
    if point.window == Some(IMB_WINDOW) {
        let longest_s = times_s.iter().copied().fold(0.0, f64::max);
        metrics.extend(compat_rates("IMB", work, longest_s));
    }
    let pair_bytes = stream_work(results.iterations, point).bytes as f64;
    let of_pairs = times_s.iter().map(|s| pair_bytes / s).collect();
    metrics.extend(pairs::spread(
        "pair_bandwidth_bytes_per_s",
        Unit::BytesPerSecond,
        Direction::HigherIsBetter,
        of_pairs,
    ));
    metrics.extend(windows(results));
    metrics
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

/// Messages of both directions, and their bytes.
#[must_use]
pub fn bidirectional_work(iterations: u64, point: &Point) -> Work {
    stream_work(iterations * 2, point)
}

/// Messages of all pairs, and their bytes.
#[must_use]
pub fn multi_stream_work(iterations: u64, point: &Point) -> Work {
    stream_work(iterations * (point.ranks / 2) as u64, point)
}
