//! The engine's options on real rings: what is asked for is in force, or the report says what is.

mod common;

use common::{Zram, folder, measured, program, report, run_in, told};
use reports::model::{Measurement, Report};
use std::path::Path;
use std::process::Command;

/// Runs `file` over a small scratch file; `None`, and a line saying why, without io_uring.
fn file(dir: &Path, options: &str) -> Option<Report> {
    let words = "file --engine uring --direct false --rw randrw --size 1m --number-ios 500 --json";
    let words: Vec<_> = words.split(' ').chain(options.split(' ')).collect();
    let (code, text, errors) = run_in(dir, &words);
    if code == 3 {
        println!("SKIPPED: {text}");
        return None;
    }
    assert_eq!(code, 0, "{options}: {text}{errors}");
    Some(report(&text))
}

fn codes(measurement: &Measurement) -> Vec<&str> {
    let flags = measurement.validity.flags.iter();
    flags.map(|flag| flag.code.as_str()).collect()
}

#[test]
fn a_ring_does_its_work_however_it_is_set_up() {
    let dir = folder();
    for (options, fact, expected) in [
        ("--fixedbufs false", "registered_buffers", "false"),
        ("--registerfiles false", "registered_file", "false"),
        ("--sqthread-poll", "setup_flags", "sqpoll"),
        (
            "--sqthread-poll --sqthread-poll-cpu 0 --fixedbufs false",
            "setup_flags",
            "sq_aff",
        ),
        (
            "--iodepth 8 --iodepth-batch-complete-min 4 --iodepth-batch-complete-max 6",
            "registered_buffers",
            "true",
        ),
        ("--numjobs 2 --cpus-allowed 0", "cpus", "[0]"),
        ("--numa-node 0", "numa_node", "0"),
        ("--hugepages", "pages", ""),
    ] {
        let Some(report) = file(dir.path(), options) else {
            return;
        };
        let engine = &measured(&report).facts["engine"];
        let found = engine[fact].to_string();
        assert!(
            found.contains(expected) && !engine[fact].is_null(),
            "{options}: {engine}"
        );
        let verified = &measured(&report).verified;
        assert!(
            verified.contains("blocks held their last write"),
            "{verified}"
        );
        let option = options
            .split(' ')
            .next()
            .expect("one")
            .trim_start_matches('-');
        let params = &report.cases[0].benchmark.params;
        let named = ["iodepth", "numjobs"].contains(&option);
        assert!(
            named || params.contains_key(&option.replace('-', "_")),
            "{params:?}"
        );
    }
}

/// The pool of huge pages, as it was when dropped.
struct Pool {
    file: &'static str,
    before: String,
}

impl Pool {
    fn with(pages: u64) -> Option<Self> {
        let file = "/proc/sys/vm/nr_hugepages";
        let before = std::fs::read_to_string(file).ok()?;
        let count: u64 = before.trim().parse().ok()?;
        let pool = Self { file, before };
        std::fs::write(file, (count + pages).to_string()).ok()?;
        let got: u64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        (got == count + pages).then_some(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = std::fs::write(self.file, self.before.trim());
    }
}

#[test]
fn huge_pages_come_from_the_pool_where_there_are_some() {
    let dir = folder();
    // A mix has two buffers of 4 KiB per slot: one page holds all.
    let Some(_pool) = Pool::with(1) else {
        println!("SKIPPED: vm.nr_hugepages cannot be raised here");
        return;
    };
    if let Some(report) = file(dir.path(), "--hugepages --fixedbufs true") {
        let measurement = measured(&report);
        assert_eq!(measurement.facts["engine"]["pages"], "2 MiB, from the pool");
        assert!(!codes(measurement).contains(&"hugepages_not_granted"));
    }
}

#[test]
fn too_little_locked_memory_is_told_with_the_remedy() {
    let dir = folder();
    let line = "ulimit -l 64; exec setpriv --bounding-set -ipc_lock,-sys_admin \"$0\" file \
                --engine uring --direct false --size 1m --bs 64k --number-ios 100 --json";
    let output = Command::new("bash")
        .args(["-c", line])
        .arg(env!("CARGO_BIN_EXE_storage-bench"))
        .current_dir(dir.path())
        .output();
    let (code, text, errors) = told(output.expect("bash starts"));
    if code != 0 {
        println!("SKIPPED: no run without CAP_IPC_LOCK: {text}{errors}");
        return;
    }
    let report = report(&text);
    let flags = &measured(&report).validity.flags;
    let flag = flags
        .iter()
        .find(|flag| flag.code == "buffers_not_registered");
    let flag = flag.unwrap_or_else(|| panic!("{flags:?}"));
    assert!(
        flag.evidence.contains("2048 KiB") && flag.evidence.contains("`ulimit -l` allows 64 KiB"),
        "{}",
        flag.evidence
    );
}

/// Runs the program where the kernel refuses io_uring.
fn without_io_uring(dir: &Path, words: &str) -> (i32, String, String) {
    let mut command = program(&words.split(' ').collect::<Vec<_>>());
    command.current_dir(dir);
    let refused = move || {
        bench_sys::forbid::io_uring().expect("seccomp");
        command.output().expect("the program starts")
    };
    // The filter holds for the thread and for what it starts.
    told(std::thread::spawn(refused).join().expect("no panic"))
}

#[test]
fn without_io_uring_the_default_is_psync_and_says_so() {
    let dir = folder();
    let words = "file --direct false --iodepth 8 --size 1m --number-ios 50 --json";
    let (code, text, errors) = without_io_uring(dir.path(), words);
    assert_eq!(code, 0, "{text}{errors}");
    let report = report(&text);
    let params = &report.cases[0].benchmark.params;
    assert_eq!(
        (&params["engine"], &params["iodepth"]),
        (&"psync".into(), &1.into())
    );
    let flags = &measured(&report).validity.flags;
    let flag = flags.iter().find(|flag| flag.code == "engine_fallback");
    let evidence = &flag.unwrap_or_else(|| panic!("{flags:?}")).evidence;
    assert!(
        evidence.contains("iodepth 1 instead of 8") && evidence.contains("seccomp"),
        "{evidence}"
    );
    // A curve over depths has one point then, and says of which it is.
    let words = "file --direct false --iodepth 1,8,64 --bs 4k,8k --size 1m --number-ios 50 --json";
    let (code, text, errors) = without_io_uring(dir.path(), words);
    assert_eq!(code, 0, "{text}{errors}");
    let curve = common::report(&text);
    assert_eq!(curve.cases.len(), 2, "one for each block size");
    assert!(text.contains("iodepth 1 instead of 8, 64"), "{text}");
    for asked in ["file --engine uring", "file --sqthread-poll", "nop"] {
        let words = format!("{asked} --number-ios 50 --json");
        let (code, text, errors) = without_io_uring(dir.path(), &words);
        assert_eq!(code, 3, "{asked}: {text}{errors}");
        assert!(text.contains("seccomp"), "{asked}: {text}");
    }
}

#[test]
fn options_that_contradict_each_other_are_wrong_usage() {
    let dir = folder();
    for (words, expected) in [
        ("file --hipri --direct false", "--direct true"),
        ("file --uring-cmd", "block --device"),
        (
            "file --engine psync --sqthread-poll",
            "--sqthread-poll is of io_uring",
        ),
        ("file --engine psync --hipri", "--hipri is of io_uring"),
        (
            "file --engine psync --fixedbufs true",
            "--fixedbufs is of io_uring",
        ),
        ("file --sqthread-poll-cpu 0", "--sqthread-poll"),
        ("file --iodepth-batch-complete-min 0", "complete-min 0"),
        (
            "file --iodepth 4 --iodepth-batch-complete-min 5",
            "which is 4",
        ),
        (
            "file --iodepth-batch-complete-min 3 --iodepth-batch-complete-max 2",
            "complete-max 2",
        ),
        ("file --cpus-allowed 1-", "no list of CPUs"),
        ("file --cpus-allowed 1023", "CPU 1023 is not among"),
        ("null --numa-node 999", "--numa-node 999"),
        ("file --numa-node some", "neither auto nor"),
        ("nop --size 4k", "--size"),
        ("nop --iodepth 0", "--iodepth 0"),
        (
            "block --device /dev/ng9n9",
            "--uring-cmd, or --device /dev/nvme9n9",
        ),
        (
            "block --device /dev/ng9n9 --uring-cmd",
            "/dev/nvme9n9: No such",
        ),
    ] {
        let words: Vec<_> = words.split(' ').collect();
        let (code, text, errors) = run_in(dir.path(), &words);
        assert_eq!(code, 2, "{words:?}: {text}{errors}");
        assert!(errors.contains(expected), "{words:?}: {errors}");
    }
}

#[test]
fn nops_are_counted_and_move_nothing() {
    let dir = folder();
    for options in [
        "--numjobs 1",
        "--sqthread-poll",
        "--iodepth-batch-complete-min 32",
    ] {
        let words = format!("nop --number-ios 5000 --json {options}");
        let (code, text, errors) = run_in(dir.path(), &words.split(' ').collect::<Vec<_>>());
        if code == 3 {
            println!("SKIPPED: {text}");
            return;
        }
        assert_eq!(code, 0, "{options}: {text}{errors}");
        let report = report(&text);
        let measurement = measured(&report);
        let work = measurement.work.known().expect("known");
        assert!(work.ops >= 5000 && work.bytes == 0, "{work:?}");
        assert!(
            measurement
                .verified
                .ends_with("requests ended with the result 0")
        );
        let params = &report.cases[0].benchmark.params;
        assert_eq!(
            (&params["iodepth"], &params["iodepth_batch"]),
            (&128.into(), &32.into())
        );
        assert!(
            !params.contains_key("bs") && !params.contains_key("rw"),
            "{params:?}"
        );
    }
}

#[test]
fn io_that_went_to_workers_is_counted_with_their_cpu_time() {
    let Some(disk) = Zram::new("16M") else {
        println!("SKIPPED: no zram device can be had");
        return;
    };
    let device = disk.path();
    let dir = folder();
    for (options, told) in [
        ("", "would have blocked"),
        (" --force-async 1", "were not tried"),
    ] {
        let words =
            format!("block --device {device} --engine uring --number-ios 3000 --json{options}");
        let (code, text, errors) = run_in(dir.path(), &words.split(' ').collect::<Vec<_>>());
        if code == 3 {
            println!("SKIPPED: {text}");
            return;
        }
        assert_eq!(code, 0, "{text}{errors}");
        let report = report(&text);
        let measurement = measured(&report);
        let workers = &measurement.facts["io_workers"];
        let (ios, cpu_s) = (workers["ios"].as_u64(), workers["cpu_s"].as_f64());
        assert!(ios.is_some_and(|ios| ios > 1500), "{workers}");
        assert!(cpu_s.is_some_and(|cpu_s| cpu_s > 0.0), "{workers}");
        let flags = &measurement.validity.flags;
        let flag = flags.iter().find(|flag| flag.code == "io_workers");
        assert!(
            flag.is_some_and(|flag| flag.evidence.contains(told)),
            "{flags:?}"
        );
        let asked = &report.cases[0].benchmark.params;
        assert_eq!(asked.contains_key("force_async"), !options.is_empty());
    }
}
