//! What the machine did to the run: CPU time taken, stolen and withheld.

use crate::model::{Counter, Fact, Severity, Validity};
use bench_sys::calls;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use std::fs;
use std::ops::{Add, Sub};

/// CPU seconds, context switches and system calls of a thread or of a group of threads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// Seconds in user mode.
    pub user_s: f64,
    /// Seconds in the kernel.
    pub system_s: f64,
    /// Context switches because the thread waited.
    pub voluntary_switches: u64,
    /// Context switches because the scheduler took the CPU away.
    pub involuntary_switches: u64,
    /// System calls that the workload counted with [`bench_sys::calls`].
    pub system_calls: u64,
}

impl Cpu {
    /// The calling thread's usage since it started.
    pub(super) fn of_this_thread() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_THREAD);
        Self {
            system_calls: calls::made(),
            ..usage.map(Self::from_usage).unwrap_or_default()
        }
    }

    fn from_usage(usage: Usage) -> Self {
        let seconds =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Self {
            user_s: seconds(usage.user_time()),
            system_s: seconds(usage.system_time()),
            voluntary_switches: count(usage.voluntary_context_switches()),
            involuntary_switches: count(usage.involuntary_context_switches()),
            system_calls: 0,
        }
    }
}

impl Add for Cpu {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            user_s: self.user_s + other.user_s,
            system_s: self.system_s + other.system_s,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
            system_calls: self.system_calls + other.system_calls,
        }
    }
}

impl Sub for Cpu {
    type Output = Self;
    fn sub(self, earlier: Self) -> Self {
        let less = u64::saturating_sub;
        Self {
            user_s: (self.user_s - earlier.user_s).max(0.0),
            system_s: (self.system_s - earlier.system_s).max(0.0),
            voluntary_switches: less(self.voluntary_switches, earlier.voluntary_switches),
            involuntary_switches: less(self.involuntary_switches, earlier.involuntary_switches),
            system_calls: less(self.system_calls, earlier.system_calls),
        }
    }
}

impl std::iter::Sum for Cpu {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

/// Share of the machine's CPU time that a hypervisor may take before the run is flagged.
const STEAL_LIMIT: f64 = 0.01;

/// Readings at the start of a run, to be compared with those at its end. The harness takes them
/// itself; a program with a driver of its own (MPI kernels) takes them on every node.
#[derive(Debug, Clone)]
pub struct Watch {
    stat: Result<[f64; 8], String>,
    throttled: Result<f64, String>,
}

impl Watch {
    /// Reads the machine's counters.
    #[must_use]
    pub fn start() -> Self {
        Self {
            stat: cpu_times(),
            throttled: throttled_us(),
        }
    }

    /// What held the machine back from this reading to a later one: flags' codes and evidence.
    pub(super) fn until(&self, after: &Self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if let (Ok(before), Ok(after)) = (&self.stat, &after.stat) {
            let total: f64 = after.iter().sum::<f64>() - before.iter().sum::<f64>();
            let stolen = (after[STEAL] - before[STEAL]) / total.max(1.0);
            if stolen > STEAL_LIMIT {
                let (stolen, limit) = (stolen * 100.0, STEAL_LIMIT * 100.0);
                let evidence = format!(
                    "the hypervisor took {stolen:.1} % of the CPU time (limit {limit:.0} %)"
                );
                found.push(("cpu_steal", evidence));
            }
        }
        if let (Ok(before), Ok(after)) = (&self.throttled, &after.throttled)
            && after > before
        {
            let seconds = (after - before) / 1e6;
            let evidence = format!(
                "the cgroup's CPU quota held the run back for {seconds:.3} s (summed over its \
                 threads)"
            );
            found.push(("cgroup_throttled", evidence));
        }
        found
    }

    /// Counters before and after, and flags for what disturbed the run.
    #[must_use]
    pub fn stop(self) -> (Vec<Counter>, Validity) {
        let mut validity = Validity::default();
        let after = Self::start();
        for (code, evidence) in self.until(&after) {
            validity.flag(Severity::Degraded, code, evidence);
        }
        let of = |stat: &Result<[f64; 8], String>, field: usize| {
            Fact::of(stat.as_ref().map(|times| times[field]))
        };
        let mut counters: Vec<Counter> = STAT_FIELDS
            .iter()
            .enumerate()
            .map(|(field, name)| Counter {
                source: "/proc/stat cpu (ticks)".to_owned(),
                name: (*name).to_owned(),
                before: of(&self.stat, field),
                after: of(&after.stat, field),
            })
            .collect();
        counters.push(Counter {
            source: "cgroup cpu.stat".to_owned(),
            name: "throttled_usec".to_owned(),
            before: Fact::of(self.throttled),
            after: Fact::of(after.throttled),
        });
        (counters, validity)
    }
}

const STAT_FIELDS: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];
const STEAL: usize = 7;

/// The machine's CPU times since boot, in clock ticks, by field.
fn cpu_times() -> Result<[f64; 8], String> {
    let text = fs::read_to_string("/proc/stat").map_err(|error| format!("/proc/stat: {error}"))?;
    parse_cpu_times(&text).ok_or_else(|| "/proc/stat: no usable cpu line".to_owned())
}

fn parse_cpu_times(text: &str) -> Option<[f64; 8]> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let mut times = [0.0; 8];
    let mut fields = line.split_ascii_whitespace().skip(1);
    for time in &mut times {
        *time = fields.next()?.parse().ok()?;
    }
    Some(times)
}

/// How long this process's cgroup was held back by its CPU quota, in microseconds.
fn throttled_us() -> Result<f64, String> {
    let group = fs::read_to_string("/proc/self/cgroup")
        .map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    let path = group
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or("no cgroup v2 membership in /proc/self/cgroup")?;
    let file = format!("/sys/fs/cgroup{}/cpu.stat", path.trim_end_matches('/'));
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("throttled_usec "))
        .ok_or_else(|| format!("{file} has no throttled_usec"))?
        .trim()
        .parse()
        .map_err(|error| format!("{file} throttled_usec: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_line_is_read_field_by_field() {
        let text = "cpu  10 20 30 40 50 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        let times = parse_cpu_times(text).expect("the line is complete");
        assert_eq!(times[STEAL], 80.0);
        assert_eq!(parse_cpu_times("cpu  10 20\n"), None);
        assert_eq!(parse_cpu_times(""), None);
    }

    #[test]
    fn stolen_time_raises_a_flag_and_idle_time_does_not() {
        let mut before = cpu_times().expect("tests run on Linux");
        before[STEAL] -= 1000.0;
        let stolen = Watch {
            stat: Ok(before),
            throttled: Err("not under test".into()),
        };
        let (counters, validity) = stolen.stop();
        assert_eq!(validity.flags[0].code, "cpu_steal");
        assert_eq!(counters.len(), STAT_FIELDS.len() + 1);
    }
}
