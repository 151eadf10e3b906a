//! What a server lets its clients have, where it listens, and how it takes its leave.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, failure, measurement, net_bench, report, stderr};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Output, Stdio};
use std::time::Duration;

fn client(server: &Server, arguments: &[&str]) -> Output {
    net_bench(arguments)
        .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
        .output()
        .unwrap()
}

#[test]
fn a_test_that_is_too_long_is_refused_or_cut_off() {
    let server = Server::start(&["--max-time", "0.5"]);
    let error = failure(&client(&server, &["tcp_rr", "-t", "2"]));
    assert!(
        error.contains("--max-time") && error.contains("0.5 s"),
        "{error}"
    );
    let output = client(&server, &["tcp_rr", "-t", "0.3", "-O", "0"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let error = failure(&client(&server, &["tcp_rr", "-n", "1000000000"]));
    assert!(error.contains("longer than the 0.5 s"), "{error}");
    server.assert_serves();
}

#[test]
fn a_test_must_be_paced_where_bandwidth_is_limited() {
    let server = Server::start(&["--max-rate", "10M"]);
    for case in [
        &["tcp_stream", "-n", "10"][..],
        &["tcp_stream", "-n", "10", "--fq-rate", "11M"],
    ] {
        let error = failure(&client(&server, case));
        assert!(
            error.contains("--max-rate") && error.contains("--fq-rate"),
            "{error}"
        );
    }
    // Each way counts; so does a load, which goes beside its probe.
    for case in [
        &["udp_stream", "-n", "10"][..],
        &["udp_stream", "-n", "10", "--bidir", "-b", "50M"],
        &["udp_rr", "-n", "10"],
        &["under_load", "--load", "udp", "-b", "20M", "-n", "10"],
        &["under_load", "--load", "udp", "--rate", "20", "-n", "10"],
    ] {
        let error = failure(&client(&server, case));
        assert!(error.contains("--max-rate"), "{error}");
        let remedy = ["--fq-rate", "--bitrate"];
        assert!(remedy.iter().any(|word| error.contains(word)), "{error}");
    }
    for case in [
        &["udp_stream", "-t", "0.3", "-O", "0", "--bidir", "-b", "30M"][..],
        &["tcp_stream", "-t", "0.3", "-O", "0", "-R", "-b", "60M"],
    ] {
        let output = client(&server, case);
        assert!(output.status.success(), "{case:?}: {}", stderr(&output));
    }
    let paced = [
        "tcp_stream",
        "-R",
        "-t",
        "0.5",
        "-O",
        "0",
        "-P",
        "2",
        "--fq-rate",
        "5M",
    ];
    let output = client(&server, &paced);
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn memory_is_given_to_all_tests_together() {
    let server = Server::start(&["--max-memory", "8M"]);
    let error = failure(&client(&server, &["tcp_stream", "-n", "5", "-l", "9M"]));
    assert!(error.contains("--max-memory"), "{error}");
    for _ in 0..3 {
        let output = client(&server, &["tcp_stream", "-n", "5", "-l", "6M"]);
        assert!(output.status.success(), "given back: {}", stderr(&output));
    }
    server.assert_serves();
}

#[test]
fn data_may_go_to_another_address_than_control() {
    let server = Server::start(&["--bind", "127.0.0.2", "--control-addr", "127.0.0.1"]);
    assert_eq!(server.address.ip().to_string(), "127.0.0.1");
    for case in [
        "tcp_rr",
        "udp_rr",
        "udp_stream",
        "tcp_stream",
        "tcp_crr",
        "under_load",
        "incast",
    ] {
        let output = client(&server, &[case, "-n", "100"]);
        assert!(output.status.success(), "{case}: {}", stderr(&output));
    }
    let output = net_bench(&[
        "serve",
        "-p",
        "0",
        "--bind",
        "0.0.0.0",
        "--control-addr",
        "127.0.0.1",
    ])
    .env("NET_BENCH_KEY", common::KEY)
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = net_bench(&[
        "serve",
        "-p",
        "0",
        "--bind",
        "192.0.2.1",
        "--control-addr",
        "127.0.0.1",
    ])
    .env("NET_BENCH_KEY", common::KEY)
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("192.0.2.1"), "{}", stderr(&output));
}

#[test]
fn a_server_that_is_told_to_end_lets_its_clients_report_what_they_have() {
    let cases: [&[&str]; 8] = [
        &["tcp_rr"],
        &["tcp_rr", "-P", "4", "-T", "2"],
        &["tcp_stream"],
        &["tcp_stream", "-R"],
        &["udp_rr"],
        &["tcp_crr"],
        &["incast"],
        &["udp_stream", "--bidir"],
    ];
    for case in cases {
        let mut server = Server::start(&[]);
        let mut client = net_bench(case)
            .args(["-t", "60", "-O", "0", "-i", "0.05", "--json"])
            .args(["-c", "127.0.0.1", "-p", &server.port()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = [0; 200];
        std::io::Read::read_exact(client.stderr.as_mut().unwrap(), &mut seen).unwrap();
        let stop = if case == ["tcp_rr"] {
            Signal::SIGINT
        } else {
            Signal::SIGTERM
        };
        kill(Pid::from_raw(server.child.id() as i32), stop).unwrap();
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "{case:?}");
        let output = client.wait_with_output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(4),
            "{case:?}: {}",
            stderr(&output)
        );
        let report = report(&output);
        let measured = measurement(&report);
        assert!(measured.work.known().unwrap().ops > 0, "{case:?}");
        let interrupted = |flag: &reports::model::Flag| flag.code == "interrupted";
        assert!(measured.validity.flags.iter().any(interrupted), "{case:?}");
    }
}

#[test]
fn a_client_without_a_test_does_not_hold_a_server_up() {
    let mut server = Server::start(&[]);
    let _silent = std::net::TcpStream::connect(server.address).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}
