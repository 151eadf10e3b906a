//! Which node is slow, on emulated nodes (`scripts/cluster/local`: network namespaces n1, n2, ...).
//! Where these cannot be made, the tests say so and pass: exit code 3 of the script.

use reports::model::{self, Outcome, Report};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_mpi-kernels");

/// What makes nodes.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster/local");

/// What mpirun takes for ssh on them.
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/guest/cluster-rsh");

/// One cluster at a time: they share this machine's CPUs.
static CLUSTER: Mutex<()> = Mutex::new(());

/// Runs the program on four nodes; `None` where no nodes can be made.
fn on_four_nodes(shape: &[&str], args: &[&str]) -> Option<Report> {
    let _alone = CLUSTER.lock().unwrap_or_else(|broken| broken.into_inner());
    let output = Command::new(SCRIPT)
        .args([
            "run",
            "--nodes",
            "4",
            "--mpi",
            "openmpi",
            "--timeout",
            "120",
        ])
        .args(shape)
        .args(["--", PROGRAM])
        .args(args)
        .arg("--json")
        .output()
        .expect("scripts/cluster/local starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        eprintln!("not tested, no nodes can be made here: {said}");
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    let report = model::parse(&text, Path::new("standard output"));
    Some(report.unwrap_or_else(|error| panic!("{error}\n{text}\n{said}")))
}

/// Windows of 1 MiB: at the caps of the tests they take 84 ms, where a node whose turn on the CPUs
/// does not come loses a few; small ones would fit the bucket of the shaper.
const PAIRMATRIX: [&str; 5] = ["pairmatrix", "-m", "256K", "-W", "4"];

/// The facts of the only case, and what its flags name, as `code who`.
fn facts_and_findings(report: &Report) -> (&serde_json::Map<String, Value>, Vec<String>) {
    let Outcome::Measured(measurement) = &report.cases[0].outcome else {
        panic!("it was not measured: {:?}", report.cases[0].outcome);
    };
    let findings = measurement.facts["findings"].as_array();
    let words = |finding: &Value| {
        let word = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", word("what"), word("who"))
    };
    let findings = findings.map(|all| all.iter().map(words).collect());
    (&measurement.facts, findings.unwrap_or_default())
}

fn of_bandwidth(findings: &[String]) -> Vec<&str> {
    let found = findings.iter().map(String::as_str);
    found.filter(|words| !words.contains("latency")).collect()
}

#[test]
fn a_capped_node_is_named() {
    for (shape, expected) in [
        (&["--cap", "n2=100mbit"][..], &["slow_node_egress n2"][..]),
        (&["--cap-in", "n3=100mbit"], &["slow_node_ingress n3"]),
        (&[], &[]),
    ] {
        let Some(report) = on_four_nodes(shape, &PAIRMATRIX) else {
            return;
        };
        let names: Vec<_> = report.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3", "n4"]);
        let (_, findings) = facts_and_findings(&report);
        assert_eq!(of_bandwidth(&findings), expected, "{shape:?}: {findings:?}");
    }
}

#[test]
fn victims_and_aggressors_share_no_node_where_there_are_four() {
    let args = ["congestion", "-i", "20", "--pairings", "2", "--seed", "3"];
    let Some(report) = on_four_nodes(&[], &args) else {
        return;
    };
    for case in &report.cases {
        let Outcome::Measured(measurement) = &case.outcome else {
            panic!("it was not measured: {:?}", case.outcome);
        };
        assert_eq!(measurement.facts["split_by"], "node");
        let mut flags = measurement.validity.flags.iter();
        assert!(flags.all(|flag| flag.code != "shared_nodes"));
    }
}

#[test]
fn pairs_are_grouped_by_the_network_nodes_above_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("topology.json");
    let instance =
        |(id, last): (&str, &str)| json!({"InstanceId": id, "NetworkNodes": ["nn-1", last]});
    let instances = [
        ("n1", "nn-2"),
        ("n2", "nn-2"),
        ("n3", "nn-3"),
        ("n4", "nn-3"),
    ];
    let topology = json!({"Instances": instances.map(instance)});
    std::fs::write(&file, topology.to_string()).expect("it can be written");
    let path = file.to_str().expect("a plain path");
    let args = [&PAIRMATRIX[..], &["--topology", path]].concat();
    let Some(report) = on_four_nodes(&[], &args) else {
        return;
    };
    let (facts, _) = facts_and_findings(&report);
    let groups = &facts["placement"]["topology"]["latency_ns"];
    assert_eq!(groups["2_of_2_levels_shared"]["pairs"], 4, "{groups}");
    assert_eq!(groups["1_of_2_levels_shared"]["pairs"], 8, "{groups}");
}

/// A suite as `scripts/suites/screen.toml` is one, for nodes that share two CPUs and a disk.
const SCREEN: &str = r#"
name = "screen"
repetitions = 1
timeout_s = 120
[[row]]
name = "memory"
command = ["mpirun", "--map-by", "ppr:1:node", "mpi-kernels", "stream", "-i", "5", "--array", "4M"]
[[row]]
name = "net-pairs"
command = ["mpirun", "--map-by", "ppr:1:node", "mpi-kernels", "pairmatrix", "-m", "256K", "-W", "4"]
[[row]]
name = "storage"
per_node = true
command = ["mpirun", "--map-by", "ppr:1:node", "storage-bench", "file", "--engine", "psync", "--size", "8m", "--runtime", "0.3"]
[[row]]
name = "efa-pairs"
needs = "efa"
command = ["false"]
"#;

/// The cap takes 98 %; what nodes on shared CPUs and a shared disk take from each other is less.
const RULES: &str = r#"
deviation = "80%"
[[rule]]
name = "memory"
case = "mpi-kernels/stream"
fact = "rank_bandwidth_on_host"
direction = "higher_is_better"
[[rule]]
name = "found"
case = "mpi-kernels/pairmatrix"
finding = "slow_node_?gress"
[[rule]]
name = "bandwidth"
case = "mpi-kernels/pairmatrix"
matrix = "bandwidth_bytes_per_s"
[[rule]]
name = "storage"
case = "storage-bench/file"
metric = "iops"
"#;

/// Starts a shell line on the first of four nodes, with what mpirun needs there to reach the others.
const ON_FIRST: &str = r#"
[ "$OMPI_COMM_WORLD_RANK" = 0 ] || exit 0
exec env -i PATH="$PATH" HOME="$HOME" TMPDIR="$1" HPC_BENCH_CLUSTER="$HPC_BENCH_CLUSTER" \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_plm_rsh_agent="$2" PRTE_MCA_plm_ssh_agent="$2" \
    OMPI_MCA_oob_tcp_if_include=eth0 PRTE_MCA_prte_if_include=eth0 \
    OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=eth0 \
    OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1 \
    sh -c "cd \"$1\" && $3"
"#;

#[test]
fn screening_names_the_capped_node_and_who_does_not_answer() {
    let programs = Path::new(PROGRAM).parent().expect("a folder of programs");
    for needed in ["reports", "storage-bench"] {
        if !programs.join(needed).exists() {
            println!(
                "SKIPPED screening of emulated nodes: {needed} is not built beside mpi-kernels"
            );
            return;
        }
    }
    let _alone = CLUSTER.lock().unwrap_or_else(|broken| broken.into_inner());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("it can be written");
    };
    write("suite.toml", SCREEN);
    write("rules.toml", RULES);
    write(
        "hosts",
        "n1 slots=1\nn2 slots=1\nn3 slots=1\nn4 slots=1\nn9 slots=1\n",
    );
    let screen = format!(
        "{}/reports screen suite.toml --rules rules.toml --hostfile hosts --out out --json \
         --probe '{AGENT} {{host}} true' >verdicts.json",
        programs.display()
    );
    let output = Command::new(SCRIPT)
        .args([
            "run",
            "--nodes",
            "4",
            "--mpi",
            "openmpi",
            "--timeout",
            "240",
        ])
        .args(["--cap", "n3=20mbit", "--", "sh", "-c", ON_FIRST, "sh"])
        .arg(folder.path())
        .args([AGENT, &screen])
        .output()
        .expect("scripts/cluster starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED screening of emulated nodes: {said}");
        return;
    }
    let text = std::fs::read_to_string(folder.path().join("verdicts.json")).unwrap_or_default();
    let verdicts: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{said}"));
    let nodes = verdicts["nodes"].as_array().expect("nodes");
    let of = |status: &str| -> Vec<&str> {
        let nodes = nodes.iter().filter(|node| node["status"] == status);
        nodes.filter_map(|node| node["node"].as_str()).collect()
    };
    assert_eq!(of("slow"), ["n3"], "{text}");
    assert_eq!(of("unreachable"), ["n9"], "{text}");
    assert_eq!(of("good"), ["n1", "n2", "n4"], "{text}");
    assert_eq!(output.status.code(), Some(6), "{said}");
    // The same reports without the list: nobody is missing, one is slow.
    let again = Command::new(programs.join("reports"))
        .current_dir(folder.path())
        .args(["screen", "out", "--rules", "rules.toml"])
        .output()
        .expect("reports starts");
    let said = String::from_utf8_lossy(&again.stdout);
    assert_eq!(again.status.code(), Some(5), "{said}");
}
