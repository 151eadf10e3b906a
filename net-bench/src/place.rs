//! Where the threads of a side run, and which sockets their work comes from.
//!
//! A packet is taken in by one CPU, and who works on it elsewhere waits for that CPU's caches to
//! hand it over. So threads can be put where their packets are ([`pin`]), flows can be led to chosen
//! queues ([`ports`]), also at the door of a
//! server, when each CPU hands its connections to a listener of its own ([`reuseport`]).

pub mod pin;
pub mod ports;
pub mod reuseport;

use pin::Pin;
use ports::Queues;
use serde::{Deserialize, Serialize};

/// Where the two sides of a test put their threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The client's threads.
    pub client: Pin,
    /// The server's threads.
    pub server: Pin,
    /// The receive queues of the server's device that flows are led to; absent where the kernel
    /// chooses source ports.
    pub queues: Option<Queues>,
}
