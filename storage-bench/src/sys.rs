//! Every `unsafe` line of the program: memory that the kernel reads and writes on its own time.
//!
//! [`Buffers`] is that memory. [`Ring`] is the io_uring that uses it; it knows which slots the
//! kernel holds and gives nobody else access to those, so everything above is safe code.

mod buffers;
mod ring;

pub use buffers::Buffers;
pub use ring::{Features, Ring};
