//! Memory for messages: refused with a number where the node has too little, instead of ending in
//! the kernel's out-of-memory killer; aligned to pages, as OSU's buffers are.

use anyhow::Context;
use reports::model::Unavailable;
use std::fs;
use std::ops::{Deref, DerefMut};

const PAGE_BYTES: usize = 4096;

/// A buffer that begins on a page boundary.
pub struct Buffer<T> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy> Buffer<T> {
    /// `len` elements, each `value`; every page is touched.
    ///
    /// # Errors
    /// The size, if the allocator refuses it.
    pub fn filled(len: usize, value: T) -> anyhow::Result<Self> {
        let spare = PAGE_BYTES / size_of::<T>().max(1);
        let mut memory = Vec::new();
        memory.try_reserve_exact(len + spare).with_context(|| {
            let bytes = len.saturating_mul(size_of::<T>());
            format!("cannot allocate a message buffer of {bytes} bytes: use a smaller -m")
        })?;
        memory.resize(len + spare, value);
        // An element type larger than a page or of odd size stays where the allocator put it.
        let start = match memory.as_ptr().align_offset(PAGE_BYTES) {
            start if start <= spare => start,
            _ => 0,
        };
        Ok(Self { memory, start, len })
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// Refuses what this node's memory does not hold: `ranks` processes with `bytes_each`.
///
/// # Errors
/// [`Unavailable`] with both numbers and what to do.
pub fn ensure_available(bytes_each: u64, ranks: u64) -> anyhow::Result<()> {
    // A kernel that does not say how much there is gets the benefit of the doubt.
    match available_bytes() {
        Some(available) => fits(bytes_each, ranks, available),
        None => Ok(()),
    }
}

fn fits(bytes_each: u64, ranks: u64, available: u64) -> anyhow::Result<()> {
    let needed = bytes_each.saturating_mul(ranks);
    // A tenth stays for the MPI library's own buffers and everybody else.
    if needed > available / 10 * 9 {
        anyhow::bail!(Unavailable(format!(
            "the messages need {needed} bytes of memory on this node ({ranks} ranks with \
             {bytes_each} bytes each) and {available} are available: use a smaller -m"
        )));
    }
    Ok(())
}

/// What this node can still give: the kernel's estimate, or less where the cgroup has a limit.
fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let of_node = parse_available(&meminfo)?;
    Some(cgroup_left().map_or(of_node, |left| left.min(of_node)))
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// What this process's cgroup (version 2) may still take, if it has a limit.
fn cgroup_left() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let number = |file| -> Option<u64> {
        let path = format!("/sys/fs/cgroup{}/{file}", group.trim_end_matches('/'));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_on_a_page_and_have_their_length() {
        for len in [0, 1, 5000] {
            let mut bytes = Buffer::filled(len, 7u8).expect("that is little");
            assert_eq!(bytes.as_ptr().align_offset(PAGE_BYTES), 0);
            assert!(bytes.len() == len && bytes.iter().all(|&byte| byte == 7));
            bytes.fill(1);
            let floats = Buffer::filled(len, 0f32).expect("that is little");
            assert_eq!(floats.as_ptr().align_offset(PAGE_BYTES), 0);
            assert_eq!(floats.len(), len);
        }
        assert!(Buffer::filled(usize::MAX - 8192, 0u8).is_err());
    }

    #[test]
    fn too_much_is_refused_with_numbers() {
        assert!(fits(100, 4, 1000).is_ok());
        let error = fits(300, 4, 1000).expect_err("1200 of 1000");
        assert!(error.is::<Unavailable>());
        let text = error.to_string();
        assert!(
            text.contains("1200 bytes") && text.contains("4 ranks"),
            "{text}"
        );
        assert!(fits(u64::MAX, 2, u64::MAX).is_err(), "no overflow");
    }

    #[test]
    fn the_kernels_estimate_is_read() {
        let text = "MemTotal: 100 kB\nMemAvailable:      42 kB\n";
        assert_eq!(parse_available(text), Some(42 * 1024));
        assert_eq!(parse_available("MemTotal: 100 kB\n"), None);
        assert!(available_bytes().is_some(), "tests run on Linux");
    }
}
