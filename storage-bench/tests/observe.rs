//! What is said of a run, where the truth is known: a throttle of the control group on a compressed
//! RAM disk, a loop device whose file lies in memory, a QEMU disk with a burst bucket.

mod common;

use common::{folder, measured, report, told, unspoilt};
use reports::model::{Aggregation, Measurement, Report};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A compressed RAM disk of its own, removed when dropped.
struct Zram {
    name: String,
    number: String,
}

impl Zram {
    fn new() -> Result<Self, String> {
        let read = |path: String| {
            let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"));
            text.map(|text| text.trim().to_owned())
        };
        let index = read("/sys/class/zram-control/hot_add".to_owned())?;
        let mut device = Self {
            name: format!("zram{index}"),
            number: String::new(),
        };
        let size = format!("/sys/block/{}/disksize", device.name);
        std::fs::write(&size, "64M").map_err(|error| format!("{size}: {error}"))?;
        device.number = read(format!("/sys/block/{}/dev", device.name))?;
        Ok(device)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        let index = self.name.trim_start_matches("zram");
        // The kernel tears a ring down some time after its process has ended.
        for _ in 0..50 {
            if std::fs::write("/sys/class/zram-control/hot_remove", index).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("{} could not be removed", self.name);
    }
}

/// A control group of version 1 for block I/O, removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self, String> {
        let name = format!("storage-bench-test-{}", std::process::id());
        let path = Path::new("/sys/fs/cgroup/blkio").join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn throttle(&self, device: &Zram, iops: u32) {
        let file = self.0.join("blkio.throttle.read_iops_device");
        std::fs::write(file, format!("{} {iops}", device.number)).expect("root may throttle");
    }

    fn spawn(&self, words: &[&str]) -> Child {
        let script = format!("echo $$ >{}/cgroup.procs && exec \"$@\"", self.0.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_storage-bench")]);
        command.args(words).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("sh starts")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("{} could not be removed", self.0.display());
    }
}

fn throttled() -> Option<(Zram, Group)> {
    let both = Zram::new().and_then(|device| Ok((device, Group::new()?)));
    both.map_err(|why| println!("SKIPPED: a throttled RAM disk takes root and cgroup v1: {why}"))
        .ok()
}

fn ended(child: Child) -> Report {
    let (code, text, errors) = told(child.wait_with_output().expect("it runs"));
    assert_eq!(code, 0, "{text}{errors}");
    report(&text)
}

fn value(measurement: &Measurement, name: &str) -> f64 {
    let metric = measurement.metric(name, Aggregation::Total);
    *metric.expect(name).value.known().expect("a number")
}

fn codes(measurement: &Measurement) -> Vec<&str> {
    let flags = measurement.validity.flags.iter();
    flags.map(|flag| flag.code.as_str()).collect()
}

#[track_caller]
fn limiter<'a>(measurement: &'a Measurement, begin: &str) -> &'a str {
    let limiter = &measurement.facts["observed"]["limiter"];
    let limiter = limiter.as_str().expect("a sentence");
    assert!(limiter.starts_with(begin), "{limiter}");
    limiter
}

#[test]
fn a_throttle_is_named_and_one_that_tightens_is_a_burst() {
    unspoilt(throttle_is_named);
}

fn throttle_is_named() {
    let Some((device, group)) = throttled() else {
        return;
    };
    let path = format!("/dev/{}", device.name);
    let words = |rest: &str| -> Vec<String> {
        let rest = rest.split_whitespace().map(str::to_owned);
        let begin = "block --engine psync --numjobs 4 --json --device";
        let begin = begin.split(' ').chain([path.as_str()]);
        begin.map(str::to_owned).chain(rest).collect()
    };
    let spawn = |rest: &str| {
        let words = words(rest);
        group.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };

    group.throttle(&device, 500);
    let constant = ended(spawn(
        "--steady-state --steady-state-round 1 --interval 0.5 --ramp-time 0.5 --steady-state-timeout 15",
    ));
    let constant = measured(&constant);
    assert!((value(constant, "iops") / 500.0 - 1.0).abs() < 0.1);
    limiter(constant, "cgroup throttle: reads ran at");
    let observed = &constant.facts["observed"];
    assert_eq!(observed["cgroup_limits"]["iops"][0], 500);
    // On a machine that others load it may never be steady; then it says so.
    let steady = observed["steady_state"]["steady"].as_bool();
    assert_eq!(steady, Some(!codes(constant).contains(&"not_steady")));
    let device_did = &observed["device"]["layers"][0];
    assert_eq!(device_did["name"], device.name.as_str());
    let share = device_did["window"]["ops"][0].as_f64().expect("a count")
        / constant.work.known().expect("counted").ops as f64;
    assert!((0.5..1.5).contains(&share), "{observed}");
    assert!(constant.intervals[0].hdr_v2_base64.is_some());

    group.throttle(&device, 1200);
    // A limit that changes costs the kernel's throttle up to a slice; the plateau has to outweigh it.
    let child = spawn("--runtime 12 --interval 0.5 --ramp-time 0.5");
    thread::sleep(Duration::from_secs(4));
    group.throttle(&device, 200);
    let burst = ended(child);
    let burst = measured(&burst);
    assert!(codes(burst).contains(&"burst"), "{:?}", codes(burst));
    let plateau = value(burst, "iops");
    assert!((plateau / 200.0 - 1.0).abs() < 0.1, "{plateau}");
    assert!(value(burst, "burst_iops") > 2.0 * 200.0);
    let told = burst.metric("plateau_lat_ns", Aggregation::P50);
    assert!(told.is_some_and(|metric| metric.headline));
    limiter(burst, "credits: ");
}

#[test]
fn reads_of_a_loop_device_whose_file_is_in_memory_are_found_out() {
    let dir = folder();
    let image = dir.path().join("image");
    std::fs::write(&image, vec![7; 16 << 20]).expect("a file");
    let made = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&image)
        .output();
    let Some(made) = made.ok().filter(|made| made.status.success()) else {
        println!("SKIPPED: no loop device (losetup, as root)");
        return;
    };
    struct Detached(String);
    impl Drop for Detached {
        fn drop(&mut self) {
            let _ = Command::new("losetup").args(["--detach", &self.0]).status();
        }
    }
    let device = Detached(
        String::from_utf8(made.stdout)
            .expect("text")
            .trim()
            .to_owned(),
    );
    let words = [
        "block",
        "--device",
        &device.0,
        "--engine",
        "psync",
        "--bs",
        "1m",
        "--runtime",
        "1.5",
        "--ramp-time",
        "0",
        "--json",
    ];
    let (code, text, errors) = common::run_in(dir.path(), &words);
    assert_eq!(code, 0, "{text}{errors}");
    let report = report(&text);
    let measurement = measured(&report);
    let layers = measurement.facts["observed"]["device"]["layers"].as_array();
    if layers.is_none_or(|layers| layers.len() < 2) {
        println!("SKIPPED: the folder for tests lies on no device: {layers:?}");
        return;
    }
    assert!(
        codes(measurement).contains(&"page_cache"),
        "{:?}",
        codes(measurement)
    );
}

#[test]
fn what_cannot_be_observed_says_why() {
    let words = ["null", "--number-ios", "1000", "--json"];
    let (code, text, errors) = common::run_in(folder().path(), &words);
    assert_eq!(code, 0, "{text}{errors}");
    let report = report(&text);
    let observed = &measured(&report).facts["observed"];
    assert_eq!(
        observed["device"]["unavailable"],
        "nothing is read or written"
    );
    assert!(observed["steady_state"]["unavailable"].is_string());
    assert!(observed["amazon_log"]["unavailable"].is_string());
    for (wrong, part) in [
        ("--steady-state --runtime 5", "cannot be used with"),
        ("--steady-state-round 5", "--steady-state"),
        (
            "--steady-state --steady-state-round 0.1",
            "at least one slice",
        ),
        ("--steady-state --steady-state-timeout 5", "300 s at least"),
    ] {
        let words: Vec<&str> = ["file"].into_iter().chain(wrong.split(' ')).collect();
        let (code, _, errors) = common::run_in(folder().path(), &words);
        assert!(code == 2 && errors.contains(part), "{wrong}: {errors}");
    }
}

/// A bucket of 1500 operations a second for 4 x 1500 / (1500 - 300) = 5 s, then 300.
#[test]
fn a_burst_bucket_is_a_burst_and_a_plateau() {
    unspoilt(burst_and_plateau);
}

fn burst_and_plateau() {
    const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");
    let disk = "256M,throttling.iops-total=300,throttling.iops-total-max=1500,\
                throttling.iops-total-max-length=4";
    let run = "--timeout 600 -- @ block --device /dev/nvme0n1 --iodepth 32 --runtime 14 \
               --ramp-time 0 --json";
    let run = run.split_whitespace().map(|word| match word {
        "@" => env!("CARGO_BIN_EXE_storage-bench"),
        word => word,
    });
    let output = Command::new(LAB)
        .args(["run", "--disk", disk])
        .args(run)
        .output();
    let (code, text, errors) = told(output.expect("bash starts"));
    if code == 3 && errors.contains("scripts/lab:") {
        println!("SKIPPED: {errors}");
        return;
    }
    assert_eq!(code, 0, "{text}{errors}");
    let report = report(&text);
    let measurement = measured(&report);
    assert!(
        codes(measurement).contains(&"burst"),
        "{:?}",
        codes(measurement)
    );
    let plateau = value(measurement, "iops");
    assert!((plateau / 300.0 - 1.0).abs() < 0.02, "{plateau}");
    let step = value(measurement, "burst_ends_at_s");
    assert!((4.0..6.0).contains(&step), "{step}");
    limiter(measurement, "credits: ");
}
