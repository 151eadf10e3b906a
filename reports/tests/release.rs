//! `scripts/release`: archives of the programs that the tests are run with, and the clean root that
//! they are proved in. Nothing is built here.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/release");

/// The folder of the programs: `debug`, in the folder that cargo builds in.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_reports"))
        .parent()
        .expect("a folder")
}

fn release(out: &Path, args: &[&str]) -> Output {
    Command::new(SCRIPT)
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

/// A check that stays at its first step for ever, with all its processes.
struct Stuck(Child);

impl Stuck {
    fn start(folder: &Path) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", folder.join("bin").display());
        let mut command = Command::new(SCRIPT);
        let command = command.env("PATH", path).env("TMPDIR", folder.join("tmp"));
        let command = command.args(["--check", "some.tar.gz"]).current_dir(folder);
        let command = command.process_group(0).stdin(Stdio::null());
        Self(command.spawn().expect("scripts/release starts"))
    }

    fn kill(&mut self) {
        // It leads a group of its own.
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.kill();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The temporary folder that a check which is stuck has beside those that were there, or nothing
/// where there can be no check.
fn new_folder(stuck: &mut Stuck, tmp: &Path, before: &[String]) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(50);
    loop {
        let mut new = names(tmp).into_iter();
        if let Some(name) = new.find(|name| !before.contains(name)) {
            return Some(name);
        }
        if let Some(status) = stuck.0.try_wait().expect("it is ours") {
            assert_eq!(status.code(), Some(3), "it ended before its time");
            println!("SKIPPED what a killed check leaves: there can be no check here");
            return None;
        }
        assert!(Instant::now() < deadline, "there is no folder");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_killed_check_left_is_removed_by_the_next_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tmp, bin) = (folder.path().join("tmp"), folder.path().join("bin"));
    for name in ["tmp", "bin", "tmp/tmp.other", "tmp/hpc-bench-release-notes"] {
        fs::create_dir(folder.path().join(name)).expect("it can be made");
    }
    for name in ["some.tar.gz", "some.tar.gz.sha256"] {
        fs::write(folder.path().join(name), "x").expect("writable");
    }
    let tool = bin.join("sha256sum");
    fs::write(&tool, "#!/bin/sh\nexec sleep 1000\n").expect("writable");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let others = names(&tmp);

    let mut killed = Stuck::start(folder.path());
    let Some(left) = new_folder(&mut killed, &tmp, &others) else {
        return;
    };
    let mut with_left = [&others[..], std::slice::from_ref(&left)].concat();
    let mut running = Stuck::start(folder.path());
    let in_use = new_folder(&mut running, &tmp, &with_left).expect("the first had one");
    with_left.push(in_use.clone());
    with_left.sort();
    killed.kill();
    assert_eq!(names(&tmp), with_left, "nobody removes it");

    let mut next = Command::new(SCRIPT);
    let next = next.env("TMPDIR", &tmp).current_dir(folder.path());
    let output = next.args(["--check", "some.tar.gz"]).output();
    let output = output.expect("scripts/release starts");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let words = format!("removed {}", tmp.join(&left).display());
    assert!(said(&output).contains(&words), "{}", said(&output));
    with_left.retain(|name| *name != left);
    assert_eq!(names(&tmp), with_left, "its own is gone too");
    assert!(with_left.contains(&in_use));
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
