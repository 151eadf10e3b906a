//! Peers that die, freeze or are interrupted in the middle: the other side ends with a reason, and
//! the server is there for the next client.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{KEY, Server, failure, measurement, net_bench, report, run, stderr};
use net_bench::attend::{Caught, Line, Patient, Rope, Watch, attend_from_afar, left_behind};
use net_bench::control::{Channel, Key};
use net_bench::server::{self, Limits, Options};
use net_bench::workload::Vitals;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::measure::{Event, Observer, Phase};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
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

/// A call of a device's library that never returns, which is what a killed peer's locks in shared
/// memory make of it, holds up nobody: the work is left behind, and that is said.
#[test]
fn work_that_never_returns_is_left_behind() {
    struct Nothing<'a>(&'a Vitals);
    impl Line for Nothing<'_> {
        fn cut(&self) {
            self.0.cut();
        }
        fn hang_up(&self) {}
        fn peer(&self) -> String {
            "nobody".to_owned()
        }
    }
    struct Count(AtomicUsize);
    impl Observer for Count {
        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let key = Key::of_text(KEY).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let mut channel = thread::scope(|scope| {
        let theirs = scope.spawn(|| Channel::accept(accepted, &key).unwrap());
        let ours = Channel::connect(stream, &key).unwrap();
        theirs.join().unwrap();
        ours
    });
    let vitals = Vitals::new(1);
    let patient = Patient {
        connections: &Nothing(&vitals),
        vitals: &vitals,
        ends_by_word: false,
        patience: Duration::from_secs(1),
    };
    let seen = Count(AtomicUsize::new(0));
    let caught = |_: &Rope, observer: &dyn Observer| {
        observer.event(&Event::Phase {
            phase: Phase::Prepare,
            expected: None,
        });
        loop {
            thread::park();
        }
    };
    let ended: anyhow::Result<()> =
        attend_from_afar(&mut channel, &patient, &seen, caught, |_, _| Watch::Over);
    let error = ended.unwrap_err();
    assert!(error.downcast_ref::<Caught>().is_some(), "{error:#}");
    assert!(format!("{error:#}").contains("nothing moved"), "{error:#}");
    assert_eq!(seen.0.into_inner(), 1);
    assert!(left_behind());

    // Nobody is served beside it.
    let options = Options {
        key,
        host: None,
        max_clients: 1,
        once: false,
        data_ip: None,
        limits: Limits::default(),
    };
    let server = server::Server::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let error = server.serve(|| false, &|_| ()).unwrap_err();
    assert!(error.to_string().contains("start this server again"));
}
