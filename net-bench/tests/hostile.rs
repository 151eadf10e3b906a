//! Peers that lie, stammer or say nothing: the server refuses each in its log, stays small, and
//! serves the next client; the client says what it met.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{KEY, Server, failure, net_bench, run};
use net_bench::control::Key;
use net_bench::control::frame::{self, Sealer};
use net_bench::control::handshake::{
    CLIENT_HELLO_BYTES, SERVER_HELLO_BYTES, VERSION, client_hello, session_key,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// A raw connection to a server, with its greeting.
fn greeted(server: &Server) -> (TcpStream, [u8; SERVER_HELLO_BYTES]) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut hello = [0; SERVER_HELLO_BYTES];
    stream.read_exact(&mut hello).unwrap();
    (stream, hello)
}

/// A raw connection past the handshake with a server that has no key.
fn admitted(server: &Server) -> (TcpStream, Sealer, [u8; CLIENT_HELLO_BYTES]) {
    let (mut stream, theirs) = greeted(server);
    let ours = client_hello(&Key::EMPTY, &theirs).unwrap();
    stream.write_all(&ours).unwrap();
    let mut verdict = [0; 33];
    stream.read_exact(&mut verdict).unwrap();
    assert_eq!(verdict[0], 0, "welcome");
    let session = session_key(&Key::EMPTY, &theirs, &ours);
    (stream, Sealer::new(session, frame::TO_SERVER), ours)
}

/// Everything that the other end still says.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

fn peak_memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn garbage_before_the_handshake_is_told_apart() {
    let server = Server::start(&[]);
    let (mut stream, _) = greeted(&server);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    rest(stream);
    server.wait_for_log("is not net-bench");

    let (mut stream, theirs) = greeted(&server);
    let mut ours = client_hello(&Key::EMPTY, &theirs).unwrap();
    ours[8..12].copy_from_slice(&77u32.to_be_bytes());
    stream.write_all(&ours).unwrap();
    let verdict = rest(stream);
    assert_eq!(verdict.first(), Some(&1), "refused for its version");
    server.wait_for_log(&format!("ours is {VERSION}, the peer's is 77"));

    let (stream, _) = greeted(&server);
    drop(stream);
    server.wait_for_log("closed the connection");
    server.assert_serves();
}

#[test]
fn half_a_handshake_and_silence_run_into_the_deadline() {
    let server = Server::start(&["--max-clients", "3"]);
    let (mut half, theirs) = greeted(&server);
    let ours = client_hello(&Key::EMPTY, &theirs).unwrap();
    half.write_all(&ours[..40]).unwrap();
    let (silent, _) = greeted(&server);
    // Others are served meanwhile; the two are let go after the handshake's five seconds.
    server.assert_serves();
    server.wait_for_log("fell silent");
    drop((half, silent));
    server.assert_serves();
}

#[test]
fn a_recorded_handshake_opens_nothing() {
    let server = Server::start(&[]);
    let (_stream, _, recorded) = admitted(&server);
    let (mut again, _) = greeted(&server);
    again.write_all(&recorded).unwrap();
    assert_eq!(
        rest(again).first(),
        Some(&2),
        "the proof is of another nonce"
    );
    server.wait_for_log("wrong key");
}

#[test]
fn frames_that_are_too_long_forged_replayed_or_senseless_end_the_conversation() {
    let server = Server::start(&[]);
    let before = peak_memory_kib(&server);
    let (mut stream, _, _) = admitted(&server);
    stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
    rest(stream);
    server.wait_for_log("over the cap");

    let (mut stream, mut sealer, _) = admitted(&server);
    let mut forged = sealer.seal(b"{}").unwrap();
    *forged.last_mut().unwrap() ^= 1;
    stream.write_all(&forged).unwrap();
    rest(stream);
    server.wait_for_log("not authentic");

    for senseless in [
        &b"{}"[..],
        b"[1]",
        b"\"go\"",
        b"\xff\xfe",
        b"{\"test\":{\"flows\":\"many\"}}",
    ] {
        let (mut stream, mut sealer, _) = admitted(&server);
        stream.write_all(&sealer.seal(senseless).unwrap()).unwrap();
        rest(stream);
    }
    server.wait_for_log("makes no sense");

    let (mut stream, mut sealer, _) = admitted(&server);
    let half = sealer.seal(&vec![b' '; 1000]).unwrap();
    stream.write_all(&half[..500]).unwrap();
    rest(stream);
    server.assert_serves();
    let grown = peak_memory_kib(&server) - before;
    assert!(grown < 64 << 10, "the server grew by {grown} KiB");
}

#[test]
fn a_test_beyond_the_limits_is_refused_by_the_server_too() {
    let server = Server::start(&[]);
    let test = |flows: &str, length: &str| {
        format!(
            "{{\"test\":{{\"transport\":\"tcp\",\"shape\":{{\"stream\":{{\"length_bytes\":{length},\
             \"direction\":\"forward\"}}}},\"engine\":\"plain\",\"receive\":\"plain\",\"busy_poll\":false,\"socket\":{{\"nagle\":false,\
             \"window_bytes\":null,\"congestion\":null,\"dscp\":null,\"segment_bytes\":null,\
             \"pacing_bytes_per_s\":null,\"device_poll_us\":null}},\"arrival\":null,\"placement\":{{\"client\":\"none\",\
             \"server\":\"none\",\"queues\":null}},\"flows\":{flows},\"threads\":1,\"duration_s\":1.0,\
             \"operations\":null,\"omit_s\":0.0,\"interval_s\":1.0,\"timeout_s\":10.0}}}}"
        )
    };
    for (flows, length) in [("4000000000", "1"), ("1", "0"), ("1", "1000000000000")] {
        let (mut stream, mut sealer, _) = admitted(&server);
        let frame = sealer.seal(test(flows, length).as_bytes()).unwrap();
        stream.write_all(&frame).unwrap();
        rest(stream);
    }
    server.wait_for_log("refused: --flows");
    server.wait_for_log("refused: --length");
    server.assert_serves();
}

#[test]
fn keys_must_match_both_ways() {
    let server = Server::with_key(KEY);
    let client = |key: Option<&str>| {
        let mut command = net_bench(&["tcp_rr", "-n", "5", "-c", "127.0.0.1", "--json"]);
        command.args(["-p", &server.port()]);
        if let Some(key) = key {
            command.env("NET_BENCH_KEY", key);
        }
        command.output().unwrap()
    };
    for key in [None, Some("another key of enough bytes")] {
        let error = failure(&client(key));
        assert!(
            error.contains("wrong key") && error.contains("--key-file"),
            "{error}"
        );
    }
    server.wait_for_log("wrong key");
    assert!(client(Some(KEY)).status.success());
    // A server that merely says welcome, without the proof, is not believed.
    let error = failure(&against(|mut stream| {
        let mut hello = *b"netbench\0\0\0\x01\0________________________________";
        hello[8..12].copy_from_slice(&VERSION.to_be_bytes());
        let _ = stream.write_all(&hello);
        let _ = stream.read_exact(&mut [0; CLIENT_HELLO_BYTES]);
        let _ = stream.write_all(&[0; 33]);
    }));
    assert!(error.contains("wrong key"), "{error}");
}

/// What a client says of a server that does this.
fn against(serve: impl FnOnce(TcpStream) + Send + 'static) -> std::process::Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
    let output = run(&[
        "tcp_rr",
        "-n",
        "5",
        "-c",
        "127.0.0.1",
        "-p",
        &port,
        "--json",
    ]);
    server.join().unwrap();
    output
}

#[test]
fn a_client_says_what_it_met() {
    let error = failure(&against(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    }));
    assert!(error.contains("is not net-bench"), "{error}");
    let error = failure(&against(|mut stream| {
        let _ = stream.write_all(b"netbench\0\0\0\x63");
    }));
    let versions = format!("ours is {VERSION}, the peer's is 99");
    assert!(error.contains(&versions), "{error}");
    let error = failure(&against(drop));
    assert!(error.contains("closed the connection"), "{error}");
    let error = failure(&against(|stream| {
        std::thread::sleep(Duration::from_secs(6));
        drop(stream);
    }));
    assert!(error.contains("fell silent"), "{error}");
}

#[test]
fn a_full_server_turns_clients_away() {
    let server = Server::start(&["--max-clients", "1"]);
    let (_held, _, _) = admitted(&server);
    let output = run(&[
        "tcp_rr",
        "-n",
        "5",
        "-c",
        "127.0.0.1",
        "-p",
        &server.port(),
        "--json",
    ]);
    let error = failure(&output);
    assert!(error.contains("busy"), "{error}");
    server.wait_for_log("no room");
}

#[test]
fn where_nobody_listens_the_client_says_what_to_start() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let error = failure(&run(&["tcp_rr", "-c", "127.0.0.1", "-p", &port, "--json"]));
    for word in [&format!("127.0.0.1:{port}"), "refused", "net-bench serve"] {
        assert!(error.contains(word), "no {word:?} in {error}");
    }
    let error = failure(&run(&["tcp_rr", "-c", "no-such-host.invalid", "--json"]));
    assert!(
        error.contains("no-such-host.invalid") && error.contains("resolve"),
        "{error}"
    );
}
