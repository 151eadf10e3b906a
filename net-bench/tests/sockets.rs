//! The options of sockets, as a user gives them: what was asked for is what both sides have, and
//! what the kernel refuses is an error that says so.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, assert_measured, failure, measurement, net_bench, report, run, said, total};

#[test]
fn asked_for_windows_segments_and_congestion_controls_are_in_the_report() {
    let output = run(&[
        "tcp_stream",
        "-n",
        "200",
        "-w",
        "64K",
        "-M",
        "1000",
        "-C",
        "reno",
        "--dscp",
        "10",
        "--fq-rate",
        "1G",
        "-N",
        "--json",
    ]);
    assert_measured(&output);
    assert_eq!(total(&output, "sender_buffer_bytes"), 2.0 * 65_536.0);
    assert_eq!(total(&output, "receiver_buffer_bytes"), 2.0 * 65_536.0);
    assert!(total(&output, "max_segment_bytes") <= 1000.0);
    let report = report(&output);
    assert_eq!(measurement(&report).facts["congestion_control"], "reno");
    let params = &report.cases[0].benchmark.params;
    assert_eq!(params["congestion"], "reno");
    assert_eq!(params["engine"], "plain");
    assert_eq!(params["no_delay"], true);
    let default = run(&["tcp_stream", "-n", "200", "--json"]);
    assert_measured(&default);
    let default = common::report(&default);
    let default = &default.cases[0].benchmark.params;
    assert!(default.get("no_delay").is_none(), "{default:?}");
}

#[test]
fn the_server_needs_no_options_of_its_own() {
    let server = Server::start(&[]);
    let output = net_bench(&[
        "tcp_stream",
        "-R",
        "-n",
        "200",
        "-C",
        "reno",
        "-w",
        "64K",
        "-e",
        "more",
    ])
    .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
    .output()
    .unwrap();
    assert_measured(&output);
    // The server sends here, so these are its sockets.
    assert_eq!(total(&output, "sender_buffer_bytes"), 2.0 * 65_536.0);
    assert_eq!(
        measurement(&report(&output)).facts["congestion_control"],
        "reno"
    );
}

#[test]
fn every_engine_moves_every_byte() {
    for engine in ["plain", "more", "zerocopy", "sendfile", "splice"] {
        for length in ["1", "1000", "300000"] {
            let shared: &[&str] = match engine {
                "plain" | "more" => &["-P", "4", "-T", "2"],
                _ => &["-P", "3"],
            };
            for direction in [&[][..], &["-R"], &["--bidir"], shared] {
                let output = net_bench(&["tcp_stream", "-n", "50", "-e", engine, "-l", length])
                    .args(direction)
                    .arg("--json")
                    .output()
                    .unwrap();
                assert_measured(&output);
            }
        }
    }
}

#[test]
fn what_is_not_looked_at_is_counted_all_the_same() {
    for receive in ["--receive=discard", "--skip-rx-copy", "--receive=splice"] {
        for direction in [&[][..], &["-R"], &["--bidir"], &["-P", "3"]] {
            let output = net_bench(&["tcp_stream", "-n", "100", receive, "-l", "100000", "--json"])
                .args(direction)
                .output()
                .unwrap();
            assert_measured(&output);
            let verified = measurement(&report(&output)).verified.clone();
            assert!(verified.contains("not looked at"), "{verified}");
            assert!(verified.contains("received every byte"), "{verified}");
        }
    }
}

#[test]
fn what_the_kernel_copied_in_spite_of_zerocopy_is_reported() {
    let output = run(&["tcp_stream", "-n", "500", "-e", "zerocopy", "--json"]);
    assert_measured(&output);
    // Loopback always copies: the memory would be the receiver's, too.
    assert_eq!(total(&output, "zerocopy_copied_ratio"), 1.0);
    let report = report(&output);
    let flags = &measurement(&report).validity.flags;
    assert!(
        flags.iter().any(|flag| flag.code == "zerocopy_copied"),
        "{flags:?}"
    );
}

#[test]
fn batches_and_joined_datagrams_are_counted_one_by_one() {
    let server = Server::start(&[]);
    for engine in ["plain", "mmsg", "gso"] {
        for receive in ["plain", "mmsg", "gro"] {
            for more in [&[][..], &["-R"], &["-P", "3", "-T", "1"]] {
                let output = net_bench(&["udp_stream", "-n", "2000", "-e", engine, "--json"])
                    .args(["--receive", receive, "-l", "1000", "-p", &server.port()])
                    .args(["-c", "127.0.0.1"])
                    .args(more)
                    .output()
                    .unwrap();
                assert_measured(&output);
                assert!(total(&output, "packets_per_s") > 0.0);
                for count in ["duplicate", "reordered", "late", "foreign"] {
                    let name = format!("{count}_datagrams");
                    assert_eq!(
                        total(&output, &name),
                        0.0,
                        "{engine} {receive} {more:?} {name}"
                    );
                }
            }
        }
    }
}

#[test]
fn busy_polling_answers_every_request() {
    for case in ["tcp_rr", "udp_rr", "unix_rr"] {
        for more in [&[][..], &["-P", "3", "-T", "1"], &["--rate", "2000"]] {
            let sizes = ["--request-size", "20", "--response-size", "20"];
            let output = net_bench(&[case, "-n", "300", "--busy-poll", "--json"])
                .args(sizes)
                .args(more)
                .output()
                .unwrap();
            assert_measured(&output);
            assert_eq!(report(&output).cases[0].benchmark.params["busy_poll"], true);
        }
    }
}

#[test]
fn a_refused_option_is_named_with_the_kernels_word_and_the_remedy() {
    let error = failure(&run(&["tcp_rr", "-n", "5", "-C", "no_such_one", "--json"]));
    for word in ["--congestion no_such_one", "reno", "modprobe"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    let error = failure(&run(&["tcp_rr", "-n", "5", "-w", "500M", "--json"]));
    for word in ["--window", "sysctl -w net.core."] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn round_trips_over_unix_sockets_name_their_transport() {
    let server = Server::start(&[]);
    let output = net_bench(&[
        "unix_rr", "-n", "100", "-P", "5", "-T", "2", "-w", "64K", "--json",
    ])
    .args(["-c", "127.0.0.1", "-p", &server.port()])
    .output()
    .unwrap();
    assert_measured(&output);
    let report = report(&output);
    let facts = &measurement(&report).facts;
    assert!(!facts.contains_key("congestion_control"), "{facts:?}");
    server.wait_for_log("served unix_rr");
}

/// Has a program run, or started, to which the kernel refuses an option of sockets; `None` where that
/// cannot be had.
fn refused<T: Send>((level, name): (i32, i32), start: impl FnOnce() -> T + Send) -> Option<T> {
    let work = || bench_sys::forbid::socket_option(level, name).map(|()| start());
    let done = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    done.map_err(|error| println!("SKIPPED a refused option: no seccomp: {error}"))
        .ok()
}

/// On either side: it is not measured without, and the server serves on.
#[test]
fn an_offload_that_the_kernel_refuses_is_unavailable_with_its_word_and_the_remedy() {
    use nix::libc::{SO_ZEROCOPY, SOL_SOCKET, SOL_UDP, UDP_GRO, UDP_SEGMENT};
    let offloads: [((i32, i32), &[&str], &str); 3] = [
        (
            (SOL_SOCKET, SO_ZEROCOPY),
            &["tcp_stream", "-e", "zerocopy"],
            "SO_ZEROCOPY",
        ),
        (
            (SOL_UDP, UDP_SEGMENT),
            &["udp_stream", "-e", "gso"],
            "UDP_SEGMENT",
        ),
        (
            (SOL_UDP, UDP_GRO),
            &["udp_stream", "--receive", "gro", "-R"],
            "UDP_GRO",
        ),
    ];
    for (option, case, name) in offloads {
        let server = Server::start(&[]);
        let Some(poor) = refused(option, || Server::start(&[])) else {
            return;
        };
        let run = |case: &[&str], server: &Server| {
            let command = &mut net_bench(case);
            command.args([
                "-t",
                "0.1",
                "-O",
                "0",
                "-c",
                "127.0.0.1",
                "-p",
                &server.port(),
            ]);
            command.output().unwrap()
        };
        let here = refused(option, || run(case, &server)).unwrap();
        // The other way round, for the server to be the one that wants it.
        let turned = match case.split_last() {
            Some((&"-R", forward)) => run(forward, &poor),
            _ => run(&[case, &["-R"]].concat(), &poor),
        };
        for output in [here, turned] {
            assert_eq!(output.status.code(), Some(3), "{name}: {}", said(&output));
            let told = said(&output);
            for word in [name, "Protocol not available", "use --"] {
                assert!(told.contains(word), "no {word} in {told}");
            }
        }
        server.assert_serves();
        poor.assert_serves();
    }
}

#[test]
fn streams_on_which_nobody_sleeps_carry_the_same_bytes() {
    let server = Server::start(&[]);
    let streams: [&[&str]; 8] = [
        &["tcp_stream"],
        &["tcp_stream", "-P", "3", "-T", "1", "-R"],
        &["tcp_stream", "-e", "sendfile", "--receive", "discard"],
        &[
            "tcp_stream",
            "-e",
            "splice",
            "--receive",
            "splice",
            "--bidir",
        ],
        &["tcp_stream", "-e", "zerocopy", "-l", "8K"],
        &["udp_stream"],
        &["pps", "-P", "2", "-T", "1"],
        &["udp_stream", "-e", "gso", "--receive", "gro", "-R"],
    ];
    for stream in streams {
        let output = net_bench(stream)
            .args(["--busy-poll", "-t", "0.2", "-O", "0.05"])
            .args(["-c", "127.0.0.1", "-p", &server.port(), "--json"])
            .output()
            .unwrap();
        assert_measured(&output);
        let report = report(&output);
        let receiver = &measurement(&report).facts["observed"];
        let receiver = receiver
            .get("receiver")
            .unwrap_or(&receiver["forward_receiver"]);
        let calls = receiver["threads"]["system_calls"].as_u64();
        assert!(calls.is_some_and(|calls| calls > 0), "{receiver}");
    }
    server.assert_serves();
}
