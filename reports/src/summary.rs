//! Repetitions condensed: runs of the same case on the same hosts become one line per metric, with
//! the median over runs and its order-statistic interval.

mod labels;
mod notes;

pub use labels::labels;
pub(crate) use notes::count;
pub use notes::{Note, NoteKind, notes, tally};

use crate::model::{
    Aggregation, Benchmark, Direction, Fact, Flag, Interval, Metric, Outcome, Report, Unit,
};
use crate::stats::{self, MIN_RUNS_FOR_INTERVAL, MedianInterval};
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};

/// All runs of one case on the same hosts.
#[derive(Debug, Clone)]
pub struct CaseSummary {
    /// The suite's row, if the runs belong to one.
    pub row: Option<String>,
    /// The arm of the row, if it has several.
    pub arm: Option<String>,
    /// The hosts that took part.
    pub hosts: Vec<String>,
    /// What was measured.
    pub benchmark: Benchmark,
    /// Runs that measured it.
    pub measured: usize,
    /// Why runs skipped it: reason and number of runs.
    pub skipped: BTreeMap<String, usize>,
    /// How runs failed: error and number of runs.
    pub failed: BTreeMap<String, usize>,
    /// One entry per metric, in the order of the first run that has it.
    pub metrics: Vec<MetricSummary>,
    /// Every kind of flag with the number of runs that raised it and one run's evidence.
    pub flags: Vec<(Flag, usize)>,
    /// What the last measured run verified.
    pub verified: Option<String>,
    /// What the last measured run really used.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// Distributions of all runs, merged, by name. For drawing, never for intervals.
    pub histograms: Vec<(String, Histogram<u64>)>,
    /// Each run's slices, in run order.
    pub intervals: Vec<Vec<Interval>>,
}

impl CaseSummary {
    /// Whether every run was measured or skipped with a reason.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether some run's numbers do not stand.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.flags
            .iter()
            .any(|(flag, _)| flag.severity == crate::model::Severity::Invalid)
    }

    /// The metrics that summaries show; all of them if none is marked.
    #[must_use]
    pub fn headlines(&self) -> Vec<&MetricSummary> {
        let marked: Vec<_> = self
            .metrics
            .iter()
            .filter(|metric| metric.headline)
            .collect();
        if marked.is_empty() {
            self.metrics.iter().collect()
        } else {
            marked
        }
    }

    /// The parameters that tell this case from its siblings: a sweep's size, not its defaults.
    #[must_use]
    pub fn label(&self, siblings: &[Self]) -> String {
        let differing: Vec<String> = self
            .benchmark
            .params
            .iter()
            .filter(|(name, value)| {
                siblings.iter().any(|other| {
                    other.benchmark.id == self.benchmark.id
                        && other.benchmark.params.get(*name) != Some(value)
                })
            })
            .map(|(name, value)| match value.as_str() {
                Some(text) => format!("{name}={text}"),
                None => format!("{name}={value}"),
            })
            .collect();
        let arm = self.arm.as_ref().map(|arm| format!("[{arm}]"));
        let words = [self.benchmark.id.clone()].into_iter().chain(arm);
        words.chain(differing).collect::<Vec<_>>().join(" ")
    }
}

/// One metric over the runs of a case.
#[derive(Debug, Clone)]
pub struct MetricSummary {
    /// The metric's name.
    pub name: String,
    /// How each run's samples became its number.
    pub aggregation: Aggregation,
    /// The unit.
    pub unit: Unit,
    /// Which way is better.
    pub direction: Direction,
    /// Whether summaries show it.
    pub headline: bool,
    /// The peer whose definition it follows.
    pub compat: Option<String>,
    /// Each run's number, in run order; runs without one are left out.
    pub values: Vec<f64>,
    /// The median over runs, or the reason of the last run that has no number.
    pub median: Fact<f64>,
    /// The median's interval over runs, or why there is none.
    pub interval: Result<MedianInterval, String>,
}

impl MetricSummary {
    fn of(first: &Metric, values: Vec<f64>, missing: Option<String>) -> Self {
        let median = match (stats::median(&values), missing) {
            (Some(median), _) => Fact::Known(median),
            (None, Some(reason)) => Fact::Unavailable {
                unavailable: reason,
            },
            (None, None) => Fact::unavailable("no run has it"),
        };
        let interval = stats::median_interval(&values).ok_or_else(|| {
            format!(
                "{} of the {MIN_RUNS_FOR_INTERVAL} runs it takes",
                values.len()
            )
        });
        Self {
            name: first.name.clone(),
            aggregation: first.aggregation,
            unit: first.unit,
            direction: first.direction,
            headline: first.headline,
            compat: first.compat.clone(),
            values,
            median,
            interval,
        }
    }

    /// Name and aggregation, and the peer where it follows one.
    #[must_use]
    pub fn title(&self) -> String {
        let peer = self
            .compat
            .as_ref()
            .map(|peer| format!(" ({peer})"))
            .unwrap_or_default();
        match self.aggregation {
            Aggregation::Total => format!("{}{peer}", self.name),
            aggregation => format!("{} {aggregation}{peer}", self.name),
        }
    }
}

/// What makes two runs repetitions of each other.
type Group = ([Option<String>; 2], Vec<String>, String, String);

/// Condenses reports. A run that appears twice (the same run id) counts once. Cases keep the order
/// of their suite, and else that in which the reports first name them.
#[must_use]
pub fn summarise(reports: &[Report]) -> Vec<CaseSummary> {
    let mut seen = BTreeSet::new();
    let mut order: Vec<(u32, Group)> = Vec::new();
    let mut groups: BTreeMap<Group, Vec<(&Benchmark, &Outcome)>> = BTreeMap::new();
    for report in reports
        .iter()
        .filter(|report| seen.insert(report.run.id.as_str()))
    {
        let session = report.run.session.as_ref();
        let row = session.map(|session| session.row.clone());
        let arm = session.and_then(|session| session.arm.clone());
        let hosts: Vec<String> = report.hosts.iter().map(|host| host.name.clone()).collect();
        for case in &report.cases {
            let hash = case.benchmark.definition_hash.clone();
            let group = ([row.clone(), arm.clone()], hosts.clone(), case.key(), hash);
            let runs = groups.entry(group.clone()).or_default();
            if runs.is_empty() {
                let position = session.map_or(0, |session| session.position);
                order.push((position, group));
            }
            runs.push((&case.benchmark, &case.outcome));
        }
    }
    order.sort_by_key(|(position, _)| *position);
    order
        .into_iter()
        .filter_map(|(_, group)| {
            let runs = groups.remove(&group)?;
            Some(summarise_case(group.0, group.1, &runs))
        })
        .collect()
}

/// An entry of a summary's list.
#[derive(Debug, Clone, Copy)]
pub enum Listed<'a> {
    /// A case and its index among all.
    Case(usize, &'a CaseSummary),
    /// Points of a sweep that are left out between its first and its last.
    Between(usize),
}

/// The cases as a summary lists them: of a long sweep only its ends, since a curve shows it better
/// than a table. Points that failed, were skipped or are invalid are always listed.
#[must_use]
pub fn listed(cases: &[CaseSummary]) -> Vec<Listed<'_>> {
    const LONGEST_IN_FULL: usize = 4;
    let same_sweep = |a: &CaseSummary, b: &CaseSummary| {
        a.benchmark.id == b.benchmark.id && (&a.row, &a.arm, &a.hosts) == (&b.row, &b.arm, &b.hosts)
    };
    let mut listed = Vec::new();
    let mut index = 0;
    for sweep in cases.chunk_by(same_sweep) {
        let mut left_out = 0;
        for (at, case) in sweep.iter().enumerate() {
            let inner = at > 0 && at + 1 < sweep.len() && sweep.len() > LONGEST_IN_FULL;
            let fine = case.is_complete() && case.skipped.is_empty() && !case.is_invalid();
            if inner && fine {
                left_out += 1;
            } else {
                if left_out > 0 {
                    listed.push(Listed::Between(std::mem::take(&mut left_out)));
                }
                listed.push(Listed::Case(index, case));
            }
            index += 1;
        }
    }
    listed
}

fn summarise_case(
    [row, arm]: [Option<String>; 2],
    hosts: Vec<String>,
    runs: &[(&Benchmark, &Outcome)],
) -> CaseSummary {
    let mut skipped = BTreeMap::new();
    let mut failed = BTreeMap::new();
    let mut measurements = Vec::new();
    for (_, outcome) in runs {
        match outcome {
            Outcome::Measured(measurement) => measurements.push(&**measurement),
            Outcome::Skipped { reason } => *skipped.entry(reason.clone()).or_default() += 1,
            Outcome::Failed { error } => *failed.entry(error.clone()).or_default() += 1,
        }
    }

    let mut metrics: Vec<(&Metric, Vec<f64>, Option<String>)> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    let mut flags: Vec<(Flag, usize)> = Vec::new();
    let mut histograms: Vec<(String, Histogram<u64>)> = Vec::new();
    for measurement in &measurements {
        for metric in &measurement.metrics {
            let at = *index.entry(metric.key()).or_insert(metrics.len());
            if at == metrics.len() {
                metrics.push((metric, Vec::new(), None));
            }
            match &metric.value {
                Fact::Known(value) => metrics[at].1.push(*value),
                Fact::Unavailable { unavailable } => metrics[at].2 = Some(unavailable.clone()),
            }
        }
        // Both sides of a run may raise the same flag; the run counts once.
        let mut raised = BTreeSet::new();
        let raised_first = measurement.validity.flags.iter();
        for flag in raised_first.filter(|flag| raised.insert(&flag.code)) {
            match flags.iter_mut().find(|(known, _)| known.code == flag.code) {
                Some((_, runs)) => *runs += 1,
                None => flags.push((flag.clone(), 1)),
            }
        }
        for record in &measurement.histograms {
            merge_histogram(&mut histograms, &record.name, &record.hdr_v2_base64);
        }
    }
    CaseSummary {
        row,
        arm,
        hosts,
        // A group is made when its first run is put into it.
        benchmark: runs[0].0.clone(),
        measured: measurements.len(),
        skipped,
        failed,
        metrics: metrics
            .into_iter()
            .map(|(first, values, missing)| MetricSummary::of(first, values, missing))
            .collect(),
        flags,
        verified: measurements
            .last()
            .map(|measurement| measurement.verified.clone()),
        facts: measurements
            .last()
            .map(|measurement| measurement.facts.clone())
            .unwrap_or_default(),
        histograms,
        intervals: measurements
            .iter()
            .map(|measurement| measurement.intervals.clone())
            .collect(),
    }
}

fn merge_histogram(into: &mut Vec<(String, Histogram<u64>)>, name: &str, encoded: &str) {
    // Loading a report decodes every histogram, so one that fails here was never loaded.
    let Ok(histogram) = crate::measure::decode_histogram(encoded) else {
        return;
    };
    match into.iter_mut().find(|(known, _)| known == name) {
        // Histograms of other programs may have other bounds; those stay out of the merged picture.
        Some((_, merged)) => drop(merged.add(&histogram)),
        None => into.push((name.to_owned(), histogram)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::model::Severity;

    #[test]
    fn runs_of_one_case_become_one_line() {
        let reports: Vec<_> = (1..=6)
            .map(|run| fixtures::report(&[("tcp_rr", f64::from(run) * 10.0)]))
            .collect();
        let cases = summarise(&reports);
        assert_eq!(cases.len(), 1);
        assert_eq!((cases[0].measured, cases[0].is_complete()), (6, true));
        let metric = &cases[0].metrics[0];
        assert_eq!(metric.median, Fact::Known(35.0));
        let interval = metric.interval.as_ref().expect("six runs have an interval");
        assert_eq!((interval.low, interval.high), (10.0, 60.0));
    }

    #[test]
    fn five_runs_have_a_median_and_no_interval() {
        let reports: Vec<_> = (1..=5)
            .map(|run| fixtures::report(&[("tcp_rr", f64::from(run))]))
            .collect();
        let metric = &summarise(&reports)[0].metrics[0];
        assert_eq!(metric.median, Fact::Known(3.0));
        assert_eq!(metric.interval, Err("5 of the 6 runs it takes".to_owned()));
    }

    #[test]
    fn a_run_given_twice_counts_once_and_other_hosts_are_not_pooled() {
        let one = fixtures::report(&[("tcp_rr", 1.0)]);
        let mut elsewhere = fixtures::report(&[("tcp_rr", 2.0)]);
        elsewhere.hosts[0].name = "elsewhere".to_owned();
        let cases = summarise(&[one.clone(), one, elsewhere]);
        assert_eq!(
            cases.iter().map(|case| case.measured).collect::<Vec<_>>(),
            [1, 1]
        );
    }

    #[test]
    fn skips_failures_and_flags_are_counted_with_their_words() {
        let mut flagged = fixtures::report(&[("tcp_rr", 1.0)]);
        fixtures::measurement_mut(&mut flagged, 0).validity.flag(
            Severity::Invalid,
            "interrupted",
            "by SIGINT",
        );
        let mut failed = fixtures::report(&[("tcp_rr", 1.0)]);
        failed.cases[0].outcome = Outcome::Failed {
            error: "peer died".to_owned(),
        };
        let cases = summarise(&[flagged, failed]);
        assert_eq!(cases[0].failed.get("peer died"), Some(&1));
        assert!(cases[0].is_invalid() && !cases[0].is_complete());
    }

    #[test]
    fn a_long_sweep_is_listed_by_its_ends_and_its_failures() {
        let mut report = fixtures::report(&[("bw", 1.0); 9]);
        for (index, case) in report.cases.iter_mut().enumerate() {
            let params = &mut case.benchmark.params;
            params.insert("size_bytes".to_owned(), (1u64 << index).into());
        }
        report.cases[4].outcome = Outcome::Failed {
            error: "out of memory".to_owned(),
        };
        let cases = summarise(&[report]);
        let shape: Vec<String> = listed(&cases)
            .into_iter()
            .map(|listed| match listed {
                Listed::Case(index, _) => index.to_string(),
                Listed::Between(count) => format!("+{count}"),
            })
            .collect();
        assert_eq!(shape, ["0", "+3", "4", "+3", "8"]);
    }

    #[test]
    fn labels_show_what_differs() {
        let mut small = fixtures::report(&[("bw", 1.0)]);
        let mut large = small.clone();
        large.run.id = "another".to_owned();
        for (report, size) in [(&mut small, 8), (&mut large, 4096)] {
            let params = &mut report.cases[0].benchmark.params;
            params.insert("size_bytes".to_owned(), size.into());
            params.insert("window".to_owned(), 64.into());
        }
        let cases = summarise(&[small, large]);
        assert_eq!(cases[1].label(&cases), "test/bw size_bytes=4096");
    }
}
