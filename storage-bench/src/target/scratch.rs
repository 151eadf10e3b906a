//! The layout: scratch files are written in full before they are measured.

use crate::spec::SyncMode;
use crate::sys::Buffers;
use crate::workload::content::Content;
use anyhow::Context;
use nix::sys::statvfs::fstatvfs;
use reports::measure::stop_requested;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Written at a time during the layout.
const CHUNK_BYTES: u64 = 1 << 20;

/// Writes this range of the file, block by block, and makes it durable.
pub fn lay_out(
    file: &File,
    name: &str,
    range: Range<u64>,
    block_bytes: u64,
    content: Content,
) -> anyhow::Result<()> {
    let (start, size) = (range.start, range.end - range.start);
    check_space(file, name, size)?;
    let size = size / block_bytes * block_bytes;
    let blocks_per_chunk = (CHUNK_BYTES / block_bytes).max(1);
    let chunk_bytes = blocks_per_chunk * block_bytes;
    let mut buffer = Buffers::new(1, chunk_bytes as usize)?;
    let mut at = 0;
    while at < size {
        anyhow::ensure!(!stop_requested(), "a signal ended the layout of {name}");
        let bytes = chunk_bytes.min(size - at) as usize;
        let chunk = &mut buffer.get_mut(0)[..bytes];
        for (index, block) in chunk.chunks_exact_mut(block_bytes as usize).enumerate() {
            let offset = start + at + index as u64 * block_bytes;
            content.fill(block, content.laid_out(offset));
        }
        file.write_all_at(chunk, start + at)
            .map_err(|error| write_failed(name, size, at, &error))?;
        at += bytes as u64;
    }
    file.sync_all()
        .map_err(|error| write_failed(name, size, size, &error))
}

/// The same file, opened so that writes return once they are durable. The kernel does not change
/// that of an open file, and the layout would have taken long so.
pub fn synchronous(file: File, name: &str, sync: SyncMode) -> anyhow::Result<File> {
    if sync == SyncMode::None {
        return Ok(file);
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(sync.flags())
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .with_context(|| format!("cannot open {name} again through /proc/self/fd for --sync"))
}

fn check_space(file: &File, name: &str, size: u64) -> anyhow::Result<()> {
    let space =
        fstatvfs(file).with_context(|| format!("cannot ask for the free space of {name}"))?;
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    anyhow::ensure!(
        free >= size,
        "{name} needs {size} bytes, and the file system has {free} free; use a smaller --size or \
         another place"
    );
    Ok(())
}

fn write_failed(name: &str, size: u64, at: u64, error: &io::Error) -> anyhow::Error {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOSPC) => "; the disk is full: use a smaller --size or another place",
        Some(libc::EDQUOT) => "; the quota is used up: use a smaller --size or another place",
        Some(libc::EFBIG) => {
            "; the file would be larger than `ulimit -f` or the file system allows: use a smaller \
             --size"
        }
        _ => "",
    };
    anyhow::anyhow!("cannot lay out {name}: writing byte {at} of {size}: {error}{remedy}")
}
