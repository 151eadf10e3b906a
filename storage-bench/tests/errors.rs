//! Files that are cut, disks that fill and devices that fail while they are measured.

mod common;

use common::{can_default, failure, flag, folder, measured, program, report, run_in, told};
use reports::model::{Aggregation, Severity};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts a long run over `data` and cuts that once the window is open.
fn cut_while_read(dir: &Path, extra: &[&str]) -> (i32, String, String) {
    std::fs::write(dir.join("data"), vec![7; 1 << 20]).expect("a file");
    let words = "file --engine psync --direct false --filename data --ramp-time 0 --interval 0.05 \
                 --json";
    let words: Vec<&str> = words
        .split_whitespace()
        .chain(extra.iter().copied())
        .collect();
    let mut child = program(&words)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a slice is shown");
    let data = File::options().write(true).open(dir.join("data"));
    data.and_then(|data| data.set_len(512 << 10))
        .expect("a shorter file");
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    told(child.wait_with_output().expect("it ends"))
}

#[test]
fn an_error_ends_the_window_and_what_was_measured_is_kept() {
    let dir = folder();
    let (code, text, _) = cut_while_read(dir.path(), &["--runtime", "60", "--numjobs", "2"]);
    assert_eq!(code, 4, "{text}");
    let report = report(&text);
    let measurement = measured(&report);
    assert!(measurement.work.known().expect("known").ops > 0);
    assert!(
        *measurement.elapsed_s.known().expect("known") < 59.0,
        "both jobs end"
    );
    let flag = flag(measurement, "io_errors").expect("it is said");
    assert_eq!(flag.severity, Severity::Invalid);
    for part in [
        "ended the window",
        "read of 4096 bytes at offset",
        "of data",
        "after 0 bytes",
    ] {
        assert!(
            flag.evidence.contains(part),
            "no {part} in {}",
            flag.evidence
        );
    }
    let errors = &measurement.facts["observed"]["errors"]["read"]["short"];
    assert!(errors.as_u64().is_some_and(|count| count >= 1), "{errors}");
}

#[test]
fn who_is_told_to_go_on_counts_errors() {
    let dir = folder();
    let extra = ["--runtime", "3", "--continue-on-error", "all"];
    let (code, text, _) = cut_while_read(dir.path(), &extra);
    assert_eq!(code, 0, "{text}");
    let report = report(&text);
    let measurement = measured(&report);
    let flag = flag(measurement, "io_errors").expect("it is said");
    assert_eq!(flag.severity, Severity::Degraded);
    let counted = measurement.facts["observed"]["errors"]["read"]["short"].as_u64();
    let counted = counted.expect("counted");
    assert!(
        flag.evidence
            .starts_with(&format!("{counted} operations failed"))
    );
    let latencies = measurement
        .metric("lat_ns", Aggregation::P50)
        .expect("timed");
    let ops = measurement.work.known().expect("known").ops;
    assert_eq!(
        latencies.n.known(),
        Some(&ops),
        "what failed is in no histogram"
    );
}

/// Runs a script in a file system of 4 MiB in memory, in a mount namespace of its own, with the
/// program as `$0`. `None`, and a line saying why, where that cannot be had.
fn in_memory(script: &str) -> Option<(i32, String, String)> {
    let dir = folder();
    let script = format!("mount -t tmpfs -o size=4m tmpfs . || exit 77; cd \"$PWD\"; {script}");
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "bash", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_storage-bench"))
        .current_dir(dir.path())
        .output();
    match output {
        Ok(output) if output.status.code() != Some(77) => Some(told(output)),
        Ok(output) => {
            println!("SKIPPED: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            println!("SKIPPED: unshare: {error}");
            None
        }
    }
}

#[test]
fn a_disk_that_fills_in_mid_run_ends_it_and_leaves_nothing() {
    for engine in ["psync", "uring"] {
        // Blocks that were trimmed are taken by somebody else before they are written.
        let script = format!(
            "\"$0\" file --engine {engine} --direct false --size 3m --rw trimwrite --runtime 100 \
             --ramp-time 0 --json & pid=$!; \
             while kill -0 $pid 2>/dev/null && [ $(df --output=used -k . | tail -1) -lt 3072 ]; \
             do sleep 0.02; done; \
             while kill -0 $pid 2>/dev/null; do cat /dev/zero >> filler 2>/dev/null; done; \
             wait $pid; code=$?; rm -f filler; ls -A; exit $code"
        );
        let Some((code, text, errors)) = in_memory(&script) else {
            return;
        };
        if code == 3 {
            println!("SKIPPED: {engine}: {text}");
            continue;
        }
        assert_eq!(code, 4, "{engine}: {text}{errors}");
        // Nothing but the report is on standard output: `ls` found nothing.
        let report = report(&text);
        let measurement = measured(&report);
        let flag = flag(measurement, "io_errors").expect("it is said");
        assert!(
            flag.evidence.contains("the disk is full"),
            "{}",
            flag.evidence
        );
        let errors = &measurement.facts["observed"]["errors"];
        assert!(errors["write"]["ENOSPC"].as_u64().is_some(), "{errors}");
    }
}

/// A loop device over `image`, detached when dropped.
struct Loop(String);

impl Loop {
    fn new(image: &Path) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", "4096"])
            .arg(image)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let name = String::from_utf8(output.stdout).expect("text");
                Some(Self(name.trim().to_owned()))
            }
            other => {
                println!("SKIPPED: no loop device: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_device_that_fails_in_mid_run_is_named_with_its_error() {
    let dir = folder();
    let image = dir.path().join("image");
    std::fs::write(&image, vec![7; 4 << 20]).expect("a file");
    let Some(device) = Loop::new(&image) else {
        return;
    };
    let engine = if can_default(dir.path()) {
        "uring"
    } else {
        "psync"
    };
    let words = [
        "block",
        "--device",
        &device.0,
        "--engine",
        engine,
        "--runtime",
        "60",
        "--ramp-time",
        "0",
        "--interval",
        "0.05",
        "--json",
    ];
    let mut child = program(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a slice is shown");
    // What lies behind the device is gone.
    let data = File::options().write(true).open(&image);
    data.and_then(|data| data.set_len(0))
        .expect("an empty file");
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let (code, text, _) = told(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 4, "{text}");
    let report = report(&text);
    let flag = flag(measured(&report), "io_errors").expect("it is said");
    assert!(
        flag.evidence.contains("Input/output error"),
        "{}",
        flag.evidence
    );
    let errors = &measured(&report).facts["observed"]["errors"]["read"]["EIO"];
    assert!(errors.as_u64().is_some(), "{errors}");
    // Nothing can be read of it any more: there is nothing to measure.
    let words = [
        "block",
        "--device",
        &device.0,
        "--engine",
        engine,
        "--runtime",
        "9",
        "--json",
    ];
    let (code, text, errors) = run_in(dir.path(), &words);
    assert_eq!(code, 1, "{text}{errors}");
    let report = common::report(&text);
    let error = failure(&report);
    for part in ["no operation of the window succeeded", "at offset", "dmesg"] {
        assert!(error.contains(part), "no {part} in {error}");
    }
}
