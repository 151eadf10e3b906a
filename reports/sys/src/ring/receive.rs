//! Receives that stay armed: one request goes on answering as long as bytes come and there are
//! buffers, which the kernel takes from a ring by itself.

use super::base::Base;
use super::mapping::Mapping;
use super::{Grants, Refused};
use io_uring::types::BufRingEntry;
use io_uring::{cqueue, opcode};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// The number of the group that the buffers are.
const GROUP: u16 = 0;
/// Answers beyond one per buffer that there is room for: the ends of requests.
const SPARE_ANSWERS: u32 = 16;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Bytes in one buffer, which goes back to the kernel with the next call.
    Bytes(&'a [u8]),
    /// A message of no bytes: the end of a stream.
    Empty,
    /// Nothing in time.
    Nothing,
}

/// What one answer brought and was not handed out yet.
#[derive(Debug, Clone, Copy)]
struct Batch {
    buffer: u16,
    left: usize,
}

/// Receives from a socket into buffers of its own, of which the kernel takes one after the other.
pub struct ReceiveRing<F: AsFd> {
    base: Base<F>,
    /// The kernel's list of buffers to take.
    list: ManuallyDrop<Mapping>,
    memory: ManuallyDrop<Mapping>,
    /// How many buffers there are; a power of two.
    count: u16,
    /// Bytes of a buffer.
    bytes: usize,
    /// Bytes from one buffer to the next.
    stride: usize,
    /// How many times a buffer was put on the list.
    tail: u16,
    /// The buffer that the caller looks at.
    lent: Option<u16>,
    batch: Option<Batch>,
    /// Whether an answer of no bytes was not handed out yet.
    empty: bool,
    armed: bool,
    bundles: bool,
    starved: u64,
}

impl<F: AsFd> ReceiveRing<F> {
    /// A ring on `socket` with `count` buffers of `bytes` bytes; `count` is rounded up to a power
    /// of two. With `bundles` the kernel fills several of them at once, where it can (6.16).
    ///
    /// # Errors
    /// [`Refused`]: what the kernel says.
    pub fn new(socket: F, count: u16, bytes: usize, bundles: bool) -> Result<Self, Refused> {
        let count = count.clamp(1, 1 << 14).next_power_of_two();
        let bytes = bytes.clamp(1, 1 << 30);
        let mut base = Base::new(socket, 1, u32::from(count) + SPARE_ANSWERS)?;
        let stride = bytes.next_multiple_of(64);
        let map = |length| {
            Mapping::new(length).map_err(|error| Refused {
                what: "mmap",
                error,
            })
        };
        let list = map(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = map(usize::from(count) * stride)?;
        let address = list.start() as u64;
        // SAFETY: the list is `count` entries at a page's start, and stays until `drop` has seen
        // that nothing is in flight, or for ever.
        let registered = unsafe {
            base.submitter()
                .register_buf_ring_with_flags(address, count, GROUP, 0)
        };
        registered.map_err(|error| Refused {
            what: "IORING_REGISTER_PBUF_RING",
            error,
        })?;
        let bundles = bundles && {
            let answer = base.bundles();
            base.grants.note("bundles", answer)
        };
        let mut ring = Self {
            base,
            list: ManuallyDrop::new(list),
            memory: ManuallyDrop::new(memory),
            count,
            bytes,
            stride,
            tail: 0,
            lent: None,
            batch: None,
            empty: false,
            armed: false,
            bundles,
            starved: 0,
        };
        (0..count).for_each(|buffer| ring.give(buffer));
        Ok(ring)
    }

    /// What the kernel granted and refused.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.base.grants
    }

    /// How often the kernel was entered so far.
    #[must_use]
    pub fn enters(&self) -> u64 {
        self.base.enters
    }

    /// How often the kernel found no buffer, which ends a request.
    #[must_use]
    pub fn starved(&self) -> u64 {
        self.starved
    }

    /// How many buffers there are.
    #[must_use]
    pub fn buffers(&self) -> u16 {
        self.count
    }

    /// Puts a buffer on the kernel's list.
    #[inline]
    fn give(&mut self, buffer: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        let address = self
            .memory
            .start()
            .wrapping_add(usize::from(buffer) * self.stride);
        let list = self.list.start().cast::<BufRingEntry>();
        // SAFETY: the place lies on the list, which is memory of this ring that no reference leads
        // to, aligned for its entries. The kernel reads entries before the tail only, and no more
        // than `count` are, so that it does not read this one now.
        let entry = unsafe { &mut *list.add(place) };
        entry.set_addr(address as u64);
        entry.set_len(self.bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in a part of the first entry that the setters leave alone; it is
        // aligned, stays as long as the list, and is accessed atomically by both sides.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(list).cast_mut()) };
        // The kernel sees the entry before it sees that there is one more.
        tail.store(self.tail, Ordering::Release);
    }

    /// The next bytes, waiting for them at most `patience`. The buffer of the call before goes back
    /// to the kernel.
    ///
    /// # Errors
    /// What the kernel says of receiving, or of waiting.
    #[inline]
    pub fn receive(&mut self, patience: Duration) -> io::Result<Received<'_>> {
        while !self.advance()? {
            if !self.wait(patience)? {
                return Ok(Received::Nothing);
            }
        }
        Ok(self.hand_out())
    }

    /// The next bytes that are there. The buffer of the call before goes back to the kernel.
    ///
    /// # Errors
    /// What the kernel says of receiving.
    #[inline]
    pub fn poll(&mut self) -> io::Result<Received<'_>> {
        if self.advance()? {
            return Ok(self.hand_out());
        }
        Ok(Received::Nothing)
    }

    /// Reads answers up to one that brought something; says whether there is one.
    #[inline]
    fn advance(&mut self) -> io::Result<bool> {
        self.give_back();
        while self.batch.is_none() && !self.empty {
            let Some(answer) = self.base.next() else {
                return Ok(false);
            };
            self.empty = self.take(&answer)?;
        }
        Ok(true)
    }

    #[inline]
    fn hand_out(&mut self) -> Received<'_> {
        let Some(Batch { buffer, left }) = self.batch else {
            self.empty = false;
            return Received::Empty;
        };
        let length = left.min(self.bytes);
        // Buffers go back in the order in which they came, so that the next one on the list is the
        // next one by number.
        self.batch = (left > length).then_some(Batch {
            buffer: (buffer + 1) & (self.count - 1),
            left: left - length,
        });
        self.lent = Some(buffer);
        let start = usize::from(buffer) * self.stride;
        Received::Bytes(&self.memory[start..start + length])
    }

    /// Waits at most `patience` until there is an answer to look at, be it that a request has ended;
    /// says whether there is.
    ///
    /// # Errors
    /// What the kernel says of waiting.
    #[inline]
    pub fn wait(&mut self, patience: Duration) -> io::Result<bool> {
        self.give_back();
        if !self.has_next() {
            if !self.armed {
                self.arm();
            }
            self.base.enter(1, patience)?;
            if !self.base.has_next() {
                // An armed request may miss an end that came together with the last bytes (fixed
                // in Linux 7.0); one that is armed anew looks first.
                self.base.disarm()?;
                return Ok(false);
            }
        }
        Ok(self.has_next())
    }

    #[inline]
    fn give_back(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.give(buffer);
        }
    }

    #[inline]
    fn has_next(&self) -> bool {
        self.batch.is_some() || self.base.has_next()
    }

    /// Notes what an answer brought; says whether that was a message of no bytes.
    #[inline]
    fn take(&mut self, answer: &cqueue::Entry) -> io::Result<bool> {
        self.armed &= cqueue::more(answer.flags());
        let buffer = cqueue::buffer_select(answer.flags());
        match (answer.result(), buffer) {
            (length @ 1.., Some(buffer)) => {
                let left = length as usize;
                let most = if self.bundles {
                    self.memory.len()
                } else {
                    self.bytes
                };
                if buffer >= self.count || left > most {
                    return Err(unexpected(answer));
                }
                self.batch = Some(Batch { buffer, left });
                Ok(false)
            }
            (0, buffer) => {
                if let Some(buffer) = buffer
                    && buffer < self.count
                {
                    self.lent = Some(buffer);
                }
                Ok(true)
            }
            (error, _) => match -error {
                libc::ENOBUFS => {
                    self.starved += 1;
                    Ok(false)
                }
                libc::EINTR | libc::EAGAIN | libc::ECANCELED => Ok(false),
                errno @ 1.. => Err(io::Error::from_raw_os_error(errno)),
                _ => Err(unexpected(answer)),
            },
        }
    }

    /// Queues the request that goes on receiving.
    fn arm(&mut self) {
        macro_rules! receive {
            ($fd:expr) => {
                if self.bundles {
                    opcode::RecvMultiBundle::new($fd, GROUP).build()
                } else {
                    opcode::RecvMulti::new($fd, GROUP).build()
                }
            };
        }
        let entry = self.base.entry(|fd| receive!(fd), |fd| receive!(fd));
        // SAFETY: the request points to nothing; the buffers that the kernel takes from the list
        // are looked at only after it has answered with them, and before they are on the list
        // again. `drop` leaves both where they are until nothing is in flight.
        unsafe { self.base.push(&entry) };
        self.armed = true;
    }
}

#[cold]
fn unexpected(answer: &cqueue::Entry) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the kernel answered a receive with what cannot be: {answer:?}"),
    )
}

impl<F: AsFd> Drop for ReceiveRing<F> {
    fn drop(&mut self) {
        let armed = &mut self.armed;
        let idle = self.base.cancel(|answer| {
            if let Some(answer) = answer {
                *armed &= cqueue::more(answer.flags());
            }
            !*armed
        });
        // If the kernel could not be made to let go, it may still write to the buffers: better to
        // leak than to hand that memory to somebody else.
        if idle && self.base.submitter().unregister_buf_ring(GROUP).is_ok() {
            // SAFETY: none of these is used again.
            unsafe {
                ManuallyDrop::drop(&mut self.list);
                ManuallyDrop::drop(&mut self.memory);
            }
        }
    }
}
