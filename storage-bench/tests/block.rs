//! Reads of a real block device: a loop device over a file, where the tests may have one.

mod common;

use common::{failure, folder, measured, report, run_in};
use nix::fcntl::OFlag;
use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// A loop device with blocks of 4 KiB, detached when dropped.
struct Loop(String);

impl Loop {
    /// Over a new file in `dir`; `None`, and a line saying why, where that cannot be had.
    fn new(dir: &Path) -> Option<Self> {
        let image = dir.join("image");
        std::fs::write(&image, vec![7; 4 << 20]).expect("a file");
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", "4096"])
            .arg(&image)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let name = String::from_utf8(output.stdout).expect("text");
                Some(Self(name.trim().to_owned()))
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                println!("SKIPPED: no loop device: {why}");
                None
            }
            Err(error) => {
                println!("SKIPPED: no loop device: losetup: {error}");
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
fn a_device_is_read_and_held_and_never_written() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path()) else {
        return;
    };
    symlink(&device.0, dir.path().join("link")).expect("a link");
    for (name, engine) in [(device.0.as_str(), "psync"), ("link", "psync")] {
        let words = [
            "block",
            "--device",
            name,
            "--engine",
            engine,
            "--number-ios",
            "100",
            "--json",
        ];
        let (code, text, errors) = run_in(dir.path(), &words);
        assert_eq!(code, 0, "{text}{errors}");
        let report = report(&text);
        assert_eq!(report.cases[0].benchmark.params["size"], 4 << 20);
        let measurement = measured(&report);
        assert_eq!(
            measurement.facts["target"]["device"]["logical_block_bytes"],
            4096
        );
        assert!(measurement.verified.contains("not this program's"));
    }
    let refusals = [
        (vec!["--rw", "randwrite"], "--destroy="),
        (vec!["--bs", "512"], "4096 bytes here; use --bs 4k"),
        (vec!["--size", "8m"], "which has 4194304 bytes"),
    ];
    for (extra, expected) in refusals {
        let words = [vec!["block", "--device", &device.0], extra].concat();
        let (code, _, errors) = run_in(dir.path(), &words);
        assert!(code == 2 && errors.contains(expected), "{errors}");
    }
    let (code, _, errors) = run_in(dir.path(), &["file", "--filename", &device.0]);
    assert!(code == 2 && errors.contains("block --device"), "{errors}");
    let image = std::fs::read(dir.path().join("image")).expect("still there");
    assert!(image.iter().all(|&byte| byte == 7));
}

#[test]
fn a_device_in_use_is_refused_with_the_reason() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path()) else {
        return;
    };
    let holder = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_EXCL.bits())
        .open(&device.0)
        .expect("the device is free");
    let words = [
        "block",
        "--device",
        &device.0,
        "--number-ios",
        "1",
        "--json",
    ];
    let (code, text, errors) = run_in(dir.path(), &words);
    assert_eq!(code, 1, "{text}{errors}");
    assert!(
        failure(&report(&text)).contains("another process"),
        "{text}"
    );
    drop(holder);

    let point = dir.path().join("point");
    std::fs::create_dir(&point).expect("a folder");
    let made = Command::new("mkfs.ext4").args(["-q", &device.0]).output();
    let mounted = made.is_ok_and(|made| made.status.success())
        && Command::new("mount")
            .arg(&device.0)
            .arg(&point)
            .status()
            .is_ok_and(|s| s.success());
    if !mounted {
        println!("SKIPPED: cannot mount a file system on {}", device.0);
        return;
    }
    let (code, text, errors) = run_in(dir.path(), &words);
    let unmounted = Command::new("umount").arg(&point).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(code, 2, "{text}{errors}");
    assert!(
        errors.contains("mounted on") && errors.contains("ext4"),
        "{errors}"
    );
}
