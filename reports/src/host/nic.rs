//! The network interfaces of this network namespace.
//!
//! sysfs says how an interface is set up, the driver (through ethtool) what it offloads. Driver
//! and bus address are read from the device's `uevent` file, not from the `driver` link: one plain
//! file says both. Addresses, of the network or of the hardware, never enter a report.

use super::ethtool::Asker;
use super::tree::{Lookup, Tree, Unreadable};
use crate::model::Fact;
use bench_sys::ethtool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Whether there is a device behind it.
    pub kind: NicKind,
    /// The driver's name.
    pub driver: Fact<String>,
    /// The driver's version; for drivers of the kernel tree, the kernel's release.
    pub driver_version: Fact<String>,
    /// The card's firmware.
    pub firmware: Fact<String>,
    /// Where the card is, for example a PCI address.
    pub bus_address: Fact<String>,
    /// The largest packet it sends.
    pub mtu_bytes: Fact<u64>,
    /// The link's rate.
    pub speed_bits_per_s: Fact<u64>,
    /// The kernel's word for the state of the link.
    pub operstate: Fact<String>,
    /// Receive queues.
    pub rx_queues: Fact<u32>,
    /// Transmit queues.
    pub tx_queues: Fact<u32>,
    /// The memory node the card is attached to.
    pub numa_node: Fact<u32>,
    /// Every feature the kernel names, and whether it is active.
    pub offloads: Fact<BTreeMap<String, bool>>,
    /// Descriptors of the rings.
    pub rings: Fact<Rings>,
    /// Channels.
    pub channels: Fact<Channels>,
    /// Interrupt moderation.
    pub coalescing: Fact<Coalescing>,
}

/// Whether an interface is hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NicKind {
    /// A device, real or given by a hypervisor, stands behind it.
    Physical,
    /// The kernel alone, as with lo, veth, bridges and tunnels.
    Virtual,
}

/// Descriptors in the rings of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rings {
    /// Receive descriptors.
    pub rx_descriptors: u32,
    /// Most receive descriptors.
    pub rx_max_descriptors: u32,
    /// Transmit descriptors.
    pub tx_descriptors: u32,
    /// Most transmit descriptors.
    pub tx_max_descriptors: u32,
}

/// Channels of a card: queues with an interrupt of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Channels {
    /// Those that only receive.
    pub rx_channels: u32,
    /// Those that only transmit.
    pub tx_channels: u32,
    /// Those that do both.
    pub combined_channels: u32,
    /// The most that could do both.
    pub combined_max_channels: u32,
}

/// How long a card gathers packets before it interrupts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coalescing {
    /// Delay after a receive.
    pub rx_us: u32,
    /// Delay after a transmit.
    pub tx_us: u32,
    /// Whether the driver adapts the receive delay to the traffic.
    pub adaptive_rx: bool,
    /// Whether the driver adapts the transmit delay to the traffic.
    pub adaptive_tx: bool,
}

/// Learns which network interfaces there are.
pub(super) fn read(sys: &Tree, asker: &Asker) -> Lookup<Vec<Nic>> {
    let class = sys.sub("class/net");
    let names = class.names("")?;
    Ok(names
        .into_iter()
        // `bonding_masters` is a file among the interfaces.
        .filter(|name| class.exists(&format!("{name}/mtu")))
        .map(|name| nic(&class.sub(&name), name, asker))
        .collect())
}

fn nic(folder: &Tree, name: String, asker: &Asker) -> Nic {
    let kind = if folder.exists("device") {
        NicKind::Physical
    } else {
        NicKind::Virtual
    };
    let driver = asker.driver(&name);
    Nic {
        kind,
        // sysfs comes first: it says what is bound, even where ethtool has no answer.
        driver: Fact::of(folder.uevent("device/uevent", "DRIVER").or(driver.name)),
        driver_version: Fact::of(driver.version),
        firmware: Fact::of(driver.firmware),
        bus_address: Fact::of(
            folder
                .uevent("device/uevent", "PCI_SLOT_NAME")
                .or(driver.bus),
        ),
        mtu_bytes: Fact::of(folder.number("mtu")),
        speed_bits_per_s: Fact::of(speed(folder)),
        operstate: Fact::of(folder.line("operstate")),
        rx_queues: Fact::of(queues(folder, "rx-")),
        tx_queues: Fact::of(queues(folder, "tx-")),
        numa_node: Fact::of(numa_node(folder)),
        offloads: Fact::of(asker.offloads(&name)),
        rings: Fact::of(asker.rings(&name).map(Rings::from)),
        channels: Fact::of(asker.channels(&name).map(Channels::from)),
        coalescing: Fact::of(asker.coalescing(&name).map(Coalescing::from)),
        name,
    }
}

/// sysfs gives Mb/s, and -1 where the driver does not know: ENA, among others, does not.
fn speed(folder: &Tree) -> Lookup<u64> {
    match folder.number::<i64>("speed")? {
        megabits @ 0.. => Ok(megabits.unsigned_abs().saturating_mul(1_000_000)),
        _ => Err(folder.wrong("speed", "is -1: the driver reports no speed")),
    }
}

fn queues(folder: &Tree, prefix: &str) -> Lookup<u32> {
    let names = folder.names("queues")?;
    let count = names.iter().filter(|name| name.starts_with(prefix)).count();
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The memory node of a device, read from the device that `folder/device` is.
pub(super) fn numa_node(folder: &Tree) -> Lookup<u32> {
    const FILE: &str = "device/numa_node";
    match folder.number::<i64>(FILE)? {
        -1 => Err(folder.wrong(FILE, "is -1: the device belongs to no node")),
        node => {
            u32::try_from(node).map_err(|_| folder.wrong(FILE, format!("holds {node}, no node")))
        }
    }
}

/// The hardware address of each interface: the metadata service knows cards by nothing else.
pub(super) fn hardware_addresses(sys: &Tree) -> Result<BTreeMap<String, String>, Unreadable> {
    let class = sys.sub("class/net");
    Ok(class
        .names("")?
        .into_iter()
        .filter_map(|name| {
            let address = class.line(format!("{name}/address")).ok()?;
            Some((address.to_ascii_lowercase(), name))
        })
        .collect())
}

impl From<ethtool::Rings> for Rings {
    fn from(rings: ethtool::Rings) -> Self {
        Self {
            rx_descriptors: rings.rx,
            rx_max_descriptors: rings.rx_max,
            tx_descriptors: rings.tx,
            tx_max_descriptors: rings.tx_max,
        }
    }
}

impl From<ethtool::Channels> for Channels {
    fn from(channels: ethtool::Channels) -> Self {
        Self {
            rx_channels: channels.rx,
            tx_channels: channels.tx,
            combined_channels: channels.combined,
            combined_max_channels: channels.combined_max,
        }
    }
}

impl From<ethtool::Coalescing> for Coalescing {
    fn from(coalescing: ethtool::Coalescing) -> Self {
        Self {
            rx_us: coalescing.rx_us,
            tx_us: coalescing.tx_us,
            adaptive_rx: coalescing.adaptive_rx,
            adaptive_tx: coalescing.adaptive_tx,
        }
    }
}
