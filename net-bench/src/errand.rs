//! Errands: a server that is sent to another server, to be its client in one test, and what it
//! brings back. So whoever has a mesh of servers measured says only a few words for each cell, and
//! the data goes from node to node.
//!
//! An errand goes with the sending server's own key: both servers and their coordinator hold the
//! same one. A server without a key stays on its machine.

use crate::client::{self, Family, Finished};
use crate::control::message::{Leg, Role};
use crate::control::{Channel, Key};
use crate::metrics;
use crate::rdma::conduct;
use crate::rdma::test::{Measure, RdmaTest};
use crate::spec::Tested;
use crate::test::{Direction, Shape, Test};
use anyhow::Context;
use reports::matrix::blame::Cell;
use reports::measure::{Histogram, Silent};
use reports::model::{Aggregation, Flag, Interval, Measurement};
use reports::stats;
use serde::{Deserialize, Serialize};
use std::net::ToSocketAddrs;

/// Longest name of a host: that of the domain name system.
const MAX_NAME: usize = 253;

/// A test with another server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errand {
    /// The other server's host, as the sent one resolves it.
    pub host: String,
    /// The port of its control channel.
    pub port: u16,
    /// What both do; whoever is sent is the client.
    pub test: Tested,
}

/// What an errand brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brought {
    /// Half round trips in nanoseconds, of a test of latency.
    pub latency_ns: Option<Sample>,
    /// Bytes per second that the receiver counted, of a stream from the sent server to the other.
    pub bandwidth_bytes_per_s: Option<Sample>,
    /// Payload bytes that both directions carried in the measured window.
    pub bytes: u64,
    /// Share of datagrams that were lost, of a stream of such.
    pub loss_ratio: Option<f64>,
    /// What was verified, in words and numbers.
    pub verified: String,
    /// What speaks against the numbers.
    pub flags: Vec<Flag>,
}

/// A median and its 95 % interval; the median itself where there are too few samples for one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The median.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Sample {
    /// The same as judges of matrices take it; `None` of what is no amount.
    #[must_use]
    pub fn cell(&self) -> Option<Cell> {
        let Self { median, low, high } = *self;
        let amounts = [low, median, high]
            .iter()
            .all(|v| v.is_finite() && *v > 0.0);
        (amounts && low <= median && median <= high).then_some(Cell { median, low, high })
    }

    fn of(values: &[f64]) -> Option<Self> {
        let median = stats::median(values)?;
        let interval = stats::median_interval(values);
        let (low, high) = interval.map_or((median, median), |found| (found.low, found.high));
        Some(Self { median, low, high })
    }

    /// Half of the median of round trips.
    fn half_of(round_trips: &Histogram<u64>) -> Option<Self> {
        let n = usize::try_from(round_trips.len()).ok()?;
        if n == 0 {
            return None;
        }
        let at = |rank: usize| round_trips.value_at_quantile(rank as f64 / n as f64) as f64 / 2.0;
        let median = round_trips.value_at_quantile(0.5) as f64 / 2.0;
        let (low, high) = match stats::median_interval_rank(n) {
            Some((k, _)) => (at(k).min(median), at(n + 1 - k).max(median)),
            None => (median, median),
        };
        Some(Self { median, low, high })
    }
}

impl Errand {
    /// Refuses what no coordinator sends, and ways out of this machine without a key: whoever has
    /// none may not use this server to knock at the doors of others.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, key: &Key) -> Result<(), String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if self.host.is_empty() || self.host.len() > MAX_NAME || !self.host.bytes().all(plain) {
            return Err("an errand to what is no host name".to_owned());
        }
        if self.port == 0 {
            return Err("an errand to port 0".to_owned());
        }
        match &self.test {
            Tested::Sockets(test) => {
                test.check()?;
                let sent = matches!(
                    test.shape,
                    Shape::RequestResponse { .. }
                        | Shape::Stream {
                            direction: Direction::Forward,
                            ..
                        }
                );
                if !sent {
                    return Err(format!("{} is no test for an errand", test.name()));
                }
            }
            Tested::Rdma(test) => test.check()?,
        }
        if key.is_empty() && !self.stays_here() {
            return Err(format!(
                "an errand to {}, beyond loopback: a server without a key stays on its machine; give \
                 all servers and the coordinator the same --key-file",
                self.host
            ));
        }
        Ok(())
    }

    fn stays_here(&self) -> bool {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        addresses.is_ok_and(|mut all| all.all(|address| address.ip().is_loopback()))
    }

    /// For the log.
    #[must_use]
    pub fn summary(&self) -> String {
        let test = match &self.test {
            Tested::Sockets(test) => test.name(),
            Tested::Rdma(test) => test.name(),
        };
        format!("{test} towards {}:{}", self.host, self.port)
    }

    /// Goes, and comes back with the result. `stop` is asked several times a second whether to end
    /// early.
    ///
    /// # Errors
    /// What went wrong, and where.
    pub fn run(&self, key: &Key, stop: &dyn Fn() -> bool) -> anyhow::Result<Brought> {
        let there = || format!("towards {}:{}", self.host, self.port);
        let met = client::connect(&self.host, self.port, Family::Any)
            .and_then(|stream| Ok(Channel::connect(stream, key)?));
        let mut channel = met.with_context(there)?;
        let brought = match &self.test {
            Tested::Sockets(test) => client::take_part(&mut channel, test, &Silent, stop)
                .and_then(|finished| of_sockets(test, &finished)),
            Tested::Rdma(test) => conduct::as_client(&mut channel, test, &Silent, stop)
                .and_then(|finished| of_device(test, &finished)),
        };
        brought.with_context(there)
    }
}

fn of_sockets(test: &Test, finished: &Finished) -> anyhow::Result<Brought> {
    match test.shape {
        Shape::RequestResponse { .. } => {
            let measured = metrics::request_response(test, finished, "round_trip_ns")?;
            let part = finished.parts.iter().find(|p| p.role == Role::Request);
            let part = part.context("no requester took part")?;
            let latency = Sample::half_of(&part.totals.latencies);
            Ok(brought(measured, latency, None, part.totals.work.bytes))
        }
        Shape::Stream { direction, .. } => {
            let measured = metrics::stream(test, finished, direction)?;
            let mut legs = finished.legs.iter();
            let receiver = legs.find(|leg| leg.role == Role::Receive);
            let receiver = receiver.context("the server did not report what it received")?;
            let bytes = receiver.work.bytes;
            Ok(brought(measured, None, goodput(receiver), bytes))
        }
        _ => anyhow::bail!("{} is no test for an errand", test.name()),
    }
}

/// What the receiver took in, slice by slice: the median of slices is what the way carries while
/// nothing else disturbs it.
fn goodput(receiver: &Leg) -> Option<Sample> {
    let whole = receiver.work.bytes as f64 / receiver.elapsed_s;
    let longest = receiver.intervals.iter().map(length).fold(0.0, f64::max);
    // The last slice may be a piece of one.
    let whole_slices = receiver.intervals.iter();
    let whole_slices = whole_slices.filter(|slice| length(slice) > 0.5 * longest);
    let rates: Vec<f64> = whole_slices
        .map(|slice| slice.work.bytes as f64 / length(slice))
        .collect();
    match Sample::of(&rates) {
        Some(sample) if sample.low > 0.0 => Some(sample),
        // Slow ways leave slices empty.
        _ => Some(Sample {
            median: whole,
            low: whole,
            high: whole,
        })
        .filter(|sample| sample.median > 0.0),
    }
}

fn length(slice: &Interval) -> f64 {
    slice.t1_s - slice.t0_s
}

fn of_device(test: &RdmaTest, finished: &conduct::Finished) -> anyhow::Result<Brought> {
    let measured = metrics::rdma(test, finished)?;
    let value = |name: &str, aggregation| {
        let metric = measured.metric(name, aggregation)?;
        metric.value.known().copied()
    };
    let bytes = measured.work.known().map_or(0, |work| work.bytes);
    let (latency, bandwidth) = if test.measure == Measure::Latency {
        let median = value("half_round_trip_ns", Aggregation::P50);
        let spread = Sample::half_of(&finished.part.totals.latencies);
        (around(median, spread), None)
    } else {
        let total = value("bandwidth_bytes_per_s", Aggregation::Total);
        let receives = finished.leg.role == Role::Receive;
        let slices = receives.then(|| goodput(&finished.leg)).flatten();
        (None, slices.or_else(|| around(total, None)))
    };
    anyhow::ensure!(
        latency.or(bandwidth).is_some(),
        "{} brought neither a latency nor a bandwidth",
        test.name()
    );
    Ok(brought(measured, latency, bandwidth, bytes))
}

/// A value with the relative width of a sample of the same, whatever that counts.
fn around(median: Option<f64>, spread: Option<Sample>) -> Option<Sample> {
    let median = median?;
    let spread = spread.filter(|spread| spread.median > 0.0);
    let (low, high) = spread.map_or((1.0, 1.0), |spread| {
        (spread.low / spread.median, spread.high / spread.median)
    });
    Some(Sample {
        median,
        low: median * low,
        high: median * high,
    })
}

fn brought(
    measured: Measurement,
    latency_ns: Option<Sample>,
    bandwidth_bytes_per_s: Option<Sample>,
    bytes: u64,
) -> Brought {
    let loss = measured.metric("loss_ratio", Aggregation::Total);
    Brought {
        latency_ns,
        bandwidth_bytes_per_s,
        bytes,
        loss_ratio: loss.and_then(|metric| metric.value.known().copied()),
        verified: measured.verified,
        flags: measured.validity.flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::example;

    fn errand(host: &str) -> Errand {
        Errand {
            host: host.to_owned(),
            port: 1,
            test: Tested::Sockets(example()),
        }
    }

    #[test]
    fn without_a_key_no_errand_leaves_the_machine() {
        let key = Key::of_text("0123456789abcdef").expect("sixteen bytes");
        assert_eq!(errand("127.0.0.1").check(&Key::EMPTY), Ok(()));
        assert_eq!(errand("192.0.2.1").check(&key), Ok(()));
        let refused = errand("192.0.2.1").check(&Key::EMPTY);
        let refused = refused.expect_err("it leads away");
        assert!(refused.contains("--key-file"), "{refused}");
    }

    #[test]
    fn what_is_no_errand_is_refused() {
        let fault = |errand: Errand| errand.check(&Key::EMPTY).expect_err("it is wrong");
        assert!(fault(errand("")).contains("host name"));
        assert!(fault(errand("a b")).contains("host name"));
        assert!(fault(errand(&"a".repeat(300))).contains("host name"));
        let mut zero = errand("127.0.0.1");
        zero.port = 0;
        assert!(fault(zero).contains("port 0"));
        let mut other = errand("127.0.0.1");
        if let Tested::Sockets(test) = &mut other.test {
            test.shape = Shape::Stream {
                length_bytes: 1000,
                direction: Direction::Reverse,
            };
        }
        assert!(fault(other).contains("no test for an errand"));
    }

    #[test]
    fn the_median_of_round_trips_is_halved_and_has_an_interval() {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits");
        assert_eq!(Sample::half_of(&histogram), None);
        for value in 1..=999 {
            histogram.record(value * 2).expect("it fits");
        }
        let sample = Sample::half_of(&histogram).expect("there are values");
        let near = |a: f64, b: f64| (a - b).abs() <= 2.0;
        assert!(near(sample.median, 500.0), "{sample:?}");
        assert!(
            near(sample.low, 469.0) && near(sample.high, 531.0),
            "{sample:?}"
        );
        assert!(sample.cell().is_some());
    }

    #[test]
    fn numbers_that_are_no_amounts_make_no_cell() {
        for (median, low, high) in [(0.0, 0.0, 0.0), (f64::NAN, 1.0, 1.0), (1.0, 2.0, 3.0)] {
            assert_eq!(Sample { median, low, high }.cell(), None);
        }
    }
}
