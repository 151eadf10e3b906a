//! What is wrong with a target is said, with the documented exit code, and nothing stays behind.

use crate::common::{failure, folder, is_empty, measured, program, report, run_in, told};
use crate::devices::{Loop, Mount, or_skip, system};
use reports::model::Outcome;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A quick run on files; `--direct false` where the file system may not have direct I/O.
const QUICK: [&str; 9] = [
    "file",
    "--engine",
    "psync",
    "--size",
    "1m",
    "--number-ios",
    "10",
    "--rw",
    "randwrite",
];

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Runs the program as nobody, under a limit of the shell's.
fn as_nobody(dir: &Path, limit: &str, words: &[&str]) -> Option<(i32, String, String)> {
    let exe = env!("CARGO_BIN_EXE_storage-bench");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
    ];
    or_skip(&[&nobody[..], &[exe, "--version"]].concat())?;
    let output = Command::new(nobody[0])
        .args(&nobody[1..])
        .args(["bash", "-c", &format!("{limit}; exec \"$0\" \"$@\""), exe])
        .args(words)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output();
    Some(told(output.expect("it just did")))
}

/// A folder in which everybody may write.
fn open_folder() -> tempfile::TempDir {
    let dir = folder();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).expect("ours");
    dir
}

#[test]
fn a_read_only_file_system_is_named() {
    let dir = folder();
    let point = dir.path().join("point");
    let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", "ro", "tmpfs"], &point) else {
        return;
    };
    for target in [["--dir", "."], ["--filename", "new"]] {
        let (code, text, errors) = run_in(&point, &[&QUICK[..], &target, &["--json"]].concat());
        assert_eq!(code, 1, "{text}{errors}");
        assert!(
            failure(&report(&text)).contains("mounted read-only"),
            "{text}"
        );
    }
}

#[test]
fn missing_permissions_are_named() {
    let dir = folder();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("ours");
    let words = [&QUICK[..], &["--json"]].concat();
    let Some((code, text, errors)) = as_nobody(dir.path(), ":", &words) else {
        return;
    };
    assert_eq!(code, 1, "{text}{errors}");
    assert!(
        failure(&report(&text)).contains("may not write there"),
        "{text}"
    );
    let data = dir.path().join("data");
    fs::write(&data, [7; 8192]).expect("a file");
    fs::set_permissions(&data, Permissions::from_mode(0o600)).expect("ours");
    let words = ["file", "--filename", "data", "--json"];
    let (code, text, errors) = as_nobody(dir.path(), ":", &words).expect("as before");
    assert_eq!(code, 1, "{text}{errors}");
    assert!(
        failure(&report(&text)).contains("may not read it"),
        "{text}"
    );
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    for rw in ["randread", "randwrite"] {
        let words = ["block", "--device", &device.name, "--rw", rw, "--json"];
        let (code, text, errors) = as_nobody(dir.path(), ":", &words).expect("as before");
        assert_eq!(code, 3, "{text}{errors}");
        let Outcome::Skipped { reason } = &report(&text).cases[0].outcome else {
            panic!("{text}")
        };
        assert!(reason.to_string().contains("device's group"), "{text}");
    }
}

#[test]
fn too_little_locked_memory_costs_nothing_or_is_named() {
    let dir = open_folder();
    let words = [
        "file",
        "--engine",
        "uring",
        "--size",
        "1m",
        "--number-ios",
        "10",
        "--direct",
        "false",
        "--json",
    ];
    let Some((code, text, errors)) = as_nobody(dir.path(), "ulimit -l 0", &words) else {
        return;
    };
    let report = report(&text);
    match &report.cases[0].outcome {
        Outcome::Measured(measurement) => {
            let engine = measurement.facts["engine"].to_string();
            assert!(code == 0 && engine.contains("unavailable"), "{text}");
        }
        Outcome::Failed { error } => {
            assert!(code == 1 && error.contains("ulimit -l"), "{error}{errors}");
        }
        Outcome::Skipped { reason } => println!("SKIPPED: {reason}"),
    }
    assert!(is_empty(dir.path()));
}

#[test]
fn a_file_system_without_nameless_files_gets_one_that_loses_its_name() {
    let dir = folder();
    let image = dir.path().join("image");
    let file = File::create(&image).expect("a file");
    file.set_len(16 << 20).expect("a hole");
    let point = dir.path().join("point");
    if or_skip(&["mkfs.ntfs", "-q", "-F", "-f", text(&image)]).is_none() {
        return;
    }
    // FUSE has no O_TMPFILE unless its server does, and this one does not.
    let Some(_mount) = Mount::new(&["-t", "ntfs-3g", "-o", "loop", text(&image)], &point) else {
        return;
    };
    let before = fs::read_dir(&point).expect("mounted").count();
    for target in [["--dir", "."], ["--filename", "new"]] {
        let words = [&QUICK[..], &target, &["--direct", "false", "--json"]].concat();
        let (code, text, errors) = run_in(&point, &words);
        assert_eq!(code, 0, "{text}{errors}");
        assert!(
            measured(&report(&text))
                .verified
                .contains("held their last write")
        );
    }
    assert_eq!(fs::read_dir(&point).expect("mounted").count(), before);
}

#[test]
fn a_quota_ends_the_layout() {
    let dir = folder();
    let image = dir.path().join("image");
    let file = File::create(&image).expect("a file");
    file.set_len(64 << 20).expect("a hole");
    let made = or_skip(&["mkfs.ext4", "-q", "-F", "-O", "quota", text(&image)]);
    let point = dir.path().join("point");
    let Some(_mount) =
        made.and_then(|_| Mount::new(&["-o", "loop,usrquota", text(&image)], &point))
    else {
        return;
    };
    fs::set_permissions(&point, Permissions::from_mode(0o1777)).expect("ours");
    if or_skip(&[
        "setquota",
        "-u",
        "65534",
        "0",
        "512",
        "0",
        "0",
        text(&point),
    ])
    .is_none()
    {
        return;
    }
    let words = [&QUICK[..], &["--json"]].concat();
    let Some((code, text, errors)) = as_nobody(&point, ":", &words) else {
        return;
    };
    assert_eq!(code, 1, "{text}{errors}");
    let report = report(&text);
    let error = failure(&report);
    assert!(
        error.contains("cannot lay out") && error.contains("quota"),
        "{error}"
    );
    let left = fs::read_dir(&point).expect("mounted").flatten();
    assert!(
        left.map(|entry| entry.file_name())
            .all(|name| name == "lost+found")
    );
}

#[test]
fn a_disk_that_fills_up_below_the_file_system_ends_the_layout() {
    let dir = folder();
    let small = dir.path().join("small");
    let Some(_tmpfs) = Mount::new(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"], &small) else {
        return;
    };
    let image = small.join("image");
    let file = File::create(&image).expect("a file");
    file.set_len(64 << 20)
        .expect("a hole that is larger than its disk");
    let made = or_skip(&["mkfs.ext4", "-q", "-F", "-O", "^has_journal", text(&image)]);
    let point = dir.path().join("point");
    let Some(_mount) = made.and_then(|_| Mount::new(&["-o", "loop", text(&image)], &point)) else {
        return;
    };
    let words = [
        "file",
        "--engine",
        "psync",
        "--size",
        "32m",
        "--number-ios",
        "10",
        "--json",
    ];
    let (code, text, errors) = run_in(&point, &words);
    assert_eq!(code, 1, "{text}{errors}");
    assert!(failure(&report(&text)).contains("cannot lay out"), "{text}");
}

#[test]
fn a_file_system_says_which_block_size_direct_io_takes() {
    let dir = folder();
    let image = dir.path().join("image");
    let file = File::create(&image).expect("a file");
    file.set_len(64 << 20).expect("a hole");
    let sectors = [
        "losetup",
        "--find",
        "--show",
        "--sector-size",
        "4096",
        text(&image),
    ];
    let Some(name) = or_skip(&sectors) else {
        return;
    };
    let device = Loop { name, image };
    let made = or_skip(&["mkfs.ext4", "-q", &device.name]);
    let point = dir.path().join("point");
    let Some(_mount) = made.and_then(|_| Mount::new(&[&device.name], &point)) else {
        return;
    };
    fs::write(point.join("data"), [7; 8192]).expect("a file");
    for target in [["--dir", "."], ["--filename", "data"]] {
        let words = [&["file", "--bs", "512", "--json"][..], &target].concat();
        let (code, text, errors) = run_in(&point, &words);
        assert_eq!(code, 2, "{text}{errors}");
        assert!(
            errors.contains("--bs 512") && errors.contains("use --bs 4k"),
            "{errors}"
        );
    }
}

/// Starts a long run of reads and returns when its window is open.
fn running(dir: &Path, target: &[&str]) -> Child {
    let words = [
        "--engine",
        "psync",
        "--direct",
        "false",
        "--runtime",
        "60",
        "--ramp-time",
        "0",
        "--interval",
        "0.05",
        "--json",
    ];
    let mut child = program(&[target, &words].concat())
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a slice is shown");
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    child
}

#[test]
fn a_target_that_goes_away_ends_the_run() {
    let dir = folder();
    let data = dir.path().join("data");
    fs::write(&data, vec![7; 8 << 20]).expect("a file");
    let child = running(dir.path(), &["file", "--filename", "data"]);
    File::options()
        .write(true)
        .open(&data)
        .expect("there")
        .set_len(0)
        .expect("shorter");
    let (code, text, errors) = told(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 4, "{text}{errors}");
    assert!(text.contains("it ended after 0 bytes"), "{text}");

    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    let child = running(dir.path(), &["block", "--device", &device.name]);
    File::options()
        .write(true)
        .open(&device.image)
        .expect("there")
        .set_len(0)
        .expect("shorter");
    let _ = system(&["blockdev", "--flushbufs", &device.name]);
    // What is cached is still read: the device says so once it is asked.
    let _ = fs::write("/proc/sys/vm/drop_caches", "1");
    let (code, text, errors) = told(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 4, "{text}{errors}");
    assert!(text.contains("Input/output error"), "{text}");
}
