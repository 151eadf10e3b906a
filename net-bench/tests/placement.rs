//! Where threads run and flows come in: what was asked for is held against what the kernel says.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::two_hosts::{B, TwoHosts};
use common::{Server, failure, measurement, net_bench, report, run, stderr};
use net_bench::client::{self, Family, Place};
use net_bench::control::message::Leg;
use net_bench::control::message::{Ready, Reply, Request};
use net_bench::control::{Channel, Key};
use net_bench::observe::queues::Steering;
use net_bench::place::Placement;
use net_bench::place::pin::{Pin, allowed_cpus};
use net_bench::test::{Engine, Receive, Shape, Test, Transport};
use net_bench::transport::rendezvous::DataAddress;
use reports::measure::Silent;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
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
    // The client of an incast has one thread, its server as many as there are flows.
    let output = run(&["incast", "-n", "20", "-P", "2", "--pin", &name, "--json"]);
    let seen = observed(&output);
    assert_eq!(seen["client"]["thread_cpus"], json!([cpu]));
    assert_eq!(seen["server"]["thread_cpus"], json!([cpu, cpu]));
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

#[test]
fn queues_of_a_device_without_a_table_are_refused_with_the_reason() {
    let refused = |output: &Output| {
        let failed = failure(output);
        for word in ["--queues 0,2", "no indirection table", "--pin rx-queue"] {
            assert!(failed.contains(word), "no {word:?} in {failed}");
        }
    };
    for case in ["tcp_rr", "udp_stream"] {
        let arguments = [case, "-n", "5", "--queues", "0,2", "--json"];
        refused(&run(&arguments));
        // Veth has queues, and its kernel hashes by a secret.
        match TwoHosts::new(4) {
            Err(reason) => println!("SKIPPED --queues between two hosts: {reason}"),
            Ok(hosts) => {
                let server = hosts.server();
                let mut client = hosts.a.net_bench(&arguments);
                client.args(["-c", B, "-p", &server.port()]);
                refused(&client.output().unwrap());
            }
        }
    }
}

#[test]
fn queues_are_refused_by_a_server_whose_data_goes_apart() {
    let server = Server::start(&["--control-addr", "127.0.0.1", "--bind", "127.0.0.2"]);
    let port = server.port();
    let to = ["-c", "127.0.0.1", "-p", &port, "--json"];
    let output = run(&[&["tcp_rr", "-n", "5", "--queues", "all"], &to[..]].concat());
    let failed = failure(&output);
    assert!(failed.contains("--control-addr"), "{failed}");
}

/// A device with four queues, as a server would tell of it.
fn four_queues() -> Steering {
    let table: Vec<u32> = (0..128).map(|entry| entry % 4).collect();
    let key: Vec<u8> = (0..40)
        .map(|byte: u8| byte.wrapping_mul(37) ^ 0x5a)
        .collect();
    serde_json::from_value(json!({"table": table, "key": key, "seed": 0})).unwrap()
}

/// Plays a server up to where flows come in, and returns the queue that each flow's packets hash to
/// by its number, as seen from their real source ports.
fn queues_of_flows(control: &TcpListener, transport: Transport) -> Vec<u32> {
    let (stream, _) = control.accept().unwrap();
    let mut channel = Channel::accept(stream, &Key::EMPTY).unwrap();
    let Request::Test(test) = channel.receive(Duration::from_secs(60)).unwrap() else {
        panic!("a test was to come");
    };
    let streams = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = streams.local_addr().unwrap();
    let datagrams = UdpSocket::bind(address).unwrap();
    let ready = Ready {
        data: vec![DataAddress::Port {
            ip: None,
            port: address.port(),
        }],
        token: [7; 16],
        host: None,
        steering: Some(four_queues()),
    };
    channel.send(&Reply::Ready(Box::new(ready))).unwrap();
    let mut queues = BTreeMap::new();
    while queues.len() < test.connections() as usize {
        let mut said = [0; 128];
        let (length, peer) = if transport == Transport::Udp {
            datagrams.recv_from(&mut said).unwrap()
        } else {
            let (mut flow, peer) = streams.accept().unwrap();
            flow.read_exact(&mut said[..20]).unwrap();
            (20, peer)
        };
        // The flow's number follows the token.
        let at = said[..length]
            .windows(16)
            .position(|bytes| bytes == [7; 16]);
        let number: [u8; 4] = said[at.unwrap() + 16..][..4].try_into().unwrap();
        let queue = four_queues().queue(peer, address).unwrap();
        queues.insert(u32::from_be_bytes(number), queue);
    }
    let error = "all were seen".to_owned();
    channel.send(&Reply::Failed { error }).unwrap();
    queues.into_values().collect()
}

#[test]
fn flows_come_from_ports_that_lead_to_the_queues() {
    for (case, transport) in [("tcp_rr", Transport::Tcp), ("udp_rr", Transport::Udp)] {
        for (queues, expected) in [("all", [0, 1, 2, 3, 0, 1]), ("3,1", [3, 1, 3, 1, 3, 1])] {
            let control = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = control.local_addr().unwrap().port().to_string();
            let arguments = [case, "-n", "1", "-P", "6", "--queues", queues, "--json"];
            let mut client = net_bench(&arguments);
            client.args(["-c", "127.0.0.1", "-p", &port]);
            let client = std::thread::spawn(move || client.output().unwrap());
            let seen = queues_of_flows(&control, transport);
            assert_eq!(seen, expected, "{case} --queues {queues}");
            let failed = failure(&client.join().unwrap());
            assert!(failed.contains("all were seen"), "{failed}");
        }
        let control = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = control.local_addr().unwrap().port().to_string();
        let mut client = net_bench(&[case, "-n", "1", "--queues", "4", "--json"]);
        client.args(["-c", "127.0.0.1", "-p", &port]);
        // The client hangs up before it makes a flow.
        let client = std::thread::spawn(move || client.output().unwrap());
        let mut channel = Channel::accept(control.accept().unwrap().0, &Key::EMPTY).unwrap();
        channel.receive::<Request>(Duration::from_secs(60)).unwrap();
        let ready = Ready {
            data: vec![DataAddress::Port { ip: None, port: 1 }],
            token: [7; 16],
            host: None,
            steering: Some(four_queues()),
        };
        channel.send(&Reply::Ready(Box::new(ready))).unwrap();
        let failed = failure(&client.join().unwrap());
        for word in ["--queues 4", "queue 4 is in no entry", "[0, 1, 2, 3]"] {
            assert!(failed.contains(word), "no {word:?} in {failed}");
        }
    }
}

/// On loopback the CPU that connects also takes the connection in, so it chooses the listener.
#[test]
fn connections_are_served_by_the_thread_on_the_cpu_that_took_them_in() {
    let allowed = allowed_cpus().unwrap();
    let [first, .., last] = allowed[..] else {
        println!("SKIPPED listeners by CPU: this process may use one CPU only");
        return;
    };
    for (caller, serves) in [(first, 0), (last, 1)] {
        let test = Test {
            transport: Transport::Tcp,
            shape: Shape::ConnectRequestResponse {
                request_bytes: 8,
                response_bytes: 8,
            },
            engine: Engine::Plain,
            receive: Receive::Plain,
            busy_poll: false,
            socket: Default::default(),
            arrival: None,
            placement: Placement {
                client: Pin::List(vec![caller]),
                server: Pin::List(vec![first, last]),
                queues: None,
            },
            flows: 2,
            threads: 2,
            duration_s: 1.0,
            operations: Some(100),
            omit_s: 0.0,
            interval_s: 1.0,
            timeout_s: 10.0,
        };
        let family = Family::Any;
        let finished = client::run(&[test], &Place::InProcess { family }, &Silent).unwrap();
        let server: &Leg = &finished[0].legs[0];
        let observed = server.observed.as_ref().unwrap();
        assert_eq!(observed.listener_cpus, [first, last]);
        let idle = server.flow_bytes[1 - serves];
        assert_eq!(
            (server.flow_bytes[serves], idle),
            (200 * 16, 0),
            "from CPU {caller}"
        );
    }
}

#[test]
fn a_door_by_queue_has_a_listener_for_every_thread() {
    let output = run(&["tcp_crr", "-n", "50", "--pin", "rx-queue", "--json"]);
    let seen = observed(&output);
    let first = allowed_cpus().unwrap()[0];
    assert_eq!(seen["server"]["thread_cpus"], json!([first]));
    assert_eq!(seen["server"]["listener_cpus"], json!([first]));
    let client = seen["client"]["thread_cpus"]["unavailable"]
        .as_str()
        .unwrap();
    assert!(client.contains("come and go"), "{client}");
}
