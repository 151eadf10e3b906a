//! Every `unsafe` line that the `reports` library and `net-bench` rest on.
//!
//! Both forbid unsafe code, because they parse what strangers wrote. What they need without a safe
//! interface is here: the processor's cycle counter, which the timed loops read once per operation;
//! the ethtool ioctls, which alone know a network card's firmware, statistics and queues; the socket
//! options that no crate knows; what the kernel tells of a connection; the choice among sockets that
//! share a port; batches of datagrams whose headers are laid out once; transfers inside the
//! kernel; io_uring on a socket; and the fork of a daemon.

pub mod calls;
mod cycles;
pub mod ethtool;
pub mod forbid;
pub mod mmsg;
pub mod process;
pub mod repeated;
pub mod reuseport;
pub mod ring;
pub mod socket_state;
pub mod sockopt;
mod tcp_info;
pub mod transfer;

pub use cycles::cycles;
pub use tcp_info::TcpInfo;
