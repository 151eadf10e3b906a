//! The server: it takes part in the tests of clients that hold its key, several at once, and
//! outlives every one of them.

use crate::attend::{Patient, Turn, Watch, attend};
use crate::control::message::{Ready, Reply, Request};
use crate::control::{Channel, ControlError, Key, MESSAGE_TIMEOUT};
use crate::side::{self, End};
use crate::test::Test;
use crate::transport::connections::Connections;
use crate::transport::rendezvous::{self, Listener};
use crate::workload::Vitals;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reports::host::Host;
use reports::measure::Silent;
use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often the server asks whether it should end.
const LOOK_AROUND_MS: u16 = 100;

/// What a server is told.
#[derive(Debug)]
pub struct Options {
    /// The key that clients must hold.
    pub key: Key,
    /// What this machine is like; `None` if clients know already, being inside this process.
    pub host: Option<Host>,
    /// Most clients at the same time.
    pub max_clients: usize,
    /// Whether to end after the first test.
    pub once: bool,
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
    clients: Mutex<BTreeMap<u64, TcpStream>>,
    served: AtomicBool,
}

impl Server {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub fn bind(address: SocketAddr, options: Options) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        // Between the kernel's word that somebody calls and our answer the caller may be gone.
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            options,
            clients: Mutex::default(),
            served: AtomicBool::new(false),
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `end` says so. Then the control channels of all clients are closed, which ends
    /// their tests. `log` gets a line per client.
    ///
    /// # Errors
    /// The listener is broken.
    pub fn serve(&self, end: impl Fn() -> bool, log: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let mut number = 0;
            let result = loop {
                if end() || (self.options.once && self.served.load(Ordering::Relaxed)) {
                    break Ok(());
                }
                match self.next_client() {
                    Ok(None) => {}
                    Ok(Some(stream)) => {
                        number += 1;
                        if self.admit(number, &stream, log) {
                            scope.spawn(move || self.attend_client(number, stream, log));
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            for stream in self.clients().values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            result
        })
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a while for somebody to call.
    fn next_client(&self) -> anyhow::Result<Option<TcpStream>> {
        let mut watched = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::from(LOOK_AROUND_MS)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for clients"),
        }
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.raw_os_error() == Some(Errno::EMFILE as i32) => {
                // Out of descriptors: they come back when a test ends.
                thread::sleep(Duration::from_millis(LOOK_AROUND_MS.into()));
                Ok(None)
            }
            // The caller went away, or the network reported an error of its connection.
            Err(_) => Ok(None),
        }
    }

    /// Notes a client, or turns it away if there is no room.
    fn admit(&self, number: u64, stream: &TcpStream, log: &(dyn Fn(&str) + Sync)) -> bool {
        let mut clients = self.clients();
        let full = clients.len() >= self.options.max_clients;
        match (full, stream.try_clone()) {
            (false, Ok(clone)) => {
                clients.insert(number, clone);
                true
            }
            _ => {
                drop(clients);
                Channel::turn_away(stream);
                log(&format!("{}: turned away, no room", peer_of(stream)));
                false
            }
        }
    }

    /// Everything that happens for one client, with whatever it does to itself contained.
    fn attend_client(&self, number: u64, stream: TcpStream, log: &(dyn Fn(&str) + Sync)) {
        let peer = peer_of(&stream);
        let line = match catch_unwind(AssertUnwindSafe(|| self.converse(stream))) {
            Ok(Ok(tests)) => format!("{peer}: served {}", tests.join(", ")),
            Ok(Err(error)) => format!("{peer}: {error:#}"),
            Err(_) => format!("{peer}: the test panicked; this is a bug in net-bench"),
        };
        self.clients().remove(&number);
        log(&line);
    }

    /// Handshake, then tests until the client closes the channel. Says which.
    fn converse(&self, stream: TcpStream) -> anyhow::Result<Vec<String>> {
        let mut channel = Channel::accept(stream, &self.options.key)?;
        let mut served = Vec::new();
        let result = loop {
            match channel.receive(MESSAGE_TIMEOUT) {
                Ok(Request::Test(test)) => match self.serve_test(&mut channel, &test) {
                    Ok(()) => served.push(summary(&test)),
                    Err(error) => break Err(error),
                },
                // What was said while the test ended on its own.
                Ok(Request::Stop | Request::Ended) if !served.is_empty() => {}
                Ok(Request::Stop | Request::Ended) => {
                    break Err(anyhow::anyhow!("there is no test to stop"));
                }
                Err(ControlError::Closed) if !served.is_empty() => break Ok(served),
                Err(error) => break Err(error.into()),
            }
        };
        self.served.store(true, Ordering::Relaxed);
        result
    }

    /// One test and its result.
    fn serve_test(&self, channel: &mut Channel, test: &Test) -> anyhow::Result<()> {
        let result = self.take_part(channel, test);
        let sent = match &result {
            Ok(reply) => channel.send(reply),
            // The client may be the reason for the error, and gone.
            Err(error) => channel.send(&Reply::Failed {
                error: format!("{error:#}"),
            }),
        };
        result?;
        Ok(sent?)
    }

    fn take_part(&self, channel: &mut Channel, test: &Test) -> anyhow::Result<Reply> {
        test.check()
            .map_err(|fault| anyhow::anyhow!("refused: {fault}"))?;
        let listener = Listener::bind(test, channel.local()?.ip())?;
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(ControlError::Random)?;
        channel.send(&Reply::Ready(Box::new(Ready {
            data: listener.address().clone(),
            token,
            host: self.options.host.clone(),
        })))?;
        let connections = rendezvous::gather(listener, test, &token, channel)?;
        channel.send(&Reply::Go)?;
        run(channel, test, &connections)
    }
}

/// The server's part, with an ear for the client.
fn run(channel: &mut Channel, test: &Test, connections: &Connections) -> anyhow::Result<Reply> {
    let vitals = Vitals::new(test.lanes() as usize);
    let patient = Patient {
        connections,
        vitals: &vitals,
        ends_by_word: test.ends_by_word(),
        patience: Duration::from_secs_f64(test.timeout_s),
    };
    let mut lost = None;
    let mut told_end = !patient.ends_by_word;
    let work = || side::run(test, End::Server, connections, &vitals, &Silent);
    let parts = attend(channel, &patient, work, |channel, turn| {
        if turn == Turn::Quiet {
            if vitals.ended() && !told_end {
                told_end = true;
                // If the client cannot hear it, it is gone, which the next turn will show.
                let _ = channel.send(&Reply::Ended);
            }
            return Watch::On;
        }
        match channel.receive(MESSAGE_TIMEOUT) {
            Ok(Request::Stop) => {
                vitals.stop();
                return Watch::On;
            }
            Ok(Request::Ended) => {
                vitals.peer_ended();
                return Watch::On;
            }
            Ok(Request::Test(_)) => {
                lost = Some(anyhow::anyhow!("the client asked for a test within a test"));
            }
            Err(error) => lost = Some(error.into()),
        }
        // Nobody will read the result: what still waits for the client is woken.
        connections.cut();
        Watch::Over
    })?;
    match (lost, parts) {
        (Some(error), _) => Err(error.context("the test was abandoned")),
        (None, parts) => Ok(Reply::Done(parts?.iter().map(side::Part::leg).collect())),
    }
}

fn peer_of(stream: &TcpStream) -> String {
    let peer = stream.peer_addr().map(|peer| peer.to_string());
    peer.unwrap_or_else(|_| "a client that is gone".to_owned())
}

fn summary(test: &Test) -> String {
    format!("{} over {} flow(s)", test.name(), test.flows)
}
