//! Bad input, full disks, dying ranks and interruptions: one clear message, the documented exit
//! code, no hang, nothing left behind.

mod common;
#[path = "common/long_run.rs"]
mod long_run;

use common::{PROGRAM, mpirun, output, report, run, stderr, stdout};
use long_run::{long_run, pids, wait_for, wait_until_gone};
use mpi_kernels::kernels;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{self, Outcome, Report};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Command;

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
        ("latensy", "'latency'"),
        ("allredcue", "'allreduce'"),
        (
            "latency --iteratons 5",
            "a similar argument exists: '--iterations'",
        ),
        ("latency --deadline 0", "is no time"),
        ("latency --deadline soon", "is no time"),
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
}

/// What every rank of three exits with, and what the run said. The ranks are wrapped, because a
/// launcher ends a job when the first of them fails.
fn codes_of_three(args: &[&str]) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = r#""$0" "$@"; echo $? > "$CODES/$OMPI_COMM_WORLD_RANK""#;
    let mut launcher = mpirun(3);
    let launcher = launcher.env("CODES", folder.path());
    let wrapped = launcher.args(["-x", "CODES", "sh", "-c", script, PROGRAM]);
    let output = output(wrapped.args(args));
    let code = |rank: usize| {
        let code = fs::read_to_string(folder.path().join(rank.to_string()));
        code.expect("the rank came to its end").trim().to_owned()
    };
    ((0..3).map(code).collect(), stderr(&output))
}

#[test]
fn wrong_usage_under_a_launcher_is_said_by_one_rank_and_exits_with_2_on_all() {
    let mut cases = vec![
        (vec!["latency", "-m", "5:1"], "larger than the largest"),
        (vec!["allreduce", "-m", "6:64"], "not a multiple of 4"),
        (vec!["latensy"], "'latency'"),
    ];
    // Found only when the world is known, after MPI_Init.
    for row in kernels::all() {
        if row.min_ranks > 3 {
            cases.push((vec![row.name], "needs at least"));
        } else if row.pairs {
            cases.push((vec![row.name], "needs an even number of ranks, there are 3"));
        }
    }
    for (args, expected) in cases {
        let (codes, said) = codes_of_three(&args);
        assert_eq!(codes, ["2", "2", "2"], "{args:?}: {said}");
        assert_eq!(said.matches(expected).count(), 1, "one rank speaks: {said}");
    }
}

/// Ranks of different builds do not understand each other, and measure nothing together.
#[test]
fn ranks_of_another_build_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = folder.path().join("mpi-kernels");
    let mut program = fs::read(PROGRAM).expect("it is built");
    program.push(0);
    fs::write(&other, program).expect("there is room");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let script = r#"test "$OMPI_COMM_WORLD_RANK" = 1 && exec "$OTHER" barrier; exec "$0" barrier"#;
    let mut launcher = mpirun(2);
    let launcher = launcher.env("OTHER", &other).args(["-x", "OTHER"]);
    let output = output(launcher.args(["sh", "-c", script, PROGRAM]));
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let words = "the programs or MPI libraries of the nodes differ: here";
    assert_eq!(said.matches(words).count(), 1, "{said}");
    assert!(said.contains("rank 1 on "), "{said}");
}

#[test]
fn help_version_and_list_are_printed_once() {
    for (args, expected) in [
        (&["--version"][..], "mpi-kernels 0."),
        (&["--help"], "Usage:"),
        (&["latency", "--help"], "Definition:"),
        (&["list"], "  allreduce "),
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

#[test]
fn an_interrupted_run_leaves_an_invalid_report_and_no_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let child = long_run(folder.path(), 2, &[], 20);
    let ranks = pids(folder.path(), 2);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("mpirun runs");
    // Where the ranks are slow to agree, one that says so is saved meanwhile, and gives way to it.
    let is_last = |report: &Report| !matches!(report.cases[0].outcome, Outcome::Failed { .. });
    let report = wait_for("the report", || {
        let report = model::load(&folder.path().join("report.json"));
        report.ok().filter(is_last)
    });
    // On a machine with much else to do the signal may come before the first iteration.
    match &report.cases[0].outcome {
        Outcome::Measured(first) => {
            assert!(first.validity.is_invalid());
            let mut flags = first.validity.flags.iter();
            assert!(flags.any(|flag| flag.code == "interrupted"));
        }
        Outcome::Skipped { reason } => assert!(reason.contains("interrupted"), "{reason}"),
        Outcome::Failed { error } => panic!("{error}"),
    }
    let Outcome::Skipped { reason } = &report.cases[1].outcome else {
        panic!("the second size was measured after the interruption");
    };
    assert!(reason.contains("interrupted"), "{reason}");
    // After its own SIGTERM mpirun answers its ranks no more, so they wait in MPI_Finalize until
    // it kills them; the test need not wait as long.
    for &pid in &ranks {
        let _ = kill(pid, Signal::SIGKILL);
        wait_until_gone(pid);
    }
    let output = child.wait_with_output().expect("mpirun ends");
    assert!(!output.status.success());
}
