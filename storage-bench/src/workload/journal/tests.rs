use super::*;
use crate::engine::Kind;
use std::time::{Duration, Instant};

fn header() -> Header {
    Header {
        version: VERSION,
        nonce: 0x1234_5678_9abc_def0,
        unit_bytes: 4096,
        size: 64 * 4096,
        units_per_operation: 4,
        target: "/data/file".into(),
        inode: 77,
        device: None,
        direct: true,
        boot: boot(),
    }
}

fn request(unit: u64, units: u32) -> Request {
    Request {
        kind: Kind::Write,
        unit,
        units,
    }
}

/// A journal in which write 1 to unit 3 is durable, and write 2 to units 3 to 5 under way.
fn written(dir: &Path) -> Vec<u8> {
    let path = dir.join("journal");
    let journal = Arc::new(Journal::create(&path, &header(), 1).expect("a new file"));
    let target = tempfile::tempfile().expect("a file");
    let mut log = Log::new(&journal);
    log.intends(request(3, 1), 101);
    log.write_intents().expect("room");
    log.write_intents().expect("nothing more to write");
    assert!(!log.is_due());
    log.completed(request(3, 1), 101);
    assert!(log.is_due());
    log.make_durable(&target).expect("room");
    assert!(!log.is_due());
    log.intends(request(3, 3), 102);
    log.write_intents().expect("room");
    std::fs::read(path).expect("it is there")
}

fn read_bytes(bytes: &[u8]) -> Result<Found, String> {
    read(bytes, bytes.len() as u64)
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let found = read_bytes(&written(dir.path())).expect("a sound journal");
    assert_eq!(found.header, header());
    assert_eq!(
        (found.issued, found.durable, found.ignored_bytes),
        (2, 1, 0)
    );
    let known = |issued, durable| Known { issued, durable };
    assert_eq!(found.units.len(), 3);
    assert_eq!(found.units[&3], known(102, 101));
    assert_eq!(found.units[&5], known(102, 0));
}

#[test]
fn a_journal_that_exists_is_not_written_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = written(dir.path());
    let path = dir.path().join("journal");
    let error = Journal::create(&path, &header(), 1).expect_err("it exists");
    assert!(error.to_string().contains("journal"), "{error}");
    assert_eq!(std::fs::read(path).expect("it is there"), before);
}

#[test]
fn a_journal_cut_anywhere_says_what_stands_before_the_cut() {
    let dir = tempfile::tempdir().expect("a folder");
    let whole = written(dir.path());
    let mut most = 0;
    for length in 0..whole.len() {
        let Ok(found) = read_bytes(&whole[..length]) else {
            assert!(most == 0, "a longer one was read already");
            continue;
        };
        let said = found.issued + found.durable;
        assert!(said >= most, "more bytes say no less");
        assert!(found.ignored_bytes < (FRAME_HEADER + ENTRY) as u64);
        most = said;
    }
    assert_eq!(most, 2);
}

#[test]
fn a_flipped_bit_ends_what_a_journal_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let whole = written(dir.path());
    let sound = read_bytes(&whole).expect("a sound journal");
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        if let Ok(found) = read_bytes(&damaged) {
            assert!(found.ignored_bytes > 0, "bit {bit}");
            assert!(found.issued < sound.issued, "bit {bit}");
        }
    }
}

#[test]
fn impossible_descriptions_are_refused() {
    type Change = fn(&mut Header);
    let changes: [(Change, &str); 6] = [
        (|header| header.version = 9, "version 9"),
        (|header| header.unit_bytes = 0, "sizes"),
        (|header| header.unit_bytes = 100, "sizes"),
        (|header| header.size = u64::MAX, "sizes"),
        (|header| header.size = 0, "sizes"),
        (|header| header.units_per_operation = u32::MAX, "sizes"),
    ];
    for (change, why) in changes {
        let mut wrong = header();
        change(&mut wrong);
        let mut frame = vec![0; FRAME_HEADER];
        serde_json::to_writer(&mut frame, &wrong).expect("plain values");
        finish_frame(&mut frame, 0, Frame::Header);
        let error = read_bytes(&[GREETING, &frame].concat()).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
    assert!(read_bytes(b"").is_err());
    assert!(read_bytes(&[0; 4096]).is_err_and(|error| error.contains("no journal")));
}

/// Some changes to bytes, after which checksums may be made to fit again.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..=4) {
        let place = random.usize(0..=bytes.len());
        match random.u8(0..5) {
            0 if place < bytes.len() => bytes[place] ^= 1 << random.u8(0..8),
            1 if place < bytes.len() => bytes[place] = random.u8(..),
            2 => bytes.insert(place, random.u8(..)),
            3 if place < bytes.len() => drop(bytes.remove(place)),
            4 if random.u8(0..4) == 0 => bytes.truncate(place),
            _ => {}
        }
    }
}

/// The frames of a mutated journal under checksums that fit, so that faults lie deeper.
fn reseal(bytes: &mut [u8]) {
    let mut at = GREETING.len();
    let mut nonce = 0;
    while let Some(head) = bytes.get(at..at + FRAME_HEADER) {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let start = at + FRAME_HEADER;
        let Some(payload) = bytes.get(start..start.saturating_add(length)) else {
            return;
        };
        let sum = frame_checksum(nonce, kind, payload);
        bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        nonce = header().nonce;
        at = start + length;
    }
}

/// `FUZZ_SECONDS` sets how long; each input follows from a number that a failure prints, and
/// `FUZZ_SEED` starts there.
#[test]
fn a_reader_of_damaged_journals_never_panics() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let length = Duration::from_secs(variable("FUZZ_SECONDS").unwrap_or(1));
    let first = variable("FUZZ_SEED").unwrap_or(0);
    let dir = tempfile::tempdir().expect("a folder");
    let whole = written(dir.path());
    let (end, mut seed) = (Instant::now() + length, first);
    let mut read_to_the_end = 0;
    while Instant::now() < end || seed < first + 100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = whole.clone();
        mutate(&mut random, &mut bytes);
        if random.bool() {
            reseal(&mut bytes);
        }
        // A panic names the seed that leads to it; a line for each would drown all others.
        let read = std::panic::catch_unwind(|| read_bytes(&bytes));
        let read = read.unwrap_or_else(|_| panic!("again by FUZZ_SEED={seed} FUZZ_SECONDS=0"));
        if let Ok(found) = read {
            let units = found.header.size / found.header.unit_bytes;
            assert!(found.units.keys().all(|&unit| unit < units));
            read_to_the_end += u32::from(found.ignored_bytes == 0);
        }
        seed += 1;
    }
    assert!(
        read_to_the_end > 0,
        "some mutations must get past the checksums"
    );
}
