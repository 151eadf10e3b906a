//! The calls of the timed loops: posting, reading completions, and the buffers between.
//!
//! Nothing here allocates, locks, or calls anything but the device's own functions.

use super::{Completed, Completion, GRH, Lanes, Posted, STRIDE};
use crate::error::{Error, meaning, text};
use crate::queue::{BATCH, CompletionQueue};
use crate::{Operation, Service};
use rdma_sys::{
    ibv_post_recv, ibv_post_send, ibv_post_srq_recv, ibv_qp, ibv_send_flags, ibv_send_wr, ibv_wc,
    ibv_wc_flags, ibv_wc_status, imm_data_invalidated_rkey_union_t,
};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Every so many polls the queue of sends is read even if nothing is expected there.
const FAILURES_SOUGHT_EVERY: u32 = 64;

impl Lanes {
    /// A number's place in a ring.
    #[inline]
    fn place(number: u64, slots: u32) -> usize {
        let slots = u64::from(slots);
        // A division takes longer than the check.
        let place = if slots.is_power_of_two() {
            number & (slots - 1)
        } else {
            number % slots
        };
        place as usize
    }

    /// The place in the ring of a lane's `ahead`-th next operation, which is not in flight.
    #[inline]
    fn next_place(&self, lane: u32, ahead: u32) -> usize {
        let depth = self.shape.depth;
        let lane = &self.lanes[lane as usize];
        assert!(
            ahead < depth - lane.in_flight(),
            "operation {ahead} from now is in flight"
        );
        let place = lane.head + ahead;
        (if place >= depth { place - depth } else { place }) as usize
    }

    #[inline]
    fn ring(&self, lane: u32, place: usize) -> *mut u8 {
        let first = lane as usize * self.shape.depth as usize;
        self.outgoing.at((first + place) * self.stride)
    }

    /// The buffer of a lane's `ahead`-th next operation.
    ///
    /// # Panics
    /// There is no such lane, or the buffer is in flight.
    #[inline]
    #[must_use]
    pub fn outgoing(&mut self, lane: u32, ahead: u32) -> &mut [u8] {
        let place = self.next_place(lane, ahead);
        // SAFETY: the lane exists and the place is in its ring, so the slot is in the region; no
        // operation works on it, and the borrow keeps everyone else out.
        unsafe { std::slice::from_raw_parts_mut(self.ring(lane, place), self.shape.length) }
    }

    /// Says what a lane's `ahead`-th next atomic operation works with; for others it does nothing.
    ///
    /// # Panics
    /// As [`Lanes::outgoing`].
    #[inline]
    pub fn operands(&mut self, lane: u32, ahead: u32, compare_or_add: u64, swap: u64) {
        let place = self.next_place(lane, ahead);
        if self.shape.operation.is_atomic() {
            // SAFETY: the place is in the table, and no call reads it at present. For an atomic
            // operation this is the union's part in use.
            unsafe {
                let request = self.lanes[lane as usize].requests.at(place);
                (*request).wr.wr.atomic.compare_add = compare_or_add;
                (*request).wr.wr.atomic.swap = swap;
            }
        }
    }

    /// Posts a lane's next operations, at most `count`, with one call. With `signal` the last of them
    /// completes, for all before it too. Without, none does, unless nothing else would ever make room
    /// in a ring that is full.
    ///
    /// # Errors
    /// The device's reason.
    ///
    /// # Panics
    /// There is no such lane.
    #[inline(always)]
    pub fn post(&mut self, lane_index: u32, count: u32, signal: bool) -> Result<Posted, Error> {
        // The peer may answer to what is posted here, and takes for granted what came before.
        self.flush()?;
        let depth = self.shape.depth;
        let with_data = self.shape.operation == Operation::WriteData;
        let lane = &mut self.lanes[lane_index as usize];
        let count = count.min(depth - lane.in_flight());
        if count == 0 {
            return Ok(Posted::Full);
        }
        let signal = signal || lane.unsignalled + count == depth;
        let first = lane.head;
        let mut place = first;
        for step in 0..count {
            let request = lane.requests.at(place as usize);
            let number = lane.posted + u64::from(step);
            place = if place + 1 == depth { 0 } else { place + 1 };
            let last = step + 1 == count;
            // SAFETY: both places are in the table, and no call reads it at present.
            unsafe {
                let wr = &raw mut (*request).wr;
                (*wr).next = if last {
                    ptr::null_mut()
                } else {
                    &raw mut (*lane.requests.at(place as usize)).wr
                };
                (*wr).send_flags = if last && signal {
                    self.flags | ibv_send_flags::IBV_SEND_SIGNALED.0
                } else {
                    self.flags
                };
                (*wr).wr_id = u64::from(lane_index) << 32 | u64::from(number as u32);
                if with_data {
                    (*wr).imm_data_invalidated_rkey_union = imm_data_invalidated_rkey_union_t {
                        imm_data: (number as u32).to_be(),
                    };
                }
            }
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair is open, the list ends, and its buffers stay in place and untouched
        // until it completes.
        let returned = unsafe {
            let request = lane.requests.at(first as usize);
            ibv_post_send(lane.pair.raw(), &raw mut (*request).wr, &raw mut bad)
        };
        if returned != 0 {
            return self.refused(lane_index, returned, bad);
        }
        lane.posted += u64::from(count);
        lane.head = place;
        if signal {
            lane.unsignalled = 0;
            self.signalled += 1;
        } else {
            lane.unsignalled += count;
        }
        Ok(Posted::Taken(count))
    }

    /// What of a list was posted, if the device did not take all of it. The last is not among it,
    /// nor its signal.
    #[cold]
    fn refused(
        &mut self,
        lane_index: u32,
        returned: i32,
        bad: *mut ibv_send_wr,
    ) -> Result<Posted, Error> {
        let depth = self.shape.depth;
        let operation = self.shape.operation;
        let lane = &mut self.lanes[lane_index as usize];
        let mut taken = 0;
        let mut place = lane.head;
        // SAFETY: the places are in the table; the list ends with a null pointer.
        unsafe {
            let mut request = &raw mut (*lane.requests.at(place as usize)).wr;
            while !request.is_null() && request != bad {
                request = (*request).next;
                place = if place + 1 == depth { 0 } else { place + 1 };
                taken += 1;
            }
        }
        let room_comes = lane.in_flight() > lane.unsignalled;
        let full = returned.abs() == libc::ENOMEM && room_comes;
        if bad.is_null() || !full {
            let what = format!("ibv_post_send of a {operation} on lane {lane_index}");
            return Err(Error::returned(what, returned));
        }
        if taken == 0 {
            return Ok(Posted::Full);
        }
        lane.posted += u64::from(taken);
        lane.head = place;
        lane.unsignalled += taken;
        Ok(Posted::Taken(taken))
    }

    /// Posts a receive; up to [`Shape::gather`](super::Shape::gather) are gathered, and posted at the
    /// next call of [`Lanes::post`], [`Lanes::poll`] or [`Lanes::wait`] at the latest.
    ///
    /// # Errors
    /// The device's reason.
    ///
    /// # Panics
    /// There is no such slot, or it is posted already.
    #[inline]
    pub fn post_receive(&mut self, slot: u32) -> Result<(), Error> {
        let state = &mut self.slots[slot as usize];
        assert!(!state.posted, "receive {slot} is posted already");
        let lane = state.lane;
        if self.gathered > 0 && lane != self.gathered_lane && self.shared.is_none() {
            self.flush()?;
        }
        self.slots[slot as usize].posted = true;
        self.gathered_lane = lane;
        // SAFETY: the slot is in the table; the last gathered one is in it too, and no call reads
        // the table at present.
        unsafe {
            let wr = &raw mut (*self.receives.at(slot as usize)).wr;
            (*wr).next = ptr::null_mut();
            if self.gathered == 0 {
                self.first_gathered = wr;
            } else {
                (*self.last_gathered).next = wr;
            }
            self.last_gathered = wr;
        }
        self.gathered += 1;
        if self.gathered >= self.shape.gather {
            self.flush()?;
        }
        Ok(())
    }

    /// Posts the receives that were gathered.
    #[inline(always)]
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.gathered == 0 {
            return Ok(());
        }
        self.post_gathered()
    }

    fn post_gathered(&mut self) -> Result<(), Error> {
        let mut bad = ptr::null_mut();
        // SAFETY: the queues are open; the list ends, and its buffers stay in place and untouched
        // until they complete.
        let returned = unsafe {
            match &self.shared {
                Some(shared) => ibv_post_srq_recv(shared.raw(), self.first_gathered, &raw mut bad),
                None => {
                    let pair: *mut ibv_qp = self.lanes[self.gathered_lane as usize].pair.raw();
                    ibv_post_recv(pair, self.first_gathered, &raw mut bad)
                }
            }
        };
        self.gathered = 0;
        if returned != 0 {
            let what = format!("posting receives on lane {}", self.gathered_lane);
            return Err(Error::returned(what, returned));
        }
        Ok(())
    }

    /// Reads completions, as many as there is room for and at most [`BATCH`], of one kind: who waits
    /// for one does not pay for a look at the other. The kinds take turns where both come.
    ///
    /// # Errors
    /// An operation failed: which, and why.
    #[inline]
    pub fn poll<E: From<Completion>>(&mut self, into: &mut [E]) -> Result<usize, Error> {
        self.flush()?;
        self.polls = self.polls.wrapping_add(1);
        // An operation that is not signalled completes nevertheless when it fails.
        let may_have_failed = self.polls.is_multiple_of(FAILURES_SOUGHT_EVERY);
        let expects_sends = self.signalled > 0 || may_have_failed;
        if expects_sends && !self.arrivals_first {
            let count = self.poll_sends(into)?;
            if count > 0 {
                self.arrivals_first = true;
                return Ok(count);
            }
        }
        let count = self.poll_arrivals(into)?;
        if count > 0 || !(expects_sends && self.arrivals_first) {
            self.arrivals_first = false;
            return Ok(count);
        }
        self.poll_sends(into)
    }

    #[inline]
    fn poll_sends<E: From<Completion>>(&mut self, into: &mut [E]) -> Result<usize, Error> {
        // SAFETY: the table has so much room, and only polls use it.
        let read = unsafe { self.sends.read(self.entries.at(0), into.len()) }?;
        for (index, place) in into[..read].iter_mut().enumerate() {
            // SAFETY: so many of them were filled in.
            let entry = unsafe { &*self.entries.at(index) };
            if entry.status != ibv_wc_status::IBV_WC_SUCCESS {
                return Err(self.failure(entry, true));
            }
            let index = (entry.wr_id >> 32) as u32;
            let lane = &mut self.lanes[index as usize];
            let (first, count) = since(lane.completed, entry.wr_id as u32);
            lane.completed += u64::from(count);
            self.signalled -= 1;
            *place = E::from(Completion {
                lane: index,
                completed: Completed::Posted { first, count },
            });
        }
        Ok(read)
    }

    #[inline]
    fn poll_arrivals<E: From<Completion>>(&mut self, into: &mut [E]) -> Result<usize, Error> {
        let Some(arrivals) = &self.arrivals else {
            return Ok(0);
        };
        // SAFETY: the table has so much room, and only polls use it.
        let read = unsafe { arrivals.read(self.entries.at(0), into.len()) }?;
        let header = match self.shape.service {
            Service::Ud => GRH as u32,
            Service::Rc | Service::Uc => 0,
        };
        for (index, place) in into[..read].iter_mut().enumerate() {
            // SAFETY: so many of them were filled in.
            let entry = unsafe { &*self.entries.at(index) };
            if entry.status != ibv_wc_status::IBV_WC_SUCCESS {
                return Err(self.failure(entry, false));
            }
            let slot = entry.wr_id as u32;
            let length = entry.byte_len.saturating_sub(header);
            let state = &mut self.slots[slot as usize];
            state.posted = false;
            state.length = length;
            if self.shared.is_some() {
                state.lane = self.numbers.lane(entry.qp_num).unwrap_or(0);
            }
            let with_data = entry.wc_flags & ibv_wc_flags::IBV_WC_WITH_IMM.0 != 0;
            // SAFETY: with this flag it is the union's part in use.
            let data = with_data
                .then(|| u32::from_be(unsafe { entry.imm_data_invalidated_rkey_union.imm_data }));
            *place = E::from(Completion {
                lane: state.lane,
                completed: Completed::Received { slot, length, data },
            });
        }
        Ok(read)
    }

    /// The error of a completion. What was flushed failed because of something else, which may be
    /// among the completions that were not read yet.
    #[cold]
    fn failure(&self, entry: &ibv_wc, of_sends: bool) -> Error {
        let flushed = ibv_wc_status::IBV_WC_WR_FLUSH_ERR;
        if entry.status == flushed {
            let arrivals = self.arrivals.as_ref().map(|queue| (queue, false));
            for (queue, of_sends) in [Some((&self.sends, true)), arrivals].into_iter().flatten() {
                if let Some(cause) = cause(queue) {
                    return self.completion_error(&cause, of_sends);
                }
            }
        }
        self.completion_error(entry, of_sends)
    }

    fn completion_error(&self, entry: &ibv_wc, of_sends: bool) -> Error {
        let what = if of_sends {
            let lane = (entry.wr_id >> 32) as u32;
            let completed = self
                .lanes
                .get(lane as usize)
                .map_or(0, |lane| lane.completed);
            let (first, count) = since(completed, entry.wr_id as u32);
            let number = first + u64::from(count) - 1;
            format!("{} {number} on lane {lane}", self.shape.operation)
        } else {
            let lane = self.numbers.lane(entry.qp_num).unwrap_or(0);
            format!("a receive (slot {}) on lane {lane}", entry.wr_id)
        };
        // SAFETY: the function takes any number, and returns text that is never freed.
        let status = unsafe { text((self.domain.verbs().ibv_wc_status_str)(entry.status)) };
        Error::Completion {
            what,
            status: status.unwrap_or_else(|| "unknown status".to_owned()),
            code: entry.status,
            vendor: entry.vendor_err,
            remedy: meaning(entry.status).to_owned(),
        }
    }

    /// Sleeps until there may be something to poll, at most some time. It returns at once without
    /// events, when nothing is to complete that would make one, and when it has just asked for them,
    /// since what completed before makes none.
    ///
    /// # Errors
    /// The system's reason.
    pub fn wait(&mut self, patience: Duration) -> Result<(), Error> {
        if self.channel.is_none() {
            return Ok(());
        }
        self.flush()?;
        let waiting = [
            self.arrivals.as_ref(),
            (self.signalled > 0).then_some(&self.sends),
        ];
        let (mut waits, mut armed) = (false, true);
        for queue in waiting.into_iter().flatten() {
            waits = true;
            armed &= queue.arm()?;
        }
        if !(waits && armed) {
            return Ok(());
        }
        let told = match &self.channel {
            Some(channel) => channel.wait(patience)?,
            None => None,
        };
        let queues = [Some(&self.sends), self.arrivals.as_ref()];
        let told = queues
            .into_iter()
            .flatten()
            .find(|queue| Some(queue.raw()) == told);
        if let Some(queue) = told {
            queue.told();
            // Before what is there is polled, so that nothing falls between.
            queue.arm()?;
        }
        Ok(())
    }

    /// The payload of a lane's operation that has completed, and whose buffer was not posted again.
    ///
    /// # Panics
    /// There is no such lane, or the buffer is in flight or belongs to another operation.
    #[inline]
    #[must_use]
    pub fn outcome(&mut self, lane: u32, number: u64) -> &[u8] {
        let state = &self.lanes[lane as usize];
        assert!(
            number < state.completed && state.posted <= number + u64::from(self.shape.depth),
            "operation {number} has not completed, or its buffer was posted again"
        );
        let place = Self::place(number, self.shape.depth);
        // SAFETY: the lane exists and the place is in its ring, so the slot is in the region; the
        // operation has completed, and none was posted on it since.
        unsafe { std::slice::from_raw_parts(self.ring(lane, place), self.shape.length) }
    }

    /// What a receive that has completed brought; of a write with data nothing, that is in the
    /// target.
    ///
    /// # Panics
    /// There is no such slot, or it is posted.
    #[inline]
    #[must_use]
    pub fn incoming(&mut self, slot: u32) -> &[u8] {
        let state = self.slots[slot as usize];
        assert!(!state.posted, "receive {slot} is posted");
        let Some(incoming) = &self.incoming else {
            return &[];
        };
        let before = match self.shape.service {
            Service::Ud => STRIDE,
            Service::Rc | Service::Uc => 0,
        };
        let at = incoming.at(slot as usize * self.receive_stride + before);
        let length = self.shape.length.min(state.length as usize);
        // SAFETY: the slot is in the region; the device works on it only while it is posted.
        unsafe { std::slice::from_raw_parts(at, length) }
    }

    /// Where the peer's operation works.
    #[inline]
    fn target_at(&self, lane: u32, number: u64) -> Option<*mut u8> {
        let target = self.target.as_ref()?;
        assert!(lane < self.shape.lanes, "there is no lane {lane}");
        let first = lane as usize * self.target_slots as usize;
        let place = Self::place(number, self.target_slots);
        Some(target.at((first + place) * self.stride))
    }

    /// The last byte of what the peer's operation `number` fills, as it is in memory; what came
    /// before it in that operation is seen by whoever sees it.
    ///
    /// # Panics
    /// There is no such lane.
    #[inline]
    #[must_use]
    pub fn peek(&self, lane: u32, number: u64) -> u8 {
        self.last_byte(lane, number)
            .map_or(0, |byte| byte.load(Ordering::Acquire))
    }

    /// Whether that byte becomes `value` while it is looked at so many times. Where it is, is found
    /// out once, so that what has arrived is seen at once.
    ///
    /// # Panics
    /// As [`Lanes::peek`].
    #[inline]
    #[must_use]
    pub fn watch(&self, lane: u32, number: u64, value: u8, looks: u32) -> bool {
        let byte = self.last_byte(lane, number);
        byte.is_some_and(|byte| (0..looks).any(|_| byte.load(Ordering::Acquire) == value))
    }

    #[inline]
    fn last_byte(&self, lane: u32, number: u64) -> Option<&AtomicU8> {
        let start = self.target_at(lane, number)?;
        let last = self.shape.length.checked_sub(1)?;
        // SAFETY: the byte is in the slot, which lives as long as the lanes; the device changes it
        // at any time, which an atomic load allows for.
        Some(unsafe { AtomicU8::from_ptr(start.wrapping_add(last)) })
    }

    /// The memory in which the peer's operation `number` on a lane works; the peer must not be at
    /// it. Empty for messages.
    ///
    /// # Panics
    /// There is no such lane.
    #[inline]
    #[must_use]
    pub fn target(&mut self, lane: u32, number: u64) -> &mut [u8] {
        match self.target_at(lane, number) {
            // SAFETY: the slot is in the region, and the borrow keeps this side out. The peer is
            // outside of what this program's memory model knows: if it works on the slot against
            // the rule, bytes change under the reference, as they do in C.
            Some(start) => unsafe { std::slice::from_raw_parts_mut(start, self.shape.length) },
            None => &mut [],
        }
    }
}

/// The first completion in a queue that failed of itself. All before it are read, too.
fn cause(queue: &CompletionQueue) -> Option<ibv_wc> {
    let mut entries = [const { MaybeUninit::<ibv_wc>::uninit() }; BATCH];
    loop {
        // SAFETY: there is so much room.
        let read = unsafe { queue.read(entries.as_mut_ptr().cast(), BATCH) };
        let read = read.ok().filter(|read| *read > 0)?;
        for entry in &entries[..read] {
            // SAFETY: so many of them were filled in, with plain numbers.
            let entry = unsafe { entry.assume_init_read() };
            let (fine, flushed) = (
                ibv_wc_status::IBV_WC_SUCCESS,
                ibv_wc_status::IBV_WC_WR_FLUSH_ERR,
            );
            if entry.status != fine && entry.status != flushed {
                return Some(entry);
            }
        }
    }
}

/// The operations that a signalled one stands for: those after the last that are known to have
/// completed, up to the one with these low bits of its number.
#[inline]
fn since(completed: u64, last: u32) -> (u64, u32) {
    let count = last.wrapping_sub(completed as u32).wrapping_add(1);
    (completed, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signalled_operation_stands_for_those_before_it() {
        assert_eq!(since(0, 0), (0, 1));
        assert_eq!(since(100, 163), (100, 64));
        // Across the end of what a request's number keeps.
        let completed = (1 << 32) - 2;
        assert_eq!(since(completed, 1), (completed, 4));
    }

    #[test]
    fn places_in_rings_are_remainders() {
        for slots in [1, 2, 3, 64, 100, 128] {
            for number in [0, 1, 99, 100, 12_345, u64::from(u32::MAX) + 7] {
                assert_eq!(
                    Lanes::place(number, slots) as u64,
                    number % u64::from(slots)
                );
            }
        }
    }
}
