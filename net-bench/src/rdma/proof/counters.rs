//! What an RDMA device's port and the network devices of an address have counted, read from sysfs.
//!
//! Drivers differ in what they count and in what they call it, and a kernel lets some of it be read
//! by no one: every file is read that is there, and what cannot be read is left out.

use crate::rdma::port::Path as Way;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The folders of a port's counters: the driver's own, and those of the InfiniBand architecture.
const OF_PORT: [&str; 2] = ["hw_counters", "counters"];

/// Files among them that are settings: for how many milliseconds a reading is kept.
const SETTINGS: [&str; 1] = ["lifespan"];

/// What everything is sent through that stays in this host.
pub(super) const LOOPBACK: &str = "lo";

/// Most counters that are read of one folder, and most bytes of one file.
const MOST: usize = 512;
const MAX_FILE_BYTES: u64 = 64;

/// Counters at one moment, of whatever a [path](Way) goes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    root: PathBuf,
    pub(super) places: Vec<Place>,
    /// Why there are none, where that is known.
    pub(super) missing: Option<String>,
}

/// What counts: a port or a network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `rxe0 port 1`, or `eth0`.
    pub name: String,
    /// Values by names, those of a port with their folder: `hw_counters/sent_pkts`.
    pub values: BTreeMap<String, u64>,
}

impl Counters {
    /// Reads what counts on a path. `root` is `/`, or takes its place in tests: the network device
    /// of an address is always one of this host's, but its counters are those below `root`.
    #[must_use]
    pub fn read(root: &Path, path: &Way) -> Self {
        let found = match path {
            Way::Rdma { device, port, .. } => port_of(root, device, *port).map(|port| vec![port]),
            Way::Sockets { address } => netdevs(root, *address),
            Way::SharedMemory => Err("nothing counts what goes through memory".to_owned()),
            Way::Unknown => Err("it is not known what the bytes go through".to_owned()),
        };
        let (places, missing) = match found {
            Ok(places) => (places, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        Self {
            root: root.to_owned(),
            places,
            missing,
        }
    }

    /// Reads the same counters now.
    pub(super) fn again(&self, path: &Way) -> Self {
        Self::read(&self.root, path)
    }

    pub(super) fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }
}

fn port_of(root: &Path, device: &str, port: u8) -> Result<Place, String> {
    let folder = root.join("sys/class/infiniband").join(entry(device)?);
    let folder = folder.join("ports").join(port.to_string());
    if !folder.is_dir() {
        return Err(format!("{} is no folder", folder.display()));
    }
    let mut values = BTreeMap::new();
    for kind in OF_PORT {
        for (name, value) in values_in(&folder.join(kind)) {
            if !SETTINGS.contains(&name.as_str()) {
                values.insert(format!("{kind}/{name}"), value);
            }
        }
    }
    if values.is_empty() {
        return Err(format!("{} has no counters", folder.display()));
    }
    Ok(Place {
        name: format!("{device} port {port}"),
        values,
    })
}

/// The device that has an address, and the one that the kernel takes instead where both ends are on
/// this host.
fn netdevs(root: &Path, address: IpAddr) -> Result<Vec<Place>, String> {
    let own = match address.is_loopback() {
        true => (LOOPBACK.to_owned(), None),
        false => {
            let name = netdev_of(address)?;
            let index = nix::net::if_::if_nametoindex(name.as_str());
            (name, index.ok())
        }
    };
    let own = netdev(root, &own.0, own.1)?;
    let beside = Some(LOOPBACK).filter(|_| own.name != LOOPBACK);
    let beside = beside.and_then(|name| netdev(root, name, None).ok());
    Ok([own].into_iter().chain(beside).collect())
}

fn netdev_of(address: IpAddr) -> Result<String, String> {
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|error| format!("addresses of the network devices: {error}"))?;
    let has = |interface: &nix::ifaddrs::InterfaceAddress| {
        interface.address.is_some_and(|own| {
            let v4 = own.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            let v6 = own.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
            v4.or(v6) == Some(address)
        })
    };
    all.filter(has)
        .map(|interface| interface.interface_name)
        .next()
        .ok_or_else(|| format!("no network device has the address {address}"))
}

/// A network device; with an index, only if it is that one.
fn netdev(root: &Path, name: &str, index: Option<u32>) -> Result<Place, String> {
    let folder = root.join("sys/class/net").join(entry(name)?);
    let shown = value(&folder.join("ifindex"));
    if let (Some(index), Some(shown)) = (index, shown)
        && u64::from(index) != shown
    {
        return Err(format!(
            "{} is device {shown}, not {index}: /sys shows another network namespace",
            folder.display()
        ));
    }
    let values = values_in(&folder.join("statistics"));
    if values.is_empty() {
        return Err(format!("{} has no statistics", folder.display()));
    }
    let name = name.to_owned();
    Ok(Place { name, values })
}

/// A name that stays in the folder it is looked up in.
fn entry(name: &str) -> Result<&str, String> {
    match name {
        "" | "." | ".." => Err(format!("{name:?} is no name of a device")),
        _ if name.contains(['/', '\0']) => Err(format!("{name:?} is no name of a device")),
        _ => Ok(name),
    }
}

fn values_in(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let values = entries.take(MOST).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name, value(&entry.path())?))
    });
    values.collect()
}

fn value(path: &Path) -> Option<u64> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
