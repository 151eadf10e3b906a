//! A probe beside what loads its way: each over what was asked, and the numbers of both.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, assert_measured, measurement, net_bench, report, said, stderr, total};
use reports::model::Aggregation;

#[test]
fn a_probe_is_measured_without_and_beside_streams() {
    let server = Server::start(&["--once"]);
    let output = net_bench(&["under_load", "-t", "0.4", "-O", "0.1", "-P", "3", "--bidir"])
        .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
        .output()
        .unwrap();
    assert_measured(&output);
    let report = report(&output);
    let measured = measurement(&report);
    let p50 = |name| {
        let metric = measured.metric(name, Aggregation::P50);
        *metric
            .unwrap_or_else(|| panic!("no {name}"))
            .value
            .known()
            .unwrap()
    };
    let difference = p50("loaded_round_trip_ns") - p50("idle_round_trip_ns");
    assert!((p50("added_round_trip_ns") - difference).abs() < 1e-6);
    assert!(total(&output, "bandwidth_bytes_per_s") > 0.0);
    for words in ["idle: ", "loaded: ", "all 6 flows received"] {
        assert!(measured.verified.contains(words), "{}", measured.verified);
    }
    // Both tests are one client's, after whom this server ends.
    server.wait_for_log("served tcp_rr over 1 flow(s), under_load over 3 flow(s)");
}

#[test]
fn a_probe_and_its_load_each_go_over_what_was_asked() {
    let server = Server::start(&[]);
    for (probe, load) in [("tcp", "udp"), ("udp", "tcp"), ("udp", "udp")] {
        for direction in [&[][..], &["-R"], &["--bidir"]] {
            let output = net_bench(&["under_load", "--probe", probe, "--load", load])
                .args(["-t", "0.3", "-O", "0.1", "-P", "2", "-b", "80M"])
                .args(["--congestion", "reno"])
                .args(direction)
                .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
                .output()
                .unwrap();
            if (probe, load) == ("udp", "udp") {
                assert_eq!(output.status.code(), Some(2), "{}", said(&output));
                assert!(stderr(&output).contains("--congestion"));
                continue;
            }
            assert_measured(&output);
            let report = report(&output);
            let params = &report.cases[0].benchmark.params;
            assert_eq!(
                (&params["probe"], &params["load"]),
                (&probe.into(), &load.into())
            );
            let measured = measurement(&report);
            let has = |name: &str| measured.metrics.iter().any(|metric| metric.name == name);
            assert_eq!(has("unanswered_requests"), probe == "udp", "{probe} {load}");
            let datagrams = [
                "packets_per_s",
                "forward_packets_per_s",
                "reverse_packets_per_s",
            ];
            assert_eq!(datagrams.iter().any(|name| has(name)), load == "udp");
            assert!(total(&output, "bandwidth_bytes_per_s") > 0.0);
        }
    }
    let output = net_bench(&[
        "under_load",
        "--probe",
        "udp",
        "--load",
        "udp",
        "-e",
        "mmsg",
    ])
    .args([
        "--receive",
        "mmsg",
        "-t",
        "0.3",
        "-O",
        "0.1",
        "-P",
        "2",
        "-T",
        "1",
        "--json",
    ])
    .output()
    .unwrap();
    assert_measured(&output);
    server.assert_serves();
}
