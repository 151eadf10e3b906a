//! A session from its first run to what is said of it: what `reports run` and `--sweep` have in
//! common. Here a session meets its reader; [`suite`] itself prints nothing.

use crate::model::{self, Report};
use crate::program;
use crate::ratios::{self, RowRatios};
use crate::render;
use crate::render::html::Page;
use crate::render::progress::SuiteProgress;
use crate::render::table::{self, Depth};
use crate::render::terminal::Style;
use crate::suite::{self, Plan, Ran, Session, Suite, Verdict};
use crate::summary;
use anyhow::Context;
use serde::Serialize;
use std::process::ExitCode;

/// A session about to run.
pub struct Performance<'a> {
    /// The program that speaks on standard error.
    pub program: &'a str,
    /// What runs.
    pub suite: &'a Suite,
    /// In which order.
    pub plan: &'a Plan,
    /// Where it is kept.
    pub session: &'a Session,
    /// The command that goes on after an interruption.
    pub go_on: &'a str,
    /// Whether the result is printed as JSON.
    pub json: bool,
}

/// What came of a session, for programs.
#[derive(Serialize)]
struct Document<'a> {
    session: &'a str,
    folder: &'a std::path::Path,
    seed: u64,
    /// As `reports compare DIR --json` prints them.
    ratios: &'a [RowRatios],
    /// Of every run, in the order in which they ran.
    reports: &'a [Report],
}

impl Performance<'_> {
    /// Runs what is not finished yet, writes the page and prints what came of it. The exit code is
    /// the worst of the runs', but a skip with its reason is none of them: a suite may well hold
    /// cases for hardware that is not here.
    ///
    /// # Errors
    /// What cannot be read or written, and that a signal ended the session.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let folder = self.session.dir().display();
        eprintln!(
            "{}: {} runs in {folder}, their order drawn with seed {}",
            self.program,
            self.plan.order.len(),
            self.session.seed()
        );
        let mut progress = SuiteProgress::new(self.plan.order.len());
        let ran = suite::run(self.suite, self.plan, self.session, &mut progress);
        progress.finish();
        let ran = ran?;
        if let Verdict::Interrupted { finished, planned } = ran.verdict {
            anyhow::bail!(
                "interrupted: {finished} of {planned} runs are kept in {folder}; go on with: {}",
                self.go_on
            );
        }
        self.conclude(&ran)?;
        Ok(exit_code(&ran.reports))
    }

    fn conclude(&self, ran: &Ran) -> anyhow::Result<()> {
        let ratios = ratios::of(self.suite, self.plan, &ran.reports);
        let page = self.session.dir().join("report.html");
        let shown = Page::of_runs(&self.suite.name, &ran.reports).with_ratios(&ratios);
        model::write(&page, &shown.render()).context("cannot write the page")?;
        if !self.json {
            return program::print(&self.text(ran, &ratios));
        }
        let document = Document {
            session: self.session.id(),
            folder: self.session.dir(),
            seed: self.session.seed(),
            ratios: &ratios,
            reports: &ran.reports,
        };
        let json = serde_json::to_string_pretty(&document);
        program::print(&(json.context("cannot serialise the session")? + "\n"))
    }

    fn text(&self, ran: &Ran, ratios: &[RowRatios]) -> String {
        let style = Style::of_stdout();
        let cases = summary::summarise(&ran.reports);
        let mut text = table::summary(&cases, Depth::Headlines, &style);
        if !ratios.is_empty() {
            text.push('\n');
            text.push_str(&render::ratios::ratios(ratios, &style));
        }
        text.push('\n');
        for stopped in &ran.stopped {
            let (row, rounds, reason) = (&stopped.row, stopped.rounds, stopped.reason);
            text.push_str(&format!("{row}: done after {rounds} rounds: {reason}\n"));
        }
        text.push_str(&format!(
            "{}\norder of the runs: seed {}\nreport: {}\n",
            summary::tally(&cases),
            self.session.seed(),
            self.session.dir().join("report.html").display()
        ));
        text
    }
}

fn exit_code(reports: &[Report]) -> ExitCode {
    let all = reports.iter().flat_map(|report| &report.cases);
    match program::exit_code(all) {
        program::EXIT_UNAVAILABLE => ExitCode::SUCCESS,
        code => ExitCode::from(code),
    }
}
