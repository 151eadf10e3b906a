//! Polled completions and NVMe commands, on a virtual machine's NVMe device.

mod common;

use common::{folder, measured, report};
use std::process::Command;

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");

/// Runs that must be measured, and the name of each. What the last one has written is read through the
/// block layer afterwards.
const RUNS: [(&str, &str); 5] = [
    ("polled", "--device /dev/nvme0n1 --hipri"),
    ("commands", "--device /dev/nvme0n1 --uring-cmd --bs 64k"),
    (
        "generic",
        "--device /dev/ng0n1 --uring-cmd --fixedbufs false",
    ),
    (
        "polled_commands",
        "--device /dev/nvme0n1 --uring-cmd --hipri --iodepth 4",
    ),
    (
        "written_by_commands",
        "--device /dev/nvme0n1 --uring-cmd --rw write --bs 32k --size 6553600 --verify crc32c \
         --destroy=lab-disk-1",
    ),
];

/// Bytes of a block of the last run.
const BLOCK: usize = 32 << 10;
/// How many it writes.
const BLOCKS: usize = 200;

#[test]
fn an_nvme_device_is_polled_and_takes_commands() {
    let dir = folder();
    let program = env!("CARGO_BIN_EXE_storage-bench");
    let runs = RUNS.map(|(name, options)| {
        format!("{program} block {options} --number-ios 200 --json > $LAB_OUT/{name} || exit 1\n")
    });
    let refused = format!(
        "{program} block --device /dev/nvme0n1 --uring-cmd --bs 16m --iodepth 1 --number-ios 1 \
         > $LAB_OUT/refused 2>&1; echo \"exit $?\" >> $LAB_OUT/refused\n"
    );
    let copy = format!(
        "dd if=/dev/nvme0n1 of=$LAB_OUT/copy bs={BLOCK} count={BLOCKS} iflag=direct 2>/dev/null\n"
    );
    let script = runs.concat() + &copy + &refused;
    let out = dir.path().to_str().expect("text");
    let output = Command::new(LAB)
        .args(["run", "--disk", "64M", "--out", out, "--timeout", "240"])
        .args(["--", "bash", "-c", &script])
        .output()
        .expect("bash starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        println!("SKIPPED: {}", errors.trim());
        return;
    }
    let told = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{errors}{}",
        RUNS.map(|(name, _)| told(name)).concat()
    );
    for (name, options) in RUNS {
        check(&told(name), options);
    }
    // Both ways of the device's may be wrong alike: the block layer must find each block in its place.
    let copy = std::fs::read(dir.path().join("copy")).expect("it was read");
    assert_eq!(copy.len(), BLOCK * BLOCKS);
    for (index, block) in copy.chunks_exact(BLOCK).enumerate() {
        let word = |at: usize| u64::from_le_bytes(block[at * 8..][..8].try_into().expect("eight"));
        let first = u64::from_le_bytes(copy[..8].try_into().expect("eight"));
        assert_eq!(word(0), first, "block {index} begins as the others do");
        assert_eq!(word(1), (index * BLOCK) as u64, "and says where it belongs");
    }
    let refused = told("refused");
    assert!(
        refused.contains("takes commands of at most") && refused.contains("exit 1"),
        "{refused}"
    );
}

fn check(text: &str, options: &str) {
    let report = report(text);
    let measurement = measured(&report);
    assert!(measurement.work.known().expect("known").ops >= 200);
    if options.contains("--verify") {
        let verified = &measurement.verified;
        assert!(verified.contains("held their last write"), "{verified}");
    }
    let engine = &measurement.facts["engine"];
    let codes = measurement.validity.flags.iter();
    let codes: Vec<_> = codes.map(|flag| flag.code.as_str()).collect();
    if options.contains("--hipri") {
        let polled = engine["polling"]["device"] == "nvme0n1";
        assert!(
            polled && !codes.contains(&"not_polled"),
            "{engine} {codes:?}"
        );
        assert!(
            engine["setup_flags"].to_string().contains("iopoll"),
            "{engine}"
        );
    }
    let commands = engine["requests"] == "NVMe commands";
    assert_eq!(commands, options.contains("--uring-cmd"), "{engine}");
}
