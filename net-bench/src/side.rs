//! One side's part in a test: which roles it plays, on which flows, and what came of it. Client
//! and server run the same code here, through the same harness.

mod work;

use crate::attend::Line;
use crate::control::message::{Leg, Role};
use crate::observe::verdict::NEAR_RATE;
use crate::observe::{Observed, Pace, Watch};
use crate::place::pin::{Pin, PinError, Pinned};
use crate::test::{Direction, Engine, MAX_INTERVALS, Shape, Test, Transport};
use crate::transport::connections::{Connections, Door};
use crate::transport::socket::SocketFlow;
use crate::workload::crr::{Acceptor, Caller};
use crate::workload::outlet::ZeroCopy;
use crate::workload::pace::Paced;
use crate::workload::rr::Sizes;
use crate::workload::schedule::Schedule;
use crate::workload::sequence::Datagrams;
use crate::workload::{Findings, Shared, Vitals};
use anyhow::Context;
use reports::measure::{self, Limit, Observer, Plan, Silent, Totals, Workload};
use reports::model::{Fact, Flag, Severity, Unavailable, Validity};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// What carried its data.
    pub transport: Transport,
    /// What the harness measured.
    pub totals: Totals,
    observed: Box<Observed>,
    /// Payload bytes of each flow, warm-up included.
    pub flow_bytes: Vec<u64>,
    buffer_bytes: Option<Fact<f64>>,
    max_segment_bytes: Option<Fact<f64>>,
    congestion_control: Option<Fact<String>>,
    datagrams: Option<Datagrams>,
    schedule: Option<Schedule>,
    zerocopy: Option<ZeroCopy>,
    /// How long each flow of an incast waited for its blocks, in nanoseconds, warm-up included.
    pub waits_ns: Vec<u64>,
}

/// A role of one end, with the connections and threads that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cast {
    role: Role,
    /// The part of the test in which it is played.
    part: usize,
    first: usize,
    flows: usize,
    threads: usize,
}

/// What one end plays. The client's roles stand in the same order as the server's counterparts, on
/// the same connections. What a client shows while it runs is the last of its roles: that of the
/// first part, a probe rather than what loads its way.
fn casts(parts: &[Test], end: End) -> Vec<Cast> {
    let mut first = 0;
    let of_part = |(part, test): (usize, &Test)| {
        let casts = casts_of(test, end, part, first);
        first += test.connections() as usize;
        casts
    };
    let mut casts: Vec<Vec<Cast>> = parts.iter().enumerate().map(of_part).collect();
    casts.reverse();
    casts.concat()
}

/// What one end plays in one part of a test, whose connections begin with `first`. The flows of a
/// second direction follow those of the first.
fn casts_of(test: &Test, end: End, part: usize, first: usize) -> Vec<Cast> {
    let flows = test.flows as usize;
    let cast = |role, first| Cast {
        role,
        part,
        first,
        flows,
        threads: match (&test.shape, end) {
            // Who asks has all flows on one thread: it begins a round alone.
            (Shape::Incast { .. }, End::Client) => 1,
            _ => test.threads as usize,
        },
    };
    let (asking, forward, reverse) = match end {
        End::Client => (Role::Request, Role::Send, Role::Receive),
        End::Server => (Role::Respond, Role::Receive, Role::Send),
    };
    match test.shape {
        Shape::Stream { direction, .. } => match direction {
            Direction::Forward => vec![cast(forward, first)],
            Direction::Reverse => vec![cast(reverse, first)],
            Direction::Bidirectional => vec![cast(forward, first), cast(reverse, first + flows)],
        },
        _ => vec![cast(asking, first)],
    }
}

/// The CPU of each thread of one end, `None` where the scheduler decides: those of its first role,
/// then those of the others.
///
/// # Errors
/// A CPU that cannot be used, or a flow whose receive queue nobody knows; on which side.
pub fn seats(test: &Test, end: End, connections: &Connections) -> anyhow::Result<Vec<Option<u32>>> {
    let (pin, option) = match end {
        End::Client => (&test.placement.client, "--pin"),
        End::Server => (&test.placement.server, "--server-pin (or --pin)"),
    };
    let place = || -> Result<Vec<Option<u32>>, PinError> {
        match (test.has_door(), end, pin) {
            // Its connections are not there yet, and come in wherever the kernel likes.
            (true, End::Client, Pin::RxQueue { .. }) => Ok(vec![None; test.threads as usize]),
            (true, _, _) => pin.place_at_door(test.threads as usize),
            (false, _, _) => {
                let casts = casts(&test.parts(), end);
                // A thread's first flow speaks for it.
                let flows = casts.iter().flat_map(|cast| {
                    let own = connections.flows.iter().skip(cast.first);
                    own.take(cast.threads).map(SocketFlow::socket)
                });
                pin.place(&flows.collect::<Vec<_>>())
            }
        }
    };
    place().with_context(|| format!("{option} {pin}"))
}

/// Plays all roles of one end and returns what came of each. `seats` are its threads' CPUs,
/// `vitals` show how it goes. When a role
/// fails, the connections of all are cut, so that nobody waits for a peer that has given up.
///
/// Client and server both pass here with all their flows, before the first and after the last byte:
/// what is read of sockets and devices before and after a test is read here.
///
/// # Errors
/// The first error of any role.
pub fn run(
    test: &Test,
    end: End,
    connections: &Connections,
    seats: &[Option<u32>],
    vitals: &Arc<Vitals>,
    observer: &dyn Observer,
) -> anyhow::Result<Vec<Part>> {
    let mut taken = 0;
    let parts = test.parts();
    let casts: Vec<(Cast, usize)> = casts(&parts, end)
        .into_iter()
        .map(|cast| {
            let first_seat = taken;
            taken += cast.threads;
            (cast, first_seat)
        })
        .collect();
    let starts = |(cast, _): &&(Cast, usize)| starts_traffic(cast.role);
    let starting = AtomicUsize::new(casts.iter().filter(starts).count());
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let play = |(cast, first_seat): (Cast, usize), observer: &dyn Observer| {
        let stage = Stage {
            test: &parts[cast.part],
            cast,
            flows: connections
                .flows
                .get(cast.first..cast.first + cast.flows)
                .unwrap_or_default(),
            door: connections.door.as_ref(),
            seats: seats
                .get(first_seat..first_seat + cast.threads)
                .unwrap_or_default(),
            shared: Shared::new(vitals, cast.first, cast.flows),
        };
        stage
            .play(observer)
            .inspect(|_| {
                // The side starts no more traffic when the last of those who do has ended.
                let starts = starts_traffic(cast.role);
                if starts && starting.fetch_sub(1, Ordering::Relaxed) == 1 {
                    vitals.end();
                }
            })
            .map_err(|error| {
                // Only the first error is the cause; the others follow from the cut.
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
                connections.cut();
            })
            .ok()
    };
    let play = &play;
    let parts: Vec<Option<Part>> = thread::scope(|scope| {
        let (last, others) = casts.split_last().expect("every test has a role");
        let spawn = |&cast| scope.spawn(move || play(cast, &Silent));
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

/// What one role has to play with.
struct Stage<'a> {
    test: &'a Test,
    cast: Cast,
    flows: &'a [SocketFlow],
    door: Option<&'a Door>,
    seats: &'a [Option<u32>],
    shared: Shared,
}

impl Stage<'_> {
    fn play(&self, observer: &dyn Observer) -> anyhow::Result<Part> {
        let (test, role) = (self.test, self.cast.role);
        // Connections that come and go have no sizes of their own to show.
        let first = self.flows.first();
        let of_tcp = first.filter(|_| test.transport == Transport::Tcp);
        let max_segment_bytes = of_tcp.map(SocketFlow::max_segment_bytes);
        let plan = plan(test, role, self.cast.threads);
        let sockets = self.flows.iter().map(|flow| flow.socket().as_fd());
        let watch = Watch::start(sockets.collect(), observer);
        self.check_pacing(&watch)?;
        let mut totals = measure::run(&plan, &watch, |thread| self.seated(thread))?;
        let interrupted = self.shared.stopped() || is_interrupted(&totals.validity);
        if role == Role::Receive && totals.work.bytes == 0 && !interrupted {
            anyhow::bail!(
                "the stream ended during the receiver's warm-up of {} s: measure longer, or omit \
                 less",
                test.omit_s
            );
        }
        flag_request_to_stop(&mut totals.validity, &self.shared);
        let findings = self.shared.findings();
        flag_findings(&mut totals.validity, &findings);
        let mut observed = Box::new(watch.finish(&mut totals));
        observed.ring = findings.ring;
        observed.thread_cpus = self.thread_cpus();
        observed.pace = self.pace(&totals);
        observed.listener_cpus = match self.door {
            Some(Door::Listener { cpus, .. }) => cpus.clone(),
            _ => Vec::new(),
        };
        Ok(Part {
            role,
            transport: test.transport,
            totals,
            observed,
            flow_bytes: self.shared.flow_bytes(),
            buffer_bytes: first.map(|flow| match role {
                Role::Request | Role::Send => flow.send_buffer_bytes(),
                Role::Respond | Role::Receive => flow.receive_buffer_bytes(),
            }),
            max_segment_bytes,
            congestion_control: of_tcp.map(SocketFlow::congestion_control),
            datagrams: findings.datagrams,
            schedule: findings.schedule,
            zerocopy: findings.zerocopy,
            waits_ns: findings.waits_ns,
        })
    }

    /// Refuses to send datagrams at a rate that nothing would hold them to.
    fn check_pacing(&self, watch: &Watch<'_>) -> anyhow::Result<()> {
        let datagrams = self.test.transport == Transport::Udp && self.cast.role != Role::Receive;
        let timed = self.cast.role == Role::Send && self.test.engine == Engine::Txtime;
        let option = match self.test.socket.pacing_bytes_per_s {
            _ if timed => "--engine txtime".to_owned(),
            Some(rate) if datagrams => format!("--fq-rate {rate}"),
            _ => return Ok(()),
        };
        let paced = watch.paces_datagrams();
        paced.map_err(|reason| Unavailable(format!("{option}: {reason}")).into())
    }

    /// The work of one thread, on its CPU.
    fn seated(&self, thread: usize) -> anyhow::Result<Box<dyn Workload + Send>> {
        let work = self.workload(thread)?;
        Ok(match self.seats.get(thread).copied().flatten() {
            Some(cpu) => Box::new(Pinned::new(work, cpu)),
            None => work,
        })
    }

    /// What a sender was to keep to: a schedule, or what fq paces its datagrams to, which is there
    /// (`check_pacing`). TCP tells itself what it is paced to.
    fn pace(&self, totals: &Totals) -> Option<Pace> {
        if self.cast.role != Role::Send {
            return None;
        }
        if let Some(arrival) = self.test.stream_arrival() {
            let due = arrival.rate_per_s * totals.elapsed_s;
            return Some(Pace {
                bytes_per_s: arrival.rate_per_s * self.length() as f64,
                kept: totals.work.ops as f64 >= KEPT * due,
            });
        }
        let rate = self.test.socket.pacing_bytes_per_s;
        let rate = rate.filter(|_| self.test.transport == Transport::Udp)?;
        let bytes_per_s = rate as f64 * f64::from(self.test.flows);
        // The discipline counts headers as well; where they are much of it, nobody can tell.
        let sent = totals.work.bytes as f64 / totals.elapsed_s;
        Some(Pace {
            bytes_per_s,
            kept: sent >= NEAR_RATE * bytes_per_s,
        })
    }

    /// Bytes per send of a stream; 0 where there is none.
    fn length(&self) -> usize {
        match self.test.shape {
            Shape::Stream { length_bytes, .. } => length_bytes as usize,
            _ => 0,
        }
    }

    /// Where the threads ran; each has proven it at its end.
    fn thread_cpus(&self) -> Fact<Vec<u32>> {
        let cpus: Option<Vec<u32>> = self.seats.iter().copied().collect();
        match (cpus, self.door) {
            (Some(cpus), _) => Fact::Known(cpus),
            (None, Some(Door::Server(_))) if self.test.placement.client != Pin::None => {
                Fact::unavailable(
                    "the scheduler chose: connections that come and go have no receive queue that \
                     is known before them",
                )
            }
            (None, _) => Fact::unavailable("the scheduler chose: the threads were not pinned"),
        }
    }

    /// The work of one thread: one flow in so many is its own.
    fn workload(&self, thread: usize) -> anyhow::Result<Box<dyn Workload + Send>> {
        let (test, role) = (self.test, self.cast.role);
        let sizes = Sizes::of(test);
        if let Some(door) = self.door {
            let shared = self.shared.clone();
            let seat = self.seats.get(thread).copied().flatten();
            return Ok(match door {
                Door::Server(server) => {
                    Box::new(Caller::new(test, server.clone(), thread, sizes, shared))
                }
                Door::Listener { .. } => {
                    Box::new(Acceptor::new(test, door, (thread, seat), sizes, shared)?)
                }
            });
        }
        let own = self.flows.iter().cloned().enumerate();
        let own = own.skip(thread).step_by(self.cast.threads).collect();
        let length = self.length();
        self.paced(own, |own| {
            work::workload(test, role, own, sizes, length, &self.shared)
        })
    }

    /// The work on these flows, held to the test's schedule where it is one of streams.
    fn paced(
        &self,
        flows: Vec<(usize, SocketFlow)>,
        work: impl FnOnce(Vec<(usize, SocketFlow)>) -> anyhow::Result<Box<dyn Workload + Send>>,
    ) -> anyhow::Result<Box<dyn Workload + Send>> {
        let (Role::Send, Some(arrival)) = (self.cast.role, self.test.stream_arrival()) else {
            return work(flows);
        };
        let first = flows.first().map_or(0, |(index, _)| *index);
        let share = (first, flows.len(), self.test.flows);
        let paced = Paced::new(work(flows)?, arrival, share, self.shared.clone());
        Ok(Box::new(paced))
    }
}

/// A sender that was asked to stop, and a receiver that saw it stop, end in good order; the harness
/// does not know that it was before their time.
pub(crate) fn flag_request_to_stop(validity: &mut Validity, shared: &Shared) {
    if shared.stopped() && !is_interrupted(validity) {
        let evidence = "a side was told to stop and ended the measured window before its time";
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
    if let Some(tally) = findings.zerocopy
        && tally.copied > 0
    {
        let evidence = format!(
            "the kernel copied {} of {} sends without a copy all the same; over loopback and \
             veth it always does",
            tally.copied, tally.sends
        );
        validity.flag(Severity::Info, "zerocopy_copied", evidence);
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

/// Whether the harness saw that a signal ended the window.
fn is_interrupted(validity: &Validity) -> bool {
    validity.flags.iter().any(|flag| flag.code == INTERRUPTED)
}

/// Share of what was due from which a schedule counts as kept: a window's ends cut a batch off.
const KEPT: f64 = 0.99;

/// The code of the flag that the harness, too, gives a window that a signal ended.
pub(crate) const INTERRUPTED: &str = "interrupted";

/// How long a role works: who starts the traffic ends it; the other end follows.
pub fn plan(test: &Test, role: Role, threads: usize) -> Plan {
    let warmup = Duration::from_secs_f64(test.omit_s);
    let run = match (starts_traffic(role), test.operations) {
        (false, _) => Limit::UntilDone,
        (true, Some(operations)) => Limit::Ops(operations),
        (true, None) => Limit::Duration(Duration::from_secs_f64(test.duration_s)),
    };
    Plan {
        threads,
        ramp: Duration::ZERO,
        warmup: Limit::Duration(warmup),
        run,
        interval: Duration::from_secs_f64(test.interval_s),
        slice_histograms: false,
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
            observed: Some(self.observed.clone()),
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
            zerocopy: self.zerocopy,
            way: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{Probe, example};

    fn test(shape: Shape) -> Test {
        Test {
            shape,
            flows: 3,
            threads: 1,
            ..example()
        }
    }

    #[test]
    fn only_an_interruption_explains_an_empty_window() {
        let mut validity = Validity::default();
        validity.flag(Severity::Degraded, "cpu_steal", "a busy machine");
        assert!(!is_interrupted(&validity));
        validity.flag(Severity::Invalid, INTERRUPTED, "a signal");
        assert!(is_interrupted(&validity));
    }

    #[test]
    fn the_two_ends_play_opposite_roles_on_the_same_flows() {
        for direction in [
            Direction::Forward,
            Direction::Reverse,
            Direction::Bidirectional,
        ] {
            let stream = Shape::Stream {
                length_bytes: 1,
                direction,
            };
            let under_load = Shape::UnderLoad {
                probe: Probe {
                    transport: Transport::Udp,
                    request_bytes: 1,
                    response_bytes: 1,
                    arrival: None,
                },
                length_bytes: 1,
                direction,
            };
            for shape in [stream, under_load] {
                let test = test(shape);
                let parts = test.parts();
                let (client, server) = (casts(&parts, End::Client), casts(&parts, End::Server));
                let flows: usize = client.iter().map(|cast| cast.flows).sum();
                assert_eq!(flows, test.connections() as usize);
                for (ours, theirs) in client.iter().zip(&server) {
                    assert_eq!((ours.first, ours.flows), (theirs.first, theirs.flows));
                    assert_eq!(ours.role.counterpart(), theirs.role);
                }
            }
        }
    }
}
