//! The clock of the timed loops: the cycle counter where it can be trusted, else the kernel's.
//!
//! A time stamp is taken once per operation, so its price bounds the smallest thing that can be
//! measured. `rdtsc` costs about a third of `clock_gettime` on virtual machines. It is used only
//! where the kernel vouches for it: the processor says that it ticks at a constant rate through
//! frequency changes and idle states, and the kernel has not struck it from its list of usable
//! clock sources, as it does when its watchdog saw it drift.

use crate::model::{ClockRecord, Fact};
use bench_sys::cycles;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment or a length, in ticks of a [`Clock`].
pub type Ticks = u64;

/// Over how long the counter is compared with the kernel's clock. Both are read within about
/// 100 ns of each other at each end, so 20 ms bounds the error of the rate to about 10 ppm.
const CALIBRATION: Duration = Duration::from_millis(20);

/// Turns ticks into time. Cheap to copy; every recorder has its own.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Whether ticks are cycles; else they are nanoseconds since `origin`.
    cycles: bool,
    /// Nanoseconds per tick, as a fixed-point number with 32 fractional bits.
    ns_per_tick: u64,
    origin: Instant,
    origin_ticks: Ticks,
    refusal: Option<&'static str>,
}

impl Clock {
    /// The process's clock, calibrated on first use (which takes 20 ms).
    pub fn get() -> Self {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(|| match counter_refused() {
            None => Self::calibrated(),
            Some(reason) => Self::kernel(reason),
        })
    }

    /// The kernel's monotonic clock, and why it is used.
    fn kernel(reason: &'static str) -> Self {
        let origin = Instant::now();
        Self {
            cycles: false,
            ns_per_tick: 1 << 32,
            origin,
            origin_ticks: 0,
            refusal: Some(reason),
        }
    }

    fn calibrated() -> Self {
        let (origin, origin_ticks) = paired_reading();
        std::thread::sleep(CALIBRATION);
        let (later, later_ticks) = paired_reading();
        let ticks = later_ticks.saturating_sub(origin_ticks).max(1);
        let ns = (later - origin).as_nanos();
        // 20 ms of nanoseconds shifted by 32 bits stays far below 128 bits, and a processor slower
        // than 1 Hz does not exist, so the quotient fits.
        let ns_per_tick = u64::try_from((ns << 32) / u128::from(ticks)).unwrap_or(u64::MAX);
        Self {
            cycles: true,
            ns_per_tick,
            origin,
            origin_ticks,
            refusal: None,
        }
    }

    /// Now, in ticks.
    #[inline(always)]
    #[must_use]
    pub fn now(&self) -> Ticks {
        if self.cycles {
            // `cycles` was Some when the clock was calibrated and depends on the target only.
            cycles().unwrap_or(0)
        } else {
            // 584 years of nanoseconds fit.
            self.origin.elapsed().as_nanos() as u64
        }
    }

    /// A length of ticks in nanoseconds.
    #[inline(always)]
    #[must_use]
    pub fn ns(&self, ticks: Ticks) -> u64 {
        ((u128::from(ticks) * u128::from(self.ns_per_tick)) >> 32) as u64
    }

    /// A length of ticks in seconds.
    #[must_use]
    pub fn seconds(&self, ticks: Ticks) -> f64 {
        ticks as f64 * self.ns_per_tick as f64 / (1u64 << 32) as f64 / 1e9
    }

    /// A length of time in ticks.
    #[must_use]
    pub fn ticks(&self, length: Duration) -> Ticks {
        let ticks = (length.as_nanos() << 32) / u128::from(self.ns_per_tick.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// What the report says of the clock. Called at the end of a run, so that the drift covers it.
    #[must_use]
    pub fn record(&self) -> ClockRecord {
        let frequency_hz = 1e9 * (1u64 << 32) as f64 / self.ns_per_tick as f64;
        let (source, drift_ppm) = if self.cycles {
            ("tsc", self.drift_ppm())
        } else {
            ("clock_monotonic", Fact::Known(0.0))
        };
        let note = self.refusal.map(str::to_owned);
        ClockRecord {
            source: source.to_owned(),
            frequency_hz,
            note,
            drift_ppm,
        }
    }

    fn drift_ppm(&self) -> Fact<f64> {
        let (now, ticks) = paired_reading();
        let kernel = (now - self.origin).as_secs_f64();
        if kernel < 0.1 {
            return Fact::unavailable("the run was shorter than 0.1 s");
        }
        let counter = self.seconds(ticks.saturating_sub(self.origin_ticks));
        Fact::Known((counter / kernel - 1.0) * 1e6)
    }
}

/// Kernel time and cycle count of the same moment: the tightest of several bracketed readings.
fn paired_reading() -> (Instant, Ticks) {
    (0..16)
        .filter_map(|_| {
            let before = cycles()?;
            let instant = Instant::now();
            let after = cycles()?;
            let width = after.wrapping_sub(before);
            Some((width, instant, before.wrapping_add(width / 2)))
        })
        .min_by_key(|&(width, ..)| width)
        .map_or_else(
            || (Instant::now(), 0),
            |(_, instant, ticks)| (instant, ticks),
        )
}

/// Why the cycle counter may not be used, or `None` where it may.
fn counter_refused() -> Option<&'static str> {
    if cycles().is_none() {
        return Some("this build has no cycle counter for the architecture");
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let has = |flag| flags.split_ascii_whitespace().any(|word| word == flag);
    if !has("constant_tsc") || !has("nonstop_tsc") {
        return Some("the processor does not promise a constant, non-stop time-stamp counter");
    }
    let usable = read("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    if !usable
        .split_ascii_whitespace()
        .any(|source| source == "tsc")
    {
        return Some("the kernel does not list the time-stamp counter as a usable clock source");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_time_convert_both_ways() {
        for clock in [Clock::get(), Clock::kernel("asked for by a test")] {
            let length = Duration::from_millis(1500);
            let there = clock.ticks(length);
            let back = clock.ns(there);
            assert!(
                back.abs_diff(1_500_000_000) < 100,
                "{back} ns came back of 1.5 s"
            );
            assert!((clock.seconds(there) - 1.5).abs() < 1e-6);
        }
    }

    #[test]
    fn a_refused_counter_is_recorded_with_the_reason() {
        let record = Clock::kernel("asked for by a test").record();
        assert_eq!(record.source, "clock_monotonic");
        assert_eq!(record.note.as_deref(), Some("asked for by a test"));
        assert!((record.frequency_hz - 1e9).abs() < 1.0);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let clock = Clock::get();
        let stamps: Vec<Ticks> = (0..1000).map(|_| clock.now()).collect();
        assert!(stamps.is_sorted());
    }
}
