//! The other door of an NVMe namespace: its character device `/dev/ngXnY`, which takes commands of
//! the device and knows no block layer. It has no guard of its own, so the block device beside it is
//! what a user's choice is checked by and what stays open, exclusively, as long as commands go.

use crate::spec::usage;
use crate::sys::{Passthrough, nvme};
use crate::target::{BlockDevice, Machine};
use anyhow::Context;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use reports::model::Unavailable;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// A namespace by its block device.
#[derive(Debug)]
pub struct Namespace {
    device: BlockDevice,
}

impl Namespace {
    /// The namespace behind an opened block device.
    ///
    /// # Errors
    /// Why there is none: another kind of device, or a partition.
    pub fn of(machine: &Machine, block: &File) -> anyhow::Result<Self> {
        let found = block.metadata().context("cannot examine the device")?;
        anyhow::ensure!(
            found.file_type().is_block_device(),
            "only block devices have namespaces behind them"
        );
        let device = machine
            .block_device(found.rdev())
            .map_err(anyhow::Error::msg)?;
        if generic_name(&device.name).is_none() {
            return Err(usage(format!(
                "--uring-cmd: {} is not a whole NVMe namespace, as /dev/nvmeXnY is",
                device.name
            )));
        }
        Ok(Self { device })
    }

    /// Opens the character device, for no more than the block device was opened for. `largest` are
    /// the bytes of the largest command.
    ///
    /// # Errors
    /// What is missing, or a command that the device cannot take.
    pub fn open(&self, block: &File, largest: usize) -> anyhow::Result<File> {
        let most = self.device.queue_value("max_hw_sectors_kb");
        let most = most.and_then(|kib| kib.parse::<usize>().ok());
        if let Some(kib) = most.filter(|&kib| largest > kib << 10) {
            return Err(usage(format!(
                "--bs {largest}: {} takes commands of at most {kib} KiB, and passthrough splits \
                 none; lower --bs or leave --uring-cmd out",
                self.device.name
            )));
        }
        let flags = OFlag::from_bits_retain(fcntl(block, FcntlArg::F_GETFL)?);
        let writes = flags.intersects(OFlag::O_RDWR | OFlag::O_WRONLY);
        let path = self.path();
        let opened = OpenOptions::new().read(true).write(writes).open(&path);
        opened.map_err(|error| {
            Unavailable(format!(
                "passthrough through {}: {error}; it takes a kernel of 5.19 or newer, and root",
                path.display()
            ))
            .into()
        })
    }

    /// How its commands are written.
    ///
    /// # Errors
    /// What the kernel does not say of it.
    pub fn form(&self, generic: &File) -> anyhow::Result<Passthrough> {
        let path = self.path();
        let namespace = nvme::namespace_of(generic)
            .with_context(|| format!("{} names no namespace", path.display()))?;
        let block = self
            .device
            .logical_block
            .filter(|size| size.is_power_of_two());
        let block = block
            .with_context(|| format!("sysfs has no logical_block_size of {}", self.device.name))?;
        Ok(Passthrough {
            namespace,
            block_shift: block.trailing_zeros(),
        })
    }

    fn path(&self) -> PathBuf {
        let name = generic_name(&self.device.name);
        PathBuf::from("/dev").join(name.expect("checked when it was found"))
    }
}

/// `ng0n1` for `nvme0n1`, and nothing for partitions and other devices.
fn generic_name(block: &str) -> Option<String> {
    let numbers = block.strip_prefix("nvme")?;
    let (controller, namespace) = numbers.split_once('n')?;
    let whole = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (whole(controller) && whole(namespace)).then(|| format!("ng{numbers}"))
}

/// `nvme0n1` for `ng0n1`: the block device by which the use of a namespace is checked.
#[must_use]
pub fn block_name(generic: &str) -> Option<String> {
    let block = format!("nvme{}", generic.strip_prefix("ng")?);
    generic_name(&block).map(|_| block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reports::program::Usage;

    #[test]
    fn block_and_character_devices_are_known_by_their_numbers() {
        assert_eq!(generic_name("nvme0n1").as_deref(), Some("ng0n1"));
        assert_eq!(generic_name("nvme12n34").as_deref(), Some("ng12n34"));
        for name in ["nvme0n1p1", "nvme0", "nvme0c0n1", "sda", "zram0", "nvmen"] {
            assert_eq!(generic_name(name), None, "{name}");
        }
        assert_eq!(block_name("ng0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(block_name("nvme0n1"), None);
        assert_eq!(block_name("ngp1"), None);
    }

    #[test]
    fn a_file_has_no_namespace() {
        let file = tempfile::tempfile().expect("a file");
        let error = Namespace::of(&Machine::default(), &file).expect_err("a file");
        assert!(error.to_string().contains("only block devices"), "{error}");
    }

    #[test]
    fn commands_that_the_device_cannot_take_are_wrong_usage() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("queue")).expect("a folder");
        std::fs::write(root.path().join("queue/max_hw_sectors_kb"), "128\n").expect("a file");
        let namespace = Namespace {
            device: BlockDevice {
                name: "nvme99n99".to_owned(),
                number: "259:0".to_owned(),
                bytes: 0,
                logical_block: Some(512),
                folder: root.path().to_owned(),
            },
        };
        let file = tempfile::tempfile().expect("a file");
        let error = namespace.open(&file, 256 << 10).expect_err("too large");
        assert!(error.downcast_ref::<Usage>().is_some(), "{error}");
        assert!(error.to_string().contains("at most 128 KiB"), "{error}");
        let error = namespace.open(&file, 128 << 10).expect_err("not there");
        assert!(error.downcast_ref::<Unavailable>().is_some(), "{error}");
        assert!(error.to_string().contains("/dev/ng99n99"), "{error}");
    }
}
