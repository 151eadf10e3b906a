//! Measures storage: files, block devices, and the harness's own floor.
//!
//! A command line becomes a [`spec::Spec`]; the guard in [`target`] decides what may be touched
//! and opens it; one [`workload::job::Job`] per thread drives an [`engine::Engine`] through the
//! harness of the `reports` library; [`observe`] watches the device meanwhile; [`analysis`] reads
//! the slices; [`measurement`] turns the totals into the report's numbers. [`cases`] is the table
//! of these cases.
//!
//! [`shared`] and [`metadata`] are measured by many ranks together, as a [`crew::Crew`]: one process
//! alone, or those that `mpirun` started. [`object`] does the same for stores
//! behind HTTP.
//!
//! The two rules that shape the code: nothing is destroyed that this program did not create, and
//! no number is printed for work that was not verified.

pub mod analysis;
pub mod cases;
pub mod crew;
pub mod engine;
pub mod family;
pub mod measurement;
pub mod metadata;
pub mod mounted;
pub mod object;
pub mod observe;
pub mod placement;
pub mod search;
pub mod shared;
pub mod spec;
pub mod sys;
pub mod target;
pub mod workload;

/// The program's name, in reports and messages.
pub const PROGRAM: &str = "storage-bench";
