//! However a run ends, no scratch file stays.

mod common;

use common::{folder, is_empty, program, report, told};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::Outcome;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

/// Starts a long run and returns when its window is open.
fn running(dir: &Path, extra: &[&str]) -> Child {
    let words = [
        "file",
        "--engine",
        "psync",
        "--direct",
        "false",
        "--size",
        "1m",
        "--runtime",
        "60",
        "--ramp-time",
        "0",
        "--interval",
        "0.05",
        "--json",
    ];
    let words: Vec<_> = words.into_iter().chain(extra.iter().copied()).collect();
    let mut child = program(&words)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    errors.read_line(&mut line).expect("a slice is shown");
    assert!(line.contains(" s "), "{line}");
    // Keep reading, so that the program never waits for us.
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    child
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, signal).expect("the process is there");
}

#[test]
fn a_signal_ends_the_run_with_an_invalid_report() {
    for (signal, rw) in [(Signal::SIGINT, "randread"), (Signal::SIGTERM, "randwrite")] {
        let dir = folder();
        let child = running(dir.path(), &["--rw", rw, "--filename", "scratch"]);
        send(&child, signal);
        let (code, text, _) = told(child.wait_with_output().expect("it ends"));
        assert_eq!(code, 4, "{signal}: {text}");
        let report = report(&text);
        let Outcome::Measured(measurement) = &report.cases[0].outcome else {
            panic!("{:?}", report.cases[0].outcome);
        };
        assert!(
            measurement
                .validity
                .flags
                .iter()
                .any(|flag| flag.code == "interrupted")
        );
        assert!(measurement.work.known().expect("known").ops > 0);
        assert!(is_empty(dir.path()), "{signal}");
    }
}

#[test]
fn a_killed_run_leaves_nothing() {
    for extra in [&["--dir", "."], &["--filename", "scratch"]] {
        let dir = folder();
        let mut child = running(dir.path(), extra);
        send(&child, Signal::SIGKILL);
        child.wait().expect("it ends");
        assert!(is_empty(dir.path()), "{extra:?}");
    }
}
