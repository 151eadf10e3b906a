//! The forest plot: a row per ratio, its interval drawn on an axis that all rows share. The numbers
//! stand beside the picture, so that the table is the plot and the plot is the table.

use super::svg::num;
use crate::compare::{Comparison, MetricComparison, Scale, Verdict};
use crate::model::Direction;
use crate::ratios::{ArmRatio, NoiseFloor, RowRatios};
use crate::render::compare::{COLUMNS, cells, percent};
use crate::render::terminal::Style;
use maud::{Markup, html};

/// The drawn part of a row: its length, and the room at its ends.
const LENGTH: f64 = 220.0;
const MARGIN: f64 = 12.0;

/// No ratio is drawn further from 1 than this factor; an arrow says that it lies beyond.
const FURTHEST: f64 = 8.0;

/// A comparison's metrics.
pub(super) fn comparison(comparison: &Comparison) -> Markup {
    let groups = comparison.cases.iter().map(|case| Group {
        name: case.label.clone(),
        note: String::new(),
        rows: case
            .metrics
            .iter()
            .map(|metric| Row::of(metric.title(), metric))
            .collect(),
        remarks: match case.metrics.is_empty() {
            true => vec!["insufficient: no valid run has a number".to_owned()],
            false => Vec::new(),
        },
    });
    html! {
        h2 id="ratios" { "B against A" }
        p .faint {
            "Medians over runs, the Hodges-Lehmann ratio B/A with its 95 % interval; p is adjusted for \
             all metrics at once (Benjamini-Hochberg). “Detectable” is the smallest change that so \
             many runs with such a spread show 4 times in 5; “~” says that no difference was found, \
             which says little about smaller ones. ↑ more is better, ↓ less is better."
        }
        (table(&groups.collect::<Vec<_>>(), "metric", ["A", "B", "B/A"]))
    }
}

/// The ratios of a suite's arms.
pub(super) fn ratios(rows: &[RowRatios]) -> Markup {
    let groups: Vec<Group> = rows.iter().map(of_row).collect();
    html! {
        h2 id="ratios" { "Arms against their baselines" }
        p .faint {
            "Runs that were neighbours in time are compared as pairs: the Hodges-Lehmann ratio of the arm \
             to the baseline with its 95 % interval. ↑ more is better, ↓ less is better."
        }
        (table(&groups, "arm", ["baseline", "arm", "ratio"]))
    }
}

fn of_row(row: &RowRatios) -> Group {
    let mut group = Group {
        name: format!("{} {}", row.row, row.point).trim_end().to_owned(),
        note: match row.baseline.as_str() {
            "" => row.metric.clone(),
            baseline => format!("{} over {baseline}", row.metric),
        },
        rows: Vec::new(),
        remarks: Vec::new(),
    };
    if let Some(floor) = &row.noise_floor {
        group.arm(&floor.ratio, |row| row.verdict = noise(floor));
    }
    for arm in &row.arms {
        group.arm(arm, |row| {
            if arm.within_noise {
                row.verdict = "~ within the noise floor".to_owned();
            }
        });
    }
    group
}

fn noise(floor: &NoiseFloor) -> String {
    let scale = floor.ratio.result.as_ref().ok().and_then(|c| c.effect);
    let spread = match (floor.spread, scale.map(|effect| effect.scale)) {
        (Some(spread), Some(Scale::Ratio)) => format!("noise floor {}", percent(spread)),
        (Some(_), _) => "noise floor".to_owned(),
        (None, _) => "noise floor unknown".to_owned(),
    };
    match floor.differs {
        true => format!("{spread}, not equal"),
        false => spread,
    }
}

/// Rows below one heading.
struct Group {
    name: String,
    note: String,
    rows: Vec<Row>,
    /// Why there is nothing to draw.
    remarks: Vec<String>,
}

impl Group {
    fn arm(&mut self, arm: &ArmRatio, adjust: impl Fn(&mut Row)) {
        match &arm.result {
            Ok(comparison) => {
                let mut row = Row::of(arm.arm.clone(), comparison);
                adjust(&mut row);
                self.rows.push(row);
            }
            Err(reason) => self.remarks.push(format!("{}: {reason}", arm.arm)),
        }
    }
}

/// One ratio.
struct Row {
    name: String,
    /// As in [`COLUMNS`], without the name and the verdict.
    numbers: Vec<String>,
    /// Low end, value and high end, where it is a ratio.
    ratio: Option<[f64; 3]>,
    /// The share that the gate lets pass.
    gate: Option<f64>,
    fails: bool,
    verdict: String,
    class: &'static str,
    /// A sign for which way is better, and the words for it.
    better: Option<(&'static str, &'static str)>,
    reason: Option<String>,
}

impl Row {
    fn of(name: String, metric: &MetricComparison) -> Self {
        let cells = cells(metric, &Style::PLAIN);
        let ratio = metric.effect.filter(|effect| effect.scale == Scale::Ratio);
        Self {
            name,
            numbers: cells[1..COLUMNS.len() - 1].to_vec(),
            ratio: ratio.map(|effect| [effect.low, effect.value, effect.high]),
            gate: metric.gate.map(|gate| gate.threshold.share()),
            fails: metric.gate.is_some_and(|gate| gate.failed),
            verdict: cells[COLUMNS.len() - 1].clone(),
            class: class(metric.verdict),
            better: match metric.direction {
                Direction::HigherIsBetter => Some(("↑", "more is better")),
                Direction::LowerIsBetter => Some(("↓", "less is better")),
                Direction::Neutral => None,
            },
            reason: metric.reason.clone(),
        }
    }
}

/// The word by which a verdict is coloured and filtered.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Differs => "differs",
        Verdict::Same => "same",
        Verdict::Confounded => "confounded",
        Verdict::Insufficient => "insufficient",
    }
}

fn table(groups: &[Group], of: &str, [a, b, effect]: [&str; 3]) -> Markup {
    let axis = Axis::of(groups);
    let names = [a, b, effect, "95 % interval", "p", "runs", "detectable"];
    html! {
        div .scroll tabindex="0" { table .forest {
            thead { tr {
                th scope="col" { (of) }
                th scope="col" { "verdict" }
                th scope="col" { (axis.labels()) }
                @for name in names { th scope="col" .num { (name) } }
            } }
            @for group in groups {
                tbody {
                    tr .group { th scope="rowgroup" colspan="10" {
                        (group.name) @if !group.note.is_empty() { " " span .faint { (group.note) } }
                    } }
                    @for row in &group.rows { (line(group, row, &axis)) }
                    @for remark in &group.remarks {
                        tr data-words=(group.name) data-state="insufficient" {
                            td colspan="10" .faint { (remark) }
                        }
                    }
                }
            }
        } }
    }
}

fn line(group: &Group, row: &Row, axis: &Axis) -> Markup {
    let words = format!("{} {} {}", group.name, row.name, row.verdict);
    let class = if row.fails { "worse" } else { row.class };
    html! {
        tr data-words=(words) data-state=(class) {
            th scope="row" { (row.name) @if let Some((sign, words)) = row.better {
                " " span .faint title=(words) role="img" aria-label=(words) { (sign) }
            } }
            td { span class=(format!("word {class}")) { (row.verdict) }
                @if let Some(reason) = &row.reason { " " span .faint { (reason) } } }
            td { (axis.draw(row)) }
            @for number in &row.numbers { td .num { (number) } }
        }
    }
}

/// A logarithmic axis around 1, as far to either side.
struct Axis {
    reach: f64,
}

impl Axis {
    fn of(groups: &[Group]) -> Self {
        let rows = groups.iter().flat_map(|group| &group.rows);
        let ends = rows.filter_map(|row| row.ratio).flatten();
        let mut reaches: Vec<f64> = ends.map(|ratio| ratio.ln().abs()).collect();
        reaches.sort_by(f64::total_cmp);
        // A few wide intervals must not squeeze all others into one point: they end in arrows.
        let most = (reaches.len() * 9).div_ceil(10);
        let reach = most.checked_sub(1).map_or(0.0, |at| reaches[at]);
        Self {
            reach: reach.clamp(0.02, FURTHEST.ln()) * 1.05,
        }
    }

    fn at(&self, ratio: f64) -> f64 {
        let share = (ratio.ln() / self.reach).clamp(-1.0, 1.0);
        LENGTH / 2.0 + share * (LENGTH / 2.0 - MARGIN)
    }

    fn is_beyond(&self, ratio: f64) -> bool {
        ratio.ln().abs() > self.reach
    }

    /// One, and round ratios about half way and nearly all the way to either end.
    fn ticks(&self) -> Vec<f64> {
        const STEPS: [f64; 10] = [1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0];
        let fits = |step: &&f64| step.ln() <= self.reach;
        let step = STEPS.iter().rev().find(fits).copied().unwrap_or(1.0);
        // Below two, steps are percentages to either side; above it, factors.
        let less = if step < 2.0 { 2.0 - step } else { 1.0 / step };
        match self.is_beyond(less) {
            true => vec![1.0 / step, 1.0, step],
            false => vec![less, 1.0, step],
        }
    }

    fn labels(&self) -> Markup {
        html! {
            svg .forest viewBox=(format!("0 0 {LENGTH} 20")) role="img"
                aria-label="95 % intervals on a logarithmic axis" {
                @for tick in self.ticks() {
                    text .tick x=(num(self.at(tick))) y="14" text-anchor="middle" {
                        (format!("{:.3}", tick).trim_end_matches('0').trim_end_matches('.'))
                    }
                }
            }
        }
    }

    fn draw(&self, row: &Row) -> Markup {
        let Some([low, value, high]) = row.ratio else {
            return html! {};
        };
        let class = if row.fails { "worse" } else { row.class };
        let gate = row
            .gate
            .map(|share| (self.at(1.0 - share), self.at(1.0 + share)));
        let beyond = |ratio: f64, tip: &str| match self.is_beyond(ratio) {
            true => format!("M{} 10{tip}", num(self.at(ratio))),
            false => String::new(),
        };
        let arrows = beyond(low, "l6 -5v10z") + &beyond(high, "l-6 -5v10z");
        html! {
            svg .forest.(class) viewBox=(format!("0 0 {LENGTH} 20")) aria-hidden="true" {
                @if let Some((from, to)) = gate {
                    rect .gate x=(num(from)) width=(num(to - from)) y="0" height="20" {}
                }
                line .one x1=(num(self.at(1.0))) x2=(num(self.at(1.0))) y1="0" y2="20" {}
                line .interval x1=(num(self.at(low))) x2=(num(self.at(high))) y1="10" y2="10" {}
                @if !arrows.is_empty() { path .end d=(arrows) {} }
                rect .estimate x=(num(self.at(value) - 3.5)) y="6.5" width="7" height="7" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(reach: f64) -> Axis {
        Axis { reach: reach.ln() }
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        assert_eq!(axis(1.03).ticks(), [0.98, 1.0, 1.02]);
        assert_eq!(
            axis(1.5).ticks(),
            [1.0 / 1.5, 1.0, 1.5],
            "half would lie beyond"
        );
        assert_eq!(axis(2.5).ticks(), [0.5, 1.0, 2.0]);
        for reach in [1.021, 1.04, 1.3, 1.7, 2.1, 4.0, 9.0] {
            let axis = axis(reach);
            let ticks = axis.ticks();
            assert!(
                ticks.iter().all(|tick| !axis.is_beyond(*tick)),
                "{reach}: {ticks:?}"
            );
        }
    }

    #[test]
    fn what_lies_beyond_the_axis_ends_in_an_arrow() {
        let axis = axis(2.0);
        let row = |ratio| Row {
            name: String::new(),
            numbers: Vec::new(),
            ratio: Some(ratio),
            gate: Some(0.03),
            fails: false,
            verdict: "better".to_owned(),
            class: "better",
            better: None,
            reason: None,
        };
        assert!(
            !axis
                .draw(&row([0.9, 1.0, 1.1]))
                .into_string()
                .contains("class=\"end\"")
        );
        let beyond = axis.draw(&row([0.9, 1.5, 40.0])).into_string();
        assert!(
            beyond.contains("class=\"end\"") && !beyond.contains("NaN"),
            "{beyond}"
        );
    }
}
