//! UDP as a user runs it: every datagram is accounted for, and none goes to an address that has not
//! proven itself.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, failure, measurement, net_bench, report, run, said, value};
use net_bench::control::handshake::NAME;
use net_bench::control::message::{Reply, Request};
use net_bench::control::{Channel, Key};
use net_bench::test::{Direction, Engine, Receive, Shape, SocketOptions, Test, Transport};
use net_bench::transport::rendezvous::{DataAddress, preamble};
use reports::model::Report;
use std::net::{TcpStream, UdpSocket};
use std::process::Output;
use std::time::Duration;

fn measured(output: &Output) -> Report {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    let report = report(output);
    assert!(!measurement(&report).verified.is_empty());
    report
}

fn total(report: &Report, name: &str) -> f64 {
    value(measurement(report), name)
}

#[test]
fn what_was_sent_is_what_came_and_what_was_lost() {
    let server = Server::start(&[]);
    for direction in [&[][..], &["-R"], &["-P", "5", "-T", "2"]] {
        for length in ["8", "18", "1448", "65507"] {
            let output = net_bench(&["udp_stream", "-n", "3000", "-l", length, "--json"])
                .args(["-c", "127.0.0.1", "-p", &server.port()])
                .args(direction)
                .output()
                .unwrap();
            let report = measured(&output);
            let threads = if direction.contains(&"-P") { 2.0 } else { 1.0 };
            let lost = total(&report, "lost_datagrams");
            let words = format!(
                "of {} numbered datagrams arrived, {lost} were lost",
                3000.0 * threads
            );
            let verified = &measurement(&report).verified;
            assert!(verified.contains(&words), "no {words:?} in {verified}");
            assert_eq!(total(&report, "duplicate_datagrams"), 0.0);
            assert_eq!(total(&report, "reordered_datagrams"), 0.0);
            let share = total(&report, "loss_ratio") * 3000.0 * threads;
            assert!((share - lost).abs() < 1e-6);
        }
    }
    let output = run(&["udp_stream", "--bidir", "-n", "2000", "--json"]);
    let report = measured(&output);
    let both = total(&report, "forward_packets_per_s") + total(&report, "reverse_packets_per_s");
    assert!(both > 0.0);
}

#[test]
fn a_receiver_with_no_room_loses_datagrams_and_says_so() {
    let output = run(&[
        "udp_stream",
        "-n",
        "100000",
        "-l",
        "1000",
        "-w",
        "2K",
        "--json",
    ]);
    let report = measured(&output);
    let lost = total(&report, "lost_datagrams");
    let ratio = total(&report, "loss_ratio");
    assert!((ratio - lost / 100_000.0).abs() < 1e-9);
    let received = 100_000.0 - lost;
    let verified = &measurement(&report).verified;
    assert!(
        verified.contains(&format!("{received} of 100000 numbered")),
        "{verified}"
    );
}

#[test]
fn round_trips_of_datagrams_share_threads_and_speak_ipv6() {
    let server = Server::start(&[]);
    for (case, flows) in [("udp_rr", &["-P", "7", "-T", "2"][..]), ("udp_rr", &[])] {
        let output = net_bench(&[
            case,
            "-n",
            "300",
            "--request-size",
            "100",
            "--response-size",
            "9",
        ])
        .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
        .args(flows)
        .output()
        .unwrap();
        let report = measured(&output);
        assert_eq!(total(&report, "unanswered_requests"), 0.0);
    }
    server.wait_for_log("served udp_rr");
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("SKIPPED IPv6: this machine has no IPv6 loopback");
        return;
    }
    for case in ["udp_rr", "udp_stream", "pps", "tcp_rr", "tcp_stream"] {
        measured(&run(&[case, "-6", "-n", "200", "--json"]));
    }
}

#[test]
fn a_timed_stream_has_slices_and_two_rates() {
    let output = run(&["pps", "-t", "0.4", "-O", "0.1", "-i", "0.1", "--json"]);
    let report = measured(&output);
    assert!(measurement(&report).intervals.len() >= 3);
    assert!(total(&report, "sender_packets_per_s") > 0.0);
    let headline: Vec<&str> = measurement(&report)
        .metrics
        .iter()
        .filter(|metric| metric.headline)
        .map(|metric| metric.name.as_str())
        .collect();
    assert_eq!(headline, ["packets_per_s", "loss_ratio"]);
}

/// A test in which the server sends as fast as it can.
fn reverse_stream() -> Test {
    Test {
        transport: Transport::Udp,
        shape: Shape::Stream {
            length_bytes: 1000,
            direction: Direction::Reverse,
        },
        engine: Engine::Plain,
        receive: Receive::Plain,
        busy_poll: false,
        socket: SocketOptions::default(),
        arrival: None,
        placement: Default::default(),
        flows: 1,
        threads: 1,
        duration_s: 1.0,
        operations: None,
        omit_s: 0.0,
        interval_s: 1.0,
        timeout_s: 1.0,
    }
}

/// On loopback there is no fq, and the kernel would take the rate and forget it.
#[test]
fn datagrams_that_nothing_paces_are_not_measured_as_paced() {
    let server = Server::start(&[]);
    let paced: [(&[&str], &str); 4] = [
        (&["udp_stream", "--fq-rate", "1M"], "--fq-rate 1048576"),
        (
            &["udp_stream", "--fq-rate", "1M", "-R"],
            "--fq-rate 1048576",
        ),
        (&["udp_rr", "--fq-rate", "1M"], "--fq-rate 1048576"),
        (
            &["pps", "-e", "txtime", "--rate", "1000"],
            "--engine txtime",
        ),
    ];
    for (case, option) in paced {
        let output = net_bench(case)
            .args(["-t", "0.1", "-O", "0"])
            .args(["-c", "127.0.0.1", "-p", &server.port()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let told = said(&output);
        for word in [option, "lo is", "tc qdisc", "--bitrate"] {
            assert!(told.contains(word), "no {word} in {told}");
        }
    }
    server.assert_serves();
}

#[test]
fn an_address_that_proves_nothing_is_sent_nothing() {
    let server = Server::start(&[]);
    let stream = TcpStream::connect(server.address).unwrap();
    let mut channel = Channel::connect(stream, &Key::EMPTY).unwrap();
    channel
        .send(&Request::Test(Box::new(reverse_stream())))
        .unwrap();
    let Reply::Ready(ready) = channel.receive(Duration::from_secs(60)).unwrap() else {
        panic!("not ready");
    };
    let Some(&DataAddress::Port { port, .. }) = ready.data.first() else {
        panic!("no port");
    };
    let victim = UdpSocket::bind("127.0.0.1:0").unwrap();
    victim.connect(("127.0.0.1", port)).unwrap();
    victim
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let said = |token| [&NAME[..], &preamble(token, 0)[..], &[0; 16]].concat();
    victim.send(&said(&[0; 16])).unwrap();
    assert!(
        victim.recv(&mut [0; 2000]).is_err(),
        "a wrong token is not answered"
    );
    for _ in 0..3 {
        let call = said(&ready.token);
        victim.send(&call).unwrap();
        let answered = victim.recv(&mut [0; 2000]).unwrap();
        assert!(answered <= call.len(), "nothing is amplified");
    }
    assert!(
        victim.recv(&mut [0; 2000]).is_err(),
        "and the stream does not begin"
    );
    drop(channel);
    server.wait_for_log("before its data connections stood");
    server.assert_serves();
}

#[test]
fn a_server_that_dies_is_named() {
    let mut server = Server::start(&[]);
    let client = net_bench(&[
        "udp_rr",
        "-t",
        "60",
        "-i",
        "0.05",
        "--timeout",
        "2",
        "--json",
    ])
    .args(["-c", "127.0.0.1", "-p", &server.port()])
    .stdout(std::process::Stdio::piped())
    .stderr(std::process::Stdio::piped())
    .spawn()
    .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.kill();
    let error = failure(&client.wait_with_output().unwrap());
    assert!(error.contains(&server.port()), "{error}");
}
