//! The beginning of an iteration of all ranks.
//!
//! Round-Time is Hunold and Carpen-Amarie's (ReproMPI): rank 0 broadcasts a moment of the global
//! clock somewhat ahead, the ranks wait for it each on its own clock, and the iteration's length
//! counts from that moment. A rank to which it was over already makes the round invalid for all.

use super::clock::Model;
use crate::kernel::INVALID;
use crate::spec::{Delay, Point, Sync};
use crate::sys::Together;
use crate::world::World;
use reports::measure::{Clock, Ticks};
use std::cell::Cell;
use std::hint::spin_loop;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

/// How long before the beginning a rank stops to lend its CPU to others: where ranks take turns,
/// whoever waits busily keeps others from getting there.
const ALERT: Duration = Duration::from_micros(50);

/// What the starts of one rank share with its driver, which sets it between batches.
#[derive(Clone)]
pub struct Meeting(Rc<Shared>);

struct Shared {
    /// From this rank's ticks to the clock of all, if there is one.
    model: Cell<Option<Model>>,
    slack_ns: Cell<i64>,
    /// When this rank began each iteration of the batch, in its own ticks.
    entries: Box<[Cell<Ticks>]>,
    entered: Cell<usize>,
}

impl Meeting {
    /// For batches of at most so many iterations.
    #[must_use]
    pub fn new(max_batch: usize) -> Self {
        Self(Rc::new(Shared {
            model: Cell::new(None),
            slack_ns: Cell::new(0),
            entries: vec![Cell::new(0); max_batch].into(),
            entered: Cell::new(0),
        }))
    }

    /// From this rank's ticks to the clock of all, if there is one.
    #[must_use]
    pub fn model(&self) -> Option<Model> {
        self.0.model.get()
    }

    /// Sets the clock of all.
    pub fn set_model(&self, model: Option<Model>) {
        self.0.model.set(model);
    }

    /// Sets how far ahead rank 0 names the beginning of a round.
    pub fn set_slack(&self, slack: Duration) {
        let ns = i64::try_from(slack.as_nanos()).unwrap_or(i64::MAX);
        self.0.slack_ns.set(ns);
    }

    /// Begins a batch: no iteration of it has begun.
    pub fn clear(&self) {
        self.0.entered.set(0);
    }

    /// When this rank began each iteration of the batch, on the clock of all. `None` without such a
    /// clock, and where the kernel did not begin each iteration just once.
    pub fn entries_ns(&self, iterations: usize) -> Option<impl Iterator<Item = i64>> {
        let model = self.model()?;
        let entries = self.0.entries.get(..iterations)?;
        (self.0.entered.get() == iterations).then(|| {
            entries
                .iter()
                .map(move |entry| model.global_ns(entry.get()))
        })
    }

    #[inline(always)]
    fn enter(&self, now: Ticks) {
        let number = self.0.entered.get();
        if let Some(entry) = self.0.entries.get(number) {
            entry.set(now);
        }
        self.0.entered.set(number.saturating_add(1));
    }
}

/// Makes this rank begin together with the others.
pub struct Start<'w> {
    together: Together<'w>,
    sync: Sync,
    clock: Clock,
    meeting: Meeting,
    is_root: bool,
    late: bool,
    entered: Ticks,
    alert: Ticks,
    delay: Option<Lateness>,
}

impl<'w> Start<'w> {
    /// A way to begin together; all ranks make it alike. Does not communicate.
    #[must_use]
    pub fn new(world: &'w World, point: &Point, meeting: &Meeting) -> Self {
        let clock = Clock::get();
        let delay = point.delay.filter(|delay| delay.rank == world.rank());
        Self {
            together: Together::of(world.comm()),
            sync: point.synchronisation.unwrap_or_default(),
            clock,
            meeting: meeting.clone(),
            is_root: world.is_root(),
            late: false,
            entered: 0,
            alert: clock.ticks(ALERT),
            delay: delay.map(|delay| Lateness::new(delay, clock)),
        }
    }

    /// Waits for the beginning, and returns the moment from which the iteration's length counts.
    #[inline(always)]
    pub fn begin(&mut self) -> Ticks {
        let (began, mut entered) = match self.sync {
            Sync::Barrier => {
                self.together.barrier();
                let now = self.clock.now();
                (now, now)
            }
            Sync::Dissemination => {
                self.together.disseminate();
                let now = self.clock.now();
                (now, now)
            }
            Sync::RoundTime => self.await_round(),
        };
        if let Some(delay) = &mut self.delay {
            entered = delay.pass(self.clock, entered);
        }
        self.entered = entered;
        began
    }

    /// The length of the iteration that began then and ends now, or
    /// [`crate::kernel::INVALID`] if this rank was late for its beginning.
    #[inline(always)]
    pub fn length(&self, began: Ticks) -> Ticks {
        let length = self.clock.now().saturating_sub(began);
        // Noted now, because before it would be part of the length.
        self.meeting.enter(self.entered);
        if self.late { INVALID } else { length }
    }

    /// Waits for the moment that rank 0 names; returns it and when the wait was over.
    #[inline(always)]
    fn await_round(&mut self) -> (Ticks, Ticks) {
        let Some(model) = self.meeting.model() else {
            // The command line refuses Round-Time without a clock, and the driver sets one first.
            self.late = true;
            return (0, 0);
        };
        let mut planned = 0;
        if self.is_root {
            planned = model.global_ns(self.clock.now()) + self.meeting.0.slack_ns.get();
        }
        let planned = model.ticks(self.together.broadcast(planned));
        let mut now = self.clock.now();
        self.late = now > planned;
        while now < planned {
            if planned - now > self.alert {
                thread::yield_now();
            } else {
                spin_loop();
            }
            now = self.clock.now();
        }
        (planned, now)
    }
}

/// A rank's delay on purpose.
struct Lateness {
    every: u64,
    length: Ticks,
    iteration: u64,
}

impl Lateness {
    fn new(delay: Delay, clock: Clock) -> Self {
        Self {
            every: delay.every,
            length: clock.ticks(Duration::from_micros(delay.microseconds)),
            iteration: 0,
        }
    }

    /// Lets the delay pass, if it is this iteration's turn; returns when it was over.
    #[inline(never)]
    fn pass(&mut self, clock: Clock, began: Ticks) -> Ticks {
        self.iteration += 1;
        let mut now = began;
        if self.iteration.is_multiple_of(self.every) {
            let end = clock.now().saturating_add(self.length);
            while now < end {
                now = clock.now();
            }
        }
        now
    }
}
