//! The slices of a window as pictures need them: rates, neighbours taken together where there are
//! too many, and without the last splinter of a window, whose rate says nothing.

use crate::model::{Interval, Unit};

/// A last slice shorter than this share of the longest is what was left when the window closed: a
/// stream that ends a millisecond into it would seem to have stopped.
const SPLINTER: f64 = 0.1;

/// One slice, or several neighbours.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// The middle, in seconds since the window opened.
    pub(super) at_s: f64,
    /// Bytes or operations per second.
    pub(super) rate: f64,
    /// What held the machine back, each once.
    pub(super) flags: Vec<String>,
}

/// Bytes per second where bytes move, else operations.
pub(super) fn unit(intervals: &[Interval]) -> Unit {
    match intervals.iter().any(|interval| interval.work.bytes > 0) {
        true => Unit::BytesPerSecond,
        false => Unit::PerSecond,
    }
}

/// The slices in this unit, at most `most` of them; slices of no length are left out.
pub(super) fn points(intervals: &[Interval], unit: Unit, most: usize) -> Vec<Point> {
    let length = |interval: &Interval| interval.t1_s - interval.t0_s;
    let longest = intervals.iter().map(length).fold(0.0, f64::max);
    let whole = match intervals.split_last() {
        Some((last, before)) if !before.is_empty() && length(last) < SPLINTER * longest => before,
        _ => intervals,
    };
    let each = whole.len().div_ceil(most.max(1)).max(1);
    let points = whole.chunks(each).map(|slices| point(slices, unit));
    points.filter(|point| point.rate.is_finite()).collect()
}

fn point(slices: &[Interval], unit: Unit) -> Point {
    let amount = |slice: &Interval| match unit {
        Unit::BytesPerSecond => slice.work.bytes as f64,
        _ => slice.work.ops as f64,
    };
    let time: f64 = slices.iter().map(|slice| slice.t1_s - slice.t0_s).sum();
    let mut flags: Vec<String> = slices.iter().flat_map(|s| s.flags.clone()).collect();
    flags.sort();
    flags.dedup();
    // Chunks are never empty.
    let (from, to) = (slices[0].t0_s, slices[slices.len() - 1].t1_s);
    Point {
        at_s: f64::midpoint(from, to),
        rate: slices.iter().map(amount).sum::<f64>() / time,
        flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Work;

    fn slice(t0_s: f64, t1_s: f64, ops: u64) -> Interval {
        Interval {
            t0_s,
            t1_s,
            work: Work { ops, bytes: 0 },
            p50_ns: None,
            p99_ns: None,
            max_ns: None,
            hdr_v2_base64: None,
            flags: Vec::new(),
        }
    }

    #[test]
    fn many_slices_share_a_point_with_their_flags() {
        let mut slices: Vec<_> = (0..100u32)
            .map(|i| slice(f64::from(i), f64::from(i + 1), u64::from(i)))
            .collect();
        slices[1].flags = vec!["cpu_steal".to_owned()];
        slices[2].flags = vec!["cpu_steal".to_owned()];
        let points = points(&slices, unit(&slices), 40);
        assert!(points.len() <= 40 && (points[0].rate - 1.0).abs() < 1e-9);
        assert_eq!((points[0].at_s, &*points[0].flags[0]), (1.5, "cpu_steal"));
        assert_eq!(points[0].flags.len(), 1);
    }

    #[test]
    fn a_splinter_at_the_end_is_no_standstill() {
        let rates = |slices: &[Interval]| {
            let points = points(slices, Unit::PerSecond, 40);
            points
                .into_iter()
                .map(|point| point.rate)
                .collect::<Vec<_>>()
        };
        assert_eq!(rates(&[slice(0.0, 1.0, 5), slice(1.0, 1.01, 0)]), [5.0]);
        assert_eq!(rates(&[slice(0.0, 1.0, 5), slice(1.0, 2.0, 0)]), [5.0, 0.0]);
        assert_eq!(rates(&[slice(0.0, 0.001, 5)]), [5000.0], "all there is");
        assert!(rates(&[slice(1.0, 1.0, 5)]).is_empty());
    }
}
