//! Endpoints: those that reach any peer (RDM, datagrams), and those that are connected to one (MSG).
//!
//! Here they are made, connected and polled; what they post is in [`posts`].

mod posts;

use crate::av::{AddressVector, MAX_ADDRESS, padded};
use crate::cq::{BATCH, Completion, CompletionQueue};
use crate::error::{Error, check};
use crate::fabric::{Domain, EventQueue, Fabric};
use crate::handle::Handle;
use crate::info::Info;
use crate::library::Library;
use crate::mr::{Memory, Region, Remote, Slots};
use crate::raw::calls::{
    fi_accept, fi_bind, fi_compare_atomicvalid, fi_connect, fi_control, fi_endpoint,
    fi_fetch_atomicvalid, fi_getname, fi_listen, fi_passive_ep, fi_pep_getname, fi_reject,
};
use crate::raw::constants::{
    EP_TYPES, FI_ADDR_UNSPEC, FI_COMPLETION, FI_CONNECTED, FI_CONNREQ, FI_CSWAP, FI_EINVAL,
    FI_ENABLE, FI_EP_DGRAM, FI_EP_MSG, FI_EP_RDM, FI_ORDER_STRICT, FI_RECV,
    FI_SELECTIVE_COMPLETION, FI_SEND, FI_SHUTDOWN, FI_SUM, FI_UINT64,
};
use crate::raw::structures::{Fid, FidEp, FidPep};
use crate::signals;
use libc::{c_int, c_void};
pub use posts::{ATOMIC_BYTES, Atomic, Posted, Transfer};
use std::ptr;
use std::time::{Duration, Instant};

/// Slots of one size.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ring {
    /// How many.
    pub count: usize,
    /// Bytes of each.
    pub length: usize,
}

/// What a set of endpoints consists of. A slot carries one operation at a time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// How many endpoints.
    pub endpoints: usize,
    /// What each endpoint can post besides receives, and the longest message; of atomic operations
    /// at least [`ATOMIC_BYTES`].
    pub outgoing: Ring,
    /// How many receives each can have posted, and for which messages.
    pub receives: Ring,
    /// Bytes of each endpoint's memory that its peer reads and writes; 0 for none.
    pub target: usize,
    /// Entries of the completion queue [`None`: one for each slot].
    pub completions: Option<usize>,
    /// Whether operations complete only if they are posted with a signal, where the provider
    /// completes them in order; see [`Endpoints::selective`].
    pub selective: bool,
    /// Whether the completion queue can be waited on, where the provider has that; see
    /// [`Endpoints::waits`].
    pub wait: bool,
    /// Whether buffers are registered even if the provider does not ask for it.
    pub register: bool,
}

impl Shape {
    /// How many slots each endpoint has.
    pub(crate) fn slots_each(&self) -> Option<usize> {
        self.outgoing.count.checked_add(self.receives.count)
    }
}

/// How long it takes until what a peer has sent before it stopped is here.
const LINGER: Duration = Duration::from_millis(10);

/// ofi_rxm opens a completion queue for (128 + 128) operations with each of FI_UNIVERSE_SIZE peers,
/// 256 unless told otherwise, which is more than many devices have; Linux's software RoCE has 32767.
const SMALLER_UNIVERSE: &str = "the device may have fewer completion queue entries than ofi_rxm \
    wants: set FI_UNIVERSE_SIZE=16";

/// Endpoints of one domain with their memory, which share a completion queue. Each has one peer.
///
/// Slots are numbered: endpoint 0 has the first of them, and of an endpoint's those for what it
/// posts come before its receives. What is in flight is cancelled when the set is dropped.
#[derive(Debug)]
pub struct Endpoints {
    // Dropped in this order: the endpoints before what is bound to them.
    endpoints: Vec<Endpoint>,
    completions: CompletionQueue,
    /// Of endpoints without connections.
    peers: Option<AddressVector>,
    /// Of endpoints with connections.
    events: Option<EventQueue>,
    slots: Slots,
    shape: Shape,
    inject_size: usize,
    selective: bool,
    /// Whether a peer was seen to hang up.
    left: bool,
    domain: Domain,
}

/// Fields are dropped in this order.
#[derive(Debug)]
struct Endpoint {
    target: Option<Region>,
    handle: Handle<FidEp>,
    memory: Option<Memory>,
    /// What the provider calls the peer.
    peer: u64,
    /// Whether there is a peer.
    joined: bool,
    remote: Remote,
}

impl Endpoints {
    /// Opens endpoints without connections. Each gets its peer by [`Endpoints::set_peer`].
    ///
    /// # Errors
    /// The domain's offer is not for such endpoints or for messages so long; there is no memory; or
    /// the provider's reason.
    pub fn unconnected(domain: &Domain, shape: Shape) -> Result<Self, Error> {
        expect_type(domain.info(), &[FI_EP_RDM, FI_EP_DGRAM])?;
        let mut set = Self::empty(domain, shape)?;
        set.peers = Some(AddressVector::open(domain)?);
        for _ in 0..shape.endpoints {
            set.add(domain.info())?;
        }
        Ok(set)
    }

    /// A set of endpoints with connections, which are made one after the other by
    /// [`Endpoints::connect`] and [`Endpoints::accept`].
    ///
    /// # Errors
    /// As for [`Endpoints::unconnected`].
    pub fn connected(domain: &Domain, shape: Shape) -> Result<Self, Error> {
        expect_type(domain.info(), &[FI_EP_MSG])?;
        let mut set = Self::empty(domain, shape)?;
        set.events = Some(EventQueue::open(domain.fabric())?);
        Ok(set)
    }

    fn empty(domain: &Domain, shape: Shape) -> Result<Self, Error> {
        let info = domain.info();
        let longest = info.endpoint().max_msg_size;
        let wanted = shape.outgoing.length.max(shape.receives.length);
        if wanted > longest {
            return Err(Error::Refused(format!(
                "messages of {wanted} bytes: provider {} sends at most {longest} at once",
                info.provider()
            )));
        }
        // One completion may stand for others only if they come in order. And what a call without
        // flags does has to be known.
        let in_order = info.tx().comp_order & FI_ORDER_STRICT == FI_ORDER_STRICT;
        let selective = shape.selective && in_order && info.tx().op_flags & FI_COMPLETION == 0;
        let slots = Slots::new(domain, &shape, selective)?;
        let entries = shape.completions.unwrap_or(slots.count()).max(1);
        Ok(Self {
            endpoints: Vec::with_capacity(shape.endpoints),
            completions: CompletionQueue::open(domain, entries, shape.wait)?,
            peers: None,
            events: None,
            slots,
            shape,
            inject_size: info.tx().inject_size,
            selective,
            left: false,
            domain: domain.clone(),
        })
    }

    /// Opens an endpoint, binds its parts to it, and enables it.
    fn add(&mut self, info: &Info) -> Result<(), Error> {
        if self.endpoints.len() == self.shape.endpoints {
            let count = self.shape.endpoints;
            return Err(Error::Refused(format!(
                "the set has all of its {count} endpoints"
            )));
        }
        let library = self.library();
        let provider = info.provider();
        // SAFETY: domain and offer are open; the object that the call stores is new.
        let handle = unsafe {
            let what = format!("fi_endpoint of provider {provider}");
            Handle::open(library, what, |ep| {
                let (domain, info) = (self.domain.raw(), info.raw.as_ptr());
                fi_endpoint(domain, info, ep, ptr::null_mut())
            })
        }?;
        let queue = self.completions.handle().fid();
        let peers = self.peers.as_ref().map(|peers| peers.handle().fid());
        let events = self.events.as_ref().map(|events| events.handle().fid());
        let some = if self.selective {
            FI_SELECTIVE_COMPLETION
        } else {
            0
        };
        let bound = [
            (Some(queue), FI_SEND | some, "completion queue"),
            (Some(queue), FI_RECV, "completion queue"),
            (peers, 0, "address vector"),
            (events, 0, "event queue"),
        ];
        for (fid, flags, name) in bound {
            let Some(fid) = fid else { continue };
            // SAFETY: both objects are open, and the endpoint is closed first.
            let returned = unsafe { fi_bind(handle.fid(), fid, flags) };
            check(library, format!("fi_ep_bind of the {name}"), returned)?;
        }
        let kept = signals::keep();
        // SAFETY: the endpoint is open; the command takes no argument.
        let returned = unsafe { fi_control(handle.fid(), FI_ENABLE, ptr::null_mut()) };
        drop(kept);
        let what = format!("fi_enable of provider {provider}");
        check(library, what, returned).map_err(|error| {
            let remedy = match provider.as_str() {
                "verbs;ofi_rxm" if error.is(FI_EINVAL) => SMALLER_UNIVERSE,
                _ => "",
            };
            error.and(remedy)
        })?;
        let mut endpoint = Endpoint {
            target: None,
            handle,
            memory: None,
            peer: FI_ADDR_UNSPEC,
            joined: false,
            remote: Remote::default(),
        };
        if self.shape.target > 0 {
            let bytes = self.shape.target;
            let memory = Memory::new(bytes).ok_or_else(|| {
                Error::Refused(format!("no memory for {bytes} bytes that the peer can use"))
            })?;
            let memory = endpoint.memory.insert(memory);
            let target = Region::new(&self.domain, memory, bytes, &endpoint.handle)?;
            endpoint.target = Some(target);
        }
        self.endpoints.push(endpoint);
        Ok(())
    }

    /// Connects the next endpoint to the one that listens at an address, within some time.
    /// `prepare` posts receives before the peer can send.
    ///
    /// # Errors
    /// Nobody listens there; the time is over; the set has no endpoints with connections, or has all
    /// of them; or the provider's reason.
    pub fn connect(
        &mut self,
        address: &[u8],
        patience: Duration,
        prepare: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let length = address.len();
        let address = padded(address)?;
        self.events()?;
        let info = self.domain.info().to(&address, length)?;
        self.add(&info)?;
        prepare(self)?;
        let endpoint = self.endpoints.last().expect("one was added");
        // SAFETY: the endpoint is open; the address is padded to the longest there is.
        let returned = unsafe {
            let address = address.as_ptr().cast();
            fi_connect(endpoint.handle.raw(), address, ptr::null(), 0)
        };
        check(self.library(), "fi_connect", returned)?;
        self.await_connection("connecting", patience)
    }

    /// Waits for a peer and accepts it with the next endpoint. `prepare` posts receives before the
    /// peer can send.
    ///
    /// # Errors
    /// Nobody came in time; the set has no endpoints with connections, or has all of them; the
    /// listener is of another domain; or the provider's reason.
    pub fn accept(
        &mut self,
        listener: &Listener,
        patience: Duration,
        prepare: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.events()?;
        if listener.fabric.raw() != self.domain.fabric().raw() {
            return Err(Error::Refused("the listener is of another fabric".into()));
        }
        let request = listener
            .events
            .wait(FI_CONNREQ, "waiting for a peer", patience)?;
        let request = request.ok_or_else(|| {
            Error::Refused("a request to connect came without an offer".to_owned())
        })?;
        // SAFETY: the offer is open.
        let peer = unsafe { request.raw.as_ref() }.handle;
        // From here on the peer belongs to the endpoint: it hears of it when that is closed.
        self.add(&request).inspect_err(|_| listener.reject(peer))?;
        prepare(self)?;
        let endpoint = self.endpoints.last().expect("one was added");
        // SAFETY: the endpoint is open and was made of the request.
        let returned = unsafe { fi_accept(endpoint.handle.raw(), ptr::null(), 0) };
        check(self.library(), "fi_accept", returned)?;
        self.await_connection("accepting", patience)
    }

    fn events(&self) -> Result<&EventQueue, Error> {
        let events = self.events.as_ref();
        events.ok_or_else(|| Error::Refused("these endpoints have no connections".to_owned()))
    }

    fn await_connection(&mut self, what: &str, patience: Duration) -> Result<(), Error> {
        self.events()?.wait(FI_CONNECTED, what, patience)?;
        self.endpoints.last_mut().expect("one was added").joined = true;
        Ok(())
    }

    fn library(&self) -> &'static Library {
        self.domain.library()
    }

    fn endpoint(&self, index: usize) -> Result<&Endpoint, Error> {
        let endpoint = self.endpoints.get(index);
        endpoint.ok_or_else(|| Error::Refused(format!("endpoint {index} is not open")))
    }

    /// The address that peers need to reach an endpoint, at most [`MAX_ADDRESS`] bytes.
    ///
    /// # Errors
    /// There is no such endpoint; or the provider's reason.
    pub fn address(&self, endpoint: usize) -> Result<Vec<u8>, Error> {
        let endpoint = self.endpoint(endpoint)?;
        // SAFETY: the endpoint is open, and the room as large as is said.
        address(self.library(), |room, length| unsafe {
            fi_getname(endpoint.handle.raw(), room, length)
        })
    }

    /// Gives an endpoint its peer, by the address that the peer's endpoint told.
    ///
    /// # Errors
    /// The endpoint has a connection; or the provider cannot read the address.
    pub fn set_peer(&mut self, endpoint: usize, address: &[u8]) -> Result<(), Error> {
        self.endpoint(endpoint)?;
        let peers = self.peers.as_mut();
        let peer = peers
            .ok_or_else(|| Error::Refused("a connected endpoint has its peer".to_owned()))?
            .insert(address)?;
        let endpoint = &mut self.endpoints[endpoint];
        endpoint.peer = peer;
        endpoint.joined = true;
        Ok(())
    }

    /// What the peer of an endpoint needs to know to read and to write its memory; `None` if it has
    /// no such memory.
    #[must_use]
    pub fn target(&self, endpoint: usize) -> Option<Remote> {
        Some(self.endpoints.get(endpoint)?.target.as_ref()?.remote())
    }

    /// Tells an endpoint which memory its peer has made accessible.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn set_remote(&mut self, endpoint: usize, remote: Remote) -> Result<(), Error> {
        self.endpoint(endpoint)?;
        self.endpoints[endpoint].remote = remote;
        Ok(())
    }

    /// The memory of an endpoint that its peer reads and writes. That the peer leaves it alone
    /// meanwhile is for both sides to agree on.
    ///
    /// # Panics
    /// There is no such endpoint.
    #[inline]
    #[must_use]
    pub fn target_bytes(&mut self, endpoint: usize) -> &mut [u8] {
        match &self.endpoints[endpoint].memory {
            // SAFETY: the memory is as long as that; the borrow keeps everyone of this side out,
            // and the peer's accesses are outside of what the language knows, as with a mapped file.
            Some(memory) => unsafe {
                std::slice::from_raw_parts_mut(memory.start.as_ptr(), self.shape.target)
            },
            None => &mut [],
        }
    }

    /// A byte of that memory, read anew with each call; 0 outside of it.
    ///
    /// # Panics
    /// There is no such endpoint.
    #[inline]
    #[must_use]
    pub fn peek(&self, endpoint: usize, offset: usize) -> u8 {
        match &self.endpoints[endpoint].memory {
            // SAFETY: the byte is inside; the read is volatile, because the peer may change it.
            Some(memory) if offset < self.shape.target => unsafe {
                memory.start.as_ptr().add(offset).read_volatile()
            },
            _ => 0,
        }
    }

    /// The domain that the endpoints are of.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// How many slots all endpoints have.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots.count()
    }

    /// The longest message that [`Endpoints::inject`] takes, in bytes.
    #[must_use]
    pub fn inject_size(&self) -> usize {
        self.inject_size
    }

    /// Entries of the completion queue: as many as were asked for, or as the provider has.
    #[must_use]
    pub fn completion_entries(&self) -> usize {
        self.completions.entries()
    }

    /// Whether operations complete only if they are posted with a signal. Otherwise all do.
    #[must_use]
    pub fn selective(&self) -> bool {
        self.selective
    }

    /// Whether [`Endpoints::wait`] sleeps.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.completions.waits()
    }

    /// A slot's bytes, to be filled before an operation and read after one.
    ///
    /// # Panics
    /// There is no such slot, or it is in flight.
    #[inline]
    #[must_use]
    pub fn bytes(&mut self, slot: usize) -> &mut [u8] {
        self.slots.bytes(slot)
    }

    /// Whether nothing is in flight in a slot.
    #[inline]
    #[must_use]
    pub fn free(&self, slot: usize) -> bool {
        self.slots.free(slot)
    }

    /// Whether an endpoint has an atomic operation on numbers of 8 bytes; its numbers do not matter.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn has_atomic(&self, endpoint: usize, atomic: Atomic) -> Result<bool, Error> {
        let ep = self.endpoint(endpoint)?.handle.raw();
        let mut count = 0;
        // SAFETY: the endpoint is open; the count is the call's to store.
        let returned = unsafe {
            let count = &raw mut count;
            match atomic {
                Atomic::FetchAdd(_) => fi_fetch_atomicvalid(ep, FI_UINT64, FI_SUM, count),
                Atomic::CompareSwap(..) => fi_compare_atomicvalid(ep, FI_UINT64, FI_CSWAP, count),
            }
        };
        Ok(returned == 0 && count >= 1)
    }

    /// Reads completions, at most `most` and at most [`crate::BATCH`], hands each over, and drives
    /// operations on.
    ///
    /// # Errors
    /// An operation failed: which, with the provider's words. Its slot is free again.
    #[inline]
    pub fn poll(&mut self, most: usize, each: impl FnMut(Completion)) -> Result<(), Error> {
        self.completions.poll(&mut self.slots, most, each)
    }

    /// Sleeps until there may be something to poll, at most `patience`; returns at once where the
    /// queue cannot be waited on.
    ///
    /// # Errors
    /// The provider's reason.
    pub fn wait(&mut self, patience: Duration) -> Result<(), Error> {
        self.completions.wait(patience)
    }

    /// Whether a peer of connected endpoints has hung up. Completions do not tell: what was received
    /// before is still to be read, and a receive may stay in flight for ever. But some providers
    /// notice only while they are polled.
    ///
    /// # Errors
    /// A connection broke: the provider's reason.
    pub fn peer_left(&mut self) -> Result<bool, Error> {
        let Some(events) = &self.events else {
            return Ok(false);
        };
        let event = events.next("the connection", 0)?;
        self.left |= matches!(event, Some((FI_SHUTDOWN, _)));
        Ok(self.left)
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        if !self.domain.info().provider().ends_with(";ofi_rxm") {
            return;
        }
        // Up to libfabric 1.17 at least, ofi_rxm closes a connection before it looks at what has come
        // over it, and crashes when it finds something: nothing may be left by then. What is found
        // here, errors included, nobody wants any more.
        let start = Instant::now();
        while start.elapsed() < LINGER {
            let _ = self.poll(BATCH, |_| ());
        }
    }
}

/// An endpoint that listens for connections.
#[derive(Debug)]
pub struct Listener {
    handle: Handle<FidPep>,
    events: EventQueue,
    fabric: Fabric,
}

impl Listener {
    /// Listens at the address of a domain's offer whose query was `local`; without a service, at a
    /// port that the provider chooses.
    ///
    /// # Errors
    /// The offer is not for endpoints with connections; or the provider's reason.
    pub fn open(domain: &Domain) -> Result<Self, Error> {
        let info = domain.info();
        expect_type(info, &[FI_EP_MSG])?;
        let fabric = domain.fabric().clone();
        let events = EventQueue::open(&fabric)?;
        let what = format!("fi_passive_ep of provider {}", info.provider());
        // SAFETY: fabric and offer are open; the object that the call stores is new.
        let handle = unsafe {
            Handle::open(fabric.library, what, |pep| {
                fi_passive_ep(fabric.raw(), info.raw.as_ptr(), pep, ptr::null_mut())
            })
        }?;
        let listener = Self {
            handle,
            events,
            fabric,
        };
        let library = listener.fabric.library;
        // SAFETY: both objects are open, and the endpoint is closed first.
        unsafe {
            let queue = listener.events.handle().fid();
            check(
                library,
                "fi_pep_bind",
                fi_bind(listener.handle.fid(), queue, 0),
            )?;
            check(library, "fi_listen", fi_listen(listener.handle.raw()))?;
        }
        Ok(listener)
    }

    /// The address that peers connect to.
    ///
    /// # Errors
    /// The provider's reason.
    pub fn address(&self) -> Result<Vec<u8>, Error> {
        // SAFETY: the endpoint is open, and the room as large as is said.
        address(self.fabric.library, |room, length| unsafe {
            fi_pep_getname(self.handle.raw(), room, length)
        })
    }

    /// Tells a peer no, so that it does not wait. It came to this endpoint, and no endpoint was made
    /// for it yet.
    fn reject(&self, peer: *mut Fid) {
        if !peer.is_null() {
            // SAFETY: the endpoint is open, and the peer was given to it and to nobody else. Where
            // this fails, the peer's own time limit tells it.
            let _ = unsafe { fi_reject(self.handle.raw(), peer, ptr::null(), 0) };
        }
    }
}

fn expect_type(info: &Info, wanted: &[u32]) -> Result<(), Error> {
    let offered = info.endpoint().r#type;
    if wanted.contains(&offered) {
        return Ok(());
    }
    let word = |kind: u32| EP_TYPES.word(u64::from(kind));
    let wanted: Vec<String> = wanted.iter().map(|kind| word(*kind)).collect();
    Err(Error::Refused(format!(
        "provider {} offers an endpoint of type {} here, not {}",
        info.provider(),
        word(offered),
        wanted.join(" or ")
    )))
}

/// The address that `call` writes into its room.
fn address(
    library: &Library,
    call: impl FnOnce(*mut c_void, *mut usize) -> c_int,
) -> Result<Vec<u8>, Error> {
    let mut room = [0_u8; MAX_ADDRESS];
    let mut length = room.len();
    check(
        library,
        "fi_getname",
        call(room.as_mut_ptr().cast(), &raw mut length),
    )?;
    Ok(room[..length.min(MAX_ADDRESS)].to_vec())
}
