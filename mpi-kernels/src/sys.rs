//! The calls into MPI that rsmpi's safe layer does not offer without allocation.

mod window;

pub use window::Window;
