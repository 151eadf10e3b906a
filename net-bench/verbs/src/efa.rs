//! What an Elastic Fabric Adapter (EFA) can, as the device says itself.
//!
//! Which of them read and write the peer's memory in hardware differs from one generation to the next,
//! and no name of a machine tells. The driver's own library (`efadv`, in libefa) asks the device.

use crate::device::Context;
use crate::error::Error;
use crate::library::Extension;
use rdma_sys::ibv_context;

/// The vendor's number in its devices.
const AMAZON: u32 = 0x1d0f;

/// The bits of the device's capabilities. The last two are of rdma-core 47 and 51.
const RDMA_READ: u32 = 1 << 0;
const RNR_RETRY: u32 = 1 << 1;
const CQ_WITH_SGID: u32 = 1 << 2;
const RDMA_WRITE: u32 = 1 << 3;
const UNSOLICITED_WRITE_RECV: u32 = 1 << 4;

/// `struct efadv_device_attr`; newer libraries fill in no more than they are told there is room for.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct EfadvDeviceAttr {
    /// Which fields beyond the first are filled in.
    pub comp_mask: u64,
    /// Requests in a send queue.
    pub max_sq_wr: u32,
    /// Receives in a receive queue.
    pub max_rq_wr: u32,
    /// Pieces of a request.
    pub max_sq_sge: u16,
    /// Pieces of a receive.
    pub max_rq_sge: u16,
    /// Bytes that a request carries itself.
    pub inline_buf_size: u16,
    /// Nothing.
    pub reserved: [u8; 2],
    /// A set of capabilities.
    pub device_caps: u32,
    /// Bytes of the longest read or write.
    pub max_rdma_size: u32,
}

/// `efadv_query_device`.
pub(crate) type QueryDevice =
    unsafe extern "C" fn(*mut ibv_context, *mut EfadvDeviceAttr, u32) -> libc::c_int;

/// What a device can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Efa {
    /// Requests in a send queue.
    pub send_requests: u32,
    /// Receives in a receive queue.
    pub receives: u32,
    /// Bytes that a request carries itself.
    pub inline_bytes: u32,
    /// Bytes of the longest read or write.
    pub longest_rdma_bytes: u32,
    /// Whether it reads the peer's memory.
    pub reads: bool,
    /// Whether it writes the peer's memory.
    pub writes: bool,
    /// Whether it sends again what found no receive.
    pub retries_for_receives: bool,
    /// Whether completions tell by which address a message came.
    pub completions_tell_senders: bool,
    /// Whether a write with data can do without a receive.
    pub writes_without_receives: bool,
}

impl Efa {
    /// What the device told.
    #[must_use]
    pub fn of(told: &EfadvDeviceAttr) -> Self {
        let has = |bit: u32| told.device_caps & bit != 0;
        Self {
            send_requests: told.max_sq_wr,
            receives: told.max_rq_wr,
            inline_bytes: told.inline_buf_size.into(),
            longest_rdma_bytes: told.max_rdma_size,
            reads: has(RDMA_READ),
            writes: has(RDMA_WRITE),
            retries_for_receives: has(RNR_RETRY),
            completions_tell_senders: has(CQ_WITH_SGID),
            writes_without_receives: has(UNSOLICITED_WRITE_RECV),
        }
    }
}

impl Context {
    /// What the device can, if it is an EFA.
    ///
    /// # Errors
    /// [`Error::Missing`]: it is of the vendor's, but there is no libefa. Or the library's reason.
    pub fn efa(&self) -> Result<Option<Efa>, Error> {
        if self.limits().vendor != AMAZON {
            return Ok(None);
        }
        let query = Extension::efa()?;
        let mut told = EfadvDeviceAttr::default();
        let room = size_of::<EfadvDeviceAttr>() as u32;
        // SAFETY: the context is open, and the structure as long as is said.
        match unsafe { query(self.raw(), &raw mut told, room) } {
            0 => Ok(Some(Efa::of(&told))),
            // The vendor may have other devices.
            libc::EOPNOTSUPP => Ok(None),
            code => Err(Error::returned("efadv_query_device", code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_differ_in_what_they_say_themselves() {
        // The first generation: sends only.
        let first = EfadvDeviceAttr {
            max_sq_wr: 4096,
            max_rq_wr: 8192,
            max_sq_sge: 2,
            max_rq_sge: 2,
            inline_buf_size: 32,
            ..EfadvDeviceAttr::default()
        };
        let efa = Efa::of(&first);
        assert_eq!((efa.send_requests, efa.receives), (4096, 8192));
        assert_eq!((efa.inline_bytes, efa.longest_rdma_bytes), (32, 0));
        assert!(!(efa.reads || efa.writes || efa.retries_for_receives));
        let third = EfadvDeviceAttr {
            device_caps: 0b1_1011,
            max_rdma_size: 1 << 30,
            ..first
        };
        let efa = Efa::of(&third);
        assert!(efa.reads && efa.writes && efa.retries_for_receives);
        assert!(efa.writes_without_receives && !efa.completions_tell_senders);
        assert_eq!(efa.longest_rdma_bytes, 1 << 30);
    }

    #[test]
    fn the_library_is_found_or_told_to_be_missing() {
        match Extension::efa() {
            Ok(_) => println!("libefa is here"),
            Err(missing) => assert!(missing.to_string().contains("ibverbs-providers")),
        }
    }
}
