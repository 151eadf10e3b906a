//! From samples to the report: facts, counters, flags, the part of the window that is the result,
//! and the verdict.

mod told;

use super::accounts::{self, Jobs};
use super::counters::{Counters, Usage};
use super::ebs::{self, Difference};
use super::layers::{Layer, Relation};
use super::limiter::{self, Scene};
use super::sampler::{Moment, Sample};
use super::{Headline, Observed, Site, warnings};
use crate::analysis::{self, burst, steady};
use crate::spec::{Place, Rw, Spec};
use reports::measure::Totals;
use reports::model::{Counter, Severity, Validity};
use std::collections::HashMap;

/// Share of a window for which a limit was exceeded that is worth a flag.
const EXCEEDED: f64 = 0.01;

/// Everything that was seen, together.
struct Seen<'a> {
    site: &'a Site,
    layers: &'a [Layer],
    samples: &'a [Sample],
    spec: &'a Spec,
    totals: &'a Totals,
    /// What each layer did in the window.
    usages: Vec<Result<Usage, String>>,
    /// What Amazon's device counted in the window.
    ebs: Result<Difference, String>,
}

/// What goes into the report.
pub(super) fn of(
    site: &Site,
    layers: &[Layer],
    samples: &[Sample],
    spec: &Spec,
    totals: &Totals,
) -> Observed {
    let seen = Seen {
        site,
        layers,
        samples,
        spec,
        totals,
        usages: (0..layers.len()).map(|l| usage(samples, l)).collect(),
        ebs: difference(site, samples),
    };
    let mut validity = Validity::default();
    let headline = seen.headline(&mut validity);
    seen.flag(&headline, &mut validity);
    Observed {
        facts: seen.facts(&headline),
        counters: seen.counters(),
        validity,
        page_cache_judged: accounts::from_memory(&seen.jobs(), &seen.lowest()).is_some(),
        headline,
    }
}

fn at(samples: &[Sample], moment: Moment) -> Result<&Sample, String> {
    let mut found = samples.iter().filter(|sample| sample.moment == moment);
    found
        .next()
        .ok_or_else(|| "the window was not seen".to_owned())
}

/// The samples at the window's two ends and their distance in seconds.
fn at_window(samples: &[Sample]) -> Result<(&Sample, &Sample, f64), String> {
    let (opened, closed) = (at(samples, Moment::Opened)?, at(samples, Moment::Closed)?);
    Ok((opened, closed, seconds(opened, closed)))
}

fn seconds(from: &Sample, to: &Sample) -> f64 {
    to.at.duration_since(from.at).as_secs_f64()
}

fn counters(sample: &Sample, layer: usize) -> Result<&Counters, String> {
    sample.layers[layer].as_ref().map_err(String::clone)
}

fn usage(samples: &[Sample], layer: usize) -> Result<Usage, String> {
    let (opened, closed, seconds) = at_window(samples)?;
    let (before, after) = (counters(opened, layer)?, counters(closed, layer)?);
    Ok(Usage::between(before, after, seconds))
}

fn pages(sample: &Sample) -> Result<Vec<&ebs::Page>, String> {
    let pages = sample.logs.iter().map(|page| page.as_ref());
    pages.map(|page| page.map_err(String::clone)).collect()
}

/// What all of Amazon's devices below the target did between two samples.
fn ebs_between(before: &Sample, after: &Sample) -> Result<Difference, String> {
    let (earlier, later) = (pages(before)?, pages(after)?);
    let pairs = earlier.into_iter().zip(later);
    let each = pairs.map(|(e, l)| Difference::between(e, l, seconds(before, after)));
    each.reduce(Difference::beside)
        .ok_or_else(|| "no log page was read".to_owned())
}

fn difference(site: &Site, samples: &[Sample]) -> Result<Difference, String> {
    site.logs.clone()?;
    let (opened, closed, _) = at_window(samples)?;
    ebs_between(opened, closed)
}

impl Seen<'_> {
    /// The part of the window that is the result.
    fn headline(&self, validity: &mut Validity) -> Headline {
        let slices = &self.totals.intervals;
        if let Some(per_round) = self.spec.slices_per_round() {
            let window = steady::last_window(slices, per_round);
            if let Some(window) = window.as_ref().filter(|window| window.steady) {
                return Headline::Steady(window.clone());
            }
            let evidence = match window {
                Some(window) => format!("the time-out came first: {}", window.evidence()),
                None => "the run ended before it had five rounds".to_owned(),
            };
            validity.flag(Severity::Degraded, "not_steady", evidence);
        }
        // The rate of an open loop is its schedule's, and without I/O there are no credits.
        let own_pace = self.offered().is_none() && self.spec.place != Place::Nowhere;
        match burst::find(slices).filter(|_| own_pace) {
            Some(burst) => Headline::Plateau(burst),
            None => Headline::Whole,
        }
    }

    /// The rate of an open loop, by the name of its parameter.
    fn offered(&self) -> Option<f64> {
        let pace = serde_json::to_value(&self.spec.pace).ok()?;
        pace.get("rate_iops")?.as_f64()
    }

    /// Shares of the operations that read and that wrote.
    fn shares(&self) -> [f64; 2] {
        let done = |name: &str| {
            let mut extra = self.totals.extra.iter().filter(|(extra, _)| *extra == name);
            extra
                .next()
                .map_or(0.0, |(_, histogram)| histogram.len() as f64)
        };
        let (read, written) = (done("read_lat_ns"), done("write_lat_ns"));
        match self.spec.pattern.rw {
            Rw::Read | Rw::Randread => [1.0, 0.0],
            Rw::Write | Rw::Randwrite => [0.0, 1.0],
            _ if read + written > 0.0 => [read, written].map(|part| part / (read + written)),
            _ => [0.0, 0.0],
        }
    }

    fn jobs(&self) -> Jobs {
        Jobs {
            seconds: self.totals.elapsed_s,
            bytes: self
                .shares()
                .map(|share| share * self.totals.work.bytes as f64),
            direct: self.spec.direct,
        }
    }

    /// The layers below which nothing is.
    fn lowest(&self) -> Vec<&Usage> {
        let all = self.layers.iter().zip(&self.usages);
        let lowest = all.filter(|(layer, _)| layer.lowest);
        lowest
            .filter_map(|(_, usage)| usage.as_ref().ok())
            .collect()
    }

    /// The target's device and, of a partition, its disk.
    fn own(&self) -> Vec<(&str, &Usage)> {
        let part = self
            .layers
            .get(1)
            .is_some_and(|l| l.relation == Relation::DiskOf);
        let own = self
            .layers
            .iter()
            .zip(&self.usages)
            .take(1 + usize::from(part));
        own.filter_map(|(layer, usage)| Some((layer.name.as_str(), usage.as_ref().ok()?)))
            .collect()
    }

    fn flag(&self, headline: &Headline, validity: &mut Validity) {
        let jobs = self.jobs();
        accounts::flag(&jobs, &self.lowest(), &self.own(), validity);
        if let Ok(ebs) = &self.ebs {
            self.flag_ebs(ebs, headline, validity);
        }
        if let Headline::Plateau(burst) = headline {
            let evidence = format!(
                "{:.0} IOPS until {:.1} s into the window, {:.0} after: iops and bandwidth are \
                 those of the plateau; latencies are over the whole window, but for plateau_lat_ns",
                burst.iops, burst.ends_at_s, burst.plateau_iops
            );
            validity.flag(Severity::Degraded, "burst", evidence);
        }
        if self.spec.steady.is_none()
            && let Some(window) = self.steady_window(headline).filter(|w| !w.steady)
        {
            validity.flag(Severity::Info, "not_steady", window.evidence());
        }
        if !jobs.direct
            && let Ok(background) = background_bytes(self.site)
            && let Some(evidence) = warnings::kept_in_memory(jobs.bytes[1], background)
        {
            validity.flag(Severity::Info, "shorter_than_cache", evidence);
        }
    }

    fn flag_ebs(&self, ebs: &Difference, headline: &Headline, validity: &mut Validity) {
        let limits = [
            ("volume_limit", "volume", ebs.volume_exceeded_s),
            ("instance_limit", "instance", ebs.instance_exceeded_s),
        ];
        for (code, whose, exceeded_s) in limits {
            let long = exceeded_s.iter().any(|s| *s >= EXCEEDED * ebs.seconds);
            let evidence = limiter::exceeded(whose, exceeded_s, ebs.seconds);
            if let Some(evidence) = evidence.filter(|_| long) {
                validity.flag(Severity::Info, code, evidence);
            }
        }
        if self.spec.pattern.rw.reads()
            && let Some(evidence) = warnings::first_touch(ebs, &self.totals.intervals)
        {
            validity.flag(Severity::Degraded, "maybe_first_touch", evidence);
        }
        let bytes = self
            .site
            .disk
            .as_ref()
            .and_then(|disk| disk.size_bytes.known());
        if let (ebs::Kind::Ebs, Headline::Whole, Some(&bytes)) = (ebs.kind, headline, bytes) {
            let (iops, run_s) = (self.iops(), self.totals.elapsed_s);
            if let Some(evidence) = warnings::credits_left(bytes, iops, run_s) {
                validity.flag(Severity::Info, "shorter_than_credits", evidence);
            }
        }
    }

    fn iops(&self) -> f64 {
        self.totals.work.ops as f64 / self.totals.elapsed_s
    }

    /// Whether the run was steady in the end: by its rounds, or by fifths of what is the result.
    fn steady_window(&self, headline: &Headline) -> Option<steady::Window> {
        let slices = &self.totals.intervals[..];
        if let Some(per_round) = self.spec.slices_per_round() {
            return steady::last_window(slices, per_round);
        }
        let slices = match headline {
            Headline::Plateau(burst) => &slices[burst.plateau.clone()],
            _ => slices,
        };
        let slices = analysis::whole(slices);
        steady::last_window(slices, slices.len() / steady::ROUNDS)
    }

    fn verdict(&self, headline: &Headline) -> (limiter::Limiter, String) {
        let (own, jobs) = (self.own(), self.jobs());
        let iops = self.iops();
        let seconds = jobs.seconds;
        let busiest = self.totals.threads.iter();
        let busiest = busiest.map(|thread| (thread.cpu.user_s + thread.cpu.system_s) / seconds);
        limiter::judge(&Scene {
            elapsed_s: seconds,
            iops,
            bytes_per_s: jobs.bytes.map(|bytes| bytes / seconds),
            ops_per_s: self.shares().map(|share| share * iops),
            mean_ns: self.totals.latencies.mean(),
            depth: (self.spec.iodepth * self.spec.numjobs) as f64,
            offered_iops: self.offered(),
            busiest_job: busiest.fold(0.0, f64::max),
            machine_idle: idle(&self.totals.counters),
            workers: self.workers(),
            force_async: self.spec.options.force_async > 0,
            device: own.first().copied(),
            from_memory: accounts::from_memory(&jobs, &self.lowest()),
            limits: self.site.limits.as_ref().ok(),
            ebs: self.ebs.as_ref().ok(),
            burst: match headline {
                Headline::Plateau(burst) => Some(burst),
                _ => None,
            },
        })
    }

    /// CPUs that io_uring's workers used in the window, and how many of them there were.
    fn workers(&self) -> Option<(f64, usize)> {
        let (opened, _, seconds) = at_window(self.samples).ok()?;
        let mut used: HashMap<u32, u64> = HashMap::new();
        // A worker that is gone had what it had when it was last seen.
        for sample in self
            .samples
            .iter()
            .filter(|s| s.at > opened.at && s.moment != Moment::After)
        {
            used.extend(sample.workers.iter().copied());
        }
        let before: HashMap<u32, u64> = opened.workers.iter().copied().collect();
        let grown = used
            .iter()
            .map(|(id, ns)| ns.saturating_sub(*before.get(id).unwrap_or(&0)));
        let ns: u64 = grown.sum();
        (ns > 0).then(|| (ns as f64 / 1e9 / seconds, used.len()))
    }
}

/// Share of the machine's CPU time that was idle, by the harness's own counters.
fn idle(counters: &[Counter]) -> Option<f64> {
    let ticks = counters
        .iter()
        .filter(|c| c.source.starts_with("/proc/stat"));
    let (mut all, mut idle) = (0.0, 0.0);
    for counter in ticks {
        let grown = counter.after.known()? - counter.before.known()?;
        all += grown;
        if matches!(counter.name.as_str(), "idle" | "iowait") {
            idle += grown;
        }
    }
    (all > 0.0).then(|| idle / all)
}

/// From how many bytes of changed memory the kernel writes back: vm.dirty_background_bytes, or
/// its share of the memory that is available.
fn background_bytes(site: &Site) -> Result<f64, String> {
    let number = |file: &str| -> Result<f64, String> {
        let path = site.machine.proc.join("sys/vm").join(file);
        let text = super::text(&path)?;
        text.parse()
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let bytes = number("dirty_background_bytes")?;
    if bytes > 0.0 {
        return Ok(bytes);
    }
    let percent = number("dirty_background_ratio")?;
    Ok(percent / 100.0 * site.machine.available_bytes()? as f64)
}
