//! What the tests of the program share: running it, and looking at what it left behind.
#![allow(dead_code, missing_docs)]

use reports::model::{self, Flag, Measurement, Outcome, Report};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Output, Stdio};

pub fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_storage-bench"));
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs the program in a folder and returns exit code, standard output and standard error.
pub fn run_in(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let output = program(words).current_dir(dir).output();
    told(output.expect("the program starts"))
}

pub fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().expect("it ended by itself"),
        String::from_utf8(output.stdout).expect("text"),
        String::from_utf8(output.stderr).expect("text"),
    )
}

pub fn report(text: &str) -> Report {
    model::parse(text, Path::new("standard output")).expect("a well-formed report")
}

pub fn measured(report: &Report) -> &Measurement {
    match &report.cases[0].outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("it should have been measured: {other:?}"),
    }
}

/// The flag of this code.
pub fn flag<'a>(measurement: &'a Measurement, code: &str) -> Option<&'a Flag> {
    let flags = &measurement.validity.flags;
    flags.iter().find(|flag| flag.code == code)
}

pub fn failure(report: &Report) -> &str {
    match &report.cases[0].outcome {
        Outcome::Failed { error } => error,
        other => panic!("it should have failed: {other:?}"),
    }
}

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

pub fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir)
        .expect("the folder is there")
        .next()
        .is_none()
}

/// Runs a check of rates whose truth the kernel's throttle sets, again if it fails: work of others on
/// this machine spoils a run now and then, and a fault of ours all of them.
pub fn unspoilt(check: impl Fn()) {
    for attempt in 1..4 {
        // What a check has made, it has removed again when this returns.
        match catch_unwind(AssertUnwindSafe(&check)) {
            Ok(()) => return,
            Err(_) => println!("attempt {attempt} failed, as said above"),
        }
    }
    check();
}

/// Whether this machine gives io_uring and direct I/O to a scratch file in `dir`; if not, says so.
pub fn can_default(dir: &Path) -> bool {
    let (code, text, _) = run_in(
        dir,
        &["file", "--size", "4k", "--number-ios", "1", "--json"],
    );
    if code != 3 {
        return true;
    }
    println!("SKIPPED: {:?}", report(&text).cases[0].outcome);
    false
}

/// A compressed RAM disk of its own number, taken away when dropped.
pub struct Zram(pub String);

impl Zram {
    /// None where there can be none.
    pub fn new(size: &str) -> Option<Self> {
        let number = std::fs::read_to_string("/sys/class/zram-control/hot_add").ok()?;
        let disk = Self(number.trim().to_owned());
        disk.resize(size).ok()?;
        Some(disk)
    }

    pub fn path(&self) -> String {
        format!("/dev/zram{}", self.0)
    }

    /// Another disk of this name, in effect.
    pub fn resize(&self, size: &str) -> std::io::Result<()> {
        let folder = format!("/sys/block/zram{}", self.0);
        std::fs::write(format!("{folder}/reset"), "1")?;
        std::fs::write(format!("{folder}/disksize"), size)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        // The device is held for a moment by a ring that is being torn down.
        for _ in 0..100 {
            let reset = std::fs::write(format!("/sys/block/zram{}/reset", self.0), "1");
            let gone = std::fs::write("/sys/class/zram-control/hot_remove", &self.0);
            if reset.is_ok() && gone.is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
