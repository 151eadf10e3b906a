//! From a command line to a report, for cases that many ranks measure together.

use super::{Alone, Crew};
use crate::PROGRAM;
use crate::family::Family;
use clap::{ArgMatches, FromArgMatches};
use reports::case::Entry;
use reports::model::{Case, Measurement, Outcome};
use reports::program::ranks::{launched, refused, speaks};
use reports::program::{self, OutputArgs, Session};
use std::process::ExitCode;
use std::time::Duration;

/// A family of cases that ranks measure together.
pub trait Ranked: Family {
    /// Completes a specification with what only the world of ranks knows, and checks it. All ranks
    /// come to the same.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option does not fit these ranks.
    fn settle(spec: &mut Self::Spec, crew: &dyn Crew) -> anyhow::Result<()>;

    /// After how long without any progress of any rank the job is ended.
    fn deadline(spec: &Self::Spec) -> Duration;

    /// Measures; all ranks call it. The measurement is rank 0's, others have none.
    ///
    /// # Errors
    /// What went wrong, the same on all ranks.
    fn measure(spec: &Self::Spec, crew: &dyn Crew) -> anyhow::Result<Option<Measurement>>;
}

/// Measures a case, alone or with the ranks that a launcher started.
///
/// # Errors
/// What is wrong with the options or could not be measured at all.
pub fn measure<F: Ranked>(case: &Entry<F::Spec>, options: &ArgMatches) -> anyhow::Result<ExitCode> {
    let output = OutputArgs::from_arg_matches(options)?;
    let specs = match F::specs(case.name, options) {
        Err(error) if !speaks() => return Ok(refused(program::error_code(&error))),
        specs => specs?,
    };
    if !launched() {
        return alone::<F>(case, specs, &output);
    }
    together::<F>(case, specs, &output)
}

#[cfg(feature = "mpi")]
use super::mpi::measure as together;

/// Without MPI each process would take itself for the only one.
#[cfg(not(feature = "mpi"))]
fn together<F: Ranked>(
    case: &Entry<F::Spec>,
    specs: Vec<F::Spec>,
    output: &OutputArgs,
) -> anyhow::Result<ExitCode> {
    let sizes = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];
    let mut sizes = sizes.iter().filter_map(|name| std::env::var(name).ok());
    if sizes.all(|size| size.trim() == "1") && speaks() {
        return alone::<F>(case, specs, output);
    }
    if !speaks() {
        return Ok(refused(program::EXIT_UNAVAILABLE));
    }
    Err(reports::model::Unavailable(format!(
        "{} with several ranks: this build has no MPI; build it with `cargo build --release -p \
         {PROGRAM} --features mpi`",
        case.name
    ))
    .into())
}

/// Measures with this process as the only rank.
fn alone<F: Ranked>(
    case: &Entry<F::Spec>,
    mut specs: Vec<F::Spec>,
    output: &OutputArgs,
) -> anyhow::Result<ExitCode> {
    for spec in &mut specs {
        F::settle(spec, &Alone)?;
    }
    let session = Session::begin(PROGRAM, F::seed(&specs[0]))?;
    let cases = specs.iter().filter_map(|spec| {
        Some(Case {
            benchmark: case.benchmark(PROGRAM, spec),
            outcome: outcome::<F>(spec, &Alone)?,
        })
    });
    let cases = cases.collect();
    program::emit(&session.finish(cases), output)
}

/// What came of one case, on rank 0; nothing elsewhere.
pub(super) fn outcome<F: Ranked>(spec: &F::Spec, crew: &dyn Crew) -> Option<Outcome> {
    // Other ranks than 0 get no numbers, and need not tell of an error.
    let result = F::measure(spec, crew).transpose()?;
    (crew.rank() == 0).then(|| Outcome::of(result))
}

/// The case as rows of a table know it: one rank, alone.
///
/// # Errors
/// As for [`Ranked::measure`].
pub fn measure_alone<F: Ranked>(spec: &F::Spec) -> anyhow::Result<Measurement> {
    F::measure(spec, &Alone)?.ok_or_else(|| anyhow::anyhow!("rank 0 has no measurement"))
}
