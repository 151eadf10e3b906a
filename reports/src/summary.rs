//! Repetitions condensed: runs of the same case on the same hosts become one line per metric, with
//! the median over runs and its order-statistic interval.

mod labels;
mod matrices;
mod notes;

pub use labels::labels;
pub use matrices::{MatrixSummary, NodeSummary, Placement};
pub(crate) use notes::count;
pub use notes::{Note, NoteKind, notes, tally};

use crate::model::{
    Aggregation, Benchmark, Case, Counter, Direction, Fact, Flag, Interval, Measurement, Metric,
    Outcome, Report, Unit,
};
use crate::stats::{self, MIN_RUNS_FOR_INTERVAL, MedianInterval};
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// All runs of one case on the same hosts.
#[derive(Debug, Clone)]
pub struct CaseSummary {
    /// The side of a comparison, `A` or `B`, if it belongs to one.
    pub side: Option<String>,
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
    /// The runs that measured it, in the order in which the reports were given.
    pub runs: Vec<RunSummary>,
    /// Each run's slices, in the order of [`Self::runs`].
    pub intervals: Vec<Vec<Interval>>,
    /// Numbers between pairs of nodes, the median of the runs for each pair.
    pub matrices: Vec<MatrixSummary>,
}

/// One run that measured a case.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// The run's id.
    pub id: String,
    /// When its process started, RFC 3339, UTC.
    pub started: String,
    /// The session it belongs to, and its place in the order in which that started its runs.
    pub order: Option<(String, u32)>,
    /// Everything that speaks against its numbers.
    pub flags: Vec<Flag>,
    /// Counters of throttling and loss that rose during the run, and by how much.
    pub risen: Vec<(String, f64)>,
}

impl RunSummary {
    fn of(report: &Report, measurement: &Measurement) -> Self {
        let session = report.run.session.as_ref();
        Self {
            id: report.run.id.clone(),
            started: report.run.started.clone(),
            order: session.map(|session| (session.id.clone(), session.order_index)),
            flags: measurement.validity.flags.clone(),
            risen: measurement.counters.iter().filter_map(rise).collect(),
        }
    }
}

/// What a counter of throttling or loss rose by; `None` of other counters, which always rise.
/// ENA's `*_allowance_exceeded` and EBS's `*_exceeded_*` count what a limit held back, EFA's
/// `retrans_pkts`, `rx_drops` and `impaired_remote_conn_events` what was lost. TCP's own
/// retransmissions are no such thing: probing for bandwidth causes some.
fn rise(counter: &Counter) -> Option<(String, f64)> {
    const TELLING: [&str; 6] = [
        "exceeded",
        "throttled",
        "retrans_",
        "drops",
        "dropped",
        "impaired",
    ];
    let name = counter.name.to_ascii_lowercase();
    let by = counter.after.known()? - counter.before.known()?;
    let telling = TELLING.iter().any(|part| name.contains(part));
    (telling && by > 0.0).then(|| (format!("{} {}", counter.source, counter.name), by))
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
            .filter_map(|(name, value)| labels::setting(self, name, value))
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
    /// The run that each number is of: its index in [`CaseSummary::runs`].
    pub of_runs: Vec<usize>,
    /// The median over runs, or the reason of the last run that has no number.
    pub median: Fact<f64>,
    /// The median's interval over runs, or why there is none.
    pub interval: Result<MedianInterval, String>,
}

impl MetricSummary {
    fn of(first: &Metric, numbers: Vec<(usize, f64)>, missing: Option<String>) -> Self {
        let (of_runs, values): (Vec<usize>, Vec<f64>) = numbers.into_iter().unzip();
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
            of_runs,
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
pub fn summarise<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Vec<CaseSummary> {
    let mut seen = BTreeSet::new();
    let mut order: Vec<(u32, Group)> = Vec::new();
    let mut groups: BTreeMap<Group, Vec<(&Report, &Case)>> = BTreeMap::new();
    for report in reports
        .into_iter()
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
            runs.push((report, case));
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
    runs: &[(&Report, &Case)],
) -> CaseSummary {
    let mut skipped = BTreeMap::new();
    let mut failed = BTreeMap::new();
    let mut measured: Vec<(&Report, &Measurement)> = Vec::new();
    for (report, case) in runs {
        match &case.outcome {
            Outcome::Measured(measurement) => measured.push((report, measurement)),
            Outcome::Skipped { reason } => *skipped.entry(reason.clone()).or_default() += 1,
            Outcome::Failed { error } => *failed.entry(error.clone()).or_default() += 1,
        }
    }
    let measurements: Vec<&Measurement> = measured.iter().map(|(_, found)| *found).collect();
    let mut histograms: Vec<(String, Histogram<u64>)> = Vec::new();
    for record in measurements.iter().flat_map(|found| &found.histograms) {
        merge_histogram(&mut histograms, &record.name, &record.hdr_v2_base64);
    }
    let last = measurements.last();
    CaseSummary {
        side: None,
        row,
        arm,
        hosts,
        // A group is made when its first run is put into it.
        benchmark: runs[0].1.benchmark.clone(),
        measured: measured.len(),
        skipped,
        failed,
        metrics: metrics(&measurements),
        flags: flags(&measurements),
        verified: last.map(|found| found.verified.clone()),
        facts: last.map(|found| found.facts.clone()).unwrap_or_default(),
        histograms,
        runs: measured
            .iter()
            .map(|(report, found)| RunSummary::of(report, found))
            .collect(),
        intervals: measurements
            .iter()
            .map(|found| found.intervals.clone())
            .collect(),
        matrices: matrices::over_runs(&measured),
    }
}

/// Every metric of some run. Numbers of different units are different metrics, whatever their name.
fn metrics(measurements: &[&Measurement]) -> Vec<MetricSummary> {
    type Numbers = Vec<(usize, f64)>;
    let mut metrics: Vec<(&Metric, Numbers, Option<String>)> = Vec::new();
    let mut index: HashMap<(String, Unit), usize> = HashMap::new();
    for (run, measurement) in measurements.iter().enumerate() {
        for metric in &measurement.metrics {
            let key = (metric.key(), metric.unit);
            let at = *index.entry(key).or_insert(metrics.len());
            if at == metrics.len() {
                metrics.push((metric, Vec::new(), None));
            }
            match &metric.value {
                Fact::Known(value) => metrics[at].1.push((run, *value)),
                Fact::Unavailable { unavailable } => metrics[at].2 = Some(unavailable.clone()),
            }
        }
    }
    metrics
        .into_iter()
        .map(|(first, numbers, missing)| MetricSummary::of(first, numbers, missing))
        .collect()
}

/// Every flag's worst severity, with the number of runs that raised it.
fn flags(measurements: &[&Measurement]) -> Vec<(Flag, usize)> {
    let mut flags: Vec<(Flag, usize)> = Vec::new();
    for measurement in measurements {
        // Both sides of a run may raise the same flag; the run counts once.
        let mut raised = BTreeSet::new();
        for flag in &measurement.validity.flags {
            let first = usize::from(raised.insert(&flag.code));
            match flags.iter_mut().find(|(known, _)| known.code == flag.code) {
                Some((known, runs)) => {
                    *runs += first;
                    if flag.severity > known.severity {
                        *known = flag.clone();
                    }
                }
                None => flags.push((flag.clone(), 1)),
            }
        }
    }
    flags
}

fn merge_histogram(into: &mut Vec<(String, Histogram<u64>)>, name: &str, encoded: &str) {
    // Loading a report decodes every histogram, so one that fails here was never loaded.
    let Ok(histogram) = crate::measure::decode_histogram(encoded) else {
        return;
    };
    let at = into.iter().position(|(known, _)| known == name);
    let at = at.unwrap_or_else(|| {
        // Decoded, it has room for every latency there could be; of hundreds of nodes that would take
        // gigabytes. This one grows as far as it is filled.
        let merged = Histogram::new(histogram.sigfig()).expect("another has as many digits");
        into.push((name.to_owned(), merged));
        into.len() - 1
    });
    into[at].1.add(&histogram).expect("it grows");
}

#[cfg(test)]
mod tests;
