//! Bandwidth of a shared file system: every layout, with several ranks and alone; damage and stale
//! content are found; a rank that fails or dies ends the job; nothing is left behind.

mod common;
#[path = "common/ranks.rs"]
mod ranks;
#[path = "../../mpi-kernels/tests/common/slow_reader.rs"]
mod slow_reader;

use common::{failure, folder, is_empty, measured, program, report, run_in};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ranks::{can_rank, pid_of, run_ranks, start_ranks, wait_for};
use reports::model::Aggregation::{Max, Total};
use reports::model::{Fact, Measurement};
use slow_reader::SlowReader;

const LAYOUTS: [&str; 3] = ["file-per-rank", "shared-segmented", "shared-strided"];
/// Small, and every byte is checked.
const SMALL: [&str; 8] = [
    "--transfer",
    "64k",
    "--block",
    "256k",
    "--segments",
    "2",
    "--check-read",
    "full",
];

fn flags(measurement: &Measurement) -> Vec<&str> {
    let flags = measurement.validity.flags.iter();
    flags.map(|flag| flag.code.as_str()).collect()
}

#[test]
fn every_layout_is_written_by_each_rank_and_read_by_another() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    for (ranks, layout, engine) in [
        (2, LAYOUTS[0], "psync"),
        (3, LAYOUTS[1], "uring"),
        (4, LAYOUTS[2], "psync"),
    ] {
        let words = ["shared", "--json", "--layout", layout, "--engine", engine];
        let (code, text, errors) = run_ranks(dir.path(), ranks, &[&words[..], &SMALL].concat());
        if code == 3 {
            println!("SKIPPED {layout}: {errors}");
            continue;
        }
        assert_eq!(code, 0, "{layout}: {errors}{text}");
        let report = report(&text);
        let measurement = measured(&report);
        let ops = ranks as u64 * 8;
        assert_eq!(measurement.work.known().expect("known").ops, 2 * ops);
        for (name, aggregation) in [
            ("write_bandwidth_bytes_per_s", Total),
            ("read_bandwidth_bytes_per_s", Total),
            ("write_open_s", Max),
            ("write_fsync_s", Max),
            ("read_close_s", Max),
            ("write_lat_ns", Max),
        ] {
            let metric = measurement.metric(name, aggregation).expect(name);
            assert!(
                matches!(metric.value, Fact::Known(value) if value > 0.0),
                "{name}"
            );
        }
        assert!(
            measurement
                .metrics
                .iter()
                .any(|metric| metric.compat.as_deref() == Some("ior"))
        );
        assert!(
            measurement.verified.contains("every byte"),
            "{}",
            measurement.verified
        );
        assert!(measurement.verified.contains("close-to-open"));
        assert!(measurement.facts["target"]["file_system"].is_string());
        let params = &report.cases[0].benchmark.params;
        assert_eq!(
            (&params["ranks"], &params["shift"]),
            (&ranks.into(), &1.into())
        );
        assert!(is_empty(dir.path()), "{layout}");
    }
}

#[test]
fn the_hard_size_wears_out_after_its_stonewall() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    let words = [
        "shared",
        "--json",
        "--layout",
        "shared-strided",
        "--transfer",
        "47008",
        "--block",
        "47008",
        "--segments",
        "200",
        "--stonewall",
        "0.05",
        "--wear-out",
        "--random-order",
        "--fsync",
        "false",
    ];
    let (code, text, errors) = run_ranks(dir.path(), 2, &words);
    assert_eq!(code, 0, "{errors}{text}");
    let report = report(&text);
    let measurement = measured(&report);
    assert!(
        measurement
            .metric("write_bandwidth_at_stonewall_bytes_per_s", Total)
            .is_some()
    );
    let ops = measurement.work.known().expect("known").ops;
    assert!(
        ops > 0 && ops.is_multiple_of(4),
        "both wrote and read as much: {ops}"
    );
    assert!(flags(measurement).contains(&"not_flushed"));
    assert!(is_empty(dir.path()));
}

#[test]
fn damage_and_stale_content_are_found_in_every_layout() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    for layout in LAYOUTS {
        for (spoil, expected) in [
            ("damage", "it is damaged: byte 1003"),
            ("stale", "a stale read"),
        ] {
            let words = ["shared", "--json", "--layout", layout, "--spoil", spoil];
            let (code, text, errors) = run_ranks(dir.path(), 2, &[&words[..], &SMALL].concat());
            assert_eq!(code, 1, "{layout} {spoil}: {errors}{text}");
            let report = report(&text);
            let said = failure(&report);
            assert!(said.contains(expected), "{layout} {spoil}: {said}");
            assert!(
                said.starts_with("rank 1 on ") && said.contains("rank 0"),
                "{said}"
            );
            assert!(is_empty(dir.path()), "{layout} {spoil}");
        }
    }
}

#[test]
fn a_rank_that_fails_ends_the_case_for_all() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    let (code, text, _) = run_ranks(dir.path(), 3, &["shared", "--json", "--spoil", "fail"]);
    assert_eq!(code, 1);
    let report = report(&text);
    let said = failure(&report);
    assert!(
        said.starts_with("rank 2 on ") && said.contains("--spoil"),
        "{said}"
    );
    assert!(is_empty(dir.path()));
}

/// Whoever is killed, the job ends, and the folder is gone soon after.
#[test]
fn a_rank_that_is_killed_leaves_nothing_behind() {
    if !can_rank() {
        return;
    }
    for victim in [1, 0] {
        let (dir, pids) = (folder(), folder());
        let words = [
            "shared",
            "--transfer",
            "4k",
            "--block",
            "4k",
            "--segments",
            "100000",
        ];
        let child = start_ranks(dir.path(), pids.path(), 2, &words);
        let pid = pid_of(pids.path(), victim);
        wait_for("the folder", || (!is_empty(dir.path())).then_some(()));
        // The watchdogs know each other by now.
        std::thread::sleep(std::time::Duration::from_millis(500));
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the rank runs");
        let output = child.wait_with_output().expect("mpirun ends");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&format!("(pid {pid}) died")),
            "{victim}: {said}"
        );
        wait_for("the end of the folder", || {
            is_empty(dir.path()).then_some(())
        });
    }
}

/// The last measurement is done: ranks meet in MPI_Finalize, and one does not come.
#[test]
fn a_rank_that_is_stopped_on_its_way_out_is_named_and_the_report_stays() {
    if !can_rank() {
        return;
    }
    let (dir, pids) = (folder(), folder());
    let file = pids.path().join("report.json");
    let mut reader = SlowReader::new(&file);
    let file = file.to_str().expect("a plain path");
    let words = ["shared", "--deadline", "6", "-o", file];
    let child = start_ranks(dir.path(), pids.path(), 3, &[&words[..], &SMALL].concat());
    let ranks = [0, 1, 2].map(|rank| pid_of(pids.path(), rank));
    reader.wait_for_begin();
    // The watchdogs know each other by now.
    std::thread::sleep(std::time::Duration::from_millis(500));
    kill(Pid::from_raw(ranks[1]), Signal::SIGSTOP).expect("the rank runs");
    let report = reader.report();
    assert!(!flags(measured(&report)).contains(&"job_ended_early"));
    let output = child.wait_with_output().expect("mpirun ends");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let name = format!("(pid {}) has not answered for", ranks[1]);
    assert!(said.contains(&name), "{said}");
    assert!(
        said.contains("the job ends, its report is written"),
        "{said}"
    );
    for pid in ranks {
        wait_for("the end of a rank", || {
            kill(Pid::from_raw(pid), None).is_err().then_some(())
        });
    }
    assert!(is_empty(dir.path()), "its folder is removed");
}

#[test]
fn alone_it_measures_and_says_what_it_cannot() {
    let dir = folder();
    let words = ["shared", "--json", "--engine", "psync"];
    let (code, text, errors) = run_in(dir.path(), &[&words[..], &SMALL].concat());
    assert_eq!(code, 0, "{errors}");
    let report = report(&text);
    let measurement = measured(&report);
    assert!(flags(measurement).contains(&"one_rank"));
    assert!(!measurement.verified.contains("close-to-open"));
    assert!(is_empty(dir.path()));
}

#[test]
fn a_signal_ends_a_run_and_removes_its_folder() {
    let dir = folder();
    let words = [
        "shared",
        "--engine",
        "psync",
        "--transfer",
        "4k",
        "--block",
        "4k",
    ];
    let mut child = program(&words)
        .args(["--segments", "1000000", "--json"])
        .current_dir(dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    wait_for("the folder", || (!is_empty(dir.path())).then_some(()));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(is_empty(dir.path()));
}

#[test]
fn a_run_that_is_killed_is_swept_up_after() {
    let dir = folder();
    let words = [
        "shared",
        "--engine",
        "psync",
        "--transfer",
        "4k",
        "--block",
        "4k",
    ];
    let mut child = program(&words)
        .args(["--segments", "1000000"])
        .current_dir(dir.path())
        .spawn()
        .expect("the program starts");
    wait_for("the folder", || (!is_empty(dir.path())).then_some(()));
    // Its sweeper is started right after.
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    wait_for("the end of the folder", || {
        is_empty(dir.path()).then_some(())
    });
}

#[test]
fn ranks_that_share_no_folder_are_told_which_does_not_see_it() {
    if !can_rank() {
        return;
    }
    let (here, there) = (folder(), folder());
    std::fs::create_dir(here.path().join("sub")).expect("a folder");
    for (dir, expected) in [
        (".", "does not see the folder"),
        ("sub", "--dir sub: No such"),
    ] {
        let words = [ranks::PROGRAM, "metadata", "--dir", dir];
        let output = ranks::mpirun(1)
            .arg("--wdir")
            .arg(here.path())
            .args(words)
            .args([":", "-n", "1", "--wdir"])
            .arg(there.path())
            .args(words)
            .output()
            .expect("mpirun starts");
        let (code, text, errors) = common::told(output);
        assert_eq!(code, 1, "{errors}");
        let said = format!("{text}{errors}");
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("rank 1 on ") && said.contains(expected),
            "{said}"
        );
    }
    std::fs::remove_dir(here.path().join("sub")).expect("it is empty");
    assert!(is_empty(here.path()) && is_empty(there.path()));
}

#[test]
fn of_many_ranks_one_says_what_is_wrong() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    for (words, expected) in [
        (&["shared", "--transfer", "1001"][..], "multiple of 8"),
        (&["shared", "--nonsense"], "--nonsense"),
        (&["shared", "--shift", "2"], "there are 2 ranks"),
        (&["shared", "--block", "1000t"], "free"),
        (&["metadata", "--shift", "7"], "there are 2 ranks"),
    ] {
        let (code, _, errors) = run_ranks(dir.path(), 2, words);
        assert!(
            code == 2 || expected == "free",
            "{words:?}: {code} {errors}"
        );
        let said = errors.matches("storage-bench: ").count() + errors.matches("error: ").count();
        assert!(said <= 1, "{words:?}: {errors}");
        assert!(is_empty(dir.path()), "{words:?}");
    }
}

/// Each would else take itself for the only rank, and all write the same report.
#[test]
#[cfg(not(feature = "mpi"))]
fn without_mpi_several_ranks_are_refused_with_the_remedy() {
    let dir = folder();
    let output = program(&["shared"])
        .current_dir(dir.path())
        .env("OMPI_COMM_WORLD_RANK", "0")
        .env("OMPI_COMM_WORLD_SIZE", "2")
        .output()
        .expect("the program starts");
    let (code, _, errors) = common::told(output);
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("--features mpi"), "{errors}");
    assert!(is_empty(dir.path()));
}
