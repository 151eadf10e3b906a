//! What a run has come to so far, so that its end can be told by whoever is able to.
//!
//! Rank 0's main thread enters each case when it is done and writes the report at the end. If it
//! cannot come to that end, because it waits in MPI for a rank that is gone, the watchdog breaks the
//! run off and writes what there is. The frame of the report can be taken once only, so one of the
//! two writes it and never both.

use reports::host::Host;
use reports::model::{self, Benchmark, Case, Measurement, Outcome, Report, Severity, Validity};
use reports::program::{self, EXIT_FAILED, OutputArgs, Session};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The cases of a run that are done and those that are to come.
pub struct Ledger(Mutex<Pages>);

#[derive(Clone)]
struct Pages {
    program: &'static str,
    frame: Option<Frame>,
    done: Vec<Case>,
    /// The first is being measured.
    pending: VecDeque<Benchmark>,
    /// What the first of them has come to so far.
    draft: Option<Draft>,
    /// What holds for every case.
    flags: Validity,
    /// A report that was written lest there be none, under a name of its own.
    provisional: Option<PathBuf>,
    /// The main thread has put the report where the user asked.
    written: bool,
}

/// Adds to a case what the hosts of the run say about it.
pub type Describe = Arc<dyn Fn(&mut Case, &[Host]) + Send + Sync>;

/// Makes what a case has come to so far into a measurement, when that is needed.
pub type Draft = Arc<dyn Fn() -> Measurement + Send + Sync>;

/// What a report needs beyond its cases.
#[derive(Clone)]
struct Frame {
    session: Session,
    hosts: Vec<Host>,
    describe: Describe,
    output: OutputArgs,
}

/// A report and where it goes.
#[derive(Debug)]
pub struct Conclusion {
    program: &'static str,
    report: Report,
    output: OutputArgs,
    /// What it replaces.
    provisional: Option<PathBuf>,
}

impl Ledger {
    /// Opens the ledger of a run that is to measure these, in this order.
    #[must_use]
    pub fn open(
        program: &'static str,
        session: Session,
        hosts: Vec<Host>,
        describe: Describe,
        output: OutputArgs,
        benchmarks: impl IntoIterator<Item = Benchmark>,
    ) -> Self {
        Self(Mutex::new(Pages {
            program,
            frame: Some(Frame {
                session,
                hosts,
                describe,
                output,
            }),
            done: Vec::new(),
            pending: benchmarks.into_iter().collect(),
            draft: None,
            flags: Validity::default(),
            provisional: None,
            written: false,
        }))
    }

    /// Enters what came of the next of the benchmarks.
    pub fn enter(&self, outcome: Outcome) {
        let mut pages = self.pages();
        pages.draft = None;
        if let Some(benchmark) = pages.pending.pop_front() {
            let mut case = Case { benchmark, outcome };
            if let Some(frame) = &pages.frame {
                (frame.describe)(&mut case, &frame.hosts);
            }
            pages.done.push(case);
        }
    }

    /// Notes what the case at hand has come to: if the run is broken off it is not lost, but invalid.
    pub fn draft(&self, draft: Draft) {
        self.pages().draft = Some(draft);
    }

    /// Notes what is to be known of every case that is measured.
    pub fn flag(&self, severity: Severity, code: &str, evidence: impl Into<String>) {
        self.pages().flags.flag(severity, code, evidence);
    }

    /// Closes the ledger of a run that came to its end, writes and prints its report, and gives the
    /// exit code that it deserves. Does not return if the run was broken off: who did that writes
    /// the report and ends the process.
    #[must_use]
    pub fn conclude(&self) -> u8 {
        let Some(conclusion) = self.close() else {
            loop {
                thread::park();
            }
        };
        let code = conclusion.emit();
        self.pages().written = true;
        code
    }

    /// Whether [`Self::conclude`] is done, so that nothing is lost if the process ends.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.pages().written
    }

    /// Closes the ledger of a run that came to its end. `None` if it was closed before.
    #[must_use]
    fn close(&self) -> Option<Conclusion> {
        self.pages().close()
    }

    /// Closes the ledger of a run that cannot come to its end, for this reason: the case at hand
    /// failed, unless there is a draft of it, those to come are skipped, and those before are marked. `None` if it was closed
    /// before.
    #[must_use]
    pub fn break_off(&self, why: &str) -> Option<Conclusion> {
        self.pages().break_off(why)
    }

    /// Writes what the report would be if the run were broken off now, where the user asked for a
    /// file. The run goes on, and its report takes the place of this one.
    pub fn save(&self, why: &str) {
        let mut pages = self.pages();
        let Some(conclusion) = pages.clone().break_off(why) else {
            return;
        };
        let Some(mut path) = conclusion.output.output else {
            return;
        };
        if path.is_dir() {
            let id = std::process::id();
            path.push(format!("{}-provisional-{id}.json", pages.program));
            pages.provisional = Some(path.clone());
        }
        if let Err(error) = model::write(&path, &model::to_json(&conclusion.report)) {
            eprintln!("{}: cannot save the report: {error}", pages.program);
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // A panic elsewhere ends the job; what stands in the ledger is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn close(&mut self) -> Option<Conclusion> {
        let frame = self.frame.take()?;
        let cases = self.take_done();
        Some(frame.around(self.program, cases, self.provisional.take()))
    }

    fn break_off(&mut self, why: &str) -> Option<Conclusion> {
        let frame = self.frame.take()?;
        let evidence = format!("the job was ended after this case: {why}");
        self.flags
            .flag(Severity::Degraded, "job_ended_early", evidence);
        let mut cases = self.take_done();
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        if let Some(benchmark) = pending.next() {
            let outcome = unfinished(self.draft.take(), why);
            let mut case = Case { benchmark, outcome };
            (frame.describe)(&mut case, &frame.hosts);
            cases.push(case);
        }
        cases.extend(pending.map(|benchmark| Case {
            benchmark,
            outcome: Outcome::Skipped {
                reason: "the job was ended before this case began".to_owned(),
            },
        }));
        Some(frame.around(self.program, cases, self.provisional.take()))
    }

    /// The cases that are done, with what holds for all of them.
    fn take_done(&mut self) -> Vec<Case> {
        let mut cases = std::mem::take(&mut self.done);
        for case in &mut cases {
            if let Outcome::Measured(measurement) = &mut case.outcome {
                for flag in &self.flags.flags {
                    let evidence = flag.evidence.as_str();
                    let validity = &mut measurement.validity;
                    validity.flag(flag.severity, &flag.code, evidence);
                }
            }
        }
        cases
    }
}

/// What came of a case that did not come to its end.
fn unfinished(draft: Option<Draft>, why: &str) -> Outcome {
    let Some(draft) = draft else {
        return Outcome::Failed {
            error: why.to_owned(),
        };
    };
    let mut measurement = draft();
    let evidence = format!("the job was ended in the middle of this case: {why}");
    let validity = &mut measurement.validity;
    validity.flag(Severity::Invalid, "job_ended_early", evidence);
    Outcome::Measured(Box::new(measurement))
}

impl Frame {
    fn around(
        self,
        program: &'static str,
        cases: Vec<Case>,
        provisional: Option<PathBuf>,
    ) -> Conclusion {
        Conclusion {
            program,
            provisional,
            report: self.session.finish_with_hosts(self.hosts, cases),
            output: self.output,
        }
    }
}

impl Conclusion {
    /// Writes and prints the report, and returns the exit code that it deserves. An error is told
    /// here: whoever waits for the code does not wait for words.
    #[must_use]
    pub fn emit(self) -> u8 {
        match program::emit(&self.report, &self.output) {
            Ok(_) => {
                // A file that is gone already is none that misleads.
                let _ = self.provisional.map(std::fs::remove_file);
                program::exit_code(&self.report.cases)
            }
            Err(error) => {
                eprintln!("{}: {error:#}", self.program);
                EXIT_FAILED
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reports::model::Fact;
    use serde_json::Map;

    fn ledger(names: &[&str]) -> Ledger {
        let session = Session::stand_in("test", reports::program::now());
        let hosts = vec![Host::unknown("n", "a test")];
        let benchmarks = names
            .iter()
            .map(|name| Benchmark::new(*name, "", Map::new()));
        Ledger::open(
            "test",
            session,
            hosts,
            Arc::new(|_, _| {}),
            OutputArgs::default(),
            benchmarks,
        )
    }

    fn measured() -> Outcome {
        Outcome::Measured(Box::new(reports::model::Measurement {
            elapsed_s: 1.0.into(),
            work: Fact::unavailable("none"),
            verified: "1 thing".to_owned(),
            metrics: Vec::new(),
            histograms: Vec::new(),
            intervals: Vec::new(),
            matrices: Vec::new(),
            counters: Vec::new(),
            facts: Map::new(),
            validity: Validity::default(),
        }))
    }

    #[test]
    fn a_run_that_is_broken_off_says_what_became_of_every_case() {
        let ledger = ledger(&["a", "b", "c"]);
        ledger.enter(measured());
        let report = ledger.break_off("rank 1 died").expect("it is open").report;
        let outcome = |index: usize| &report.cases[index].outcome;
        let flags = &outcome(0)
            .measurement()
            .expect("it was done")
            .validity
            .flags;
        assert!(flags.iter().any(|flag| flag.code == "job_ended_early"));
        assert!(matches!(outcome(1), Outcome::Failed { error } if error == "rank 1 died"));
        assert!(matches!(outcome(2), Outcome::Skipped { .. }));
        assert!(ledger.close().is_none(), "the report is written once");
    }

    #[test]
    fn what_a_case_had_come_to_is_not_lost_and_not_valid() {
        let ledger = ledger(&["a", "b"]);
        let Outcome::Measured(so_far) = measured() else {
            panic!("it is measured");
        };
        ledger.draft(Arc::new(move || (*so_far).clone()));
        let report = ledger.break_off("rank 1 died").expect("it is open").report;
        let of_a = report.cases[0].outcome.measurement().expect("so far");
        assert!(of_a.validity.is_invalid());
        assert!(of_a.validity.flags[0].evidence.contains("rank 1 died"));
        assert!(matches!(report.cases[1].outcome, Outcome::Skipped { .. }));
    }

    #[test]
    fn a_draft_is_of_one_case_only() {
        let ledger = ledger(&["a", "b"]);
        ledger.draft(Arc::new(|| -> Measurement {
            panic!("its case came to its end")
        }));
        ledger.enter(measured());
        let report = ledger.break_off("rank 1 died").expect("it is open").report;
        assert!(matches!(report.cases[1].outcome, Outcome::Failed { .. }));
    }

    #[test]
    fn a_run_that_came_to_its_end_cannot_be_broken_off() {
        let ledger = ledger(&["a"]);
        ledger.enter(measured());
        ledger.flag(Severity::Invalid, "fingerprint_missing", "of node n");
        let report = ledger.close().expect("it is open").report;
        assert_eq!(report.cases.len(), 1);
        let measurement = report.cases[0].outcome.measurement().expect("it was done");
        assert!(measurement.validity.is_invalid(), "flags are for all cases");
        assert!(ledger.break_off("too late").is_none());
    }

    #[test]
    fn what_is_saved_meanwhile_gives_way_to_the_report() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = ledger(&["a", "b"]);
        let files = || {
            let entries = std::fs::read_dir(folder.path()).expect("it is there");
            entries.count()
        };
        ledger.save("nobody asked for a file");
        if let Some(frame) = &mut ledger.pages().frame {
            frame.output.output = Some(folder.path().to_owned());
            frame.output.json = true;
        }
        ledger.save("a signal");
        assert_eq!(files(), 1);
        ledger.enter(measured());
        ledger.enter(measured());
        let conclusion = ledger.close().expect("what was saved does not close it");
        assert_eq!(conclusion.report.cases.len(), 2);
        let _ = conclusion.emit();
        assert_eq!(files(), 1, "one report, not two");
    }
}
