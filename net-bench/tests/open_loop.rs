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
