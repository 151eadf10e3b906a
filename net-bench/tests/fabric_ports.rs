//! Two ports over libfabric in two threads, through every operation of every provider that is here,
//! with the numbers of all that arrives compared.
//!
//! A program of its own instead of the usual harness: what libfabric finds in the environment has to
//! be set before there is a second thread, as in net-bench itself. Arguments are parts of the names
//! of the cases to run.
#![allow(missing_docs, clippy::unwrap_used)]

use net_bench::place::Placement;
use net_bench::rdma::fabric::{self, FabricPort};
use net_bench::rdma::meeting::Meeting;
use net_bench::rdma::port::{Completed, Completion, Delivery, Path, Port, Posted};
use net_bench::rdma::test::{
    Device, EndpointType, Fabric, Measure, Mode, Operation, ProgressModel, RdmaTest,
};
use net_bench::side::End;
use reports::model::Unavailable;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Operations of each lane.
const OPERATIONS: u64 = 203;

const OPERATIONS_KINDS: [Operation; 7] = [
    Operation::Send,
    Operation::Tagged,
    Operation::Write,
    Operation::WriteData,
    Operation::Read,
    Operation::FetchAdd,
    Operation::CompareSwap,
];

fn test(provider: Option<&str>, endpoint: Option<EndpointType>, operation: Operation) -> RdmaTest {
    RdmaTest {
        device: Device::Fabric(Fabric {
            provider: provider.map(str::to_owned),
            domain: None,
            server_domain: None,
            endpoint,
            progress: None,
            register: false,
        }),
        operation,
        measure: Measure::Bandwidth,
        mode: Mode::Fast,
        length_bytes: if operation.atomic() { 8 } else { 3000 },
        lanes: 3,
        threads: 1,
        bidirectional: false,
        depth: 7,
        receives: 32,
        post_list: 3,
        moderation: 1,
        poll_batch: 16,
        inline_bytes: None,
        events: false,
        verify: true,
        spoil: None,
        placement: Placement::default(),
        duration_s: 1.0,
        operations: None,
        omit_s: 0.0,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}

/// What an operation of a lane carries.
fn payload(lane: u32, number: u64, length: usize) -> Vec<u8> {
    let number = number.to_le_bytes();
    let pattern = |index: usize| number[index % 8] ^ (lane as u8) ^ ((index / 8) as u8);
    (0..length).map(pattern).collect()
}

/// One side of a test.
struct Side<'a> {
    port: FabricPort,
    test: &'a RdmaTest,
    client: bool,
    posts: bool,
    hears: bool,
    posted: Vec<u64>,
    unsignalled: Vec<u32>,
    completed: Vec<u64>,
    heard: Vec<u64>,
}

impl<'a> Side<'a> {
    fn new(mut port: FabricPort, test: &'a RdmaTest, end: End) -> Self {
        let lanes = test.lanes as usize;
        let client = end == End::Client;
        assert_eq!((port.lanes(), port.depth()), (test.lanes, test.depth));
        if test.operation == Operation::Read {
            for lane in 0..test.lanes {
                for number in 0..u64::from(test.depth) {
                    let bytes = payload(lane, number, test.length_bytes as usize);
                    port.target(lane, number).copy_from_slice(&bytes);
                }
            }
        }
        Self {
            port,
            test,
            client,
            posts: client || test.bidirectional,
            hears: test.operation.receives() && (!client || test.bidirectional),
            posted: vec![0; lanes],
            unsignalled: vec![0; lanes],
            completed: vec![0; lanes],
            heard: vec![0; lanes],
        }
    }

    fn post(&mut self, lane: u32) {
        let index = lane as usize;
        let room = u64::from(self.test.depth) - (self.posted[index] - self.completed[index]);
        let left = OPERATIONS - self.posted[index];
        let count = room.min(left).min(self.test.post_list.into()) as u32;
        if count == 0 {
            return;
        }
        for ahead in 0..count {
            let number = self.posted[index] + u64::from(ahead);
            match self.test.operation {
                Operation::Read => {}
                Operation::FetchAdd => self.port.operands(lane, ahead, 1, 0),
                Operation::CompareSwap => self.port.operands(lane, ahead, number, number + 1),
                _ => {
                    let bytes = self.port.outgoing(lane, ahead);
                    let bytes_due = payload(lane, number, bytes.len());
                    bytes.copy_from_slice(&bytes_due);
                }
            }
        }
        let due = self.unsignalled[index] + count >= self.test.moderation
            || self.posted[index] + u64::from(count) == OPERATIONS;
        if let Posted::Taken(taken) = self.port.post(lane, count, due).unwrap() {
            self.posted[index] += u64::from(taken);
            let all = taken == count;
            self.unsignalled[index] = if due && all {
                0
            } else {
                self.unsignalled[index] + taken
            };
        }
    }

    fn take(&mut self, completion: Completion) {
        let (lane, index) = (completion.lane, completion.lane as usize);
        let length = self.test.length_bytes as usize;
        match completion.completed {
            Completed::Posted { first, count } => {
                assert_eq!(first, self.completed[index], "told in a row");
                for number in first..first + u64::from(count) {
                    if !self.test.operation.fetches() {
                        continue;
                    }
                    let outcome = self.port.outcome(lane, number);
                    if self.test.operation == Operation::Read {
                        let slot = number % u64::from(self.test.depth);
                        assert!(outcome == payload(lane, slot, length), "read {number}");
                    } else {
                        let value = u64::from_ne_bytes(outcome.try_into().unwrap());
                        assert_eq!(value, number, "what was there before");
                    }
                }
                self.completed[index] += u64::from(count);
            }
            Completed::Received { slot, length, data } => {
                assert!(self.hears);
                let number = self.heard[index];
                let write = self.test.operation == Operation::WriteData;
                if self.test.operation != Operation::Send {
                    assert_eq!(data, Some(number), "lane {lane}");
                }
                let wanted = payload(lane, number, self.test.length_bytes as usize);
                let bytes = if write {
                    &*self.port.target(lane, number)
                } else {
                    assert_eq!(length as usize, wanted.len());
                    self.port.incoming(slot)
                };
                // A slot of the target is used again at once.
                assert!(
                    write || bytes == wanted,
                    "operation {number} of lane {lane}"
                );
                self.heard[index] += 1;
                self.port.post_receive(slot).unwrap();
            }
        }
    }

    fn done(&mut self) -> bool {
        let all = |counts: &[u64]| counts.iter().all(|count| *count == OPERATIONS);
        let told = (!self.posts || all(&self.completed)) && (!self.hears || all(&self.heard));
        told && (self.client || self.in_memory())
    }

    /// Whether the memory holds what the client left there. A write is complete for who posted it
    /// before it is there.
    fn in_memory(&mut self) -> bool {
        let (operation, length) = (self.test.operation, self.test.length_bytes as usize);
        let last = OPERATIONS - u64::from(self.test.depth)..OPERATIONS;
        (0..self.test.lanes).all(|lane| match operation {
            Operation::Write | Operation::WriteData => last.clone().all(|number| {
                let wanted = payload(lane, number, length);
                Some(&self.port.peek(lane, number)) == wanted.last()
                    && self.port.target(lane, number) == wanted
            }),
            Operation::FetchAdd | Operation::CompareSwap => {
                self.port.target(lane, 5) == OPERATIONS.to_ne_bytes()
            }
            _ => true,
        })
    }

    /// Until both sides are done.
    fn run(&mut self, own: &AtomicBool, other: &AtomicBool) {
        let start = Instant::now();
        let mut completions = vec![Completion::NONE; self.test.poll_batch as usize];
        while !(own.load(Ordering::Relaxed) && other.load(Ordering::Acquire)) {
            if self.posts {
                for lane in 0..self.test.lanes {
                    self.post(lane);
                }
            }
            if self.test.events {
                self.port.wait(Duration::from_millis(5)).unwrap();
            }
            let count = self.port.poll(&mut completions).unwrap();
            for completion in completions.iter().take(count) {
                self.take(*completion);
            }
            if !own.load(Ordering::Relaxed) && self.done() {
                own.store(true, Ordering::Release);
            }
            assert!(
                start.elapsed() < PATIENCE,
                "posted {:?}, completed {:?}, heard {:?}",
                self.posted,
                self.completed,
                self.heard
            );
        }
    }
}

/// Both ends' ways to each other.
fn meetings() -> (Meeting, Meeting) {
    let ((to_one, for_one), (to_two, for_two)) = (channel(), channel());
    let meeting =
        |outbox, inbox| Meeting::new(0, outbox, inbox, Box::new(|| ()), Duration::from_secs(20));
    (meeting(to_two, for_one), meeting(to_one, for_two))
}

/// Carries a test out; the client's port for a look at what it used.
fn both(test: &RdmaTest) -> anyhow::Result<net_bench::rdma::port::Facts> {
    let (one, two) = meetings();
    let flags = [AtomicBool::new(false), AtomicBool::new(false)];
    // Neither closes its endpoints before the other is done.
    let barrier = std::sync::Barrier::new(2);
    let run = |end, meeting: Meeting, own: &AtomicBool, other: &AtomicBool| {
        let port = fabric::open(test, end, 0, &meeting)?;
        drop(meeting);
        let facts = port.facts();
        let mut side = Side::new(port, test, end);
        // A read must not come before there is something to be read.
        barrier.wait();
        side.run(own, other);
        barrier.wait();
        anyhow::Ok(facts)
    };
    std::thread::scope(|scope| {
        let (run, flags) = (&run, &flags);
        let server = scope.spawn(move || run(End::Server, two, &flags[1], &flags[0]));
        let client = run(End::Client, one, &flags[0], &flags[1]);
        let server = server.join().expect("the server's thread panicked");
        client.and_then(|client| server.map(|_| client))
    })
}

/// Every operation over a provider; what it lacks is said.
fn provider(name: &str, endpoint: Option<EndpointType>, adapt: impl Fn(&mut RdmaTest)) {
    for operation in OPERATIONS_KINDS {
        let mut test = test(Some(name), endpoint, operation);
        adapt(&mut test);
        let start = Instant::now();
        match both(&test) {
            Ok(facts) => {
                let used = |key: &str| facts.used[key].to_string();
                println!(
                    "  {operation:?}: {} {} on {}, injected {}, signalled {}, {:.1} s{}",
                    used("provider"),
                    used("endpoint"),
                    facts.device,
                    used("injected"),
                    used("signalled"),
                    start.elapsed().as_secs_f64(),
                    facts
                        .reduced
                        .iter()
                        .fold(String::new(), |all, why| all + "; " + why)
                );
                assert!(used("provider").contains(name), "{facts:?}");
                match name {
                    "shm" => assert_eq!(facts.path, Path::SharedMemory),
                    "verbs" | "verbs;ofi_rxm" => assert!(
                        matches!(&facts.path, Path::Rdma { device, mtu_bytes, .. }
                            if facts.device.starts_with(device) && *mtu_bytes > 0)
                            && facts.netdevs.len() == 1,
                        "{facts:?}"
                    ),
                    _ => {
                        let address = [127, 0, 0, 1].into();
                        assert_eq!(facts.path, Path::Sockets { address });
                        assert_eq!(facts.netdevs, ["lo"]);
                    }
                }
            }
            Err(error) => match error.downcast_ref::<Unavailable>() {
                Some(reason) => println!("not offered: {operation:?} over {name}: {reason}"),
                None => panic!("{operation:?} over {name}: {error:#}"),
            },
        }
    }
}

/// As a provider has it by default, with messages that are not injected.
fn plain(_: &mut RdmaTest) {}

/// Short messages both ways, in lists, of which some are signalled.
fn short(test: &mut RdmaTest) {
    test.length_bytes = test.length_bytes.min(40);
    test.bidirectional = test.operation.receives();
    test.moderation = 4;
}

/// Messages that are neither short enough to be injected nor signalled, waited for with events.
fn quiet(test: &mut RdmaTest) {
    test.inline_bytes = Some(0);
    test.moderation = 5;
    test.events = true;
    test.lanes = 1;
    test.post_list = 1;
}

/// One after the other.
fn single(test: &mut RdmaTest) {
    test.depth = 1;
    test.receives = 2;
    test.post_list = 1;
    test.lanes = 1;
    if !test.operation.atomic() {
        test.length_bytes = 100_000;
    }
}

const PROVIDERS: [(&str, Option<EndpointType>); 6] = [
    ("tcp;ofi_rxm", None),
    ("tcp", Some(EndpointType::Msg)),
    ("shm", None),
    ("udp", None),
    ("verbs", None),
    ("verbs;ofi_rxm", None),
];

type Adapt = fn(&mut RdmaTest);

const WAYS: [(&str, Adapt); 4] = [
    ("plain", plain),
    ("short", short),
    ("quiet", quiet),
    ("single", single),
];

fn refusals() {
    let error = |test: &RdmaTest| both(test).expect_err("refused");
    let unknown = error(&test(Some("nosuch"), None, Operation::Send));
    assert!(unknown.downcast_ref::<Unavailable>().is_none());
    let words = unknown.to_string();
    assert!(words.contains("nosuch") && words.contains("tcp"), "{words}");
    let absent = error(&test(Some("cxi"), None, Operation::Send));
    let words = absent.to_string();
    assert!(absent.downcast_ref::<Unavailable>().is_some(), "{words}");
    let datagrams = error(&test(
        Some("tcp"),
        Some(EndpointType::Msg),
        Operation::Tagged,
    ));
    let words = datagrams.to_string();
    assert!(datagrams.downcast_ref::<Unavailable>().is_some(), "{words}");
    assert!(words.contains("tagged") && words.contains("msg"), "{words}");
    let mut nowhere = test(Some("tcp"), None, Operation::Send);
    if let Device::Fabric(fabric) = &mut nowhere.device {
        fabric.domain = Some("nosuch0".to_owned());
        fabric.server_domain = Some("nosuch0".to_owned());
    }
    let nowhere = error(&nowhere);
    let words = nowhere.to_string();
    assert!(nowhere.downcast_ref::<Unavailable>().is_none(), "{words}");
    assert!(words.contains("nosuch0") && words.contains("lo"), "{words}");
    let mut greedy = test(Some("tcp;ofi_rxm"), None, Operation::Send);
    greedy.inline_bytes = Some(1 << 30);
    let facts = both(&greedy).unwrap();
    assert!(
        facts
            .reduced
            .iter()
            .any(|why| why.contains("injects at most"))
    );
}

fn memory_is_registered_and_progress_chosen() {
    for operation in [Operation::Send, Operation::Read] {
        let mut test = test(Some("tcp;ofi_rxm"), None, operation);
        if let Device::Fabric(fabric) = &mut test.device {
            fabric.register = true;
            fabric.progress = Some(ProgressModel::Manual);
        }
        let facts = both(&test).unwrap();
        assert_eq!(facts.used["data_progress"], "manual");
    }
}

fn a_peer_that_vanishes_is_noticed() {
    let test = test(Some("tcp"), Some(EndpointType::Msg), Operation::Send);
    let (one, two) = meetings();
    std::thread::scope(|scope| {
        let for_server = &test;
        let server = scope.spawn(move || fabric::open(for_server, End::Server, 0, &two).map(drop));
        let mut port = fabric::open(&test, End::Client, 0, &one).unwrap();
        assert_eq!(port.delivery(), Delivery::InOrder);
        server.join().unwrap().unwrap();
        let start = Instant::now();
        let error = loop {
            if let Err(error) = port.poll(&mut [Completion::NONE; 4]) {
                break error;
            }
            assert!(start.elapsed() < PATIENCE);
        };
        println!("  {error:#}");
    });
}

fn main() -> ExitCode {
    let universe = libfabric_sys::small_universe();
    println!("{}: {universe:?}", libfabric_sys::UNIVERSE);
    if let Err(missing) = libfabric_sys::Library::load() {
        println!("SKIPPED ports over libfabric: {missing}");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let mut cases: Vec<(String, Box<dyn Fn()>)> = vec![
        ("refusals".to_owned(), Box::new(refusals)),
        (
            "registration".to_owned(),
            Box::new(memory_is_registered_and_progress_chosen),
        ),
        (
            "vanishing".to_owned(),
            Box::new(a_peer_that_vanishes_is_noticed),
        ),
    ];
    for (name, endpoint) in PROVIDERS {
        for (way, adapt) in WAYS {
            let run = move || provider(name, endpoint, adapt);
            cases.push((format!("{name} {way}"), Box::new(run)));
        }
    }
    // A thread that fails leaves its counterpart waiting: it takes the process with it.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        println!("FAILED");
        std::process::exit(1);
    }));
    for (name, run) in cases {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("{name}");
            run();
        }
    }
    ExitCode::SUCCESS
}
