use super::*;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(100);

/// A connection whose first end has the least of send buffers, so that nothing fits into it at once,
/// and whose second has `receive_bytes` to receive.
fn pair(receive_bytes: usize) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    // What is accepted has the listener's buffers.
    setsockopt(&listener, sockopt::RcvBuf, &receive_bytes).expect("taken");
    let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    setsockopt(&ours, sockopt::SndBuf, &4096).expect("taken");
    (ours, listener.accept().expect("somebody calls").0)
}

/// The ring, or `None` and a line that says why there is none.
fn granted<R>(ring: Result<R, Refused>) -> Option<R> {
    ring.map_err(|refused| println!("SKIPPED io_uring: {refused}"))
        .ok()
}

/// No two neighbouring periods of these bytes are alike.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * index / 7) as u8).collect()
}

fn flush(ring: &mut SendRing<impl AsFd>) -> io::Result<()> {
    while !ring.flush(PATIENCE)? {}
    Ok(())
}

#[test]
fn chains_arrive_in_order_however_small_the_socket_buffers_are() {
    for kind in [SendKind::Copied, SendKind::Uncopied] {
        // Into less the kernel would have to send what it cannot copy again and again.
        let (ours, mut theirs) = pair(1 << 16);
        let memory = bytes(100_000);
        let Some(mut ring) = granted(SendRing::new(ours, &memory, 8, kind)) else {
            return;
        };
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).map(|_| all)
        });
        let mut expected = Vec::new();
        for round in 0..20 {
            for index in 0..8 {
                let (start, length) = (997 * round + index, 1 + (round * 8 + index) * 53);
                ring.queue(start, length);
                expected.extend_from_slice(&memory[start..start + length]);
            }
            assert!(ring.is_full());
            flush(&mut ring).expect("taken");
        }
        while !ring.release(PATIENCE).expect("waited") {}
        let usage = ring.usage();
        let sends = if kind == SendKind::Uncopied {
            20 * 8
        } else {
            0
        };
        // Over loopback the kernel copies always.
        assert_eq!(
            (usage.sends, usage.completed, usage.copied),
            (sends, sends, sends)
        );
        // The kernel's own hold on the socket ends with the ring, or the reader would wait for ever.
        drop(ring);
        let got = reader.join().expect("no panic").expect("read");
        assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
    }
}

#[test]
fn a_send_to_a_peer_that_is_gone_is_an_error() {
    let (ours, theirs) = pair(4096);
    let Some(mut ring) = granted(SendRing::new(ours, &bytes(50_000), 4, SendKind::Copied)) else {
        return;
    };
    for index in 0..4 {
        ring.queue(index, 40_000);
    }
    // Full buffers: nobody reads.
    assert!(!ring.flush(Duration::from_millis(10)).expect("waits"));
    drop(theirs);
    let error = flush(&mut ring).expect_err("the peer is gone");
    let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
    assert!(kinds.contains(&error.kind()), "{error}");
}

#[test]
fn a_ring_that_is_dropped_while_it_sends_lets_go_of_its_socket() {
    let (ours, mut theirs) = pair(4096);
    let Some(mut ring) = granted(SendRing::new(ours, &[7; 50_000], 4, SendKind::Uncopied)) else {
        return;
    };
    for _ in 0..4 {
        ring.queue(0, 50_000);
    }
    assert!(!ring.flush(Duration::from_millis(10)).expect("waits"));
    drop(ring);
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).expect("the end comes");
    assert!(all.len() < 200_000 && all.iter().all(|&byte| byte == 7));
}

#[test]
fn bytes_come_in_order_through_buffers_that_do_not_suffice() {
    for (count, size, bundles) in [
        (1, 1000, false),
        (2, 100, false),
        (4, 64, true),
        (2, 999, true),
    ] {
        let (mut ours, theirs) = pair(4096);
        let Some(mut ring) = granted(ReceiveRing::new(theirs, count, size, bundles)) else {
            return;
        };
        let expected = bytes(300_000);
        // More than all buffers hold is there before the first one is looked for.
        let (first, rest) = expected.split_at(2000);
        ours.write_all(first).expect("written");
        let rest = rest.to_vec();
        let writer = thread::spawn(move || ours.write_all(&rest));
        let mut got = Vec::new();
        loop {
            match ring.receive(PATIENCE).expect("received") {
                Received::Bytes(bytes) => {
                    assert!(bytes.len() <= size);
                    got.extend_from_slice(bytes);
                }
                Received::Empty => break,
                Received::Nothing => {}
            }
        }
        writer.join().expect("no panic").expect("written");
        assert!(
            got == expected,
            "{count} {size} {bundles}: {} bytes",
            got.len()
        );
        assert!(
            bundles || ring.starved() > 0,
            "{count} buffers of {size} bytes sufficed"
        );
    }
}

#[test]
fn an_idle_ring_waits_no_longer_than_it_is_told_and_takes_nothing_with_it() {
    let (mut ours, mut theirs) = pair(4096);
    let socket = theirs.try_clone().expect("a second descriptor");
    let Some(mut ring) = granted(ReceiveRing::new(socket, 4, 1000, true)) else {
        return;
    };
    let idle = ring.receive(Duration::from_millis(5)).expect("waited");
    assert_eq!(idle, Received::Nothing);
    drop(ring);
    ours.write_all(b"later").expect("written");
    let mut got = [0; 5];
    theirs.read_exact(&mut got).expect("the ring is disarmed");
    assert_eq!(&got, b"later");
    drop(theirs);
    // With the ring went its hold on the socket.
    assert_eq!(ours.read(&mut got).expect("the end"), 0);
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_not_missed() {
    for round in 0..500usize {
        let (mut ours, theirs) = pair(1 << 16);
        let Some(mut ring) = granted(ReceiveRing::new(theirs, 4, 1000, true)) else {
            return;
        };
        // Armed before anything comes, in most rounds.
        let idle = ring.receive(Duration::ZERO).expect("waited");
        assert_eq!(idle, Received::Nothing);
        let writer = thread::spawn(move || {
            ours.write_all(&[3; 100]).expect("written");
            if round % 2 == 0 {
                ours.shutdown(Shutdown::Write).expect("ended");
            }
        });
        let mut got = 0;
        loop {
            match ring.receive(Duration::from_millis(2)).expect("received") {
                Received::Bytes(bytes) => got += bytes.len(),
                Received::Empty => break,
                Received::Nothing => {}
            }
        }
        assert_eq!(got, 100);
        writer.join().expect("no panic");
    }
}

#[test]
fn a_cut_socket_ends_a_wait() {
    let (_ours, theirs) = pair(4096);
    let socket = theirs.try_clone().expect("a second descriptor");
    let Some(mut ring) = granted(ReceiveRing::new(socket, 4, 1000, false)) else {
        return;
    };
    assert_eq!(
        ring.receive(Duration::ZERO).expect("waited"),
        Received::Nothing
    );
    theirs.shutdown(Shutdown::Both).expect("cut");
    assert_eq!(
        ring.receive(Duration::from_secs(60)).expect("ended"),
        Received::Empty
    );
}

#[test]
fn datagrams_stay_apart_and_empty_ones_end_nothing() {
    let ours = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let theirs = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    ours.connect(theirs.local_addr().expect("bound"))
        .expect("connected");
    let Some(mut ring) = granted(ReceiveRing::new(theirs, 4, 100, false)) else {
        return;
    };
    for round in 0..50u8 {
        for length in [10, 0, 100] {
            ours.send(&vec![round; length]).expect("sent");
        }
        for length in [10, 0, 100] {
            let expected = vec![round; length];
            match ring.receive(Duration::from_secs(60)).expect("received") {
                Received::Bytes(bytes) => assert_eq!(bytes, expected),
                Received::Empty => assert_eq!(length, 0),
                Received::Nothing => panic!("it was sent"),
            }
        }
    }
}

#[test]
fn a_refusal_says_what_was_refused_and_how() {
    let (ours, _theirs) = pair(4096);
    let refused = thread::spawn(move || {
        crate::forbid::io_uring().map(|()| SendRing::new(ours, &[0; 10], 1, SendKind::Copied).err())
    });
    match refused.join().expect("no panic") {
        Err(error) => println!("SKIPPED a refusal: no seccomp: {error}"),
        Ok(refused) => {
            let refused = refused.expect("it is forbidden");
            assert_eq!(refused.what, "io_uring_setup");
            assert_eq!(refused.error.raw_os_error(), Some(libc::EPERM));
        }
    }
}

#[test]
fn another_thread_is_refused() {
    let (ours, theirs) = pair(4096);
    let Some(mut ring) = granted(ReceiveRing::new(theirs, 4, 1000, true)) else {
        return;
    };
    assert_eq!(
        ring.receive(Duration::ZERO).expect("waited"),
        Received::Nothing
    );
    let other = thread::spawn(move || ring.receive(Duration::ZERO).map(drop));
    let error = other.join().expect("no panic").expect_err("refused");
    assert!(error.to_string().contains("another thread"), "{error}");
    drop(ours);
}
