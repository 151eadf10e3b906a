//! The RDMA devices: InfiniBand, RoCE and EFA adapters, and the kernel's software ones.

use super::nic::numa_node;
use super::tree::{Lookup, Tree};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// After so many unused places in a row a table of addresses holds no more.
const MOST_GAP: usize = 64;

/// One RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaDevice {
    /// Its name, for example `rdmap0s6` or `mlx5_0`.
    pub name: String,
    /// Whether it is an Elastic Fabric Adapter, by its PCI ids.
    pub efa: Fact<bool>,
    /// The driver bound to the device; a software device has none in sysfs.
    pub driver: Fact<String>,
    /// PCI vendor and device, as in `1d0f:efa1`.
    pub pci_id: Fact<String>,
    /// Where it is.
    pub bus_address: Fact<String>,
    /// What the device is, in the kernel's words: `CA` speaks InfiniBand or RoCE, `RNIC` iWARP,
    /// `unspecified` the vendor's own transport.
    pub node_type: Fact<String>,
    /// The device's firmware.
    pub firmware: Fact<String>,
    /// The vendor's id of the board.
    pub board_id: Fact<String>,
    /// The memory node the device is attached to.
    pub numa_node: Fact<u32>,
    /// Its ports.
    pub ports: Fact<Vec<RdmaPort>>,
}

/// One port of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaPort {
    /// Its number, from 1.
    pub port: u32,
    /// The state of the link, for example `ACTIVE`.
    pub state: Fact<String>,
    /// The state of the physical layer, for example `LinkUp`.
    pub physical_state: Fact<String>,
    /// What lies below: `InfiniBand`, `Ethernet`, or `Unknown` for EFA.
    pub link_layer: Fact<String>,
    /// The kernel's words for the rate.
    pub rate: Fact<String>,
    /// Addresses in the port's table, empty entries not counted.
    pub gids: Fact<u32>,
    /// The network interface that carries it; EFA has none.
    pub netdev: Fact<String>,
}

/// Learns which RDMA devices there are.
pub(super) fn read(sys: &Tree) -> Lookup<Vec<RdmaDevice>> {
    let class = sys.sub("class/infiniband");
    if !class.exists("") {
        return Err(class.wrong("", "does not exist: the kernel has no RDMA device"));
    }
    let names = class.names("")?;
    Ok(names
        .into_iter()
        .map(|name| device(&class.sub(&name), name))
        .collect())
}

fn device(folder: &Tree, name: String) -> RdmaDevice {
    let ids = pci_ids(folder);
    RdmaDevice {
        name,
        efa: Fact::of(ids.clone().map(|(vendor, device)| is_efa(vendor, device))),
        driver: Fact::of(folder.uevent("device/uevent", "DRIVER")),
        pci_id: Fact::of(ids.map(|(vendor, device)| format!("{vendor:04x}:{device:04x}"))),
        bus_address: Fact::of(folder.uevent("device/uevent", "PCI_SLOT_NAME")),
        node_type: Fact::of(label(folder, "node_type")),
        firmware: Fact::of(folder.line("fw_ver")),
        board_id: Fact::of(folder.line("board_id")),
        numa_node: Fact::of(numa_node(folder)),
        ports: Fact::of(ports(folder)),
    }
}

fn pci_ids(folder: &Tree) -> Lookup<(u16, u16)> {
    let id = |file: &str| {
        let line = folder.line(file)?;
        let digits = line.trim_start_matches("0x");
        u16::from_str_radix(digits, 16).map_err(|_| folder.wrong(file, "holds no PCI id"))
    };
    Ok((id("device/vendor")?, id("device/device")?))
}

/// Amazon numbers its Elastic Fabric Adapters from efa0 upwards, sixteen at the most.
fn is_efa(vendor: u16, device: u16) -> bool {
    vendor == 0x1d0f && (0xefa0..=0xefaf).contains(&device)
}

/// The word of a `4: ACTIVE`.
fn label(folder: &Tree, file: &str) -> Lookup<String> {
    let line = folder.line(file)?;
    let label = line
        .split_once(':')
        .map_or(line.as_str(), |(_, label)| label);
    Ok(label.trim().to_owned())
}

fn ports(folder: &Tree) -> Lookup<Vec<RdmaPort>> {
    let names = folder.names("ports")?;
    Ok(names
        .iter()
        .filter_map(|name| Some(port(folder, name.parse().ok()?)))
        .collect())
}

fn port(device: &Tree, port: u32) -> RdmaPort {
    let folder = device.sub(format!("ports/{port}"));
    RdmaPort {
        port,
        state: Fact::of(label(&folder, "state")),
        physical_state: Fact::of(label(&folder, "phys_state")),
        link_layer: Fact::of(folder.line("link_layer")),
        rate: Fact::of(folder.line("rate")),
        gids: Fact::of(gids(&folder)),
        netdev: Fact::of(netdev(device, &folder)),
    }
}

/// The table's size is fixed and mostly zeros; only used entries can be sent from.
fn gids(folder: &Tree) -> Lookup<u32> {
    let (mut used, mut unused) = (0, 0);
    for name in folder.names("gids")? {
        let gid = folder.line(format!("gids/{name}"));
        if gid.is_ok_and(|gid| gid.chars().any(|c| !"0:".contains(c))) {
            used += 1;
            unused = 0;
        } else {
            unused += 1;
        }
        // The kernel gives each address the first free place; of a thousand places, which rxe has,
        // the others would be read for nothing, and a read in sysfs costs several system calls.
        if unused == MOST_GAP {
            break;
        }
    }
    Ok(used)
}

/// RoCE names the interface in its address table, InfiniBand below the device.
fn netdev(device: &Tree, port: &Tree) -> Lookup<String> {
    let by_gid = port.names("gid_attrs/ndevs").unwrap_or_default();
    let named = by_gid
        .iter()
        .take(MOST_GAP)
        .find_map(|index| port.line(format!("gid_attrs/ndevs/{index}")).ok());
    if let Some(name) = named {
        return Ok(name);
    }
    let names = device.names("device/net")?;
    let first = names.into_iter().next();
    first.ok_or_else(|| device.wrong("device/net", "is empty: no network interface"))
}

#[cfg(test)]
mod tests {
    use super::is_efa;

    #[test]
    fn efa_is_known_by_its_pci_ids() {
        assert!(is_efa(0x1d0f, 0xefa0) && is_efa(0x1d0f, 0xefa3));
        assert!(!is_efa(0x1d0f, 0xec20), "ENA is no EFA");
        assert!(!is_efa(0x15b3, 0xefa0), "another vendor's");
    }
}
