//! Several nodes: the program across nodes that `scripts/cluster/local` emulates, and what that
//! script promises of them.

#[path = "cluster/batch.rs"]
mod batch;
#[path = "cluster/check.rs"]
mod check;
mod common;
#[path = "cluster/slurm.rs"]
mod slurm;
#[path = "cluster/ssh.rs"]
mod ssh;

use common::{PROGRAM, report, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::model::{Aggregation, Case, Outcome};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster/local");
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");

/// What the script exits with where it cannot make nodes.
const UNAVAILABLE: i32 = 3;

fn cluster(args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.arg(SCRIPT).args(args).stdin(Stdio::null());
    // The user's own cluster stays out of it.
    command.env_remove("HPC_BENCH_CLUSTER");
    command
}

fn outcome(args: &[&str]) -> Output {
    cluster(args).output().expect("bash starts")
}

/// What came of it, or nothing where there can be no such nodes, which is said.
fn available(what: &str, args: &[&str]) -> Option<Output> {
    let output = outcome(args);
    if output.status.code() == Some(UNAVAILABLE) {
        println!("SKIPPED {what}: {}", stderr(&output).trim());
        return None;
    }
    Some(output)
}

/// `run` with these options and the program with these arguments.
fn run_program(what: &str, options: &str, arguments: &str) -> Option<Output> {
    let mut args = vec!["run", "--mpi", "openmpi", "--timeout", "400"];
    args.extend(options.split_whitespace());
    args.extend(["--", PROGRAM]);
    args.extend(arguments.split_whitespace());
    available(what, &args)
}

fn metric(case: &Case, name: &str, aggregation: Aggregation) -> f64 {
    let Outcome::Measured(measurement) = &case.outcome else {
        panic!("{} was not measured: {:?}", case.key(), case.outcome);
    };
    let metric = measurement.metric(name, aggregation);
    *metric
        .and_then(|metric| metric.value.known())
        .unwrap_or_else(|| panic!("{name} in {}", case.key()))
}

#[test]
fn kernels_run_across_nodes_with_names_of_their_own() {
    for (options, ranks, arguments) in [
        ("--nodes 3", 1, "latency -m 8:64 -i 20 -x 2 --json"),
        ("--nodes 3", 1, "allreduce -m 8:64 -i 20 -x 2 --json"),
        (
            "--nodes 3 --ranks-per-node 2",
            2,
            "allreduce -m 8:8 -i 10 -x 2 --json",
        ),
    ] {
        let Some(output) = run_program("kernels across nodes", options, arguments) else {
            return;
        };
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report = report(&output);
        let names: Vec<_> = report.hosts.iter().map(|host| &host.name).collect();
        assert_eq!(names, ["n1", "n2", "n3"], "{arguments}");
        for case in &report.cases {
            assert_eq!(case.benchmark.params["nodes"].as_u64(), Some(3));
            assert_eq!(case.benchmark.params["ranks"].as_u64(), Some(3 * ranks));
            let Outcome::Measured(measurement) = &case.outcome else {
                panic!("{} was not measured: {:?}", case.key(), case.outcome);
            };
            let on_host = &measurement.facts["ranks_on_host"];
            let of_n2 = if ranks == 1 { "1" } else { "2-3" };
            assert_eq!(on_host["n2"].as_str(), Some(of_n2), "{on_host}");
        }
    }
}

/// Rank 0 on n1 sends and rank 1 on n2 receives.
#[test]
fn a_cap_holds_in_its_direction() {
    const CAP_BYTES_PER_S: f64 = 50e6 / 8.0;
    for option in ["--cap n1=50mbit", "--cap-in n2=50mbit"] {
        let arguments = "bw -m 64K:64K -W 16 -i 6 -x 1 --json";
        let Some(output) = run_program("a capped node", option, arguments) else {
            return;
        };
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let case = &report(&output).cases[0];
        let bandwidth = metric(case, "bandwidth_bytes_per_s", Aggregation::Total);
        // The bucket is full at first, so a little more than its rate comes through.
        assert!(bandwidth <= 1.5 * CAP_BYTES_PER_S, "{option}: {bandwidth}");
    }
}

/// Many kernels come without the discipline that delays. That of the lab has it.
#[test]
fn what_a_delayed_node_sends_is_late() {
    let arguments = "latency -m 8:8 -i 5 -x 1 --json";
    let options = ["run", "--mpi", "openmpi", "--delay", "n2=40ms"];
    let args: Vec<_> = options
        .into_iter()
        .chain(["--", PROGRAM])
        .chain(arguments.split(' '))
        .collect();
    let mut output = outcome(&args);
    if stderr(&output).contains("has no queueing discipline for") {
        let mut lab = Command::new(LAB);
        lab.args(["run", "--timeout", "300", "--", SCRIPT])
            .args(&args);
        output = lab.output().expect("scripts/lab starts");
    }
    if output.status.code() == Some(UNAVAILABLE) {
        println!("SKIPPED a delayed node: {}", stderr(&output).trim());
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // Only one direction of the round trip is late; no network is faster than that.
    let latency = metric(&report(&output).cases[0], "latency_ns", Aggregation::Min);
    assert!(latency >= 20e6, "{latency}");
}

#[test]
fn a_clock_is_as_far_ahead_as_asked() {
    let line = "echo \"$(hostname) $(cat /proc/self/timens_offsets)\"";
    let args = ["run", "--nodes", "3", "--clock-offset", "n2=100s"];
    let rest = ["--clock-offset", "n3=200", "--", "sh", "-c", line];
    let args: Vec<_> = args.into_iter().chain(rest).collect();
    if !Path::new("/proc/self/timens_offsets").exists() {
        println!("SKIPPED clocks of their own: this kernel has no time namespaces");
        return;
    }
    let Some(output) = available("clocks of their own", &args) else {
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let mut words: Vec<Vec<_>> = said
        .lines()
        .filter(|line| line.contains("monotonic"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    words.sort();
    assert_eq!(words[0][..3], ["n1", "monotonic", "0"], "{said}");
    assert_eq!(words[1][..3], ["n2", "monotonic", "100"], "{said}");
    assert_eq!(words[2][..3], ["n3", "monotonic", "200"], "{said}");
}

#[test]
fn the_exit_code_is_the_commands_and_a_deadline_has_its_own() {
    let args = ["run", "--", "sh", "-c", "exit 7"];
    let Some(output) = available("the exit code", &args) else {
        return;
    };
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let output = outcome(&["run", "--timeout", "1", "--", "sleep", "1000"]);
    assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
    assert!(stderr(&output).contains("the deadline of 1 s (--timeout)"));
}

#[test]
fn wrong_options_are_refused_with_what_is_meant() {
    for (args, expected) in [
        ("run", "there is no command to run"),
        ("run --nodes 0 -- true", "--nodes is 1 to 64"),
        ("run --nodes 65 -- true", "--nodes is 1 to 64"),
        ("run --nodes", "--nodes needs a value"),
        ("run --node 2 -- true", "unknown option --node"),
        ("run true", "a command follows --"),
        ("run --cap n3=50mbit -- true", "there is no n3"),
        ("run --cap n1=50 -- true", "--cap is like n2=200mbit"),
        ("run --cap-in 1=5mbit -- true", "--cap-in is like"),
        ("run --delay n1=fast -- true", "--delay is like n2=2ms"),
        ("run --clock-offset n1=1h -- true", "is like n2=100s"),
        ("run --mpi lam -- true", "openmpi, mpich, auto or none"),
        ("run --timeout never -- true", "is a number of seconds"),
        ("run --ranks-per-node 0 -- true", "is 1 to 999"),
        ("up --name Upper", "small letters and digits"),
        ("up --timeout 3", "unknown option --timeout"),
        ("exec -- true", "exec needs a node"),
        ("halt", "unknown command halt"),
    ] {
        let output = outcome(&args.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{args}");
        let said = stderr(&output);
        assert!(said.contains(expected), "{args}: {said}");
        assert_eq!(said.lines().count(), 1, "{args}: {said}");
    }
}

/// The processes whose command line has this text.
fn processes_with(text: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.parse().ok())
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .map(Pid::from_raw)
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(50);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn network_namespaces() -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

#[test]
fn a_run_that_is_ended_leaves_nothing_behind() {
    let what = "the end of a run";
    if available(what, &["run", "--", "true"]).is_none() {
        return;
    }
    for (signal, code) in [
        (Signal::SIGTERM, Some(143)),
        (Signal::SIGINT, Some(130)),
        (Signal::SIGKILL, None),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let marker = folder.path().to_str().expect("a plain path");
        let line = format!("echo > {marker}/$(hostname); sleep 1000");
        let args = ["run", "--nodes", "3", "--", "sh", "-c", &line];
        let mut command = cluster(&args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("bash starts");
        wait_until("the start on three nodes", || {
            ["n1", "n2", "n3"].map(|node| folder.path().join(node).exists()) == [true; 3]
        });
        assert!(processes_with(marker).len() > 3);
        kill(Pid::from_raw(child.id() as i32), signal).expect("it runs");
        let status = child.wait().expect("it ends");
        assert_eq!(status.code(), code, "{signal}");
        wait_until("the end of all its processes", || {
            processes_with(marker).is_empty()
        });
        // Names of its own are in a /run of its own, so even SIGKILL leaves none here.
        let ours = |name: &String| name.starts_with("run-");
        assert!(!network_namespaces().iter().any(ours));
    }
}

/// Removes a cluster even if the test fails.
struct Up<'a>(&'a str);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = outcome(&["down", "--name", self.0]);
    }
}

#[test]
fn nodes_stay_up_until_they_are_taken_down() {
    let name = &format!("t{}", std::process::id());
    let up = ["up", "--name", name, "--nodes", "3", "--cap", "n2=50mbit"];
    let Some(output) = available("nodes that stay", &up) else {
        return;
    };
    let taken_down = Up(name);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let status = stdout(&outcome(&["status"]));
    let line = format!("{name}: n2 10.77.0.2 cap=50mbit, processes 0");
    assert!(status.contains(&line), "{status}");

    let again = outcome(&up);
    assert_eq!(again.status.code(), Some(125));
    let remedy = format!("scripts/cluster/local down --name {name} removes it");
    assert!(stderr(&again).contains(&remedy), "{}", stderr(&again));
    let missing = outcome(&["exec", "--name", name, "n4", "--", "true"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("only n1 n2 n3"));

    // By what is printed for it, by `run` on it, and by `exec`: the same nodes.
    let dry = outcome(&["run", "--name", name, "--dry-run", "--", "hostname"]);
    let line = stdout(&dry);
    let by_hand = Command::new("bash").args(["-c", &line]).output();
    let by_hand = by_hand.expect("bash starts");
    let run = outcome(&["run", "--name", name, "--", "hostname"]);
    for output in [by_hand, run] {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let said = stdout(&output);
        let mut names: Vec<_> = said.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["n1", "n2", "n3"], "{line}");
    }
    let mut sleeper = cluster(&["exec", "--name", name, "n3", "--", "sleep", "1000"]);
    let mut sleeper = sleeper.spawn().expect("bash starts");
    wait_until("the start of the command on n3", || {
        let line = format!("{name}: n3 10.77.0.3, processes 1");
        stdout(&outcome(&["status"])).contains(&line)
    });

    let down = outcome(&["down", "--name", name]);
    std::mem::forget(taken_down);
    assert_eq!(down.status.code(), Some(0), "{}", stderr(&down));
    let ended = sleeper.wait().expect("it was ended");
    assert!(!ended.success());
    assert!(!stdout(&outcome(&["status"])).contains(name.as_str()));
    let ours = |other: &String| other.starts_with(name.as_str());
    assert!(!network_namespaces().iter().any(ours));
    assert_eq!(
        outcome(&["down", "--name", name]).status.code(),
        Some(125),
        "there is nothing to take down"
    );
}
