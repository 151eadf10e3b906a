//! What the slices of a window say: a burst before a plateau, a steady state. Pure functions over
//! the report's intervals, so that they can be repeated from a report and tested without a device.

pub mod burst;
pub mod steady;

use reports::model::{Interval, Work};

/// A last slice shorter than this share of the longest is what was left when the window closed.
const SPLINTER: f64 = 0.5;

/// The slices without a last one that is too short for a rate.
#[must_use]
pub fn whole(slices: &[Interval]) -> &[Interval] {
    let longest = slices.iter().map(length).fold(0.0, f64::max);
    match slices.split_last() {
        Some((last, before)) if length(last) < SPLINTER * longest => before,
        _ => slices,
    }
}

/// Length in seconds.
#[must_use]
pub fn length(slice: &Interval) -> f64 {
    slice.t1_s - slice.t0_s
}

/// Operations per second over some slices; 0 where they have no length.
#[must_use]
pub fn rate(slices: &[Interval]) -> f64 {
    let seconds: f64 = slices.iter().map(length).sum();
    if seconds > 0.0 {
        work(slices).ops as f64 / seconds
    } else {
        0.0
    }
}

/// What was done in some slices.
#[must_use]
pub fn work(slices: &[Interval]) -> Work {
    slices.iter().map(|slice| slice.work).sum()
}

/// The rates of the slices one by one.
fn rates(slices: &[Interval]) -> Vec<f64> {
    let each = slices.iter().map(std::slice::from_ref);
    each.map(rate).collect()
}

/// How far a straight line through values at equal distances rises from the first to the last
/// (least squares).
fn rise(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    if values.len() < 2 {
        return 0.0;
    }
    let middle = (n - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / n;
    let at = |index: usize| index as f64 - middle;
    let products = values.iter().enumerate().map(|(i, v)| at(i) * (v - mean));
    let squares = (0..values.len()).map(|i| at(i) * at(i));
    products.sum::<f64>() / squares.sum::<f64>() * (n - 1.0)
}

/// Slices of one second each with these rates.
#[cfg(test)]
pub(crate) fn seconds(rates: &[f64]) -> Vec<Interval> {
    let slice = |(index, rate): (usize, &f64)| Interval {
        t0_s: index as f64,
        t1_s: index as f64 + 1.0,
        work: Work {
            ops: rate.round() as u64,
            bytes: rate.round() as u64 * 4096,
        },
        p50_ns: None,
        p99_ns: None,
        max_ns: None,
        hdr_v2_base64: None,
        flags: Vec::new(),
    };
    rates.iter().enumerate().map(slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_splinter_at_the_end_has_no_rate() {
        let mut slices = seconds(&[100.0, 100.0, 40.0]);
        assert_eq!(whole(&slices).len(), 3);
        slices[2].t1_s = 2.3;
        assert_eq!(whole(&slices).len(), 2);
        assert!(whole(&[]).is_empty());
        assert_eq!(rate(&[]), 0.0);
    }

    #[test]
    fn a_line_rises_by_its_slope() {
        assert!((rise(&[1.0, 2.0, 3.0, 4.0]) - 3.0).abs() < 1e-12);
        assert_eq!(rise(&[5.0; 9]), 0.0);
        assert_eq!(rise(&[5.0]), 0.0);
    }
}
