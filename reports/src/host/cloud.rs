//! What the cloud calls this machine: its type and its place in the network, without which no two
//! results from different instances can be compared.
//!
//! The metadata service is asked only where the machine itself says that it runs on EC2; anywhere
//! else the request would be a packet to a stranger.

use super::MetadataSource;
use super::imds::{Client, Refusal};
use super::nic::hardware_addresses;
use super::tree::{Tree, Unreadable};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Where EC2 serves an instance's metadata.
const EC2_METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The most network cards that are asked about; the largest instances have 32.
const MAX_INTERFACES: usize = 64;

/// The instance, as its cloud describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cloud {
    /// The cloud: `aws`.
    pub provider: String,
    /// For example `hpc7g.4xlarge`.
    pub instance_type: Fact<String>,
    /// The instance.
    pub instance_id: Fact<String>,
    /// How it is paid: `on-demand`, `spot`, `scheduled` or `capacity-block`.
    pub life_cycle: Fact<String>,
    /// The zone by this account's name for it, which differs between accounts.
    pub availability_zone: Fact<String>,
    /// The zone by the name that is the same for all accounts.
    pub az_id: Fact<String>,
    /// The region.
    pub region: Fact<String>,
    /// The placement group, if it is in one.
    pub placement_group: Fact<String>,
    /// The partition of a partition placement group.
    pub partition: Fact<u32>,
    /// The dedicated host, if it is on one.
    pub host_id: Fact<String>,
    /// The machine image it was started from.
    pub ami: Fact<String>,
    /// The elastic network interfaces.
    pub interfaces: Fact<Vec<CloudInterface>>,
}

/// An elastic network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CloudInterface {
    /// The interface of this machine that it is. An EFA-only interface has none.
    pub nic: Fact<String>,
    /// The network card it is on.
    pub network_card: Fact<u32>,
    /// Its index among the interfaces of the instance or card.
    pub device_number: Fact<u32>,
    /// Its id.
    pub interface_id: Fact<String>,
    /// The subnet it is in.
    pub subnet_id: Fact<String>,
}

/// Learns what the cloud says, if this is a cloud's machine.
pub(super) fn read(sys: &Tree, source: &MetadataSource) -> Fact<Cloud> {
    let address = match source {
        MetadataSource::Off(reason) => return Fact::unavailable(reason),
        MetadataSource::Address(address) => *address,
        MetadataSource::System => match ec2_marks(sys) {
            Ok(()) => SocketAddr::from((EC2_METADATA, 80)),
            Err(reason) => return Fact::unavailable(reason),
        },
    };
    let items = Items(Client::open(address));
    Fact::Known(items.cloud(sys))
}

/// Whether the firmware or the hypervisor says EC2. Nitro puts it into the vendor, Xen into the
/// beginning of the machine's uuid.
fn ec2_marks(sys: &Tree) -> Result<(), Unreadable> {
    let dmi = sys.sub("devices/virtual/dmi/id");
    let vendor = dmi.line("sys_vendor");
    let board = dmi.line("board_vendor");
    let nitro = [&vendor, &board]
        .iter()
        .any(|vendor| vendor.as_deref() == Ok("Amazon EC2"));
    let uuids = [dmi.line("product_uuid"), sys.line("hypervisor/uuid")];
    let xen = uuids.iter().flatten().any(|uuid| {
        uuid.get(..3)
            .is_some_and(|head| head.eq_ignore_ascii_case("ec2"))
    });
    if nitro || xen {
        return Ok(());
    }
    Err(Unreadable(match vendor {
        Ok(vendor) => format!("not an EC2 machine: its vendor is {vendor:?}"),
        Err(error) => format!("not an EC2 machine: {error}"),
    }))
}

/// The items of the metadata service, or why there are none.
struct Items(Result<Client, Unreadable>);

impl Items {
    fn cloud(&self, sys: &Tree) -> Cloud {
        Cloud {
            provider: "aws".to_owned(),
            instance_type: self.text("instance-type", "it has none"),
            instance_id: self.text("instance-id", "it has none"),
            life_cycle: self.text("instance-life-cycle", "it has none"),
            availability_zone: self.text("placement/availability-zone", "it has none"),
            az_id: self.text("placement/availability-zone-id", "it has none"),
            region: self.text("placement/region", "it has none"),
            placement_group: self.text("placement/group-name", "not in a placement group"),
            partition: self.number(
                "placement/partition-number",
                "not in a partition placement group",
            ),
            host_id: self.text("placement/host-id", "not on a dedicated host"),
            ami: self.text("ami-id", "it has none"),
            interfaces: self.interfaces(sys),
        }
    }

    fn get(&self, path: &str, absent: &str) -> Result<String, Unreadable> {
        let client = self.0.as_ref().map_err(Unreadable::clone)?;
        client.item(path).map_err(|refusal| match refusal {
            Refusal::Absent => Unreadable(format!("404: {absent}")),
            Refusal::Other(reason) => reason,
        })
    }

    fn text(&self, path: &str, absent: &str) -> Fact<String> {
        Fact::of(self.get(path, absent).and_then(|text| single(path, text)))
    }

    fn number<T: FromStr>(&self, path: &str, absent: &str) -> Fact<T> {
        Fact::of(self.get(path, absent).and_then(|text| {
            text.parse()
                .map_err(|_| Unreadable(format!("{path}: the answer is no number")))
        }))
    }

    /// The interfaces in the order of their cards. The service lists them by hardware address,
    /// which serves to find the interface of this machine and goes no further.
    fn interfaces(&self, sys: &Tree) -> Fact<Vec<CloudInterface>> {
        const LIST: &str = "network/interfaces/macs/";
        let listed = match self.get(LIST, "it has no network interfaces") {
            Ok(listed) => listed,
            Err(reason) => return Fact::unavailable(reason),
        };
        let nics = hardware_addresses(sys);
        let interface = |line: &str| {
            let mac = line.trim().trim_end_matches('/').to_ascii_lowercase();
            let nic = nics.as_ref().map_err(Unreadable::clone).and_then(|nics| {
                let missing = || Unreadable("no interface here has its hardware address".into());
                nics.get(&mac).cloned().ok_or_else(missing)
            });
            // Only a hardware address goes into the next request.
            hardware_address(&mac).then(|| self.interface(&format!("{LIST}{mac}"), Fact::of(nic)))
        };
        let mut found: Vec<_> = listed
            .lines()
            .take(MAX_INTERFACES)
            .filter_map(interface)
            .collect();
        if found.is_empty() {
            return Fact::unavailable(format!("{LIST}: the answer lists no hardware address"));
        }
        found.sort_by_key(|interface| {
            let card = interface.network_card.known().copied();
            (card, interface.device_number.known().copied())
        });
        Fact::Known(found)
    }

    fn interface(&self, path: &str, nic: Fact<String>) -> CloudInterface {
        // An instance with a single network card does not number it.
        let card = "its type has a single network card";
        CloudInterface {
            nic,
            network_card: without_address(self.number(&format!("{path}/network-card-index"), card)),
            device_number: without_address(self.number(&format!("{path}/device-number"), "none")),
            interface_id: without_address(self.text(&format!("{path}/interface-id"), "none")),
            subnet_id: without_address(self.text(&format!("{path}/subnet-id"), "not in a subnet")),
        }
    }
}

/// Reasons quote the request; here that would put a hardware address into the report.
fn without_address<T>(fact: Fact<T>) -> Fact<T> {
    match fact {
        Fact::Unavailable { unavailable } => Fact::Unavailable {
            unavailable: unavailable
                .split('/')
                .map(|part| match part.get(..17) {
                    Some(head) if hardware_address(head) => part.replacen(head, "(mac)", 1),
                    _ => part.to_owned(),
                })
                .collect::<Vec<_>>()
                .join("/"),
        },
        known => known,
    }
}

fn hardware_address(text: &str) -> bool {
    text.len() == 17
        && text
            .split(':')
            .all(|byte| byte.len() == 2 && byte.chars().all(|c| c.is_ascii_hexdigit()))
}

fn single(path: &str, text: String) -> Result<String, Unreadable> {
    if text.contains('\n') || text.len() > 256 {
        return Err(Unreadable(format!(
            "{path}: the answer is not one short line"
        )));
    }
    Ok(text)
}
