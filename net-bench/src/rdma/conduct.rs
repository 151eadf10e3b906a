//! How a test over an RDMA device is carried out over the control channel, from either end.
//!
//! Once both sides have agreed on it they speak the same [`Word`]s: threads introduce themselves to
//! their counterparts, and at the end both sides say what they posted and that they have received
//! what the other posted, so that nobody closes what the other still needs.

use super::ending::Ending;
use super::meeting::Card;
use super::side::{self, Mail, Part};
use super::test::RdmaTest;
use crate::attend::{Caught, Line, Patient, Rope, Turn, Watch, attend_from_afar};
use crate::client::unexpected;
use crate::control::message::{Leg, Reply, Request};
use crate::control::{Channel, ControlError, MESSAGE_TIMEOUT};
use crate::side::End;
use crate::workload::Vitals;
use anyhow::Context;
use reports::host::Host;
use reports::measure::{Observer, Silent};
use reports::model::Unavailable;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// How long the server may take for its result after the client's own part is over: its counters may
/// be late by a second or two.
const RESULT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a client whose part failed waits for the server's reason.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);

/// What either side says while a test runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Word {
    /// A thread to its counterpart.
    Card(Card),
    /// How many operations this side posted on each lane; it posts no more.
    Posted(Vec<u64>),
    /// This side has received all that the other posted.
    Parted,
}

/// What carries the test: the device, which knows nobody's name.
struct Device<'a> {
    vitals: &'a Vitals,
    peer: String,
}

impl Line for Device<'_> {
    fn cut(&self) {
        self.vitals.cut();
    }

    fn hang_up(&self) {}

    fn peer(&self) -> String {
        self.peer.clone()
    }
}

/// One end's part while it runs, as the control channel sees it.
struct Relay {
    outbox: Receiver<Card>,
    inboxes: Vec<Sender<Card>>,
    ending: Arc<Ending>,
    vitals: Arc<Vitals>,
}

impl Relay {
    /// What is to be said now.
    fn words(&self) -> Vec<Word> {
        let mut words: Vec<Word> = self.outbox.try_iter().map(Word::Card).collect();
        words.extend(self.ending.posted_to_tell().map(Word::Posted));
        if self.ending.parting_to_tell() {
            words.push(Word::Parted);
        }
        words
    }

    /// Takes a word of the other side.
    fn hear(&self, word: Word) -> anyhow::Result<()> {
        match word {
            Word::Card(card) => {
                let inbox = self.inboxes.get(card.thread as usize);
                let inbox = inbox.context("a card for a thread that there is not")?;
                // A thread that is gone has said why.
                let _ = inbox.send(card);
            }
            Word::Posted(posted) => {
                let taken = self.ending.they_posted(posted);
                anyhow::ensure!(taken, "the other side counts other lanes, or counts again");
            }
            Word::Parted => self.ending.they_parted(),
        }
        Ok(())
    }

    /// Gives the test up: wakes whoever polls, and whoever waits for a card.
    fn cut(&mut self) {
        self.vitals.cut();
        self.inboxes.clear();
    }
}

/// A side's threads, and what watches over them.
struct Stage {
    post: side::Post,
    relay: Relay,
    patience: Duration,
}

impl Stage {
    fn new(test: &RdmaTest, end: End) -> Self {
        let (post, outbox, inboxes) = Mail::new(test.threads).split();
        let relay = Relay {
            outbox,
            inboxes,
            ending: Arc::new(Ending::new(test.lanes as usize, test.threads as usize)),
            vitals: Vitals::new(test.lanes as usize),
        };
        Self {
            post,
            relay,
            patience: side::patience(test, end),
        }
    }
}

/// What a client has at the end.
#[derive(Debug)]
pub struct Finished {
    /// This side.
    pub part: Part,
    /// The server's side.
    pub leg: Leg,
    /// What the server's machine is like, if it is another process's.
    pub host: Option<Host>,
}

/// The client's conduct of a test. `stop` is asked several times a second whether it is to end early.
///
/// # Errors
/// What went wrong, on which side.
pub fn as_client(
    channel: &mut Channel,
    test: &RdmaTest,
    observer: &dyn Observer,
    stop: &dyn Fn() -> bool,
) -> anyhow::Result<Finished> {
    channel.send(&Request::Rdma(Box::new(test.clone())))?;
    let host = match channel.receive(MESSAGE_TIMEOUT)? {
        Reply::Joined(host) => *host,
        other => return Err(unexpected(other)),
    };
    let peer = format!("the server at {}", channel.peer().ip());
    let mut heard = None;
    let mut lost = None;
    let mut told_stop = false;
    let say = |channel: &mut Channel, word| {
        // If the server cannot hear it, it is gone, which the next turn will show.
        let _ = channel.send(&Request::Word(word));
    };
    let cast = (End::Client, peer, say as Say);
    let part = play(channel, test, cast, observer, |turn| {
        let Turned { channel, relay, .. } = turn;
        if turn.turn == Turn::Quiet {
            if !told_stop && stop() {
                told_stop = true;
                relay.vitals.stop();
                let _ = channel.send(&Request::Stop);
            }
            return Watch::On;
        }
        match channel.receive(MESSAGE_TIMEOUT) {
            Ok(Reply::Word(word)) => match relay.hear(word) {
                Ok(()) => return Watch::On,
                Err(error) => lost = Some(error),
            },
            Ok(Reply::Stop) => {
                relay.vitals.stop();
                return Watch::On;
            }
            Ok(done @ Reply::Done(_)) => {
                heard = Some(done);
                relay.ending.they_parted();
                return Watch::Over;
            }
            Ok(other) => heard = Some(other),
            Err(error) => lost = Some(error.into()),
        }
        relay.cut();
        Watch::Over
    });
    if let Some(error) = lost {
        return Err(abandoned(error, "the server was lost", &part));
    }
    let part = part?;
    let leg = match (heard, part.is_ok()) {
        (Some(reply), _) => done(reply)?,
        (None, true) => last_words(channel, RESULT_TIMEOUT)?,
        // The server's reason, if it can still give one, may explain more than ours.
        (None, false) => {
            let reason = last_words(channel, REASON_TIMEOUT);
            match (reason, part) {
                (Err(theirs), Err(ours)) if theirs.downcast_ref::<ControlError>().is_some() => {
                    return Err(ours);
                }
                (Err(theirs), Err(ours)) => {
                    return Err(if ours.is::<Unavailable>() {
                        ours
                    } else {
                        theirs
                    });
                }
                (_, part) => return Err(part.err().context("the server ended alone")?),
            }
        }
    };
    Ok(Finished {
        part: part?,
        leg,
        host,
    })
}

/// The server's result, before which it may still say some words.
fn last_words(channel: &mut Channel, patience: Duration) -> anyhow::Result<Leg> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match channel.receive(left)? {
            Reply::Word(_) | Reply::Stop => {}
            other => return done(other),
        }
    }
}

fn done(reply: Reply) -> anyhow::Result<Leg> {
    let Reply::Done(mut legs) = reply else {
        return Err(unexpected(reply));
    };
    let leg = legs.pop().context("the server reported nothing")?;
    let checked = leg.check().map_err(anyhow::Error::msg);
    checked.context("the server reported what cannot be")?;
    Ok(leg)
}

/// What a server asks of whoever runs it while a test runs.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Whether the server is to end.
    pub ending: bool,
    /// How long a test may take, in seconds.
    pub most_s: Option<f64>,
}

/// The server's conduct of a test that it has joined.
///
/// # Errors
/// What went wrong on this side, or that the client is gone.
pub fn as_server(
    channel: &mut Channel,
    test: &RdmaTest,
    allowed: &dyn Fn() -> Allowed,
) -> anyhow::Result<Leg> {
    let peer = format!("the client at {}", channel.peer().ip());
    let begun = Instant::now();
    let mut told_stop = false;
    let mut lost = None;
    let say = |channel: &mut Channel, word| {
        let _ = channel.send(&Reply::Word(word));
    };
    let cast = (End::Server, peer, say as Say);
    let part = play(channel, test, cast, &Silent, |turn| {
        let Turned { channel, relay, .. } = turn;
        if turn.turn == Turn::Quiet {
            let allowed = allowed();
            if allowed.ending && !told_stop {
                told_stop = true;
                relay.vitals.stop();
                let _ = channel.send(&Reply::Stop);
            }
            if let Some(most) = allowed.most_s
                && begun.elapsed().as_secs_f64() > most
            {
                lost = Some(anyhow::anyhow!(
                    "the test ran longer than this server allows (--max-time)"
                ));
                relay.cut();
                return Watch::Over;
            }
            return Watch::On;
        }
        match channel.receive(MESSAGE_TIMEOUT) {
            Ok(Request::Word(word)) => match relay.hear(word) {
                Ok(()) => return Watch::On,
                Err(error) => lost = Some(error),
            },
            Ok(Request::Stop) => {
                relay.vitals.stop();
                return Watch::On;
            }
            Ok(_) => {
                lost = Some(anyhow::anyhow!("the client asked for a test within a test"));
            }
            Err(error) => lost = Some(error.into()),
        }
        relay.cut();
        Watch::Over
    });
    match (lost, part) {
        (Some(error), part) => Err(abandoned(error, "the test was abandoned", &part)),
        (None, part) => Ok(part??.leg),
    }
}

/// Why a test ended without a result, and whether it left a thread behind.
fn abandoned<T>(error: anyhow::Error, what: &str, part: &anyhow::Result<T>) -> anyhow::Error {
    let caught = part.as_ref().err().and_then(|part| part.downcast_ref());
    match caught {
        Some(caught @ Caught) => error.context(format!("{what}, and {caught}")),
        None => error.context(what.to_owned()),
    }
}

/// What a watcher has at hand when it is called.
struct Turned<'a> {
    channel: &'a mut Channel,
    relay: &'a mut Relay,
    turn: Turn,
}

/// Says a word to the other side.
type Say = fn(&mut Channel, Word);

/// Runs one end's threads and its watcher.
fn play(
    channel: &mut Channel,
    test: &RdmaTest,
    (end, peer, say): (End, String, Say),
    observer: &dyn Observer,
    mut watch: impl FnMut(Turned<'_>) -> Watch,
) -> anyhow::Result<anyhow::Result<Part>> {
    let Stage {
        post,
        mut relay,
        patience,
    } = Stage::new(test, end);
    let vitals = Arc::clone(&relay.vitals);
    let ending = Arc::clone(&relay.ending);
    let device = Device {
        vitals: &vitals,
        peer,
    };
    let patient = Patient {
        connections: &device,
        vitals: &vitals,
        ends_by_word: false,
        patience,
    };
    let address = channel.local()?.ip().to_canonical();
    let (test, vital) = (test.clone(), Arc::clone(&vitals));
    let work = move |rope: &Rope, observer: &dyn Observer| {
        let around = (rope, address);
        side::run(&test, end, post, around, (&vital, &ending), observer)
    };
    let part = attend_from_afar(channel, &patient, observer, work, |channel, turn| {
        let state = watch(Turned {
            channel,
            relay: &mut relay,
            turn,
        });
        for word in relay.words() {
            say(channel, word);
        }
        state
    });
    // The last of them may have been there when the work was over.
    for word in relay.words() {
        say(channel, word);
    }
    part
}
