//! Which file system is mounted from which device, from /proc/self/mountinfo.
//!
//! A mount is matched by its device number, or by its source's name for file systems such as btrfs
//! that mount under a number of their own. Bind mounts repeat a file system; one entry stands for
//! all of its mounts, that of its root where there is one.

use super::tree::{Lookup, Tree, Unreadable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileSystem {
    /// The device or partition that holds it.
    pub device: String,
    /// Its type, for example ext4.
    pub file_system: String,
    /// Where it is mounted.
    pub mount_point: String,
    /// Options of this mount.
    pub mount_options: String,
    /// Options of the file system itself.
    pub super_options: String,
}

/// Every mount that this process sees.
pub(super) struct Mounts(Lookup<Vec<Mount>>);

struct Mount {
    device_number: String,
    root: String,
    mount_point: String,
    options: String,
    file_system: String,
    source: String,
    super_options: String,
}

impl Mounts {
    pub(super) fn read(proc: &Tree) -> Self {
        let text = proc.text("self/mountinfo");
        Self(text.map(|text| text.lines().filter_map(Mount::parse).collect()))
    }

    /// What is mounted from a device, of which `folder` is the sysfs folder, or its partitions.
    pub(super) fn of_device(&self, folder: &Tree, name: &str) -> Lookup<Vec<FileSystem>> {
        let mounts = self.0.as_ref().map_err(Unreadable::clone)?;
        let partitions = folder
            .names("")?
            .into_iter()
            .filter(|entry| folder.exists(&format!("{entry}/partition")));
        let mut found = Vec::new();
        for device in std::iter::once(name.to_owned()).chain(partitions) {
            let number = if device == name {
                folder.line("dev")
            } else {
                folder.line(format!("{device}/dev"))
            };
            found.extend(mounted_from(mounts, number.ok().as_deref(), device));
        }
        Ok(found)
    }
}

fn mounted_from(mounts: &[Mount], number: Option<&str>, device: String) -> Option<FileSystem> {
    let path = format!("/dev/{device}");
    let of_device: Vec<_> = mounts
        .iter()
        .filter(|mount| Some(mount.device_number.as_str()) == number || mount.source == path)
        .collect();
    let mount = of_device
        .iter()
        .find(|mount| mount.root == "/")
        .or(of_device.first())?;
    Some(FileSystem {
        device,
        file_system: mount.file_system.clone(),
        mount_point: mount.mount_point.clone(),
        mount_options: mount.options.clone(),
        super_options: mount.super_options.clone(),
    })
}

impl Mount {
    /// One line: id, parent, device number, root, mount point, options, optional fields, a lone
    /// hyphen, type, source, options of the file system.
    fn parse(line: &str) -> Option<Self> {
        let (mount, rest) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut rest = rest.split(' ');
        Some(Self {
            device_number: mount.next()?.to_owned(),
            root: unescape(mount.next()?),
            mount_point: unescape(mount.next()?),
            options: mount.next()?.to_owned(),
            file_system: rest.next()?.to_owned(),
            source: unescape(rest.next()?),
            super_options: rest.next()?.to_owned(),
        })
    }
}

/// The kernel writes blanks and backslashes of a name as three octal digits.
fn unescape(name: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(name.to_owned(), |name, (octal, text)| {
        name.replace(octal, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_stands_for_a_file_system_and_its_bind_mounts() {
        let lines = [
            "36 35 259:1 /etc/hosts /etc/hosts rw,relatime - xfs /dev/nvme0n1p1 rw",
            "22 1 259:1 / /my\\040data rw,noatime shared:1 master:2 - xfs /dev/nvme0n1p1 rw,attr2",
            "23 1 0:40 /@ /vol rw - btrfs /dev/sdb rw,compress=zstd",
            "garbage",
        ];
        let mounts: Vec<_> = lines.into_iter().filter_map(Mount::parse).collect();
        let found = mounted_from(&mounts, Some("259:1"), "nvme0n1p1".into()).expect("mounted");
        assert_eq!(found.mount_point, "/my data");
        assert_eq!(found.super_options, "rw,attr2");
        let btrfs = mounted_from(&mounts, Some("8:16"), "sdb".into()).expect("mounted");
        assert_eq!(btrfs.mount_options, "rw");
        assert!(mounted_from(&mounts, None, "sdc".into()).is_none());
    }
}
