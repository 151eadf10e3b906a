//! Everything that parses bytes from the network, fed with mutations of what it expects: it may
//! refuse, and must neither panic nor accept what was tampered with. The seed is fixed, so that a
//! failure comes back.
#![allow(missing_docs, clippy::unwrap_used)]

use net_bench::control::frame::{self, Sealer};
use net_bench::control::handshake::{SERVER_HELLO_BYTES, check_prefix, client_hello};
use net_bench::control::message::{Leg, Ready, Reply, Request, Role};
use net_bench::control::{Channel, ControlError, Key};
use net_bench::observe::Observed;
use net_bench::place::Placement;
use net_bench::place::pin::Pin;
use net_bench::place::ports::Queues;
use net_bench::rdma::conduct::Word;
use net_bench::rdma::meeting::Card;
use net_bench::rdma::test::{Device, EndpointType, Fabric, Measure, Mode, Operation, RdmaTest};
use net_bench::test::{
    Arrival, Direction, Engine, Process, Receive, Shape, SocketOptions, Test, Transport,
};
use net_bench::transport::rendezvous::{DataAddress, flow_of, preamble};
use net_bench::workload::outlet::ZeroCopy;
use net_bench::workload::schedule::Schedule;
use net_bench::workload::sequence::Datagrams;
use reports::model::{Fact, Work};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Flips, overwrites, inserts, removes, duplicates or truncates a few bytes.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..=4) {
        let place = random.usize(0..=bytes.len());
        match random.u8(0..6) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.u8(0..8),
            1 if place < bytes.len() => bytes[place] = random.u8(..),
            2 => bytes.insert(place, random.u8(..)),
            3 if place < bytes.len() => drop(bytes.remove(place)),
            4 => {
                let part = bytes[..place].to_vec();
                bytes.extend(part);
            }
            _ => bytes.truncate(place),
        }
    }
}

fn test() -> Test {
    Test {
        transport: Transport::Tcp,
        engine: Engine::More,
        receive: Receive::Gro,
        busy_poll: true,
        socket: SocketOptions {
            nagle: true,
            window_bytes: Some(65_536),
            congestion: Some("cubic".to_owned()),
            dscp: Some(46),
            segment_bytes: Some(1448),
            pacing_bytes_per_s: Some(125_000_000),
            device_poll_us: Some(50),
        },
        placement: Placement {
            client: Pin::List(vec![0, 3]),
            server: Pin::RxQueue { offset: 1 },
            queues: Some(Queues::These(vec![0, 2])),
        },
        arrival: Some(Arrival {
            rate_per_s: 1e4,
            process: Process::Poisson,
            seed: 3,
        }),
        shape: Shape::Stream {
            length_bytes: 131_072,
            direction: Direction::Bidirectional,
        },
        flows: 4,
        threads: 2,
        duration_s: 1.5,
        operations: Some(7),
        omit_s: 0.25,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}

fn rdma_test() -> RdmaTest {
    RdmaTest {
        device: Device::Fabric(Fabric {
            provider: Some("tcp;ofi_rxm".to_owned()),
            domain: Some("eth0".to_owned()),
            server_domain: None,
            endpoint: Some(EndpointType::Rdm),
            progress: None,
            register: true,
        }),
        operation: Operation::WriteData,
        measure: Measure::Bandwidth,
        mode: Mode::Compat,
        length_bytes: 4096,
        lanes: 4,
        threads: 2,
        bidirectional: true,
        depth: 64,
        receives: 63,
        post_list: 2,
        moderation: 8,
        poll_batch: 16,
        inline_bytes: Some(64),
        events: true,
        verify: true,
        spoil: Some(5),
        placement: test().placement,
        duration_s: 1.5,
        operations: None,
        omit_s: 0.25,
        interval_s: 1.0,
        timeout_s: 10.0,
    }
}

/// What a side observes: every kind of value is in it, known and unavailable.
fn observed() -> Observed {
    let text = r#"{
        "elapsed_s": 1.5,
        "flows": {
            "totals": {"flows": 1, "segments_out": 3, "segments_in": null, "retransmits": 0,
                "out_of_order_in": 0, "sent_bytes": 9, "received_bytes": 0, "busy_us": 5,
                "rwnd_limited_us": 1, "sndbuf_limited_us": 0, "mean_rtt_us": 3.5, "min_rtt_us": 2,
                "mean_cwnd_segments": null, "max_pacing_bytes_per_s": null},
            "flows": [],
            "course": []
        },
        "threads": {"threads": 1, "user_s": 0.1, "system_s": 0.2, "busiest_thread": 0.9,
            "involuntary_switches": 4},
        "thread_cpus": [0, 3],
        "listener_cpus": [],
        "cores": [{"cpu": 0, "user_s": 0.1, "system_s": 0.1, "irq_s": 0, "softirq_s": 0.1,
            "steal_s": 0, "idle_s": 0.1}],
        "device": {"unavailable": "the route to the peer: Network is unreachable"},
        "counters": [{"source": "link eth0", "name": "rx_bytes", "before": 1,
            "after": {"unavailable": "gone"}}]
    }"#;
    serde_json::from_str(text).expect("it is what a side says")
}

fn replies() -> Vec<Reply> {
    let leg = Leg {
        role: Role::Receive,
        work: Work { ops: 3, bytes: 9 },
        elapsed_s: 1.0,
        cpu_s: 0.5,
        verified: "3 reads".to_owned(),
        observed: Some(Box::new(observed())),
        flags: Vec::new(),
        intervals: Vec::new(),
        flow_bytes: vec![4, 5],
        buffer_bytes: Some(Fact::Known(1.0)),
        max_segment_bytes: Some(Fact::unavailable("no")),
        congestion_control: Some(Fact::Known("cubic".to_owned())),
        datagrams: Some(Datagrams::default()),
        schedule: Some(Schedule::default()),
        zerocopy: Some(ZeroCopy::default()),
        way: None,
    };
    let ready = Ready {
        data: vec![DataAddress::Port {
            ip: Some([127, 0, 0, 1].into()),
            port: 4000,
        }],
        token: [3; 16],
        host: Some(reports::host::fingerprint()),
        steering: Some(
            serde_json::from_value(serde_json::json!({
                "table": [0, 1, 2, 3], "key": vec![7; 40], "seed": 0
            }))
            .unwrap(),
        ),
    };
    vec![
        Reply::Go,
        Reply::Word(Word::Posted(vec![3, 4])),
        Reply::Word(Word::Card(Card {
            thread: 1,
            text: "{}".to_owned(),
        })),
        Reply::Ended,
        Reply::Stop,
        Reply::Ready(Box::new(ready)),
        Reply::Done(vec![leg]),
        Reply::Failed {
            error: "no".to_owned(),
        },
    ]
}

#[test]
fn messages_survive_mutation() {
    let mut random = fastrand::Rng::with_seed(0x6e65_7462_656e_6368);
    let request = serde_json::to_vec(&Request::Test(Box::new(test()))).unwrap();
    for _ in 0..4000 {
        let mut bytes = request.clone();
        mutate(&mut random, &mut bytes);
        if let Ok(Request::Test(test)) = serde_json::from_slice(&bytes)
            && test.check().is_ok()
        {
            // What passes the check is what the server would do: it must be bounded.
            assert!(test.flows <= 1024 && test.threads <= 128);
            assert!((0.0..=86_400.0).contains(&test.omit_s));
            let name = test.socket.congestion.unwrap_or_default();
            assert!(name.len() < 16 && !name.contains(['/', '.', '\0']));
        }
    }
    let request = serde_json::to_vec(&Request::Rdma(Box::new(rdma_test()))).unwrap();
    for _ in 0..4000 {
        let mut bytes = request.clone();
        mutate(&mut random, &mut bytes);
        if let Ok(Request::Rdma(test)) = serde_json::from_slice(&bytes)
            && test.check().is_ok()
        {
            assert!(test.lanes <= 1024 && test.threads <= 128 && test.depth <= 8192);
            assert!(test.memory_bytes() <= 1 << 30 && test.lanes % test.threads == 0);
            assert!((0.0..=86_400.0).contains(&test.omit_s));
        }
    }
    for reply in replies() {
        let original = serde_json::to_vec(&reply).unwrap();
        for _ in 0..1000 {
            let mut bytes = original.clone();
            mutate(&mut random, &mut bytes);
            let _ = serde_json::from_slice::<Reply>(&bytes);
        }
    }
}

#[test]
fn no_mutated_frame_is_opened() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..4000 {
        let payload: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
        let original = Sealer::new([5; 32], frame::TO_CLIENT)
            .seal(&payload)
            .unwrap();
        let mut bytes = original.clone();
        mutate(&mut random, &mut bytes);
        let Some((header, body)) = bytes.split_first_chunk::<4>() else {
            continue;
        };
        let Ok(length) = frame::payload_length(*header) else {
            continue;
        };
        let Some(body) = body.get(..length + frame::TAG_BYTES) else {
            continue;
        };
        let untouched = original.get(..bytes.len().min(original.len())) == Some(&bytes[..])
            || bytes.starts_with(&original);
        let opened = Sealer::new([5; 32], frame::TO_CLIENT).open(body).is_ok();
        assert_eq!(opened, untouched, "{original:02x?} became {bytes:02x?}");
    }
}

#[test]
fn no_mutated_greeting_or_preamble_passes_for_another() {
    let mut random = fastrand::Rng::with_seed(2);
    let token = [7; 16];
    for _ in 0..4000 {
        let mut bytes = preamble(&token, 1).to_vec();
        mutate(&mut random, &mut bytes);
        if let Ok(bytes) = bytes.as_slice().try_into()
            && let Some(flow) = flow_of(bytes, &token, 4)
        {
            assert!(flow < 4 && bytes[..16] == token);
        }
        let hello = client_hello(&Key::EMPTY, &[0; SERVER_HELLO_BYTES]).unwrap();
        let mut prefix = hello[..12].to_vec();
        mutate(&mut random, &mut prefix);
        if let Ok(prefix) = <&[u8; 12]>::try_from(prefix.as_slice()) {
            assert_eq!(check_prefix(prefix).is_ok(), prefix[..] == hello[..12]);
        }
    }
}

/// A real channel that is fed by a stranger; it must end with an error, soon.
fn accept_from(stranger: impl FnOnce(TcpStream) + Send + 'static) -> ControlError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let caller = std::thread::spawn(move || stranger(TcpStream::connect(address).unwrap()));
    let (stream, _) = listener.accept().unwrap();
    let outcome = Channel::accept(stream, &Key::EMPTY)
        .and_then(|mut channel| channel.receive::<Request>(Duration::from_secs(60)));
    caller.join().unwrap();
    outcome.expect_err("a mutated conversation is refused")
}

#[test]
fn a_live_channel_survives_mutated_conversations() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..300 {
        let seed = random.u64(..);
        accept_from(move |mut stream| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut theirs = [0; SERVER_HELLO_BYTES];
            if stream.read_exact(&mut theirs).is_err() {
                return;
            }
            let ours = client_hello(&Key::EMPTY, &theirs).unwrap();
            let session = net_bench::control::handshake::session_key(&Key::EMPTY, &theirs, &ours);
            let payload = serde_json::to_vec(&Request::Test(Box::new(test()))).unwrap();
            let frame = Sealer::new(session, frame::TO_SERVER)
                .seal(&payload)
                .unwrap();
            let mut said = [ours.to_vec(), frame].concat();
            let original = said.clone();
            while said.starts_with(&original) {
                mutate(&mut random, &mut said);
            }
            // The server may close while we speak.
            let _ = stream.write_all(&said);
        });
    }
}
