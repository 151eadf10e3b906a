//! The clock of the timed loops: the cycle counter where it can be trusted, else the kernel's.
//!
//! A time stamp is taken once per operation, so its price bounds the smallest thing that can be
//! measured. `rdtsc` costs about a third of `clock_gettime` on virtual machines. It is used only
//! where the kernel vouches for it: it takes the counter for its own clock; or the processor says
//! that it ticks at a constant rate through frequency changes and idle states, and the kernel has not
//! struck it from its list of usable clock sources, as it does when its watchdog saw it drift.

use crate::model::{ClockRecord, Fact};
use bench_sys::cycles;
use nix::time::{ClockId, clock_gettime};
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
    /// Whether ticks are cycles; else they are nanoseconds of CLOCK_MONOTONIC, so that processes of
    /// one machine agree on them as they do on cycles.
    cycles: bool,
    /// Nanoseconds per tick, as a fixed-point number with 32 fractional bits.
    ns_per_tick: u64,
    origin: Instant,
    origin_ticks: Ticks,
    refusal: Option<&'static str>,
}

static CLOCK: OnceLock<Clock> = OnceLock::new();

impl Clock {
    /// Makes the kernel's clock the process's, also where the counter could be trusted. Whether
    /// that was in time: nothing has used the process's clock before.
    pub fn choose_kernel(reason: &'static str) -> bool {
        CLOCK.set(Self::kernel(reason)).is_ok()
    }

    /// The process's clock, calibrated on first use (which takes 20 ms).
    pub fn get() -> Self {
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
            kernel_ns()
        }
    }

    /// Whether ticks are cycles of the processor's counter, and not the kernel's nanoseconds.
    #[must_use]
    pub fn counts_cycles(&self) -> bool {
        self.cycles
    }

    /// The length of a tick in nanoseconds, as calibrated.
    #[must_use]
    pub fn ns_per_tick(&self) -> f64 {
        self.ns_per_tick as f64 / (1u64 << 32) as f64
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

/// Nanoseconds of CLOCK_MONOTONIC.
#[inline(always)]
fn kernel_ns() -> u64 {
    // Every Linux has this clock; it begins at 0, and 584 years of nanoseconds fit.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
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
    let sources = "/sys/devices/system/clocksource/clocksource0";
    let source = |name| read(format!("{sources}/{name}_clocksource"));
    refused(
        &read("/proc/cpuinfo".to_owned()),
        &source("current"),
        &source("available"),
    )
}

/// As [`counter_refused`], by what the kernel says.
fn refused(cpuinfo: &str, current: &str, available: &str) -> Option<&'static str> {
    // What the kernel's own clock is made of is as good as that. Emulated processors promise nothing.
    if current.trim() == "tsc" {
        return None;
    }
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let has = |flag| flags.split_ascii_whitespace().any(|word| word == flag);
    if !has("constant_tsc") || !has("nonstop_tsc") {
        return Some("the processor does not promise a constant, non-stop time-stamp counter");
    }
    if !available
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
    fn the_kernels_clock_is_the_same_in_all_of_the_machine() {
        let clocks = [(), ()].map(|()| Clock::kernel("asked for by a test"));
        let [first, second] = clocks.map(|clock| clock.now());
        assert!(second - first < 1_000_000_000, "{first} and {second}");
        assert!(kernel_ns() - second < 1_000_000_000, "of one origin");
        assert!(!clocks[0].counts_cycles());
        assert!((clocks[0].ns_per_tick() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_counter_is_used_where_the_kernel_vouches_for_it() {
        let steady = "model\t: 1\nflags\t\t: fpu tsc constant_tsc nonstop_tsc\n";
        let emulated = "flags\t\t: fpu tsc\n";
        assert_eq!(refused(steady, "kvm-clock\n", "kvm-clock tsc\n"), None);
        assert_eq!(refused(emulated, "tsc\n", "tsc hpet\n"), None);
        let unstable = refused(steady, "hpet\n", "hpet acpi_pm\n").expect("it drifted");
        assert!(unstable.contains("usable clock source"), "{unstable}");
        let other = refused(emulated, "hpet\n", "hpet tsc\n").expect("no promise");
        assert!(other.contains("does not promise"), "{other}");
    }

    #[test]
    fn time_does_not_run_backwards() {
        let clock = Clock::get();
        let stamps: Vec<Ticks> = (0..1000).map(|_| clock.now()).collect();
        assert!(stamps.is_sorted());
    }
}
