//! Steady state by SNIA's rule (Solid State Storage Performance Test Specification): over a
//! measurement window of five rounds, the rates stay within 20 % of their average, and the straight
//! line through them changes by no more than 10 % of it.

use super::{rate, rise, whole};
use reports::model::Interval;
use serde::Serialize;

/// Rounds of a measurement window.
pub const ROUNDS: usize = 5;
/// The most that the largest and the smallest round may be apart, as a share of the average.
const EXCURSION: f64 = 0.2;
/// The most that the line through the rounds may rise or fall, likewise.
const SLOPE: f64 = 0.1;

/// What the last five rounds look like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// Whether the rule holds.
    pub steady: bool,
    /// Length of a round in seconds.
    pub round_s: f64,
    /// Operations per second of each round.
    pub iops: Vec<f64>,
    /// Largest less smallest, as a share of the average; at most 0.2.
    pub excursion: f64,
    /// What the line through them rises or falls, as a share of the average; at most 0.1.
    pub slope_excursion: f64,
    /// The slices that the five rounds cover.
    #[serde(skip)]
    pub slices: std::ops::Range<usize>,
}

/// The last five rounds of `per_round` slices each; `None` where there are fewer.
#[must_use]
pub fn last_window(slices: &[Interval], per_round: usize) -> Option<Window> {
    let slices = whole(slices);
    let per_round = per_round.max(1);
    // Rounds are counted from the beginning, as they were while the run went on.
    let rounds = slices.len() / per_round;
    let first = rounds.checked_sub(ROUNDS)? * per_round;
    let covered = first..rounds * per_round;
    let rounds = slices[covered.clone()].chunks(per_round);
    let iops: Vec<f64> = rounds.map(rate).collect();
    let average = iops.iter().sum::<f64>() / ROUNDS as f64;
    let most = iops.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = iops.iter().copied().fold(f64::INFINITY, f64::min);
    let share = |part: f64| if average > 0.0 { part / average } else { 1.0 };
    let (excursion, slope_excursion) = (share(most - least), share(rise(&iops).abs()));
    Some(Window {
        steady: excursion <= EXCURSION && slope_excursion <= SLOPE,
        round_s: (slices[covered.end - 1].t1_s - slices[first].t0_s) / ROUNDS as f64,
        iops,
        excursion,
        slope_excursion,
        slices: covered,
    })
}

impl Window {
    /// The figures behind the verdict.
    #[must_use]
    pub fn evidence(&self) -> String {
        format!(
            "over five rounds of {:.3} s the rates lie {:.1} % apart (at most 20 %), and the line \
             through them changes by {:.1} % (at most 10 %)",
            self.round_s,
            self.excursion * 100.0,
            self.slope_excursion * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::seconds;
    use super::*;

    fn steady(rates: &[f64]) -> bool {
        last_window(&seconds(rates), 1).expect("five rounds").steady
    }

    #[test]
    fn the_rule_is_snia_s() {
        assert!(steady(&[100.0, 100.0, 100.0, 100.0, 100.0]));
        // 19 % apart without a slope; then 21 %.
        assert!(steady(&[1000.0, 910.0, 1100.0, 910.0, 1000.0]));
        assert!(!steady(&[1000.0, 900.0, 1120.0, 900.0, 1000.0]));
        // A slope of 9 %, then of 11 %, both within the excursion.
        assert!(steady(&[10_000.0, 9775.0, 9550.0, 9325.0, 9100.0]));
        assert!(!steady(&[10_000.0, 9700.0, 9400.0, 9100.0, 8800.0]));
        assert!(!steady(&[0.0; 5]), "standing still is not steady");
    }

    #[test]
    fn only_the_last_five_rounds_count_and_fewer_are_no_window() {
        let slices = seconds(&[500.0, 300.0, 100.0, 100.0, 100.0, 100.0, 100.0]);
        let window = last_window(&slices, 1).expect("enough");
        assert!(window.steady && window.slices == (2..7) && window.round_s == 1.0);
        assert_eq!(last_window(&slices, 2), None);
        assert_eq!(last_window(&[], 1), None);
        let long = seconds(&[100.0; 23]);
        let window = last_window(&long, 4).expect("enough");
        assert_eq!((window.slices, window.round_s), (0..20, 4.0));
    }
}
