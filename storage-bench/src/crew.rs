//! The ranks of a run: one process alone, or many under `mpirun`.
//!
//! Workloads see this trait only, so that they are the same code with and without MPI. All ranks
//! call the same functions in the same order; what only one of them finds out becomes everybody's
//! through [`agree`](trait.Crew.html#method.agree), so that nobody waits for a rank that gave up.

#[cfg(feature = "mpi")]
mod mpi;
mod run;
mod tree;

pub use reports::program::ranks::{launched, refused, speaks};
pub use run::{Ranked, measure, measure_alone};
pub use tree::{Tree, sweep_if_asked};

use crate::spec::usage;
use reports::model::Validity;
use serde_json::{Map, Value};
use std::path::Path;

/// All ranks, seen from one of them. The defaults are those of a rank that is alone.
pub trait Crew {
    /// This process's rank.
    fn rank(&self) -> usize {
        0
    }

    /// How many ranks there are.
    fn ranks(&self) -> usize {
        1
    }

    /// The name of the node that a rank is on.
    fn host_of(&self, rank: usize) -> String;

    /// How many nodes there are.
    fn nodes(&self) -> usize {
        1
    }

    /// How many ranks are on the first node.
    fn ranks_per_node(&self) -> usize {
        1
    }

    /// Waits until all ranks are here.
    fn barrier(&self) {}

    /// The largest of each number over all ranks.
    fn max_into(&self, own: &[u64], largest: &mut [u64]) {
        largest.copy_from_slice(own);
    }

    /// Every rank's text, on rank 0 and there in the order of ranks; nothing elsewhere.
    fn gather(&self, own: &str) -> Vec<String> {
        vec![own.to_owned()]
    }

    /// Rank 0's text, on all ranks.
    fn broadcast(&self, own: String) -> String {
        own
    }

    /// The error of the lowest rank that failed, on all ranks, with its rank and host.
    ///
    /// # Errors
    /// That one.
    fn agree_all(&self, own: anyhow::Result<()>) -> anyhow::Result<()> {
        own
    }

    /// Says what this rank does, for whoever ends a job that hangs.
    fn say(&self, _what: String) {}

    /// What the world of ranks is, for the report.
    fn facts(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Flags nodes with more ranks than CPUs.
    fn flag_oversubscription(&self, _validity: &mut Validity) {}
}

impl dyn Crew + '_ {
    /// Whether this is the rank that writes the report.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// One rank's result made everybody's: as it is if all succeeded, else the error of the lowest
    /// rank that failed.
    ///
    /// # Errors
    /// That rank's error with its rank and host.
    pub fn agree<T>(&self, own: anyhow::Result<T>) -> anyhow::Result<T> {
        match own {
            Ok(value) => self.agree_all(Ok(())).map(|()| value),
            Err(error) => match self.agree_all(Err(error)) {
                Err(error) => Err(error),
                Ok(()) => unreachable!("the ranks agree on a failure of their own"),
            },
        }
    }

    /// Every rank's number, on all ranks.
    #[must_use]
    pub fn all(&self, own: u64) -> Vec<u64> {
        let mut mine = vec![0; self.ranks()];
        mine[self.rank()] = own;
        let mut all = vec![0; self.ranks()];
        self.max_into(&mine, &mut all);
        all
    }

    /// `rank 3 on node7`.
    #[must_use]
    pub fn name_of(&self, rank: usize) -> String {
        format!("rank {rank} on {}", self.host_of(rank))
    }
}

/// A rank that is alone.
pub struct Alone;

impl Crew for Alone {
    fn host_of(&self, _: usize) -> String {
        let name = nix::unistd::gethostname();
        name.map_or_else(
            |_| "this host".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }
}

/// Refuses a `--dir` that is not a folder, or lies where nothing is ever created.
///
/// # Errors
/// [`reports::program::Usage`]: why.
pub fn check_folder(dir: &Path) -> anyhow::Result<()> {
    let refused = |why: &str| usage(format!("--dir {}: {why}", dir.display()));
    let real = dir
        .canonicalize()
        .map_err(|error| refused(&error.to_string()))?;
    if !real.is_dir() {
        return Err(refused("it is not a folder"));
    }
    // Memory that programs share lies there too, and is a place for files.
    if real.starts_with("/dev") && !real.starts_with("/dev/shm") {
        return Err(refused("nothing is ever created under /dev"));
    }
    Ok(())
}

/// [`check_folder`] on the rank that speaks, before there is a world of ranks. Where the others do
/// not have it, they say so when they can be heard.
///
/// # Errors
/// As for [`check_folder`].
pub fn check_folder_here(dir: &Path) -> anyhow::Result<()> {
    match speaks() {
        true => check_folder(dir),
        false => Ok(()),
    }
}
