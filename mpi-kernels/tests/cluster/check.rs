//! What `scripts/cluster/check` finds in descriptions of clusters: nothing in ours, and in each of
//! ours with one thing broken that thing.

use super::common::{stderr, stdout};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster");

const HPC: &str = "pcluster/hpc.yaml";
const STACK: &str = "batch/batch.yaml";
const SUITE: &str = "slurm/suite.sbatch";
const IMAGE: &str = "batch/Containerfile";
const ROWS: &str = "slurm/nodes.toml";

/// A file of ours, what is replaced in it (once), by what, and what must be said of it then.
struct Broken(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Broken so that a file is wrong by itself. The name comes first.
const BROKEN: &[Broken] = &[
    Broken(
        "a word that the schema does not know",
        HPC,
        "MinCount: 0",
        "MinimumCount: 0",
        "MinimumCount: Unknown field",
    ),
    Broken(
        "EFA where there is none",
        HPC,
        "InstanceType: c7i.48xlarge",
        "InstanceType: c7i.24xlarge",
        "queue c7i: EFA is on, but c7i.24xlarge has none",
    ),
    Broken(
        "nodes far apart",
        HPC,
        "PlacementGroup:\n          Enabled: true",
        "PlacementGroup:\n          Enabled: false",
        "queue hpc7a: EFA is on and the placement group off",
    ),
    Broken(
        "Spot nodes",
        HPC,
        "CapacityType: ONDEMAND",
        "CapacityType: SPOT",
        "queue hpc7a: Spot with jobs of several nodes (MaxCount 16)",
    ),
    Broken(
        "a file system elsewhere",
        HPC,
        "SubnetIds: [YOUR-SUBNET-ID]",
        "SubnetIds: [subnet-11111111]",
        "queue hpc7a: /fsx from another subnet: the nodes are in subnet-11111111",
    ),
    Broken(
        "a number for a list",
        HPC,
        "SubnetIds: [YOUR-SUBNET-ID]",
        "SubnetIds: 3",
        "is not shaped as such a file is",
    ),
    Broken(
        "several zones",
        HPC,
        "SubnetIds: [YOUR-SUBNET-ID]",
        "SubnetIds: [YOUR-SUBNET-ID, YOUR-OTHER-SUBNET-ID]",
        "queue hpc7a: 2 subnets and a placement group, which is in one zone",
    ),
    Broken(
        "no instance store",
        HPC,
        "InstanceType: hpc6id.32xlarge",
        "InstanceType: hpc6a.48xlarge",
        "queue hpc6id: /scratch is to be the instance store of hpc6a.48xlarge, which has none",
    ),
    Broken(
        "shared nodes",
        HPC,
        "JobExclusiveAllocation: true",
        "JobExclusiveAllocation: false",
        "queue hpc7a: jobs may share a node",
    ),
    Broken(
        "what cfn-lint knows",
        STACK,
        "Strategy: cluster",
        "Strategies: cluster",
        "cfn-lint E3002",
    ),
    Broken(
        "a device too few",
        STACK,
        "InstanceTypes: [c7i.48xlarge]",
        "InstanceTypes: [hpc7a.96xlarge]",
        "1 uverbs device for hpc7a.96xlarge, which has 2 of EFA",
    ),
    Broken(
        "a device of another name",
        STACK,
        "HostPath: /dev/infiniband/uverbs0",
        "HostPath: /dev/infiniband/uverb0",
        "device /dev/infiniband/uverb0 is no EFA device",
    ),
    Broken(
        "memory that cannot be locked",
        STACK,
        "Name: memlock, SoftLimit: -1",
        "Name: memlock, SoftLimit: 65536",
        "EFA locks memory without limit, but the ulimit memlock is 65536",
    ),
    Broken(
        "no limit of memory at all",
        STACK,
        "Name: memlock",
        "Name: stack",
        "the ulimit memlock is missing",
    ),
    Broken(
        "a job of Spot nodes",
        STACK,
        "Type: EC2",
        "Type: SPOT",
        "ComputeEnvironment: Spot with jobs of several nodes",
    ),
    Broken(
        "no placement group",
        STACK,
        "        PlacementGroup: !Ref PlacementGroup\n",
        "",
        "ComputeEnvironment: EFA is on and there is no placement group",
    ),
    Broken(
        "nodes spread out",
        STACK,
        "Strategy: cluster",
        "Strategy: spread",
        "the placement group spreads nodes (spread)",
    ),
    Broken(
        "members kept out",
        STACK,
        "SourceSecurityGroupId: !Ref SecurityGroup",
        "CidrIp: 10.0.0.0/8",
        "SecurityGroup: the security group does not let its own members in",
    ),
    Broken(
        "members kept in",
        STACK,
        "DestinationSecurityGroupId: !Ref SecurityGroup",
        "CidrIp: 10.0.0.0/8",
        "SecurityGroup: the security group does not let its own members out",
    ),
    Broken(
        "an ordinary interface",
        STACK,
        "InterfaceType: efa",
        "InterfaceType: interface",
        "LaunchTemplate has no interface of type efa",
    ),
    Broken(
        "too many ranks",
        STACK,
        "- '4'\n",
        "- '8'\n",
        "mpirun starts 8 ranks, but 4 nodes with 1 ranks each hold 4",
    ),
    Broken(
        "idle nodes",
        STACK,
        "- '4'\n",
        "- '2'\n",
        "mpirun starts 2 ranks with 1 on each node: 2 of 4 nodes have any",
    ),
    Broken(
        "no host file",
        STACK,
        "                - --slots\n                - '1'\n                - --\n",
        "",
        "mpirun without a host file: all ranks would be on the main node",
    ),
    Broken(
        "nodes without a container",
        STACK,
        "TargetNodes: '0:'",
        "TargetNodes: '0:2'",
        "nodes 3 of 4 are in no TargetNodes",
    ),
    Broken(
        "more than may be started",
        STACK,
        "MaxvCpus: 768",
        "MaxvCpus: 256",
        "MaxvCpus 256, but 4 nodes of c7i.48xlarge have 768",
    ),
    Broken(
        "what sbatch refuses",
        SUITE,
        "--time=01:00:00",
        "--time=soon",
        "sbatch --test-only: ",
    ),
    Broken(
        "more nodes than a queue has",
        SUITE,
        "--nodes=2",
        "--nodes=12",
        "asks for 12 nodes, but queue c7i of ",
    ),
    Broken(
        "more ranks than cores",
        SUITE,
        "--ntasks-per-node=1",
        "--ntasks-per-node=128",
        "asks for 128 tasks on each node, but c7i.48xlarge in queue c7i of ",
    ),
    Broken(
        "others on the nodes",
        SUITE,
        "#SBATCH --exclusive\n",
        "",
        "no #SBATCH --exclusive",
    ),
    Broken(
        "a queue that is not there",
        SUITE,
        "#SBATCH --exclusive\n",
        "#SBATCH --exclusive\n#SBATCH --partition=gpu\n",
        "--partition gpu: ",
    ),
    Broken(
        "np of another job",
        SUITE,
        "status=0\n",
        "status=0\nmpirun -np 8 -N 4 --hostfile nodes.txt mpi-kernels allreduce\n",
        "that host file is missing",
    ),
    Broken(
        "np beyond the nodes",
        SUITE,
        "status=0\n",
        "status=0\nmpirun -np 8 mpi-kernels allreduce\n",
        "mpirun starts 8 ranks, but 2 nodes with 1 ranks each hold 2",
    ),
    Broken(
        "an address nobody told",
        "batch/entry",
        "    echo $$ >\"$work/pid\"\n",
        "    ping \"$AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS\"\n",
        "uses AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS on the main node",
    ),
    Broken(
        "a libfabric that does not know EFA",
        IMAGE,
        "ARG BASE=hpc-bench:efa",
        "ARG BASE=hpc-bench",
        "has the libfabric of debian, which does not know EFA, but ",
    ),
    Broken(
        "no libfabric at all",
        IMAGE,
        "ARG BASE=hpc-bench:efa",
        "ARG BASE=docker.io/library/debian:bookworm-slim",
        "has no libfabric, but ",
    ),
    Broken(
        "an entry point without an MPI",
        IMAGE,
        "FROM ${BASE}",
        "FROM ubuntu:24.04",
        "has no MPI, and its entry point scripts/cluster/batch/entry starts ranks with Open MPI",
    ),
    Broken(
        "an entry point for another MPI",
        IMAGE,
        "FROM ${BASE}\n",
        "FROM ubuntu:24.04\nRUN apt-get update && apt-get install -y mpich\n",
        "has MPICH, but its entry point scripts/cluster/batch/entry sets what Open MPI reads",
    ),
    Broken(
        "two MPIs",
        IMAGE,
        "iproute2 awscli",
        "iproute2 awscli mpich",
        "has Open MPI and MPICH: which mpirun the programs get is an accident",
    ),
    Broken(
        "an entry point that is not in the image",
        IMAGE,
        "batch/entry /usr/local/bin/entry",
        "batch/entry /usr/local/bin/enter",
        "ENTRYPOINT /usr/local/bin/entry: no COPY puts a file there",
    ),
    Broken(
        "a file that is not in the checkout",
        IMAGE,
        "COPY scripts/cluster/batch/entry",
        "COPY scripts/cluster/batch/enter",
        "COPY scripts/cluster/batch/enter: there is no such file in the checkout",
    ),
    Broken(
        "more ranks than slots",
        ROWS,
        "\"-n\", \"2\", \"--map-by\", \"ppr:1:node\", \"mpi-kernels\", \"latency\"",
        "\"-n\", \"3\", \"mpi-kernels\", \"latency\"",
        "row latency: mpirun starts 3 ranks, but 2 nodes (",
    ),
    Broken(
        "more ranks than slots on a node",
        ROWS,
        "\"mpirun\", \"--map-by\", \"ppr:1:node\",\n",
        "\"mpirun\", \"--map-by\", \"ppr:4:node\",\n",
        "row allreduce: mpirun starts 4 ranks on each node, but a node of 2 nodes (",
    ),
    Broken(
        "more ranks than one for each node",
        ROWS,
        "\"-n\", \"2\", \"--map-by\", \"ppr:1:node\", \"mpi-kernels\", \"bw\"",
        "\"-n\", \"4\", \"--map-by\", \"ppr:1:node\", \"mpi-kernels\", \"bw\"",
        "row bw: mpirun starts 4 ranks, 1 on each node, but there are 2 nodes (",
    ),
    Broken(
        "nodes without a report",
        ROWS,
        "name = \"pairmatrix\"\ncommand = [\"mpirun\",",
        "name = \"pairmatrix\"\nper_node = true\ncommand = [\"mpirun\", \"-n\", \"1\",",
        "row pairmatrix: per_node, but mpirun starts 1 rank on 2 nodes (",
    ),
    Broken(
        "a report of one node",
        "../suites/screen.toml",
        "command = [\"mpirun\", \"--map-by\", \"ppr:1:node\", \"storage-bench\"",
        "command = [\"storage-bench\"",
        "row storage: per_node, but no launcher starts it",
    ),
    Broken(
        "no TOML",
        ROWS,
        "name = \"nodes\"",
        "name = nodes",
        "cannot be read: ",
    ),
];

fn check(args: &[&str]) -> Output {
    let program = Path::new(FOLDER).join("check");
    let mut command = Command::new(program);
    command.args(args);
    command.output().expect("scripts/cluster/check starts")
}

/// Says what could not be checked here; whether that part of the answer is missing. What is there
/// and does not work is no excuse.
fn missing(said: &str, part: &str) -> bool {
    let mut lines = said
        .lines()
        .filter(|line| line.starts_with("unavailable: "));
    let Some(line) = lines.find(|line| line.contains(part)) else {
        return false;
    };
    let reasons = ["scripts/setup", "needs root", "as root", "no namespaces"];
    assert!(reasons.iter().any(|reason| line.contains(reason)), "{line}");
    println!("SKIPPED a check of clusters: {line}");
    true
}

#[test]
fn nothing_is_found_in_ours() {
    let output = check(&[]);
    let said = stdout(&output);
    let lacks = ["ParallelCluster", "cfn-lint", "sbatch"].map(|part| missing(&said, part));
    let expected = if lacks.contains(&true) { 3 } else { 0 };
    assert_eq!(
        output.status.code(),
        Some(expected),
        "{said}{}",
        stderr(&output)
    );
    assert!(said.contains("15 files checked: nothing found"), "{said}");
    assert!(
        said.contains("to be filled in: YOUR-KEY-NAME YOUR-REGION"),
        "{said}"
    );
}

/// All at once, because each start of the checkers costs more than a check.
#[test]
fn what_is_broken_is_found_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |number: usize, broken: &Broken| -> PathBuf {
        let Broken(name, file, from, to, _) = broken;
        let text = fs::read_to_string(Path::new(FOLDER).join(file)).expect("a file of ours");
        assert!(text.contains(from), "{name}: {file} has no {from}");
        // Under its own name, by which others speak of it.
        let own = folder.path().join(number.to_string());
        fs::create_dir(&own).expect("it can be made");
        let path = own.join(file.rsplit('/').next().expect("a name"));
        fs::write(&path, text.replacen(from, to, 1)).expect("it can be written");
        path
    };
    let paths: Vec<_> = (0..).zip(BROKEN).map(|(n, b)| write(n, b)).collect();
    let plain = |path: &PathBuf| path.to_str().expect("a plain path").to_owned();
    let mut args: Vec<_> = paths.iter().map(plain).collect();
    args.extend([HPC, STACK, SUITE].map(|whole| plain(&Path::new(FOLDER).join(whole))));
    let output = check(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{}", stderr(&output));
    for (path, Broken(name, _, _, _, expected)) in paths.iter().zip(BROKEN) {
        let part = match *expected {
            text if text.contains("Unknown field") => "ParallelCluster's schema",
            text if text.starts_with("cfn-lint") => "cfn-lint",
            text if text.starts_with("sbatch") => "sbatch",
            _ => "nothing",
        };
        if missing(&said, part) {
            continue;
        }
        let start = format!("{}: ", path.display());
        let mut lines = said.lines().filter(|line| line.starts_with(&start));
        let found = lines.any(|line| line.contains(expected));
        assert!(found, "{name}: {expected}, in:\n{said}");
    }
}

#[test]
fn words_to_fill_in_are_named_where_it_is_for_earnest() {
    let file = Path::new(FOLDER).join(HPC);
    let file = file.to_str().expect("a plain path");
    let output = check(&["--deploy", file]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let line = "still to be filled in: YOUR-KEY-NAME YOUR-REGION YOUR-SUBNET-ID";
    assert!(stdout(&output).contains(line), "{}", stdout(&output));

    let output = check(&["no/such/file.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("there is no file no/such/file.yaml"));
}

/// What a row may start depends on where it is to run: two hosts of two slots hold a suite's ranks,
/// one of them alone does not.
#[test]
fn rows_of_a_suite_are_held_against_a_host_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("some.hosts");
    let suite = Path::new(FOLDER).join("../suites/instance.toml");
    let args = [&path, &suite].map(|path| path.to_str().expect("a plain path").to_owned());
    let args = args.each_ref().map(String::as_str);
    for (lines, code, expected) in [
        (
            "n1 slots=2\nn2 slots=2\n",
            0,
            "2 files checked: nothing found",
        ),
        // How many slots there are without a word of them is known on the hosts only.
        ("n1\nn2\n", 0, "2 files checked: nothing found"),
        (
            "n1 slots=2\n",
            1,
            "row mpi-allreduce: mpirun starts 4 ranks, but 1 node (",
        ),
    ] {
        fs::write(&path, lines).expect("it can be written");
        let output = check(&args);
        let said = stdout(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{said}{}",
            stderr(&output)
        );
        assert!(said.contains(expected), "{expected}, in:\n{said}");
    }
    assert!(stdout(&check(&args)).contains("hold 2: they would share CPUs"));
}

#[test]
fn lines_of_a_host_file_are_named_by_their_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("two.hosts");
    let lines = "# two nodes\nnode1 slots=2\nnode1\nno;de slots=4\nnode3 slot=4\n";
    fs::write(&path, lines).expect("it can be written");
    let path = path.to_str().expect("a plain path");
    let output = check(&["--ranks-per-node", "4", "--nodes", "8", path]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{}", stderr(&output));
    for expected in [
        "line 2: node1 has 2 slots, 4 ranks are wanted",
        "line 3: node1 is already in line 2",
        "line 4: 'no;de' is no host name",
        "line 5: 'slot=4' is not slots=N",
        "2 hosts, but --nodes is 8",
    ] {
        assert!(said.contains(expected), "{expected}, in:\n{said}");
    }
}
