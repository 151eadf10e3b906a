//! Block devices: which may be used, and which may be destroyed.
//!
//! Everything is decided by the device's number, of what was pinned and then again of what was
//! opened and is held; a name that changes its meaning in between changes nothing.

use super::busy;
use super::folder::{name_of, pin};
use super::identity::{identity, names};
use super::machine::{BlockDevice, Machine, read};
use super::signature::{self, Window};
use crate::spec::{Rw, human, usage};
use reports::model::Unavailable;
use serde_json::{Value, json};
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a device may still be held by a process that has just ended: the kernel tears an
/// io_uring down some time after its last descriptor was closed.
const LINGERING: Duration = Duration::from_secs(1);

/// What a run wants of a device.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The device as the user named it.
    pub path: &'a Path,
    /// What is done.
    pub rw: Rw,
    /// What the user allows to be destroyed.
    pub destroy: Option<&'a str>,
    /// Flags to open it with besides: `O_DSYNC`, `O_SYNC`.
    pub flags: i32,
}

/// A device that is held.
#[derive(Debug)]
pub struct Held {
    /// Opened exclusively, and not for direct I/O.
    pub file: File,
    /// What is about to be destroyed, for the report.
    pub destroyed: Option<Value>,
}

/// Whether something of the target changes. Names what does not, so that whatever else is ever
/// added counts as destroying.
#[must_use]
pub fn changes(rw: Rw) -> bool {
    !matches!(rw, Rw::Read | Rw::Randread)
}

impl Wish<'_> {
    fn refused(&self, why: &str) -> anyhow::Error {
        usage(format!("--device {}: {why}", self.path.display()))
    }

    /// Judges the device without holding it. Returns its size.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: why it cannot be the target, and what to do.
    pub fn inspect(&self) -> anyhow::Result<u64> {
        let pinned = pin(self.path).map_err(|error| self.refused(&error.to_string()))?;
        let device = self.judge(&pinned)?;
        if changes(self.rw) {
            // Without permission to look there is none to write: that is told at the opening.
            if let Ok(file) = File::open(name_of(&pinned)) {
                self.permit(&file, &device)?;
            }
        }
        Ok(device.bytes)
    }

    /// Takes the device for this process alone, and judges what it got.
    ///
    /// # Errors
    /// As for `inspect`, and what the kernel says; [`Unavailable`] without the permission.
    pub fn hold(&self) -> anyhow::Result<Held> {
        let pinned = pin(self.path).map_err(|error| self.refused(&error.to_string()))?;
        self.judge(&pinned)?;
        let mut file = self.claim(&pinned)?;
        let device = self.judge(&file)?;
        let bytes = file.seek(SeekFrom::End(0)).unwrap_or(0);
        anyhow::ensure!(
            bytes == device.bytes,
            "{} has {bytes} bytes and sysfs says {}: it changes at this moment; try again",
            self.path.display(),
            device.bytes
        );
        let destroyed = match changes(self.rw) {
            true => Some(self.permit(&file, &device)?),
            false => None,
        };
        Ok(Held { file, destroyed })
    }

    /// Everything that can be told of a device from its number.
    fn judge(&self, file: &File) -> anyhow::Result<BlockDevice> {
        let machine = Machine::default();
        let found = file
            .metadata()
            .map_err(|error| self.refused(&error.to_string()))?;
        let kind = found.file_type();
        if kind.is_char_device()
            && let Some(block) = block_of_generic(&machine, found.rdev())
        {
            let why = format!(
                "it is the generic character device of {block}; name /dev/{block}, so that it can \
                 be held exclusively"
            );
            return Err(self.refused(&why));
        }
        if !kind.is_block_device() {
            let what = format!(
                "it is {}, not a block device; `lsblk` lists those",
                kind_name(kind)
            );
            return Err(self.refused(&what));
        }
        let device = machine
            .block_device(found.rdev())
            .map_err(|error| self.refused(&error))?;
        if device.bytes == 0 {
            return Err(self.refused("its size is 0: it is not set up, or has no medium"));
        }
        let mut reasons = busy::holders(&machine, &device);
        if changes(self.rw) {
            reasons.extend(busy::dependants(&machine, &device));
            if read(&device.folder.join("ro")).is_ok_and(|text| text != "0") {
                return Err(self.refused("it is read-only (blockdev --getro); use --rw randread"));
            }
        }
        match reasons.is_empty() {
            true => Ok(device),
            false => Err(self.refused(&format!("it is in use: {}", reasons.join("; ")))),
        }
    }

    /// Opens what was pinned so that nobody else can hold it, mount it or swap to it.
    fn claim(&self, pinned: &File) -> anyhow::Result<File> {
        let started = Instant::now();
        loop {
            let opened = OpenOptions::new()
                .read(true)
                .write(changes(self.rw))
                .custom_flags(libc::O_EXCL | libc::O_NONBLOCK | self.flags)
                .open(name_of(pinned));
            let error = match opened {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            if busy && started.elapsed() < LINGERING {
                std::thread::sleep(LINGERING / 20);
                // What has come to hold it meanwhile can be named.
                self.judge(pinned)?;
                continue;
            }
            return Err(self.not_claimed(&error));
        }
    }

    fn not_claimed(&self, error: &io::Error) -> anyhow::Error {
        let path = self.path.display();
        match error.raw_os_error() {
            Some(libc::EBUSY) => anyhow::anyhow!(
                "cannot have {path} for itself alone: it is in use (by another process that opened \
                 it exclusively, or in another mount namespace)"
            ),
            Some(libc::EACCES | libc::EPERM) => Unavailable(format!(
                "opening {path}: {error}; it takes root, or membership in the device's group"
            ))
            .into(),
            _ => anyhow::anyhow!("cannot open {path}: {error}"),
        }
    }

    /// Whether the user has named this very device and everything that is recognised on it.
    fn permit(&self, file: &File, device: &BlockDevice) -> anyhow::Result<Value> {
        let machine = Machine::default();
        let found = self.signatures(file, 0, device.bytes)?;
        let name = identity(&machine, device);
        let wanted = match found.is_empty() {
            true => name.clone(),
            false => format!("{name}:{}", found.join(",")),
        };
        let loss = || -> anyhow::Result<String> {
            let on_it = self.on_it(&machine, file, device, &found)?;
            Ok(format!(
                "writing to it destroys what is on it: {}, {}, {on_it}; if that may be lost, say \
                 --destroy={}",
                model(device),
                human(device.bytes),
                quoted(&wanted)
            ))
        };
        let Some(typed) = self.destroy else {
            return Err(self.refused(&loss()?));
        };
        let (typed_name, typed_signatures) = split(&name, typed);
        if !names(&name, typed_name) {
            let why = format!("--destroy={typed} names another device; {}", loss()?);
            return Err(self.refused(&why));
        }
        if let Some(unknown) = typed_signatures
            .iter()
            .find(|word| !signature::is_known(word))
        {
            let why = format!(
                "--destroy={typed}: {unknown:?} is no signature; {}",
                loss()?
            );
            return Err(self.refused(&why));
        }
        if found
            .iter()
            .any(|signature| !typed_signatures.contains(signature))
        {
            let why = format!(
                "--destroy={typed} does not name all that is on it; {}",
                loss()?
            );
            return Err(self.refused(&why));
        }
        let mut destroyed = json!({"device": name});
        if !found.is_empty() {
            destroyed["signatures"] = json!(found);
        }
        Ok(destroyed)
    }

    fn signatures(&self, file: &File, start: u64, bytes: u64) -> anyhow::Result<Vec<&'static str>> {
        let window = Window { file, start, bytes };
        signature::find(&window).map_err(|error| {
            anyhow::anyhow!("cannot see what is on {}: {error}", self.path.display())
        })
    }

    /// What is on a device and on its partitions, in words.
    fn on_it(
        &self,
        machine: &Machine,
        file: &File,
        device: &BlockDevice,
        found: &[&str],
    ) -> anyhow::Result<String> {
        let mut text = match found.is_empty() {
            true => "no file system or partition table that is recognised".to_owned(),
            false => format!("holding {}", found.join(" and ")),
        };
        for partition in machine.partitions(device) {
            let start = read(&partition.folder.join("start")).ok();
            let Some(start) = start.and_then(|sectors| sectors.parse::<u64>().ok()) else {
                continue;
            };
            let inside = self.signatures(file, start * crate::spec::SECTOR, partition.bytes)?;
            let inside = match inside.is_empty() {
                true => "nothing that is recognised".to_owned(),
                false => inside.join(" and "),
            };
            text.push_str(&format!(", its partition {} with {inside}", partition.name));
        }
        Ok(text)
    }
}

/// The device and the signatures that `--destroy` names: `SERIAL`, or `SERIAL:ext4,gpt`. The device's
/// own name may have colons in it.
fn split<'a>(name: &str, typed: &'a str) -> (&'a str, Vec<&'a str>) {
    let after = |at: usize| typed.get(at..).and_then(|rest| rest.strip_prefix(':'));
    // The console's way to write a volume is one longer.
    let lengths = [name.len(), name.len() + 1];
    let cut = lengths.into_iter().find_map(|length| {
        let head = typed.get(..length).filter(|head| names(name, head))?;
        Some((head, after(length)?))
    });
    match cut {
        Some((head, rest)) => (head, rest.split(',').collect()),
        None => (typed, Vec::new()),
    }
}

fn model(device: &BlockDevice) -> String {
    match device.facts()["model"].as_str() {
        Some(model) => model.to_owned(),
        None => format!("{} (a device without a model's name)", device.name),
    }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-+.,:/@=".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The block device that an NVMe generic character device is another door to: `nvme0n1` of `ng0n1`.
fn block_of_generic(machine: &Machine, device: u64) -> Option<String> {
    let number = super::machine::number(device);
    let folder = machine
        .sys
        .join("dev/char")
        .join(number)
        .canonicalize()
        .ok()?;
    let name = folder.file_name()?.to_str()?.strip_prefix("ng")?;
    let block = format!("nvme{name}");
    let exists = machine.sys.join("class/block").join(&block).exists();
    exists.then_some(block)
}

/// A file's kind, in words.
#[must_use]
pub fn kind_name(kind: FileType) -> &'static str {
    if kind.is_char_device() {
        "a character device"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "of a kind unknown to this program"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_names_a_device_and_what_is_on_it() {
        let cases: [(&str, &str, &str, &[&str]); 7] = [
            ("vol0abc", "vol0abc", "vol0abc", &[]),
            ("vol0abc", "vol-0abc:ext4", "vol-0abc", &["ext4"]),
            ("vol0abc", "vol0abc:gpt,ext4", "vol0abc", &["gpt", "ext4"]),
            ("zram3:4096", "zram3:4096", "zram3:4096", &[]),
            ("zram3:4096", "zram3:4096:xfs", "zram3:4096", &["xfs"]),
            ("zram3:4096", "zram3:40960", "zram3:40960", &[]),
            ("vol0abc", "other:ext4", "other:ext4", &[]),
        ];
        for (name, typed, device, signatures) in cases {
            let expected = (device, signatures.to_vec());
            assert_eq!(split(name, typed), expected, "{typed}");
        }
        assert_eq!(quoted("vol0abc:ext4"), "vol0abc:ext4");
        assert_eq!(quoted("/a b'c"), r"'/a b'\''c'");
    }

    #[test]
    fn a_generic_character_device_leads_to_its_block_device() {
        let root = tempfile::tempdir().expect("a folder");
        let controller = root.path().join("devices/nvme0");
        for folder in ["ng0n1", "nvme0n1", "nvme0"] {
            std::fs::create_dir_all(controller.join(folder)).expect("a folder");
        }
        let link = |from: &str, to: &str| {
            let from = root.path().join(from);
            std::fs::create_dir_all(from.parent().expect("below the root")).expect("a folder");
            std::os::unix::fs::symlink(controller.join(to), from).expect("a link");
        };
        link("dev/char/240:0", "ng0n1");
        link("dev/char/241:0", "nvme0");
        link("class/block/nvme0n1", "nvme0n1");
        let machine = Machine {
            proc: root.path().join("proc"),
            sys: root.path().to_owned(),
        };
        let of = |major| block_of_generic(&machine, nix::sys::stat::makedev(major, 0));
        assert_eq!(of(240).as_deref(), Some("nvme0n1"));
        assert_eq!((of(241), of(1)), (None, None));
    }

    #[test]
    fn only_what_is_known_to_read_leaves_a_device_alone() {
        assert!(!changes(Rw::Read) && !changes(Rw::Randread));
        for rw in [Rw::Write, Rw::Randwrite, Rw::Rw, Rw::Randrw] {
            assert!(changes(rw), "{rw:?}");
        }
    }
}
