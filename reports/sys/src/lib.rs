//! Every `unsafe` line that the suite's libraries rest on.
//!
//! `reports` and `net-bench` forbid unsafe code, because they parse what strangers wrote. What they
//! need that has no safe interface stands here: the processor's cycle counter, which the timed
//! loops read once per operation; the ethtool ioctls, which alone know a network card's firmware,
//! statistics and queues; and the socket options that tell what happened to a connection.

mod cycles;
pub mod ethtool;
pub mod sockopt;
mod tcp_info;

pub use cycles::cycles;
pub use tcp_info::TcpInfo;
