//! Every `unsafe` line that the suite's libraries rest on.
//!
//! `reports` and `net-bench` forbid unsafe code, because they parse what strangers wrote. What they
//! need that has no safe interface stands here: the processor's cycle counter, which the timed
//! loops read once per operation; the ethtool ioctls, which alone know a network card's firmware,
//! statistics and queues; socket options that no crate knows, among them those that tell what
//! happened to a connection; batches of datagrams whose headers are laid out once; and transfers
//! inside the kernel.

mod cycles;
pub mod ethtool;
pub mod mmsg;
pub mod sockopt;
mod tcp_info;
pub mod transfer;

pub use cycles::cycles;
pub use tcp_info::TcpInfo;
