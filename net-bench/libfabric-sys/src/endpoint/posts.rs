//! What endpoints post: messages, writes, reads and atomic operations, with one call of the provider
//! each.
//!
//! Nothing here allocates, locks, or calls anything but the provider's own functions.

use super::Endpoints;
use crate::error::Error;
use crate::mr::{Load, Remote};
use crate::raw::calls::{
    fi_compare_atomic, fi_fetch_atomic, fi_inject, fi_inject_write, fi_inject_writedata, fi_read,
    fi_recv, fi_send, fi_sendmsg, fi_tinject, fi_trecv, fi_tsend, fi_tsendmsg, fi_write,
    fi_writedata, fi_writemsg,
};
use crate::raw::constants::{
    FI_ADDR_UNSPEC, FI_COMPLETION, FI_CSWAP, FI_EAGAIN, FI_REMOTE_CQ_DATA, FI_SUM, FI_UINT64,
};
use crate::raw::structures::{FiMsg, FiMsgRma, FiMsgTagged, FiRmaIov, FidEp};
use libc::{c_void, iovec};

/// Whether the provider took an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It will complete, unless it was an injected one: those complete silently.
    Taken,
    /// The provider's queue is full: poll, and try again.
    Full,
}

/// How bytes go to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// As a message.
    Send,
    /// As a message with a tag.
    Tagged(u64),
    /// Into the peer's memory, so many bytes from its beginning.
    Write(usize),
    /// Likewise, and the peer gets a completion with a number; how much of it is left is for the
    /// offer to say (`cq_data_size`).
    WriteData(usize, u64),
}

impl Transfer {
    #[inline]
    fn load(self) -> Load {
        match self {
            Self::Send | Self::Tagged(_) => Load::Send,
            Self::Write(_) | Self::WriteData(..) => Load::Write,
        }
    }

    /// Where the peer's memory is written.
    #[inline]
    fn to(self, remote: &Remote, length: usize) -> Result<u64, Error> {
        match self {
            Self::Send | Self::Tagged(_) => Ok(0),
            Self::Write(offset) | Self::WriteData(offset, _) => remote.at(offset, length),
        }
    }
}

/// An atomic operation on 8 bytes of the peer's memory, in the byte order of the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomic {
    /// Adds a number, with a wrap.
    FetchAdd(u64),
    /// Stores the second number if the first is there.
    CompareSwap(u64, u64),
}

/// Bytes of a slot that an atomic operation uses: the first 8 get what was there before, the others
/// hold its operands while it is in flight.
pub const ATOMIC_BYTES: usize = 24;

impl Endpoints {
    /// Posts a receive into a slot, for a message from any peer.
    ///
    /// # Errors
    /// The slot is in flight or does not exist; or the provider's reason.
    #[inline]
    pub fn receive(&mut self, slot: usize) -> Result<Posted, Error> {
        self.take(slot, |ep, buffer, length, desc, context| {
            // SAFETY: the endpoint is open; the slot stays in place and untouched in flight.
            unsafe { fi_recv(ep, buffer, length, desc, FI_ADDR_UNSPEC, context) }
        })
    }

    /// Posts a receive into a slot for messages whose tag is `tag` in all bits but those of
    /// `ignore`, from any peer.
    ///
    /// # Errors
    /// As for [`Endpoints::receive`].
    #[inline]
    pub fn receive_tagged(&mut self, slot: usize, tag: u64, ignore: u64) -> Result<Posted, Error> {
        self.take(slot, |ep, buffer, length, desc, context| {
            let from = FI_ADDR_UNSPEC;
            // SAFETY: as for `receive`.
            unsafe { fi_trecv(ep, buffer, length, desc, from, tag, ignore, context) }
        })
    }

    #[inline]
    fn take(
        &mut self,
        slot: usize,
        call: impl FnOnce(*mut FidEp, *mut c_void, usize, *mut c_void, *mut c_void) -> isize,
    ) -> Result<Posted, Error> {
        let Some((endpoint, length)) = self.slots.place(slot) else {
            return Err(self.no_slot(slot));
        };
        let Some(endpoint) = self.endpoints.get(endpoint) else {
            return Err(self.no_peer(slot));
        };
        let launched = self.slots.launch(slot, length, Load::Receive)?;
        let (ep, desc) = (endpoint.handle.raw(), self.slots.description());
        let returned = call(ep, launched.bytes, length, desc, launched.context);
        self.posted("posting a receive", slot, returned)
    }

    /// Posts the first `length` bytes of a slot on their way to the peer of its endpoint. Where
    /// completion is selective, only what is posted with `signal` completes, and stands for all
    /// before it.
    ///
    /// # Errors
    /// As for [`Endpoints::receive`]; or the slot is shorter; there is no peer; the peer has not
    /// made that memory accessible.
    #[inline]
    pub fn transmit(
        &mut self,
        slot: usize,
        length: usize,
        transfer: Transfer,
        signal: bool,
    ) -> Result<Posted, Error> {
        let (ep, to, remote) = self.way(slot)?;
        let at = transfer.to(&remote, length)?;
        let key = remote.key;
        let launched = self.slots.launch(slot, length, transfer.load())?;
        let (bytes, context) = (launched.bytes, launched.context);
        let desc = self.slots.description();
        let flagged = signal && self.selective;
        // SAFETY: the endpoint is open; the slot stays in place and untouched in flight. What else
        // the calls with flags look at they are done with when they return.
        let returned = unsafe {
            match transfer {
                _ if flagged => {
                    flagged_transmit(ep, bytes, length, desc, to, at, key, transfer, context)
                }
                Transfer::Send => fi_send(ep, bytes, length, desc, to, context),
                Transfer::Tagged(tag) => fi_tsend(ep, bytes, length, desc, to, tag, context),
                Transfer::Write(_) => fi_write(ep, bytes, length, desc, to, at, key, context),
                Transfer::WriteData(_, data) => {
                    fi_writedata(ep, bytes, length, desc, data, to, at, key, context)
                }
            }
        };
        if returned == 0 && self.selective {
            self.slots.line_up(slot);
        }
        self.posted("posting an operation", slot, returned)
    }

    /// As [`Endpoints::transmit`], for a short message: the slot is free at once, and nothing
    /// completes.
    ///
    /// # Errors
    /// As for [`Endpoints::transmit`]; or it is longer than [`Endpoints::inject_size`].
    #[inline]
    pub fn inject(
        &mut self,
        slot: usize,
        length: usize,
        transfer: Transfer,
    ) -> Result<Posted, Error> {
        if length > self.inject_size {
            return Err(self.too_long(length));
        }
        let (ep, to, remote) = self.way(slot)?;
        let at = transfer.to(&remote, length)?;
        let key = remote.key;
        let bytes = self.slots.lend(slot, length)?;
        // SAFETY: the endpoint is open; the provider is done with the bytes when the call returns.
        let returned = unsafe {
            match transfer {
                Transfer::Send => fi_inject(ep, bytes, length, to),
                Transfer::Tagged(tag) => fi_tinject(ep, bytes, length, to, tag),
                Transfer::Write(_) => fi_inject_write(ep, bytes, length, to, at, key),
                Transfer::WriteData(_, data) => {
                    fi_inject_writedata(ep, bytes, length, data, to, at, key)
                }
            }
        };
        self.posted("injecting", slot, returned)
    }

    /// Posts a read of `length` bytes of the peer's memory, from `offset` on, into a slot. It
    /// completes always.
    ///
    /// # Errors
    /// As for [`Endpoints::transmit`]; or completion is selective.
    #[inline]
    pub fn read(&mut self, slot: usize, length: usize, offset: usize) -> Result<Posted, Error> {
        self.signalled()?;
        let (ep, to, remote) = self.way(slot)?;
        let at = remote.at(offset, length)?;
        let launched = self.slots.launch(slot, length, Load::Read)?;
        let (bytes, context) = (launched.bytes, launched.context);
        let desc = self.slots.description();
        // SAFETY: as for `transmit`.
        let returned = unsafe { fi_read(ep, bytes, length, desc, to, at, remote.key, context) };
        self.posted("posting a read", slot, returned)
    }

    /// Posts an atomic operation on the 8 bytes of the peer's memory at `offset`; its result will be
    /// the first 8 bytes of the slot. It completes always.
    ///
    /// # Errors
    /// As for [`Endpoints::read`]; or the slot is shorter than [`ATOMIC_BYTES`]. Whether the
    /// provider has the operation tells [`Endpoints::has_atomic`].
    #[inline]
    pub fn atomic(&mut self, slot: usize, offset: usize, atomic: Atomic) -> Result<Posted, Error> {
        self.signalled()?;
        let (ep, to, remote) = self.way(slot)?;
        let at = remote.at(offset, size_of::<u64>())?;
        let launched = self.slots.launch(slot, ATOMIC_BYTES, Load::Atomic)?;
        let (result, context) = (launched.bytes, launched.context);
        let (desc, key) = (self.slots.description(), remote.key);
        // SAFETY: as for `transmit`. The slot has room for three numbers, and begins at a multiple
        // of their alignment. The comparison's descriptions are those of the same memory.
        let returned = unsafe {
            let operand = result.cast::<u64>().add(1);
            match atomic {
                Atomic::FetchAdd(number) => {
                    operand.write(number);
                    let operand = operand.cast_const().cast();
                    let (kind, op) = (FI_UINT64, FI_SUM);
                    fi_fetch_atomic(
                        ep, operand, 1, desc, result, desc, to, at, key, kind, op, context,
                    )
                }
                Atomic::CompareSwap(compare, swap) => {
                    operand.write(swap);
                    operand.add(1).write(compare);
                    let compare = operand.add(1).cast_const().cast();
                    let operand = operand.cast_const().cast();
                    let (kind, op) = (FI_UINT64, FI_CSWAP);
                    fi_compare_atomic(
                        ep, operand, 1, desc, compare, desc, result, desc, to, at, key, kind, op,
                        context,
                    )
                }
            }
        };
        self.posted("posting an atomic operation", slot, returned)
    }

    /// The endpoint that a slot belongs to, what it calls its peer, and the peer's memory. A number
    /// that the provider did not give could lead it anywhere.
    #[inline]
    fn way(&self, slot: usize) -> Result<(*mut FidEp, u64, Remote), Error> {
        let Some((endpoint, _)) = self.slots.place(slot) else {
            return Err(self.no_slot(slot));
        };
        match self.endpoints.get(endpoint) {
            Some(endpoint) if endpoint.joined => {
                Ok((endpoint.handle.raw(), endpoint.peer, endpoint.remote))
            }
            _ => Err(self.no_peer(slot)),
        }
    }

    /// What the provider said to a call that a slot was launched for; it is taken back unless the
    /// provider took it.
    #[inline]
    fn posted(&mut self, what: &str, slot: usize, returned: isize) -> Result<Posted, Error> {
        if returned == 0 {
            return Ok(Posted::Taken);
        }
        self.slots.recall(slot);
        if returned == -(FI_EAGAIN as isize) {
            return Ok(Posted::Full);
        }
        Err(self.refusal(what, slot, returned))
    }

    #[cold]
    fn refusal(&self, what: &str, slot: usize, returned: isize) -> Error {
        let provider = self.domain.info().provider();
        let what = format!("{what} in slot {slot} with provider {provider}");
        Error::of(self.library(), what, returned as i64)
    }

    #[cold]
    fn no_slot(&self, slot: usize) -> Error {
        Error::Refused(format!("slot {slot}: there are {}", self.slots.count()))
    }

    #[cold]
    fn no_peer(&self, slot: usize) -> Error {
        Error::Refused(format!("the endpoint of slot {slot} has no peer yet"))
    }

    #[cold]
    fn too_long(&self, length: usize) -> Error {
        Error::Refused(format!(
            "{length} bytes to inject: the provider takes at most {}",
            self.inject_size
        ))
    }

    /// Reads and atomic operations do not complete in the order of other operations.
    #[inline]
    fn signalled(&self) -> Result<(), Error> {
        if self.selective {
            return Err(Error::Refused(
                "reads and atomic operations need completions that are not selective".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Posts with the wish for a completion.
///
/// # Safety
/// As for the calls: the endpoint is open, `bytes` and `context` stay in place and untouched until
/// the operation has completed.
#[allow(clippy::too_many_arguments, reason = "as libfabric's calls")]
unsafe fn flagged_transmit(
    ep: *mut FidEp,
    bytes: *mut c_void,
    length: usize,
    mut desc: *mut c_void,
    to: u64,
    at: u64,
    key: u64,
    transfer: Transfer,
    context: *mut c_void,
) -> isize {
    let piece = iovec {
        iov_base: bytes,
        iov_len: length,
    };
    let (msg_iov, desc) = (&raw const piece, &raw mut desc);
    // SAFETY: the caller's promise; pieces and descriptions are one each, and live until the call
    // returns.
    unsafe {
        match transfer {
            Transfer::Send => {
                let message = FiMsg {
                    msg_iov,
                    desc,
                    iov_count: 1,
                    addr: to,
                    context,
                    data: 0,
                };
                fi_sendmsg(ep, &raw const message, FI_COMPLETION)
            }
            Transfer::Tagged(tag) => {
                let message = FiMsgTagged {
                    msg_iov,
                    desc,
                    iov_count: 1,
                    addr: to,
                    tag,
                    ignore: 0,
                    context,
                    data: 0,
                };
                fi_tsendmsg(ep, &raw const message, FI_COMPLETION)
            }
            Transfer::Write(_) | Transfer::WriteData(..) => {
                let there = FiRmaIov {
                    addr: at,
                    len: length,
                    key,
                };
                let (data, flag) = match transfer {
                    Transfer::WriteData(_, data) => (data, FI_REMOTE_CQ_DATA),
                    _ => (0, 0),
                };
                let message = FiMsgRma {
                    msg_iov,
                    desc,
                    iov_count: 1,
                    addr: to,
                    rma_iov: &raw const there,
                    rma_iov_count: 1,
                    context,
                    data,
                };
                fi_writemsg(ep, &raw const message, FI_COMPLETION | flag)
            }
        }
    }
}
