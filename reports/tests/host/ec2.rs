//! What looks like EC2 from within: namespaces whose firmware says so, whose metadata service answers
//! at its real address (or does not), and whose network has a rate (`fixtures/ec2/instance`). Where
//! none can be made, the tests say so.

use crate::{known, reason, text};
use reports::host::Host;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const REPORTS: &str = env!("CARGO_BIN_EXE_reports");
const SUITE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../scripts/suites/instance.toml"
);
/// How the script says that there can be no such namespace here.
const CANNOT: i32 = 77;

/// A folder of metadata of this instance.
fn metadata(folder: &Path, kind: &str) -> PathBuf {
    let metadata = folder.join(format!("metadata-{kind}"));
    fs::create_dir_all(metadata.join("placement")).expect("a folder");
    for (item, value) in [
        ("hostname", &*format!("node-{}", kind.replace('.', "-"))),
        ("instance-type", kind),
        ("instance-id", &format!("i-{kind}")),
        ("instance-life-cycle", "on-demand"),
        ("placement/group-name", "bench"),
        ("placement/partition-number", "3"),
        ("placement/availability-zone-id", "use1-az4"),
        ("placement/region", "us-east-1"),
    ] {
        fs::write(metadata.join(item), value).expect("a file");
    }
    metadata
}

/// Runs a command on such an instance; `None` where there can be none.
fn on_instance(metadata: &Path, mode: &str, rate: &str, command: &[&str]) -> Option<Output> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ec2/instance");
    // A minute is far beyond what a command takes here; what hangs must not hold the tests up.
    let output = Command::new("timeout")
        .args(["-s", "KILL", "120", script])
        .arg(metadata)
        .args([mode, rate])
        .args(command)
        .output()
        .expect("timeout (coreutils) starts");
    if output.status.code() == Some(CANNOT) {
        let why = said(&output.stderr);
        println!("SKIPPED a test on what looks like EC2: {}", why.trim_end());
        return None;
    }
    Some(output)
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_service_is_asked_at_its_own_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let metadata = metadata(folder.path(), "c7gn.4xlarge");
    let late = "no answer within 200 ms; in a container, raise the instance's metadata hop limit";
    for (mode, expected) in [
        ("well", ""),
        ("hop-limit", late),
        ("silent", late),
        ("off", "status 403: the metadata service is switched off"),
        ("none", "Network is unreachable"),
    ] {
        let Some(output) = on_instance(&metadata, mode, "-", &[REPORTS, "env", "--json"]) else {
            return;
        };
        let printed = said(&output.stdout);
        assert!(output.status.success(), "{mode}: {}", said(&output.stderr));
        let host: Host = serde_json::from_str(&printed).expect("a host");
        let cloud = known(&host.cloud);
        if cloud.instance_type.known().is_none() {
            let why = reason(&cloud.instance_type);
            // Also a service that answers may be late on a machine this busy.
            let right = why.contains(late) || !expected.is_empty() && why.contains(expected);
            assert!(right, "{mode}: {why}");
            assert_eq!(why, reason(&cloud.interfaces), "one reason for all");
            continue;
        }
        assert_eq!(mode, "well");
        assert_eq!(text(&cloud.instance_type), "c7gn.4xlarge");
        assert_eq!(host.name, "node-c7gn-4xlarge");
        if let Some(partition) = cloud.partition.known() {
            assert_eq!(
                (text(&cloud.placement_group), *partition),
                ("bench", 3),
                "what comes later was in time, so what came before was too"
            );
        }
    }
}

/// Runs a row of the suite for instances on one of this type, against a server on it.
fn measure(folder: &Path, kind: &str, rate: &str) -> Option<Output> {
    let bin = Path::new(REPORTS).parent().expect("a folder");
    let script = format!(
        "PATH={bin}:$PATH; net-bench serve >server.log 2>&1 & \
         for i in $(seq 200); do net-bench tcp_rr -c 127.0.0.1 -n 1 -O 0 >/dev/null 2>&1 && break; \
         sleep 0.1; done; \
         PEER=127.0.0.1 reports run {SUITE} --out results/{kind} --repetitions 4 \
         --row tcp-stream",
        bin = bin.display()
    );
    let metadata = metadata(folder, kind);
    let command = ["sh", "-c", &format!("cd {} && {script}", folder.display())];
    on_instance(&metadata, "well", rate, &command)
}

#[test]
fn two_instance_types_are_measured_and_ranked() {
    let folder = tempfile::tempdir().expect("a folder");
    for (kind, rate) in [("c6in.4xlarge", "300mbit"), ("c7gn.4xlarge", "900mbit")] {
        let Some(output) = measure(folder.path(), kind, rate) else {
            return;
        };
        let printed = said(&output.stdout) + &said(&output.stderr);
        assert!(output.status.success(), "{printed}");
    }
    fs::write(
        folder.path().join("prices.toml"),
        "currency = \"USD\"\nsource = \"a test\"\nas_of = 2026-11-01\n\
         [[price]]\ninstance_type = \"c6in.4xlarge\"\nper_hour = 1\n\
         [[price]]\ninstance_type = \"c7gn.4xlarge\"\nper_hour = 2\n",
    )
    .expect("a file");
    let output = Command::new(REPORTS)
        .current_dir(&folder)
        .args(["rank", "results/c6in.4xlarge", "results/c7gn.4xlarge"])
        .args(["--prices", "prices.toml", "--json"])
        .output()
        .expect("the program starts");
    let printed = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    let ranking: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(
        ranking["cases"].as_array().map(Vec::len),
        Some(1),
        "{printed}"
    );
    let metric = &ranking["cases"][0]["metrics"][0];
    assert_eq!(metric["metric"], "bandwidth_bytes_per_s");
    let standing = |which: usize| {
        let standing = &metric["standings"][which];
        let place = &standing["place"];
        (
            standing["group"].as_str().unwrap_or_default().to_owned(),
            [place["first"].as_u64(), place["last"].as_u64()],
            standing["price_per_hour"].as_f64(),
        )
    };
    let first = ("c7gn.4xlarge".to_owned(), [Some(1); 2], Some(2.0));
    let second = ("c6in.4xlarge".to_owned(), [Some(2); 2], Some(1.0));
    assert_eq!([standing(0), standing(1)], [first, second], "{printed}");
}
