//! OpenMetrics text, which Prometheus and its relatives read: gauges, and a histogram per
//! distribution.
//!
//! Units are base units and end the names, so nanoseconds become seconds. Every sample bears the
//! time at which its run ended, as `promtool tsdb create-blocks-from openmetrics` wants it; runs of
//! one case are points of one series. Numbers of invalid runs stay out, because nothing beside the
//! number could say so; how many runs came to what is a gauge of its own.

use super::{outcome, places};
use crate::measure::decode_histogram;
use crate::model::{Benchmark, Fact, Metric, Outcome, Report, Unit};
use crate::render::text::visible;
use crate::summary::{CaseSummary, MetricSummary};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What all names begin with.
const PREFIX: &str = "hpc_bench";

/// The bounds of all histograms, in the histogram's own unit: 1, 2 and 5 of each decade. They are
/// the same for all, so that dashboards can add them up.
fn bounds() -> impl Iterator<Item = u64> {
    let decades = (0..12).map(|decade| 10u64.pow(decade));
    decades.flat_map(|decade| [1, 2, 5].map(|step| step * decade))
}

type Labels = Vec<(String, String)>;

/// When a point was measured, and in which run if it is one run's.
#[derive(Clone, Copy)]
struct Moment<'a> {
    time: Option<i64>,
    run: Option<&'a str>,
}

/// What stands above a family's samples.
struct Heading {
    name: String,
    kind: &'static str,
    unit: Option<&'static str>,
    help: String,
}

impl Heading {
    /// `what` tells the family from others of the same metric.
    fn new(kind: &'static str, metric: &str, what: &str, unit: Unit, help: &str) -> Self {
        let (name, unit) = family_name(metric, what, unit);
        let help = format!("{}: {help}", visible(metric));
        Self {
            name,
            kind,
            unit,
            help,
        }
    }
}

/// A metric family: everything under one name.
struct Family {
    heading: Heading,
    /// By labels, then by time in milliseconds; without a time first.
    series: BTreeMap<Labels, BTreeMap<Option<i64>, Point>>,
}

/// One point of a series.
enum Point {
    Gauge(f64),
    Histogram(Box<Histogram<u64>>, Unit),
}

#[derive(Default)]
struct Families(BTreeMap<String, Family>);

/// A point per run.
pub(super) fn runs(reports: &[Report]) -> String {
    let mut families = Families::default();
    let places = places(reports);
    for report in reports {
        let moment = Moment {
            time: milliseconds(&report.run.ended),
            run: Some(&report.run.id),
        };
        let session = report.run.session.as_ref();
        let hosts: Vec<&str> = report.hosts.iter().map(|host| host.name.as_str()).collect();
        for case in &report.cases {
            let group = Group {
                benchmark: &case.benchmark,
                row: session.map(|session| session.row.as_str()),
                arm: session.and_then(|session| session.arm.as_deref()),
                hosts: &hosts,
                places: &places,
            };
            let labels = group.labels();
            families.outcome(&labels, outcome(&case.outcome), 1, moment);
            let Outcome::Measured(measurement) = &case.outcome else {
                continue;
            };
            if measurement.validity.is_invalid() {
                continue;
            }
            for metric in &measurement.metrics {
                if let Fact::Known(value) = metric.value {
                    let labels = with_metric(&labels, &Named::of(metric));
                    let heading = Heading::new("gauge", &metric.name, "", metric.unit, "of a run");
                    let point = Point::Gauge(scaled(value, metric.unit));
                    families.add(heading, labels, point, moment);
                }
            }
            for record in &measurement.histograms {
                if let Ok(histogram) = decode_histogram(&record.hdr_v2_base64) {
                    families.histogram(&record.name, record.unit, &labels, histogram, moment);
                }
            }
        }
    }
    families.written()
}

/// Medians over runs with their intervals, and merged histograms, as of one time. `all` are the
/// cases with all their runs, `sound` those with their valid runs alone.
pub(super) fn cases(
    all: &[CaseSummary],
    sound: &[CaseSummary],
    places: &BTreeMap<String, String>,
    time: Option<i64>,
) -> String {
    let mut families = Families::default();
    let moment = Moment { time, run: None };
    let labels = |case: &CaseSummary| {
        let hosts: Vec<&str> = case.hosts.iter().map(String::as_str).collect();
        let group = Group {
            benchmark: &case.benchmark,
            row: case.row.as_deref(),
            arm: case.arm.as_deref(),
            hosts: &hosts,
            places,
        };
        group.labels()
    };
    let valid: BTreeMap<Labels, usize> = sound
        .iter()
        .map(|case| (labels(case), case.measured))
        .collect();
    for case in all {
        let labels = labels(case);
        let measured = valid.get(&labels).copied().unwrap_or(0);
        let counts = [
            ("measured", measured),
            ("invalid", case.measured.saturating_sub(measured)),
            ("skipped", case.skipped.values().sum()),
            ("failed", case.failed.values().sum()),
        ];
        for (word, runs) in counts {
            families.outcome(&labels, word, runs, moment);
        }
    }
    for case in sound {
        let labels = labels(case);
        for metric in &case.metrics {
            families.summary(metric, &labels, moment);
        }
        for (name, histogram) in &case.histograms {
            let same = case.metrics.iter().find(|metric| metric.name == *name);
            let unit = same.map_or(Unit::Nanoseconds, |metric| metric.unit);
            families.histogram(name, unit, &labels, histogram.clone(), moment);
        }
    }
    families.written()
}

/// What makes runs repetitions of each other.
struct Group<'a> {
    benchmark: &'a Benchmark,
    row: Option<&'a str>,
    arm: Option<&'a str>,
    hosts: &'a [&'a str],
    places: &'a BTreeMap<String, String>,
}

impl Group<'_> {
    fn labels(&self) -> Labels {
        let types = self.hosts.iter().filter_map(|host| self.places.get(*host));
        let mut types: Vec<&str> = types.map(String::as_str).collect();
        types.dedup();
        let instance_type = (!types.is_empty()).then(|| types.join(" "));
        let known = [
            ("benchmark", Some(self.benchmark.id.clone())),
            ("definition", Some(self.benchmark.definition_hash.clone())),
            ("host", Some(self.hosts.join(" "))),
            ("instance_type", instance_type),
            ("row", self.row.map(str::to_owned)),
            ("arm", self.arm.map(str::to_owned)),
        ];
        let mut labels: Labels = known
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        for (name, value) in &self.benchmark.params {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let mut name = format!("param_{}", word(name));
            while labels.iter().any(|(known, _)| *known == name) {
                name.push('_');
            }
            labels.push((name, value));
        }
        labels
    }
}

/// What tells the metrics of one family apart.
struct Named<'a> {
    name: &'a str,
    aggregation: String,
    compat: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn of(metric: &'a Metric) -> Self {
        Self {
            name: &metric.name,
            aggregation: metric.aggregation.to_string(),
            compat: metric.compat.as_deref(),
        }
    }
}

/// The metric's own name is a label, because another may become the same word in OpenMetrics.
fn with_metric(labels: &Labels, metric: &Named<'_>) -> Labels {
    let mut labels = labels.clone();
    labels.push(("metric".to_owned(), metric.name.to_owned()));
    labels.push(("aggregation".to_owned(), metric.aggregation.clone()));
    if let Some(peer) = metric.compat {
        labels.push(("defined_by".to_owned(), peer.to_owned()));
    }
    labels
}

impl Families {
    fn summary(&mut self, metric: &MetricSummary, labels: &Labels, moment: Moment<'_>) {
        let named = Named {
            name: &metric.name,
            aggregation: metric.aggregation.to_string(),
            compat: metric.compat.as_deref(),
        };
        let labels = with_metric(labels, &named);
        let interval = metric.interval.as_ref().ok();
        let low = interval.map(|interval| interval.low);
        let high = interval.map(|interval| interval.high);
        let numbers = [
            ("", metric.median.known().copied(), "median over runs"),
            ("_low", low, "lower end of the median's interval over runs"),
            (
                "_high",
                high,
                "upper end of the median's interval over runs",
            ),
        ];
        for (what, value, help) in numbers {
            if let Some(value) = value {
                let heading = Heading::new("gauge", &metric.name, what, metric.unit, help);
                let point = Point::Gauge(scaled(value, metric.unit));
                self.add(heading, labels.clone(), point, moment);
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        unit: Unit,
        labels: &Labels,
        histogram: Histogram<u64>,
        moment: Moment<'_>,
    ) {
        let help = "distribution of all samples";
        let heading = Heading::new("histogram", name, "_distribution", unit, help);
        let mut labels = labels.clone();
        labels.push(("metric".to_owned(), name.to_owned()));
        let point = Point::Histogram(Box::new(histogram), unit);
        self.add(heading, labels, point, moment);
    }

    fn outcome(&mut self, labels: &Labels, outcome: &str, runs: usize, moment: Moment<'_>) {
        let mut labels = labels.clone();
        labels.push(("outcome".to_owned(), outcome.to_owned()));
        let heading = Heading {
            name: format!("{PREFIX}_runs"),
            kind: "gauge",
            unit: None,
            help: "runs by what came of them".to_owned(),
        };
        self.add(heading, labels, Point::Gauge(runs as f64), moment);
    }

    /// The run is added to the labels where two points of a series would share a time, and where
    /// there is none: points without a time cannot stand beside points with one.
    fn add(&mut self, heading: Heading, mut labels: Labels, point: Point, moment: Moment<'_>) {
        let family = self
            .0
            .entry(heading.name.clone())
            .or_insert_with(|| Family {
                heading,
                series: BTreeMap::new(),
            });
        let points = family.series.get(&labels);
        let taken = points.is_some_and(|points| points.contains_key(&moment.time));
        if let Some(run) = moment.run
            && (moment.time.is_none() || taken)
        {
            labels.push(("run".to_owned(), run.to_owned()));
        }
        let points = family.series.entry(labels).or_default();
        points.insert(moment.time, point);
    }

    fn written(self) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            let Heading {
                kind, unit, help, ..
            } = &family.heading;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}");
            if let Some(unit) = unit {
                let _ = writeln!(text, "# UNIT {name} {unit}");
            }
            let _ = writeln!(text, "# HELP {name} {}", escaped(help));
            for (labels, points) in &family.series {
                let labels = label_text(labels);
                for (time, point) in points {
                    write_point(&mut text, name, &labels, *time, point);
                }
            }
        }
        text.push_str("# EOF\n");
        text
    }
}

fn write_point(text: &mut String, name: &str, labels: &str, time: Option<i64>, point: &Point) {
    let time = time.map_or(String::new(), |time| {
        format!(" {}.{:03}", time.div_euclid(1000), time.rem_euclid(1000))
    });
    match point {
        Point::Gauge(value) => {
            let _ = writeln!(text, "{name}{{{labels}}} {value}{time}");
        }
        Point::Histogram(histogram, unit) => {
            let mut recorded = histogram.iter_recorded().peekable();
            let mut count = 0;
            for bound in bounds() {
                while let Some(step) = recorded.next_if(|step| step.value_iterated_to() <= bound) {
                    count += step.count_since_last_iteration();
                }
                let le = le(bound, *unit);
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{le}\"}} {count}{time}");
            }
            let count = histogram.len();
            let sum = scaled(histogram.mean() * count as f64, *unit);
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}{time}");
            let _ = writeln!(text, "{name}_count{{{labels}}} {count}{time}");
            let _ = writeln!(text, "{name}_sum{{{labels}}} {sum}{time}");
        }
    }
}

/// A bucket's bound as OpenMetrics writes it, shortest form, exponents of two digits.
fn le(bound: u64, unit: Unit) -> String {
    let value = scaled(bound as f64, unit);
    if value < 1e-4 {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
        format!("{digits}e-{exponent:0>2}")
    } else if value < 1e6 {
        format!("{value:?}")
    } else {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        format!("{digits}e+{exponent:0>2}")
    }
}

/// The unit's word and what the reports' names end in instead.
fn units(unit: Unit) -> (Option<&'static str>, &'static str) {
    match unit {
        Unit::Nanoseconds => (Some("seconds"), "_ns"),
        Unit::Seconds => (Some("seconds"), "_s"),
        Unit::Bytes => (Some("bytes"), "_bytes"),
        Unit::BytesPerSecond => (Some("bytes_per_second"), "_bytes_per_s"),
        Unit::PerSecond => (Some("per_second"), "_per_s"),
        Unit::Ratio => (Some("ratio"), "_ratio"),
        Unit::Count => (None, ""),
    }
}

/// A value in the base unit.
fn scaled(value: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Nanoseconds => value / 1e9,
        _ => value,
    }
}

/// The family's name, which ends in the unit, and the unit.
fn family_name(name: &str, what: &str, unit: Unit) -> (String, Option<&'static str>) {
    let (unit, suffix) = units(unit);
    let base = name.strip_suffix(suffix).unwrap_or(name);
    let base = word(base);
    match unit {
        Some(unit) => (format!("{PREFIX}_{base}{what}_{unit}"), Some(unit)),
        None => {
            // These endings belong to the samples of other types.
            let reserved = [
                "_total", "_count", "_sum", "_bucket", "_created", "_info", "_runs",
            ];
            let clashes = reserved
                .iter()
                .any(|ending| format!("_{base}").ends_with(ending));
            let value = if clashes { "_value" } else { "" };
            (format!("{PREFIX}_{base}{value}{what}"), None)
        }
    }
}

/// A name's characters, any other as an underscore.
fn word(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(allowed).collect()
}

fn label_text(labels: &Labels) -> String {
    let one = |(name, value): &(String, String)| format!("{name}=\"{}\"", escaped(value));
    labels.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Text in a label or a help line: what acts is spelt out, backslash and quote are escaped.
fn escaped(text: &str) -> String {
    visible(text).replace('\\', "\\\\").replace('"', "\\\"")
}

/// A report's time in milliseconds of Unix time.
pub(super) fn milliseconds(time: &str) -> Option<i64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_their_unit() {
        let name = |name, unit| family_name(name, "", unit).0;
        assert_eq!(
            name("round_trip_ns", Unit::Nanoseconds),
            "hpc_bench_round_trip_seconds"
        );
        assert_eq!(
            name("bandwidth_bytes_per_s", Unit::BytesPerSecond),
            "hpc_bench_bandwidth_bytes_per_second"
        );
        assert_eq!(name("iops", Unit::PerSecond), "hpc_bench_iops_per_second");
        assert_eq!(name("a-b.c µ", Unit::Count), "hpc_bench_a_b_c__");
        assert_eq!(
            name("sample_count", Unit::Count),
            "hpc_bench_sample_count_value"
        );
        assert_eq!(name("runs", Unit::Count), "hpc_bench_runs_value");
    }

    #[test]
    fn bounds_are_written_canonically() {
        let shown: Vec<String> = [1, 20_000, 50_000, 200_000, 1_000_000_000, 500_000_000_000]
            .iter()
            .map(|bound| le(*bound, Unit::Nanoseconds))
            .collect();
        assert_eq!(shown, ["1e-09", "2e-05", "5e-05", "0.0002", "1.0", "500.0"]);
        assert_eq!(le(2_000_000, Unit::Bytes), "2e+06");
    }

    #[test]
    fn times_are_read_or_left_out() {
        assert_eq!(milliseconds("1970-01-01T00:00:01.500Z"), Some(1500));
        assert_eq!(milliseconds("yesterday"), None);
    }
}
