//! The kernel's list of RDMA devices, which needs no library: names, ports, states, addresses.

use crate::gid::{Gid, GidKind};
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// The devices below a folder like `/sys/class/infiniband`.
#[derive(Debug, Clone)]
pub struct Sysfs(PathBuf);

/// A port of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The device's name: `rxe0`.
    pub device: String,
    /// The port's number, from 1.
    pub number: u8,
    /// The kernel's word for its state: `ACTIVE`, `DOWN`.
    pub state: String,
    /// `Ethernet` or `InfiniBand`.
    pub link_layer: String,
}

impl Port {
    /// Whether data can go through it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == "ACTIVE"
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} port {} ({})", self.device, self.number, self.state)
    }
}

impl Default for Sysfs {
    fn default() -> Self {
        Self(PathBuf::from("/sys/class/infiniband"))
    }
}

impl Sysfs {
    /// The devices below another folder.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Whether the kernel has loaded its RDMA core.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// The names of all devices, sorted.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        entries(&self.0)
    }

    /// The ports of all devices, sorted.
    #[must_use]
    pub fn ports(&self) -> Vec<Port> {
        let ports = |device: String| -> Vec<Port> {
            let folder = self.0.join(&device).join("ports");
            let mut numbers: Vec<u8> = entries(&folder)
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect();
            numbers.sort_unstable();
            let port = |number: u8| {
                let folder = folder.join(number.to_string());
                Port {
                    device: device.clone(),
                    number,
                    // `4: ACTIVE`
                    state: read(&folder.join("state"))
                        .and_then(|state| Some(state.split_once(": ")?.1.to_owned()))
                        .unwrap_or_else(|| "unknown".to_owned()),
                    link_layer: read(&folder.join("link_layer"))
                        .unwrap_or_else(|| "unknown".to_owned()),
                }
            };
            numbers.into_iter().map(port).collect()
        };
        self.devices().into_iter().flat_map(ports).collect()
    }

    /// The addresses of a port, in the order of the table; empty places are left out.
    #[must_use]
    pub fn gids(&self, device: &str, port: u8) -> Vec<Gid> {
        let folder = self.0.join(device).join("ports").join(port.to_string());
        let mut gids: Vec<Gid> = entries(&folder.join("gids"))
            .iter()
            .filter_map(|name| {
                // Requests for connections have a byte for the index.
                let index: u8 = name.parse().ok()?;
                let value: Ipv6Addr = read(&folder.join("gids").join(name))?.parse().ok()?;
                if value.is_unspecified() {
                    return None;
                }
                let attribute = |of: &str| read(&folder.join("gid_attrs").join(of).join(name));
                let kind = match attribute("types").as_deref() {
                    Some("RoCE v2") => GidKind::RoceV2,
                    _ => GidKind::InfinibandOrRoceV1,
                };
                Some(Gid {
                    index,
                    value,
                    kind,
                    netdev: attribute("ndevs"),
                })
            })
            .collect();
        gids.sort_by_key(|gid| gid.index);
        gids
    }

    /// The network devices on top of a device: IPoIB's, or the Ethernet card itself.
    #[must_use]
    pub fn netdevs(&self, device: &str) -> Vec<String> {
        entries(&self.0.join(device).join("device").join("net"))
    }
}

/// The names in a folder, sorted; none if it cannot be read.
fn entries(folder: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = found
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// What is in a file, without the end of its line. Empty places of tables cannot be read.
fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn ports_and_addresses_are_read_as_the_kernel_writes_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        write(root, "rxe0/ports/1/state", "4: ACTIVE\n");
        write(root, "rxe0/ports/1/link_layer", "Ethernet\n");
        write(root, "mlx5_0/ports/1/state", "1: DOWN\n");
        let gids = [
            (0, "fe80:0000:0000:0000:0000:0000:0000:0001", "RoCE v2\n"),
            (1, "0000:0000:0000:0000:0000:ffff:0a4d:0001", "RoCE v2\n"),
            (2, "0000:0000:0000:0000:0000:0000:0000:0000", ""),
            (
                10,
                "fe80:0000:0000:0000:0000:0000:0000:0002",
                "IB/RoCE v1\n",
            ),
        ];
        for (index, value, kind) in gids {
            let port = "rxe0/ports/1";
            write(root, &format!("{port}/gids/{index}"), &format!("{value}\n"));
            write(root, &format!("{port}/gid_attrs/types/{index}"), kind);
            write(root, &format!("{port}/gid_attrs/ndevs/{index}"), "eth0\n");
        }
        let sysfs = Sysfs::at(root);
        assert!(sysfs.exists());
        let told: Vec<String> = sysfs.ports().iter().map(Port::to_string).collect();
        assert_eq!(told, ["mlx5_0 port 1 (DOWN)", "rxe0 port 1 (ACTIVE)"]);
        let told: Vec<String> = sysfs.gids("rxe0", 1).iter().map(Gid::to_string).collect();
        assert_eq!(
            told,
            [
                "0 fe80::1 (RoCE v2)",
                "1 ::ffff:10.77.0.1 (RoCE v2)",
                "10 fe80::2 (IB/RoCE v1)"
            ]
        );
        assert_eq!(sysfs.gids("rxe0", 1)[0].netdev.as_deref(), Some("eth0"));
        assert!(sysfs.gids("rxe0", 2).is_empty());
        assert!(!Sysfs::at(root.join("none")).exists());
    }
}
