//! Finding and loading libibverbs and librdmacm.
//!
//! `rdma-sys` declares what they export, and would have the program linked to them, so that it did
//! not start on a host without. Here they are loaded when they are needed: [`Verbs`] and
//! [`Manager`] are tables of their functions, whose types the compiler holds against `rdma-sys`.
//! What moves data goes through the tables that a device brings along, and needs no symbol.

use crate::efa::QueryDevice;
use crate::error::{Error, text};
use libc::{c_char, c_int, c_void, sockaddr};
use rdma_sys::{
    _compat_ibv_port_attr, ibv_ah, ibv_ah_attr, ibv_comp_channel, ibv_context, ibv_cq, ibv_device,
    ibv_device_attr, ibv_mr, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_init_attr, ibv_srq,
    ibv_srq_init_attr, ibv_wc_status, rdma_cm_event, rdma_cm_event_type, rdma_cm_id,
    rdma_conn_param, rdma_event_channel, rdma_port_space,
};
use std::ffi::CStr;
use std::sync::OnceLock;

/// Declares a table of functions and how it is filled.
macro_rules! functions {
    (
        $(#[$about:meta])* $table:ident;
        $($name:ident @ $version:literal ($($argument:ty),*) -> $result:ty;)*
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        pub(crate) struct $table {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        $(
            // Nothing but the comparison of the two types: a constant that nobody uses makes no
            // reference to the symbol.
            const _: unsafe extern "C" fn($($argument),*) -> $result = rdma_sys::$name;
        )*

        impl $table {
            fn of(handle: *mut c_void) -> Result<Self, String> {
                Ok(Self {
                    $($name: {
                        let address = symbol(handle, stringify!($name), $version)?;
                        // SAFETY: the function of this name and version has this type, as the
                        // comparison above says.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) -> $result,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    /// What libibverbs exports and this crate uses.
    Verbs;
    ibv_get_device_list @ "IBVERBS_1.1" (*mut c_int) -> *mut *mut ibv_device;
    ibv_free_device_list @ "IBVERBS_1.1" (*mut *mut ibv_device) -> ();
    ibv_get_device_name @ "IBVERBS_1.1" (*mut ibv_device) -> *const c_char;
    ibv_open_device @ "IBVERBS_1.1" (*mut ibv_device) -> *mut ibv_context;
    ibv_close_device @ "IBVERBS_1.1" (*mut ibv_context) -> c_int;
    ibv_query_device @ "IBVERBS_1.1" (*mut ibv_context, *mut ibv_device_attr) -> c_int;
    ibv_query_port @ "IBVERBS_1.1" (*mut ibv_context, u8, *mut _compat_ibv_port_attr) -> c_int;
    ibv_alloc_pd @ "IBVERBS_1.1" (*mut ibv_context) -> *mut ibv_pd;
    ibv_dealloc_pd @ "IBVERBS_1.1" (*mut ibv_pd) -> c_int;
    ibv_reg_mr @ "IBVERBS_1.1" (*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
    ibv_dereg_mr @ "IBVERBS_1.1" (*mut ibv_mr) -> c_int;
    ibv_create_comp_channel @ "IBVERBS_1.0" (*mut ibv_context) -> *mut ibv_comp_channel;
    ibv_destroy_comp_channel @ "IBVERBS_1.0" (*mut ibv_comp_channel) -> c_int;
    ibv_create_cq @ "IBVERBS_1.1" (
        *mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int
    ) -> *mut ibv_cq;
    ibv_destroy_cq @ "IBVERBS_1.1" (*mut ibv_cq) -> c_int;
    ibv_get_cq_event @ "IBVERBS_1.1" (
        *mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void
    ) -> c_int;
    ibv_ack_cq_events @ "IBVERBS_1.1" (*mut ibv_cq, u32) -> ();
    ibv_create_srq @ "IBVERBS_1.1" (*mut ibv_pd, *mut ibv_srq_init_attr) -> *mut ibv_srq;
    ibv_destroy_srq @ "IBVERBS_1.1" (*mut ibv_srq) -> c_int;
    ibv_create_qp @ "IBVERBS_1.1" (*mut ibv_pd, *mut ibv_qp_init_attr) -> *mut ibv_qp;
    ibv_modify_qp @ "IBVERBS_1.1" (*mut ibv_qp, *mut ibv_qp_attr, c_int) -> c_int;
    ibv_destroy_qp @ "IBVERBS_1.1" (*mut ibv_qp) -> c_int;
    ibv_create_ah @ "IBVERBS_1.1" (*mut ibv_pd, *mut ibv_ah_attr) -> *mut ibv_ah;
    ibv_destroy_ah @ "IBVERBS_1.1" (*mut ibv_ah) -> c_int;
    ibv_wc_status_str @ "IBVERBS_1.1" (ibv_wc_status::Type) -> *const c_char;
}

functions! {
    /// What librdmacm exports and this crate uses.
    Manager;
    rdma_create_event_channel @ "RDMACM_1.0" () -> *mut rdma_event_channel;
    rdma_destroy_event_channel @ "RDMACM_1.0" (*mut rdma_event_channel) -> ();
    rdma_create_id @ "RDMACM_1.0" (
        *mut rdma_event_channel, *mut *mut rdma_cm_id, *mut c_void, rdma_port_space::Type
    ) -> c_int;
    rdma_destroy_id @ "RDMACM_1.0" (*mut rdma_cm_id) -> c_int;
    rdma_bind_addr @ "RDMACM_1.0" (*mut rdma_cm_id, *mut sockaddr) -> c_int;
    rdma_listen @ "RDMACM_1.0" (*mut rdma_cm_id, c_int) -> c_int;
    rdma_get_src_port @ "RDMACM_1.0" (*mut rdma_cm_id) -> u16;
    rdma_resolve_addr @ "RDMACM_1.0" (
        *mut rdma_cm_id, *mut sockaddr, *mut sockaddr, c_int
    ) -> c_int;
    rdma_resolve_route @ "RDMACM_1.0" (*mut rdma_cm_id, c_int) -> c_int;
    rdma_connect @ "RDMACM_1.0" (*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
    rdma_accept @ "RDMACM_1.0" (*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
    rdma_establish @ "RDMACM_1.2" (*mut rdma_cm_id) -> c_int;
    rdma_init_qp_attr @ "RDMACM_1.2" (*mut rdma_cm_id, *mut ibv_qp_attr, *mut c_int) -> c_int;
    rdma_get_cm_event @ "RDMACM_1.0" (*mut rdma_event_channel, *mut *mut rdma_cm_event) -> c_int;
    rdma_ack_cm_event @ "RDMACM_1.0" (*mut rdma_cm_event) -> c_int;
    rdma_event_str @ "RDMACM_1.0" (rdma_cm_event_type::Type) -> *const c_char;
}

impl Verbs {
    /// Loads libibverbs, or says again what came of the first try. It stays loaded.
    pub(crate) fn load() -> Result<&'static Self, Error> {
        static LIBRARY: OnceLock<Result<Verbs, String>> = OnceLock::new();
        let open =
            || open(c"libibverbs.so.1", "libibverbs1 and ibverbs-providers").and_then(Self::of);
        let library = LIBRARY.get_or_init(open).as_ref();
        library.map_err(|reason| Error::Missing(format!("no usable libibverbs: {reason}")))
    }
}

impl Manager {
    /// Loads librdmacm, or says again what came of the first try. It stays loaded.
    pub(crate) fn load() -> Result<&'static Self, Error> {
        static LIBRARY: OnceLock<Result<Manager, String>> = OnceLock::new();
        let open = || open(c"librdmacm.so.1", "librdmacm1").and_then(Self::of);
        let library = LIBRARY.get_or_init(open).as_ref();
        library.map_err(|reason| Error::Missing(format!("no usable librdmacm: {reason}")))
    }
}

/// What drivers' own libraries export and this crate uses.
pub(crate) struct Extension;

impl Extension {
    /// `efadv_query_device` of libefa, or what came of the first try to load it. It stays loaded.
    pub(crate) fn efa() -> Result<QueryDevice, Error> {
        static FUNCTION: OnceLock<Result<QueryDevice, String>> = OnceLock::new();
        let load = || {
            let handle = open(c"libefa.so.1", "ibverbs-providers")?;
            let address = symbol(handle, "efadv_query_device", "EFA_1.1")?;
            // SAFETY: the function of this name and version has this type, as efadv.h declares it.
            Ok(unsafe { std::mem::transmute::<*mut c_void, QueryDevice>(address) })
        };
        let function = FUNCTION.get_or_init(load).as_ref();
        function
            .copied()
            .map_err(|reason| Error::Missing(format!("no usable libefa: {reason}")))
    }
}

/// Loads a library. `packages` are those of Debian and Ubuntu that hold it; elsewhere rdma-core
/// holds them all.
fn open(name: &CStr, packages: &str) -> Result<*mut c_void, String> {
    // SAFETY: the name is text; loading runs the library's initialisers, as a program that links to
    // it would.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        let told = linker_error();
        return Err(format!(
            "{told}; install the packages {packages} (Debian, Ubuntu) or libibverbs and librdmacm \
             (others)"
        ));
    }
    Ok(handle)
}

fn symbol(handle: *mut c_void, name: &str, version: &str) -> Result<*mut c_void, String> {
    let text = |text: &str| std::ffi::CString::new(text).expect("names hold no zero byte");
    let (name, version) = (text(name), text(version));
    // SAFETY: the handle is open for ever, and both names are text.
    let address = unsafe { libc::dlvsym(handle, name.as_ptr(), version.as_ptr()) };
    if address.is_null() {
        return Err(linker_error());
    }
    Ok(address)
}

fn linker_error() -> String {
    // SAFETY: the text belongs to this thread until its next call to the dynamic linker, and is
    // copied before that.
    let text = unsafe { text(libc::dlerror()) };
    text.unwrap_or_else(|| "the dynamic linker says nothing".to_owned())
}
