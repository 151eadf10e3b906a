//! Two hosts and a link between them that this test shapes and counts: what is reported is held
//! against arithmetic and against the devices' own counters.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::two_hosts::{B, Host, TwoHosts, VETH_A, VETH_B};
use common::{measurement, report, stderr, value};
use reports::model::{Aggregation, Measurement};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Bytes of payload in a full segment, and of the frame that carries it: 1500 less the headers of
/// IPv4 and TCP with time stamps; 1500 and the Ethernet header.
const PAYLOAD: f64 = 1448.0;
const FRAME: f64 = 1514.0;

/// The hosts, or `None` and a line that says why there are none.
fn two_hosts(queues: u32) -> Option<TwoHosts> {
    let hosts = TwoHosts::new(queues);
    hosts
        .map_err(|reason| println!("SKIPPED two hosts: {reason}"))
        .ok()
}

/// A run from the first host to a server on the second.
fn run_between(hosts: &TwoHosts, arguments: &[&str]) -> Output {
    let server = hosts.server();
    let mut client = hosts.a.net_bench(arguments);
    let output = client
        .args(["-c", B, "-p", &server.port(), "--json"])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stderr(&output),
        server.log()
    );
    output
}

/// Growth of a counter in the report.
fn grown(measured: &Measurement, source: &str, name: &str) -> f64 {
    let mut counters = measured.counters.iter();
    let counter = counters.find(|counter| counter.source == source && counter.name == name);
    let counter = counter.unwrap_or_else(|| panic!("no {source} {name}"));
    counter.after.known().unwrap() - counter.before.known().unwrap()
}

/// Bytes that the token bucket let through since it was made.
fn let_through(hosts: &TwoHosts) -> f64 {
    let text = hosts.a.sh(&format!("tc -s -j qdisc show dev {VETH_A}"));
    let qdiscs: Value = serde_json::from_str(&text).unwrap();
    qdiscs[0]["bytes"].as_f64().unwrap()
}

#[test]
fn a_shaped_link_gives_what_arithmetic_says_and_the_verdict_finds_the_shaper() {
    let Some(hosts) = two_hosts(1) else { return };
    const RATE_BYTES_PER_S: f64 = 100e6 / 8.0;
    // The bucket makes up for 10 ms in which this machine runs something else; over the window it
    // can add no more than 0.4 %.
    let shape = format!(
        "tc qdisc add dev {VETH_A} root tbf rate 100mbit burst 128kb latency 50ms && \
         {{ echo cubic > /proc/sys/net/ipv4/tcp_congestion_control || true; }}"
    );
    if let Err(reason) = hosts.a.try_sh(&shape) {
        println!("SKIPPED a shaped link: this kernel has no token bucket: {reason}");
        return;
    }
    let truth = RATE_BYTES_PER_S * PAYLOAD / FRAME;
    // A machine that stands still loses what the link could have carried, so a run may fall short
    // through no fault of the program; none may exceed the truth, and one must reach it.
    let mut shortfalls = Vec::new();
    for _ in 0..6 {
        let before = let_through(&hosts);
        let output = run_between(&hosts, &["tcp_stream", "-t", "2.5", "-O", "1", "-P", "4"]);
        let report = report(&output);
        let measured = measurement(&report);
        let observed = &measured.facts["observed"];
        let carried = let_through(&hosts) - before;
        assert_payload_share(observed, carried);
        let share = value(measured, "bandwidth_bytes_per_s") / truth;
        assert!(share < 1.01, "goodput is {share} of what the link carries");
        if share > 0.99 {
            assert_judged_as_shaped(observed);
            return;
        }
        shortfalls.push(share);
    }
    panic!("six runs reached only {shortfalls:?} of what the link carries");
}

fn assert_judged_as_shaped(observed: &Value) {
    let verdict = &observed["verdict"];
    assert_eq!(verdict["limited_by"], "shaping", "{verdict}");
    let evidence = verdict["evidence"].as_str().unwrap();
    assert!(evidence.contains("tbf on the sender's va"), "{evidence}");
}

/// Datagrams of 1400 bytes through a token bucket: below its rate all arrive, at the rate that was
/// asked for; above it the link's share of payload does.
#[test]
fn a_rate_below_the_links_loses_nothing_and_one_above_it_fills_it() {
    let Some(hosts) = two_hosts(1) else { return };
    let shape = format!("tc qdisc add dev {VETH_A} root tbf rate 100mbit burst 128kb latency 50ms");
    if let Err(reason) = hosts.a.try_sh(&shape) {
        println!("SKIPPED a shaped link: this kernel has no token bucket: {reason}");
        return;
    }
    const LENGTH: f64 = 1400.0;
    let stream = |bitrate: &str| {
        let arguments = ["udp_stream", "-l", "1400", "-t", "2", "-O", "0.5"];
        let output = run_between(&hosts, &[&arguments[..], &["-b", bitrate]].concat());
        report(&output)
    };
    // As above: a machine that stands still makes a run fall short or overflows a receiver's buffer,
    // so one run must reach the truth and none exceed it.
    reaches(|| {
        let report = stream("50M");
        let measured = measurement(&report);
        let (sent, came) = (
            value(measured, "sender_bandwidth_bytes_per_s") * 8.0 / 50e6,
            value(measured, "bandwidth_bytes_per_s") * 8.0 / 50e6,
        );
        assert!(sent < 1.01, "{sent} of the rate was sent");
        let verdict = &measured.facts["observed"]["verdict"];
        let kept = sent > 0.99 && came > 0.99 && came < 1.01;
        let lost = value(measured, "lost_datagrams");
        if kept && lost == 0.0 {
            assert_eq!(verdict["limited_by"], "pacing", "{verdict}");
        }
        (
            kept && lost == 0.0,
            format!("{sent} sent, {came} came, {lost} lost"),
        )
    });
    let truth = 100e6 / 8.0 * LENGTH / (LENGTH + 42.0);
    reaches(|| {
        let report = stream("200M");
        let measured = measurement(&report);
        let share = value(measured, "bandwidth_bytes_per_s") / truth;
        assert!(share < 1.01, "goodput is {share} of what the link carries");
        let flags = &measured.validity.flags;
        assert!(
            flags.iter().any(|flag| flag.code == "saturated"),
            "the link pushes back on its sender: {flags:?}"
        );
        (share > 0.99, format!("{share} of the link"))
    });
}

/// Datagrams keep a token bucket's queue full, and whatever gets through it has waited for all of it:
/// what the queue holds (its latency's worth and a burst) at the bucket's rate.
#[test]
fn a_request_waits_behind_a_full_queue_for_as_long_as_the_queue_takes() {
    let Some(hosts) = two_hosts(1) else { return };
    let shape = format!("tc qdisc add dev {VETH_A} root tbf rate 100mbit burst 16kb latency 20ms");
    if let Err(reason) = hosts.a.try_sh(&shape) {
        println!("SKIPPED a full queue: this kernel has no token bucket: {reason}");
        return;
    }
    let truth_ns = 20e6 + 16.0 * 1024.0 * 8.0 / 100e6 * 1e9;
    let load = [
        "under_load",
        "--load",
        "udp",
        "-b",
        "150M",
        "-l",
        "1400",
        "-t",
        "2",
        "-O",
        "0.5",
    ];
    let probe = [
        "--probe",
        "udp",
        "--rate",
        "200",
        "--request-size",
        "64",
        "--response-size",
        "64",
    ];
    reaches(|| {
        let output = run_between(&hosts, &[&load[..], &probe].concat());
        let report = report(&output);
        let measured = measurement(&report);
        let median = |name| {
            let metric = measured.metric(name, Aggregation::P50);
            *metric.unwrap().value.known().unwrap()
        };
        let share = median("loaded_round_trip_ns") / truth_ns;
        let idle = median("idle_round_trip_ns") / truth_ns;
        (
            (0.95..1.05).contains(&share) && idle < 0.05,
            format!("loaded {share}, idle {idle} of what the queue takes"),
        )
    });
}

/// Whether one of a few runs reaches what arithmetic says.
fn reaches(run: impl Fn() -> (bool, String)) {
    let mut shortfalls = Vec::new();
    for _ in 0..6 {
        let (reached, what) = run();
        if reached {
            return;
        }
        shortfalls.push(what);
    }
    panic!("six runs fell short: {shortfalls:?}");
}

/// Of what crossed the link, the payload's share is that of full segments: no time is involved.
fn assert_payload_share(observed: &Value, carried: f64) {
    let flows = observed["receiver"]["flows"]["flows"].as_array().unwrap();
    let received = flows
        .iter()
        .map(|flow| flow["after"]["received_bytes"].as_f64().unwrap());
    let share = received.sum::<f64>() / carried;
    let expected = PAYLOAD / FRAME;
    // Besides full segments there are handshakes, the control channel, and what was sent twice.
    assert!(
        share / expected > 0.98 && share / expected < 1.001,
        "{share}, not {expected}"
    );
}

/// Has veth count by queue: it does so where GRO makes it poll, which takes a sender that leaves the
/// receiver something to put together.
fn count_queues(hosts: &TwoHosts) -> bool {
    let set = |host: &Host, device: &str, feature: &str, state: &str| {
        let mut ethtool = host.command("ethtool");
        let set = ethtool
            .args(["-K", device, feature, state])
            .output()
            .unwrap();
        if !set.status.success() {
            println!(
                "SKIPPED queues of veth: ethtool -K {device} {feature}: {}",
                stderr(&set)
            );
        }
        set.status.success()
    };
    set(&hosts.b, VETH_B, "gro", "on") && set(&hosts.a, VETH_A, "tso", "off")
}

fn rx_queues(side: &Value) -> Vec<f64> {
    let queues = side["device"]["queues"]["rx"]
        .as_array()
        .unwrap_or_else(|| panic!("{side}"));
    queues
        .iter()
        .map(|queue| queue["packets"].as_f64().unwrap())
        .collect()
}

#[test]
fn queues_are_counted_as_the_device_counts_them() {
    let Some(hosts) = two_hosts(4) else { return };
    if !count_queues(&hosts) {
        return;
    }
    let output = run_between(
        &hosts,
        &["tcp_stream", "-t", "0.5", "-O", "0", "-P", "16", "-T", "2"],
    );
    let report = report(&output);
    let measured = measurement(&report);
    let receiver = &measured.facts["observed"]["receiver"];
    assert_eq!(receiver["device"]["name"], VETH_B);
    assert_eq!(receiver["device"]["driver"], "veth");
    let queues = rx_queues(receiver);
    assert_eq!(queues.len(), 4);
    // The two readings are not of one moment, and traffic does not wait for them.
    let total = grown(measured, "server: link vb", "rx_packets");
    let share = queues.iter().sum::<f64>() / total;
    assert!((0.98..1.02).contains(&share), "{queues:?} of {total}");
    let used = queues.iter().filter(|&&packets| packets > 0.0).count();
    assert!(used > 1, "16 flows are on one queue: {queues:?}");
    let imbalance = receiver["device"]["queues"]["rx_imbalance"]
        .as_f64()
        .unwrap();
    let most = queues.iter().copied().fold(0.0, f64::max);
    let expected = most * 4.0 / queues.iter().sum::<f64>();
    assert!(
        (imbalance / expected - 1.0).abs() < 1e-9,
        "{imbalance}, not {expected}"
    );
    // Each flow came through a queue's NAPI, and no more of them than there are queues.
    let flows = receiver["flows"]["flows"].as_array().unwrap();
    let napis = flows
        .iter()
        .map(|flow| flow["incoming_napi_id"].as_u64().unwrap());
    let napis: std::collections::BTreeSet<u64> = napis.collect();
    assert!((2..=4).contains(&napis.len()), "{napis:?}");
}

#[test]
fn flows_that_all_use_one_queue_show_in_layout_and_imbalance() {
    let Some(hosts) = two_hosts(4) else { return };
    if !count_queues(&hosts) {
        return;
    }
    // Whichever CPU sends, it is to use queue 2, whose other end is the receiver's queue 2.
    let mask = mask_of_all_cpus();
    let set = format!("echo {mask} > /sys/class/net/{VETH_A}/queues/tx-2/xps_cpus");
    if let Err(reason) = hosts.a.try_sh(&set) {
        // The kernel takes this from root of the whole machine only.
        println!("SKIPPED one queue of veth: XPS cannot be set: {reason}");
        return;
    }
    let output = run_between(&hosts, &["tcp_stream", "-n", "2000", "-P", "8", "-T", "1"]);
    let report = report(&output);
    let observed = &measurement(&report).facts["observed"];
    let queues = rx_queues(&observed["receiver"]);
    assert!(
        queues[2] > 0.0 && queues[0] + queues[1] + queues[3] == 0.0,
        "{queues:?}"
    );
    assert_eq!(
        observed["receiver"]["device"]["queues"]["rx_imbalance"],
        4.0
    );
    let told = observed["queues"].as_str().unwrap();
    assert!(
        told.contains("receiver's vb: 4 receive queues, the busiest 4.00"),
        "{told}"
    );
    let xps = observed["sender"]["device"]["layout"]["xps_cpus"]
        .as_array()
        .unwrap();
    let sizes: Vec<usize> = xps
        .iter()
        .map(|cpus| cpus.as_array().unwrap().len())
        .collect();
    assert!(
        sizes[2] > 0 && sizes[0] + sizes[1] + sizes[3] == 0,
        "{sizes:?}"
    );
}

/// Every possible CPU as the kernel's masks have it: hexadecimal words, the lowest last.
fn mask_of_all_cpus() -> String {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last = possible.trim().rsplit('-').next().unwrap();
    let cpus = last.parse::<u32>().unwrap() + 1;
    let first = match cpus % 32 {
        0 => u32::MAX,
        some => (1 << some) - 1,
    };
    let words = (1..cpus.div_ceil(32)).map(|_| ",ffffffff");
    std::iter::once(format!("{first:x}"))
        .chain(words.map(str::to_owned))
        .collect()
}

/// Played twice: by the test, and by a process of its own that the test kills.
#[test]
fn nothing_is_left_of_hosts_whose_test_is_killed() {
    const PART: &str = "TWO_HOSTS_TO_BE_KILLED";
    if std::env::var_os(PART).is_some() {
        if let Some(hosts) = two_hosts(2) {
            println!("\nholders {} {}", hosts.a.pid(), hosts.b.pid());
            let server = hosts.server();
            println!("\nholders {}", server.child.id());
            std::thread::sleep(Duration::from_secs(60));
        }
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "nothing_is_left_of_hosts_whose_test_is_killed",
            "--nocapture",
        ])
        .env(PART, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pids: Vec<u32> = Vec::new();
    let mut out = BufReader::new(victim.stdout.take().unwrap());
    let mut line = String::new();
    while pids.len() < 3 && out.read_line(&mut line).unwrap() > 0 {
        if line.starts_with("SKIPPED") {
            println!("{line}");
            let _ = victim.wait();
            return;
        }
        if let Some(rest) = line.strip_prefix("holders ") {
            pids.extend(
                rest.split_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
        }
        line.clear();
    }
    assert_eq!(pids.len(), 3, "two holders and a server were to start");
    assert!(pids.iter().all(|&pid| lives(pid)));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let _ = out.read_to_end(&mut Vec::new());
    for _ in 0..1000 {
        if !pids.iter().any(|&pid| lives(pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("of {pids:?} some live on after their test was killed");
}

/// Whether a process is there and no mere remainder that nobody has waited for.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // The state follows the name, which is in parentheses.
    stat.is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .starts_with('Z')
    })
}
