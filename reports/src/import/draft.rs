//! A case in the making: the parts that every peer's cases share.

use crate::measure::{MAX_LATENCY_NS, histogram_record, new_histogram};
use crate::model::{
    Aggregation, Benchmark, Case, Direction, Fact, Measurement, Metric, Outcome, Severity, Unit,
    Validity, Work,
};
use serde_json::{Map, Value};

/// More samples than this in one histogram are no measurement.
const MAX_SAMPLES: u64 = 1 << 53;

/// A case whose parts are being collected.
pub(super) struct Draft {
    id: String,
    definition: &'static str,
    params: Map<String, Value>,
    ended: Option<Outcome>,
    /// What has been collected so far.
    pub(super) measurement: Measurement,
}

/// Whose definition a distribution follows, and how many samples it has.
#[derive(Clone)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    pub(super) compat: Option<&'static str>,
    pub(super) n: Fact<u64>,
    pub(super) headlines: &'static [Aggregation],
}

impl Family<'_> {
    /// The times of transactions in netperf's and neper's tests.
    pub(super) fn of_transactions(test: &str, peer: &'static str, n: Fact<u64>) -> Self {
        Self {
            name: match test {
                "tcp_crr" => "transaction_ns",
                _ => "round_trip_ns",
            },
            compat: Some(peer),
            n,
            headlines: &[Aggregation::Mean, Aggregation::P50, Aggregation::P99],
        }
    }
}

impl Draft {
    /// A case of which nothing is known yet. `verified` says what the peer checked.
    pub(super) fn new(id: String, definition: &'static str, verified: &str) -> Self {
        Self {
            id,
            definition,
            params: Map::new(),
            ended: None,
            measurement: Measurement {
                elapsed_s: Fact::unavailable("not printed"),
                work: Fact::unavailable("not printed"),
                verified: verified.to_owned(),
                metrics: Vec::new(),
                facts: Map::new(),
                histograms: Vec::new(),
                intervals: Vec::new(),
                matrices: Vec::new(),
                counters: Vec::new(),
                validity: Validity::default(),
            },
        }
    }

    /// Sets a parameter that shapes the work.
    pub(super) fn param(&mut self, name: &str, value: impl Into<Value>) {
        self.params.insert(name.to_owned(), value.into());
    }

    /// Sets what was found out about the run.
    pub(super) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.measurement.facts.insert(name.to_owned(), value.into());
    }

    /// Adds a flag.
    pub(super) fn flag(&mut self, severity: Severity, code: &str, evidence: impl Into<String>) {
        self.measurement.validity.flag(severity, code, evidence);
    }

    /// Adds a latency of a distribution.
    pub(super) fn latency(&mut self, family: &Family<'_>, how: Aggregation, value: Fact<f64>) {
        let value = enough_samples(how, value, &family.n);
        let (unit, direction) = (Unit::Nanoseconds, Direction::LowerIsBetter);
        let n = family.n.clone();
        let mut metric = Metric::new(family.name, how, unit, direction, value, n);
        metric.compat = family.compat.map(str::to_owned);
        metric.headline = family.headlines.contains(&how);
        self.metric(metric);
    }

    /// Adds bytes per second.
    pub(super) fn bandwidth(&mut self, name: &str, value: Fact<f64>, n: Fact<u64>) -> &mut Metric {
        let unit = Unit::BytesPerSecond;
        self.total(name, unit, Direction::HigherIsBetter, value, n)
    }

    /// Adds events per second.
    pub(super) fn rate(&mut self, name: &str, value: Fact<f64>, n: Fact<u64>) -> &mut Metric {
        let unit = Unit::PerSecond;
        self.total(name, unit, Direction::HigherIsBetter, value, n)
    }

    /// Adds a number over the whole window.
    pub(super) fn total(
        &mut self,
        name: &str,
        unit: Unit,
        direction: Direction,
        value: Fact<f64>,
        n: Fact<u64>,
    ) -> &mut Metric {
        self.metric(Metric::new(
            name,
            Aggregation::Total,
            unit,
            direction,
            value,
            n,
        ))
    }

    /// Adds a metric. A second one of the same key takes its place and is flagged.
    pub(super) fn metric(&mut self, metric: Metric) -> &mut Metric {
        let key = metric.key();
        let known = self.measurement.metrics.iter().position(|m| m.key() == key);
        let at = match known {
            Some(at) => {
                let evidence = format!("{key} is printed twice; the last one counts");
                self.flag(Severity::Degraded, "printed_twice", evidence);
                self.measurement.metrics[at] = metric;
                at
            }
            None => {
                self.measurement.metrics.push(metric);
                self.measurement.metrics.len() - 1
            }
        };
        &mut self.measurement.metrics[at]
    }

    /// Adds a distribution from values in nanoseconds with their counts.
    pub(super) fn histogram(&mut self, name: &str, counts: &[(u64, u64)], expected: Option<u64>) {
        let sum = counts
            .iter()
            .try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
        let Some(sum) = sum.filter(|sum| (1..=MAX_SAMPLES).contains(sum)) else {
            let evidence = format!("the counts of {name}'s bins make no possible sum");
            self.flag(Severity::Degraded, "bins_left_out", evidence);
            return;
        };
        if let Some(expected) = expected
            && expected != sum
        {
            let evidence = format!("{name}'s bins hold {sum} values, but {expected} are printed");
            self.flag(Severity::Degraded, "bins_incomplete", evidence);
        }
        let mut histogram = new_histogram();
        for &(value, count) in counts {
            // The bounds are the histogram's own.
            let _ = histogram.record_n(value.min(MAX_LATENCY_NS), count);
        }
        self.measurement
            .histograms
            .push(histogram_record(name, &histogram));
    }

    /// The case failed: its numbers do not count.
    pub(super) fn failed(mut self, error: String) -> Self {
        self.ended = Some(Outcome::Failed { error });
        self
    }

    /// The peer left the case out.
    pub(super) fn skipped(mut self, reason: String) -> Self {
        self.ended = Some(Outcome::Skipped { reason });
        self
    }

    /// The case. What a peer printed in place of a number makes a measurement invalid.
    pub(super) fn finish(mut self) -> Case {
        let refused: Vec<String> = self
            .measurement
            .metrics
            .iter()
            .filter_map(|metric| Some((metric, metric.value.reason()?)))
            .filter(|(_, reason)| reason.starts_with("printed as"))
            .map(|(metric, reason)| format!("{}: {reason}", metric.key()))
            .collect();
        if !refused.is_empty() {
            self.flag(Severity::Invalid, "not_a_number", refused.join("; "));
        }
        let measured = Outcome::Measured(Box::new(self.measurement));
        Case {
            benchmark: Benchmark::new(self.id, self.definition, self.params),
            outcome: self.ended.unwrap_or(measured),
        }
    }
}

/// Work of equal operations, where both factors are known and the product is possible.
pub(super) fn work(ops: &Fact<u64>, bytes_per_op: &Fact<u64>) -> Fact<Work> {
    let ops = match ops {
        Fact::Known(ops) => *ops,
        Fact::Unavailable { unavailable } => return Fact::unavailable(unavailable),
    };
    match bytes_per_op {
        Fact::Known(size) => match ops.checked_mul(*size) {
            Some(bytes) => Fact::Known(Work { ops, bytes }),
            None => Fact::unavailable(format!("{ops} times {size} bytes are too many")),
        },
        Fact::Unavailable { unavailable } => Fact::unavailable(unavailable),
    }
}

/// The share of samples above a percentile, as one sample in how many.
fn needed(how: Aggregation) -> u64 {
    match how {
        Aggregation::P90 => 10,
        Aggregation::P99 => 100,
        Aggregation::P999 => 1000,
        Aggregation::P9999 => 10_000,
        Aggregation::P99999 => 100_000,
        _ => 1,
    }
}

/// Refuses a percentile that only repeats the maximum under a finer name, as our own programs do.
fn enough_samples(how: Aggregation, value: Fact<f64>, n: &Fact<u64>) -> Fact<f64> {
    let needed = needed(how);
    match (&value, n) {
        (Fact::Known(value), Fact::Known(n)) if *n < needed => Fact::unavailable(format!(
            "it takes {needed} samples, there are {n}; what was printed ({value} ns) repeats the \
             largest ones"
        )),
        _ => value,
    }
}

/// The aggregation of a percentile, if reports have one.
pub(super) fn percentile(printed: &str) -> Option<Aggregation> {
    let percent = printed.parse::<f64>().ok()?;
    let known = [
        (50.0, Aggregation::P50),
        (90.0, Aggregation::P90),
        (99.0, Aggregation::P99),
        (99.9, Aggregation::P999),
        (99.99, Aggregation::P9999),
        (99.999, Aggregation::P99999),
    ];
    known
        .into_iter()
        .find(|(value, _)| (value - percent).abs() < 1e-9)
        .map(|(_, aggregation)| aggregation)
}
