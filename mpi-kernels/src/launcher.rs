//! Which rank this process is, before MPI is initialised.
//!
//! A wrong command line is found before `MPI_Init`, and by every rank at once. Only one of them may
//! say so, and the launchers tell each process its rank in the environment.

use std::process::ExitCode;
use std::time::Duration;

/// The variables in which launchers put a process's rank in its world.
const RANK_VARIABLES: [&str; 4] = [
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "SLURM_PROCID",
];

/// How long a silent rank stays before it leaves with a failure. Launchers end the whole job when
/// the first process fails, and that must not be before rank 0 has said why.
const GRACE: Duration = Duration::from_secs(2);

/// Whether this process speaks for its world: it is rank 0, or no launcher says which rank it is.
#[must_use]
pub fn speaks() -> bool {
    speaks_with(|name| std::env::var(name).ok())
}

fn speaks_with(var: impl Fn(&str) -> Option<String>) -> bool {
    RANK_VARIABLES
        .iter()
        .find_map(|name| var(name))
        .is_none_or(|rank| rank.trim() == "0")
}

/// Leaves without a word, with the code that the speaking rank leaves with.
#[must_use]
pub fn leave_silently(code: u8) -> ExitCode {
    if code != 0 {
        std::thread::sleep(GRACE);
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rank_of_every_launcher_speaks() {
        let with = |name: &'static str, rank: &'static str| {
            speaks_with(move |asked| (asked == name).then(|| rank.to_owned()))
        };
        assert!(speaks_with(|_| None), "no launcher");
        for name in RANK_VARIABLES {
            assert!(with(name, "0"), "{name}");
            assert!(!with(name, "1"), "{name}");
        }
    }

    #[test]
    fn the_world_of_mpirun_counts_inside_a_batch_job() {
        // mpirun inside a Slurm allocation: the batch step's own SLURM_PROCID is 0 everywhere.
        let nested = |name: &str| match name {
            "SLURM_PROCID" => Some("0".to_owned()),
            "OMPI_COMM_WORLD_RANK" => Some("3".to_owned()),
            _ => None,
        };
        assert!(!speaks_with(nested));
    }
}
