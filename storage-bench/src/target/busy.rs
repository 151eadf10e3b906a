//! Why a block device is in use. The kernel only says EBUSY, where users want the mount point; and
//! it says nothing at all of a device that is the ground under a loop device, or of two loop
//! devices over one file.

use super::machine::{BlockDevice, Machine, Mount, read, unescape};
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything that the kernel's files know to hold the device, a part of it or the whole that it is
/// a part of: what makes the kernel say EBUSY.
pub(super) fn holders(machine: &Machine, device: &BlockDevice) -> Vec<String> {
    let mut found = held(machine, device);
    for partition in machine.partitions(device) {
        let held = held(machine, &partition);
        found.extend(
            held.into_iter()
                .map(|why| format!("its partition {} is {why}", partition.name)),
        );
    }
    if let Some(disk) = machine.disk_of(device) {
        let held = held(machine, &disk);
        found.extend(
            held.into_iter()
                .map(|why| format!("its disk {} is {why}", disk.name)),
        );
    }
    found
}

/// Everything besides that which writing to the device would pull the ground from under.
pub(super) fn dependants(machine: &Machine, device: &BlockDevice) -> Vec<String> {
    let mut found = Vec::new();
    if roots(machine).contains(&device.number) {
        found.push("it holds the root file system".to_owned());
    }
    let parts = machine.partitions(device);
    let whole = machine.disk_of(device);
    let related: Vec<&BlockDevice> = std::iter::once(device)
        .chain(&parts)
        .chain(&whole)
        .collect();
    let loops = loops(machine);
    for (over, backing) in &loops {
        let Ok(ground) = fs::metadata(backing) else {
            continue;
        };
        let under = ground.file_type().is_block_device()
            && related
                .iter()
                .any(|part| part.number == number(ground.rdev()));
        if under {
            found.push(format!("the loop device {} lies over it", over.name));
        }
    }
    found.extend(under_a_loop(machine, device, &loops));
    found
}

/// For a loop device: what else lives from the file or device that it lies over.
fn under_a_loop(
    machine: &Machine,
    device: &BlockDevice,
    loops: &[(BlockDevice, PathBuf)],
) -> Vec<String> {
    let whole = machine.disk_of(device).unwrap_or_else(|| device.clone());
    let own = loops.iter().find(|(over, _)| over.number == whole.number);
    let Some((_, backing)) = own else {
        return Vec::new();
    };
    let lies_over = format!("it lies over {}", backing.display());
    // Absent where the file was deleted since, and has only its name.
    let ground = fs::metadata(backing).ok();
    if let Some(ground) = &ground
        && ground.file_type().is_block_device()
    {
        let Ok(below) = machine.block_device(ground.rdev()) else {
            return vec![format!("{lies_over}, of which nothing is known")];
        };
        let mut reasons = holders(machine, &below);
        if roots(machine).contains(&below.number) {
            reasons.push("the ground of the root file system".to_owned());
        }
        let reasons = reasons.into_iter();
        return reasons.map(|why| format!("{lies_over}: {why}")).collect();
    }
    let same_file = |other: &Path| {
        let file = |found: &Metadata| (found.dev(), found.ino());
        let of_other = fs::metadata(other).ok();
        other == backing
            || (of_other.is_some() && of_other.as_ref().map(file) == ground.as_ref().map(file))
    };
    let mut found = Vec::new();
    for (other, file) in loops {
        if other.number != whole.number && same_file(file) {
            let reasons = holders(machine, other).into_iter();
            found.extend(reasons.map(|why| format!("{lies_over}, as does {}: {why}", other.name)));
        }
    }
    if swaps(machine).iter().any(|swap| same_file(Path::new(swap))) {
        found.push(format!("{lies_over}, which is used for swapping"));
    }
    found
}

/// The devices that hold the root file system: the one that is mounted, those below it, and the
/// disks of all these.
fn roots(machine: &Machine) -> Vec<String> {
    let mounts = machine.mounts().unwrap_or_default();
    let mut wanted: Vec<String> = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.point == Path::new("/")) {
        wanted.push(mount.number.clone());
        wanted.extend(mount.source_number());
    }
    let mut found = Vec::new();
    while let Some(number) = wanted.pop() {
        if found.contains(&number) {
            continue;
        }
        if let Ok(device) = machine.device_in(&machine.sys.join("dev/block").join(&number)) {
            let below = fs::read_dir(device.folder.join("slaves"))
                .into_iter()
                .flatten()
                .flatten();
            let below = below.filter_map(|slave| read(&slave.path().join("dev")).ok());
            wanted.extend(below);
            wanted.extend(machine.disk_of(&device).map(|disk| disk.number));
        }
        found.push(number);
    }
    found
}

/// All loop devices that are set up, with what they lie over.
fn loops(machine: &Machine) -> Vec<(BlockDevice, PathBuf)> {
    let entries = fs::read_dir(machine.sys.join("block"))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let backing = read(&entry.path().join("loop/backing_file")).ok()?;
            Some((machine.device_in(&entry.path()).ok()?, backing.into()))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    found
}

fn swaps(machine: &Machine) -> Vec<String> {
    let swaps = read(&machine.proc.join("swaps")).unwrap_or_default();
    let names = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    names.map(unescape).collect()
}

/// What holds this very device.
fn held(machine: &Machine, device: &BlockDevice) -> Vec<String> {
    let mut found = Vec::new();
    for mount in machine.mounts().unwrap_or_default() {
        if mount.number == device.number || source_is(&mount, device) {
            found.push(format!(
                "mounted on {} as {}",
                mount.point.display(),
                mount.kind
            ));
        }
    }
    for swap in swaps(machine) {
        let real = fs::canonicalize(&swap).unwrap_or_else(|_| swap.clone().into());
        if real
            .file_name()
            .is_some_and(|file| file.to_string_lossy() == device.name)
        {
            found.push(format!("used for swapping as {swap}"));
        }
    }
    for holder in fs::read_dir(device.folder.join("holders"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let folder = holder.path();
        let name = holder.file_name().to_string_lossy().into_owned();
        match read(&folder.join("dm/name")) {
            Ok(mapped) => found.push(format!("part of {name} ({mapped})")),
            Err(_) => found.push(format!("part of {name}")),
        }
    }
    found
}

/// File systems over several devices (btrfs) have numbers of their own and name a device instead.
fn source_is(mount: &Mount, device: &BlockDevice) -> bool {
    mount
        .source_number()
        .is_some_and(|number| number == device.number)
}

fn number(device: u64) -> String {
    super::machine::number(device)
}

#[cfg(test)]
mod tests;
