//! Which ranks share a node, and how many CPUs they have there.
//!
//! Each rank hands round a card of fixed size; grouping the cards is pure.

use super::binding::{self, Binding};
use crate::ranges::ranges;
use mpi::environment;
use std::thread;

/// MPI_MAX_PROCESSOR_NAME is 256 in Open MPI and 128 in MPICH; longer names are cut.
const NAME_BYTES: usize = 256;
/// The size of a [`Card`] on its way.
pub(super) const CARD_BYTES: usize = NAME_BYTES + 8 * (binding::WORDS + 1);

/// What a rank says of its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// The name that MPI gives the node.
    name: String,
    /// The CPUs that this rank may run on.
    pub(super) binding: Binding,
    /// How many of them it may keep busy: fewer where its cgroup has a CPU quota.
    parallelism: u64,
}

impl Card {
    pub(super) fn of_this_process() -> Self {
        let name = environment::processor_name()
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        Self {
            name: name.trim_end_matches('\0').to_owned(),
            binding: Binding::of_this_process(),
            parallelism: thread::available_parallelism().map_or(1, |n| n.get() as u64),
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; CARD_BYTES] {
        let mut bytes = [0; CARD_BYTES];
        let (name, numbers) = bytes.split_at_mut(NAME_BYTES);
        let length = self.name.len().min(NAME_BYTES);
        name[..length].copy_from_slice(&self.name.as_bytes()[..length]);
        let words = self.binding.to_words().chain([self.parallelism]);
        for (slot, word) in numbers.chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let (name, numbers) = bytes.split_at(NAME_BYTES);
        let mut words = numbers.chunks_exact(8).map(|slot| {
            let mut word = [0; 8];
            word.copy_from_slice(slot);
            u64::from_le_bytes(word)
        });
        let name = String::from_utf8_lossy(name);
        Self {
            name: name.trim_end_matches('\0').to_owned(),
            binding: Binding::from_words(words.by_ref()),
            parallelism: words.next().unwrap_or(1),
        }
    }
}

/// A machine with some of the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    name: String,
    ranks: Vec<usize>,
    cpus: u64,
}

impl Node {
    /// The name that MPI gives it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ranks on it, in order.
    #[must_use]
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// The ranks on it in words: `0-3,8`.
    #[must_use]
    pub fn ranks_text(&self) -> String {
        ranges(&self.ranks)
    }

    /// The lowest rank on it, which speaks for it.
    #[must_use]
    pub fn leader(&self) -> usize {
        self.ranks[0]
    }

    /// How many CPUs its ranks may keep busy together.
    #[must_use]
    pub fn cpus(&self) -> u64 {
        self.cpus
    }

    /// Whether some of its ranks must take turns.
    #[must_use]
    pub fn is_oversubscribed(&self) -> bool {
        self.ranks.len() as u64 > self.cpus
    }
}

/// The nodes in the order of their lowest ranks, and the index of each rank's.
pub(super) fn group(cards: &[Card]) -> (Vec<Node>, Vec<usize>) {
    let mut nodes: Vec<Node> = Vec::new();
    let mut node_of = Vec::with_capacity(cards.len());
    for (rank, card) in cards.iter().enumerate() {
        let index = match nodes.iter().position(|node| node.name == card.name) {
            Some(index) => index,
            None => {
                nodes.push(Node {
                    name: card.name.clone(),
                    ranks: Vec::new(),
                    cpus: 0,
                });
                nodes.len() - 1
            }
        };
        nodes[index].ranks.push(rank);
        node_of.push(index);
    }
    for node in &mut nodes {
        node.cpus = cpus_of(node.ranks.iter().map(|&rank| &cards[rank]));
    }
    (nodes, node_of)
}

/// How many CPUs these ranks of a node have together. Launchers bind ranks to different CPUs or to
/// the same one, so neither one rank's CPUs nor the machine's are the answer: it is the union, less
/// where a cgroup's quota shows in a rank's parallelism.
fn cpus_of<'a>(cards: impl Iterator<Item = &'a Card>) -> u64 {
    let mut union = Binding::default();
    let mut quota = u64::MAX;
    let mut most = 1;
    for card in cards {
        union
            .cpus
            .iter_mut()
            .zip(card.binding.cpus)
            .for_each(|(all, own)| *all |= own);
        most = most.max(card.parallelism);
        if card.parallelism < card.binding.count() {
            quota = quota.min(card.parallelism);
        }
    }
    match union.count() {
        0 => most,
        cpus => cpus.min(quota),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str, cpus: u64, parallelism: u64) -> Card {
        Card {
            name: name.to_owned(),
            binding: binding::tests::to(cpus),
            parallelism,
        }
    }

    #[test]
    fn cards_survive_the_way() {
        let card = card("ip-10-0-0-7", 0b1011, 3);
        assert_eq!(Card::from_bytes(&card.to_bytes()), card);
    }

    #[test]
    fn ranks_are_grouped_by_node_in_the_order_of_ranks() {
        let cards = ["b", "a", "b", "a", "b"].map(|name| card(name, 1, 1));
        let (nodes, node_of) = group(&cards);
        assert_eq!(node_of, [0, 1, 0, 1, 0]);
        assert_eq!(nodes[0].ranks(), [0, 2, 4]);
        assert_eq!((nodes[1].name(), nodes[1].leader()), ("a", 1));
        assert!(nodes[0].is_oversubscribed(), "three ranks on one CPU");
    }

    #[test]
    fn cpus_are_the_union_of_what_ranks_are_bound_to() {
        let cpus = |cards: &[Card]| cpus_of(cards.iter());
        assert_eq!(
            cpus(&[card("n", 0b01, 1), card("n", 0b10, 1)]),
            2,
            "one each"
        );
        assert_eq!(
            cpus(&[card("n", 0b01, 1), card("n", 0b01, 1)]),
            1,
            "the same"
        );
        assert_eq!(
            cpus(&[card("n", 0b1111, 4), card("n", 0b1111, 4)]),
            4,
            "unbound"
        );
        assert_eq!(
            cpus(&[card("n", 0b1111, 2), card("n", 0b1111, 2)]),
            2,
            "a quota"
        );
        assert_eq!(cpus(&[card("n", 0, 8)]), 8, "a kernel that does not say");
    }
}
