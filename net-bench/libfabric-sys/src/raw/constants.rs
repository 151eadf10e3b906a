//! The constants, in groups. A group is also a table of names, which turns a value into words.

/// Constants of one kind, with their names in C.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Name in C and value, in the header's order.
    pub members: &'static [(&'static str, u64)],
    /// What all names begin with and words leave out.
    prefix: &'static str,
}

impl Group {
    /// The word for a value of an enumeration; a number where this binding has no name for it.
    #[must_use]
    pub fn word(&self, value: u64) -> String {
        let mut members = self.members.iter();
        let found = members.find(|(_, member)| *member == value);
        found.map_or_else(|| format!("unknown-{value}"), |(name, _)| self.plain(name))
    }

    /// The words for the bits of a set, the lowest bit first; bits without a name as one number.
    #[must_use]
    pub fn words(&self, set: u64) -> Vec<String> {
        let mut rest = set;
        let mut words = Vec::new();
        for (name, bit) in self.members {
            if rest & bit != 0 {
                words.push(self.plain(name));
                rest &= !bit;
            }
        }
        if rest != 0 {
            words.push(format!("unknown-{rest:#x}"));
        }
        words
    }

    fn plain(&self, name: &str) -> String {
        let name = name.strip_prefix(self.prefix).unwrap_or(name);
        name.to_ascii_lowercase().replace('_', "-")
    }
}

/// Declares the constants of each group, and the group as a table.
macro_rules! constants {
    ($(
        $(#[doc = $doc:literal])*
        $group:ident, $prefix:literal, $type:ty { $($name:ident = $value:expr,)* }
    )*) => {
        $($(
            #[doc = concat!("`", stringify!($name), "` of [`", stringify!($group), "`].")]
            pub const $name: $type = $value;
        )*)*
        $(
            $(#[doc = $doc])*
            pub const $group: Group = Group {
                // Widening: all values are unsigned or small.
                members: &[$((stringify!($name), $name as u64),)*],
                prefix: $prefix,
            };
        )*
        /// Every group.
        pub const GROUPS: &[Group] = &[$($group,)*];
    };
}

constants! {
    /// Capabilities, and flags that several calls share: `fi_getinfo(3)`.
    CAPS, "FI_", u64 {
        FI_MSG = 1 << 1,
        FI_RMA = 1 << 2,
        FI_TAGGED = 1 << 3,
        FI_ATOMIC = 1 << 4,
        FI_MULTICAST = 1 << 5,
        FI_COLLECTIVE = 1 << 6,
        FI_READ = 1 << 8,
        FI_WRITE = 1 << 9,
        FI_RECV = 1 << 10,
        FI_SEND = 1 << 11,
        FI_REMOTE_READ = 1 << 12,
        FI_REMOTE_WRITE = 1 << 13,
        FI_MULTI_RECV = 1 << 16,
        FI_REMOTE_CQ_DATA = 1 << 17,
        FI_TRIGGER = 1 << 20,
        FI_FENCE = 1 << 21,
        FI_AV_USER_ID = 1 << 41,
        FI_PEER = 1 << 43,
        FI_HMEM = 1 << 47,
        FI_RMA_PMEM = 1 << 49,
        FI_SOURCE_ERR = 1 << 50,
        FI_LOCAL_COMM = 1 << 51,
        FI_REMOTE_COMM = 1 << 52,
        FI_SHARED_AV = 1 << 53,
        FI_RMA_EVENT = 1 << 56,
        FI_SOURCE = 1 << 57,
        FI_NAMED_RX_CTX = 1 << 58,
        FI_DIRECTED_RECV = 1 << 59,
    }
    /// Flags of operations, besides the capabilities: `fi_endpoint(3)`, `fi_tagged(3)`.
    OP_FLAGS, "FI_", u64 {
        FI_MORE = 1 << 18,
        FI_PEEK = 1 << 19,
        FI_COMPLETION = 1 << 24,
        FI_INJECT = 1 << 25,
        FI_INJECT_COMPLETE = 1 << 26,
        FI_TRANSMIT_COMPLETE = 1 << 27,
        FI_DELIVERY_COMPLETE = 1 << 28,
        FI_AFFINITY = 1 << 29,
        FI_COMMIT_COMPLETE = 1 << 30,
        FI_MATCH_COMPLETE = 1 << 31,
        FI_DISCARD = 1 << 58,
        FI_CLAIM = 1 << 59,
    }
    /// Flags of `fi_getinfo(3)` itself.
    GETINFO_FLAGS, "FI_", u64 {
        FI_PROV_ATTR_ONLY = 1 << 54,
        FI_NUMERICHOST = 1 << 55,
    }
    /// Flags when objects are bound: `fi_endpoint(3)`.
    BIND_FLAGS, "FI_", u64 {
        FI_SELECTIVE_COMPLETION = 1 << 59,
    }
    /// What a provider demands of its user: `fi_getinfo(3)`, mode.
    MODES, "FI_", u64 {
        FI_BUFFERED_RECV = 1 << 51,
        FI_CONTEXT2 = 1 << 52,
        FI_RX_CQ_DATA = 1 << 56,
        FI_ASYNC_IOV = 1 << 57,
        FI_MSG_PREFIX = 1 << 58,
        FI_CONTEXT = 1 << 59,
    }
    /// How memory is registered: `fi_mr(3)`. The two lowest bits have had no meaning since version
    /// 1.5 of the interface.
    MR_MODES, "FI_MR_", u32 {
        FI_MR_LOCAL = 1 << 2,
        FI_MR_RAW = 1 << 3,
        FI_MR_VIRT_ADDR = 1 << 4,
        FI_MR_ALLOCATED = 1 << 5,
        FI_MR_PROV_KEY = 1 << 6,
        FI_MR_MMU_NOTIFY = 1 << 7,
        FI_MR_RMA_EVENT = 1 << 8,
        FI_MR_ENDPOINT = 1 << 9,
        FI_MR_HMEM = 1 << 10,
        FI_MR_COLLECTIVE = 1 << 11,
    }
    /// What is kept in order: `fi_endpoint(3)`, message ordering. RAW is read after write, S sends.
    ORDERS, "FI_ORDER_", u64 {
        FI_ORDER_RAR = 1 << 0,
        FI_ORDER_RAW = 1 << 1,
        FI_ORDER_RAS = 1 << 2,
        FI_ORDER_WAR = 1 << 3,
        FI_ORDER_WAW = 1 << 4,
        FI_ORDER_WAS = 1 << 5,
        FI_ORDER_SAR = 1 << 6,
        FI_ORDER_SAW = 1 << 7,
        FI_ORDER_SAS = 1 << 8,
        FI_ORDER_DATA = 1 << 16,
        FI_ORDER_RMA_RAR = 1 << 32,
        FI_ORDER_RMA_RAW = 1 << 33,
        FI_ORDER_RMA_WAR = 1 << 34,
        FI_ORDER_RMA_WAW = 1 << 35,
        FI_ORDER_ATOMIC_RAR = 1 << 36,
        FI_ORDER_ATOMIC_RAW = 1 << 37,
        FI_ORDER_ATOMIC_WAR = 1 << 38,
        FI_ORDER_ATOMIC_WAW = 1 << 39,
    }
    /// What `fi_tx_attr` and `fi_rx_attr` have for completions in the order of posts:
    /// `fi_endpoint(3)`, completion ordering.
    COMPLETION_ORDERS, "FI_ORDER_", u64 {
        FI_ORDER_NONE = 0,
        FI_ORDER_STRICT = 0x1ff,
    }
    /// Kinds of endpoints: `fi_endpoint(3)`.
    EP_TYPES, "FI_EP_", u32 {
        FI_EP_UNSPEC = 0,
        FI_EP_MSG = 1,
        FI_EP_DGRAM = 2,
        FI_EP_RDM = 3,
    }
    /// Protocols on the wire: `fi_endpoint(3)`.
    PROTOCOLS, "FI_PROTO_", u32 {
        FI_PROTO_UNSPEC = 0,
        FI_PROTO_RDMA_CM_IB_RC = 1,
        FI_PROTO_IWARP = 2,
        FI_PROTO_IB_UD = 3,
        FI_PROTO_PSMX = 4,
        FI_PROTO_UDP = 5,
        FI_PROTO_SOCK_TCP = 6,
        FI_PROTO_MXM = 7,
        FI_PROTO_IWARP_RDM = 8,
        FI_PROTO_IB_RDM = 9,
        FI_PROTO_GNI = 10,
        FI_PROTO_RXM = 11,
        FI_PROTO_RXD = 12,
        FI_PROTO_MLX = 13,
        FI_PROTO_NETWORKDIRECT = 14,
        FI_PROTO_PSMX2 = 15,
        FI_PROTO_SHM = 16,
        FI_PROTO_MRAIL = 17,
        FI_PROTO_RSTREAM = 18,
        FI_PROTO_RDMA_CM_IB_XRC = 19,
        FI_PROTO_EFA = 20,
        FI_PROTO_PSMX3 = 21,
        FI_PROTO_RXM_TCP = 22,
        FI_PROTO_OPX = 23,
        FI_PROTO_CXI = 24,
        FI_PROTO_XNET = 25,
        FI_PROTO_COLL = 26,
        FI_PROTO_UCX = 27,
        FI_PROTO_SM2 = 28,
        FI_PROTO_CXI_RNR = 29,
        FI_PROTO_LPP = 30,
        FI_PROTO_LNX = 31,
    }
    /// Forms of addresses: `fi_getinfo(3)`.
    ADDRESS_FORMATS, "FI_", u32 {
        FI_FORMAT_UNSPEC = 0,
        FI_SOCKADDR = 1,
        FI_SOCKADDR_IN = 2,
        FI_SOCKADDR_IN6 = 3,
        FI_SOCKADDR_IB = 4,
        FI_ADDR_PSMX = 5,
        FI_ADDR_GNI = 6,
        FI_ADDR_BGQ = 7,
        FI_ADDR_MLX = 8,
        FI_ADDR_STR = 9,
        FI_ADDR_PSMX2 = 10,
        FI_ADDR_IB_UD = 11,
        FI_ADDR_EFA = 12,
        FI_ADDR_PSMX3 = 13,
        FI_ADDR_OPX = 14,
        FI_ADDR_CXI = 15,
        FI_ADDR_UCX = 16,
    }
    /// Addresses that are none: `fi_av(3)`, `fi_mr(3)`.
    NO_ADDRESS, "FI_", u64 {
        FI_ADDR_UNSPEC = u64::MAX,
        FI_ADDR_NOTAVAIL = u64::MAX,
        FI_KEY_NOTAVAIL = u64::MAX,
    }
    /// Kinds of address vectors: `fi_av(3)`.
    AV_TYPES, "FI_AV_", u32 {
        FI_AV_UNSPEC = 0,
        FI_AV_MAP = 1,
        FI_AV_TABLE = 2,
    }
    /// Who drives operations to their end: `fi_domain(3)`.
    PROGRESS, "FI_PROGRESS_", u32 {
        FI_PROGRESS_UNSPEC = 0,
        FI_PROGRESS_AUTO = 1,
        FI_PROGRESS_MANUAL = 2,
        FI_PROGRESS_CONTROL_UNIFIED = 3,
    }
    /// Which calls threads may make at once: `fi_domain(3)`.
    THREADING, "FI_THREAD_", u32 {
        FI_THREAD_UNSPEC = 0,
        FI_THREAD_SAFE = 1,
        FI_THREAD_FID = 2,
        FI_THREAD_DOMAIN = 3,
        FI_THREAD_COMPLETION = 4,
        FI_THREAD_ENDPOINT = 5,
    }
    /// Whether the provider keeps queues from overflowing: `fi_domain(3)`.
    RESOURCE_MANAGEMENT, "FI_RM_", u32 {
        FI_RM_UNSPEC = 0,
        FI_RM_DISABLED = 1,
        FI_RM_ENABLED = 2,
    }
    /// States of a card's link: `fi_nic(3)`.
    LINK_STATES, "FI_LINK_", u32 {
        FI_LINK_UNKNOWN = 0,
        FI_LINK_DOWN = 1,
        FI_LINK_UP = 2,
    }
    /// Buses that a card sits on: `fi_nic(3)`.
    BUS_TYPES, "FI_BUS_", u32 {
        FI_BUS_UNKNOWN = 0,
        FI_BUS_PCI = 1,
    }
    /// What a queue can be waited on with: `fi_cq(3)`, `fi_eq(3)`.
    WAIT_OBJECTS, "FI_WAIT_", u32 {
        FI_WAIT_NONE = 0,
        FI_WAIT_UNSPEC = 1,
        FI_WAIT_SET = 2,
        FI_WAIT_FD = 3,
        FI_WAIT_MUTEX_COND = 4,
        FI_WAIT_YIELD = 5,
        FI_WAIT_POLLFD = 6,
    }
    /// What a completion carries: `fi_cq(3)`.
    CQ_FORMATS, "FI_CQ_FORMAT_", u32 {
        FI_CQ_FORMAT_UNSPEC = 0,
        FI_CQ_FORMAT_CONTEXT = 1,
        FI_CQ_FORMAT_MSG = 2,
        FI_CQ_FORMAT_DATA = 3,
        FI_CQ_FORMAT_TAGGED = 4,
    }
    /// When a waiter on a completion queue wakes up: `fi_cq(3)`.
    CQ_CONDITIONS, "FI_CQ_COND_", u32 {
        FI_CQ_COND_NONE = 0,
        FI_CQ_COND_THRESHOLD = 1,
    }
    /// Events of an event queue: `fi_eq(3)`, `fi_cm(3)`.
    EVENTS, "FI_", u32 {
        FI_NOTIFY = 0,
        FI_CONNREQ = 1,
        FI_CONNECTED = 2,
        FI_SHUTDOWN = 3,
        FI_MR_COMPLETE = 4,
        FI_AV_COMPLETE = 5,
        FI_JOIN_COMPLETE = 6,
    }
    /// Commands of `fi_control(3)`.
    COMMANDS, "FI_", i32 {
        FI_GETWAIT = 5,
        FI_ENABLE = 6,
        FI_BACKLOG = 7,
    }
    /// Options of an endpoint and their level: `fi_endpoint(3)`.
    OPTIONS, "FI_OPT_", i32 {
        FI_OPT_ENDPOINT = 0,
        FI_OPT_MIN_MULTI_RECV = 0,
        FI_OPT_CM_DATA_SIZE = 1,
    }
    /// Kinds of numbers in atomic operations: `fi_atomic(3)`.
    DATATYPES, "FI_", u32 {
        FI_INT8 = 0,
        FI_UINT8 = 1,
        FI_INT16 = 2,
        FI_UINT16 = 3,
        FI_INT32 = 4,
        FI_UINT32 = 5,
        FI_INT64 = 6,
        FI_UINT64 = 7,
        FI_FLOAT = 8,
        FI_DOUBLE = 9,
    }
    /// Atomic operations: `fi_atomic(3)`.
    ATOMIC_OPS, "FI_", u32 {
        FI_MIN = 0,
        FI_MAX = 1,
        FI_SUM = 2,
        FI_PROD = 3,
        FI_LOR = 4,
        FI_LAND = 5,
        FI_BOR = 6,
        FI_BAND = 7,
        FI_LXOR = 8,
        FI_BXOR = 9,
        FI_ATOMIC_READ = 10,
        FI_ATOMIC_WRITE = 11,
        FI_CSWAP = 12,
        FI_CSWAP_NE = 13,
        FI_CSWAP_LE = 14,
        FI_CSWAP_LT = 15,
        FI_CSWAP_GE = 16,
        FI_CSWAP_GT = 17,
        FI_MSWAP = 18,
    }
    /// Atomic operations that return what was there: `fi_atomic(3)`.
    ATOMIC_FLAGS, "FI_", u64 {
        FI_FETCH_ATOMIC = 1 << 58,
        FI_COMPARE_ATOMIC = 1 << 59,
    }
    /// Errors that this crate looks at, and those that only libfabric has: `fi_errno(3)`. Calls
    /// return them negated.
    ERRORS, "FI_", i32 {
        FI_SUCCESS = 0,
        FI_EAGAIN = libc::EAGAIN,
        FI_EINTR = libc::EINTR,
        FI_EBUSY = libc::EBUSY,
        FI_EINVAL = libc::EINVAL,
        FI_ENODEV = libc::ENODEV,
        FI_ENOMEM = libc::ENOMEM,
        FI_ENOSYS = libc::ENOSYS,
        FI_ENODATA = libc::ENODATA,
        FI_EMSGSIZE = libc::EMSGSIZE,
        FI_EOPNOTSUPP = libc::EOPNOTSUPP,
        FI_ECONNREFUSED = libc::ECONNREFUSED,
        FI_ETIMEDOUT = libc::ETIMEDOUT,
        FI_ECANCELED = libc::ECANCELED,
        FI_EOTHER = 256,
        FI_ETOOSMALL = 257,
        FI_EOPBADSTATE = 258,
        FI_EAVAIL = 259,
        FI_EBADFLAGS = 260,
        FI_ENOEQ = 261,
        FI_EDOMAIN = 262,
        FI_ENOCQ = 263,
        FI_ECRC = 264,
        FI_ETRUNC = 265,
        FI_ENOKEY = 266,
        FI_ENOAV = 267,
        FI_EOVERRUN = 268,
        FI_ENORX = 269,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_words_and_unknown_ones_stay_visible() {
        assert_eq!(EP_TYPES.word(3), "rdm");
        assert_eq!(PROTOCOLS.word(1), "rdma-cm-ib-rc");
        assert_eq!(EP_TYPES.word(77), "unknown-77");
        let set = FI_TAGGED | FI_MSG | FI_DIRECTED_RECV | (1 << 60) | 1;
        let words = [
            "msg",
            "tagged",
            "directed-recv",
            "unknown-0x1000000000000001",
        ];
        assert_eq!(CAPS.words(set), words);
        assert!(MR_MODES.words(0).is_empty());
    }
}
