//! Ratios of a suite's arms for a terminal: a heading per row, a line per arm.

use super::compare::{detectable, percent, word};
use super::grid::{Alignment, Grid};
use super::terminal::Style;
use super::text::{folded, visible};
use super::units::human;
use crate::compare::{MetricComparison, Scale, Verdict};
use crate::model::Direction;
use crate::ratios::{ArmRatio, NoiseFloor, RowRatios};
use crate::stats::ALPHA;
use crate::summary::count;

const DETECTABLE: &str = "detectable";

/// The columns that a narrow terminal does without: what could have been seen, and how many pairs.
const DISPENSABLE: [usize; 2] = [5, 4];

/// All ratios as a table with its legend; nothing if there are none.
#[must_use]
pub fn ratios(rows: &[RowRatios], style: &Style) -> String {
    use Alignment::{Left, Right};
    if rows.is_empty() {
        return String::new();
    }
    let mut sheet = Grid::new(&[
        ("arm", Left),
        ("median", Right),
        ("ratio", Right),
        ("95 % interval", Right),
        ("pairs", Right),
        (DETECTABLE, Right),
        ("verdict", Left),
    ]);
    let mut notes = Vec::new();
    for row in rows {
        heading(&mut sheet, row, *style);
        let floor = row.noise_floor.as_ref();
        baseline(&mut sheet, row);
        if let Some(floor) = floor {
            noise_floor(&mut sheet, floor, *style, &mut notes);
        }
        for arm in &row.arms {
            let verdict = verdict(arm, floor, *style);
            line(&mut sheet, arm, detectable_beside(arm, floor), verdict);
            notes.extend(reason(arm).map(|reason| format!("{} {}: {reason}", row.row, arm.arm)));
        }
    }
    let sheet = sheet.fitted(*style, &DISPENSABLE);
    let mut prose = String::new();
    legend(&mut prose, rows, sheet.has(DETECTABLE), *style);
    let mut text = sheet.finish(*style);
    for note in notes {
        prose.push_str(&format!(
            "{} {}\n",
            style.doubtful("no ratio:"),
            visible(&note)
        ));
    }
    text.push_str(&folded(&prose, style.width));
    style.finish(text)
}

fn heading(sheet: &mut Grid<'_>, row: &RowRatios, style: Style) {
    let known = row
        .arms
        .iter()
        .chain(row.noise_floor.as_ref().map(|floor| &floor.ratio));
    let mut known = known.filter_map(|arm| arm.result.as_ref().ok());
    let better = match known.next().map(|comparison| comparison.direction) {
        Some(Direction::HigherIsBetter) => ", more is better",
        Some(Direction::LowerIsBetter) => ", less is better",
        Some(Direction::Neutral) | None => "",
    };
    let name = [row.row.as_str(), row.point.as_str()].join(" ");
    let metric = visible(&row.metric);
    let name = style.bold(&visible(name.trim_end()));
    sheet.heading(format!("{name}  {metric}{}", style.faint(better)));
}

/// The baseline's own line: its median over the pairs of the first arm that has some.
fn baseline(sheet: &mut Grid<'_>, row: &RowRatios) {
    let arms = row
        .arms
        .iter()
        .chain(row.noise_floor.as_ref().map(|floor| &floor.ratio));
    let comparison = arms.filter_map(|arm| arm.result.as_ref().ok()).next();
    let median = comparison.and_then(|c| Some(human(c.a.median?, c.unit)));
    let name = match row.baseline.as_str() {
        "" => "baseline".to_owned(),
        name => format!("{} (baseline)", visible(name)),
    };
    let empty = String::new;
    let median = median.unwrap_or("n/a".to_owned());
    sheet.row([name, median, empty(), empty(), empty(), empty(), empty()]);
}

fn noise_floor(sheet: &mut Grid<'_>, floor: &NoiseFloor, style: Style, notes: &mut Vec<String>) {
    let spread = floor.spread.map(|spread| match scale(&floor.ratio) {
        Some((Scale::Difference, comparison)) => human(spread, comparison.unit),
        _ => percent(spread),
    });
    let verdict = match (spread, floor.differs) {
        (None, _) => "noise floor unknown".to_owned(),
        (Some(spread), false) => style.faint(&format!("noise floor {spread}")),
        (Some(spread), true) => format!("noise floor {spread}, {}", style.doubtful("not equal")),
    };
    let detectable = match &floor.ratio.result {
        Ok(comparison) => detectable(comparison),
        Err(_) => "n/a".to_owned(),
    };
    line(sheet, &floor.ratio, detectable, verdict);
    if let Some(reason) = reason(&floor.ratio) {
        notes.push(format!("{}: {reason}", floor.ratio.arm));
    }
}

fn scale(arm: &ArmRatio) -> Option<(Scale, &MetricComparison)> {
    let comparison = arm.result.as_ref().ok()?;
    Some((comparison.effect?.scale, comparison))
}

fn reason(arm: &ArmRatio) -> Option<String> {
    match &arm.result {
        Err(reason) => Some(reason.clone()),
        Ok(comparison) => comparison.reason.clone(),
    }
}

fn line(sheet: &mut Grid<'_>, arm: &ArmRatio, detectable: String, verdict: String) {
    let absent = || "n/a".to_owned();
    let comparison = arm.result.as_ref().ok();
    let median = comparison.and_then(|c| Some(human(c.b.median?, c.unit)));
    let effect = comparison.and_then(|c| Some((c, c.effect?)));
    let show = |c: &MetricComparison, scale: Scale, value: f64| match scale {
        Scale::Ratio => format!("{value:.3}"),
        Scale::Difference if value < 0.0 => format!("−{}", human(-value, c.unit)),
        Scale::Difference => format!("+{}", human(value, c.unit)),
    };
    let value = effect.map(|(c, effect)| show(c, effect.scale, effect.value));
    let interval = effect.map(|(c, effect)| {
        let [low, high] = [effect.low, effect.high].map(|end| show(c, effect.scale, end));
        format!("{low} – {high}")
    });
    let pairs = comparison.and_then(|c| c.pairs).unwrap_or(0);
    sheet.row([
        visible(&arm.arm).into_owned(),
        median.unwrap_or_else(absent),
        value.unwrap_or_else(absent),
        interval.unwrap_or_else(absent),
        pairs.to_string(),
        detectable,
        verdict,
    ]);
}

/// The smallest change that this arm could have shown: not below what equal arms differ by.
fn detectable_beside(arm: &ArmRatio, floor: Option<&NoiseFloor>) -> String {
    let Some((scale, comparison)) = scale(arm) else {
        return "n/a".to_owned();
    };
    let Some(own) = comparison.detectable else {
        return "n/a".to_owned();
    };
    let size = floor
        .and_then(|floor| floor.spread)
        .map_or(own, |spread| own.max(spread));
    match scale {
        Scale::Ratio => percent(size),
        Scale::Difference => human(size, comparison.unit),
    }
}

fn verdict(arm: &ArmRatio, floor: Option<&NoiseFloor>, style: Style) -> String {
    match &arm.result {
        Err(_) => word(Verdict::Insufficient, &style),
        Ok(_) if arm.within_noise => "~ within the noise floor".to_owned(),
        Ok(comparison) => {
            let word = match chance_among_many(comparison) {
                Some(p_value) => format!("~ (p {p_value:.3})"),
                None => word(comparison.verdict, &style),
            };
            match floor {
                Some(floor) if floor.spread.is_none() => format!("{word} (no noise floor)"),
                _ => word,
            }
        }
    }
}

/// The p value of a ratio whose interval excludes 1 all by itself, but not among so many others.
fn chance_among_many(comparison: &MetricComparison) -> Option<f64> {
    let clear = comparison.effect?.is_clear();
    comparison
        .adjusted_p_value
        .filter(|p_value| clear && *p_value > ALPHA)
}

fn legend(text: &mut String, rows: &[RowRatios], has_detectable: bool, style: Style) {
    let arms = || rows.iter().flat_map(|row| &row.arms);
    let compared = || arms().filter_map(|arm| arm.result.as_ref().ok());
    let mut lines =
        vec!["ratio: arm / baseline, over pairs of runs that were neighbours in time".to_owned()];
    if has_detectable {
        lines.push(
            "detectable: the smallest change that so many pairs with such a spread show 4 times \
             in 5"
                .to_owned(),
        );
    }
    if rows.iter().any(|row| row.noise_floor.is_some()) {
        lines.push(
            "noise floor: how far a second, identical run of the baseline may be from it; no \
             smaller change counts"
                .to_owned(),
        );
    }
    let floors = rows.iter().filter_map(|row| row.noise_floor.as_ref());
    if floors.into_iter().any(|floor| floor.differs) {
        lines.push(
            "not equal: the interval of two identical arms excludes 1; once in 20 times it should"
                .to_owned(),
        );
    }
    if compared().any(|comparison| comparison.verdict == Verdict::Same) {
        lines.push("~: no difference was found, which says little about smaller ones".to_owned());
    }
    let ratios = compared().filter(|c| c.p_value.is_some()).count();
    if ratios > 1 {
        lines.push(format!(
            "verdicts are adjusted for {} at once (Benjamini-Hochberg)",
            count(ratios, "ratio")
        ));
    }
    if compared().any(|comparison| chance_among_many(comparison).is_some()) {
        lines.push(
            "~ (p ...): the interval excludes 1, but among so many ratios one in 20 does so by \
             chance; more pairs tell"
                .to_owned(),
        );
    }
    for line in lines {
        text.push_str(&style.faint(&line));
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Effect;
    use crate::fixtures;

    /// An arm whose ratio to the baseline is `factor`, give or take `spread`.
    fn arm(name: &str, factor: f64, spread: f64) -> ArmRatio {
        let mut report = fixtures::report(&[("rr", 1.0)]);
        let metric = &fixtures::measurement_mut(&mut report, 0).metrics[0];
        let ids: Vec<String> = (0..8).map(|pair| pair.to_string()).collect();
        let pairs = ids.iter().enumerate().map(|(at, id)| {
            let noise = 1.0 + spread * (at as f64 - 3.5) / 3.5;
            (id.as_str(), 12_000.0, 12_000.0 * factor * noise)
        });
        let pairs: Vec<_> = pairs.collect();
        let mut comparison = MetricComparison::of_pairs(metric, &pairs);
        comparison.adjusted_p_value = comparison.p_value;
        comparison.conclude(false);
        ArmRatio {
            arm: name.to_owned(),
            result: Ok(comparison),
            within_noise: false,
        }
    }

    #[test]
    fn a_row_reads_from_its_baseline_down_within_eighty_columns() {
        let rows = [RowRatios {
            row: "tcp-rr".to_owned(),
            point: String::new(),
            metric: "round_trip_ns p50".to_owned(),
            baseline: "old".to_owned(),
            noise_floor: Some(NoiseFloor::of(arm("old-again", 1.0, 0.02))),
            arms: vec![arm("new", 1.2, 0.01)],
        }];
        let text = ratios(&rows, &Style::PLAIN);
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "tcp-rr round_trip_ns p50, less is better",
            "old (baseline) 12.0 µs",
            "old-again 12.0 µs 1.000",
            "noise floor 1.",
            "new 14.4 µs 1.200",
            "worse",
        ] {
            assert!(flat.contains(expected), "{expected:?}:\n{text}");
        }
        let narrow = Style {
            width: Some(80),
            ..Style::PLAIN
        };
        for line in ratios(&rows, &narrow).lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn chance_among_many_ratios_is_told_apart_from_no_difference() {
        let mut one = arm("new", 1.2, 0.01);
        let comparison = one.result.as_mut().expect("compared");
        comparison.adjusted_p_value = Some(0.0625);
        comparison.conclude(false);
        let rows = [RowRatios {
            row: "rr".to_owned(),
            point: String::new(),
            metric: "round_trip_ns p50".to_owned(),
            baseline: "old".to_owned(),
            noise_floor: None,
            arms: vec![one],
        }];
        let text = ratios(&rows, &Style::PLAIN);
        assert!(
            text.contains("~ (p 0.062)") || text.contains("~ (p 0.063)"),
            "{text}"
        );
        assert!(text.contains("more pairs tell"), "{text}");
    }

    #[test]
    fn what_has_no_ratio_says_why() {
        let mut missing = arm("iperf3", 1.0, 0.01);
        missing.result = Err("no valid run of iperf3 has this number".to_owned());
        let effect: Option<Effect> = None;
        assert!(effect.is_none());
        let rows = [RowRatios {
            row: "stream".to_owned(),
            point: String::new(),
            metric: "bandwidth_bytes_per_s".to_owned(),
            baseline: "ours".to_owned(),
            noise_floor: None,
            arms: vec![missing],
        }];
        let text = ratios(&rows, &Style::PLAIN);
        assert!(
            text.contains("no ratio: stream iperf3: no valid run"),
            "{text}"
        );
        assert!(ratios(&[], &Style::PLAIN).is_empty());
    }
}
