//! Several nodes: emulated ones that share this machine's files (scripts/cluster/local), and a real
//! NFS server and its client in virtual machines (scripts/lab).

mod common;
#[path = "common/ranks.rs"]
mod ranks;

use common::{folder, is_empty, measured, report, told};
use ranks::{PROGRAM, can_rank};
use reports::model::{self, Outcome};
use std::path::Path;
use std::process::{Command, Stdio};

const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/cluster/local");
const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");
const NFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/guest/nfs");

/// What the scripts exit with where they cannot make nodes.
const UNAVAILABLE: i32 = 3;

#[test]
fn nobody_reads_what_its_own_node_wrote() {
    if !can_rank() {
        return;
    }
    let dir = folder();
    let output = Command::new("bash")
        .arg(CLUSTER)
        .args([
            "run",
            "--nodes",
            "2",
            "--ranks-per-node",
            "2",
            "--mpi",
            "openmpi",
            "--",
        ])
        .args([
            PROGRAM, "shared", "--json", "--engine", "psync", "--block", "4m", "--dir",
        ])
        .arg(dir.path())
        .env_remove("HPC_BENCH_CLUSTER")
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let (code, text, errors) = told(output);
    if code == UNAVAILABLE {
        println!("SKIPPED two nodes: {}", errors.trim());
        return;
    }
    assert_eq!(code, 0, "{errors}{text}");
    let report = report(&text.replace('\r', ""));
    assert_eq!(report.hosts.len(), 2);
    let params = &report.cases[0].benchmark.params;
    assert_eq!((&params["nodes"], &params["shift"]), (&2.into(), &2.into()));
    let observed = &measured(&report).facts["observed"];
    assert_eq!(observed["readers_of_their_own_node"], "0 of 4");
    assert!(is_empty(dir.path()));
}

/// Both programs on two clients of a real server: the report has the mount, and what the server sent.
#[test]
fn an_nfs_mount_is_measured_and_described() {
    if !can_rank() {
        return;
    }
    let out = folder();
    let script = format!(
        "set -e; nfs={NFS}; $nfs serve\n\
         for on in '' 'lab-on 2'; do\n\
             $on $nfs mount 10.77.0.1 /mnt/nfs vers=4.2,nconnect=2\n\
         done\n\
         run() {{ $nfs mpirun -n 2 --host node1,node2 {PROGRAM} \"$@\" --dir /mnt/nfs; }}\n\
         run shared --layout shared-strided --transfer 64k --block 1m \
             --engine psync --check-read full --json >$LAB_OUT/shared.json\n\
         run metadata --items 20 --write 3901 --directories shared --json >$LAB_OUT/metadata.json\n\
         ls -A /srv/nfs >$LAB_OUT/left"
    );
    let output = Command::new(LAB)
        .args(["run", "--nodes", "2", "--timeout", "420", "--out"])
        .arg(out.path())
        .args(["--", "bash", "-c", &script])
        .stdin(Stdio::null())
        .output()
        .expect("scripts/lab starts");
    let (code, text, errors) = told(output);
    if code == UNAVAILABLE {
        println!("SKIPPED an NFS server: {}", errors.trim());
        return;
    }
    assert_eq!(code, 0, "{errors}{text}");
    for (file, nfs) in [("shared.json", true), ("metadata.json", false)] {
        let report = load(&out.path().join(file));
        let Outcome::Measured(measurement) = &report.cases[0].outcome else {
            panic!("{file}: {:?}", report.cases[0].outcome);
        };
        let target = &measurement.facts["target"];
        assert_eq!(report.hosts.len(), 2);
        assert_eq!(target["file_system"], "nfs4");
        assert_eq!(target["source"], "10.77.0.1:/");
        let options = &target["mount_options"];
        assert_eq!(
            (&options["vers"], &options["nconnect"]),
            (&"4.2".into(), &2.into())
        );
        assert!(options["rsize"].is_u64() && options["hard"] == true);
        assert!(target["read_ahead_bytes"].is_u64(), "{target}");
        if nfs {
            let moved = &measurement.facts["observed"]["nfs"];
            let bytes = 2 << 20;
            assert_eq!(moved["read_by_programs_bytes"], bytes, "{moved}");
            assert!(moved["sent_by_server_bytes"].is_u64());
        }
    }
    let left = std::fs::read_to_string(out.path().join("left")).expect("it was listed");
    assert_eq!(left.trim(), "", "the mount is as it was");
}

fn load(path: &Path) -> model::Report {
    let text = std::fs::read_to_string(path).expect("the run wrote it");
    model::parse(&text.replace('\r', ""), path).expect("a well-formed report")
}
