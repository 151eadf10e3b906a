//! Small plots as inline SVG: axes, lines, dots. Colours come from the page's style sheet, so that
//! one picture serves light and dark.

use maud::{Markup, html};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
/// Room for labels: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (82.0, 34.0, 10.0, 44.0);

/// How many colours the style sheet has for series.
pub(super) const COLORS: usize = 6;

/// How values are placed along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Equal steps.
    Linear,
    /// Equal factors; values must be positive.
    Log,
}

impl Scale {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
        }
    }
}

/// One axis: its range in values, and which values are labelled.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    label: String,
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis that covers `values`, with ticks at round numbers, labelled by `format`.
    pub(super) fn covering(
        label: &str,
        scale: Scale,
        values: impl Iterator<Item = f64>,
        format: impl Fn(f64) -> String,
    ) -> Self {
        let usable = values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        let ticks = match scale {
            Scale::Linear => linear_ticks(low.min(0.0), high),
            Scale::Log => log_ticks(low, high),
        };
        let first = ticks.first().copied().unwrap_or(low).min(low);
        let last = ticks.last().copied().unwrap_or(high).max(high);
        let ticks = ticks.into_iter().map(|tick| (tick, format(tick))).collect();
        let last = if last > first { last } else { first + 1.0 };
        Self {
            label: label.to_owned(),
            scale,
            low: first,
            high: last,
            ticks,
        }
    }

    /// An axis close around `values`, for what varies by little. It is at least two percent long,
    /// so that tiny differences do not look large.
    pub(super) fn around(
        label: &str,
        values: impl Iterator<Item = f64>,
        format: impl Fn(f64) -> String,
    ) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let least = match low.abs().max(high.abs()) {
            0.0 => 0.5,
            largest => largest * 0.01,
        };
        let pad = if high - low < 2.0 * least { least } else { 0.0 };
        let ticks = linear_ticks(low - pad, high + pad);
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            low: ticks.first().copied().unwrap_or(low),
            high: ticks.last().copied().unwrap_or(high),
            ticks: ticks.into_iter().map(|tick| (tick, format(tick))).collect(),
        }
    }

    /// A logarithmic axis for sizes in bytes, labelled at powers of two: at most nine of them.
    pub(super) fn of_sizes(label: &str, sizes: impl Iterator<Item = f64>) -> Self {
        Self::of_powers(label, sizes, binary_size)
    }

    /// As [`Self::of_sizes`], for anything that doubles; `name` is given the power of two.
    pub(super) fn of_powers(
        label: &str,
        sizes: impl Iterator<Item = f64>,
        name: impl Fn(u32) -> String,
    ) -> Self {
        let powers = sizes.filter(|size| *size >= 1.0).map(f64::log2);
        let (low, high) = powers.fold((f64::INFINITY, 0.0_f64), |(low, high), power| {
            (low.min(power), high.max(power))
        });
        let low = if low.is_finite() {
            low.floor() as u32
        } else {
            0
        };
        let high = (high.ceil() as u32).max(low + 1);
        let step = (high - low).div_ceil(8).max(1);
        let ticks = (low..=high).step_by(step as usize);
        Self {
            label: label.to_owned(),
            scale: Scale::Log,
            low: f64::from(low).exp2(),
            high: f64::from(high).exp2(),
            ticks: ticks
                .map(|power| (f64::from(power).exp2(), name(power)))
                .collect(),
        }
    }

    /// An axis with given ends and ticks.
    pub(super) fn fixed(label: &str, low: f64, high: f64, ticks: Vec<(f64, String)>) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            low,
            high,
            ticks,
        }
    }

    /// Where a value lies between the ends, from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.scale.of(self.low), self.scale.of(self.high));
        ((self.scale.of(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// 2^power bytes: `64 KiB`.
fn binary_size(power: u32) -> String {
    let prefixes = ["", "Ki", "Mi", "Gi", "Ti"];
    let prefix = prefixes[(power as usize / 10).min(prefixes.len() - 1)];
    format!("{} {prefix}B", 1u64 << (power % 10))
}

/// Four to eight round numbers that enclose the range.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(f64::MIN_POSITIVE);
    let raw = span / 5.0;
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * magnitude)
        .into_iter()
        .find(|step| *step >= raw)
        .unwrap_or(raw);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last.min(first + 20))
        .map(|index| index as f64 * step)
        .collect()
}

/// Powers of ten that enclose the range, with 2 and 5 between them if they are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let factors: &[f64] = match high / low {
        ratio if ratio < 5.0 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        ratio if ratio < 200.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
        .collect();
    // One tick beyond each end encloses the range; more would squeeze it.
    let below = all.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let above = all
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(all.len() - 1);
    all[below..=above.max(below)].to_vec()
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A line through the points.
    Line,
    /// A dot at each point.
    Dots,
    /// An area, whose points go along its upper edge and back along the lower one.
    Band,
    /// A triangle at each point: something held the run back, or speaks against it.
    Warning,
    /// A pale line, one of so many that none is told from the others.
    Thin,
    /// A ring around each point: one of those that the page is about.
    Ring,
    /// An upright line at each point's place, whatever its height.
    Upright,
    /// The same, dashed.
    Dashed,
}

impl Mark {
    /// The class of its entry in the legend, which tells it apart without its colour.
    fn key(self) -> &'static str {
        match self {
            Self::Line | Self::Dots | Self::Band => "key",
            Self::Warning => "warns",
            Self::Thin => "strand",
            Self::Ring => "ringed",
            Self::Upright => "upright",
            Self::Dashed => "dashed",
        }
    }
}

/// Points of one kind.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Its name in the legend; series of one name share a colour and one entry.
    pub(super) name: String,
    /// Its colour's number.
    pub(super) color: usize,
    /// How it is drawn.
    pub(super) mark: Mark,
    /// The points, in order.
    pub(super) points: Vec<(f64, f64)>,
}

/// What a plot shows, as a table: for those who cannot see it, and for the pointer that asks what
/// stands where.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    /// The columns' names; the first one is that of the rows' own headings.
    pub(super) columns: Vec<String>,
    /// The rows, each with its place on the x axis.
    pub(super) rows: Vec<(f64, Vec<String>)>,
}

/// A plot with its axes, its legend and the table behind it. `title` is what a screen reader says.
pub(super) fn plot(title: &str, x: &Axis, y: &Axis, series: &[Series], data: &Data) -> Markup {
    let mut legend: Vec<(&str, usize, &str)> = Vec::new();
    for one in series {
        let entry = (one.name.as_str(), one.color, one.mark.key());
        if !legend.contains(&entry) {
            legend.push(entry);
        }
    }
    let drawn = html! { @for one in series { (draw(one, x, y)) } };
    let caption = html! {
        @if legend.len() > 1 {
            figcaption {
                @for (name, color, kind) in legend {
                    span class=(format!("{kind} c{}", color % COLORS)) { (name) } " "
                }
            }
        }
    };
    frame(title, (x, y), &drawn, &caption, data)
}

/// What every plot has around what is drawn in it.
pub(super) fn frame(
    title: &str,
    (x, y): (&Axis, &Axis),
    drawn: &Markup,
    caption: &Markup,
    data: &Data,
) -> Markup {
    let (top, bottom) = (MARGIN.2, HEIGHT - MARGIN.3);
    html! {
        figure .plot {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(title) {
                (grid(x, y))
                (drawn)
                line .cursor x1="-9" x2="-9" y1=(top) y2=(bottom) {}
            }
            (caption)
            (behind(data, x))
        }
    }
}

/// A filled cell as a part of a path: from one value to another on the x axis, and between two shares
/// of the y axis.
pub(super) fn cell(x: &Axis, (from, to): (f64, f64), (low, high): (f64, f64)) -> String {
    let height = HEIGHT - MARGIN.2 - MARGIN.3;
    let (left, right) = (across(x, from), across(x, to));
    let top = HEIGHT - MARGIN.3 - high * height;
    let (left, width) = (num(left), num(right - left));
    let (top, height) = (num(top), num((high - low) * height));
    format!("M{left} {top}h{width}v{height}h-{width}z")
}

/// The table behind a plot.
fn behind(data: &Data, x: &Axis) -> Markup {
    html! {
        details .data {
            summary { "Data" }
            div .scroll tabindex="0" { table {
                thead { tr { @for name in &data.columns { th scope="col" { (name) } } } }
                tbody { @for (place, cells) in &data.rows {
                    tr data-x=(num(across(x, *place))) {
                        @for (index, cell) in cells.iter().enumerate() {
                            @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                        }
                    }
                } }
            } }
        }
    }
}

fn across(x: &Axis, value: f64) -> f64 {
    MARGIN.0 + x.place(value) * (WIDTH - MARGIN.0 - MARGIN.1)
}

fn down(y: &Axis, value: f64) -> f64 {
    HEIGHT - MARGIN.3 - y.place(value) * (HEIGHT - MARGIN.2 - MARGIN.3)
}

fn grid(x: &Axis, y: &Axis) -> Markup {
    let (left, right) = (MARGIN.0, WIDTH - MARGIN.1);
    let (top, bottom) = (MARGIN.2, HEIGHT - MARGIN.3);
    html! {
        @for (value, label) in &y.ticks {
            @let at = num(down(y, *value));
            line .grid x1=(left) x2=(right) y1=(at) y2=(at) {}
            text .tick x=(left - 6.0) y=(at) text-anchor="end" dominant-baseline="middle" { (label) }
        }
        @for (value, label) in &x.ticks {
            @let at = num(across(x, *value));
            line .grid x1=(at) x2=(at) y1=(top) y2=(bottom) {}
            text .tick x=(at) y=(bottom + 16.0) text-anchor="middle" { (label) }
        }
        text .axis x=(f64::midpoint(left, right)) y=(HEIGHT - 6.0) text-anchor="middle" { (x.label) }
        text .axis x="12" y=(f64::midpoint(top, bottom)) text-anchor="middle"
            transform=(format!("rotate(-90 12 {})", f64::midpoint(top, bottom))) { (y.label) }
    }
}

fn draw(series: &Series, x: &Axis, y: &Axis) -> Markup {
    let color = format!("c{}", series.color % COLORS);
    let finite = series
        .points
        .iter()
        .filter(|(a, b)| a.is_finite() && b.is_finite());
    let places = finite.map(|&(a, b)| (num(across(x, a)), num(down(y, b))));
    match series.mark {
        Mark::Line | Mark::Thin => {
            let kind = if series.mark == Mark::Thin {
                "thin"
            } else {
                "line"
            };
            let points: Vec<String> = places.map(|(a, b)| format!("{a},{b}")).collect();
            html! { polyline class=(format!("{kind} {color}")) points=(points.join(" ")) {} }
        }
        Mark::Band => {
            let points: Vec<String> = places.map(|(a, b)| format!("{a},{b}")).collect();
            html! { polygon class=(format!("area {color}")) points=(points.join(" ")) {} }
        }
        // A line of no length with round ends is a dot: thousands of them are one short element.
        Mark::Dots => {
            let dots: String = places.map(|(a, b)| format!("M{a} {b}h0")).collect();
            html! { path class=(format!("dots {color}")) d=(dots) {} }
        }
        Mark::Warning => {
            let marks: String = places
                .map(|(a, b)| format!("M{a} {b}m-5 4h10l-5 -9z"))
                .collect();
            html! { path class=(format!("warning {color}")) d=(marks) {} }
        }
        Mark::Ring => {
            let rings: String = places
                .map(|(a, b)| format!("M{a} {b}m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0"))
                .collect();
            html! { path class=(format!("ring line {color}")) d=(rings) {} }
        }
        Mark::Upright | Mark::Dashed => {
            let kind = series.mark.key();
            let (top, bottom) = (MARGIN.2, HEIGHT - MARGIN.3);
            let lines: String = places
                .map(|(a, _)| format!("M{a} {top}V{bottom}"))
                .collect();
            html! { path class=(format!("line {kind} {color}")) d=(lines) {} }
        }
    }
}

/// A number with one decimal: a tenth of a pixel is enough and keeps pages small.
pub(super) fn num(value: f64) -> String {
    format!("{value:.1}")
}

/// The ends of a strip that holds these values: at least one percent apart.
pub(super) fn strip_ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let pad = ((high - low) * 0.05)
        .max(low.abs().max(high.abs()) * 0.005)
        .max(f64::MIN_POSITIVE);
    (low - pad, high + pad)
}

/// Runs as dots along a line between two ends, the median as a bar and its interval as a band.
pub(super) fn strip(
    values: &[f64],
    median: f64,
    interval: Option<(f64, f64)>,
    (low, high): (f64, f64),
) -> Markup {
    const LENGTH: f64 = 140.0;
    let at = |value: f64| num(4.0 + (value - low) / (high - low) * (LENGTH - 8.0));
    let dots: String = values
        .iter()
        .map(|value| format!("M{} 10h0", at(*value)))
        .collect();
    html! {
        svg .strip viewBox=(format!("0 0 {LENGTH} 20")) aria-hidden="true" {
            line .grid x1="4" x2=(LENGTH - 4.0) y1="10" y2="10" {}
            @if let Some((from, to)) = interval {
                line .band x1=(at(from)) x2=(at(to)) y1="10" y2="10" {}
            }
            path .dots.c0 d=(dots) {}
            line .median x1=(at(median)) x2=(at(median)) y1="3" y2="17" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_the_range() {
        assert_eq!(linear_ticks(0.0, 9.3), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(log_ticks(3.0, 70.0), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(log_ticks(2.0, 9_000_000.0).len(), 8);
        assert_eq!(log_ticks(11.0, 17.0), [10.0, 12.0, 15.0, 20.0]);
        assert_eq!(
            (binary_size(3), binary_size(16)),
            ("8 B".into(), "64 KiB".into())
        );
        assert_eq!(log_ticks(10.0, 10.0), [10.0]);
    }

    #[test]
    fn empty_constant_and_hostile_values_still_draw() {
        for values in [
            vec![],
            vec![5.0],
            vec![0.0, f64::NAN, f64::INFINITY],
            vec![-3.0, 3.0],
        ] {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::covering("x", scale, values.iter().copied(), |v| v.to_string());
                let close = Axis::around("x", values.iter().copied(), |v| v.to_string());
                assert!(close.low < close.high, "{close:?}");
                let points = values.iter().map(|v| (*v, *v)).collect();
                let series = Series {
                    name: "s".into(),
                    color: 9,
                    mark: Mark::Line,
                    points,
                };
                let text = plot("a plot", &axis, &axis, &[series], &Data::default()).into_string();
                assert!(
                    !text.contains("NaN") && !text.contains("inf"),
                    "{values:?}: {text}"
                );
            }
        }
        let text = strip(&[1.0], 1.0, None, strip_ends([1.0].into_iter())).into_string();
        assert!(!text.contains("NaN"), "{text}");
    }
}
