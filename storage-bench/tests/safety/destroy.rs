//! The table of what other benchmarks let happen: each row on scratch devices, refused with its
//! reason, and nothing changed.

use crate::common::{folder, measured, program, report, run_in};
use crate::devices::{Loop, Mapped, Mount, Zram, or_skip, system};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::Stdio;

fn words<'a>(device: &'a str, rw: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = [
        "block",
        "--device",
        device,
        "--rw",
        rw,
        "--number-ios",
        "50",
        "--json",
    ];
    [&words, more].concat()
}

/// What is said of a refusal.
fn refused(dir: &Path, device: &str, rw: &str, more: &[&str]) -> String {
    let (code, text, errors) = run_in(dir, &words(device, rw, more));
    assert_eq!(code, 2, "{device} {rw} {more:?}: {text}{errors}");
    assert!(text.is_empty(), "{text}");
    errors
}

#[test]
fn a_blank_device_is_destroyed_only_under_its_name() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    for rw in ["write", "randwrite", "rw", "randrw"] {
        let said = refused(dir.path(), &device.name, rw, &[]);
        let wanted = format!("--destroy={}", device.identity());
        assert!(said.contains(&wanted) && said.contains("8m"), "{said}");
    }
    for other in ["", "vol0abc", "/another/image", &device.name, ":", "ext4"] {
        let permission = format!("--destroy={other}");
        let said = refused(dir.path(), &device.name, "randwrite", &[&permission]);
        assert!(said.contains("names another device"), "{said}");
    }
    assert!(device.is_untouched());
    let permission = format!("--destroy={}", device.identity());
    for engine in ["psync", "uring"] {
        let more = [permission.as_str(), "--engine", engine, "--size", "1m"];
        let (code, text, errors) = run_in(dir.path(), &words(&device.name, "randwrite", &more));
        if code == 3 {
            println!("SKIPPED: {text}{errors}");
            continue;
        }
        assert_eq!(code, 0, "{text}{errors}");
        let report = report(&text);
        let measurement = measured(&report);
        let destroyed = &measurement.facts["target"]["destroyed"];
        assert_eq!(destroyed["device"], device.identity());
        assert_eq!(destroyed["bytes"], 1 << 20);
        assert!(
            measurement.verified.contains("held their last write"),
            "{text}"
        );
    }
    let content = device.content();
    assert!(
        content[..1 << 20].iter().any(|&byte| byte != 7),
        "something was written"
    );
    assert!(
        content[1 << 20..].iter().all(|&byte| byte == 7),
        "and nothing beyond --size"
    );
    // With checksums, too.
    let more = [permission.as_str(), "--size", "1m", "--verify", "crc32c"];
    let (code, text, errors) = run_in(dir.path(), &words(&device.name, "randwrite", &more));
    assert!(code == 0 || code == 3, "{text}{errors}");
    if code == 0 {
        let report = report(&text);
        assert_eq!(report.cases[0].benchmark.params["verify"], "crc32c");
        let verified = &measured(&report).verified;
        assert!(verified.contains("held their last write"), "{verified}");
    }
    // Mixed reads meet blocks that are not this program's.
    let more = [permission.as_str(), "--size", "2m", "--engine", "psync"];
    let (code, text, errors) = run_in(dir.path(), &words(&device.name, "randrw", &more));
    assert_eq!(code, 0, "{text}{errors}");
}

#[test]
fn synchronous_writes_reach_the_device_as_such() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    let permission = format!("--destroy={}", device.identity());
    for (sync, flag) in [("dsync", libc::O_DSYNC), ("sync", libc::O_SYNC)] {
        let mut words = words(&device.name, "write", &[&permission, "--sync", sync]);
        // By time, so that it can be looked at.
        words.retain(|word| !["--number-ios", "50"].contains(word));
        words.extend(["--engine", "psync", "--runtime", "60", "--interval", "0.05"]);
        let mut child = program(&words)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        errors.read_line(&mut line).expect("a slice is shown");
        let flags = open_flags(child.id(), &device.name);
        child.kill().expect("it runs");
        child.wait().expect("it ended");
        assert!(
            flags.iter().any(|flags| flags & flag == flag),
            "{sync}: {flags:x?}"
        );
    }
}

/// The flags with which a process has opened a file, of each of its descriptors.
fn open_flags(process: u32, file: &str) -> Vec<i32> {
    let names = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    names
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == Path::new(file)))
        .filter_map(|entry| {
            let info = format!("/proc/{process}/fdinfo/{}", entry.file_name().display());
            let info = fs::read_to_string(info).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(flags.trim(), 8).ok()
        })
        .collect()
}

#[test]
fn a_device_without_a_serial_number_has_name_and_size() {
    let dir = folder();
    let Some(device) = Zram::new() else { return };
    let said = refused(dir.path(), &device.name(), "randwrite", &[]);
    assert!(
        said.contains(&format!("--destroy={}", device.identity())),
        "{said}"
    );
    let permission = format!("--destroy={}", device.identity());
    // zram takes no non-blocking submissions, so that a leftover O_NONBLOCK would show as EAGAIN.
    let (code, text, errors) = run_in(
        dir.path(),
        &words(&device.name(), "randwrite", &[&permission]),
    );
    assert!(code == 0 || code == 3, "{text}{errors}");
    let (code, text, errors) = run_in(dir.path(), &words(&device.name(), "randread", &[]));
    assert!(code == 0 || code == 3, "{text}{errors}");
}

#[test]
fn a_file_system_that_nothing_mounts_must_be_named_too() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    if or_skip(&["mkfs.ext4", "-q", &device.name]).is_none() {
        return;
    }
    let before = device.content();
    let bare = format!("--destroy={}", device.identity());
    let full = format!("{bare}:ext4");
    for permission in [None, Some(bare.as_str())] {
        let more: Vec<_> = permission.into_iter().collect();
        let said = refused(dir.path(), &device.name, "randwrite", &more);
        assert!(
            said.contains("holding ext4") && said.contains(&full),
            "{said}"
        );
    }
    let wrong = format!("{bare}:xfs");
    assert!(refused(dir.path(), &device.name, "write", &[&wrong]).contains("does not name all"));
    let unknown = format!("{bare}:ext5");
    assert!(refused(dir.path(), &device.name, "write", &[&unknown]).contains("is no signature"));
    assert!(device.content() == before, "a refusal changes nothing");
    let more = [full.as_str(), "--engine", "psync", "--bs", "64k"];
    let (code, text, errors) = run_in(dir.path(), &words(&device.name, "write", &more));
    assert_eq!(code, 0, "{text}{errors}");
    assert_eq!(
        measured(&report(&text)).facts["target"]["destroyed"]["signatures"][0],
        "ext4"
    );
    // It is gone, and what was allowed once may be said again, as a sweep does.
    let (code, text, errors) = run_in(dir.path(), &words(&device.name, "randwrite", &more));
    assert_eq!(code, 0, "{text}{errors}");
}

#[test]
fn a_mounted_device_is_refused_under_every_name() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    if or_skip(&["mkfs.ext4", "-q", &device.name]).is_none() {
        return;
    }
    let Some(_mount) = Mount::new(&[&device.name], &dir.path().join("point")) else {
        return;
    };
    let link = dir.path().join("link");
    symlink(&device.name, &link).expect("a link");
    let dotted = device.name.replace("/dev/", "/dev/./");
    let node = dir.path().join("node");
    let number = system(&["stat", "-c", "%Hr %Lr", &device.name]).expect("a device");
    let (major, minor) = number.split_once(' ').expect("two numbers");
    let node = node.to_str().expect("text");
    system(&["mknod", node, "b", major, minor]).expect("root makes nodes");
    let permission = format!("--destroy={}:ext4", device.identity());
    for name in [
        device.name.as_str(),
        link.to_str().expect("text"),
        &dotted,
        node,
    ] {
        for rw in ["randread", "randwrite"] {
            let said = refused(dir.path(), name, rw, &[&permission]);
            assert!(
                said.contains("mounted on") && said.contains("as ext4"),
                "{said}"
            );
        }
    }
    // Another loop device over the same file would write below the mounted file system.
    let Some(second) = Loop::over(&device.image) else {
        return;
    };
    let said = refused(dir.path(), &second.name, "randwrite", &[&permission]);
    assert!(
        said.contains("as does") && said.contains("mounted on"),
        "{said}"
    );
    // A loop device over the device itself, likewise.
    let Some(third) = Loop::over(Path::new(&device.name)) else {
        return;
    };
    let permission = format!("--destroy={}:ext4", device.name);
    let said = refused(dir.path(), &third.name, "randwrite", &[&permission]);
    assert!(said.contains("mounted on"), "{said}");
}

#[test]
fn a_disk_is_refused_for_its_partitions_and_named_with_its_table() {
    let dir = folder();
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    let script = format!("echo ,4M,L | sfdisk -q --label gpt {}", device.name);
    if or_skip(&["sh", "-c", &script]).is_none() {
        return;
    }
    let partition = format!("{}p1", device.name);
    let is_there = fs::metadata(&partition).is_ok_and(|found| found.file_type().is_block_device());
    if !is_there || or_skip(&["mkfs.ext4", "-q", &partition]).is_none() {
        println!("SKIPPED: no partitions on loop devices here");
        return;
    }
    let whole = format!("--destroy={}", device.identity());
    let said = refused(dir.path(), &device.name, "randwrite", &[&whole]);
    assert!(
        said.contains("holding gpt") && said.contains("with ext4"),
        "{said}"
    );
    let part = format!("{whole}-part1");
    let said = refused(dir.path(), &partition, "randwrite", &[&part]);
    assert!(said.contains(&format!("{part}:ext4")), "{said}");

    let mount = Mount::new(&[&partition], &dir.path().join("point"));
    let Some(mount) = mount else { return };
    let everything = format!("{whole}:gpt");
    let said = refused(dir.path(), &device.name, "randwrite", &[&everything]);
    assert!(
        said.contains("its partition") && said.contains("mounted on"),
        "{said}"
    );
    drop(mount);

    let Some(_mapped) = Mapped::new(&format!("sb-test-{}", std::process::id()), &partition) else {
        return;
    };
    for name in [&device.name, &partition] {
        let said = refused(dir.path(), name, "randwrite", &[&everything]);
        assert!(said.contains("part of dm-"), "{said}");
    }
}

#[test]
fn swap_is_refused() {
    let dir = folder();
    let Some(device) = Zram::new() else { return };
    let on =
        or_skip(&["mkswap", &device.name()]).and_then(|_| or_skip(&["swapon", &device.name()]));
    if on.is_none() {
        return;
    }
    let permission = format!("--destroy={}:swap", device.identity());
    let said = refused(dir.path(), &device.name(), "randwrite", &[&permission]);
    system(&["swapoff", &device.name()]).expect("it was on");
    assert!(said.contains("used for swapping"), "{said}");
}

#[test]
fn the_disk_of_the_root_file_system_is_refused_whatever_is_typed() {
    let dir = folder();
    let found = system(&["findmnt", "-n", "-o", "SOURCE", "/"]).unwrap_or_default();
    let disk = found.split('[').next().unwrap_or_default();
    let is_disk = fs::metadata(disk).is_ok_and(|found| found.file_type().is_block_device());
    if !is_disk {
        println!("SKIPPED: / is on {found:?}, which is no block device");
        return;
    }
    // The one test that names a real disk: with a name that is wrong in every case.
    let said = refused(dir.path(), disk, "randwrite", &["--destroy=nothing"]);
    assert!(said.contains("it holds the root file system"), "{said}");
}

#[test]
fn a_mistyped_device_is_no_file() {
    let dir = folder();
    for rw in ["randread", "randwrite"] {
        let said = refused(dir.path(), "/dev/nvme9n9", rw, &["--destroy=vol0abc"]);
        assert!(said.contains("No such file"), "{said}");
    }
    for words in [
        ["file", "--filename", "/dev/nvme9n9"],
        ["file", "--dir", "/dev"],
        ["null", "-o", "/dev/nvme9n9"],
    ] {
        let (code, _, errors) = run_in(dir.path(), &words);
        assert!(
            code == 2 && errors.contains("under /dev"),
            "{words:?}: {errors}"
        );
    }
    assert!(!Path::new("/dev/nvme9n9").exists());
}

#[test]
fn a_report_overwrites_no_disk_and_no_document() {
    let dir = folder();
    fs::write(dir.path().join("thesis"), "years of work").expect("a file");
    let words = |target| ["null", "--number-ios", "10", "-o", target];
    let (code, _, errors) = run_in(dir.path(), &words("thesis"));
    assert!(
        code == 2 && errors.contains("no report of this suite"),
        "{errors}"
    );
    assert_eq!(
        fs::read(dir.path().join("thesis")).expect("there"),
        b"years of work"
    );
    for _ in 0..2 {
        let (code, _, errors) = run_in(dir.path(), &words("report.json"));
        assert_eq!(code, 0, "a report may be replaced: {errors}");
    }
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    let (code, _, errors) = run_in(dir.path(), &words(&device.name));
    assert!(code == 2 && errors.contains("a block device"), "{errors}");
    assert!(device.is_untouched());
}
