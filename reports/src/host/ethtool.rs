//! Where the driver's own account of a network card comes from: the running kernel, or files that
//! hold what `ethtool -i` and `ethtool -k` printed on another machine.

use super::tree::{Lookup, Tree, Unreadable, value_of};
use bench_sys::ethtool::{self, Ethtool};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Who is asked about drivers, firmware and offloads.
#[derive(Debug, Clone)]
pub enum EthtoolSource {
    /// The running kernel.
    Kernel,
    /// A folder of files `<nic>.i` and `<nic>.k`: the output of `ethtool -i` and `ethtool -k`.
    Dir(PathBuf),
}

/// What ethtool names a driver, its version, its firmware and the place of the card.
pub(super) struct Driver {
    pub(super) name: Lookup<String>,
    pub(super) version: Lookup<String>,
    pub(super) firmware: Lookup<String>,
    pub(super) bus: Lookup<String>,
}

/// An opened source.
pub(super) enum Asker {
    Kernel(Lookup<Ethtool>),
    Dir(Tree),
}

impl Asker {
    pub(super) fn open(source: &EthtoolSource) -> Self {
        match source {
            EthtoolSource::Kernel => Self::Kernel(
                Ethtool::open().map_err(|error| Unreadable(format!("ethtool socket: {error}"))),
            ),
            EthtoolSource::Dir(path) => Self::Dir(Tree::new(path)),
        }
    }

    pub(super) fn driver(&self, nic: &str) -> Driver {
        let told = |name: &str, value: Lookup<String>| {
            value.and_then(|value| match value.as_str() {
                "" | "N/A" => Err(Unreadable(format!(
                    "ethtool -i {nic}: the driver leaves {name} empty"
                ))),
                _ => Ok(value),
            })
        };
        let [name, version, firmware, bus] = match self {
            Self::Kernel(_) => match self.kernel("-i", nic, Ethtool::driver) {
                Ok(driver) => [driver.name, driver.version, driver.firmware, driver.bus].map(Ok),
                Err(error) => [(); 4].map(|()| Err(error.clone())),
            },
            Self::Dir(folder) => {
                let text = folder.text(format!("{nic}.i"));
                ["driver", "version", "firmware-version", "bus-info"].map(|key| {
                    let text = text.as_deref().map_err(Unreadable::clone)?;
                    Ok(value_of(text, key, ':').unwrap_or_default().to_owned())
                })
            }
        };
        Driver {
            name: told("the driver's name", name),
            version: told("the version", version),
            firmware: told("the firmware version", firmware),
            bus: told("the bus address", bus),
        }
    }

    pub(super) fn offloads(&self, nic: &str) -> Lookup<BTreeMap<String, bool>> {
        match self {
            Self::Kernel(_) => Ok(self
                .kernel("-k", nic, Ethtool::features)?
                .into_iter()
                .collect()),
            Self::Dir(folder) => {
                let name = format!("{nic}.k");
                let features = parse_features(&folder.text(&name)?);
                if features.is_empty() {
                    return Err(folder.wrong(name, "lists no features"));
                }
                Ok(features)
            }
        }
    }

    pub(super) fn rings(&self, nic: &str) -> Lookup<ethtool::Rings> {
        self.kernel("-g", nic, Ethtool::rings)
    }

    pub(super) fn channels(&self, nic: &str) -> Lookup<ethtool::Channels> {
        self.kernel("-l", nic, Ethtool::channels)
    }

    pub(super) fn coalescing(&self, nic: &str) -> Lookup<ethtool::Coalescing> {
        self.kernel("-c", nic, Ethtool::coalescing)
    }

    /// Asks the running kernel; `option` is ethtool's for the same question, so that a reader can
    /// ask again by hand.
    fn kernel<T, E: fmt::Display>(
        &self,
        option: &str,
        nic: &str,
        ask: impl FnOnce(&Ethtool, &str) -> Result<T, E>,
    ) -> Lookup<T> {
        match self {
            Self::Kernel(Ok(ethtool)) => ask(ethtool, nic)
                .map_err(|error| Unreadable(format!("ethtool {option} {nic}: {error}"))),
            Self::Kernel(Err(error)) => Err(error.clone()),
            Self::Dir(folder) => Err(folder.wrong("", format!("holds no ethtool {option} output"))),
        }
    }
}

/// Features from the output of `ethtool -k`, by the kernel's names.
///
/// ethtool prints a few features under older names, and sums that are no features of their own;
/// the kernel's interface has neither, so the former are translated and the latter dropped.
fn parse_features(text: &str) -> BTreeMap<String, bool> {
    text.lines()
        .filter_map(|line| {
            let (name, state) = line.trim().split_once(": ")?;
            let active = match state.split_whitespace().next()? {
                "on" => true,
                "off" => false,
                _ => return None,
            };
            Some((kernel_name(name)?.to_owned(), active))
        })
        .collect()
}

fn kernel_name(printed: &str) -> Option<&str> {
    Some(match printed {
        "tx-checksumming" | "scatter-gather" | "tcp-segmentation-offload" => return None,
        "rx-checksumming" => "rx-checksum",
        "udp-fragmentation-offload" => "tx-udp-fragmentation",
        "generic-segmentation-offload" => "tx-generic-segmentation",
        "generic-receive-offload" => "rx-gro",
        "large-receive-offload" => "rx-lro",
        "rx-vlan-offload" => "rx-vlan-hw-parse",
        "tx-vlan-offload" => "tx-vlan-hw-insert",
        "ntuple-filters" => "rx-ntuple-filter",
        "receive-hashing" => "rx-hashing",
        name => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_features_take_the_kernels_names() {
        let text = "Features for eth0:\nrx-checksumming: on\ntx-checksumming: on\n\
                    \ttx-checksum-ipv4: off [fixed]\ngeneric-receive-offload: on\nodd: maybe\n";
        let expected = [
            ("rx-checksum", true),
            ("tx-checksum-ipv4", false),
            ("rx-gro", true),
        ];
        let expected = expected.map(|(name, on)| (name.to_owned(), on));
        assert_eq!(parse_features(text), BTreeMap::from(expected));
    }
}
