//! Queue pairs: how they are made, and how they are brought to work.

use crate::Service;
use crate::device::{Domain, Mtu};
use crate::error::{Error, check};
use crate::queue::{CompletionQueue, SharedReceives};
use rdma_sys::{
    ibv_access_flags, ibv_ah, ibv_ah_attr, ibv_gid, ibv_global_route, ibv_mtu, ibv_qp, ibv_qp_attr,
    ibv_qp_attr_mask, ibv_qp_cap, ibv_qp_init_attr, ibv_qp_state, ibv_qp_type,
};
use std::net::Ipv6Addr;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// The key that datagrams carry, as in perftest.
pub(crate) const QKEY: u32 = 0x1111_1111;

/// 4.096 µs × 2¹⁴ = 67 ms until a packet is sent again, as in perftest.
const TIMEOUT: u8 = 14;

/// How often a packet is sent again. perftest has 7, the most there is; Linux's software RDMA takes 7
/// for ever, and would never notice that a peer has died.
pub(crate) const RETRIES: u8 = 6;

/// How often a message is sent again whose receiver is not ready: for ever, as in perftest.
pub(crate) const RNR_RETRIES: u8 = 7;

/// A receiver that is not ready asks for 0.64 ms, as in perftest.
const MIN_RNR_TIMER: u8 = 12;

/// What a queue pair is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairShape<'a> {
    pub(crate) service: Service,
    /// Requests that may be posted and not completed.
    pub(crate) requests: u32,
    /// Receives of its own that may be posted.
    pub(crate) receives: u32,
    /// Bytes that requests may carry themselves.
    pub(crate) inline: u32,
    pub(crate) sends: &'a CompletionQueue,
    pub(crate) arrivals: &'a CompletionQueue,
    pub(crate) shared: Option<&'a SharedReceives>,
}

/// A queue pair.
#[derive(Debug)]
pub(crate) struct QueuePair {
    raw: NonNull<ibv_qp>,
    service: Service,
    /// Bytes that its requests may carry themselves.
    pub(crate) inline: u32,
    domain: Rc<Domain>,
}

/// Where a queue pair's peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// This side's port, from 1.
    pub port: u8,
    /// The index of this side's GID, and the peer's GID; `None` where InfiniBand's own address does.
    pub gid: Option<(u8, Ipv6Addr)>,
    /// The peer's InfiniBand address; 0 on Ethernet.
    pub lid: u16,
    /// The path MTU.
    pub mtu: Mtu,
    /// Reads and atomic operations that the peer works on at once.
    pub reads_answered: u8,
}

/// A queue pair's counterpart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub number: u32,
    /// The number of its first packet, 24 bits.
    pub first_packet: u32,
}

impl Route {
    fn address(&self) -> ibv_ah_attr {
        let (index, gid) = self.gid.unwrap_or((0, Ipv6Addr::UNSPECIFIED));
        ibv_ah_attr {
            grh: ibv_global_route {
                dgid: ibv_gid { raw: gid.octets() },
                flow_label: 0,
                sgid_index: index,
                hop_limit: 0xff,
                traffic_class: 0,
            },
            dlid: self.lid,
            sl: 0,
            src_path_bits: 0,
            static_rate: 0,
            is_global: u8::from(self.gid.is_some()),
            port_num: self.port,
        }
    }
}

impl QueuePair {
    pub(crate) fn open(domain: &Rc<Domain>, shape: &PairShape<'_>) -> Result<Self, Error> {
        let shared = shape.shared.map_or(ptr::null_mut(), SharedReceives::raw);
        let mut attributes = ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: shape.sends.raw(),
            recv_cq: shape.arrivals.raw(),
            srq: shared,
            cap: ibv_qp_cap {
                max_send_wr: shape.requests,
                max_recv_wr: shape.receives,
                max_send_sge: 1,
                max_recv_sge: u32::from(shape.receives > 0),
                max_inline_data: shape.inline,
            },
            qp_type: match shape.service {
                Service::Rc => ibv_qp_type::IBV_QPT_RC,
                Service::Uc => ibv_qp_type::IBV_QPT_UC,
                Service::Ud => ibv_qp_type::IBV_QPT_UD,
            },
            sq_sig_all: 0,
        };
        // SAFETY: the domain and the queues are open, and whoever holds the pair holds them.
        let raw = unsafe { (domain.verbs().ibv_create_qp)(domain.raw(), &raw mut attributes) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let most = domain.context.limits().queue_pairs;
            let error = Error::last(format!(
                "ibv_create_qp ({}) for {} requests, {} receives and {} inline bytes",
                shape.service, shape.requests, shape.receives, shape.inline
            ));
            error
                .and(&format!("the device has at most {most} queue pairs"))
                .and_memlock()
        })?;
        Ok(Self {
            raw,
            service: shape.service,
            inline: attributes.cap.max_inline_data,
            domain: domain.clone(),
        })
    }

    #[inline]
    pub(crate) fn raw(&self) -> *mut ibv_qp {
        self.raw.as_ptr()
    }

    /// Its number, by which the peer knows it.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: it is open.
        unsafe { (*self.raw()).qp_num }
    }

    /// What its peer may do.
    fn access(&self) -> u32 {
        let access = match self.service {
            Service::Rc if self.domain.context.limits().atomics => {
                ibv_access_flags::IBV_ACCESS_REMOTE_WRITE
                    | ibv_access_flags::IBV_ACCESS_REMOTE_READ
                    | ibv_access_flags::IBV_ACCESS_REMOTE_ATOMIC
            }
            Service::Rc => {
                ibv_access_flags::IBV_ACCESS_REMOTE_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_READ
            }
            Service::Uc | Service::Ud => ibv_access_flags::IBV_ACCESS_REMOTE_WRITE,
        };
        access.0
    }

    /// Gives it a port; it can take receives then.
    pub(crate) fn initialise(&self, port: u8) -> Result<(), Error> {
        let mut attributes = blank();
        attributes.qp_state = ibv_qp_state::IBV_QPS_INIT;
        attributes.port_num = port;
        attributes.pkey_index = 0;
        attributes.qp_access_flags = self.access();
        attributes.qkey = QKEY;
        let mask = ibv_qp_attr_mask::IBV_QP_STATE
            | ibv_qp_attr_mask::IBV_QP_PKEY_INDEX
            | ibv_qp_attr_mask::IBV_QP_PORT
            | match self.service {
                Service::Ud => ibv_qp_attr_mask::IBV_QP_QKEY,
                Service::Rc | Service::Uc => ibv_qp_attr_mask::IBV_QP_ACCESS_FLAGS,
            };
        self.modify(&mut attributes, mask.0, "initialise a queue pair")
    }

    /// Connects it with its peer: it can receive, and then send. `first_packet` is its own.
    pub(crate) fn connect(
        &self,
        route: &Route,
        peer: &Peer,
        first_packet: u32,
    ) -> Result<(), Error> {
        self.ready_to_receive(route, peer)?;
        self.ready_to_send(route, first_packet)
    }

    fn ready_to_receive(&self, route: &Route, peer: &Peer) -> Result<(), Error> {
        let mut attributes = blank();
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTR;
        attributes.path_mtu = route.mtu.raw();
        attributes.dest_qp_num = peer.number;
        attributes.rq_psn = peer.first_packet;
        attributes.ah_attr = route.address();
        attributes.max_dest_rd_atomic = self.domain.context.limits().reads_answered;
        attributes.min_rnr_timer = MIN_RNR_TIMER;
        let connected = ibv_qp_attr_mask::IBV_QP_STATE
            | ibv_qp_attr_mask::IBV_QP_AV
            | ibv_qp_attr_mask::IBV_QP_PATH_MTU
            | ibv_qp_attr_mask::IBV_QP_DEST_QPN
            | ibv_qp_attr_mask::IBV_QP_RQ_PSN;
        let mask = match self.service {
            Service::Rc => {
                connected
                    | ibv_qp_attr_mask::IBV_QP_MAX_DEST_RD_ATOMIC
                    | ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER
            }
            Service::Uc => connected,
            Service::Ud => ibv_qp_attr_mask::IBV_QP_STATE,
        };
        let what = match route.gid {
            Some((index, gid)) => format!("connect a queue pair with {gid} from GID {index}"),
            None => format!("connect a queue pair with LID {}", route.lid),
        };
        self.modify(&mut attributes, mask.0, &what)
            .map_err(|error| error.and("there may be no route to it: both sides' GIDs have to be of one kind and one network"))
    }

    fn ready_to_send(&self, route: &Route, first_packet: u32) -> Result<(), Error> {
        let mut attributes = blank();
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTS;
        attributes.sq_psn = first_packet;
        attributes.timeout = TIMEOUT;
        attributes.retry_cnt = RETRIES;
        attributes.rnr_retry = RNR_RETRIES;
        attributes.max_rd_atomic = self.reads_begun(route.reads_answered);
        let mask = ibv_qp_attr_mask::IBV_QP_STATE | ibv_qp_attr_mask::IBV_QP_SQ_PSN;
        let mask = match self.service {
            Service::Rc => {
                mask | ibv_qp_attr_mask::IBV_QP_TIMEOUT
                    | ibv_qp_attr_mask::IBV_QP_RETRY_CNT
                    | ibv_qp_attr_mask::IBV_QP_RNR_RETRY
                    | ibv_qp_attr_mask::IBV_QP_MAX_QP_RD_ATOMIC
            }
            Service::Uc | Service::Ud => mask,
        };
        self.modify(&mut attributes, mask.0, "let a queue pair send")
    }

    /// Reads and atomic operations under way at once: what both sides can.
    pub(crate) fn reads_begun(&self, answered: u8) -> u8 {
        self.domain.context.limits().reads_begun.min(answered)
    }

    /// Takes what the connection manager found out about the next state, with the smaller MTU.
    pub(crate) fn follow(
        &self,
        mut attributes: ibv_qp_attr,
        mask: u32,
        mtu: Mtu,
    ) -> Result<(), Error> {
        let mut mask = mask;
        if self.service == Service::Uc {
            // The manager believes that it is RC.
            let of_rc = ibv_qp_attr_mask::IBV_QP_MAX_DEST_RD_ATOMIC
                | ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER
                | ibv_qp_attr_mask::IBV_QP_TIMEOUT
                | ibv_qp_attr_mask::IBV_QP_RETRY_CNT
                | ibv_qp_attr_mask::IBV_QP_RNR_RETRY
                | ibv_qp_attr_mask::IBV_QP_MAX_QP_RD_ATOMIC;
            mask &= !of_rc.0;
        }
        if mask & ibv_qp_attr_mask::IBV_QP_PATH_MTU.0 != 0 {
            attributes.path_mtu = attributes.path_mtu.min(mtu.raw());
        }
        if mask & ibv_qp_attr_mask::IBV_QP_TIMEOUT.0 != 0 {
            attributes.timeout = TIMEOUT;
        }
        if mask & ibv_qp_attr_mask::IBV_QP_RETRY_CNT.0 != 0 {
            attributes.retry_cnt = RETRIES;
        }
        if mask & ibv_qp_attr_mask::IBV_QP_RNR_RETRY.0 != 0 {
            attributes.rnr_retry = RNR_RETRIES;
        }
        if mask & ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER.0 != 0 {
            attributes.min_rnr_timer = MIN_RNR_TIMER;
        }
        if mask & ibv_qp_attr_mask::IBV_QP_ACCESS_FLAGS.0 != 0 {
            attributes.qp_access_flags = self.access();
        }
        let what = "follow the connection manager with a queue pair";
        self.modify(&mut attributes, mask, what)
    }

    /// Takes what the connection manager says of a queue pair of datagrams, and brings it to work:
    /// there is nothing to wait for.
    pub(crate) fn start_datagrams(
        &self,
        mut attributes: ibv_qp_attr,
        mask: u32,
    ) -> Result<(), Error> {
        let what = "start a queue pair of datagrams for the connection manager";
        self.modify(&mut attributes, mask, what)?;
        attributes.qp_state = ibv_qp_state::IBV_QPS_RTR;
        self.modify(&mut attributes, ibv_qp_attr_mask::IBV_QP_STATE.0, what)?;
        (attributes.qp_state, attributes.sq_psn) = (ibv_qp_state::IBV_QPS_RTS, 0);
        let mask = ibv_qp_attr_mask::IBV_QP_STATE | ibv_qp_attr_mask::IBV_QP_SQ_PSN;
        self.modify(&mut attributes, mask.0, what)
    }

    fn modify(&self, attributes: &mut ibv_qp_attr, mask: u32, what: &str) -> Result<(), Error> {
        // SAFETY: the pair is open; the mask names the fields that are filled in.
        let returned = unsafe {
            (self.domain.verbs().ibv_modify_qp)(self.raw(), attributes, mask.cast_signed())
        };
        check(format!("cannot {what} (ibv_modify_qp)"), returned)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: it is open. What it works on is held by its holder until afterwards.
        let _ = unsafe { (self.domain.verbs().ibv_destroy_qp)(self.raw()) };
    }
}

/// Attributes none of which is set.
pub(crate) fn blank() -> ibv_qp_attr {
    // SAFETY: all zeroes is a valid structure of numbers.
    let mut attributes: ibv_qp_attr = unsafe { std::mem::zeroed() };
    attributes.path_mtu = ibv_mtu::IBV_MTU_1024;
    attributes
}

/// The address of a peer of datagrams.
#[derive(Debug)]
pub(crate) struct AddressHandle {
    raw: NonNull<ibv_ah>,
    domain: Rc<Domain>,
}

impl AddressHandle {
    pub(crate) fn open(domain: &Rc<Domain>, route: &Route) -> Result<Self, Error> {
        Self::of(domain, route.address())
    }

    pub(crate) fn of(domain: &Rc<Domain>, mut attributes: ibv_ah_attr) -> Result<Self, Error> {
        // SAFETY: the domain is open.
        let raw = unsafe { (domain.verbs().ibv_create_ah)(domain.raw(), &raw mut attributes) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            Error::last("ibv_create_ah")
                .and("there may be no route to the peer's GID from this side's")
        })?;
        Ok(Self {
            raw,
            domain: domain.clone(),
        })
    }

    pub(crate) fn raw(&self) -> *mut ibv_ah {
        self.raw.as_ptr()
    }
}

impl Drop for AddressHandle {
    fn drop(&mut self) {
        // SAFETY: it is open, and the queue pairs that sent to it are gone.
        let _ = unsafe { (self.domain.verbs().ibv_destroy_ah)(self.raw.as_ptr()) };
    }
}
