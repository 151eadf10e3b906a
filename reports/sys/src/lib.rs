//! Every `unsafe` line that the `reports` library and `net-bench` rest on.
//!
//! Both forbid unsafe code, because they parse what strangers wrote. What they need without a safe
//! interface is here: the processor's cycle counter, which the timed loops read once per operation,
//! the ethtool ioctls, which alone know a network card's firmware and offloads, the socket
//! options that no crate knows, batches of datagrams whose headers are laid out once, and
//! transfers inside the kernel.

mod cycles;
pub mod ethtool;
pub mod mmsg;
pub mod sockopt;
pub mod transfer;

pub use cycles::cycles;
