//! What the kernel tells of a socket's life: on which CPU and through which queue its packets came,
//! and how full its buffers are.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// From include/uapi/asm-generic/socket.h; the architectures that differ (alpha, mips, parisc,
/// sparc) are none of this suite's.
const SO_MEMINFO: libc::c_int = 55;
const SO_INCOMING_NAPI_ID: libc::c_int = 56;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

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
}
