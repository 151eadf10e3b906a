//! Rates of operations on metadata: all phases with several ranks and alone; items that are lost or
//! damaged are found; nothing is left behind.

mod common;
#[path = "common/ranks.rs"]
mod ranks;

use common::{failure, folder, is_empty, measured, report, run_in};
use ranks::{can_rank, pid_of, run_ranks, start_ranks, wait_for};
use reports::model::Aggregation::{P99, Total};
use reports::model::{Fact, Outcome};

const FILES: [&str; 5] = ["create", "stat", "read", "rename", "delete"];
const FOLDERS: [&str; 4] = ["create", "stat", "rename", "delete"];

#[test]
fn all_phases_run_in_own_and_shared_directories() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    let words = ["metadata", "--json", "--items", "120", "--write", "3901"];
    let (code, text, errors) = run_ranks(dir.path(), 3, &words);
    assert_eq!(code, 0, "{errors}{text}");
    let report = report(&text);
    let directories = report.cases.iter();
    let directories: Vec<_> = directories
        .map(|case| case.benchmark.params["directories"].clone())
        .collect();
    assert_eq!(directories, ["own", "shared"]);
    for case in &report.cases {
        let Outcome::Measured(measurement) = &case.outcome else {
            panic!("{:?}", case.outcome);
        };
        let files = FILES.map(|phase| format!("file_{phase}"));
        let folders = FOLDERS.map(|phase| format!("dir_{phase}"));
        for phase in files.iter().chain(&folders) {
            let rate = measurement
                .metric(&format!("{phase}_per_s"), Total)
                .expect("a rate");
            assert_eq!(rate.n, Fact::Known(360), "{phase}");
            let tail = measurement.metric(&format!("{phase}_lat_ns"), P99);
            assert!(
                tail.is_some_and(|p99| p99.value.known().is_some()),
                "{phase}"
            );
        }
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn lost_and_damaged_files_are_found_by_another_rank() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    for (spoil, expected) in [
        ("lose", "cannot find"),
        ("damage", "differs from byte 3900"),
    ] {
        let words = [
            "metadata", "--json", "--items", "20", "--write", "3901", "--spoil", spoil,
        ];
        let (code, text, errors) = run_ranks(dir.path(), 2, &words);
        assert_eq!(code, 1, "{errors}{text}");
        let report = report(&text);
        let said = failure(&report);
        assert!(
            said.starts_with("rank 1 on ") && said.contains(expected),
            "{said}"
        );
        assert!(said.contains("by rank 0"), "{said}");
        assert!(is_empty(dir.path()), "{spoil}");
    }
}

#[test]
fn a_stonewall_ends_the_creation_and_the_rest_takes_what_there_is() {
    let dir = folder();
    let words = [
        "metadata",
        "--json",
        "--items",
        "999999999",
        "--stonewall",
        "0.1",
        "--kinds",
        "files",
        "--directories",
        "own",
    ];
    let (code, text, errors) = run_in(dir.path(), &words);
    assert_eq!(code, 0, "{errors}");
    let report = report(&text);
    let measurement = measured(&report);
    let created = measurement
        .metric("file_create_per_s", Total)
        .expect("a rate")
        .n
        .clone();
    let deleted = measurement
        .metric("file_delete_per_s", Total)
        .expect("a rate")
        .n
        .clone();
    assert_eq!(created, deleted);
    assert!(created.known().is_some_and(|&count| count > 0));
    let mut flags = measurement.validity.flags.iter();
    assert!(flags.any(|flag| flag.code == "one_rank"));
    assert!(is_empty(dir.path()));
}

/// All processes of the job at once, as a scheduler's kill does.
#[test]
fn a_job_that_is_killed_is_swept_up_after() {
    if !can_rank() {
        return;
    }
    let (dir, pids) = (folder(), folder());
    let words = [
        "metadata",
        "--items",
        "999999999",
        "--directories",
        "shared",
    ];
    let mut child = start_ranks(dir.path(), pids.path(), 2, &words);
    let ranks = [0, 1].map(|rank| pid_of(pids.path(), rank));
    wait_for("the folder", || (!is_empty(dir.path())).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().expect("mpirun runs");
    for pid in ranks {
        let pid = nix::unistd::Pid::from_raw(pid);
        // It may have gone with mpirun.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    child.wait().expect("it ends");
    wait_for("the end of the folder", || {
        is_empty(dir.path()).then_some(())
    });
}
