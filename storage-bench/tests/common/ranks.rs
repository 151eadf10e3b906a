//! Starting the program under a real launcher.
#![allow(dead_code, missing_docs)]

use super::common::told;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_storage-bench");

/// Whether this build knows MPI; if not, says so.
pub fn can_rank() -> bool {
    if cfg!(feature = "mpi") {
        return true;
    }
    println!("SKIPPED: built without the feature mpi; scripts/test builds with it");
    false
}

/// `mpirun` for so many ranks, allowed to run as root and with more ranks than cores, and ended
/// after two minutes if it hangs.
pub fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        .stdin(Stdio::null())
        .args(["--timeout", "300", "-n"])
        .arg(ranks.to_string());
    command
}

/// Runs the program with these words on so many ranks, in a folder: exit code, standard output and
/// standard error.
pub fn run_ranks(dir: &Path, ranks: usize, words: &[&str]) -> (i32, String, String) {
    let output = mpirun(ranks)
        .arg(PROGRAM)
        .args(words)
        .current_dir(dir)
        .output()
        .expect("mpirun starts: install openmpi-bin (scripts/setup does)");
    let (code, text, errors) = told(output);
    (code, text.replace('\r', ""), errors.replace('\r', ""))
}

/// Starts the program on so many ranks, which write their process ids into `pids`.
pub fn start_ranks(dir: &Path, pids: &Path, ranks: usize, words: &[&str]) -> Child {
    let script = r#"echo $$ > "$PIDS/$OMPI_COMM_WORLD_RANK.part"; \
        mv "$PIDS/$OMPI_COMM_WORLD_RANK.part" "$PIDS/$OMPI_COMM_WORLD_RANK"; exec "$0" "$@""#;
    mpirun(ranks)
        .args(["-x", "PIDS", "sh", "-c", script, PROGRAM])
        .args(words)
        .env("PIDS", pids)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun starts: install openmpi-bin (scripts/setup does)")
}

/// The process of a rank.
pub fn pid_of(pids: &Path, rank: usize) -> i32 {
    wait_for("the start of a rank", || {
        let text = fs::read_to_string(pids.join(rank.to_string())).ok()?;
        text.trim().parse().ok()
    })
}

/// Polls until `found` says something.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
