//! Fabrics, domains and event queues: what has to be open before an endpoint is.
//!
//! A domain keeps the offer that it was opened from, and everything in it is of that offer: providers
//! take what they are handed for their own, and would read another's memory wrongly.

use crate::error::{Error, text};
use crate::handle::Handle;
use crate::info::Info;
use crate::library::Library;
use crate::raw::calls::{
    fi_domain, fi_eq_open, fi_eq_read, fi_eq_readerr, fi_eq_sread, fi_eq_strerror,
};
use crate::raw::constants::{
    EVENTS, FI_CONNREQ, FI_EAGAIN, FI_EAVAIL, FI_EINTR, FI_ETIMEDOUT, FI_WAIT_UNSPEC,
};
use crate::raw::structures::{FiEqAttr, FiEqCmEntry, FiEqErrEntry, FidDomain, FidEq, FidFabric};
use std::cell::Cell;
use std::ptr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// An open fabric. Clones are the same fabric, which is closed with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Fabric {
    handle: Rc<Handle<FidFabric>>,
    pub(crate) library: &'static Library,
}

impl Fabric {
    /// Opens the fabric of an offer.
    pub(crate) fn open(info: &Info) -> Result<Self, Error> {
        let library = info.library;
        let what = format!("fi_fabric of provider {}", info.provider());
        let attr = ptr::from_ref(info.fabric()).cast_mut();
        // SAFETY: the attributes are the library's own and live as long as `info`; the object that
        // the call stores is new.
        let handle = unsafe {
            Handle::open(library, what, |fabric| {
                (library.fabric)(attr, fabric, ptr::null_mut())
            })
        }?;
        Ok(Self {
            handle: Rc::new(handle),
            library,
        })
    }

    /// Opens the domain of an offer, which is one of this fabric.
    pub(crate) fn domain(&self, info: Info) -> Result<Domain, Error> {
        let what = format!(
            "fi_domain {} of provider {}",
            info.domain_name(),
            info.provider()
        );
        // SAFETY: fabric and offer are open; the object that the call stores is new.
        let handle = unsafe {
            Handle::open(self.library, what, |domain| {
                let info = info.raw.as_ptr();
                fi_domain(self.handle.raw(), info, domain, ptr::null_mut())
            })
        }?;
        Ok(Domain {
            inner: Rc::new(Inner {
                handle,
                info,
                next_key: Cell::new(1),
                fabric: self.clone(),
            }),
        })
    }

    pub(crate) fn raw(&self) -> *mut FidFabric {
        self.handle.raw()
    }
}

/// An open domain. Clones are the same domain, which is closed with the last of them.
#[derive(Debug, Clone)]
pub struct Domain {
    inner: Rc<Inner>,
}

/// Fields are dropped in this order.
#[derive(Debug)]
struct Inner {
    handle: Handle<FidDomain>,
    info: Info,
    next_key: Cell<u64>,
    fabric: Fabric,
}

impl Domain {
    /// Opens the fabric and the domain of an offer.
    ///
    /// # Errors
    /// The provider's reason.
    pub fn open(info: Info) -> Result<Self, Error> {
        Fabric::open(&info)?.domain(info)
    }

    /// The offer that the domain was opened from. Its endpoints are of the same offer: a provider
    /// takes for granted that it is one of its own.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.inner.info
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        &self.inner.fabric
    }

    pub(crate) fn library(&self) -> &'static Library {
        self.inner.fabric.library
    }

    pub(crate) fn raw(&self) -> *mut FidDomain {
        self.inner.handle.raw()
    }

    /// A key for memory that this domain has not used yet.
    pub(crate) fn new_key(&self) -> u64 {
        let key = self.inner.next_key.get();
        self.inner.next_key.set(key + 1);
        key
    }
}

/// What an event about a connection brings, and room for data that nobody here reads.
#[repr(C)]
struct Event {
    entry: FiEqCmEntry,
    _data: [u8; 256],
}

/// A queue of events about connections.
#[derive(Debug)]
pub(crate) struct EventQueue {
    handle: Handle<FidEq>,
    fabric: Fabric,
}

impl EventQueue {
    pub(crate) fn open(fabric: &Fabric) -> Result<Self, Error> {
        let mut attr = FiEqAttr {
            size: 0,
            flags: 0,
            wait_obj: FI_WAIT_UNSPEC,
            signaling_vector: 0,
            wait_set: ptr::null_mut(),
        };
        // SAFETY: the fabric is open; the object that the call stores is new.
        let handle = unsafe {
            Handle::open(fabric.library, "fi_eq_open", |eq| {
                fi_eq_open(fabric.raw(), &raw mut attr, eq, ptr::null_mut())
            })
        }?;
        Ok(Self {
            handle,
            fabric: fabric.clone(),
        })
    }

    pub(crate) fn handle(&self) -> &Handle<FidEq> {
        &self.handle
    }

    /// Waits for an event of this kind, one of [`EVENTS`]; `what` says for what, in messages. A
    /// request to connect brings its offer along.
    pub(crate) fn wait(
        &self,
        kind: u32,
        what: &str,
        patience: Duration,
    ) -> Result<Option<Info>, Error> {
        let start = Instant::now();
        loop {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Error::Timeout {
                    what: what.to_owned(),
                    seconds: patience.as_secs_f64(),
                });
            }
            // At least a millisecond, or the last wait would not wait.
            let wait_ms = i32::try_from(left.as_millis().max(1)).unwrap_or(i32::MAX);
            let Some((seen, info)) = self.next(what, wait_ms)? else {
                continue;
            };
            if seen != kind {
                let seen = EVENTS.word(u64::from(seen));
                return Err(Error::Refused(format!("{what}: the peer says {seen:?}")));
            }
            return Ok(info);
        }
    }

    /// The next event, one of [`EVENTS`], if one comes within some milliseconds; 0 waits for none.
    /// A request to connect brings its offer along.
    pub(crate) fn next(
        &self,
        what: &str,
        wait_ms: i32,
    ) -> Result<Option<(u32, Option<Info>)>, Error> {
        let library = self.fabric.library;
        let mut event = Event {
            entry: FiEqCmEntry {
                fid: ptr::null_mut(),
                info: ptr::null_mut(),
            },
            _data: [0; 256],
        };
        let mut seen = 0;
        // SAFETY: the queue is open, and the room is as large as is said.
        let returned = unsafe {
            let room = (&raw mut event).cast();
            let size = size_of::<Event>();
            match wait_ms {
                0 => fi_eq_read(self.handle.raw(), &raw mut seen, room, size, 0),
                _ => fi_eq_sread(self.handle.raw(), &raw mut seen, room, size, wait_ms, 0),
            }
        };
        match i32::try_from(-returned).unwrap_or(i32::MAX) {
            FI_EAGAIN | FI_EINTR | FI_ETIMEDOUT => return Ok(None),
            FI_EAVAIL => return Err(self.error(what)),
            1.. => return Err(Error::of(library, what, returned as i64)),
            _ => {}
        }
        // SAFETY: only this event brings an offer, which is for its reader to free.
        let info = (seen == FI_CONNREQ)
            .then(|| unsafe { Info::own(library, event.entry.info) })
            .flatten();
        Ok(Some((seen, info)))
    }

    /// The error that waits in the queue.
    fn error(&self, what: &str) -> Error {
        let library = self.fabric.library;
        let mut entry = FiEqErrEntry {
            fid: ptr::null_mut(),
            context: ptr::null_mut(),
            data: 0,
            err: 0,
            prov_errno: 0,
            err_data: ptr::null_mut(),
            err_data_size: 0,
        };
        // SAFETY: the queue is open; the entry is the call's to fill in; no data are asked for. The
        // text belongs to the provider and is copied.
        unsafe {
            let returned = fi_eq_readerr(self.handle.raw(), &raw mut entry, 0);
            if returned < 0 {
                return Error::of(library, what, returned as i64);
            }
            let said = text(fi_eq_strerror(
                self.handle.raw(),
                entry.prov_errno,
                entry.err_data,
                ptr::null_mut(),
                0,
            ));
            Error::of(library, what, -i64::from(entry.err)).and_provider(entry.prov_errno, said)
        }
    }
}
