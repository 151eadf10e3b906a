//! A thread to which the kernel refuses something, to see what a program makes of it: a seccomp
//! filter answers in the kernel's place, as container runtimes have it do. It holds for the calling
//! thread and for all that it starts from now on, and there is no way back.

use std::io;

/// Where a filter finds the number of a system call and the low halves of its arguments.
const NUMBER: u32 = 0;

const fn argument(index: u32) -> u32 {
    let half = if cfg!(target_endian = "big") { 4 } else { 0 };
    16 + 8 * index + half
}

/// Refuses io_uring with `EPERM`.
///
/// # Errors
/// What the kernel says of seccomp.
pub fn io_uring() -> io::Result<()> {
    refuse(&[(NUMBER, libc::SYS_io_uring_setup as u32)], libc::EPERM)
}

/// Refuses to set one option of sockets with `ENOPROTOOPT`, as a kernel does that does not know it.
///
/// # Errors
/// What the kernel says of seccomp.
pub fn socket_option(level: i32, name: i32) -> io::Result<()> {
    let call = [
        (NUMBER, libc::SYS_setsockopt as u32),
        (argument(1), level as u32),
        (argument(2), name as u32),
    ];
    refuse(&call, libc::ENOPROTOOPT)
}

/// Refuses the calls in which each of these words has this value.
fn refuse(call: &[(u32, u32)], errno: i32) -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let mut filter = Vec::new();
    for (index, &(word, value)) in call.iter().enumerate() {
        filter.push(statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, word));
        // Another value: on to the last statement, over this loop's others and the refusal.
        let others = 2 * (call.len() - index - 1) + 1;
        filter.push(libc::sock_filter {
            jf: others as u8,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
        });
    }
    let answer = libc::SECCOMP_RET_ERRNO | errno as u32;
    filter.push(statement(libc::BPF_RET | libc::BPF_K, answer));
    let allow = libc::SECCOMP_RET_ALLOW;
    filter.push(statement(libc::BPF_RET | libc::BPF_K, allow));
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
