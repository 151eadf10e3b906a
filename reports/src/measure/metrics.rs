//! From histograms and totals to metrics: every program names, rounds and refuses the same way.

use super::recorder::MAX_LATENCY_NS;
use crate::model::{Aggregation, Direction, Fact, HistogramRecord, Metric, Unit, Work};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// The percentiles of every latency distribution, with the share of samples above each.
const PERCENTILES: [(Aggregation, f64); 6] = [
    (Aggregation::P50, 0.5),
    (Aggregation::P90, 0.9),
    (Aggregation::P99, 0.99),
    (Aggregation::P999, 0.999),
    (Aggregation::P9999, 0.9999),
    (Aggregation::P99999, 0.99999),
];

/// A percentile of a histogram, or why it has none: below 1/(1−q) samples it would only repeat
/// the maximum under a finer name.
#[must_use]
pub fn percentile(histogram: &Histogram<u64>, q: f64) -> Fact<f64> {
    let needed = (1.0 / (1.0 - q)).round() as u64;
    if histogram.len() < needed {
        let n = histogram.len();
        return Fact::unavailable(format!("it takes {needed} samples, there are {n}"));
    }
    Fact::Known(histogram.value_at_quantile(q) as f64)
}

/// The metrics of one latency distribution: min, mean, standard deviation, percentiles p50 to
/// p99.999, maximum. Median and p99 are headlines. An empty histogram gives none.
#[must_use]
pub fn latency_metrics(name: &str, histogram: &Histogram<u64>) -> Vec<Metric> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let n = histogram.len();
    let metric = |aggregation, value: Fact<f64>| {
        Metric::new(
            name,
            aggregation,
            Unit::Nanoseconds,
            Direction::LowerIsBetter,
            value,
            n,
        )
    };
    let mut metrics: Vec<Metric> = PERCENTILES
        .iter()
        .map(|&(aggregation, q)| {
            let metric = metric(aggregation, percentile(histogram, q));
            match aggregation {
                Aggregation::P50 | Aggregation::P99 => metric.headline(),
                _ => metric,
            }
        })
        .collect();
    metrics.push(metric(
        Aggregation::Min,
        Fact::Known(histogram.min() as f64),
    ));
    metrics.push(metric(
        Aggregation::Max,
        Fact::Known(histogram.max() as f64),
    ));
    metrics.push(metric(Aggregation::Mean, Fact::Known(histogram.mean())));
    metrics.push(metric(Aggregation::Stddev, Fact::Known(histogram.stdev())));
    metrics
}

/// Operations and bytes per second of a window. `ops_name` is the field's word for the case:
/// `transactions_per_s`, `iops`. A case that moves no bytes gets no bandwidth.
#[must_use]
pub fn rate_metrics(ops_name: &str, work: Work, elapsed_s: f64) -> Vec<Metric> {
    let rate = |name, unit, amount: u64| {
        let value = Fact::Known(amount as f64 / elapsed_s);
        Metric::new(
            name,
            Aggregation::Total,
            unit,
            Direction::HigherIsBetter,
            value,
            work.ops,
        )
    };
    let mut metrics = vec![rate(ops_name, Unit::PerSecond, work.ops)];
    if work.bytes > 0 {
        metrics.push(rate(
            "bandwidth_bytes_per_s",
            Unit::BytesPerSecond,
            work.bytes,
        ));
    }
    metrics
}

/// A histogram as the report carries it.
#[must_use]
pub fn histogram_record(name: &str, histogram: &Histogram<u64>) -> HistogramRecord {
    HistogramRecord {
        name: name.to_owned(),
        unit: Unit::Nanoseconds,
        count: histogram.len(),
        co_corrected: false,
        hdr_v2_base64: encode(histogram),
    }
}

/// The distribution of one slice in a series: to two significant digits, which takes some hundred
/// bytes where all three take thousands.
#[must_use]
pub fn coarse_histogram(histogram: &Histogram<u64>) -> String {
    // The bounds are constants that satisfy the constructor's rules, and those of what is added.
    let mut coarse =
        Histogram::new_with_bounds(1, MAX_LATENCY_NS, 2).expect("constant bounds are valid");
    coarse.add(histogram).expect("in bounds");
    encode(&coarse)
}

fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and every count of a run fits the format's 64 bits.
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("memory takes it");
    STANDARD.encode(bytes)
}

/// The most values that a histogram may count: three days at a billion a second. Sums over tens
/// of thousands of runs then stay within their counters.
const MOST_SAMPLES: u128 = 1 << 48;

/// Reads a histogram back from a report.
///
/// # Errors
/// What is wrong with the text.
pub fn decode_histogram(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| format!("it is not base64: {error}"))?;
    let histogram: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("it is no HdrHistogram: {error}"))?;
    let counts = histogram.iter_recorded();
    let counts = counts.map(|step| u128::from(step.count_at_value()));
    match counts.sum::<u128>() {
        counted if counted > MOST_SAMPLES => Err(format!(
            "it counts {counted} values, more than any run records ({MOST_SAMPLES})"
        )),
        _ => Ok(histogram),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::new_histogram;

    #[test]
    fn counts_that_would_overflow_are_refused() {
        let mut histogram = new_histogram();
        for value in [1000, 2000, 3000] {
            let most = i64::MAX as u64;
            histogram.record_n(value, most).expect("in bounds");
        }
        let text = histogram_record("lat_ns", &histogram).hdr_v2_base64;
        let fault = decode_histogram(&text).expect_err("no run records so many");
        assert!(fault.contains("more than any run records"), "{fault}");
    }

    #[test]
    fn a_percentile_needs_samples_beyond_it() {
        let mut histogram = new_histogram();
        for value in 1..=999 {
            histogram.record(value).expect("in bounds");
        }
        assert_eq!(percentile(&histogram, 0.99).known(), Some(&990.0));
        let reason = percentile(&histogram, 0.999);
        assert_eq!(
            reason.reason(),
            Some("it takes 1000 samples, there are 999")
        );
    }

    #[test]
    fn histograms_survive_the_report() {
        let mut histogram = new_histogram();
        for value in [1, 1000, 1000, 123_456_789] {
            histogram.record(value).expect("in bounds");
        }
        let record = histogram_record("latency_ns", &histogram);
        assert_eq!(record.count, 4);
        assert!(
            record.hdr_v2_base64.starts_with("HISTF"),
            "the compressed V2 cookie"
        );
        assert_eq!(decode_histogram(&record.hdr_v2_base64), Ok(histogram));
        assert!(decode_histogram("not base64!").is_err());
        assert!(decode_histogram("AAAA").is_err());
    }

    #[test]
    fn a_slice_keeps_its_distribution_in_few_bytes() {
        let mut histogram = new_histogram();
        // Spread as latencies are; a run of neighbours would be compressed away in either.
        for number in 0..10_000_u64 {
            let value = 50_000 + number * 2_654_435_761 % 4_950_000;
            histogram.record(value).expect("in bounds");
        }
        histogram.record(MAX_LATENCY_NS).expect("in bounds");
        let text = coarse_histogram(&histogram);
        let exact = histogram_record("", &histogram).hdr_v2_base64;
        assert!(
            text.len() * 3 < exact.len() * 2,
            "{} {}",
            text.len(),
            exact.len()
        );
        let coarse = decode_histogram(&text).expect("it was just made");
        assert_eq!(coarse.len(), histogram.len());
        let (ours, exact) = (
            coarse.value_at_quantile(0.5),
            histogram.value_at_quantile(0.5),
        );
        assert!(ours.abs_diff(exact) <= exact / 100, "{ours} {exact}");
    }

    #[test]
    fn rates_leave_out_bytes_that_never_moved() {
        let metrics = rate_metrics("ops_per_s", Work { ops: 10, bytes: 0 }, 2.0);
        assert_eq!(metrics.len(), 1);
        assert_eq!(metrics[0].value, Fact::Known(5.0));
        let empty = rate_metrics("ops_per_s", Work::default(), 0.0);
        assert!(empty[0].value.reason().is_some(), "0/0 is not a rate");
    }
}
