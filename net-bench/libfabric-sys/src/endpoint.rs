//! Endpoints: those that reach any peer (RDM), and those that are connected to one (MSG).

use crate::av::{AddressVector, MAX_ADDRESS, Peer, padded};
use crate::cq::{Completion, CompletionQueue};
use crate::error::{Error, check};
use crate::fabric::{Domain, EventQueue, Fabric};
use crate::handle::Handle;
use crate::info::Info;
use crate::library::Library;
use crate::mr::Slots;
use crate::raw::calls::{
    fi_accept, fi_bind, fi_connect, fi_control, fi_endpoint, fi_getname, fi_inject, fi_listen,
    fi_passive_ep, fi_pep_getname, fi_recv, fi_reject, fi_send, fi_tinject, fi_trecv, fi_tsend,
};
use crate::raw::constants::{
    EP_TYPES, FI_ADDR_UNSPEC, FI_CONNECTED, FI_CONNREQ, FI_EAGAIN, FI_EINVAL, FI_ENABLE, FI_EP_MSG,
    FI_EP_RDM, FI_RECV, FI_SEND, FI_SHUTDOWN,
};
use crate::raw::structures::{Fid, FidEp, FidPep};
use libc::{c_int, c_void};
use std::ptr;
use std::time::Duration;

/// The memory of an endpoint. A slot carries one operation at a time.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many operations can be in flight, sends and receives together.
    pub slots: usize,
    /// Bytes of the longest message.
    pub length: usize,
}

/// Whether the provider took an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// It will complete, unless it was an injected one: those complete silently.
    Taken,
    /// The provider's queue is full: poll, and try again.
    Full,
}

/// ofi_rxm opens a completion queue for (128 + 128) operations with each of FI_UNIVERSE_SIZE peers,
/// 256 unless told otherwise, which is more than many devices have; Linux's software RoCE has 32767.
const SMALLER_UNIVERSE: &str = "the device may have fewer completion queue entries than ofi_rxm \
    wants: set FI_UNIVERSE_SIZE=16";

/// An open endpoint with its own completion queue, peers and memory.
///
/// What is in flight is cancelled when it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    // Dropped in this order: the endpoint before what is bound to it.
    handle: Handle<FidEp>,
    parts: Parts,
    inject_size: usize,
    /// Whether the peer was seen to hang up.
    left: bool,
}

/// What is open before an endpoint and closed after it.
#[derive(Debug)]
struct Parts {
    completions: CompletionQueue,
    /// Of an endpoint without connections.
    peers: Option<AddressVector>,
    /// Of an endpoint with a connection.
    events: Option<EventQueue>,
    slots: Slots,
    domain: Domain,
}

impl Parts {
    fn open(domain: &Domain, shape: Shape) -> Result<Self, Error> {
        let longest = domain.info().endpoint().max_msg_size;
        if shape.length > longest {
            return Err(Error::Refused(format!(
                "messages of {} bytes: provider {} sends at most {longest} at once",
                shape.length,
                domain.info().provider()
            )));
        }
        let slots = Slots::new(domain, shape.slots, shape.length)?;
        Ok(Self {
            completions: CompletionQueue::open(domain, slots.count())?,
            peers: None,
            events: None,
            slots,
            domain: domain.clone(),
        })
    }

    fn for_connection(domain: &Domain, shape: Shape) -> Result<Self, Error> {
        expect_type(domain.info(), FI_EP_MSG)?;
        let mut parts = Self::open(domain, shape)?;
        parts.events = Some(EventQueue::open(domain.fabric())?);
        Ok(parts)
    }
}

impl Endpoint {
    /// Opens an endpoint that reaches any peer.
    ///
    /// # Errors
    /// The domain's offer is not for such an endpoint or for messages so long; or the provider's
    /// reason.
    pub fn reliable_datagram(domain: &Domain, shape: Shape) -> Result<Self, Error> {
        expect_type(domain.info(), FI_EP_RDM)?;
        let mut parts = Parts::open(domain, shape)?;
        parts.peers = Some(AddressVector::open(domain)?);
        Self::of(parts)
    }

    /// Connects to the endpoint that listens at an address, within some time. `prepare` posts
    /// receives before the peer can send.
    ///
    /// # Errors
    /// As for [`Endpoint::reliable_datagram`]; nobody listens there; the time is over.
    pub fn connect(
        domain: &Domain,
        shape: Shape,
        address: &[u8],
        patience: Duration,
        prepare: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let address = padded(address)?;
        let mut endpoint = Self::of(Parts::for_connection(domain, shape)?)?;
        prepare(&mut endpoint)?;
        // SAFETY: the endpoint is open; the address is padded to the longest there is.
        let returned = unsafe {
            let address = address.as_ptr().cast();
            fi_connect(endpoint.handle.raw(), address, ptr::null(), 0)
        };
        check(domain.library(), "fi_connect", returned)?;
        endpoint.await_connection("connecting", patience)?;
        Ok(endpoint)
    }

    fn await_connection(&self, what: &str, patience: Duration) -> Result<(), Error> {
        let events = self.parts.events.as_ref();
        let events = events.expect("endpoints with connections are made with a queue of events");
        events.wait(FI_CONNECTED, what, patience).map(drop)
    }

    /// Opens an endpoint, binds its parts to it, and enables it.
    fn of(parts: Parts) -> Result<Self, Error> {
        let (library, info) = (parts.domain.library(), parts.domain.info());
        let provider = info.provider();
        // SAFETY: domain and offer are open; the object that the call stores is new.
        let handle = unsafe {
            let what = format!("fi_endpoint of provider {provider}");
            Handle::open(library, what, |ep| {
                let (domain, info) = (parts.domain.raw(), info.raw.as_ptr());
                fi_endpoint(domain, info, ep, ptr::null_mut())
            })
        }?;
        let inject_size = info.tx().inject_size;
        let endpoint = Self {
            handle,
            parts,
            inject_size,
            left: false,
        };
        let parts = &endpoint.parts;
        let queue = parts.completions.handle().fid();
        let peers = parts.peers.as_ref().map(|peers| peers.handle().fid());
        let events = parts.events.as_ref().map(|events| events.handle().fid());
        let bound = [
            (Some(queue), FI_SEND | FI_RECV, "completion queue"),
            (peers, 0, "address vector"),
            (events, 0, "event queue"),
        ];
        for (fid, flags, name) in bound {
            let Some(fid) = fid else { continue };
            // SAFETY: both objects are open, and the endpoint is closed first.
            let returned = unsafe { fi_bind(endpoint.handle.fid(), fid, flags) };
            check(library, format!("fi_ep_bind of the {name}"), returned)?;
        }
        // SAFETY: the endpoint is open; the command takes no argument.
        let returned = unsafe { fi_control(endpoint.handle.fid(), FI_ENABLE, ptr::null_mut()) };
        check(
            library,
            format!("fi_enable of provider {provider}"),
            returned,
        )
        .map_err(|error| {
            let remedy = match provider.as_str() {
                "verbs;ofi_rxm" if error.is(FI_EINVAL) => SMALLER_UNIVERSE,
                _ => "",
            };
            error.and(remedy)
        })?;
        Ok(endpoint)
    }

    fn library(&self) -> &'static Library {
        self.parts.domain.library()
    }

    /// The address that peers need to reach this endpoint, at most [`MAX_ADDRESS`] bytes.
    ///
    /// # Errors
    /// The provider's reason.
    pub fn address(&self) -> Result<Vec<u8>, Error> {
        // SAFETY: the endpoint is open, and the room as large as is said.
        address(self.library(), |room, length| unsafe {
            fi_getname(self.handle.raw(), room, length)
        })
    }

    /// Makes a peer known by the address that its endpoint told.
    ///
    /// # Errors
    /// The endpoint has connections; or the provider cannot read the address.
    pub fn add_peer(&mut self, address: &[u8]) -> Result<Peer, Error> {
        let peers = self.parts.peers.as_mut();
        peers
            .ok_or_else(|| Error::Refused("a connected endpoint has one peer".to_owned()))?
            .insert(address)
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.parts.slots.count()
    }

    /// The longest message that [`Endpoint::inject`] takes, in bytes.
    #[must_use]
    pub fn inject_size(&self) -> usize {
        self.inject_size
    }

    /// A slot's bytes, to be filled before a send and read after a receive.
    ///
    /// # Panics
    /// There is no such slot, or it is in flight.
    #[inline]
    #[must_use]
    pub fn bytes(&mut self, slot: usize) -> &mut [u8] {
        self.parts.slots.bytes(slot)
    }

    /// Posts a receive into a slot, from any peer.
    ///
    /// # Errors
    /// The slot is in flight or does not exist; or the provider's reason.
    #[inline]
    pub fn receive(&mut self, slot: usize) -> Result<Posted, Error> {
        let length = self.parts.slots.length();
        self.post(
            "fi_recv",
            slot,
            length,
            None,
            |ep, buffer, desc, peer, context| {
                // SAFETY: the endpoint is open; the slot stays in place and untouched in flight.
                unsafe { fi_recv(ep, buffer, length, desc, peer, context) }
            },
        )
    }

    /// Posts a receive into a slot for messages whose tag is `tag` in all bits but those of
    /// `ignore`, from any peer.
    ///
    /// # Errors
    /// As for [`Endpoint::receive`].
    #[inline]
    pub fn receive_tagged(&mut self, slot: usize, tag: u64, ignore: u64) -> Result<Posted, Error> {
        let length = self.parts.slots.length();
        self.post(
            "fi_trecv",
            slot,
            length,
            None,
            |ep, buffer, desc, peer, context| {
                // SAFETY: as for `receive`.
                unsafe { fi_trecv(ep, buffer, length, desc, peer, tag, ignore, context) }
            },
        )
    }

    /// Sends the first `length` bytes of a slot; `None` is the peer of a connected endpoint.
    ///
    /// # Errors
    /// As for [`Endpoint::receive`]; or the slot is shorter; or the peer is another endpoint's.
    #[inline]
    pub fn send(
        &mut self,
        slot: usize,
        length: usize,
        peer: Option<Peer>,
    ) -> Result<Posted, Error> {
        self.post(
            "fi_send",
            slot,
            length,
            Some(peer),
            |ep, buffer, desc, peer, context| {
                // SAFETY: as for `receive`.
                unsafe { fi_send(ep, buffer, length, desc, peer, context) }
            },
        )
    }

    /// As [`Endpoint::send`], with a tag.
    ///
    /// # Errors
    /// As for [`Endpoint::send`].
    #[inline]
    pub fn send_tagged(
        &mut self,
        slot: usize,
        length: usize,
        peer: Option<Peer>,
        tag: u64,
    ) -> Result<Posted, Error> {
        self.post(
            "fi_tsend",
            slot,
            length,
            Some(peer),
            |ep, buffer, desc, peer, context| {
                // SAFETY: as for `receive`.
                unsafe { fi_tsend(ep, buffer, length, desc, peer, tag, context) }
            },
        )
    }

    /// Sends a short message, whose bytes are free at once and which completes silently.
    ///
    /// # Errors
    /// It is longer than [`Endpoint::inject_size`]; the peer is another endpoint's; or the
    /// provider's reason.
    #[inline]
    pub fn inject(&mut self, message: &[u8], peer: Option<Peer>) -> Result<Posted, Error> {
        let peer = self.short(message, peer)?;
        let (bytes, length) = (message.as_ptr().cast(), message.len());
        // SAFETY: the endpoint is open; the provider is done with the bytes when the call returns.
        let returned = unsafe { fi_inject(self.handle.raw(), bytes, length, peer) };
        self.posted("fi_inject", returned)
    }

    /// As [`Endpoint::inject`], with a tag.
    ///
    /// # Errors
    /// As for [`Endpoint::inject`].
    #[inline]
    pub fn inject_tagged(
        &mut self,
        message: &[u8],
        peer: Option<Peer>,
        tag: u64,
    ) -> Result<Posted, Error> {
        let peer = self.short(message, peer)?;
        let (bytes, length) = (message.as_ptr().cast(), message.len());
        // SAFETY: as for `inject`.
        let returned = unsafe { fi_tinject(self.handle.raw(), bytes, length, peer, tag) };
        self.posted("fi_tinject", returned)
    }

    /// Reads completions, at most [`crate::cq::BATCH`] and at most as many as `into` holds, and
    /// drives operations on; how many it were.
    ///
    /// # Errors
    /// An operation failed: which, with the provider's words. Its slot is free again.
    #[inline]
    pub fn poll(&mut self, into: &mut [Completion]) -> Result<usize, Error> {
        self.parts.completions.poll(&mut self.parts.slots, into)
    }

    /// Whether the peer of a connected endpoint has hung up. Completions do not tell: what was
    /// received before is still to be read, and a receive may stay in flight for ever. But some
    /// providers notice only while they are polled.
    ///
    /// # Errors
    /// The connection broke: the provider's reason.
    pub fn peer_left(&mut self) -> Result<bool, Error> {
        let Some(events) = &self.parts.events else {
            return Ok(false);
        };
        let event = events.next("the connection", 0)?;
        self.left |= matches!(event, Some((FI_SHUTDOWN, _)));
        Ok(self.left)
    }

    /// Launches a slot, makes the call, and takes the slot back unless the provider took it.
    #[inline]
    fn post(
        &mut self,
        what: &str,
        slot: usize,
        length: usize,
        peer: Option<Option<Peer>>,
        call: impl FnOnce(*mut FidEp, *mut c_void, *mut c_void, u64, *mut c_void) -> isize,
    ) -> Result<Posted, Error> {
        let peer = match peer {
            None => FI_ADDR_UNSPEC,
            Some(peer) => self.resolve(peer)?,
        };
        let (buffer, context) = self.parts.slots.launch(slot, length)?;
        let description = self.parts.slots.description();
        let returned = call(self.handle.raw(), buffer, description, peer, context);
        if returned != 0 {
            self.parts.slots.recall(slot);
        }
        self.posted(what, returned)
    }

    #[inline]
    fn posted(&self, what: &str, returned: isize) -> Result<Posted, Error> {
        if returned == 0 {
            Ok(Posted::Taken)
        } else if returned == -(FI_EAGAIN as isize) {
            Ok(Posted::Full)
        } else {
            Err(Error::of(self.library(), what, returned as i64))
        }
    }

    /// Checks what the provider may take for granted of a message to inject.
    #[inline]
    fn short(&self, message: &[u8], peer: Option<Peer>) -> Result<u64, Error> {
        if message.len() > self.inject_size {
            return Err(Error::Refused(format!(
                "{} bytes to inject: the provider takes at most {}",
                message.len(),
                self.inject_size
            )));
        }
        self.resolve(peer)
    }

    /// What the provider calls a peer; a number that it did not give could lead it anywhere.
    #[inline]
    fn resolve(&self, peer: Option<Peer>) -> Result<u64, Error> {
        let known = match (&self.parts.peers, peer) {
            (Some(peers), Some(peer)) => peers.of(peer),
            (None, None) => Some(FI_ADDR_UNSPEC),
            _ => None,
        };
        known.ok_or_else(|| Error::Refused("not a peer of this endpoint".to_owned()))
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
    /// Listens at the address of an offer whose query was `local`; without a service, at a port
    /// that the provider chooses.
    ///
    /// # Errors
    /// The offer is not for endpoints with connections; or the provider's reason.
    pub fn open(info: &Info) -> Result<Self, Error> {
        expect_type(info, FI_EP_MSG)?;
        let fabric = Fabric::open(info)?;
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

    /// Waits for a peer and accepts it, in a domain of its own. `prepare` posts receives before
    /// the peer can send.
    ///
    /// # Errors
    /// Nobody came in time; or the provider's reason.
    pub fn accept(
        &self,
        shape: Shape,
        patience: Duration,
        prepare: impl FnOnce(&mut Endpoint) -> Result<(), Error>,
    ) -> Result<Endpoint, Error> {
        let request = self
            .events
            .wait(FI_CONNREQ, "waiting for a peer", patience)?;
        let request = request.ok_or_else(|| {
            Error::Refused("a request to connect came without an offer".to_owned())
        })?;
        // SAFETY: the offer is open.
        let peer = unsafe { request.raw.as_ref() }.handle;
        let ready = self.fabric.domain(request);
        let ready = ready.and_then(|domain| Parts::for_connection(&domain, shape));
        // From here on the peer belongs to the endpoint: it hears of it when that is closed.
        let mut endpoint = Endpoint::of(ready.inspect_err(|_| self.reject(peer))?)?;
        prepare(&mut endpoint)?;
        // SAFETY: the endpoint is open and was made of the request.
        let returned = unsafe { fi_accept(endpoint.handle.raw(), ptr::null(), 0) };
        check(self.fabric.library, "fi_accept", returned)?;
        endpoint.await_connection("accepting", patience)?;
        Ok(endpoint)
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

fn expect_type(info: &Info, wanted: u32) -> Result<(), Error> {
    let offered = info.endpoint().r#type;
    if offered == wanted {
        return Ok(());
    }
    let word = |kind: u32| EP_TYPES.word(u64::from(kind));
    Err(Error::Refused(format!(
        "provider {} offers an endpoint of type {} here, not {}",
        info.provider(),
        word(offered),
        word(wanted)
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
