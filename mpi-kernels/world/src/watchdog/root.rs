//! The watching thread of rank 0, which hears all others.

use super::frame::{Frame, HELLO_BYTES, Hello, Token};
use super::judge::{self, Blame, Heard, Seen};
use super::process::Process;
use super::{Channel, Post, Received, answers_within, beat, leave, receive, send};
use crate::ledger::Ledger;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reports::measure::stop_requested;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread sleeps if nothing happens. Launchers kill a second after their SIGTERM, so a
/// signal has to be seen well before.
const TICK: Duration = Duration::from_millis(200);

/// How long the ranks may take for a step after a signal until what was measured is saved, because
/// the launcher may kill them before they agree to stop.
const SAVE_AFTER: Duration = Duration::from_millis(600);

/// How long until they are believed to take none, and the job ends.
const END_AFTER: Duration = Duration::from_secs(10);

/// How long a caller may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// How long the others have to end themselves before rank 0's end makes the launcher act.
const GRACE: Duration = Duration::from_millis(200);

/// Rank 0's view of the world.
pub struct Root {
    post: Post,
    token: Token,
    listener: TcpListener,
    ledger: Arc<Ledger>,
    callers: Vec<Caller>,
    /// By rank; rank 0 itself has none.
    ranks: Vec<Option<Rank>>,
    own_steps: u64,
    own_doing: String,
    stepped: Instant,
    /// Since when a signal asks for an end and this rank took no step.
    signalled: Option<Instant>,
    saved: bool,
    due: Instant,
    /// The report is written: what is left is the way out.
    at_end: bool,
    /// All others are through, and know it.
    parted: bool,
}

/// Somebody who has not said yet who it is.
struct Caller {
    stream: TcpStream,
    received: Vec<u8>,
    since: Instant,
}

/// A rank that called.
struct Rank {
    stream: TcpStream,
    received: Vec<u8>,
    process: Process,
    steps: u64,
    doing: String,
    heard: Instant,
    /// It said that it is through.
    left: bool,
    closed: bool,
}

impl Root {
    pub fn new(post: Post, channel: &Channel, listener: TcpListener, ledger: Arc<Ledger>) -> Self {
        let ranks = post.hosts.iter().map(|_| None).collect();
        Self {
            own_steps: post.progress.steps(),
            own_doing: post.progress.doing(),
            post,
            token: channel.token,
            listener,
            ledger,
            callers: Vec::new(),
            ranks,
            stepped: Instant::now(),
            signalled: None,
            saved: false,
            due: Instant::now(),
            at_end: false,
            parted: false,
        }
    }

    /// Watches until the main thread is done and the others are gone, or ends the job.
    pub fn watch(mut self) {
        loop {
            self.wait();
            self.admit();
            self.hear();
            if self.post.is_finished() && self.part() {
                return;
            }
            self.look_at_own_steps();
            self.look_for_end();
            if self.due <= Instant::now() {
                self.tell_all(&beat_of_root(self.own_steps));
                self.due = Instant::now() + beat(self.post.deadline);
            }
            self.save_after_signal();
            if let Some(blame) = self.judge() {
                self.end_job(&blame);
            }
        }
    }

    /// Takes leave of the others when all are through; whether their processes are gone.
    fn part(&mut self) -> bool {
        let mut ranks = self.ranks.iter().flatten();
        if !self.parted && self.callers.is_empty() && ranks.all(|rank| rank.left) {
            self.tell_all(&Frame::Bye);
            self.parted = true;
            self.stepped = Instant::now();
        }
        self.parted && self.ranks.iter().flatten().all(|rank| rank.closed)
    }

    /// Sleeps until somebody calls or hangs up, or the main thread is done, which is news once only.
    /// Beats wake nobody: they are read when the next ones are due. At the end everybody's words are
    /// waited for.
    fn wait(&self) {
        let hung_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut watched = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let news = match self.post.is_finished() {
            true => hung_up | PollFlags::POLLIN,
            false => {
                let wake = PollFd::new(self.post.wake.as_fd(), PollFlags::POLLIN);
                watched.push(wake);
                hung_up
            }
        };
        let open = self.ranks.iter().flatten().filter(|rank| !rank.closed);
        watched.extend(open.map(|rank| PollFd::new(rank.stream.as_fd(), news)));
        let callers = self.callers.iter();
        watched.extend(callers.map(|caller| PollFd::new(caller.stream.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(TICK.min(beat(self.post.deadline)));
        // An interrupted wait is a short one.
        let _ = poll(&mut watched, timeout.unwrap_or(PollTimeout::ZERO));
    }

    /// Takes callers in, as soon as they have said who they are.
    fn admit(&mut self) {
        let most = 2 * self.ranks.len() + 16;
        while self.callers.len() < most
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok() {
                self.callers.push(Caller {
                    stream,
                    received: Vec::new(),
                    since: Instant::now(),
                });
            }
        }
        for mut caller in std::mem::take(&mut self.callers) {
            let state = receive(&mut caller.stream, &mut caller.received);
            match caller.received.first_chunk::<HELLO_BYTES>() {
                Some(bytes) => {
                    if let Some(hello) = Hello::from_bytes(bytes, &self.token) {
                        self.welcome(hello, caller);
                    }
                }
                None if matches!(state, Received::Closed)
                    || caller.since.elapsed() > HELLO_WITHIN => {}
                None => self.callers.push(caller),
            }
        }
    }

    fn welcome(&mut self, hello: Hello, mut caller: Caller) {
        let rank = usize::try_from(hello.rank).unwrap_or(usize::MAX);
        let Some(place) = self.ranks.get_mut(rank).filter(|place| place.is_none()) else {
            return;
        };
        send(&mut caller.stream, &beat_of_root(self.own_steps));
        *place = Some(Rank {
            stream: caller.stream,
            received: caller.received[HELLO_BYTES..].to_vec(),
            process: hello.process,
            steps: 0,
            doing: "its beginning".to_owned(),
            heard: Instant::now(),
            left: false,
            closed: false,
        });
        self.post.shared.attached.fetch_add(1, Ordering::SeqCst);
    }

    /// Reads what the ranks said.
    fn hear(&mut self) {
        for rank in self.ranks.iter_mut().flatten().filter(|rank| !rank.closed) {
            let state = receive(&mut rank.stream, &mut rank.received);
            rank.closed = matches!(state, Received::Closed);
            loop {
                match Frame::take(&mut rank.received) {
                    Ok(Some(Frame::Beat { steps, doing })) => {
                        if steps != rank.steps || doing != rank.doing {
                            self.stepped = Instant::now();
                        }
                        (rank.steps, rank.doing) = (steps, doing);
                        rank.heard = Instant::now();
                    }
                    Ok(Some(Frame::Bye)) => {
                        rank.left = true;
                        self.stepped = Instant::now();
                    }
                    Ok(Some(Frame::End(_)) | None) => break,
                    Err(_) => {
                        rank.closed = true;
                        break;
                    }
                }
            }
        }
    }

    fn look_at_own_steps(&mut self) {
        let steps = self.post.progress.steps();
        let doing = self.post.progress.doing();
        if doing != self.own_doing {
            self.own_doing = doing;
            self.stepped = Instant::now();
        }
        if steps != self.own_steps {
            self.own_steps = steps;
            self.stepped = Instant::now();
            self.signalled = None;
        }
        if stop_requested() && self.signalled.is_none() {
            self.signalled = Some(Instant::now());
        }
    }

    /// From when the report is written on, the time of the way out counts, and not that of the
    /// writing, which may be as slow as a disk.
    fn look_for_end(&mut self) {
        if !self.at_end && self.ledger.is_written() {
            self.at_end = true;
            self.stepped = Instant::now();
            self.signalled = None;
        }
    }

    /// Saves once what was measured, if the ranks are slow to agree on an end.
    fn save_after_signal(&mut self) {
        let slow = |since: Instant| since.elapsed() > SAVE_AFTER;
        if !self.saved && self.signalled.is_some_and(slow) {
            self.saved = true;
            self.ledger.save(&self.not_agreed());
        }
    }

    fn not_agreed(&self) -> String {
        let doing = self.post.progress.doing();
        match self.at_end {
            true => format!("a signal asked the job to end, and it did not get beyond {doing}"),
            false => format!(
                "a signal asked the job to end, and the ranks did not agree on it within {doing}"
            ),
        }
    }

    /// What ends the job, if anything does.
    fn judge(&self) -> Option<Blame> {
        let dead = |rank: &Rank| rank.closed && !rank.left;
        let all = self.ranks.iter().enumerate();
        let mut dead = all.filter(|(_, rank)| rank.as_ref().is_some_and(dead));
        if let Some((rank, _)) = dead.next() {
            let text = match stop_requested() {
                true => format!(
                    "a signal asked the job to end, and {}",
                    judge::died(&self.seen(rank))
                ),
                false => judge::died(&self.seen(rank)),
            };
            let silent = Vec::new();
            return Some(Blame { text, silent });
        }
        let deadline = self.post.deadline;
        let seen = || -> Vec<Seen> {
            // Of those that are gone nobody expects an answer.
            let gone = |rank: &Rank| rank.left && rank.closed;
            let ranks = 0..self.ranks.len();
            let here = ranks.filter(|&rank| !self.ranks[rank].as_ref().is_some_and(gone));
            here.map(|rank| self.seen(rank)).collect()
        };
        if let Some(since) = self.signalled {
            let blame = judge::hang(&seen(), deadline, 2 * beat(deadline) + TICK);
            let waited = since.elapsed();
            let hangs = !blame.silent.is_empty() && waited > 2 * beat(deadline);
            if hangs || waited > END_AFTER {
                let text = format!("{}: {}", self.not_agreed(), blame.text);
                return Some(Blame { text, ..blame });
            }
        }
        if self.stepped.elapsed() > deadline {
            return Some(judge::hang(&seen(), deadline, answers_within(deadline)));
        }
        None
    }

    fn seen(&self, rank: usize) -> Seen {
        let host = &self.post.hosts[rank];
        let (pid, heard) = match &self.ranks[rank] {
            _ if rank == 0 => {
                let heard = Heard {
                    steps: self.own_steps,
                    doing: self.post.progress.doing(),
                    silent: Duration::ZERO,
                };
                (Some(std::process::id()), Some(heard))
            }
            Some(known) => {
                let heard = Heard {
                    steps: known.steps,
                    doing: known.doing.clone(),
                    silent: known.heard.elapsed(),
                };
                (Some(known.process.pid), Some(heard))
            }
            None => (None, None),
        };
        let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        Seen {
            rank,
            place: format!("rank {rank} on {host}{pid}"),
            heard,
        }
    }

    fn tell_all(&mut self, frame: &Frame) {
        for rank in self.ranks.iter_mut().flatten().filter(|rank| !rank.closed) {
            send(&mut rank.stream, frame);
        }
    }

    /// Says why, writes the report if it is not written, and ends every process of the job; unless
    /// the main thread is writing it.
    fn end_job(&mut self, blame: &Blame) {
        let (program, why) = (self.post.program, &blame.text);
        match self.ledger.break_off(why) {
            Some(conclusion) => {
                eprintln!("{program}: {why}; the job ends with a report of what was measured");
                let _ = conclusion.emit();
            }
            None if self.at_end => {
                eprintln!("{program}: {why}; the job ends, its report is written")
            }
            None => return,
        }
        self.end_all(blame);
    }

    /// Has the others end themselves and those of their nodes that cannot, and ends this process.
    fn end_all(&mut self, blame: &Blame) -> ! {
        for host in hosts_of(&self.post.hosts) {
            let on_host = |rank: &usize| self.post.hosts[*rank] == host;
            let silent = blame.silent.iter().copied().filter(on_host);
            let silent = silent.filter_map(|rank| Some(self.ranks[rank].as_ref()?.process));
            let silent: Vec<Process> = silent.collect();
            if host == self.post.hosts[0] {
                silent.iter().copied().for_each(Process::kill);
            }
            let end = Frame::End(silent);
            let here = (0..self.ranks.len()).filter(on_host).collect::<Vec<_>>();
            for rank in here {
                if let Some(rank) = &mut self.ranks[rank] {
                    send(&mut rank.stream, &end);
                }
            }
        }
        thread::sleep(GRACE);
        leave();
    }
}

/// What tells the others that rank 0 is alive.
fn beat_of_root(steps: u64) -> Frame {
    Frame::Beat {
        steps,
        doing: String::new(),
    }
}

/// Every host once.
fn hosts_of(hosts: &[String]) -> Vec<String> {
    let mut all = hosts.to_vec();
    all.sort_unstable();
    all.dedup();
    all
}
