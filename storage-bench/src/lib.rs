//! Measures storage: files, block devices, and the harness's own floor.
//!
//! A command line becomes a [`spec::Spec`]; the guard in [`target`] decides what may be touched
//! and opens it; one [`workload::job::Job`] per thread drives an [`engine::Engine`] through the
//! harness of the `reports` library; [`measurement`] turns the totals into the report's numbers.
//! [`cases`] is the table of everything there is.
//!
//! The two rules that shape the code: nothing is destroyed that this program did not create, and
//! no number is printed for work that was not verified.

pub mod cases;
pub mod engine;
pub mod measurement;
pub mod spec;
pub mod sys;
pub mod target;
pub mod workload;
