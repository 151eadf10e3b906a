//! Families of cases: those that share their options. `main` knows nothing but this table.

mod io;
mod nop;
mod object;
mod ranked;
mod verify;

pub use io::Io;
pub use nop::{Nop, NopSpec};
pub use object::Object;
pub use ranked::{Metadata, Shared};
pub use verify::{ProofArgs, ProofSpec, Verify};

use clap::{ArgMatches, Command};
use reports::case::Entry;
use reports::model::Fact;
use serde::Serialize;

/// Cases that share the type of their options.
pub trait Family {
    /// What a command line comes to.
    type Spec: Serialize + 'static;

    /// The cases, in the order in which users see them.
    const CASES: &'static [Entry<Self::Spec>];

    /// Adds a case's options to its subcommand.
    fn options(case: &str, command: Command) -> Command;

    /// What the options ask for: one specification for each case of the report,
    /// and at least one.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    fn specs(case: &str, options: &ArgMatches) -> anyhow::Result<Vec<Self::Spec>>;

    /// Where random numbers begin, if any are drawn.
    fn seed(spec: &Self::Spec) -> Fact<u64>;
}
