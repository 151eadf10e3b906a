//! What a user can get wrong on the command line: a message that names the option, exit code 2, and
//! nothing on standard output.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{KEY, net_bench, run, stderr};

fn assert_usage(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: no {word:?} in {text}");
    }
}

#[test]
fn impossible_values_are_refused_by_name() {
    let table: &[(&[&str], &[&str])] = &[
        (&["tcp_rr", "--frobnicate"], &["--frobnicate"]),
        (&["tcp_rr", "--pin", "rx_queue"], &["--pin", "rx-queue+N"]),
        (&["tcp_stream", "--pin", "3-1"], &["--pin", "0,2,4-7"]),
        (
            &["udp_rr", "--server-pin", "1024"],
            &["--server-pin", "1023"],
        ),
        (&["tcp_rr", "--queues", "none"], &["--queues", "all"]),
        (
            &["tcp_crr", "--queues", "all"],
            &["--queues", "tcp_crr", "source ports"],
        ),
        (&["unix_rr", "--queues", "0"], &["--queues", "unix_rr"]),
        (
            &["unix_rr", "--pin", "rx-queue"],
            &["--pin rx-queue", "name CPUs"],
        ),
        (
            &["tcp_rr", "--rate", "0"],
            &["--rate 0", "requests per second"],
        ),
        (&["tcp_rr", "--rate", "nan"], &["--rate NaN"]),
        (
            &["tcp_rr", "--rate", "0.01"],
            &["--rate 0.01", "100 s", "--timeout 10"],
        ),
        (
            &["udp_stream", "-e", "mmsg", "--rate", "5"],
            &["--rate 5", "12.8 s", "--timeout 10"],
        ),
        (&["udp_stream", "-b", "10Mbit"], &["--bitrate", "1K = 1000"]),
        (
            &["tcp_stream", "-b", "9M", "--rate", "9"],
            &["--rate", "--bitrate"],
        ),
        (
            &["udp_stream", "-b", "1G", "-l", "1", "--rate=1"],
            &["--bitrate"],
        ),
        (
            &["udp_stream", "-b", "10G", "-l", "8"],
            &["--rate 156250000", "--bitrate / 8", "per second"],
        ),
        (&["tcp_rr", "--arrival", "poisson"], &["--rate"]),
        (
            &["tcp_rr", "--rate", "1", "--arrival", "sometimes"],
            &["--arrival", "poisson"],
        ),
        (
            &["udp_rr", "--rate", "10"],
            &["--rate over UDP", "--request-size 8"],
        ),
        (&["tcp_stream", "-e", "gso"], &["--engine"]),
        (
            &["tcp_stream", "-e", "sendfile", "-P", "4", "-T", "2"],
            &["--threads 2", "one flow"],
        ),
        (
            &["tcp_stream", "-e", "uring", "-P", "4", "-T", "2"],
            &["--threads 2", "one flow"],
        ),
        (
            &["udp_stream", "--receive", "uring", "-P", "4", "-T", "2"],
            &["--threads 2", "one flow"],
        ),
        (
            &["udp_stream", "-e", "uring-zerocopy"],
            &["--engine uring-zerocopy", "TCP"],
        ),
        (
            &["tcp_stream", "--skip-rx-copy", "--receive", "splice"],
            &["--skip-rx-copy"],
        ),
        (
            &["udp_stream", "--receive", "discard"],
            &["--receive discard"],
        ),
        (&["udp_stream", "-e", "more"], &["--engine more"]),
        (&["udp_rr", "--so-busy-poll", "0"], &["--so-busy-poll 0"]),
        (&["tcp_crr", "-T", "0"], &["0"]),
        (&["tcp_crr", "--response-size", "0"], &["--response-size 0"]),
        (&["incast", "-P", "0"], &["--flows 0"]),
        (&["incast", "-l", "0"], &["--length 0", "64M"]),
        (&["incast", "-P", "1024", "-l", "8M"], &["buffers", "1G"]),
        (&["under_load", "-P", "0"], &["--flows 0"]),
        (&["under_load", "--rate", "0"], &["--rate 0"]),
        (&["under_load", "--load", "sctp"], &["--load", "udp"]),
        (
            &["under_load", "--load", "udp", "-l", "64K"],
            &["--length 65536", "65507"],
        ),
        (&["under_load", "-e", "gso"], &["--engine"]),
        (
            &["tcp_stream", "--busy-poll", "--receive", "uring"],
            &["--busy-poll", "io_uring"],
        ),
        (
            &["under_load", "--probe", "udp", "--rate", "10"],
            &["--request-size 8"],
        ),
        (&["udp_stream", "-l", "7"], &["--length 7", "8 bytes"]),
        (&["udp_stream", "-l", "65508"], &["--length 65508", "65507"]),
        (
            &["udp_rr", "--request-size", "64K"],
            &["--request-size", "65507"],
        ),
        (&["udp_rr", "-C", "cubic"], &["-C"]),
        (&["tcp_rr", "-4", "-6"], &["--ipv4", "--ipv6"]),
        (&["udp_everything"], &["udp_everything"]),
        (&["tcp_stream", "-l", "0"], &["--length 0", "64M"]),
        (&["tcp_stream", "-l", "65M"], &["--length", "64M"]),
        (&["tcp_stream", "-l", "12Q"], &["--length", "1K = 1024"]),
        (&["tcp_stream", "-P", "0"], &["--flows 0", "from 1 to 1024"]),
        (&["tcp_stream", "-P", "1025"], &["--flows 1025"]),
        (
            &["tcp_stream", "-T", "3", "-P", "2"],
            &["--threads 3", "--flows 2"],
        ),
        (&["tcp_rr", "-T", "0"], &["--threads 0"]),
        (&["tcp_rr", "-t", "0"], &["--time 0", "from 0.01 to 86400"]),
        (&["tcp_rr", "-t", "nan"], &["--time NaN"]),
        (&["tcp_rr", "-t", "inf"], &["--time inf"]),
        (&["tcp_rr", "-t=-1"], &["--time -1"]),
        (&["tcp_rr", "-O=-1"], &["--omit -1"]),
        (&["tcp_rr", "-i", "0"], &["--interval 0"]),
        (
            &["tcp_rr", "-i", "0.01", "-t", "80000"],
            &["--interval 0.01", "slices"],
        ),
        (&["tcp_rr", "--timeout", "0"], &["--timeout 0"]),
        (&["tcp_rr", "-n", "0"], &["--operations 0"]),
        (
            &["tcp_rr", "-n", "5", "-t", "5"],
            &["--operations", "--time"],
        ),
        (&["tcp_rr", "--request-size", "0"], &["--request-size 0"]),
        (&["tcp_rr", "--response-size", "0"], &["--response-size 0"]),
        (
            &["tcp_rr", "-P", "1000", "--request-size", "64M"],
            &["67108865000 bytes"],
        ),
        (&["tcp_stream", "-R", "--bidir"], &["--reverse", "--bidir"]),
        (&["tcp_rr", "-p", "5280"], &["--connect"]),
        (&["tcp_rr", "-c", "127.0.0.1", "-p", "0"], &["--port"]),
        (&["null", "-c", "127.0.0.1"], &["-c"]),
        (&["tcp_rr", "-w", "2G"], &["--window 2147483648"]),
        (&["tcp_rr", "-w", "0"], &["--window 0"]),
        (&["tcp_rr", "-C", "a/b"], &["--congestion", "letters"]),
        (&["tcp_rr", "--dscp", "64"], &["--dscp 64", "63"]),
        (&["tcp_rr", "-M", "1"], &["--mss 1"]),
        (&["tcp_rr", "--fq-rate", "0"], &["--fq-rate 0"]),
        (&["unix_rr", "--dscp", "1"], &["--dscp"]),
        (&["tcp_stream", "-e", "warp"], &["--engine", "plain"]),
        (&["serve", "--bind", "somewhere"], &["--bind"]),
        (&["serve", "--max-time", "0"], &["--max-time"]),
        (&["serve", "--max-rate", "0"], &["--max-rate"]),
        (
            &["serve", "--control-addr", "::1", "--bind", "somewhere"],
            &["--bind"],
        ),
        (&["serve", "--max-clients", "0"], &["--max-clients"]),
        (&[], &["Usage"]),
    ];
    for (arguments, words) in table {
        assert_usage(arguments, words);
    }
}

#[test]
fn a_server_beyond_loopback_needs_a_key() {
    for address in ["0.0.0.0", "::", "192.0.2.1"] {
        assert_usage(
            &["serve", "-p", "0", "--bind", address],
            &["--bind", "key", "urandom"],
        );
    }
}

#[test]
fn a_key_is_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, "secret\n").unwrap();
    let short = short.to_str().unwrap();
    assert_usage(
        &["serve", "-p", "0", "--key-file", short],
        &["16 to 4096", "urandom"],
    );
    assert_usage(
        &["serve", "-p", "0", "--key-file", "/nonexistent"],
        &["/nonexistent"],
    );
    assert_usage(
        &["tcp_rr", "-c", "127.0.0.1", "--key-file", "/dev/zero"],
        &["/dev/zero", "4096"],
    );
    let output = net_bench(&["serve", "-p", "0"])
        .env("NET_BENCH_KEY", "short")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("NET_BENCH_KEY"));
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = net_bench(&["serve", "-p", &port])
        .env("NET_BENCH_KEY", KEY)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&port) && text.contains("--port"), "{text}");
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = net_bench(&["null", "-n", "100", "--json"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("standard output") && text.contains("space"),
        "{text}"
    );
    let output = run(&["null", "-n", "100", "-o", "/proc/nowhere/report.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("/proc/nowhere"),
        "{}",
        stderr(&output)
    );
}
