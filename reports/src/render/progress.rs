//! A suite's progress: a bar on a terminal, a line per run elsewhere. All on standard error.

use super::text::visible;
use super::units::human_fact;
use crate::model::{Outcome, Report};
use crate::suite::{Progress, RunEvent};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};

/// Shows a suite's runs as they come and go.
pub struct SuiteProgress {
    bar: Option<ProgressBar>,
    planned: usize,
    done: usize,
    /// Rows of which it was said that they are done.
    stopped: BTreeSet<String>,
}

impl SuiteProgress {
    /// For `planned` runs; a bar if standard error is a terminal.
    #[must_use]
    pub fn new(planned: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(planned as u64);
            // A constant template that indicatif's tests would accept.
            let style = ProgressStyle::with_template(
                "{spinner} {pos}/{len} {bar:24} {elapsed} (about {eta} left)  {msg}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            planned,
            done: 0,
            stopped: BTreeSet::new(),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, name: &str, what: &str) {
        let digits = self.planned.to_string().len();
        let line = format!(
            "[{:>digits$}/{}] {name:<24} {what}",
            self.done, self.planned
        );
        match &self.bar {
            Some(bar) => bar.set_message(format!("{name} {what}")),
            // Progress is a courtesy: a closed pipe must not end the session.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

impl Progress for SuiteProgress {
    fn event(&mut self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Started { unit, repetition } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{} (run {repetition})", unit.name()));
                }
            }
            RunEvent::Finished { unit, report } => {
                self.done += 1;
                self.line(&unit.name(), &result(report, unit.metric.as_deref()));
            }
            RunEvent::Found { unit } => {
                self.done += 1;
                self.line(&unit.name(), "finished earlier");
            }
            RunEvent::NotNeeded { stopped } => {
                self.done += 1;
                // Once per row, not once per run.
                if self.stopped.insert(stopped.row.clone()) {
                    let (rounds, reason) = (stopped.rounds, stopped.reason);
                    self.line(
                        &stopped.row,
                        &format!("done after {rounds} rounds: {reason}"),
                    );
                }
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
        }
    }
}

/// A report's result in a few words: the first and the last case's number of this metric, without
/// one that of the first headline.
fn result(report: &Report, metric: Option<&str>) -> String {
    let mut words = Vec::new();
    for case in &report.cases {
        match &case.outcome {
            Outcome::Failed { error } => return format!("FAILED: {}", visible(error)),
            Outcome::Skipped { reason } => return format!("skipped: {}", visible(reason)),
            Outcome::Measured(measurement) => {
                let mut metrics = measurement.metrics.iter();
                let metric = match metric {
                    Some(name) => metrics.find(|metric| metric.key() == name),
                    None => metrics.find(|metric| metric.headline),
                };
                words.extend(metric.map(|metric| human_fact(&metric.value, metric.unit)));
            }
        }
    }
    match words.as_slice() {
        [] => "measured".to_owned(),
        [only] => only.clone(),
        [first, .., last] => format!("{first} … {last}"),
    }
}
