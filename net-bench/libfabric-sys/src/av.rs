//! Address vectors: the peers of endpoints that have no connections.

use crate::error::Error;
use crate::fabric::Domain;
use crate::handle::Handle;
use crate::raw::calls::{fi_av_insert, fi_av_open};
use crate::raw::structures::{FiAvAttr, FidAv};
use std::ptr;

/// The longest address that is taken, in bytes. Those of all known providers are shorter.
pub const MAX_ADDRESS: usize = 256;

/// The peers that the endpoints of a set know.
#[derive(Debug)]
pub(crate) struct AddressVector {
    handle: Handle<FidAv>,
    domain: Domain,
}

impl AddressVector {
    pub(crate) fn open(domain: &Domain) -> Result<Self, Error> {
        let mut attr = FiAvAttr {
            r#type: domain.info().domain().av_type,
            rx_ctx_bits: 0,
            count: 0,
            ep_per_node: 0,
            name: ptr::null(),
            map_addr: ptr::null_mut(),
            flags: 0,
        };
        // SAFETY: the domain is open; the object that the call stores is new.
        let handle = unsafe {
            Handle::open(domain.library(), "fi_av_open", |av| {
                fi_av_open(domain.raw(), &raw mut attr, av, ptr::null_mut())
            })
        }?;
        Ok(Self {
            handle,
            domain: domain.clone(),
        })
    }

    pub(crate) fn handle(&self) -> &Handle<FidAv> {
        &self.handle
    }

    /// Adds a peer by the address that its endpoint told; what the provider calls it.
    pub(crate) fn insert(&mut self, address: &[u8]) -> Result<u64, Error> {
        let padded = padded(address)?;
        let mut peer = 0;
        // SAFETY: the vector is open. The address may come from anyone; behind it there are zeroes
        // up to the length of the longest, so whatever form the provider expects it stays inside.
        let inserted = unsafe {
            let address = padded.as_ptr().cast();
            fi_av_insert(
                self.handle.raw(),
                address,
                1,
                &raw mut peer,
                0,
                ptr::null_mut(),
            )
        };
        let what = format!("fi_av_insert of an address of {} bytes", address.len());
        match inserted {
            1 => Ok(peer),
            0 => Err(Error::Refused(format!(
                "{what}: the provider cannot read it"
            ))),
            error => Err(Error::of(self.domain.library(), what, i64::from(error))),
        }
    }
}

/// An address with zeroes after it.
pub(crate) fn padded(address: &[u8]) -> Result<[u8; MAX_ADDRESS], Error> {
    let mut padded = [0; MAX_ADDRESS];
    // One zero at least stays, which ends addresses that are text.
    if address.is_empty() || address.len() >= MAX_ADDRESS {
        return Err(Error::Refused(format!(
            "an address of {} bytes: addresses have 1 to {}",
            address.len(),
            MAX_ADDRESS - 1
        )));
    }
    padded[..address.len()].copy_from_slice(address);
    Ok(padded)
}
