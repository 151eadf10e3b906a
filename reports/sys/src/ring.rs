//! io_uring on one connected socket: several sends with one system call, and receives that stay
//! armed and find their own buffers.
//!
//! The rings own the memory that the kernel reads from or writes to, and hand it out only while the
//! kernel has no claim on it; what is still in flight when a ring is dropped is cancelled first. That
//! is what makes their interface safe. A ring belongs to the thread that made it: the kernel refuses
//! the calls of any other, with an error.

mod base;
mod mapping;
mod receive;
mod send;

pub use receive::{ReceiveRing, Received};
pub use send::{SendKind, SendRing, Usage};

use std::fmt;
use std::io;

/// What the kernel granted of what makes a ring fast, and what it refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Names of set-up flags in force and of what is registered.
    pub granted: Vec<&'static str>,
    /// What is done without, each with the kernel's word.
    pub refused: Vec<String>,
}

impl Grants {
    /// Notes an answer; says whether it was yes.
    fn note(&mut self, name: &'static str, answer: io::Result<()>) -> bool {
        match answer {
            Ok(()) => self.granted.push(name),
            Err(ref error) => self.refused.push(format!("{name}: {error}")),
        }
        answer.is_ok()
    }
}

/// Why there is no ring: what was asked of the kernel, and its answer.
#[derive(Debug)]
pub struct Refused {
    /// What it takes: a system call, an operation, a registration.
    pub what: &'static str,
    /// The kernel's word.
    pub error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[cfg(test)]
mod tests;
