//! What the kernel says of block devices, mounts and memory, read below roots that tests replace.

use serde_json::{Value, json};
use std::fs;
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
}

impl Machine {
    /// A block device by its number.
    ///
    /// # Errors
    /// Why sysfs does not know it.
    pub fn block_device(&self, device: u64) -> Result<BlockDevice, String> {
        let number = format!(
            "{}:{}",
            nix::sys::stat::major(device),
            nix::sys::stat::minor(device)
        );
        let link = self.sys.join("dev/block").join(&number);
        let folder = link
            .canonicalize()
            .map_err(|error| format!("no block device in {}: {error}", link.display()))?;
        let name = folder.file_name().unwrap_or_default();
        let sectors: u64 = read(&folder.join("size"))?
            .parse()
            .map_err(|error| format!("{}/size: {error}", folder.display()))?;
        Ok(BlockDevice {
            name: name.to_string_lossy().into_owned(),
            number,
            bytes: sectors * crate::spec::SECTOR,
            logical_block: queue_value(&folder, "logical_block_size")
                .and_then(|text| text.parse().ok())
                .filter(|&bytes| bytes > 0),
            folder,
        })
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
    /// What the report says of it.
    #[must_use]
    pub fn facts(&self) -> Value {
        let text = |found: Option<String>, what: &str| match found {
            Some(text) if !text.is_empty() => Value::from(text),
            _ => json!({"unavailable": format!("sysfs has no {what} of {}", self.name)}),
        };
        let rotational = queue_value(&self.folder, "rotational").map(|text| text == "1");
        // The one in brackets is in force: `[none] mq-deadline`.
        let scheduler = queue_value(&self.folder, "scheduler").map(|text| {
            let chosen = text.split(['[', ']']).nth(1).map(str::to_owned);
            chosen.unwrap_or(text)
        });
        json!({
            "name": self.name,
            "number": self.number,
            "model": text(whole_disk_value(&self.folder, "device/model"), "model"),
            "rotational": rotational,
            "scheduler": text(scheduler, "scheduler"),
            "logical_block_bytes": self.logical_block,
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
    let kind = after.split(' ').next()?.to_owned();
    Some(Mount {
        number,
        point: point.into(),
        kind,
    })
}

/// The kernel writes blanks and backslashes in paths as three octal digits: `\040`.
pub(super) fn unescape(text: &str) -> String {
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
