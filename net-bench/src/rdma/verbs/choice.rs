//! Which device, port and address a side takes, and how much of what was asked for the device has.

use super::agree::Agreed;
use super::refine;
use crate::rdma::test::{RdmaTest, Verbs};
use crate::side::End;
use anyhow::Context as _;
use reports::model::Unavailable;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use verbs::gid::{Gid, Reach};
use verbs::sysfs::{Port, Sysfs};
use verbs::{Context, Limits, PortState};

/// What a side works with: an open device, one of its ports, and that port's addresses.
#[derive(Debug)]
pub struct Site {
    /// The device.
    pub context: Context,
    /// The port, from 1.
    pub port: u8,
    /// The port's state.
    pub state: PortState,
    gids: Vec<Gid>,
    /// The one that was asked for.
    only: Option<u8>,
    sysfs: Sysfs,
}

impl Site {
    /// Opens what a test asks one end for.
    ///
    /// # Errors
    /// [`Unavailable`]: no library, no device, none that is active. Else a name or a number that is
    /// not there, with those that are; or a port that is down.
    pub fn find(wanted: &Verbs, end: End) -> anyhow::Result<Self> {
        let (name, option) = match end {
            End::Client => (&wanted.device, "--device"),
            End::Server => (&wanted.server_device, "--server-device"),
        };
        let sysfs = Sysfs::default();
        let usable = verbs::devices().map_err(refine)?;
        let mut ports = sysfs.ports();
        ports.retain(|port| usable.contains(&port.device));
        let name = match name {
            Some(name) => {
                named(&ports, name, wanted.port).with_context(|| option)?;
                name.clone()
            }
            None => first_active(&ports, wanted.port)?,
        };
        let context = Context::open(&name).map_err(refine)?;
        let state = context.port(wanted.port).map_err(refine)?;
        let gids = sysfs.gids(&name, wanted.port);
        if let Some(index) = wanted.gid_index {
            known_gid(&gids, index).with_context(|| format!("device {name}"))?;
        } else if gids.is_empty() && !state.infiniband {
            anyhow::bail!(Unavailable(format!(
                "port {} of device {name} has no address (GID): its network device has to be up and \
                 to have one",
                wanted.port
            )));
        }
        Ok(Self {
            context,
            port: wanted.port,
            state,
            gids,
            only: wanted.gid_index,
            sysfs,
        })
    }

    /// Whether the device is a piece of software, whose vendor gives it no number.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.context.limits().part == 0
    }

    /// The addresses among which may be chosen. On InfiniBand the port's own address does unless one
    /// was asked for.
    pub fn candidates(&self) -> impl Iterator<Item = &Gid> {
        let all = !self.state.infiniband;
        let chosen = self.only;
        self.gids
            .iter()
            .filter(move |gid| chosen.map_or(all, |index| index == gid.index))
    }

    /// The first address of a reach.
    #[must_use]
    pub fn gid_of(&self, reach: Reach) -> Option<&Gid> {
        self.candidates().find(|gid| gid.reach() == reach)
    }

    /// The address at an index.
    #[must_use]
    pub fn gid(&self, index: u8) -> Option<&Gid> {
        self.gids.iter().find(|gid| gid.index == index)
    }

    /// The network devices that belong to the address at an index, or to the device.
    #[must_use]
    pub fn netdevs(&self, index: Option<u8>) -> Vec<String> {
        let gid = index.and_then(|index| self.gid(index));
        match gid.and_then(|gid| gid.netdev.clone()) {
            Some(netdev) => vec![netdev],
            None => self.sysfs.netdevs(self.context.name()),
        }
    }

    /// The IP address by which the connection manager finds the port.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self, agreed: &Agreed) -> anyhow::Result<SocketAddr> {
        let ip = match &agreed.gid {
            Some(gid) if !self.state.infiniband => gid.ip(),
            _ => self.ip_over_infiniband()?,
        };
        let IpAddr::V6(ip) = ip else {
            return Ok(SocketAddr::new(ip, 0));
        };
        let netdevs = self.netdevs(agreed.gid.as_ref().map(|gid| gid.index));
        let zone = match netdevs.first() {
            Some(netdev) if ip.is_unicast_link_local() => {
                nix::net::if_::if_nametoindex(netdev.as_str())
                    .with_context(|| format!("network device {netdev}"))?
            }
            _ => 0,
        };
        Ok(SocketAddrV6::new(ip, 0, 0, zone).into())
    }

    /// The first IP address of the device's network devices.
    fn ip_over_infiniband(&self) -> anyhow::Result<IpAddr> {
        let netdevs = self.sysfs.netdevs(self.context.name());
        let found = nix::ifaddrs::getifaddrs().context("getifaddrs")?;
        let mut addresses: Vec<IpAddr> = found
            .filter(|found| netdevs.contains(&found.interface_name))
            .filter_map(|found| {
                let address = found.address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
            })
            .collect();
        // IPv4 first: a link-local address has a zone.
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.first().copied().with_context(|| {
            format!(
                "device {} has no IP address (IPoIB), by which the connection manager would find it; \
                 without --rdma-cm it needs none",
                self.context.name()
            )
        })
    }
}

/// A device that was asked for by name: it and its port have to be there and up.
fn named(ports: &[Port], name: &str, number: u8) -> anyhow::Result<()> {
    let mut own = ports.iter().filter(|port| port.device == name).peekable();
    anyhow::ensure!(
        own.peek().is_some(),
        "there is no RDMA device {name:?} here, but {}",
        listed(ports)
    );
    let port = own.find(|port| port.number == number).with_context(|| {
        format!(
            "device {name} has no port {number}: there is {}",
            listed(ports)
        )
    })?;
    anyhow::ensure!(
        port.is_active(),
        "{port} is not active: the link has to be up (`ibv_devinfo`; of RoCE, `ip link`)"
    );
    Ok(())
}

/// The first device whose port of that number is active.
fn first_active(ports: &[Port], number: u8) -> anyhow::Result<String> {
    let mut active = ports.iter().filter(|port| port.is_active()).peekable();
    if active.peek().is_none() {
        anyhow::bail!(Unavailable(format!(
            "no RDMA device has an active port: {}; the link has to be up (of RoCE, `ip link`)",
            listed(ports)
        )));
    }
    let found = active.find(|port| port.number == number);
    found.map(|port| port.device.clone()).with_context(|| {
        format!(
            "no RDMA device has an active port {number}, but there is {}",
            listed(ports)
        )
    })
}

fn listed(ports: &[Port]) -> String {
    let listed: Vec<String> = ports.iter().map(Port::to_string).collect();
    listed.join(", ")
}

/// An address that was asked for by its index has to be there.
fn known_gid(gids: &[Gid], index: u8) -> anyhow::Result<()> {
    if gids.iter().any(|gid| gid.index == index) {
        return Ok(());
    }
    let listed: Vec<String> = gids.iter().map(Gid::to_string).collect();
    anyhow::bail!(
        "--gid-index {index}: there is no such GID, but {}",
        listed.join(", ")
    )
}

/// Whether there is the library, and a device with an active port.
///
/// # Errors
/// What is missing.
pub fn any_active() -> anyhow::Result<()> {
    let usable = verbs::devices().map_err(refine)?;
    let mut ports = Sysfs::default().ports();
    ports.retain(|port| usable.contains(&port.device));
    match ports.iter().find(|port| port.is_active()) {
        Some(port) => first_active(&ports, port.number).map(drop),
        None => first_active(&ports, 1).map(drop),
    }
}

/// Lanes of one thread.
#[must_use]
pub fn lanes(test: &RdmaTest) -> u32 {
    (test.lanes / test.threads.max(1)).max(1)
}

/// How much of what was asked for fits the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// Operations in flight on a lane.
    pub depth: u32,
    /// Receives on a lane.
    pub receives: u32,
    /// What was reduced, a sentence each.
    pub reduced: Vec<String>,
}

impl Fit {
    /// Reduces what a test asks for to what a device has.
    ///
    /// # Errors
    /// It does not have room for one of each.
    pub fn of(test: &RdmaTest, shared_receives: bool, limits: &Limits) -> anyhow::Result<Self> {
        let lanes = lanes(test);
        let mut fit = Self {
            depth: test.depth,
            receives: test.receives,
            reduced: Vec::new(),
        };
        let completions = (
            "completions in a queue (max_cqe)",
            limits.completions / lanes,
        );
        let requests = (
            "requests in a queue pair (max_qp_wr)",
            limits.queue_requests,
        );
        let what = "operations in flight on a lane";
        for limit in [requests, completions] {
            reduce(&mut fit.depth, what, limit, &mut fit.reduced)?;
        }
        if test.operation.receives() {
            let receives = if shared_receives {
                let name = "requests in a shared receive queue (max_srq_wr)";
                (name, limits.shared_requests / lanes)
            } else {
                requests
            };
            let what = "receives on a lane";
            for limit in [receives, completions] {
                reduce(&mut fit.receives, what, limit, &mut fit.reduced)?;
            }
        }
        Ok(fit)
    }
}

fn reduce(
    value: &mut u32,
    what: &str,
    (limit, most): (&str, u32),
    reduced: &mut Vec<String>,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        most > 0,
        "the device does not have enough {limit} for so many lanes: take fewer, or more threads"
    );
    if *value > most {
        reduced.push(format!(
            "{what}: {value} were asked for, {most} fit the device's {limit}"
        ));
        *value = most;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdma::verbs::agree::tests::test;

    fn limits() -> Limits {
        Limits {
            firmware: String::new(),
            vendor: 0,
            part: 0,
            queue_requests: 1000,
            shared_requests: 2000,
            completions: 3200,
            queue_pairs: 100,
            reads_answered: 16,
            reads_begun: 16,
            atomics: true,
            vectors: 1,
        }
    }

    fn port(device: &str, number: u8, state: &str) -> Port {
        Port {
            device: device.to_owned(),
            number,
            state: state.to_owned(),
            link_layer: "Ethernet".to_owned(),
        }
    }

    #[test]
    fn what_a_device_lacks_is_reduced_and_said() {
        let mut test = test();
        (test.lanes, test.threads, test.depth, test.receives) = (8, 2, 100, 200);
        let fit = Fit::of(&test, false, &limits()).expect("fits");
        assert_eq!((fit.depth, fit.receives, fit.reduced.len()), (100, 200, 0));
        (test.depth, test.receives) = (2048, 700);
        let fit = Fit::of(&test, true, &limits()).expect("fits");
        // 3200 completions and 2000 shared receives for 4 lanes.
        assert_eq!((fit.depth, fit.receives), (800, 500));
        assert_eq!(fit.reduced.len(), 3, "{:?}", fit.reduced);
        assert!(fit.reduced[0].contains("max_qp_wr"), "{:?}", fit.reduced);
        assert!(fit.reduced[1].contains("max_cqe"), "{:?}", fit.reduced);
        assert!(fit.reduced[2].contains("max_srq_wr"), "{:?}", fit.reduced);
        (test.lanes, test.threads) = (4000, 1);
        assert!(Fit::of(&test, false, &limits()).is_err());
    }

    #[test]
    fn the_first_active_device_is_taken_and_absence_is_told_apart_from_mistakes() {
        let ports = [
            port("mlx5_0", 1, "DOWN"),
            port("rxe0", 1, "ACTIVE"),
            port("rxe1", 1, "ACTIVE"),
        ];
        assert_eq!(first_active(&ports, 1).expect("one"), "rxe0");
        let error = first_active(&ports[..1], 1).expect_err("all are down");
        assert!(error.is::<Unavailable>());
        assert!(error.to_string().contains("mlx5_0 port 1 (DOWN)"));
        for (name, number, word) in [
            ("rxe7", 1, "rxe1 port 1 (ACTIVE)"),
            ("rxe0", 2, "no port 2"),
            ("mlx5_0", 1, "is not active"),
        ] {
            let error = named(&ports, name, number).expect_err("wrong");
            assert!(!error.is::<Unavailable>());
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(named(&ports, "rxe1", 1).is_ok());
    }

    #[test]
    fn a_gid_that_is_not_there_is_answered_with_those_that_are() {
        let gid = Gid {
            index: 1,
            value: "::ffff:10.0.0.1".parse().expect("an address"),
            kind: verbs::gid::GidKind::RoceV2,
            netdev: None,
        };
        let error = known_gid(&[gid], 3).expect_err("not there");
        assert!(error.to_string().contains("1 ::ffff:10.0.0.1 (RoCE v2)"));
    }
}
