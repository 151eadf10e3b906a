//! `pairmatrix`: bandwidth and latency between every two nodes, and who of them is slow.
//!
//! Pairs meet in a tournament, so that no node has two partners at a time, and within a round one
//! direction follows the other, so that a node that sends slowly is not taken for one that receives
//! slowly. A scheme in which everybody sends to one neighbour and receives from another at a time
//! (mpiGraph) blames the neighbours as well.

use super::{Frame, Numbers, c_rank, poison};
use crate::driver::Driver;
use crate::kernel::damage;
use crate::kernels::Row;
use crate::memory::Buffer;
use crate::pattern::Stamp;
use crate::spec::Point;
use crate::sys::Window;
use crate::world::World;
use mpi::topology::Process;
use mpi::traits::{Communicator, Destination, Source};
use reports::matrix::blame::Cell;
use reports::matrix::pairs::{Cells, Pairs};
use reports::matrix::tournament::{self, Round};
use reports::measure::{Clock, Ticks};
use reports::model::{Flag, MatrixNode, Measurement, Severity, Unavailable, Work};
use reports::stats;
use serde_json::{Map, Value, json};
use std::time::Duration;

const TAG: i32 = 11;
const GO_TAG: i32 = 12;
const PING_TAG: i32 = 13;
const ROW_TAG: i32 = 14;

/// Bytes of a ping and of a pong.
const PING_BYTES: usize = 8;

/// Messages that a rank holds: one to send, one to receive.
#[must_use]
pub fn memory(point: &Point) -> u64 {
    2 * point.size() as u64
}

/// Measures all pairs.
///
/// # Errors
/// Fewer than two parties, a damaged message, or an interruption before any pair was measured.
pub fn run(driver: &mut Driver<'_>, _: &Row, point: &Point) -> anyhow::Result<Option<Measurement>> {
    let world = driver.world();
    let parties = Parties::of(world, point.word("per"));
    let rounds = tournament::rounds(parties.ranks.len());
    anyhow::ensure!(
        parties.ranks.len() > 1,
        Unavailable(format!(
            "all ranks are on {}: it takes two nodes, or --per rank",
            world.nodes()[0].name()
        ))
    );
    let mut player = world.agree(Player::new(world, &parties, point))?;
    let frame = Frame::open(world);
    let limit = TimeLimit::of(point);
    let mut late = false;
    for _ in 0..point.count("passes") {
        let mut fault = Ok(());
        for half in rounds
            .iter()
            .flat_map(|round| [(round, false), (round, true)])
        {
            late = limit.passed(world);
            if driver.stop() || late {
                break;
            }
            let visit = player.visit_of(half);
            fault = fault.and(player.greet(visit));
            // Nobody begins to load the network before all have measured their latency.
            driver.stop();
            fault = fault.and(player.stream(visit));
        }
        world.agree(fault)?;
        if driver.interrupted() || late {
            break;
        }
    }
    let verified = "messages of pairs compared byte by byte: the first and the last of each visit";
    let rows = player.gather();
    let done = Done {
        messages: world.sum(player.messages),
        visits_cut: world.sum(player.visits_cut),
        halves: player.visits,
        planned_halves: 2 * rounds.len() as u64 * point.count("passes"),
    };
    frame.close(driver, player.checks, verified, || {
        numbers(&parties, &rows, &done, point)
    })
}

/// When no further round is begun.
struct TimeLimit {
    clock: Clock,
    ends: Ticks,
}

impl TimeLimit {
    fn of(point: &Point) -> Self {
        let clock = Clock::get();
        let length = Duration::from_secs(point.count("time_limit"));
        let ends = clock.now() + clock.ticks(length);
        Self { clock, ends }
    }

    /// Whether it has come for some rank; all of them know the same.
    fn passed(&self, world: &World) -> bool {
        let [passed] = world.max([u64::from(self.clock.now() > self.ends)]);
        passed > 0
    }
}

/// What became of the tournament.
struct Done {
    /// Timed messages.
    messages: u64,
    /// Visits that timed fewer messages than were asked for.
    visits_cut: u64,
    /// Halves of rounds, and how many there were to be.
    halves: u64,
    planned_halves: u64,
}

/// How the windows of a visit fit into its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    messages: usize,
    warmup: u64,
    timed: u64,
}

impl Plan {
    /// As asked for, or if a message takes too long for that: smaller windows, because several of them
    /// make an interval, and then fewer; one message at least.
    fn of(point: &Point, one_ns: u64) -> Self {
        let (warmup, timed) = (point.warmup, point.iterations);
        let asked = point.window.unwrap_or(1);
        let time_ns = 1_000_000 * point.count("visit_ms");
        let fit = time_ns / one_ns.max(1);
        let windows = warmup + timed;
        if fit >= windows.saturating_mul(asked as u64) {
            return Self {
                messages: asked,
                warmup,
                timed,
            };
        }
        // Less than what was asked for, which is a window's length.
        let messages = (fit / windows).max(1) as usize;
        let windows = (fit / messages as u64).clamp(1, windows);
        let timed = windows.saturating_sub(warmup).max(1);
        Self {
            messages,
            warmup: windows - timed,
            timed,
        }
    }

    /// Whether fewer messages are timed than were asked for.
    fn is_cut(&self, point: &Point) -> bool {
        (self.messages, self.timed) != (point.window.unwrap_or(1), point.iterations)
    }
}

/// Who takes part.
struct Parties {
    /// `node` or `rank`.
    per: &'static str,
    ranks: Vec<usize>,
    nodes: Vec<MatrixNode>,
}

impl Parties {
    /// One rank of each node, or all ranks; as asked, or by whether there are several nodes.
    fn of(world: &World, asked: &str) -> Self {
        let several = world.nodes().len() > 1;
        let (per, ranks): (_, Vec<usize>) = match asked {
            "rank" => ("rank", (0..world.ranks()).collect()),
            "auto" if !several => ("rank", (0..world.ranks()).collect()),
            _ => (
                "node",
                world.nodes().iter().map(|node| node.leader()).collect(),
            ),
        };
        let name = |&rank: &usize| {
            let node = world.node_of(rank);
            let host = world.nodes().iter().position(|other| other == node);
            MatrixNode {
                name: match per {
                    "node" => node.name().to_owned(),
                    _ => format!("{} rank {rank}", node.name()),
                },
                // A rank's node is one of the world's, and there are no more nodes than ranks.
                host: host.unwrap_or(0) as u32,
            }
        };
        let nodes = ranks.iter().map(name).collect();
        Self { per, ranks, nodes }
    }
}

/// What a party does in half a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    SendTo(usize),
    ReceiveFrom(usize),
    Bye,
}

/// The times of what one party sent to this one.
#[derive(Debug, Clone, Default)]
struct Samples {
    bandwidth: Vec<f64>,
    latency_ns: Vec<f64>,
}

/// One rank's part.
struct Player<'w> {
    world: &'w World,
    ranks: Vec<usize>,
    /// This rank's number among the parties, if it is one.
    party: Option<usize>,
    point: &'w Point,
    clock: Clock,
    out: Buffer<u8>,
    into: Buffer<u8>,
    /// By the sending party.
    samples: Vec<Samples>,
    visits: u64,
    checks: u64,
    messages: u64,
    visits_cut: u64,
}

impl<'w> Player<'w> {
    fn new(world: &'w World, parties: &Parties, point: &'w Point) -> anyhow::Result<Self> {
        let party = parties.ranks.iter().position(|&rank| rank == world.rank());
        let size = if party.is_some() { point.size() } else { 0 };
        let timed = point.count("passes") * point.iterations;
        let pings = point.count("passes") * point.count("pings");
        let empty = || Samples {
            // Made here, because nothing in the timed loops allocates.
            bandwidth: Vec::with_capacity(timed as usize),
            latency_ns: Vec::with_capacity(pings as usize),
        };
        let others = if party.is_some() {
            parties.ranks.len()
        } else {
            0
        };
        Ok(Self {
            world,
            ranks: parties.ranks.clone(),
            party,
            point,
            clock: Clock::get(),
            out: Buffer::filled(size, 0)?,
            into: Buffer::filled(size, 0)?,
            samples: (0..others).map(|_| empty()).collect(),
            visits: 0,
            checks: 0,
            messages: 0,
            visits_cut: 0,
        })
    }

    /// What this rank does in a round: in its first half the lower of a pair sends.
    fn visit_of(&mut self, (round, second): (&Round, bool)) -> Visit {
        self.visits += 1;
        let Some((party, other)) = self.party.and_then(|party| Some((party, round[party]?))) else {
            return Visit::Bye;
        };
        if (party < other) != second {
            Visit::SendTo(other)
        } else {
            Visit::ReceiveFrom(other)
        }
    }

    fn process(&self, party: usize) -> Process<'w> {
        self.world.comm().process_at_rank(c_rank(self.ranks[party]))
    }

    fn stamp(&self, sender: usize, last: bool) -> Stamp {
        Stamp {
            sender: self.ranks[sender],
            iteration: 2 * self.visits + u64::from(last),
            size: self.point.size(),
        }
    }

    /// The first message of a visit, compared in full, and the latency: half round trips, begun
    /// and timed by the receiver of what follows.
    fn greet(&mut self, visit: Visit) -> anyhow::Result<()> {
        let pings = self.point.count("pings");
        let mut ping = [0u8; PING_BYTES];
        match visit {
            Visit::Bye => Ok(()),
            Visit::SendTo(to) => {
                let peer = self.process(to);
                // Only parties have a visit that is no bye.
                let own = self.party.unwrap_or(0);
                self.stamp(own, false).fill(&mut self.out);
                peer.send_with_tag(&self.out[..], TAG);
                self.stamp(own, true).fill(&mut self.out);
                for _ in 0..=pings {
                    peer.receive_into_with_tag(&mut ping[..], PING_TAG);
                    peer.send_with_tag(&ping[..], PING_TAG);
                }
                Ok(())
            }
            Visit::ReceiveFrom(from) => {
                let peer = self.process(from);
                let first = self.stamp(from, false);
                poison(first, &mut self.into);
                peer.receive_into_with_tag(&mut self.into[..], TAG);
                if self.point.spoil {
                    damage(&mut self.into);
                }
                let fault = first.check(&self.into);
                self.checks += 1;
                poison(self.stamp(from, true), &mut self.into);
                let samples = &mut self.samples[from].latency_ns;
                let mut last = self.clock.now();
                for number in 0..=pings {
                    let sent = number.to_le_bytes();
                    peer.send_with_tag(&sent[..], PING_TAG);
                    peer.receive_into_with_tag(&mut ping[..], PING_TAG);
                    let now = self.clock.now();
                    // The first is not timed: the sender may still be on its way here.
                    if number > 0 {
                        samples.push(self.clock.ns(now.saturating_sub(last)) as f64 / 2.0);
                    }
                    last = now;
                }
                anyhow::ensure!(
                    u64::from_le_bytes(ping) == pings,
                    "the last ping came back as another"
                );
                fault
            }
        }
    }

    /// The windows of a visit, timed by the receiver, and the last message compared in full. The
    /// receiver says how many messages it wants next; none ends the visit.
    fn stream(&mut self, visit: Visit) -> anyhow::Result<()> {
        match visit {
            Visit::Bye => Ok(()),
            Visit::SendTo(to) => {
                let peer = self.process(to);
                let mut window = self.window(to);
                let mut wanted = [0u8; 4];
                loop {
                    peer.receive_into_with_tag(&mut wanted[..], GO_TAG);
                    match u32::from_le_bytes(wanted) {
                        0 => return Ok(()),
                        messages => window.use_places(messages as usize),
                    }
                    window.send(&self.out)?;
                }
            }
            Visit::ReceiveFrom(from) => {
                let mut window = self.window(from);
                // What a single one takes tells how many there is time for.
                let one_ns = self.receive(&mut window, from, 1)?;
                let plan = Plan::of(self.point, one_ns);
                for number in 0..plan.warmup + plan.timed {
                    let ns = self.receive(&mut window, from, plan.messages)?;
                    if number >= plan.warmup {
                        let bytes = (self.point.size() * plan.messages) as f64;
                        let rate = bytes * 1e9 / ns.max(1) as f64;
                        self.samples[from].bandwidth.push(rate);
                    }
                }
                let enough = 0u32.to_le_bytes();
                self.process(from).send_with_tag(&enough[..], GO_TAG);
                self.messages += plan.timed * plan.messages as u64;
                self.visits_cut += u64::from(plan.is_cut(self.point));
                self.checks += 1;
                self.stamp(from, true).check(&self.into)
            }
        }
    }

    /// Asks for a window of so many messages, and returns how long it took.
    #[inline]
    fn receive(
        &mut self,
        window: &mut Window,
        from: usize,
        messages: usize,
    ) -> anyhow::Result<u64> {
        window.use_places(messages);
        // At most spec::MAX_WINDOW.
        let wanted = (messages as u32).to_le_bytes();
        let began = self.clock.now();
        self.process(from).send_with_tag(&wanted[..], GO_TAG);
        window.receive(&mut self.into)?;
        Ok(self.clock.ns(self.clock.now().saturating_sub(began)))
    }

    fn window(&self, party: usize) -> Window {
        let peer = c_rank(self.ranks[party]);
        let messages = self.point.window.unwrap_or(1);
        Window::new(self.world.comm(), peer, TAG, messages)
    }

    /// What every party received, on rank 0, by receiver and sender; nothing elsewhere.
    fn gather(&self) -> Vec<Vec<PairCells>> {
        let own: Vec<f64> = self.samples.iter().flat_map(summary).collect();
        if self.party.is_none() {
            return Vec::new();
        }
        if !self.world.is_root() {
            let root = self.world.comm().process_at_rank(0);
            root.send_with_tag(&own[..], ROW_TAG);
            return Vec::new();
        }
        // Rank 0 leads the first node, so it is the first party.
        let mut rows = vec![own.clone()];
        for party in 1..self.ranks.len() {
            let mut row = vec![0.0; own.len()];
            self.process(party)
                .receive_into_with_tag(&mut row[..], ROW_TAG);
            rows.push(row);
        }
        rows.iter()
            .map(|row| row.chunks_exact(NUMBERS).map(PairCells::read).collect())
            .collect()
    }
}

/// Numbers of a pair on their way: median and interval of bandwidth and of latency.
const NUMBERS: usize = 6;

fn summary(samples: &Samples) -> [f64; NUMBERS] {
    let of = |values: &[f64]| match stats::median(values) {
        None => [f64::NAN; 3],
        Some(median) => match stats::median_interval(values) {
            Some(interval) => [median, interval.low, interval.high],
            None => [median; 3],
        },
    };
    let ([a, b, c], [d, e, f]) = (of(&samples.bandwidth), of(&samples.latency_ns));
    [a, b, c, d, e, f]
}

/// What was measured of one pair in one direction.
#[derive(Debug, Clone, Copy)]
struct PairCells {
    bandwidth: Option<Cell>,
    latency_ns: Option<Cell>,
}

impl PairCells {
    fn read(numbers: &[f64]) -> Self {
        let cell = |numbers: &[f64]| {
            numbers[0].is_finite().then_some(Cell {
                median: numbers[0],
                low: numbers[1],
                high: numbers[2],
            })
        };
        Self {
            bandwidth: cell(&numbers[..3]),
            latency_ns: cell(&numbers[3..]),
        }
    }
}

/// `cells[from][to]` of one of the two metrics.
fn by_sender(rows: &[Vec<PairCells>], of: fn(&PairCells) -> Option<Cell>) -> Cells {
    (0..rows.len())
        .map(|from| rows.iter().map(|row| of(&row[from])).collect())
        .collect()
}

fn numbers(
    parties: &Parties,
    rows: &[Vec<PairCells>],
    done: &Done,
    point: &Point,
) -> anyhow::Result<Numbers> {
    let pairs = Pairs {
        nodes: &parties.nodes,
        bandwidths: by_sender(rows, |pair| pair.bandwidth),
        latencies: by_sender(rows, |pair| pair.latency_ns),
    };
    anyhow::ensure!(
        pairs.bandwidths.iter().flatten().any(Option::is_some),
        "no pair was measured before the end: a signal, or --time-limit"
    );
    let (mut flags, findings) = pairs.found();
    if done.halves < done.planned_halves {
        flags.push(Flag {
            code: "time_limit".to_owned(),
            severity: Severity::Degraded,
            evidence: format!(
                "{} of {} half rounds were held when --time-limit {} had passed",
                done.halves,
                done.planned_halves,
                point.count("time_limit")
            ),
        });
    }
    let facts: Map<String, Value> = [
        ("pairs_of", json!(parties.per)),
        ("parties", json!(parties.ranks.len())),
        ("visits_cut", json!(done.visits_cut)),
        ("findings", findings),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    Ok(Numbers {
        work: Work {
            ops: done.messages,
            bytes: done.messages * point.size() as u64,
        },
        metrics: pairs.metrics(),
        matrices: pairs.matrices(),
        facts,
        flags,
        ..Numbers::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_pair_gets_smaller_windows_and_then_fewer() {
        let point = Point {
            size_bytes: Some(1 << 20),
            choices: Map::from_iter([("visit_ms".to_owned(), json!(100))]),
            iterations: 5,
            warmup: 1,
            window: Some(8),
            synchronisation: None,
            clock: None,
            time_budget_s: None,
            ci_width: None,
            delay: None,
            spoil: false,
            ranks: 4,
            nodes: 4,
        };
        let plan = |ms: f64| Plan::of(&point, (ms * 1e6) as u64);
        let of = |messages, warmup, timed| Plan {
            messages,
            warmup,
            timed,
        };
        assert_eq!(plan(0.0), of(8, 1, 5));
        assert_eq!(plan(100.0 / 48.0), of(8, 1, 5));
        assert_eq!(plan(3.0), of(5, 1, 5));
        assert_eq!(plan(16.0), of(1, 1, 5));
        assert_eq!(plan(30.0), of(1, 1, 2));
        assert_eq!(plan(60.0), of(1, 0, 1));
        assert_eq!(plan(1e6), of(1, 0, 1));
        assert!(!plan(1.0).is_cut(&point) && plan(3.0).is_cut(&point));
    }
}
