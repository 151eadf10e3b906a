//! A real NVMe device, in the lab's virtual machine: its serial number, its other door, and what
//! happens when somebody pulls it out.

use std::path::Path;
use std::process::{Command, Stdio};

const SCRIPT: &str = r#"
    bench() { "$0" block --engine psync --device "$@" 2>&1; echo "code $?"; }
    bench /dev/nvme0n1 --rw randwrite
    bench /dev/ng0n1
    bench /dev/nvme0n1 --rw randwrite --destroy=lab-disk-1 --number-ios 20
    bench /dev/nvme0n1 --runtime 300 --ramp-time 0 > out &
    until [ "$(cat /sys/block/nvme0n1/stat | awk '{print $1}')" -gt 2000 ]; do sleep 1; done
    echo 1 > /sys/class/nvme/nvme0/device/remove
    wait
    cat out
"#;

#[test]
fn a_device_is_named_by_its_serial_number_and_may_be_pulled_out() {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lab");
    let words = [
        "run",
        "--disk",
        "64M",
        "--timeout",
        "200",
        "--",
        "bash",
        "-c",
    ];
    let script = format!("cd /tmp; {SCRIPT}");
    let output = Command::new(lab)
        .args(words)
        .args([&script, env!("CARGO_BIN_EXE_storage-bench")])
        .stdin(Stdio::null())
        .output()
        .expect("scripts/lab starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED: no lab here: {errors}");
        return;
    }
    let told: Vec<&str> = text.split("code ").collect();
    assert_eq!(told.len(), 5, "{text}{errors}");
    assert!(
        told[0].contains("QEMU NVMe Ctrl, 64m") && told[0].contains("--destroy=lab-disk-1"),
        "{text}"
    );
    assert!(
        told[1].starts_with('2') && told[1].contains("or --device /dev/nvme0n1"),
        "{text}"
    );
    assert!(
        told[2].starts_with('2') && told[2].contains("held their last write"),
        "{text}"
    );
    let gone = [
        "ended after 0 bytes",
        "Input/output error",
        "No such device",
    ];
    assert!(
        told[3].starts_with('0') && gone.iter().any(|why| told[3].contains(why)),
        "{text}"
    );
    assert!(told[4].starts_with('4'), "{text}");
}
