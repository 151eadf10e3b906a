//! Memory straight from the kernel: of which pages, and on which NUMA node.
//!
//! Large pages save the kernel work: a registered buffer of 2 MiB pages is one segment where one of
//! 4 KiB pages is 512, and the processor looks its address up once. Memory on the node of the
//! device saves the way between the sockets. Both are wishes: what came of them is told.

use std::io;
use std::ptr::{self, NonNull};

const HUGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// The log2 of a page's size stands in these bits of the flags of `mmap`.
const HUGE_2MB: i32 = 21 << libc::MAP_HUGE_SHIFT;
/// From linux/mempolicy.h: these nodes and no other.
const MPOL_BIND: i32 = 2;
const NODES: usize = 1024;

/// What is wished for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// Pages of 2 MiB.
    pub huge: bool,
    /// Memory of this NUMA node.
    pub node: Option<u32>,
}

/// The pages that a region is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// As the system does by default.
    Default,
    /// From the pool of huge pages.
    Hugetlb,
    /// Made huge by the kernel as it saw fit: so many bytes of the region.
    Transparent(u64),
}

/// What came of a [`Wish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The pages in use.
    pub pages: Pages,
    /// Why pages of the pool are not in use, if they were wished for.
    pub pages_refused: Option<String>,
    /// Why the memory is not bound to the node, if that was wished for.
    pub node_refused: Option<String>,
}

/// Zeroed memory, given back when dropped.
#[derive(Debug)]
pub(super) struct Region {
    mapped: NonNull<u8>,
    mapped_bytes: usize,
    /// Where it begins for those who use it: huge pages want a multiple of their size.
    pub(super) start: NonNull<u8>,
    /// How much of it there is from the start on: whole pages.
    bytes: usize,
}

// SAFETY: the mapping is owned by this value alone and tied to no thread.
unsafe impl Send for Region {}

impl Region {
    /// Memory as it comes, touched by nobody yet.
    pub(super) fn plain(bytes: usize) -> io::Result<Self> {
        Self::map(bytes, PAGE_BYTES, 0)
    }

    /// Memory as wished for, if it can be had so, and all of it present.
    pub(super) fn placed(bytes: usize, wish: Wish) -> io::Result<(Self, Granted)> {
        let mut refused = None;
        if wish.huge {
            let pool = Self::map(bytes, HUGE_BYTES, libc::MAP_HUGETLB | HUGE_2MB);
            match pool.and_then(|region| region.settle(wish)) {
                Ok((region, node_refused)) => {
                    let granted = Granted {
                        pages: Pages::Hugetlb,
                        pages_refused: None,
                        node_refused,
                    };
                    return Ok((region, granted));
                }
                Err(error) => refused = Some(no_pool(bytes, &error)),
            }
        }
        let unit = if wish.huge { HUGE_BYTES } else { PAGE_BYTES };
        let region = Self::map(bytes, unit, 0)?;
        if wish.huge {
            region.advise(libc::MADV_HUGEPAGE);
        }
        let (region, node_refused) = region.settle(wish)?;
        let pages = match wish.huge.then(|| transparent_bytes(region.start)) {
            Some(huge) if huge > 0 => Pages::Transparent(huge.min(region.bytes as u64)),
            _ => Pages::Default,
        };
        let granted = Granted {
            pages,
            pages_refused: refused,
            node_refused,
        };
        Ok((region, granted))
    }

    fn map(bytes: usize, unit: usize, flags: i32) -> io::Result<Self> {
        let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
        // Room to move the start to a multiple, where the kernel does not promise one.
        let spare = if unit > PAGE_BYTES && flags == 0 {
            unit
        } else {
            0
        };
        let bytes = bytes.checked_next_multiple_of(unit).ok_or_else(too_large)?;
        let mapped_bytes = bytes.checked_add(spare).ok_or_else(too_large)?;
        // SAFETY: a new private mapping at a place of the kernel's choice touches no other memory.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapped = NonNull::new(mapped.cast::<u8>()).ok_or_else(too_large)?;
        let ahead = if spare > 0 {
            mapped.align_offset(unit)
        } else {
            0
        };
        // SAFETY: the start moves by less than `spare`, which the mapping has beyond `bytes`.
        let start = unsafe { mapped.add(ahead) };
        Ok(Self {
            mapped,
            mapped_bytes,
            start,
            bytes,
        })
    }

    fn advise(&self, advice: i32) -> bool {
        // SAFETY: the range is this mapping's, and none of the advice given here loses content.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, advice) == 0 }
    }

    /// Binds it to its node and then has every page present, so that none is made while something
    /// is timed. Why it is not bound, if it was to be.
    fn settle(self, wish: Wish) -> io::Result<(Self, Option<String>)> {
        let node_refused = wish.node.and_then(|node| {
            let bound = self.bind(node);
            bound.err().map(|error| format!("mbind: {error}"))
        });
        if !self.advise(libc::MADV_POPULATE_WRITE) {
            let error = io::Error::last_os_error();
            // Kernels before 5.14 do not know it. Elsewhere it says what would else be a signal.
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
            for at in (0..self.bytes).step_by(PAGE_BYTES) {
                // SAFETY: the place lies inside the mapping, which nobody else knows yet.
                unsafe { self.start.add(at).write_volatile(0) };
            }
        }
        Ok((self, node_refused))
    }

    fn bind(&self, node: u32) -> io::Result<()> {
        let mut nodes = [0u64; NODES / 64];
        let word = nodes.get_mut(node as usize / 64);
        *word.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))? |= 1 << (node % 64);
        // SAFETY: the range is this mapping's; `nodes` holds as many bits as are announced, and
        // lives through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.start.as_ptr(),
                self.bytes,
                MPOL_BIND,
                nodes.as_ptr(),
                NODES,
                0,
            )
        };
        if result == 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this very length, and unmapped only here.
        unsafe { libc::munmap(self.mapped.as_ptr().cast(), self.mapped_bytes) };
    }
}

fn no_pool(bytes: usize, error: &io::Error) -> String {
    let pages = bytes.div_ceil(HUGE_BYTES);
    format!(
        "{pages} free huge pages of 2 MiB are needed ({error}); as root, `sysctl \
         vm.nr_hugepages=N` sets how many there are"
    )
}

/// Bytes of the mapping at `start` that the kernel has made of transparent huge pages.
fn transparent_bytes(start: NonNull<u8>) -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    anon_huge_bytes(&text, start.as_ptr() as u64).unwrap_or(0)
}

/// The same, from the text of `smaps`.
fn anon_huge_bytes(smaps: &str, address: u64) -> Option<u64> {
    let mut lines = smaps.lines().skip_while(|line| !holds(line, address));
    lines.next()?;
    let kib = lines
        .take_while(|line| range(line).is_none())
        .find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    let kib: u64 = kib.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn holds(line: &str, address: u64) -> bool {
    range(line).is_some_and(|(first, end)| (first..end).contains(&address))
}

/// `7f0000000000-7f0000200000 rw-p ...`
fn range(line: &str) -> Option<(u64, u64)> {
    let (first, end) = line.split(' ').next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(first)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_of_huge_pages_is_read_for_the_mapping_at_hand() {
        let smaps = "1000-2000 rw-p 0 00:00 0\nRss: 4 kB\nAnonHugePages: 8 kB\n\
                     2000-9000 rw-p 0 00:00 0\nRss: 4 kB\nAnonHugePages:      2048 kB\n";
        assert_eq!(anon_huge_bytes(smaps, 0x2fff), Some(2 << 20));
        assert_eq!(anon_huge_bytes(smaps, 0x1000), Some(8192));
        assert_eq!(anon_huge_bytes(smaps, 0x9000), None);
    }

    #[test]
    fn a_wish_for_huge_pages_gives_memory_whatever_comes_of_it() {
        let wish = Wish {
            huge: true,
            node: None,
        };
        let (region, granted) = Region::placed(3 << 20, wish).expect("memory");
        assert_eq!(region.start.as_ptr() as usize % HUGE_BYTES, 0);
        assert!(region.bytes >= 3 << 20);
        let pooled = granted.pages == Pages::Hugetlb;
        assert_eq!(granted.pages_refused.is_none(), pooled, "{granted:?}");
        if let Some(reason) = granted.pages_refused {
            assert!(reason.starts_with("2 free huge pages"), "{reason}");
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_told() {
        let wish = Wish {
            huge: false,
            node: Some(1000),
        };
        let (_region, granted) = Region::placed(1 << 16, wish).expect("memory");
        let reason = granted.node_refused.expect("no machine has that many");
        assert!(reason.starts_with("mbind: "), "{reason}");
        let beyond = Wish {
            huge: false,
            node: Some(100_000),
        };
        let (_region, granted) = Region::placed(1 << 16, beyond).expect("memory");
        assert!(granted.node_refused.is_some());
    }
}
