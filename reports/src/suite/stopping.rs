//! When a row has been measured often enough.
//!
//! A row stops when its interval is narrow, and never because it shows a difference: looking again
//! and again until something is significant would find differences where there are none. Width
//! alone is nearly independent of where the interval lies; what remains of the dependence is
//! simulated in `stats/simulation_tests.rs`, and kept small by looking only between two pairs of
//! rounds and not before there are [`FIRST_LOOK`] of them.

use super::{Plan, Scheduled, Suite};
use crate::compare::{Effect, Scale};
use crate::model::Report;
use crate::ratios::Arms;
use crate::stats;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The fewest rounds after which a row may stop for the width of its interval. Few runs that happen
/// to lie close together give an interval that is narrow by chance.
const FIRST_LOOK: u32 = 10;

/// A row that needs no further rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The row.
    pub row: String,
    /// How many rounds it ran.
    pub rounds: u32,
    /// Why that is enough.
    pub reason: &'static str,
}

/// Whether an interval is narrower than `width`, as a share of the value in it.
#[must_use]
pub fn is_narrow(low: f64, value: f64, high: f64, width: f64) -> bool {
    high - low <= width * value.abs()
}

/// A width as command lines give it: `2%` as a share.
///
/// # Errors
/// What it should look like.
pub fn width(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix('%');
    let percent: Option<f64> = percent.and_then(|text| text.trim().parse().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent < 100.0 => Ok(percent / 100.0),
        _ => Err("give a percentage between 0% and 100%, such as 2%".to_owned()),
    }
}

/// Decides which rows need no further rounds. A row is dropped between two pairs of rounds only,
/// so that every drawn order is followed by its reverse.
pub(super) struct Stopping<'a> {
    plan: &'a Plan,
    width: Option<f64>,
    budget: Option<Duration>,
    started: Instant,
    /// The numbers of each row's arms.
    rows: BTreeMap<&'a str, Arms>,
    stopped: BTreeMap<&'a str, Stopped>,
}

impl<'a> Stopping<'a> {
    pub(super) fn new(suite: &'a Suite, plan: &'a Plan) -> Self {
        let arms = |row: &'a super::Row| (row.name.as_str(), Arms::of_row(row, plan));
        Self {
            plan,
            width: suite.stop_width,
            budget: suite.budget_s.map(Duration::from_secs_f64),
            started: Instant::now(),
            rows: suite.rows.iter().map(arms).collect(),
            stopped: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, run: Scheduled, report: &Report) {
        let unit = &self.plan.units[run.unit];
        if let Some(arms) = self
            .rows
            .get_mut(unit.row.as_str())
            .filter(|_| self.width.is_some())
        {
            arms.add(run.unit, run.repetition, report);
        }
    }

    /// Why the run is not needed, if it is not.
    pub(super) fn not_needed(&mut self, run: Scheduled) -> Option<&Stopped> {
        let row = self.plan.units[run.unit].row.as_str();
        let between_pairs = !run.repetition.is_multiple_of(2);
        if !self.stopped.contains_key(row) && between_pairs {
            let reason = if self
                .budget
                .is_some_and(|budget| self.started.elapsed() > budget)
            {
                Some("the time budget is spent")
            } else if run.repetition > FIRST_LOOK && self.is_narrow(row) {
                Some("its interval is narrow enough")
            } else {
                None
            };
            if let Some(reason) = reason {
                let stopped = Stopped {
                    row: row.to_owned(),
                    rounds: run.repetition - 1,
                    reason,
                };
                self.stopped.insert(row, stopped);
            }
        }
        let stopped = self.stopped.get(row)?;
        (run.repetition > stopped.rounds).then_some(stopped)
    }

    fn is_narrow(&self, row: &str) -> bool {
        let (Some(width), Some(arms)) = (self.width, self.rows.get(row)) else {
            return false;
        };
        if arms.single() {
            let points = arms.values_of_single();
            let narrow = |values: &Vec<f64>| {
                let interval = stats::median_interval(values).zip(stats::median(values));
                interval.is_some_and(|(i, median)| is_narrow(i.low, median, i.high, width))
            };
            return !points.is_empty() && points.iter().all(narrow);
        }
        let narrow = |effect: Effect| {
            effect.scale == Scale::Ratio && is_narrow(effect.low, effect.value, effect.high, width)
        };
        let effects = arms.effects();
        // What has no ratio, such as an arm that is not installed, cannot become narrower.
        let mut known = effects.iter().flatten().peekable();
        known.peek().is_some() && known.all(|effect| narrow(*effect))
    }

    pub(super) fn into_stopped(self) -> Vec<Stopped> {
        self.stopped.into_values().collect()
    }
}
