//! The coordinator: it meets the servers, sends them on errands to each other, and finds out who is
//! to blame when one fails. It has a connection for each errand, so that a server that is gone is
//! noticed when it is next spoken to, and none has to be kept alive in between.

use super::hosts::Peer;
use super::schedule::{self, Step, What};
use super::survey::{Absent, Node, Survey};
use crate::client::{self, Family};
use crate::control::message::{Reply, Request};
use crate::control::{Channel, ControlError, Key, MESSAGE_TIMEOUT};
use crate::errand::{Brought, Errand};
use crate::spec::Tested;
use anyhow::Context;
use reports::host::Host;
use reports::measure::stop_requested;
use reports::model::Unavailable;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many servers are spoken to at once where the schedule does not say it.
const AT_ONCE: usize = 64;

/// How much longer than its test an errand may take, beyond the time after which its own ends give it
/// up: they connect, agree, and tell each other their results.
const SLACK: Duration = Duration::from_secs(40);

/// What is to be measured.
#[derive(Debug)]
pub(super) struct Mesh {
    pub peers: Vec<Peer>,
    pub key: Key,
    pub shape: super::Shape,
    /// The test of a cell of latency.
    pub latency: Tested,
    /// The test of a cell of bandwidth, from the one who is sent.
    pub bandwidth: Tested,
    pub timeout_s: f64,
}

/// Why an errand brought nothing.
enum Fault {
    /// The machine of one of the two does not offer what it takes.
    Unavailable(String),
    /// Whom we sent could not be spoken to, or did not come back.
    Sent(String),
    /// Whom we sent came back without a result.
    Way(String),
}

/// Called before each step: which of how many, what it is, and what there is so far.
pub(super) type Tell<'a> = &'a dyn Fn(usize, usize, &Step, &Survey);

impl Mesh {
    /// The steps of the schedule among so many nodes.
    pub fn steps(&self, nodes: usize) -> Vec<Step> {
        let shape = &self.shape;
        let (direction, senders) = (shape.direction.unwrap_or_default(), shape.senders);
        schedule::steps(shape.pattern, nodes, direction, senders.unwrap_or(0))
    }

    /// How long the cells of these steps take, in seconds, without what lies between them.
    pub fn seconds(&self, steps: &[Step]) -> f64 {
        let busy = steps.iter().filter(|step| !step.flows.is_empty());
        busy.count() as f64 * (self.shape.omit_s + self.shape.duration_s)
    }

    /// Meets all servers.
    ///
    /// # Errors
    /// Fewer than two of them take part: who does not, and why.
    pub fn meet(&self) -> anyhow::Result<Survey> {
        let traffic = AtomicU64::new(0);
        let met = at_once(&self.peers, |peer| self.describe(peer, &traffic));
        let (mut nodes, mut missing) = (Vec::new(), Vec::new());
        for (number, (peer, met)) in self.peers.iter().zip(met).enumerate() {
            match met {
                Ok(host) => nodes.push(Node {
                    number,
                    peer: peer.clone(),
                    host,
                }),
                Err(error) => missing.push(Absent {
                    label: peer.label.clone(),
                    why: format!("{error:#}"),
                }),
            }
        }
        if nodes.len() < 2 {
            let absent = missing
                .iter()
                .map(|absent| format!("{}: {}", absent.label, absent.why));
            anyhow::bail!(
                "{} of {} servers take part, and it takes two: {}",
                nodes.len(),
                self.peers.len(),
                absent.collect::<Vec<_>>().join("; ")
            );
        }
        let rounds = schedule::rounds(&self.steps(nodes.len()));
        let mut survey = Survey::of(nodes, missing, rounds);
        survey.coordinator_bytes = traffic.into_inner();
        Ok(survey)
    }

    /// Goes through the schedule, among those that were met.
    ///
    /// # Errors
    /// What was asked for is available between no two servers.
    pub fn go(&self, mut survey: Survey, tell: Tell<'_>) -> anyhow::Result<Survey> {
        let steps = self.steps(survey.nodes.len());
        let begun = Instant::now();
        for (index, step) in steps.iter().enumerate() {
            if stop_requested() {
                survey.interrupted = true;
                break;
            }
            survey.elapsed_s = begun.elapsed().as_secs_f64();
            tell(index, steps.len(), step, &survey);
            self.take(step, &mut survey)?;
            survey.rounds.1 = step.round + 1;
        }
        // A signal in the last step has cut its cells short.
        survey.interrupted |= stop_requested();
        survey.elapsed_s = begun.elapsed().as_secs_f64();
        anyhow::ensure!(
            survey.cells > 0,
            "nothing was measured: {}",
            trouble(&survey)
        );
        Ok(survey)
    }

    /// One step: all its errands at once, then who failed and why.
    fn take(&self, step: &Step, survey: &mut Survey) -> anyhow::Result<()> {
        survey.begin(step);
        let able = |flow: &&(usize, usize)| !survey.is_lost(flow.0) && !survey.is_lost(flow.1);
        let flows: Vec<(usize, usize)> = step.flows.iter().filter(able).copied().collect();
        let traffic = AtomicU64::new(0);
        let brought: Vec<Result<Brought, Fault>> = thread::scope(|scope| {
            let errands = flows.iter().map(|&(from, to)| {
                let (nodes, traffic) = (&survey.nodes, &traffic);
                let (from, to) = (&nodes[from].peer, &nodes[to].peer);
                scope.spawn(move || self.send(from, to, step.what, traffic))
            });
            let errands: Vec<_> = errands.collect();
            let joined = errands.into_iter().map(|errand| errand.join());
            joined
                .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        survey.coordinator_bytes += traffic.into_inner();
        let mut faults = Vec::new();
        for (&flow, brought) in flows.iter().zip(brought) {
            let entered = brought.and_then(|brought| {
                let entered = survey.enter(step.what, flow, &brought);
                entered.map_err(Fault::Way)
            });
            faults.extend(entered.err().map(|fault| (flow, fault)));
        }
        if survey.cells == 0
            && !faults.is_empty()
            && faults.len() == flows.len()
            && let Some((flow, Fault::Unavailable(reason))) = faults.first()
        {
            let pair = survey.pair(*flow);
            return Err(Unavailable(format!("{pair}: {reason}")).into());
        }
        self.blame(faults, survey);
        Ok(())
    }

    /// Finds out of each failed pair whether one of its nodes is gone. Who is gone takes no part in
    /// what is to come.
    fn blame(&self, faults: Vec<((usize, usize), Fault)>, survey: &mut Survey) {
        // What a signal cut short is nobody's fault.
        if faults.is_empty() || stop_requested() {
            return;
        }
        let suspects: BTreeSet<usize> = faults
            .iter()
            .flat_map(|((from, to), fault)| match fault {
                Fault::Sent(_) => vec![*from],
                Fault::Way(_) | Fault::Unavailable(_) => vec![*from, *to],
            })
            .collect();
        let suspects: Vec<usize> = suspects.into_iter().collect();
        let traffic = AtomicU64::new(0);
        let alive = at_once(&suspects, |&node| {
            self.describe(&survey.nodes[node].peer, &traffic)
        });
        survey.coordinator_bytes += traffic.into_inner();
        for (node, alive) in suspects.into_iter().zip(alive) {
            if let Err(error) = alive {
                let label = survey.label(node).to_owned();
                let why = format!("{error:#}");
                survey.lost.push(Absent { label, why });
            }
        }
        for (flow, fault) in faults {
            let (Fault::Unavailable(why) | Fault::Sent(why) | Fault::Way(why)) = fault;
            if !survey.is_lost(flow.0) && !survey.is_lost(flow.1) {
                let label = survey.pair(flow);
                survey.failed.push(Absent { label, why });
            }
        }
    }

    /// What machine a server is on.
    fn describe(&self, peer: &Peer, traffic: &AtomicU64) -> anyhow::Result<Host> {
        let mut channel = self.connect(peer)?;
        let answer = channel
            .send(&Request::Describe)
            .and_then(|()| channel.receive(MESSAGE_TIMEOUT));
        traffic.fetch_add(channel.bytes(), Ordering::Relaxed);
        match answer? {
            Reply::Machine(host) => Ok(*host),
            other => Err(client::unexpected(other)),
        }
    }

    fn connect(&self, peer: &Peer) -> anyhow::Result<Channel> {
        let stream = client::connect(&peer.host, peer.port, Family::Any)?;
        Ok(Channel::connect(stream, &self.key)?)
    }

    /// Sends one server to another, and waits until it is back.
    fn send(
        &self,
        from: &Peer,
        to: &Peer,
        what: What,
        traffic: &AtomicU64,
    ) -> Result<Brought, Fault> {
        let test = match what {
            What::Latency => &self.latency,
            What::Bandwidth => &self.bandwidth,
        };
        let errand = Errand {
            host: to.host.clone(),
            port: to.port,
            test: test.clone(),
        };
        let sent = |error: anyhow::Error| Fault::Sent(format!("{error:#}"));
        let mut channel = self.connect(from).map_err(sent)?;
        let answer = channel
            .send(&Request::Errand(Box::new(errand)))
            .and_then(|()| channel.receive(self.patience()));
        traffic.fetch_add(channel.bytes(), Ordering::Relaxed);
        match answer.map_err(|error| sent(came_not_back(error)))? {
            Reply::Brought(brought) => Ok(*brought),
            Reply::Unavailable { reason } => Err(Fault::Unavailable(reason)),
            Reply::Failed { error } => Err(Fault::Way(error)),
            other => Err(sent(client::unexpected(other))),
        }
    }

    fn patience(&self) -> Duration {
        let seconds = self.shape.omit_s + self.shape.duration_s + 2.0 * self.timeout_s;
        Duration::from_secs_f64(seconds) + SLACK
    }
}

fn came_not_back(error: ControlError) -> anyhow::Error {
    anyhow::Error::from(error).context("it was sent on an errand and did not come back")
}

/// Why nothing at all was measured.
fn trouble(survey: &Survey) -> String {
    if survey.interrupted {
        return "interrupted before the first cell".to_owned();
    }
    let all = survey.lost.iter().chain(&survey.failed).take(8);
    let words: Vec<String> = all
        .map(|absent| format!("{}: {}", absent.label, absent.why))
        .collect();
    words.join("; ")
}

/// Does the same for all, several at once, and keeps their order.
fn at_once<T: Sync, R: Send>(all: &[T], what: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(all.len()));
    thread::scope(|scope| {
        for _ in 0..all.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some((index, one)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    all.get(index).map(|one| (index, one))
                } {
                    let result = what(one);
                    // Nobody panics while holding it.
                    let mut done = done.lock().unwrap_or_else(|broken| broken.into_inner());
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(|broken| broken.into_inner());
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The test of a cell: what the case of this name makes of these options.
///
/// # Errors
/// [`reports::program::Usage`]: which of them it does not take.
pub(super) fn test_of(case: &str, options: &[String]) -> anyhow::Result<Tested> {
    let mut rows = crate::cases::CASES.iter();
    let row = rows.find(|row| row.entry.name == case);
    let row = row.with_context(|| format!("there is no case {case}"))?;
    let command = (row.options)(clap::Command::new(row.entry.name)).no_binary_name(true);
    let matches = command
        .try_get_matches_from(options)
        .map_err(|error| reports::program::Usage(format!("{case}: {error}")))?;
    Ok((row.spec)(&matches)?.test)
}
