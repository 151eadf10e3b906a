//! Ports over verbs, two of them in two threads: every operation of every transport moves messages
//! that are checked byte by byte. What needs a device is ignored unless asked for, and is run on the
//! software RDMA of `scripts/lab`.
#![allow(missing_docs, clippy::unwrap_used)]

use net_bench::rdma::meeting::{Card, Meeting};
use net_bench::rdma::port::{Completed, Completion, Facts, Port, Posted};
use net_bench::rdma::test::{Device, Measure, Mode, Operation, RdmaTest, Service, Verbs};
use net_bench::rdma::verbs::{self, VerbsPort};
use net_bench::side::End;
use reports::case::Availability;
use reports::model::Unavailable;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");

/// One lab at a time: a machine that is emulated beside others may stand still for longer than a
/// packet is sent again, and its peer takes it for dead.
static LAB_TURN: Mutex<()> = Mutex::new(());

/// How long one thread waits for the other; emulated machines are slow.
const PATIENCE: Duration = Duration::from_secs(30);

const OPERATIONS: u64 = 100;

fn test() -> RdmaTest {
    RdmaTest {
        device: Device::Verbs(Verbs {
            device: None,
            server_device: None,
            port: 1,
            gid_index: None,
            service: Service::Rc,
            mtu_bytes: None,
            shared_receives: false,
            rdma_cm: false,
        }),
        operation: Operation::Send,
        measure: Measure::Bandwidth,
        mode: Mode::Fast,
        length_bytes: 200,
        lanes: 2,
        threads: 1,
        bidirectional: true,
        depth: 8,
        receives: 8,
        post_list: 1,
        moderation: 1,
        poll_batch: 16,
        inline_bytes: None,
        events: false,
        verify: true,
        spoil: None,
        placement: net_bench::place::Placement::default(),
        duration_s: 1.0,
        operations: None,
        omit_s: 0.0,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}

fn with(operation: Operation, change: impl FnOnce(&mut RdmaTest, &mut Verbs)) -> RdmaTest {
    let mut test = test();
    test.operation = operation;
    if operation.atomic() {
        test.length_bytes = 8;
    }
    let Device::Verbs(mut verbs) = test.device.clone() else {
        unreachable!("made above");
    };
    change(&mut test, &mut verbs);
    test.device = Device::Verbs(verbs);
    test
}

/// Two meetings that lead to each other.
fn meetings() -> [Meeting; 2] {
    let (to_server, at_server) = channel();
    let (to_client, at_client) = channel();
    let meeting = |outbox, inbox| Meeting::new(0, outbox, inbox, Box::new(|| ()), PATIENCE);
    [meeting(to_server, at_client), meeting(to_client, at_server)]
}

/// Runs both ends; each one's facts, or its error.
fn both(
    test: &RdmaTest,
    play: impl Fn(VerbsPort, End, &Meeting) -> anyhow::Result<Facts> + Sync,
) -> [anyhow::Result<Facts>; 2] {
    let [client, server] = meetings();
    let run = |end, meeting: Meeting| {
        let port = verbs::open(test, end, 0, &meeting)?;
        play(port, end, &meeting)
    };
    thread::scope(|scope| {
        let server = scope.spawn(|| run(End::Server, server));
        let client = run(End::Client, client);
        [client, server.join().unwrap()]
    })
}

/// What operation `number` of a lane carries; the last byte tells one round of the ring from the
/// next.
fn payload(lane: u32, number: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| match at + 1 == length as u64 {
            true => (number % 251) as u8 + 1,
            false => (number * 7 + u64::from(lane) * 31 + at) as u8,
        })
        .collect()
}

/// How far one lane has come.
#[derive(Clone, Default)]
struct Progress {
    posted: u64,
    unsignalled: u32,
    completed: u64,
    arrived: u64,
}

/// Posts so many operations on each lane and takes as many from the other side, checking all.
fn exchange(
    test: &RdmaTest,
    mut port: VerbsPort,
    meeting: &Meeting,
    total: u64,
) -> anyhow::Result<Facts> {
    let length = test.length_bytes as usize;
    let operation = test.operation;
    if operation == Operation::Read {
        for lane in 0..port.lanes() {
            for number in 0..u64::from(port.depth()) {
                let text = payload(lane, number, length);
                port.target(lane, number).copy_from_slice(&text);
            }
        }
        let () = meeting.swap(&())?;
    }
    // Neither side gets further ahead of the other than what that has room for.
    let window = match operation.fetches() {
        true => u64::MAX,
        false => u64::from(port.depth().min(test.receives) / 2),
    };
    let mut lanes = vec![Progress::default(); port.lanes() as usize];
    let mut completions = vec![Completion::NONE; test.poll_batch as usize];
    let begun = Instant::now();
    let done =
        |lane: &Progress| lane.completed == total && (operation.fetches() || lane.arrived == total);
    while !lanes.iter().all(done) {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "nothing moves any more");
        let mut moved = false;
        for (index, lane) in (0..).zip(&mut lanes) {
            moved |= post(test, &mut port, index, lane, total, window)?;
            if operation == Operation::Write {
                while lane.arrived < total
                    && port.peek(index, lane.arrived) == (lane.arrived % 251) as u8 + 1
                {
                    let text = payload(index, lane.arrived, length);
                    anyhow::ensure!(port.target(index, lane.arrived) == text, "written wrong");
                    lane.arrived += 1;
                    moved = true;
                }
            }
        }
        let count = port.poll(&mut completions)?;
        for completion in &completions[..count] {
            let lane = &mut lanes[completion.lane as usize];
            take(test, &mut port, *completion, lane)?;
        }
        if test.events && count == 0 && !moved {
            port.wait(Duration::from_secs(1))?;
        }
    }
    let () = meeting.swap(&())?;
    if operation.atomic() {
        for lane in 0..port.lanes() {
            let counter = port.target(lane, 0).try_into()?;
            anyhow::ensure!(u64::from_ne_bytes(counter) == total, "counted wrong");
        }
    }
    Ok(port.facts())
}

/// Posts what is due on a lane; whether it was anything.
fn post(
    test: &RdmaTest,
    port: &mut VerbsPort,
    index: u32,
    lane: &mut Progress,
    total: u64,
    window: u64,
) -> anyhow::Result<bool> {
    let room = u64::from(port.depth()) - (lane.posted - lane.completed);
    let ahead = lane.arrived.saturating_add(window).min(total) - lane.posted;
    let count = u64::from(test.post_list).min(room).min(ahead) as u32;
    if count == 0 {
        return Ok(false);
    }
    for ahead in 0..count {
        let number = lane.posted + u64::from(ahead);
        match test.operation {
            Operation::Read => {}
            Operation::FetchAdd => port.operands(index, ahead, 1, 0),
            Operation::CompareSwap => port.operands(index, ahead, number, number + 1),
            _ => {
                let text = payload(index, number, test.length_bytes as usize);
                port.outgoing(index, ahead).copy_from_slice(&text);
            }
        }
    }
    lane.unsignalled += count;
    let last = lane.posted + u64::from(count) == total;
    let signal = last || lane.unsignalled >= test.moderation;
    let Posted::Taken(taken) = port.post(index, count, signal)? else {
        anyhow::bail!("there was room, and it was not taken");
    };
    anyhow::ensure!(taken == count, "there was room for more");
    if signal {
        lane.unsignalled = 0;
    }
    lane.posted += u64::from(count);
    Ok(true)
}

/// Checks what completed.
fn take(
    test: &RdmaTest,
    port: &mut VerbsPort,
    completion: Completion,
    lane: &mut Progress,
) -> anyhow::Result<()> {
    let index = completion.lane;
    let length = test.length_bytes as usize;
    match completion.completed {
        Completed::Posted { first, count } => {
            anyhow::ensure!(first == lane.completed, "completed {first} out of order");
            for number in first..first + u64::from(count) {
                let outcome = port.outcome(index, number);
                let fine = match test.operation {
                    Operation::Read => {
                        let slot = number % u64::from(test.depth);
                        outcome == payload(index, slot, length)
                    }
                    Operation::FetchAdd | Operation::CompareSwap => {
                        u64::from_ne_bytes(outcome.try_into()?) == number
                    }
                    _ => true,
                };
                anyhow::ensure!(fine, "operation {number} brought {outcome:?}");
            }
            lane.completed += u64::from(count);
        }
        Completed::Received {
            slot,
            length: got,
            data,
        } => {
            let number = lane.arrived;
            let text = payload(index, number, length);
            if test.operation == Operation::WriteData {
                anyhow::ensure!(data == Some(number), "data {data:?} for {number}");
                anyhow::ensure!(port.target(index, number) == text, "written wrong");
            } else {
                anyhow::ensure!(data.is_none() && got as usize == length, "{got} bytes");
                anyhow::ensure!(port.incoming(slot) == text, "received wrong");
            }
            port.post_receive(slot)?;
            lane.arrived += 1;
        }
    }
    Ok(())
}

/// Whether there is a device; else it is said.
fn has_device() -> bool {
    match verbs::probe() {
        Availability::Available => true,
        Availability::Unavailable { reason } => {
            println!("SKIPPED ports over verbs: {reason}");
            false
        }
    }
}

/// Both ends of a test; the client's facts.
fn works(name: &str, test: &RdmaTest) -> Facts {
    let begun = Instant::now();
    let [client, server] = both(test, |port, _, meeting| {
        exchange(test, port, meeting, OPERATIONS)
    });
    println!("{name}: {} ms", begun.elapsed().as_millis());
    if client.is_err() || server.is_err() {
        panic!("{name}: client {client:?}\nserver {server:?}");
    }
    client.unwrap()
}

const MATRIX: [(Service, &[Operation]); 3] = [
    (
        Service::Rc,
        &[
            Operation::Send,
            Operation::Write,
            Operation::WriteData,
            Operation::Read,
            Operation::FetchAdd,
            Operation::CompareSwap,
        ],
    ),
    (
        Service::Uc,
        &[Operation::Send, Operation::Write, Operation::WriteData],
    ),
    (Service::Ud, &[Operation::Send]),
];

/// Tests that differ in one thing, over all operations of all transports.
fn all(name: &str, change: impl Fn(&mut RdmaTest, &mut Verbs)) -> Vec<(String, Facts)> {
    let mut facts = Vec::new();
    for (service, operations) in MATRIX {
        for operation in operations {
            let test = with(*operation, |test, verbs| {
                verbs.service = service;
                change(test, verbs);
            });
            let name = format!("{name} {service:?} {operation:?}");
            let found = works(&name, &test);
            facts.push((name, found));
        }
    }
    facts
}

#[test]
#[ignore = "needs an RDMA device"]
fn every_operation_of_every_transport_moves_what_it_should() {
    if !has_device() {
        return;
    }
    let facts = all("one by one", |_, _| ());
    println!("{:#?}", facts[0].1);
    all("lists", |test, _| {
        (test.post_list, test.moderation, test.lanes) = (4, 8, 3);
    });
    all("not inline, odd ring", |test, _| {
        (test.inline_bytes, test.depth, test.receives) = (Some(0), 7, 9);
    });
    all("compat", |test, _| {
        (test.mode, test.measure, test.poll_batch) = (Mode::Compat, Measure::Latency, 1);
    });
    all("events", |test, _| {
        (test.events, test.moderation) = (true, 3);
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn lanes_share_receives() {
    if !has_device() {
        return;
    }
    for service in [Service::Rc, Service::Ud] {
        for events in [false, true] {
            let test = with(Operation::Send, |test, verbs| {
                (verbs.service, verbs.shared_receives) = (service, true);
                (test.lanes, test.events) = (5, events);
            });
            let facts = works(&format!("shared {service:?}, events {events}"), &test);
            assert_eq!(facts.used["shared_receives"], true);
        }
    }
    let test = with(Operation::WriteData, |test, verbs| {
        (test.lanes, verbs.shared_receives) = (3, true);
    });
    works("shared writes with data", &test);
}

#[test]
#[ignore = "needs an RDMA device"]
fn the_connection_manager_connects() {
    if !has_device() {
        return;
    }
    for operation in MATRIX[0].1 {
        let test = with(*operation, |test, verbs| {
            (verbs.rdma_cm, test.lanes) = (true, 3);
        });
        let facts = works(&format!("rdma_cm {operation:?}"), &test);
        assert_eq!(facts.used["connected_by"], "connection manager");
    }
    let test = with(Operation::Send, |_, verbs| {
        (verbs.rdma_cm, verbs.shared_receives) = (true, true);
    });
    works("rdma_cm, shared receives", &test);
    for (service, operation) in [
        (Service::Ud, Operation::Send),
        (Service::Uc, Operation::Send),
        (Service::Uc, Operation::Write),
    ] {
        let test = with(operation, |test, verbs| {
            (verbs.rdma_cm, verbs.service, test.lanes) = (true, service, 3);
        });
        let facts = works(&format!("rdma_cm {service:?} {operation:?}"), &test);
        assert_eq!(facts.used["connected_by"], "connection manager");
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn long_messages_go_in_packets() {
    if !has_device() {
        return;
    }
    for operation in [
        Operation::Send,
        Operation::Write,
        Operation::WriteData,
        Operation::Read,
    ] {
        let test = with(operation, |test, verbs| {
            (test.length_bytes, verbs.mtu_bytes) = (65_536, Some(512));
        });
        let facts = works(&format!("long {operation:?}"), &test);
        assert_eq!(facts.used["mtu_bytes"], 512);
        assert_eq!(facts.used["inline"], false);
    }
}

/// Both sides say why it does not go.
fn refuses(test: &RdmaTest, words: &str) {
    let [client, server] = both(test, |port, _, _| Ok(port.facts()));
    let told = [client, server].map(|end| format!("{:#}", end.expect_err("refused")));
    assert!(
        told.iter().any(|told| told.contains(words)),
        "{words} in {told:?}"
    );
    println!("{}", told[0]);
}

#[test]
#[ignore = "needs an RDMA device"]
fn what_does_not_go_is_refused_with_what_does() {
    if !has_device() {
        return;
    }
    let refuse = |words, operation, change: fn(&mut RdmaTest, &mut Verbs)| {
        refuses(&with(operation, change), words);
    };
    refuse("UC send and write", Operation::Write, |_, verbs| {
        verbs.service = Service::Ud;
    });
    refuse("UC send and write", Operation::Read, |_, verbs| {
        verbs.service = Service::Uc;
    });
    refuse("no tags", Operation::Tagged, |_, _| ());
    refuse(
        "do not fit into a packet",
        Operation::Send,
        |test, verbs| {
            (verbs.service, test.length_bytes) = (Service::Ud, 4097);
        },
    );
    refuse("rxe0 port 1 (ACTIVE)", Operation::Send, |_, verbs| {
        verbs.device = Some("mlx5_7".to_owned());
        verbs.server_device = Some("mlx5_7".to_owned());
    });
    refuse("there is rxe0 port 1", Operation::Send, |_, verbs| {
        verbs.device = Some("rxe0".to_owned());
        verbs.port = 2;
    });
    refuse("RoCE v2", Operation::Send, |_, verbs| {
        verbs.gid_index = Some(99);
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn what_the_device_lacks_is_reduced_and_said() {
    if !has_device() {
        return;
    }
    let test = with(Operation::Send, |test, verbs| {
        (test.depth, test.receives) = (1 << 20, 1 << 20);
        verbs.mtu_bytes = Some(4096);
        test.inline_bytes = Some(4000);
    });
    let facts = works("too much", &test);
    println!("{:#?}", facts);
    for word in ["max_cqe", "MTU", "inline bytes"] {
        let told = facts.reduced.iter().any(|told| told.contains(word));
        assert!(told, "{word} in {:?}", facts.reduced);
    }
}

/// One side closes its queue pairs in the middle, as the kernel does for a process that dies: the
/// other gets an error, and does not wait for ever.
#[test]
#[ignore = "needs an RDMA device"]
fn the_death_of_a_peer_is_an_error() {
    if !has_device() {
        return;
    }
    for operation in [Operation::Send, Operation::Write, Operation::Read] {
        let test = with(operation, |test, _| test.moderation = 4);
        let begun = Instant::now();
        let [client, server] = both(&test, |mut port, end, meeting| {
            let () = meeting.swap(&())?;
            if end == End::Server {
                return Ok(port.facts());
            }
            let mut completions = [Completion::NONE; 16];
            let mut posted = 0_u32;
            while begun.elapsed() < PATIENCE {
                posted = posted.wrapping_add(1);
                let _ = port.post(0, 1, posted.is_multiple_of(4))?;
                port.poll(&mut completions)?;
            }
            anyhow::bail!("nobody noticed")
        });
        assert!(server.is_ok(), "{server:?}");
        let told = format!("{:#}", client.expect_err("dead"));
        println!("{operation:?}: {told} after {:?}", begun.elapsed());
        assert!(told.contains("gone"), "{told}");
    }
}

/// What tells the tests on two machines the server's address.
const FAR: &str = "VERBS_PORT_FAR";

/// A meeting whose cards go over a connection, a line each.
fn meeting_over(stream: &TcpStream) -> Meeting {
    let (outbox, leaving) = channel::<Card>();
    let (arriving, inbox) = channel();
    let (mut writer, reader) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
    thread::spawn(move || {
        for card in leaving {
            let line = serde_json::to_string(&card).unwrap() + "\n";
            let _ = writer.write_all(line.as_bytes());
        }
    });
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            let _ = arriving.send(serde_json::from_str(&line).unwrap());
        }
    });
    Meeting::new(0, outbox, inbox, Box::new(|| ()), PATIENCE)
}

fn far_tests() -> Vec<RdmaTest> {
    let mut tests: Vec<RdmaTest> = MATRIX[0].1.iter().map(|o| with(*o, |_, _| ())).collect();
    let send = |change: fn(&mut RdmaTest, &mut Verbs)| with(Operation::Send, change);
    tests.push(send(|_, verbs| verbs.service = Service::Ud));
    tests.push(send(|_, verbs| verbs.gid_index = Some(0)));
    tests.push(send(|_, verbs| verbs.rdma_cm = true));
    for service in [Service::Uc, Service::Ud] {
        tests.push(with(Operation::Send, |_, verbs| {
            (verbs.rdma_cm, verbs.service) = (true, service);
        }));
    }
    tests.push(send(|_, verbs| {
        (verbs.rdma_cm, verbs.gid_index) = (true, Some(0));
    }));
    tests.push(send(|test, _| {
        (test.events, test.measure) = (true, Measure::Latency);
    }));
    tests
}

/// The other machine's part of [`ports_work_between_machines`].
#[test]
#[ignore = "a part of the test on two machines"]
fn far_server() {
    let Ok(address) = std::env::var(FAR) else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    for test in far_tests() {
        let (stream, _) = listener.accept().unwrap();
        let meeting = meeting_over(&stream);
        let port = verbs::open(&test, End::Server, 0, &meeting).unwrap();
        exchange(&test, port, &meeting, OPERATIONS).unwrap();
    }
    let (stream, _) = listener.accept().unwrap();
    let meeting = meeting_over(&stream);
    let mut port = verbs::open(&test(), End::Server, 0, &meeting).unwrap();
    let () = meeting.swap(&()).unwrap();
    // What this side said last may not have left yet: it has when the other begins.
    let begun = Instant::now();
    while port.poll(&mut [Completion::NONE; 16]).unwrap() == 0 {
        assert!(begun.elapsed() < PATIENCE, "nothing came");
    }
    // Nothing is closed: that is left to the kernel, as when a process is killed.
    std::process::exit(7);
}

/// This machine's part of [`ports_work_between_machines`].
#[test]
#[ignore = "a part of the test on two machines"]
fn far_client() {
    let Ok(address) = std::env::var(FAR) else {
        return;
    };
    let connect = || {
        let begun = Instant::now();
        loop {
            match TcpStream::connect(&address) {
                Ok(stream) => return stream,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    };
    for test in far_tests() {
        let meeting = meeting_over(&connect());
        let port = verbs::open(&test, End::Client, 0, &meeting).unwrap();
        let facts = exchange(&test, port, &meeting, OPERATIONS).unwrap();
        println!("{:?} {:?}: {:?}", test.device, test.operation, facts.used);
    }
    let meeting = meeting_over(&connect());
    let mut port = verbs::open(&test(), End::Client, 0, &meeting).unwrap();
    let () = meeting.swap(&()).unwrap();
    let begun = Instant::now();
    let error = loop {
        assert!(begun.elapsed() < PATIENCE, "nobody noticed");
        let mut completions = [Completion::NONE; 16];
        let posted = port.post(1, 1, true);
        if let Err(error) = posted.and(port.poll(&mut completions)) {
            break error;
        }
    };
    println!("{error:#} after {:?}", begun.elapsed());
    assert!(format!("{error:#}").contains("gone"), "{error:#}");
}

/// Two machines: numbers, addresses and memory of another host, and the death of its process.
#[test]
fn ports_work_between_machines() {
    let _turn = LAB_TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let temporary = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let script = format!(
        "part() {{ echo env {FAR}=10.77.0.2:7471 {} --ignored --nocapture --exact \"$1\"; }}
        lab-on 2 $(part far_server) & $(part far_client) && wait $!",
        program.display()
    );
    let output = Command::new(LAB)
        .args(["run", "--nodes", "2", "--timeout", "300", "--"])
        .args(["bash", "-c", &script])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED ports over verbs in a lab of two: {}", said.trim());
        return;
    }
    let told = String::from_utf8_lossy(&output.stdout);
    // The code with which the server dies.
    assert_eq!(output.status.code(), Some(7), "{told}\n{said}");
    println!("{told}");
}

/// What does not need a device: its absence is told with what to do.
#[test]
fn without_a_device_it_is_unavailable() {
    let Availability::Unavailable { reason } = verbs::probe() else {
        println!("SKIPPED the absence of a device: there is one");
        return;
    };
    assert!(!reason.is_empty());
    let [client, server] = both(&test(), |port, _, _| Ok(port.facts()));
    for end in [client, server] {
        let error = end.expect_err("there is no device");
        assert!(error.is::<Unavailable>(), "{error:#}");
        assert_eq!(error.to_string(), reason);
    }
}

/// Programs that are built with libibverbs start on hosts without.
#[test]
fn programs_do_not_need_the_libraries_to_start() {
    let program = env!("CARGO_BIN_EXE_net-bench").into();
    for file in [program, std::env::current_exe().unwrap()] {
        let output = match Command::new("readelf").arg("-d").arg(&file).output() {
            Ok(output) => output,
            Err(error) => {
                println!("SKIPPED what programs are linked to: readelf: {error}");
                return;
            }
        };
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains("NEEDED"), "{file:?}: {told}");
        for library in ["ibverbs", "rdmacm"] {
            assert!(!told.contains(library), "{file:?}: {told}");
        }
    }
}

/// All of the above in a machine that has a device.
#[test]
fn ports_work_over_software_rdma() {
    let _turn = LAB_TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(LAB)
        .args(["run", "--timeout", "500", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "--test-threads", "1"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED ports over verbs in a lab: {}", said.trim());
        return;
    }
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}\n{said}");
    assert!(!told.contains("SKIPPED"), "{told}");
    println!("{told}");
}
