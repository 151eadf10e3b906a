//! Bytes that repeat, in memory that repeats: the same few pages seen one behind the other.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::ptr::{NonNull, null_mut};

/// A period of bytes, seen as often as one asks. However long it is, it takes one period of memory,
/// and of the CPU's cache.
#[derive(Debug)]
pub struct Repeated {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the pages are this value's alone, not tied to a thread, and nobody writes to them.
unsafe impl Send for Repeated {}
// SAFETY: as above.
unsafe impl Sync for Repeated {}

impl Repeated {
    /// Repeats `period` to at least `length` bytes.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` for a period that neither is a whole number of pages nor
    /// fills one with repetitions.
    pub fn new(period: &[u8], length: usize) -> io::Result<Self> {
        let (page, bytes) = (page_bytes()?, period.len());
        if bytes == 0 || !(bytes.is_multiple_of(page) || page.is_multiple_of(bytes)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Pages of 64 KiB, as some kernels have them, hold several periods.
        let period = &period.repeat((page / period.len()).max(1));
        let count = length.max(1).div_ceil(period.len());
        let length = count
            .checked_mul(period.len())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let file = file(period)?;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that
        // exists. It holds the place for what follows.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                length,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // From here on it is unmapped when something fails.
        let repeated = Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            length,
        };
        for index in 0..count {
            // SAFETY: the address lies within the mapping of above, of which nothing has been
            // borrowed yet and which this part replaces; the file has a whole period.
            let part = unsafe {
                libc::mmap(
                    repeated.start.as_ptr().add(index * period.len()).cast(),
                    period.len(),
                    libc::PROT_READ,
                    libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE,
                    file.as_raw_fd(),
                    0,
                )
            };
            if part == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(repeated)
    }
}

fn page_bytes() -> io::Result<usize> {
    // SAFETY: the call takes a number and returns one.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    match usize::try_from(bytes) {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A file in memory that holds these bytes and that nobody can change any more.
fn file(bytes: &[u8]) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a string with an end.
    let fd = unsafe { libc::memfd_create(c"pattern".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: the descriptor is open, and the seals are a number.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

impl Deref for Repeated {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is `length` readable bytes, borrowed as long as the slice; the file
        // behind it is sealed against writing and shrinking.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_seen_again_and_again() {
        let period: Vec<u8> = (0..65_536_u32).map(|index| (index / 7) as u8).collect();
        for length in [0, 1, 65_536, 65_537, 1 << 20] {
            let repeated = Repeated::new(&period, length).expect("memory for a period");
            assert!(repeated.len() >= length);
            for chunk in repeated.chunks(period.len()) {
                assert!(chunk == period);
            }
        }
    }

    #[test]
    fn a_period_of_a_part_of_a_page_fills_it() {
        let period: Vec<u8> = (0..64).collect();
        let repeated = Repeated::new(&period, 10_000).expect("memory for a page");
        assert!(repeated.chunks(64).all(|chunk| chunk == period));
    }

    #[test]
    fn what_fills_no_page_is_refused() {
        for period in [0, 100] {
            let error = Repeated::new(&vec![0; period], 1000).expect_err("no pages");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }
}
