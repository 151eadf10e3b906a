//! What a comparison could have seen: "no difference" means little without it.

use super::Estimate;
use super::student::quantile;

/// The chance of finding an effect of the stated size.
pub const POWER: f64 = 0.8;

/// The smallest shift that as many runs with such a spread would show with probability [`POWER`],
/// where showing means that the interval excludes zero. On logarithms e^shift − 1 is the relative
/// change.
///
/// The interval itself says how precisely its centre is known: half its width is the quantile of
/// its coverage times the standard error. So one run far from the others, which hardly moves an
/// interval made of ranks, hardly moves this. `freedom` are the degrees of freedom of a t test of
/// the same data; `None` if they are not positive.
#[must_use]
pub fn detectable_shift(interval: &Estimate, freedom: f64) -> Option<f64> {
    let reach = (interval.high - interval.low) / 2.0;
    let of_coverage = quantile(f64::midpoint(1.0, interval.coverage), freedom)?;
    Some(reach * (1.0 + quantile(POWER, freedom)? / of_coverage))
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::super::{Pairs, Runs, mann_whitney, median, signed_rank};
    use super::*;

    const IDS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

    /// Standard normal numbers, of which one in `outliers` is ten times as far from zero.
    fn values(random: &mut Random, count: usize, outliers: usize) -> Vec<f64> {
        let value = |_| {
            let far = outliers > 0 && random.below(outliers) == 0;
            random.normal() * if far { 10.0 } else { 1.0 }
        };
        (0..count).map(value).collect()
    }

    fn groups(random: &mut Random, outliers: usize, count: usize) -> Estimate {
        let mut side = || {
            let values = values(random, count, outliers);
            Runs::new(IDS.into_iter().zip(values)).expect("one number each")
        };
        mann_whitney::shift(&side(), &side()).expect("enough runs")
    }

    fn pairs(random: &mut Random, outliers: usize, count: usize) -> Estimate {
        let differences = values(random, count, outliers);
        let pairs = IDS
            .into_iter()
            .zip(differences)
            .map(|(id, by)| (id, 0.0, by));
        signed_rank::shift(&Pairs::new(pairs).expect("one each")).expect("enough pairs")
    }

    #[test]
    fn a_shift_of_this_size_is_found_four_times_in_five() {
        type Kind = fn(&mut Random, usize, usize) -> Estimate;
        let kinds: [(&str, Kind, usize, f64); 4] = [
            ("5 + 5", groups, 5, 8.0),
            ("10 + 10", groups, 10, 18.0),
            ("6 pairs", pairs, 6, 5.0),
            ("10 pairs", pairs, 10, 9.0),
        ];
        for (name, estimate, count, freedom) in kinds {
            for outliers in [0, 10] {
                let mut random = Random::new(11);
                let estimates: Vec<Estimate> = (0..2000)
                    .map(|_| estimate(&mut random, outliers, count))
                    .collect();
                let sizes = estimates
                    .iter()
                    .filter_map(|e| detectable_shift(e, freedom));
                let size = median(&sizes.collect::<Vec<_>>()).expect("they are there");
                // A shift moves both ends by itself.
                let found = estimates.iter().filter(|e| e.low + size > 0.0).count();
                let share = found as f64 / estimates.len() as f64;
                println!("{name}, outliers {outliers}: {size:.2} found {share}");
                assert!((0.7..0.9).contains(&share), "{name}, {outliers}: {share}");
            }
        }
    }
}
