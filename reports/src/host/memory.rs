//! Memory: how much, in which page sizes, and how much of it may be locked for direct access.

use super::Limit;
use super::tree::{Lookup, Tree, quote};
use crate::model::Fact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The memory of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// Memory that the kernel manages.
    pub total_bytes: Fact<u64>,
    /// When transparent huge pages are used: always, madvise or never.
    pub thp_enabled: Fact<String>,
    /// How hard the kernel tries to make huge pages on a page fault.
    pub thp_defrag: Fact<String>,
    /// When shared memory uses them.
    pub thp_shmem: Fact<String>,
    /// The pools of explicit huge pages, smallest page first.
    pub huge_pages: Fact<Vec<HugePages>>,
    /// How much memory this process may lock; RDMA registers locked memory.
    pub memlock_soft_bytes: Fact<Limit<u64>>,
    /// How far it may raise that limit itself.
    pub memlock_hard_bytes: Fact<Limit<u64>>,
}

/// One pool of explicit huge pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HugePages {
    /// Bytes of one page.
    pub page_bytes: u64,
    /// Pages in the pool.
    pub total_pages: Fact<u64>,
    /// Pages not in use.
    pub free_pages: Fact<u64>,
}

/// Learns what the memory is like.
pub(super) fn read(sys: &Tree, proc: &Tree) -> Memory {
    let thp = sys.sub("kernel/mm/transparent_hugepage");
    let memlock = memlock(proc);
    Memory {
        total_bytes: Fact::of(total(proc)),
        thp_enabled: Fact::of(thp.chosen("enabled")),
        thp_defrag: Fact::of(thp.chosen("defrag")),
        thp_shmem: Fact::of(thp.chosen("shmem_enabled")),
        huge_pages: Fact::of(huge_pages(&sys.sub("kernel/mm/hugepages"))),
        memlock_soft_bytes: Fact::of(memlock.clone().map(|(soft, _)| soft)),
        memlock_hard_bytes: Fact::of(memlock.map(|(_, hard)| hard)),
    }
}

fn total(proc: &Tree) -> Lookup<u64> {
    let text = proc.text("meminfo")?;
    super::tree::value_of(&text, "MemTotal", ':')
        .and_then(|value| value.strip_suffix("kB")?.trim().parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .ok_or_else(|| proc.wrong("meminfo", "has no MemTotal in kB"))
}

fn huge_pages(folder: &Tree) -> Lookup<Vec<HugePages>> {
    let names = folder.names("")?;
    Ok(names
        .iter()
        .filter_map(|name| {
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            Some(HugePages {
                page_bytes: kib.parse::<u64>().ok()?.checked_mul(1024)?,
                total_pages: Fact::of(folder.number(format!("{name}/nr_hugepages"))),
                free_pages: Fact::of(folder.number(format!("{name}/free_hugepages"))),
            })
        })
        .collect())
}

/// Soft and hard limit on locked memory of this process.
fn memlock(proc: &Tree) -> Lookup<(Limit<u64>, Limit<u64>)> {
    const FILE: &str = "self/limits";
    let text = proc.text(FILE)?;
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"))
        .ok_or_else(|| proc.wrong(FILE, "has no \"Max locked memory\""))?;
    let mut words = rest.split_whitespace();
    let mut limit = || match words.next()? {
        "unlimited" => Some(Limit::UNLIMITED),
        bytes => bytes.parse().ok().map(Limit::At),
    };
    let both = limit().and_then(|soft| Some((soft, limit()?)));
    both.ok_or_else(|| {
        proc.wrong(
            FILE,
            format!("limits locked memory to {}", quote(rest.trim())),
        )
    })
}
