//! Who plays whom: every pair once, in rounds of disjoint pairs, by the circle method of round-robin
//! tournaments. Pairs of one round share no node, so none disturbs another's ends.

/// The opponents of all in one round: `opponents[party]`, `None` for the one that has a bye.
pub type Round = Vec<Option<usize>>;

/// The rounds of a tournament of so many parties: n − 1 for an even number, n for an odd one, in
/// which each has a bye once.
#[must_use]
pub fn rounds(parties: usize) -> Vec<Round> {
    // An odd one out plays against nobody, who is the last of an even number.
    let seats = parties.next_multiple_of(2);
    let turning = seats.saturating_sub(1);
    (0..turning)
        .map(|round| opponents(parties, turning, round))
        .collect()
}

/// The last seat stays, the others sit in a circle that turns by one each round; whose numbers add
/// up to the round's, modulo the circle, play each other, and who would play itself plays the last.
fn opponents(parties: usize, turning: usize, round: usize) -> Round {
    let mut opponents = vec![None; parties];
    for party in 0..turning {
        let opposite = (round + turning - party) % turning;
        let other = if opposite == party { turning } else { opposite };
        if other < parties {
            opponents[party] = Some(other);
            opponents[other] = Some(party);
        }
    }
    opponents
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_pair_meets_exactly_once_and_nobody_plays_twice_in_a_round() {
        for parties in 0..40 {
            let rounds = rounds(parties);
            let expected = match parties {
                0 | 1 => parties,
                even if even % 2 == 0 => even - 1,
                odd => odd,
            };
            assert_eq!(rounds.len(), expected, "{parties} parties");
            let mut met = BTreeSet::new();
            for round in &rounds {
                let byes = round.iter().filter(|opponent| opponent.is_none()).count();
                assert_eq!(byes, parties % 2, "{parties} parties");
                for (party, opponent) in round.iter().enumerate() {
                    let Some(opponent) = *opponent else { continue };
                    assert_eq!(round[opponent], Some(party), "it is mutual");
                    assert!(opponent == party || met.insert((party, opponent)));
                    assert_ne!(opponent, party);
                }
            }
            assert_eq!(met.len(), parties * parties.saturating_sub(1));
        }
    }
}
