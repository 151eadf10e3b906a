//! Ends a job in which a rank died or hangs, with a message that names it and a report of what was
//! measured until then.
//!
//! A rank that waits in MPI for another one waits for ever and says nothing. So each rank has a
//! thread beside it that tells rank 0 once in a second how far the rank came and what it does, over
//! a TCP connection of its own, and is told that rank 0 is alive. The thread of rank 0 notices a
//! connection that closed (a rank died), one that fell silent (it is stopped, or its node is gone),
//! and a world that takes no step for the deadline (one rank stays behind). Then it writes the
//! report that the main thread cannot write, tells the others to end themselves, has silent
//! processes killed by those of their node, and ends its own.
//!
//! It stays through `MPI_Finalize` and until the processes are gone ([`crate::job`]): a rank that is
//! through says goodbye and waits; rank 0 answers when all have said it, and goes when all their
//! connections are closed, which the kernel does at the end of a process. Only a rank 0 that is
//! stopped when all others are gone has nobody left to name it.
//!
//! Nobody but the ranks of a run is listened to: a random token goes round through MPI, and the
//! listener is on the loopback interface if all ranks are on one node. Where a rank cannot reach it
//! the run goes on; such a rank's hang is noticed and cannot be named.

mod frame;
mod judge;
mod process;
mod rank;
mod root;

use crate::ledger::Ledger;
use crate::world::World;
use frame::Token;
use process::Process;
use reports::program::EXIT_FAILED;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a rank is heard, at most; under a short deadline more often.
const BEAT: Duration = Duration::from_secs(1);
const SHORTEST_BEAT: Duration = Duration::from_millis(50);

/// By when a rank that can reach rank 0 has done so.
const CALLS_WITHIN: Duration = Duration::from_secs(10);

/// The most addresses of rank 0's node that are tried.
const MAX_ADDRESSES: usize = 16;

/// Watches over this rank until it is dropped, which waits for the other ranks to be as far.
pub struct Watchdog {
    shared: Arc<Shared>,
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    /// How many other ranks there are.
    others: usize,
    began: Instant,
}

/// What the watching thread and the main thread both know.
#[derive(Debug, Default)]
struct Shared {
    /// The main thread is done.
    finished: AtomicBool,
    /// The report is written, as far as this rank knows.
    reported: AtomicBool,
    /// On rank 0 how many others are connected.
    attached: AtomicUsize,
    /// It is decided whether the end of the main thread waits for this one: whichever of them sets
    /// it first decides. A thread that is still looking for rank 0 has nobody to take leave of.
    settled: AtomicBool,
}

/// Where rank 0 listens, and who it is.
#[derive(Debug, Serialize, Deserialize)]
struct Channel {
    token: Token,
    addresses: Vec<SocketAddr>,
    root: Process,
}

/// What every watching thread needs.
struct Post {
    shared: Arc<Shared>,
    progress: Arc<crate::progress::Progress>,
    /// Readable when the main thread is done.
    wake: UnixStream,
    deadline: Duration,
    /// The host of each rank.
    hosts: Vec<String>,
    rank: usize,
    program: &'static str,
}

impl Watchdog {
    /// Begins to watch. All ranks call it; the ledger is rank 0's, others have none.
    ///
    /// # Errors
    /// What the kernel says when rank 0 cannot listen or a thread cannot be made, on all ranks.
    pub fn start(
        world: &World,
        ledger: Option<Arc<Ledger>>,
        deadline: Duration,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let opened = world.agree(match world.is_root() {
            true => open(world.nodes().len() == 1).map(Some),
            false => Ok(None),
        })?;
        let (channel, listener) = opened.unzip();
        // Made of numbers and addresses: it always serialises.
        let text = channel.map(|channel| serde_json::to_string(&channel).unwrap_or_default());
        let text = world.broadcast_text(0, text.unwrap_or_default());
        let begun = serde_json::from_str(&text)
            .map_err(anyhow::Error::from)
            .and_then(|channel| {
                let (wake, woken) = UnixStream::pair()?;
                woken.set_nonblocking(true)?;
                let post = Post {
                    shared: Arc::clone(&shared),
                    progress: world.progress(),
                    wake: woken,
                    deadline,
                    hosts: hosts(world),
                    rank: world.rank(),
                    program: world.program(),
                };
                let thread = begin(post, channel, listener, ledger)?;
                Ok((wake, thread))
            });
        let (wake, thread) = world.agree(begun)?;
        Ok(Self {
            shared,
            wake: Some(wake),
            thread: Some(thread),
            others: world.ranks() - 1,
            began: Instant::now(),
        })
    }

    /// Notes that the report is written: what ends the job from here on says so.
    pub fn reported(&self) {
        self.shared.reported.store(true, Ordering::SeqCst);
    }

    /// On rank 0, whether there are ranks that could not reach it, in words. Nothing is said of runs
    /// so short that they may have been about to.
    #[must_use]
    pub fn unheard(&self) -> Option<String> {
        let attached = self.shared.attached.load(Ordering::Relaxed);
        let others = self.others;
        (attached < others && self.began.elapsed() > CALLS_WITHIN).then(|| {
            format!(
                "{} of {others} ranks cannot reach rank 0 over TCP: a hang among them would have \
                 ended the job, but not been named",
                others - attached
            )
        })
    }
}

fn hosts(world: &World) -> Vec<String> {
    let ranks = 0..world.ranks();
    ranks
        .map(|rank| world.node_of(rank).name().to_owned())
        .collect()
}

fn begin(
    post: Post,
    channel: Channel,
    listener: Option<TcpListener>,
    ledger: Option<Arc<Ledger>>,
) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name("watchdog".to_owned());
    match listener.zip(ledger) {
        Some((listener, ledger)) => {
            post.shared.settled.store(true, Ordering::SeqCst);
            thread.spawn(move || root::Root::new(post, &channel, listener, ledger).watch())
        }
        None => thread.spawn(move || rank::watch(&post, &channel)),
    }
}

/// The end of this rank's work: the thread says goodbye, so that nobody takes it for dead, and stays
/// until all have.
impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.finished.store(true, Ordering::SeqCst);
        self.wake.take();
        if self.shared.settled.swap(true, Ordering::SeqCst)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Listens, and says where: on the loopback interface if nobody else is to be heard.
fn open(alone: bool) -> anyhow::Result<(Channel, TcpListener)> {
    let mut token = [0; 32];
    getrandom::fill(&mut token)
        .map_err(|error| anyhow::anyhow!("cannot draw a token for the watchdog: {error}"))?;
    let listener = listen(alone)
        .map_err(|error| anyhow::anyhow!("the watchdog cannot listen on a TCP port: {error}"))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let addresses = match alone {
        true => vec![listener.local_addr()?.ip()],
        false => own_addresses(),
    };
    let addresses = addresses.into_iter().take(MAX_ADDRESSES);
    let channel = Channel {
        token,
        addresses: addresses.map(|ip| SocketAddr::new(ip, port)).collect(),
        root: Process::this(),
    };
    Ok((channel, listener))
}

fn listen(alone: bool) -> io::Result<TcpListener> {
    let (v6, v4) = match alone {
        true => (Ipv6Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
        false => (Ipv6Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED),
    };
    match alone {
        true => TcpListener::bind((v4, 0)).or_else(|_| TcpListener::bind((v6, 0))),
        // An IPv6 socket takes IPv4 as well, unless the machine is set up otherwise.
        false => TcpListener::bind((v6, 0)).or_else(|_| TcpListener::bind((v4, 0))),
    }
}

/// The addresses under which other nodes may reach this one, IPv4 first, loopback last.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
            v4.or(v6)
        })
        // Link-local addresses mean nothing without an interface of the other node.
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    addresses.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    addresses.dedup();
    addresses
}

/// How often ranks are heard under a deadline: several times before it ends.
fn beat(deadline: Duration) -> Duration {
    (deadline / 5).clamp(SHORTEST_BEAT, BEAT)
}

/// After how long without a word a rank counts as silent.
fn answers_within(deadline: Duration) -> Duration {
    (deadline * 3 / 5).max(beat(deadline) * 2)
}

impl Post {
    /// Whether the main thread is done.
    fn is_finished(&self) -> bool {
        self.shared.finished.load(Ordering::SeqCst)
    }
}

/// Ends this process at once: its main thread waits in MPI and cannot be asked to.
fn leave() -> ! {
    crate::sys::leave(EXIT_FAILED)
}

/// What came in on a connection since it was last looked at.
enum Received {
    /// It is open; the buffer has what came.
    Open,
    /// It is closed or broken.
    Closed,
}

/// Reads what there is into the buffer, of which more than a few frames are nobody's.
fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Received {
    const MOST: usize = 1 << 17;
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Received::Closed,
            Ok(length) => buffer.extend(&bytes[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Open,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Received::Closed,
        }
        if buffer.len() > MOST {
            return Received::Closed;
        }
    }
}

/// Sends a frame if there is room for it. A connection without room or broken is noticed when it is
/// read, or by its silence.
fn send(stream: &mut TcpStream, frame: &frame::Frame) {
    let _ = stream.write_all(&frame.to_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_beats_fit_into_every_deadline() {
        for seconds in [0.5, 2.0, 60.0, 3600.0] {
            let deadline = Duration::from_secs_f64(seconds);
            assert!(beat(deadline) * 2 <= answers_within(deadline));
            assert!(answers_within(deadline) + beat(deadline) <= deadline);
        }
    }

    #[test]
    fn a_channel_of_one_node_is_on_the_loopback_interface() {
        let (channel, listener) = open(true).expect("loopback works");
        assert!(
            channel
                .addresses
                .iter()
                .all(|address| address.ip().is_loopback())
        );
        assert!(
            listener
                .local_addr()
                .expect("it is bound")
                .ip()
                .is_loopback()
        );
        let (other, _) = open(true).expect("loopback works");
        assert_ne!(channel.token, other.token);
    }
}
