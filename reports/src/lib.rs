//! What every program of the suite shares: how to measure, how to say what was measured, and what
//! the machine was like.
//!
//! Data flows one way: a program turns its options into a case of its const table ([`case`]), the
//! case drives a [`measure::Workload`] through the harness ([`measure::run`]), the totals become a
//! [`model::Measurement`], and [`program::emit`] puts the [`model::Report`] where the user asked.
//! After that only reports are read: [`suite`] repeats and interleaves runs as fresh processes,
//! [`perform`] shows them as they come, [`sweep`] makes a suite of a case's command line,
//! [`import`] turns peers' outputs into reports, [`summary`] condenses repetitions with the intervals
//! of [`stats`], [`mod@compare`] sets two groups of runs against each other, [`history`] keeps what
//! matters of every run and finds since when a number is what it is, [`cluster`] looks at the reports of
//! many nodes as those of one cluster, [`screen`] judges its nodes, and [`render`] draws.
//! [`matrix`] is what programs that measure between all pairs of nodes have in common.
//!
//! Two rules shape the crate. What measures never prints and what prints never measures; the two
//! meet in the report and in the [`measure::Observer`]'s events. And nothing here is `unsafe`,
//! because this crate reads files that others wrote.
#![forbid(unsafe_code)]

pub mod case;
pub mod cluster;
pub mod compare;
pub mod history;
pub mod host;
pub mod import;
pub mod matrix;
pub mod measure;
pub mod model;
pub mod perform;
pub mod program;
pub mod rank;
pub mod ratios;
pub mod render;
pub mod screen;
pub mod stats;
pub mod suite;
pub mod summary;
pub mod sweep;

#[cfg(test)]
pub(crate) mod fixtures;
