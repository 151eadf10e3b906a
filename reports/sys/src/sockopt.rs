//! Socket options that no safe crate of the workspace knows. Each has a function of its own, so that
//! no caller can hand the kernel an option number whose value it would take for a pointer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the kernel pace what the socket sends, in bytes per second. TCP paces by itself; UDP needs
/// the fq queueing discipline on the interface, without which nothing is paced.
///
/// # Errors
/// What the kernel says.
pub fn set_max_pacing_rate(socket: BorrowedFd<'_>, bytes_per_s: u64) -> io::Result<()> {
    set(
        socket,
        libc::SOL_SOCKET,
        libc::SO_MAX_PACING_RATE,
        bytes_per_s,
    )
}

/// The rate at which the kernel paces the socket, in bytes per second; `u64::MAX` where it does not.
///
/// # Errors
/// What the kernel says.
pub fn max_pacing_rate(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut rate = 0;
    let length = get(
        socket,
        libc::SOL_SOCKET,
        libc::SO_MAX_PACING_RATE,
        &mut rate,
    )?;
    // A kernel that answers with 32 bits has filled the low half; its "unlimited" is all ones.
    let unlimited = length == 4 && rate == u64::from(u32::MAX);
    Ok(if unlimited { u64::MAX } else { rate })
}

/// Has the kernel, or the card, cut every send into datagrams of this many bytes (`UDP_SEGMENT`).
///
/// # Errors
/// `ENOPROTOOPT` from kernels before 4.18.
pub fn set_udp_segment(socket: BorrowedFd<'_>, bytes: u16) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, i32::from(bytes))
}

/// Lets the kernel join datagrams of equal length that come together (`UDP_GRO`).
///
/// # Errors
/// `ENOPROTOOPT` from kernels before 5.0.
pub fn set_udp_gro(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, i32::from(on))
}

/// Lets each datagram carry the time of the monotonic clock at which it is to go (`SO_TXTIME`). The fq
/// queueing discipline heeds it; etf wants another clock.
///
/// # Errors
/// `ENOPROTOOPT` from kernels before 4.19.
pub fn set_txtime(socket: BorrowedFd<'_>) -> io::Result<()> {
    let clock = libc::sock_txtime {
        clockid: libc::CLOCK_MONOTONIC,
        flags: 0,
    };
    set(socket, libc::SOL_SOCKET, libc::SO_TXTIME, clock)
}

/// Allows sends that the network reads from the caller's memory (`SO_ZEROCOPY`).
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTSUPP` for transports without it, `ENOPROTOOPT` from kernels before 4.14.
pub fn set_zerocopy(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1i32)
}

fn set<T: Copy>(socket: BorrowedFd<'_>, level: i32, name: i32, value: T) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel reads `size_of::<T>()`
    // bytes of `value`, which is a number or a struct of numbers in every call of this module.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads an option into `value`; returns how many bytes the kernel wrote.
fn get<T: Copy>(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut T,
) -> io::Result<libc::socklen_t> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `length`
    // bytes to `value`, which is a plain number of that size in every call of this module.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(length)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_pacing_rate_is_taken_and_given_back() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        assert_eq!(max_pacing_rate(socket.as_fd()).expect("known"), u64::MAX);
        set_max_pacing_rate(socket.as_fd(), 12_500_000).expect("taken");
        assert_eq!(max_pacing_rate(socket.as_fd()).expect("known"), 12_500_000);
    }
}
