//! Every `unsafe` line of the program: memory that the kernel reads and writes on its own time.
//!
//! [`Buffers`] is that memory. [`Ring`] is the io_uring that uses it; it knows which slots the
//! kernel holds and gives nobody else access to those, so everything above is safe code. [`nvme`]
//! asks a controller for its logs.

mod buffers;
mod control;
mod form;
mod memory;
pub mod nvme;
mod ring;
mod setup;
mod statx;

pub use buffers::Buffers;
pub use control::{PUNCH_HOLE, discard};
pub use form::{Form, Nothing, Passthrough, ReadWrite};
pub use memory::{Granted, Pages, Wish};
pub use ring::Ring;
pub use setup::{Features, Setup};
pub use statx::direct_alignment;
