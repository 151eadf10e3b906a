//! Ranks that die, are stopped or stay behind: the job ends by itself, one message says who it was,
//! the report has what was measured, and no process is left.

mod common;
#[path = "common/long_run.rs"]
mod long_run;
#[path = "common/slow_reader.rs"]
mod slow_reader;

use common::stderr;
use long_run::{long_run, pids, start, wait_for, wait_until_gone};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{self, Outcome, Report};
use slow_reader::SlowReader;
use std::path::Path;
use std::process::{Child, Output};
use std::time::Duration;

/// The processes of the ranks, when rank 0 has heard of each what it does: they say it once in a
/// second.
fn known_pids(folder: &Path, ranks: usize) -> Vec<Pid> {
    let pids = long_run::pids(folder, ranks);
    std::thread::sleep(Duration::from_millis(1500));
    pids
}

/// The end of a run that was disturbed: it failed, and all its ranks are gone.
fn end(child: Child, ranks: &[Pid]) -> Output {
    let output = child.wait_with_output().expect("mpirun ends");
    assert!(!output.status.success());
    ranks.iter().copied().for_each(wait_until_gone);
    output
}

/// The report, whose first case failed with these words and whose second was not begun.
fn partial_report(folder: &Path, words: &[&str]) -> Report {
    let report = wait_for("the report", || {
        model::load(&folder.join("report.json")).ok()
    });
    let Outcome::Failed { error } = &report.cases[0].outcome else {
        panic!("the case at hand was measured: {:?}", report.cases[0]);
    };
    for word in words {
        assert!(error.contains(word), "{word:?} in {error}");
    }
    assert!(matches!(&report.cases[1].outcome, Outcome::Skipped { .. }));
    assert_eq!(report.hosts.len(), 1, "the fingerprint is there");
    report
}

fn said_once(output: &Output, words: &str) {
    let said = stderr(output);
    assert_eq!(said.matches(words).count(), 1, "{words:?} in {said}");
}

#[test]
fn a_rank_that_is_stopped_is_named_and_the_job_ends() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path(), 2, &["--deadline", "6"], 1);
    let ranks = known_pids(folder.path(), 2);
    kill(ranks[1], Signal::SIGSTOP).expect("the rank runs");
    let output = end(child, &ranks);
    let name = format!("(pid {})", ranks[1]);
    said_once(&output, &format!("{name} has not answered for"));
    partial_report(folder.path(), &["rank 1 on ", &name, "latency, 8 bytes"]);
}

#[test]
fn a_rank_that_dies_is_named_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path(), 3, &[], 1);
    let ranks = known_pids(folder.path(), 3);
    kill(ranks[2], Signal::SIGKILL).expect("the rank runs");
    let output = end(child, &ranks);
    said_once(&output, &format!("(pid {}) died", ranks[2]));
    partial_report(folder.path(), &["rank 2 on ", "died", "latency, 8 bytes"]);
}

/// Without rank 0 there is nobody to write a report, but somebody to say so.
#[test]
fn without_rank_zero_the_others_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path(), 2, &["--deadline", "6"], 1);
    let ranks = known_pids(folder.path(), 2);
    kill(ranks[0], Signal::SIGSTOP).expect("the rank runs");
    let output = end(child, &ranks);
    said_once(&output, "rank 0 on ");
    said_once(&output, "has not answered for");
    assert!(!folder.path().join("report.json").exists());
}

/// After a signal rank 0 does not wait for a rank that cannot agree to stop.
#[test]
fn an_interruption_does_not_wait_for_a_rank_that_hangs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path(), 2, &[], 1);
    let ranks = known_pids(folder.path(), 2);
    kill(ranks[1], Signal::SIGSTOP).expect("the rank runs");
    kill(ranks[0], Signal::SIGTERM).expect("the rank runs");
    let output = end(child, &ranks);
    said_once(&output, "a signal asked the job to end");
    partial_report(folder.path(), &["a signal", "latency, 8 bytes"]);
}

/// The last measurement is done: ranks meet in MPI_Finalize, and one does not come.
#[test]
fn a_rank_that_is_stopped_on_its_way_out_is_named_and_the_report_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut reader = SlowReader::new(&folder.path().join("report.json"));
    let words = ["barrier", "-i", "5", "--deadline", "6"];
    let child = start(folder.path(), 3, &words, 1);
    let ranks = pids(folder.path(), 3);
    reader.wait_for_begin();
    // The watchdogs know each other by now.
    std::thread::sleep(Duration::from_millis(500));
    kill(ranks[1], Signal::SIGSTOP).expect("the rank runs");
    let report = reader.report();
    let measured = report.cases[0].outcome.measurement().expect("it is done");
    let mut flags = measured.validity.flags.iter();
    assert!(!flags.any(|flag| flag.code == "job_ended_early"));
    let output = end(child, &ranks);
    said_once(&output, &format!("(pid {}) has not answered for", ranks[1]));
    said_once(&output, "the job ends, its report is written");
}
