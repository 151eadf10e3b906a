//! Verification in full, and what a journal proves after the process that wrote it was killed.

mod common;

use common::{Zram, failure, folder, is_empty, measured, program, report, run_in, told};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;

/// Runs `file` on the file `data` with the journal `journal`, and more words.
fn journaled<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    let words = "file --filename data --journal journal --direct false --json";
    words.split(' ').chain(extra.iter().copied()).collect()
}

fn engines() -> Vec<&'static str> {
    match storage_bench::engine::probe_uring() {
        reports::case::Availability::Available => vec!["psync", "uring"],
        reports::case::Availability::Unavailable { reason } => {
            println!("SKIPPED: without io_uring: {reason}");
            vec!["psync"]
        }
    }
}

/// Verifies and returns exit code, report text and errors.
fn verify(dir: &Path, extra: &[&str]) -> (i32, String, String) {
    let words = [
        "verify",
        "--journal",
        "journal",
        "--engine",
        "psync",
        "--json",
    ];
    run_in(dir, &[&words, extra].concat())
}

#[test]
fn every_mix_is_verified_in_full() {
    let dir = folder();
    for engine in engines() {
        for rw in ["randread", "randwrite", "randrw", "rw"] {
            for (bs, size) in [("512", "16k"), ("4k", "1m")] {
                let words = format!(
                    "file --engine {engine} --rw {rw} --bs {bs} --size {size} --direct false \
                     --verify crc32c --number-ios 3000 --numjobs 2 --json"
                );
                let words: Vec<&str> = words.split_whitespace().collect();
                let (code, text, errors) = run_in(dir.path(), &words);
                assert_eq!(code, 0, "{engine} {rw} {bs}: {text}{errors}");
                let report = report(&text);
                let verified = &measured(&report).verified;
                if rw == "randread" {
                    assert!(verified.contains("0 were checked by sample"), "{verified}");
                } else {
                    assert!(verified.contains("held their last write"), "{verified}");
                }
                assert_eq!(report.cases[0].benchmark.params["verify"], "crc32c");
                assert!(is_empty(dir.path()));
            }
        }
    }
}

#[test]
fn a_sound_run_is_proven_and_removed() {
    let dir = folder();
    let run = journaled(&[
        "--rw",
        "randwrite",
        "--size",
        "1m",
        "--number-ios",
        "700",
        "--numjobs",
        "2",
        "--journal-every",
        "100",
        "--engine",
        "psync",
    ]);
    let (code, text, errors) = run_in(dir.path(), &run);
    assert_eq!(code, 0, "{text}{errors}");
    let first = report(&text);
    let flags = &measured(&first).validity.flags;
    assert!(
        flags.iter().any(|flag| flag.code == "files_kept"),
        "{flags:?}"
    );

    let (code, text, errors) = verify(dir.path(), &["--keep"]);
    assert_eq!(code, 0, "{text}{errors}");
    let kept = report(&text);
    let facts = &measured(&kept).facts;
    assert_eq!(facts["journal"]["writes_issued"], 1400);
    assert_eq!(facts["journal"]["writes_durable"], 1400);
    assert_eq!(facts["target"]["removed"], false);

    fs::rename(dir.path().join("data"), dir.path().join("moved")).expect("it is there");
    let (code, text, _) = verify(dir.path(), &[]);
    assert!(
        code == 1 && failure(&report(&text)).contains("cannot open"),
        "{text}"
    );
    let (code, text, _) = verify(dir.path(), &["--filename", "moved"]);
    assert_eq!(code, 0, "{text}");
    assert!(dir.path().join("moved").exists() && dir.path().join("journal").exists());
    fs::rename(dir.path().join("moved"), dir.path().join("data")).expect("it is there");

    let (code, text, _) = verify(dir.path(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(is_empty(dir.path()));
}

/// Starts a run on a file that would take minutes, and kills it when its journal has some length.
fn killed(dir: &Path, engine: &str, rw: &str) {
    let words = journaled(&[
        "--engine",
        engine,
        "--rw",
        rw,
        "--size",
        "1m",
        "--runtime",
        "600",
        "--ramp-time",
        "0",
        "--journal-every",
        "64",
        "--numjobs",
        "2",
    ]);
    kill_half_way(dir, &words);
}

/// Starts a run and kills it when its journal has some length.
fn kill_half_way(dir: &Path, words: &[&str]) {
    let mut child = program(words)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    let journal = dir.join("journal");
    while fs::metadata(&journal).map_or(0, |found| found.len()) < 40_000 {
        assert!(Instant::now() < deadline, "the journal does not grow");
        assert!(
            child.try_wait().expect("a child").is_none(),
            "it ended by itself"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_device_is_proven_by_its_journal_and_left_alone() {
    let Some(disk) = Zram::new("16M") else {
        println!("SKIPPED: no zram device can be had");
        return;
    };
    let (dir, path) = (folder(), disk.path());
    let device = || {
        let device = File::options().read(true).write(true).open(&path);
        device.expect("it is there")
    };
    // Half of it holds somebody else's data, half nothing.
    let foreign = vec![0xa5; 8 << 20];
    device().write_all_at(&foreign, 0).expect("room");
    let destroy = format!("--destroy=zram{}:{}", disk.0, 16 << 20);
    let words = format!(
        "block --device {path} {destroy} --rw randwrite --engine psync --numjobs 2 --ramp-time 0 \
         --runtime 600 --journal journal --journal-every 64"
    );
    kill_half_way(dir.path(), &words.split_whitespace().collect::<Vec<_>>());
    let (code, text, errors) = verify(dir.path(), &["--keep"]);
    assert_eq!(code, 0, "{text}{errors}");
    let sound = report(&text);
    let verified = &measured(&sound).verified;
    assert!(verified.contains("what stood there before"), "{verified}");

    let journal = fs::read(dir.path().join("journal")).expect("it reads");
    let found = storage_bench::workload::journal::read(&journal[..], journal.len() as u64);
    let units = found.expect("a sound journal").units;
    let durable = units.iter().find(|(_, known)| known.durable > 0);
    let at = durable.expect("some were").0 * BLOCK;
    let mut block = vec![0; BLOCK as usize];
    device().read_exact_at(&mut block, at).expect("readable");
    device()
        .write_all_at(&foreign[..BLOCK as usize], at)
        .expect("room");
    let (code, text, _) = verify(dir.path(), &[]);
    let lost = report(&text);
    assert!(
        code == 1 && failure(&lost).contains("1 of 4096 blocks are wrong (1 foreign)"),
        "{text}"
    );
    device().write_all_at(&block, at).expect("room");
    let (code, text, errors) = verify(dir.path(), &[]);
    assert_eq!(code, 0, "{text}{errors}");
    assert!(is_empty(dir.path()), "the journal is removed");
    device().read_exact_at(&mut block, at).expect("readable");
    assert!(block != vec![0; BLOCK as usize], "and the device is not");

    // A run that ends by itself says what stays; then another device has the name.
    let words = words.replace("--runtime 600", "--number-ios 300 --json");
    let words: Vec<&str> = words.split_whitespace().collect();
    let (code, text, errors) = run_in(dir.path(), &words);
    assert_eq!(code, 0, "{text}{errors}");
    let ended = report(&text);
    let flags = &measured(&ended).validity.flags;
    assert!(
        flags
            .iter()
            .any(|flag| flag.code == "files_kept" && flag.evidence.contains("of the device")),
        "{flags:?}"
    );
    disk.resize("32M").expect("nobody holds it");
    let (code, text, _) = verify(dir.path(), &[]);
    assert!(
        code == 1 && failure(&report(&text)).contains("names under /dev change"),
        "{text}"
    );
    assert!(dir.path().join("journal").exists());
}

#[test]
fn what_was_durable_outlives_ten_kills() {
    for (index, engine) in engines().into_iter().cycle().take(10).enumerate() {
        let dir = folder();
        let rw = ["randwrite", "randrw", "write"][index % 3];
        killed(dir.path(), engine, rw);
        let (code, text, errors) = verify(dir.path(), &["--keep"]);
        assert_eq!(code, 0, "{engine} {rw}: {text}{errors}");
        let sound = report(&text);
        let facts = &measured(&sound).facts;
        assert!(
            facts["journal"]["writes_durable"].as_u64() > Some(63),
            "{facts:?}"
        );
        // The last of ten also shows what is caught, and that nothing is removed then.
        if index == 9 {
            damage_is_caught(dir.path());
        }
        let (code, ..) = verify(dir.path(), &[]);
        assert_eq!(code, 0);
        assert!(is_empty(dir.path()));
    }
}

/// Damages the data in every way, one after the other, and mends it again.
fn damage_is_caught(dir: &Path) {
    let path = dir.join("data");
    let data = File::options()
        .write(true)
        .open(&path)
        .expect("it is there");
    let whole = fs::read(&path).expect("it reads");
    let block = |unit: u64| &whole[(unit * BLOCK) as usize..((unit + 1) * BLOCK) as usize];
    let zeros = vec![0; BLOCK as usize];
    let flipped = {
        let mut flipped = block(9).to_vec();
        flipped[1234] ^= 4;
        flipped
    };
    let half = [&block(11)[..512], &zeros[512..]].concat();
    let cases: [(&str, u64, &[u8], &str); 4] = [
        ("damaged", 9, &flipped, "byte 1234"),
        ("misdirected", 12, block(13), "belongs to offset 53248"),
        ("zeros", 14, &zeros, "only zeros"),
        ("damaged", 11, &half, "is 0x00 instead of"),
    ];
    for (kind, unit, bytes, word) in cases {
        data.write_all_at(bytes, unit * BLOCK).expect("room");
        let (code, text, _) = verify(dir, &[]);
        let found = report(&text);
        let text = failure(&found);
        assert_eq!(code, 1, "{kind}: {text}");
        let expected = format!(
            "1 of 256 blocks are wrong (1 {kind}); at offset {}",
            unit * BLOCK
        );
        assert!(text.contains(&expected) && text.contains(word), "{text}");
        data.write_all_at(block(unit), unit * BLOCK).expect("room");
    }
    assert!(path.exists() && dir.join("journal").exists());
}

#[test]
fn lost_and_torn_writes_are_caught() {
    let dir = folder();
    let run = |rw: &str| {
        let words = journaled(&["--engine", "psync", "--size", "256k", "--number-ios", "64"]);
        let words = [&words[..], &["--rw", rw, "--seed", "1"]].concat();
        run_in(dir.path(), &words)
    };
    // One pass over all blocks; before it, they held the layout.
    let (code, text, errors) = run("write");
    assert_eq!(code, 0, "{text}{errors}");
    let path = dir.path().join("data");
    let new = fs::read(&path).expect("it reads");
    let old = layout_of(&dir.path().join("journal"), new.len());
    let data = File::options()
        .write(true)
        .open(&path)
        .expect("it is there");
    let at = 7 * BLOCK as usize;
    for (length, kind, words) in [
        (
            4096,
            "stale",
            "it holds the layout where write 8 of job 0 had been completed",
        ),
        (
            1024,
            "torn",
            "up to byte 1024 it holds the layout, from there on write 8 of job 0",
        ),
    ] {
        data.write_all_at(&old[at..at + length], at as u64)
            .expect("room");
        let (code, text, _) = verify(dir.path(), &[]);
        assert_eq!(code, 1);
        let found = report(&text);
        let text = failure(&found);
        assert!(
            text.contains(&format!("(1 {kind})")) && text.contains(words),
            "{text}"
        );
        data.write_all_at(&new[at..at + 4096], at as u64)
            .expect("room");
    }
    // Half of a block of another run.
    data.write_all_at(&[0xa5; 4096], at as u64).expect("room");
    let (_, text, _) = verify(dir.path(), &[]);
    assert!(failure(&report(&text)).contains("(1 foreign)"), "{text}");
    // A shorter file, and another one of that name.
    data.set_len(200 << 10).expect("a shorter file");
    let (_, text, _) = verify(dir.path(), &[]);
    assert!(
        failure(&report(&text)).contains("its end is lost"),
        "{text}"
    );
    let copy = dir.path().join("copy");
    fs::write(&copy, &new).expect("room");
    fs::rename(&copy, &path).expect("the same folder");
    let (code, text, _) = verify(dir.path(), &[]);
    assert!(
        code == 1 && failure(&report(&text)).contains("another file"),
        "{text}"
    );
    let (code, text, _) = verify(dir.path(), &["--filename", "data"]);
    assert_eq!(code, 0, "{text}");
    assert!(path.exists());
}

/// What the run with this journal laid out.
fn layout_of(journal: &Path, bytes: usize) -> Vec<u8> {
    let journal = fs::read(journal).expect("it reads");
    let found = storage_bench::workload::journal::read(&journal[..], journal.len() as u64);
    let nonce = found.expect("a sound journal").header.nonce;
    let content = storage_bench::workload::content::Content::new(nonce).sealed(true);
    let mut all = vec![0; bytes];
    for (unit, block) in (0..).zip(all.chunks_exact_mut(BLOCK as usize)) {
        content.fill(block, content.laid_out(unit * BLOCK));
    }
    all
}

#[test]
fn a_journal_is_not_verified_while_its_run_lasts_or_if_it_is_none() {
    let dir = folder();
    let words = journaled(&[
        "--engine",
        "psync",
        "--rw",
        "randwrite",
        "--size",
        "64k",
        "--runtime",
        "600",
    ]);
    let mut child = program(&words)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(dir.path().join("journal")).map_or(0, |found| found.len()) < 1000 {
        assert!(Instant::now() < deadline, "the journal does not grow");
        std::thread::sleep(Duration::from_millis(2));
    }
    let (code, text, _) = verify(dir.path(), &[]);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(code, 1, "{text}");
    assert!(failure(&report(&text)).contains("still going"), "{text}");

    fs::write(dir.path().join("journal"), "nonsense").expect("room");
    let (code, text, _) = verify(dir.path(), &[]);
    assert!(
        code == 1 && failure(&report(&text)).contains("no journal"),
        "{text}"
    );
    assert!(dir.path().join("data").exists());
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let dir = folder();
    fs::write(dir.path().join("users"), vec![7; 64 << 10]).expect("a file");
    let refusals = [
        ("file --verify crc32c --filename users", "has no checksums"),
        ("file --journal j --rw randwrite", "name one that stays"),
        ("file --journal j --filename new", "nothing is written"),
        (
            "file --journal users --filename new --rw randwrite",
            "it exists",
        ),
        (
            "file --journal new --filename new --rw randwrite",
            "the same file",
        ),
        (
            "file --journal j --filename new --rw randwrite --verify sample",
            "leave --verify sample out",
        ),
        (
            "file --journal j --filename new --rw randwrite --journal-every 0",
            "--journal-every 0",
        ),
        (
            "file --journal absent/j --filename new --rw randwrite",
            "--journal: folder absent",
        ),
        (
            "file --journal /dev/j --filename new --rw randwrite",
            "under /dev",
        ),
        ("file --journal-every 5", "--journal"),
        ("file --verify none", "possible values: sample, crc32c"),
        ("verify", "--journal"),
        ("verify --journal absent", "--journal absent"),
        ("verify --journal users --engine null", "proves nothing"),
    ];
    for (words, why) in refusals {
        let words: Vec<&str> = words.split(' ').collect();
        let (code, text, errors) = run_in(dir.path(), &words);
        assert_eq!((code, text.as_str()), (2, ""), "{words:?}: {errors}");
        assert!(errors.contains(why), "{words:?}: {errors}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).expect("the folder").collect();
    assert_eq!(left.len(), 1);
}

#[test]
fn a_run_that_cannot_begin_leaves_neither_file_nor_journal() {
    let dir = folder();
    // More than any file system has.
    let words = journaled(&[
        "--rw",
        "randwrite",
        "--size",
        "4096t",
        "--bs",
        "1m",
        "--engine",
        "psync",
    ]);
    let (code, text, errors) = run_in(dir.path(), &words);
    assert!(code == 1 || code == 2, "{text}{errors}");
    assert!(is_empty(dir.path()));
}

#[test]
fn an_interrupted_run_is_invalid_and_can_be_proven() {
    let dir = folder();
    let words = journaled(&[
        "--engine",
        "psync",
        "--rw",
        "randwrite",
        "--size",
        "256k",
        "--runtime",
        "600",
        "--ramp-time",
        "0",
    ]);
    let child = program(&words)
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::metadata(dir.path().join("journal")).map_or(0, |found| found.len()) < 10_000 {
        assert!(Instant::now() < deadline, "the journal does not grow");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    let (code, text, errors) = told(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 4, "{text}{errors}");
    let interrupted = report(&text);
    let flags = &measured(&interrupted).validity.flags;
    assert!(
        flags
            .iter()
            .any(|flag| flag.code == "verification_interrupted"),
        "{flags:?}"
    );
    let (code, text, _) = verify(dir.path(), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(is_empty(dir.path()));
}
