//! Bencher Metric Format: JSON, per benchmark and measure a value with its bounds.
//!
//! A tracker follows names over years and keeps numbers without the flags beside them. So names are
//! whole (the benchmark with all its parameters and its arm, never its host, which Bencher calls a
//! testbed) and only valid runs get here. The bounds are the median's interval over runs.

use super::Cases;
use crate::model::definition_hash;
use crate::render::text::visible;
use crate::summary::CaseSummary;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The longest name of a benchmark that Bencher takes, in characters.
const LONGEST_BENCHMARK: usize = 1024;
/// The longest name of a measure.
const LONGEST_MEASURE: usize = 64;

/// The medians of the headlines, or of all metrics.
pub(super) fn cases(cases: &Cases, all: bool) -> String {
    let names: Vec<String> = cases.summaries.iter().map(name).collect();
    let mut count: BTreeMap<&String, usize> = BTreeMap::new();
    for name in &names {
        *count.entry(name).or_default() += 1;
    }
    let mut benchmarks = Map::new();
    for ((case, label), name) in cases.iter().zip(&names) {
        let mut measures = Map::new();
        let metrics = case.metrics.iter().filter(|metric| all || metric.headline);
        for metric in metrics {
            if let Some(median) = metric.median.known() {
                let mut measure = json!({ "value": median });
                if let Ok(interval) = &metric.interval {
                    measure["lower_value"] = json!(interval.low);
                    measure["upper_value"] = json!(interval.high);
                }
                measures.insert(shortened(&metric.title(), LONGEST_MEASURE), measure);
            }
        }
        if measures.is_empty() {
            continue;
        }
        // Several hosts or rows in one export: the label tells them apart.
        let name = match count[name] {
            1 => name.clone(),
            _ => format!("{name} ({label})"),
        };
        benchmarks.insert(shortened(&name, LONGEST_BENCHMARK), Value::Object(measures));
    }
    // A map of maps of numbers always serialises.
    format!("{:#}\n", Value::Object(benchmarks))
}

fn name(case: &CaseSummary) -> String {
    match &case.arm {
        Some(arm) => format!("{} [{arm}]", case.benchmark),
        None => case.benchmark.to_string(),
    }
}

/// A name of at most so many characters; a longer one ends in a hash of what it lost.
fn shortened(name: &str, longest: usize) -> String {
    let name = visible(name);
    if name.chars().count() <= longest {
        return name.into_owned();
    }
    let hash = definition_hash(&name, "");
    let kept: String = name.chars().take(longest - hash.len() - 1).collect();
    format!("{kept}~{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_distinct() {
        let [a, b] = ["a", "b"].map(|end| shortened(&("µ".repeat(80) + end), 64));
        assert_eq!((a.chars().count(), b.chars().count()), (64, 64));
        assert_ne!(a, b);
        assert_eq!(shortened("short", 64), "short");
    }
}
