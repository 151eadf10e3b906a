//! Which CPUs and memory nodes a rank may use.

use crate::ranges::ranges;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use std::fs;

/// CPUs beyond so many are not seen.
const MASK_WORDS: usize = 16;

/// The size of a [`Binding`] in 64-bit words.
pub(super) const WORDS: usize = MASK_WORDS + 2;

/// Where the kernel lists CPUs and memory nodes.
const ONLINE: &str = "/sys/devices/system/cpu/online";
const NUMA: &str = "/sys/devices/system/node";

/// What a rank may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Binding {
    /// The CPUs that it may run on; all zero if the kernel would not say.
    pub cpus: [u64; MASK_WORDS],
    /// The memory nodes (NUMA) that these belong to, up to the 64th.
    numa: u64,
    /// 1 if these are all CPUs of the machine: it is not bound.
    free: u64,
}

impl Binding {
    pub fn of_this_process() -> Self {
        let mut own = Vec::new();
        if let Ok(set) = sched_getaffinity(Pid::from_raw(0)) {
            let all = 0..CpuSet::count().min(64 * MASK_WORDS);
            own.extend(all.filter(|&cpu| set.is_set(cpu) == Ok(true)));
        }
        let list = |path: &str| listed(&fs::read_to_string(path).unwrap_or_default());
        let numa = (0..64).filter(|node| {
            let cpus = list(&format!("{NUMA}/node{node}/cpulist"));
            cpus.iter().any(|cpu| own.contains(cpu))
        });
        let online = list(ONLINE);
        let free = !own.is_empty() && online.iter().all(|cpu| own.contains(cpu));
        Self {
            cpus: mask(&own),
            numa: numa.fold(0, |mask, node| mask | 1 << node),
            free: u64::from(free),
        }
    }

    pub fn to_words(self) -> impl Iterator<Item = u64> {
        self.cpus.into_iter().chain([self.numa, self.free])
    }

    pub fn from_words(mut words: impl Iterator<Item = u64>) -> Self {
        let mut next = || words.next().unwrap_or(0);
        Self {
            cpus: std::array::from_fn(|_| next()),
            numa: next(),
            free: next(),
        }
    }

    /// How many CPUs there are.
    pub fn count(&self) -> u64 {
        self.cpus
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// The CPUs as a list: `0-3,8`.
    pub fn cpus_text(&self) -> String {
        let all = (0..64 * MASK_WORDS).filter(|cpu| self.cpus[cpu / 64] >> (cpu % 64) & 1 == 1);
        ranges(&all.collect::<Vec<_>>())
    }

    /// `CPUs 0-3, NUMA 0` for a rank that is bound, `unbound, CPUs 0-95, NUMA 0-1` for one that is
    /// not.
    fn in_words(&self) -> String {
        if self.count() == 0 {
            return "the kernel does not say".to_owned();
        }
        let free = if self.free == 1 { "unbound, " } else { "" };
        let numa = (0..64).filter(|node| self.numa >> node & 1 == 1);
        let numa = match ranges(&numa.collect::<Vec<_>>()) {
            text if text.is_empty() => String::new(),
            text => format!(", NUMA {text}"),
        };
        format!("{free}CPUs {}{numa}", self.cpus_text())
    }
}

/// The bindings of a node's ranks in words, equal ones together:
/// `rank 0: CPUs 0, NUMA 0; rank 1: CPUs 1, NUMA 0`.
pub(super) fn in_words(ranks: &[usize], bindings: &[Binding]) -> String {
    let each = alike(ranks, bindings).into_iter().map(|(binding, ranks)| {
        let word = if ranks.len() == 1 { "rank" } else { "ranks" };
        format!("{word} {}: {}", ranges(&ranks), binding.in_words())
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Ranks that are bound to the very same CPUs and are more than these, though their node has enough
/// for all: `ranks 0-1 on CPUs 0`.
pub(super) fn crowded(ranks: &[usize], bindings: &[Binding]) -> Vec<String> {
    let groups = alike(ranks, bindings).into_iter();
    let crowded = groups.filter(|(binding, ranks)| {
        let cpus = binding.count();
        cpus > 0 && ranks.len() as u64 > cpus
    });
    let words = crowded.map(|(binding, ranks)| {
        format!("ranks {} on CPUs {}", ranges(&ranks), binding.cpus_text())
    });
    words.collect()
}

/// Ranks by their binding, in the order of the lowest rank of each.
fn alike(ranks: &[usize], bindings: &[Binding]) -> Vec<(Binding, Vec<usize>)> {
    let mut groups: Vec<(Binding, Vec<usize>)> = Vec::new();
    for &rank in ranks {
        let binding = bindings[rank];
        match groups.iter_mut().find(|(other, _)| *other == binding) {
            Some((_, members)) => members.push(rank),
            None => groups.push((binding, vec![rank])),
        }
    }
    groups
}

fn mask(cpus: &[usize]) -> [u64; MASK_WORDS] {
    let mut mask = [0; MASK_WORDS];
    for &cpu in cpus.iter().filter(|&&cpu| cpu < 64 * MASK_WORDS) {
        mask[cpu / 64] |= 1 << (cpu % 64);
    }
    mask
}

/// The numbers of a list of the kernel's, `0-3,8`.
fn listed(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..=last.min(64 * MASK_WORDS))
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The binding to CPUs of the second word of the mask.
    pub fn to(cpus: u64) -> Binding {
        let mut mask = [0; MASK_WORDS];
        mask[1] = cpus;
        Binding {
            cpus: mask,
            numa: 0b10,
            free: 0,
        }
    }

    #[test]
    fn bindings_survive_the_way() {
        let own = Binding::of_this_process();
        assert!(own.count() > 0, "this process runs somewhere");
        assert_eq!(Binding::from_words(own.to_words()), own);
        assert_eq!(own.to_words().count(), WORDS);
    }

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(listed("0-2,8\n"), [0, 1, 2, 8]);
        assert!(listed("").is_empty());
    }

    #[test]
    fn equal_bindings_are_told_together() {
        let free = Binding {
            free: 1,
            ..to(0b11)
        };
        let bindings = [to(0b01), free, to(0b10), free];
        assert_eq!(
            in_words(&[0, 2], &bindings),
            "rank 0: CPUs 64, NUMA 1; rank 2: CPUs 65, NUMA 1"
        );
        assert_eq!(
            in_words(&[1, 3], &bindings),
            "ranks 1,3: unbound, CPUs 64-65, NUMA 1"
        );
        assert_eq!(
            in_words(&[0], &[Binding::default()]),
            "rank 0: the kernel does not say"
        );
    }

    #[test]
    fn ranks_on_one_cpu_are_found_where_others_are_idle() {
        let bindings = [to(0b01), to(0b01), to(0b1110)];
        assert_eq!(crowded(&[0, 1, 2], &bindings), ["ranks 0-1 on CPUs 64"]);
        assert!(crowded(&[0, 2], &bindings).is_empty());
    }
}
