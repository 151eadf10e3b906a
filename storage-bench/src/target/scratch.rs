//! Scratch files: created so that nothing can leave them behind, and written in full before they
//! are measured.

use crate::sys::Buffers;
use crate::workload::content::Content;
use anyhow::Context;
use nix::sys::statvfs::fstatvfs;
use reports::measure::stop_requested;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Written at a time during the layout.
const CHUNK_BYTES: u64 = 1 << 20;

/// A file without a name in `dir`. It vanishes with its last descriptor, however the process ends.
pub fn nameless(dir: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE | libc::O_EXCL)
        .open(dir);
    match opened {
        // What kernels and file systems without O_TMPFILE say; the flag contains O_DIRECTORY.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOENT)
            ) =>
        {
            named(&dir.join(format!(".storage-bench-{:016x}", fastrand::u64(..))))
        }
        opened => {
            opened.with_context(|| format!("cannot create a scratch file in {}", dir.display()))
        }
    }
}

/// A new file of this name, which is taken away again at once: only the descriptor remains.
pub fn named(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    fs::remove_file(path).with_context(|| {
        format!(
            "cannot unlink {}, which was created just now; remove it",
            path.display()
        )
    })?;
    Ok(file)
}

/// Writes the whole file, block by block, and makes it durable.
pub fn lay_out(
    file: &File,
    name: &str,
    size: u64,
    block_bytes: u64,
    nonce: u64,
) -> anyhow::Result<Content> {
    check_space(file, name, size)?;
    let content = Content::new(nonce);
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
            let offset = at + index as u64 * block_bytes;
            content.fill(block, content.laid_out(offset));
        }
        file.write_all_at(chunk, at)
            .map_err(|error| write_failed(name, size, at, &error))?;
        at += bytes as u64;
    }
    file.sync_all()
        .map_err(|error| write_failed(name, size, size, &error))?;
    Ok(content)
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
