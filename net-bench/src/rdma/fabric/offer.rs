//! What a provider's offer means for a test: which offer is taken, and what may be expected of it.
//!
//! Everything here decides from an [`Offer`], a plain summary, so that what providers offer whose
//! hardware is elsewhere can be tested too.

use crate::rdma::port::Delivery;
use crate::rdma::test::{EndpointType, Operation};
use libfabric_sys::raw::constants::{
    FI_ATOMIC, FI_EP_DGRAM, FI_EP_MSG, FI_EP_RDM, FI_MSG, FI_ORDER_ATOMIC_RAW, FI_ORDER_ATOMIC_WAW,
    FI_ORDER_RMA_WAW, FI_ORDER_SAS, FI_ORDER_WAW, FI_RMA, FI_TAGGED,
};
use libfabric_sys::{Info, Version};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a decision needs to know of an offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) provider: String,
    pub(super) fabric: String,
    pub(super) domain: String,
    /// One of [`libfabric_sys::raw::constants::EP_TYPES`].
    pub(super) endpoint: u32,
    pub(super) max_message_bytes: usize,
    pub(super) inject_bytes: usize,
    /// Operations that an endpoint queues.
    pub(super) tx_size: usize,
    /// Receives that an endpoint queues.
    pub(super) rx_size: usize,
    /// A set of [`libfabric_sys::raw::constants::ORDERS`], kept by both ends.
    pub(super) order: u64,
}

impl Offer {
    pub(super) fn of(info: &Info) -> Self {
        Self {
            provider: info.provider(),
            fabric: info.fabric_name(),
            domain: info.domain_name(),
            endpoint: info.endpoint().r#type,
            max_message_bytes: info.endpoint().max_msg_size,
            inject_bytes: info.tx().inject_size,
            tx_size: info.tx().size,
            rx_size: info.rx().size,
            order: info.tx().msg_order & info.rx().msg_order,
        }
    }
}

/// Which provider a user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// As libfabric calls it; any if `None`.
    pub(super) provider: Option<String>,
    /// The fabric, where one provider has several that differ in what they can do.
    pub(super) fabric: Option<String>,
    /// The domain; any if `None`.
    pub(super) domain: Option<String>,
}

/// The fabric of the provider `efa` that leaves everything to the card.
const EFA_DIRECT: &str = "efa-direct";

impl Wish {
    /// `efa-direct` is spelled as a provider, but is a fabric of the provider `efa`.
    pub(super) fn new(asked: Option<&str>, domain: Option<&str>) -> Self {
        let (provider, fabric) = match asked {
            Some(EFA_DIRECT) => (Some("efa"), Some(EFA_DIRECT)),
            asked => (asked, None),
        };
        Self {
            provider: provider.map(str::to_owned),
            fabric: fabric.map(str::to_owned),
            domain: domain.map(str::to_owned),
        }
    }

    /// How well an offer meets it, less is better; `None` if not at all. A provider itself comes
    /// before what libfabric builds over it (`tcp;ofi_rxm` for `tcp`).
    fn rank(&self, offer: &Offer) -> Option<u8> {
        let right_fabric = match &self.fabric {
            Some(fabric) => offer.fabric == *fabric,
            None => offer.fabric != EFA_DIRECT,
        };
        let exact = match &self.provider {
            None => true,
            Some(asked) if offer.provider == *asked => true,
            Some(asked) => {
                let rest = offer.provider.strip_prefix(asked.as_str());
                if !rest.is_some_and(|rest| rest.starts_with(';')) {
                    return None;
                }
                false
            }
        };
        let rank = match (offer.endpoint, exact) {
            (FI_EP_RDM, true) => 0,
            (FI_EP_MSG, true) => 1,
            (FI_EP_RDM, false) => 2,
            (FI_EP_MSG, false) => 3,
            (FI_EP_DGRAM, _) => 4,
            _ => return None,
        };
        // Not all providers look at the name of a domain that they are asked for.
        let right_domain = self
            .domain
            .as_ref()
            .is_none_or(|name| *name == offer.domain);
        (right_fabric && right_domain).then_some(rank)
    }

    /// Which of the offers is taken: the first of those that meet the wish best.
    pub(super) fn choose(&self, offers: &[Offer]) -> Option<usize> {
        let ranked = offers.iter().enumerate();
        let ranked = ranked.filter_map(|(index, offer)| Some((self.rank(offer)?, index)));
        ranked.min().map(|(_, index)| index)
    }
}

/// The provider that does the work, below those that libfabric builds over it.
pub(super) fn core(provider: &str) -> &str {
    provider.split(';').next().unwrap_or(provider)
}

/// Whether a provider's networks are found by the addresses of this host. Those of RDMA devices have
/// addresses as well, but none on the loopback interface.
pub(super) fn by_address(provider: Option<&str>, address: IpAddr) -> bool {
    match provider.map(core) {
        None | Some("tcp" | "udp" | "sockets" | "net") => true,
        Some("verbs") => !address.is_loopback(),
        Some(_) => false,
    }
}

/// The types of endpoints that are asked for, in this order.
pub(super) fn types(asked: Option<EndpointType>) -> &'static [u32] {
    match asked {
        Some(EndpointType::Rdm) => &[FI_EP_RDM],
        Some(EndpointType::Msg) => &[FI_EP_MSG],
        None => &[FI_EP_RDM, FI_EP_MSG, FI_EP_DGRAM],
    }
}

/// The capabilities that an operation needs. No more are asked for: providers are slower with some.
pub(super) fn caps(operation: Operation) -> u64 {
    match operation {
        Operation::Send => FI_MSG,
        Operation::Tagged => FI_TAGGED,
        Operation::Write | Operation::Read => FI_RMA,
        // Where the data take a receive, it is one for messages.
        Operation::WriteData => FI_RMA | FI_MSG,
        Operation::FetchAdd | Operation::CompareSwap => FI_ATOMIC,
    }
}

/// What is known of the order in which the operations of a lane arrive.
pub(super) fn delivery(offer: &Offer, operation: Operation) -> Delivery {
    if offer.endpoint == FI_EP_DGRAM {
        return Delivery::Lossy;
    }
    let has = |order: u64| offer.order & order == order;
    let in_order = match operation {
        Operation::Send | Operation::Tagged => has(FI_ORDER_SAS),
        Operation::Write | Operation::WriteData => has(FI_ORDER_WAW) || has(FI_ORDER_RMA_WAW),
        // Nothing arrives here of a peer's reads.
        Operation::Read => true,
        // Each has to find what the one before it left.
        Operation::FetchAdd | Operation::CompareSwap => {
            has(FI_ORDER_ATOMIC_RAW) && has(FI_ORDER_ATOMIC_WAW)
        }
    };
    if in_order {
        Delivery::InOrder
    } else {
        Delivery::Unordered
    }
}

/// How many bytes are sent from the request itself, and why not as many as were asked for.
pub(super) fn inject(offer: &Offer, asked: Option<u32>) -> (usize, Option<String>) {
    match asked.map(|asked| asked as usize) {
        None => (offer.inject_bytes, None),
        Some(asked) if asked <= offer.inject_bytes => (asked, None),
        Some(asked) => {
            let (most, provider) = (offer.inject_bytes, &offer.provider);
            let why = format!("provider {provider} injects at most {most} bytes, not {asked}");
            (most, Some(why))
        }
    }
}

/// Why messages cannot have this length.
pub(super) fn too_long(offer: &Offer, length: u64) -> Option<String> {
    (length > offer.max_message_bytes as u64).then(|| {
        format!(
            "provider {} ({}) sends at most {} bytes in one message, and {length} were asked for: \
             choose a shorter --size",
            offer.provider, offer.fabric, offer.max_message_bytes
        )
    })
}

/// Why an operation is not tried over a provider: versions whose defects end in crashes or in wrong
/// numbers.
pub(super) fn defect(provider: &str, operation: Operation, version: Version) -> Option<String> {
    let (what, repaired) = if operation.fetches() && provider.ends_with(";ofi_rxd") {
        // ofiwg/libfabric, commit 1ab44bfad.
        (
            "crashes in operations that fetch: its lists of them break",
            5,
        )
    } else if operation.atomic() && provider == "verbs" {
        // ofiwg/libfabric, commit 2fc74da2e.
        (
            "takes the operands' addresses for the operands of atomic operations",
            2,
        )
    } else {
        return None;
    };
    let repaired = Version {
        major: 2,
        minor: repaired,
    };
    (version < repaired).then(|| {
        format!("{provider} of libfabric {version} {what} (repaired in libfabric {repaired})")
    })
}

/// The IP address in a socket address, if that is what an endpoint's address is.
pub(super) fn ip_of(address: &[u8]) -> Option<IpAddr> {
    let (family, rest) = address.split_first_chunk::<2>()?;
    match i32::from(u16::from_ne_bytes(*family)) {
        nix::libc::AF_INET => {
            let octets: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        nix::libc::AF_INET6 => {
            let octets: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(provider: &str, fabric: &str, endpoint: u32) -> Offer {
        Offer {
            provider: provider.to_owned(),
            fabric: fabric.to_owned(),
            endpoint,
            max_message_bytes: usize::MAX,
            ..Offer::default()
        }
    }

    fn chosen(asked: Option<&str>, offers: &[Offer]) -> Option<String> {
        let index = Wish::new(asked, None).choose(offers)?;
        let taken = &offers[index];
        Some(format!(
            "{} {} {}",
            taken.provider, taken.fabric, taken.endpoint
        ))
    }

    #[test]
    fn a_provider_comes_before_what_is_built_over_it() {
        let offers = [
            offer("tcp;ofi_rxm", "net", FI_EP_RDM),
            offer("udp;ofi_rxd", "net", FI_EP_RDM),
            offer("tcp", "net", FI_EP_MSG),
            offer("udp", "net", FI_EP_DGRAM),
        ];
        let chosen = |asked| chosen(asked, &offers).unwrap_or_default();
        assert_eq!(chosen(Some("tcp")), "tcp net 1");
        assert_eq!(chosen(Some("tcp;ofi_rxm")), "tcp;ofi_rxm net 3");
        assert_eq!(chosen(Some("udp")), "udp;ofi_rxd net 3");
        assert_eq!(chosen(None), "tcp;ofi_rxm net 3");
        assert_eq!(chosen(Some("tc")), "");
        assert_eq!(chosen(Some("verbs")), "");
    }

    #[test]
    fn the_two_fabrics_of_efa_are_told_apart() {
        // libfabric 2 lists the direct one first.
        let offers = [
            offer("efa", "efa-direct", FI_EP_RDM),
            offer("efa", "efa", FI_EP_RDM),
            offer("efa", "efa", FI_EP_DGRAM),
        ];
        let chosen = |asked| chosen(Some(asked), &offers).unwrap_or_default();
        assert_eq!(chosen("efa"), "efa efa 3");
        assert_eq!(chosen("efa-direct"), "efa efa-direct 3");
        assert_eq!(
            Wish::new(Some("efa-direct"), None).choose(&offers[1..]),
            None
        );
    }

    #[test]
    fn an_offer_over_another_domain_is_none() {
        let over = |domain: &str| Offer {
            domain: domain.to_owned(),
            ..offer("tcp", "net", FI_EP_MSG)
        };
        let offers = [over("lo"), over("eth0")];
        let chosen = |domain| Wish::new(Some("tcp"), domain).choose(&offers);
        assert_eq!(chosen(None), Some(0));
        assert_eq!(chosen(Some("eth0")), Some(1));
        assert_eq!(chosen(Some("eth")), None);
    }

    /// Messages of up to the MTU, 32 bytes from the request, nothing in order.
    fn efa_direct() -> Offer {
        Offer {
            max_message_bytes: 8760,
            inject_bytes: 32,
            tx_size: 512,
            rx_size: 1024,
            ..offer("efa", "efa-direct", FI_EP_RDM)
        }
    }

    #[test]
    fn what_efa_does_not_promise_is_not_expected() {
        let offer = efa_direct();
        for operation in [Operation::Send, Operation::WriteData, Operation::FetchAdd] {
            assert_eq!(delivery(&offer, operation), Delivery::Unordered);
        }
        assert_eq!(too_long(&offer, 8760), None);
        let reason = too_long(&offer, 8761).unwrap_or_default();
        for word in ["efa", "efa-direct", "8760", "8761"] {
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn no_more_is_injected_than_the_offer_allows() {
        let offer = efa_direct();
        assert_eq!(inject(&offer, None), (32, None));
        assert_eq!(inject(&offer, Some(0)), (0, None));
        assert_eq!(inject(&offer, Some(32)), (32, None));
        let (bytes, reason) = inject(&offer, Some(64));
        assert_eq!(bytes, 32);
        assert!(reason.is_some_and(|reason| reason.contains("at most 32 bytes, not 64")));
    }

    #[test]
    fn order_is_that_of_the_operation() {
        let sends = Offer {
            order: FI_ORDER_SAS,
            ..offer("tcp", "net", FI_EP_RDM)
        };
        assert_eq!(delivery(&sends, Operation::Tagged), Delivery::InOrder);
        assert_eq!(delivery(&sends, Operation::WriteData), Delivery::Unordered);
        let writes = Offer {
            order: FI_ORDER_RMA_WAW | FI_ORDER_ATOMIC_RAW | FI_ORDER_ATOMIC_WAW,
            ..offer("verbs", "net", FI_EP_MSG)
        };
        assert_eq!(delivery(&writes, Operation::Send), Delivery::Unordered);
        assert_eq!(delivery(&writes, Operation::WriteData), Delivery::InOrder);
        assert_eq!(delivery(&writes, Operation::FetchAdd), Delivery::InOrder);
        let datagrams = Offer {
            endpoint: FI_EP_DGRAM,
            ..sends
        };
        assert_eq!(delivery(&datagrams, Operation::Send), Delivery::Lossy);
    }

    #[test]
    fn defects_of_older_versions_are_avoided() {
        let old = Version {
            major: 1,
            minor: 17,
        };
        let new = Version { major: 2, minor: 5 };
        let rxd = "udp;ofi_rxd";
        assert!(defect(rxd, Operation::FetchAdd, old).is_some_and(|why| why.contains("1.17")));
        assert_eq!(defect(rxd, Operation::FetchAdd, new), None);
        assert_eq!(defect(rxd, Operation::Write, old), None);
        assert_eq!(defect("tcp;ofi_rxm", Operation::FetchAdd, old), None);
        assert!(
            defect("verbs", Operation::CompareSwap, old).is_some_and(|why| why.contains("2.2"))
        );
        assert_eq!(defect("verbs", Operation::Read, old), None);
        assert_eq!(defect("verbs", Operation::CompareSwap, new), None);
        assert_eq!(defect("verbs;ofi_rxm", Operation::FetchAdd, old), None);
    }

    #[test]
    fn rdma_devices_are_not_looked_for_on_the_loopback_interface() {
        let (lo, far): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [10, 0, 0, 1].into());
        assert!(by_address(Some("tcp;ofi_rxm"), lo));
        assert!(by_address(None, far));
        assert!(by_address(Some("verbs;ofi_rxm"), far));
        assert!(!by_address(Some("verbs"), lo));
        assert!(!by_address(Some("efa"), far));
        assert!(!by_address(Some("shm"), lo));
    }

    #[test]
    fn addresses_of_sockets_are_read() {
        let mut v4 = [0_u8; 16];
        v4[..2].copy_from_slice(&(nix::libc::AF_INET as u16).to_ne_bytes());
        v4[4..8].copy_from_slice(&[10, 77, 0, 1]);
        assert_eq!(ip_of(&v4), Some([10, 77, 0, 1].into()));
        let mut v6 = [0_u8; 28];
        v6[..2].copy_from_slice(&(nix::libc::AF_INET6 as u16).to_ne_bytes());
        v6[23] = 1;
        assert_eq!(ip_of(&v6), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(ip_of(&v4[..6]), None);
        assert_eq!(ip_of(b"fi_shm://1234"), None);
        assert_eq!(ip_of(&[]), None);
    }
}
