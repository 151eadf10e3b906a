//! One-sided kernels: rank 0, the origin, operates on memory of rank 1, the target; all others
//! wait.
//!
//! The operation and the kind of epoch around it are independent of each other, so there is one
//! kernel, whose loop is compiled once for each pair of them.

use super::pt2pt::{pairs, stream};
use super::{Kernel, Results};
use crate::memory;
use crate::method::Setting;
use crate::pattern::Stamp;
use crate::spec::Point;
use crate::sys::{ElementType, Memory, Parts, Rma};
use crate::world::World;
use mpi::topology::Color;
use mpi::traits::{Communicator, CommunicatorCollectives};
use reports::measure::{Clock, Ticks, latency_metrics, rate_metrics};
use reports::model::{Aggregation, Direction, Metric, Unit, Work};
use serde_json::{Map, Value};

/// The number that the timed contents carry; the validation's own count from 0.
const TIMED: u64 = 200;

/// After so many epochs sums begin anew: more than a batch has, and few enough that the sums are
/// exact in f32, the type that holds the least (u8, whose timed summands are 0, apart).
const MOST_EPOCHS: u64 = 1 << 14;

/// What the origin does with the target's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `MPI_Put`
    Put,
    /// `MPI_Get`
    Get,
    /// `MPI_Accumulate`
    Accumulate,
    /// `MPI_Get_accumulate`
    GetAccumulate,
    /// `MPI_Fetch_and_op`
    FetchAndOp,
    /// `MPI_Compare_and_swap`
    CompareAndSwap,
}

impl Operation {
    /// Whether it takes something from the origin.
    fn sends(self) -> bool {
        self != Self::Get
    }

    /// Whether it brings something to the origin.
    fn fetches(self) -> bool {
        !matches!(self, Self::Put | Self::Accumulate)
    }

    /// Whether it computes with numbers, instead of moving bytes.
    fn computes(self) -> bool {
        !matches!(self, Self::Put | Self::Get)
    }
}

/// How operations are enclosed and completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Epoch {
    Flush,
    Lock,
    Pscw,
    Fence,
}

impl Epoch {
    fn of(word: &str) -> Self {
        match word {
            "lock" => Self::Lock,
            "pscw" => Self::Pscw,
            "fence" => Self::Fence,
            _ => Self::Flush,
        }
    }
}

fn memory_of(word: &str) -> Memory {
    match word {
        "create" => Memory::Create,
        "dynamic" => Memory::Dynamic,
        _ => Memory::Allocate,
    }
}

/// What a rank does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Origin,
    Target,
}

/// One rank's part; a rank that waits has none.
pub struct OneSided<'w> {
    world: &'w World,
    pair: Option<Pair>,
}

/// The part of origin or target.
struct Pair {
    part: Part,
    operation: Operation,
    epoch: Epoch,
    numbers: Numbers,
    rma: Rma,
    clock: Clock,
    size: usize,
    /// Operations in an epoch, each on a place of its own.
    window: usize,
    spoil: bool,
    /// Which content the memory began with.
    iteration: u64,
    /// Epochs since then.
    done: u64,
    validations: u64,
}

impl<'w> OneSided<'w> {
    /// This rank's part of an operation, with memory and buffers for the point's window.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(
        setting: Setting<'w, '_>,
        operation: Operation,
    ) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let Setting { world, point, .. } = setting;
        let element = ElementType::named(point.word("type"));
        let size = point.size_bytes.unwrap_or(element.bytes());
        let window = point.window.unwrap_or(1);
        let part = match world.rank() {
            0 => Some(Part::Origin),
            1 => Some(Part::Target),
            _ => None,
        };
        // The window is made by both ranks or by none, so they agree before.
        let parts = world.agree(parts(setting, operation, part, size * window))?;
        let color = part.map_or(Color::undefined(), |_| Color::with_value(0));
        let comm = world.comm().split_by_color(color);
        let pair = match part.zip(comm) {
            None => None,
            Some((part, comm)) => Some(Pair {
                part,
                operation,
                epoch: Epoch::of(point.word("epoch")),
                numbers: Numbers { operation, element },
                rma: Rma::new(comm, parts, size, element)?,
                clock: Clock::get(),
                size,
                window,
                spoil: point.spoil,
                iteration: 0,
                done: 0,
                validations: 0,
            }),
        };
        Ok(Box::new(Self { world, pair }))
    }
}

/// Memory and buffers of a rank: of origin and target the same, of another nothing.
fn parts(
    Setting { world, point, .. }: Setting<'_, '_>,
    operation: Operation,
    part: Option<Part>,
    bytes: usize,
) -> anyhow::Result<Parts> {
    let (sends, fetches) = match part {
        Some(Part::Origin) => (operation.sends(), operation.fetches()),
        _ => (false, false),
    };
    let bytes = part.map_or(0, |_| bytes);
    let copies = 1 + u64::from(sends) + u64::from(fetches);
    let on_this_node = world.node_of(world.rank()).ranks();
    let users = on_this_node.iter().filter(|&&rank| rank < 2).count();
    memory::ensure_available(bytes as u64 * copies, users as u64)?;
    let kind = memory_of(point.word("window_memory"));
    Parts::new(kind, bytes, sends, fetches)
}

impl Kernel for OneSided<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        self.pair.as_mut().map_or(Ok(0), Pair::validate)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        self.pair.as_mut().map_or(Ok(()), |pair| pair.run(ticks))
    }

    fn facts(&self, results: &Results) -> Map<String, Value> {
        pairs::facts(self.world, results)
    }
}

impl Pair {
    /// One epoch with a content of its own; the second time after a look at what the timed ones
    /// left. Windows may be large, so it is one, and the timed content is loaded once.
    fn validate(&mut self) -> anyhow::Result<u64> {
        let timed = match self.validations {
            0 => Ok(0),
            _ => self.check(),
        };
        self.load(self.validations)?;
        // The one epoch that is not timed.
        self.run(&mut [])?;
        let untimed = self.check();
        if self.validations == 0 {
            self.load(TIMED)?;
        }
        self.validations += 1;
        Ok(timed? + untimed?)
    }

    /// Runs one epoch that is not timed, and one for each of `ticks`.
    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let epochs = ticks.len() as u64 + 1;
        if self.operation.computes() && self.done + epochs > MOST_EPOCHS {
            self.load(self.iteration)?;
        }
        // The target is in the library when the origin begins, and until it has ended.
        self.rma.pair().barrier();
        match self.part {
            Part::Origin => self.originate(ticks)?,
            Part::Target => self.expose(epochs)?,
        }
        if self.epoch == Epoch::Fence {
            self.rma.last_fence()?;
        }
        self.rma.pair().barrier();
        self.done += epochs;
        Ok(())
    }

    fn originate(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        match self.operation {
            Operation::Put => self.epochs(ticks, Rma::put),
            Operation::Get => self.epochs(ticks, Rma::get),
            Operation::Accumulate => self.epochs(ticks, Rma::accumulate),
            Operation::GetAccumulate => self.epochs(ticks, Rma::get_accumulate),
            Operation::FetchAndOp => self.epochs(ticks, Rma::fetch_and_op),
            Operation::CompareAndSwap => {
                let element = self.numbers.element;
                let base = self.numbers.base(0, self.iteration);
                // More than an i64 holds is never counted to.
                let mut value = base + self.done as i64;
                self.epochs(ticks, |rma, _| {
                    rma.expect(encode(element, value), encode(element, value + 1));
                    value += 1;
                    rma.compare_and_swap()
                })
            }
        }
    }

    /// The origin's epochs with one operation on each place.
    #[inline(always)]
    fn epochs(
        &mut self,
        ticks: &mut [Ticks],
        mut operate: impl FnMut(&mut Rma, usize) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (rma, clock, window) = (&mut self.rma, self.clock, self.window);
        let operations = |rma: &mut Rma| (0..window).try_for_each(|place| operate(rma, place));
        match self.epoch {
            Epoch::Flush => {
                rma.lock()?;
                time(clock, ticks, rma, operations, |_| Ok(()), Rma::flush)?;
                rma.unlock()
            }
            Epoch::Lock => time(clock, ticks, rma, operations, Rma::lock, Rma::unlock),
            Epoch::Pscw => time(clock, ticks, rma, operations, Rma::start, Rma::complete),
            Epoch::Fence => time(clock, ticks, rma, operations, Rma::fence, Rma::fence),
        }
    }

    /// The target's side of so many epochs.
    fn expose(&mut self, epochs: u64) -> anyhow::Result<()> {
        for _ in 0..epochs {
            match self.epoch {
                Epoch::Flush | Epoch::Lock => break,
                Epoch::Pscw => self.rma.expose()?,
                Epoch::Fence => {
                    self.rma.fence()?;
                    self.rma.fence()?;
                }
            }
        }
        Ok(())
    }

    fn stamp(&self, sender: usize, place: usize) -> Stamp {
        Stamp {
            sender,
            // Contents of places differ as those of iterations do.
            iteration: self.iteration * self.window as u64 + place as u64,
            size: self.size,
        }
    }

    /// Makes ready: contents where something is taken from, something else where it goes to.
    fn load(&mut self, iteration: u64) -> anyhow::Result<()> {
        self.iteration = iteration;
        self.done = 0;
        let (numbers, part, operation) = (self.numbers, self.part, self.operation);
        let stamps: Vec<_> = self.stamps().collect();
        let fill = |memory: &mut [u8]| fill_stamps(&stamps, memory);
        let invert = |memory: &mut [u8]| {
            fill_stamps(&stamps, memory);
            memory.iter_mut().for_each(|byte| *byte = !*byte);
        };
        match (part, operation) {
            (Part::Origin, Operation::Put) => fill(self.rma.outgoing()),
            (Part::Target, Operation::Put) => self.rma.with_memory(invert)?,
            (Part::Origin, Operation::Get) => invert(self.rma.fetched()),
            (Part::Target, Operation::Get) => self.rma.with_memory(fill)?,
            (Part::Origin, _) => {
                numbers.fill(self.rma.outgoing(), |index| {
                    numbers.contribution(index, iteration)
                });
                // No sum is negative.
                numbers.fill(self.rma.fetched(), |_| numbers.impossible());
            }
            (Part::Target, _) => self.rma.with_memory(|memory| {
                numbers.fill(memory, |index| numbers.base(index, iteration));
            })?,
        }
        Ok(())
    }

    /// The contents of all places, of whoever sends them.
    fn stamps(&self) -> impl Iterator<Item = Stamp> {
        let sender = usize::from(self.operation == Operation::Get);
        (0..self.window).map(move |place| self.stamp(sender, place))
    }

    /// Compares what this rank received with what it must be, after all epochs since `load`.
    fn check(&mut self) -> anyhow::Result<u64> {
        let (numbers, iteration, done) = (self.numbers, self.iteration, self.done);
        let (part, operation, spoil) = (self.part, self.operation, self.spoil);
        let stamps: Vec<_> = self.stamps().collect();
        let after = |epochs: u64| move |index| numbers.after(index, iteration, epochs);
        let spoiled = |memory: &mut [u8]| {
            if spoil {
                super::damage(memory);
            }
        };
        let look = |memory: &mut [u8]| {
            spoiled(memory);
            match operation {
                Operation::Put | Operation::Get => check_stamps(&stamps, memory),
                _ if part == Part::Target => numbers.check(memory, "memory", after(done)),
                // What was fetched last was there before the last epoch.
                _ => numbers.check(memory, "what was fetched", after(done - 1)),
            }
        };
        match (part, operation) {
            (Part::Target, Operation::Get) => Ok(0),
            (Part::Target, _) => self.rma.with_memory(look)?,
            (Part::Origin, _) if operation.fetches() => look(self.rma.fetched()),
            (Part::Origin, _) => Ok(0),
        }
    }
}

/// Times epochs: opens, operates, closes. The first is not timed: the target may still be on its way
/// here.
#[inline(always)]
fn time(
    clock: Clock,
    ticks: &mut [Ticks],
    rma: &mut Rma,
    mut operations: impl FnMut(&mut Rma) -> anyhow::Result<()>,
    open: impl Fn(&mut Rma) -> anyhow::Result<()>,
    close: impl Fn(&mut Rma) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    open(rma)?;
    operations(rma)?;
    close(rma)?;
    let mut last = clock.now();
    for slot in ticks {
        open(rma)?;
        operations(rma)?;
        close(rma)?;
        let now = clock.now();
        *slot = now.saturating_sub(last);
        last = now;
    }
    Ok(())
}

fn fill_stamps(stamps: &[Stamp], memory: &mut [u8]) {
    for (stamp, message) in stamps.iter().zip(memory.chunks_mut(stamps[0].size.max(1))) {
        stamp.fill(message);
    }
}

fn check_stamps(stamps: &[Stamp], memory: &[u8]) -> anyhow::Result<u64> {
    for (stamp, message) in stamps.iter().zip(memory.chunks(stamps[0].size.max(1))) {
        stamp.check(message)?;
    }
    Ok(stamps.len() as u64)
}

/// A number as an element's bytes; those beyond its length are 0.
#[inline(always)]
fn encode(element: ElementType, value: i64) -> [u8; 8] {
    let mut bytes = [0; 8];
    match element {
        // Numbers of the patterns fit each type: see MOST_EPOCHS.
        ElementType::U8 => bytes[0] = value as u8,
        ElementType::I32 => bytes[..4].copy_from_slice(&(value as i32).to_ne_bytes()),
        ElementType::F32 => bytes[..4].copy_from_slice(&(value as f32).to_ne_bytes()),
        ElementType::I64 => bytes = value.to_ne_bytes(),
        ElementType::F64 => bytes = (value as f64).to_ne_bytes(),
    }
    bytes
}

/// The numbers that operations compute with. They are small integers, so that all sums are exact in
/// every type and none overflows: some libraries saturate u8.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    operation: Operation,
    element: ElementType,
}

/// Primes, so that no power-of-two block can be exchanged for its neighbour unnoticed. Their sum is
/// less than 128.
const BASES: u64 = 61;
const CONTRIBUTIONS: u64 = 59;

impl Numbers {
    /// What the target's memory begins with.
    fn base(self, index: u64, iteration: u64) -> i64 {
        ((index * 7 + iteration * 11) % BASES) as i64
    }

    /// What each operation adds.
    fn contribution(self, index: u64, iteration: u64) -> i64 {
        match (self.operation, self.element) {
            (Operation::CompareAndSwap, _) => 1,
            (_, ElementType::U8) if iteration == TIMED => 0,
            _ => 1 + ((index * 13 + iteration * 29) % CONTRIBUTIONS) as i64,
        }
    }

    fn after(self, index: u64, iteration: u64, epochs: u64) -> i64 {
        self.base(index, iteration) + self.contribution(index, iteration) * epochs as i64
    }

    /// A number that is no sum.
    fn impossible(self) -> i64 {
        match self.element {
            ElementType::U8 => 255,
            _ => -1,
        }
    }

    fn fill(self, memory: &mut [u8], number: impl Fn(u64) -> i64) {
        let length = self.element.bytes();
        for (index, element) in (0..).zip(memory.chunks_exact_mut(length)) {
            element.copy_from_slice(&encode(self.element, number(index))[..length]);
        }
    }

    /// Compares element by element, exactly; returns how many there are.
    fn check(self, memory: &[u8], what: &str, number: impl Fn(u64) -> i64) -> anyhow::Result<u64> {
        let length = self.element.bytes();
        for (index, found) in (0..).zip(memory.chunks_exact(length)) {
            let expected = number(index);
            anyhow::ensure!(
                found == &encode(self.element, expected)[..length],
                "{what}: element {index} of {} ({:?}) has the bytes {found:02x?} instead of those \
                 of {expected} after {:?}",
                memory.len() / length,
                self.element,
                self.operation
            );
        }
        Ok((memory.len() / length) as u64)
    }
}

/// The distribution over epochs with one operation, and OSU's mean where its epochs are the same.
#[must_use]
pub fn latency(results: &Results, point: &Point) -> Vec<Metric> {
    let mut metrics = latency_metrics("latency_ns", &results.histogram);
    if matches!(point.word("epoch"), "flush" | "lock") {
        let osu = Metric::new(
            "latency_ns",
            Aggregation::Mean,
            Unit::Nanoseconds,
            Direction::LowerIsBetter,
            results.sum_ns as f64 / results.iterations as f64,
            results.iterations,
        );
        metrics.push(osu.compat("OSU"));
    }
    metrics
}

/// Bytes and operations per second, in OSU's column as well, and the distribution of the epochs'
/// times.
#[must_use]
pub fn bandwidth(results: &Results, point: &Point) -> Vec<Metric> {
    let work = work(results.iterations, point);
    let mut metrics = stream::rates(work, results.elapsed_s());
    metrics.extend(stream::compat_rates("OSU", work, results.elapsed_s()));
    metrics.extend(stream::windows(results));
    metrics
}

/// Likewise, of an operation whose bandwidth OSU does not measure.
#[must_use]
pub fn bandwidth_of_ours(results: &Results, point: &Point) -> Vec<Metric> {
    let work = work(results.iterations, point);
    let mut metrics = stream::rates(work, results.elapsed_s());
    metrics.extend(stream::windows(results));
    metrics
}

/// Operations per second, and the distribution of the epochs' times.
#[must_use]
pub fn rate(results: &Results, point: &Point) -> Vec<Metric> {
    let work = work(results.iterations, point);
    let mut metrics = rate_metrics("operations_per_s", work, results.elapsed_s());
    metrics.iter_mut().for_each(|metric| metric.headline = true);
    metrics.extend(stream::windows(results));
    metrics
}

/// Operations, and their bytes.
#[must_use]
pub fn work(iterations: u64, point: &Point) -> Work {
    let ops = iterations * point.window.unwrap_or(1) as u64;
    Work {
        ops,
        bytes: ops * point.size() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELEMENTS: [ElementType; 5] = [
        ElementType::U8,
        ElementType::I32,
        ElementType::I64,
        ElementType::F32,
        ElementType::F64,
    ];

    #[test]
    fn sums_are_exact_to_the_last_epoch_and_one_more_or_less_is_found() {
        for element in ELEMENTS {
            let numbers = Numbers {
                operation: Operation::Accumulate,
                element,
            };
            // U8 in a validation: one epoch.
            let (iteration, epochs) = match element {
                ElementType::U8 => (3, 1),
                _ => (TIMED, MOST_EPOCHS),
            };
            let mut memory = vec![0; 100 * element.bytes()];
            numbers.fill(&mut memory, |i| numbers.after(i, iteration, epochs));
            let check = |memory: &[u8], epochs| {
                numbers.check(memory, "memory", |i| numbers.after(i, iteration, epochs))
            };
            assert_eq!(check(&memory, epochs).ok(), Some(100), "{element:?}");
            assert!(check(&memory, epochs - 1).is_err(), "{element:?}");
            assert!(check(&memory, epochs + 1).is_err(), "{element:?}");
            crate::kernel::damage(&mut memory);
            let error = check(&memory, epochs).expect_err("it is damaged");
            assert!(error.to_string().contains("element 50 of 100"), "{error}");
        }
    }

    #[test]
    fn contents_depend_on_place_and_iteration_and_on_nothing_fetched() {
        for element in ELEMENTS {
            let numbers = Numbers {
                operation: Operation::GetAccumulate,
                element,
            };
            assert_ne!(numbers.base(0, 0), numbers.base(1, 0));
            assert_ne!(numbers.base(0, 0), numbers.base(0, 1));
            assert_ne!(numbers.contribution(0, 0), numbers.contribution(1, 0));
            assert_ne!(numbers.contribution(0, 0), numbers.contribution(0, 1));
            for index in 0..BASES {
                let sum = numbers.after(index, 1, 1);
                assert!(sum < 128 && sum != numbers.impossible());
            }
        }
    }
}
