//! Plain hosts by `scripts/cluster/ssh`, on emulated nodes with what mpirun takes for ssh there.

use super::common::{PROGRAM, stderr, stdout};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts");

/// Lines of shell on n1 of two nodes, or nothing where there can be no nodes, which is said.
fn on_two_hosts(lines: &str, folder: &Path) -> Option<Output> {
    let mut run = Command::new(Path::new(SCRIPTS).join("cluster/local"));
    run.args(["run", "--nodes", "2", "--mpi", "none", "--timeout", "150"])
        .args(["--", "bash", "-c", lines])
        .env_remove("HPC_BENCH_CLUSTER")
        .env("SSH", Path::new(SCRIPTS).join("cluster/ssh"))
        .env("BIN", Path::new(PROGRAM).parent().expect("a folder"))
        .env(
            "HPC_BENCH_SSH",
            Path::new(SCRIPTS).join("guest/cluster-rsh"),
        )
        // What is killed leaves its temporary files.
        .env("TMPDIR", folder)
        .current_dir(folder);
    for (variable, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_btl_tcp_if_include", "eth0"),
        ("OMPI_MCA_oob_tcp_if_include", "eth0"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("OMPI_MCA_mpi_yield_when_idle", "1"),
    ] {
        run.env(variable, value);
    }
    let output = run.output().expect("scripts/cluster/local starts");
    if output.status.code() == Some(3) {
        println!("SKIPPED plain hosts: {}", stderr(&output).trim());
        return None;
    }
    Some(output)
}

#[test]
fn kernels_and_the_network_are_measured_between_plain_hosts() {
    let programs = ["net-bench", "reports"].map(|name| Path::new(PROGRAM).with_file_name(name));
    if let Some(program) = programs.iter().find(|program| !program.exists()) {
        println!("SKIPPED plain hosts: {program:?} is not built (scripts/test does)");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("all"), "n1 slots=4 # one\n\nn2\n").expect("it can be written");
    fs::write(folder.path().join("other"), "n2\n").expect("it can be written");
    // The second run is killed, and its server on n2 must end by that.
    let lines = "set -e
        $SSH mpi --hosts all --bin $BIN -- mpi-kernels allreduce -m 8:8 -i 10 -x 2
        $SSH net --hosts other --bin $BIN --out out -- 'tcp_rr -n 100'
        $SSH net --hosts other --bin $BIN --out killed -- 'tcp_rr -t 100' & killed=$!
        until [ $(pgrep -xc net-bench) = 2 ]; do sleep 0.1; done
        kill -KILL $killed
        while pgrep -x net-bench >/dev/null; do sleep 0.1; done
        echo 'all ended'";
    let Some(output) = on_two_hosts(lines, folder.path()) else {
        return;
    };
    let (said, errors) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    assert!(said.contains("n1=0 n2=1"), "{said}{errors}");
    assert!(said.contains("server=remote"), "{said}{errors}");
    assert!(said.trim_end().ends_with("all ended"), "{said}{errors}");
    assert!(
        errors.contains("good: n1 n2: each has mpi-kernels"),
        "{errors}"
    );
    for file in ["n2-tcp_rr.json", "report.html"] {
        assert!(
            folder.path().join("out").join(file).exists(),
            "{file}: {said}{errors}"
        );
    }
}

#[test]
fn bad_hosts_are_named_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).expect("a folder");
    // Another version of one program on each host.
    for (name, line) in [
        ("mpi-kernels", "echo mpi-kernels of $(hostname)"),
        ("net-bench", "echo net-bench 7"),
        ("storage-bench", "echo storage-bench 7"),
        ("reports", "echo reports 7"),
    ] {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    fs::write(folder.path().join("hosts"), "n1\nn2\nn9\n").expect("it can be written");
    let lines = "for what in check mpi; do
            $SSH $what --hosts hosts --bin $PWD/bin; echo $what $?
        done
        echo n2 >one
        $SSH check --hosts one --bin /dev/shm; echo none $?";
    let Some(output) = on_two_hosts(lines, folder.path()) else {
        return;
    };
    let (said, errors) = (stdout(&output), stderr(&output));
    assert_eq!(said, "check 1\nmpi 1\nnone 3\n", "{errors}");
    for expected in [
        "bad: n2: mpi-kernels is mpi-kernels of n2, here it is mpi-kernels of n1",
        "bad: n9: not reached: ",
        "scripts/cluster/ssh: 2 of 3 hosts are bad",
        "there is no /dev/shm/net-bench; scripts/run builds it",
    ] {
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
    assert!(!errors.contains("bad: n1"), "{errors}");
}

#[test]
fn host_files_that_are_none_are_refused_by_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (args, hosts, expected) in [
        ("check", "", "which hosts? --hosts FILE"),
        (
            "check --hosts nowhere",
            "",
            "the host file nowhere is missing",
        ),
        (
            "check --hosts hosts",
            "# none\n",
            "there is no host in hosts",
        ),
        (
            "check --hosts hosts",
            "a\nb;c\n",
            "hosts, line 2: 'b;c' is no host",
        ),
        (
            "check --hosts hosts",
            "a\nb\na\n",
            "hosts, line 3: a is twice",
        ),
        (
            "check --hosts hosts --bin here",
            "a\n",
            "--bin is a whole and plain path",
        ),
        (
            "mpi --hosts hosts --ranks-per-node 0",
            "a\n",
            "--ranks-per-node is a number",
        ),
        (
            "net --hosts hosts --ranks-per-node 2",
            "a\n",
            "--ranks-per-node is for mpi",
        ),
        ("start", "", "unknown command start"),
    ] {
        fs::write(folder.path().join("hosts"), hosts).expect("it can be written");
        let mut command = Command::new(Path::new(SCRIPTS).join("cluster/ssh"));
        command.args(args.split(' ')).current_dir(folder.path());
        let output = command.output().expect("bash starts");
        assert_eq!(output.status.code(), Some(2), "{args}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(expected),
            "{args}: {}",
            stderr(&output)
        );
    }
}
