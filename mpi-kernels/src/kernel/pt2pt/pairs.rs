//! What is said of pairs of ranks: where they are, how they differ, which is the slowest.

use crate::kernel::Results;
use crate::merge;
use crate::world::World;
use reports::model::{Aggregation, Direction, Metric, OBSERVED, Unit};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Each pair's time in all iterations; empty where rank 0 alone timed.
pub fn sum_ns(results: &Results) -> impl Iterator<Item = u64> {
    let pairs = results.ranks.len() / 2;
    results.ranks[..pairs].iter().map(|rank| rank.sum_ns)
}

/// Each pair's mean over its iterations, likewise.
pub fn mean_ns(results: &Results) -> Vec<f64> {
    sum_ns(results)
        .map(|ns| ns as f64 / results.iterations as f64)
        .collect()
}

/// Least, median and largest of the numbers of pairs.
pub fn spread(
    name: &'static str,
    unit: Unit,
    direction: Direction,
    mut values: Vec<f64>,
) -> Vec<Metric> {
    values.sort_by(f64::total_cmp);
    let (Some(&least), Some(&largest)) = (values.first(), values.last()) else {
        return Vec::new();
    };
    let half = values.len() / 2;
    let median = (values[(values.len() - 1) / 2] + values[half]) / 2.0;
    [
        (Aggregation::Min, least),
        (Aggregation::P50, median),
        (Aggregation::Max, largest),
    ]
    .map(|(aggregation, value)| {
        Metric::new(
            name,
            aggregation,
            unit,
            direction,
            value,
            values.len() as u64,
        )
    })
    .into()
}

/// Where the pairs are; of several, the slowest by its mean, and each one's mean for those who read
/// the report itself.
pub fn facts(world: &World, results: &Results) -> Map<String, Value> {
    let means = mean_ns(results);
    let pairs: Vec<[usize; 2]> = match means.len() {
        0 => vec![[0, 1]],
        count => (0..count).map(|first| [first, first + count]).collect(),
    };
    let host = |rank: usize| world.node_of(rank).name();
    let mut facts = Map::new();
    facts.insert("pairs_on_hosts".to_owned(), placement(&pairs, host));
    let Some(slowest) = (0..means.len()).max_by(|&one, &other| means[one].total_cmp(&means[other]))
    else {
        return facts;
    };
    let [first, second] = pairs[slowest];
    let text = format!(
        "ranks {first} > {second} on {} > {}: {:.0} ns on average",
        host(first),
        host(second),
        means[slowest]
    );
    let all = pairs.iter().zip(&means);
    let all: Vec<_> = all
        .map(|(&pair, ns)| json!({ "ranks": pair, "hosts": pair.map(host), "mean_ns": ns }))
        .collect();
    // How they fared is an outcome, not a setting.
    let observed = json!({ "slowest_pair": text, "pairs": all });
    facts.insert(OBSERVED.to_owned(), observed);
    facts
}

/// The first and second ranks of the pairs of each two hosts: `"a > b": "0-3 > 4-7"`.
fn placement<'h>(pairs: &[[usize; 2]], host: impl Fn(usize) -> &'h str) -> Value {
    let mut on_hosts = BTreeMap::<_, [Vec<usize>; 2]>::new();
    for &[first, second] in pairs {
        let hosts = format!("{} > {}", host(first), host(second));
        let [firsts, seconds] = on_hosts.entry(hosts).or_default();
        firsts.push(first);
        seconds.push(second);
    }
    let text = |ranks: [Vec<usize>; 2]| ranks.map(|ranks| merge::ranges(&ranks)).join(" > ");
    let text = |(hosts, ranks)| (hosts, json!(text(ranks)));
    Value::Object(on_hosts.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::RankTotals;
    use reports::measure::new_histogram;

    #[test]
    fn pairs_are_grouped_by_their_hosts() {
        let host = |rank: usize| ["a", "a", "a", "b", "b", "b", "b", "b"][rank];
        let pairs = [[0, 4], [1, 5], [2, 6], [3, 7]];
        let expected = json!({ "a > b": "0-2 > 4-6", "b > b": "3 > 7" });
        assert_eq!(placement(&pairs, host), expected);
    }

    #[test]
    fn the_lower_half_of_the_ranks_times() {
        let ranks = [40, 80, 0, 0].map(|sum_ns| RankTotals {
            sum_ns,
            slowest_count: 0,
        });
        let results = Results {
            iterations: 4,
            invalid: 0,
            histogram: new_histogram(),
            sum_ns: 90,
            ranks: ranks.into(),
        };
        assert_eq!(mean_ns(&results), [10.0, 20.0]);
    }

    #[test]
    fn the_spread_of_pairs_is_exact() {
        let of = |values: &[f64]| -> Vec<f64> {
            let (unit, direction) = (Unit::Nanoseconds, Direction::LowerIsBetter);
            spread("pair_latency_ns", unit, direction, values.to_vec())
                .iter()
                .filter_map(|metric| metric.value.known().copied())
                .collect()
        };
        assert_eq!(of(&[3.0, 1.0, 2.0]), [1.0, 2.0, 3.0]);
        assert_eq!(of(&[4.0, 1.0]), [1.0, 2.5, 4.0]);
        assert!(of(&[]).is_empty());
    }
}
