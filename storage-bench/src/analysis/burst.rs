//! A burst before a plateau: a volume or an instance that runs on credits is fast until they are
//! spent, and a mean over both describes neither.
//!
//! Change points (e-divisive) propose where levels change; a burst is reported only if the step is
//! one that a user would see as well: large, sharp, with both sides apart and the later one level.

use super::{length, rate, rates, whole, work};
use reports::model::{Interval, Work};
use reports::stats::changes::{self, Search};
use reports::stats::median;
use std::ops::Range;

/// The fewest slices of a level.
const FEWEST: usize = 3;
/// How much faster than the plateau a burst is, at least.
const CLEARLY: f64 = 1.25;
/// Two levels closer than this share are one; a level that drifts by more is none.
const LEVEL: f64 = 0.1;
/// Share of the step that lies within two slices on either side of it, at least.
const SHARP: f64 = 0.7;
/// Share of a side's slices that may lie on the other side of the middle between both.
const STRAY: f64 = 0.1;
const SEARCH: Search = Search {
    min_segment: FEWEST,
    level: 0.05,
};

/// A burst, and the plateau after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Burst {
    /// When it ended, in seconds since the window opened: inside a slice, by that slice's rate.
    pub ends_at_s: f64,
    /// Operations per second before.
    pub iops: f64,
    /// Operations per second after.
    pub plateau_iops: f64,
    /// The slices of the plateau.
    pub plateau: Range<usize>,
    /// What was done in them.
    pub plateau_work: Work,
    /// Their length in seconds.
    pub plateau_s: f64,
}

/// The burst at the beginning of a window, if there was one.
#[must_use]
pub fn find(slices: &[Interval]) -> Option<Burst> {
    let slices = whole(slices);
    let rates = rates(slices);
    let (before_it, step) = last_levels(&rates)?;
    let (before, after) = rates.split_at(step);
    let (high, low) = (median(&before[before_it..])?, median(after)?);
    let real = low > 0.0
        && high >= CLEARLY * low
        && apart(before, after, f64::midpoint(high, low))
        && sharp(&rates, step, high - low);
    if !real {
        return None;
    }
    let step = Step::of(&rates, step, high, low);
    let plateau = step.after..slices.len();
    let level = &rates[plateau.clone()];
    if level.len() < FEWEST || drift(level)? > LEVEL * low {
        return None;
    }
    let covered = &slices[plateau.clone()];
    Some(Burst {
        ends_at_s: slices[step.before].t0_s + step.share * length(&slices[step.before]),
        iops: rate(&slices[..step.before]),
        plateau_iops: rate(covered),
        plateau_work: work(covered),
        plateau_s: covered.iter().map(length).sum(),
        plateau,
    })
}

/// Where the last level and the segment before it begin. The last level is the last segment with
/// those before it that are as high; `None` if that is all there is.
fn last_levels(rates: &[f64]) -> Option<(usize, usize)> {
    let changes = changes::find(rates, SEARCH);
    let mut starts: Vec<usize> = changes.iter().map(|change| change.index).collect();
    let mut start = starts.pop()?;
    let level = median(&rates[start..])?;
    loop {
        let earlier = starts.pop().unwrap_or(0);
        if (median(&rates[earlier..start])? - level).abs() > LEVEL * level {
            return Some((earlier, start));
        }
        start = earlier;
        if start == 0 {
            return None;
        }
    }
}

/// Whether nearly all slices are on their own side of the middle.
fn apart(before: &[f64], after: &[f64], middle: f64) -> bool {
    let few = |strays: usize, all: usize| strays as f64 <= (STRAY * all as f64).max(1.0);
    let below = before.iter().filter(|&&rate| rate < middle).count();
    let above = after.iter().filter(|&&rate| rate > middle).count();
    few(below, before.len()) && few(above, after.len())
}

/// Whether the rate falls at the step and not all along the run.
fn sharp(rates: &[f64], step: usize, height: f64) -> bool {
    let high = rates[step.saturating_sub(3)..step].iter().copied();
    let low = rates[step..rates.len().min(step + 3)].iter().copied();
    // The slice in which the step lies may be on either side: extremes leave it out.
    let fall = high.fold(0.0, f64::max) - low.fold(f64::INFINITY, f64::min);
    fall >= SHARP * height
}

/// How far apart the halves of a level are; medians, so that a single dip is no drift.
fn drift(level: &[f64]) -> Option<f64> {
    let (first, second) = level.split_at(level.len() / 2);
    Some((median(first)? - median(second)?).abs())
}

/// Which slices lie before and after the step, and how much of the one between is burst.
struct Step {
    /// The first slice that is not all burst.
    before: usize,
    /// The first slice that is all plateau.
    after: usize,
    /// Share of `before` that is burst.
    share: f64,
}

impl Step {
    fn of(rates: &[f64], step: usize, high: f64, low: f64) -> Self {
        let share = |index: usize| ((rates[index] - low) / (high - low)).clamp(0.0, 1.0);
        let between =
            |index: usize| (low * (1.0 + LEVEL)..=high * (1.0 - LEVEL)).contains(&rates[index]);
        let (before, after) = if between(step) {
            (step, step + 1)
        } else if step > 1 && between(step - 1) {
            (step - 1, step)
        } else {
            (step, step)
        };
        Self {
            before,
            after,
            share: if before < after { share(before) } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seconds;
    use super::*;

    struct Noise(fastrand::Rng);

    impl Noise {
        fn new(seed: u64) -> Self {
            Self(fastrand::Rng::with_seed(seed))
        }

        /// Sum of twelve: nearly normal, with mean 0 and deviation 1.
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.0.f64()).sum::<f64>() - 6.0
        }

        fn around(&mut self, levels: &[(f64, usize)], deviation: f64) -> Vec<f64> {
            let levels = levels.iter().flat_map(|&(l, n)| std::iter::repeat_n(l, n));
            let levels: Vec<f64> = levels.collect();
            let noisy = levels.iter().map(|l| l * (1.0 + deviation * self.normal()));
            noisy.map(|rate| rate.max(0.0)).collect()
        }
    }

    #[test]
    fn a_bucket_that_runs_empty_is_a_burst_and_a_plateau() {
        for seed in 0..50 {
            let mut rates = Noise::new(seed).around(&[(1500.0, 5), (300.0, 10)], 0.01);
            // The fifth second holds the step in its first tenth, half or nine tenths.
            let share = [0.1, 0.5, 0.9][seed as usize % 3];
            rates[5] = 300.0 + share * 1200.0;
            let burst = find(&seconds(&rates)).expect("a burst");
            assert!((burst.ends_at_s - 5.0 - share).abs() < 0.15, "{burst:?}");
            assert!((burst.plateau_iops / 300.0 - 1.0).abs() < 0.02, "{burst:?}");
            assert!((burst.iops / 1500.0 - 1.0).abs() < 0.05, "{burst:?}");
        }
    }

    #[test]
    fn a_partial_last_slice_and_a_single_dip_change_nothing() {
        let mut slices = seconds(&Noise::new(1).around(&[(1500.0, 8), (300.0, 12)], 0.01));
        slices[12].work.ops = 20;
        slices[3].work.ops = 100;
        slices.push(Interval {
            t0_s: 20.0,
            t1_s: 20.01,
            work: Work::default(),
            ..slices[0].clone()
        });
        let burst = find(&slices).expect("a burst");
        assert!((burst.ends_at_s - 8.0).abs() < 0.2, "{burst:?}");
        assert_eq!(burst.plateau, 8..20);
        let mut steady = seconds(&[1000.0; 20]);
        steady[19].t1_s = 19.02;
        steady[19].work.ops = 0;
        assert_eq!(find(&steady), None);
        steady[10].work.ops = 10;
        assert_eq!(find(&steady), None);
    }

    /// As seen of a control group's throttle that was tightened: slices alternate before it.
    #[test]
    fn a_throttle_that_tightens_is_seen_through_its_jitter() {
        let mut rates = vec![1430.0, 965.0, 1440.0, 959.0, 1440.0, 1200.0, 1200.0, 959.0];
        rates.extend([86.0, 200.0, 200.0, 200.0, 200.0, 200.0, 200.0, 193.0]);
        let burst = find(&seconds(&rates)).expect("a burst");
        assert!((burst.ends_at_s - 8.0).abs() <= 1.0, "{burst:?}");
        assert!((burst.plateau_iops / 200.0 - 1.0).abs() < 0.1, "{burst:?}");
    }

    #[test]
    fn two_steps_end_on_the_last_level() {
        let rates = Noise::new(2).around(&[(3000.0, 10), (1500.0, 10), (300.0, 20)], 0.02);
        let burst = find(&seconds(&rates)).expect("a burst");
        assert!((burst.plateau_iops / 300.0 - 1.0).abs() < 0.03, "{burst:?}");
        assert!((burst.ends_at_s - 20.0).abs() < 0.5);
    }

    #[test]
    fn what_is_no_burst_is_not_called_one() {
        let line = |from: f64, to: f64, n: usize| -> Vec<f64> {
            let step = (to - from) / (n as f64 - 1.0);
            (0..n).map(|i| from + step * i as f64).collect()
        };
        let slow_start = Noise::new(3).around(&[(300.0, 5), (1500.0, 15)], 0.02);
        let hump = Noise::new(4).around(&[(300.0, 10), (1500.0, 10), (300.0, 10)], 0.02);
        let stalled = Noise::new(5).around(&[(1500.0, 10), (0.0, 10)], 0.02);
        let small = Noise::new(6).around(&[(1100.0, 10), (1000.0, 10)], 0.01);
        let mut cases = vec![slow_start, hump, stalled, small, Vec::new(), vec![5.0; 4]];
        cases.extend([5, 8, 10, 20, 60].map(|n| line(2000.0, 1000.0, n)));
        cases.extend([20, 60].map(|n| line(2000.0, 200.0, n)));
        for rates in cases {
            assert_eq!(find(&seconds(&rates)), None, "{rates:?}");
        }
    }

    /// Fewer than one false alarm in a thousand, up to a deviation of 20 % from second to second.
    #[test]
    fn noise_raises_no_alarm() {
        let mut alarms = 0;
        for seed in 0..1000 {
            let mut noise = Noise::new(seed);
            let length = 6 + noise.0.usize(0..40);
            let deviation = 0.2 * noise.0.f64();
            let rates = noise.around(&[(1000.0, length)], deviation);
            alarms += u32::from(find(&seconds(&rates)).is_some());
        }
        assert!(alarms <= 1, "{alarms} false alarms in 1000 runs");
    }
}
