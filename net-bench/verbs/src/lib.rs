//! A small safe layer over RDMA verbs, as a benchmark of messages needs them.
//!
//! Types, constants and the calls that move data are those of `rdma-sys`; what libibverbs and
//! librdmacm export is loaded when the program runs ([`mod@sysfs`] needs neither). So a host without
//! them starts what uses this crate, and learns from [`Error::Missing`] what to install.
//!
//! A thread opens a [`Context`] and on it [`Lanes`]: queue pairs with their completion queues and
//! their memory, which is cut into slots. Lanes are connected by numbers that both sides tell each
//! other ([`Route`], [`Peer`]), or by the connection manager ([`Listener`], [`connect`]). [`gid`]
//! says which of a port's addresses to take,
//! [`efa`] what a card of AWS can.
//!
//! # Threads
//! Nothing here can be sent to another thread; threads that share nothing scale best.
//!
//! # Memory
//! A slot in flight cannot be touched. What the peer writes, reads or adds to is memory in which
//! both sides work: [`Lanes::target`] is for when the peer does not.

mod device;
pub mod efa;
mod error;
pub mod gid;
mod lanes;
mod library;
mod manager;
mod memory;
mod pair;
mod queue;
pub mod sysfs;

pub use device::{Context, Limits, Mtu, PortState, devices};
pub use error::Error;
pub use lanes::{Completed, Completion, Lanes, Posted, Shape};
pub use manager::{Listener, connect};
pub use pair::{Peer, Route};
pub use queue::BATCH;

use std::fmt;

/// The transport of queue pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Reliable, connected.
    Rc,
    /// Unreliable, connected.
    Uc,
    /// Unreliable datagrams.
    Ud,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rc => "RC",
            Self::Uc => "UC",
            Self::Ud => "UD",
        })
    }
}

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A message, which a receive takes.
    Send,
    /// A write into the peer's memory.
    Write,
    /// A write that also completes a receive of the peer's, with the low 32 bits of its number.
    WriteData,
    /// A read of the peer's memory.
    Read,
    /// An addition in the peer's memory that returns the value before.
    FetchAdd,
    /// A comparison and exchange in the peer's memory.
    CompareSwap,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send => "send",
            Self::Write => "write",
            Self::WriteData => "write with immediate data",
            Self::Read => "read",
            Self::FetchAdd => "fetch-and-add",
            Self::CompareSwap => "compare-and-swap",
        })
    }
}

impl Operation {
    /// Whether it completes a receive of the peer's.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::Send | Self::WriteData)
    }

    /// Whether it brings something back.
    #[must_use]
    pub fn fetches(self) -> bool {
        matches!(self, Self::Read | Self::FetchAdd | Self::CompareSwap)
    }

    /// Whether it is atomic, on 8 bytes.
    #[must_use]
    pub fn is_atomic(self) -> bool {
        matches!(self, Self::FetchAdd | Self::CompareSwap)
    }

    /// Whether it works on the peer's memory.
    #[must_use]
    pub fn has_target(self) -> bool {
        self != Self::Send
    }

    /// Whether a transport has it.
    #[must_use]
    pub fn is_of(self, service: Service) -> bool {
        match service {
            Service::Rc => true,
            Service::Uc => !self.fetches(),
            Service::Ud => self == Self::Send,
        }
    }
}
