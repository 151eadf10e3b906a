//! What limited a run: a judgement over what was observed and nothing else, so that it can be
//! tested without a device.
//!
//! The rules are tried in the order of how directly a cause is seen: who counts what it held back
//! is a witness, a limit that is known and reached is one too; a device that always had all of the
//! requests only suggests. Where nothing stands out the verdict is `unknown` and says what was
//! looked at.

use super::cgroup::Limits;
use super::counters::Usage;
use super::ebs::Difference;
use crate::analysis::burst::Burst;
use std::fmt;

/// Share of the window for which a limit must have been exceeded to be what limits.
const EXCEEDED: f64 = 0.1;
/// Share of a known rate from which it is what limits.
const NEAR: f64 = 0.9;
/// Share of an offered rate from which it was kept.
const KEPT: f64 = 0.97;
/// Share of the bytes read that came from memory from which memory is what was measured.
const FROM_MEMORY: f64 = 0.5;
/// Share of a CPU from which a job never waits.
const BUSY_JOB: f64 = 0.95;
/// Share of the machine's CPU time that is idle below which there is none left.
const NO_CPU_LEFT: f64 = 0.05;
/// CPUs that the kernel's workers use from which they are part of every I/O.
const BUSY_WORKERS: f64 = 0.5;
/// Share of the depth that the device had on average from which the requests wait in the device.
const IN_DEVICE: f64 = 0.7;
/// Share of the time from which a device was always busy.
const ALWAYS_BUSY: f64 = 0.95;
/// Depths from which a device that is always busy is more likely saturated than short of requests.
const DEEP: f64 = 32.0;
/// A shorter window shows nothing, in seconds.
const SHORTEST: f64 = 0.2;

/// What held a run back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limiter {
    /// The limits of an EBS volume or an instance store.
    Volume,
    /// The limits of the instance.
    Instance,
    /// A throttle of the control group.
    Cgroup,
    /// The rate that was asked for.
    Rate,
    /// A bucket of credits that ran empty.
    Credits,
    /// Memory, not the device.
    PageCache,
    /// The CPU of a job.
    JobCpu,
    /// The machine's CPUs.
    MachineCpu,
    /// io_uring's workers.
    Workers,
    /// The device.
    Device,
    /// The number of requests in flight.
    Depth,
    /// Nothing stands out.
    Unknown,
}

impl fmt::Display for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volume => "volume limit",
            Self::Instance => "instance limit",
            Self::Cgroup => "cgroup throttle",
            Self::Rate => "the rate asked for",
            Self::Credits => "credits",
            Self::PageCache => "page cache",
            Self::JobCpu => "CPU of the job",
            Self::MachineCpu => "CPUs of the machine",
            Self::Workers => "io_uring workers",
            Self::Device => "device",
            Self::Depth => "queue depth",
            Self::Unknown => "unknown",
        })
    }
}

/// Everything that is judged.
#[derive(Debug, Clone, Default)]
pub struct Scene<'a> {
    /// Length of the window in seconds.
    pub elapsed_s: f64,
    /// Operations per second.
    pub iops: f64,
    /// Bytes read and written per second.
    pub bytes_per_s: [f64; 2],
    /// Operations read and written per second.
    pub ops_per_s: [f64; 2],
    /// Mean latency in nanoseconds.
    pub mean_ns: f64,
    /// Requests that the jobs keep in flight.
    pub depth: f64,
    /// The rate of an open loop.
    pub offered_iops: Option<f64>,
    /// CPU share of the busiest job.
    pub busiest_job: f64,
    /// Share of the machine's CPU time that was idle.
    pub machine_idle: Option<f64>,
    /// CPUs that io_uring's workers used, and how many there were.
    pub workers: Option<(f64, usize)>,
    /// Whether they were asked for (`--force-async`).
    pub force_async: bool,
    /// What the device of the target did.
    pub device: Option<(&'a str, &'a Usage)>,
    /// Share of the bytes read that no device read.
    pub from_memory: Option<f64>,
    /// Limits of the control group.
    pub limits: Option<&'a Limits>,
    /// What Amazon's device counted.
    pub ebs: Option<&'a Difference>,
    /// A burst in the window.
    pub burst: Option<&'a Burst>,
}

type Rule = fn(&Scene<'_>) -> Option<String>;

/// The first that finds something decides.
const RULES: &[(Limiter, Rule)] = &[
    (Limiter::Volume, |seen| seen.volume()),
    (Limiter::Instance, |seen| seen.instance()),
    (Limiter::Cgroup, |seen| seen.cgroup()),
    (Limiter::Rate, |seen| seen.rate()),
    (Limiter::Credits, |seen| seen.credits()),
    (Limiter::PageCache, |seen| seen.page_cache()),
    (Limiter::JobCpu, |seen| seen.job_cpu()),
    (Limiter::Workers, |seen| seen.io_workers()),
    (Limiter::MachineCpu, |seen| seen.machine_cpu()),
    (Limiter::Device, |seen| seen.saturated()),
    (Limiter::Depth, |seen| seen.queue_depth()),
];

/// The verdict and what it rests on.
#[must_use]
pub fn judge(scene: &Scene<'_>) -> (Limiter, String) {
    if scene.elapsed_s < SHORTEST {
        let evidence = format!(
            "the window of {:.3} s is too short to tell",
            scene.elapsed_s
        );
        return (Limiter::Unknown, evidence);
    }
    let found = RULES.iter();
    let mut found = found.filter_map(|(limiter, rule)| Some((*limiter, rule(scene)?)));
    found
        .next()
        .unwrap_or_else(|| (Limiter::Unknown, scene.nothing()))
}

/// Which of a pair of limits, of IOPS and of throughput, was exceeded, and for how long.
#[must_use]
pub fn exceeded(whose: &str, exceeded_s: [f64; 2], seconds: f64) -> Option<String> {
    let (what, longest) = match exceeded_s {
        [iops, throughput] if iops >= throughput => ("IOPS", iops),
        [_, throughput] => ("throughput", throughput),
    };
    (longest > 0.0).then(|| {
        format!("the {whose}'s {what} limit was exceeded for {longest:.1} of {seconds:.1} s")
    })
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

impl Scene<'_> {
    fn volume(&self) -> Option<String> {
        let seen = self.ebs?;
        let long = seen
            .volume_exceeded_s
            .iter()
            .any(|s| *s >= EXCEEDED * seen.seconds);
        long.then(|| exceeded("volume", seen.volume_exceeded_s, seen.seconds))?
    }

    fn instance(&self) -> Option<String> {
        let seen = self.ebs?;
        let long = seen
            .instance_exceeded_s
            .iter()
            .any(|s| *s >= EXCEEDED * seen.seconds);
        long.then(|| exceeded("instance", seen.instance_exceeded_s, seen.seconds))?
    }

    fn cgroup(&self) -> Option<String> {
        let limits = self.limits?;
        // Of a run in two parts the later one is at the limit, and the mean is not.
        let later = self
            .burst
            .map_or(1.0, |burst| burst.plateau_iops / self.iops);
        let rates = [
            ("reads", self.ops_per_s[0], limits.iops[0], "operations"),
            ("writes", self.ops_per_s[1], limits.iops[1], "operations"),
            ("reads", self.bytes_per_s[0], limits.bytes_per_s[0], "bytes"),
            (
                "writes",
                self.bytes_per_s[1],
                limits.bytes_per_s[1],
                "bytes",
            ),
        ];
        rates.into_iter().find_map(|(what, rate, limit, unit)| {
            let (rate, limit) = (rate * later, limit? as f64);
            // Far above it the limit is not on what the jobs do (a cache is before it).
            let near = (NEAR * limit..=2.0 * limit).contains(&rate);
            near.then(|| {
                format!("{what} ran at {rate:.0} {unit}/s, and the control group allows {limit:.0}")
            })
        })
    }

    fn rate(&self) -> Option<String> {
        let offered = self.offered_iops?;
        (self.iops >= KEPT * offered).then(|| {
            format!(
                "{:.0} IOPS were done of the {offered:.0} offered: the storage kept up",
                self.iops
            )
        })
    }

    fn credits(&self) -> Option<String> {
        let burst = self.burst?;
        Some(format!(
            "{:.0} IOPS until {:.1} s and {:.0} after: a bucket of credits (volume, instance, \
             hypervisor) ran empty, and the rate at which it fills is what is left",
            burst.iops, burst.ends_at_s, burst.plateau_iops
        ))
    }

    fn page_cache(&self) -> Option<String> {
        let share = self.from_memory.filter(|share| *share >= FROM_MEMORY)?;
        Some(format!(
            "{} of the bytes read came from memory",
            percent(share)
        ))
    }

    fn job_cpu(&self) -> Option<String> {
        (self.busiest_job >= BUSY_JOB).then(|| {
            let used = percent(self.busiest_job.min(1.0));
            format!("the busiest job used {used} of a CPU: more jobs (--numjobs) would give more")
        })
    }

    fn io_workers(&self) -> Option<String> {
        let (cpus, count) = self.workers.filter(|(cpus, _)| *cpus >= BUSY_WORKERS)?;
        let (why, hint) = match self.force_async {
            true => ("as --force-async asks, io_uring hands requests", ""),
            false => (
                "the file takes no non-blocking requests, so io_uring hands them",
                "--force-async 1 saves the vain attempts, and ",
            ),
        };
        Some(format!(
            "{why} to kernel threads: {count} of them used {cpus:.2} CPUs; {hint}--engine psync \
             may be faster here"
        ))
    }

    fn machine_cpu(&self) -> Option<String> {
        let idle = self.machine_idle.filter(|idle| *idle < NO_CPU_LEFT)?;
        Some(format!(
            "the machine's CPUs were {} busy, with this run and others; its busiest job got {} of \
             one",
            percent(1.0 - idle),
            percent(self.busiest_job)
        ))
    }

    /// The device had nearly all of the requests nearly all of the time.
    fn filled(&self) -> Option<(&str, &Usage)> {
        let (name, usage) = self.device?;
        let full = usage.mean_queue >= IN_DEVICE * self.depth;
        let busy = usage.utilisation.is_none_or(|busy| busy >= ALWAYS_BUSY);
        (self.offered_iops.is_none() && full && busy).then_some((name, usage))
    }

    fn saturated(&self) -> Option<String> {
        let (name, usage) = self.filled().filter(|_| self.depth >= DEEP)?;
        Some(format!(
            "{name} always had requests to do, {:.1} at a time of the {:.0} in flight: more depth \
             would only make them wait longer",
            usage.mean_queue, self.depth
        ))
    }

    fn queue_depth(&self) -> Option<String> {
        let inside = match self.filled() {
            Some((name, usage)) => format!("{name} had {:.1} of them", usage.mean_queue),
            // Nearly all of the time of each request passes in the device.
            None => {
                let (name, usage) = self.device?;
                let share = usage.mean_ns? / self.mean_ns;
                let closed = self.offered_iops.is_none() && self.depth < DEEP;
                (closed && share >= IN_DEVICE).then_some(())?;
                format!("of their time {} passed in {name}", percent(share.min(1.0)))
            }
        };
        (self.depth < DEEP).then(|| {
            format!(
                "a closed loop at depth {:.0} (iodepth x numjobs), each request taking {:.1} us; \
                 {inside}; more depth would give more, unless the device does one at a time",
                self.depth,
                self.mean_ns / 1e3
            )
        })
    }

    /// What was looked at in vain.
    fn nothing(&self) -> String {
        let mut seen = format!(
            "nothing stands out; busiest job {} of a CPU",
            percent(self.busiest_job)
        );
        match self.device {
            Some((name, usage)) => {
                seen.push_str(&format!(
                    "; {name} had {:.1} requests at a time of {:.0} in flight",
                    usage.mean_queue, self.depth
                ));
                if let Some(busy) = usage.utilisation {
                    seen.push_str(&format!(" and was busy {} of the time", percent(busy)));
                }
            }
            None => seen.push_str("; no device was observed"),
        }
        if let Some(offered) = self.offered_iops {
            seen.push_str(&format!("; {:.0} IOPS of {offered:.0} offered", self.iops));
        }
        if self.limits.is_none_or(Limits::none) {
            seen.push_str("; no limit of a control group is known");
        }
        seen
    }
}

#[cfg(test)]
mod tests;
