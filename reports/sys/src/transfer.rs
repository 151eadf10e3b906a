//! Moving bytes between descriptors inside the kernel: `sendfile` and `splice`.

use crate::calls;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sends up to `count` bytes of `file` from `offset` on; returns how many.
///
/// # Errors
/// What the kernel says; `InvalidInput` for an offset beyond what a file can have.
#[inline]
pub fn sendfile(
    to: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let mut offset = position(offset)?;
    calls::count(1);
    // SAFETY: both descriptors are open as long as they are borrowed; the kernel reads and writes
    // `offset`, which lives through the call.
    let moved =
        unsafe { libc::sendfile64(to.as_raw_fd(), file.as_raw_fd(), &raw mut offset, count) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Moves up to `count` bytes from one descriptor to another, of which one is a pipe; returns how
/// many. A file is read from `offset` on; pipes and sockets have none.
///
/// # Errors
/// What the kernel says; `InvalidInput` for an offset beyond what a file can have.
#[inline]
pub fn splice(
    from: BorrowedFd<'_>,
    offset: Option<u64>,
    to: BorrowedFd<'_>,
    count: usize,
) -> io::Result<usize> {
    let mut offset = offset.map(position).transpose()?;
    let place = offset
        .as_mut()
        .map_or(std::ptr::null_mut(), std::ptr::from_mut);
    calls::count(1);
    // SAFETY: both descriptors are open as long as they are borrowed; `place` is null or leads to
    // `offset`, which lives through the call.
    let moved = unsafe {
        libc::splice(
            from.as_raw_fd(),
            place,
            to.as_raw_fd(),
            std::ptr::null_mut(),
            count,
            libc::SPLICE_F_MOVE,
        )
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

fn position(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_come_from_where_they_should() {
        let exe = File::open("/proc/self/exe").expect("this program");
        let mut expected = [0; 4096];
        let mut reader = &exe;
        reader
            .read_exact(&mut expected)
            .expect("a program is longer");
        let (mut from, to) = io::pipe().expect("a pipe");
        let moved = splice(exe.as_fd(), Some(64), to.as_fd(), 1000).expect("spliced");
        let mut got = vec![0; moved];
        from.read_exact(&mut got).expect("there");
        assert_eq!(got, expected[64..64 + moved]);
        let moved = sendfile(to.as_fd(), exe.as_fd(), 128, 500).expect("sent");
        let mut got = vec![0; moved];
        from.read_exact(&mut got).expect("there");
        assert_eq!(got, expected[128..128 + moved]);
        assert!(splice(exe.as_fd(), Some(u64::MAX), to.as_fd(), 1).is_err());
    }
}
