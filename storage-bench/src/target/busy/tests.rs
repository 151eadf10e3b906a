use super::*;

/// A disk with a mounted partition, one that swaps, and one under a device mapper, which holds the
/// root file system; a free disk; and two loop devices over one file.
fn machine(root: &Path) -> Machine {
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("folder");
        fs::write(path, text).expect("file");
    };
    let device = |folder: &str, number: &str| {
        put(&format!("sys/devices/{folder}/dev"), number);
        put(&format!("sys/devices/{folder}/size"), "2048\n");
        let link = root.join("sys/dev/block").join(number);
        fs::create_dir_all(root.join("sys/dev/block")).expect("folder");
        std::os::unix::fs::symlink(root.join("sys/devices").join(folder), link).expect("link");
    };
    device("nvme9n1", "259:0");
    for (part, number) in [("p1", "259:1"), ("p2", "259:2"), ("p3", "259:3")] {
        let folder = format!("nvme9n1/nvme9n1{part}");
        device(&folder, number);
        put(&format!("sys/devices/{folder}/partition"), "1\n");
    }
    device("nvme8n1", "259:8");
    device("dm-0", "252:0");
    put("sys/devices/dm-0/dm/name", "vg-root\n");
    let link = |from: &str, to: &str| {
        let from = root.join(from);
        fs::create_dir_all(from.parent().expect("below the root")).expect("folder");
        std::os::unix::fs::symlink(root.join("sys/devices").join(to), from).expect("link");
    };
    link("sys/devices/nvme9n1/nvme9n1p3/holders/dm-0", "dm-0");
    link("sys/devices/dm-0/slaves/nvme9n1p3", "nvme9n1/nvme9n1p3");
    put("image", "an image");
    for (name, number) in [("loop0", "7:0"), ("loop1", "7:1")] {
        device(name, number);
        let image = root.join("image").display().to_string();
        put(&format!("sys/devices/{name}/loop/backing_file"), &image);
        link(&format!("sys/block/{name}"), name);
    }
    put(
        "proc/self/mountinfo",
        "35 1 252:0 / / rw - ext4 /dev/mapper/vg-root rw\n\
         36 35 259:1 / /mnt/my\\040disk rw,noatime shared:1 - ext4 /dev/nvme9n1p1 rw\n\
         37 35 7:1 / /mnt/image rw - xfs /dev/loop1 rw\n",
    );
    put(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme9n1p2 partition 1 0 -2\n",
    );
    Machine {
        proc: root.join("proc"),
        sys: root.join("sys"),
    }
}

fn device(machine: &Machine, number: &str) -> BlockDevice {
    let link = machine.sys.join("dev/block").join(number);
    machine.device_in(&link).expect("it is in the tree")
}

#[test]
fn a_disk_is_busy_because_of_its_partitions_and_a_partition_because_of_its_disk() {
    let root = tempfile::tempdir().expect("folder");
    let machine = machine(root.path());
    assert_eq!(
        holders(&machine, &device(&machine, "259:0")),
        [
            "its partition nvme9n1p1 is mounted on /mnt/my disk as ext4",
            "its partition nvme9n1p2 is used for swapping as /dev/nvme9n1p2",
            "its partition nvme9n1p3 is part of dm-0 (vg-root)",
        ]
    );
    let partition = holders(&machine, &device(&machine, "259:1"));
    assert_eq!(partition, ["mounted on /mnt/my disk as ext4"]);
    assert!(holders(&machine, &device(&machine, "259:8")).is_empty());
}

#[test]
fn everything_below_the_root_file_system_is_its_ground() {
    let root = tempfile::tempdir().expect("folder");
    let machine = machine(root.path());
    for number in ["252:0", "259:3", "259:0"] {
        let found = dependants(&machine, &device(&machine, number));
        assert_eq!(found, ["it holds the root file system"], "{number}");
    }
    for number in ["259:1", "259:8"] {
        assert!(
            dependants(&machine, &device(&machine, number)).is_empty(),
            "{number}"
        );
    }
}

#[test]
fn two_loop_devices_over_one_file_are_one_disk() {
    let root = tempfile::tempdir().expect("folder");
    let machine = machine(root.path());
    let free = device(&machine, "7:0");
    assert!(holders(&machine, &free).is_empty());
    let found = dependants(&machine, &free);
    let text = "as does loop1: mounted on /mnt/image as xfs";
    assert!(found.len() == 1 && found[0].ends_with(text), "{found:?}");
}
