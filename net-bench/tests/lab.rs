//! What only the kernel of `scripts/lab` has: fq, which lets datagrams go at their times and rates.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{measurement, value};
use reports::model::{self, Report};
use std::fs;
use std::path::Path;
use std::process::Command;

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");

fn read(file: &Path) -> Report {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    model::parse(&text, file).unwrap()
}

/// How many packets fq held back, as `tc -s qdisc` tells.
fn throttled(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    // "throttled" also stands before the number of flows that are held back now.
    let counts = words.windows(2).filter(|pair| pair[0] == "throttled");
    counts
        .filter_map(|pair| pair[1].parse().ok())
        .max()
        .unwrap_or(0)
}

/// Two machines, fq on the way: datagrams with times are held back one by one and all arrive, at the
/// rate of their schedule, with several per call; a rate for the flow is kept as well.
#[test]
fn fq_keeps_the_times_of_datagrams_and_the_rates_of_flows() {
    let (temporary, results) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = results.path().join("key");
    fs::write(&key, "a key of this test alone, and long enough\n").unwrap();
    let program = env!("CARGO_BIN_EXE_net-bench");
    let script = format!(
        "set -e
        tc qdisc replace dev eth0 root fq
        lab-on 2 {program} serve --bind 10.77.0.2 --key-file {key} & server=$!
        stream() {{
            {program} udp_stream \"$@\" -t 2 -O 0.5 --timeout 60 -c 10.77.0.2 --key-file {key} --json
        }}
        for try in {{1..60}}; do
            sleep 0.5
            {program} tcp_rr -n 1 -c 10.77.0.2 --key-file {key} >/dev/null && break
        done
        stream -e txtime --rate 1000 -l 1000 >\"$LAB_OUT/timed.json\"
        tc -s qdisc show dev eth0 >\"$LAB_OUT/qdisc\"
        stream --fq-rate 256K -l 1400 >\"$LAB_OUT/rate.json\"
        kill $server",
        key = key.display()
    );
    let output = Command::new(LAB)
        .args(["run", "--nodes", "2", "--timeout", "300", "--out"])
        .arg(results.path())
        .args(["--", "bash", "-c", &script])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED fq in a lab of two: {}", said.trim());
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}");

    let timed = read(&results.path().join("timed.json"));
    let timed = measurement(&timed);
    assert_eq!(value(timed, "lost_datagrams"), 0.0);
    let sent = value(timed, "sender_packets_per_s");
    // An emulated machine that stands still sends less; never more.
    assert!((1.0..1100.0).contains(&sent), "{sent} per second of 1000");
    let sender = &timed.facts["observed"]["sender"]["threads"];
    let calls = sender["system_calls"].as_f64().unwrap();
    assert!(
        calls < 0.5 * sent * 2.0,
        "{calls} calls: not several per call"
    );
    let held = throttled(&results.path().join("qdisc"));
    assert!(held > 0, "fq held back none of some 2500 packets");

    let rate = read(&results.path().join("rate.json"));
    let rate = measurement(&rate);
    // The discipline counts the frame of 1442 bytes, of which 1400 are payload.
    let share = value(rate, "sender_bandwidth_bytes_per_s") / (262_144.0 * 1400.0 / 1442.0);
    assert!((0.01..1.1).contains(&share), "{share} of the rate");
    // One that falls short is limited by something else.
    let verdict = &rate.facts["observed"]["verdict"];
    assert!(
        share < 0.95 || verdict["limited_by"] == "pacing",
        "{verdict}"
    );
}
