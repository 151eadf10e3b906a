//! Addresses of ports (GIDs): what kinds there are, and which is taken.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The address of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gid {
    /// Its index in the port's table.
    pub index: u8,
    /// The address; an IPv4 one as ::ffff:a.b.c.d.
    pub value: Ipv6Addr,
    /// What packets with it look like.
    pub kind: GidKind,
    /// The network device whose address it is, if there is one.
    pub netdev: Option<String>,
}

/// What packets that are sent under a GID look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GidKind {
    /// InfiniBand's, or RoCE v1: an Ethernet type of its own, which no router forwards.
    InfinibandOrRoceV1,
    /// RoCE v2: UDP.
    RoceV2,
}

impl fmt::Display for GidKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InfinibandOrRoceV1 => "IB/RoCE v1",
            Self::RoceV2 => "RoCE v2",
        })
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.index, self.value, self.kind)
    }
}

/// How far a GID reaches, the best first. Both sides have to take the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// RoCE v2 over IPv4.
    V2OverIpv4,
    /// RoCE v2 over IPv6 with an address that is routed.
    V2OverIpv6,
    /// RoCE v2 over link-local IPv6.
    V2LinkLocal,
    /// RoCE v1 or InfiniBand.
    V1,
}

/// All reaches, the best first.
pub const REACHES: [Reach; 4] = [
    Reach::V2OverIpv4,
    Reach::V2OverIpv6,
    Reach::V2LinkLocal,
    Reach::V1,
];

impl Reach {
    /// A word for it, by which sides agree.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::V2OverIpv4 => "RoCE v2 over IPv4",
            Self::V2OverIpv6 => "RoCE v2 over IPv6",
            Self::V2LinkLocal => "RoCE v2, link-local",
            Self::V1 => "IB/RoCE v1",
        }
    }
}

impl Gid {
    /// How far it reaches.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match self.kind {
            GidKind::InfinibandOrRoceV1 => Reach::V1,
            GidKind::RoceV2 if self.value.to_ipv4_mapped().is_some() => Reach::V2OverIpv4,
            GidKind::RoceV2 if self.value.is_unicast_link_local() => Reach::V2LinkLocal,
            GidKind::RoceV2 => Reach::V2OverIpv6,
        }
    }

    /// The IP address that it stands for.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        match self.value.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(self.value),
        }
    }
}

/// The GID that is taken of a port's: of the best reach, the first.
#[must_use]
pub fn choose(gids: &[Gid]) -> Option<&Gid> {
    // Of equals `min_by_key` returns the first.
    gids.iter().min_by_key(|gid| gid.reach())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(index: u8, value: &str, kind: GidKind) -> Gid {
        Gid {
            index,
            value: value.parse().expect("an address"),
            kind,
            netdev: None,
        }
    }

    #[test]
    fn routable_roce_v2_goes_first_then_what_reaches_the_link() {
        let (v1, v2) = (GidKind::InfinibandOrRoceV1, GidKind::RoceV2);
        // As mlx5 lists them: each address twice, the older kind first.
        let mut gids = vec![
            gid(0, "fe80::1", v1),
            gid(1, "fe80::1", v2),
            gid(2, "2001:db8::1", v1),
            gid(3, "2001:db8::1", v2),
            gid(4, "::ffff:10.0.0.1", v1),
            gid(5, "::ffff:10.0.0.1", v2),
            gid(6, "::ffff:10.0.0.2", v2),
        ];
        let mut order = Vec::new();
        while let Some(chosen) = choose(&gids).map(|gid| gid.index) {
            order.push(chosen);
            gids.retain(|gid| gid.index != chosen);
        }
        assert_eq!(order, [5, 6, 3, 1, 0, 2, 4]);
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn an_ipv4_gid_is_an_ipv4_address() {
        let gid = gid(1, "::ffff:10.77.0.1", GidKind::RoceV2);
        assert_eq!(gid.ip(), "10.77.0.1".parse::<IpAddr>().expect("an address"));
        assert_eq!(gid.to_string(), "1 ::ffff:10.77.0.1 (RoCE v2)");
    }
}
