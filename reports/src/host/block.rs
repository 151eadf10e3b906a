//! The block devices, and the file systems mounted from them.
//!
//! Left out are devices with nothing behind them: those of size zero (unbound loop, nbd and zram
//! devices) and RAM disks. Serial numbers identify a machine's owner and are left out as well,
//! except where the serial is the id of an EBS volume, which its owner needs to find it.

use super::mounts::{FileSystem, Mounts};
use super::tree::{Lookup, Tree};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockDevice {
    /// Its name below /dev.
    pub name: String,
    /// What it is.
    pub kind: BlockKind,
    /// The model it reports.
    pub model: Fact<String>,
    /// The id of the EBS volume, as in `vol-0123456789abcdef0`.
    pub ebs_volume_id: Fact<String>,
    /// The device's firmware.
    pub firmware: Fact<String>,
    /// Its size.
    pub size_bytes: Fact<u64>,
    /// Whether the kernel takes it for a spinning disk.
    pub rotational: Fact<bool>,
    /// The I/O scheduler.
    pub scheduler: Fact<String>,
    /// The smallest unit of direct I/O.
    pub logical_block_bytes: Fact<u64>,
    /// The device's own unit.
    pub physical_block_bytes: Fact<u64>,
    /// Requests the block layer queues per hardware queue.
    pub nr_requests: Fact<u64>,
    /// Commands the device itself takes per queue.
    pub queue_depth: Fact<u64>,
    /// How much is read ahead of a sequential reader.
    pub read_ahead_bytes: Fact<u64>,
    /// Whether the device has a volatile write cache: `write back` if so, else `write through`.
    pub write_cache: Fact<String>,
    /// Queues set aside for polling; without any, IOPOLL is refused or waits for interrupts.
    pub poll_queues: Fact<u32>,
    /// The file systems mounted from it or its partitions, one entry for each.
    pub file_systems: Fact<Vec<FileSystem>>,
}

/// What a block device is, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// An EBS volume on a Nitro instance.
    AwsEbs,
    /// A local NVMe disk of an EC2 instance, lost when it stops.
    AwsInstanceStore,
    /// Another NVMe namespace.
    Nvme,
    /// A disk of a hypervisor over virtio.
    Virtio,
    /// A disk of the Xen hypervisor; on EC2 an EBS volume or an instance store, which look alike.
    Xen,
    /// A SCSI, SATA or USB disk.
    Scsi,
    /// A file as a disk.
    Loop,
    /// Compressed memory as a disk.
    Zram,
    /// A device-mapper device: LVM, encryption, multipath.
    DeviceMapper,
    /// A software RAID.
    Md,
    /// A disk over the network.
    Nbd,
    /// None of these.
    Other,
}

/// Learns which block devices there are.
pub(super) fn read(sys: &Tree, proc: &Tree) -> Lookup<Vec<BlockDevice>> {
    let class = sys.sub("block");
    let mounts = Mounts::read(proc);
    let poll_queues = Fact::of(sys.number("module/nvme/parameters/poll_queues"));
    Ok(class
        .names("")?
        .into_iter()
        .filter(|name| in_use(&class.sub(name), name))
        .map(|name| device(&class.sub(&name), name, &mounts, &poll_queues))
        .collect())
}

/// Learns of one block device, by its name in /sys/block.
pub(super) fn one(sys: &Tree, proc: &Tree, name: &str) -> BlockDevice {
    let poll_queues = Fact::of(sys.number("module/nvme/parameters/poll_queues"));
    let folder = sys.sub("block").sub(name);
    device(&folder, name.to_owned(), &Mounts::read(proc), &poll_queues)
}

/// Whether there is anything to do I/O on. A device whose size cannot be read stays: it says why.
fn in_use(folder: &Tree, name: &str) -> bool {
    let hidden = folder.flag("hidden") == Ok(true);
    let ram_disk = name
        .strip_prefix("ram")
        .is_some_and(|number| number.parse::<u32>().is_ok());
    folder.number::<u64>("size") != Ok(0) && !ram_disk && !hidden
}

fn device(folder: &Tree, name: String, mounts: &Mounts, poll_queues: &Fact<u32>) -> BlockDevice {
    let model = folder.line("device/model");
    let kind = kind(&name, model.as_deref().unwrap_or_default());
    let nvme = matches!(
        kind,
        BlockKind::Nvme | BlockKind::AwsEbs | BlockKind::AwsInstanceStore
    );
    let queue = folder.sub("queue");
    BlockDevice {
        kind,
        model: Fact::of(model),
        ebs_volume_id: ebs_volume_id(folder, kind),
        firmware: Fact::of(folder.line("device/firmware_rev").or_else(|error| {
            // SCSI disks call it a revision.
            folder.line("device/rev").map_err(|_| error)
        })),
        size_bytes: Fact::of(size(folder)),
        rotational: Fact::of(queue.flag("rotational")),
        scheduler: Fact::of(scheduler(&queue)),
        logical_block_bytes: Fact::of(queue.number("logical_block_size")),
        physical_block_bytes: Fact::of(queue.number("physical_block_size")),
        nr_requests: Fact::of(queue.number("nr_requests")),
        queue_depth: Fact::of(queue_depth(folder, nvme)),
        read_ahead_bytes: Fact::of(read_ahead(&queue)),
        write_cache: Fact::of(queue.line("write_cache")),
        poll_queues: if nvme {
            poll_queues.clone()
        } else {
            Fact::unavailable("only the NVMe driver says how many queues it polls")
        },
        file_systems: Fact::of(mounts.of_device(folder, &name)),
        name,
    }
}

/// The model tells EBS from an instance store; for other kinds the driver's name is enough.
fn kind(name: &str, model: &str) -> BlockKind {
    match model {
        "Amazon Elastic Block Store" => return BlockKind::AwsEbs,
        "Amazon EC2 NVMe Instance Storage" => return BlockKind::AwsInstanceStore,
        _ => {}
    }
    let driver = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match driver {
        "loop" => BlockKind::Loop,
        "zram" => BlockKind::Zram,
        "dm-" => BlockKind::DeviceMapper,
        "md" => BlockKind::Md,
        "nbd" => BlockKind::Nbd,
        _ if name.starts_with("nvme") => BlockKind::Nvme,
        _ if name.starts_with("xvd") => BlockKind::Xen,
        _ if name.starts_with("vd") => BlockKind::Virtio,
        _ if name.starts_with("sd") => BlockKind::Scsi,
        _ => BlockKind::Other,
    }
}

/// EBS volumes report their id as the serial, without its hyphen.
fn ebs_volume_id(folder: &Tree, kind: BlockKind) -> Fact<String> {
    const FILE: &str = "device/serial";
    if kind != BlockKind::AwsEbs {
        return Fact::unavailable("not an EBS volume; other serial numbers are kept private");
    }
    Fact::of(folder.line(FILE).and_then(|serial| {
        let id = serial
            .strip_prefix("vol")
            .map(|id| id.trim_start_matches('-'));
        id.filter(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_hexdigit()))
            .map(|id| format!("vol-{id}"))
            .ok_or_else(|| folder.wrong(FILE, "is no volume id"))
    }))
}

/// sysfs counts sectors of 512 bytes, whatever the device's own unit is.
fn size(folder: &Tree) -> Lookup<u64> {
    let sectors = folder.number::<u64>("size")?;
    sectors
        .checked_mul(512)
        .ok_or_else(|| folder.wrong("size", format!("holds {sectors}, an impossible size")))
}

/// The kernel writes a lone `none` where nothing can be chosen.
fn scheduler(queue: &Tree) -> Lookup<String> {
    queue
        .chosen("scheduler")
        .or_else(|error| match queue.line("scheduler").as_deref() {
            Ok("none") => Ok("none".to_owned()),
            _ => Err(error),
        })
}

fn queue_depth(folder: &Tree, nvme: bool) -> Lookup<u64> {
    if nvme {
        // NVMe counts entries from zero.
        let last = folder.number::<u64>("device/sqsize")?;
        return Ok(last.saturating_add(1));
    }
    folder.number("device/queue_depth")
}

fn read_ahead(queue: &Tree) -> Lookup<u64> {
    let kib = queue.number::<u64>("read_ahead_kb")?;
    Ok(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_names_tell_the_kind() {
        for (name, model, expected) in [
            ("nvme0n1", "Amazon Elastic Block Store", BlockKind::AwsEbs),
            (
                "nvme1n1",
                "Amazon EC2 NVMe Instance Storage",
                BlockKind::AwsInstanceStore,
            ),
            ("nvme2n1", "Samsung SSD 980", BlockKind::Nvme),
            ("xvda", "", BlockKind::Xen),
            ("vdb", "", BlockKind::Virtio),
            ("sdaa", "Virtual disk", BlockKind::Scsi),
            ("dm-0", "", BlockKind::DeviceMapper),
            ("md127", "", BlockKind::Md),
            ("loop3", "", BlockKind::Loop),
            ("mmcblk0", "", BlockKind::Other),
        ] {
            assert_eq!(kind(name, model), expected, "{name}");
        }
    }
}
