//! Latency and bandwidth of networks, between two hosts or over loopback.
//!
//! The way through the crate: [`cases`] is the table of what can be measured; a row's options
//! ([`spec`]) become a [`test`], which the [`client`] agrees on with a [`server`] over the
//! authenticated [`control`] channel. Then both do their [`side`] of it: one [`workload`] per
//! thread, driven by the harness of the `reports` crate over flows of a [`transport`], while
//! [`observe`] notes what was behind the numbers. The client puts the two sides' results together as
//! [`metrics`]. Tests over RDMA devices take the same way through [`rdma`], with a server in a process
//! of its own ([`companion`]) where none is named. [`place`] puts threads and listeners where the
//! queues of the network card are. [`mesh`] has servers measure among each other, each sent to the
//! others on [`errand`]s.
//!
//! It is a library so that tests can reach every part that reads what a stranger sent.
#![forbid(unsafe_code)]

pub mod attend;
pub mod cases;
pub mod client;
pub mod companion;
pub mod control;
pub mod errand;
pub mod mesh;
pub mod metrics;
pub mod observe;
pub mod place;
pub mod rdma;
pub mod server;
pub mod side;
pub mod size;
pub mod spec;
pub mod test;
pub mod transport;
pub mod workload;

/// The program's name, in reports and messages.
pub const PROGRAM: &str = "net-bench";
