//! Open loops and searches on real devices, of which the kernel's own throttle says what they can.

mod common;

use common::{folder, measured, program, report, run_in, told, unspoilt};
use reports::measure::decode_histogram;
use reports::model::{Aggregation, Measurement, Report};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A loop device, and a control group whose reads of it the kernel throttles. Both are removed when
/// it is dropped.
struct Throttled {
    device: String,
    /// Major and minor number.
    number: String,
    group: PathBuf,
}

impl Throttled {
    /// Over a new file in `dir`; `None`, and a line saying why, where that cannot be had.
    fn new(dir: &Path) -> Option<Self> {
        let blkio = Path::new("/sys/fs/cgroup/blkio");
        if !blkio.join("blkio.throttle.read_iops_device").exists() {
            println!("SKIPPED: no cgroup v1 hierarchy of blkio to throttle a device with");
            return None;
        }
        let image = dir.join("image");
        let file = File::create(&image).expect("a file");
        file.set_len(64 << 20).expect("room");
        let words = ["--find", "--show"];
        let output = Command::new("losetup").args(words).arg(&image).output();
        let device = match output {
            Ok(output) if output.status.success() => String::from_utf8(output.stdout),
            other => {
                println!("SKIPPED: no loop device: {other:?}");
                return None;
            }
        };
        let device = device.expect("text").trim().to_owned();
        let name = device.trim_start_matches("/dev/");
        // From here on dropping it removes what there is.
        let mut throttled = Self {
            number: String::new(),
            group: blkio.join(format!("storage-bench-{}-{name}", std::process::id())),
            device: device.clone(),
        };
        let number = fs::read_to_string(format!("/sys/block/{name}/dev"));
        throttled.number = number
            .expect("a block device has a number")
            .trim()
            .to_owned();
        if let Err(error) = fs::create_dir(&throttled.group) {
            println!("SKIPPED: {}: {error}", throttled.group.display());
            return None;
        }
        Some(throttled)
    }

    /// Lets the kernel pass so many reads per second; zero takes the limit away.
    fn limit(&self, iops: u32) {
        let file = self.group.join("blkio.throttle.read_iops_device");
        let set = fs::write(file, format!("{} {iops}", self.number));
        set.expect("the kernel takes a limit");
    }

    /// How many reads of the device the group has done, as the kernel counts them.
    fn reads(&self) -> u64 {
        let file = self.group.join("blkio.throttle.io_serviced");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let line = format!("{} Read ", self.number);
        let mut reads = text.lines().filter_map(|text| text.strip_prefix(&line));
        reads.next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// Waits until the group has done so many reads of the device.
    fn wait_for_reads(&self, count: u64) {
        let patience = Instant::now();
        while self.reads() < count {
            let waited = patience.elapsed();
            assert!(waited < Duration::from_secs(60), "{} reads", self.reads());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The program on the device, within the group.
    fn program(&self, words: &str) -> Command {
        let mut command = Command::new("sh");
        let enter = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        command.args(["-c", enter, "sh"]).arg(&self.group);
        command.arg(env!("CARGO_BIN_EXE_storage-bench"));
        command.args(["block", "--device", &self.device, "--json"]);
        command.args(words.split_whitespace());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &str) -> Report {
        let (code, text, errors) = told(self.program(words).output().expect("it starts"));
        assert_eq!(code, 0, "{text}{errors}");
        report(&text)
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .args(["--detach", &self.device])
            .status();
        let _ = fs::remove_dir(&self.group);
    }
}

fn total(measurement: &Measurement, name: &str) -> f64 {
    let metric = measurement.metric(name, Aggregation::Total);
    *metric.expect(name).value.known().expect(name)
}

fn seconds(measurement: &Measurement, name: &str, q: f64) -> f64 {
    let mut records = measurement.histograms.iter();
    let record = records.find(|record| record.name == name).expect(name);
    let histogram = decode_histogram(&record.hdr_v2_base64).expect("sound");
    histogram.value_at_quantile(q) as f64 / 1e9
}

fn flags(measurement: &Measurement) -> Vec<&str> {
    let flags = measurement.validity.flags.iter();
    flags.map(|flag| flag.code.as_str()).collect()
}

#[test]
fn a_stall_of_the_device_shows_in_the_response_times() {
    unspoilt(stall_shows);
}

fn stall_shows() {
    let dir = folder();
    let Some(device) = Throttled::new(dir.path()) else {
        return;
    };
    let words = "--rate-iops 200 --seed 7 --runtime 10 --ramp-time 0 --iodepth 16";
    // Kernels that throttle nothing yet do not count either.
    device.limit(1_000_000);
    let child = device.program(words).spawn().expect("it starts");
    device.wait_for_reads(200);
    let begun = Instant::now();
    device.limit(1);
    std::thread::sleep(Duration::from_secs(2));
    device.limit(0);
    let stall = begun.elapsed().as_secs_f64();
    let (code, text, errors) = told(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 0, "{text}{errors}");
    let report = report(&text);
    let measurement = measured(&report);
    let window = *measurement.elapsed_s.known().expect("known");
    // What became due in the stall waited for the rest of it: evenly from all of it to nothing. A
    // starved machine can only add to that, and then the program says so of itself.
    let starved = flags(measurement).contains(&"late_generator");
    for q in [0.90, 0.99] {
        let expected = stall - (1.0 - q) * window;
        let found = seconds(measurement, "response_ns", q);
        assert!(found > expected - 0.2, "{q}: {found} s, not {expected} s");
        let within = found < expected + 0.4;
        assert!(starved || within, "{q}: {found} s, not {expected} s");
    }
    assert!(
        seconds(measurement, "lat_ns", 0.95) < 0.5 * stall,
        "fio's lat misses the stall"
    );
    let record = &measurement.histograms[0];
    assert!(record.name == "response_ns" && record.co_corrected);
    let backlog = total(measurement, "backlog_max");
    assert!(
        backlog > 150.0 * stall,
        "{backlog} were due and could not begin"
    );
    let offered = total(measurement, "offered_iops");
    assert!((180.0..220.0).contains(&offered), "{offered}");
}

#[test]
fn a_throttle_is_read_as_what_it_is() {
    unspoilt(throttle_is_read);
}

fn throttle_is_read() {
    let dir = folder();
    let Some(device) = Throttled::new(dir.path()) else {
        return;
    };
    device.limit(500);
    // What the throttle lets pass in a window, besides what had passed before it and was reaped in
    // it; less is what a starved machine does, which has other work than this test.
    let most = |depth: f64, measurement: &Measurement| {
        let elapsed_s = *measurement.elapsed_s.known().expect("known");
        let burst = 50.0;
        500.0 + (depth + burst) / elapsed_s
    };
    let before = device.reads();
    let closed = device.run("--iodepth 128 --runtime 4 --ramp-time 0");
    let passed = device.reads() - before;
    let measurement = measured(&closed);
    let iops = total(measurement, "iops");
    assert!(iops <= most(128.0, measurement), "{iops}");
    let done = measurement.work.known().expect("counted").ops;
    // A few are read to learn what the device is, and those under way at the end are not counted.
    assert!(
        (passed.saturating_sub(128 + 32)..=passed).contains(&done),
        "{done} counted, and the kernel passed {passed}"
    );
    assert!(iops > 250.0, "{iops} of 500");

    let open = device.run("--rate-iops 250 --arrival const --runtime 3 --ramp-time 1");
    let measurement = measured(&open);
    let offered = total(measurement, "offered_iops");
    assert!((249.0..=251.0).contains(&offered), "{offered}");
    let iops = total(measurement, "iops");
    assert!((125.0..=251.0).contains(&iops), "{iops}");

    let beyond = device.run("--rate 3m --runtime 2 --ramp-time 1");
    let measurement = measured(&beyond);
    let found = flags(measurement);
    assert!(found.contains(&"overload"), "{found:?}");
    let offered = total(measurement, "offered_iops");
    assert!(
        (650.0..890.0).contains(&offered),
        "3 MiB/s are 768 per second, not {offered}"
    );
    let (iops, unsent) = (total(measurement, "iops"), total(measurement, "unsent_ios"));
    let most = most(128.0, measurement);
    assert!(iops < most && unsent > 200.0, "{iops} {unsent}");
}

#[test]
fn latencies_are_told_apart_as_fio_does() {
    let dir = folder();
    let run = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        let (code, text, errors) = run_in(dir.path(), &words);
        (code != 3).then(|| {
            assert_eq!(code, 0, "{text}{errors}");
            report(&text)
        })
    };
    let file = "file --size 1m --direct false --number-ios 4000 --json";
    let psync = run(&format!("{file} --engine psync --rw randrw")).expect("psync is everywhere");
    let names = |report: &Report| -> Vec<String> {
        let histograms = &measured(report).histograms;
        histograms
            .iter()
            .map(|record| record.name.clone())
            .collect()
    };
    assert_eq!(names(&psync), ["lat_ns", "read_lat_ns", "write_lat_ns"]);
    assert!(
        measured(&psync)
            .metric("context_switches_per_io", Aggregation::Total)
            .is_some()
    );
    let open = run(&format!(
        "{file} --engine psync --rw randrw --rate-iops 50000"
    ));
    let open = names(&open.expect("psync is everywhere"));
    let all = [
        "response_ns",
        "read_response_ns",
        "write_response_ns",
        "lat_ns",
    ];
    assert_eq!(open[..4], all);
    let Some(uring) = run(file) else {
        println!("SKIPPED: no io_uring here");
        return;
    };
    assert_eq!(names(&uring), ["lat_ns", "slat_ns", "clat_ns"]);
    let measurement = measured(&uring);
    let counts: Vec<u64> = measurement
        .histograms
        .iter()
        .map(|record| record.count)
        .collect();
    // One call in 32, and each submits some.
    assert!(
        counts[1] == counts[2] && counts[1] > 0 && counts[1] < counts[0] / 8,
        "{counts:?}"
    );
}

#[test]
fn a_search_says_what_it_found_and_by_which_probes() {
    let words = "null --latency-target 50ms@p99 --runtime 0.05 --ramp-time 0";
    let words: Vec<&str> = words.split_whitespace().collect();
    let (code, text, errors) = told(program(&words).output().expect("it starts"));
    assert_eq!(code, 0, "{text}{errors}");
    for word in [
        "iops_at_target",
        "one in flight",
        "closed loop",
        "search",
        "p99",
    ] {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}
