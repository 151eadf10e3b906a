//! Memory that operations work on.
//!
//! A provider reads and writes a buffer at any time between the call that posts an operation and
//! its completion, in this thread, in one of its own, or through the card. So the memory is cut
//! into slots, each with what the provider keeps of one operation, and a slot in flight cannot be
//! touched. Memory that a peer reads and writes is a [`Region`] of its own.

use crate::endpoint::Shape;
use crate::error::{Error, check};
use crate::fabric::Domain;
use crate::handle::Handle;
use crate::raw::calls::{fi_bind, fi_control, fi_mr_reg};
use crate::raw::constants::{
    FI_ATOMIC, FI_ENABLE, FI_MR_ENDPOINT, FI_MR_LOCAL, FI_MR_PROV_KEY, FI_MR_VIRT_ADDR, FI_MSG,
    FI_READ, FI_RECV, FI_REMOTE_READ, FI_REMOTE_WRITE, FI_RMA, FI_SEND, FI_TAGGED, FI_WRITE,
};
use crate::raw::structures::{FiContext2, FidEp, FidMr};
use libc::c_void;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;
use std::ptr::{self, NonNull};

/// Slots begin at multiples of this many bytes, so that no two share a cache line.
const STRIDE: usize = 64;

/// The memory begins at a multiple of this many bytes, the page of most machines.
const PAGE: usize = 4096;

/// What a slot carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nothing: its bytes are the user's.
    Nothing,
    Receive,
    Send,
    Write,
    Read,
    Atomic,
}

impl Load {
    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Receive => "receive",
            Self::Send => "send",
            Self::Write => "write",
            Self::Read => "read",
            Self::Atomic => "atomic operation",
        }
    }
}

#[derive(Debug)]
struct Slot {
    start: NonNull<u8>,
    length: usize,
    endpoint: u32,
    load: Load,
}

/// A slot that an operation was put into, as the provider takes it.
pub(crate) struct Launched {
    pub(crate) bytes: *mut c_void,
    pub(crate) context: *mut c_void,
}

/// A slot whose operation has completed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landed {
    pub(crate) slot: usize,
    pub(crate) received: bool,
    /// With it so many slots of its endpoint have become free, itself included.
    pub(crate) count: u32,
}

/// The slots of all endpoints of a set, registered with the provider if it asks for that. Those of
/// endpoint `e` are the `e`-th part of them: first those for what it posts, then its receives.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Closed before the memory goes.
    _registration: Option<Handle<FidMr>>,
    /// What the provider calls the memory.
    description: *mut c_void,
    _memory: Memory,
    contexts: Memory,
    slots: Box<[Slot]>,
    /// With selective completion: per endpoint the slots in flight, in the order of their posts,
    /// since one completion stands for all before it.
    orders: Box<[VecDeque<u32>]>,
}

impl Slots {
    /// The slots of a set, all zero.
    pub(crate) fn new(domain: &Domain, shape: &Shape, selective: bool) -> Result<Self, Error> {
        let too_much = || {
            let (out, receives) = (shape.outgoing, shape.receives);
            Error::Refused(format!(
                "no memory for {} endpoints with {} slots of {} bytes and {} receives of {}: take \
                 fewer, or shorter messages",
                shape.endpoints, out.count, out.length, receives.count, receives.length
            ))
        };
        let rings = [shape.outgoing, shape.receives];
        if shape.endpoints == 0 || rings.iter().all(|ring| ring.count == 0) {
            return Err(Error::Refused("no endpoints, or no slots".to_owned()));
        }
        if rings.iter().any(|ring| ring.count > 0 && ring.length == 0) {
            return Err(Error::Refused("slots of no size".to_owned()));
        }
        let stride = |length: usize| length.checked_next_multiple_of(STRIDE);
        let share = |ring: crate::Ring| stride(ring.length)?.checked_mul(ring.count);
        let sizes = || {
            let bytes = share(rings[0])?.checked_add(share(rings[1])?)?;
            let slots = shape.slots_each()?.checked_mul(shape.endpoints)?;
            // Contexts are as many as slots; endpoints and slots are numbered with 32 bits.
            u32::try_from(slots).ok()?;
            let contexts = slots.checked_mul(size_of::<FiContext2>())?;
            Some((bytes.checked_mul(shape.endpoints)?, contexts))
        };
        let (bytes, room) = sizes().ok_or_else(too_much)?;
        let memory = Memory::new(bytes).ok_or_else(too_much)?;
        let contexts = Memory::new(room).ok_or_else(too_much)?;
        let registration = (shape.register || mr_mode(domain) & FI_MR_LOCAL != 0)
            .then(|| register(domain, &memory, local_access(domain), None))
            .transpose()?;
        // SAFETY: a registration is open, and its provider filled it in.
        let describe = |mr: &Handle<FidMr>| unsafe { (*mr.raw()).mem_desc };
        let description = registration.as_ref().map_or(ptr::null_mut(), describe);
        let mut slots = Vec::with_capacity(room / size_of::<FiContext2>());
        let mut start = memory.start;
        for endpoint in 0..shape.endpoints {
            for ring in rings {
                let stride = stride(ring.length).ok_or_else(too_much)?;
                for _ in 0..ring.count {
                    slots.push(Slot {
                        start,
                        length: ring.length,
                        endpoint: endpoint as u32,
                        load: Load::Nothing,
                    });
                    // SAFETY: the strides of all slots add up to the memory's size.
                    start = unsafe { start.add(stride) };
                }
            }
        }
        let queued = if selective { shape.endpoints } else { 0 };
        let order = || VecDeque::with_capacity(shape.outgoing.count);
        Ok(Self {
            _registration: registration,
            description,
            _memory: memory,
            contexts,
            slots: slots.into(),
            orders: std::iter::repeat_with(order).take(queued).collect(),
        })
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// What the provider calls the memory.
    #[inline]
    pub(crate) fn description(&self) -> *mut c_void {
        self.description
    }

    /// The endpoint that a slot belongs to, and the slot's length.
    #[inline]
    pub(crate) fn place(&self, slot: usize) -> Option<(usize, usize)> {
        let slot = self.slots.get(slot)?;
        Some((slot.endpoint as usize, slot.length))
    }

    /// A slot's bytes.
    ///
    /// # Panics
    /// There is no such slot, or it is in flight.
    #[inline]
    pub(crate) fn bytes(&mut self, slot: usize) -> &mut [u8] {
        let found = &self.slots[slot];
        assert!(found.load == Load::Nothing, "slot {slot} is in flight");
        // SAFETY: the slot is inside the memory; no provider works on it, and the borrow keeps
        // everyone else out.
        unsafe { std::slice::from_raw_parts_mut(found.start.as_ptr(), found.length) }
    }

    /// Whether nothing is in flight in a slot.
    #[inline]
    pub(crate) fn free(&self, slot: usize) -> bool {
        self.slots
            .get(slot)
            .is_some_and(|slot| slot.load == Load::Nothing)
    }

    /// The first `length` bytes of a slot that is not in flight, for a call that is done with them
    /// when it returns.
    #[inline]
    pub(crate) fn lend(&self, slot: usize, length: usize) -> Result<*const c_void, Error> {
        match self.slots.get(slot) {
            Some(found) if found.load == Load::Nothing && length <= found.length => {
                Ok(found.start.as_ptr().cast_const().cast())
            }
            _ => Err(self.misuse(slot, length)),
        }
    }

    /// Marks a slot as in flight, with `length` bytes of it to be used; its bytes and what the
    /// provider may keep of the operation there.
    #[inline]
    pub(crate) fn launch(
        &mut self,
        slot: usize,
        length: usize,
        load: Load,
    ) -> Result<Launched, Error> {
        match self.slots.get_mut(slot) {
            Some(found) if found.load == Load::Nothing && length <= found.length => {
                found.load = load;
                // SAFETY: there are as many contexts as slots.
                let context =
                    unsafe { self.contexts.start.as_ptr().cast::<FiContext2>().add(slot) };
                Ok(Launched {
                    bytes: found.start.as_ptr().cast(),
                    context: context.cast(),
                })
            }
            _ => Err(self.misuse(slot, length)),
        }
    }

    #[cold]
    fn misuse(&self, slot: usize, length: usize) -> Error {
        Error::Refused(match self.slots.get(slot) {
            None => format!("slot {slot}: there are {}", self.slots.len()),
            Some(found) if found.load != Load::Nothing => format!("slot {slot} is in flight"),
            Some(found) => {
                format!("{length} bytes do not fit into a slot of {}", found.length)
            }
        })
    }

    /// Marks a slot as free after its operation was refused.
    #[inline]
    pub(crate) fn recall(&mut self, slot: usize) {
        self.slots[slot].load = Load::Nothing;
    }

    /// Notes that a slot's operation, of those that complete in order, was taken.
    #[inline]
    pub(crate) fn line_up(&mut self, slot: usize) {
        let endpoint = self.slots[slot].endpoint as usize;
        // Slots are fewer than 2^32, which `new` has checked. There is room for all of the endpoint.
        self.orders[endpoint].push_back(slot as u32);
    }

    /// Marks the slot as free whose operation completed; `None` if no slot in flight belongs to what
    /// the completion brought.
    #[inline]
    pub(crate) fn land(&mut self, context: *mut c_void) -> Option<Landed> {
        let slot = self.find(context)?;
        let found = self.slots.get_mut(slot)?;
        let load = std::mem::replace(&mut found.load, Load::Nothing);
        let endpoint = found.endpoint as usize;
        let mut landed = Landed {
            slot,
            received: load == Load::Receive,
            count: 1,
        };
        match load {
            Load::Nothing => return None,
            Load::Send | Load::Write => {
                if let Some(order) = self.orders.get_mut(endpoint) {
                    landed.count = 0;
                    while let Some(first) = order.pop_front() {
                        landed.count += 1;
                        if first as usize == slot {
                            break;
                        }
                        self.slots[first as usize].load = Load::Nothing;
                    }
                }
            }
            Load::Receive | Load::Read | Load::Atomic => {}
        }
        Some(landed)
    }

    /// What the operation is whose completion brought this.
    pub(crate) fn words(&self, context: *mut c_void) -> Option<String> {
        let slot = self.find(context)?;
        let found = self.slots.get(slot)?;
        let (kind, endpoint) = (found.load.word(), found.endpoint);
        (found.load != Load::Nothing)
            .then(|| format!("the {kind} in slot {slot} of endpoint {endpoint}"))
    }

    #[inline]
    fn find(&self, context: *mut c_void) -> Option<usize> {
        let start = self.contexts.start.as_ptr().addr();
        Some(context.addr().checked_sub(start)? / size_of::<FiContext2>())
    }
}

/// Memory of an endpoint that its peer reads and writes.
///
/// Peers change it behind the compiler's back, as other processes do with a file that is mapped:
/// what its bytes are is for both sides to agree on.
#[derive(Debug)]
pub(crate) struct Region {
    registration: Handle<FidMr>,
    bytes: usize,
    base: u64,
}

impl Region {
    /// Makes memory accessible to the peers of an endpoint; the memory has to outlive the endpoint.
    pub(crate) fn new(
        domain: &Domain,
        memory: &Memory,
        bytes: usize,
        endpoint: &Handle<FidEp>,
    ) -> Result<Self, Error> {
        let access = FI_REMOTE_READ | FI_REMOTE_WRITE;
        let registration = register(domain, memory, access, Some(endpoint))?;
        let base = match mr_mode(domain) & FI_MR_VIRT_ADDR {
            0 => 0,
            _ => memory.start.as_ptr().expose_provenance() as u64,
        };
        Ok(Self {
            registration,
            bytes,
            base,
        })
    }

    /// What a peer needs to know.
    pub(crate) fn remote(&self) -> Remote {
        // SAFETY: the registration is open, and its provider filled it in.
        let key = unsafe { (*self.registration.raw()).key };
        Remote {
            base: self.base,
            key,
            bytes: self.bytes as u64,
        }
    }
}

/// Memory that a peer has made accessible, as the peer tells of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remote {
    /// What operations call its first byte: 0, or its address with the peer.
    pub base: u64,
    /// The provider's key for it.
    pub key: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Remote {
    /// What operations call the byte at `offset`, if `length` bytes are there.
    #[inline]
    pub(crate) fn at(&self, offset: usize, length: usize) -> Result<u64, Error> {
        let end = (offset as u64).checked_add(length as u64);
        if end.is_some_and(|end| end <= self.bytes) {
            return Ok(self.base.wrapping_add(offset as u64));
        }
        Err(self.outside(offset, length))
    }

    #[cold]
    fn outside(&self, offset: usize, length: usize) -> Error {
        Error::Refused(format!(
            "{length} bytes at {offset}: the peer has made {} bytes accessible",
            self.bytes
        ))
    }
}

fn mr_mode(domain: &Domain) -> u32 {
    domain.info().domain().mr_mode.cast_unsigned()
}

/// What operations do with buffers of this side; providers refuse what their offer does not have.
fn local_access(domain: &Domain) -> u64 {
    let caps = domain.info().caps();
    let mut access = 0;
    if caps & (FI_MSG | FI_TAGGED) != 0 {
        access |= FI_SEND | FI_RECV;
    }
    if caps & (FI_RMA | FI_ATOMIC) != 0 {
        access |= FI_READ | FI_WRITE;
    }
    access
}

/// Registers memory. It has to outlive its registration. With an endpoint, and if the provider asks
/// for that, the registration is the endpoint's and has to be closed before it.
fn register(
    domain: &Domain,
    memory: &Memory,
    access: u64,
    endpoint: Option<&Handle<FidEp>>,
) -> Result<Handle<FidMr>, Error> {
    let mode = mr_mode(domain);
    let key = match mode & FI_MR_PROV_KEY {
        0 => domain.new_key(),
        _ => 0,
    };
    let (buffer, bytes) = (memory.start.as_ptr().cast(), memory.layout.size());
    let library = domain.library();
    // SAFETY: the domain is open, the memory is as long as is said; the object that the call stores
    // is new.
    let handle = unsafe {
        Handle::open(library, format!("fi_mr_reg of {bytes} bytes"), |mr| {
            let none = ptr::null_mut();
            fi_mr_reg(domain.raw(), buffer, bytes, access, 0, key, 0, mr, none)
        })
    }?;
    if mode & FI_MR_ENDPOINT != 0 {
        let endpoint = endpoint.ok_or_else(|| {
            Error::Refused(format!(
                "provider {} wants the buffers of each endpoint registered with it, which is not \
                 done here",
                domain.info().provider()
            ))
        })?;
        // SAFETY: both objects are open; the command takes no argument.
        unsafe {
            let bound = fi_bind(handle.fid(), endpoint.fid(), 0);
            check(library, "fi_mr_bind", bound)?;
            let enabled = fi_control(handle.fid(), FI_ENABLE, ptr::null_mut());
            check(library, "fi_mr_enable", enabled)?;
        }
    }
    Ok(handle)
}

/// Zeroed memory that begins on a page.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) start: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    /// `bytes` of it, more than none; `None` if there is not so much.
    pub(crate) fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes, PAGE).ok()?;
        if bytes == 0 {
            return None;
        }
        // SAFETY: more than nothing is asked for.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, layout })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: from `alloc_zeroed` with this layout. The endpoint that worked on it is closed
        // before its memory goes.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Library, Query, Ring};

    /// A domain of a provider that takes registrations, though it asks for none.
    fn domain(test: &str) -> Option<Domain> {
        if let Err(missing) = Library::load() {
            println!("SKIPPED {test}: {missing}");
            return None;
        }
        let query = Query {
            provider: Some("tcp;ofi_rxm".to_owned()),
            ..Query::default()
        };
        let Ok(mut offers) = query.find() else {
            println!("SKIPPED {test}: no provider tcp;ofi_rxm");
            return None;
        };
        Some(Domain::open(offers.remove(0)).expect("a domain"))
    }

    #[test]
    fn memory_is_registered_under_keys_of_its_own() {
        let Some(domain) = domain("registered memory") else {
            return;
        };
        let memory = Memory::new(3 * PAGE).expect("three pages");
        let access = FI_REMOTE_READ | FI_REMOTE_WRITE;
        let one = register(&domain, &memory, access, None).expect("registered");
        let two = register(&domain, &memory, access, None).expect("registered again");
        // SAFETY: both are open.
        let keys = unsafe { ((*one.raw()).key, (*two.raw()).key) };
        assert_ne!(keys.0, keys.1);
    }

    #[test]
    fn one_completion_frees_all_slots_before_it() {
        let Some(domain) = domain("selective completion") else {
            return;
        };
        let ring = |count| Ring { count, length: 100 };
        let shape = Shape {
            endpoints: 2,
            outgoing: ring(3),
            receives: ring(1),
            ..Shape::default()
        };
        let mut slots = Slots::new(&domain, &shape, true).expect("slots");
        assert_eq!(slots.count(), 8);
        let mut contexts = Vec::new();
        for (slot, load) in [
            (0, Load::Send),
            (1, Load::Send),
            (3, Load::Receive),
            (4, Load::Write),
            (2, Load::Send),
        ] {
            contexts.push(slots.launch(slot, 100, load).expect("free").context);
            if load != Load::Receive {
                slots.line_up(slot);
            }
        }
        // The second of the first endpoint stands for the first too, and for nothing else.
        let landed = slots.land(contexts[1]).expect("in flight");
        assert_eq!((landed.slot, landed.count, landed.received), (1, 2, false));
        assert!(slots.free(0) && slots.free(1));
        assert!(!slots.free(2) && !slots.free(3) && !slots.free(4));
        assert!(slots.land(contexts[0]).is_none(), "it is free");
        let landed = slots.land(contexts[2]).expect("in flight");
        assert_eq!((landed.slot, landed.count, landed.received), (3, 1, true));
        let landed = slots.land(contexts[4]).expect("in flight");
        assert_eq!((landed.slot, landed.count), (2, 1));
        assert!(slots.land(ptr::null_mut()).is_none());
        assert!(!slots.free(4));
    }

    #[test]
    fn what_lies_outside_the_peers_memory_is_refused() {
        let remote = Remote {
            base: u64::MAX - 10,
            key: 1,
            bytes: 100,
        };
        assert_eq!(remote.at(0, 100), Ok(u64::MAX - 10));
        assert_eq!(remote.at(90, 10), Ok(79));
        for (offset, length) in [(0, 101), (100, 1), (usize::MAX, 2)] {
            let error = remote.at(offset, length).expect_err("outside").to_string();
            assert!(error.contains("100 bytes accessible"), "{error}");
        }
    }
}
