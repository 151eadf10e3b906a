//! Data connections of UDP: addresses that prove themselves before anything is sent to them.
//!
//! Anybody can write any source address on a datagram. A server that believed it would send a
//! test's traffic to a victim of the sender's choice. So the two sides exchange, per flow:
//!
//! ```text
//! client → server   name (8)  token (16)  flow (4)  cookie (16), zero as yet
//! server → client   name (8)                        cookie (16)
//! client → server   name (8)  token (16)  flow (4)  cookie (16)
//! ```
//! The cookie is an HMAC of address and flow under a key of this listener. Only who receives at the
//! address can return it, the server keeps nothing until it comes back, and its answer is shorter
//! than the question, which needs the token besides: nothing is amplified. The client repeats itself
//! until the control channel says that the test goes.

use super::{PREAMBLE_BYTES, RENDEZVOUS_TIMEOUT, Token, did_not_come, flow_of, place, preamble};
use crate::control::Channel;
use crate::control::handshake::NAME;
use crate::place::pin::Pin;
use crate::place::ports::Landing;
use crate::test::Test;
use crate::transport::socket::SocketFlow;
use anyhow::Context;
use bench_sys::socket_state::incoming_cpu;
use hmac::{Hmac, KeyInit, Mac};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sha2::Sha256;
use socket2::{SockAddr, Socket};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const COOKIE_BYTES: usize = 16;
/// Length of what a client says.
pub const CALL_BYTES: usize = NAME.len() + PREAMBLE_BYTES + COOKIE_BYTES;
/// Length of what a server says to an address that has proven nothing yet.
const ANSWER_BYTES: usize = NAME.len() + COOKIE_BYTES;
/// How often a client repeats what may have been lost.
const REPEAT: Duration = Duration::from_millis(100);

const CLIENT_WENT: &str = "the client went away before its data connections stood";

type Cookie = [u8; COOKIE_BYTES];

fn call(token: &Token, index: u32, cookie: &Cookie) -> [u8; CALL_BYTES] {
    let mut bytes = [0; CALL_BYTES];
    let (name, rest) = bytes.split_at_mut(NAME.len());
    name.copy_from_slice(&NAME);
    rest[..PREAMBLE_BYTES].copy_from_slice(&preamble(token, index));
    rest[PREAMBLE_BYTES..].copy_from_slice(cookie);
    bytes
}

/// The flow and the cookie of a call, or `None` if it is a stranger's.
fn heard(bytes: &[u8], token: &Token, count: u32) -> Option<(u32, Cookie)> {
    let rest = bytes.strip_prefix(&NAME)?;
    let (shown, cookie) = rest.split_first_chunk::<PREAMBLE_BYTES>()?;
    Some((flow_of(shown, token, count)?, cookie.try_into().ok()?))
}

/// What makes and checks cookies.
struct Baker([u8; 32]);

impl Baker {
    fn new() -> anyhow::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).context("no random numbers from the kernel")?;
        Ok(Self(key))
    }

    fn bake(&self, address: SocketAddr, index: u32) -> Cookie {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key length is valid");
        mac.update(&index.to_be_bytes());
        mac.update(address.to_string().as_bytes());
        let mut cookie = [0; COOKIE_BYTES];
        cookie.copy_from_slice(&mac.finalize().into_bytes()[..COOKIE_BYTES]);
        cookie
    }
}

/// Waits until every flow has an address that proved itself, then makes a socket for each.
pub(super) fn gather(
    listener: &Socket,
    test: &Test,
    token: &Token,
    control: &impl AsFd,
) -> anyhow::Result<Vec<SocketFlow>> {
    let hearing = UdpSocket::from(listener.try_clone()?);
    let baker = Baker::new()?;
    let deadline = Instant::now() + RENDEZVOUS_TIMEOUT;
    let mut peers: Vec<Option<SocketAddr>> = vec![None; test.connections() as usize];
    while peers.contains(&None) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let missing = peers.iter().filter(|peer| peer.is_none()).count();
            return Err(did_not_come(missing, test.connections()));
        }
        let gone = wait([listener].into_iter(), control, left)?;
        anyhow::ensure!(!gone, CLIENT_WENT);
        hear_all(&hearing, token, &baker, &mut peers)?;
    }
    let ours = listener.local_addr()?;
    let peers = peers.into_iter().flatten();
    let flows = peers.map(|peer| flow(test, &ours, &peer.into()));
    let flows: Vec<SocketFlow> = flows.collect::<anyhow::Result<_>>()?;
    if matches!(test.placement.server, Pin::RxQueue { .. }) {
        learn_queues(&flows, control, deadline)?;
    }
    Ok(flows)
}

/// Waits until a datagram has come in on every flow, which tells the flow's receive queue: the
/// client repeats its calls until it hears that the test goes.
fn learn_queues(
    flows: &[SocketFlow],
    control: &impl AsFd,
    deadline: Instant,
) -> anyhow::Result<()> {
    for flow in flows {
        while incoming_cpu(flow.socket())?.is_none() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "nothing came in from {} that would tell its receive queue; name CPUs in place of \
                 --pin rx-queue",
                flow.peer()
            );
            let gone = wait(std::iter::empty(), control, REPEAT / 10)?;
            anyhow::ensure!(!gone, CLIENT_WENT);
        }
    }
    flows
        .iter()
        .try_for_each(|flow| Ok(forget_strangers(flow.socket())?))
}

/// A socket of the server for one proven address.
fn flow(test: &Test, ours: &SockAddr, peer: &SockAddr) -> anyhow::Result<SocketFlow> {
    let socket = super::data_socket(test, ours.domain())?;
    let connected = socket.bind(ours).and_then(|()| socket.connect(peer));
    connected.with_context(|| format!("cannot bind a data socket for {}", place(peer)))?;
    forget_strangers(&socket)?;
    Ok(SocketFlow::new(socket, place(peer))?)
}

/// Between bind and connect everybody could reach the socket; what came then is thrown away.
fn forget_strangers(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    while (&mut &*socket).read(&mut [0]).is_ok() {}
    socket.set_nonblocking(false)
}

/// Takes in what has come: answers calls without a cookie, notes addresses that return theirs.
fn hear_all(
    listener: &UdpSocket,
    token: &Token,
    baker: &Baker,
    peers: &mut [Option<SocketAddr>],
) -> anyhow::Result<()> {
    loop {
        // One byte more than a call has, so that a longer datagram is not taken for one.
        let mut buffer = [0; CALL_BYTES + 1];
        let (length, address) = match listener.recv_from(&mut buffer) {
            Ok(heard) => heard,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // An answer to an address where nobody listens comes back as an error.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionRefused
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error).context("cannot receive calls of data connections"),
        };
        let count = peers.len() as u32;
        let Some((index, cookie)) = heard(&buffer[..length], token, count) else {
            continue;
        };
        let expected = baker.bake(address, index);
        if cookie == expected {
            peers[index as usize].get_or_insert(address);
        } else {
            // What is lost is asked for again.
            let _ = listener.send_to(&answer(&expected), address);
        }
    }
}

fn answer(cookie: &Cookie) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[..NAME.len()].copy_from_slice(&NAME);
    bytes[NAME.len()..].copy_from_slice(cookie);
    bytes
}

/// Waits until somebody speaks, or the control channel does; says whether it is the latter.
fn wait<'a>(
    sockets: impl Iterator<Item = &'a Socket>,
    control: &'a impl AsFd,
    patience: Duration,
) -> anyhow::Result<bool> {
    let mut watched = vec![PollFd::new(control.as_fd(), PollFlags::POLLIN)];
    watched.extend(sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut watched, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error).context("cannot wait for data connections"),
    }
    Ok(watched[0].any() == Some(true))
}

/// A client's flow on its way: its socket, and the cookie once it has one.
struct Caller {
    socket: Socket,
    cookie: Cookie,
}

impl Caller {
    fn new(test: &Test, server: &SockAddr, landing: Option<&Landing>) -> anyhow::Result<Self> {
        let socket = super::data_socket(test, server.domain())?;
        super::come_from(&socket, landing)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            cookie: [0; COOKIE_BYTES],
        })
    }

    fn call(&self, token: &Token, index: usize) {
        // What is lost, or refused because the server is not ready, is said again.
        let _ = self.socket.send(&call(token, index as u32, &self.cookie));
    }

    /// Takes in an answer; says whether there was one.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; ANSWER_BYTES + 1];
        let Ok(length) = (&self.socket).read(&mut buffer) else {
            return false;
        };
        let cookie = buffer[..length].strip_prefix(&NAME);
        match cookie.and_then(|cookie| cookie.try_into().ok()) {
            Some(cookie) if self.cookie != cookie => {
                self.cookie = cookie;
                true
            }
            _ => false,
        }
    }
}

/// Proves all flows' addresses to the server at `server`; `control` speaks when it is satisfied.
pub(super) fn connect(
    test: &Test,
    server: &SockAddr,
    token: &Token,
    control: &Channel,
    landings: &[Landing],
) -> anyhow::Result<Vec<SocketFlow>> {
    let place = place(server);
    let make = |index: u32| {
        Caller::new(test, server, landings.get(index as usize))
            .with_context(|| format!("cannot make data socket {} to {place}", index + 1))
    };
    let mut callers: Vec<Caller> = (0..test.connections())
        .map(make)
        .collect::<Result<_, _>>()?;
    // The server gives up first, and says why.
    let deadline = Instant::now() + RENDEZVOUS_TIMEOUT + Duration::from_secs(1);
    let mut repeat_at = Instant::now();
    loop {
        let now = Instant::now();
        if now >= repeat_at {
            repeat_at = now + REPEAT;
            for (index, caller) in callers.iter().enumerate() {
                caller.call(token, index);
            }
        }
        let patience = repeat_at.saturating_duration_since(now);
        if wait(
            callers.iter().map(|caller| &caller.socket),
            control,
            patience,
        )? {
            break;
        }
        anyhow::ensure!(
            now < deadline,
            "the server at {place} does not answer; is its UDP port closed by a firewall?"
        );
        for (index, caller) in callers.iter_mut().enumerate() {
            while caller.listen() {
                caller.call(token, index);
            }
        }
    }
    callers
        .into_iter()
        .map(|caller| ready(caller, &place))
        .collect()
}

/// The flow that a caller has become. Nothing is thrown away here: the server may already be
/// sending. What is left of the conversation begins with the protocol's name, which no datagram of
/// a test does.
fn ready(caller: Caller, place: &str) -> anyhow::Result<SocketFlow> {
    Ok(SocketFlow::new(caller.socket, place.to_owned())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = [9; 16];

    #[test]
    fn a_cookie_is_good_for_one_address_and_one_flow() {
        let baker = Baker::new().expect("random numbers");
        let (here, there) = ("192.0.2.1:5", "192.0.2.1:6");
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let cookie = baker.bake(parse(here), 0);
        assert_eq!(cookie, baker.bake(parse(here), 0));
        assert_ne!(cookie, baker.bake(parse(there), 0));
        assert_ne!(cookie, baker.bake(parse(here), 1));
        assert_ne!(cookie, Baker::new().expect("random").bake(parse(here), 0));
    }

    #[test]
    fn a_call_is_whole_or_nothing() {
        let whole = call(&TOKEN, 1, &[7; 16]);
        assert_eq!(heard(&whole, &TOKEN, 2), Some((1, [7; 16])));
        assert_eq!(heard(&whole, &TOKEN, 1), None, "a flow too many");
        assert_eq!(heard(&whole, &[8; 16], 2), None, "another token");
        for length in 0..whole.len() {
            assert_eq!(heard(&whole[..length], &TOKEN, 2), None);
        }
        assert_eq!(heard(&[&whole[..], &[0]].concat(), &TOKEN, 2), None);
    }

    #[test]
    fn no_mutated_call_proves_an_address() {
        let baker = Baker::new().expect("random numbers");
        let address: SocketAddr = "192.0.2.1:5".parse().expect("an address");
        let genuine = call(&TOKEN, 1, &baker.bake(address, 1));
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let mut bytes = genuine.to_vec();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(0..bytes.len());
                match random.u8(0..3) {
                    0 => bytes[place] ^= 1 << random.u8(0..8),
                    1 => bytes.truncate(place.max(1)),
                    _ => bytes.insert(place, random.u8(..)),
                }
            }
            let Some((index, cookie)) = heard(&bytes, &TOKEN, 4) else {
                continue;
            };
            let proven = cookie == baker.bake(address, index);
            assert_eq!(proven, bytes == genuine, "{bytes:02x?}");
        }
    }

    #[test]
    fn nothing_is_amplified_and_nothing_is_sent_to_who_has_no_token() {
        const { assert!(ANSWER_BYTES <= CALL_BYTES) };
        let listener = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        listener.set_nonblocking(true).expect("set");
        let baker = Baker::new().expect("random numbers");
        let mut peers = [None];
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        stranger
            .connect(listener.local_addr().expect("bound"))
            .expect("connected");
        stranger.set_nonblocking(true).expect("set");
        let mut say = |bytes: &[u8]| {
            stranger.send(bytes).expect("sent");
            hear_all(&listener, &TOKEN, &baker, &mut peers).expect("it survives");
            let mut answer = [0; 64];
            let length = stranger.recv(&mut answer).unwrap_or(0);
            (answer[..length].to_vec(), peers[0])
        };
        assert_eq!(say(&call(&[8; 16], 0, &[0; 16])), (vec![], None));
        assert_eq!(say(b"netbench"), (vec![], None));
        let (answer, proven) = say(&call(&TOKEN, 0, &[1; 16]));
        assert_eq!(
            (answer.len(), proven),
            (ANSWER_BYTES, None),
            "not proven yet"
        );
        let cookie = answer[NAME.len()..].try_into().expect("a cookie");
        let (answer, proven) = say(&call(&TOKEN, 0, &cookie));
        assert!(answer.is_empty());
        assert_eq!(proven, Some(stranger.local_addr().expect("bound")));
    }
}
