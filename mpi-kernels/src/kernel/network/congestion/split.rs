//! Who is a victim and who an aggressor, and which victims measure with each other: drawn from the
//! seed, the same on all ranks.

use reports::stats::random::Random;

/// The fewest nodes or ranks: two of each side.
pub const LEAST: usize = 4;

/// Two groups of ranks, each in an order of its own; the first of each speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Whether whole nodes were drawn, so that the groups share none.
    pub by_node: bool,
    /// Who measures.
    pub victims: Vec<usize>,
    /// Who loads the network.
    pub aggressors: Vec<usize>,
}

impl Split {
    /// Draws the groups. `nodes` are the ranks of each node, `by` says what is drawn: `node`,
    /// `rank`, or `auto` for nodes if there are enough. `share` percent of them are victims, rounded
    /// up as in GPCNeT (which rounds down the others), and at least two of each are. `None` if there
    /// are too few.
    #[must_use]
    pub fn draw(nodes: &[&[usize]], by: &str, share: u64, seed: u64) -> Option<Self> {
        let by_node = by == "node" || (by == "auto" && nodes.len() >= LEAST);
        let mut units: Vec<Vec<usize>> = if by_node {
            nodes.iter().map(|ranks| ranks.to_vec()).collect()
        } else {
            nodes.iter().copied().flatten().map(|&r| vec![r]).collect()
        };
        if units.len() < LEAST {
            return None;
        }
        Random::new(seed).shuffle(&mut units);
        // Ranks come from a C int, so their hundredfold fits.
        let others = units.len() * (100 - share.min(100) as usize) / 100;
        let victims = units.split_off(others.clamp(2, units.len() - 2));
        Some(Self {
            by_node,
            victims: victims.concat(),
            aggressors: units.concat(),
        })
    }
}

/// An order of the victims for their pairs: the one at a place of the first half meets the one at
/// that place of the second, and an odd one rests. Those of a node stay together, so that partners
/// are on different nodes if no node has more than half of them.
#[must_use]
pub fn pairing(
    victims: &[usize],
    node_of: impl Fn(usize) -> usize,
    random: &mut Random,
) -> Vec<usize> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    for &victim in victims {
        let node = node_of(victim);
        match groups.iter_mut().find(|(other, _)| *other == node) {
            Some((_, group)) => group.push(victim),
            None => groups.push((node, vec![victim])),
        }
    }
    random.shuffle(&mut groups);
    let shuffled = groups.into_iter().flat_map(|(_, mut group)| {
        random.shuffle(&mut group);
        group
    });
    shuffled.collect()
}

/// The partner of a victim in such an order, and whether the victim is in the first half.
#[must_use]
pub fn partner(order: &[usize], rank: usize) -> Option<(usize, bool)> {
    let half = order.len() / 2;
    let place = order.iter().position(|&other| other == rank)?;
    (place < 2 * half).then(|| (order[(place + half) % (2 * half)], place < half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn nodes(count: usize, each: usize) -> Vec<Vec<usize>> {
        let ranks = |node: usize| (node * each..(node + 1) * each).collect();
        (0..count).map(ranks).collect()
    }

    fn draw(nodes: &[Vec<usize>], by: &str, share: u64, seed: u64) -> Option<Split> {
        let nodes: Vec<&[usize]> = nodes.iter().map(Vec::as_slice).collect();
        Split::draw(&nodes, by, share, seed)
    }

    #[test]
    fn every_rank_is_in_one_group_and_each_has_two() {
        for (count, each) in [(1, 4), (1, 7), (2, 3), (4, 1), (5, 2), (20, 3)] {
            let nodes = nodes(count, each);
            for share in [1, 20, 50, 99] {
                let split = draw(&nodes, "auto", share, 7).expect("there are enough");
                assert!(split.victims.len() >= 2 && split.aggressors.len() >= 2);
                let all: BTreeSet<usize> = split
                    .victims
                    .iter()
                    .chain(&split.aggressors)
                    .copied()
                    .collect();
                assert_eq!(all.len(), count * each);
                assert_eq!(split.by_node, count >= LEAST);
            }
        }
    }

    #[test]
    fn a_fifth_of_the_nodes_are_victims_as_in_gpcnet() {
        for (count, victims) in [(4, 2), (10, 2), (11, 3), (64, 13), (100, 20)] {
            let split = draw(&nodes(count, 2), "node", 20, 1).expect("there are enough");
            assert_eq!(split.victims.len(), 2 * victims, "{count} nodes");
            let node = |rank: &usize| rank / 2;
            let of = |ranks: &[usize]| ranks.iter().map(node).collect::<BTreeSet<_>>();
            assert!(of(&split.victims).is_disjoint(&of(&split.aggressors)));
        }
    }

    #[test]
    fn the_seed_decides_and_few_are_refused() {
        let nodes = nodes(8, 2);
        assert_eq!(draw(&nodes, "auto", 20, 3), draw(&nodes, "auto", 20, 3));
        assert!((0..10).any(|seed| draw(&nodes, "auto", 20, seed) != draw(&nodes, "auto", 20, 3)));
        assert_eq!(draw(&nodes[..3], "node", 20, 1), None);
        assert_eq!(draw(&nodes[..1], "rank", 20, 1), None);
        assert!(draw(&nodes[..2], "auto", 20, 1).is_some_and(|split| !split.by_node));
    }

    #[test]
    fn partners_are_mutual_and_on_different_nodes() {
        let mut random = Random::new(5);
        for victims in [
            vec![4, 5, 0, 1],
            vec![0, 1, 2, 3, 8, 9, 6, 7],
            vec![9, 2, 5],
        ] {
            for _ in 0..20 {
                let order = pairing(&victims, |rank| rank / 2, &mut random);
                let resting = victims.iter().filter(|&&v| partner(&order, v).is_none());
                assert_eq!(resting.count(), victims.len() % 2);
                for &victim in &victims {
                    let Some((other, first)) = partner(&order, victim) else {
                        continue;
                    };
                    assert_eq!(partner(&order, other), Some((victim, !first)));
                    assert_ne!(victim / 2, other / 2);
                }
            }
        }
    }
}
