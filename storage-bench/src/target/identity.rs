//! The name by which a user says which device may be destroyed. Names under /dev change with the
//! order in which disks are found; this one belongs to the device.

use super::machine::{BlockDevice, Machine, read};
use std::fs;
use std::path::Path;

/// What `--destroy` must name: the disk's serial number (with `-nsN` for further namespaces of one
/// NVMe controller), a loop device's file, a device mapper's name, a world-wide id, or, for
/// devices that have none of these (zram, null_blk), name and size; for a partition that of its
/// disk with `-partN`.
#[must_use]
pub fn identity(machine: &Machine, device: &BlockDevice) -> String {
    if let (Some(disk), Ok(number)) = (
        machine.disk_of(device),
        read(&device.folder.join("partition")),
    ) {
        return format!("{}-part{number}", identity(machine, &disk));
    }
    let folder = &device.folder;
    let text = |file: &str| {
        read(&folder.join(file))
            .ok()
            .filter(|text| !text.is_empty())
    };
    text("loop/backing_file")
        .or_else(|| text("dm/name"))
        .or_else(|| serial(folder))
        .or_else(|| text("wwid"))
        .or_else(|| text("device/wwid"))
        .unwrap_or_else(|| format!("{}:{}", device.name, device.bytes))
}

/// The serial number, as lsblk shows it.
fn serial(folder: &Path) -> Option<String> {
    let text = |file: &str| {
        read(&folder.join(file))
            .ok()
            .filter(|text| !text.is_empty())
    };
    let serial = text("serial")
        .or_else(|| text("device/serial"))
        .or_else(|| vital_product_data(folder))?;
    // Namespaces of one controller have one serial number.
    match text("nsid").as_deref() {
        None | Some("1") => Some(serial),
        Some(further) => Some(format!("{serial}-ns{further}")),
    }
}

/// SCSI's unit serial number: page 0x80, whose text begins after four bytes.
fn vital_product_data(folder: &Path) -> Option<String> {
    let page = fs::read(folder.join("device/vpd_pg80")).ok()?;
    let text = String::from_utf8_lossy(page.get(4..)?).into_owned();
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether what was typed names the device. EBS volumes may have the hyphen of the console, which
/// their serial number lacks.
#[must_use]
pub fn names(identity: &str, typed: &str) -> bool {
    let plain = |text: &str| match text.strip_prefix("vol-") {
        Some(rest) => format!("vol{rest}"),
        None => text.to_owned(),
    };
    plain(typed) == plain(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn put(&self, file: &str, text: &[u8]) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            fs::write(path, text).expect("a file");
        }

        fn identity(&self, folder: &str) -> String {
            let folder: PathBuf = self.0.path().join(folder);
            let machine = Machine {
                proc: self.0.path().join("proc"),
                sys: self.0.path().join("sys"),
            };
            let device = machine.device_in(&folder).expect("a device");
            identity(&machine, &device)
        }
    }

    #[test]
    fn each_kind_of_device_has_a_name_of_its_own() {
        let tree = Tree::new();
        let cases: [(&str, &str, &[u8], &str); 7] = [
            ("nvme0n1", "device/serial", b"vol0abc  \n", "vol0abc"),
            ("vda", "serial", b"17566319247727820", "17566319247727820"),
            ("sda", "device/vpd_pg80", b"\0\x80\0\x08WD-1234 ", "WD-1234"),
            ("sdb", "device/wwid", b"naa.5000c500", "naa.5000c500"),
            (
                "loop0",
                "loop/backing_file",
                b"/images/a b\n",
                "/images/a b",
            ),
            ("dm-0", "dm/name", b"vg-scratch\n", "vg-scratch"),
            ("zram3", "disksize", b"1048576\n", "zram3:4096"),
        ];
        for (name, file, content, expected) in cases {
            let folder = format!("sys/devices/{name}");
            tree.put(&format!("{folder}/size"), b"8\n");
            tree.put(&format!("{folder}/dev"), b"250:0\n");
            tree.put(&format!("{folder}/{file}"), content);
            assert_eq!(tree.identity(&folder), expected);
        }
        // A second namespace, and a partition.
        tree.put("sys/devices/nvme0n1/nsid", b"2\n");
        assert_eq!(tree.identity("sys/devices/nvme0n1"), "vol0abc-ns2");
        tree.put("sys/devices/vda/vda3/partition", b"3\n");
        tree.put("sys/devices/vda/vda3/size", b"8\n");
        tree.put("sys/devices/vda/vda3/dev", b"250:3\n");
        assert_eq!(
            tree.identity("sys/devices/vda/vda3"),
            "17566319247727820-part3"
        );
    }

    #[test]
    fn a_volume_may_be_written_as_the_console_writes_it() {
        assert!(names("vol0abc", "vol-0abc") && names("vol0abc", "vol0abc"));
        assert!(!names("vol0abc", "vol0abd") && !names("vol0abc", "vol") && !names("a", ""));
    }
}
