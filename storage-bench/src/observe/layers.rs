//! The devices below a target: the one that its file system or its name says, the disk of a
//! partition, the members of a device-mapper or md device, the file behind a loop device.

use super::counters::Source;
use crate::target::Machine;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Devices on devices on devices: more would be a circle.
const DEEPEST: usize = 8;
/// More members than this are not looked at one by one.
const MOST: usize = 64;

/// How one device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is the target, or holds its file system.
    Target,
    /// It is the whole disk of the partition above.
    DiskOf,
    /// The device above is made of it.
    Below,
}

/// One device, or the mount of a network file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The kernel's name, or the mount point.
    pub name: String,
    /// Major and minor number; empty for a mount.
    pub number: String,
    /// How it is reached.
    pub relation: Relation,
    /// Whether nothing is below it that could be seen.
    pub lowest: bool,
    /// Where it counts.
    pub source: Source,
}

/// All layers, the target's own first.
///
/// # Errors
/// Why nothing is known of them.
pub fn of(machine: &Machine, target: &fs::Metadata) -> Result<Vec<Layer>, String> {
    let device = target.file_type().is_block_device();
    let number = if device { target.rdev() } else { target.dev() };
    let mut layers = Vec::new();
    match descend(machine, number, Relation::Target, &mut layers, 0) {
        Ok(()) => Ok(layers),
        // A file system without a device of its own: its mount says what there is.
        Err(_) if nix::sys::stat::major(number) == 0 => of_mount(machine, number),
        Err(reason) => Err(reason),
    }
}

fn descend(
    machine: &Machine,
    number: u64,
    relation: Relation,
    layers: &mut Vec<Layer>,
    depth: usize,
) -> Result<(), String> {
    let device = machine.block_device(number)?;
    if depth > DEEPEST || layers.len() >= MOST {
        return Ok(());
    }
    if layers.iter().any(|layer| layer.number == device.number) {
        return Ok(());
    }
    let at = layers.len();
    layers.push(Layer {
        name: device.name,
        number: device.number,
        relation,
        lowest: true,
        source: Source::Block(device.folder.clone()),
    });
    for (number, relation) in below(&device.folder) {
        if descend(machine, number, relation, layers, depth + 1).is_ok() {
            layers[at].lowest = false;
        }
    }
    Ok(())
}

fn below(folder: &Path) -> Vec<(u64, Relation)> {
    if folder.join("partition").exists() {
        let disk = folder.parent().and_then(number_in);
        return disk
            .map(|disk| (disk, Relation::DiskOf))
            .into_iter()
            .collect();
    }
    let members = fs::read_dir(folder.join("slaves")).into_iter().flatten();
    let members = members.filter_map(|entry| number_in(&entry.ok()?.path()));
    let backing = super::text(&folder.join("loop/backing_file")).ok();
    let backing = backing.and_then(|path| Some(fs::metadata(path).ok()?.dev()));
    let all = members.chain(backing);
    all.map(|number| (number, Relation::Below)).collect()
}

/// A device's number from its folder in sysfs.
fn number_in(folder: &Path) -> Option<u64> {
    parse_number(&super::text(&folder.join("dev")).ok()?)
}

fn parse_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    let number = nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some(number)
}

/// What counts for a file system that has no device number: that of its source (btrfs), or the
/// client's own counters (NFS, Lustre).
fn of_mount(machine: &Machine, number: u64) -> Result<Vec<Layer>, String> {
    let name = format!(
        "{}:{}",
        nix::sys::stat::major(number),
        nix::sys::stat::minor(number)
    );
    let mountinfo = super::text(&machine.proc.join("self/mountinfo"))?;
    let mount = mountinfo.lines().find_map(|line| Mount::parse(line, &name));
    let mount = mount.ok_or_else(|| format!("no mount in mountinfo has the device {name}"))?;
    let layer = |source| Layer {
        name: mount.point.clone(),
        number: String::new(),
        relation: Relation::Target,
        lowest: true,
        source,
    };
    match mount.kind {
        "nfs" | "nfs4" => Ok(vec![layer(Source::Nfs(
            machine.proc.join("self/mountstats"),
            PathBuf::from(&mount.point),
        ))]),
        "lustre" => Ok(vec![layer(Source::Lustre(lustre_stats(machine)?))]),
        kind => {
            let source = fs::metadata(mount.source).ok();
            let source = source.filter(|found| found.file_type().is_block_device());
            let source = source.ok_or_else(|| format!("{kind} has no device of its own"))?;
            let mut layers = Vec::new();
            descend(machine, source.rdev(), Relation::Target, &mut layers, 0)?;
            Ok(layers)
        }
    }
}

/// The counters of the one Lustre client; of several the files do not say which mount they are.
fn lustre_stats(machine: &Machine) -> Result<PathBuf, String> {
    let places = [
        machine.sys.join("kernel/debug/lustre/llite"),
        machine.proc.join("fs/lustre/llite"),
    ];
    let clients = places.iter().filter_map(|place| fs::read_dir(place).ok());
    let stats = clients
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("stats"));
    let mut stats = stats.filter(|path| path.exists());
    match (stats.next(), stats.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err("no statistics of a Lustre client in debugfs or /proc".to_owned()),
        _ => Err("several Lustre clients, and their statistics name no mount".to_owned()),
    }
}

struct Mount<'a> {
    point: String,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    /// `36 35 0:40 /root /point options … - type source options`, if it has this number.
    fn parse(line: &'a str, number: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(2);
        if fields.next()? != number {
            return None;
        }
        let point = fields.nth(1)?.replace("\\040", " ");
        let mut after = after.split(' ');
        Some(Self {
            point,
            kind: after.next()?,
            source: after.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            fs::create_dir_all(root.path().join("dev/block")).expect("folders");
            Self(root)
        }

        fn device(&self, path: &str, number: &str) -> PathBuf {
            let folder = self.0.path().join("devices").join(path);
            fs::create_dir_all(folder.join("slaves")).expect("folders");
            fs::write(folder.join("dev"), number).expect("a file");
            fs::write(folder.join("size"), "8\n").expect("a file");
            let link = self.0.path().join("dev/block").join(number);
            std::os::unix::fs::symlink(&folder, link).expect("a link");
            folder
        }

        fn machine(&self) -> Machine {
            Machine {
                proc: self.0.path().to_owned(),
                sys: self.0.path().to_owned(),
            }
        }
    }

    fn names(layers: &[Layer]) -> Vec<(&str, Relation, bool)> {
        let each = layers.iter();
        each.map(|layer| (layer.name.as_str(), layer.relation, layer.lowest))
            .collect()
    }

    #[test]
    fn a_raid_of_partitions_leads_to_their_disks() {
        let tree = Tree::new();
        let raid = tree.device("md0", "9:0");
        for (disk, number) in [("sda", 0), ("sdb", 16)] {
            tree.device(disk, &format!("8:{number}"));
            let part = tree.device(&format!("{disk}/{disk}1"), &format!("8:{}", number + 1));
            fs::write(part.join("partition"), "1\n").expect("a file");
            let link = raid.join("slaves").join(format!("{disk}1"));
            std::os::unix::fs::symlink(part, link).expect("a link");
        }
        let mut layers = Vec::new();
        let number = nix::sys::stat::makedev(9, 0);
        descend(&tree.machine(), number, Relation::Target, &mut layers, 0).expect("it is there");
        layers[1..].sort_by(|a, b| a.name.cmp(&b.name));
        use Relation::{Below, DiskOf, Target};
        assert_eq!(
            names(&layers),
            [
                ("md0", Target, false),
                ("sda", DiskOf, true),
                ("sda1", Below, false),
                ("sdb", DiskOf, true),
                ("sdb1", Below, false)
            ]
        );
    }

    #[test]
    fn a_circle_ends_and_an_unknown_device_says_so() {
        let tree = Tree::new();
        let (a, b) = (tree.device("dm-0", "252:0"), tree.device("dm-1", "252:1"));
        std::os::unix::fs::symlink(&b, a.join("slaves/dm-1")).expect("a link");
        std::os::unix::fs::symlink(&a, b.join("slaves/dm-0")).expect("a link");
        let mut layers = Vec::new();
        let descended = |number, layers: &mut Vec<Layer>| {
            let number = nix::sys::stat::makedev(252, number);
            descend(&tree.machine(), number, Relation::Target, layers, 0)
        };
        descended(0, &mut layers).expect("it is there");
        assert_eq!(layers.len(), 2);
        assert!(descended(7, &mut layers).is_err());
    }

    #[test]
    fn a_mount_without_a_device_is_known_by_its_kind() {
        let tree = Tree::new();
        let text = "36 35 0:40 / /mnt/a\\040b rw shared:1 - nfs4 host:/x rw\n\
                    37 35 0:41 / /mnt/l rw - lustre 10.0.0.1@tcp:/fs rw\n\
                    38 35 0:42 / /tmp rw - tmpfs tmpfs rw\n";
        fs::create_dir(tree.0.path().join("self")).expect("a folder");
        fs::write(tree.0.path().join("self/mountinfo"), text).expect("a file");
        let of = |minor| of_mount(&tree.machine(), nix::sys::stat::makedev(0, minor));
        let nfs = of(40).expect("NFS counts");
        assert!(matches!(&nfs[0].source, Source::Nfs(_, point) if point == Path::new("/mnt/a b")));
        let client = tree.0.path().join("fs/lustre/llite");
        assert!(of(41).expect_err("none").contains("no statistics"));
        for name in ["fs-1", "fs-2"] {
            fs::create_dir_all(client.join(name)).expect("folders");
            fs::write(client.join(name).join("stats"), "").expect("a file");
            let found = of(41);
            assert_eq!(found.is_ok(), name == "fs-1", "{found:?}");
        }
        assert_eq!(of(42), Err("tmpfs has no device of its own".to_owned()));
        assert!(of(43).expect_err("none").contains("0:43"));
    }
}
