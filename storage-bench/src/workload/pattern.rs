//! Which operation comes next: of which kind, how long, and where.
//!
//! What a run asks for is settled once, in enumerations of few variants; the default (one kind, one
//! size, even random offsets) is the first of each, so that it costs one look at each and no more.

mod busy;
mod permutation;
mod skew;
#[cfg(test)]
mod tests;

use crate::engine::Kind;
use crate::spec::{Kinds, PatternSpec, Share};
use busy::Busy;
use permutation::Permutation;
use skew::Skew;
use std::collections::VecDeque;
use std::ops::Range;

/// One operation that a job is to do, in units: the target's blocks, of which an operation covers
/// one or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it does.
    pub kind: Kind,
    /// The first unit of the target that it covers.
    pub unit: u64,
    /// How many it covers; none if it flushes.
    pub units: u32,
}

/// How the kind of the next operation is found.
#[derive(Debug, Clone, Copy)]
enum Choice {
    Only(Kind),
    /// This many reads in a hundred, the others writes.
    Mix(u32),
    /// Trims, each followed by a write once it has ended.
    TrimThenWrite,
}

/// Flushes between writes.
#[derive(Debug, Clone, Copy)]
struct Flushes {
    kind: Kind,
    every: u64,
    /// Writes since the last one.
    since: u64,
}

/// How the length of the next operation is found, in units.
#[derive(Debug)]
enum Lengths {
    One(u32),
    /// Lengths with the number of a hundred draws up to and with them.
    Split(Vec<(u32, u32)>),
}

/// How the place of the next operation is found.
#[derive(Debug)]
enum Order {
    /// All positions alike, with replacement.
    Uniform,
    /// One behind the other, leaving out so many units after each; reads and writes advance each on
    /// their own, as in fio.
    Sequential {
        skip: u64,
    },
    /// So many in a row from each random place.
    Runs {
        length: u64,
        left: u64,
    },
    Skewed(Skew),
    /// Each position once per pass.
    Passes {
        order: Permutation,
        next: u64,
    },
}

/// One job's choice of operations, reproducible from its seed.
#[derive(Debug)]
pub struct Pattern {
    units: Range<u64>,
    /// Operations begin at multiples of so many units.
    step: u64,
    choice: Choice,
    flushes: Option<Flushes>,
    /// A flush comes before anything else.
    flush_due: Option<Kind>,
    /// Of reads, and of writes and trims.
    lengths: [Lengths; 2],
    order: Order,
    rng: fastrand::Rng,
    /// The next unit of a sequential pass of reads, and of one of writes and trims.
    next: [u64; 2],
    /// The units to which a write is under way. Two writes to one unit at a time would leave content
    /// that nobody can predict.
    busy: Busy,
    /// What was trimmed and is to be written.
    trimmed: VecDeque<Request>,
}

/// The indices of [`Pattern::lengths`] and [`Pattern::next`].
fn side(kind: Kind) -> usize {
    usize::from(kind != Kind::Read)
}

impl Pattern {
    /// A pattern over a job's units: at least one of its largest operations.
    #[must_use]
    pub fn new(spec: &PatternSpec, units: Range<u64>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let step = spec.align() / spec.unit();
        let length = units.end - units.start;
        let order = order(spec, length / step, &mut rng);
        let every = spec.fsync.map(|every| (Kind::Fsync, every));
        let every = every.or(spec.fdatasync.map(|every| (Kind::Fdatasync, every)));
        Self {
            step,
            choice: choice(spec),
            flushes: every.map(|(kind, every)| Flushes {
                kind,
                every,
                since: 0,
            }),
            flush_due: None,
            lengths: Kinds::BOTH.map(|of| lengths(&spec.sizes(of), spec.unit())),
            order,
            rng,
            next: [units.start; 2],
            busy: Busy::new(if spec.rw.writes() { length } else { 0 }, units.start),
            trimmed: VecDeque::new(),
            units,
        }
    }

    /// The length of every operation, if all are reads of that many units, anywhere or one behind
    /// the other: then [`Self::read`] will do for [`Self::draw`].
    #[must_use]
    pub fn only_reads(&self) -> Option<u32> {
        let simple = matches!(self.order, Order::Uniform | Order::Sequential { .. });
        match (self.choice, &self.lengths[side(Kind::Read)]) {
            (Choice::Only(Kind::Read), Lengths::One(length)) if simple => Some(*length),
            _ => None,
        }
    }

    /// Where the next operation is, where [`Self::only_reads`] says that all are reads of so many
    /// units.
    #[inline(always)]
    pub fn place_of_read(&mut self, units: u32) -> u64 {
        let length = u64::from(units);
        match self.order {
            Order::Sequential { skip } => {
                let next = &mut self.next[side(Kind::Read)];
                let unit = match *next + length > self.units.end {
                    true => self.units.start,
                    false => *next,
                };
                *next = unit + length + skip;
                unit
            }
            _ => self.draw_position(length).1,
        }
    }

    /// The next operation, or `None` if a write must be waited for first.
    #[inline]
    pub fn draw(&mut self) -> Option<Request> {
        let kind = match self.choice {
            Choice::Only(Kind::Read) => Kind::Read,
            _ => match self.draw_kind() {
                Ok(kind) => kind,
                Err(request) => return Some(request),
            },
        };
        let length = match &self.lengths[side(kind)] {
            Lengths::One(length) => *length,
            Lengths::Split(shares) => split(shares, &mut self.rng),
        };
        let unit = self.place(kind, u64::from(length))?;
        if kind != Kind::Read {
            self.begin(kind, unit, length);
        }
        Some(Request {
            kind,
            unit,
            units: length,
        })
    }

    /// The kind of the next operation, or the operation itself where that is settled already.
    #[inline]
    fn draw_kind(&mut self) -> Result<Kind, Request> {
        if let Some(kind) = self.flush_due.take() {
            return Err(Request {
                kind,
                unit: self.units.start,
                units: 0,
            });
        }
        match self.choice {
            Choice::Only(kind) => Ok(kind),
            Choice::Mix(percent) if self.rng.u32(0..100) < percent => Ok(Kind::Read),
            Choice::Mix(_) => Ok(Kind::Write),
            Choice::TrimThenWrite => match self.trimmed.pop_front() {
                Some(request) => {
                    self.count_write();
                    Err(Request {
                        kind: Kind::Write,
                        ..request
                    })
                }
                None => Ok(Kind::Trim),
            },
        }
    }

    /// Notes that a write or trim is on its way.
    #[inline]
    fn begin(&mut self, kind: Kind, unit: u64, length: u32) {
        self.busy.mark(unit, u64::from(length), true);
        if kind == Kind::Write {
            self.count_write();
        }
    }

    #[inline]
    fn count_write(&mut self) {
        if let Some(flushes) = &mut self.flushes {
            flushes.since += 1;
            if flushes.since == flushes.every {
                flushes.since = 0;
                self.flush_due = Some(flushes.kind);
            }
        }
    }

    /// Where an operation of so many units begins.
    #[inline]
    fn place(&mut self, kind: Kind, length: u64) -> Option<u64> {
        match &self.order {
            Order::Uniform => self.anywhere(kind, length),
            Order::Sequential { skip } => {
                let skip = *skip;
                let unit = self.in_turn(kind, length)?;
                self.next[side(kind)] = unit + length + skip;
                Some(unit)
            }
            Order::Runs { length: run, left } => {
                let (run, left) = (*run, *left);
                let unit = match left {
                    0 => self.anywhere(kind, length)?,
                    _ => self.in_turn(kind, length)?,
                };
                // Reads and writes of a mix go on from one place.
                self.next = [unit + length; 2];
                self.order = Order::Runs {
                    length: run,
                    left: if left == 0 { run - 1 } else { left - 1 },
                };
                Some(unit)
            }
            Order::Skewed(skew) => {
                let rank = skew.rank(&mut self.rng);
                let fit = self.units.end - length;
                let place = |rank| (self.units.start + skew.position(rank) * self.step).min(fit);
                // A block whose write is under way is passed over for the next in rank.
                let ranks = rank..rank + skew.count();
                let mut places = ranks.map(place);
                places.find(|&unit| kind == Kind::Read || !self.busy.any(unit, length))
            }
            Order::Passes { .. } => self.next_of_pass(kind, length),
        }
    }

    /// A place drawn evenly; from there on, round the end, the first to which no write is under way.
    #[inline]
    fn anywhere(&mut self, kind: Kind, length: u64) -> Option<u64> {
        let ((drawn, positions), unit) = self.draw_position(length);
        if kind == Kind::Read {
            return Some(unit);
        }
        let place = |position| self.units.start + position * self.step;
        (drawn..positions)
            .chain(0..drawn)
            .map(place)
            .find(|&unit| !self.busy.any(unit, length))
    }

    /// A position drawn evenly, of how many, and the unit there.
    #[inline(always)]
    fn draw_position(&mut self, length: u64) -> ((u64, u64), u64) {
        let positions = match self.step {
            1 => self.units.end - self.units.start - length + 1,
            step => (self.units.end - self.units.start - length) / step + 1,
        };
        let drawn = self.rng.u64(0..positions);
        ((drawn, positions), self.units.start + drawn * self.step)
    }

    /// The next of a sequential pass, which starts over where it does not fit.
    #[inline]
    fn in_turn(&mut self, kind: Kind, length: u64) -> Option<u64> {
        let mut unit = self.next[side(kind)];
        if unit + length > self.units.end {
            unit = self.units.start;
        }
        (kind == Kind::Read || !self.busy.any(unit, length)).then_some(unit)
    }

    fn next_of_pass(&mut self, kind: Kind, length: u64) -> Option<u64> {
        let Order::Passes { order, next } = &mut self.order else {
            return None;
        };
        let unit = self.units.start + order.at(*next) * self.step;
        if kind != Kind::Read && self.busy.any(unit, length) {
            return None;
        }
        *next += 1;
        if *next == order.count() {
            // Every pass in an order of its own.
            *order = Permutation::new(order.count(), &mut self.rng);
            *next = 0;
        }
        Some(unit)
    }

    /// Says that an operation has ended.
    #[inline]
    pub fn ended(&mut self, request: Request) {
        match (request.kind, self.choice) {
            (Kind::Read | Kind::Fsync | Kind::Fdatasync, _) => {}
            // Its blocks stay taken until they are written.
            (Kind::Trim, Choice::TrimThenWrite) => self.trimmed.push_back(request),
            (Kind::Write | Kind::Trim, _) => {
                self.busy
                    .mark(request.unit, u64::from(request.units), false);
            }
        }
    }
}

fn choice(spec: &PatternSpec) -> Choice {
    match (spec.rw.trims(), spec.rw.puts(), spec.read_percent()) {
        (true, true, _) => Choice::TrimThenWrite,
        (true, false, _) => Choice::Only(Kind::Trim),
        (false, _, 100) => Choice::Only(Kind::Read),
        (false, _, 0) => Choice::Only(Kind::Write),
        (false, _, percent) => Choice::Mix(percent),
    }
}

fn order(spec: &PatternSpec, positions: u64, rng: &mut fastrand::Rng) -> Order {
    if !spec.rw.random() {
        let skip = spec.rw_skip.unwrap_or_default() / spec.unit();
        return Order::Sequential { skip };
    }
    if let Some(length) = spec.rw_sequence {
        return Order::Runs { length, left: 0 };
    }
    if spec.randommap {
        let order = Permutation::new(positions, rng);
        return Order::Passes { order, next: 0 };
    }
    match Skew::new(spec.random_distribution, positions, rng) {
        Some(skew) => Order::Skewed(skew),
        None => Order::Uniform,
    }
}

/// Sizes as lengths in units, which fit 32 bits because sizes end at 1 GiB.
fn lengths(sizes: &[Share], unit: u64) -> Lengths {
    let length = |share: &Share| (share.bytes / unit) as u32;
    match sizes {
        [one] => Lengths::One(length(one)),
        several => {
            let mut up_to = 0;
            let each = several.iter().map(|share| {
                up_to += share.percent;
                (length(share), up_to)
            });
            Lengths::Split(each.collect())
        }
    }
}

#[inline]
fn split(shares: &[(u32, u32)], rng: &mut fastrand::Rng) -> u32 {
    let drawn = rng.u32(0..100);
    let found = shares.iter().find(|(_, up_to)| drawn < *up_to);
    // The shares make a hundred.
    found.map_or(shares[0].0, |(length, _)| *length)
}
