//! Every case, small, as a user runs it: the report is valid and the numbers are there.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, assert_measured, measurement, net_bench, report, run, stderr, total};
use net_bench::cases::CASES;
use net_bench::mesh;
use reports::case::Availability;
use reports::model::{Aggregation, Outcome};

#[test]
fn every_case_of_the_table_runs_by_itself() {
    for row in CASES {
        let output = run(&[row.entry.name, "-n", "200", "--json"]);
        let report = report(&output);
        // Those of a device are tested where there is one, in rdma.rs.
        if let Availability::Unavailable { reason } = (row.entry.probe)() {
            assert_eq!(output.status.code(), Some(3), "{}", row.entry.name);
            let outcome = &report.cases[0].outcome;
            let skipped = matches!(outcome, Outcome::Skipped { .. });
            assert!(skipped, "{}, {reason}: {outcome:?}", row.entry.name);
            continue;
        }
        assert_measured(&output);
        assert_eq!(report.hosts.len(), 1);
        let expected = format!("net-bench/{}", row.entry.name);
        assert_eq!(report.cases[0].benchmark.id, expected);
        assert!(
            measurement(&report)
                .metrics
                .iter()
                .any(|metric| metric.headline)
        );
    }
}

#[test]
fn round_trips_are_counted_and_timed_one_by_one() {
    let output = run(&[
        "tcp_rr",
        "-n",
        "300",
        "--request-size",
        "100",
        "--response-size",
        "3000",
        "-P",
        "3",
        "--json",
    ]);
    assert_measured(&output);
    let report = report(&output);
    let measured = measurement(&report);
    assert_eq!(
        (
            measured.work.known().expect("known").ops,
            measured.work.known().expect("known").bytes
        ),
        (900, 900 * 3100)
    );
    assert_eq!(measured.histograms[0].count, 900);
    let mean = measured
        .metric("round_trip_ns", Aggregation::Mean)
        .unwrap()
        .value
        .known()
        .unwrap();
    let half = measured
        .metrics
        .iter()
        .find(|metric| metric.compat.as_deref() == Some("sockperf"))
        .unwrap();
    let half = half.value.known().unwrap();
    assert!(
        (half * 2.0 / mean - 1.0).abs() < 1e-9,
        "{half} is not half of {mean}"
    );
    assert!(
        measured.verified.contains("900 responses matched"),
        "{}",
        measured.verified
    );
}

#[test]
fn rounds_of_incast_bring_a_block_on_every_flow() {
    for (length, threads) in [("1", "1"), ("70001", "3"), ("2M", "8")] {
        let arguments = ["incast", "-n", "12", "-P", "8", "-l", length, "-T", threads];
        let output = net_bench(&arguments).arg("--json").output().unwrap();
        assert_measured(&output);
        let report = report(&output);
        let measured = measurement(&report);
        let bytes = net_bench::size::parse(length).unwrap();
        let work = measured.work.known().unwrap();
        assert_eq!((work.ops, work.bytes), (12, 12 * 8 * bytes));
        let count = |name: &str| {
            let of_name = measured.histograms.iter().find(|found| found.name == name);
            of_name.unwrap().count
        };
        assert_eq!((count("round_ns"), count("block_ns")), (12, 12 * 8));
        assert_eq!(count("request_spread_ns"), 12);
        let fairness = total(&output, "fairness_ratio");
        assert!((1.0 / 8.0..=1.0 + 1e-9).contains(&fairness), "{fairness}");
        assert!(total(&output, "bandwidth_bytes_per_s") > 0.0);
        // It is there, whatever it is.
        total(&output, "retransmits");
        assert!(
            measured.verified.contains("96 responses matched"),
            "{}",
            measured.verified
        );
    }
}

#[test]
fn flows_share_threads() {
    let output = run(&["tcp_rr", "-n", "200", "-P", "9", "-T", "2", "--json"]);
    assert_measured(&output);
    // More than the socket buffers hold, so that sends and receives come in parts.
    let output = run(&[
        "tcp_rr",
        "-n",
        "6",
        "-P",
        "4",
        "-T",
        "1",
        "--request-size",
        "6M",
        "--response-size",
        "5M",
        "--json",
    ]);
    assert_measured(&output);
    for direction in [&[][..], &["-R"], &["--bidir"]] {
        let output = net_bench(&["tcp_stream", "-n", "300", "-P", "7", "-T", "3", "--json"])
            .args(direction)
            .output()
            .unwrap();
        assert_measured(&output);
    }
}

#[test]
fn streams_of_odd_lengths_arrive_whole_in_both_directions() {
    for length in ["1", "7", "65537", "3M"] {
        for direction in [&[][..], &["-R"], &["--bidir"]] {
            let output = net_bench(&["tcp_stream", "-n", "30", "-l", length, "--json"])
                .args(direction)
                .output()
                .unwrap();
            assert_measured(&output);
        }
    }
    let output = run(&["tcp_stream", "--bidir", "-n", "50", "-l", "10000", "--json"]);
    let bytes = measurement(&report(&output))
        .work
        .known()
        .expect("known")
        .bytes;
    assert_eq!(bytes, 2 * 50 * 10_000);
    let sum = total(&output, "forward_bandwidth_bytes_per_s")
        + total(&output, "reverse_bandwidth_bytes_per_s");
    let all = total(&output, "bandwidth_bytes_per_s");
    assert!((sum / all - 1.0).abs() < 1e-9, "{sum} is not {all}");
}

#[test]
fn a_timed_run_has_a_warm_up_and_slices() {
    let output = run(&[
        "tcp_stream",
        "-t",
        "0.3",
        "-O",
        "0.1",
        "-i",
        "0.05",
        "--json",
    ]);
    assert_measured(&output);
    let report = report(&output);
    let measured = measurement(&report);
    assert!(
        measured.intervals.len() >= 3,
        "{}",
        measured.intervals.len()
    );
    let sliced: u64 = measured
        .intervals
        .iter()
        .map(|slice| slice.work.bytes)
        .sum();
    assert_eq!(sliced, measured.work.known().expect("known").bytes);
    assert!(
        stderr(&output).contains(" s  "),
        "slices are shown: {}",
        stderr(&output)
    );
}

#[test]
fn a_report_tells_what_was_behind_its_numbers() {
    let output = run(&[
        "tcp_stream",
        "-t",
        "0.5",
        "-O",
        "0.1",
        "-i",
        "0.1",
        "-P",
        "2",
        "--json",
    ]);
    assert_measured(&output);
    let report = report(&output);
    let measured = measurement(&report);
    let observed = &measured.facts["observed"];
    assert!(observed["limited_by"].is_string(), "{observed}");
    for side in ["sender", "receiver"] {
        let side = &observed[side];
        assert_eq!(side["device"]["name"], "lo", "{side}");
        let cores = side["cores"].as_array().expect("the cores were read");
        assert!(!cores.is_empty());
        let flows = &side["flows"];
        assert_eq!(flows["flows"].as_array().expect("of each flow").len(), 2);
        assert!(
            !flows["course"].as_array().expect("over time").is_empty(),
            "{flows}"
        );
    }
    // The kernel's own count of bytes agrees with ours: what arrived in the window, and before it.
    let flows = &observed["receiver"]["flows"];
    let received = flows["totals"]["received_bytes"]
        .as_u64()
        .expect("Linux counts it");
    let counted = measured.work.known().expect("known").bytes;
    let lifetime: u64 = flows["flows"]
        .as_array()
        .expect("of each flow")
        .iter()
        .map(|flow| {
            flow["after"]["received_bytes"]
                .as_u64()
                .expect("Linux counts it")
        })
        .sum();
    assert!(
        (1..=lifetime).contains(&received),
        "{received} of {lifetime}"
    );
    assert!(counted <= lifetime, "{counted} of {lifetime}");
    for name in [
        "sender_cpu_s_per_gib",
        "receiver_cpu_s_per_gib",
        "retransmits",
    ] {
        total(&output, name);
    }
    let named = |source: &str, name: &str| {
        let mut counters = measured.counters.iter();
        counters.any(|counter| counter.source == source && counter.name == name)
    };
    assert!(named("/proc/net/snmp Tcp", "RetransSegs") && named("link lo", "rx_over_errors"));
}

#[test]
fn a_paced_stream_is_judged_as_pacing() {
    let output = run(&[
        "tcp_stream",
        "-t",
        "1",
        "-O",
        "0.2",
        "--fq-rate",
        "5M",
        "--json",
    ]);
    assert_measured(&output);
    let report = report(&output);
    let verdict = &measurement(&report).facts["observed"]["verdict"];
    assert_eq!(verdict["limited_by"], "pacing", "{verdict}");
}

#[test]
fn a_server_elsewhere_tells_its_counters_too() {
    let server = Server::start(&[]);
    let output = run(&[
        "tcp_rr",
        "-n",
        "500",
        "-c",
        "127.0.0.1",
        "-p",
        &server.port(),
        "--json",
    ]);
    assert_measured(&output);
    let report = report(&output);
    let measured = measurement(&report);
    let observed = &measured.facts["observed"];
    assert!(observed["client"]["threads"].is_object() && observed["server"]["threads"].is_object());
    let theirs = measured
        .counters
        .iter()
        .any(|counter| counter.source.starts_with("server: link"));
    assert!(theirs, "{:?}", measured.counters);
    total(&output, "client_cpu_s_per_mpacket");
    // Both count the same segments, whoever looks.
    let segments = |side: &str, way: &str| observed[side]["flows"]["totals"][way].as_u64().unwrap();
    assert!(segments("client", "segments_out") >= 500 && segments("server", "segments_in") >= 500);
}

#[test]
fn a_stream_that_ends_in_its_warm_up_is_no_measurement() {
    let output = run(&["tcp_stream", "-n", "1", "-l", "1", "-O", "0.2", "--json"]);
    // The sender's own warm-up may have filled the receiver's: then one byte was measured.
    match output.status.code() {
        Some(0) => assert!(
            measurement(&report(&output))
                .work
                .known()
                .expect("known")
                .bytes
                > 0
        ),
        _ => assert!(
            common::failure(&output).contains("warm-up"),
            "{}",
            stderr(&output)
        ),
    }
}

#[test]
fn a_server_elsewhere_serves_several_clients_and_reports_its_host() {
    let server = Server::start(&[]);
    let clients: Vec<_> = [["tcp_rr"], ["tcp_stream"]]
        .iter()
        .map(|case| {
            net_bench(case)
                .args([
                    "-t",
                    "0.3",
                    "-O",
                    "0",
                    "-c",
                    "localhost",
                    "--json",
                    "-p",
                    &server.port(),
                ])
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for client in clients {
        let output = client.wait_with_output().unwrap();
        assert_measured(&output);
        let report = report(&output);
        assert_eq!(report.hosts.len(), 2);
        assert_eq!(report.cases[0].benchmark.params["server"], "remote");
    }
    server.wait_for_log("served tcp_rr");
    server.wait_for_log("served tcp_stream");
}

#[test]
fn ipv6_works_where_there_is_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("no IPv6 loopback here: nothing to test");
        return;
    }
    let server = Server::start(&["--bind", "::1"]);
    let output = run(&[
        "tcp_rr",
        "-n",
        "10",
        "-c",
        "::1",
        "-p",
        &server.port(),
        "--json",
    ]);
    assert_measured(&output);
}

#[test]
fn connections_come_and_go_and_every_transaction_is_counted_on_both_sides() {
    let server = Server::start(&[]);
    for threads in ["1", "3"] {
        let output = net_bench(&[
            "tcp_crr",
            "-n",
            "400",
            "-T",
            threads,
            "--response-size",
            "3000",
        ])
        .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
        .output()
        .unwrap();
        assert_measured(&output);
        let report = report(&output);
        let measured = measurement(&report);
        let ops = 400 * threads.parse::<u64>().unwrap();
        assert_eq!(measured.work.known().unwrap().ops, ops);
        let counts: Vec<u64> = measured.histograms.iter().map(|h| h.count).collect();
        assert_eq!(counts, [ops, ops], "transactions and their connections");
        let of = |name| {
            let metric = measured.metric(name, Aggregation::Mean).unwrap();
            *metric.value.known().unwrap()
        };
        assert!(of("connect_ns") < of("transaction_ns"));
        assert!(
            measured
                .verified
                .contains(&format!("{ops} connections brought"))
        );
    }
    server.wait_for_log("served tcp_crr");
    server.assert_serves();
}

#[test]
fn system_calls_are_those_that_an_operation_takes() {
    let output = run(&["tcp_rr", "-n", "1000", "--json"]);
    assert_measured(&output);
    let report = report(&output);
    let observed = &measurement(&report).facts["observed"];
    // A send and a receive each.
    let client = &observed["client"]["threads"];
    assert_eq!(client["system_calls"], 2000, "{client}");
}

#[test]
fn a_server_for_one_test_ends_after_it() {
    let mut server = Server::start(&["--once"]);
    server.assert_serves();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_list_names_every_case_and_why_it_cannot_run() {
    let table = run(&["list"]);
    let json = run(&["list", "--json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    // What runs among many servers follows the table.
    assert_eq!(listed.len(), CASES.len() + 1);
    assert_eq!(listed[CASES.len()]["name"], mesh::NAME);
    for (row, listed) in CASES.iter().zip(&listed) {
        assert_eq!(listed["name"], row.entry.name);
        assert!(listed["available"].as_bool().unwrap() || listed["reason"].is_string());
        assert!(String::from_utf8_lossy(&table.stdout).contains(row.entry.summary));
    }
}

#[test]
fn the_human_block_and_a_file_hold_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sub/report.json");
    let output = run(&["tcp_rr", "-n", "1000", "-o", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("transactions_per_s") && text.contains("verified"),
        "{text}"
    );
    // What was observed stands there in words, and its details only in the file.
    assert!(
        text.contains("limited_by") && !text.contains("rwnd_limited_us"),
        "{text}"
    );
    let report = reports::model::load(&path).unwrap();
    assert_eq!(measurement(&report).work.known().expect("known").ops, 1000);
}

#[test]
fn help_gives_units_defaults_and_the_definition() {
    for row in CASES {
        let output = run(&[row.entry.name, "--help"]);
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        for word in [
            "Definition:",
            "seconds",
            "default",
            "Exit codes: 0 measured",
        ] {
            assert!(
                help.contains(word),
                "{}: no {word:?} in {help}",
                row.entry.name
            );
        }
    }
}
