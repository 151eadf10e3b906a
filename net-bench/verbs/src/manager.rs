//! Connections that are made by the connection manager (librdmacm).
//!
//! The manager would rather make queue pairs itself, on a device context of its own. Here they are
//! made before, with all that belongs to them; the manager says what to set for each state
//! (`rdma_init_qp_attr`) and is told their numbers. This is what it offers to programs with queue
//! pairs of their own.
//!
//! Its port space of streams tells the peer's manager of RC only, and leaves it at that: UC is
//! connected in the same way, with what RC alone has left out. In that of datagrams the side that asks
//! learns the other's number, key and address; the side that answers finds its way back with what the
//! caller knows of the peer.

use crate::Service;
use crate::device::Mtu;
use crate::error::{Error, text};
use crate::lanes::Lanes;
use crate::library::Manager;
use crate::pair::{AddressHandle, Peer, RETRIES, RNR_RETRIES, Route, blank};
use crate::queue::readable;
use libc::{c_int, sockaddr, sockaddr_in, sockaddr_in6, sockaddr_storage};
use rdma_sys::{
    ibv_ah_attr, ibv_qp_attr, ibv_qp_state, rdma_cm_event_type, rdma_cm_id, rdma_conn_param,
    rdma_event_channel, rdma_port_space,
};
use std::net::SocketAddr;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// As many reads and atomic operations at once as the device can.
const MOST_READS: u8 = u8::MAX;

/// Where the manager tells what has happened.
#[derive(Debug)]
struct Events {
    raw: NonNull<rdma_event_channel>,
    manager: &'static Manager,
    /// Whether what it tells is of datagrams.
    datagrams: bool,
}

/// How datagrams reach a queue pair of the peer's.
struct Way {
    address: ibv_ah_attr,
    number: u32,
    key: u32,
}

/// What has happened.
struct Event {
    id: *mut rdma_cm_id,
    kind: rdma_cm_event_type::Type,
    status: c_int,
    /// The lane that the peer tells in a request for a connection.
    lane: Option<u32>,
    /// Where datagrams are taken, once that is settled.
    way: Option<Way>,
}

impl Events {
    fn open(service: Service) -> Result<Rc<Self>, Error> {
        let manager = Manager::load()?;
        // SAFETY: the call takes nothing.
        let raw = unsafe { (manager.rdma_create_event_channel)() };
        let raw = NonNull::new(raw).ok_or_else(|| {
            Error::last("rdma_create_event_channel")
                .and("`modprobe rdma_ucm` loads the kernel's part")
        })?;
        Ok(Rc::new(Self {
            raw,
            manager,
            datagrams: service == Service::Ud,
        }))
    }

    /// The next event, until a time.
    fn next(&self, what: &str, deadline: Deadline) -> Result<Event, Error> {
        // SAFETY: the channel is open.
        let descriptor = unsafe { (*self.raw.as_ptr()).fd };
        while !readable(descriptor, deadline.left())? {
            if deadline.left().is_zero() {
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    seconds: deadline.patience.as_secs_f64(),
                });
            }
        }
        let mut event = ptr::null_mut();
        // SAFETY: the channel is open, and the event is acknowledged once, after what is needed of
        // it was copied. Of datagrams `param.ud` is the union's part in use, of connections
        // `param.conn`, and private data has as many bytes as it says.
        unsafe {
            if (self.manager.rdma_get_cm_event)(self.raw.as_ptr(), &raw mut event) != 0 {
                return Err(Error::last("rdma_get_cm_event"));
            }
            let kind = (*event).event;
            let (private_data, length) = if self.datagrams {
                let told = &(*event).param.ud;
                (told.private_data, told.private_data_len)
            } else {
                let told = &(*event).param.conn;
                (told.private_data, told.private_data_len)
            };
            let request = kind == rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST;
            let told = request && length >= 4 && !private_data.is_null();
            let lane = told.then(|| private_data.cast::<[u8; 4]>().read_unaligned());
            let settled = kind == rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED;
            let way = (self.datagrams && settled).then(|| {
                let told = &(*event).param.ud;
                Way {
                    address: told.ah_attr,
                    number: told.qp_num,
                    key: told.qkey,
                }
            });
            let copied = Event {
                id: (*event).id,
                kind,
                status: (*event).status,
                lane: lane.map(u32::from_be_bytes),
                way,
            };
            (self.manager.rdma_ack_cm_event)(event);
            Ok(copied)
        }
    }

    /// The next event, which has to be of one kind.
    fn expect(
        &self,
        kind: rdma_cm_event_type::Type,
        what: &str,
        deadline: Deadline,
    ) -> Result<Event, Error> {
        let event = self.next(what, deadline)?;
        if event.kind == kind {
            return Ok(event);
        }
        // SAFETY: the function takes any number, and returns text that is never freed.
        let told = unsafe { text((self.manager.rdma_event_str)(event.kind)) };
        let told = told.unwrap_or_else(|| "an unknown event".to_owned());
        Err(match event.status {
            code if code < 0 => Error::returned(format!("{what}: {told}"), code),
            code => Error::Refused(format!("{what}: {told} (status {code})")),
        })
    }

    fn id(self: &Rc<Self>) -> Result<Id, Error> {
        let mut id = ptr::null_mut();
        // SAFETY: the channel is open; the identifier is new.
        let returned = unsafe {
            (self.manager.rdma_create_id)(
                self.raw.as_ptr(),
                &raw mut id,
                ptr::null_mut(),
                if self.datagrams {
                    rdma_port_space::RDMA_PS_UDP
                } else {
                    rdma_port_space::RDMA_PS_TCP
                },
            )
        };
        check("rdma_create_id", returned)?;
        Id::of(self, id)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: it is open, and the identifiers that use it hold it.
        unsafe { (self.manager.rdma_destroy_event_channel)(self.raw.as_ptr()) };
    }
}

/// Until when something may take.
#[derive(Clone, Copy)]
struct Deadline {
    begun: Instant,
    patience: Duration,
}

impl Deadline {
    fn after(patience: Duration) -> Self {
        Self {
            begun: Instant::now(),
            patience,
        }
    }

    fn left(&self) -> Duration {
        self.patience.saturating_sub(self.begun.elapsed())
    }

    fn milliseconds(&self) -> c_int {
        c_int::try_from(self.left().as_millis()).unwrap_or(c_int::MAX)
    }
}

/// The manager's calls return -1 and leave the reason in `errno`.
fn check(what: impl Into<String>, returned: c_int) -> Result<(), Error> {
    match returned {
        0 => Ok(()),
        _ => Err(Error::last(what)),
    }
}

/// One end of a connection, or what listens for them.
#[derive(Debug)]
struct Id {
    raw: NonNull<rdma_cm_id>,
    events: Rc<Events>,
}

impl Id {
    fn of(events: &Rc<Events>, raw: *mut rdma_cm_id) -> Result<Self, Error> {
        let raw = NonNull::new(raw)
            .ok_or_else(|| Error::Refused("the connection manager made nothing".to_owned()))?;
        Ok(Self {
            raw,
            events: events.clone(),
        })
    }

    fn raw(&self) -> *mut rdma_cm_id {
        self.raw.as_ptr()
    }

    /// Refuses a connection that does not go through the device of the lanes.
    fn expect_device(&self, lanes: &Lanes) -> Result<(), Error> {
        let context = lanes.context();
        // SAFETY: the identifier is open; its device, if it has one, is open as long. The name is
        // copied.
        let name = unsafe {
            let device = (*self.raw()).verbs;
            if device.is_null() {
                return Ok(());
            }
            text((context.verbs().ibv_get_device_name)((*device).device))
        };
        match name {
            Some(name) if name != context.name() => Err(Error::Refused(format!(
                "the connection manager goes through device {name}, not {}",
                context.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Brings a lane's queue pair of datagrams to work; the key that it takes them with.
    fn start(&self, lanes: &Lanes, lane: usize) -> Result<u32, Error> {
        let (mut attributes, mask) = self.attributes(ibv_qp_state::IBV_QPS_INIT)?;
        // A device would take any; the manager of the peer knows the one of the port space.
        let key = attributes.qkey;
        attributes.qp_state = ibv_qp_state::IBV_QPS_INIT;
        lanes.pair(lane).start_datagrams(attributes, mask)?;
        Ok(key)
    }

    /// Brings a lane's queue pair into a state; the index of the GID, where the state has one.
    fn bring(
        &self,
        lanes: &Lanes,
        lane: usize,
        state: ibv_qp_state::Type,
        mtu: Mtu,
    ) -> Result<u8, Error> {
        let (attributes, mask) = self.attributes(state)?;
        let index = attributes.ah_attr.grh.sgid_index;
        lanes.pair(lane).follow(attributes, mask, mtu)?;
        Ok(index)
    }

    /// What to set for a state, and which of it.
    fn attributes(&self, state: ibv_qp_state::Type) -> Result<(ibv_qp_attr, u32), Error> {
        let mut attributes = blank();
        attributes.qp_state = state;
        let mut mask = 0;
        // SAFETY: the identifier is open, and both places are the call's to fill in.
        let returned = unsafe {
            (self.events.manager.rdma_init_qp_attr)(self.raw(), &raw mut attributes, &raw mut mask)
        };
        check("rdma_init_qp_attr", returned)?;
        Ok((attributes, mask.cast_unsigned()))
    }

    /// What the peer's manager has to know of a lane's queue pair. The private data has to live
    /// until the call that takes this.
    fn parameters(lanes: &Lanes, lane: usize, private_data: &[u8; 4]) -> rdma_conn_param {
        rdma_conn_param {
            private_data: private_data.as_ptr().cast(),
            private_data_len: private_data.len() as u8,
            responder_resources: MOST_READS,
            initiator_depth: MOST_READS,
            flow_control: 1,
            retry_count: RETRIES,
            rnr_retry_count: RNR_RETRIES,
            srq: u8::from(lanes.shape().shared_receives),
            qp_num: lanes.pair(lane).number(),
        }
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: it is open, and all its events were acknowledged.
        let _ = unsafe { (self.events.manager.rdma_destroy_id)(self.raw()) };
    }
}

/// The connections of lanes.
#[derive(Debug)]
pub(crate) struct Connections {
    _ids: Vec<Id>,
}

/// What waits for connections.
#[derive(Debug)]
pub struct Listener {
    id: Id,
    address: SocketAddr,
}

impl Listener {
    /// Listens on an address of the device, with a port that the kernel chooses, for so many lanes at
    /// once.
    ///
    /// # Errors
    /// [`Error::Missing`]: no librdmacm, or not the kernel's part of it. Or its reason.
    pub fn bind(mut address: SocketAddr, service: Service, lanes: u32) -> Result<Self, Error> {
        address.set_port(0);
        let events = Events::open(service)?;
        let id = events.id()?;
        let mut storage = Storage::of(address);
        let backlog = c_int::try_from(lanes).unwrap_or(c_int::MAX);
        // SAFETY: the identifier is open; the address is in a form that the call knows.
        unsafe {
            let manager = events.manager;
            let returned = (manager.rdma_bind_addr)(id.raw(), storage.raw());
            check(format!("rdma_bind_addr to {}", address.ip()), returned)?;
            let returned = (manager.rdma_listen)(id.raw(), backlog);
            check(format!("rdma_listen on {}", address.ip()), returned)?;
            address.set_port(u16::from_be((manager.rdma_get_src_port)(id.raw())));
        }
        Ok(Self { id, address })
    }

    /// The address, with the port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes a connection for each lane, within some time, with a path MTU of at most that of `back`;
    /// the index of the GID that they use. Datagrams go `back` to these `peers`, in the order of the
    /// lanes.
    ///
    /// # Errors
    /// The time is over; the peer asks for another lane; or the manager's reason.
    pub fn accept(
        self,
        lanes: &mut Lanes,
        back: &Route,
        peers: &[Peer],
        patience: Duration,
    ) -> Result<u8, Error> {
        let deadline = Deadline::after(patience);
        let events = self.id.events.clone();
        let count = lanes.shape().lanes as usize;
        let mut ids: Vec<Option<Id>> = (0..count).map(|_| None).collect();
        let (mut accepted, mut established, mut settled) = (0, 0, Settled::default());
        while established < count {
            let event = events.next("connections of the peer", deadline)?;
            match event.kind {
                rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST => {
                    let id = Id::of(&events, event.id)?;
                    let lane = event.lane.map_or(usize::MAX, |lane| lane as usize);
                    if ids.get(lane).is_none_or(Option::is_some) {
                        return Err(Error::Refused(
                            "the peer wants a connection that is not of this test".to_owned(),
                        ));
                    }
                    settled = accept(lanes, lane, &id, back.mtu)?;
                    ids[lane] = Some(id);
                    accepted += 1;
                    // Nobody says that an answer about datagrams has arrived.
                    established += usize::from(events.datagrams);
                }
                rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED => established += 1,
                kind => {
                    // SAFETY: the function takes any number, and returns text that is never freed.
                    let told = unsafe { text((events.manager.rdma_event_str)(kind)) };
                    return Err(Error::Refused(format!(
                        "{} of {count} connections accepted, then: {} (status {})",
                        accepted,
                        told.unwrap_or_default(),
                        event.status
                    )));
                }
            }
        }
        lanes.keep(Connections {
            _ids: ids.into_iter().flatten().collect(),
        });
        if events.datagrams {
            let handle = AddressHandle::open(lanes.domain(), back)?;
            let numbers = peers.iter().map(|peer| (peer.number, settled.key));
            lanes.address(handle, numbers)?;
            return Ok(back.gid.map_or(0, |(index, _)| index));
        }
        Ok(settled.gid_index)
    }
}

/// What a lane's connection came to.
#[derive(Clone, Copy, Default)]
struct Settled {
    /// Of a connection, the index of the GID.
    gid_index: u8,
    /// Of datagrams, the key that this side takes.
    key: u32,
}

fn accept(lanes: &Lanes, lane: usize, id: &Id, mtu: Mtu) -> Result<Settled, Error> {
    id.expect_device(lanes)?;
    let mut settled = Settled::default();
    if id.events.datagrams {
        settled.key = id.start(lanes, lane)?;
    } else {
        id.bring(lanes, lane, ibv_qp_state::IBV_QPS_INIT, mtu)?;
        settled.gid_index = id.bring(lanes, lane, ibv_qp_state::IBV_QPS_RTR, mtu)?;
        id.bring(lanes, lane, ibv_qp_state::IBV_QPS_RTS, mtu)?;
    }
    let told = (lane as u32).to_be_bytes();
    let mut parameters = Id::parameters(lanes, lane, &told);
    // SAFETY: the identifier is open; the parameters and what they point to live until the call is
    // over.
    let returned = unsafe { (id.events.manager.rdma_accept)(id.raw(), &raw mut parameters) };
    check(format!("rdma_accept of lane {lane}"), returned)?;
    Ok(settled)
}

/// Connects each lane with the listener at an address, from an address of this side's device,
/// within some time, with a path MTU of at most `mtu`; the index of the GID that they use.
///
/// # Errors
/// [`Error::Missing`]: no librdmacm, or not the kernel's part of it. No route to the address; the
/// way there is through another device; nobody listens; the time is over; or the manager's reason.
pub fn connect(
    lanes: &mut Lanes,
    from: SocketAddr,
    to: SocketAddr,
    mtu: Mtu,
    patience: Duration,
) -> Result<u8, Error> {
    let deadline = Deadline::after(patience);
    let events = Events::open(lanes.shape().service)?;
    let (mut ids, mut ways) = (Vec::new(), Vec::new());
    let mut gid_index = 0;
    for lane in 0..lanes.shape().lanes as usize {
        let id = events.id()?;
        resolve(lanes, &id, (from, to), deadline)?;
        if events.datagrams {
            let way = find_datagrams(lanes, lane, &id, to, deadline)?;
            gid_index = way.address.grh.sgid_index;
            ways.push(way);
        } else {
            gid_index = connect_lane(lanes, lane, &id, to, mtu, deadline)?;
        }
        ids.push(id);
    }
    lanes.keep(Connections { _ids: ids });
    if let Some(first) = ways.first() {
        // All queue pairs of the peer have one address.
        let handle = AddressHandle::of(lanes.domain(), first.address)?;
        lanes.address(handle, ways.iter().map(|way| (way.number, way.key)))?;
    }
    Ok(gid_index)
}

/// Finds the way from one address to the other.
fn resolve(
    lanes: &Lanes,
    id: &Id,
    (from, to): (SocketAddr, SocketAddr),
    deadline: Deadline,
) -> Result<(), Error> {
    let (events, manager) = (&id.events, id.events.manager);
    let (mut source, mut destination) = (Storage::of(from), Storage::of(to));
    let what = format!("resolving {} from {} for RDMA", to.ip(), from.ip());
    // SAFETY: the identifier is open; both addresses are in a form that the call knows.
    let returned = unsafe {
        let milliseconds = deadline.milliseconds();
        (manager.rdma_resolve_addr)(id.raw(), source.raw(), destination.raw(), milliseconds)
    };
    check(what.as_str(), returned)?;
    events.expect(
        rdma_cm_event_type::RDMA_CM_EVENT_ADDR_RESOLVED,
        &what,
        deadline,
    )?;
    id.expect_device(lanes)?;
    // SAFETY: the identifier is open.
    let returned = unsafe { (manager.rdma_resolve_route)(id.raw(), deadline.milliseconds()) };
    let what = format!("resolving the route to {} for RDMA", to.ip());
    check(what.as_str(), returned)?;
    events.expect(
        rdma_cm_event_type::RDMA_CM_EVENT_ROUTE_RESOLVED,
        &what,
        deadline,
    )?;
    Ok(())
}

/// Asks the listener for a lane's connection.
fn ask(lanes: &Lanes, lane: usize, id: &Id, to: SocketAddr) -> Result<String, Error> {
    let told = (lane as u32).to_be_bytes();
    let mut parameters = Id::parameters(lanes, lane, &told);
    // SAFETY: as for `rdma_accept`.
    let returned = unsafe { (id.events.manager.rdma_connect)(id.raw(), &raw mut parameters) };
    let what = format!("connecting lane {lane} with {to}");
    check(what.as_str(), returned)?;
    Ok(what)
}

/// Starts a lane of datagrams, and learns from the listener where its counterpart takes them.
fn find_datagrams(
    lanes: &Lanes,
    lane: usize,
    id: &Id,
    to: SocketAddr,
    deadline: Deadline,
) -> Result<Way, Error> {
    id.start(lanes, lane)?;
    let what = ask(lanes, lane, id, to)?;
    let established = rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED;
    let event = id.events.expect(established, &what, deadline)?;
    event
        .way
        .ok_or_else(|| Error::Refused(format!("{what}: the manager told no address")))
}

fn connect_lane(
    lanes: &Lanes,
    lane: usize,
    id: &Id,
    to: SocketAddr,
    mtu: Mtu,
    deadline: Deadline,
) -> Result<u8, Error> {
    id.bring(lanes, lane, ibv_qp_state::IBV_QPS_INIT, mtu)?;
    let what = ask(lanes, lane, id, to)?;
    id.events.expect(
        rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_RESPONSE,
        &what,
        deadline,
    )?;
    let gid_index = id.bring(lanes, lane, ibv_qp_state::IBV_QPS_RTR, mtu)?;
    id.bring(lanes, lane, ibv_qp_state::IBV_QPS_RTS, mtu)?;
    // SAFETY: the identifier is open.
    let returned = unsafe { (id.events.manager.rdma_establish)(id.raw()) };
    check(format!("rdma_establish of lane {lane}"), returned)?;
    Ok(gid_index)
}

/// An address in the system's form.
struct Storage(sockaddr_storage);

impl Storage {
    fn of(address: SocketAddr) -> Self {
        // SAFETY: all zeroes is a valid structure of numbers.
        let mut storage: sockaddr_storage = unsafe { std::mem::zeroed() };
        match address {
            SocketAddr::V4(address) => {
                let written = sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(address.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                // SAFETY: the storage is as large and as aligned as any address.
                unsafe { (&raw mut storage).cast::<sockaddr_in>().write(written) };
            }
            SocketAddr::V6(address) => {
                let written = sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: address.ip().octets(),
                    },
                    sin6_scope_id: address.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut storage).cast::<sockaddr_in6>().write(written) };
            }
        }
        Self(storage)
    }

    fn raw(&mut self) -> *mut sockaddr {
        (&raw mut self.0).cast()
    }
}
