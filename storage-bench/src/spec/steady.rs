//! Running until the rate is steady by SNIA's rule, instead of for a time.

use super::{MAX_SECONDS, usage};
use crate::analysis::steady::ROUNDS;
use clap::Args;
use serde::Serialize;

/// A round of SNIA's test specification in seconds, and the most rounds that it allows.
const ROUND_S: f64 = 60.0;
const MOST_ROUNDS: f64 = 25.0;

/// The options as users type them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Steady state")]
pub struct SteadyArgs {
    /// Run until the last five rounds are steady by SNIA's rule (20 % apart at most, slope 10 % at
    /// most); iops and bandwidth are then those of these rounds
    #[arg(long, conflicts_with_all = ["runtime", "number_ios"])]
    pub steady_state: bool,
    /// Length of a round in seconds [default: 60, as SNIA's]
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "steady_state",
        allow_negative_numbers = true
    )]
    pub steady_state_round: Option<f64>,
    /// Give up after so many seconds, and say so [default: 25 rounds]
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "steady_state",
        allow_negative_numbers = true
    )]
    pub steady_state_timeout: Option<f64>,
}

/// What they come to: parameters, left out of reports of runs that end otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SteadySpec {
    /// Length of a round in seconds.
    #[serde(rename = "steady_state_round_s")]
    pub round_s: f64,
    /// When to give up, in seconds.
    #[serde(rename = "steady_state_timeout_s")]
    pub timeout_s: f64,
}

impl SteadyArgs {
    /// Checks them against the length of a slice in seconds.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self, interval_s: f64) -> anyhow::Result<Option<SteadySpec>> {
        if !self.steady_state {
            return Ok(None);
        }
        let round_s = self.steady_state_round.unwrap_or(ROUND_S);
        if !(interval_s..=MAX_SECONDS).contains(&round_s) {
            return Err(usage(format!(
                "--steady-state-round {round_s}: it takes seconds, and a round holds at least one \
                 slice (--interval {interval_s})"
            )));
        }
        let timeout_s = self.steady_state_timeout.unwrap_or(MOST_ROUNDS * round_s);
        let least = ROUNDS as f64 * round_s;
        if !(least..=MAX_SECONDS).contains(&timeout_s) {
            return Err(usage(format!(
                "--steady-state-timeout {timeout_s}: the rule takes five rounds, {least} s at \
                 least; 30 days at most"
            )));
        }
        Ok(Some(SteadySpec { round_s, timeout_s }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(round: Option<f64>, timeout: Option<f64>) -> anyhow::Result<Option<SteadySpec>> {
        let args = SteadyArgs {
            steady_state: true,
            steady_state_round: round,
            steady_state_timeout: timeout,
        };
        args.spec(1.0)
    }

    #[test]
    fn rounds_hold_slices_and_the_timeout_holds_rounds() {
        let snia = spec(None, None).expect("the defaults").expect("asked for");
        assert_eq!((snia.round_s, snia.timeout_s), (60.0, 1500.0));
        for (round, timeout, part) in [
            (Some(0.5), None, "at least one slice"),
            (Some(f64::NAN), None, "at least one slice"),
            (Some(2.0), Some(9.0), "10 s at least"),
            (Some(-1.0), None, "--steady-state-round -1"),
        ] {
            let error = spec(round, timeout).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
