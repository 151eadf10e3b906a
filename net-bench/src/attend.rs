//! Watching over the test while it runs: a peer that dies or asks to stop is noticed at once, one
//! that merely falls silent after a while, and none of it costs the measuring threads a timer.

use crate::control::Channel;
use crate::workload::Vitals;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reports::measure::{Event, Observer, Phase};
use reports::model::Interval;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a watcher looks at what no descriptor announces: a signal to stop.
const LOOK_AROUND_MS: u16 = 100;

/// How long datagrams may still be on their way after their sender has ended.
const STRAGGLING: Duration = Duration::from_millis(200);

/// How long work may take to return once its test was given up: threads look at once, but closing
/// what a dead peer had a part in takes some providers seconds.
const WAY_OUT: Duration = Duration::from_secs(10);

/// What carries the data of a test.
pub trait Line {
    /// Ends everything at once, so that whoever waits wakes up with an error or an end.
    fn cut(&self);

    /// Ends what the peer cannot end.
    fn hang_up(&self);

    /// Where it leads, for messages.
    fn peer(&self) -> String;
}

/// Wakes the watcher, who then looks around.
#[derive(Debug)]
pub struct Rope(UnixStream);

impl Rope {
    /// Another end of the same rope.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn again(&self) -> anyhow::Result<Self> {
        let rope = self.0.try_clone();
        Ok(Self(rope.context("cannot duplicate a socket")?))
    }

    /// Wakes the watcher.
    pub fn pull(&self) {
        // A full socket has woken it already.
        let _ = (&self.0).write(&[1]);
    }
}

/// The worker's end of the rope: with it go all others.
struct End(Rope);

impl Drop for End {
    fn drop(&mut self) {
        let _ = (self.0.0).shutdown(Shutdown::Both);
    }
}

/// The connections of a test and how they fare.
pub struct Patient<'a> {
    /// The connections; they are cut when the test is given up, which wakes whoever waits.
    pub connections: &'a dyn Line,
    /// How many bytes they have carried.
    pub vitals: &'a Vitals,
    /// Whether they cannot say themselves that they end: datagrams, and connections to come.
    pub ends_by_word: bool,
    /// How long nothing may move before the test is given up.
    pub patience: Duration,
}

/// Notices when bytes cease to move.
struct Pulse {
    bytes: u64,
    since: Instant,
}

impl Pulse {
    /// Whether nothing has moved for too long.
    fn stopped(&mut self, bytes: u64, patience: Duration) -> bool {
        if bytes != self.bytes {
            *self = Self {
                bytes,
                since: Instant::now(),
            };
        }
        self.since.elapsed() > patience
    }
}

impl Patient<'_> {
    /// Ends the receivers of flows whose peer has ended and whose last datagrams have had their
    /// time. Streams say by themselves when they end.
    fn hang_up_when_due(&self) {
        if self.ends_by_word
            && let Some(since) = self.vitals.since_peer_ended()
            && since >= STRAGGLING
        {
            self.connections.hang_up();
        }
    }

    fn give_up(&self) -> anyhow::Error {
        self.connections.cut();
        anyhow::anyhow!(
            "nothing moved to or from {} for {} s; the peer or the network is dead",
            self.connections.peer(),
            self.patience.as_secs_f64()
        )
    }
}

/// Why the watcher is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is something to read on the channel, or its end.
    Readable,
    /// Nothing happened for a while, or somebody pulled the rope.
    Quiet,
}

/// Whether there is anything left to read on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// There is.
    On,
    /// The peer had its last word.
    Over,
}

/// Runs `work` on a thread of its own and `watch` on this one whenever the channel moves or `work`
/// pulls the rope, and gives the test up when its flows do not move.
///
/// # Errors
/// The flows stalled, or what the kernel says of waiting.
pub fn attend<T: Send>(
    channel: &mut Channel,
    patient: &Patient<'_>,
    work: impl FnOnce(&Rope) -> T + Send,
    watch: impl FnMut(&mut Channel, Turn) -> Watch,
) -> anyhow::Result<T> {
    let (bell, rope) = bell_and_rope()?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // Its end wakes the watcher, whether the work returns or panics.
            let end = End(rope);
            work(&end.0)
        });
        let stalled = look_after(&bell, channel, patient, watch, |_| Ok(()))?;
        let result = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stalled.map_or(Ok(result), Err)
    })
}

/// As [`attend`], for work through a library whose calls may never return, and nothing can end them:
/// libfabric's shared memory, for one, has locks that a killed peer keeps. Work that does not return
/// a while after the test was given up is left behind. `observer` sees on this thread what the work
/// shows.
///
/// # Errors
/// As for [`attend`], or [`Caught`].
pub fn attend_from_afar<T: Send + 'static>(
    channel: &mut Channel,
    patient: &Patient<'_>,
    observer: &dyn Observer,
    work: impl FnOnce(&Rope, &dyn Observer) -> T + Send + 'static,
    watch: impl FnMut(&mut Channel, Turn) -> Watch,
) -> anyhow::Result<T> {
    let (bell, rope) = bell_and_rope()?;
    let (sender, seen) = mpsc::channel();
    let worker = thread::spawn(move || {
        let end = End(rope);
        work(&end.0, &Forward(sender))
    });
    let show = || seen.try_iter().for_each(|seen: Seen| seen.show(observer));
    let mut given_up = None;
    let stalled = look_after(&bell, channel, patient, watch, |gives_up| {
        show();
        if gives_up {
            let since = *given_up.get_or_insert_with(Instant::now);
            if since.elapsed() > WAY_OUT {
                LEFT_BEHIND.store(true, Ordering::Relaxed);
                return Err(Caught);
            }
        }
        Ok(())
    })?;
    let result = worker
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    show();
    stalled.map_or(Ok(result), Err)
}

/// Work did not return from a library's call.
#[derive(Debug, thiserror::Error)]
#[error(
    "a thread is caught in a call of the device's library, which has not returned {} s after the \
     test was given up",
    WAY_OUT.as_secs()
)]
pub struct Caught;

/// Whether a thread of this process is caught in a library's call. It may poll there, which would
/// falsify whatever is measured beside it.
#[must_use]
pub fn left_behind() -> bool {
    LEFT_BEHIND.load(Ordering::Relaxed)
}

static LEFT_BEHIND: AtomicBool = AtomicBool::new(false);

/// What an observer is shown, on its way to another thread.
enum Seen {
    Phase {
        phase: Phase,
        expected: Option<Duration>,
    },
    Interval(Box<Interval>),
}

impl Seen {
    fn show(self, observer: &dyn Observer) {
        match self {
            Self::Phase { phase, expected } => observer.event(&Event::Phase { phase, expected }),
            Self::Interval(interval) => observer.event(&Event::Interval(&interval)),
        }
    }
}

struct Forward(mpsc::Sender<Seen>);

impl Observer for Forward {
    fn event(&self, event: &Event<'_>) {
        let seen = match *event {
            Event::Phase { phase, expected } => Seen::Phase { phase, expected },
            Event::Interval(interval) => Seen::Interval(Box::new(interval.clone())),
        };
        // Who left the work behind looks no more.
        let _ = self.0.send(seen);
    }
}

/// Both ends of a rope: the watcher's, and the worker's.
fn bell_and_rope() -> anyhow::Result<(UnixStream, Rope)> {
    let (bell, rope) = UnixStream::pair().context("cannot make a socket pair")?;
    for end in [&bell, &rope] {
        let unblocked = end.set_nonblocking(true);
        unblocked.context("cannot unblock a socket")?;
    }
    Ok((bell, Rope(rope)))
}

/// Watches until the worker ends, or `look`, which hears whether the test was given up, breaks it off;
/// says why it was given up, if nothing moved.
fn look_after(
    bell: &UnixStream,
    channel: &mut Channel,
    patient: &Patient<'_>,
    mut watch: impl FnMut(&mut Channel, Turn) -> Watch,
    mut look: impl FnMut(bool) -> Result<(), Caught>,
) -> anyhow::Result<Option<anyhow::Error>> {
    let mut pulse = Pulse {
        bytes: 0,
        since: Instant::now(),
    };
    let mut state = Watch::On;
    let mut stalled: Option<anyhow::Error> = None;
    loop {
        let (over, turn) = wait(bell, channel, state).inspect_err(|_| {
            patient.give_up();
        })?;
        if over {
            return Ok(stalled);
        }
        if state == Watch::On {
            state = watch(channel, turn);
        }
        patient.hang_up_when_due();
        if stalled.is_none() && pulse.stopped(patient.vitals.total_bytes(), patient.patience) {
            stalled = Some(patient.give_up());
        }
        // Of a thread's own error the others hear in their own time.
        let lost = state == Watch::Over && patient.vitals.was_cut();
        if let Err(caught) = look(stalled.is_some() || lost) {
            return Err(match stalled {
                Some(why) => why.context(caught),
                None => caught.into(),
            });
        }
    }
}

/// Waits a while for the worker's end or for the channel; says whether it is the worker's end.
fn wait(mut bell: &UnixStream, channel: &Channel, state: Watch) -> anyhow::Result<(bool, Turn)> {
    let mut watched = [
        PollFd::new(bell.as_fd(), PollFlags::POLLIN),
        PollFd::new(channel.as_fd(), PollFlags::POLLIN),
    ];
    let count = if state == Watch::On { 2 } else { 1 };
    match poll(&mut watched[..count], PollTimeout::from(LOOK_AROUND_MS)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context("cannot watch over the test"),
    }
    let [rung, readable] = watched.map(|fd| fd.any() == Some(true));
    // Its end is the worker's; anything else on it is a pull of the rope.
    let over = rung && matches!(bell.read(&mut [0; 64]), Ok(0));
    let turn = if readable {
        Turn::Readable
    } else {
        Turn::Quiet
    };
    Ok((over, turn))
}
