//! Sends from memory that is laid out once, several with one system call.

use super::base::Base;
use super::mapping::Mapping;
use super::{Grants, Refused};
use io_uring::{cqueue, opcode, squeue};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::time::Duration;

/// In a send without a copy: say whether it was one. (linux/io_uring.h, since 6.2)
const REPORT_USAGE: u16 = 1 << 3;
/// In the notification of such a send: it was copied all the same. (linux/io_uring.h)
const COPIED: u32 = 1 << 31;

/// How the kernel takes what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendKind {
    /// It copies the bytes (`IORING_OP_SEND`).
    Copied,
    /// The network reads the memory, if it can (`IORING_OP_SEND_ZC`).
    Uncopied,
}

/// What became of sends without a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sends that the kernel took.
    pub sends: u64,
    /// Sends of which it said that it needs the memory no more.
    pub completed: u64,
    /// Of those, the ones that it copied after all.
    pub copied: u64,
}

/// A part of the memory on its way.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    length: usize,
    /// What the kernel said of it; absent until it has.
    result: Option<i32>,
}

/// Sends parts of its memory on a socket, in order.
///
/// All that is queued goes to the kernel as one chain: each send begins when the one before was taken
/// whole (`IOSQE_IO_LINK`, `MSG_WAITALL`), because two that wait for room in the socket's buffer at
/// the same time would mix their bytes. Should one end short all the same, the kernel cancels those
/// behind it, and what is missing is sent again from there.
pub struct SendRing<F: AsFd> {
    base: Base<F>,
    memory: ManuallyDrop<Mapping>,
    fixed_memory: bool,
    kind: SendKind,
    depth: usize,
    /// What is queued or on its way, in order.
    pieces: Vec<Piece>,
    /// How many of them the kernel has and has not answered.
    in_flight: usize,
    usage: Usage,
}

impl<F: AsFd> SendRing<F> {
    /// A ring on `socket` that sends parts of a copy of `memory`, at most `depth` at once.
    ///
    /// # Errors
    /// [`Refused`]: what the kernel says.
    pub fn new(socket: F, memory: &[u8], depth: usize, kind: SendKind) -> Result<Self, Refused> {
        let entries = depth.clamp(1, 1 << 12);
        // A send without a copy is answered twice.
        let mut base = Base::new(socket, entries as u32, 4 * entries as u32)?;
        let mapped = Mapping::new(memory.len());
        let mut mapping = mapped.map_err(|error| Refused {
            what: "mmap",
            error,
        })?;
        mapping[..memory.len()].copy_from_slice(memory);
        let fixed_memory = kind == SendKind::Uncopied && {
            let region = libc::iovec {
                iov_base: mapping.start().cast(),
                iov_len: mapping.len(),
            };
            // SAFETY: the mapping lives until `drop` has seen that nothing is in flight, or for ever.
            let registered = unsafe { base.submitter().register_buffers(&[region]) };
            base.grants.note("registered_memory", registered)
        };
        Ok(Self {
            base,
            memory: ManuallyDrop::new(mapping),
            fixed_memory,
            kind,
            depth: entries,
            pieces: Vec::with_capacity(entries),
            in_flight: 0,
            usage: Usage::default(),
        })
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

    /// Whether no further send can be queued before those that are have been taken.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pieces.len() >= self.depth
    }

    /// What became of sends without a copy so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The memory, to be written before what is in it is queued.
    ///
    /// # Panics
    /// The kernel has not taken all that was queued.
    #[inline]
    pub fn memory_mut(&mut self) -> &mut [u8] {
        let idle = self.pieces.is_empty() && self.usage.completed == self.usage.sends;
        assert!(idle, "the kernel reads the memory");
        &mut self.memory
    }

    /// Queues a send of `length` bytes of the memory from `start` on.
    ///
    /// # Panics
    /// The ring is full or sending, or the memory does not reach as far.
    #[inline]
    pub fn queue(&mut self, start: usize, length: usize) {
        assert!(!self.is_full() && self.in_flight == 0, "room for a send");
        assert!(
            start
                .checked_add(length)
                .is_some_and(|end| end <= self.memory.len())
                && u32::try_from(length).is_ok(),
            "a part of the memory"
        );
        self.pieces.push(Piece {
            start,
            length,
            result: None,
        });
    }

    /// Sends what is queued, waiting at most `patience`. `true` means that the kernel has taken all
    /// of it; otherwise it has to be called again.
    ///
    /// # Errors
    /// What the kernel says of the first send that it did not take.
    #[inline]
    pub fn flush(&mut self, patience: Duration) -> io::Result<bool> {
        if self.in_flight == 0 {
            self.submit();
        }
        if self.in_flight > 0 {
            self.base.enter(self.in_flight, patience)?;
            self.reap();
        }
        Ok(self.in_flight == 0 && self.settle()?)
    }

    /// Hands all pieces to the ring as one chain.
    #[inline]
    fn submit(&mut self) {
        for index in 0..self.pieces.len() {
            let Piece { start, length, .. } = self.pieces[index];
            self.pieces[index].result = None;
            let more = index + 1 < self.pieces.len();
            let flags = if more {
                squeue::Flags::IO_LINK
            } else {
                squeue::Flags::empty()
            };
            let entry = self
                .send(start, length)
                .flags(flags)
                .user_data(index as u64);
            // SAFETY: the piece lies within the memory, as `queue` has seen to, and nothing writes
            // to that as long as anything is in flight; `drop` leaves it where it is until the kernel
            // needs it no more.
            unsafe { self.base.push(&entry) };
        }
        self.in_flight = self.pieces.len();
    }

    #[inline]
    fn send(&self, start: usize, length: usize) -> squeue::Entry {
        let address = self.memory.start().wrapping_add(start).cast_const();
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        // `queue` has seen that it fits.
        let length = length as u32;
        match self.kind {
            SendKind::Copied => self.base.entry(
                |fd| opcode::Send::new(fd, address, length).flags(flags).build(),
                |fd| opcode::Send::new(fd, address, length).flags(flags).build(),
            ),
            SendKind::Uncopied => {
                let memory = self.fixed_memory.then_some(0);
                macro_rules! send {
                    ($fd:expr) => {
                        opcode::SendZc::new($fd, address, length)
                            .buf_index(memory)
                            .flags(flags)
                            .zc_flags(REPORT_USAGE)
                            .build()
                    };
                }
                self.base.entry(|fd| send!(fd), |fd| send!(fd))
            }
        }
    }

    #[inline]
    fn reap(&mut self) {
        while let Some(answer) = self.base.next() {
            if note(&mut self.usage, &answer) {
                continue;
            }
            // The kernel returns the numbers that it was given.
            if let Some(piece) = self.pieces.get_mut(answer.user_data() as usize) {
                piece.result = Some(answer.result());
                self.in_flight -= 1;
            }
        }
    }

    /// Looks at the answers once all are there; says whether everything was taken.
    #[inline]
    fn settle(&mut self) -> io::Result<bool> {
        let whole = |piece: &Piece| piece.result == Some(piece.length as i32);
        if self.pieces.iter().all(whole) {
            self.pieces.clear();
            return Ok(true);
        }
        keep_unsent(&mut self.pieces).map(|()| false)
    }

    /// Waits at most `patience` for the kernel to need the memory no more. `true` means that it
    /// does not; otherwise it has to be called again.
    ///
    /// # Errors
    /// What the kernel says of waiting.
    pub fn release(&mut self, patience: Duration) -> io::Result<bool> {
        if self.usage.completed < self.usage.sends {
            self.base.enter(1, patience)?;
            self.reap();
        }
        Ok(self.usage.completed == self.usage.sends)
    }
}

/// Keeps what the kernel did not take, to be sent again, unless that makes no sense.
#[cold]
fn keep_unsent(pieces: &mut Vec<Piece>) -> io::Result<()> {
    let result = |piece: &Piece| piece.result.unwrap_or(0);
    let whole = |piece: &&Piece| result(piece) == piece.length as i32;
    let taken = pieces.iter().take_while(whole).count();
    pieces.drain(..taken);
    let Some((first, behind)) = pieces.split_first_mut() else {
        return Ok(());
    };
    if behind.iter().any(|piece| result(piece) > 0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel sent the later of two linked sends although the earlier ended short",
        ));
    }
    match result(first) {
        0 => return Err(io::ErrorKind::WriteZero.into()),
        taken @ 1.. => {
            first.start += taken as usize;
            first.length -= (taken as usize).min(first.length);
        }
        error => match -error {
            // Another time.
            libc::EINTR | libc::EAGAIN | libc::ECANCELED => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        },
    }
    Ok(())
}

/// Counts sends without a copy; says whether the answer is no send's result.
#[inline]
fn note(usage: &mut Usage, answer: &cqueue::Entry) -> bool {
    if cqueue::notif(answer.flags()) {
        usage.completed += 1;
        usage.copied += u64::from(answer.result() as u32 & COPIED != 0);
        return true;
    }
    usage.sends += u64::from(cqueue::more(answer.flags()));
    false
}

impl<F: AsFd> Drop for SendRing<F> {
    fn drop(&mut self) {
        let (usage, in_flight) = (&mut self.usage, &mut self.in_flight);
        let idle = self.base.cancel(|answer| {
            if let Some(answer) = answer
                && !note(usage, answer)
            {
                *in_flight = in_flight.saturating_sub(1);
            }
            *in_flight == 0 && usage.completed == usage.sends
        });
        // If the kernel could not be made to let go, it may still read the memory: better to leak
        // than to hand that to somebody else.
        if idle {
            // SAFETY: it is not used again. What is registered of it the kernel holds by itself.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_kept_and_nothing_else() {
        let piece = |start, length, result| Piece {
            start,
            length,
            result: Some(result),
        };
        let cancelled = -libc::ECANCELED;
        let mut pieces = vec![
            piece(0, 100, 100),
            piece(100, 100, 30),
            piece(200, 100, cancelled),
        ];
        keep_unsent(&mut pieces).expect("the rest is sent again");
        let left: Vec<_> = pieces
            .iter()
            .map(|left| (left.start, left.length))
            .collect();
        assert_eq!(left, [(130, 70), (200, 100)]);

        let mut interrupted = vec![piece(0, 10, -libc::EINTR), piece(10, 10, cancelled)];
        keep_unsent(&mut interrupted).expect("all of it is sent again");
        assert_eq!(interrupted.len(), 2);

        let mut broken = vec![piece(0, 10, -libc::EPIPE), piece(10, 10, cancelled)];
        let error = keep_unsent(&mut broken).expect_err("the peer is gone");
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));

        let mut mixed = vec![piece(0, 10, 5), piece(10, 10, 10)];
        let error = keep_unsent(&mut mixed).expect_err("bytes are out of order");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
