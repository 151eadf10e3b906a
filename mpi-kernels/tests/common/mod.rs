//! Starting the program under a real launcher.
// Each test file is a program of its own and uses its part.
#![allow(dead_code)]

use reports::model::{self, Report};
use std::path::Path;
use std::process::{Command, Output};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mpi-kernels");

/// `mpirun` for this many ranks, allowed to run as root and with more ranks than cores, and ended
/// after four minutes if it hangs.
pub fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .env("OMPI_MCA_mpi_yield_when_idle", "1")
        .args(["--timeout", "240", "-n"])
        .arg(ranks.to_string());
    command
}

/// Runs the program with these arguments on so many ranks.
pub fn run(ranks: usize, args: &[&str]) -> Output {
    output(mpirun(ranks).arg(PROGRAM).args(args))
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .expect("mpirun starts: install openmpi-bin (scripts/setup does)")
}

/// What was printed on standard output.
pub fn stdout(output: &Output) -> String {
    // mpirun gives ranks a terminal, which ends lines with a carriage return as well.
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

/// What was printed on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace('\r', "")
}

/// The report on standard output, and nothing else there.
pub fn report(output: &Output) -> Report {
    let text = stdout(output);
    model::parse(&text, Path::new("standard output"))
        .unwrap_or_else(|error| panic!("{error}\n{text}\n{}", stderr(output)))
}
