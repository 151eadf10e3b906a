//! Messages through the libfabric of this machine, over the loopback interface and shared memory.
#![allow(missing_docs, clippy::unwrap_used)]

use libfabric_sys::raw::constants::{FI_ENODATA, FI_EP_MSG, FI_EP_RDM, FI_MSG, FI_TAGGED};
use libfabric_sys::{
    BATCH, Completion, Domain, Endpoint, Error, Info, Library, Listener, Peer, Posted, Query, Shape,
};
use std::time::{Duration, Instant};

const SHAPE: Shape = Shape {
    slots: 4,
    length: 100_000,
};
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether there is a libfabric; a line that says why not, otherwise.
fn libfabric(test: &str) -> bool {
    let loaded = Library::load();
    loaded
        .map_err(|missing| println!("SKIPPED {test}: {missing}"))
        .is_ok()
}

/// The first offer, or `None` and a line where the provider is not there.
fn offer(provider: &str, endpoint: u32, node: Option<&str>) -> Option<Info> {
    let query = Query {
        provider: Some(provider.to_owned()),
        endpoint,
        caps: FI_MSG | if endpoint == FI_EP_RDM { FI_TAGGED } else { 0 },
        node: node.map(str::to_owned),
        local: node.is_some(),
        ..Query::default()
    };
    match query.find() {
        Ok(mut found) => Some(found.remove(0)),
        Err(error) if error.is(FI_ENODATA) => {
            println!("SKIPPED {provider}: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} took too long");
    }
}

/// Posts, with both endpoints driven on while there is no room.
fn post(one: &mut Endpoint, other: &mut Endpoint, call: impl Fn(&mut Endpoint) -> Posted) {
    wait_for("room for an operation", || {
        let posted = call(one);
        one.poll(&mut []).unwrap();
        other.poll(&mut []).unwrap();
        posted == Posted::Taken
    });
}

/// Polls both endpoints until the first has sent and the second received; what the second got.
fn deliver(from: &mut Endpoint, to: &mut Endpoint) -> Completion {
    let mut completions = [Completion::default(); BATCH];
    let (mut sent, mut received) = (false, None);
    wait_for("a message", || {
        let count = from.poll(&mut completions).unwrap();
        for completion in &completions[..count] {
            assert!(!completion.received, "{completion:?}");
            sent = true;
        }
        let count = to.poll(&mut completions).unwrap();
        for completion in &completions[..count] {
            assert!(completion.received, "{completion:?}");
            received = Some(*completion);
        }
        sent && received.is_some()
    });
    received.unwrap()
}

fn send_and_check(
    from: &mut Endpoint,
    to: &mut Endpoint,
    peer: Option<Peer>,
    length: usize,
    tag: Option<u64>,
) {
    let message: Vec<u8> = (0..length)
        .map(|index| (index * 7 + length) as u8)
        .collect();
    post(to, from, |to| match tag {
        Some(tag) => to.receive_tagged(1, tag, 0).unwrap(),
        None => to.receive(1).unwrap(),
    });
    from.bytes(2)[..length].copy_from_slice(&message);
    post(from, to, |from| match tag {
        Some(tag) => from.send_tagged(2, length, peer, tag).unwrap(),
        None => from.send(2, length, peer).unwrap(),
    });
    let completion = deliver(from, to);
    assert_eq!((completion.slot, completion.length), (1, length));
    if let Some(tag) = tag {
        assert_eq!(completion.tag, tag);
    }
    assert_eq!(to.bytes(1)[..length], message);
}

/// Two endpoints of a provider, and messages of up to `longest` bytes both ways.
fn exchange(provider: &str, node: Option<&str>, longest: usize) {
    let Some(info) = offer(provider, FI_EP_RDM, node) else {
        return;
    };
    assert_eq!(info.provider(), provider);
    let domain = Domain::open(info).unwrap();
    let mut one = Endpoint::reliable_datagram(&domain, SHAPE).unwrap();
    let mut two = Endpoint::reliable_datagram(&domain, SHAPE).unwrap();
    let to_two = one.add_peer(&two.address().unwrap()).unwrap();
    let to_one = two.add_peer(&one.address().unwrap()).unwrap();
    for length in [1, 100, longest] {
        for tag in [None, Some(0x1234)] {
            send_and_check(&mut one, &mut two, Some(to_two), length, tag);
            send_and_check(&mut two, &mut one, Some(to_one), length, tag);
        }
    }
    post(&mut two, &mut one, |two| {
        two.receive_tagged(0, 5, 0).unwrap()
    });
    post(&mut one, &mut two, |one| {
        one.inject_tagged(b"short", Some(to_two), 5).unwrap()
    });
    let mut completions = [Completion::default(); BATCH];
    wait_for("an injected message", || {
        assert_eq!(
            one.poll(&mut completions).unwrap(),
            0,
            "injected ones complete silently"
        );
        two.poll(&mut completions).unwrap() == 1
    });
    assert_eq!(&two.bytes(0)[..5], b"short");
}

#[test]
fn reliable_datagrams_over_tcp() {
    if libfabric("messages over tcp;ofi_rxm") {
        // Longer than what the provider sends without asking the peer first.
        exchange("tcp;ofi_rxm", Some("127.0.0.1"), SHAPE.length);
    }
}

#[test]
fn reliable_datagrams_over_udp() {
    if libfabric("messages over udp;ofi_rxd") {
        exchange("udp;ofi_rxd", Some("127.0.0.1"), SHAPE.length);
    }
}

#[test]
fn reliable_datagrams_through_shared_memory() {
    if libfabric("messages over shm") {
        // Longer ones crash libfabric 2.6.0 where both ends are in one process and both send them,
        // in a C program as well.
        exchange("shm", None, 4096);
    }
}

#[test]
fn a_connection_over_tcp() {
    if !libfabric("a connection over tcp") {
        return;
    }
    let Some(info) = offer("tcp", FI_EP_MSG, Some("127.0.0.1")) else {
        return;
    };
    let listener = Listener::open(&info).unwrap();
    let address = listener.address().unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            let info = offer("tcp", FI_EP_MSG, Some("127.0.0.1")).unwrap();
            let domain = Domain::open(info).unwrap();
            let post = |client: &mut Endpoint| {
                client
                    .receive(0)
                    .map(|posted| assert_eq!(posted, Posted::Taken))
            };
            let mut client = Endpoint::connect(&domain, SHAPE, &address, PATIENCE, post).unwrap();
            client.bytes(1)[..4].copy_from_slice(b"ping");
            assert_eq!(client.send(1, 4, None).unwrap(), Posted::Taken);
            let mut completions = [Completion::default(); BATCH];
            let mut answer = 0;
            wait_for("the answer", || {
                let count = client.poll(&mut completions).unwrap();
                for completion in completions[..count].iter().filter(|c| c.received) {
                    answer = completion.length;
                }
                answer > 0
            });
            client.bytes(0)[..answer].to_vec()
        });
        let post = |server: &mut Endpoint| {
            server
                .receive(0)
                .map(|posted| assert_eq!(posted, Posted::Taken))
        };
        let mut server = listener.accept(SHAPE, PATIENCE, post).unwrap();
        let mut completions = [Completion::default(); BATCH];
        wait_for("the question", || {
            server.poll(&mut completions).unwrap() == 1
        });
        assert_eq!(&server.bytes(0)[..completions[0].length], b"ping");
        server.bytes(1)[..6].copy_from_slice(b"answer");
        assert_eq!(server.send(1, 6, None).unwrap(), Posted::Taken);
        wait_for("the answer's way", || {
            server.poll(&mut completions).unwrap() == 1
        });
        assert_eq!(client.join().unwrap(), b"answer");
        wait_for("the end", || {
            server.poll(&mut []).unwrap();
            server.peer_left().unwrap()
        });
        assert!(server.peer_left().unwrap(), "it stays away");
    });
}

#[test]
fn nobody_listens_or_comes() {
    if !libfabric("connections that fail") {
        return;
    }
    let Some(info) = offer("tcp", FI_EP_MSG, Some("127.0.0.1")) else {
        return;
    };
    let listener = Listener::open(&info).unwrap();
    let nobody = listener.accept(SHAPE, Duration::from_millis(50), |_| Ok(()));
    assert!(matches!(nobody, Err(Error::Timeout { .. })), "{nobody:?}");
    let address = listener.address().unwrap();
    drop(listener);
    let domain = Domain::open(info).unwrap();
    let refused = Endpoint::connect(&domain, SHAPE, &address, PATIENCE, |_| Ok(()));
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("connect") && error.contains("refused"),
        "{error}"
    );
}

#[test]
fn what_is_not_there_is_said() {
    if !libfabric("a provider that does not exist") {
        return;
    }
    let query = Query {
        provider: Some("nosuch".to_owned()),
        ..Query::default()
    };
    let error = query.find().unwrap_err();
    assert!(error.is(FI_ENODATA));
    let text = error.to_string();
    for word in ["nosuch", "No data available", "no provider offers that"] {
        assert!(text.contains(word), "{text}");
    }
    let zero = Query {
        node: Some("a\0b".to_owned()),
        ..Query::default()
    };
    assert!(matches!(zero.find(), Err(Error::Refused(_))));
}

#[test]
fn misuse_is_refused() {
    if !libfabric("misuse") {
        return;
    }
    let Some(info) = offer("tcp;ofi_rxm", FI_EP_RDM, Some("127.0.0.1")) else {
        return;
    };
    let domain = Domain::open(info).unwrap();
    let refused = |result: Result<Posted, Error>, word: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    let mut one = Endpoint::reliable_datagram(&domain, SHAPE).unwrap();
    let mut two = Endpoint::reliable_datagram(&domain, SHAPE).unwrap();
    let itself = one.add_peer(&one.address().unwrap()).unwrap();
    assert_eq!(one.receive(0).unwrap(), Posted::Taken);
    refused(one.receive(0), "in flight");
    refused(one.receive(4), "there are 4");
    refused(one.send(1, SHAPE.length + 1, Some(itself)), "do not fit");
    refused(two.send(1, 1, Some(itself)), "not a peer");
    refused(one.send(1, 1, None), "not a peer");
    let long = vec![0; one.inject_size() + 1];
    refused(one.inject(&long, Some(itself)), "at most");
    for address in [&[][..], &[1; 256]] {
        assert!(one.add_peer(address).is_err());
    }
    let touched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one.bytes(0).len()));
    assert!(touched.is_err(), "a slot in flight could be touched");
    let connected = Listener::open(domain.info()).unwrap_err().to_string();
    assert!(connected.contains("type rdm here, not msg"), "{connected}");
    for (slots, length) in [(0, 1), (1, 0), (1 << 20, 1 << 40), (usize::MAX, usize::MAX)] {
        let endpoint = Endpoint::reliable_datagram(&domain, Shape { slots, length });
        let error = endpoint.unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
    }
}
