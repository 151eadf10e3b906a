//! The entry point of AWS Batch's containers, on emulated nodes with what Batch would tell them.

use super::common::{PROGRAM, stderr, stdout};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster");

/// Starts the entry point on so many nodes of a job of so many, with what follows `--` as its
/// command, and says of each node with what it ended.
const NODES: &str = r#"
first=$1 last=$2 of=$3 deadline=$4; shift 4
for ((i = first; i < last; i++)); do
    address=AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS=10.77.0.1
    if [ $i = 0 ]; then address=NONE=; fi
    "$FOLDER/local" exec n$((i + 1)) -- env "$address" AWS_BATCH_JOB_ID="$JOB#$i" \
        AWS_BATCH_JOB_NODE_INDEX=$i AWS_BATCH_JOB_MAIN_NODE_INDEX=0 AWS_BATCH_JOB_NUM_NODES=$of \
        "$FOLDER/batch/entry" --deadline $deadline --slots 1 --out "$KEYS/out" -- "$@" &
    pids[i]=$!
done
for ((i = first; i < last; i++)); do
    code=0; wait ${pids[i]} || code=$?
    echo "node $i ended with $code"
done
"#;

/// Three nodes, of which those from `first` up to `last` start; nothing where there can be none.
fn job(first: usize, last: usize, of: usize, deadline: u32, command: &[&str]) -> Option<Output> {
    if !Path::new("/usr/sbin/sshd").exists() {
        println!("SKIPPED Batch's entry point: there is no sshd (scripts/setup --tests)");
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        println!(
            "SKIPPED Batch's entry point: its sshd needs root, as containers of Batch have it"
        );
        return None;
    }
    let keys = tempfile::tempdir().expect("a temporary folder");
    for name in ["host", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(keys.path().join(name));
        assert!(keygen.status().expect("ssh-keygen starts").success());
    }
    let numbers = [first, last, of].map(|number| number.to_string());
    let name = format!("test-{}-{first}{last}{of}", std::process::id());
    let mut run = Command::new(Path::new(FOLDER).join("local"));
    run.args([
        "run",
        "--nodes",
        "3",
        "--mpi",
        "none",
        "--timeout",
        "150",
        "--",
    ])
    .args(["bash", "-c", NODES, "nodes"])
    .args(&numbers)
    .arg(deadline.to_string())
    .args(command)
    .env_remove("HPC_BENCH_CLUSTER")
    .env("FOLDER", FOLDER)
    .env("KEYS", keys.path())
    .env("HPC_BENCH_KEYS", keys.path())
    .env("JOB", &name);
    for (variable, value) in [
        ("OMPI_MCA_btl_tcp_if_include", "eth0"),
        ("OMPI_MCA_oob_tcp_if_include", "eth0"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
    ] {
        run.env(variable, value);
    }
    let output = run.output().expect("scripts/cluster/local starts");
    if output.status.code() == Some(3) {
        println!("SKIPPED Batch's entry point: {}", stderr(&output).trim());
        return None;
    }
    let place = format!("/tmp/hpc-bench-batch-{name}");
    assert!(fs::symlink_metadata(&place).is_err(), "{place} is left");
    Some(output)
}

#[test]
fn containers_of_a_job_become_one_cluster_and_end_with_its_exit_code() {
    let line = format!(
        "mpirun --map-by ppr:1:node {PROGRAM} allreduce -m 8:8 -i 10 -x 2 --json; \
         echo \"$HPC_BENCH_OUT\"; exit 7"
    );
    let Some(output) = job(0, 3, 3, 100, &["sh", "-c", &line]) else {
        return;
    };
    let (said, errors) = (stdout(&output), stderr(&output));
    let end = "node 0 ended with 7\nnode 1 ended with 7\nnode 2 ended with 7\n";
    assert!(said.ends_with(end), "{said}{errors}");
    for node in ["n1", "n2", "n3"] {
        assert!(
            said.contains(&format!("\"name\": \"{node}\"")),
            "{node}: {said}{errors}"
        );
    }
    for expected in ["\"kind\": \"aws-batch\"", "\"nodes\": 3", "\"ranks\": 3"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let hosts = "entry, node 0: 3 nodes: 10.77.0.1 10.77.0.2 10.77.0.3";
    assert!(errors.contains(hosts), "{errors}");
}

#[test]
fn nodes_that_do_not_come_are_named() {
    let Some(output) = job(0, 2, 4, 5, &["true"]) else {
        return;
    };
    let (said, errors) = (stdout(&output), stderr(&output));
    assert_eq!(
        said, "node 0 ended with 1\nnode 1 ended with 1\n",
        "{errors}"
    );
    let reason = "of 4 nodes these did not report within 5 s: 2 3 ";
    assert!(errors.contains(reason), "{errors}");

    // Nor does the main node.
    let output = job(1, 2, 2, 2, &["true"]).expect("it was there");
    let (said, errors) = (stdout(&output), stderr(&output));
    assert_eq!(said, "node 1 ended with 1\n", "{errors}");
    let reason = "the main node 10.77.0.1 did not answer within 2 s";
    assert!(errors.contains(reason), "{errors}");
}

#[test]
fn what_batch_would_not_say_is_refused() {
    let entry = Path::new(FOLDER).join("batch/entry");
    for (variables, args, expected) in [
        (
            [None, None, None],
            "-- true",
            "AWS_BATCH_JOB_NODE_INDEX is ''",
        ),
        ([Some("3"), Some("0"), Some("2")], "-- true", "node 3 of 2"),
        ([Some("0"), Some("0"), Some("2")], "true", "unexpected true"),
        (
            [Some("0"), Some("0"), Some("2")],
            "--deadline",
            "needs a value",
        ),
        (
            [Some("0"), Some("0"), Some("2")],
            "--slots 4",
            "there is no command",
        ),
    ] {
        let mut command = Command::new(&entry);
        command.args(args.split(' '));
        let names = ["NODE_INDEX", "MAIN_NODE_INDEX", "NUM_NODES"];
        for (name, value) in names.iter().zip(variables) {
            let name = format!("AWS_BATCH_JOB_{name}");
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("bash starts");
        assert_eq!(output.status.code(), Some(2), "{args}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(expected),
            "{args}: {}",
            stderr(&output)
        );
    }
}
