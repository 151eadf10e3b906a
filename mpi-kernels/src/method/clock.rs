//! One clock for all ranks: HCA3 (Hunold and Carpen-Amarie, "Hierarchical Clock Synchronization in
//! MPI", CLUSTER 2018).
//!
//! Ranks that read the same clock form a domain: those of one node, as far as they are in one time
//! namespace where the kernel's clock is used. The lowest rank of each leads it. The leaders learn
//! the clock of rank 0 along a binomial tree in O(log p) steps, each from one whose clock is global
//! already, and hand what they learned to their domain. What is learned is a linear model,
//! global = t − (t · slope + intercept), fitted by least squares to offsets measured in the manner
//! of SKaMPI: of N ping-pongs, the middle between the largest lower and the smallest upper bound.
//!
//! Unlike in HCA3, offsets whose bounds are more than twice as wide as the tightest are left out of
//! the fit (a rank lost its CPU meanwhile), and offsets of earlier synchronisations stay in it for
//! ten seconds: the longer base makes the slope more certain.

use crate::spec::ClockKind;
use crate::world::World;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};
use reports::measure::{Clock, Ticks};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;
use std::{fs, thread};

const TAG: i32 = 702;

/// Ping-pongs of one offset.
const PING_PONGS: usize = 10;

/// Offsets of the first synchronisation, and how far apart they begin: the slope needs a base of
/// 100 ms.
const FIRST_OFFSETS: usize = 50;
const FIRST_SPACING: Duration = Duration::from_millis(2);

/// Offsets of each further one.
const LATER_OFFSETS: usize = 10;

/// Offsets older than this are forgotten: clocks are linear for some ten seconds.
const MEMORY_NS: f64 = 1e10;

/// Over a shorter base no slope is fitted: it would be noise.
const LEAST_BASE_NS: f64 = 1e7;

/// From one rank's ticks to the clock of all ranks, in nanoseconds of rank 0's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    origin: Ticks,
    global_ns: i64,
    ns_per_tick: f64,
}

impl Model {
    /// A moment of this rank on the clock of all.
    #[inline(always)]
    #[must_use]
    pub fn global_ns(&self, ticks: Ticks) -> i64 {
        // Half of all ticks are 150 years.
        let since = ticks.wrapping_sub(self.origin) as i64;
        self.global_ns + (since as f64 * self.ns_per_tick).round() as i64
    }

    /// A moment of the clock of all in this rank's ticks.
    #[inline(always)]
    #[must_use]
    pub fn ticks(&self, global_ns: i64) -> Ticks {
        let since = (global_ns - self.global_ns) as f64 / self.ns_per_tick;
        self.origin.wrapping_add_signed(since.round() as i64)
    }

    /// Rank 0's: its clock is the clock of all.
    fn of_reference(clock: Clock) -> Self {
        let origin = clock.now();
        Self {
            origin,
            global_ns: ns(clock, origin),
            ns_per_tick: clock.ns_per_tick(),
        }
    }

    fn to_words(self) -> [u64; 3] {
        let global = self.global_ns.cast_unsigned();
        [self.origin, global, self.ns_per_tick.to_bits()]
    }

    fn from_words([origin, global, rate]: [u64; 3]) -> Self {
        Self {
            origin,
            global_ns: global.cast_signed(),
            ns_per_tick: f64::from_bits(rate),
        }
    }
}

/// A moment in nanoseconds of the rank's own clock.
fn ns(clock: Clock, ticks: Ticks) -> i64 {
    // 292 years fit.
    clock.ns(ticks).cast_signed()
}

/// One offset as SKaMPI measures it.
#[derive(Debug, Clone, Copy)]
struct Offset {
    /// When, in the learner's ticks.
    at: Ticks,
    /// The learner's clock less the global one.
    ns: i64,
    /// How far the bounds are apart: the offset is off by half of it at most.
    width_ns: i64,
    /// The shortest round trip among the ping-pongs.
    round_trip_ns: i64,
}

/// Offsets as a line: `ns` at `origin`, growing by `slope` per nanosecond.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    origin: Ticks,
    ns: i64,
    slope: f64,
    residual_ns: f64,
}

impl Line {
    /// Least squares through the offsets whose bounds are tight. `None` of no offsets.
    fn through(offsets: &[Offset], ns_per_tick: f64) -> Option<Self> {
        let tightest = offsets.iter().map(|offset| offset.width_ns).min()?;
        let first = offsets.first()?;
        // Relative to the first, the numbers are small enough for f64.
        let points: Vec<(f64, f64)> = offsets
            .iter()
            .filter(|offset| offset.width_ns <= 2 * tightest.max(1))
            .map(|offset| {
                let since = offset.at.wrapping_sub(first.at).cast_signed();
                (since as f64 * ns_per_tick, (offset.ns - first.ns) as f64)
            })
            .collect();
        let n = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
        let sum_xx: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let sum_xy: f64 = points
            .iter()
            .map(|(x, y)| (x - mean_x) * (y - mean_y))
            .sum();
        let xs = points.iter().map(|(x, _)| *x);
        let base = xs.clone().fold(f64::MIN, f64::max) - xs.fold(f64::MAX, f64::min);
        let slope = if base < LEAST_BASE_NS {
            0.0
        } else {
            sum_xy / sum_xx
        };
        let off = |(x, y): &(f64, f64)| (y - mean_y - slope * (x - mean_x)).powi(2);
        let since = (mean_x / ns_per_tick).round() as i64;
        Some(Self {
            origin: first.at.wrapping_add_signed(since),
            ns: first.ns + mean_y.round() as i64,
            slope,
            residual_ns: (points.iter().map(off).sum::<f64>() / n).sqrt(),
        })
    }

    fn model(&self, clock: Clock) -> Model {
        Model {
            origin: self.origin,
            global_ns: ns(clock, self.origin) - self.ns,
            ns_per_tick: clock.ns_per_tick() * (1.0 - self.slope),
        }
    }
}

/// What a leader's clock was against rank 0's.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeClock {
    /// The leader.
    pub rank: usize,
    /// Its clock less rank 0's, in nanoseconds.
    pub offset_ns: i64,
    /// How much faster its clock runs, as a share.
    pub slope: f64,
    /// How far the measured offsets lie from the model, as a root mean square.
    pub residual_ns: f64,
    /// The shortest round trip to whom it learned from.
    pub round_trip_ns: i64,
    /// How old the model was when it was checked against rank 0.
    pub age_s: f64,
    /// What it said then less what rank 0 said.
    pub error_ns: i64,
}

impl NodeClock {
    /// Whether the model was off by more than the measurement leaves open.
    #[must_use]
    pub fn has_drifted(&self) -> bool {
        2 * self.error_ns.abs() > self.round_trip_ns
    }

    /// For the report.
    #[must_use]
    pub fn fact(&self, world: &World) -> Value {
        json!({
            "rank": self.rank,
            "host": world.node_of(self.rank).name(),
            "offset_ns": self.offset_ns,
            "slope_ppm": (self.slope * 1e9).round() / 1e3,
            "residual_ns": self.residual_ns.round(),
            "min_round_trip_ns": self.round_trip_ns,
            "age_s": (self.age_s * 1e3).round() / 1e3,
            "clock_error_ns": self.error_ns,
        })
    }
}

/// The clocks of all ranks, seen from one of them.
pub struct Clocks<'w> {
    world: &'w World,
    clock: Clock,
    /// The leader of each rank's domain.
    leader_of: Vec<usize>,
    /// The leaders, in order; the first is rank 0.
    leaders: Vec<usize>,
    offsets: Vec<Offset>,
    line: Option<Line>,
    model: Option<Model>,
}

impl<'w> Clocks<'w> {
    /// Finds out who reads the same clock. All ranks call it.
    #[must_use]
    pub fn new(world: &'w World) -> Self {
        let clock = Clock::get();
        let own = [world.node_of(world.rank()).leader() as u64, domain(clock)];
        let mut all = vec![0u64; 2 * world.ranks()];
        world.comm().all_gather_into(&own[..], &mut all[..]);
        let keys: Vec<&[u64]> = all.chunks_exact(2).collect();
        let leader_of = leaders_by(&keys);
        let leads = |&rank: &usize| leader_of[rank] == rank;
        Self {
            world,
            clock,
            leaders: (0..world.ranks()).filter(leads).collect(),
            leader_of,
            offsets: Vec::new(),
            line: None,
            model: None,
        }
    }

    /// Whether all ranks read one clock.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.leaders.len() == 1
    }

    /// Makes the clock of all ranks anew, and returns this rank's way to it. All ranks call it, and
    /// all get `None` where clocks differ and nothing is to be done about it.
    pub fn synchronise(&mut self, kind: ClockKind) -> Option<Model> {
        if kind == ClockKind::None && !self.is_one() {
            return None;
        }
        let rank = self.world.rank();
        let own = match self.leaders.binary_search(&rank) {
            Ok(index) => Some(self.learn_and_teach(index)),
            Err(_) => None,
        };
        self.model = Some(self.hand_down(own));
        self.model
    }

    /// A leader's way through the tree.
    fn learn_and_teach(&mut self, index: usize) -> Model {
        let mut model = Model::of_reference(self.clock);
        for (teacher, learner) in lessons(self.leaders.len()) {
            if index == teacher {
                self.teach(self.leaders[learner], &model);
            } else if index == learner {
                model = self.learn(self.leaders[teacher]);
            }
        }
        model
    }

    /// The leader's model to all ranks of its domain: they read the same ticks.
    fn hand_down(&self, own: Option<Model>) -> Model {
        let rank = self.world.rank();
        let comm = self.world.comm();
        let Some(model) = own else {
            let mut words = [0u64; 3];
            comm.process_at_rank(self.leader_of[rank] as i32)
                .receive_into_with_tag(&mut words[..], TAG);
            return Model::from_words(words);
        };
        let follows = |&other: &usize| other != rank && self.leader_of[other] == rank;
        for other in (0..self.world.ranks()).filter(follows) {
            comm.process_at_rank(other as i32)
                .send_with_tag(&model.to_words()[..], TAG);
        }
        model
    }

    /// Answers a learner with the global time until it is content.
    fn teach(&self, learner: usize, model: &Model) {
        let learner = self.world.comm().process_at_rank(learner as i32);
        loop {
            let mut more = [0u8];
            learner.receive_into_with_tag(&mut more, TAG);
            if more == [0] {
                break;
            }
            learner.send_with_tag(&[model.global_ns(self.clock.now())][..], TAG);
        }
    }

    /// Learns the global time from a teacher.
    fn learn(&mut self, teacher: usize) -> Model {
        let now = self.clock.now();
        let rate = self.clock.ns_per_tick();
        let age = |offset: &Offset| now.wrapping_sub(offset.at) as f64 * rate;
        self.offsets.retain(|offset| age(offset) < MEMORY_NS);
        let first = self.offsets.is_empty();
        let count = if first { FIRST_OFFSETS } else { LATER_OFFSETS };
        for _ in 0..count {
            let offset = self.offset(teacher);
            self.offsets.push(offset);
            if first {
                thread::sleep(FIRST_SPACING);
            }
        }
        self.dismiss(teacher);
        self.line = Line::through(&self.offsets, rate);
        // There are offsets, so there is a line.
        self.line.map_or_else(
            || Model::of_reference(self.clock),
            |line| line.model(self.clock),
        )
    }

    /// Measures one offset against a rank that teaches.
    fn offset(&self, teacher: usize) -> Offset {
        let teacher = self.world.comm().process_at_rank(teacher as i32);
        let begin = self.clock.now();
        let (mut lower, mut upper, mut round_trip) = (i64::MIN, i64::MAX, i64::MAX);
        for _ in 0..PING_PONGS {
            let mut global = [0i64];
            let sent = self.clock.now();
            teacher.send_with_tag(&[1u8][..], TAG);
            teacher.receive_into_with_tag(&mut global[..], TAG);
            let received = self.clock.now();
            let (sent, received) = (ns(self.clock, sent), ns(self.clock, received));
            lower = lower.max(sent - global[0]);
            upper = upper.min(received - global[0]);
            round_trip = round_trip.min(received - sent);
        }
        let end = self.clock.now();
        Offset {
            at: begin + end.saturating_sub(begin) / 2,
            ns: lower + (upper - lower) / 2,
            width_ns: (upper - lower).abs(),
            round_trip_ns: round_trip,
        }
    }

    fn dismiss(&self, teacher: usize) {
        self.world
            .comm()
            .process_at_rank(teacher as i32)
            .send_with_tag(&[0u8][..], TAG);
    }

    /// Holds each leader's model against rank 0's clock itself, one after the other. All ranks call
    /// it; rank 0 gets what came of it, the others nothing. Nothing also where there is no model or
    /// nothing to model.
    #[must_use]
    pub fn check(&self) -> Vec<NodeClock> {
        let Some(model) = self.model else {
            return Vec::new();
        };
        let rank = self.world.rank();
        if rank == 0 {
            let others = self.leaders[1..].iter();
            return others.map(|&leader| self.examine(leader, &model)).collect();
        }
        if let (true, Some(line)) = (self.leaders.contains(&rank), self.line) {
            self.be_examined(&line, &model);
        }
        Vec::new()
    }

    fn examine(&self, leader: usize, model: &Model) -> NodeClock {
        self.teach(leader, model);
        let mut words = [0u64; 6];
        self.world
            .comm()
            .process_at_rank(leader as i32)
            .receive_into_with_tag(&mut words[..], TAG);
        NodeClock {
            rank: leader,
            offset_ns: words[0].cast_signed(),
            slope: f64::from_bits(words[1]),
            residual_ns: f64::from_bits(words[2]),
            round_trip_ns: words[3].cast_signed(),
            age_s: f64::from_bits(words[4]),
            error_ns: words[5].cast_signed(),
        }
    }

    fn be_examined(&self, line: &Line, model: &Model) {
        let mut tries: Vec<Offset> = (0..LATER_OFFSETS).map(|_| self.offset(0)).collect();
        self.dismiss(0);
        tries.sort_by_key(|offset| offset.width_ns);
        let best = tries[0];
        let error_ns = model.global_ns(best.at) - (ns(self.clock, best.at) - best.ns);
        let round_trips = self.offsets.iter().map(|offset| offset.round_trip_ns);
        let age = best.at.saturating_sub(line.origin);
        let words = [
            line.ns.cast_unsigned(),
            line.slope.to_bits(),
            line.residual_ns.to_bits(),
            round_trips.min().unwrap_or(0).cast_unsigned(),
            self.clock.seconds(age).to_bits(),
            error_ns.cast_unsigned(),
        ];
        self.world
            .comm()
            .process_at_rank(0)
            .send_with_tag(&words[..], TAG);
    }
}

/// What tells this rank's clock from that of another rank of its node: the kernel's is shifted by a
/// time namespace, the cycle counter is not.
fn domain(clock: Clock) -> u64 {
    if clock.counts_cycles() {
        return 0;
    }
    // Kernels before 5.6 have no such file, and one clock for all.
    fs::metadata("/proc/self/ns/time").map_or(1, |namespace| namespace.ino())
}

/// The lowest rank with the same key, for each rank.
fn leaders_by(keys: &[&[u64]]) -> Vec<usize> {
    let mut known = std::collections::HashMap::new();
    let each = keys.iter().enumerate();
    each.map(|(rank, key)| *known.entry(*key).or_insert(rank))
        .collect()
}

/// Who teaches whom, in order: along a binomial tree from the farthest on, and last those beyond
/// the largest power of two.
fn lessons(leaders: usize) -> Vec<(usize, usize)> {
    let Some(steps) = leaders.checked_ilog2() else {
        return Vec::new();
    };
    let full = 1 << steps;
    let mut lessons = Vec::new();
    for step in (1..=steps).rev() {
        let half = 1 << (step - 1);
        let teachers = (0..full).step_by(1 << step);
        lessons.extend(teachers.map(|teacher| (teacher, teacher + half)));
    }
    lessons.extend((full..leaders).map(|learner| (learner - full, learner)));
    lessons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_learns_once_and_teaches_only_what_it_learned() {
        assert_eq!(lessons(1), []);
        assert_eq!(lessons(4), [(0, 2), (0, 1), (2, 3)]);
        assert_eq!(lessons(3), [(0, 1), (0, 2)]);
        for leaders in 1..40 {
            let mut knows = vec![false; leaders];
            knows[0] = true;
            for (teacher, learner) in lessons(leaders) {
                assert!(knows[teacher] && !knows[learner], "{leaders}");
                knows[learner] = true;
            }
            assert!(knows.iter().all(|&knows| knows), "{leaders}");
        }
    }

    #[test]
    fn ranks_with_one_clock_follow_the_lowest() {
        let keys: [&[u64]; 5] = [&[0, 7], &[0, 8], &[0, 7], &[3, 7], &[0, 8]];
        assert_eq!(leaders_by(&keys), [0, 1, 0, 3, 1]);
    }

    fn offset(at: Ticks, ns: i64, width_ns: i64) -> Offset {
        Offset {
            at,
            ns,
            width_ns,
            round_trip_ns: width_ns,
        }
    }

    #[test]
    fn a_line_finds_offset_and_drift_and_leaves_wide_bounds_out() {
        // A tick of 0.5 ns; a clock that is 100 s ahead and gains 10 µs per second.
        let at = |i: u64| 4_000_000_000_000 + i * 4_000_000;
        let ns = |i: u64| 100_000_000_000 + i as i64 * 20;
        let mut offsets: Vec<Offset> = (0..=50).map(|i| offset(at(i), ns(i), 1000)).collect();
        offsets.push(offset(at(51), ns(51) + 900_000, 2_000_000));
        let line = Line::through(&offsets, 0.5).expect("there are offsets");
        assert_eq!((line.origin, line.ns), (at(25), ns(25)));
        assert!((line.slope - 1e-5).abs() < 1e-9, "{}", line.slope);
        assert!(line.residual_ns < 1e-3);
        assert_eq!(Line::through(&[], 0.5), None);
        let short = Line::through(&offsets[..2], 0.5).expect("there are offsets");
        assert_eq!(short.slope, 0.0, "2 ms are no base for a slope");
    }

    #[test]
    fn models_lead_there_and_back() {
        let model = Model {
            origin: 5_000_000_000_000,
            global_ns: -7,
            ns_per_tick: 0.4,
        };
        assert_eq!(model.global_ns(5_000_000_000_010), -3);
        assert_eq!(model.global_ns(4_999_999_999_990), -11);
        for ticks in [1, 5_000_000_000_000, 9_000_000_000_000] {
            assert!(model.ticks(model.global_ns(ticks)).abs_diff(ticks) <= 2);
        }
        assert_eq!(Model::from_words(model.to_words()), model);
    }
}
