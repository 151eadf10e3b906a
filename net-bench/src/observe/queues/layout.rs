//! Who serves a device's queues: the CPUs that each receive queue hands packets to (RPS), the
//! CPUs that each transmit queue takes them from (XPS), the interrupts and where they are bound,
//! and the table by which flows are spread (RSS).

use bench_sys::ethtool::{Ethtool, Rss};
use reports::model::Fact;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The most queues of a direction, and interrupts, that are told.
const MOST: usize = 256;

/// The most bytes that are read of one file.
const MAX_FILE_BYTES: usize = 4 << 20;

/// How a device's queues are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// CPUs that process what receive queue *n* gets besides the one that is interrupted; empty
    /// where that one does it alone.
    pub rps_cpus: Fact<Vec<Vec<u32>>>,
    /// CPUs that send through transmit queue *n*; empty where the kernel chooses by a hash.
    pub xps_cpus: Fact<Vec<Vec<u32>>>,
    /// The device's interrupts.
    pub interrupts: Fact<Vec<Interrupt>>,
    /// How received flows are spread.
    pub rss: Fact<Spread>,
}

/// One interrupt of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interrupt {
    /// Its number.
    pub irq: u32,
    /// Its name, which tells most drivers' queue.
    pub name: String,
    /// The CPUs that it may interrupt now, as a list like `0-3`.
    pub cpus: Fact<String>,
}

/// An indirection table in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The hash function.
    pub function: String,
    /// How many entries lead to each queue.
    pub entries: BTreeMap<u32, u32>,
}

impl From<&Rss> for Spread {
    fn from(rss: &Rss) -> Self {
        let mut entries = BTreeMap::new();
        for queue in &rss.table {
            *entries.entry(*queue).or_insert(0) += 1;
        }
        Self {
            function: format!("{:?}", rss.function).to_lowercase(),
            entries,
        }
    }
}

/// Where the facts of a machine are read.
#[derive(Debug, Clone)]
pub struct Roots {
    /// In place of /sys.
    pub sys: PathBuf,
    /// In place of /proc.
    pub proc: PathBuf,
}

impl Roots {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self {
            sys: "/sys".into(),
            proc: "/proc".into(),
        }
    }

    /// The folder of a device, if `/sys` shows the network namespace in which the device is.
    ///
    /// # Errors
    /// It shows another, which has no such device or another of that name.
    pub fn device(&self, name: &str, index: u32) -> Result<PathBuf, String> {
        let folder = self.sys.join("class/net").join(name);
        match text(&folder.join("ifindex"))?.trim() {
            same if same == index.to_string() => Ok(folder),
            other => Err(format!(
                "{} is device {other}, not {index}: /sys shows another network namespace",
                folder.display()
            )),
        }
    }
}

impl Layout {
    /// Reads how the queues of a device are served.
    #[must_use]
    pub fn read(roots: &Roots, ethtool: Option<&Ethtool>, name: &str, index: u32) -> Self {
        let folder = roots.device(name, index);
        let masks = |prefix: &str, file: &str| {
            Fact::of(
                folder
                    .clone()
                    .and_then(|folder| queue_masks(&folder.join("queues"), prefix, file)),
            )
        };
        let rss = match ethtool {
            None => Fact::unavailable("the kernel gave no socket to ask ethtool's questions"),
            Some(ethtool) => Fact::of(
                ethtool
                    .rss(name)
                    .map(|rss| Spread::from(&rss))
                    .map_err(|error| format!("ethtool -x {name}: {error}")),
            ),
        };
        Self {
            rps_cpus: masks("rx-", "rps_cpus"),
            xps_cpus: masks("tx-", "xps_cpus"),
            interrupts: Fact::of(folder.and_then(|folder| interrupts(roots, &folder))),
            rss,
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match text.len() {
        0..=MAX_FILE_BYTES => Ok(text),
        length => Err(format!("{}: {length} bytes are too many", path.display())),
    }
}

/// The CPUs in `file` of every queue, in the order of their numbers.
fn queue_masks(folder: &Path, prefix: &str, file: &str) -> Result<Vec<Vec<u32>>, String> {
    let mut masks = Vec::new();
    for queue in 0..MOST {
        let queue = folder.join(format!("{prefix}{queue}"));
        if !queue.exists() {
            break;
        }
        let path = queue.join(file);
        let mask = text(&path)?;
        let cpus = cpus_of_mask(mask.trim());
        masks.push(cpus.ok_or_else(|| format!("{}: {mask:?} is no mask", path.display()))?);
    }
    match masks.is_empty() {
        true => Err(format!("{} has no {prefix} queue", folder.display())),
        false => Ok(masks),
    }
}

/// The CPUs of a mask like `00000001,0000000f`: hexadecimal words, the lowest last.
fn cpus_of_mask(mask: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for (place, word) in mask.rsplit(',').enumerate().take(MOST) {
        let word = u32::from_str_radix(word, 16).ok()?;
        let first = u32::try_from(place).ok()? * 32;
        cpus.extend(
            (0..32)
                .filter(|bit| word >> bit & 1 == 1)
                .map(|bit| first + bit),
        );
    }
    Some(cpus)
}

/// The interrupts of the device behind an interface: its own, or, as with virtio, its parent's.
fn interrupts(roots: &Roots, folder: &Path) -> Result<Vec<Interrupt>, String> {
    let device = fs::canonicalize(folder.join("device"))
        .map_err(|error| format!("{}: {error}", folder.join("device").display()))?;
    let own = device.join("msi_irqs");
    let parents = device.parent().map(|parent| parent.join("msi_irqs"));
    let listed = fs::read_dir(&own).or_else(|error| match &parents {
        Some(parents) => fs::read_dir(parents),
        None => Err(error),
    });
    let listed = listed.map_err(|error| format!("{}: {error}", own.display()))?;
    let names = names_of_interrupts(&text(&roots.proc.join("interrupts"))?);
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<u32> = numbers.take(MOST).collect();
    numbers.sort_unstable();
    let told = numbers.into_iter().filter_map(|irq| {
        let name = names.get(&irq)?.clone();
        let folder = roots.proc.join("irq").join(irq.to_string());
        let bound = text(&folder.join("effective_affinity_list"));
        let cpus = match bound {
            // Empty where the controller does not say which of the allowed ones it takes.
            Ok(cpus) if !cpus.trim().is_empty() => Ok(cpus),
            _ => text(&folder.join("smp_affinity_list")),
        };
        Some(Interrupt {
            irq,
            name,
            cpus: Fact::of(cpus.map(|cpus| cpus.trim().to_owned())),
        })
    });
    Ok(told.collect())
}

/// The names at the ends of the lines of `/proc/interrupts`, by number.
fn names_of_interrupts(text: &str) -> BTreeMap<u32, String> {
    let named = text.lines().filter_map(|line| {
        let (irq, rest) = line.split_once(':')?;
        let name = rest.split_ascii_whitespace().next_back()?;
        Some((irq.trim().parse().ok()?, name.to_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |path: &str, content: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, content).expect("a file");
        };
        let net = "sys/class/net/eth0";
        write(&format!("{net}/ifindex"), "2\n");
        for queue in 0..2 {
            write(&format!("{net}/queues/rx-{queue}/rps_cpus"), "0\n");
            let mask = format!("0000000{},00000000\n", 1 + queue);
            write(&format!("{net}/queues/tx-{queue}/xps_cpus"), &mask);
        }
        write("sys/pci/msi_irqs/31", "msix\n");
        write("sys/pci/msi_irqs/32", "msix\n");
        write("sys/pci/virtio1/features", "1\n");
        let device = folder.path().join(net).join("device");
        std::os::unix::fs::symlink(folder.path().join("sys/pci/virtio1"), device).expect("a link");
        let lines = "       CPU0 CPU1\n 31:  5  6  PCI-MSI 1-edge  virtio1-input.0\n 32: 7 8 \
                     PCI-MSI 2-edge virtio1-output.0\nNMI: 0 0 Non-maskable interrupts\n";
        write("proc/interrupts", lines);
        write("proc/irq/31/effective_affinity_list", "1\n");
        write("proc/irq/32/effective_affinity_list", "\n");
        write("proc/irq/32/smp_affinity_list", "0-1\n");
        folder
    }

    #[test]
    fn masks_interrupts_and_their_cpus_are_read() {
        let folder = machine();
        let roots = Roots {
            sys: folder.path().join("sys"),
            proc: folder.path().join("proc"),
        };
        let layout = Layout::read(&roots, None, "eth0", 2);
        assert_eq!(layout.rps_cpus, Fact::Known(vec![vec![], vec![]]));
        assert_eq!(layout.xps_cpus, Fact::Known(vec![vec![32], vec![33]]));
        let interrupts = layout.interrupts.known().expect("they are there");
        let told: Vec<_> = interrupts
            .iter()
            .map(|found| {
                (
                    found.irq,
                    found.name.as_str(),
                    found.cpus.known().expect("read").as_str(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (31, "virtio1-input.0", "1"),
                (32, "virtio1-output.0", "0-1")
            ]
        );
        assert!(layout.rss.reason().is_some());
        // Another device of the same name: /sys is of another namespace.
        let other = Layout::read(&roots, None, "eth0", 7);
        let reason = other.xps_cpus.reason().expect("it is not this device");
        assert!(reason.contains("another network namespace"), "{reason}");
    }

    #[test]
    fn masks_are_words_from_the_lowest_up() {
        assert_eq!(cpus_of_mask("0"), Some(vec![]));
        assert_eq!(cpus_of_mask("f0"), Some(vec![4, 5, 6, 7]));
        assert_eq!(cpus_of_mask("1,00000000,80000001"), Some(vec![0, 31, 64]));
        assert_eq!(cpus_of_mask("xyz"), None);
        assert_eq!(cpus_of_mask("123456789"), None);
    }

    #[test]
    fn a_table_in_short_counts_its_entries() {
        let rss = Rss {
            function: bench_sys::ethtool::HashFunction::Toeplitz,
            table: vec![0, 1, 0, 3],
            key: Vec::new(),
        };
        let spread = Spread::from(&rss);
        assert_eq!(spread.function, "toeplitz");
        assert_eq!(spread.entries, BTreeMap::from([(0, 2), (1, 1), (3, 1)]));
    }
}
