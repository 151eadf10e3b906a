//! Reports as text for a terminal: one block per case, in the manner of hyperfine's.

pub use super::environment::environment;
pub use super::style::Style;

use super::sheet::Sheet;
use super::text::{columns, pad, unbroken, visible};
use super::units::{human, human_fact};
use super::{slices, spark, sweep};
use crate::measure::decode_histogram;
use crate::model::{
    Aggregation, Case, Flag, Interval, Measurement, Metric, OBSERVED, Outcome, Report, Severity,
    Unit,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The characters of a curve over time or of a distribution, where there is room for as many.
const CURVE: usize = 40;
/// The columns that median, mean and standard deviation take beside each other.
const CENTRE: usize = 48;
/// Fewer slices than these are no curve.
const FEWEST_SLICES: usize = 3;

/// A whole report: a block per case; a sweep, three or more measured points of one benchmark, as
/// one table.
#[must_use]
pub fn report(report: &Report, style: &Style) -> String {
    let same = |a: &Case, b: &Case| a.benchmark.id == b.benchmark.id;
    let mut blocks = Vec::new();
    for cases in report.cases.chunk_by(same) {
        let measured = |case: &Case| case.outcome.measurement().is_some();
        if cases.len() > 2 && cases.iter().all(measured) {
            blocks.push(sweep::table(cases, *style));
        } else {
            blocks.extend(cases.iter().map(|case| block(case, *style)));
        }
    }
    style.finish(blocks.join("\n"))
}

/// One case: its name and parameters, then its numbers, or why there are none.
fn block(case: &Case, style: Style) -> String {
    let labels: Vec<&str> = case.outcome.measurement().map(labels).unwrap_or_default();
    let mut sheet = Sheet::new(style, labels.into_iter());
    sheet.title(&visible(&case.benchmark.id));
    if !case.benchmark.params.is_empty() {
        let params = assignments(&case.benchmark.params);
        sheet.unlabelled(&visible(&params), |line| style.faint(line));
    }
    match &case.outcome {
        Outcome::Measured(measurement) => measured(&mut sheet, measurement, style),
        Outcome::Skipped { reason } => {
            marked(&mut sheet, "skipped:", reason, |mark| style.doubtful(mark))
        }
        Outcome::Failed { error } => marked(&mut sheet, "failed:", error, |mark| style.bad(mark)),
    }
    sheet.into_text()
}

/// A reason with a coloured word before it.
fn marked(sheet: &mut Sheet, mark: &str, reason: &str, paint: impl Fn(&str) -> String) {
    let text = format!("{mark} {}", visible(reason));
    sheet.unlabelled(&text, |line| line.replacen(mark, &paint(mark), 1));
}

/// `name=value` for each, with spaces between.
pub(super) fn assignments(params: &Map<String, Value>) -> String {
    let each = params.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    each.collect::<Vec<_>>().join(" ")
}

fn labels(measurement: &Measurement) -> Vec<&str> {
    let metrics = measurement.metrics.iter().map(|metric| &metric.name);
    let facts = shown_facts(&measurement.facts).map(|(name, _)| name);
    metrics.chain(facts).map(String::as_str).collect()
}

fn measured(sheet: &mut Sheet, measurement: &Measurement, style: Style) {
    // A distribution's metrics stand together, and what a summary would show comes first.
    let mut families: Vec<Vec<&Metric>> = Vec::new();
    let mut known = BTreeMap::new();
    for metric in &measurement.metrics {
        let single = metric.aggregation == Aggregation::Total;
        let family = (&metric.name, &metric.compat, single);
        let at = *known.entry(family).or_insert(families.len());
        match families.get_mut(at) {
            Some(family) => family.push(metric),
            None => families.push(vec![metric]),
        }
    }
    families.sort_by_key(|family| !family.iter().any(|metric| metric.headline));
    for mut family in families {
        family.sort_by_key(|metric| metric.aggregation);
        match family.as_slice() {
            [total] if total.aggregation == Aggregation::Total => single(sheet, total, style),
            [first, ..] if first.compat.is_none() => {
                distribution(sheet, &family, measurement, style);
            }
            _ => in_one_line(sheet, &family, style),
        }
    }
    over_time(sheet, &measurement.intervals, style);
    let amount = match (measurement.work.known(), measurement.elapsed_s.known()) {
        (Some(work), Some(elapsed_s)) => format!("{} operations in {elapsed_s:.3} s; ", work.ops),
        (Some(work), None) => format!("{} operations; ", work.ops),
        (None, Some(elapsed_s)) => format!("in {elapsed_s:.3} s; "),
        (None, None) => String::new(),
    };
    let verified = format!("{amount}{}", visible(&measurement.verified));
    sheet.field("verified", &verified, str::to_owned);
    for (name, fact) in shown_facts(&measurement.facts) {
        let fact = in_words(fact);
        sheet.field(&visible(name), &visible(&fact), |line| style.faint(line));
    }
    for found in &measurement.validity.flags {
        flag(sheet, found, style);
    }
}

/// A number over the whole window.
fn single(sheet: &mut Sheet, metric: &Metric, style: Style) {
    let value = human_fact(&metric.value, metric.unit);
    let bits = bits(metric).map(|bits| format!("  = {bits}"));
    let text = format!("{value}{}{}", bits.unwrap_or_default(), peer(metric));
    sheet.field(&visible(&metric.name), &text, |line| {
        if metric.headline {
            line.replacen(&value, &style.bold(&value), 1)
        } else {
            line.to_owned()
        }
    });
}

fn peer(metric: &Metric) -> String {
    let peer = metric.compat.as_ref();
    peer.map(|peer| {
        format!(
            "  {}",
            unbroken(&format!("({}'s definition)", visible(peer)))
        )
    })
    .unwrap_or_default()
}

/// A distribution: median and mean, the range as a picture, the percentiles in columns.
fn distribution(sheet: &mut Sheet, family: &[&Metric], measurement: &Measurement, style: Style) {
    let room = sheet.room().unwrap_or(usize::MAX);
    let known = |aggregation| {
        let mut found = family.iter().filter(|m| m.aggregation == aggregation);
        found.find(|metric| metric.value.known().is_some())
    };
    let show = |metric: &Metric| {
        let value = human_fact(&metric.value, metric.unit);
        match metric.headline {
            true => style.bold(&value),
            false => value,
        }
    };
    let deviation = known(Aggregation::Stddev).map(|deviation| show(deviation));
    let centre = [
        known(Aggregation::P50).map(|median| ("median", show(median))),
        known(Aggregation::Mean).map(|mean| match &deviation {
            Some(deviation) => ("mean ± σ", format!("{} ± {deviation}", show(mean))),
            None => ("mean", show(mean)),
        }),
    ];
    let centre = centre.into_iter().flatten();
    let centre = centre.map(|(name, value)| format!("{} {value}", style.faint(name)));
    let centre: Vec<String> = centre.collect();
    let mut lines = match room {
        0..CENTRE => centre,
        _ => vec![centre.join("   ")],
    };
    lines.retain(|line| !line.is_empty());
    let ends = (known(Aggregation::Min), known(Aggregation::Max));
    if let (Some(min), Some(max)) = ends {
        let picture = picture(min, max, measurement, room).unwrap_or_else(|| "…".to_owned());
        let range = style.faint("range");
        lines.push(format!("{range} {} {picture} {}", show(min), show(max)));
    }
    let rest = family.iter().filter(|metric| match metric.aggregation {
        Aggregation::P50 | Aggregation::Mean | Aggregation::Stddev => false,
        Aggregation::Min | Aggregation::Max => ends.0.is_none() || ends.1.is_none(),
        _ => true,
    });
    let cells: Vec<&Metric> = rest
        .filter(|metric| metric.value.known().is_some())
        .copied()
        .collect();
    lines.extend(grid(&cells, room, style));
    if lines.is_empty() {
        lines.push("n/a".to_owned());
    }
    sheet.lines(&visible(&family[0].name), &lines);
}

/// The histogram between the two ends of its range, in the columns that these leave.
fn picture(min: &Metric, max: &Metric, measurement: &Measurement, room: usize) -> Option<String> {
    let mut records = measurement.histograms.iter();
    let record = records.find(|record| record.name == min.name && record.unit == min.unit)?;
    let histogram = decode_histogram(&record.hdr_v2_base64).ok()?;
    let ends = [min, max].map(|metric| columns(&human_fact(&metric.value, metric.unit)));
    let taken = "range   ".len() + ends.iter().sum::<usize>();
    let width = room.saturating_sub(taken).min(CURVE);
    Some(spark::distribution(&histogram, width))
}

/// Names above numbers, as many beside each other as there is room for.
fn grid(metrics: &[&Metric], room: usize, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut names, mut values, mut taken) = (String::new(), String::new(), 0);
    for metric in metrics {
        let name = metric.aggregation.to_string();
        let value = human_fact(&metric.value, metric.unit);
        let width = columns(&name).max(columns(&value));
        if taken > 0 && taken + width > room {
            lines.extend([std::mem::take(&mut names), std::mem::take(&mut values)]);
            taken = 0;
        }
        let painted = match metric.headline {
            true => style.bold(&value),
            false => value.clone(),
        };
        let faint = style.faint(&name);
        names.push_str(&pad(&name, width + 2).replacen(&name, &faint, 1));
        values.push_str(&pad(&value, width + 2).replacen(&value, &painted, 1));
        taken += width + 2;
    }
    if taken > 0 {
        lines.extend([names, values]);
    }
    // The spaces after the last column say nothing.
    let trimmed = lines.into_iter().map(|line| line.trim_end().to_owned());
    trimmed.collect()
}

/// A peer's distribution, which stands beside ours and needs no picture.
fn in_one_line(sheet: &mut Sheet, family: &[&Metric], style: Style) {
    let known = family
        .iter()
        .filter(|metric| metric.value.known().is_some());
    let values: Vec<String> = known
        .map(|metric| {
            let value = human_fact(&metric.value, metric.unit);
            unbroken(&format!("{} {value}", metric.aggregation))
        })
        .collect();
    let text = format!("{}{}", values.join("  "), peer(family[0]));
    sheet.field(&visible(&family[0].name), &text, |line| style.faint(line));
}

/// The rate of the slices, from zero up.
fn over_time(sheet: &mut Sheet, intervals: &[Interval], style: Style) {
    if intervals.len() < FEWEST_SLICES {
        return;
    }
    let unit = slices::unit(intervals);
    let rates = |most| {
        let points = slices::points(intervals, unit, most);
        points
            .into_iter()
            .map(|point| point.rate)
            .collect::<Vec<_>>()
    };
    let Some(range) = spark::range(rates(intervals.len()).into_iter(), unit) else {
        return;
    };
    let room = sheet.room().unwrap_or(usize::MAX);
    let width = room.saturating_sub(columns(&range) + 2).min(CURVE);
    let rates: Vec<Option<f64>> = rates(width).into_iter().map(Some).collect();
    let text = format!("{}  {range}", spark::curve(&rates).line);
    sheet.field("over time", &text, |line| {
        line.replacen(&range, &style.faint(&range), 1)
    });
}

/// A flag with its evidence.
pub(super) fn flag(sheet: &mut Sheet, flag: &Flag, style: Style) {
    let code = visible(&flag.code);
    let (mark, painted) = match flag.severity {
        Severity::Info => ("note", style.faint(&code)),
        Severity::Degraded => ("degraded", style.doubtful(&code)),
        Severity::Invalid => ("INVALID", style.bad(&code)),
    };
    let text = format!("{code}: {}", visible(&flag.evidence));
    sheet.field(mark, &text, |line| match line.starts_with(&*code) {
        true => line.replacen(&*code, &painted, 1),
        false => line.to_owned(),
    });
}

/// The facts for a reader's eye: of what was observed, only what is said in words.
pub(super) fn shown_facts(facts: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    facts.iter().flat_map(|(name, fact)| match fact {
        Value::Object(observed) if name == OBSERVED => observed
            .iter()
            .filter(|(_, fact)| fact.is_string())
            .collect(),
        _ => vec![(name, fact)],
    })
}

/// A fact in one line: nested values as `name=value`, lists with commas.
fn in_words(fact: &Value) -> String {
    match fact {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(","),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("unavailable") => {
            format!("unavailable ({})", in_words(&fields["unavailable"]))
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", in_words(value)))
            .collect::<Vec<_>>()
            .join(" "),
        plain => plain.to_string(),
    }
}

/// Bandwidth in bits as well, because networks are sold by them.
fn bits(metric: &Metric) -> Option<String> {
    let value = *metric.value.known()?;
    (metric.unit == Unit::BytesPerSecond).then(|| {
        let bits = human(value * 8.0, Unit::PerSecond);
        bits.trim_end_matches("/s").to_owned() + "bit/s"
    })
}

/// A slice of a running case in one line.
#[must_use]
pub fn interval_line(interval: &Interval) -> String {
    let length = (interval.t1_s - interval.t0_s).max(f64::MIN_POSITIVE);
    let mut line = format!(
        "{:8.2}-{:<8.2} s  {:>12}",
        interval.t0_s,
        interval.t1_s,
        human(interval.work.ops as f64 / length, Unit::PerSecond)
    );
    if interval.work.bytes > 0 {
        let rate = human(interval.work.bytes as f64 / length, Unit::BytesPerSecond);
        line.push_str(&format!("  {rate:>12}"));
    }
    let quantiles = [
        ("p50", interval.p50_ns),
        ("p99", interval.p99_ns),
        ("max", interval.max_ns),
    ];
    for (name, value) in quantiles {
        if let Some(value) = value {
            line.push_str(&format!("  {name} {}", human(value, Unit::Nanoseconds)));
        }
    }
    line
}
