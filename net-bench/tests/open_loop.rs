//! The open loop as a user runs it: requests go by a schedule, and what became of it is reported.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, measurement, net_bench, report, run, stderr};
use reports::model::{Aggregation, Fact, Report};

fn measured(arguments: &[&str]) -> Report {
    let output = run(arguments);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{arguments:?} {}",
        stderr(&output)
    );
    report(&output)
}

fn total(report: &Report, name: &str) -> f64 {
    let metric = measurement(report).metric(name, Aggregation::Total);
    *metric
        .unwrap_or_else(|| panic!("no {name}"))
        .value
        .known()
        .unwrap()
}

#[test]
fn every_transport_keeps_a_schedule_and_answers_all_of_it() {
    for case in ["tcp_rr", "unix_rr", "udp_rr"] {
        for more in [
            &[][..],
            &["-P", "5", "-T", "2"],
            &["--arrival", "poisson", "--seed", "7"],
        ] {
            let arguments = ["--request-size", "100", "--response-size", "200", "--json"];
            let load = ["--rate", "4000", "-t", "0.4", "-O", "0.1"];
            let report = measured(&[&[case], &arguments[..], &load, more].concat());
            assert_eq!(total(&report, "offered_per_s"), 4000.0);
            assert!(total(&report, "missed_schedules") >= 0.0);
            let measured = measurement(&report);
            assert!(measured.histograms[0].co_corrected);
            assert!(
                measured.verified.contains("responses matched"),
                "{}",
                measured.verified
            );
            let params = &report.cases[0].benchmark.params;
            assert_eq!(params["rate_per_s"], 4000.0);
            if more.contains(&"--seed") {
                assert_eq!(params["arrival"], "poisson");
                assert_eq!(report.run.seed, Fact::Known(7));
            }
        }
    }
}

#[test]
fn more_than_a_flow_can_carry_is_saturated_and_still_all_answered() {
    let report = measured(&[
        "tcp_rr",
        "--rate",
        "5000000",
        "-t",
        "0.5",
        "-O",
        "0",
        "--request-size",
        "4000",
        "--json",
    ]);
    let validity = &measurement(&report).validity;
    assert!(
        validity.flags.iter().any(|flag| flag.code == "saturated"),
        "{validity:?}"
    );
    assert!(total(&report, "achieved_ratio") < 1.0);
    assert!(total(&report, "unsent_requests") > 0.0);
    assert!(total(&report, "missed_schedules") > 0.0);
}

#[test]
fn a_number_of_requests_ends_an_open_loop_too() {
    let server = Server::start(&[]);
    let output = net_bench(&[
        "tcp_rr", "--rate", "20000", "-n", "500", "-P", "3", "-T", "1",
    ])
    .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let report = report(&output);
    assert_eq!(measurement(&report).work.known().unwrap().ops, 500);
    server.assert_serves();
}

/// Sends per second that the stream's sender made in its window.
fn sent_per_s(report: &Report) -> f64 {
    let length = report.cases[0].benchmark.params["length_bytes"]
        .as_f64()
        .unwrap();
    total(report, "sender_bandwidth_bytes_per_s") / length
}

#[test]
fn streams_keep_a_schedule_whatever_sends_them() {
    let table: [(&[&str], f64); 7] = [
        (&["udp_stream", "--rate", "3000"], 3000.0),
        (&["udp_stream", "-b", "24M", "-l", "1000"], 3000.0),
        (
            &["udp_stream", "--rate", "3000", "-P", "4", "-T", "2"],
            3000.0,
        ),
        (&["udp_stream", "--rate", "9000", "-e", "gso", "-R"], 9000.0),
        (&["pps", "--rate", "64000"], 64_000.0),
        (&["tcp_stream", "-b", "80M", "-l", "10000"], 1000.0),
        (
            &[
                "tcp_stream",
                "--rate",
                "500",
                "-l",
                "1K",
                "-P",
                "3",
                "-T",
                "1",
            ],
            500.0,
        ),
    ];
    for (case, rate) in table {
        let report = measured(&[case, &["-t", "0.5", "-O", "0.1", "--json"]].concat());
        assert_eq!(total(&report, "offered_per_s"), rate, "{case:?}");
        let params = &report.cases[0].benchmark.params;
        assert_eq!(params["rate_per_s"], rate, "{case:?}");
        // A machine that stands still makes a sender late, and it makes up for that: what it sent
        // and what it did not are together what was due.
        let (achieved, sent) = (total(&report, "achieved_ratio"), sent_per_s(&report));
        assert!((achieved - sent / rate).abs() < 1e-6, "{case:?} {sent}");
        assert!(total(&report, "missed_schedules") >= 0.0);
        assert!(total(&report, "unsent_sends") >= 0.0);
    }
}

#[test]
fn a_number_of_sends_is_kept_and_a_rate_for_each_direction() {
    let report = measured(&[
        "udp_stream",
        "--bidir",
        "--rate",
        "5000",
        "-n",
        "300",
        "--json",
    ]);
    for way in ["forward_", "reverse_"] {
        assert_eq!(total(&report, &format!("{way}offered_per_s")), 5000.0);
        assert!(total(&report, &format!("{way}achieved_ratio")) > 0.0);
    }
    let verified = &measurement(&report).verified;
    assert!(verified.contains("of 600 numbered datagrams"), "{verified}");
    assert_eq!(
        report.run.seed.known(),
        None,
        "nothing depends on a seed: {:?}",
        report.run.seed
    );
}

#[test]
fn more_than_a_sender_can_send_is_saturated() {
    let report = measured(&[
        "udp_stream",
        "--rate",
        "50000000",
        "-t",
        "0.3",
        "-O",
        "0",
        "--json",
    ]);
    let validity = &measurement(&report).validity;
    assert!(
        validity.flags.iter().any(|flag| flag.code == "saturated"),
        "{validity:?}"
    );
    assert!(total(&report, "achieved_ratio") < 1.0);
    assert!(total(&report, "unsent_sends") > 0.0);
}
