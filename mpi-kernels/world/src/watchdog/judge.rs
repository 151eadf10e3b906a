//! Who is to blame when nobody gets on: pure functions over what rank 0 has heard.

use crate::ranges::ranges;
use std::time::Duration;

/// What rank 0 knows of a rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub rank: usize,
    /// `rank 1 on node7 (pid 123)`.
    pub place: String,
    /// Its steps and what it did, if it was ever heard.
    pub heard: Option<Heard>,
}

/// The last words of a rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub steps: u64,
    pub doing: String,
    /// How long ago that was.
    pub silent: Duration,
}

/// Why nobody gets on, in words, and the ranks that cannot be asked to end themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    pub text: String,
    pub silent: Vec<usize>,
}

/// What to do if it was not a fault.
const LONGER: &str = "if that may take so long, raise --deadline";

/// Judges a world in which no rank took a step for the deadline. Ranks that were heard within
/// `answers` are alive.
pub fn hang(seen: &[Seen], deadline: Duration, answers: Duration) -> Blame {
    let heard = |seen: &Seen| seen.heard.clone();
    let is_silent = |seen: &&Seen| heard(seen).is_some_and(|heard| heard.silent > answers);
    let silent: Vec<&Seen> = seen.iter().filter(is_silent).collect();
    let seconds = deadline.as_secs_f64();
    let text = if silent.is_empty() {
        format!("no rank made progress for {seconds} s: {}", behind(seen))
    } else {
        let each = silent.iter().map(|seen| gone_quiet(seen));
        each.collect::<Vec<_>>().join("; ")
    };
    let unseen = seen.iter().filter(|seen| seen.heard.is_none());
    let unseen: Vec<usize> = unseen.map(|seen| seen.rank).collect();
    let unseen = match unseen.as_slice() {
        [] => String::new(),
        ranks => format!("; of rank {} nothing is known", ranges(ranks)),
    };
    Blame {
        text: format!("{text}{unseen}; {LONGER}"),
        silent: silent.iter().map(|seen| seen.rank).collect(),
    }
}

/// A rank whose connection ended before its work did.
pub fn died(seen: &Seen) -> String {
    let last = seen.heard.as_ref().map_or_else(String::new, last_words);
    format!("{} died{last}", seen.place)
}

fn gone_quiet(seen: &Seen) -> String {
    let Some(heard) = &seen.heard else {
        return seen.place.clone();
    };
    format!(
        "{} has not answered for {:.1} s: it is stopped, or its node is gone{}",
        seen.place,
        heard.silent.as_secs_f64(),
        last_words(heard)
    )
}

fn last_words(heard: &Heard) -> String {
    let Heard { steps, doing, .. } = heard;
    format!("; its last words were of {doing} (step {steps})")
}

/// Names the ranks that took the fewest steps, if others took more.
fn behind(seen: &[Seen]) -> String {
    let heard = || {
        seen.iter()
            .filter_map(|seen| Some((seen, seen.heard.as_ref()?)))
    };
    let fewest = heard().map(|(_, heard)| heard.steps).min().unwrap_or(0);
    let most = heard().map(|(_, heard)| heard.steps).max().unwrap_or(0);
    let slow = heard().filter(|(_, heard)| heard.steps == fewest);
    let doing = slow.clone().next().map(|(_, heard)| heard.doing.clone());
    let doing = doing.unwrap_or_default();
    if fewest == most {
        return format!("all that answer are in {doing} (step {fewest})");
    }
    let places: Vec<&str> = slow.map(|(seen, _)| seen.place.as_str()).collect();
    format!(
        "{} stayed behind in {doing} (step {fewest}), where others wait (step {most})",
        places.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(4);
    const ANSWERS: Duration = Duration::from_secs(3);

    fn seen(rank: usize, heard: Option<(u64, u64)>) -> Seen {
        Seen {
            rank,
            place: format!("rank {rank} on n{rank} (pid 9{rank})"),
            heard: heard.map(|(steps, silent_s)| Heard {
                steps,
                doing: "latency, 8 bytes".to_owned(),
                silent: Duration::from_secs(silent_s),
            }),
        }
    }

    #[test]
    fn a_rank_that_does_not_answer_is_blamed_before_one_that_is_behind() {
        let world = [
            seen(0, Some((5, 0))),
            seen(1, Some((4, 1))),
            seen(2, Some((5, 5))),
        ];
        let blame = hang(&world, DEADLINE, ANSWERS);
        assert_eq!(blame.silent, [2]);
        assert!(blame.text.starts_with("rank 2 on n2 (pid 92) has not"));
        assert!(blame.text.contains("latency, 8 bytes (step 5)"));
    }

    #[test]
    fn of_those_that_answer_the_one_behind_is_blamed() {
        let world = [
            seen(0, Some((5, 0))),
            seen(1, Some((4, 1))),
            seen(2, Some((5, 1))),
        ];
        let blame = hang(&world, DEADLINE, ANSWERS);
        assert!(blame.silent.is_empty());
        let text = "no rank made progress for 4 s: rank 1 on n1 (pid 91) stayed behind in \
            latency, 8 bytes (step 4), where others wait (step 5)";
        assert!(blame.text.starts_with(text), "{}", blame.text);
        assert!(blame.text.ends_with("raise --deadline"));
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        let world = [seen(0, Some((5, 0))), seen(1, None), seen(2, Some((5, 1)))];
        let text = hang(&world, DEADLINE, ANSWERS).text;
        assert!(text.contains("all that answer are in latency, 8 bytes (step 5)"));
        assert!(text.contains("of rank 1 nothing is known"), "{text}");
        assert!(died(&world[2]).starts_with("rank 2 on n2 (pid 92) died; its last words"));
    }
}
