//! The opening window against the steady one. Some instance types may exceed their baseline until
//! their credits are used up, so a short run measures the burst, a long one a mixture; the two are
//! told apart.

use reports::model::{Flag, Interval, Severity};
use serde::Serialize;

/// Fewer slices than these are not divided.
const LEAST_SLICES: usize = 10;

/// By how much the opening must exceed the steady window to be called a burst.
const BURST: f64 = 1.2;

/// The rates of the two windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Opening {
    /// Where the opening window ends, in seconds since the measured one opened.
    pub opening_end_s: f64,
    /// Where the steady window begins.
    pub steady_start_s: f64,
    /// Median rate of the opening window's slices: bytes per second, or operations per second
    /// where no bytes are counted.
    pub opening_per_s: f64,
    /// Median rate of the steady window's slices.
    pub steady_per_s: f64,
    /// Whether the opening was a burst: every slice of it faster than every steady one, and by a
    /// fifth on the whole.
    pub burst: bool,
}

/// The flag of a window that began with a burst.
#[must_use]
pub fn flag(intervals: &[Interval]) -> Option<Flag> {
    let seen = compare(intervals).ok().filter(|seen| seen.burst)?;
    let evidence = format!(
        "until {:.1} s it ran at {:.2} times the rate of the time from {:.1} s on: credits for a \
         burst may have run out, and the whole is neither; measure longer with a longer --omit",
        seen.opening_end_s,
        seen.opening_per_s / seen.steady_per_s,
        seen.steady_start_s
    );
    Some(Flag {
        code: "opening_burst".to_owned(),
        severity: Severity::Info,
        evidence,
    })
}

/// Compares the first quarter of the slices with the last half.
///
/// # Errors
/// There are too few slices to tell.
pub fn compare(intervals: &[Interval]) -> Result<Opening, String> {
    let bytes = intervals.iter().any(|slice| slice.work.bytes > 0);
    let whole = intervals.iter().map(|slice| slice.t1_s - slice.t0_s);
    let longest = whole.fold(0.0, f64::max);
    // The last slice may be a stump.
    let slices = intervals
        .iter()
        .filter(|slice| slice.t1_s - slice.t0_s >= longest / 2.0);
    let rate = |slice: &Interval| {
        let amount = if bytes {
            slice.work.bytes
        } else {
            slice.work.ops
        };
        amount as f64 / (slice.t1_s - slice.t0_s)
    };
    let slices: Vec<(&Interval, f64)> = slices.map(|slice| (slice, rate(slice))).collect();
    if slices.len() < LEAST_SLICES || longest <= 0.0 {
        return Err(format!(
            "{} slices; {LEAST_SLICES} are needed to tell an opening from a steady window",
            slices.len()
        ));
    }
    let opening = &slices[..slices.len() / 4];
    let steady = &slices[slices.len() / 2..];
    let rates = |part: &[(&Interval, f64)]| {
        let mut rates: Vec<f64> = part.iter().map(|(_, rate)| *rate).collect();
        rates.sort_by(f64::total_cmp);
        rates
    };
    let (fast, slow) = (rates(opening), rates(steady));
    let (opening_per_s, steady_per_s) = (fast[fast.len() / 2], slow[slow.len() / 2]);
    let apart = fast.first() > slow.last();
    Ok(Opening {
        opening_end_s: opening.last().map_or(0.0, |(slice, _)| slice.t1_s),
        steady_start_s: steady.first().map_or(0.0, |(slice, _)| slice.t0_s),
        opening_per_s,
        steady_per_s,
        burst: apart && opening_per_s >= BURST * steady_per_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reports::model::Work;

    fn slices(rates: &[u64]) -> Vec<Interval> {
        let slice = |(index, bytes): (usize, &u64)| Interval {
            t0_s: index as f64,
            t1_s: index as f64 + 1.0,
            work: Work {
                ops: 1,
                bytes: *bytes,
            },
            p50_ns: None,
            p99_ns: None,
            max_ns: None,
            hdr_v2_base64: None,
            flags: Vec::new(),
        };
        rates.iter().enumerate().map(slice).collect()
    }

    #[test]
    fn credits_that_run_out_are_seen_and_noise_is_not() {
        let burst = [100, 101, 99, 98, 70, 50, 51, 49, 52, 48, 50, 50];
        let seen = compare(&slices(&burst)).expect("there are enough");
        assert!(seen.burst, "{seen:?}");
        assert_eq!((seen.opening_per_s, seen.steady_per_s), (100.0, 50.0));
        assert_eq!((seen.opening_end_s, seen.steady_start_s), (3.0, 6.0));
        let noise = [100, 101, 49, 98, 70, 50, 51, 99, 52, 101, 50, 50];
        assert!(!compare(&slices(&noise)).expect("there are enough").burst);
        let drift = [60, 59, 58, 57, 56, 55, 54, 54, 54, 54];
        assert!(
            !compare(&slices(&drift)).expect("there are enough").burst,
            "by less than a fifth"
        );
    }

    #[test]
    fn too_few_slices_tell_nothing() {
        assert!(compare(&[]).is_err());
        let mut few = slices(&[1; 10]);
        few[9].t1_s = 9.1;
        let reason = compare(&few).expect_err("the last is a stump");
        assert!(reason.starts_with("9 slices"), "{reason}");
    }
}
