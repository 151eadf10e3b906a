//! Tests over RDMA devices: verbs and libfabric.
//!
//! A [`test`](mod@test) is agreed on over the control channel, as for sockets. The threads of both
//! sides open their [`port`]s, tell each other how to connect them at a [`meeting`], and drive them.

pub mod fabric;
pub mod meeting;
pub mod port;
pub mod proof;
pub mod test;
pub mod verbs;
