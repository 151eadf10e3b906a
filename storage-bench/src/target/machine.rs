//! What the kernel says of block devices, mounts and memory, read below roots that tests replace.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the kernel's files are.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

/// A block device, whole or a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// The kernel's name: `nvme0n1p1`.
    pub name: String,
    /// Major and minor number: `259:1`.
    pub number: String,
    /// Size in bytes.
    pub bytes: u64,
    /// The unit of direct I/O in bytes.
    pub logical_block: Option<u64>,
    /// Its folder in sysfs.
    pub folder: PathBuf,
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) number: String,
    pub(super) point: PathBuf,
    pub(super) kind: String,
    /// What is mounted: a device's name where it has one.
    pub(super) source: String,
}

impl Mount {
    /// The number of the block device that the source names.
    pub(super) fn source_number(&self) -> Option<String> {
        let source = Path::new(&self.source)
            .is_absolute()
            .then_some(&self.source)?;
        let found = fs::metadata(source).ok()?;
        let is_device = found.file_type().is_block_device();
        is_device.then(|| number(found.rdev()))
    }
}

/// A device's number as the kernel's files write it: `259:1`.
pub(super) fn number(device: u64) -> String {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    format!("{major}:{minor}")
}

impl Machine {
    /// A block device by its number.
    ///
    /// # Errors
    /// Why sysfs does not know it.
    pub fn block_device(&self, device: u64) -> Result<BlockDevice, String> {
        let link = self.sys.join("dev/block").join(number(device));
        self.device_in(&link)
    }

    /// The block device that a folder of sysfs, or a link to one, is about.
    ///
    /// # Errors
    /// Why sysfs does not know it.
    pub(super) fn device_in(&self, folder: &Path) -> Result<BlockDevice, String> {
        let folder = folder
            .canonicalize()
            .map_err(|error| format!("no block device in {}: {error}", folder.display()))?;
        let name = folder.file_name().unwrap_or_default();
        let sectors: u64 = read(&folder.join("size"))?
            .parse()
            .map_err(|error| format!("{}/size: {error}", folder.display()))?;
        Ok(BlockDevice {
            name: name.to_string_lossy().into_owned(),
            number: read(&folder.join("dev"))?,
            bytes: sectors * crate::spec::SECTOR,
            logical_block: queue_value(&folder, "logical_block_size")
                .and_then(|text| text.parse().ok())
                .filter(|&bytes| bytes > 0),
            folder,
        })
    }

    /// The disk that a partition is part of; `None` for what is no partition.
    pub(super) fn disk_of(&self, device: &BlockDevice) -> Option<BlockDevice> {
        let is_partition = device.folder.join("partition").exists();
        let disk = device.folder.parent().filter(|_| is_partition)?;
        self.device_in(disk).ok()
    }

    /// The partitions of a disk, by name.
    pub(super) fn partitions(&self, disk: &BlockDevice) -> Vec<BlockDevice> {
        let entries = fs::read_dir(&disk.folder).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter(|entry| entry.path().join("partition").exists())
            .filter_map(|entry| self.device_in(&entry.path()).ok())
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// All mounts that this process sees.
    pub(super) fn mounts(&self) -> Result<Vec<Mount>, String> {
        let text = read(&self.proc.join("self/mountinfo"))?;
        Ok(text.lines().filter_map(parse_mount).collect())
    }

    /// The type of the file system that a path lies in.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn file_system(&self, path: &Path) -> Result<String, String> {
        let real = path
            .canonicalize()
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mounts = self.mounts()?;
        // Of several mounts on one point the last one is visible.
        let innermost = mounts
            .iter()
            .filter(|mount| real.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count());
        innermost
            .map(|mount| mount.kind.clone())
            .ok_or_else(|| format!("no mount in mountinfo holds {}", real.display()))
    }

    /// The type of the file system with this device number, if a mount in sight has it (those of
    /// btrfs subvolumes are in no mount).
    pub(super) fn kind_of(&self, device: u64) -> Option<String> {
        let number = number(device);
        let mounts = self.mounts().ok()?;
        let mount = mounts.into_iter().find(|mount| mount.number == number)?;
        Some(mount.kind)
    }

    /// The machine's memory in bytes.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn memory_bytes(&self) -> Result<u64, String> {
        self.meminfo("MemTotal:")
    }

    /// Memory that could be had without swapping, in bytes.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn available_bytes(&self) -> Result<u64, String> {
        self.meminfo("MemAvailable:")
    }

    fn meminfo(&self, field: &str) -> Result<u64, String> {
        let text = read(&self.proc.join("meminfo"))?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| format!("/proc/meminfo has no usable {field}"))
    }
}

impl BlockDevice {
    /// A file of its queue, for a partition of its disk's.
    #[must_use]
    pub fn queue_value(&self, file: &str) -> Option<String> {
        queue_value(&self.folder, file)
    }

    /// What the report says of it.
    #[must_use]
    pub fn facts(&self) -> Value {
        let known = |found: Option<Value>, what: &str| {
            let reason = || json!({"unavailable": format!("sysfs has no {what} of {}", self.name)});
            found.filter(|value| value != "").unwrap_or_else(reason)
        };
        let rotational =
            queue_value(&self.folder, "rotational").map(|text| Value::from(text == "1"));
        // The one in brackets is in force: `[none] mq-deadline`.
        let scheduler = queue_value(&self.folder, "scheduler").map(|text| {
            let chosen = text.split(['[', ']']).nth(1).map(str::to_owned);
            Value::from(chosen.unwrap_or(text))
        });
        let model = whole_disk_value(&self.folder, "device/model").map(Value::from);
        let block = self.logical_block.map(Value::from);
        json!({
            "name": self.name,
            "number": self.number,
            "model": known(model, "model"),
            "rotational": known(rotational, "rotational"),
            "scheduler": known(scheduler, "scheduler"),
            "logical_block_bytes": known(block, "logical_block_size"),
        })
    }
}

/// A file of the device, or, for a partition, of its disk.
fn whole_disk_value(folder: &Path, file: &str) -> Option<String> {
    let of_disk = || read(&folder.parent()?.join(file)).ok();
    read(&folder.join(file)).ok().or_else(of_disk)
}

fn queue_value(folder: &Path, file: &str) -> Option<String> {
    whole_disk_value(folder, &format!("queue/{file}"))
}

pub(super) fn read(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// `36 35 98:0 /root /point options - type source options`, with optional fields before the dash.
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let number = fields.next()?.to_owned();
    let point = unescape(fields.nth(1)?);
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let source = after.next().map(unescape).unwrap_or_default();
    Some(Mount {
        number,
        point: point.into(),
        kind,
        source,
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits: `\040`.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_escapes_and_the_innermost_counts() {
        let root = tempfile::tempdir().expect("a folder");
        let inner = root.path().join("a b/c");
        fs::create_dir_all(&inner).expect("folders");
        let outer = root.path().canonicalize().expect("a folder");
        let point = outer
            .join("a b")
            .display()
            .to_string()
            .replace(' ', "\\040");
        fs::create_dir_all(root.path().join("proc/self")).expect("folders");
        let text = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             2 1 8:2 / {point} rw,noatime shared:1 master:2 - tmpfs tmpfs rw\n\
             3 1 8:3 / {point} rw - xfs /dev/sda3 rw\nnonsense\n"
        );
        fs::write(root.path().join("proc/self/mountinfo"), text).expect("a file");
        let machine = Machine {
            proc: root.path().join("proc"),
            sys: root.path().join("sys"),
        };
        assert_eq!(machine.file_system(&inner), Ok("xfs".to_owned()));
        assert_eq!(machine.file_system(&outer), Ok("ext4".to_owned()));
        assert!(machine.file_system(Path::new("/absent")).is_err());
        assert!(machine.memory_bytes().is_err());
    }

    #[test]
    fn partitions_take_their_disk_s_queue_and_unknowns_say_so() {
        let root = tempfile::tempdir().expect("a folder");
        let disk = root.path().join("devices/nvme9n1");
        let partition = disk.join("nvme9n1p1");
        fs::create_dir_all(disk.join("queue")).expect("folders");
        fs::create_dir_all(&partition).expect("folders");
        fs::create_dir_all(root.path().join("dev/block")).expect("folders");
        fs::write(partition.join("size"), "8\n").expect("a file");
        fs::write(partition.join("dev"), "259:1\n").expect("a file");
        fs::write(disk.join("queue/logical_block_size"), "4096\n").expect("a file");
        fs::write(disk.join("queue/scheduler"), "none [mq-deadline]\n").expect("a file");
        std::os::unix::fs::symlink(&partition, root.path().join("dev/block/259:1"))
            .expect("a link");
        let machine = Machine {
            proc: root.path().join("proc"),
            sys: root.path().to_owned(),
        };
        let device = machine
            .block_device(nix::sys::stat::makedev(259, 1))
            .expect("it is there");
        assert_eq!((device.bytes, device.logical_block), (4096, Some(4096)));
        let facts = device.facts();
        assert_eq!(facts["scheduler"], "mq-deadline");
        assert!(facts["model"]["unavailable"].is_string());
        assert!(machine.block_device(nix::sys::stat::makedev(9, 9)).is_err());
    }
}
