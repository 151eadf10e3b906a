//! `scripts/release`: archives of the programs that the tests are run with, and the clean root that
//! they are proved in. Nothing is built here.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder of the programs: `debug`, in the folder that cargo builds in.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reports"))
        .parent()
        .expect("a folder")
}

fn release(out: &Path, args: &[&str]) -> Output {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/release"))
        .current_dir(out)
        .env("CARGO_TARGET_DIR", programs().parent().expect("a folder"))
        .args(args)
        .output()
        .expect("scripts/release starts")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Whether the programs are those that scripts/test builds: of a debug build, all four, with MPI.
fn are_complete() -> bool {
    let built = |name: &str| fs::read(programs().join(name)).unwrap_or_default();
    let with_mpi = |name: &str| built(name).windows(9).any(|bytes| bytes == b"libmpi.so");
    let complete = programs().ends_with("debug")
        && !built("net-bench").is_empty()
        && ["storage-bench", "mpi-kernels"].into_iter().all(with_mpi);
    if !complete {
        println!(
            "SKIPPED archives of the programs: not all are built with MPI (scripts/test does)"
        );
    }
    complete
}

#[test]
fn an_archive_runs_in_a_clean_root_and_is_refused_once_it_is_changed() {
    if !are_complete() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path();
    let output = release(out, &["--full", "--debug", "--out", "."]);
    assert!(output.status.success(), "{}", said(&output));
    let archive = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
    let name = archive
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(
        name.starts_with("hpc-bench-") && name.ends_with("-full-debug.tar.gz"),
        "{name}"
    );

    // A row of each program that takes little; of MPI's there is none in the root but this one's.
    let quick = [
        "--repetitions",
        "1",
        "--row",
        "net-null",
        "--row",
        "shared-one-rank",
    ];
    let check = [&["--check", name], &quick[..], &["--row", "mpi-barrier"]].concat();
    let output = release(out, &check);
    if output.status.code() == Some(3) {
        println!("SKIPPED the clean root: {}", said(&output).trim_end());
    } else {
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("storage-bench  ld-linux") && said.contains("libmpi"),
            "{said}"
        );
        assert!(said.contains("glibc    2."), "{said}");
        assert!(
            said.contains("3 cases measured (0 of them invalid), 0 skipped, 0 failed"),
            "{said}"
        );
        assert!(
            said.contains(&format!("passed: {name} in a clean root")),
            "{said}"
        );
    }

    let mut file = fs::File::options()
        .append(true)
        .open(&archive)
        .expect("the archive");
    file.write_all(b"x").expect("writable");
    let output = release(out, &["--check", name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("it was changed or cut short"),
        "{}",
        said(&output)
    );
    fs::remove_file(out.join(format!("{name}.sha256"))).expect("removed");
    let output = release(out, &["--check", name]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(".sha256 to check"),
        "{}",
        said(&output)
    );
}

#[test]
fn programs_that_need_mpi_are_not_portable() {
    if !are_complete() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = release(folder.path(), &["--portable", "--debug", "--out", "out"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected = " is not portable: it needs libmpi";
    assert!(said(&output).contains(expected), "{}", said(&output));
    let left = fs::read_dir(folder.path().join("out")).expect("the folder");
    assert_eq!(left.count(), 0, "no archive is left behind");
}

#[test]
fn wrong_usage_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (args, expected) in [
        (&["--check", "none.tar.gz"][..], "there is no archive"),
        (&["--check"], "--check needs a value"),
        (&["--portble"], "unknown option --portble"),
        (&["--row", "tcp-rr"], "--row belongs to --check"),
        (&["--debug", "--root", "/etc/hostname", "x"], "build none"),
    ] {
        let output = release(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(
            said(&output).contains(expected),
            "{args:?}: {}",
            said(&output)
        );
    }
    fs::write(folder.path().join("not.tar.gz"), "no archive").expect("writable");
    let output = release(folder.path(), &["--check", "not.tar.gz"]);
    assert!(
        said(&output).contains(".sha256 to check"),
        "{}",
        said(&output)
    );
}
