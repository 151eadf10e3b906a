//! When operations begin: as soon as a slot is free (a closed loop), or at moments of a schedule
//! that knows nothing of the device (an open loop).

use super::size::{bytes, human};
use super::{Spec, usage};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fmt;

/// Fewest and most operations per second of an open loop, over all jobs.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=1e8;
/// The longest latency that can be a target, in nanoseconds: a minute.
const MAX_TARGET_NS: f64 = 60e9;

/// The options as users type them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Pace")]
pub struct PaceArgs {
    /// Open loop: N operations per second over all jobs, whether or not earlier ones have ended;
    /// the response time counts from when an operation was meant to begin, and what the device
    /// delays stays due (fio's rate_iops lets it go) [default: a closed loop]
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["rate", "latency_target"],
        allow_negative_numbers = true
    )]
    pub rate_iops: Option<f64>,
    /// The same in bytes per second (k, m, g are powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = bytes, conflicts_with = "latency_target")]
    pub rate: Option<u64>,
    /// How the operations of an open loop are spread over time [default: poisson]
    #[arg(long, value_enum)]
    pub arrival: Option<Arrival>,
    /// Search for the highest rate of an open loop that keeps this response time: 1ms@p99,
    /// 500us@p99.9. First 1 operation in flight and then --iodepth of them in a closed loop show
    /// the least latency and the highest rate; from there the rate is doubled until the target is
    /// missed and halved until it is kept; then the middle of the two is tried until they are
    /// within 2 % of each other, or 24 probes are done. --runtime and --ramp-time are those of each
    /// probe; one too short for its percentile is made longer, up to 10 times, and one that missed
    /// while this program itself was late is done once more
    #[arg(long, value_name = "TIME@PERCENTILE", value_parser = latency_target,
        conflicts_with = "number_ios")]
    pub latency_target: Option<LatencyTarget>,
}

/// How the operations of an open loop are spread over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// At equal distances
    Const,
    /// Independently of each other: the distances are exponential
    #[default]
    Poisson,
}

/// A response time that a share of all operations must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyTarget {
    /// The longest response time in nanoseconds.
    pub ns: u64,
    /// The share of operations that must keep it, in percent: 99.9.
    pub percentile: f64,
}

impl LatencyTarget {
    /// The share of operations that must keep it, from 0 to 1.
    #[must_use]
    pub fn quantile(&self) -> f64 {
        self.percentile / 100.0
    }
}

impl fmt::Display for LatencyTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@p{}", time(self.ns as f64), self.percentile)
    }
}

/// One spelling of each target, so that equal ones are equal parameters.
impl Serialize for LatencyTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time as users type it, in the largest unit of which it has at least one: `1.5ms`.
fn time(ns: f64) -> String {
    let (unit, each) = UNITS
        .into_iter()
        .rev()
        .find(|(_, each)| ns >= *each)
        .unwrap_or(UNITS[0]);
    format!("{}{unit}", ns / each)
}

/// Units of time, in nanoseconds.
const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];

/// Reads `1ms@p99`.
///
/// # Errors
/// What a target looks like.
pub fn latency_target(text: &str) -> Result<LatencyTarget, String> {
    let shape = "a time and a percentile: 1ms@p99, 500us@p99.9";
    let lower = text.trim().to_ascii_lowercase();
    let (time, percentile) = lower.split_once("@p").ok_or(shape)?;
    let number = time.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &time[number.len()..];
    let (_, each) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or(shape)?;
    let number: f64 = number.parse().map_err(|_| shape)?;
    let percentile: f64 = percentile.parse().map_err(|_| shape)?;
    let ns = number * each;
    if !(1.0..=MAX_TARGET_NS).contains(&ns) {
        return Err("the time is from 1ns to 60s".to_owned());
    }
    if !(50.0..=99.999).contains(&percentile) {
        return Err("the percentile is from p50 to p99.999".to_owned());
    }
    let ns = ns.round() as u64;
    Ok(LatencyTarget { ns, percentile })
}

/// What they come to: parameters, left out of reports where the loop is closed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PaceSpec {
    /// Operations per second over all jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_iops: Option<f64>,
    /// Bytes per second over all jobs.
    #[serde(rename = "rate_bytes_per_s", skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// How they are spread over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrival: Option<Arrival>,
    /// What the highest rate is searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_target: Option<LatencyTarget>,
}

impl PaceArgs {
    /// Checks them.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self) -> anyhow::Result<PaceSpec> {
        let open = self.rate_iops.is_some() || self.rate.is_some() || self.latency_target.is_some();
        if let (Some(_), false) = (self.arrival, open) {
            return Err(usage(
                "--arrival spreads the operations of an open loop over time: at which rate? Give \
                 --rate-iops, --rate or --latency-target",
            ));
        }
        Ok(PaceSpec {
            rate_iops: self.rate_iops,
            rate: self.rate,
            arrival: open.then(|| self.arrival.unwrap_or_default()),
            latency_target: self.latency_target,
        })
    }
}

impl Spec {
    /// Operations per second over all jobs, where the loop is open.
    #[must_use]
    pub fn offered_iops(&self) -> Option<f64> {
        let by_bytes = |rate: u64| rate as f64 / self.pattern.mean();
        self.pace.rate_iops.or(self.pace.rate.map(by_bytes))
    }

    /// Checks the pace against what else was asked for.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub(super) fn check_pace(&self) -> anyhow::Result<()> {
        let Some(iops) = self.offered_iops() else {
            return Ok(());
        };
        let asked = match (self.pace.rate_iops, self.pace.rate) {
            (Some(rate), _) => format!("--rate-iops {rate}"),
            (_, rate) => format!("--rate {}", human(rate.unwrap_or(0))),
        };
        if !RATES.contains(&iops) {
            let (least, most) = (RATES.start(), RATES.end());
            return Err(usage(format!(
                "{asked}: that is {iops} operations per second, and they can be from {least} to \
                 {most}"
            )));
        }
        let jobs = self.numjobs as f64;
        if let Some(seconds) = self.runtime_s.filter(|seconds| iops * seconds < jobs) {
            return Err(usage(format!(
                "{asked}: less than one operation for each job in --runtime {seconds}; make it \
                 longer"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written_in_one_spelling() {
        for (text, ns, percentile, written) in [
            ("1ms@p99", 1_000_000, 99.0, "1ms@p99"),
            ("1000us@P99.0", 1_000_000, 99.0, "1ms@p99"),
            ("0.5ms@p99.9", 500_000, 99.9, "500us@p99.9"),
            ("1500us@p50", 1_500_000, 50.0, "1.5ms@p50"),
            ("2s@p95", 2_000_000_000, 95.0, "2s@p95"),
        ] {
            let target = latency_target(text).expect(text);
            assert_eq!((target.ns, target.percentile), (ns, percentile), "{text}");
            assert_eq!(target.to_string(), written);
        }
        for text in [
            "",
            "1ms",
            "1ms@99",
            "@p99",
            "1@p99",
            "ms@p99",
            "1m@p99",
            "1ms@p",
            "0ms@p99",
            "-1ms@p99",
            "1ms@p100",
            "1ms@p10",
            "NaNms@p99",
            "61s@p99",
            "1ms@pNaN",
            "infs@p99",
            "1µs@p99",
        ] {
            assert!(latency_target(text).is_err(), "{text}");
        }
    }
}
