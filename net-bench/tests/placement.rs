//! Where threads run and flows come in: what was asked for is held against what the kernel says.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::two_hosts::{B, TwoHosts};
use common::{Server, failure, measurement, net_bench, report, run, stderr};
use net_bench::place::pin::allowed_cpus;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::Duration;

fn observed(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    measurement(&report(output)).facts["observed"].clone()
}

/// The last CPU that the tests may use, and how the options name it.
fn last_cpu() -> (u32, String) {
    let cpu = *allowed_cpus().unwrap().last().unwrap();
    (cpu, cpu.to_string())
}

#[test]
fn threads_of_every_case_run_where_they_were_put() {
    let (cpu, name) = last_cpu();
    for case in ["tcp_rr", "tcp_crr", "udp_rr", "unix_rr"] {
        let output = run(&[case, "-n", "50", "--pin", &name, "--json"]);
        let seen = observed(&output);
        for side in ["client", "server"] {
            assert_eq!(seen[side]["thread_cpus"], json!([cpu]), "{case} {side}");
        }
        assert_eq!(
            report(&output).cases[0].benchmark.params["pin"],
            json!(name)
        );
    }
    for case in ["tcp_stream", "udp_stream", "pps"] {
        let output = run(&[case, "-n", "500", "-P", "2", "--pin", &name, "--json"]);
        let seen = observed(&output);
        for side in ["sender", "receiver"] {
            assert_eq!(
                seen[side]["thread_cpus"],
                json!([cpu, cpu]),
                "{case} {side}"
            );
        }
        let line = seen["pinned"].as_str().unwrap();
        assert!(line.contains(&format!("CPU {cpu}, {cpu}")), "{line}");
    }
    let output = run(&["tcp_rr", "-n", "50", "--server-pin", &name, "--json"]);
    let seen = observed(&output);
    assert_eq!(seen["server"]["thread_cpus"], json!([cpu]));
    let free = seen["client"]["thread_cpus"]["unavailable"]
        .as_str()
        .unwrap();
    assert!(free.contains("not pinned"), "{free}");
}

/// While a test runs, the kernel itself is asked where the server's threads may run.
#[test]
fn the_kernel_says_that_a_servers_threads_are_pinned() {
    let allowed = allowed_cpus().unwrap();
    if allowed.len() < 2 {
        println!("SKIPPED pinned threads in /proc: this process may use one CPU only");
        return;
    }
    let (_, name) = last_cpu();
    let server = Server::start(&[]);
    let mut client = net_bench(&["tcp_rr", "-t", "20", "-P", "2", "-c", "127.0.0.1"]);
    let mut client = client
        .args(["-p", &server.port(), "--server-pin", &name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let tasks = format!("/proc/{}/task", server.child.id());
    let pinned = || {
        let tasks = std::fs::read_dir(&tasks).unwrap().flatten();
        let status = tasks.map(|task| std::fs::read_to_string(task.path().join("status")));
        let only = format!("Cpus_allowed_list:\t{name}\n");
        status.flatten().filter(|text| text.contains(&only)).count()
    };
    let found = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        pinned() == 2
    });
    let _ = client.kill();
    let _ = client.wait();
    assert!(found, "two threads were to run on CPU {name} alone");
}

#[test]
fn a_cpu_that_is_not_there_is_named_with_the_side_and_the_remedy() {
    for case in ["tcp_rr", "udp_rr", "tcp_crr"] {
        let failed = failure(&run(&[case, "-n", "5", "--pin", "1000", "--json"]));
        for word in ["--pin", "CPU 1000", "which are", "taskset"] {
            assert!(failed.contains(word), "{case}: no {word} in {failed}");
        }
        let failed = failure(&run(&[case, "-n", "5", "--server-pin", "1000", "--json"]));
        for word in ["the server's part failed", "--server-pin", "CPU 1000"] {
            assert!(failed.contains(word), "{case}: no {word} in {failed}");
        }
    }
    // The server of such a test lives on.
    let server = Server::start(&[]);
    let port = server.port();
    let away = [
        "tcp_rr",
        "-n",
        "5",
        "-c",
        "127.0.0.1",
        "-p",
        &port,
        "--json",
    ];
    failure(&run(&[&away[..], &["--server-pin", "1000"]].concat()));
    server.assert_serves();
}

#[test]
fn threads_of_flows_take_cpus_of_their_own_between_two_hosts() {
    let hosts = match TwoHosts::new(4) {
        Ok(hosts) => hosts,
        Err(reason) => {
            println!("SKIPPED --pin rx-queue between two hosts: {reason}");
            return;
        }
    };
    let allowed: BTreeSet<u64> = allowed_cpus().unwrap().into_iter().map(u64::from).collect();
    let server = hosts.server();
    let threads = allowed.len().min(4);
    for (case, sides) in [
        ("tcp_stream", ["sender", "receiver"]),
        ("udp_stream", ["sender", "receiver"]),
        ("tcp_rr", ["client", "server"]),
        ("udp_rr", ["client", "server"]),
    ] {
        for pin in ["rx-queue", "rx-queue+1"] {
            let count = threads.to_string();
            let mut client = hosts.a.net_bench(&[case, "-n", "100", "-P", &count]);
            client.args(["--pin", pin, "-c", B, "-p", &server.port(), "--json"]);
            let output = client.output().unwrap();
            let seen = observed(&output);
            for side in sides {
                let cpus = seen[side]["thread_cpus"].as_array();
                let cpus = cpus.unwrap_or_else(|| panic!("{case} {side}: {seen}"));
                assert_eq!(cpus.len(), threads);
                let distinct: BTreeSet<u64> =
                    cpus.iter().map(|cpu| cpu.as_u64().unwrap()).collect();
                assert_eq!(distinct.len(), threads, "{case} {side} {pin}: {cpus:?}");
                assert!(distinct.is_subset(&allowed), "{case} {side}: {cpus:?}");
            }
        }
    }
}
