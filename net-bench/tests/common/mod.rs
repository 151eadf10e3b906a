//! What the tests share: programs as real processes, ended whatever happens.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod two_hosts;

use reports::model::{self, Aggregation, Measurement, Outcome, Report};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

pub const KEY: &str = "0123456789abcdef0123456789abcdef";

/// `net-bench` with these arguments and no key from outside.
pub fn net_bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_net-bench"));
    command.args(arguments).env_remove("NET_BENCH_KEY");
    command
}

pub fn run(arguments: &[&str]) -> Output {
    net_bench(arguments).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All that a program said, for the message of an assertion.
pub fn said(output: &Output) -> String {
    stderr(output) + &String::from_utf8_lossy(&output.stdout)
}

pub fn report(output: &Output) -> Report {
    let text = String::from_utf8_lossy(&output.stdout);
    model::parse(&text, Path::new("stdout")).unwrap_or_else(|error| {
        panic!("{error}\nstdout: {text}\nstderr: {}", stderr(output));
    })
}

pub fn measurement(report: &Report) -> &Measurement {
    match &report.cases[0].outcome {
        Outcome::Measured(measurement) => measurement,
        other => panic!("not measured: {other:?}"),
    }
}

/// The one value of a metric that has no percentiles.
pub fn value(measured: &Measurement, name: &str) -> f64 {
    let metric = measured.metric(name, Aggregation::Total);
    *metric
        .unwrap_or_else(|| panic!("no {name}"))
        .value
        .known()
        .unwrap()
}

/// The same of what a program printed.
pub fn total(output: &Output, name: &str) -> f64 {
    value(measurement(&report(output)), name)
}

pub fn assert_measured(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    assert!(!measurement(&report(output)).verified.is_empty());
}

/// The error of a case that failed, with the exit code that goes with it.
pub fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    match &report(output).cases[0].outcome {
        Outcome::Failed { error } => error.clone(),
        other => panic!("not failed: {other:?}"),
    }
}

/// A `net-bench serve` process, killed when dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(net_bench(&["serve", "-p", "0"]).args(arguments))
    }

    pub fn with_key(key: &str) -> Self {
        Self::spawn(net_bench(&["serve", "-p", "0"]).env("NET_BENCH_KEY", key))
    }

    /// Starts a command that is a server.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| {
                let mut errors = String::new();
                let _ = child.stderr.take().unwrap().read_to_string(&mut errors);
                panic!("{line:?} {errors}")
            });
        let address = address.parse().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (into, from) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut log = into.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            child,
            address,
            log,
        }
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until its log says `what`.
    pub fn wait_for_log(&self, what: &str) {
        for _ in 0..600 {
            if self.log().contains(what) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the log never said {what:?}: {}", self.log());
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A short test against it, which must succeed.
    pub fn assert_serves(&self) {
        let output = net_bench(&["tcp_rr", "-n", "20", "-c", "127.0.0.1", "--json"])
            .args(["-p", &self.port()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{} {}",
            stderr(&output),
            self.log()
        );
        assert_eq!(
            measurement(&report(&output))
                .work
                .known()
                .expect("known")
                .ops,
            20
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
