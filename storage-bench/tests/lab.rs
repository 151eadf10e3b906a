//! What takes a machine of its own: its sudden death, and a device that forgets writes. In virtual
//! machines of `scripts/lab`.

mod common;

use common::{failure, folder, measured, report};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");

/// Machines are emulated: one run at a time is fastest.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a script in a machine that has this disk, or says why there is none. `$1` is the program.
fn in_lab(test: &str, dir: &Path, disk: &str, script: &str) -> Option<Output> {
    let script = format!("set -euo pipefail\n{BEGINNING}\n{script}");
    let output = Command::new(LAB)
        .args(["run", "--disk", disk, "--timeout", "400", "--"])
        .args([
            "bash",
            "-c",
            &script,
            "-",
            env!("CARGO_BIN_EXE_storage-bench"),
        ])
        .env("TMPDIR", dir)
        .current_dir(dir)
        .output()
        .expect("bash starts");
    if output.status.code() == Some(3) {
        let why = String::from_utf8_lossy(&output.stderr);
        println!("SKIPPED {test}: {}", why.trim());
        return None;
    }
    Some(output)
}

/// What the scripts share: the folder of the disk, and a run that writes there without an end.
const BEGINNING: &str = r#"
folder=/run/disk
mkdir -p "$folder"
program=$1
start() {
    "$program" file "$@" --filename "$folder/data" --size 4m --rw randwrite --engine psync \
        --journal-every 32 --ramp-time 0 >/run/said 2>&1 &
    pid=$!
}
# until the journal has so many bytes
grown() {
    until [ -e "$1" ] && [ "$(stat -c %s "$1")" -gt "$2" ]; do
        kill -0 "$pid" || { cat /run/said; exit 1; }
        sleep 0.1
    done
}
"#;

#[test]
fn durable_writes_outlive_the_machine() {
    let _turn = alone();
    let dir = folder();
    let image = dir.path().join("image");
    let file = std::fs::File::create(&image).expect("a file");
    file.set_len(64 << 20).expect("room");
    let disk = image.to_str().expect("text");
    let death = r#"
mkfs.ext4 -q /dev/nvme0n1
mount /dev/nvme0n1 "$folder"
start --direct false --journal "$folder/journal" --runtime 600
grown "$folder/journal" 20000
echo it dies
echo b >/proc/sysrq-trigger
sleep 60
"#;
    let test = "durable_writes_outlive_the_machine";
    let Some(output) = in_lab(test, dir.path(), disk, death) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("it dies"), "{output:?}");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let proof = r#"
mount /dev/nvme0n1 "$folder"
"$program" verify --engine psync --journal "$folder/journal" --json
[ ! -e "$folder/journal" ] && [ ! -e "$folder/data" ]
"#;
    let output = in_lab(test, dir.path(), disk, proof).expect("it was there before");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = report(&text);
    let facts = &measured(&report).facts;
    assert!(
        facts["journal"]["writes_durable"].as_u64() > Some(100),
        "{facts:?}"
    );
}

#[test]
fn a_device_that_drops_writes_is_caught() {
    let _turn = alone();
    let dir = folder();
    // First the run's own reading back; then the proof by a journal, which lies elsewhere.
    let script = r#"
modprobe dm-flakey
sectors=$(blockdev --getsz /dev/nvme0n1)
linear="0 $sectors linear /dev/nvme0n1 0"
flakey="0 $sectors flakey /dev/nvme0n1 0 0 600 1 drop_writes"
change() {
    dmsetup suspend --nolockfs --noflush forgetful
    dmsetup load forgetful --table "$1"
    dmsetup resume forgetful
}
dmsetup create forgetful --table "$linear"
dmsetup mknodes
mkfs.ext4 -q /dev/mapper/forgetful
mount /dev/mapper/forgetful "$folder"
start --journal /run/first --runtime 10
grown /run/first 5000
change "$flakey"
wait "$pid" || echo "exit code $?"
grep failed: /run/said
change "$linear"
rm "$folder/data"
start --journal /run/journal --runtime 600
grown /run/journal 5000
change "$flakey"
grown /run/journal $(($(stat -c %s /run/journal) + 20000))
kill -KILL "$pid"
wait "$pid" || true
change "$linear"
"$program" verify --engine psync --journal /run/journal --json || echo "exit code $?"
"#;
    let test = "a_device_that_drops_writes_is_caught";
    let Some(output) = in_lab(test, dir.path(), "64M", script) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (own, proof) = text.split_once('{').expect("a report");
    assert!(own.starts_with("exit code 1\n"), "{output:?}");
    assert!(
        own.contains("was read back after the run") && own.contains("stale"),
        "{own}"
    );
    let (json, code) = proof.rsplit_once("exit code ").unwrap_or((proof, "0"));
    assert_eq!(code.trim(), "1", "{output:?}");
    let report = report(&format!("{{{json}"));
    let why = failure(&report);
    assert!(
        why.contains(" stale") && why.contains("a write was lost"),
        "{why}"
    );
}
