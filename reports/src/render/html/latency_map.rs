//! Latencies over the window as a map: time to the right, latency upwards, the darker the more
//! operations. Two modes at once, or a tail that comes and goes, have a shape here; percentiles over
//! time are one line each and show neither.

use super::family::Family;
use super::svg::{self, Axis, Data, Scale};
use crate::measure::decode_histogram;
use crate::model::{Interval, Unit};
use crate::render::units::human;
use hdrhistogram::Histogram;
use maud::{Markup, html};

/// Fewer columns than these are no course.
const FEWEST: usize = 3;
/// Of more slices than these, neighbours share a column.
const MOST_COLUMNS: usize = 60;
/// How many bands the latencies fall into, of equal factors.
const ROWS: usize = 32;
/// How many members of a family have a map: of a sweep of a hundred points the curve tells more.
const MOST_MAPS: usize = 4;
/// The style sheet's shades that are told from the paper.
const SHADES: usize = 8;

/// Maps of the first members' last runs: runs of one case overlap, and a stall of one is not the
/// others'. Only some programs keep the distribution of each slice.
pub(super) fn latency_maps(family: &Family<'_>) -> Markup {
    let maps = family.members.iter().filter_map(|member| {
        let map = Map::of(member.case.intervals.last()?)?;
        let name = format!("{} {}", family.label, member.name);
        Some(map.draw(name.trim_end(), &member.name))
    });
    let maps: Vec<Markup> = maps.take(MOST_MAPS + 1).collect();
    html! {
        @for map in maps.iter().take(MOST_MAPS) { (map) }
        @if maps.len() > MOST_MAPS {
            p .faint { "Maps of latency over time are drawn of the first " (MOST_MAPS) "." }
        }
    }
}

/// What was recorded from one moment to another, in seconds.
struct Column {
    from_s: f64,
    to_s: f64,
    histogram: Histogram<u64>,
}

struct Map {
    columns: Vec<Column>,
    x: Axis,
    y: Axis,
    /// Operations by column and row, from the fastest.
    counts: Vec<[u64; ROWS]>,
}

impl Map {
    /// Of the slices of a run, if it kept their distributions.
    fn of(run: &[Interval]) -> Option<Self> {
        let chunks = run.chunks(run.len().div_ceil(MOST_COLUMNS).max(1));
        let columns: Vec<Column> = chunks.filter_map(column).collect();
        if columns.len() < FEWEST {
            return None;
        }
        // A window of 15.0002 s needs no axis of 20 s: what is beyond the last tick is cut off.
        let end_s = columns.last().map_or(0.0, |column| column.to_s) * 0.999;
        let x = Axis::covering("seconds", Scale::Linear, [0.0, end_s].into_iter(), |t| {
            format!("{}", (t * 1000.0).round() / 1000.0)
        });
        let ends = |column: &Column| [column.histogram.min(), column.histogram.max()];
        let ends = columns.iter().flat_map(ends);
        let y = Axis::covering("latency", Scale::Log, ends.map(positive), latency);
        let counts = columns.iter().map(|column| {
            let mut rows = [0; ROWS];
            for step in column.histogram.iter_recorded() {
                let place = y.place(positive(step.value_iterated_to()));
                rows[((place * ROWS as f64) as usize).min(ROWS - 1)] += step.count_at_value();
            }
            rows
        });
        Some(Self {
            counts: counts.collect(),
            columns,
            x,
            y,
        })
    }

    fn most(&self) -> u64 {
        self.counts.iter().flatten().copied().max().unwrap_or(0)
    }

    /// Equal steps are equal factors: one slow operation among a million is seen.
    fn shade(&self, count: u64) -> usize {
        let share = match self.most() {
            0 | 1 => 1.0,
            most => (count as f64).ln() / (most as f64).ln(),
        };
        1 + (share * (SHADES - 1) as f64).round() as usize
    }

    fn draw(&self, title: &str, member: &str) -> Markup {
        let mut shades = vec![String::new(); SHADES + 1];
        for (column, rows) in self.columns.iter().zip(&self.counts) {
            for (row, &count) in rows.iter().enumerate().filter(|(_, count)| **count > 0) {
                let [low, high] = [row, row + 1].map(|row| row as f64 / ROWS as f64);
                let across = (column.from_s, column.to_s);
                shades[self.shade(count)] += &svg::cell(&self.x, across, (low, high));
            }
        }
        let cells = html! { @for (shade, cells) in shades.iter().enumerate() {
            @if !cells.is_empty() { path class=(format!("s{shade}")) d=(cells) {} }
        } };
        let count = |count: u64| human(count as f64, Unit::Count);
        let caption = html! { figcaption {
            @if !member.is_empty() { (member) ": " }
            "operations of the last run by time and latency, "
            span .legend { (count(1)) " "
                @for shade in 1..=SHADES { span class=(format!("swatch h{shade}")) {} }
                " " (count(self.most())) }
        } };
        let title = format!("Map of latency over time of {title}");
        svg::frame(&title, (&self.x, &self.y), &cells, &caption, &self.data())
    }

    /// What is drawn, in numbers.
    fn data(&self) -> Data {
        let columns = ["time", "operations", "least", "p50", "p99", "most"];
        let row = |column: &Column| {
            let histogram = &column.histogram;
            let middle = f64::midpoint(column.from_s, column.to_s);
            let mut cells = vec![
                human(middle, Unit::Seconds),
                human(histogram.len() as f64, Unit::Count),
            ];
            let quantiles = [0.0, 0.5, 0.99, 1.0].map(|q| histogram.value_at_quantile(q));
            cells.extend(quantiles.map(|ns| latency(ns as f64)));
            (middle, cells)
        };
        Data {
            columns: columns.map(str::to_owned).to_vec(),
            rows: self.columns.iter().map(row).collect(),
        }
    }
}

/// Neighbouring slices as one; none if nothing ended in them, or nothing was kept of it.
fn column(slices: &[Interval]) -> Option<Column> {
    let kept = slices
        .iter()
        .filter_map(|slice| slice.hdr_v2_base64.as_deref());
    let mut histograms = kept.filter_map(|text| decode_histogram(text).ok());
    let mut histogram = histograms.next()?;
    histogram.auto(true);
    for other in histograms {
        histogram.add(&other).ok()?;
    }
    (!histogram.is_empty()).then(|| Column {
        from_s: slices[0].t0_s,
        to_s: slices[slices.len() - 1].t1_s,
        histogram,
    })
}

fn positive(ns: u64) -> f64 {
    (ns as f64).max(1.0)
}

fn latency(ns: f64) -> String {
    human(ns, Unit::Nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{coarse_histogram, new_histogram};
    use crate::model::Work;

    fn slice(index: u32, latencies: &[(u64, u64)]) -> Interval {
        let mut histogram = new_histogram();
        for &(ns, count) in latencies {
            histogram.record_n(ns, count).expect("in bounds");
        }
        Interval {
            t0_s: index.into(),
            t1_s: f64::from(index) + 1.0,
            work: Work::op(1),
            p50_ns: None,
            p99_ns: None,
            max_ns: None,
            hdr_v2_base64: Some(coarse_histogram(&histogram)),
            flags: Vec::new(),
        }
    }

    #[test]
    fn every_operation_is_in_one_cell_and_one_in_a_million_is_seen() {
        let mut run: Vec<Interval> = (0..200)
            .map(|index| slice(index, &[(80_000, 1_000_000)]))
            .collect();
        run[100] = slice(100, &[(80_000, 999_999), (90_000_000, 1)]);
        let map = Map::of(&run).expect("they were kept");
        assert_eq!(map.columns.len(), 50, "four slices each");
        assert_eq!(map.counts.iter().flatten().sum::<u64>(), 200_000_000);
        let lone: Vec<_> = map.counts.iter().flatten().filter(|c| **c == 1).collect();
        assert_eq!(lone.len(), 1);
        assert_eq!((map.shade(1), map.shade(map.most())), (1, SHADES));
        let text = map.draw("a case", "iodepth=8").into_string();
        for shown in ["iodepth=8", "class=\"s1\"", "class=\"s8\"", "90.2 ms"] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn without_distributions_there_is_no_map() {
        let run: Vec<Interval> = (0..9).map(|index| slice(index, &[(500, 3)])).collect();
        assert!(Map::of(&run[..2]).is_none(), "too few");
        let none = run.iter().map(|slice| Interval {
            hdr_v2_base64: None,
            ..slice.clone()
        });
        assert!(Map::of(&none.collect::<Vec<_>>()).is_none());
        assert!(Map::of(&[]).is_none());
        let same = Map::of(&run).expect("one latency is a line");
        assert_eq!(same.counts.iter().flatten().sum::<u64>(), 27);
        let zero: Vec<Interval> = (0..4).map(|index| slice(index, &[(0, 1)])).collect();
        let text = Map::of(&zero).expect("drawn").draw("x", "").into_string();
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
