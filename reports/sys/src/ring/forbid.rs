//! A thread without io_uring, to see what a program makes of a kernel that refuses it.

use std::io;

/// Forbids io_uring to the calling thread and to all that it starts from now on, as the seccomp
/// profiles of container runtimes do: `io_uring_setup` says EPERM. There is no way back.
///
/// # Errors
/// What the kernel says of seccomp.
pub fn forbid() -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // The number of a system call is the first word of what a filter looks at.
    let load = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    let setup = libc::SYS_io_uring_setup as u32;
    let compare = libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, setup)
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let refuse = statement(libc::BPF_RET | libc::BPF_K, refuse);
    let allow = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    let mut filter = [load, compare, refuse, allow];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the first call takes numbers only. The second reads `program` and what it points to,
    // which both live through it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER as u64,
                &raw const program,
            ) == 0
    };
    done.then_some(()).ok_or_else(io::Error::last_os_error)
}
