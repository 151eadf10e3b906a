//! What the MPI library of this process says that it uses, by what it selected, what it loaded and
//! what it was told.
//!
//! No library says which way a message goes. What can be known before: Open MPI's selected
//! point-to-point layer (PML), the components that are mapped into the process, the device that
//! MPICH names in its version, and environment variables. Where these leave several ways open the
//! claim is [`Way::Untold`], and the counters alone tell.

use mpi::environment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;

/// Where Debian and Ubuntu keep Open MPI's settings of all users.
const SETTINGS: &str = "/etc/openmpi/openmpi-mca-params.conf";

/// A way for bytes to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Memory that processes of one node share.
    Memory,
    /// The kernel's TCP or UDP.
    Sockets,
    /// An RDMA device that the process speaks to itself.
    Rdma,
    /// Any: the library decides and does not say.
    #[default]
    Untold,
}

/// What a library claims to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What was selected and loaded, in words.
    pub selected: String,
    /// Between ranks of one node.
    pub within: Way,
    /// The same in words.
    pub within_words: String,
    /// Between nodes.
    pub between: Way,
    /// The same in words.
    pub between_words: String,
}

/// What a claim is made from.
struct Loaded<'a> {
    version: &'a str,
    pml: Option<&'a str>,
    /// Names of mapped components: `btl_tcp`, `mtl_ofi`.
    components: &'a BTreeSet<String>,
    var: &'a dyn Fn(&str) -> Option<String>,
}

/// The claim of this process's library.
pub fn of_this_process() -> Claim {
    let version = environment::library_version().unwrap_or_default();
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let pml = crate::sys::selected_pml();
    Loaded {
        version: &version,
        pml: pml.as_deref(),
        components: &components(&maps),
        var: &|name| std::env::var(name).ok(),
    }
    .claim()
}

/// The components of Open MPI among mapped files that move messages.
fn components(maps: &str) -> BTreeSet<String> {
    let names = maps.lines().filter_map(|line| {
        let name = line.rsplit('/').next()?;
        let name = name.strip_prefix("mca_")?.split('.').next()?;
        let moves = ["pml_", "mtl_", "btl_"];
        let moves = moves.iter().any(|framework| name.starts_with(framework));
        moves.then(|| name.to_owned())
    });
    names.collect()
}

impl Loaded<'_> {
    fn claim(&self) -> Claim {
        match (self.pml, device(self.version)) {
            (Some("ob1"), _) => self.ob1(),
            (Some("cm"), _) => self.cm(),
            (Some("ucx"), _) => self.ucx("Open MPI, pml ucx"),
            (Some(other), _) => Claim::untold(format!("Open MPI, pml {other}")),
            (None, Some(device)) if device.starts_with("ch4:ucx") => {
                self.ucx(&format!("MPICH, device {device}"))
            }
            (None, Some(device)) if device.starts_with("ch4:ofi") => {
                let local = ["MPIR_CVAR_NOLOCAL", "MPIR_CVAR_NO_LOCAL"];
                let network_only = local.iter().any(|name| (self.var)(name).is_some());
                self.ofi(&format!("MPICH, device {device}"), !network_only)
            }
            (None, Some(device)) => Claim::untold(format!("MPICH, device {device}")),
            (None, None) if self.version.contains("Intel(R) MPI") => {
                let fabrics = (self.var)("I_MPI_FABRICS").unwrap_or_else(|| "shm:ofi".to_owned());
                let memory = fabrics.contains("shm");
                self.ofi(&format!("Intel MPI, fabrics {fabrics}"), memory)
            }
            (None, None) => Claim::untold("a library that does not say".to_owned()),
        }
    }

    fn has(&self, component: &str) -> bool {
        self.components.contains(component)
    }

    /// Names of the mapped components of a framework: `self,tcp`.
    fn names(&self, framework: &str) -> String {
        let names = self.components.iter();
        let names = names.filter_map(|name| name.strip_prefix(framework)?.strip_prefix('_'));
        names.collect::<Vec<_>>().join(",")
    }

    /// ob1 moves bytes by the byte transfer layers (BTL) that were opened.
    fn ob1(&self) -> Claim {
        let btls = self.names("btl");
        let selected = match btls.as_str() {
            "" => "Open MPI, pml ob1, btl linked in".to_owned(),
            btls => format!("Open MPI, pml ob1, btl {btls}"),
        };
        let memory = ["vader", "sm", "smcuda"];
        let memory = memory.iter().find(|name| self.has(&format!("btl_{name}")));
        let devices = ["openib", "uct", "ofi", "usnic", "ugni", "portals4"];
        let device = devices.iter().find(|name| self.has(&format!("btl_{name}")));
        let tcp = self.has("btl_tcp");
        let (within, within_words) = match (memory, device) {
            (Some(name), _) => (Way::Memory, format!("shared memory (btl {name})")),
            (None, None) if tcp => (Way::Sockets, "TCP (btl tcp)".to_owned()),
            _ => Claim::open(),
        };
        let (between, between_words) = match device {
            None if tcp => (Way::Sockets, "TCP (btl tcp)".to_owned()),
            Some(name) if !tcp && *name == "openib" => {
                (Way::Rdma, "RDMA verbs (btl openib)".to_owned())
            }
            _ => Claim::open(),
        };
        Claim {
            selected,
            within,
            within_words,
            between,
            between_words,
        }
    }

    /// cm hands messages to one matching transport layer (MTL), within a node as well.
    fn cm(&self) -> Claim {
        let mtls = self.names("mtl");
        match mtls.as_str() {
            "ofi" => self.ofi("Open MPI, pml cm, mtl ofi", false),
            "" => Claim::untold("Open MPI, pml cm, mtl linked in".to_owned()),
            mtls => Claim::untold(format!("Open MPI, pml cm, mtl {mtls}")),
        }
    }

    /// libfabric's provider, if one is asked for.
    fn ofi(&self, selected: &str, memory: bool) -> Claim {
        let variables = [
            "FI_PROVIDER",
            "I_MPI_OFI_PROVIDER",
            "OMPI_MCA_mtl_ofi_provider_include",
            "MPIR_CVAR_OFI_USE_PROVIDER",
        ];
        let asked = variables.iter().find_map(|name| {
            let provider = (self.var)(name)?;
            // A list of what not to use names nothing.
            (!provider.starts_with('^')).then_some(provider)
        });
        let asked = asked.unwrap_or_default();
        let core = asked.split([';', ',']).next().unwrap_or_default();
        let (between, between_words) = match core {
            "efa" | "verbs" | "psm" | "psm2" | "psm3" | "opx" | "cxi" | "usnic" => {
                (Way::Rdma, format!("libfabric, provider {asked}"))
            }
            "tcp" | "sockets" | "udp" | "net" => {
                (Way::Sockets, format!("libfabric, provider {asked}"))
            }
            _ => Claim::open(),
        };
        let (within, within_words) = match (memory, between) {
            (true, _) => (Way::Memory, "shared memory".to_owned()),
            (false, Way::Sockets) => (between, between_words.clone()),
            // efa and psm have a shared memory of their own.
            (false, _) => Claim::open(),
        };
        Claim {
            selected: match asked.as_str() {
                "" => selected.to_owned(),
                asked => format!("{selected}, provider {asked}"),
            },
            within,
            within_words,
            between,
            between_words,
        }
    }

    /// UCX picks a transport for each peer among those of UCX_TLS.
    fn ucx(&self, selected: &str) -> Claim {
        let Some(asked) = (self.var)("UCX_TLS").filter(|asked| !asked.starts_with('^')) else {
            return Claim::untold(selected.to_owned());
        };
        let names: Vec<&str> = asked.split(',').collect();
        let only = |allowed: &[&str]| names.iter().all(|name| allowed.contains(name));
        let words = || format!("UCX, UCX_TLS={asked}");
        let tcp = only(&["tcp", "self"]) && names.contains(&"tcp");
        let devices = [
            "rc", "ud", "dc", "ib", "rc_v", "rc_x", "ud_v", "ud_x", "dc_x", "srd",
        ];
        let rdma = only(&[&devices[..], &["self", "sm", "shm", "posix", "sysv", "cma"]].concat())
            && names.iter().any(|name| devices.contains(name));
        let (between, between_words) = match (tcp, rdma) {
            (true, _) => (Way::Sockets, words()),
            (_, true) => (Way::Rdma, words()),
            _ => Claim::open(),
        };
        let (within, within_words) = match tcp {
            true => (Way::Sockets, words()),
            false => Claim::open(),
        };
        Claim {
            selected: format!("{selected}, UCX_TLS={asked}"),
            within,
            within_words,
            between,
            between_words,
        }
    }
}

impl Claim {
    fn untold(selected: String) -> Self {
        let (within, within_words) = Self::open();
        let (between, between_words) = Self::open();
        Self {
            selected,
            within,
            within_words,
            between,
            between_words,
        }
    }

    fn open() -> (Way, String) {
        (
            Way::Untold,
            "the library decides and does not say".to_owned(),
        )
    }
}

/// The device that MPICH names in its version: `ch4:ofi`.
fn device(version: &str) -> Option<&str> {
    let (_, after) = version.split_once("Device:")?;
    after.split_whitespace().next()
}

/// Why Open MPI leaves this node's RDMA devices unused, if its settings say so.
pub fn barred_here() -> Option<String> {
    // With another library these settings mean nothing.
    crate::sys::selected_pml()?;
    let settings = fs::read_to_string(SETTINGS).ok()?;
    let devices = fs::read_dir("/sys/class/infiniband").ok()?.flatten();
    let devices = devices.filter_map(|device| device.file_name().into_string().ok());
    let devices: Vec<String> = devices.collect();
    barred(&settings, &devices, |name| std::env::var(name).ok())
}

fn barred(
    settings: &str,
    devices: &[String],
    var: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    if devices.is_empty() {
        return None;
    }
    let lines = settings.lines().filter_map(|line| line.split_once('='));
    let excluding = lines.filter_map(|(name, value)| {
        let (name, value) = (name.trim(), value.trim());
        let fast = match name {
            "mtl" => "ofi",
            "pml" => "ucx",
            _ => return None,
        };
        let listed = value.strip_prefix('^')?.split(',').any(|item| item == fast);
        let overruled = var(&format!("OMPI_MCA_{name}")).is_some();
        (listed && !overruled).then(|| format!("{name} = {value}"))
    });
    let excluding: Vec<String> = excluding.collect();
    // With either of them the device is in reach.
    (excluding.len() == 2).then(|| {
        format!(
            "{SETTINGS} has {}, so that Open MPI uses TCP although there is {}: add `--mca pml cm \
             --mca mtl ofi` (EFA) or `--mca pml ucx` (InfiniBand, RoCE) to mpirun",
            excluding.join(" and "),
            devices.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(version: &str, pml: Option<&str>, mapped: &[&str], vars: &[(&str, &str)]) -> Claim {
        let maps: String = mapped
            .iter()
            .map(|name| format!("7f00-7f01 r-xp 0 fe:00 1  /usr/lib/openmpi3/mca_{name}.so\n"))
            .collect();
        let var = |name: &str| {
            let mut vars = vars.iter();
            vars.find(|(other, _)| *other == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Loaded {
            version,
            pml,
            components: &components(&maps),
            var: &var,
        }
        .claim()
    }

    #[test]
    fn open_mpis_claim_is_what_it_loaded() {
        let version = "Open MPI v4.1.4";
        let mapped = ["btl_self", "btl_tcp", "btl_vader", "pml_ob1", "coll_tuned"];
        let default = claim(version, Some("ob1"), &mapped, &[]);
        assert_eq!(default.selected, "Open MPI, pml ob1, btl self,tcp,vader");
        assert_eq!(
            (default.within, default.between),
            (Way::Memory, Way::Sockets)
        );
        let tcp = claim(version, Some("ob1"), &["btl_self", "btl_tcp"], &[]);
        assert_eq!((tcp.within, tcp.between), (Way::Sockets, Way::Sockets));
        let linked_in = claim(version, Some("ob1"), &[], &[]);
        assert_eq!(
            (linked_in.within, linked_in.between),
            (Way::Untold, Way::Untold)
        );
        let efa = [("FI_PROVIDER", "efa")];
        let efa = claim(version, Some("cm"), &["mtl_ofi"], &efa);
        assert_eq!((efa.within, efa.between), (Way::Untold, Way::Rdma));
        let ucx = [("UCX_TLS", "rc,sm,self")];
        let ucx = claim(version, Some("ucx"), &[], &ucx);
        assert_eq!((ucx.within, ucx.between), (Way::Untold, Way::Rdma));
    }

    #[test]
    fn mpichs_and_intels_claims_are_what_they_were_told() {
        let mpich = "MPICH Version: 4.2.0\nMPICH Device: ch4:ofi\nMPICH configure: x";
        let of = claim(mpich, None, &[], &[("FI_PROVIDER", "tcp;ofi_rxm")]);
        assert_eq!((of.within, of.between), (Way::Memory, Way::Sockets));
        let alone = [("MPIR_CVAR_NOLOCAL", "1"), ("FI_PROVIDER", "tcp")];
        assert_eq!(claim(mpich, None, &[], &alone).within, Way::Sockets);
        let intel = "Intel(R) MPI Library 2021.18 for Linux* OS";
        let of = claim(intel, None, &[], &[("FI_PROVIDER", "efa")]);
        assert_eq!((of.within, of.between), (Way::Memory, Way::Rdma));
        let ucx = "MPICH Version: 4.0.2\nMPICH Device: ch4:ucx\n";
        let of = claim(ucx, None, &[], &[]);
        assert_eq!((of.within, of.between), (Way::Untold, Way::Untold));
        assert_eq!(claim("LAM", None, &[], &[]).between, Way::Untold);
    }

    #[test]
    fn settings_that_bar_a_device_are_told() {
        let debian = "# a comment\nmtl = ^ofi\nbtl = ^uct,openib,ofi\npml = ^ucx\n";
        let efa = ["rdmap0s6".to_owned()];
        let why = barred(debian, &efa, |_| None).expect("both are excluded");
        assert!(why.contains("mtl = ^ofi and pml = ^ucx"), "{why}");
        assert!(why.contains("there is rdmap0s6"), "{why}");
        assert_eq!(barred(debian, &[], |_| None), None, "no device");
        let told = |name: &str| (name == "OMPI_MCA_pml").then(|| "cm".to_owned());
        assert_eq!(barred(debian, &efa, told), None, "mpirun --mca pml");
        assert_eq!(barred("mtl = ^ofi\n", &efa, |_| None), None, "ucx is free");
    }
}
