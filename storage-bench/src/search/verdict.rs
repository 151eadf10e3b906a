//! What one probe says of a latency target, and how surely.

use crate::spec::LatencyTarget;
use reports::measure::{Histogram, decode_histogram};
use reports::model::{Measurement, Unit};
use reports::render::units::human;
use serde_json::{Map, Value, json};
use std::fmt;

/// Half the width of a 95 % interval in standard deviations.
const Z: f64 = 1.96;

/// Whether a probe kept the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The percentile is at most the target.
    Kept,
    /// It is above.
    Missed,
    /// Less than 98 % of what was offered was done: there is no such percentile.
    Overload,
    /// There are fewer samples than the percentile takes.
    TooFew,
}

impl Verdict {
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Missed => "missed",
            Self::Overload => "overload",
            Self::TooFew => "too few samples",
        }
    }
}

/// A percentile and the 95 % interval around it, in nanoseconds: binomial, as if operations were
/// independent, which in a queue they are not quite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    value: u64,
    low: u64,
    high: u64,
}

/// A probe's percentile and verdict.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// Whether this program itself let operations begin late.
    pub(super) late: bool,
    samples: u64,
    bounds: Option<Bounds>,
    goal: LatencyTarget,
}

impl Judged {
    /// By the distribution of a measurement's main latency, which is its first histogram.
    pub(super) fn of(measurement: &Measurement, goal: LatencyTarget) -> Self {
        let flags = &measurement.validity.flags;
        let has = |code| flags.iter().any(|flag| flag.code == code);
        let first = measurement.histograms.first();
        let histogram = first.and_then(|record| decode_histogram(&record.hdr_v2_base64).ok());
        let bounds = histogram
            .as_ref()
            .and_then(|all| bounds(all, goal.quantile()));
        let verdict = match bounds {
            _ if has("overload") => Verdict::Overload,
            None => Verdict::TooFew,
            Some(bounds) if bounds.value > goal.ns => Verdict::Missed,
            Some(_) => Verdict::Kept,
        };
        Self {
            verdict,
            late: has("late_generator"),
            samples: histogram.map_or(0, |all| all.len()),
            bounds,
            goal,
        }
    }

    /// Whether the whole interval is above the target.
    pub(super) fn surely_missed(&self) -> bool {
        self.bounds.is_some_and(|bounds| bounds.low > self.goal.ns)
    }

    /// Whether the target is outside of the interval, or was not what decided.
    pub(super) fn certain(&self) -> bool {
        let goal = self.goal.ns;
        let open = |bounds: Bounds| bounds.low <= goal && goal < bounds.high;
        self.verdict == Verdict::Overload || !self.bounds.is_some_and(open)
    }

    pub(super) fn numbers(&self) -> Map<String, Value> {
        let bound = |of: fn(Bounds) -> u64| match self.bounds {
            Some(bounds) => json!(of(bounds)),
            None => json!({"unavailable": "too few samples"}),
        };
        let fields = [
            ("percentile_ns", bound(|bounds| bounds.value)),
            ("low_ns", bound(|bounds| bounds.low)),
            ("high_ns", bound(|bounds| bounds.high)),
            ("samples", json!(self.samples)),
            ("verdict", json!(self.verdict.in_words())),
            ("certain", json!(self.certain())),
            ("late_generator", json!(self.late)),
        ];
        let named = fields.map(|(name, value)| (name.to_owned(), value));
        named.into_iter().collect()
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Bounds { value, low, high }) = self.bounds else {
            return write!(f, "unknown by {} samples", self.samples);
        };
        let [value, low, high] = [value, low, high].map(|ns| human(ns as f64, Unit::Nanoseconds));
        write!(f, "{value} ({low} to {high})")
    }
}

/// The quantile and its interval, or `None` for fewer samples than it takes.
fn bounds(histogram: &Histogram<u64>, q: f64) -> Option<Bounds> {
    let n = histogram.len() as f64;
    // 1 − q is not exact.
    if n * (1.0 - q) < 1.0 - 1e-6 {
        return None;
    }
    let margin = Z * (q * (1.0 - q) / n).sqrt();
    let at = |q: f64| histogram.value_at_quantile(q.clamp(0.0, 1.0));
    Some(Bounds {
        value: at(q),
        low: at(q - margin),
        high: at(q + margin),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reports::measure::new_histogram;

    #[test]
    fn the_interval_of_a_percentile_narrows_with_the_samples() {
        let width = |n: u64| {
            let mut histogram = new_histogram();
            for value in 1..=n {
                histogram.record(1_000_000 * value / n).expect("in bounds");
            }
            let found = bounds(&histogram, 0.99).expect("enough samples");
            assert!(found.low <= found.value && found.value <= found.high);
            found.high - found.low
        };
        // 2 × 1.96 × √(0.99 × 0.01 / n) of a million, at the histogram's resolution.
        let wide = width(10_000);
        assert!((3_000..5_000).contains(&wide), "{wide}");
        assert!(width(100_000) < wide / 2);
    }

    #[test]
    fn a_percentile_takes_a_sample_beyond_it() {
        let mut histogram = new_histogram();
        assert_eq!(bounds(&histogram, 0.99), None);
        histogram.record_n(7, 99).expect("in bounds");
        assert_eq!(bounds(&histogram, 0.99), None);
        histogram.record_n(7, 1).expect("in bounds");
        assert!(bounds(&histogram, 0.99).is_some());
    }
}
