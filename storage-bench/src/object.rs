//! Object stores that speak S3: AWS's own and those compatible with it.
//!
//! [`cases`] is the table, [`spec`] and [`place`] are the options. Everything below `run` needs
//! the cargo feature `object`: it is the only asynchronous code of the program, because an HTTP
//! client with many requests under way per thread is what people use against such stores.
//!
//! A run claims a prefix that must be empty, puts a marker there that names it, works only below
//! a folder of its own, and removes what it made however it ends. What a killed run leaves behind
//! is removed by `object_clean`.

pub mod cases;
pub mod place;
pub mod spec;

#[cfg(feature = "object")]
mod claim;
#[cfg(feature = "object")]
mod clean;
#[cfg(feature = "object")]
mod client;
#[cfg(feature = "object")]
mod content;
#[cfg(feature = "object")]
mod job;
#[cfg(feature = "object")]
mod keys;
#[cfg(feature = "object")]
mod measured;
#[cfg(feature = "object")]
mod operation;
#[cfg(feature = "object")]
mod run;
#[cfg(feature = "object")]
mod uploads;
#[cfg(feature = "object")]
mod wire;

#[cfg(feature = "object")]
pub use clean::clean;
#[cfg(feature = "object")]
use run::run;

use reports::case::Availability;
#[cfg(not(feature = "object"))]
use reports::model::Unavailable;

#[cfg(not(feature = "object"))]
const MISSING: &str = "this build is without object stores; build it with \
                       `cargo build --release -p storage-bench --features object`";

/// Whether this build has what the cases need; whether the store answers shows when it is asked.
#[must_use]
pub fn available() -> Availability {
    #[cfg(feature = "object")]
    return Availability::Available;
    #[cfg(not(feature = "object"))]
    Availability::Unavailable {
        reason: MISSING.to_owned(),
    }
}

/// The case that this build cannot run.
#[cfg(not(feature = "object"))]
fn run(
    _: &spec::ObjectSpec,
    _: &dyn reports::measure::Observer,
) -> anyhow::Result<reports::model::Measurement> {
    Err(Unavailable(MISSING.to_owned()).into())
}

/// The command that this build does not have.
///
/// # Errors
/// Always.
#[cfg(not(feature = "object"))]
pub fn clean(_: &spec::CleanArgs) -> anyhow::Result<String> {
    Err(Unavailable(MISSING.to_owned()).into())
}
