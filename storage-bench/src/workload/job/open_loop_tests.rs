//! Open loops over a device whose time is a number, so that what they record can be computed.

use super::running::Filled;
use super::*;
use crate::engine::{Completion, Op, Opening};
use crate::spec::{self, Arrival, PaceSpec, PatternSpec};
use crate::sys::Buffers;
use reports::measure::Clock;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Serves every operation in the same time, as many at once as there are, except in its stall:
/// what is under way then ends after it.
struct Device {
    buffers: Buffers,
    now: Ticks,
    service: Ticks,
    stall: Range<Ticks>,
    queued: Vec<Op>,
    /// In the order of their ends.
    under_way: VecDeque<(Ticks, Op)>,
}

impl Device {
    /// When the device is done with what it would have done by `end`.
    fn delayed(&self, end: Ticks) -> Ticks {
        match self.stall.contains(&end) {
            true => self.stall.end + self.service,
            false => end,
        }
    }
}

impl Engine for Device {
    fn open(opening: Opening) -> anyhow::Result<Self> {
        Ok(Self {
            buffers: opening.buffers,
            now: 1,
            service: 0,
            stall: 0..0,
            queued: Vec::new(),
            under_way: VecDeque::new(),
        })
    }

    fn queue(&mut self, op: Op) {
        self.queued.push(op);
    }

    fn submit(&mut self) -> io::Result<()> {
        for op in std::mem::take(&mut self.queued) {
            let end = self.delayed(self.now + self.service);
            self.under_way.push_back((end, op));
        }
        Ok(())
    }

    fn exchange(&mut self, done: &mut Vec<Completion>, wait: Wait) -> io::Result<()> {
        self.submit()?;
        let clock = Clock::get();
        // What the call itself costs.
        self.now += clock.ticks(Duration::from_micros(1));
        let until = match wait {
            Wait::Peek | Wait::No => self.now,
            Wait::One => Ticks::MAX,
            Wait::AtMost(time) => self.now + clock.ticks(time),
        };
        let next = self.under_way.front().map_or(until, |(end, _)| *end);
        self.now = self.now.max(next.min(until));
        while let Some((_, op)) = self.under_way.pop_front_if(|(end, _)| *end <= self.now) {
            done.push(Completion {
                buffer: op.buffer,
                result: op.len as i32,
            });
        }
        Ok(())
    }

    fn buffer(&self, index: usize) -> &[u8] {
        self.buffers.get(index)
    }

    fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        self.buffers.get_mut(index)
    }

    fn facts(&self) -> Value {
        Value::Null
    }
}

/// What one run came to, in milliseconds.
#[derive(Default)]
struct Ran {
    responses: Vec<f64>,
    /// From their preparation, as fio counts.
    lats: Vec<f64>,
    /// How late those began that found a free slot.
    late: Vec<f64>,
    kept: Kept,
}

/// Runs an open loop for some seconds on a device that takes `service` for an operation and stalls
/// from `stall.start` to `stall.end`, in seconds.
fn run(
    (arrival, iops): (Arrival, f64),
    iodepth: usize,
    service: Duration,
    stall: Range<f64>,
    seconds: f64,
) -> Ran {
    let spec = Spec {
        pattern: PatternSpec::default(),
        iodepth,
        iodepth_batch: 4,
        pace: PaceSpec {
            rate_iops: Some(iops),
            arrival: Some(arrival),
            ..PaceSpec::default()
        },
        ..spec::example()
    };
    let units = spec.units_of(0);
    let setup = Setup {
        index: 0,
        file: Arc::new(File::open("/dev/null").expect("it exists")),
        target: "a number".to_owned(),
        expected: Expected::Unknown,
        spec: Arc::new(spec),
        units,
        seed: 1,
        remembered: 0,
        journal: None,
    };
    let clock = Clock::get();
    let ticks = |seconds: f64| 1 + clock.ticks(Duration::from_secs_f64(seconds));
    let ms = |ticks: Ticks| clock.ns(ticks) as f64 / 1e6;
    let mut running = Running::<Device>::new(setup, Arc::default()).expect("nothing to fail");
    running.engine.service = clock.ticks(service);
    running.engine.stall = ticks(stall.start)..ticks(stall.end);
    running.pace.opens(1);
    let mut ran = Ran::default();
    // Not at the very moment at which an operation becomes due.
    while running.engine.now < ticks(seconds - 0.0002) {
        let wait = loop {
            match running.fill(running.engine.now) {
                Filled::Batch => running.submit().expect("it takes all"),
                Filled::All { wait, .. } => break wait,
            }
        };
        running.exchange(wait).expect("it never fails");
        let now = running.engine.now;
        let work = running.complete(|_, slot| {
            ran.responses.push(ms(now - slot.intended));
            ran.lats.push(ms(now - slot.start));
            if slot.prompt {
                ran.late.push(ms(slot.start - slot.intended));
            }
        });
        running.pace.reaped(now, work.expect("sound").ops > 0);
    }
    for series in [&mut ran.responses, &mut ran.lats, &mut ran.late] {
        series.sort_by(f64::total_cmp);
    }
    ran.kept = running.pace.close();
    ran
}

fn at(sorted: &[f64], q: f64) -> f64 {
    sorted[(sorted.len() as f64 * q) as usize]
}

const FAST: Duration = Duration::from_micros(100);

#[test]
fn a_stall_is_charged_to_every_operation_that_it_delayed() {
    for arrival in [Arrival::Const, Arrival::Poisson] {
        let ran = run((arrival, 200.0), 8, FAST, 4.0..6.0, 10.0);
        // A tenth of all became due in the first half of the stall, and a hundredth in its first
        // twentieth.
        let (p90, p99) = (at(&ran.responses, 0.90), at(&ran.responses, 0.99));
        assert!((900.0..1100.0).contains(&p90), "{arrival:?} {p90} ms");
        assert!((1850.0..1950.0).contains(&p99), "{arrival:?} {p99} ms");
        // Who counts from the start sees only those that filled the slots.
        let lat = at(&ran.lats, 0.99);
        assert!(lat < 1.0, "{arrival:?} {lat} ms");
        // Nothing was skipped, and all of it was caught up with.
        let Kept {
            offered,
            backlog_max,
            unsent,
        } = ran.kept;
        assert!((1900..2100).contains(&offered), "{arrival:?} {offered}");
        let done = ran.responses.len() as u64;
        assert!(
            done.abs_diff(offered) <= 2 && unsent <= 1,
            "{done} of {offered}"
        );
        assert!(
            (350..450).contains(&backlog_max),
            "{arrival:?} {backlog_max}"
        );
    }
}

#[test]
fn operations_begin_when_they_are_due_where_a_slot_is_free() {
    for arrival in [Arrival::Const, Arrival::Poisson] {
        let ran = run((arrival, 5000.0), 32, FAST, 0.0..0.0, 2.0);
        assert!(ran.late.len() > 9000, "{arrival:?}");
        // A call of the device takes a microsecond, and two may lie before the look at the time.
        let late = at(&ran.late, 0.999);
        assert!(late < 0.003, "{arrival:?} {late} ms");
        assert!(at(&ran.responses, 0.5) < 0.110);
    }
    // Who waits for the device is not late by this program's doing.
    let stalled = run((Arrival::Const, 1000.0), 1, FAST, 0.5..1.0, 2.0);
    assert!(at(&stalled.responses, 0.8) > 50.0);
    assert!(at(&stalled.late, 0.999) < 0.003);
}

#[test]
fn a_device_that_is_too_slow_falls_behind_and_nothing_is_let_go() {
    // One slot and a millisecond each: a thousand per second of two thousand.
    let slow = Duration::from_millis(1);
    let ran = run((Arrival::Const, 2000.0), 1, slow, 0.0..0.0, 4.0);
    let done = ran.responses.len() as u64;
    assert!((3980..=4001).contains(&done), "{done}");
    assert!((7990..=8001).contains(&ran.kept.offered), "{:?}", ran.kept);
    let left = ran.kept.offered - done;
    assert!(ran.kept.unsent.abs_diff(left) <= 2, "{:?}", ran.kept);
    assert!(ran.kept.backlog_max.abs_diff(ran.kept.unsent) <= 1);
    // The last one that ended was due at half of the time.
    let last = at(&ran.responses, 0.9999);
    assert!((1980.0..2010.0).contains(&last), "{last} ms");
}
