//! Rates of creating, looking at, reading, renaming and deleting many files and folders, with
//! mdtest's phases and words: every rank its own items, all ranks through a phase together.

mod items;
mod outcome;
mod phase;
mod run;
mod spec;

pub use run::measure;
pub use spec::{Directories, MetadataArgs, MetadataSpec};
