//! The open loop as a user runs it: requests go by a schedule, and what became of it is reported.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, measurement, net_bench, report, run, stderr, value};
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
    value(measurement(report), name)
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
            let measured = measurement(&report);
            let missed = measured
                .metric("missed_schedules", Aggregation::Total)
                .unwrap();
            let sent = *missed.n.known().unwrap() as f64;
            assert!(*missed.value.known().unwrap() <= sent && sent > 0.0);
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
        // What was sent and what was not are together what was due, in a window of 0.5 s and what
        // a late start left of the warm-up; each flow's first may be due up to a gap late.
        let missed = measurement(&report).metric("missed_schedules", Aggregation::Total);
        let sent = *missed.unwrap().n.known().unwrap() as f64;
        let unsent = total(&report, "unsent_sends");
        let due = 0.5 * rate - params["flows"].as_f64().unwrap();
        assert!(sent + unsent >= due, "{case:?}: {sent} + {unsent} of {due}");
        assert!(total(&report, "missed_schedules") <= sent, "{case:?}");
    }
}

#[test]
fn nothing_goes_before_it_is_due() {
    // Sends of each thread, threads, and how many go with one call.
    let table: [(&[&str], f64, f64, f64, f64); 4] = [
        (
            &["udp_stream", "-b", "5M", "-l", "1000"],
            625.0,
            100.0,
            1.0,
            1.0,
        ),
        (&["pps", "--rate", "20000"], 20_000.0, 2048.0, 1.0, 64.0),
        (
            &["pps", "--rate", "2000", "-P", "4", "-T", "2"],
            2000.0,
            512.0,
            2.0,
            64.0,
        ),
        (
            &["tcp_stream", "--rate", "500", "-l", "1K", "-R"],
            500.0,
            100.0,
            1.0,
            1.0,
        ),
    ];
    for (case, rate, count, threads, batch) in table {
        let count_text = count.to_string();
        let report = measured(&[case, &["-n", &count_text, "-O", "0", "--json"]].concat());
        // The last call of a thread cannot go before all that were due before it.
        let least_s = (count - batch) * threads / rate;
        // A call of which the kernel takes a part is followed by one more.
        let most = (count + batch) * threads / least_s;
        let sent = sent_per_s(&report);
        assert!(sent <= most, "{case:?}: {sent} of {rate} per second");
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
