//! An open device, and what is opened on it.

use crate::error::{Error, check, text};
use crate::library::Verbs;
use crate::sysfs::Sysfs;
use libc::c_int;
use rdma_sys::{
    ibv_context, ibv_device, ibv_device_attr, ibv_mtu, ibv_pd, ibv_port_attr, ibv_port_state,
};
use std::ptr::NonNull;
use std::rc::Rc;

/// An open device, for one thread.
#[derive(Debug, Clone)]
pub struct Context(Rc<Open>);

#[derive(Debug)]
struct Open {
    verbs: &'static Verbs,
    name: String,
    raw: NonNull<ibv_context>,
    limits: Limits,
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the context is open, and what was opened on it holds it.
        let _ = unsafe { (self.verbs.ibv_close_device)(self.raw.as_ptr()) };
    }
}

/// What a device can, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The version of its firmware; empty if it has none.
    pub firmware: String,
    /// The number of its vendor.
    pub vendor: u32,
    /// The vendor's number for its kind; 0 of devices in software.
    pub part: u32,
    /// Requests in one queue.
    pub queue_requests: u32,
    /// Requests in one shared receive queue.
    pub shared_requests: u32,
    /// Completions in one queue.
    pub completions: u32,
    /// Queue pairs.
    pub queue_pairs: u32,
    /// Reads and atomic operations of the peer that a queue pair works on at once.
    pub reads_answered: u8,
    /// Reads and atomic operations that a queue pair has under way at once.
    pub reads_begun: u8,
    /// Whether it has atomic operations.
    pub atomics: bool,
    /// Completion vectors: interrupts to spread completion queues over.
    pub vectors: u32,
}

/// A port's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortState {
    /// Whether data can go through it.
    pub active: bool,
    /// Its MTU at present.
    pub mtu: Mtu,
    /// Whether it is InfiniBand rather than Ethernet.
    pub infiniband: bool,
    /// Its InfiniBand address; 0 on Ethernet.
    pub lid: u16,
    /// Bytes of the longest message.
    pub longest_bytes: u32,
}

/// A path MTU: payload bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(ibv_mtu::Type);

impl Mtu {
    /// For 256, 512, 1024, 2048 or 4096 bytes.
    #[must_use]
    pub fn of_bytes(bytes: u32) -> Option<Self> {
        let all = ibv_mtu::IBV_MTU_256..=ibv_mtu::IBV_MTU_4096;
        all.map(Self).find(|mtu| mtu.bytes() == bytes)
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        128 << self.0
    }

    pub(crate) fn raw(self) -> ibv_mtu::Type {
        self.0
    }

    /// Out of the library's form.
    pub(crate) fn of_raw(raw: ibv_mtu::Type) -> Self {
        Self(raw.clamp(ibv_mtu::IBV_MTU_256, ibv_mtu::IBV_MTU_4096))
    }
}

/// The names of the devices that the library can open.
///
/// # Errors
/// [`Error::Missing`]: no library, no kernel support, or no device; with what to do.
pub fn devices() -> Result<Vec<String>, Error> {
    let verbs = Verbs::load()?;
    let list = List::read(verbs)?;
    let names: Vec<String> = list.devices().map(|device| list.name(device)).collect();
    if names.is_empty() {
        return Err(nothing(&Sysfs::default()));
    }
    Ok(names)
}

/// Why there is no device.
fn nothing(sysfs: &Sysfs) -> Error {
    let remedy = "`scripts/rxe up` adds software RDMA where the kernel has it, and `scripts/lab` \
                  boots a kernel that has";
    let known = sysfs.devices();
    Error::Missing(if !sysfs.exists() {
        format!("no RDMA device: the kernel has not loaded its RDMA core (ib_core); {remedy}")
    } else if known.is_empty() {
        format!("no RDMA device; {remedy}")
    } else if !std::path::Path::new("/sys/class/infiniband_verbs").is_dir() {
        format!(
            "programs cannot reach the RDMA devices {}: `modprobe ib_uverbs`",
            known.join(", ")
        )
    } else {
        format!(
            "libibverbs has no driver for the RDMA devices {} (package ibverbs-providers), or \
             /dev/infiniband is not there (a container gets it with --device)",
            known.join(", ")
        )
    })
}

/// The library's list of devices.
struct List {
    verbs: &'static Verbs,
    first: NonNull<*mut ibv_device>,
    count: usize,
}

impl List {
    fn read(verbs: &'static Verbs) -> Result<Self, Error> {
        let mut count: c_int = 0;
        // SAFETY: the count is the call's to fill in.
        let first = unsafe { (verbs.ibv_get_device_list)(&raw mut count) };
        let Some(first) = NonNull::new(first) else {
            let told = Error::last("ibv_get_device_list").to_string();
            return Err(match nothing(&Sysfs::default()) {
                Error::Missing(words) => Error::Missing(format!("{words} ({told})")),
                other => other,
            });
        };
        Ok(Self {
            verbs,
            first,
            count: usize::try_from(count).unwrap_or(0),
        })
    }

    fn devices(&self) -> impl Iterator<Item = *mut ibv_device> {
        // SAFETY: the list has so many entries, and lives as long as this value.
        let devices = unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) };
        devices.iter().copied()
    }

    fn name(&self, device: *mut ibv_device) -> String {
        // SAFETY: the device is in the list; its name lives as long and is copied.
        let name = unsafe { text((self.verbs.ibv_get_device_name)(device)) };
        name.unwrap_or_default()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: from `ibv_get_device_list`; open devices hold themselves.
        unsafe { (self.verbs.ibv_free_device_list)(self.first.as_ptr()) };
    }
}

impl Context {
    /// Opens a device by its name.
    ///
    /// # Errors
    /// [`Error::Missing`]: there is no device at all. [`Error::Refused`]: there are others. Or the
    /// library's reason.
    pub fn open(name: &str) -> Result<Self, Error> {
        let verbs = Verbs::load()?;
        let names = devices()?;
        let list = List::read(verbs)?;
        let Some(device) = list.devices().find(|device| list.name(*device) == name) else {
            return Err(Error::Refused(format!(
                "there is no RDMA device {name:?} here, but {}",
                names.join(", ")
            )));
        };
        // SAFETY: the device is in the list, which is still there.
        let raw = unsafe { (verbs.ibv_open_device)(device) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            Error::last(format!("ibv_open_device {name}"))
                .and("the files below /dev/infiniband have to be readable and writable")
        })?;
        let mut open = Open {
            verbs,
            name: name.to_owned(),
            raw,
            limits: Limits::of(&zeroed_attributes(), 1),
        };
        open.limits = open.query()?;
        Ok(Self(Rc::new(open)))
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the device can.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The state of one of its ports, from 1.
    ///
    /// # Errors
    /// There is no such port; or the library's reason.
    pub fn port(&self, number: u8) -> Result<PortState, Error> {
        // SAFETY: all zeroes is a valid structure of numbers.
        let mut found: ibv_port_attr = unsafe { std::mem::zeroed() };
        let what = format!("ibv_query_port {number} of {}", self.name());
        // SAFETY: the context is open. The exported function fills in what all versions of the
        // structure begin with; C's inline one does the same where the driver has nothing newer.
        let returned =
            unsafe { (self.verbs().ibv_query_port)(self.raw(), number, (&raw mut found).cast()) };
        check(what, returned)?;
        // The library's name for the constant has no type, so the binding lacks it.
        const IBV_LINK_LAYER_ETHERNET: u8 = 2;
        Ok(PortState {
            active: found.state == ibv_port_state::IBV_PORT_ACTIVE,
            mtu: Mtu::of_raw(found.active_mtu),
            infiniband: found.link_layer != IBV_LINK_LAYER_ETHERNET,
            lid: found.lid,
            longest_bytes: found.max_msg_sz,
        })
    }

    pub(crate) fn verbs(&self) -> &'static Verbs {
        self.0.verbs
    }

    pub(crate) fn raw(&self) -> *mut ibv_context {
        self.0.raw.as_ptr()
    }
}

fn zeroed_attributes() -> ibv_device_attr {
    // SAFETY: all zeroes is a valid structure of numbers.
    unsafe { std::mem::zeroed() }
}

impl Open {
    fn query(&self) -> Result<Limits, Error> {
        let mut found = zeroed_attributes();
        // SAFETY: the context is open, the structure is the call's to fill in.
        let returned = unsafe { (self.verbs.ibv_query_device)(self.raw.as_ptr(), &raw mut found) };
        check(format!("ibv_query_device {}", self.name), returned)?;
        // SAFETY: the context is open.
        let vectors = unsafe { (*self.raw.as_ptr()).num_comp_vectors };
        Ok(Limits::of(&found, vectors))
    }
}

impl Limits {
    fn of(found: &ibv_device_attr, vectors: c_int) -> Self {
        let number = |value: c_int| u32::try_from(value).unwrap_or(0);
        let byte = |value: c_int| u8::try_from(value.max(0)).unwrap_or(u8::MAX);
        let firmware = found.fw_ver.iter().take_while(|byte| **byte != 0);
        Self {
            firmware: firmware
                .map(|byte| char::from(byte.cast_unsigned()))
                .collect(),
            vendor: found.vendor_id,
            part: found.vendor_part_id,
            queue_requests: number(found.max_qp_wr),
            shared_requests: number(found.max_srq_wr),
            completions: number(found.max_cqe),
            queue_pairs: number(found.max_qp),
            reads_answered: byte(found.max_qp_rd_atom),
            reads_begun: byte(found.max_qp_init_rd_atom),
            atomics: found.atomic_cap != rdma_sys::ibv_atomic_cap::IBV_ATOMIC_NONE,
            vectors: number(vectors).max(1),
        }
    }
}

/// A protection domain: what memory and queue pairs have in common.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) context: Context,
    raw: NonNull<ibv_pd>,
}

impl Domain {
    pub(crate) fn open(context: &Context) -> Result<Rc<Self>, Error> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.verbs().ibv_alloc_pd)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| Error::last("ibv_alloc_pd").and_memlock())?;
        Ok(Rc::new(Self {
            context: context.clone(),
            raw,
        }))
    }

    pub(crate) fn verbs(&self) -> &'static Verbs {
        self.context.verbs()
    }

    pub(crate) fn raw(&self) -> *mut ibv_pd {
        self.raw.as_ptr()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: it is open, and what was opened in it holds it.
        let _ = unsafe { (self.verbs().ibv_dealloc_pd)(self.raw.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtus_are_the_five_that_there_are() {
        let bytes: Vec<u32> = (0..10_000)
            .filter(|b| Mtu::of_bytes(*b).is_some())
            .collect();
        assert_eq!(bytes, [256, 512, 1024, 2048, 4096]);
        let mtu = |bytes| Mtu::of_bytes(bytes).expect("one of the five");
        assert!(mtu(1024) < mtu(4096));
        assert_eq!(Mtu::of_raw(0).bytes(), 256);
    }

    #[test]
    fn without_a_device_the_reason_and_the_remedy_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = nothing(&Sysfs::at(folder.path().join("none"))).to_string();
        assert!(
            told.contains("ib_core") && told.contains("scripts/rxe up"),
            "{told}"
        );
        let told = nothing(&Sysfs::at(folder.path())).to_string();
        assert!(told.contains("no RDMA device;"), "{told}");
        std::fs::create_dir(folder.path().join("rxe0")).expect("made");
        let told = nothing(&Sysfs::at(folder.path())).to_string();
        assert!(told.contains("rxe0"), "{told}");
    }
}
