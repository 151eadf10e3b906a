//! Why a block device is in use. The kernel only says EBUSY; users want the mount point.

use super::machine::{Machine, read, unescape};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything that the kernel's files know to hold the device or a part of it, in one line.
pub(super) fn explain(machine: &Machine, path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let device = machine.block_device(found.rdev()).ok()?;
    let reasons = reasons(machine, &device.folder);
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// What holds the device of this sysfs folder, and what holds its partitions.
fn reasons(machine: &Machine, folder: &Path) -> Vec<String> {
    let mut found = holders(machine, folder);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut partitions: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("partition").exists())
        .collect();
    partitions.sort();
    for partition in partitions {
        let name = name_of(&partition);
        let held = holders(machine, &partition);
        found.extend(
            held.into_iter()
                .map(|why| format!("its partition {name} is {why}")),
        );
    }
    found
}

fn holders(machine: &Machine, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let name = name_of(folder);
    let number = read(&folder.join("dev")).unwrap_or_default();
    for mount in machine.mounts().unwrap_or_default() {
        if mount.number == number {
            found.push(format!(
                "mounted on {} as {}",
                mount.point.display(),
                mount.kind
            ));
        }
    }
    let swaps = read(&machine.proc.join("swaps")).unwrap_or_default();
    let swap_names = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    for swap in swap_names {
        let swap = unescape(swap);
        let real = fs::canonicalize(&swap).unwrap_or_else(|_| swap.clone().into());
        if real
            .file_name()
            .is_some_and(|file| file.to_string_lossy() == name)
        {
            found.push(format!("used for swapping as {swap}"));
        }
    }
    for holder in fs::read_dir(folder.join("holders"))
        .into_iter()
        .flatten()
        .flatten()
    {
        found.push(format!("part of {}", holder.file_name().to_string_lossy()));
    }
    found
}

fn name_of(folder: &Path) -> String {
    folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A disk with a mounted partition, one that swaps, and one under a device mapper.
    fn machine(root: &Path) -> (Machine, PathBuf) {
        let disk = root.join("sys/devices/nvme9n1");
        let put = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().expect("below the root")).expect("folder");
            fs::write(path, text).expect("file");
        };
        put(disk.join("dev"), "259:0\n");
        for (partition, number) in [("p1", "259:1"), ("p2", "259:2"), ("p3", "259:3")] {
            let folder = disk.join(format!("nvme9n1{partition}"));
            put(folder.join("partition"), "1\n");
            put(folder.join("dev"), number);
        }
        fs::create_dir_all(disk.join("nvme9n1p3/holders/dm-0")).expect("folder");
        put(
            root.join("proc/self/mountinfo"),
            "36 35 259:1 / /mnt/my\\040disk rw,noatime shared:1 - ext4 /dev/nvme9n1p1 rw\n",
        );
        put(
            root.join("proc/swaps"),
            "Filename Type Size Used Priority\n/dev/nvme9n1p2 partition 1 0 -2\n",
        );
        let machine = Machine {
            proc: root.join("proc"),
            sys: root.join("sys"),
        };
        (machine, disk)
    }

    #[test]
    fn a_disk_is_busy_because_of_its_partitions() {
        let root = tempfile::tempdir().expect("folder");
        let (machine, disk) = machine(root.path());
        assert_eq!(
            reasons(&machine, &disk),
            [
                "its partition nvme9n1p1 is mounted on /mnt/my disk as ext4",
                "its partition nvme9n1p2 is used for swapping as /dev/nvme9n1p2",
                "its partition nvme9n1p3 is part of dm-0",
            ]
        );
    }

    #[test]
    fn a_device_that_nothing_holds_has_no_reason() {
        let root = tempfile::tempdir().expect("folder");
        let (machine, _) = machine(root.path());
        assert!(reasons(&machine, &root.path().join("sys/absent")).is_empty());
    }
}
