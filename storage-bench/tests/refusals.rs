//! Wrong usage and impossible wishes: the message names the thing, the code is the documented one,
//! and nothing is left behind.

mod common;

use common::{failure, folder, is_empty, measured, report, run_in, told};
use std::process::Command;

#[test]
fn wrong_usage_exits_with_2_and_names_the_option() {
    let dir = folder();
    let cases: [(&[&str], &str); 18] = [
        (&["file", "--bs", "0"], "--bs 0"),
        (&["file", "--bs", "1000"], "multiple of 512"),
        (&["file", "--bs", "lots"], "4k, 256m"),
        (&["file", "--bs", "8k", "--size", "4k"], "--size 4k"),
        (&["file", "--size", "0"], "--size 0"),
        (&["file", "--iodepth", "0"], "--iodepth 0"),
        (&["file", "--iodepth", "4097"], "from 1 to 4096"),
        (&["file", "--numjobs", "0"], "--numjobs 0"),
        (
            &["file", "--engine", "psync", "--iodepth", "2"],
            "1 by nature",
        ),
        (&["file", "--engine", "null"], "storage-bench null"),
        (&["file", "--engine", "libaio"], "libaio"),
        (&["file", "--rwmixread", "50"], "--rw randrw"),
        (&["file", "--rw", "rw", "--rwmixread", "101"], "0 to 100"),
        (&["file", "--runtime", "0"], "--runtime 0"),
        (
            &["file", "--bs", "1g", "--size", "1t", "--iodepth", "4096"],
            "available memory",
        ),
        (&["file", "--nonsense"], "--nonsense"),
        (&["block"], "--device"),
        (&["nothing"], "nothing"),
    ];
    for (words, expected) in cases {
        let (code, text, errors) = run_in(dir.path(), words);
        assert_eq!(code, 2, "{words:?}: {errors}");
        assert!(errors.contains(expected), "{words:?}: {errors}");
        assert!(text.is_empty() && is_empty(dir.path()), "{words:?}");
    }
}

#[test]
fn targets_that_the_guard_refuses_exit_with_2() {
    let dir = folder();
    std::fs::write(dir.path().join("data"), [7; 8192]).expect("a file");
    let cases: [(&[&str], &str); 11] = [
        (
            &["file", "--filename", "data", "--rw", "randwrite"],
            "only read",
        ),
        (
            &["file", "--filename", "data", "--size", "1m"],
            "which has 8192 bytes",
        ),
        (&["file", "--filename", "data", "--bs", "16k"], "--size 8k"),
        (&["file", "--filename", "."], "use --dir"),
        (&["file", "--filename", "/dev/null"], "character device"),
        (&["file", "--filename", "/dev/nvme9n9"], "under /dev"),
        (&["file", "--filename", "absent/data"], "absent"),
        (&["file", "--dir", "absent"], "absent"),
        (&["file", "--dir", "data"], "not a folder"),
        (&["block", "--device", "/dev/nvme9n9"], "No such file"),
        (
            &["block", "--device", "data"],
            "a regular file, not a block device",
        ),
    ];
    for (words, expected) in cases {
        let (code, _, errors) = run_in(dir.path(), words);
        assert_eq!(code, 2, "{words:?}: {errors}");
        assert!(errors.contains(expected), "{words:?}: {errors}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("the folder").count(),
        1
    );
    assert_eq!(
        std::fs::read(dir.path().join("data")).expect("still there"),
        [7; 8192]
    );
}

#[test]
fn a_file_size_limit_is_an_error_and_leaves_nothing() {
    let dir = folder();
    let output = Command::new("bash")
        .args([
            "-c",
            "ulimit -f 512; exec \"$0\" file --engine psync --size 8m --json",
        ])
        .arg(env!("CARGO_BIN_EXE_storage-bench"))
        .current_dir(dir.path())
        .output();
    let (code, text, errors) = told(output.expect("bash starts"));
    assert_eq!(code, 1, "{text}{errors}");
    let report = report(&text);
    let error = failure(&report);
    assert!(
        error.contains("ulimit -f") && error.contains("of 8388608"),
        "{error}"
    );
    assert!(is_empty(dir.path()));
}

/// Runs the program in a small file system in memory, in a mount namespace of its own; lists what
/// is left there after the report. `None`, and a line saying why, where that cannot be had.
fn run_in_memory(words: &str) -> Option<(i32, String, String)> {
    let dir = folder();
    let script = format!(
        "mount -t tmpfs -o size=4m tmpfs . || exit 77; cd \"$PWD\"; \"$0\" {words}; code=$?; \
         ls -A; exit $code"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "bash", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_storage-bench"))
        .current_dir(dir.path())
        .output();
    let why = match output {
        Ok(output) if output.stdout.is_empty() => {
            String::from_utf8_lossy(&output.stderr).into_owned()
        }
        Ok(output) => return Some(told(output)),
        Err(error) => error.to_string(),
    };
    println!("SKIPPED: no mount namespace here: {why}");
    None
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let words = "file --engine psync --direct false --size 64m --json";
    let Some((code, text, errors)) = run_in_memory(words) else {
        return;
    };
    assert_eq!(code, 1, "{errors}");
    // Nothing but the report is on standard output, or it would not be read: `ls` found nothing.
    let report = report(&text);
    let error = failure(&report);
    assert!(error.contains("needs 67108864 bytes"), "{error}");
}

#[test]
fn memory_file_systems_are_flagged() {
    let words = "file --engine psync --direct false --size 1m --number-ios 10 --json";
    let Some((code, text, errors)) = run_in_memory(words) else {
        return;
    };
    assert_eq!(code, 0, "{errors}");
    let report = report(&text);
    let measurement = measured(&report);
    assert_eq!(measurement.facts["target"]["file_system"], "tmpfs");
    let codes: Vec<_> = measurement
        .validity
        .flags
        .iter()
        .map(|flag| &flag.code)
        .collect();
    assert!(
        codes.iter().any(|code| *code == "memory_file_system"),
        "{codes:?}"
    );
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let dir = folder();
    // Through a link: a program that replaced its output would take the link, not the device.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("full")).expect("a link");
    for (target, expected) in [
        ("full", "No space left"),
        ("/proc/absent/report", "/proc/absent"),
    ] {
        let words = ["null", "--number-ios", "10", "-o", target];
        let (code, _, errors) = run_in(dir.path(), &words);
        assert_eq!(code, 1, "{target}: {errors}");
        assert!(errors.contains(expected), "{target}: {errors}");
    }
    let left = std::fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(left, 1, "only the link is there");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let line = "\"$0\" null --number-ios 10 --json | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}";
    let output = Command::new("bash")
        .args(["-c", line])
        .arg(env!("CARGO_BIN_EXE_storage-bench"))
        .output();
    let (code, _, errors) = told(output.expect("bash starts"));
    assert_eq!(code, 0, "{errors}");
}
