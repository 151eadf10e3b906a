//! A program that the kernel runs to choose among the sockets that share a port.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// From include/uapi/asm-generic/socket.h.
const SO_ATTACH_REUSEPORT_CBPF: libc::c_int = 51;
/// The most instructions that the kernel takes in a classic BPF program.
const MAX_INSTRUCTIONS: usize = 4096;

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
pub fn attach(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
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
    use std::mem::{align_of, offset_of};

    #[test]
    fn an_instruction_has_the_kernels_layout() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<Instruction>(), align_of::<libc::sock_filter>());
        assert_eq!(offset_of!(Instruction, jump_true), 2);
        assert_eq!(offset_of!(Instruction, k), 4);
    }

    #[test]
    fn programs_that_the_kernel_cannot_take_are_refused() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let error = attach(&socket, &[]).expect_err("no program");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let nonsense = [Instruction {
            code: 0xffff,
            jump_true: 0,
            jump_false: 0,
            k: 0,
        }];
        let error = attach(&socket, &nonsense).expect_err("no such instruction");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
