//! One metric's groups in order, and how much of that order the runs show.
//!
//! Every pair of groups is tested, not each with the best alone: which one is best was chosen from
//! the same runs, and the extremes of many equal groups differ more than any two of them. The p
//! values of all pairs, metrics and cases are adjusted together. A group's place is a range: it
//! begins after those that are shown to be better and ends before those that are shown to be
//! worse.

use super::Place;
use crate::compare::{Effect, Verdict};
use crate::model::Direction;
use crate::stats::{ALPHA, Runs, mann_whitney, median};

/// A group with enough runs.
#[derive(Debug, Clone)]
pub(super) struct Entrant {
    pub group: usize,
    pub runs: Runs,
    pub median: f64,
}

impl Entrant {
    pub(super) fn new(group: usize, runs: Runs) -> Option<Self> {
        let median = median(runs.values())?;
        Some(Self {
            group,
            runs,
            median,
        })
    }
}

/// Groups in the order of their medians, each pair tested.
#[derive(Debug)]
pub(super) struct Contest {
    entrants: Vec<Entrant>,
    higher_is_better: bool,
    /// Of every pair, in the order of [`pairs`].
    p_values: Vec<f64>,
}

/// What the runs show, once the p values of everything are adjusted.
#[derive(Debug)]
pub(super) struct Order {
    /// Best median first.
    pub entrants: Vec<Entrant>,
    /// `better[i][j]`: entrant i is shown to be better than entrant j.
    better: Vec<Vec<bool>>,
    higher_is_better: bool,
    raw: Vec<f64>,
    adjusted: Vec<f64>,
}

/// How an entrant stands to the reference.
#[derive(Debug)]
pub(super) struct Against {
    pub effect: Option<Effect>,
    pub p_value: f64,
    pub adjusted_p_value: f64,
    pub detectable: Option<f64>,
    pub verdict: Verdict,
}

/// All pairs i < j, and where each stands in a list of them.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |i| (i + 1..count).map(move |j| (i, j)))
}

fn pair_index(count: usize, i: usize, j: usize) -> usize {
    let (i, j) = (i.min(j), i.max(j));
    i * (2 * count - i - 1) / 2 + j - i - 1
}

impl Contest {
    /// Orders the entrants and tests every pair. A metric without better and worse has no order.
    pub(super) fn new(mut entrants: Vec<Entrant>, direction: Direction) -> Self {
        let higher_is_better = direction == Direction::HigherIsBetter;
        entrants.sort_by(|a, b| {
            let order = a.median.total_cmp(&b.median);
            if higher_is_better {
                order.reverse()
            } else {
                order
            }
        });
        let p_values = pairs(entrants.len())
            .map(|(i, j)| {
                let test = mann_whitney::test(&entrants[i].runs, &entrants[j].runs);
                test.map_or(1.0, |test| test.p_value)
            })
            .collect();
        Self {
            entrants,
            higher_is_better,
            p_values,
        }
    }

    pub(super) fn p_values(&self) -> &[f64] {
        &self.p_values
    }

    /// Reaches the verdicts: a difference needs both the adjusted test and the interval.
    pub(super) fn conclude(self, adjusted: Vec<f64>) -> Order {
        let count = self.entrants.len();
        let mut better = vec![vec![false; count]; count];
        for (index, (i, j)) in pairs(count).enumerate() {
            if adjusted[index] > ALPHA {
                continue;
            }
            let effect = Effect::of_groups(&self.entrants[i].runs, &self.entrants[j].runs);
            if let Some(effect) = effect.filter(Effect::is_clear) {
                let j_is_higher = effect.value > effect.nothing();
                let j_is_better = j_is_higher == self.higher_is_better;
                let (winner, loser) = if j_is_better { (j, i) } else { (i, j) };
                better[winner][loser] = true;
            }
        }
        Order {
            entrants: self.entrants,
            better,
            higher_is_better: self.higher_is_better,
            raw: self.p_values,
            adjusted,
        }
    }
}

impl Order {
    /// Whether entrant `i` is shown to be better than entrant `j`.
    pub(super) fn is_better(&self, i: usize, j: usize) -> bool {
        self.better[i][j]
    }

    /// Whether the median of `i` is at least as good as that of `j`.
    pub(super) fn median_is_no_worse(&self, i: usize, j: usize) -> bool {
        let (i, j) = (self.entrants[i].median, self.entrants[j].median);
        if self.higher_is_better {
            i >= j
        } else {
            i <= j
        }
    }

    /// The places that an entrant may have, counted from 1.
    pub(super) fn place(&self, i: usize) -> Place {
        let count = self.entrants.len();
        let above = (0..count).filter(|&j| self.better[j][i]).count();
        let below = (0..count).filter(|&j| self.better[i][j]).count();
        Place {
            first: above + 1,
            last: count - below,
        }
    }

    /// How entrant `i` stands to the `reference`; `None` of the reference itself.
    pub(super) fn against(&self, i: usize, reference: usize) -> Option<Against> {
        if i == reference {
            return None;
        }
        let pair = pair_index(self.entrants.len(), i, reference);
        let (a, b) = (&self.entrants[reference].runs, &self.entrants[i].runs);
        let finite = |effect: &Effect| {
            effect.value.is_finite() && effect.low.is_finite() && effect.high.is_finite()
        };
        let effect = Effect::of_groups(a, b).filter(finite);
        let freedom = (a.len() + b.len()) as f64 - 2.0;
        Some(Against {
            effect,
            p_value: self.raw[pair],
            adjusted_p_value: self.adjusted[pair],
            detectable: effect.and_then(|effect| effect.detectable(freedom)),
            verdict: match (self.better[i][reference], self.better[reference][i]) {
                (true, _) => Verdict::Better,
                (_, true) => Verdict::Worse,
                _ => Verdict::Same,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::false_discovery;
    use crate::stats::random::Random;

    fn runs(values: impl IntoIterator<Item = f64>) -> Runs {
        let named: Vec<(String, f64)> = values
            .into_iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect();
        let runs = Runs::new(named.iter().map(|(name, value)| (name.as_str(), *value)));
        runs.expect("finite numbers of different runs")
    }

    fn order(groups: Vec<Vec<f64>>, direction: Direction) -> Order {
        let entrants = groups.into_iter().enumerate();
        let entrants = entrants.filter_map(|(group, values)| Entrant::new(group, runs(values)));
        let contest = Contest::new(entrants.collect(), direction);
        let adjusted = false_discovery::adjust(contest.p_values());
        contest.conclude(adjusted)
    }

    fn around(value: f64, count: u32) -> Vec<f64> {
        (0..count)
            .map(|run| value * (1.0 + 0.001 * f64::from(run)))
            .collect()
    }

    fn places(order: &Order) -> Vec<(usize, usize, usize)> {
        let entrants = order.entrants.iter().enumerate();
        let place = |(i, entrant): (usize, &Entrant)| {
            (entrant.group, order.place(i).first, order.place(i).last)
        };
        entrants.map(place).collect()
    }

    #[test]
    fn pairs_are_found_again() {
        for count in 0..6 {
            for (index, (i, j)) in pairs(count).enumerate() {
                assert_eq!(pair_index(count, i, j), index);
                assert_eq!(pair_index(count, j, i), index);
            }
        }
    }

    #[test]
    fn what_is_equal_shares_its_places() {
        let groups = || vec![around(100.0, 6), around(120.0, 6), around(100.05, 6)];
        let higher = order(groups(), Direction::HigherIsBetter);
        assert_eq!(places(&higher), [(1, 1, 1), (2, 2, 3), (0, 2, 3)]);
        let against = higher.against(2, 0).expect("it is not the reference");
        assert_eq!(against.verdict, Verdict::Worse);
        assert!(higher.against(0, 0).is_none());
        let lower = order(groups(), Direction::LowerIsBetter);
        assert_eq!(places(&lower), [(0, 1, 2), (2, 1, 2), (1, 3, 3)]);
    }

    #[test]
    fn a_chain_of_small_steps_is_no_strict_order() {
        // Neighbours overlap, the ends do not: the one between may be level with either.
        let spread = |from: f64| (0..6).map(|run| from + f64::from(run)).collect::<Vec<_>>();
        let chain = order(
            vec![spread(100.0), spread(102.1), spread(104.2)],
            Direction::LowerIsBetter,
        );
        assert_eq!(places(&chain), [(0, 1, 2), (1, 1, 3), (2, 2, 3)]);
    }

    #[test]
    fn numbers_with_zero_are_ordered_by_difference() {
        let zeros = vec![0.0; 6];
        let found = order(vec![around(5.0, 6), zeros], Direction::LowerIsBetter);
        assert_eq!(places(&found), [(1, 1, 1), (0, 2, 2)]);
    }

    /// Five equal types must not be put into an order: 2,000 times with 6 and with 10 runs.
    #[test]
    fn equal_groups_are_rarely_ranked() {
        let mut random = Random::new(3);
        for count in [6, 10] {
            let mut alarms = 0;
            for _ in 0..2000 {
                let groups = (0..5).map(|_| {
                    let values = (0..count).map(|_| 100.0 * (0.03 * random.normal()).exp());
                    values.collect()
                });
                let found = order(groups.collect(), Direction::HigherIsBetter);
                let told_apart = (0..5).any(|i| (0..5).any(|j| found.is_better(i, j)));
                alarms += u32::from(told_apart);
            }
            let share = f64::from(alarms) / 2000.0;
            println!(
                "{count} runs: {:.1} % of 2,000 rankings of equals claim an order",
                share * 100.0
            );
            assert!(share <= 0.07, "{share}");
        }
    }
}
