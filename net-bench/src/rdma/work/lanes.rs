//! What all loops do with the lanes of a port: number and fill what they post, check what comes,
//! notice when the other side is gone, and end together with it.

use crate::rdma::ending::Ending;
use crate::rdma::port::{Completed, Completion, Delivery, NO_RECEIVE, Path, Port, Posted};
use crate::rdma::side::Found;
use crate::rdma::test::{Measure, Mode, Operation, RdmaTest};
use crate::workload::Shared;
use crate::workload::pattern::{PERIOD, Pattern};
use crate::workload::rr::{check_number, put_number};
use crate::workload::sequence::{Datagrams, Sequence};
use anyhow::Context;
use reports::measure::NeighbourFailed;
use reports::model::Work;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most completions that one call reads.
pub const BATCH: usize = 64;

/// After how many polls that brought nothing a loop looks around.
const LOOK_AROUND: u32 = 1 << 8;

/// How many times memory is watched before a loop looks around: some microseconds.
const LOOKS: u32 = 1 << 12;

/// How long a loop sleeps at most for an event before it looks around.
const NAP: Duration = Duration::from_millis(20);

/// How long what may be lost may still be on its way.
const STRAGGLING: Duration = Duration::from_millis(200);

/// How long what has completed may still be on its way into memory.
const SETTLING: Duration = Duration::from_secs(2);

/// By how many bytes the pattern moves on from one operation to the next.
const STRIDE: u64 = 64;

/// What a thread knows of its part of the test.
pub struct Setting {
    /// The test.
    pub test: RdmaTest,
    /// The number of the thread's first lane.
    pub first_lane: usize,
    /// Whether this side is the client.
    pub client: bool,
    /// What those who watch over the threads see.
    pub shared: Shared,
    /// How both sides end.
    pub ending: Arc<Ending>,
    /// Where what was counted goes.
    pub found: Arc<Mutex<Found>>,
}

/// A port with what its loops count.
pub struct Lanes<P> {
    /// The device.
    pub port: P,
    /// The test.
    pub test: RdmaTest,
    /// Payload bytes of an operation.
    pub length: usize,
    /// What watches over the threads.
    pub shared: Shared,
    /// How both sides end.
    pub ending: Arc<Ending>,
    /// Operations posted, by lane.
    pub posted: Vec<u64>,
    /// Operations of this side that completed, by lane.
    pub completed: Vec<u64>,
    /// Operations of the other side that arrived here, by lane.
    pub received: Vec<u64>,
    /// How many things were compared.
    pub checks: u64,
    /// How many things were compared in this side's memory at the end.
    pub settled: u64,
    /// The sum of what atomic operations returned.
    pub returned: u64,
    /// What became of messages that may come in any order or not at all.
    tally: Datagrams,
    found: Arc<Mutex<Found>>,
    first_lane: usize,
    unsignalled: Vec<u32>,
    /// Whether what a lane's next operation carries is in its buffer already.
    filled: Vec<bool>,
    sequences: Vec<Sequence>,
    delivery: Delivery,
    /// Payload bytes of a packet; all of them where a device has none.
    packet_bytes: usize,
    marked: bool,
    spoil: u64,
    pattern: Option<Pattern>,
    batch: [Completion; BATCH],
    batch_size: usize,
    idle: u32,
}

impl<P: Port> Lanes<P> {
    /// For a connected port, whose receives are posted.
    ///
    /// # Errors
    /// There is no memory for the pattern.
    pub fn new(mut port: P, setting: Setting) -> anyhow::Result<Self> {
        let Setting {
            test,
            first_lane,
            client,
            shared,
            ending,
            found,
        } = setting;
        let lanes = port.lanes() as usize;
        let length = test.length_bytes as usize;
        let pattern = test.verify.then(|| Pattern::new(length)).transpose()?;
        if test.operation == Operation::Read {
            for lane in 0..port.lanes() {
                for number in 0..u64::from(port.depth()) {
                    let target = &mut port.target(lane, number)[..length];
                    fill(target, number, pattern.as_ref());
                }
            }
        }
        // The one who owns what the client reads spoils it.
        let spoils = client != (test.operation == Operation::Read) && first_lane == 0;
        let spoil = test.spoil.filter(|_| spoils).unwrap_or(u64::MAX);
        let packet_bytes = match port.facts().path {
            Path::Rdma { mtu_bytes, .. } => mtu_bytes as usize,
            _ => length,
        };
        let mut own = Self {
            length,
            packet_bytes,
            posted: vec![0; lanes],
            completed: vec![0; lanes],
            received: vec![0; lanes],
            unsignalled: vec![0; lanes],
            filled: vec![false; lanes],
            checks: 0,
            settled: 0,
            returned: 0,
            tally: Datagrams::default(),
            first_lane,
            sequences: (0..lanes).map(|_| Sequence::default()).collect(),
            delivery: port.delivery(),
            marked: test.measure == Measure::Latency && test.operation == Operation::Write,
            spoil,
            pattern,
            batch: [Completion::NONE; BATCH],
            batch_size: (test.poll_batch as usize).clamp(1, BATCH),
            idle: 0,
            port,
            test,
            shared,
            ending,
            found,
        };
        if own.test.operation == Operation::Read && own.spoil != u64::MAX {
            let (number, middle) = (own.spoil, own.middle());
            own.port.target(0, number)[middle] ^= 0xff;
        }
        Ok(own)
    }

    /// How many lanes.
    #[inline]
    pub fn count(&self) -> usize {
        self.posted.len()
    }

    /// The lane whose turn comes after this one's.
    #[inline]
    pub fn after(&self, lane: usize) -> usize {
        if lane + 1 == self.count() {
            0
        } else {
            lane + 1
        }
    }

    /// Where a byte is spoilt.
    fn middle(&self) -> usize {
        (self.length - 1) / 2
    }

    /// Whether the numbers of a perftest run are wanted.
    #[inline]
    pub fn compat(&self) -> bool {
        self.test.mode == Mode::Compat
    }

    /// Shows how many bytes a lane has moved.
    #[inline]
    pub fn note(&self, lane: usize) {
        let operations = self.completed[lane] + self.received[lane];
        self.shared
            .note(self.first_lane + lane, operations * self.length as u64);
    }

    /// Operations of a lane that are in flight.
    #[inline]
    pub fn in_flight(&self, lane: usize) -> u64 {
        self.posted[lane] - self.completed[lane]
    }

    /// Whether the last operation of a lane was signalled.
    #[inline]
    pub fn is_signalled(&self, lane: usize) -> bool {
        self.unsignalled[lane] == 0
    }

    /// Whether all that the other side posts has come, or will not come any more.
    #[inline]
    pub fn all_came(&self) -> bool {
        match self.missing() {
            None => false,
            Some(missing) => missing == 0 || self.delivery == Delivery::Lossy,
        }
    }

    /// Fills and posts up to `count` operations of a lane, and says how many there was room for. One
    /// is signalled when it is due, or with `last`.
    ///
    /// # Errors
    /// The port's.
    #[inline(always)]
    pub fn post(&mut self, lane: usize, count: u32, last: bool) -> anyhow::Result<u32> {
        let done = u32::from(self.filled[lane]);
        for ahead in done..count {
            self.fill(lane, ahead);
        }
        let due = self.unsignalled[lane] + count >= self.test.moderation;
        match self.port.post(lane as u32, count, due || last)? {
            Posted::Taken(taken) => {
                self.posted[lane] += u64::from(taken);
                self.filled[lane] = false;
                // The signal is the last one's, which is not among them where not all were taken.
                self.unsignalled[lane] = if (due || last) && taken == count {
                    0
                } else {
                    self.unsignalled[lane] + taken
                };
                Ok(taken)
            }
            Posted::Full => Ok(0),
        }
    }

    /// Fills the buffer of a lane's next operation ahead of its post, if it is not in flight.
    #[inline]
    pub fn fill_ahead(&mut self, lane: usize) {
        if !self.filled[lane] && self.in_flight(lane) < u64::from(self.port.depth()) {
            self.fill(lane, 0);
            self.filled[lane] = true;
        }
    }

    /// Writes what an operation carries.
    #[inline]
    fn fill(&mut self, lane: usize, ahead: u32) {
        let number = self.posted[lane] + u64::from(ahead);
        let spoilt = number == self.spoil && lane == 0;
        match self.test.operation {
            Operation::Read => {}
            Operation::FetchAdd => {
                let add = 1 + u64::from(spoilt);
                self.port.operands(lane as u32, ahead, add, 0);
            }
            Operation::CompareSwap => {
                let swap = number + 1 + u64::from(spoilt);
                self.port.operands(lane as u32, ahead, number, swap);
            }
            _ => {
                let middle = self.middle();
                let payload = &mut self.port.outgoing(lane as u32, ahead)[..self.length];
                fill(payload, number, self.pattern.as_ref());
                if spoilt {
                    payload[middle] ^= 0xff;
                }
                if self.marked {
                    payload[self.length - 1] = marker(number);
                }
            }
        }
    }

    /// Polls once. What completed is left in the batch, to be taken with [`Lanes::completion`].
    ///
    /// # Errors
    /// The port's; the other side is gone.
    #[inline]
    pub fn poll(&mut self) -> anyhow::Result<usize> {
        let count = self.port.poll(&mut self.batch[..self.batch_size])?;
        if count == 0 {
            self.idle = self.idle.wrapping_add(1);
            if self.test.events {
                self.port.wait(NAP)?;
                self.look_around()?;
            } else if self.idle.is_multiple_of(LOOK_AROUND) {
                self.look_around()?;
            }
        }
        Ok(count)
    }

    /// A completion of the last poll.
    #[inline]
    pub fn completion(&self, index: usize) -> Completion {
        self.batch[index]
    }

    /// How many times a loop watches memory before it polls: verbs need no poll for what is written.
    #[inline]
    pub fn looks(&self) -> u32 {
        if P::POLL_TO_PROGRESS { 1 } else { LOOKS }
    }

    /// What may be taken for granted of messages.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Whether whoever watches over the test has given it up.
    ///
    /// # Errors
    /// It has.
    #[cold]
    pub fn look_around(&self) -> anyhow::Result<()> {
        if self.shared.was_cut() {
            return Err(NeighbourFailed.into());
        }
        Ok(())
    }

    /// Counts operations of this side that completed.
    #[inline]
    pub fn complete(&mut self, lane: usize, count: u32) {
        self.completed[lane] += u64::from(count);
    }

    /// Checks a message, or what a write left, and counts it; says whether it came for the first time.
    /// Its receive is not posted again.
    ///
    /// # Errors
    /// It is not what the other side sent.
    #[inline]
    pub fn receive(&mut self, lane: usize, completed: Completed) -> anyhow::Result<bool> {
        let expected = self.received[lane];
        if self.delivery == Delivery::InOrder {
            self.check(lane, expected, completed)?;
            self.received[lane] += 1;
            return Ok(true);
        }
        let number = self.number(expected, completed)?;
        let first = self.sequences[lane].note(number, &mut self.tally);
        self.compare(lane, number, completed)?;
        self.received[lane] += u64::from(first);
        Ok(first)
    }

    /// Counts what arrived as the operation that is due, and says which that is; to be checked with
    /// [`Lanes::check`]. For lanes that keep the order.
    #[inline]
    pub fn count_arrival(&mut self, lane: usize) -> u64 {
        let due = self.received[lane];
        self.received[lane] = due + 1;
        due
    }

    /// Checks that a message, or what a write left, is operation `due` of the other side.
    ///
    /// # Errors
    /// It is not.
    #[inline]
    pub fn check(&mut self, lane: usize, due: u64, completed: Completed) -> anyhow::Result<()> {
        let number = self.number(due, completed)?;
        if number != due {
            return Err(out_of_order(lane, due, number));
        }
        self.compare(lane, number, completed)
    }

    /// The number of the other side's operation that arrived, the nearest to the expected one.
    #[inline]
    fn number(&mut self, expected: u64, completed: Completed) -> anyhow::Result<u64> {
        let Completed::Received { slot, length, data } = completed else {
            anyhow::bail!("a completion of a post where a receive was due");
        };
        if self.test.operation == Operation::WriteData {
            let data = data.context("a write with data came without its data")?;
            return Ok(nearest(expected, data, 32));
        }
        anyhow::ensure!(
            length as usize == self.length,
            "a message of {length} bytes arrived; all have {}",
            self.length
        );
        let carried = self.length.min(8);
        let mut low = [0; 8];
        low[..carried].copy_from_slice(&self.port.incoming(slot)[..carried]);
        let low = u64::from_le_bytes(low);
        Ok(nearest(expected, low, 8 * carried as u32))
    }

    /// Compares the whole payload of an operation that arrived, if that is wanted.
    #[inline]
    fn compare(&mut self, lane: usize, number: u64, completed: Completed) -> anyhow::Result<()> {
        self.checks += 1;
        let (Some(pattern), Completed::Received { slot, .. }) = (&self.pattern, completed) else {
            return Ok(());
        };
        let payload = if self.test.operation != Operation::WriteData {
            self.port.incoming(slot)
        } else if slot != NO_RECEIVE || self.test.measure == Measure::Latency {
            // Who takes a receive waits until that is posted again.
            &*self.port.target(lane as u32, number)
        } else {
            // Others may be writing the next one into the same place: what is left at the end is
            // compared.
            return Ok(());
        };
        compare(&payload[..self.length], number, pattern, None)
    }

    /// Whether the other side's next write on a lane has arrived, by its last byte, looking so many
    /// times.
    #[inline]
    pub fn written(&self, lane: usize, looks: u32) -> bool {
        let number = self.received[lane];
        let mark = marker(number);
        self.port.watch(lane as u32, number, mark, looks)
    }

    /// Checks the write of a number, whose last byte has arrived.
    ///
    /// # Errors
    /// It is not what the other side wrote.
    #[inline]
    pub fn check_written(&mut self, lane: usize, number: u64) -> anyhow::Result<()> {
        let target = &self.port.target(lane as u32, number)[..self.length];
        let mark = self.length - 1;
        check_number(number, mark.min(8), target)?;
        if let Some(pattern) = &self.pattern {
            compare(target, number, pattern, Some(marker(number)))?;
        }
        self.checks += 1;
        Ok(())
    }

    /// Checks what a read or an atomic operation brought back.
    ///
    /// # Errors
    /// It is not what the other side's memory holds.
    #[inline]
    pub fn check_outcome(&mut self, lane: usize, number: u64) -> anyhow::Result<()> {
        let depth = u64::from(self.port.depth());
        let outcome = self.port.outcome(lane as u32, number);
        self.checks += 1;
        if self.test.operation.atomic() {
            let (before, _) = outcome
                .split_first_chunk::<8>()
                .context("an atomic operation returns 8 bytes")?;
            let before = u64::from_ne_bytes(*before);
            // In any order each value is returned once; their sum is checked at the end.
            self.returned = self.returned.wrapping_add(before);
            if self.delivery == Delivery::InOrder && before != number {
                anyhow::bail!(
                    "corrupt data: atomic operation {number} of lane {lane} found {before}, not \
                     {number}"
                );
            }
            return Ok(());
        }
        let slot = number % depth;
        check_number(slot, self.length.min(8), outcome)?;
        if let Some(pattern) = &self.pattern {
            compare(&outcome[..self.length], slot, pattern, None)?;
        }
        Ok(())
    }

    /// Completes what this side posted, then receives what the other posted, and leaves together with
    /// it. `take` handles a completion. Not timed.
    ///
    /// # Errors
    /// The port's; the other side is gone.
    pub fn part(
        &mut self,
        mut take: impl FnMut(&mut Self, Completion) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.answered() {
            self.complete_all(&mut take)?;
        }
        self.ending.posts_no_more(self.first_lane, &self.posted);
        let mut since: Option<Instant> = None;
        let mut seen = 0;
        loop {
            self.poll_and(&mut take)?;
            let received: u64 = self.received.iter().sum();
            let Some(missing) = self.missing() else {
                continue;
            };
            // What may be lost has a while to come after the last that did.
            if received != seen {
                (seen, since) = (received, None);
            }
            let lost = self.delivery == Delivery::Lossy
                && since.get_or_insert_with(Instant::now).elapsed() > STRAGGLING;
            if missing == 0 || lost {
                break;
            }
        }
        self.settle(&mut take)?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = self.ending.theirs().unwrap_or_default();
        let theirs = &theirs[self.first_lane..][..self.posted.len()];
        found.add(self.first_lane, &self.posted, &self.received, theirs);
        if self.delivery != Delivery::InOrder && self.test.operation.receives() {
            found.add_messages(Datagrams {
                sent: self.posted.iter().sum(),
                ..self.tally
            });
        }
        drop(found);
        self.ending.is_satisfied();
        while !self.ending.parted() && !self.shared.was_cut() {
            // From here on the other side may close at any time: that is no error.
            if self.poll_and(&mut take).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Whether each operation is answered by one of the other side, which tells that it has arrived.
    fn answered(&self) -> bool {
        self.test.measure == Measure::Latency && !self.test.operation.fetches()
    }

    /// Waits until all that this side posted has completed.
    fn complete_all(
        &mut self,
        take: &mut impl FnMut(&mut Self, Completion) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // Nobody tells of operations that were not signalled, but one that comes after them.
        for lane in 0..self.count() {
            while self.unsignalled[lane] > 0 {
                let room = self.in_flight(lane) < u64::from(self.port.depth());
                if !room || self.post(lane, 1, true)? == 0 {
                    self.poll_and(take)?;
                }
            }
        }
        while (0..self.count()).any(|lane| self.in_flight(lane) > 0) {
            self.poll_and(take)?;
        }
        Ok(())
    }

    fn poll_and(
        &mut self,
        take: &mut impl FnMut(&mut Self, Completion) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let count = self.poll()?;
        for index in 0..count {
            let completion = self.completion(index);
            take(self, completion)?;
        }
        Ok(())
    }

    /// How many operations of the other side that leave a trace here have not arrived yet; `None`
    /// while it may still post some.
    pub fn missing(&self) -> Option<u64> {
        let theirs = self.ending.theirs()?;
        if !self.test.operation.receives() && !self.marked {
            return Some(0);
        }
        let own = theirs.get(self.first_lane..)?.iter().zip(&self.received);
        Some(own.map(|(theirs, ours)| theirs.saturating_sub(*ours)).sum())
    }

    /// Checks what writes and atomic operations of the other side left in this side's memory. What has
    /// completed on the other side may still be on its way into it.
    fn settle(
        &mut self,
        take: &mut impl FnMut(&mut Self, Completion) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            match self.check_target() {
                Ok(checks) => {
                    self.settled = checks;
                    return Ok(());
                }
                Err(error) if begun.elapsed() > SETTLING => return Err(error),
                Err(_) => self.poll_and(take)?,
            }
        }
    }

    /// Compares what the other side reads with what this side put there; reads change nothing.
    fn check_lent(&mut self) -> anyhow::Result<u64> {
        let depth = u64::from(self.port.depth());
        let carried = self.length.min(8);
        for lane in 0..self.count() {
            for number in (0..depth).filter(|number| *number != self.spoil) {
                check_number(number, carried, self.port.target(lane as u32, number))
                    .with_context(|| format!("what lane {lane} lent at {number}"))?;
            }
        }
        Ok(depth * self.count() as u64)
    }

    /// Compares this side's memory with what the other side posted; how many comparisons it were.
    fn check_target(&mut self) -> anyhow::Result<u64> {
        let operation = self.test.operation;
        if operation == Operation::Read {
            return self.check_lent();
        }
        let written = matches!(operation, Operation::Write | Operation::WriteData);
        if self.marked || !(written || operation.atomic()) {
            return Ok(0);
        }
        let theirs = self.ending.theirs().context("the other side never ended")?;
        let theirs = theirs[self.first_lane..][..self.count()].to_vec();
        let mut checks = 0;
        for (lane, posted) in theirs.into_iter().enumerate() {
            checks += if operation.atomic() {
                self.check_counter(lane, posted)?
            } else if posted == 0 {
                self.check_untouched(lane)?
            } else if self.delivery == Delivery::Lossy {
                self.check_what_came(lane, posted)?
            } else {
                self.check_last_writes(lane, posted)?
            };
        }
        Ok(checks)
    }

    /// Compares a lane's counter with how many atomic operations of the other side there were.
    fn check_counter(&mut self, lane: usize, posted: u64) -> anyhow::Result<u64> {
        let target = self.port.target(lane as u32, 0);
        let (held, _) = target.split_first_chunk::<8>().context("8 bytes")?;
        let held = u64::from_ne_bytes(*held);
        anyhow::ensure!(
            held == posted,
            "corrupt data: after {posted} atomic operations on lane {lane} its memory holds {held}"
        );
        Ok(1)
    }

    /// Makes sure that nothing was written where the other side says that it wrote nothing.
    fn check_untouched(&mut self, lane: usize) -> anyhow::Result<u64> {
        let target = &self.port.target(lane as u32, 0)[..self.length];
        anyhow::ensure!(
            target.iter().all(|byte| *byte == 0),
            "corrupt data: nobody wrote on lane {lane}, but its memory has changed"
        );
        Ok(1)
    }

    /// Compares each place of a lane's ring with the last write to it.
    fn check_last_writes(&mut self, lane: usize, posted: u64) -> anyhow::Result<u64> {
        let depth = u64::from(self.port.depth());
        let last = posted.saturating_sub(depth)..posted;
        let count = last.end - last.start;
        for number in last {
            let target = &self.port.target(lane as u32, number)[..self.length];
            check_number(number, self.length.min(8), target)
                .with_context(|| format!("what write {number} of lane {lane} left"))?;
            if let Some(pattern) = &self.pattern {
                compare(target, number, pattern, None)?;
            }
        }
        Ok(count)
    }

    /// Compares each place of a lane's ring with the writes to it, of which any may be lost: what it
    /// holds has to be what one of them carried, unless nothing has come. Only the first packet of a
    /// write arrives whole or not at all. How many places held something.
    fn check_what_came(&mut self, lane: usize, posted: u64) -> anyhow::Result<u64> {
        let depth = u64::from(self.port.depth());
        let carried = self.length.min(8);
        let packet = self.length.min(self.packet_bytes);
        let mut checks = 0;
        for place in 0..depth.min(posted) {
            let target = &self.port.target(lane as u32, place)[..self.length];
            if target.iter().all(|byte| *byte == 0) {
                continue;
            }
            let holds = |number: &u64| target[..carried] == number.to_le_bytes()[..carried];
            // The newest first, which it mostly is.
            let rounds = (posted - 1 - place) / depth;
            let mut writes = (0..=rounds).rev().map(|round| place + round * depth);
            let number = writes.find(holds).with_context(|| {
                format!(
                    "corrupt data: place {place} of lane {lane} holds {:02x?}, which none of the \
                     {posted} writes carried there",
                    &target[..carried]
                )
            })?;
            if let Some(pattern) = &self.pattern {
                compare(&target[..packet], number, pattern, None)?;
            }
            checks += 1;
        }
        Ok(checks)
    }

    /// Work of so many operations.
    #[inline]
    pub fn work(&self, operations: u64) -> Work {
        Work {
            ops: operations,
            bytes: operations * self.length as u64,
        }
    }
}

/// The payload of operation `number`.
#[inline]
fn fill(payload: &mut [u8], number: u64, pattern: Option<&Pattern>) {
    if let Some(pattern) = pattern {
        payload.copy_from_slice(pattern.at(position(number), payload.len()));
    }
    put_number(number, payload);
}

fn position(number: u64) -> u64 {
    (number % (PERIOD as u64 / STRIDE)) * STRIDE
}

/// Compares a whole payload; `mark` is what its last byte was replaced with.
fn compare(payload: &[u8], number: u64, pattern: &Pattern, mark: Option<u8>) -> anyhow::Result<()> {
    let length = payload.len();
    let expected = pattern.at(position(number), length);
    let end = length - usize::from(mark.is_some());
    let begin = 8.min(end);
    check_number(number, begin, payload)?;
    if payload[begin..end] == expected[begin..end] {
        return Ok(());
    }
    let differs = |at: &usize| payload[*at] != expected[*at];
    let at = (begin..end).find(differs).unwrap_or(begin);
    anyhow::bail!(
        "corrupt data: byte {at} of operation {number} should be {:02x} and is {:02x}",
        expected[at],
        payload[at]
    )
}

/// What the last byte of a write is, by which the other side notices it: never what the same buffer
/// held before, since rings of writes that are noticed so are shorter than 255.
#[inline]
fn marker(number: u64) -> u8 {
    (number % 255) as u8 + 1
}

/// The number whose low `bits` are these and which is nearest to the expected one.
#[inline]
fn nearest(expected: u64, low: u64, bits: u32) -> u64 {
    if bits >= 64 {
        return low;
    }
    let range = 1_u64 << bits;
    let low = low & (range - 1);
    let base = expected & !(range - 1);
    let candidate = base | low;
    if candidate > expected && candidate - expected > range / 2 && candidate >= range {
        candidate - range
    } else if candidate < expected && expected - candidate > range / 2 {
        candidate + range
    } else {
        candidate
    }
}

#[cold]
fn out_of_order(lane: usize, expected: u64, number: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "corrupt data: lane {lane} brought operation {number} where {expected} was due, and its \
         order is kept"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_numbers_are_those_nearest_to_the_expected() {
        assert_eq!(nearest(0, 0, 8), 0);
        assert_eq!(nearest(254, 1, 8), 257);
        assert_eq!(nearest(257, 254, 8), 254);
        assert_eq!(nearest(1000, 1000 & 0xff, 8), 1000);
        assert_eq!(nearest(3, 250, 8), 250, "there is nothing below zero");
        assert_eq!(nearest(5, 77, 64), 77);
        assert_eq!(nearest((1 << 32) + 5, 3, 32), (1 << 32) + 3);
    }

    #[test]
    fn markers_differ_within_a_ring_and_from_fresh_memory() {
        for depth in [1_u64, 2, 127, 128, 254] {
            for number in 0..1000 {
                assert_ne!(marker(number), 0);
                assert_ne!(marker(number), marker(number + depth), "{depth}");
            }
        }
    }
}
