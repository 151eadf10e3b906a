//! Which rank this process is, before MPI is initialised.
//!
//! A wrong command line is found before `MPI_Init`, and by every rank at once. Only one of them may
//! say so, and the launchers tell each process its rank in the environment.

use serde_json::{Map, Value, json};
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

/// What started the ranks, in words.
#[must_use]
pub fn name() -> String {
    name_with(|name| std::env::var(name).ok())
}

fn name_with(var: impl Fn(&str) -> Option<String>) -> String {
    let set = |name: &str| var(name).is_some();
    let with = |name: &str, version: Option<String>| match version {
        Some(version) => format!("{name}, {version}"),
        None => name.to_owned(),
    };
    let pmix = || var("PMIX_VERSION").map(|version| format!("PMIx {version}"));
    if set("PRTE_LAUNCHED") {
        with("mpirun of Open MPI (PRRTE)", pmix())
    } else if set("OMPI_COMM_WORLD_SIZE") {
        with("mpirun of Open MPI (ORTE)", pmix())
    } else if set("I_MPI_MPIRUN") {
        "mpirun of Intel MPI".to_owned()
    } else if set("HYDI_CONTROL_FD") || set("PMI_PORT") || set("PMI_FD") && !set("SLURM_STEP_ID") {
        "mpiexec of MPICH (Hydra)".to_owned()
    } else if set("SLURM_STEP_ID") && set("SLURM_PROCID") {
        with("srun", pmix())
    } else {
        "none".to_owned()
    }
}

/// Variables in which schedulers say what the job is and where it runs.
const JOB_VARIABLES: [&str; 22] = [
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES",
    "SLURM_NTASKS",
    "SLURM_STEP_ID",
    "SLURM_MPI_TYPE",
    "PBS_JOBID",
    "PBS_QUEUE",
    "PBS_NUM_NODES",
    "LSB_JOBID",
    "LSB_QUEUE",
    "LSB_DJOB_NUMPROC",
    "JOB_ID",
    "PE_HOSTFILE",
    "AWS_BATCH_JOB_ID",
    "AWS_BATCH_JOB_ATTEMPT",
    "AWS_BATCH_JQ_NAME",
    "AWS_BATCH_CE_NAME",
    "AWS_BATCH_JOB_NUM_NODES",
    "AWS_BATCH_JOB_NODE_INDEX",
];

/// Where AWS ParallelCluster keeps its settings on every node.
const PARALLEL_CLUSTER: &str = "/etc/parallelcluster";

/// The job that this process belongs to, by the variables of its scheduler; empty outside of jobs.
#[must_use]
pub fn job() -> Map<String, Value> {
    let set = JOB_VARIABLES.iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some(((*name).to_owned(), json!(value)))
    });
    let mut job: Map<String, Value> = set.collect();
    if std::fs::exists(PARALLEL_CLUSTER).unwrap_or(false) {
        job.insert("parallelcluster".to_owned(), json!(true));
    }
    job
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

    #[test]
    fn launchers_are_told_by_what_they_set() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            name_with(move |asked| {
                let mut set = set.iter();
                set.find(|(name, _)| *name == asked)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[]), "none");
        let orte = with(&[("OMPI_COMM_WORLD_SIZE", "2"), ("PMIX_VERSION", "4.2.2")]);
        assert_eq!(orte, "mpirun of Open MPI (ORTE), PMIx 4.2.2");
        assert_eq!(with(&[("PMI_FD", "5")]), "mpiexec of MPICH (Hydra)");
        let srun = with(&[
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "1"),
            ("PMI_FD", "5"),
        ]);
        assert_eq!(srun, "srun");
        let nested = [("SLURM_STEP_ID", "0"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert!(
            name_with(|asked| {
                let mut set = nested.iter();
                set.find(|(name, _)| *name == asked)
                    .map(|(_, value)| (*value).to_owned())
            })
            .starts_with("mpirun")
        );
    }
}
