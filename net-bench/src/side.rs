//! One side's part in a test: which roles it plays, on which flows, and what came of it. Client
//! and server run the same code here, through the same harness.

use crate::control::message::{Leg, Role};
use crate::observe::{Observed, Watch};
use crate::test::{Direction, MAX_INTERVALS, Shape, Test, Transport};
use crate::transport::socket::SocketFlow;
use crate::workload::many_rr::{ManyRequester, ManyResponder};
use crate::workload::many_stream::{ManyReceiver, ManySender};
use crate::workload::open_rr::{OpenRequester, Schedule};
use crate::workload::rr::{Requester, Responder, Sizes};
use crate::workload::sequence::Datagrams;
use crate::workload::stream::{Receiver, Sender};
use crate::workload::udp_rr::{UdpRequester, UdpResponder};
use crate::workload::udp_stream::{UdpReceiver, UdpSender};
use crate::workload::{Findings, Shared, Vitals};
use reports::measure::{self, Limit, Observer, Plan, Silent, Totals, Workload};
use reports::model::{Fact, Flag, Severity, Validity};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Which end of the control channel a side is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The one that asked for the test.
    Client,
    /// The one that was asked.
    Server,
}

/// What a side did in one role.
#[derive(Debug)]
pub struct Part {
    /// The role.
    pub role: Role,
    /// What the harness measured.
    pub totals: Totals,
    /// Payload bytes of each flow, warm-up included.
    pub flow_bytes: Vec<u64>,
    buffer_bytes: Fact<f64>,
    max_segment_bytes: Option<Fact<f64>>,
    congestion_control: Option<Fact<String>>,
    datagrams: Option<Datagrams>,
    schedule: Option<Schedule>,
    observed: Box<Observed>,
}

/// The roles of one end, each with its flows as a range of the test's connections.
fn roles(test: &Test, end: End) -> Vec<(Role, usize)> {
    let client = end == End::Client;
    let (first, second) = match (&test.shape, client) {
        (Shape::RequestResponse { .. }, true) => return vec![(Role::Request, 0)],
        (Shape::RequestResponse { .. }, false) => return vec![(Role::Respond, 0)],
        (Shape::Stream { .. }, true) => (Role::Send, Role::Receive),
        (Shape::Stream { .. }, false) => (Role::Receive, Role::Send),
    };
    match &test.shape {
        Shape::Stream {
            direction: Direction::Forward,
            ..
        } => vec![(first, 0)],
        Shape::Stream {
            direction: Direction::Reverse,
            ..
        } => vec![(second, 0)],
        // The flows of the second direction follow those of the first.
        _ => vec![(first, 0), (second, test.flows as usize)],
    }
}

/// Plays all roles of one end and returns what came of each. `vitals` show how it goes. When a role
/// fails, the flows of all are cut, so that nobody waits for a peer that has given up.
///
/// # Errors
/// The first error of any role.
pub fn run(
    test: &Test,
    end: End,
    flows: &[SocketFlow],
    vitals: &Arc<Vitals>,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Part>> {
    let roles = roles(test, end);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let play = |(role, offset): (Role, usize), observer: &dyn Observer| {
        let count = test.flows as usize;
        let own = &flows[offset..offset + count];
        play(
            test,
            role,
            own,
            &Shared::new(vitals, offset, count),
            observer,
        )
        .inspect(|_| {
            if starts_traffic(role) {
                vitals.end();
            }
        })
        .map_err(|error| {
            // Only the first error is the cause; the others follow from the cut.
            let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(error);
            flows.iter().for_each(SocketFlow::cut);
        })
        .ok()
    };
    let play = &play;
    let parts: Vec<Option<Part>> = thread::scope(|scope| {
        // What a client shows of two directions is what arrives.
        let (last, others) = roles.split_last().expect("every test has a role");
        let spawn = |&role| scope.spawn(move || play(role, &Silent));
        let others: Vec<_> = others.iter().map(spawn).collect();
        let last = play(*last, observer);
        let join = |handle: thread::ScopedJoinHandle<'_, _>| {
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        others.into_iter().map(join).chain([last]).collect()
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(parts.into_iter().flatten().collect()),
    }
}

/// Whether a role starts traffic, rather than following that of the other side.
fn starts_traffic(role: Role) -> bool {
    matches!(role, Role::Request | Role::Send)
}

fn play(
    test: &Test,
    role: Role,
    flows: &[SocketFlow],
    shared: &Shared,
    observer: &dyn Observer,
) -> anyhow::Result<Part> {
    let tcp = test.transport == Transport::Tcp;
    let max_segment_bytes = tcp.then(|| flows[0].max_segment_bytes());
    let sockets = flows.iter().map(|flow| flow.socket().as_fd());
    let watch = Watch::start(sockets.collect(), observer);
    let mut totals = measure::run(&plan(test, role), &watch, |thread| {
        let own = flows.iter().cloned().enumerate();
        let own = own.skip(thread).step_by(test.threads as usize);
        Ok(workload(test, role, own.collect(), shared))
    })?;
    if role == Role::Receive && totals.work.bytes == 0 && totals.validity.flags.is_empty() {
        anyhow::bail!(
            "the stream ended during the receiver's warm-up of {} s: measure longer, or omit less",
            test.omit_s
        );
    }
    flag_request_to_stop(&mut totals.validity, shared);
    let findings = shared.findings();
    flag_findings(&mut totals.validity, &findings);
    let buffer_bytes = match role {
        Role::Request | Role::Send => flows[0].send_buffer_bytes(),
        Role::Respond | Role::Receive => flows[0].receive_buffer_bytes(),
    };
    let observed = Box::new(watch.finish(&mut totals));
    Ok(Part {
        role,
        totals,
        flow_bytes: shared.flow_bytes(),
        buffer_bytes,
        max_segment_bytes,
        datagrams: findings.datagrams,
        schedule: findings.schedule,
        congestion_control: tcp.then(|| flows[0].congestion_control()),
        observed,
    })
}

/// A sender that was asked to stop, and a receiver that saw it stop, end in good order; the harness
/// does not know that it was before their time.
fn flag_request_to_stop(validity: &mut Validity, shared: &Shared) {
    let known = validity.flags.iter().any(|flag| flag.code == INTERRUPTED);
    if shared.stopped() && !known {
        let evidence = "the client was told to stop and ended the measured window before its time";
        validity.flag(Severity::Invalid, INTERRUPTED, evidence);
    }
}

/// What the threads found out that bears on the numbers.
fn flag_findings(validity: &mut Validity, findings: &Findings) {
    if findings.end_lost {
        let evidence = "all datagrams that say that a sender has ended were lost: the receiver's \
                        window closed up to 0.5 s late, and its rates are too low by that";
        validity.flag(Severity::Degraded, "end_lost", evidence);
    }
    let tally = findings.datagrams.unwrap_or_default();
    if tally.unanswered > 0 {
        let evidence = format!(
            "{} of {} requests had no response in time and are in no percentile",
            tally.unanswered, tally.sent
        );
        validity.flag(Severity::Degraded, "unanswered_requests", evidence);
    }
}

/// The code of the flag that the harness, too, gives a window that a signal ended.
const INTERRUPTED: &str = "interrupted";

/// How long a role works: who starts the traffic ends it; the other end follows.
pub fn plan(test: &Test, role: Role) -> Plan {
    let warmup = Duration::from_secs_f64(test.omit_s);
    let run = match (starts_traffic(role), test.operations) {
        (false, _) => Limit::UntilDone,
        (true, Some(operations)) => Limit::Ops(operations),
        (true, None) => Limit::Duration(Duration::from_secs_f64(test.duration_s)),
    };
    Plan {
        threads: test.threads as usize,
        ramp: Duration::ZERO,
        warmup: Limit::Duration(warmup),
        run,
        interval: Duration::from_secs_f64(test.interval_s),
    }
}

fn workload(
    test: &Test,
    role: Role,
    mut flows: Vec<(usize, SocketFlow)>,
    shared: &Shared,
) -> Box<dyn Workload> {
    let shared = shared.clone();
    let (sizes, length) = match test.shape {
        Shape::RequestResponse {
            request_bytes,
            response_bytes,
        } => {
            let request = request_bytes as usize;
            let response = response_bytes as usize;
            (Sizes { request, response }, 0)
        }
        Shape::Stream { length_bytes, .. } => {
            let none = Sizes {
                request: 0,
                response: 0,
            };
            (none, length_bytes as usize)
        }
    };
    if let (Role::Request, Some(arrival)) = (role, &test.arrival) {
        return Box::new(OpenRequester::new(test, arrival, flows, sizes, shared));
    }
    if test.transport == Transport::Udp {
        return match role {
            Role::Request => Box::new(UdpRequester::new(flows, sizes, shared)),
            Role::Respond => Box::new(UdpResponder::new(flows, sizes, shared)),
            Role::Send => Box::new(UdpSender::new(flows, length, shared)),
            Role::Receive => Box::new(UdpReceiver::new(flows, length, shared)),
        };
    }
    if flows.len() == 1 {
        let (index, flow) = flows.remove(0);
        return match role {
            Role::Request => Box::new(Requester::new(flow, index, sizes, shared)),
            Role::Respond => Box::new(Responder::new(flow, index, sizes, shared)),
            Role::Send => Box::new(Sender::new(flow, index, length, shared)),
            Role::Receive => Box::new(Receiver::new(flow, index, length, shared)),
        };
    }
    match role {
        Role::Request => Box::new(ManyRequester::new(flows, sizes, shared)),
        Role::Respond => Box::new(ManyResponder::new(flows, sizes, shared)),
        Role::Send => Box::new(ManySender::new(flows, length, shared)),
        Role::Receive => Box::new(ManyReceiver::new(flows, length, shared)),
    }
}

impl Part {
    /// The part as it travels to the other side and as metrics are made of it.
    #[must_use]
    pub fn leg(&self) -> Leg {
        let totals = &self.totals;
        let mut flags = totals.validity.flags.clone();
        if totals.intervals.len() > MAX_INTERVALS {
            flags.push(Flag {
                code: "series_shortened".to_owned(),
                severity: Severity::Info,
                evidence: format!(
                    "the first {MAX_INTERVALS} of {} slices are kept",
                    totals.intervals.len()
                ),
            });
        }
        Leg {
            role: self.role,
            work: totals.work,
            elapsed_s: totals.elapsed_s,
            cpu_s: totals.cpu.user_s + totals.cpu.system_s,
            verified: totals.verified.clone(),
            flags,
            intervals: totals
                .intervals
                .iter()
                .take(MAX_INTERVALS)
                .cloned()
                .collect(),
            flow_bytes: self.flow_bytes.clone(),
            buffer_bytes: self.buffer_bytes.clone(),
            max_segment_bytes: self.max_segment_bytes.clone(),
            congestion_control: self.congestion_control.clone(),
            datagrams: self.datagrams,
            schedule: self.schedule,
            observed: Some(self.observed.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{Engine, SocketOptions};

    #[test]
    fn the_two_ends_play_opposite_roles_on_the_same_flows() {
        for direction in [
            Direction::Forward,
            Direction::Reverse,
            Direction::Bidirectional,
        ] {
            let test = Test {
                transport: Transport::Tcp,
                engine: Engine::Plain,
                socket: SocketOptions::default(),
                arrival: None,
                shape: Shape::Stream {
                    length_bytes: 1,
                    direction,
                },
                flows: 3,
                threads: 1,
                duration_s: 1.0,
                operations: None,
                omit_s: 0.0,
                interval_s: 1.0,
                timeout_s: 10.0,
            };
            let (client, server) = (roles(&test, End::Client), roles(&test, End::Server));
            assert_eq!(client.len() * 3, test.connections() as usize);
            for (ours, theirs) in client.iter().zip(&server) {
                assert_eq!(ours.1, theirs.1);
                assert_ne!(ours.0, theirs.0);
            }
        }
    }
}
