//! A suite's progress: a bar on a terminal, a line per run elsewhere. All on standard error.

use super::text::visible;
use super::units::human_fact;
use crate::model::{Outcome, Report};
use crate::suite::{Progress, RunEvent, Unit};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};

/// Shows a suite's runs as they come and go.
pub struct SuiteProgress {
    bar: Option<ProgressBar>,
    planned: usize,
    done: usize,
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
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, unit: &Unit, what: &str) {
        let line = format!(
            "[{}/{}] {:<24} {what}",
            self.done,
            self.planned,
            unit.name()
        );
        match &self.bar {
            Some(bar) => bar.set_message(format!("{} {what}", unit.name())),
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
                self.line(unit, &result(report));
            }
            RunEvent::Found { unit } => {
                self.done += 1;
                self.line(unit, "finished earlier");
            }
            RunEvent::NotNeeded { unit, reason } => {
                self.done += 1;
                self.line(unit, &format!("not needed: {reason}"));
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
        }
    }
}

/// A report's first result in a few words.
fn result(report: &Report) -> String {
    let mut words = Vec::new();
    for case in &report.cases {
        match &case.outcome {
            Outcome::Failed { error } => return format!("FAILED: {}", visible(error)),
            Outcome::Skipped { reason } => return format!("skipped: {}", visible(reason)),
            Outcome::Measured(measurement) => {
                let metric = measurement.metrics.iter().find(|metric| metric.headline);
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
