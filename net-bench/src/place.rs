//! Where threads and listeners are put, so that a flow is handled where its packets come in.
//!
//! A packet that is received on one CPU and read on another crosses caches and wakes a sleeper. Both
//! are avoided when a flow's thread runs on the CPU of its receive queue ([`pin`]), and, on a
//! server, when each CPU hands its connections to a listener of its own ([`reuseport`]).

pub mod pin;
pub mod reuseport;

pub use pin::{Pin, PinError};
