//! What a process knows of the launcher that started it as one of several ranks, without MPI: programs
//! that can do without it ask here before they begin with it.

use std::process::ExitCode;
use std::time::Duration;

/// The variables in which launchers put a process's rank: those of `mpi-world`, which a build without
/// MPI does not have.
const RANK_VARIABLES: [&str; 4] = [
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "SLURM_PROCID",
];

/// This process's rank as a launcher gave it, if there is one.
fn launched_rank() -> Option<String> {
    let mut set = RANK_VARIABLES.iter();
    set.find_map(|name| std::env::var(name).ok())
}

/// Whether a launcher started this process as one of several ranks, or may have.
#[must_use]
pub fn launched() -> bool {
    launched_rank().is_some()
}

/// Whether this process speaks for its world: it is rank 0, or no launcher says which rank it is.
#[must_use]
pub fn speaks() -> bool {
    launched_rank().is_none_or(|rank| rank.trim() == "0")
}

/// Leaves a rank that found, as all others, that the command line is wrong: rank 0 says so, and
/// the others give it the time, because launchers end the whole job when the first process fails.
#[must_use]
pub fn refused(code: u8) -> ExitCode {
    if code != super::EXIT_MEASURED {
        std::thread::sleep(Duration::from_secs(2));
    }
    ExitCode::from(code)
}
