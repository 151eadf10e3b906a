//! The highest rate that keeps a latency: runs of an open loop at rates that close in on it.
//!
//! A closed loop cannot answer the question, because its rate follows from its latency. So each
//! probe offers a rate and is judged by the response times: kept, missed, or overloaded. The search
//! sees nothing but measurements, and so can be tested on a device that is a formula.

mod verdict;

use crate::spec::{LatencyTarget, PaceSpec, Spec};
use reports::measure::stop_requested;
use reports::model::{Aggregation, Direction, Fact, Measurement, Metric, OBSERVED, Severity, Unit};
use reports::render::units::human;
use serde_json::{Map, Value, json};
use verdict::{Judged, Verdict};

/// The most probes of one search.
const MOST_PROBES: usize = 24;
/// The search ends when the rate that missed is at most so much above the one that kept.
const CLOSE_ENOUGH: f64 = 1.02;
/// Samples above the percentile that a probe should have.
const BEYOND: f64 = 10.0;
/// A probe is made at most so many times longer than asked for to get them.
const LONGER: f64 = 10.0;
/// The highest rate that can be offered, in operations per second.
const MOST_IOPS: f64 = 1e8;
/// From this share of the closed loop's rate on it is not the latency that limits.
const ALL_OF_IT: f64 = 0.97;

/// One run of the search.
#[derive(Debug)]
struct Probe {
    /// What it offered.
    load: Load,
    /// Operations per second that ended.
    iops: f64,
    judged: Judged,
}

/// What a probe offered.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Load {
    /// One operation in flight.
    One,
    /// As many in flight as the options say.
    Closed,
    /// Operations per second.
    Rate(f64),
}

/// Finds the highest rate that keeps a latency, and returns the measurement at that rate with
/// `iops_at_target`. Each probe is one call of `run`.
///
/// # Errors
/// Those of the runs.
pub fn highest_rate(
    spec: &Spec,
    goal: LatencyTarget,
    run: &mut dyn FnMut(&Spec) -> anyhow::Result<Measurement>,
) -> anyhow::Result<Measurement> {
    let mut search = Search {
        spec,
        goal,
        run,
        probes: Vec::new(),
        kept: None,
        missed: None,
        measured: None,
    };
    search.go()?;
    Ok(search.conclude())
}

struct Search<'a> {
    spec: &'a Spec,
    goal: LatencyTarget,
    run: &'a mut dyn FnMut(&Spec) -> anyhow::Result<Measurement>,
    probes: Vec<Probe>,
    /// The highest rate that kept the target.
    kept: Option<f64>,
    /// The lowest that did not.
    missed: Option<f64>,
    /// The run at the rate that was kept; before there is one, the first of all.
    measured: Option<Measurement>,
}

impl Search<'_> {
    fn go(&mut self) -> anyhow::Result<()> {
        self.probe(Load::One)?;
        if self.unreachable() {
            return Ok(());
        }
        self.probe(Load::Closed)?;
        while self.probes.len() < MOST_PROBES && !stop_requested() {
            let Some(rate) = self.next_rate() else { break };
            self.try_rate(rate)?;
        }
        Ok(())
    }

    /// Whether not even one operation in flight keeps the target.
    fn unreachable(&self) -> bool {
        let first = self.probes.first();
        first.is_some_and(|probe| probe.judged.surely_missed())
    }

    /// Operations per second of the closed loop.
    fn ceiling(&self) -> f64 {
        let closed = self.probes.iter().find(|probe| probe.load == Load::Closed);
        closed.map_or(0.0, |probe| probe.iops)
    }

    /// The rate to offer next, or `None` when the search is over.
    fn next_rate(&self) -> Option<f64> {
        let rate = match (self.kept, self.missed) {
            (None, None) => self.ceiling(),
            (Some(kept), None) => kept * 2.0,
            (None, Some(missed)) => missed / 2.0,
            (Some(kept), Some(missed)) if missed / kept <= CLOSE_ENOUGH => return None,
            (Some(kept), Some(missed)) => (kept * missed).sqrt(),
        };
        (self.least_rate()..=MOST_IOPS)
            .contains(&rate)
            .then_some(rate)
    }

    fn runtime_s(&self) -> f64 {
        self.spec.window_s()
    }

    /// The rate below which the longest probe has too few samples for the percentile.
    fn least_rate(&self) -> f64 {
        self.samples_wanted() / (LONGER * self.runtime_s())
    }

    fn samples_wanted(&self) -> f64 {
        BEYOND / (1.0 - self.goal.quantile())
    }

    /// What one probe runs.
    fn spec_of(&self, load: Load) -> Spec {
        let mut spec = self.spec.clone();
        spec.pace = PaceSpec::default();
        match load {
            Load::Closed => {}
            Load::One => (spec.iodepth, spec.iodepth_batch, spec.numjobs) = (1, 1, 1),
            Load::Rate(rate) => {
                spec.pace.rate_iops = Some(rate);
                spec.pace.arrival = self.spec.pace.arrival;
                let asked = self.runtime_s();
                let wanted = self.samples_wanted() / rate;
                spec.runtime_s = Some(wanted.clamp(asked, LONGER * asked));
            }
        }
        spec
    }

    /// Offers a rate and narrows the search by what came of it. Where the target was missed while
    /// this program itself was late, that may not be the device's doing: it is offered once more.
    fn try_rate(&mut self, rate: f64) -> anyhow::Result<()> {
        let mut judged = self.probe(Load::Rate(rate))?;
        if judged.verdict != Verdict::Kept && judged.late && !stop_requested() {
            judged = self.probe(Load::Rate(rate))?;
        }
        let bound = match judged.verdict {
            Verdict::Kept => &mut self.kept,
            _ => &mut self.missed,
        };
        *bound = Some(rate);
        Ok(())
    }

    /// Runs one probe; what the best of them measured is kept.
    fn probe(&mut self, load: Load) -> anyhow::Result<Judged> {
        let spec = self.spec_of(load);
        let measurement = (self.run)(&spec)?;
        let judged = Judged::of(&measurement, self.goal);
        let iops = measurement.metric("iops", Aggregation::Total);
        let iops = iops.and_then(|metric| metric.value.known().copied());
        self.probes.push(Probe {
            load,
            iops: iops.unwrap_or(0.0),
            judged: judged.clone(),
        });
        let best = judged.verdict == Verdict::Kept && matches!(load, Load::Rate(_));
        if self.measured.is_none() || best {
            self.measured = Some(measurement);
        }
        Ok(judged)
    }

    /// The measurement, with what the search found.
    fn conclude(mut self) -> Measurement {
        let mut measurement = self.measured.take().expect("the first probe was measured");
        let samples = measurement.work.clone().map(|work| work.ops);
        let found = match self.kept {
            Some(rate) => Fact::Known(rate),
            None => Fact::unavailable(self.why_none()),
        };
        let (total, higher) = (Aggregation::Total, Direction::HigherIsBetter);
        let name = "iops_at_target";
        let metric = Metric::new(name, total, Unit::PerSecond, higher, found, samples).headline();
        measurement.metrics.insert(0, metric);
        self.flag(&mut measurement);
        let facts = measurement.facts.entry(OBSERVED);
        if let Value::Object(observed) = facts.or_insert_with(|| json!({})) {
            observed.extend(self.facts());
        }
        measurement
    }

    fn flag(&self, measurement: &mut Measurement) {
        let validity = &mut measurement.validity;
        if stop_requested() {
            if !validity.flags.iter().any(|flag| flag.code == "interrupted") {
                let evidence = "a signal ended the search before its time";
                validity.flag(Severity::Invalid, "interrupted", evidence);
            }
            return;
        }
        let (kept, missed) = match (self.kept, self.missed) {
            (Some(kept), Some(missed)) => (kept, missed),
            (Some(kept), None) => {
                let evidence = format!("no rate above {} was offered", rate(kept));
                return validity.flag(Severity::Degraded, "search_unfinished", evidence);
            }
            (None, _) => {
                let code = match self.unreachable() {
                    true => "target_unreachable",
                    false => "target_undecided",
                };
                return validity.flag(Severity::Degraded, code, self.why_none());
            }
        };
        if missed / kept > CLOSE_ENOUGH {
            let evidence = format!(
                "after {} probes the rate is known to lie between {} and {}",
                self.probes.len(),
                rate(kept),
                rate(missed)
            );
            validity.flag(Severity::Degraded, "search_unfinished", evidence);
        }
        let known = validity
            .flags
            .iter()
            .any(|flag| flag.code == "late_generator");
        let mut at = self.probes.iter().rev();
        let at = at.find(|probe| probe.load == Load::Rate(missed));
        if !known && at.is_some_and(|probe| probe.judged.late) {
            let evidence = format!(
                "at {}, the rate that missed the target, operations began late though a slot was \
                 free: the limit may be this program's",
                rate(missed)
            );
            validity.flag(Severity::Degraded, "late_generator", evidence);
        }
    }

    /// Why no rate kept the target.
    fn why_none(&self) -> String {
        let (goal, longest) = (self.goal, LONGER * self.runtime_s());
        let first = self.probes.first().filter(|_| self.unreachable());
        match (first, self.missed) {
            (Some(first), _) => {
                format!(
                    "{goal} is out of reach: with one operation in flight it is {}",
                    first.judged
                )
            }
            _ if stop_requested() => "the search was ended before it was decided".to_owned(),
            (None, Some(missed)) => format!(
                "no rate down to {} kept {goal}; lower ones have too few samples in {longest} s",
                rate(missed)
            ),
            (None, None) => format!(
                "{goal} takes {:.0} samples, and the closed loop's {} gives fewer in {longest} s; \
                 make --runtime longer",
                self.samples_wanted(),
                rate(self.ceiling())
            ),
        }
    }

    /// What limits the rate, in a sentence.
    fn outcome(&self) -> String {
        let (Some(kept), ceiling) = (self.kept, self.ceiling()) else {
            return self.why_none();
        };
        if kept >= ALL_OF_IT * ceiling {
            return format!(
                "{} is never missed: the limit is the closed loop's rate, {}",
                self.goal,
                rate(ceiling)
            );
        }
        format!(
            "{} is kept up to {} of the closed loop's {}",
            self.goal,
            rate(kept),
            rate(ceiling)
        )
    }

    /// A line per probe, by rate, for readers, and all their numbers for programs.
    fn facts(&self) -> Map<String, Value> {
        let mut probes: Vec<&Probe> = self.probes.iter().collect();
        probes.sort_by(|a, b| a.load.order().total_cmp(&b.load.order()));
        let mut facts = Map::new();
        facts.insert("search".to_owned(), self.outcome().into());
        for probe in &probes {
            // Of two at one rate the second counts, and comes second.
            facts.insert(probe.load.name(), probe.line(self.goal).into());
        }
        let numbers: Vec<Value> = probes.iter().map(|probe| probe.numbers()).collect();
        facts.insert("search_probes".to_owned(), numbers.into());
        facts
    }
}

fn rate(iops: f64) -> String {
    human(iops, Unit::PerSecond)
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::One => "one in flight".to_owned(),
            Self::Closed => "closed loop".to_owned(),
            // In full: two rates must not get one name.
            Self::Rate(rate) => format!("at {rate:.1}/s"),
        }
    }

    fn order(self) -> f64 {
        match self {
            Self::One => -1.0,
            Self::Closed => f64::INFINITY,
            Self::Rate(rate) => rate,
        }
    }
}

impl Probe {
    fn line(&self, goal: LatencyTarget) -> String {
        let verdict = match (self.load, self.judged.verdict) {
            (Load::Closed, _) => format!("{} ended", rate(self.iops)),
            (_, verdict) => verdict.in_words().to_owned(),
        };
        let doubt = match self.judged.certain() {
            true => "",
            false => ", within its uncertainty",
        };
        format!("p{} {}; {verdict}{doubt}", goal.percentile, self.judged)
    }

    fn numbers(&self) -> Value {
        let (offered, load) = match self.load {
            Load::Rate(rate) => (json!(rate), "open"),
            Load::One => (json!({"unavailable": "one in flight"}), "one"),
            Load::Closed => (json!({"unavailable": "a closed loop"}), "closed"),
        };
        let mut numbers = json!({"loop": load, "offered_iops": offered, "iops": self.iops});
        if let Value::Object(fields) = &mut numbers {
            fields.extend(self.judged.numbers());
        }
        numbers
    }
}

#[cfg(test)]
mod tests;
