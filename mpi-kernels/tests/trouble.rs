//! Bad input, full disks, dying ranks and interruptions: one clear message, the documented exit
//! code, no hang, nothing left behind.

mod common;

use common::{PROGRAM, mpirun, output, report, run, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{self, Outcome};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn wrong_usage_is_said_once_and_exits_with_2() {
    for (args, expected) in [
        ("latency -m 5:1", "larger than the largest"),
        ("latency -m garbage", "is no size"),
        ("latency -m 3G", "too large"),
        ("latency -i 0", "at least 1 iteration"),
        ("latency -i -5", "is no number"),
        ("latency -x many", "is no number"),
        ("bw -W 0", "is no window"),
        ("bw -m 0:8", "at least 1 bytes"),
        ("allreduce -m 6:64", "not a multiple of 4"),
        ("barrier -W 4", "unexpected argument"),
        ("barrier -m 8", "unexpected argument"),
        ("broadcast", "unrecognized subcommand"),
        ("latency surplus", "unexpected argument"),
    ] {
        let output = Command::new(PROGRAM)
            .args(args.split(' '))
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(
            stderr(&output).contains(expected),
            "{args}: {}",
            stderr(&output)
        );
        assert!(stdout(&output).is_empty(), "{args}");
    }
    for (args, expected) in [
        (["latency", "-m", "5:1"], "larger than the largest"),
        (["allreduce", "-m", "6:64"], "not a multiple of 4"),
    ] {
        let output = run(3, &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(
            stderr(&output).matches(expected).count(),
            1,
            "one rank speaks"
        );
    }
}

#[test]
fn help_version_and_list_are_printed_once() {
    for (args, expected) in [
        (&["--version"][..], "mpi-kernels 0."),
        (&["--help"], "Usage:"),
        (&["latency", "--help"], "Definition:"),
        (&["list"], "allreduce"),
    ] {
        let output = run(3, args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(stdout(&output).matches(expected).count(), 1, "{args:?}");
    }
}

#[test]
fn a_full_disk_is_told_by_rank_zero_and_fails() {
    let args = ["latency", "-m", "8:8", "-i", "5", "-o", "/dev/full"];
    let output = run(2, &args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output).matches("No space left on device").count(),
        1
    );
    let device = fs::metadata("/dev/full").expect("it is still there");
    assert!(device.file_type().is_char_device());
}

#[test]
fn a_report_goes_into_a_folder_and_standard_output_stays_human() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("a plain path");
    let output = run(2, &["barrier", "-i", "5", "-o", path]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("collective_ns"));
    assert!(
        !stdout(&output).contains('\u{1b}'),
        "no colours into a pipe"
    );
    let files: Vec<_> = fs::read_dir(folder.path())
        .expect("it can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(files.len(), 1, "one report, and no other file: {files:?}");
    model::load(&files[0]).expect("it is a report");
}

/// Rank 1 cannot have its buffers: the case fails on all ranks, with that rank's words.
#[test]
fn what_one_rank_cannot_do_fails_the_case_for_all() {
    // The limit leaves room for MPI itself, and none for two buffers of 64 MiB.
    let script = r#"test "$OMPI_COMM_WORLD_RANK" = 1 && ulimit -v 300000; exec "$0" "$@""#;
    let args = ["latency", "-m", "64M:64M", "-i", "1", "-x", "0", "--json"];
    let output = output(mpirun(2).args(["sh", "-c", script, PROGRAM]).args(args));
    let report = report(&output);
    match &report.cases[0].outcome {
        Outcome::Failed { error } => {
            assert!(error.starts_with("rank 1 on "), "{error}");
            assert!(error.contains("cannot allocate"), "{error}");
            assert_eq!(output.status.code(), Some(1));
        }
        // A machine with less memory than that refuses before it tries.
        Outcome::Skipped { reason } => {
            assert!(reason.contains("use a smaller -m"), "{reason}");
            assert_eq!(output.status.code(), Some(3));
        }
        Outcome::Measured(_) => panic!("the buffers do not fit"),
    }
}

/// A run that would take minutes, whose ranks write their process ids into `folder`.
fn long_run(folder: &Path) -> Child {
    let script = r#"echo $$ > "$PIDS/$OMPI_COMM_WORLD_RANK.part"; \
        mv "$PIDS/$OMPI_COMM_WORLD_RANK.part" "$PIDS/$OMPI_COMM_WORLD_RANK"; exec "$0" "$@""#;
    mpirun(2)
        .args(["--mca", "odls_base_sigkill_timeout", "20"])
        .args(["-x", "PIDS", "sh", "-c", script, PROGRAM])
        .args(["latency", "-m", "8:16", "-i", "100000000", "-o"])
        .arg(folder.join("report.json"))
        .env("PIDS", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun starts: install openmpi-bin (scripts/setup does)")
}

/// Polls until `found` says something.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(50);
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid_of_rank(folder: &Path, rank: usize) -> Pid {
    wait_for("the start of a rank", || {
        let text = fs::read_to_string(folder.join(rank.to_string())).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    })
}

/// Waits until a rank catches SIGTERM, which it does from just before the first iteration.
fn wait_until_measuring(pid: Pid) {
    const SIGTERM_BIT: u64 = 1 << (Signal::SIGTERM as u64 - 1);
    wait_for("the measurement", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        let mask = u64::from_str_radix(caught.trim(), 16).ok()?;
        (mask & SIGTERM_BIT != 0).then_some(())
    });
}

fn wait_until_gone(pid: Pid) {
    wait_for("the end of a rank", || {
        kill(pid, None).is_err().then_some(())
    });
}

#[test]
fn an_interrupted_run_leaves_an_invalid_report_and_no_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path());
    let ranks = [0, 1].map(|rank| pid_of_rank(folder.path(), rank));
    ranks.into_iter().for_each(wait_until_measuring);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("mpirun runs");
    let report = wait_for("the report", || {
        model::load(&folder.path().join("report.json")).ok()
    });
    let first = report.cases[0].outcome.measurement();
    let first = first.expect("at least one iteration was measured");
    assert!(first.validity.is_invalid());
    assert!(
        first
            .validity
            .flags
            .iter()
            .any(|flag| flag.code == "interrupted")
    );
    let Outcome::Skipped { reason } = &report.cases[1].outcome else {
        panic!("the second size was measured after the interruption");
    };
    assert!(reason.contains("interrupted"), "{reason}");
    // After its own SIGTERM mpirun answers its ranks no more, so they wait in MPI_Finalize until
    // it kills them; the test need not wait as long.
    for pid in ranks {
        let _ = kill(pid, Signal::SIGKILL);
        wait_until_gone(pid);
    }
    let output = child.wait_with_output().expect("mpirun ends");
    assert!(!output.status.success());
}

#[test]
fn a_rank_that_dies_ends_the_job() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path());
    let ranks = [0, 1].map(|rank| pid_of_rank(folder.path(), rank));
    ranks.into_iter().for_each(wait_until_measuring);
    kill(ranks[1], Signal::SIGKILL).expect("the rank runs");
    let output = child.wait_with_output().expect("mpirun ends");
    assert!(!output.status.success());
    ranks.into_iter().for_each(wait_until_gone);
}
