//! Streams through io_uring, against each other and against plain calls, with peers that die and
//! kernels that refuse.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, failure, measurement, net_bench, report, run, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{Aggregation, Outcome};
use serde_json::Value;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

/// Whether this machine has io_uring; says so if it has not.
fn has_io_uring() -> bool {
    let output = run(&["tcp_stream", "-n", "8", "-e", "uring", "--json"]);
    if output.status.code() == Some(3) {
        println!("SKIPPED io_uring: {}", skipped(&output));
        return false;
    }
    assert!(output.status.success(), "{}", said(&output));
    true
}

/// The reason of a case that cannot run, with the exit code that goes with it.
fn skipped(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(3), "{}", said(output));
    match &report(output).cases[0].outcome {
        Outcome::Skipped { reason } => reason.clone(),
        other => panic!("not skipped: {other:?}"),
    }
}

/// Runs a case that must succeed; returns what was behind its number.
fn observed(command: &mut Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{command:?} {}",
        said(&output)
    );
    let report = report(&output);
    let measured = measurement(&report);
    let verified = &measured.verified;
    assert!(
        verified.contains("received every byte") && verified.contains("bytes of their position"),
        "{verified}"
    );
    measured.facts["observed"].clone()
}

#[test]
fn rings_and_plain_calls_understand_each_other() {
    if !has_io_uring() {
        return;
    }
    let server = Server::start(&[]);
    for (engine, receive) in [
        ("uring", "uring"),
        ("uring", "plain"),
        ("plain", "uring"),
        ("uring-zerocopy", "uring"),
        ("sendfile", "uring"),
    ] {
        for direction in [&[][..], &["-R"], &["--bidir"], &["-P", "2"]] {
            for length in ["1", "1000", "300000"] {
                let mut command = net_bench(&["tcp_stream", "-n", "100", "-l", length]);
                command
                    .args(["-e", engine, "--receive", receive])
                    .args(direction);
                command.args(["-c", "127.0.0.1", "-p", &server.port()]);
                let seen = observed(&mut command);
                let prefix = if direction == ["--bidir"] {
                    "forward_"
                } else {
                    ""
                };
                let ring = |side: &str| seen[format!("{prefix}{side}")]["ring"].clone();
                let (sender, receiver) = (ring("sender"), ring("receiver"));
                assert_eq!(sender.is_object(), engine.starts_with("uring"), "{seen}");
                assert_eq!(receiver.is_object(), receive == "uring", "{seen}");
                for ring in [sender, receiver] {
                    if ring.is_object() {
                        assert!(ring["enters"].as_u64().unwrap() > 0, "{ring}");
                        assert!(ring["depth"].as_u64().unwrap() > 0, "{ring}");
                    }
                }
            }
        }
    }
}

#[test]
fn datagrams_are_counted_one_by_one() {
    if !has_io_uring() {
        return;
    }
    let server = Server::start(&[]);
    for (engine, receive) in [("uring", "uring"), ("uring", "mmsg"), ("gso", "uring")] {
        for more in [&[][..], &["-R"], &["-P", "2"], &["--bidir"]] {
            for length in ["18", "1448"] {
                let output = net_bench(&["udp_stream", "-n", "2000", "-e", engine, "--json"])
                    .args(["--receive", receive, "-l", length, "-p", &server.port()])
                    .args(["-c", "127.0.0.1"])
                    .args(more)
                    .output()
                    .unwrap();
                assert_eq!(output.status.code(), Some(0), "{}", said(&output));
                let report = report(&output);
                let measured = measurement(&report);
                assert!(measured.work.known().unwrap().ops > 0);
                let prefix = if more == ["--bidir"] { "forward_" } else { "" };
                for count in ["duplicate", "reordered", "late", "foreign"] {
                    let name = format!("{prefix}{count}_datagrams");
                    let metric = measured.metric(&name, Aggregation::Total).unwrap();
                    assert_eq!(
                        metric.value.known(),
                        Some(&0.0),
                        "{engine} {receive} {name}"
                    );
                }
                let receiver = &measured.facts["observed"][format!("{prefix}receiver")];
                assert_eq!(
                    receiver["ring"].is_object(),
                    receive == "uring",
                    "{receiver}"
                );
            }
        }
    }
}

#[test]
fn small_socket_buffers_hold_nothing_up() {
    if !has_io_uring() {
        return;
    }
    for engine in ["uring", "uring-zerocopy"] {
        for length in ["3000", "1M"] {
            observed(
                net_bench(&["tcp_stream", "-n", "64", "-w", "4K", "-l", length]).args([
                    "-e",
                    engine,
                    "--receive",
                    "uring",
                ]),
            );
        }
    }
}

#[test]
fn what_the_kernel_copied_in_spite_of_zerocopy_is_reported() {
    if !has_io_uring() {
        return;
    }
    let output = run(&["tcp_stream", "-n", "500", "-e", "uring-zerocopy", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let report = report(&output);
    let measured = measurement(&report);
    let share = measured.metric("zerocopy_copied_ratio", Aggregation::Total);
    // Loopback always copies: the memory would be the receiver's, too.
    assert_eq!(share.unwrap().value.known(), Some(&1.0));
    let flags = &measured.validity.flags;
    assert!(
        flags.iter().any(|flag| flag.code == "zerocopy_copied"),
        "{flags:?}"
    );
}

/// Has a command run, or started, where io_uring is forbidden; `None` where that cannot be done.
fn forbidden<T: Send>(start: impl FnOnce() -> T + Send) -> Option<T> {
    let work = || bench_sys::forbid::io_uring().map(|()| start());
    let result = thread::scope(|scope| scope.spawn(work).join().unwrap());
    result
        .map_err(|error| println!("SKIPPED io_uring forbidden: no seccomp: {error}"))
        .ok()
}

#[test]
fn a_refusal_is_unavailable_on_whichever_side_it_happens() {
    let engines: [&[&str]; 3] = [
        &["--engine", "uring"],
        &["--engine", "uring-zerocopy"],
        &["--receive", "uring"],
    ];
    let Some(server) = forbidden(|| Server::start(&[])) else {
        return;
    };
    let local = |engine: &[&str]| {
        let mut command = net_bench(&["tcp_stream", "-n", "100", "--json"]);
        forbidden(|| command.args(engine).output().unwrap()).unwrap()
    };
    for engine in engines {
        let reason = skipped(&local(engine));
        for word in [
            engine.join(" ").as_str(),
            "io_uring_setup",
            "not permitted",
            "seccomp",
        ] {
            assert!(reason.contains(word), "no {word:?} in {reason}");
        }
    }
    if !has_io_uring() {
        return;
    }
    for engine in engines {
        // The side that the option is for is the server's.
        let reverse: &[&str] = if engine[0] == "--engine" {
            &["-R"]
        } else {
            &[]
        };
        for direction in [reverse, &["--bidir"]] {
            let output = net_bench(&["tcp_stream", "-n", "100", "--json", "-c", "127.0.0.1"])
                .args(["-p", &server.port()])
                .args(engine)
                .args(direction)
                .output()
                .unwrap();
            let reason = skipped(&output);
            for word in [
                &server.port(),
                "the server's side",
                "io_uring_setup",
                "seccomp",
            ] {
                assert!(reason.contains(word), "no {word:?} in {reason}");
            }
        }
        server.assert_serves();
    }
}

const CASES: [&[&str]; 4] = [
    &["udp_stream", "-e", "uring", "--receive", "uring", "-R"],
    &["tcp_stream", "-e", "uring", "--receive", "uring"],
    &[
        "tcp_stream",
        "-e",
        "uring-zerocopy",
        "--receive",
        "uring",
        "-R",
        "-P",
        "2",
    ],
    &["tcp_stream", "-e", "uring", "--receive", "uring", "--bidir"],
];

/// A client in the middle of a long test: it has shown its first slices.
fn busy_client(case: &[&str], server: &Server) -> Child {
    let mut child = net_bench(case)
        .args(["-c", "127.0.0.1", "-p", &server.port()])
        .args(["-t", "60", "-O", "0", "-i", "0.05", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = [0; 200];
    child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut seen)
        .unwrap();
    child
}

#[test]
fn a_client_outlives_its_server_and_names_it() {
    if !has_io_uring() {
        return;
    }
    for case in CASES {
        let mut server = Server::start(&[]);
        let client = busy_client(case, &server);
        server.kill();
        let error = failure(&client.wait_with_output().unwrap());
        assert!(
            error.contains(&server.address.to_string()),
            "{case:?}: {error}"
        );
    }
}

#[test]
fn a_server_outlives_clients_that_are_killed_and_keeps_nothing_of_them() {
    if !has_io_uring() {
        return;
    }
    let server = Server::start(&[]);
    let descriptors = || {
        let all = std::fs::read_dir(format!("/proc/{}/fd", server.child.id()));
        all.unwrap().count()
    };
    server.assert_serves();
    server.wait_for_log("served");
    let before = descriptors();
    for case in CASES {
        let mut client = busy_client(case, &server);
        client.kill().unwrap();
        client.wait().unwrap();
        server.assert_serves();
    }
    // A ring's own end takes the kernel a while.
    for _ in 0..1000 {
        if descriptors() == before {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!(
        "{} descriptors are open, {before} were before",
        descriptors()
    );
}

#[test]
fn an_interrupted_client_reports_what_it_has() {
    if !has_io_uring() {
        return;
    }
    for case in CASES {
        let server = Server::start(&[]);
        let client = busy_client(case, &server);
        kill(Pid::from_raw(client.id() as i32), Signal::SIGINT).unwrap();
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{case:?}: {}", said(&output));
        let report = report(&output);
        let measured = measurement(&report);
        assert!(measured.work.known().unwrap().ops > 0);
        let flags = &measured.validity.flags;
        assert!(
            flags.iter().any(|flag| flag.code == "interrupted"),
            "{flags:?}"
        );
        server.assert_serves();
    }
}
