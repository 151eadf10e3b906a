//! Peers that die, freeze or are interrupted in the middle: the other side ends with a reason, and
//! the server is there for the next client.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, failure, measurement, net_bench, report, run, stderr};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A client in the middle of a long test: it has shown its first slices.
fn busy_client(command: &mut Command) -> Child {
    let mut child = command
        .args(["-t", "60", "-O", "0", "-i", "0.05", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = [0; 200];
    std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut seen).unwrap();
    child
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

/// The client's output; the pipes are read while it ends, so that it cannot block on them.
fn output_of(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

const CASES: [&[&str]; 8] = [
    &["tcp_rr"],
    &["udp_rr"],
    &["udp_stream", "-R"],
    &["tcp_crr"],
    &["tcp_rr", "--rate", "1000", "-P", "2"],
    &["tcp_stream"],
    &["tcp_stream", "-R", "-P", "4", "-T", "2"],
    &["tcp_stream", "--bidir"],
];

#[test]
fn a_client_outlives_its_server_and_names_it() {
    for case in CASES {
        let mut server = Server::start(&[]);
        let port = server.port();
        let client = busy_client(net_bench(case).args(["-c", "127.0.0.1", "-p", &port]));
        server.kill();
        let error = failure(&output_of(client));
        assert!(
            error.contains(&format!("127.0.0.1:{port}")),
            "{case:?}: {error}"
        );
    }
}

#[test]
fn a_server_outlives_its_clients() {
    let server = Server::start(&["--max-clients", "1"]);
    for (number, case) in CASES.iter().enumerate() {
        let port = server.port();
        let mut client = busy_client(net_bench(case).args(["-c", "127.0.0.1", "-p", &port]));
        client.kill().unwrap();
        client.wait().unwrap();
        // One line per client: this one's, after two for each earlier case.
        while server.log().lines().count() < 2 * number + 1 {
            std::thread::sleep(Duration::from_millis(10));
        }
        server.assert_serves();
        while server.log().lines().count() < 2 * number + 2 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_frozen_server_is_given_up() {
    let server = Server::start(&[]);
    let port = server.port();
    let client = busy_client(net_bench(&["tcp_rr", "--timeout", "1"]).args([
        "-c",
        "127.0.0.1",
        "-p",
        &port,
    ]));
    signal(&server.child, Signal::SIGSTOP);
    let error = failure(&output_of(client));
    assert!(
        error.contains("nothing moved") && error.contains(&port),
        "{error}"
    );
}

#[test]
fn an_interrupted_client_reports_what_it_has_and_says_so() {
    for case in CASES {
        for remote in [false, true] {
            let server = Server::start(&[]);
            let port = server.port();
            let mut command = net_bench(case);
            if remote {
                command.args(["-c", "127.0.0.1", "-p", &port]);
            }
            let client = busy_client(&mut command);
            signal(&client, Signal::SIGINT);
            let output = output_of(client);
            assert_eq!(
                output.status.code(),
                Some(4),
                "{case:?} {remote}: {}",
                stderr(&output)
            );
            let report = report(&output);
            let measured = measurement(&report);
            assert!(
                measured.work.known().expect("known").ops > 0
                    && measured.elapsed_s.known().is_some_and(|s| *s < 59.0)
            );
            let codes: Vec<&str> = measured
                .validity
                .flags
                .iter()
                .map(|flag| flag.code.as_str())
                .collect();
            assert!(codes.contains(&"interrupted"), "{case:?}: {codes:?}");
            if remote {
                server.assert_serves();
            }
        }
    }
}

#[test]
fn nothing_of_a_killed_client_stays_behind() {
    let client = busy_client(&mut net_bench(&["tcp_stream"]));
    let pid = client.id();
    signal(&client, Signal::SIGTERM);
    let output = output_of(client);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(run(&["tcp_rr", "-n", "5"]).status.success());
}
