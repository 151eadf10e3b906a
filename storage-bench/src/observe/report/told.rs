//! What the report tells of the surroundings: the devices and their series, Amazon's log page, the
//! control group, counters before and after.

use super::{Seen, at_window, counters, ebs_between, pages, seconds};
use crate::observe::counters::{Counters, Usage};
use crate::observe::ebs;
use crate::observe::layers::Relation;
use crate::observe::sampler::{Moment, Sample};
use crate::observe::{Headline, cgroup};
use reports::model::{Counter, Fact};
use serde_json::{Map, Value, json};

impl Seen<'_> {
    pub(super) fn facts(&self, headline: &Headline) -> Map<String, Value> {
        let mut facts = Map::new();
        let (limiter, evidence) = self.verdict(headline);
        facts.insert(
            "limiter".to_owned(),
            json!(format!("{limiter}: {evidence}")),
        );
        facts.insert("device".to_owned(), self.device());
        let steady = self.steady_window(headline);
        let steady = steady.ok_or("the run has fewer than five slices (--interval)");
        facts.insert("steady_state".to_owned(), or_reason(steady));
        if let Headline::Plateau(burst) = headline {
            let (end, iops) = (burst.ends_at_s, burst.iops);
            let told = json!({"ends_at_s": end, "iops": iops, "plateau_iops": burst.plateau_iops});
            facts.insert("burst".to_owned(), told);
        }
        let mut amazon = or_reason(self.ebs.as_ref());
        if let (Ok(_), Ok(devices)) = (&self.ebs, &self.site.logs) {
            amazon["devices"] = json!(devices);
            amazon["series"] = self.ebs_series();
        }
        facts.insert("amazon_log".to_owned(), amazon);
        let limits = self.site.limits.as_ref();
        facts.insert("cgroup_limits".to_owned(), or_reason(limits));
        if let Some((cpus, threads)) = self.workers() {
            let workers = json!({"threads": threads, "cpus": cpus});
            facts.insert("io_workers".to_owned(), workers);
        }
        facts
    }

    fn device(&self) -> Value {
        if let Err(reason) = &self.site.layers {
            return json!({"unavailable": reason});
        }
        let layers = self.layers.iter().zip(&self.usages);
        let layers: Vec<Value> = layers
            .map(|(layer, usage)| {
                let relation = match layer.relation {
                    Relation::Target => "target",
                    Relation::DiskOf => "disk of the partition",
                    Relation::Below => "below",
                };
                json!({
                    "name": layer.name,
                    "relation": relation,
                    "window": or_reason(usage.as_ref()),
                })
            })
            .collect();
        let mut told = json!({"layers": layers, "series": self.series()});
        if let Some(disk) = &self.site.disk {
            told["disk"] = json!({
                "name": disk.name,
                "kind": disk.kind,
                "model": disk.model,
                "ebs_volume_id": disk.ebs_volume_id,
                "firmware": disk.firmware,
                "scheduler": disk.scheduler,
                "write_cache": disk.write_cache,
                "poll_queues": disk.poll_queues,
                "nr_requests": disk.nr_requests,
            });
        }
        told
    }

    /// The target's device, second by second in the window.
    fn series(&self) -> Vec<Value> {
        let Ok((opened, _, _)) = at_window(self.samples) else {
            return Vec::new();
        };
        self.pairs(|before, after| {
            let (earlier, later) = (counters(before, 0).ok()?, counters(after, 0).ok()?);
            let usage = Usage::between(earlier, later, seconds(before, after));
            Some(json!({
                "t_s": seconds(opened, after),
                "iops": usage.iops(),
                "bytes": usage.bytes,
                "mean_queue": usage.mean_queue,
                "utilisation": usage.utilisation,
                "in_flight": later.in_flight,
            }))
        })
    }

    fn ebs_series(&self) -> Value {
        let Ok((opened, _, _)) = at_window(self.samples) else {
            return Value::Null;
        };
        let series = self.pairs(|before, after| {
            let difference = ebs_between(before, after).ok()?;
            let queued = pages(after).ok()?;
            let queued = queued.iter().map(|page| page.queue_length);
            Some(ebs::second(
                seconds(opened, after),
                &difference,
                queued.sum(),
            ))
        });
        series.into()
    }

    /// Neighbouring samples of the window.
    fn pairs(&self, told: impl Fn(&Sample, &Sample) -> Option<Value>) -> Vec<Value> {
        let first = self.samples.iter().position(|s| s.moment == Moment::Opened);
        let last = self.samples.iter().position(|s| s.moment == Moment::Closed);
        let inside = first.zip(last).and_then(|(a, b)| self.samples.get(a..=b));
        let pairs = inside.unwrap_or_default().windows(2);
        pairs.filter_map(|pair| told(&pair[0], &pair[1])).collect()
    }

    /// Counters before everything and after it.
    pub(super) fn counters(&self) -> Vec<Counter> {
        let mut all = Vec::new();
        let (before, after) = (self.samples.first(), self.samples.last());
        if let (Some(layer), Some(before), Some(after)) = (self.layers.first(), before, after) {
            let value = |sample: &Sample, of: fn(&Counters) -> u64| -> Fact<f64> {
                Fact::of(counters(sample, 0).map(|counters| of(counters) as f64))
            };
            for (name, of) in COUNTED {
                all.push(Counter {
                    source: format!("block layer {}", layer.name),
                    name: (*name).to_owned(),
                    before: value(before, *of),
                    after: value(after, *of),
                });
            }
        }
        all.extend(self.pressure());
        all
    }

    fn pressure(&self) -> [Counter; 2] {
        let after = cgroup::pressure(&self.site.machine);
        let source = match &self.site.pressure {
            Ok((file, _)) => file.clone(),
            Err(_) => "io.pressure".to_owned(),
        };
        ["some total (us)", "full total (us)"].map(|name| {
            let of = |read: &Result<(String, [u64; 2]), String>| -> Fact<f64> {
                let at = usize::from(name.starts_with("full"));
                Fact::of(read.as_ref().map(|(_, totals)| totals[at] as f64))
            };
            Counter {
                source: source.clone(),
                name: name.to_owned(),
                before: of(&self.site.pressure),
                after: of(&after),
            }
        })
    }
}

type Of = fn(&Counters) -> u64;

const COUNTED: &[(&str, Of)] = &[
    ("reads", |c| c.ops[0]),
    ("writes", |c| c.ops[1]),
    ("bytes read", |c| c.bytes[0]),
    ("bytes written", |c| c.bytes[1]),
    ("reads merged", |c| c.merges[0]),
    ("writes merged", |c| c.merges[1]),
    ("time in queue (ms)", |c| c.queue_ms),
];

fn or_reason<T: serde::Serialize>(found: Result<T, impl std::fmt::Display>) -> Value {
    match found {
        Ok(found) => json!(found),
        Err(reason) => json!({"unavailable": reason.to_string()}),
    }
}
