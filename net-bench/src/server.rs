//! The server: it takes part in the tests of clients that hold its key, several at once, and
//! outlives every one of them.

use crate::attend::{Line, Patient, Rope, Turn, Watch, attend, left_behind};
use crate::control::message::{Ready, Reply, Request};
use crate::control::{Channel, ControlError, Key, MESSAGE_TIMEOUT};
use crate::errand::Errand;
use crate::observe::queues::Steering;
use crate::rdma::conduct;
use crate::rdma::test::RdmaTest;
use crate::side::{self, End};
use crate::spec::Tested;
use crate::test::{Test, Transport};
use crate::transport::connections::Connections;
use crate::transport::rendezvous::{self, Listener};
use crate::workload::Vitals;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reports::host::{self, Host};
use reports::measure::Silent;
use reports::model::Unavailable;
use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the server asks whether it should end.
const LOOK_AROUND_MS: u16 = 100;

/// How long tests have for their last words when the server ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// How much longer than the longest test one may take before it is cut off, in seconds: its end
/// takes time as well.
const OVERTIME_S: f64 = 3.0;

/// What a server is told.
#[derive(Debug)]
pub struct Options {
    /// The key that clients must hold.
    pub key: Key,
    /// What this machine is like; `None` if clients know already, being inside this process.
    pub host: Option<Host>,
    /// Most clients at the same time.
    pub max_clients: usize,
    /// Whether to end after the first client.
    pub once: bool,
    /// The address of data connections, where it is not that of the control channel.
    pub data_ip: Option<IpAddr>,
    /// What tests may take.
    pub limits: Limits,
}

/// What a server lets tests take of its machine and network. `None` is no limit of its own.
#[derive(Debug, Default)]
pub struct Limits {
    /// Longest test in seconds, warm-up included.
    pub seconds: Option<f64>,
    /// Most buffer memory of all tests at the same time, in bytes.
    pub memory_bytes: Option<u64>,
    /// Most payload bytes per second that a test keeps to, over all its flows.
    pub bytes_per_s: Option<u64>,
}

impl Limits {
    /// Refuses a test that asks for more time or bandwidth than there is for one.
    ///
    /// # Errors
    /// The limit, and what to ask for instead.
    fn check(&self, test: &Test) -> anyhow::Result<()> {
        self.check_seconds(test.operations, test.omit_s, test.duration_s)?;
        let Some(most) = self.bytes_per_s else {
            return Ok(());
        };
        if test.transport == Transport::Unix {
            return Ok(());
        }
        let (kept, each) = (test.bytes_per_s(), most / u64::from(test.lanes()));
        anyhow::ensure!(
            kept.is_some_and(|rate| rate <= most as f64),
            "this server takes tests of at most {most} bytes per second (--max-rate), and {}: ask for \
             --fq-rate {each} or less over TCP, or for --bitrate or --rate that make less of it",
            match kept {
                Some(rate) => format!("this one is of {rate}"),
                None => "nothing holds this one to it".to_owned(),
            }
        );
        Ok(())
    }
}

impl Limits {
    fn check_seconds(
        &self,
        operations: Option<u64>,
        omit_s: f64,
        duration_s: f64,
    ) -> anyhow::Result<()> {
        // What ends after a number of operations is cut off when its time is over.
        let seconds = omit_s + operations.map_or(duration_s, |_| 0.0);
        if let Some(most) = self.seconds
            && seconds > most
        {
            anyhow::bail!(
                "this server takes tests of at most {most} s (--max-time); --time and --omit \
                 together are {seconds} s"
            );
        }
        Ok(())
    }

    /// The same for a test over an RDMA device, which nothing holds to a rate.
    ///
    /// # Errors
    /// The limit, and what to ask for instead.
    fn check_rdma(&self, test: &RdmaTest) -> anyhow::Result<()> {
        self.check_seconds(test.operations, test.omit_s, test.duration_s)?;
        if let Some(most) = self.bytes_per_s {
            anyhow::bail!(
                "this server takes tests of at most {most} bytes per second (--max-rate), to which \
                 an RDMA device cannot be held"
            );
        }
        Ok(())
    }
}

/// Memory that a test has been granted, until it is over.
#[derive(Debug)]
struct Grant<'a> {
    granted: &'a AtomicU64,
    bytes: u64,
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.granted.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A client that is being attended to.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    /// Whether a test of its runs, which deserves a result.
    busy: Arc<AtomicBool>,
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
    clients: Mutex<BTreeMap<u64, Client>>,
    served: AtomicBool,
    ending: AtomicBool,
    granted_bytes: AtomicU64,
}

impl Server {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub fn bind(address: SocketAddr, options: Options) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        if let Some(ip) = options.data_ip {
            TcpListener::bind((ip, 0))
                .with_context(|| format!("cannot listen for data on {ip}"))?;
        }
        // Between the kernel's word that somebody calls and our answer the caller may be gone.
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            options,
            clients: Mutex::default(),
            served: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            granted_bytes: AtomicU64::new(0),
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// How many clients are being attended to.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.clients().len()
    }

    /// Serves until `end` says so, which is asked several times a second. Then tests that run are
    /// ended early, so that their clients still get a result of what there is, and the others'
    /// control channels are closed. `log` gets a line per client.
    ///
    /// # Errors
    /// The listener is broken, or a test over an RDMA device left a thread behind.
    pub fn serve(
        &self,
        mut end: impl FnMut() -> bool,
        log: &(dyn Fn(&str) + Sync),
    ) -> anyhow::Result<()> {
        thread::scope(|scope| {
            let mut number = 0;
            let result = loop {
                if end() || (self.options.once && self.served.load(Ordering::Relaxed)) {
                    break Ok(());
                }
                if left_behind() {
                    break Err(anyhow::anyhow!(
                        "a thread is caught in a call of an RDMA device's library, where nothing \
                         can end it, and would falsify what is measured beside it: start this \
                         server again"
                    ));
                }
                match self.next_client() {
                    Ok(None) => {}
                    Ok(Some(stream)) => {
                        number += 1;
                        if let Some(busy) = self.admit(number, &stream, log) {
                            scope.spawn(move || self.attend_client(number, stream, &busy, log));
                        }
                    }
                    Err(error) => break Err(error),
                }
            };
            self.say_goodbye();
            result
        })
    }

    /// Ends all conversations: those without a test at once, the others when they have their result,
    /// or after a while.
    fn say_goodbye(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        loop {
            let late = begun.elapsed() > GOODBYE;
            let clients = self.clients();
            let idle = |client: &&Client| late || !client.busy.load(Ordering::Relaxed);
            for client in clients.values().filter(idle) {
                let _ = client.stream.shutdown(Shutdown::Both);
            }
            if late || clients.is_empty() {
                return;
            }
            drop(clients);
            thread::sleep(Duration::from_millis(LOOK_AROUND_MS.into()));
        }
    }

    /// Memory for a test's buffers on this side, if there is as much.
    fn grant(&self, bytes: u64) -> anyhow::Result<Grant<'_>> {
        let before = self.granted_bytes.fetch_add(bytes, Ordering::Relaxed);
        let grant = Grant {
            granted: &self.granted_bytes,
            bytes,
        };
        let most = self.options.limits.memory_bytes.unwrap_or(u64::MAX);
        anyhow::ensure!(
            before.saturating_add(bytes) <= most,
            "this server gives all tests together {most} bytes of buffers (--max-memory), of which \
             {before} are taken; this one needs {bytes}: use shorter messages or fewer flows, or \
             try again later"
        );
        Ok(grant)
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Client>> {
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
    fn admit(
        &self,
        number: u64,
        stream: &TcpStream,
        log: &(dyn Fn(&str) + Sync),
    ) -> Option<Arc<AtomicBool>> {
        let mut clients = self.clients();
        let full = clients.len() >= self.options.max_clients;
        match (full, stream.try_clone()) {
            (false, Ok(stream)) => {
                let busy = Arc::<AtomicBool>::default();
                let client = Client {
                    stream,
                    busy: Arc::clone(&busy),
                };
                clients.insert(number, client);
                Some(busy)
            }
            _ => {
                drop(clients);
                Channel::turn_away(stream);
                log(&format!("{}: turned away, no room", peer_of(stream)));
                None
            }
        }
    }

    /// Everything that happens for one client, with whatever it does to itself contained.
    fn attend_client(
        &self,
        number: u64,
        stream: TcpStream,
        busy: &AtomicBool,
        log: &(dyn Fn(&str) + Sync),
    ) {
        let peer = peer_of(&stream);
        let line = match catch_unwind(AssertUnwindSafe(|| self.converse(stream, busy))) {
            Ok(Ok(tests)) => format!("{peer}: served {}", tests.join(", ")),
            Ok(Err(error)) => format!("{peer}: {error:#}"),
            Err(_) => format!("{peer}: the test panicked; this is a bug in net-bench"),
        };
        self.clients().remove(&number);
        log(&line);
    }

    /// Handshake, then tests until the client closes the channel. Says which.
    fn converse(&self, stream: TcpStream, busy: &AtomicBool) -> anyhow::Result<Vec<String>> {
        let mut channel = Channel::accept(stream, &self.options.key)?;
        let mut served = Vec::new();
        let result = loop {
            if self.ending.load(Ordering::Relaxed) && !served.is_empty() {
                break Ok(served);
            }
            match channel.receive(MESSAGE_TIMEOUT) {
                Ok(Request::Test(test)) => {
                    busy.store(true, Ordering::Relaxed);
                    let result = self.serve_test(&mut channel, &test);
                    busy.store(false, Ordering::Relaxed);
                    match result {
                        Ok(()) => served.push(summary(&test)),
                        Err(error) => break Err(error),
                    }
                }
                Ok(Request::Rdma(test)) => {
                    busy.store(true, Ordering::Relaxed);
                    let result = self.serve_rdma(&mut channel, &test);
                    busy.store(false, Ordering::Relaxed);
                    match result {
                        Ok(()) => served.push(test.summary()),
                        Err(error) => break Err(error),
                    }
                }
                Ok(Request::Describe) => {
                    let host = self.options.host.clone();
                    let host = host.unwrap_or_else(host::fingerprint);
                    channel.send(&Reply::Machine(Box::new(host)))?;
                    served.push("its description".to_owned());
                }
                Ok(Request::Errand(errand)) => {
                    busy.store(true, Ordering::Relaxed);
                    let result = self.serve_errand(&mut channel, &errand);
                    busy.store(false, Ordering::Relaxed);
                    match result {
                        Ok(()) => served.push(errand.summary()),
                        Err(error) => break Err(error),
                    }
                }
                // What was said while the test ended on its own.
                Ok(Request::Stop | Request::Ended | Request::Word(_)) if !served.is_empty() => {}
                Ok(Request::Stop | Request::Ended | Request::Word(_)) => {
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
        Self::conclude(channel, result)
    }

    /// One test over an RDMA device and its result.
    fn serve_rdma(&self, channel: &mut Channel, test: &RdmaTest) -> anyhow::Result<()> {
        let result = (|| {
            test.check()
                .map_err(|fault| anyhow::anyhow!("refused: {fault}"))?;
            self.options.limits.check_rdma(test)?;
            let _grant = self.grant(test.memory_bytes())?;
            channel.send(&Reply::Joined(Box::new(self.options.host.clone())))?;
            let leg = conduct::as_server(channel, test, &|| conduct::Allowed {
                ending: self.ending.load(Ordering::Relaxed),
                most_s: self.options.limits.seconds.map(|most| most + OVERTIME_S),
            })?;
            Ok(Reply::Done(vec![leg]))
        })();
        Self::conclude(channel, result)
    }

    /// One test as the client of another server, on behalf of this client, and what it brought.
    fn serve_errand(&self, channel: &mut Channel, errand: &Errand) -> anyhow::Result<()> {
        let result = (|| {
            errand
                .check(&self.options.key)
                .map_err(|fault| anyhow::anyhow!("refused: {fault}"))?;
            let bytes = match &errand.test {
                Tested::Sockets(test) => {
                    self.options.limits.check(test)?;
                    test.memory_bytes()
                }
                Tested::Rdma(test) => {
                    self.options.limits.check_rdma(test)?;
                    test.memory_bytes()
                }
            };
            let _grant = self.grant(bytes)?;
            // Whoever sent us says nothing before we are back, unless it is to call us back.
            let stop = || self.ending.load(Ordering::Relaxed) || channel.has_news();
            let brought = errand.run(&self.options.key, &stop)?;
            Ok(Reply::Brought(Box::new(brought)))
        })();
        Self::conclude(channel, result)
    }

    /// Tells the client how its test ended.
    fn conclude(channel: &mut Channel, result: anyhow::Result<Reply>) -> anyhow::Result<()> {
        let sent = match &result {
            Ok(reply) => channel.send(reply),
            // The client may be the reason for the error, and gone.
            Err(error) => channel.send(&match error.downcast_ref::<Unavailable>() {
                Some(Unavailable(reason)) => Reply::Unavailable {
                    reason: reason.clone(),
                },
                None => Reply::Failed {
                    error: format!("{error:#}"),
                },
            }),
        };
        result?;
        Ok(sent?)
    }

    /// How the device on the way to the client chooses receive queues, if the test asks for some.
    fn steering(&self, channel: &Channel, test: &Test) -> anyhow::Result<Option<Steering>> {
        let Some(queues) = &test.placement.queues else {
            return Ok(None);
        };
        anyhow::ensure!(
            self.options.data_ip.is_none(),
            "--queues {queues}: this server takes data on another address than its control channel \
             (--control-addr), and from where is not known before it comes; start it without"
        );
        let peer = channel.peer().ip().to_canonical();
        let steering = Steering::on_the_way_to(peer).with_context(|| {
            format!(
                "--queues {queues}: flows cannot be led to receive queues of this server's device \
                 towards {peer} (without --queues, --pin rx-queue still puts threads beside them)"
            )
        })?;
        Ok(Some(steering))
    }

    fn take_part(&self, channel: &mut Channel, test: &Test) -> anyhow::Result<Reply> {
        test.check()
            .map_err(|fault| anyhow::anyhow!("refused: {fault}"))?;
        self.options.limits.check(test)?;
        let _grant = self.grant(test.memory_bytes())?;
        let steering = self.steering(channel, test)?;
        let parts = test.parts();
        let (control, apart) = (channel.local()?.ip(), self.options.data_ip);
        let bind = |part| Listener::bind(part, control, apart);
        let listeners: Vec<Listener> = parts.iter().map(bind).collect::<Result<_, _>>()?;
        let address = |listener: &Listener| listener.address().clone();
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(ControlError::Random)?;
        channel.send(&Reply::Ready(Box::new(Ready {
            data: listeners.iter().map(address).collect(),
            token,
            host: self.options.host.clone(),
            steering,
        })))?;
        let mut connections = Connections::default();
        for (part, listener) in parts.iter().zip(listeners) {
            connections.add(rendezvous::gather(listener, part, &token, channel)?);
            channel.send(&Reply::Stand)?;
        }
        let seats = side::seats(test, End::Server, &connections)?;
        channel.send(&Reply::Go)?;
        self.run(channel, test, &connections, &seats)
    }

    /// The server's part, with an ear for the client.
    fn run(
        &self,
        channel: &mut Channel,
        test: &Test,
        connections: &Connections,
        seats: &[Option<u32>],
    ) -> anyhow::Result<Reply> {
        let vitals = Vitals::new(test.lanes() as usize);
        let patient = Patient {
            connections,
            vitals: &vitals,
            ends_by_word: test.ends_by_word(),
            patience: Duration::from_secs_f64(test.timeout_s),
        };
        let mut lost = None;
        let begun = Instant::now();
        let mut told_stop = false;
        let mut told_end = !patient.ends_by_word;
        let work = |_: &Rope| side::run(test, End::Server, connections, seats, &vitals, &Silent);
        let parts = attend(channel, &patient, work, |channel, turn| {
            if turn == Turn::Quiet {
                if self.ending.load(Ordering::Relaxed) && !told_stop {
                    told_stop = true;
                    vitals.stop();
                    let _ = channel.send(&Reply::Stop);
                }
                if let Some(most) = self.options.limits.seconds
                    && begun.elapsed().as_secs_f64() > most + OVERTIME_S
                {
                    lost = Some(anyhow::anyhow!(
                        "the test ran longer than the {most} s that this server allows (--max-time)"
                    ));
                    connections.cut();
                    return Watch::Over;
                }
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
                Ok(_) => {
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
}

fn peer_of(stream: &TcpStream) -> String {
    let peer = stream.peer_addr().map(|peer| peer.to_string());
    peer.unwrap_or_else(|_| "a client that is gone".to_owned())
}

fn summary(test: &Test) -> String {
    format!("{} over {} flow(s)", test.name(), test.flows)
}
