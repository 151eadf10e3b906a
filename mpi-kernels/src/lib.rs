//! MPI kernels: point-to-point and collective benchmarks for a world of ranks under `mpirun`.
//!
//! A command line becomes a [`spec::Sweep`], a row of the table [`kernels::KERNELS`] and a list of
//! [`spec::Point`]s, one per message size. The [`driver`] takes each point through preparation,
//! validation, warm-up, the timed iterations and validation again. All ranks walk through the same
//! steps, because every step may communicate; after each they agree whether to go on
//! ([`world::World::agree`]), so that one rank's failure ends the case everywhere and nobody waits
//! for a rank that left. What the ranks timed is put together by the pure functions of [`merge`],
//! and rank 0 alone builds the report and prints it.
//!
//! The crate has a driver of its own instead of the harness in `reports::measure`, because the
//! number of iterations must be agreed across processes and one iteration of a collective lasts as
//! long as its slowest rank needs.

pub mod cli;
pub mod driver;
mod evidence;
pub mod kernel;
pub mod kernels;
pub mod memory;
pub mod merge;
pub mod method;
pub mod pattern;
pub mod program;
pub mod raw;
pub mod spec;
mod sys;

pub use mpi_world::{launcher, ledger, progress, watchdog, world};

/// The program's name, in reports and messages.
pub const PROGRAM: &str = "mpi-kernels";
