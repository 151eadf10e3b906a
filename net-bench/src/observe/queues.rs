//! The queues of a network device: how flows are spread over them, who serves each, how much each
//! carried, and which source ports make flows land where they are wanted.
//!
//! One queue is one CPU's worth of packets. Whether a device's queues are all used, and by whom
//! they are served, decides what many flows can do together.

pub mod count;
pub mod layout;
pub mod steer;
pub mod toeplitz;

pub use count::{QueueCount, QueueUse};
pub use layout::Layout;
pub use steer::{SteerError, Steering};
