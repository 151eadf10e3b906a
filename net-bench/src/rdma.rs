//! Tests over RDMA devices: verbs and libfabric.
//!
//! A [`test`](mod@test) is agreed on over the control channel, as for sockets, and [`conduct`]ed from
//! both ends. The threads of each [`side`] open their [`port`]s, tell each other how to connect them
//! at a [`meeting`], drive them with the loops of [`work`], and part together (`ending`). The device's
//! counters say which way the bytes went ([`proof`]).

pub mod conduct;
pub mod ending;
pub mod fabric;
pub mod meeting;
pub mod port;
pub mod proof;
pub mod side;
pub mod test;
pub mod verbs;
pub mod work;
