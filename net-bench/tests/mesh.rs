//! A mesh of servers: what is measured among them, who is slow, who is missing, and what becomes of
//! the rest when one dies.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{KEY, Server, assert_measured, measurement, net_bench, report, said, stderr};
use net_bench::control::handshake::VERSION;
use reports::model::{Aggregation, Flag, Measurement, OBSERVED, Outcome, Report};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Cells as short as they may be: nothing here depends on how fast they are.
const SHORT: [&str; 3] = ["--time=0.1", "--omit=0", "--json"];

fn mesh(arguments: &[&str]) -> Output {
    let mut command = net_bench(&["mesh"]);
    command.args(SHORT).args(arguments).output().unwrap()
}

/// A list of these servers, and the folder that it is in.
fn list(labels: &[String]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hosts");
    fs::write(&file, labels.join("\n")).unwrap();
    (folder, file)
}

fn label(server: &Server) -> String {
    server.address.to_string()
}

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|_| Server::with_key(KEY)).collect()
}

/// A coordinator with the key of [`servers`].
fn coordinator(hosts: &Path, arguments: &[&str]) -> Command {
    let mut command = net_bench(&["mesh", "--hosts"]);
    command.arg(hosts).args(arguments).env("NET_BENCH_KEY", KEY);
    command
}

fn flags<'a>(measured: &'a Measurement, code: &str) -> Vec<&'a Flag> {
    let all = measured.validity.flags.iter();
    all.filter(|flag| flag.code == code).collect()
}

/// How many cells of a matrix are filled.
fn filled(measured: &Measurement, name: &str) -> usize {
    let matrix = measured.matrices.iter().find(|matrix| matrix.name == name);
    let values = &matrix.unwrap_or_else(|| panic!("no {name}")).values;
    values.iter().flatten().flatten().count()
}

fn observed<'a>(measured: &'a Measurement, name: &str) -> &'a Value {
    &measured.facts[OBSERVED][name]
}

#[test]
fn every_pattern_runs_by_itself_over_loopback() {
    for (arguments, streams, sum) in [
        (&["--pattern=pairs"][..], 6, None),
        (
            &["--pattern=pairs", "--direction=both", "--transport=udp"],
            6,
            None,
        ),
        (
            &["--pattern=bisection"],
            2,
            Some("bisection_bandwidth_bytes_per_s"),
        ),
        (
            &["--pattern=alltoall"],
            6,
            Some("alltoall_bandwidth_bytes_per_s"),
        ),
        (
            &["--pattern=incast", "--senders=9"],
            6,
            Some("incast_bandwidth_bytes_per_s"),
        ),
    ] {
        let output = mesh(&[arguments, &["--nodes=3"]].concat());
        assert_measured(&output);
        let report = report(&output);
        let measured = measurement(&report);
        assert_eq!(report.hosts.len(), 3, "{arguments:?}");
        assert_eq!(
            filled(measured, "bandwidth_bytes_per_s"),
            streams,
            "{arguments:?}"
        );
        if arguments[0] == "--pattern=pairs" {
            assert_eq!(filled(measured, "latency_ns"), 6);
            let few = "too few to blame one: 3 take part, it takes 4";
            assert_eq!(measured.facts["findings"], few);
        }
        if let Some(sum) = sum {
            let metric = measured.metric(sum, Aggregation::P50);
            assert!(metric.is_some_and(|metric| metric.value.known() > Some(&0.0)));
        }
        assert!(
            measured
                .verified
                .contains("cells, each by both of its ends")
        );
        let share = observed(measured, "coordinator")["share"].as_f64().unwrap();
        assert!(share > 0.0, "what was said is counted");
    }
}

/// The share is one of cells of the usual length; those of other tests are too short for it.
#[test]
fn servers_measure_among_each_other_and_the_coordinator_hardly_speaks() {
    let servers = servers(3);
    let labels: Vec<String> = servers.iter().map(label).collect();
    let (_folder, hosts) = list(&labels);
    let output = coordinator(&hosts, &["--json"]).output().unwrap();
    assert_measured(&output);
    let report = report(&output);
    let measured = measurement(&report);
    assert_eq!(report.hosts.len(), 3);
    let names = measured.matrices[0].nodes.iter().map(|node| &node.name);
    assert!(names.eq(&labels));
    assert_eq!(measured.work.known().unwrap().ops, 3 + 6);
    let share = observed(measured, "coordinator")["share"].as_f64().unwrap();
    assert!(share < 0.01, "{share}");
    assert!(flags(measured, "coordinator_traffic").is_empty());
    let placement = &measured.facts["placement"];
    assert!(placement["placement_group"].is_object(), "{placement}");
    for server in &servers {
        server.wait_for_log("tcp_stream towards 127.0.0.1:");
    }
}

/// Answers everybody with the greeting of another version.
fn other_version() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut hello = vec![0; 45];
            hello[..8].copy_from_slice(b"netbench");
            hello[8..12].copy_from_slice(&77_u32.to_be_bytes());
            let _ = stream.unwrap().write_all(&hello);
        }
    });
    address.to_string()
}

#[test]
fn who_is_dead_or_does_not_belong_is_named_and_the_rest_is_measured() {
    let servers = servers(2);
    let stranger = Server::with_key("another key of sixteen bytes or more");
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let dead = closed.local_addr().unwrap().to_string();
    drop(closed);
    let mut labels: Vec<String> = servers.iter().map(label).collect();
    labels.insert(1, dead.clone());
    labels.extend([label(&stranger), other_version()]);
    let (_folder, hosts) = list(&labels);
    let output = coordinator(&hosts, &SHORT).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let report = report(&output);
    let measured = measurement(&report);
    let missing = flags(measured, "missing_node");
    assert_eq!(missing.len(), 3, "{missing:?}");
    for (flag, (label, why)) in missing.iter().zip([
        (&labels[1], "Connection refused".to_owned()),
        (&labels[3], "wrong key".to_owned()),
        (&labels[4], format!("ours is {VERSION}, the peer's is 77")),
    ]) {
        assert!(flag.evidence.starts_with(label.as_str()), "{flag:?}");
        assert!(flag.evidence.contains(&why), "{flag:?}");
    }
    assert_eq!(filled(measured, "bandwidth_bytes_per_s"), 2);
    // Everybody of the list has a place, and the matrix leads to those that took part.
    assert_eq!(report.hosts.len(), 5);
    let of: Vec<u32> = measured.matrices[0].nodes.iter().map(|n| n.host).collect();
    assert_eq!(of, [0, 2]);
}

#[test]
fn two_are_needed_and_why_the_others_do_not_take_part_is_said() {
    let server = servers(1);
    let (_folder, hosts) = list(&[label(&server[0]), "127.0.0.1:1".to_owned()]);
    let output = coordinator(&hosts, &SHORT).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let Outcome::Failed { error } = &report(&output).cases[0].outcome else {
        panic!("{}", said(&output));
    };
    for words in ["1 of 2 servers take part", "127.0.0.1:1: cannot connect"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_server_that_is_killed_is_named_and_the_rest_goes_on() {
    let mut servers = servers(4);
    let labels: Vec<String> = servers.iter().map(label).collect();
    let (_folder, hosts) = list(&labels);
    let mut command = coordinator(&hosts, &["--time=1", "--omit=0", "--timeout=2", "--json"]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = running.spawn().unwrap();
    // It has had a part by now, in the first round.
    servers[2].wait_for_log("its description");
    servers[2].wait_for_log("tcp_");
    servers[2].kill();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let report = report(&output);
    let measured = measurement(&report);
    let lost = flags(measured, "lost_node");
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(lost[0].evidence.starts_with(&labels[2]), "{lost:?}");
    assert_eq!(observed(measured, "lost")[0], labels[2].as_str());
    // The three that are left have met each other.
    let matrix = &measured.matrices[0].values;
    for (from, to) in [(0, 1), (1, 3), (3, 0)] {
        assert!(matrix[from][to].is_some() && matrix[to][from].is_some());
    }
    assert!(flags(measured, "failed_pair").is_empty());
}

#[test]
fn servers_outlive_a_coordinator_that_is_killed() {
    let servers: Vec<Server> = (0..2).map(|_| Server::start(&[])).collect();
    let labels: Vec<String> = servers.iter().map(label).collect();
    let (_folder, hosts) = list(&labels);
    let mut command = net_bench(&["mesh", "--time=600", "--hosts"]);
    command
        .arg(&hosts)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut running = command.spawn().unwrap();
    for server in &servers {
        server.wait_for_log("its description");
    }
    running.kill().unwrap();
    running.wait().unwrap();
    // An errand of ten minutes ends with the one who sent it.
    for server in &servers {
        server.assert_serves();
    }
    let output = coordinator(&hosts, &SHORT)
        .env_remove("NET_BENCH_KEY")
        .output();
    assert_measured(&output.unwrap());
}

#[test]
fn nonsense_is_refused_with_what_is_wrong() {
    let (_folder, bad) = list(&["n1".to_owned(), "n2 slots=4".to_owned()]);
    let (_folder, good) = list(&["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]);
    let (bad, good) = (bad.to_str().unwrap(), good.to_str().unwrap());
    for (arguments, words) in [
        (&["--hosts", bad][..], "line 2: \"slots=4\" after the host"),
        (&["--hosts", "/nonexistent"], "/nonexistent: No such file"),
        (&["--hosts", "/dev/zero"], "is no list of hosts"),
        (&["--hosts", "/"], "Is a directory"),
        (&["--nodes=1"], "--nodes: from 2 to 64"),
        (&["--time=0"], "--time: a cell takes"),
        (&["--time=nan"], "--time: a cell takes"),
        (&["--omit=-1"], "--omit: a warm-up"),
        (&["--senders=3"], "--senders belongs to --pattern incast"),
        (
            &["--pattern=incast", "--senders=0"],
            "--senders: at least one",
        ),
        (
            &["--pattern=alltoall", "--direction=one"],
            "--direction belongs to",
        ),
        (
            &["--provider=tcp"],
            "--provider belongs to --transport fabric",
        ),
        (&["--flows=0"], "--flows"),
        (&["--length=1T"], "--length"),
        (&["--key-file=/etc/passwd"], "--hosts"),
        (
            &["--hosts", good, "--key-file=/dev/null"],
            "a key has 16 to",
        ),
        (
            &["--hosts", good, "--topology=/dev/null"],
            "--topology /dev/null",
        ),
    ] {
        let output = net_bench(&["mesh"]).args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(
            stderr(&output).contains(words),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let output = mesh(&["--transport=fabric"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(stderr(&output).contains("name them with --hosts"));
}

#[test]
fn what_is_to_come_is_told_without_a_word_to_anybody() {
    let labels: Vec<String> = (1..=512).map(|node| format!("n{node}")).collect();
    let (_folder, hosts) = list(&labels);
    let output = coordinator(&hosts, &["--dry-run"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected =
        "512 nodes: 511 rounds of 1533 steps, 392448 cells, at most 256 at once; 1073.1 s";
    assert!(text.starts_with(expected), "{text}");
}

/// Nodes of `scripts/cluster/local`, and the mesh among them under mpirun; `None`, with a line that says
/// why, where that cannot be.
fn on_nodes(what: &str, shape: &[&str], arguments: &[&str]) -> Option<Report> {
    if !cfg!(feature = "mpi") {
        println!(
            "SKIPPED {what}: this build has no MPI (scripts/test builds it with --features mpi)"
        );
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster/local");
    let mut command = Command::new("bash");
    command.args([
        script,
        "run",
        "--nodes",
        "4",
        "--mpi",
        "openmpi",
        "--timeout",
        "120",
    ]);
    let command = command.args(shape).arg("--");
    let command = command.args([env!("CARGO_BIN_EXE_net-bench"), "mesh", "--json"]);
    let output = command.args(arguments).output().unwrap();
    if output.status.code() == Some(3) {
        println!("SKIPPED {what}: {}", stderr(&output).trim());
        return None;
    }
    Some(report(&output))
}

#[test]
fn a_capped_node_is_named_and_nobody_else() {
    for (shape, expected) in [
        (&["--cap", "n3=200mbit"][..], &["slow_node_egress n3"][..]),
        (&[], &[]),
    ] {
        let Some(report) = on_nodes("a capped node", shape, &[]) else {
            return;
        };
        let names: Vec<_> = report.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3", "n4"]);
        let measured = measurement(&report);
        let findings = measured.facts["findings"].as_array();
        let named: Vec<String> = findings
            .into_iter()
            .flatten()
            .map(|finding| {
                let word = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
                format!("{} {}", word("what"), word("who"))
            })
            // These nodes share two CPUs: who is late is chance.
            .filter(|words| !words.contains("latency"))
            .collect();
        assert_eq!(named, expected, "{shape:?}: {:?}", measured.matrices);
        assert_eq!(measured.facts["ranks_on_host"]["n2"], "1");
        let share = observed(measured, "coordinator")["share"].as_f64().unwrap();
        assert!(share < 0.01, "{share}");
    }
}

#[test]
fn ranks_of_one_node_are_no_mesh() {
    if !cfg!(feature = "mpi") {
        println!("SKIPPED ranks of one node: this build has no MPI");
        return;
    }
    let mut command = Command::new("mpirun");
    command.args([
        "--oversubscribe",
        "-n",
        "2",
        env!("CARGO_BIN_EXE_net-bench"),
        "mesh",
    ]);
    let command = command.env("OMPI_ALLOW_RUN_AS_ROOT", "1");
    let command = command.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        println!("SKIPPED ranks of one node: there is no mpirun");
        return;
    };
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(
        stderr(&output).contains("a mesh is of nodes"),
        "{}",
        said(&output)
    );
}
