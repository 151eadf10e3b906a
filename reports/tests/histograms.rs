//! The histograms of a report, read by the reference implementation: the one in Java by the author
//! of HdrHistogram. Counts must be equal at every line that it prints.

use hdrhistogram::Histogram;
use reports::measure::{histogram_record, new_histogram};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where Debian's libhdrhistogram-java puts it.
const JAR: &str = "/usr/share/java/hdrhistogram.jar";

/// Lines of a percentile distribution: value and how many samples are at most that.
fn read_by_java(record: &str, dir: &Path) -> (Vec<(f64, u64)>, u64) {
    let log = dir.join("histogram.hlog");
    let text = format!("#[Histogram log format version 1.3]\n0.000,1.000,1.000,{record}\n");
    fs::write(&log, text).expect("writable");
    let output = Command::new("java")
        .args(["-cp", JAR, "org.HdrHistogram.HistogramLogProcessor"])
        .args(["-outputValueUnitRatio", "1", "-i"])
        .arg(&log)
        .output()
        .expect("java starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [value, _, count, ..] = words.as_slice()
            && let (Ok(value), Ok(count)) = (value.parse(), count.parse())
        {
            lines.push((value, count));
        }
    }
    let total = text.split("Total count").nth(1);
    let total = total.and_then(|rest| rest.trim_start_matches([' ', '=']).split(']').next());
    let total = total.and_then(|text| text.trim().parse().ok());
    (
        lines,
        total.unwrap_or_else(|| panic!("no total in:\n{text}\n{error}")),
    )
}

fn histogram(values: impl Iterator<Item = (u64, u64)>) -> Histogram<u64> {
    let mut histogram = new_histogram();
    for (value, count) in values {
        histogram.record_n(value, count).expect("in bounds");
    }
    histogram
}

#[test]
fn the_reference_implementation_counts_the_same() {
    let has_java = Command::new("java").arg("-version").output().is_ok();
    if !has_java || !Path::new(JAR).exists() {
        println!(
            "SKIPPED the_reference_implementation_counts_the_same: no java or no {JAR} \
             (scripts/setup --tests)"
        );
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut random = fastrand::Rng::with_seed(5);
    let skewed: Vec<(u64, u64)> = (0..20_000)
        .map(|_| ((-random.f64().ln() * 50_000.0) as u64 + 1, 1))
        .collect();
    let histograms = [
        histogram([(7, 1)].into_iter()),
        histogram([(1, 1), (1_000, 1 << 40), (59_000_000_000, 3)].into_iter()),
        histogram((0..1000).map(|step| (step * step * 1000 + 1, step + 1))),
        histogram(skewed.into_iter()),
    ];
    for histogram in &histograms {
        let record = histogram_record("latency_ns", histogram);
        let (lines, total) = read_by_java(&record.hdr_v2_base64, dir.path());
        assert_eq!(total, record.count);
        assert!(!lines.is_empty());
        for (value, count) in lines {
            // Printed values are the highest that share a bucket.
            let ours = histogram.count_between(0, value as u64);
            assert_eq!(ours, count, "samples up to {value}");
        }
    }
}
