//! The kernel: its release, its command line, and the clock it keeps time with.

use super::tree::{Lookup, Tree};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kernel {
    /// Its release, as `uname -r` prints it.
    pub release: Fact<String>,
    /// Its build, as `uname -v` prints it.
    pub version: Fact<String>,
    /// Its command line. Words that hold a network or hardware address are shortened to their
    /// option, so that a report can be passed on.
    pub cmdline: Fact<String>,
}

/// The clock sources of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockSource {
    /// The one in use. Reading `xen` or `hpet` costs far more than reading `tsc`.
    pub current: Fact<String>,
    /// Those it could use.
    pub available: Fact<Vec<String>>,
}

/// Learns which kernel runs.
pub(super) fn read(proc: &Tree) -> Kernel {
    Kernel {
        release: Fact::of(proc.line("sys/kernel/osrelease")),
        version: Fact::of(proc.line("sys/kernel/version")),
        cmdline: Fact::of(proc.line("cmdline").map(|line| without_addresses(&line))),
    }
}

/// Learns which clock the kernel reads.
pub(super) fn clock_source(sys: &Tree) -> ClockSource {
    let folder = sys.sub("devices/system/clocksource/clocksource0");
    let available = folder.line("available_clocksource");
    ClockSource {
        current: Fact::of(folder.line("current_clocksource")),
        available: Fact::of(
            available.map(|line| line.split_whitespace().map(str::to_owned).collect()),
        ),
    }
}

/// The distribution's name for itself.
pub(super) fn os_name(etc: &Tree) -> Lookup<String> {
    let text = etc.text("os-release")?;
    let field = |key| super::tree::value_of(&text, key, '=').map(unquote);
    field("PRETTY_NAME")
        .or_else(|| field("NAME"))
        .filter(|name| !name.is_empty())
        .ok_or_else(|| etc.wrong("os-release", "has no PRETTY_NAME"))
}

/// A shell value without its quotes and backslashes.
fn unquote(value: &str) -> String {
    value
        .trim_matches(|c| c == '"' || c == '\'')
        .replace('\\', "")
}

fn without_addresses(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let value = word.split_once('=').map_or(word, |(_, value)| value);
        let mut parts = value.split(|c: char| !(c.is_ascii_hexdigit() || ".:-".contains(c)));
        if parts.any(holds_address) {
            let option = word.strip_suffix(value).unwrap_or_default();
            format!("{option}(address)")
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn holds_address(part: &str) -> bool {
    let v4 = |text: &str| text.parse::<Ipv4Addr>().is_ok();
    let mac = |separator| {
        let bytes: Vec<_> = part.split(separator).collect();
        bytes.len() >= 6 && bytes.iter().all(|byte| byte.len() == 2)
    };
    let v6 = part.matches(':').count() >= 2 && part.parse::<Ipv6Addr>().is_ok();
    v6 || part.split([':', '-']).any(v4) || mac(':') || mac('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_leave_the_command_line_and_nothing_else_does() {
        let kept = "BOOT_IMAGE=/vmlinuz-6.8.0-1009-aws root=UUID=0ab-11 console=ttyS0,115200n8 \
                    nvme_core.io_timeout=4294967295 isolcpus=1-3,5";
        assert_eq!(without_addresses(kept), kept);
        assert_eq!(
            without_addresses("ip=10.0.0.7::10.0.0.1:255.255.255.0 BOOTIF=01-0a-1b-2c-3d-4e-5f q"),
            "ip=(address) BOOTIF=(address) q"
        );
        assert_eq!(
            without_addresses(
                "dns=fe80::1 --addr 0.0.0.0:2024 nfsroot=10.1.2.3:/x mac=0a:1b:2c:3d:4e:5f"
            ),
            "dns=(address) --addr (address) nfsroot=(address) mac=(address)"
        );
    }

    #[test]
    fn quotes_are_the_shells_not_the_names() {
        assert_eq!(unquote("\"Amazon Linux 2\""), "Amazon Linux 2");
        assert_eq!(unquote("'Debian'"), "Debian");
    }
}
