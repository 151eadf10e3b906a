//! The io_uring engine: everything queued goes to the kernel in one call that also waits, and
//! everything that has ended comes back together.

use super::{Completion, Engine, Op};
use crate::sys::{Buffers, Features, Ring};
use io_uring::IoUring;
use reports::case::Availability;
use reports::model::Unavailable;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// See the module.
pub struct Uring {
    ring: Ring<File>,
    features: Features,
}

impl Engine for Uring {
    fn open(file: Arc<File>, buffers: Buffers) -> anyhow::Result<Self> {
        let (ring, features) = Ring::new(file, buffers).map_err(refusal)?;
        Ok(Self { ring, features })
    }

    #[inline]
    fn queue(&mut self, op: Op) {
        self.ring.queue(op);
    }

    #[inline]
    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    #[inline]
    fn exchange(&mut self, done: &mut Vec<Completion>) -> io::Result<()> {
        self.ring.exchange(done)
    }

    #[inline]
    fn buffer(&self, index: usize) -> &[u8] {
        self.ring.buffer(index)
    }

    #[inline]
    fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        self.ring.buffer_mut(index)
    }

    fn facts(&self) -> Value {
        let granted = |result: &Result<(), String>| match result {
            Ok(()) => json!(true),
            Err(reason) => json!({"unavailable": reason}),
        };
        let mut facts = json!({
            "name": "uring",
            "setup_flags": self.features.setup_flags,
            "registered_ring": granted(&self.features.registered_ring),
            "registered_file": granted(&self.features.registered_file),
            "registered_buffers": granted(&self.features.registered_buffers),
        });
        if !self.features.refused.is_empty() {
            facts["refused_flags"] = json!(self.features.refused);
        }
        facts
    }
}

/// Whether the kernel lets this process have an io_uring.
#[must_use]
pub fn probe() -> Availability {
    match IoUring::new(1) {
        Ok(_) => Availability::Available,
        Err(error) => Availability::Unavailable {
            reason: reason(&error, &sysctl()),
        },
    }
}

/// The error for a ring that could not be had: unavailable where the kernel or a container refuses
/// io_uring as such.
fn refusal(error: io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            Unavailable(reason(&error, &sysctl())).into()
        }
        _ => anyhow::anyhow!("{}", reason(&error, &sysctl())),
    }
}

fn sysctl() -> String {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn reason(error: &io::Error, disabled: &str) -> String {
    let cause = match (error.raw_os_error(), disabled) {
        (Some(libc::ENOSYS), _) => {
            "the kernel is older than 5.1, was built without io_uring, or a seccomp profile hides it"
                .to_owned()
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
        (Some(libc::ENOMEM), _) => {
            "the ring does not fit into the limit of locked memory: raise `ulimit -l` or lower \
             --iodepth"
                .to_owned()
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "there is no file descriptor left: raise `ulimit -n` or lower --numjobs".to_owned()
        }
        _ => "the kernel gives no further reason".to_owned(),
    };
    format!("io_uring_setup: {error}: {cause}. Or use --engine psync")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_cause_and_the_remedy() {
        let said = |errno, disabled: &str| {
            let error = refusal(io::Error::from_raw_os_error(errno));
            let skipped = error.downcast_ref::<Unavailable>().is_some();
            (
                skipped,
                reason(&io::Error::from_raw_os_error(errno), disabled),
            )
        };
        let (skipped, text) = said(libc::EPERM, "2");
        assert!(
            skipped && text.contains("kernel.io_uring_disabled is 2"),
            "{text}"
        );
        let (skipped, text) = said(libc::EPERM, "0");
        assert!(skipped && text.contains("seccomp"), "{text}");
        let (skipped, text) = said(libc::ENOSYS, "");
        assert!(skipped && text.contains("--engine psync"), "{text}");
        let (skipped, text) = said(libc::ENOMEM, "0");
        assert!(!skipped && text.contains("ulimit -l"), "{text}");
    }
}
