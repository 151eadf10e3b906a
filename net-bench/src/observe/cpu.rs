//! Where the CPU time went: user mode, kernel, interrupts and softirqs, core by core, for the
//! whole machine; and what this side's own threads used.
//!
//! Softirqs do the receiving, often on another core than the thread that reads: a thread that is
//! half idle beside a core that is all softirq is limited by CPU all the same.

use reports::measure::Totals;
use reports::model::Fact;
use serde::{Deserialize, Serialize};
use std::fs;

/// Ticks per second of `/proc/stat`: USER_HZ, 100 on every architecture that Linux came to in this
/// century.
const TICKS_PER_S: f64 = 100.0;

/// The most cores that are read.
const MAX_CORES: usize = 1024;

/// How one core spent the window, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoreUse {
    /// The core's number.
    pub cpu: u32,
    /// In user mode.
    pub user_s: f64,
    /// In the kernel, for a process.
    pub system_s: f64,
    /// In interrupts.
    pub irq_s: f64,
    /// In softirqs: protocol processing of received packets, above all.
    pub softirq_s: f64,
    /// Taken by the hypervisor.
    pub steal_s: f64,
    /// With nothing to do.
    pub idle_s: f64,
}

impl CoreUse {
    fn total_s(&self) -> f64 {
        self.user_s + self.system_s + self.irq_s + self.softirq_s + self.steal_s + self.idle_s
    }

    /// The share of its time with something to do; `None` for a window too short for the kernel's
    /// clock.
    #[must_use]
    pub fn busy(&self) -> Option<f64> {
        self.share(self.total_s() - self.idle_s)
    }

    /// The share of its time in interrupts and softirqs.
    #[must_use]
    pub fn interrupted(&self) -> Option<f64> {
        self.share(self.irq_s + self.softirq_s)
    }

    fn share(&self, part_s: f64) -> Option<f64> {
        // Below 20 ticks one tick more or less is 5 % and says nothing.
        let total_s = self.total_s();
        (total_s >= 20.0 / TICKS_PER_S).then(|| part_s / total_s)
    }

    fn since(&self, earlier: &Self) -> Self {
        // The kernel lets idle time fall back a little now and then.
        let grown = |later: f64, earlier: f64| (later - earlier).max(0.0);
        Self {
            cpu: self.cpu,
            user_s: grown(self.user_s, earlier.user_s),
            system_s: grown(self.system_s, earlier.system_s),
            irq_s: grown(self.irq_s, earlier.irq_s),
            softirq_s: grown(self.softirq_s, earlier.softirq_s),
            steal_s: grown(self.steal_s, earlier.steal_s),
            idle_s: grown(self.idle_s, earlier.idle_s),
        }
    }
}

/// What this side's threads used in their window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadUse {
    /// Threads.
    pub threads: u64,
    /// Seconds in user mode, over all of them.
    pub user_s: f64,
    /// Seconds in the kernel, likewise.
    pub system_s: f64,
    /// The largest share of its window that any of them was running.
    pub busiest_thread: f64,
    /// How often one of them waited and gave the CPU away.
    #[serde(default)]
    pub voluntary_switches: u64,
    /// How often the scheduler took the CPU from one of them.
    pub involuntary_switches: u64,
    /// System calls that they made.
    #[serde(default)]
    pub system_calls: u64,
}

impl ThreadUse {
    /// From what the harness measured.
    #[must_use]
    pub(super) fn of(totals: &Totals) -> Self {
        let elapsed_s = totals.elapsed_s.max(f64::MIN_POSITIVE);
        let shares = totals.threads.iter().map(|thread| {
            let used_s = thread.cpu.user_s + thread.cpu.system_s;
            used_s / elapsed_s
        });
        Self {
            threads: totals.threads.len() as u64,
            user_s: totals.cpu.user_s,
            system_s: totals.cpu.system_s,
            busiest_thread: shares.fold(0.0, f64::max),
            voluntary_switches: totals.cpu.voluntary_switches,
            involuntary_switches: totals.cpu.involuntary_switches,
            system_calls: totals.cpu.system_calls,
        }
    }

    /// Seconds in user mode and kernel together.
    #[must_use]
    pub fn total_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// Every core's time since boot.
pub(super) fn cores() -> Result<Vec<CoreUse>, String> {
    let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
    match parse(&text) {
        cores if cores.is_empty() => Err("/proc/stat: no usable line of any core".to_owned()),
        cores => Ok(cores),
    }
}

/// The lines `cpu0 user nice system idle iowait irq softirq steal …`.
fn parse(text: &str) -> Vec<CoreUse> {
    let lines = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let cpu = name.strip_prefix("cpu")?.parse().ok()?;
        let mut fields = rest.split_ascii_whitespace().map(str::parse::<f64>);
        let mut next = || Some(fields.next()?.ok()? / TICKS_PER_S);
        let [user, nice, system, idle, iowait] = [next()?, next()?, next()?, next()?, next()?];
        Some(CoreUse {
            cpu,
            user_s: user + nice,
            system_s: system,
            idle_s: idle + iowait,
            irq_s: next()?,
            softirq_s: next()?,
            steal_s: next()?,
        })
    });
    lines.take(MAX_CORES).collect()
}

/// How the cores spent the time between two readings; those that came or went are left out.
pub(super) fn between(
    before: &Result<Vec<CoreUse>, String>,
    after: &Result<Vec<CoreUse>, String>,
) -> Fact<Vec<CoreUse>> {
    let (before, after) = match (before, after) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => return Fact::unavailable(error),
    };
    let same = after.iter().filter_map(|core| {
        let earlier = before.iter().find(|earlier| earlier.cpu == core.cpu)?;
        Some(core.since(earlier))
    });
    Fact::Known(same.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 100 0 100 1000 0 0 50 0 0 0\n\
                          cpu2 5 0 5 5 0 0 5 0 0 0\nintr 5 6 7\n";
    const AFTER: &str = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 110 10 120 1000 10 10 90 0 0 0\n\
                         cpu1 5 0 5 5 0 0 5 0 0 0\nintr 5 6 7\n";

    #[test]
    fn a_core_is_told_by_what_it_did_in_the_window() {
        let spent = between(&Ok(parse(BEFORE)), &Ok(parse(AFTER)));
        let cores = spent.known().expect("both were read");
        assert_eq!(cores.len(), 1, "cpu1 came and cpu2 went: {cores:?}");
        let core = cores[0];
        assert!((core.user_s - 0.2).abs() < 1e-9 && (core.softirq_s - 0.4).abs() < 1e-9);
        let busy = core.busy().expect("a second passed");
        assert!((busy - 0.9).abs() < 1e-9, "{busy}");
        assert!((core.interrupted().expect("likewise") - 0.5).abs() < 1e-9);
        assert_eq!(CoreUse::default().busy(), None);
    }

    #[test]
    fn lines_that_are_none_are_left_out_and_the_reason_is_kept() {
        assert_eq!(
            parse("cpu0 1 2 3\ncpux 1 2 3 4 5 6 7 8\n\ncpu1 a\n"),
            Vec::new()
        );
        let missing = between(&Err("/proc/stat: gone".to_owned()), &Ok(Vec::new()));
        assert_eq!(missing.reason(), Some("/proc/stat: gone"));
        assert!(!cores().expect("tests run on Linux").is_empty());
    }
}
