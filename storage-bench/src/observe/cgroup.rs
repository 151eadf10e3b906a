//! The limits that the control group sets on a device, in both hierarchies, and how long its
//! processes waited for I/O.
//!
//! Limits bind on every level up to the root, so the tightest counts.

use crate::target::Machine;
use serde::Serialize;
use std::path::{Component, Path, PathBuf};

/// Limits in force; `None` where there is none. Reads first, writes second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Operations per second.
    #[serde(skip_serializing_if = "unlimited")]
    pub iops: [Option<u64>; 2],
    /// Bytes per second.
    #[serde(skip_serializing_if = "unlimited")]
    pub bytes_per_s: [Option<u64>; 2],
}

fn unlimited(limits: &[Option<u64>; 2]) -> bool {
    limits.iter().all(Option::is_none)
}

impl Limits {
    /// Whether there is none.
    #[must_use]
    pub fn none(&self) -> bool {
        unlimited(&self.iops) && unlimited(&self.bytes_per_s)
    }

    fn tighten(&mut self, name: &str, limit: u64) {
        let place = match name {
            "riops" => &mut self.iops[0],
            "wiops" => &mut self.iops[1],
            "rbps" => &mut self.bytes_per_s[0],
            "wbps" => &mut self.bytes_per_s[1],
            _ => return,
        };
        *place = Some(place.map_or(limit, |known| known.min(limit)));
    }
}

/// The files of version 1 with what version 2 calls them.
const V1_FILES: [(&str, &str); 4] = [
    ("blkio.throttle.read_iops_device", "riops"),
    ("blkio.throttle.write_iops_device", "wiops"),
    ("blkio.throttle.read_bps_device", "rbps"),
    ("blkio.throttle.write_bps_device", "wbps"),
];

/// The limits on devices with these numbers.
///
/// # Errors
/// Why the control group is not known.
pub fn limits(machine: &Machine, numbers: &[&str]) -> Result<Limits, String> {
    let groups = super::text(&machine.proc.join("self/cgroup"))?;
    let root = machine.sys.join("fs/cgroup");
    let mut limits = Limits::default();
    for level in levels(&groups, "blkio", &root.join("blkio")) {
        for (file, name) in V1_FILES {
            let text = super::text(&level.join(file)).unwrap_or_default();
            for (number, value) in text.lines().filter_map(|line| line.split_once(' ')) {
                if let (true, Ok(value)) = (numbers.contains(&number), value.trim().parse()) {
                    limits.tighten(name, value);
                }
            }
        }
    }
    for level in v2_levels(&groups, &root) {
        let text = super::text(&level.join("io.max")).unwrap_or_default();
        for (number, values) in text.lines().filter_map(|line| line.split_once(' ')) {
            let values = values.split(' ').filter_map(|value| value.split_once('='));
            for (name, value) in values.filter(|_| numbers.contains(&number)) {
                // `max` is no number, and no limit.
                if let Ok(value) = value.parse() {
                    limits.tighten(name, value);
                }
            }
        }
    }
    Ok(limits)
}

/// Microseconds for which some or all of the processes waited for I/O: of the control group where
/// it counts them, else of the machine.
///
/// # Errors
/// Why nobody counts.
pub fn pressure(machine: &Machine) -> Result<(String, [u64; 2]), String> {
    let groups = super::text(&machine.proc.join("self/cgroup")).unwrap_or_default();
    let root = machine.sys.join("fs/cgroup");
    let group = v2_levels(&groups, &root).into_iter().next();
    let group = group.map(|group| group.join("io.pressure"));
    let files = group.into_iter().chain([machine.proc.join("pressure/io")]);
    let mut reason = String::new();
    for file in files {
        match super::text(&file).map(|text| parse_pressure(&text)) {
            Ok(Some(pressure)) => return Ok((file.display().to_string(), pressure)),
            Ok(None) => reason = format!("{}: no totals", file.display()),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=12`, and a line `full` likewise.
fn parse_pressure(text: &str) -> Option<[u64; 2]> {
    let total = |word: &str| {
        let line = text.lines().find(|line| line.starts_with(word))?;
        line.rsplit_once("total=")?.1.trim().parse().ok()
    };
    Some([total("some")?, total("full")?])
}

fn v2_levels(groups: &str, root: &Path) -> Vec<PathBuf> {
    let unified = root.join("unified");
    let root = if unified.exists() { &unified } else { root };
    levels(groups, "", root)
}

/// The group of this process under a controller (none for version 2) and its ancestors, the
/// deepest first; those that are not visible here, as in a container, read as empty.
fn levels(groups: &str, controller: &str, root: &Path) -> Vec<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        let named = controllers.split(',').any(|name| name == controller);
        named.then_some(path)
    });
    let Some(path) = path else {
        return Vec::new();
    };
    let inside: PathBuf = Path::new(path)
        .components()
        .filter(|component| matches!(component, Component::Normal(_)))
        .collect();
    inside.ancestors().map(|path| root.join(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn with(files: &[(&str, &str)]) -> Self {
            let root = tempfile::tempdir().expect("a folder");
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
                fs::write(path, text).expect("a file");
            }
            Self(root)
        }

        fn machine(&self) -> Machine {
            Machine {
                proc: self.0.path().join("proc"),
                sys: self.0.path().join("sys"),
            }
        }
    }

    #[test]
    fn the_tightest_limit_of_all_levels_and_hierarchies_counts() {
        let tree = Tree::with(&[
            ("proc/self/cgroup", "7:cpu,blkio:/a/b\n0::/job\n"),
            (
                "sys/fs/cgroup/blkio/a/blkio.throttle.read_iops_device",
                "259:0 2000\n8:0 5\n",
            ),
            (
                "sys/fs/cgroup/blkio/a/b/blkio.throttle.read_iops_device",
                "259:0 3000\n",
            ),
            (
                "sys/fs/cgroup/unified/job/io.max",
                "259:0 rbps=1048576 wbps=max riops=max wiops=77\n",
            ),
        ]);
        let found = limits(&tree.machine(), &["259:0"]).expect("known");
        assert_eq!(found.iops, [Some(2000), Some(77)]);
        assert_eq!(found.bytes_per_s, [Some(1 << 20), None]);
        let other = limits(&tree.machine(), &["1:1"]).expect("known");
        assert!(other.none() && !found.none());
        assert!(limits(&Tree::with(&[]).machine(), &["1:1"]).is_err());
    }

    #[test]
    fn pressure_is_the_group_s_or_the_machine_s() {
        let psi = "some avg10=0.00 avg60=0.0 avg300=0.0 total=12\nfull avg10=0.0 total=7\n";
        let mut files = vec![("proc/self/cgroup", "0::/job\n"), ("proc/pressure/io", psi)];
        let tree = Tree::with(&files);
        let (file, found) = pressure(&tree.machine()).expect("the machine's");
        assert!(found == [12, 7] && file.ends_with("proc/pressure/io"));
        files.push(("sys/fs/cgroup/job/io.pressure", psi));
        let (file, _) = pressure(&Tree::with(&files).machine()).expect("the group's");
        assert!(file.ends_with("job/io.pressure"));
        assert!(pressure(&Tree::with(&[("proc/pressure/io", "x")]).machine()).is_err());
    }
}
