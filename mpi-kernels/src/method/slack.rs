//! How far ahead rank 0 names the beginning of a Round-Time round: long enough that no rank hears
//! of it too late, and not much longer.

use std::time::Duration;

/// The first slack is so many times the measured time of a broadcast.
const MULTIPLIER: u32 = 2;

/// So many rounds are judged together.
const JUDGED_ROUNDS: u64 = 20;

/// More late rounds among those than this share make the slack grow.
const TOLERATED_SHARE: f64 = 0.1;

/// The slack never is shorter: reading a clock and leaving a broadcast take some time.
const LEAST: Duration = Duration::from_micros(1);

/// Nor longer: that is a few of the time slices in which ranks take turns on one CPU, and waiting
/// busily for more only makes them turn more often.
const MOST: Duration = Duration::from_millis(10);

/// A longer slack must make fewer rounds late than this share of those that were late before.
/// Otherwise it is not the slack that is to blame: ranks lose their CPU, and the longer they wait,
/// the more often.
const IMPROVEMENT: f64 = 0.75;

/// Where more rounds than this share are late, the slack is far too short, and doubling it once may
/// not show yet.
const NEARLY_ALL: f64 = 0.9;

/// The slack and the rounds that it is judged by. All ranks feed it the same numbers, so all have
/// the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slack {
    length: Duration,
    rounds: u64,
    late: u64,
    /// The share of late rounds before the slack was doubled last.
    before: Option<f64>,
    /// Whether it may become longer.
    grows: bool,
    settled: bool,
}

impl Slack {
    /// The slack to begin with, for broadcasts that take so long.
    #[must_use]
    pub fn after_broadcasts_of(length: Duration) -> Self {
        Self {
            length: (length * MULTIPLIER).clamp(LEAST, MOST),
            rounds: 0,
            late: 0,
            before: None,
            grows: true,
            settled: false,
        }
    }

    /// How far ahead the next rounds' beginning is named.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Judges rounds, of which some were late. When more than a tenth of at least 20 were, the slack
    /// doubles; if that made too little of a difference, it is halved again and stays so.
    pub fn judge(&mut self, rounds: u64, late: u64) {
        self.rounds += rounds;
        self.late += late;
        if self.rounds < JUDGED_ROUNDS {
            return;
        }
        let share = self.late as f64 / self.rounds as f64;
        (self.rounds, self.late) = (0, 0);
        if share <= TOLERATED_SHARE {
            self.before = None;
            self.settled = true;
            return;
        }
        let helped = self
            .before
            .is_none_or(|before| share > NEARLY_ALL || share < IMPROVEMENT * before);
        if !helped {
            self.length /= 2;
            self.grows = false;
        } else if self.grows {
            self.before = Some(share);
            self.length = (self.length * 2).min(MOST);
            self.grows = self.length < MOST;
        }
        self.settled = !self.grows;
    }

    /// Whether it was found to be enough, or longer ones not to be better.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slack_doubles_while_that_helps() {
        let micros = Duration::from_micros;
        let mut slack = Slack::after_broadcasts_of(micros(5));
        assert_eq!(slack.length(), micros(10));
        slack.judge(10, 10);
        assert_eq!(slack.length(), micros(10), "ten rounds are too few");
        slack.judge(10, 10);
        assert_eq!(slack.length(), micros(20), "twenty of twenty");
        slack.judge(20, 10);
        assert_eq!(slack.length(), micros(40), "half as many, and too many");
        assert!(!slack.is_settled());
        slack.judge(20, 2);
        assert!(slack.is_settled(), "a tenth is tolerated");
        assert_eq!(slack.length(), micros(40));
        slack.judge(20, 10);
        assert_eq!(slack.length(), micros(80), "times have changed");
    }

    #[test]
    fn a_longer_slack_that_does_not_help_is_taken_back() {
        let mut slack = Slack::after_broadcasts_of(Duration::from_micros(5));
        slack.judge(20, 10);
        slack.judge(20, 9);
        assert_eq!(slack.length(), Duration::from_micros(10));
        assert!(slack.is_settled());
        slack.judge(20, 20);
        assert_eq!(slack.length(), Duration::from_micros(10), "it stays so");
    }

    #[test]
    fn a_slack_that_is_far_too_short_grows_on() {
        let mut slack = Slack::after_broadcasts_of(Duration::ZERO);
        (0..10).for_each(|_| slack.judge(20, 20));
        assert_eq!(slack.length(), LEAST * 1024);
        assert!(!slack.is_settled());
        (0..10).for_each(|_| slack.judge(20, 20));
        assert_eq!(slack.length(), MOST);
        assert!(slack.is_settled());
    }

    #[test]
    fn the_slack_has_bounds() {
        assert_eq!(Slack::after_broadcasts_of(Duration::ZERO).length(), LEAST);
        let mut slack = Slack::after_broadcasts_of(Duration::from_secs(9));
        slack.judge(20, 20);
        assert_eq!(slack.length(), MOST);
        assert!(slack.is_settled());
    }
}
