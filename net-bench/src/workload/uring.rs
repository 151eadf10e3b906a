//! Streams through io_uring: several sends with one system call, and receives that stay armed.
//! [`stream`] is for bytes in order, [`datagrams`] for datagrams.
//!
//! The rings wait for a while at a time and look whether their flow was cut in between, so that a
//! test ends whatever becomes of them. Each belongs to the thread that makes it, so they are made
//! when a workload is prepared.

pub mod datagrams;
pub mod stream;

use crate::transport::socket::SocketFlow;
use bench_sys::ring::{Grants, Refused};
use nix::libc;
use reports::model::Unavailable;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a ring waits before it looks whether its flow was cut.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a receiver's ring waits before it arms its request anew. Kernels before 7.0 may miss the
/// end of a stream, and by so much it is then seen late.
const REARM: Duration = Duration::from_millis(10);

/// About how many bytes the buffers of a receiver have together.
const BUFFERS_BYTES: u64 = 1 << 20;
/// Most buffers of a receiver.
const MOST_BUFFERS: u64 = 256;

/// How many buffers of `length_bytes` a receiver has.
#[must_use]
pub fn buffers(length_bytes: u64) -> u16 {
    let count = (BUFFERS_BYTES / length_bytes.max(1)).clamp(2, MOST_BUFFERS);
    count.next_power_of_two() as u16
}

/// What is said of a ring that is used before it is made, which no workload does.
const UNPREPARED: &str = "the flow was not prepared";

/// What a role's rings were given, and how they fared; warm-up included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingUse {
    /// Set-up flags in force, and what is registered with the kernel.
    pub granted: Vec<String>,
    /// What the kernel refused of it, with its word.
    pub refused: Vec<String>,
    /// Sends per system call, or buffers to receive into, of each ring.
    pub depth: u32,
    /// Bytes of each.
    pub bytes: u64,
    /// System calls, over all rings.
    pub enters: u64,
    /// How often the kernel found no buffer to receive into, over all rings.
    pub starved: u64,
}

impl RingUse {
    fn new(grants: &Grants, depth: usize, bytes: usize) -> Self {
        Self {
            granted: grants.granted.iter().map(|&name| name.into()).collect(),
            refused: grants.refused.clone(),
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            bytes: bytes as u64,
            enters: 0,
            starved: 0,
        }
    }

    /// Adds what another ring of the same role counted.
    pub fn add(&mut self, other: &Self) {
        self.enters += other.enters;
        self.starved += other.starved;
    }

    /// All counts, to be checked.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        [self.bytes, self.enters, self.starved]
    }
}

/// The error for a ring that could not be had: unavailable where the kernel, a limit or a container
/// refuses it.
fn refusal(option: &str, refused: &Refused) -> anyhow::Error {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.unwrap_or_default();
    let text = reason(option, refused, disabled.trim());
    match refused.error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => anyhow::anyhow!(text),
        _ => Unavailable(text).into(),
    }
}

fn reason(option: &str, refused: &Refused, disabled: &str) -> String {
    let cause = match (refused.error.raw_os_error(), disabled) {
        (Some(libc::ENOSYS), _) => {
            "the kernel has no io_uring, or a seccomp profile hides it".to_owned()
        }
        (Some(libc::EPERM | libc::EACCES), "1" | "2") => format!(
            "the sysctl kernel.io_uring_disabled is {disabled}; `sysctl -w \
             kernel.io_uring_disabled=0` allows it"
        ),
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp profile or a security module forbids it, as container runtimes do by \
             default; allow io_uring_setup, io_uring_enter and io_uring_register there"
                .to_owned()
        }
        (Some(libc::EINVAL | libc::EOPNOTSUPP), _) => {
            "it takes Linux 6.0, and 6.2 for uring-zerocopy".to_owned()
        }
        (Some(libc::ENOMEM), _) => {
            "it does not fit into the limit of locked memory: raise `ulimit -l`, or use a smaller \
             --length or fewer --flows"
                .to_owned()
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "there is no file descriptor left: raise `ulimit -n` or use fewer --flows".to_owned()
        }
        _ => "the kernel gives no further reason".to_owned(),
    };
    format!("{option}: {refused}: {cause}; or use plain in its place")
}

/// Fails if the flow was ended from this side.
fn check_cut(flow: &SocketFlow) -> anyhow::Result<()> {
    anyhow::ensure!(!flow.is_closed(), "the flow to {} was cut", flow.peer());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn refusals_name_the_cause_and_the_remedy() {
        let said = |errno, disabled: &str| {
            let error = io::Error::from_raw_os_error(errno);
            let what = "io_uring_setup";
            reason("--engine uring", &Refused { what, error }, disabled)
        };
        let text = said(libc::EPERM, "2");
        assert!(text.contains("kernel.io_uring_disabled is 2"), "{text}");
        let text = said(libc::EPERM, "0");
        assert!(text.contains("seccomp"), "{text}");
        let text = said(libc::ENOSYS, "");
        assert!(
            text.contains("--engine uring") && text.contains("plain"),
            "{text}"
        );
        let text = said(libc::ENOMEM, "0");
        assert!(text.contains("ulimit -l"), "{text}");
        let text = said(libc::EINVAL, "0");
        assert!(text.contains("Linux 6.0"), "{text}");
    }
}
