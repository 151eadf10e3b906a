//! Bandwidth of a file system that many nodes share, with IOR's semantics and words: every rank
//! writes, then every rank reads what another one wrote, and the phases are timed apart.

mod layout;
mod mover;
mod outcome;
mod phase;
mod run;
mod spec;

pub use layout::{Layout, Partners};
pub use run::measure;
pub use spec::{CheckRead, SharedArgs, SharedSpec, Spoil};
pub(crate) use spec::{default_shift, seconds};
