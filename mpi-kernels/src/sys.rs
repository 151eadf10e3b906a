//! What rsmpi has no safe call for, or none that does not allocate: every unsafe line of the crate.

pub mod collective;
mod components;
mod descriptor;
mod element;
mod endpoint;
mod exchange;
mod raw;
mod rma;
mod together;
mod window;

pub use components::selected_pml;
pub use descriptor::with_descriptor;
pub use element::ElementType;
pub use endpoint::Endpoint;
pub use exchange::{Exchange, Link};
pub use raw::{in_place, succeeded};
pub use rma::{Memory, Parts, Rma};
pub use together::Together;
pub use window::Window;
