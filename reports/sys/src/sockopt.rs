//! Socket options that the standard library and its companions do not know: what the kernel tells
//! of a connection's life, on which CPU and through which queue its packets came, how full its
//! buffers are, at which rate it is paced, and by which program listeners of one port share their
//! connections. Each option has a function of its own, so that no caller can hand the kernel an
//! option number whose value it would take for a pointer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// From include/uapi/asm-generic/socket.h; the architectures that differ (alpha, mips, parisc,
/// sparc) are none of this suite's.
const SO_MEMINFO: libc::c_int = 55;
const SO_INCOMING_NAPI_ID: libc::c_int = 56;
const SO_ATTACH_REUSEPORT_CBPF: libc::c_int = 51;
/// The most instructions that the kernel takes in a classic BPF program.
const MAX_INSTRUCTIONS: usize = 4096;

/// Reads an option as bytes and says how many the kernel wrote.
pub(crate) fn get_bytes(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(buffer.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the descriptor is borrowed and therefore open; the kernel writes at most `length`
    // bytes, which is no more than the buffer holds, and then the number written into `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((length as usize).min(buffer.len()))
}

fn get_word(socket: &impl AsFd, name: libc::c_int) -> io::Result<u32> {
    let mut word = [0; 4];
    match get_bytes(socket, libc::SOL_SOCKET, name, &mut word)? {
        4 => Ok(u32::from_ne_bytes(word)),
        length => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the kernel answered with {length} bytes where a number of 4 was asked"),
        )),
    }
}

/// The CPU that last took in a packet of this socket; `None` before the first packet.
///
/// # Errors
/// What the kernel says.
pub fn incoming_cpu(socket: &impl AsFd) -> io::Result<Option<u32>> {
    let cpu = get_word(socket, libc::SO_INCOMING_CPU)?;
    Ok((cpu != u32::MAX).then_some(cpu))
}

/// The NAPI instance, one per receive queue, that last took in a packet of this socket. `None`
/// where no packet came through one: before the first, and on loopback.
///
/// # Errors
/// `ENOPROTOOPT` on kernels built without busy polling.
pub fn incoming_napi_id(socket: &impl AsFd) -> io::Result<Option<u32>> {
    let id = get_word(socket, SO_INCOMING_NAPI_ID)?;
    Ok((id != 0).then_some(id))
}

/// The memory of a socket, in bytes, and the packets it dropped for want of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemInfo {
    /// Memory of received packets that nobody has read.
    pub receive_queue_bytes: u32,
    /// The most that may be.
    pub receive_buffer_bytes: u32,
    /// Memory of packets that were sent and are not yet released.
    pub send_queue_bytes: u32,
    /// The most that may be.
    pub send_buffer_bytes: u32,
    /// Packets that arrived while a reader held the socket, and wait beside the queue.
    pub backlog_bytes: u32,
    /// Packets dropped because the receive queue was full; kernels before 4.14 do not say.
    pub drops: Option<u32>,
}

/// How full a socket's buffers are.
///
/// # Errors
/// What the kernel says, or `InvalidData` if it says less than Linux 4.12 does.
pub fn mem_info(socket: &impl AsFd) -> io::Result<MemInfo> {
    let mut bytes = [0; 64];
    let length = get_bytes(socket, libc::SOL_SOCKET, SO_MEMINFO, &mut bytes)?;
    let word = |index: libc::c_int| {
        let start = usize::try_from(index).ok()? * 4;
        let field = bytes[..length].get(start..start + 4)?;
        Some(u32::from_ne_bytes(field.try_into().ok()?))
    };
    let known = || {
        Some(MemInfo {
            receive_queue_bytes: word(libc::SK_MEMINFO_RMEM_ALLOC)?,
            receive_buffer_bytes: word(libc::SK_MEMINFO_RCVBUF)?,
            send_queue_bytes: word(libc::SK_MEMINFO_WMEM_ALLOC)?,
            send_buffer_bytes: word(libc::SK_MEMINFO_SNDBUF)?,
            backlog_bytes: word(libc::SK_MEMINFO_BACKLOG)?,
            drops: word(libc::SK_MEMINFO_DROPS),
        })
    };
    known().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("SO_MEMINFO has {length} bytes, fewer than any kernel gives"),
        )
    })
}

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
    let mut bytes = [0; 8];
    let option = libc::SO_MAX_PACING_RATE;
    let length = get_bytes(&socket, libc::SOL_SOCKET, option, &mut bytes)?;
    // A kernel that answers with 32 bits says "unlimited" in all ones of those.
    let narrow = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    Ok(match (length, narrow) {
        (8, _) => u64::from_ne_bytes(bytes),
        (_, u32::MAX) => u64::MAX,
        (_, rate) => rate.into(),
    })
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

/// Allows sends that the network reads from the caller's memory (`SO_ZEROCOPY`).
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTSUPP` for transports without it, `ENOPROTOOPT` from kernels before 4.14.
pub fn set_zerocopy(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1i32)
}

fn set<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel reads `size_of::<T>()`
    // bytes of `value`, which is a plain number in every call of this module.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// One instruction of a classic BPF program, `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// Has a program choose which socket of a SO_REUSEPORT group gets a packet or connection: what it
/// returns is the socket's place in the order in which they were bound. The program counts for the
/// whole group, and the kernel checks it before it takes it.
///
/// # Errors
/// `EINVAL` for a program that the kernel refuses or a socket outside of any group.
pub fn attach_reuseport(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len())
        .ok()
        .filter(|&length| (1..=MAX_INSTRUCTIONS).contains(&usize::from(length)))
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a program of {} instructions; the kernel takes 1 to {MAX_INSTRUCTIONS}",
                    program.len()
                ),
            )
        })?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and therefore open; the option's value is a whole
    // sock_fprog whose pointer and length are those of a slice of `Instruction`, which has the
    // layout of sock_filter and outlives the call. The kernel copies the program and writes none
    // of it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::mem::{align_of, offset_of};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn an_instruction_has_the_kernels_layout() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(offset_of!(Instruction, jump_true), 2);
        assert_eq!(offset_of!(Instruction, k), 4);
    }

    #[test]
    fn a_pacing_rate_is_taken_and_given_back() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        assert_eq!(max_pacing_rate(socket.as_fd()).expect("known"), u64::MAX);
        set_max_pacing_rate(socket.as_fd(), 12_500_000).expect("taken");
        assert_eq!(max_pacing_rate(socket.as_fd()).expect("known"), 12_500_000);
    }

    #[test]
    fn a_connection_tells_its_cpu_and_its_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        client.write_all(&[7; 100]).expect("it sends");
        server.peek(&mut [0]).expect("it arrived");
        let cpu = incoming_cpu(&server).expect("the kernel knows");
        assert!(cpu.is_some(), "a packet came in on some CPU");
        assert_eq!(
            incoming_napi_id(&server).ok().flatten(),
            None,
            "loopback has no NAPI"
        );
        let full = mem_info(&server).expect("it has memory");
        assert!(full.receive_queue_bytes >= 100, "{full:?}");
        assert!(
            full.receive_buffer_bytes > 0 && full.send_buffer_bytes > 0,
            "{full:?}"
        );
        server.read_exact(&mut [0; 100]).expect("it reads");
        assert_eq!(mem_info(&server).expect("it has memory").drops, Some(0));
    }

    #[test]
    fn programs_that_the_kernel_cannot_take_are_refused() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let error = attach_reuseport(&socket, &[]).expect_err("no program");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let nonsense = [Instruction {
            code: 0xffff,
            jump_true: 0,
            jump_false: 0,
            k: 0,
        }];
        let error = attach_reuseport(&socket, &nonsense).expect_err("no such instruction");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
