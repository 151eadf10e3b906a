//! How data connections find their test: the server listens on a port of its own per test, and
//! each connection shows the token that the client was given over the control channel.
//!
//! Whoever shows anything else is dropped, and nobody can hold the others up: connections that
//! have not spoken yet wait side by side, and the eldest makes room when there are too many.

use super::tcp::TcpFlow;
use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long all of a test's connections may take to be made.
pub const RENDEZVOUS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a data connection sends first: the token and the flow's number, big-endian.
pub const PREAMBLE_BYTES: usize = 20;

/// Connections that may be waiting to speak, beyond those that are due.
const STRANGERS: usize = 64;

/// A random word that lets a connection into one test.
pub type Token = [u8; 16];

/// What the connection of flow `index` sends first.
#[must_use]
pub fn preamble(token: &Token, index: u32) -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..16].copy_from_slice(token);
    bytes[16..].copy_from_slice(&index.to_be_bytes());
    bytes
}

/// The flow that a preamble announces, or `None` if it is a stranger's.
#[must_use]
pub fn flow_of(bytes: &[u8; PREAMBLE_BYTES], token: &Token, count: u32) -> Option<u32> {
    let (shown, index) = bytes.split_at(16);
    // All bytes are compared, so that the time does not tell how many were right.
    let difference = shown.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    let index = u32::from_be_bytes(index.try_into().expect("four bytes are left"));
    (difference == 0 && index < count).then_some(index)
}

/// Makes all connections of a test.
///
/// # Errors
/// One of them cannot be made: which, and what the kernel says.
pub fn connect(address: SocketAddr, token: &Token, count: u32) -> anyhow::Result<Vec<TcpFlow>> {
    let connect = |index| -> std::io::Result<TcpFlow> {
        let mut stream = TcpStream::connect_timeout(&address, RENDEZVOUS_TIMEOUT)?;
        stream.write_all(&preamble(token, index))?;
        TcpFlow::new(stream)
    };
    (0..count)
        .map(|index| {
            connect(index).with_context(|| {
                format!(
                    "cannot make data connection {} of {count} to {address}",
                    index + 1
                )
            })
        })
        .collect()
}

/// A connection that has not said all of its preamble yet.
struct Caller {
    stream: TcpStream,
    said: [u8; PREAMBLE_BYTES],
    length: usize,
}

impl Caller {
    /// Reads on; `Some(true)` when the preamble is complete, `Some(false)` when it never will be.
    fn listen(&mut self) -> Option<bool> {
        match self.stream.read(&mut self.said[self.length..]) {
            Ok(0) => Some(false),
            Ok(count) => {
                self.length += count;
                (self.length == PREAMBLE_BYTES).then_some(true)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                None
            }
            Err(_) => Some(false),
        }
    }
}

/// Waits until all connections of a test stand. `control` is the control channel, on which the
/// client has nothing to say meanwhile: when it moves, the client is gone.
///
/// # Errors
/// They do not within [`RENDEZVOUS_TIMEOUT`]: how many did.
pub fn gather(
    listener: &TcpListener,
    token: &Token,
    count: u32,
    control: &impl AsFd,
) -> anyhow::Result<Vec<TcpFlow>> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + RENDEZVOUS_TIMEOUT;
    let mut flows: Vec<Option<TcpFlow>> = (0..count).map(|_| None).collect();
    let mut callers: VecDeque<Caller> = VecDeque::new();
    loop {
        let missing = flows.iter().filter(|flow| flow.is_none()).count();
        if missing == 0 {
            return Ok(flows.into_iter().flatten().collect());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let secs = RENDEZVOUS_TIMEOUT.as_secs();
            anyhow::bail!(
                "{missing} of {count} data connections did not come within {secs} s; is the port \
                 of the data listener closed by a firewall?"
            );
        }
        wait(listener, &callers, control, left)?;
        accept_all(listener, &mut callers, missing + STRANGERS)?;
        for _ in 0..callers.len() {
            let Some(mut caller) = callers.pop_front() else {
                break;
            };
            match caller.listen() {
                None => callers.push_back(caller),
                Some(false) => {}
                Some(true) => {
                    if let Some(index) = flow_of(&caller.said, token, count)
                        && let place @ None = &mut flows[index as usize]
                    {
                        *place = Some(TcpFlow::new(caller.stream)?);
                    }
                }
            }
        }
    }
}

/// Waits until somebody calls or speaks.
fn wait(
    listener: &TcpListener,
    callers: &VecDeque<Caller>,
    control: &impl AsFd,
    patience: Duration,
) -> anyhow::Result<()> {
    let mut watched = vec![
        PollFd::new(control.as_fd(), PollFlags::POLLIN),
        PollFd::new(listener.as_fd(), PollFlags::POLLIN),
    ];
    let speaking = |caller| PollFd::new(AsFd::as_fd(caller), PollFlags::POLLIN);
    watched.extend(callers.iter().map(|caller| &caller.stream).map(speaking));
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).context("cannot wait for data connections"),
    }
    anyhow::ensure!(
        watched[0].any() != Some(true),
        "the client went away before its data connections stood"
    );
    Ok(())
}

/// Takes in everybody who calls; beyond `room` the eldest has to go.
fn accept_all(
    listener: &TcpListener,
    callers: &mut VecDeque<Caller>,
    room: usize,
) -> anyhow::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                callers.push_back(Caller {
                    stream,
                    said: [0; PREAMBLE_BYTES],
                    length: 0,
                });
                if callers.len() > room {
                    callers.pop_front();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // The caller went away before it was let in.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => return Err(error).context("cannot accept a data connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn strangers_stay_outside_and_hold_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let token = [9; 16];
        let silent = TcpStream::connect(address).expect("a silent stranger");
        let mut wrong = TcpStream::connect(address).expect("a stranger");
        wrong.write_all(&preamble(&[8; 16], 0)).expect("it speaks");
        let mut outside = TcpStream::connect(address).expect("a flow too many");
        outside.write_all(&preamble(&token, 3)).expect("it speaks");
        let client = std::thread::spawn(move || connect(address, &token, 3));
        let (control, _quiet) = UnixStream::pair().expect("a pair");
        let server = gather(&listener, &token, 3, &control).expect("three flows");
        let client = client.join().expect("no panic").expect("three flows");
        for (ours, theirs) in client.iter().zip(&server) {
            let theirs = theirs.peer();
            assert_eq!(ours.socket().local_addr().expect("bound"), theirs);
        }
        drop(silent);
    }

    #[test]
    fn a_preamble_is_a_token_and_a_flow_of_the_test() {
        let token = [9; 16];
        assert_eq!(flow_of(&preamble(&token, 2), &token, 3), Some(2));
        assert_eq!(flow_of(&preamble(&token, 3), &token, 3), None);
        let mut wrong = preamble(&token, 0);
        wrong[15] ^= 1;
        assert_eq!(flow_of(&wrong, &token, 3), None);
    }
}
