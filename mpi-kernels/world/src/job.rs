//! A program of ranks from `MPI_Init` to the end of its processes: what every one of them does
//! around its measurements.
//!
//! The end is watched over like the run. `MPI_Finalize` waits for all ranks and the launcher for all
//! processes, so one that is stopped on its way out would hold the job for ever, long after the last
//! number was written. The watchdog therefore outlives MPI, and is the last to go.

use crate::beginning;
use crate::ledger::Ledger;
use crate::watchdog::Watchdog;
use crate::world::World;
use anyhow::Context;
use reports::model::Severity;
use reports::program;
use std::process::ExitCode;

/// What a run came to, and who watches over its end.
pub struct Done {
    code: u8,
    watchdog: Option<Watchdog>,
}

impl Done {
    /// A run that had no watchdog, because nothing was measured.
    #[must_use]
    pub fn unwatched(code: u8) -> Self {
        Self {
            code,
            watchdog: None,
        }
    }
}

/// Runs `body` in the world of all ranks and ends MPI. An error of the body is everybody's, and rank
/// 0's to tell.
///
/// # Errors
/// MPI is initialised already.
pub fn run(
    program: &'static str,
    body: impl FnOnce(&World) -> anyhow::Result<Done>,
) -> anyhow::Result<ExitCode> {
    let universe = mpi::initialize().context("MPI is initialised already")?;
    beginning::abort_all_on_panic();
    let world = World::of(universe.world(), program);
    let progress = world.progress();
    let (code, watchdog) = match body(&world) {
        // Told before MPI_Finalize, where all ranks meet: launchers end the job when the first
        // process leaves with a failure.
        Err(error) if world.is_root() => (program::main(program, || Err(error)), None),
        Err(error) => (ExitCode::from(program::error_code(&error)), None),
        Ok(done) => (ExitCode::from(done.code), done.watchdog),
    };
    drop(world);
    // This is MPI_Finalize.
    drop(universe);
    progress.begin("its way out, after MPI_Finalize".to_owned());
    drop(watchdog);
    Ok(code)
}

/// Writes and prints the report on rank 0, and gives the exit code that it deserves; 0 elsewhere.
/// Does not return where the watchdog broke the run off: then it also ends the process.
#[must_use]
pub fn conclude(watchdog: &Watchdog, ledger: Option<&Ledger>) -> u8 {
    let Some(ledger) = ledger else {
        return 0;
    };
    if let Some(unheard) = watchdog.unheard() {
        ledger.flag(Severity::Info, "hangs_unnamed", unheard);
    }
    ledger.conclude()
}

/// Ends a run. The code is rank 0's, because only it knows what became of the report.
#[must_use]
pub fn end(world: &World, watchdog: Watchdog, code: u8) -> Done {
    world.progress().begin("the end, MPI_Finalize".to_owned());
    let code = world.of_root(code);
    watchdog.reported();
    Done {
        code,
        watchdog: Some(watchdog),
    }
}
