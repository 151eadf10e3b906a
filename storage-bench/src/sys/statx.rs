//! `statx(2)` with the one mask that no safe binding here has: what direct I/O demands of a file.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// What a file's offsets and lengths must be multiples of for direct I/O, in bytes; 0 if it takes
/// none at all, `None` if the kernel (before 6.1) or the file system does not say.
///
/// # Errors
/// What the kernel says.
pub fn direct_alignment(file: &File) -> io::Result<Option<u64>> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open for as long as `file` is borrowed, the path is empty and ends
    // with a zero, and the kernel writes at most one `struct statx` to the memory given.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            found.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all of it was zeroed, which is a valid value of every field, and filled by the kernel.
    let found = unsafe { found.assume_init() };
    let told = found.stx_mask & libc::STATX_DIOALIGN != 0;
    Ok(told.then_some(u64::from(found.stx_dio_offset_align)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_is_a_power_of_two_or_unknown() {
        let file = tempfile::tempfile().expect("a file");
        match direct_alignment(&file).expect("statx works on any file") {
            Some(0) | None => println!("SKIPPED: no direct I/O on this file system, or unknown"),
            Some(bytes) => assert!(bytes.is_power_of_two(), "{bytes}"),
        }
    }
}
