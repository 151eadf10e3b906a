//! The calls, which in C are static inlines: each looks a function up in the table that the
//! provider hung on the object, and jumps there.
//!
//! A table that is null, or an entry that is empty, is `-FI_ENOSYS`. Looking costs two branches
//! that a processor foretells.
#![allow(
    clippy::too_many_arguments,
    reason = "libfabric's calls have that many, and are the same here"
)]

use super::constants::FI_ENOSYS;
use super::structures::{
    FiAtomicAttr, FiAvAttr, FiCntrAttr, FiCqAttr, FiCqErrEntry, FiEqAttr, FiEqErrEntry, FiInfo,
    FiMrAttr, FiMsg, FiMsgRma, FiMsgTagged, Fid, FidAv, FidCntr, FidCq, FidDomain, FidEp, FidEq,
    FidFabric, FidMr, FidPep,
};
use libc::{c_char, c_int, c_void, iovec};

/// What a call returns when its provider does not have it.
trait Missing {
    const MISSING: Self;
}

impl Missing for c_int {
    const MISSING: Self = -FI_ENOSYS;
}

impl Missing for isize {
    const MISSING: Self = -(FI_ENOSYS as Self);
}

impl Missing for *const c_char {
    const MISSING: Self = std::ptr::null();
}

/// No provider leaves these entries empty: whoever has counters can read them.
impl Missing for u64 {
    const MISSING: Self = 0;
}

/// Declares calls: the function, the object, the table and the entry, the other arguments.
macro_rules! calls {
    ($(
        $(#[doc = $doc:literal])*
        fn $name:ident($object:ident: *mut $type:ty => $($table:ident).+, $entry:ident
            $(, $argument:ident: $of:ty)* $(,)?) -> $result:ty;
    )*) => {$(
        $(#[doc = $doc])*
        ///
        /// # Safety
        /// As in C: the object is open, pointers lead where the manual page says, and memory that
        /// is handed over stays in place and untouched until the operation has completed.
        #[inline]
        pub unsafe fn $name($object: *mut $type $(, $argument: $of)*) -> $result {
            // SAFETY: the object is open by the caller's promise, so its provider filled the table
            // in; an entry has the type of its place in the table.
            unsafe {
                let table = (*$object).$($table).+;
                if table.is_null() {
                    return Missing::MISSING;
                }
                match (*table).$entry {
                    Some(call) => call($object.cast() $(, $argument)*),
                    None => Missing::MISSING,
                }
            }
        }
    )*};
}

calls! {
    /// Closes an object: `fi_close(3)`.
    fn fi_close(fid: *mut Fid => ops, close) -> c_int;
    /// Binds one object to another: `fi_endpoint(3)`, `fi_mr(3)`.
    fn fi_bind(fid: *mut Fid => ops, bind, other: *mut Fid, flags: u64) -> c_int;
    /// Controls an object: `fi_control(3)`.
    fn fi_control(fid: *mut Fid => ops, control, command: c_int, arg: *mut c_void) -> c_int;

    /// Opens a domain: `fi_domain(3)`.
    fn fi_domain(fabric: *mut FidFabric => ops, domain,
        info: *mut FiInfo, domain: *mut *mut FidDomain, context: *mut c_void) -> c_int;
    /// Opens a listening endpoint: `fi_endpoint(3)`.
    fn fi_passive_ep(fabric: *mut FidFabric => ops, passive_ep,
        info: *mut FiInfo, pep: *mut *mut FidPep, context: *mut c_void) -> c_int;
    /// Opens an event queue: `fi_eq(3)`.
    fn fi_eq_open(fabric: *mut FidFabric => ops, eq_open,
        attr: *mut FiEqAttr, eq: *mut *mut FidEq, context: *mut c_void) -> c_int;
    /// Whether a thread may wait on these objects' descriptors: `fi_poll(3)`.
    fn fi_trywait(fabric: *mut FidFabric => ops, trywait,
        fids: *mut *mut Fid, count: c_int) -> c_int;

    /// Opens an address vector: `fi_av(3)`.
    fn fi_av_open(domain: *mut FidDomain => ops, av_open,
        attr: *mut FiAvAttr, av: *mut *mut FidAv, context: *mut c_void) -> c_int;
    /// Opens a completion queue: `fi_cq(3)`.
    fn fi_cq_open(domain: *mut FidDomain => ops, cq_open,
        attr: *mut FiCqAttr, cq: *mut *mut FidCq, context: *mut c_void) -> c_int;
    /// Opens an endpoint: `fi_endpoint(3)`.
    fn fi_endpoint(domain: *mut FidDomain => ops, endpoint,
        info: *mut FiInfo, ep: *mut *mut FidEp, context: *mut c_void) -> c_int;
    /// Opens a counter: `fi_cntr(3)`.
    fn fi_cntr_open(domain: *mut FidDomain => ops, cntr_open,
        attr: *mut FiCntrAttr, cntr: *mut *mut FidCntr, context: *mut c_void) -> c_int;
    /// What an atomic operation can do: `fi_atomic(3)`.
    fn fi_query_atomic(domain: *mut FidDomain => ops, query_atomic,
        datatype: u32, op: u32, attr: *mut FiAtomicAttr, flags: u64) -> c_int;
    /// Registers memory: `fi_mr(3)`.
    fn fi_mr_reg(domain: *mut FidDomain => mr, reg,
        buf: *const c_void, len: usize, access: u64, offset: u64, requested_key: u64, flags: u64,
        mr: *mut *mut FidMr, context: *mut c_void) -> c_int;
    /// Registers memory in pieces: `fi_mr(3)`.
    fn fi_mr_regv(domain: *mut FidDomain => mr, regv,
        iov: *const iovec, count: usize, access: u64, offset: u64, requested_key: u64, flags: u64,
        mr: *mut *mut FidMr, context: *mut c_void) -> c_int;
    /// Registers memory by a description: `fi_mr(3)`.
    fn fi_mr_regattr(domain: *mut FidDomain => mr, regattr,
        attr: *const FiMrAttr, flags: u64, mr: *mut *mut FidMr) -> c_int;

    /// Inserts addresses; returns how many were: `fi_av(3)`.
    fn fi_av_insert(av: *mut FidAv => ops, insert,
        addr: *const c_void, count: usize, fi_addr: *mut u64, flags: u64, context: *mut c_void)
        -> c_int;
    /// Removes addresses: `fi_av(3)`.
    fn fi_av_remove(av: *mut FidAv => ops, remove,
        fi_addr: *mut u64, count: usize, flags: u64) -> c_int;
    /// The address behind a handle: `fi_av(3)`.
    fn fi_av_lookup(av: *mut FidAv => ops, lookup,
        fi_addr: u64, addr: *mut c_void, addrlen: *mut usize) -> c_int;
    /// An address as text: `fi_av(3)`.
    fn fi_av_straddr(av: *mut FidAv => ops, straddr,
        addr: *const c_void, buf: *mut c_char, len: *mut usize) -> *const c_char;

    /// Reads an event: `fi_eq(3)`.
    fn fi_eq_read(eq: *mut FidEq => ops, read,
        event: *mut u32, buf: *mut c_void, len: usize, flags: u64) -> isize;
    /// Reads an error: `fi_eq(3)`.
    fn fi_eq_readerr(eq: *mut FidEq => ops, readerr, buf: *mut FiEqErrEntry, flags: u64) -> isize;
    /// Waits for an event, at most this many milliseconds: `fi_eq(3)`.
    fn fi_eq_sread(eq: *mut FidEq => ops, sread,
        event: *mut u32, buf: *mut c_void, len: usize, timeout: c_int, flags: u64) -> isize;
    /// A provider's error as text: `fi_eq(3)`.
    fn fi_eq_strerror(eq: *mut FidEq => ops, strerror,
        prov_errno: c_int, err_data: *const c_void, buf: *mut c_char, len: usize) -> *const c_char;

    /// Reads completions; returns how many: `fi_cq(3)`.
    fn fi_cq_read(cq: *mut FidCq => ops, read, buf: *mut c_void, count: usize) -> isize;
    /// Reads completions and where the messages came from: `fi_cq(3)`.
    fn fi_cq_readfrom(cq: *mut FidCq => ops, readfrom,
        buf: *mut c_void, count: usize, src_addr: *mut u64) -> isize;
    /// Reads an error: `fi_cq(3)`.
    fn fi_cq_readerr(cq: *mut FidCq => ops, readerr, buf: *mut FiCqErrEntry, flags: u64) -> isize;
    /// Waits for completions, at most this many milliseconds: `fi_cq(3)`.
    fn fi_cq_sread(cq: *mut FidCq => ops, sread,
        buf: *mut c_void, count: usize, cond: *const c_void, timeout: c_int) -> isize;
    /// Wakes a waiter up: `fi_cq(3)`.
    fn fi_cq_signal(cq: *mut FidCq => ops, signal) -> c_int;
    /// A provider's error as text: `fi_cq(3)`.
    fn fi_cq_strerror(cq: *mut FidCq => ops, strerror,
        prov_errno: c_int, err_data: *const c_void, buf: *mut c_char, len: usize) -> *const c_char;

    /// Reads a counter: `fi_cntr(3)`.
    fn fi_cntr_read(cntr: *mut FidCntr => ops, read) -> u64;
    /// Reads a counter's errors: `fi_cntr(3)`.
    fn fi_cntr_readerr(cntr: *mut FidCntr => ops, readerr) -> u64;
    /// Adds to a counter: `fi_cntr(3)`.
    fn fi_cntr_add(cntr: *mut FidCntr => ops, add, value: u64) -> c_int;
    /// Sets a counter: `fi_cntr(3)`.
    fn fi_cntr_set(cntr: *mut FidCntr => ops, set, value: u64) -> c_int;
    /// Waits for a counter, at most this many milliseconds: `fi_cntr(3)`.
    fn fi_cntr_wait(cntr: *mut FidCntr => ops, wait, threshold: u64, timeout: c_int) -> c_int;

    /// Cancels an operation: `fi_endpoint(3)`.
    fn fi_cancel(ep: *mut FidEp => ops, cancel, context: *mut c_void) -> isize;
    /// Reads an option: `fi_endpoint(3)`.
    fn fi_getopt(ep: *mut FidEp => ops, getopt,
        level: c_int, optname: c_int, optval: *mut c_void, optlen: *mut usize) -> c_int;
    /// Sets an option: `fi_endpoint(3)`.
    fn fi_setopt(ep: *mut FidEp => ops, setopt,
        level: c_int, optname: c_int, optval: *const c_void, optlen: usize) -> c_int;

    /// Sets an endpoint's own address: `fi_cm(3)`.
    fn fi_setname(ep: *mut FidEp => cm, setname, addr: *mut c_void, addrlen: usize) -> c_int;
    /// An endpoint's own address: `fi_cm(3)`.
    fn fi_getname(ep: *mut FidEp => cm, getname, addr: *mut c_void, addrlen: *mut usize) -> c_int;
    /// A listening endpoint's own address: `fi_cm(3)`.
    fn fi_pep_getname(pep: *mut FidPep => cm, getname,
        addr: *mut c_void, addrlen: *mut usize) -> c_int;
    /// The address of the endpoint at the other end: `fi_cm(3)`.
    fn fi_getpeer(ep: *mut FidEp => cm, getpeer, addr: *mut c_void, addrlen: *mut usize) -> c_int;
    /// Listens: `fi_cm(3)`.
    fn fi_listen(pep: *mut FidPep => cm, listen) -> c_int;
    /// Connects: `fi_cm(3)`.
    fn fi_connect(ep: *mut FidEp => cm, connect,
        addr: *const c_void, param: *const c_void, paramlen: usize) -> c_int;
    /// Accepts a connection: `fi_cm(3)`.
    fn fi_accept(ep: *mut FidEp => cm, accept, param: *const c_void, paramlen: usize) -> c_int;
    /// Refuses a connection: `fi_cm(3)`.
    fn fi_reject(pep: *mut FidPep => cm, reject,
        handle: *mut Fid, param: *const c_void, paramlen: usize) -> c_int;
    /// Ends a connection: `fi_cm(3)`.
    fn fi_shutdown(ep: *mut FidEp => cm, shutdown, flags: u64) -> c_int;

    /// Posts a receive: `fi_msg(3)`.
    fn fi_recv(ep: *mut FidEp => msg, recv,
        buf: *mut c_void, len: usize, desc: *mut c_void, src_addr: u64, context: *mut c_void)
        -> isize;
    /// Posts a receive in pieces: `fi_msg(3)`.
    fn fi_recvmsg(ep: *mut FidEp => msg, recvmsg, msg: *const FiMsg, flags: u64) -> isize;
    /// Sends: `fi_msg(3)`.
    fn fi_send(ep: *mut FidEp => msg, send,
        buf: *const c_void, len: usize, desc: *mut c_void, dest_addr: u64, context: *mut c_void)
        -> isize;
    /// Sends in pieces: `fi_msg(3)`.
    fn fi_sendmsg(ep: *mut FidEp => msg, sendmsg, msg: *const FiMsg, flags: u64) -> isize;
    /// Sends what may be overwritten at once, and completes silently: `fi_msg(3)`.
    fn fi_inject(ep: *mut FidEp => msg, inject,
        buf: *const c_void, len: usize, dest_addr: u64) -> isize;
    /// Sends with a number for the peer's completion: `fi_msg(3)`.
    fn fi_senddata(ep: *mut FidEp => msg, senddata,
        buf: *const c_void, len: usize, desc: *mut c_void, data: u64, dest_addr: u64,
        context: *mut c_void) -> isize;
    /// Injects with a number for the peer's completion: `fi_msg(3)`.
    fn fi_injectdata(ep: *mut FidEp => msg, injectdata,
        buf: *const c_void, len: usize, data: u64, dest_addr: u64) -> isize;

    /// Posts a tagged receive: `fi_tagged(3)`.
    fn fi_trecv(ep: *mut FidEp => tagged, recv,
        buf: *mut c_void, len: usize, desc: *mut c_void, src_addr: u64, tag: u64, ignore: u64,
        context: *mut c_void) -> isize;
    /// Posts a tagged receive in pieces: `fi_tagged(3)`.
    fn fi_trecvmsg(ep: *mut FidEp => tagged, recvmsg,
        msg: *const FiMsgTagged, flags: u64) -> isize;
    /// Sends tagged: `fi_tagged(3)`.
    fn fi_tsend(ep: *mut FidEp => tagged, send,
        buf: *const c_void, len: usize, desc: *mut c_void, dest_addr: u64, tag: u64,
        context: *mut c_void) -> isize;
    /// Sends tagged in pieces: `fi_tagged(3)`.
    fn fi_tsendmsg(ep: *mut FidEp => tagged, sendmsg,
        msg: *const FiMsgTagged, flags: u64) -> isize;
    /// Injects tagged: `fi_tagged(3)`.
    fn fi_tinject(ep: *mut FidEp => tagged, inject,
        buf: *const c_void, len: usize, dest_addr: u64, tag: u64) -> isize;
    /// Sends tagged with a number for the peer's completion: `fi_tagged(3)`.
    fn fi_tsenddata(ep: *mut FidEp => tagged, senddata,
        buf: *const c_void, len: usize, desc: *mut c_void, data: u64, dest_addr: u64, tag: u64,
        context: *mut c_void) -> isize;
    /// Injects tagged with a number for the peer's completion: `fi_tagged(3)`.
    fn fi_tinjectdata(ep: *mut FidEp => tagged, injectdata,
        buf: *const c_void, len: usize, data: u64, dest_addr: u64, tag: u64) -> isize;

    /// Reads a peer's memory: `fi_rma(3)`.
    fn fi_read(ep: *mut FidEp => rma, read,
        buf: *mut c_void, len: usize, desc: *mut c_void, src_addr: u64, addr: u64, key: u64,
        context: *mut c_void) -> isize;
    /// Reads a peer's memory in pieces: `fi_rma(3)`.
    fn fi_readmsg(ep: *mut FidEp => rma, readmsg, msg: *const FiMsgRma, flags: u64) -> isize;
    /// Writes a peer's memory: `fi_rma(3)`.
    fn fi_write(ep: *mut FidEp => rma, write,
        buf: *const c_void, len: usize, desc: *mut c_void, dest_addr: u64, addr: u64, key: u64,
        context: *mut c_void) -> isize;
    /// Writes a peer's memory in pieces: `fi_rma(3)`.
    fn fi_writemsg(ep: *mut FidEp => rma, writemsg, msg: *const FiMsgRma, flags: u64) -> isize;
    /// Injects a write: `fi_rma(3)`.
    fn fi_inject_write(ep: *mut FidEp => rma, inject,
        buf: *const c_void, len: usize, dest_addr: u64, addr: u64, key: u64) -> isize;
    /// Writes with a number for the peer's completion: `fi_rma(3)`.
    fn fi_writedata(ep: *mut FidEp => rma, writedata,
        buf: *const c_void, len: usize, desc: *mut c_void, data: u64, dest_addr: u64, addr: u64,
        key: u64, context: *mut c_void) -> isize;
    /// Injects a write with a number for the peer's completion: `fi_rma(3)`.
    fn fi_inject_writedata(ep: *mut FidEp => rma, injectdata,
        buf: *const c_void, len: usize, data: u64, dest_addr: u64, addr: u64, key: u64) -> isize;

    /// Changes a peer's memory atomically: `fi_atomic(3)`.
    fn fi_atomic(ep: *mut FidEp => atomic, write,
        buf: *const c_void, count: usize, desc: *mut c_void, dest_addr: u64, addr: u64, key: u64,
        datatype: u32, op: u32, context: *mut c_void) -> isize;
    /// Injects an atomic change: `fi_atomic(3)`.
    fn fi_inject_atomic(ep: *mut FidEp => atomic, inject,
        buf: *const c_void, count: usize, dest_addr: u64, addr: u64, key: u64, datatype: u32,
        op: u32) -> isize;
    /// Changes a peer's memory and fetches what was there: `fi_atomic(3)`.
    fn fi_fetch_atomic(ep: *mut FidEp => atomic, readwrite,
        buf: *const c_void, count: usize, desc: *mut c_void, result: *mut c_void,
        result_desc: *mut c_void, dest_addr: u64, addr: u64, key: u64, datatype: u32, op: u32,
        context: *mut c_void) -> isize;
    /// Changes a peer's memory if it compares: `fi_atomic(3)`.
    fn fi_compare_atomic(ep: *mut FidEp => atomic, compwrite,
        buf: *const c_void, count: usize, desc: *mut c_void, compare: *const c_void,
        compare_desc: *mut c_void, result: *mut c_void, result_desc: *mut c_void, dest_addr: u64,
        addr: u64, key: u64, datatype: u32, op: u32, context: *mut c_void) -> isize;
    /// How many numbers one atomic change takes: `fi_atomic(3)`.
    fn fi_atomicvalid(ep: *mut FidEp => atomic, writevalid,
        datatype: u32, op: u32, count: *mut usize) -> c_int;
    /// How many numbers one fetching change takes: `fi_atomic(3)`.
    fn fi_fetch_atomicvalid(ep: *mut FidEp => atomic, readwritevalid,
        datatype: u32, op: u32, count: *mut usize) -> c_int;
    /// How many numbers one comparing change takes: `fi_atomic(3)`.
    fn fi_compare_atomicvalid(ep: *mut FidEp => atomic, compwritevalid,
        datatype: u32, op: u32, count: *mut usize) -> c_int;
}
