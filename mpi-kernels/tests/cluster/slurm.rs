//! Slurm on emulated nodes: the batch scripts for real clusters run here as they are.

use super::common::{PROGRAM, stderr, stdout};
use reports::model::{self, Fact, Outcome, Report};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The kernels of the suite for clusters, short.
const SUITE: &str = r#"
name = "nodes"
repetitions = 1
timeout_s = 60

[[row]]
name = "mpirun"
command = ["mpirun", "--map-by", "ppr:1:node", "mpi-kernels", "allreduce", "-m", "8:8", "-i", "10"]

[[row]]
name = "srun"
command = ["srun", "--mpi=pmix", "mpi-kernels", "allreduce", "-m", "8:8", "-i", "10"]
"#;

/// What came of it, or nothing where there is no Slurm, which is said.
fn slurm(args: &[&str]) -> Option<Output> {
    let mut command = Command::new(Path::new(ROOT).join("scripts/cluster/slurm-local"));
    command.args(args).stdin(Stdio::null()).current_dir(ROOT);
    command.env("HPC_BENCH_BIN", bin());
    command.env_remove("HPC_BENCH");
    let output = command
        .output()
        .expect("scripts/cluster/slurm-local starts");
    if output.status.code() == Some(3) {
        println!(
            "SKIPPED Slurm on emulated nodes: {}",
            stderr(&output).trim()
        );
        return None;
    }
    Some(output)
}

/// Where the programs are.
fn bin() -> &'static Path {
    Path::new(PROGRAM).parent().expect("a folder")
}

#[test]
fn a_batch_script_runs_kernels_by_srun_and_mpirun_into_one_session() {
    let programs = ["reports", "mpi-kernels"].map(|program| bin().join(program));
    if let Some(program) = programs.iter().find(|program| !program.exists()) {
        println!("SKIPPED a batch script: {program:?} is not built (scripts/test does)");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let suite = folder.path().join("suite.toml");
    fs::write(&suite, SUITE).expect("it can be written");
    // Its output goes to the folder that it is submitted from.
    let script = folder.path().join("suite.sbatch");
    let text = fs::read_to_string(Path::new(ROOT).join("scripts/cluster/slurm/suite.sbatch"));
    let text = text.expect("a batch script");
    let output = folder.path().join("%x_%j.out");
    let output = format!("--output={}", output.display());
    assert!(text.contains("--output=%x_%j.out"));
    fs::write(&script, text.replace("--output=%x_%j.out", &output)).expect("it can be written");
    let session = folder.path().join("session");

    let args = [&script, &suite, &session].map(|path| path.to_str().expect("a plain path"));
    let args: Vec<_> = ["submit", "--timeout", "200", "--"]
        .into_iter()
        .chain(args)
        .collect();
    let Some(output) = slurm(&args) else {
        return;
    };
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    for expected in [
        "network: TCP (no node has EFA)",
        "on 2 nodes, 2 ranks: n[1-2]",
    ] {
        assert!(said.contains(expected), "{expected}, in:\n{said}");
    }
    assert!(session.join("report.html").exists(), "{said}");
    let mut jobs = Vec::new();
    for (row, launcher) in [("mpirun", "mpirun of Open MPI"), ("srun", "srun")] {
        let path = session.join(format!("runs/{row}-0001.json"));
        let text = fs::read_to_string(&path).expect("a report of each row");
        jobs.push(job_of(
            &model::parse(&text, &path).expect("a report"),
            launcher,
        ));
    }
    assert_eq!(jobs[0], jobs[1], "one job");
}

/// The job's number, of a report that must know where it was.
fn job_of(report: &Report, launcher: &str) -> String {
    let Fact::Known(scheduler) = &report.run.scheduler else {
        panic!("no scheduler: {:?}", report.run.scheduler);
    };
    assert_eq!(scheduler.kind, "slurm");
    assert_eq!(scheduler.nodes.known(), Some(&2));
    assert_eq!(scheduler.ranks.known(), Some(&2));
    let names: Vec<_> = report.hosts.iter().map(|host| &host.name).collect();
    assert_eq!(names, ["n1", "n2"]);
    let Outcome::Measured(measurement) = &report.cases[0].outcome else {
        panic!("not measured: {:?}", report.cases[0].outcome);
    };
    let said = measurement.facts["launcher"].as_str().unwrap_or_default();
    assert!(said.starts_with(launcher), "{said}");
    scheduler.job_id.known().expect("a number").clone()
}

#[test]
fn a_script_that_can_never_start_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("three.sbatch");
    let text = "#!/bin/sh\n#SBATCH --nodes=3 --output=/dev/null\nsrun hostname\n";
    fs::write(&script, text).expect("it can be written");
    let script = script.to_str().expect("a plain path");
    let Some(output) = slurm(&["submit", "--", script]) else {
        return;
    };
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let reason = "Requested node configuration is not available";
    assert!(stderr(&output).contains(reason), "{}", stderr(&output));

    let output = slurm(&["test", "--nodes", "3", "--", script]).expect("it was there");
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    assert!(said.contains("three.sbatch: Job "), "{said}");
}

#[test]
fn a_job_gives_its_exit_code_and_a_deadline_has_its_own() {
    let Some(output) = slurm(&["run", "--", "sh", "-c", "srun hostname; exit 7"]) else {
        return;
    };
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    let said = stdout(&output);
    let mut names: Vec<_> = said.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["n1", "n2"]);
    let output = slurm(&["run", "--timeout", "1", "--", "sleep", "1000"]).expect("it was there");
    assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
}

#[test]
fn wrong_options_of_slurm_are_refused_with_what_is_meant() {
    for (args, expected) in [
        ("run", "there is nothing to run"),
        ("run --nodes 99 -- true", "--nodes is 1 to 64"),
        (
            "submit -- no/such.sbatch",
            "there is no batch script no/such.sbatch",
        ),
        (
            "submit --ranks-per-node 2 -- x",
            "unknown option --ranks-per-node",
        ),
        ("up --name Upper", "small letters and digits"),
        ("halt", "unknown command halt"),
    ] {
        let output = slurm(&args.split(' ').collect::<Vec<_>>()).expect("wrong usage comes first");
        assert_eq!(output.status.code(), Some(2), "{args}");
        assert!(
            stderr(&output).contains(expected),
            "{args}: {}",
            stderr(&output)
        );
    }
}

/// EFA is nowhere here, so what nodes would answer is put in its place: their drivers, and how much
/// memory they may lock.
#[test]
fn efa_is_for_all_nodes_of_a_job_or_for_none() {
    let lines = r#". "$1"; drivers=$2 limits=$3
        on_nodes() { case $1 in ulimit*) echo "$limits" ;; *) echo "$drivers" ;; esac; }
        choose_network; echo "provider=${FI_PROVIDER:-none}""#;
    for (drivers, limits, code, expected) in [
        ("n1 \nn2 mlx5_core", "", 0, "provider=none"),
        (
            "n1 efa\nn2 efa",
            "n1 unlimited\nn2 unlimited",
            0,
            "provider=efa",
        ),
        (
            "n1 efa\nn2 efa",
            "n1 unlimited\nn2 64",
            1,
            "cannot be locked without limit, as EFA needs, on: n2.",
        ),
        (
            "n1 efa\nn2 \nn3 efa",
            "",
            1,
            "EFA is on some nodes only, not on: n2.",
        ),
    ] {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", lines, "test"]);
        bash.arg(Path::new(ROOT).join("scripts/cluster/slurm/common.sh"));
        bash.args([drivers, limits]).env_remove("FI_PROVIDER");
        let output = bash.output().expect("bash starts");
        let said = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{drivers}: {said}");
        assert!(said.contains(expected), "{drivers}: {expected}: {said}");
    }
}
