//! The structures, and how large they are.
//!
//! Newer versions of libfabric append fields to some. A structure that the caller makes and the
//! library reads is safe, because the library looks at the version of the interface that was asked
//! for; one that the library writes is given room to spare where this crate makes it.

use libc::{c_char, c_int, c_void, iovec};
use std::mem::{offset_of, size_of};

/// A structure as it is laid out here.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Its name in C, without `struct`.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields in order.
    pub fields: &'static [Field],
}

/// A field of a structure.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name; `r#` stands before names that are words of Rust.
    pub name: &'static str,
    /// Bytes from the structure's beginning.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// An entry of a table of calls that this binding does not call.
pub type Unbound = Option<unsafe extern "C" fn()>;

/// Declares structures with C's layout, and the table of their layouts.
macro_rules! structures {
    ($(
        $(#[doc = $doc:literal])*
        $rust:ident = $c:ident { $($field:ident: $type:ty,)* }
    )*) => {
        $(
            $(#[doc = $doc])*
            #[doc = ""]
            #[doc = concat!("C: `struct ", stringify!($c), "`.")]
            #[derive(Debug, Clone, Copy)]
            #[repr(C)]
            pub struct $rust {
                $(
                    #[doc = concat!("C: `", stringify!($field), "`.")]
                    pub $field: $type,
                )*
            }
        )*
        /// Every structure.
        pub const LAYOUTS: &[Layout] = &[$(
            Layout {
                name: stringify!($c),
                size: size_of::<$rust>(),
                fields: &[$(
                    Field {
                        name: stringify!($field),
                        offset: offset_of!($rust, $field),
                        size: size_of::<$type>(),
                    },
                )*],
            },
        )*];
    };
}

/// An entry of a table of calls, which a provider may leave empty.
macro_rules! entry {
    ($($argument:ty),* => $result:ty) => {
        Option<unsafe extern "C" fn($($argument),*) -> $result>
    };
}

structures! {
    /// What every object begins with: `fabric(7)`.
    Fid = fid {
        fclass: usize,
        context: *mut c_void,
        ops: *mut FiOps,
    }
    /// Calls that every object has: `fabric(7)`.
    FiOps = fi_ops {
        size: usize,
        close: entry!(*mut Fid => c_int),
        bind: entry!(*mut Fid, *mut Fid, u64 => c_int),
        control: entry!(*mut Fid, c_int, *mut c_void => c_int),
        ops_open: Unbound,
        tostr: Unbound,
        ops_set: Unbound,
    }
    /// What a provider can do, or what a user wants: `fi_getinfo(3)`.
    FiInfo = fi_info {
        next: *mut FiInfo,
        caps: u64,
        mode: u64,
        addr_format: u32,
        src_addrlen: usize,
        dest_addrlen: usize,
        src_addr: *mut c_void,
        dest_addr: *mut c_void,
        handle: *mut Fid,
        tx_attr: *mut FiTxAttr,
        rx_attr: *mut FiRxAttr,
        ep_attr: *mut FiEpAttr,
        domain_attr: *mut FiDomainAttr,
        fabric_attr: *mut FiFabricAttr,
        nic: *mut FidNic,
    }
    /// Sending: `fi_endpoint(3)`. Sizes in bytes, `size` in operations.
    FiTxAttr = fi_tx_attr {
        caps: u64,
        mode: u64,
        op_flags: u64,
        msg_order: u64,
        comp_order: u64,
        inject_size: usize,
        size: usize,
        iov_limit: usize,
        rma_iov_limit: usize,
        tclass: u32,
    }
    /// Receiving: `fi_endpoint(3)`. Sizes in bytes, `size` in operations.
    FiRxAttr = fi_rx_attr {
        caps: u64,
        mode: u64,
        op_flags: u64,
        msg_order: u64,
        comp_order: u64,
        total_buffered_recv: usize,
        size: usize,
        iov_limit: usize,
    }
    /// An endpoint: `fi_endpoint(3)`. Sizes in bytes.
    FiEpAttr = fi_ep_attr {
        r#type: u32,
        protocol: u32,
        protocol_version: u32,
        max_msg_size: usize,
        msg_prefix_size: usize,
        max_order_raw_size: usize,
        max_order_war_size: usize,
        max_order_waw_size: usize,
        mem_tag_format: u64,
        tx_ctx_cnt: usize,
        rx_ctx_cnt: usize,
        auth_key_size: usize,
        auth_key: *mut u8,
    }
    /// A domain, which is a network card or what stands for one: `fi_domain(3)`.
    FiDomainAttr = fi_domain_attr {
        domain: *mut FidDomain,
        name: *mut c_char,
        threading: u32,
        control_progress: u32,
        data_progress: u32,
        resource_mgmt: u32,
        av_type: u32,
        mr_mode: c_int,
        mr_key_size: usize,
        cq_data_size: usize,
        cq_cnt: usize,
        ep_cnt: usize,
        tx_ctx_cnt: usize,
        rx_ctx_cnt: usize,
        max_ep_tx_ctx: usize,
        max_ep_rx_ctx: usize,
        max_ep_stx_ctx: usize,
        max_ep_srx_ctx: usize,
        cntr_cnt: usize,
        mr_iov_limit: usize,
        caps: u64,
        mode: u64,
        auth_key: *mut u8,
        auth_key_size: usize,
        max_err_data: usize,
        mr_cnt: usize,
        tclass: u32,
    }
    /// A fabric, which is a network, and its provider: `fi_fabric(3)`.
    FiFabricAttr = fi_fabric_attr {
        fabric: *mut FidFabric,
        name: *mut c_char,
        prov_name: *mut c_char,
        prov_version: u32,
        api_version: u32,
    }
    /// A network card: `fi_nic(3)`.
    FidNic = fid_nic {
        fid: Fid,
        device_attr: *mut FiDeviceAttr,
        bus_attr: *mut FiBusAttr,
        link_attr: *mut FiLinkAttr,
        prov_attr: *mut c_void,
    }
    /// A network card's device: `fi_nic(3)`.
    FiDeviceAttr = fi_device_attr {
        name: *mut c_char,
        device_id: *mut c_char,
        device_version: *mut c_char,
        vendor_id: *mut c_char,
        driver: *mut c_char,
        firmware: *mut c_char,
    }
    /// A place on a PCI bus: `fi_nic(3)`.
    FiPciAttr = fi_pci_attr {
        domain_id: u16,
        bus_id: u8,
        device_id: u8,
        function_id: u8,
    }
    /// A network card's bus: `fi_nic(3)`. Of C's union there is one kind only.
    FiBusAttr = fi_bus_attr {
        bus_type: u32,
        attr: FiPciAttr,
    }
    /// A network card's link: `fi_nic(3)`. The MTU in bytes, the speed in bits per second.
    FiLinkAttr = fi_link_attr {
        address: *mut c_char,
        mtu: usize,
        speed: usize,
        state: u32,
        network_type: *mut c_char,
    }
    /// A fabric: `fi_fabric(3)`.
    FidFabric = fid_fabric {
        fid: Fid,
        ops: *mut FiOpsFabric,
        api_version: u32,
    }
    /// Calls of a fabric: `fi_fabric(3)`.
    FiOpsFabric = fi_ops_fabric {
        size: usize,
        domain: entry!(*mut FidFabric, *mut FiInfo, *mut *mut FidDomain, *mut c_void => c_int),
        passive_ep: entry!(*mut FidFabric, *mut FiInfo, *mut *mut FidPep, *mut c_void => c_int),
        eq_open: entry!(*mut FidFabric, *mut FiEqAttr, *mut *mut FidEq, *mut c_void => c_int),
        wait_open: Unbound,
        trywait: entry!(*mut FidFabric, *mut *mut Fid, c_int => c_int),
        domain2: Unbound,
    }
    /// A domain: `fi_domain(3)`.
    FidDomain = fid_domain {
        fid: Fid,
        ops: *mut FiOpsDomain,
        mr: *mut FiOpsMr,
    }
    /// Calls of a domain: `fi_domain(3)`.
    FiOpsDomain = fi_ops_domain {
        size: usize,
        av_open: entry!(*mut FidDomain, *mut FiAvAttr, *mut *mut FidAv, *mut c_void => c_int),
        cq_open: entry!(*mut FidDomain, *mut FiCqAttr, *mut *mut FidCq, *mut c_void => c_int),
        endpoint: entry!(*mut FidDomain, *mut FiInfo, *mut *mut FidEp, *mut c_void => c_int),
        scalable_ep: Unbound,
        cntr_open: entry!(*mut FidDomain, *mut FiCntrAttr, *mut *mut FidCntr, *mut c_void => c_int),
        poll_open: Unbound,
        stx_ctx: Unbound,
        srx_ctx: Unbound,
        query_atomic: entry!(*mut FidDomain, u32, u32, *mut FiAtomicAttr, u64 => c_int),
        query_collective: Unbound,
        endpoint2: Unbound,
    }
    /// An address vector: `fi_av(3)`.
    FidAv = fid_av {
        fid: Fid,
        ops: *mut FiOpsAv,
    }
    /// Calls of an address vector: `fi_av(3)`.
    FiOpsAv = fi_ops_av {
        size: usize,
        insert: entry!(*mut FidAv, *const c_void, usize, *mut u64, u64, *mut c_void => c_int),
        insertsvc: Unbound,
        insertsym: Unbound,
        remove: entry!(*mut FidAv, *mut u64, usize, u64 => c_int),
        lookup: entry!(*mut FidAv, u64, *mut c_void, *mut usize => c_int),
        straddr: entry!(*mut FidAv, *const c_void, *mut c_char, *mut usize => *const c_char),
        av_set: Unbound,
    }
    /// How an address vector is to be: `fi_av(3)`.
    FiAvAttr = fi_av_attr {
        r#type: u32,
        rx_ctx_bits: c_int,
        count: usize,
        ep_per_node: usize,
        name: *const c_char,
        map_addr: *mut c_void,
        flags: u64,
    }
    /// Registered memory: `fi_mr(3)`.
    FidMr = fid_mr {
        fid: Fid,
        mem_desc: *mut c_void,
        key: u64,
    }
    /// Memory to register: `fi_mr(3)`. C's union of devices is one number of its size.
    FiMrAttr = fi_mr_attr {
        mr_iov: *const iovec,
        iov_count: usize,
        access: u64,
        offset: u64,
        requested_key: u64,
        context: *mut c_void,
        auth_key_size: usize,
        auth_key: *mut u8,
        iface: u32,
        device: u64,
    }
    /// Calls that register memory: `fi_mr(3)`.
    FiOpsMr = fi_ops_mr {
        size: usize,
        reg: entry!(
            *mut Fid, *const c_void, usize, u64, u64, u64, u64, *mut *mut FidMr, *mut c_void
            => c_int
        ),
        regv: entry!(
            *mut Fid, *const iovec, usize, u64, u64, u64, u64, *mut *mut FidMr, *mut c_void
            => c_int
        ),
        regattr: entry!(*mut Fid, *const FiMrAttr, u64, *mut *mut FidMr => c_int),
    }
    /// An event queue: `fi_eq(3)`.
    FidEq = fid_eq {
        fid: Fid,
        ops: *mut FiOpsEq,
    }
    /// How an event queue is to be: `fi_eq(3)`.
    FiEqAttr = fi_eq_attr {
        size: usize,
        flags: u64,
        wait_obj: u32,
        signaling_vector: c_int,
        wait_set: *mut c_void,
    }
    /// An event: `fi_eq(3)`.
    FiEqEntry = fi_eq_entry {
        fid: *mut Fid,
        context: *mut c_void,
        data: u64,
    }
    /// An event that is an error: `fi_eq(3)`.
    FiEqErrEntry = fi_eq_err_entry {
        fid: *mut Fid,
        context: *mut c_void,
        data: u64,
        err: c_int,
        prov_errno: c_int,
        err_data: *mut c_void,
        err_data_size: usize,
    }
    /// An event about a connection, less the data that follow it: `fi_cm(3)`.
    FiEqCmEntry = fi_eq_cm_entry {
        fid: *mut Fid,
        info: *mut FiInfo,
    }
    /// Calls of an event queue: `fi_eq(3)`. Timeouts in milliseconds.
    FiOpsEq = fi_ops_eq {
        size: usize,
        read: entry!(*mut FidEq, *mut u32, *mut c_void, usize, u64 => isize),
        readerr: entry!(*mut FidEq, *mut FiEqErrEntry, u64 => isize),
        write: Unbound,
        sread: entry!(*mut FidEq, *mut u32, *mut c_void, usize, c_int, u64 => isize),
        strerror: entry!(
            *mut FidEq, c_int, *const c_void, *mut c_char, usize => *const c_char
        ),
    }
    /// A completion queue: `fi_cq(3)`.
    FidCq = fid_cq {
        fid: Fid,
        ops: *mut FiOpsCq,
    }
    /// How a completion queue is to be: `fi_cq(3)`.
    FiCqAttr = fi_cq_attr {
        size: usize,
        flags: u64,
        format: u32,
        wait_obj: u32,
        signaling_vector: c_int,
        wait_cond: u32,
        wait_set: *mut c_void,
    }
    /// A completion in the format `CONTEXT`: `fi_cq(3)`.
    FiCqEntry = fi_cq_entry {
        op_context: *mut c_void,
    }
    /// A completion in the format `MSG`: `fi_cq(3)`.
    FiCqMsgEntry = fi_cq_msg_entry {
        op_context: *mut c_void,
        flags: u64,
        len: usize,
    }
    /// A completion in the format `DATA`: `fi_cq(3)`.
    FiCqDataEntry = fi_cq_data_entry {
        op_context: *mut c_void,
        flags: u64,
        len: usize,
        buf: *mut c_void,
        data: u64,
    }
    /// A completion in the format `TAGGED`: `fi_cq(3)`.
    FiCqTaggedEntry = fi_cq_tagged_entry {
        op_context: *mut c_void,
        flags: u64,
        len: usize,
        buf: *mut c_void,
        data: u64,
        tag: u64,
    }
    /// A completion that is an error: `fi_cq(3)`.
    FiCqErrEntry = fi_cq_err_entry {
        op_context: *mut c_void,
        flags: u64,
        len: usize,
        buf: *mut c_void,
        data: u64,
        tag: u64,
        olen: usize,
        err: c_int,
        prov_errno: c_int,
        err_data: *mut c_void,
        err_data_size: usize,
    }
    /// Calls of a completion queue: `fi_cq(3)`. Timeouts in milliseconds.
    FiOpsCq = fi_ops_cq {
        size: usize,
        read: entry!(*mut FidCq, *mut c_void, usize => isize),
        readfrom: entry!(*mut FidCq, *mut c_void, usize, *mut u64 => isize),
        readerr: entry!(*mut FidCq, *mut FiCqErrEntry, u64 => isize),
        sread: entry!(*mut FidCq, *mut c_void, usize, *const c_void, c_int => isize),
        sreadfrom: Unbound,
        signal: entry!(*mut FidCq => c_int),
        strerror: entry!(
            *mut FidCq, c_int, *const c_void, *mut c_char, usize => *const c_char
        ),
    }
    /// A counter of completions: `fi_cntr(3)`.
    FidCntr = fid_cntr {
        fid: Fid,
        ops: *mut FiOpsCntr,
    }
    /// How a counter is to be: `fi_cntr(3)`.
    FiCntrAttr = fi_cntr_attr {
        events: u32,
        wait_obj: u32,
        wait_set: *mut c_void,
        flags: u64,
    }
    /// Calls of a counter: `fi_cntr(3)`. Timeouts in milliseconds.
    FiOpsCntr = fi_ops_cntr {
        size: usize,
        read: entry!(*mut FidCntr => u64),
        readerr: entry!(*mut FidCntr => u64),
        add: entry!(*mut FidCntr, u64 => c_int),
        set: entry!(*mut FidCntr, u64 => c_int),
        wait: entry!(*mut FidCntr, u64, c_int => c_int),
        adderr: Unbound,
        seterr: Unbound,
    }
    /// An endpoint: `fi_endpoint(3)`. Tables that the endpoint has no use for may be null.
    FidEp = fid_ep {
        fid: Fid,
        ops: *mut FiOpsEp,
        cm: *mut FiOpsCm,
        msg: *mut FiOpsMsg,
        rma: *mut FiOpsRma,
        tagged: *mut FiOpsTagged,
        atomic: *mut FiOpsAtomic,
        collective: *mut c_void,
    }
    /// An endpoint that listens: `fi_endpoint(3)`.
    FidPep = fid_pep {
        fid: Fid,
        ops: *mut FiOpsEp,
        cm: *mut FiOpsCm,
    }
    /// Calls of an endpoint: `fi_endpoint(3)`.
    FiOpsEp = fi_ops_ep {
        size: usize,
        cancel: entry!(*mut Fid, *mut c_void => isize),
        getopt: entry!(*mut Fid, c_int, c_int, *mut c_void, *mut usize => c_int),
        setopt: entry!(*mut Fid, c_int, c_int, *const c_void, usize => c_int),
        tx_ctx: Unbound,
        rx_ctx: Unbound,
        rx_size_left: Unbound,
        tx_size_left: Unbound,
    }
    /// Calls about names and connections: `fi_cm(3)`.
    FiOpsCm = fi_ops_cm {
        size: usize,
        setname: entry!(*mut Fid, *mut c_void, usize => c_int),
        getname: entry!(*mut Fid, *mut c_void, *mut usize => c_int),
        getpeer: entry!(*mut FidEp, *mut c_void, *mut usize => c_int),
        connect: entry!(*mut FidEp, *const c_void, *const c_void, usize => c_int),
        listen: entry!(*mut FidPep => c_int),
        accept: entry!(*mut FidEp, *const c_void, usize => c_int),
        reject: entry!(*mut FidPep, *mut Fid, *const c_void, usize => c_int),
        shutdown: entry!(*mut FidEp, u64 => c_int),
        join: Unbound,
    }
    /// A message in pieces: `fi_msg(3)`.
    FiMsg = fi_msg {
        msg_iov: *const iovec,
        desc: *mut *mut c_void,
        iov_count: usize,
        addr: u64,
        context: *mut c_void,
        data: u64,
    }
    /// Messages: `fi_msg(3)`.
    FiOpsMsg = fi_ops_msg {
        size: usize,
        recv: entry!(
            *mut FidEp, *mut c_void, usize, *mut c_void, u64, *mut c_void => isize
        ),
        recvv: Unbound,
        recvmsg: entry!(*mut FidEp, *const FiMsg, u64 => isize),
        send: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, *mut c_void => isize
        ),
        sendv: Unbound,
        sendmsg: entry!(*mut FidEp, *const FiMsg, u64 => isize),
        inject: entry!(*mut FidEp, *const c_void, usize, u64 => isize),
        senddata: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, u64, *mut c_void => isize
        ),
        injectdata: entry!(*mut FidEp, *const c_void, usize, u64, u64 => isize),
    }
    /// A tagged message in pieces: `fi_tagged(3)`.
    FiMsgTagged = fi_msg_tagged {
        msg_iov: *const iovec,
        desc: *mut *mut c_void,
        iov_count: usize,
        addr: u64,
        tag: u64,
        ignore: u64,
        context: *mut c_void,
        data: u64,
    }
    /// Tagged messages: `fi_tagged(3)`.
    FiOpsTagged = fi_ops_tagged {
        size: usize,
        recv: entry!(
            *mut FidEp, *mut c_void, usize, *mut c_void, u64, u64, u64, *mut c_void => isize
        ),
        recvv: Unbound,
        recvmsg: entry!(*mut FidEp, *const FiMsgTagged, u64 => isize),
        send: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, u64, *mut c_void => isize
        ),
        sendv: Unbound,
        sendmsg: entry!(*mut FidEp, *const FiMsgTagged, u64 => isize),
        inject: entry!(*mut FidEp, *const c_void, usize, u64, u64 => isize),
        senddata: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, u64, u64, *mut c_void => isize
        ),
        injectdata: entry!(*mut FidEp, *const c_void, usize, u64, u64, u64 => isize),
    }
    /// A piece of a peer's memory: `fi_rma(3)`.
    FiRmaIov = fi_rma_iov {
        addr: u64,
        len: usize,
        key: u64,
    }
    /// An access to a peer's memory in pieces: `fi_rma(3)`.
    FiMsgRma = fi_msg_rma {
        msg_iov: *const iovec,
        desc: *mut *mut c_void,
        iov_count: usize,
        addr: u64,
        rma_iov: *const FiRmaIov,
        rma_iov_count: usize,
        context: *mut c_void,
        data: u64,
    }
    /// Accesses to a peer's memory: `fi_rma(3)`.
    FiOpsRma = fi_ops_rma {
        size: usize,
        read: entry!(
            *mut FidEp, *mut c_void, usize, *mut c_void, u64, u64, u64, *mut c_void => isize
        ),
        readv: Unbound,
        readmsg: entry!(*mut FidEp, *const FiMsgRma, u64 => isize),
        write: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, u64, u64, *mut c_void => isize
        ),
        writev: Unbound,
        writemsg: entry!(*mut FidEp, *const FiMsgRma, u64 => isize),
        inject: entry!(*mut FidEp, *const c_void, usize, u64, u64, u64 => isize),
        writedata: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, u64, u64, u64, *mut c_void
            => isize
        ),
        injectdata: entry!(*mut FidEp, *const c_void, usize, u64, u64, u64, u64 => isize),
    }
    /// What an atomic operation can do: `fi_atomic(3)`. Sizes in bytes.
    FiAtomicAttr = fi_atomic_attr {
        count: usize,
        size: usize,
    }
    /// Atomic operations on a peer's memory: `fi_atomic(3)`.
    FiOpsAtomic = fi_ops_atomic {
        size: usize,
        write: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, u64, u64, u64, u32, u32, *mut c_void
            => isize
        ),
        writev: Unbound,
        writemsg: Unbound,
        inject: entry!(*mut FidEp, *const c_void, usize, u64, u64, u64, u32, u32 => isize),
        readwrite: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, *mut c_void, *mut c_void, u64, u64,
            u64, u32, u32, *mut c_void => isize
        ),
        readwritev: Unbound,
        readwritemsg: Unbound,
        compwrite: entry!(
            *mut FidEp, *const c_void, usize, *mut c_void, *const c_void, *mut c_void,
            *mut c_void, *mut c_void, u64, u64, u64, u32, u32, *mut c_void => isize
        ),
        compwritev: Unbound,
        compwritemsg: Unbound,
        writevalid: entry!(*mut FidEp, u32, u32, *mut usize => c_int),
        readwritevalid: entry!(*mut FidEp, u32, u32, *mut usize => c_int),
        compwritevalid: entry!(*mut FidEp, u32, u32, *mut usize => c_int),
    }
    /// What a provider with the mode `FI_CONTEXT2` keeps of an operation in flight:
    /// `fi_endpoint(3)`.
    FiContext2 = fi_context2 {
        internal: [*mut c_void; 8],
    }
}
