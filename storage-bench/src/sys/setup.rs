//! How a ring is set up: what is asked of the kernel, what it grants, and what is done without.

use super::form::Form;
use io_uring::IoUring;
use nix::sys::resource::{Resource, getrlimit};
use std::io;

/// What a ring is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Completions are polled for (`IORING_SETUP_IOPOLL`).
    pub polled: bool,
    /// A thread of the kernel submits (`IORING_SETUP_SQPOLL`), on this CPU if one is named.
    pub kernel_thread: Option<Option<u32>>,
    /// Whether the file is registered.
    pub register_file: bool,
    /// Whether the buffers are registered.
    pub register_buffers: bool,
    /// How many completions [`crate::engine::Wait::One`] waits for, if so many are in flight.
    pub complete_min: usize,
    /// The most completions that are taken at a time.
    pub complete_max: usize,
    /// One operation in so many is left to a thread of the kernel at once; none if zero.
    pub force_async: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            polled: false,
            kernel_thread: None,
            register_file: true,
            register_buffers: true,
            complete_min: 1,
            complete_max: usize::MAX,
            force_async: 0,
        }
    }
}

/// What the kernel granted of what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// Set-up flags in force.
    pub setup_flags: Vec<&'static str>,
    /// Why a set-up flag is not in force.
    pub refused: Vec<String>,
    /// Whether the ring's own descriptor is registered.
    pub registered_ring: Result<(), String>,
    /// Whether the file is registered; `None` where that was not wanted.
    pub registered_file: Option<Result<(), String>>,
    /// Whether the buffers are registered; `None` where that was not wanted.
    pub registered_buffers: Option<Result<(), String>>,
}

/// How long the kernel's thread looks at an empty queue before it sleeps, in milliseconds.
const IDLE_MS: u32 = 1000;

/// The flags that only make a ring faster. Older kernels refuse those they do not know with EINVAL,
/// so they are given up one by one from the newest (6.6) to the oldest (5.19).
const OPTIONAL: [&str; 4] = [
    "no_sqarray",
    "defer_taskrun",
    "single_issuer",
    "coop_taskrun",
];
/// Those that a ring with a kernel thread can have: its completions are that thread's work.
const OPTIONAL_WITH_THREAD: [&str; 2] = ["no_sqarray", "single_issuer"];

type Made<M> = (
    IoUring<<M as Form>::Sqe, <M as Form>::Cqe>,
    Vec<&'static str>,
    Vec<String>,
);

/// A ring, the flags in force, and why the others are not.
pub(super) fn build<M: Form>(entries: u32, setup: &Setup) -> io::Result<Made<M>> {
    let optional = match setup.kernel_thread {
        None => &OPTIONAL[..],
        Some(_) => &OPTIONAL_WITH_THREAD[..],
    };
    let mut refused = Vec::new();
    loop {
        let flags = &optional[refused.len()..];
        let mut builder = IoUring::<M::Sqe, M::Cqe>::builder();
        builder.setup_clamp();
        let mut in_force = Vec::new();
        if setup.polled {
            builder.setup_iopoll();
            in_force.push("iopoll");
        }
        if let Some(cpu) = setup.kernel_thread {
            builder.setup_sqpoll(IDLE_MS);
            in_force.push("sqpoll");
            if let Some(cpu) = cpu {
                builder.setup_sqpoll_cpu(cpu);
                in_force.push("sq_aff");
            }
        }
        for flag in flags {
            match *flag {
                "no_sqarray" => builder.setup_no_sqarray(),
                "defer_taskrun" => builder.setup_defer_taskrun(),
                "single_issuer" => builder.setup_single_issuer(),
                _ => builder.setup_coop_taskrun(),
            };
        }
        in_force.extend(flags);
        match builder.build(entries) {
            Ok(ring) => return Ok((ring, in_force, refused)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !flags.is_empty() => {
                refused.push(format!("{}: {error}", flags[0]));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Why buffers are not registered, and what would help.
pub(super) fn not_registered(error: &io::Error, bytes: usize) -> String {
    let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((limit, _)) if error.raw_os_error() == Some(libc::ENOMEM) => limit / 1024,
        _ => return error.to_string(),
    };
    format!(
        "{error}: the buffers take {} KiB of locked memory, and `ulimit -l` allows {limit} KiB; \
         raise it, or lower --bs, --iodepth or --numjobs",
        bytes.div_ceil(1024)
    )
}
