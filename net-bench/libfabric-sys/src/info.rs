//! What providers offer, and asking for it.

use crate::av::MAX_ADDRESS;
use crate::error::{Error, check, text};
use crate::library::Library;
use crate::raw::constants::{
    CAPS, EP_TYPES, FI_BUFFERED_RECV, FI_CONTEXT, FI_CONTEXT2, FI_ENODATA, FI_ENOMEM,
    FI_MR_ALLOCATED, FI_MR_ENDPOINT, FI_MR_LOCAL, FI_MR_PROV_KEY, FI_MR_VIRT_ADDR, FI_RX_CQ_DATA,
    FI_SOURCE, FI_THREAD_DOMAIN, PROGRESS,
};
use crate::raw::structures::{
    FiDomainAttr, FiEpAttr, FiFabricAttr, FiInfo, FiRxAttr, FiTxAttr, FidNic,
};
use crate::signals;
use std::ffi::CString;
use std::ptr::{self, NonNull};

/// What is asked of `fi_getinfo(3)`.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The provider, as `tcp` or `tcp;ofi_rxm`; any if `None`.
    pub provider: Option<String>,
    /// One of [`crate::raw::constants::EP_TYPES`]; 0 for any.
    pub endpoint: u32,
    /// Capabilities that are needed; 0 for whatever there is.
    pub caps: u64,
    /// A host name or address: of the peer, or with `local` of this host.
    pub node: Option<String>,
    /// A port or service, as `node`.
    pub service: Option<String>,
    /// Whether `node` and `service` are this host's.
    pub local: bool,
    /// The domain's name, as `eth0` or `rxe0`; any if `None`.
    pub domain: Option<String>,
    /// The fabric's name, as `efa-direct`; any if `None`.
    pub fabric: Option<String>,
    /// Bytes that can be injected; 0 for what the provider has by default.
    pub inject_size: usize,
    /// Operations that an endpoint's queue of sends holds; 0 for what the provider has by default.
    pub tx_size: usize,
    /// Receives that an endpoint's queue of them holds; 0 for what the provider has by default.
    pub rx_size: usize,
    /// One of [`crate::raw::constants::PROGRESS`]; 0 for the provider's choice.
    pub progress: u32,
    /// Whether offers count that the safe layer cannot use, because they demand more of their user
    /// than it does.
    pub everything: bool,
}

impl Query {
    /// The offers, best first in the library's opinion; at least one.
    ///
    /// # Errors
    /// There is no libfabric, a name has a zero byte in it, or nothing matches.
    pub fn find(&self) -> Result<Vec<Info>, Error> {
        let library = Library::load()?;
        let node = c_text(self.node.as_deref())?;
        let service = c_text(self.service.as_deref())?;
        let hints = self.hints(library)?;
        let flags = if self.local { FI_SOURCE } else { 0 };
        let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
        let mut list = ptr::null_mut();
        let kept = signals::keep();
        // SAFETY: names are text or null; the hints came from the library; the list is the call's.
        let returned = unsafe {
            (library.getinfo)(
                library.interface.pack(),
                pointer(&node),
                pointer(&service),
                flags,
                hints.raw.as_ptr(),
                &raw mut list,
            )
        };
        drop(kept);
        check(library, self.words(), returned).map_err(|error| {
            let nothing = error.is(FI_ENODATA);
            error.and(if nothing {
                "no provider offers that"
            } else {
                ""
            })
        })?;
        let mut found = Vec::new();
        let mut next = list;
        while !next.is_null() {
            // SAFETY: the list's members are valid until it is freed; copies are ours.
            unsafe {
                let copy = (library.dupinfo)(next);
                found.extend(Info::own(library, copy));
                next = (*next).next;
            }
        }
        // SAFETY: the list came from the call above, and nothing refers to it any more.
        unsafe { (library.freeinfo)(list) };
        if found.is_empty() {
            return Err(Error::Refused(format!(
                "{}: no complete offer",
                self.words()
            )));
        }
        Ok(found)
    }

    fn hints(&self, library: &'static Library) -> Result<Info, Error> {
        let provider = c_text(self.provider.as_deref())?;
        let domain = c_text(self.domain.as_deref())?;
        let fabric = c_text(self.fabric.as_deref())?;
        // SAFETY: a null pointer asks for an empty structure.
        let hints = unsafe { Info::own(library, (library.dupinfo)(ptr::null())) };
        let hints = hints.ok_or_else(|| Error::of(library, "fi_dupinfo", -i64::from(FI_ENOMEM)))?;
        // The safe layer gives each operation 64 bytes, and memory that is registered.
        // Buffered receives are no demand but something else to ask for: a provider that hears of
        // them gives them.
        let (mode, mr_mode) = if self.everything {
            (!FI_BUFFERED_RECV, !0b11)
        } else {
            let mr_mode =
                FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT;
            (
                FI_CONTEXT | FI_CONTEXT2 | FI_RX_CQ_DATA,
                mr_mode.cast_signed(),
            )
        };
        // SAFETY: `own` has checked that all parts are there, and nothing else refers to them. The
        // names are copied with C's allocator, because the library frees them with that.
        unsafe {
            let info = &mut *hints.raw.as_ptr();
            info.caps = self.caps;
            info.mode = mode;
            (*info.ep_attr).r#type = self.endpoint;
            (*info.domain_attr).mr_mode = mr_mode;
            if !self.everything {
                // The safe layer keeps a domain in one thread, so its provider needs no locks.
                (*info.domain_attr).threading = FI_THREAD_DOMAIN;
            }
            (*info.domain_attr).mode = mode;
            (*info.domain_attr).data_progress = self.progress;
            (*info.domain_attr).control_progress = self.progress;
            (*info.tx_attr).inject_size = self.inject_size;
            (*info.tx_attr).size = self.tx_size;
            (*info.rx_attr).size = self.rx_size;
            if let Some(provider) = provider {
                (*info.fabric_attr).prov_name = libc::strdup(provider.as_ptr());
            }
            if let Some(domain) = domain {
                (*info.domain_attr).name = libc::strdup(domain.as_ptr());
            }
            if let Some(fabric) = fabric {
                (*info.fabric_attr).name = libc::strdup(fabric.as_ptr());
            }
        }
        Ok(hints)
    }

    /// The question in words, for messages.
    fn words(&self) -> String {
        let mut words = format!(
            "fi_getinfo for provider {}",
            self.provider.as_deref().unwrap_or("(any)")
        );
        if self.endpoint != 0 {
            words += &format!(", endpoint {}", EP_TYPES.word(u64::from(self.endpoint)));
        }
        if self.caps != 0 {
            words += &format!(", capabilities {}", CAPS.words(self.caps).join(" "));
        }
        for (name, value) in [
            ("node", &self.node),
            ("service", &self.service),
            ("domain", &self.domain),
            ("fabric", &self.fabric),
        ] {
            if let Some(value) = value {
                words += &format!(", {name} {value}");
            }
        }
        for (name, value) in [
            ("bytes to inject", self.inject_size),
            ("operations queued", self.tx_size),
            ("receives queued", self.rx_size),
        ] {
            if value != 0 {
                words += &format!(", {value} {name}");
            }
        }
        if self.progress != 0 {
            words += &format!(", progress {}", PROGRESS.word(u64::from(self.progress)));
        }
        if let Ok(value) = std::env::var("FI_PROVIDER") {
            words += &format!(", with FI_PROVIDER={value} set");
        }
        words
    }
}

fn c_text(text: Option<&str>) -> Result<Option<CString>, Error> {
    let convert = |text: &str| {
        CString::new(text).map_err(|_| Error::Refused(format!("{text:?} has a zero byte in it")))
    };
    text.map(convert).transpose()
}

/// One offer of a provider.
#[derive(Debug)]
pub struct Info {
    pub(crate) library: &'static Library,
    pub(crate) raw: NonNull<FiInfo>,
}

impl Info {
    /// Takes an offer over, if it is complete.
    ///
    /// # Safety
    /// `raw` is null, or came from the library and belongs to nobody else.
    pub(crate) unsafe fn own(library: &'static Library, raw: *mut FiInfo) -> Option<Self> {
        let raw = NonNull::new(raw)?;
        let info = Self { library, raw };
        // SAFETY: the pointer is valid by the caller's promise.
        let parts = unsafe { raw.as_ref() };
        let complete = !parts.tx_attr.is_null()
            && !parts.rx_attr.is_null()
            && !parts.ep_attr.is_null()
            && !parts.domain_attr.is_null()
            && !parts.fabric_attr.is_null();
        complete.then_some(info)
    }

    /// The same offer for an endpoint that will be connected to an address: some providers (`verbs`)
    /// look for the way there when the endpoint is opened.
    pub(crate) fn to(&self, address: &[u8; MAX_ADDRESS], length: usize) -> Result<Self, Error> {
        let no_memory = || {
            Error::of(
                self.library,
                "fi_dupinfo of an offer",
                -i64::from(FI_ENOMEM),
            )
        };
        // SAFETY: the offer is valid and owned by this value; the copy is new.
        let copy = unsafe { Self::own(self.library, (self.library.dupinfo)(self.raw.as_ptr())) };
        let copy = copy.ok_or_else(no_memory)?;
        // SAFETY: the copy is owned by this function alone, and its address, if it has one, came from
        // C's allocator. So does the new one, because the library frees it with that; it is as long
        // as the longest address, so whatever form the provider expects it stays inside.
        unsafe {
            let room = NonNull::new(libc::malloc(MAX_ADDRESS)).ok_or_else(no_memory)?;
            room.cast::<u8>()
                .as_ptr()
                .copy_from_nonoverlapping(address.as_ptr(), MAX_ADDRESS);
            let parts = &mut *copy.raw.as_ptr();
            libc::free(parts.dest_addr);
            parts.dest_addr = room.as_ptr();
            parts.dest_addrlen = length.min(MAX_ADDRESS);
        }
        Ok(copy)
    }

    fn parts(&self) -> &FiInfo {
        // SAFETY: the structure is owned by this value and changed by nobody.
        unsafe { self.raw.as_ref() }
    }

    /// Capabilities, a set of [`crate::raw::constants::CAPS`].
    #[must_use]
    pub fn caps(&self) -> u64 {
        self.parts().caps
    }

    /// What the provider demands, a set of [`crate::raw::constants::MODES`].
    #[must_use]
    pub fn mode(&self) -> u64 {
        self.parts().mode
    }

    /// One of [`crate::raw::constants::ADDRESS_FORMATS`].
    #[must_use]
    pub fn address_format(&self) -> u32 {
        self.parts().addr_format
    }

    /// Sending.
    #[must_use]
    pub fn tx(&self) -> &FiTxAttr {
        // SAFETY: checked to be there by `own`; owned by this value, changed by nobody.
        unsafe { &*self.parts().tx_attr }
    }

    /// Receiving.
    #[must_use]
    pub fn rx(&self) -> &FiRxAttr {
        // SAFETY: as for `tx`.
        unsafe { &*self.parts().rx_attr }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &FiEpAttr {
        // SAFETY: as for `tx`.
        unsafe { &*self.parts().ep_attr }
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &FiDomainAttr {
        // SAFETY: as for `tx`.
        unsafe { &*self.parts().domain_attr }
    }

    /// The fabric.
    #[must_use]
    pub fn fabric(&self) -> &FiFabricAttr {
        // SAFETY: as for `tx`.
        unsafe { &*self.parts().fabric_attr }
    }

    /// The provider's name, as `tcp;ofi_rxm`.
    #[must_use]
    pub fn provider(&self) -> String {
        // SAFETY: names are text or null, and live as long as this value.
        unsafe { text(self.fabric().prov_name) }.unwrap_or_default()
    }

    /// The fabric's name, which for many providers is a network.
    #[must_use]
    pub fn fabric_name(&self) -> String {
        // SAFETY: as for `provider`.
        unsafe { text(self.fabric().name) }.unwrap_or_default()
    }

    /// The domain's name, which for many providers is a network interface.
    #[must_use]
    pub fn domain_name(&self) -> String {
        // SAFETY: as for `provider`.
        unsafe { text(self.domain().name) }.unwrap_or_default()
    }

    /// The network card behind the domain, if the provider tells.
    #[must_use]
    pub fn nic(&self) -> Option<Nic> {
        let nic = NonNull::new(self.parts().nic)?;
        // SAFETY: the structure lives as long as this value, and so do its parts, which may be
        // null; names are text or null.
        Some(unsafe { Nic::of(nic.as_ref()) })
    }

    /// This side's address, if the provider tells. In the format of [`Info::address_format`].
    #[must_use]
    pub fn source(&self) -> Option<&[u8]> {
        let parts = self.parts();
        if parts.src_addr.is_null() {
            return None;
        }
        // SAFETY: as for `destination`.
        Some(unsafe { std::slice::from_raw_parts(parts.src_addr.cast(), parts.src_addrlen) })
    }

    /// The address to connect to, if the query named a peer. In the format of
    /// [`Info::address_format`].
    #[must_use]
    pub fn destination(&self) -> Option<&[u8]> {
        let parts = self.parts();
        if parts.dest_addr.is_null() {
            return None;
        }
        // SAFETY: the library gives the address's length beside it, and both live as long as this
        // value.
        Some(unsafe { std::slice::from_raw_parts(parts.dest_addr.cast(), parts.dest_addrlen) })
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: owned by this value, and from the library.
        unsafe { (self.library.freeinfo)(self.raw.as_ptr()) };
    }
}

/// A network card, as its provider tells of it; empty or 0 is what it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    /// The device's name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its firmware.
    pub firmware: String,
    /// Its address on the PCI bus, or empty.
    pub pci: String,
    /// The link's largest frame, in bytes.
    pub mtu_bytes: usize,
    /// The link's speed, in bits per second.
    pub speed_bits_per_s: usize,
    /// The link's state, one of [`crate::raw::constants::LINK_STATES`].
    pub link_state: u32,
}

impl Nic {
    /// # Safety
    /// The parts are null or valid, and their names text or null.
    unsafe fn of(nic: &FidNic) -> Self {
        let mut known = Self::default();
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(device) = nic.device_attr.as_ref() {
                known.name = text(device.name).unwrap_or_default();
                known.driver = text(device.driver).unwrap_or_default();
                known.firmware = text(device.firmware).unwrap_or_default();
            }
            if let Some(link) = nic.link_attr.as_ref() {
                known.mtu_bytes = link.mtu;
                known.speed_bits_per_s = link.speed;
                known.link_state = link.state;
            }
            if let Some(bus) = nic.bus_attr.as_ref()
                && bus.bus_type == crate::raw::constants::FI_BUS_PCI
            {
                let pci = bus.attr;
                known.pci = format!(
                    "{:04x}:{:02x}:{:02x}.{}",
                    pci.domain_id, pci.bus_id, pci.device_id, pci.function_id
                );
            }
        }
        known
    }
}
