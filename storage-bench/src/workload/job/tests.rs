use super::running::Filled;
use super::*;
use crate::engine::{Files, Kind, Null, Op, Opening, Psync, Uring};
use crate::spec::{self, EngineOptions, PatternSpec, Rw, Tolerance};
use crate::sys::Buffers;
use crate::workload::content::{Version, first_sequence};
use crate::workload::readback::{self, Record};
use crate::workload::scan::Scan;
use reports::case::Availability;
use reports::measure::Clock;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

const BLOCK: usize = 4096;
const BLOCKS: u64 = 64;

/// A file as the layout leaves it.
fn scratch(content: Content) -> Arc<File> {
    let file = tempfile::tempfile().expect("a scratch file");
    let mut block = vec![0; BLOCK];
    for offset in (0..BLOCKS).map(|block| block * BLOCK as u64) {
        content.fill(&mut block, content.laid_out(offset));
        file.write_all_at(&block, offset)
            .expect("room for the layout");
    }
    Arc::new(file)
}

fn setup(file: &Arc<File>, expected: Expected, rw: Rw, iodepth: usize) -> Setup {
    let spec = Spec {
        pattern: PatternSpec {
            rw,
            rwmixread: Some(50),
            bs: BLOCK as u64,
            ..PatternSpec::default()
        },
        iodepth,
        iodepth_batch: 3,
        size: BLOCKS * BLOCK as u64,
        ..spec::example()
    };
    Setup {
        index: 0,
        file: Arc::clone(file),
        target: "the test's file".to_owned(),
        expected,
        spec: Arc::new(spec),
        units: 0..BLOCKS,
        seed: 1,
        remembered: 1024,
        journal: None,
    }
}

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("a byte");
}

/// Runs a job as the harness does and returns what it left behind.
fn drive<E: Engine>(setup: Setup, steps: usize) -> anyhow::Result<Evidence> {
    let evidence = Arc::new(Mutex::new(Evidence::default()));
    let mut job = Job::<E>::new(setup, Arc::clone(&evidence));
    let mut rec = Recorder::new(Clock::get(), job.extra_histograms().len());
    job.prepare()?;
    let mut total = Work::default();
    for _ in 0..steps {
        total += job.step(&mut rec)?;
        if rec.finished() {
            break;
        }
    }
    total += job.drain()?;
    assert_eq!(total.bytes, total.ops * BLOCK as u64);
    job.verify(total)?;
    let evidence = std::mem::take(&mut *evidence.lock().expect("nobody panicked"));
    Ok(evidence)
}

fn read_back(
    file: &Arc<File>,
    content: Content,
    evidence: &Evidence,
) -> anyhow::Result<readback::ReadBack> {
    let scan = Scan {
        file,
        target: "it",
        unit_bytes: BLOCK,
        options: &EngineOptions::default(),
        interruptible: false,
    };
    readback::check::<Psync>(scan, content, &evidence.written)
}

fn every_mix<E: Engine>(iodepth: usize) {
    for rw in [
        Rw::Read,
        Rw::Write,
        Rw::Randread,
        Rw::Randwrite,
        Rw::Rw,
        Rw::Randrw,
        Rw::Trim,
        Rw::Randtrim,
        Rw::Trimwrite,
        Rw::Randtrimwrite,
    ] {
        for sealed in [false, true] {
            let content = Content::new(5).sealed(sealed);
            let file = scratch(content);
            let job = setup(&file, Expected::Known(content), rw, iodepth);
            let evidence = drive::<E>(job, 300).expect("a sound file");
            assert_eq!(evidence.sampled_reads > 0, rw.reads() && !sealed, "{rw:?}");
            let full = if sealed { rw.reads() } else { !rw.writes() };
            assert_eq!(evidence.full_reads > 0, full, "{rw:?}");
            if rw.writes() {
                let found = read_back(&file, content, &evidence);
                let found = found.expect("all writes arrived");
                // With all blocks in flight at once, all may have been trimmed last.
                let surely_written = rw.puts() && !(rw.trims() && iodepth as u64 >= BLOCKS);
                assert!(found.written > 0 || !surely_written, "{rw:?}");
                assert!(found.trimmed > 0 || rw.puts(), "{rw:?}");
            }
        }
    }
}

/// io_uring, or a line that says why not.
fn uring_is_here() -> bool {
    match crate::engine::probe_uring() {
        Availability::Available => true,
        Availability::Unavailable { reason } => {
            println!("SKIPPED: {reason}");
            false
        }
    }
}

#[test]
fn psync_does_every_mix() {
    every_mix::<Psync>(1);
}

#[test]
fn uring_does_every_mix() {
    if uring_is_here() {
        every_mix::<Uring<Files>>(8);
        // More slots than blocks: writers must wait for each other.
        every_mix::<Uring<Files>>(100);
    }
}

#[test]
fn null_does_nothing_and_can_prove_it() {
    let file = Arc::new(File::open("/dev/null").expect("it exists"));
    for rw in [Rw::Randread, Rw::Write, Rw::Randrw] {
        drive::<Null>(setup(&file, Expected::Echo, rw, 4), 100).expect("nothing to fail");
    }
}

#[test]
fn one_flipped_bit_is_caught_by_the_last_reads() {
    let content = Content::new(5);
    let file = scratch(content);
    flip(&file, 3 * BLOCK as u64 + 1000);
    let mut job = setup(&file, Expected::Known(content), Rw::Read, 1);
    job.units = 3..4;
    // Two steps: too few for the sample in the loop to come round to that word.
    let error = drive::<Psync>(job, 2).expect_err("the block is damaged");
    let text = error.to_string();
    assert!(
        text.contains("offset 12288") && text.contains("byte 1000"),
        "{text}"
    );
}

#[test]
fn a_misplaced_block_is_caught_in_the_loop() {
    let content = Content::new(5);
    let file = scratch(content);
    let mut block = vec![0; BLOCK];
    content.fill(&mut block, content.laid_out(0));
    file.write_all_at(&block, BLOCK as u64).expect("room");
    let mut job = setup(&file, Expected::Known(content), Rw::Randrw, 1);
    Arc::get_mut(&mut job.spec)
        .expect("not shared")
        .pattern
        .rwmixread = Some(100);
    job.units = 1..2;
    let error = drive::<Psync>(job, 1).expect_err("another block lies there");
    assert!(error.to_string().contains("belongs to offset 0"), "{error}");
}

#[test]
fn lost_and_damaged_writes_are_caught_by_reading_back() {
    let content = Content::new(5);
    let file = scratch(content);
    let job = setup(&file, Expected::Known(content), Rw::Write, 1);
    let evidence = drive::<Psync>(job, BLOCKS as usize).expect("writes succeed");
    let check = || read_back(&file, content, &evidence);
    check().expect("all writes arrived");

    flip(&file, 9 * BLOCK as u64 + 77);
    let text = check().expect_err("a damaged block").to_string();
    assert!(
        text.contains("offset 36864") && text.contains("byte 77"),
        "{text}"
    );

    let mut block = vec![0; BLOCK];
    content.fill(&mut block, content.laid_out(9 * BLOCK as u64));
    file.write_all_at(&block, 9 * BLOCK as u64).expect("room");
    let text = check().expect_err("the layout is still there").to_string();
    assert!(
        text.contains("offset 36864") && text.contains("a write was lost"),
        "{text}"
    );
}

/// What stands in a block after a write that this process did not do.
fn forged(content: Content, unit: u64, count: u64) -> Vec<u8> {
    let version = Version {
        offset: unit * BLOCK as u64,
        sequence: first_sequence(0) + count,
        key: 3,
    };
    let mut block = vec![0; BLOCK];
    content.fill(&mut block, version);
    block
}

/// Reads of sealed blocks under each fault, by an engine; `rw` says whether writes are possible.
fn every_fault<E: Engine>(rw: Rw) {
    let content = Content::new(5).sealed(true);
    let mut laid_out = vec![0; BLOCK];
    content.fill(&mut laid_out, content.laid_out(3 * BLOCK as u64));
    let mut flipped = laid_out.clone();
    flipped[2000] ^= 0x40;
    let newer = forged(content, 3, 900);
    let torn = [&newer[..1024], &laid_out[1024..]].concat();
    let foreign = forged(Content::new(6).sealed(true), 3, 1);
    let cases = [
        (flipped, "byte 2000 of the block"),
        (newer, "nothing newer than the layout"),
        (torn, "torn: up to byte 1024 it holds write 900 of job 0"),
        (forged(content, 8, 1), "belongs to offset 32768"),
        (foreign, "(foreign)"),
        (vec![0; BLOCK], "only zeros"),
    ];
    for (block, words) in cases {
        let file = scratch(content);
        file.write_all_at(&block, 3 * BLOCK as u64).expect("room");
        let mut job = setup(&file, Expected::Known(content), rw, 1);
        Arc::get_mut(&mut job.spec)
            .expect("not shared")
            .pattern
            .rwmixread = rw.mixed().then_some(100);
        job.units = 3..4;
        let error = drive::<E>(job, 1).expect_err("the block is wrong");
        let text = error.to_string();
        assert!(
            text.contains("at offset 12288: it ") && text.contains(words),
            "{rw:?}: {text}"
        );
    }
}

#[test]
fn every_fault_of_a_sealed_block_is_caught_by_the_read_itself() {
    for rw in [Rw::Randread, Rw::Randrw] {
        every_fault::<Psync>(rw);
        if uring_is_here() {
            every_fault::<Uring<Files>>(rw);
        }
    }
}

#[test]
fn every_fault_of_a_sealed_block_is_caught_by_reading_back() {
    let content = Content::new(5).sealed(true);
    let file = scratch(content);
    let job = setup(&file, Expected::Known(content), Rw::Write, 1);
    // Twice over all blocks: writes 65 to 128 are the last.
    let evidence = drive::<Psync>(job, 2 * BLOCKS as usize).expect("writes succeed");
    let check = || read_back(&file, content, &evidence);
    let sound = check().expect("all writes arrived");
    assert_eq!(
        (sound.written, sound.untouched, sound.exact),
        (BLOCKS, 0, true)
    );
    let mut held = vec![0; BLOCK];
    let place = 9 * BLOCK as u64;
    file.read_exact_at(&mut held, place).expect("it reads");
    let older = forged(content, 9, 10);
    let torn = [&older[..3584], &held[3584..]].concat();
    let mut flipped = held.clone();
    flipped[4095] ^= 1;
    let cases = [
        (flipped, "byte 4095 of the block"),
        (
            older,
            "write 10 of job 0 where write 74 of job 0 had been completed (stale)",
        ),
        (
            torn,
            "torn: up to byte 3584 it holds write 10 of job 0, from there on write 74",
        ),
        (
            forged(content, 9, 99),
            "nothing newer than write 74 of job 0",
        ),
        (forged(content, 8, 73), "belongs to offset 32768"),
        (forged(Content::new(6).sealed(true), 9, 74), "(foreign)"),
        (vec![0; BLOCK], "only zeros"),
    ];
    for (block, words) in cases {
        file.write_all_at(&block, place).expect("room");
        let text = check().expect_err("a wrong block").to_string();
        assert!(
            text.contains("at offset 36864 it ") && text.contains(words),
            "{text}"
        );
    }
    file.write_all_at(&held, place).expect("room");
    check().expect("mended");
}

#[test]
fn of_sealed_blocks_all_are_read_back_even_if_few_are_remembered() {
    let content = Content::new(5).sealed(true);
    let file = scratch(content);
    let mut job = setup(&file, Expected::Known(content), Rw::Randrw, 1);
    job.remembered = 8;
    let evidence = drive::<Psync>(job, 500).expect("a sound file");
    let found = read_back(&file, content, &evidence).expect("all writes arrived");
    assert!(!found.exact && found.written > 32, "{found:?}");
    flip(&file, 63 * BLOCK as u64 + 99);
    let text = read_back(&file, content, &evidence).expect_err("a wrong block");
    assert!(text.to_string().contains("at offset 258048"), "{text}");
}

#[test]
fn trimmed_blocks_must_hold_nothing_and_unknown_ones_anything() {
    let content = Content::new(5);
    let file = scratch(content);
    let mut record = Record::new(0..4, 4);
    record.note(1, readback::TRIMMED | (first_sequence(0) + 1));
    record.note(2, readback::UNKNOWN);
    file.write_all_at(&[0; 2 * BLOCK], BLOCK as u64)
        .expect("room");
    let evidence = Evidence {
        written: vec![Written {
            record,
            last: Vec::new(),
        }],
        ..Evidence::default()
    };
    let found = read_back(&file, content, &evidence).expect("as it must be");
    assert_eq!((found.written, found.untouched, found.trimmed), (0, 2, 1));
    let mut block = vec![0; BLOCK];
    content.fill(&mut block, content.laid_out(BLOCK as u64));
    file.write_all_at(&block, BLOCK as u64).expect("room");
    let text = read_back(&file, content, &evidence)
        .expect_err("a lost trim")
        .to_string();
    assert!(
        text.contains("the layout where trim 1 of job 0 had been completed"),
        "{text}"
    );
}

#[test]
fn short_and_failed_operations_name_place_and_cause() {
    let file = scratch(Content::new(5));
    file.set_len(BLOCKS * BLOCK as u64 - 100)
        .expect("a shorter file");
    let mut job = setup(&file, Expected::Unknown, Rw::Read, 1);
    job.units = BLOCKS - 1..BLOCKS;
    let evidence = drive::<Psync>(job, 5).expect("errors are counted");
    let text = evidence.errors.first().expect("the file ends there");
    assert!(
        text.contains("offset 258048") && text.contains("after 3996 bytes"),
        "{text}"
    );
    assert_eq!(evidence.errors.count(), 1, "the first one ends the window");
    assert!(evidence.brake.ended());

    let unwritable = Arc::new(File::open("/dev/null").expect("it exists"));
    let job = setup(&unwritable, Expected::Unknown, Rw::Write, 1);
    let evidence = drive::<Psync>(job, 1).expect("errors are counted");
    let text = evidence.errors.first().expect("opened for reading");
    assert!(
        text.starts_with("write of 4096 bytes at offset 0"),
        "{text}"
    );
    assert!(text.contains("Bad file descriptor"), "{text}");
}

/// A job over a file that ends in the middle of its range.
fn over_the_end(rw: Rw, iodepth: usize, change: impl FnOnce(&mut Spec)) -> Setup {
    let content = Content::new(5);
    let file = scratch(content);
    file.set_len(BLOCKS / 2 * BLOCK as u64)
        .expect("a shorter file");
    let mut job = setup(&file, Expected::Known(content), rw, iodepth);
    change(Arc::get_mut(&mut job.spec).expect("not shared"));
    job
}

#[test]
fn who_goes_on_counts_errors_and_leaves_them_out() {
    let check = |evidence: Evidence, at_least: u64| {
        let errors = evidence.errors;
        assert!(errors.count() >= at_least && !evidence.brake.ended());
        let facts = errors.facts().expect("some");
        assert_eq!(facts["read"]["short"], errors.count(), "{facts}");
    };
    let all = |spec: &mut Spec| {
        spec.errors.continue_on_error = Some(Tolerance::All);
        spec.number_ios = None;
    };
    let job = || over_the_end(Rw::Read, 1, all);
    check(drive::<Psync>(job(), 128).expect("it goes on"), 64);
    if uring_is_here() {
        let job = over_the_end(Rw::Randread, 16, all);
        check(drive::<Uring<Files>>(job, 100).expect("it goes on"), 10);
    }
    // Two passes: the first half of the file succeeds each time, the fourth error is too many.
    let three = |spec: &mut Spec| spec.errors.continue_on_error = Some(Tolerance::UpTo(3));
    let evidence = drive::<Psync>(over_the_end(Rw::Read, 1, three), 128).expect("counted");
    assert_eq!(evidence.errors.count(), 4);
    assert!(evidence.brake.ended());
}

#[test]
fn nothing_but_errors_has_an_end() {
    let forever = |spec: &mut Spec| {
        spec.errors.continue_on_error = Some(Tolerance::All);
        spec.number_ios = Some(20);
    };
    let mut job = over_the_end(Rw::Read, 1, forever);
    job.units = BLOCKS / 2..BLOCKS;
    let evidence = drive::<Psync>(job, 1_000).expect("counted");
    assert_eq!(evidence.errors.count(), 20);
}

#[test]
fn what_a_failed_write_left_is_not_judged() {
    // The first half of the blocks is written, then every write fails and all goes on.
    let content = Content::new(5);
    let file = scratch(content);
    let mut job = setup(&file, Expected::Known(content), Rw::Write, 1);
    let spec = Arc::get_mut(&mut job.spec).expect("not shared");
    spec.errors.continue_on_error = Some(Tolerance::All);
    let brake = Arc::new(Brake::default());
    let mut running = Running::<Psync>::new(job, brake).expect("an engine");
    for at in 0..BLOCKS {
        assert!(matches!(running.fill(0), Filled::All { .. }));
        running.exchange(Wait::One).expect("writes succeed");
        if at >= BLOCKS / 2 {
            running.done[0].result = -libc::EIO;
            flip(&file, at * BLOCK as u64 + 700);
        }
        running.complete(|_, _| {}).expect("counted");
    }
    assert_eq!(running.errors.count(), BLOCKS / 2);
    let evidence = Evidence {
        written: running.into_written().into_iter().collect(),
        ..Evidence::default()
    };
    let found = read_back(&file, content, &evidence);
    assert_eq!(
        found.expect("only what is known is judged").written,
        BLOCKS / 2
    );
}

#[test]
fn remainders_wait_only_where_completions_come_in_batches() {
    let file = scratch(Content::new(5));
    for (complete_min, free_after) in [(1, [5, 2, 0]), (3, [5, 2, 2])] {
        for plain in [true, false] {
            let mut job = setup(&file, Expected::Echo, Rw::Randread, 8);
            let spec = Arc::get_mut(&mut job.spec).expect("not shared");
            spec.options.iodepth_batch_complete_min = complete_min;
            let mut running = Running::<Null>::new(job, Arc::default()).expect("an engine");
            let units = running.plain.expect("reads of one length in a closed loop");
            for free in free_after {
                let filled = match plain {
                    true => running.fill_plain(0, units),
                    false => running.fill(0),
                };
                assert_eq!(running.free.len(), free, "{complete_min} {plain}");
                let waits = matches!(filled, Filled::All { .. });
                assert_eq!(waits, free == free_after[2], "{complete_min} {plain}");
                if waits {
                    break;
                }
            }
        }
    }
}

#[test]
fn flushes_are_timed_apart_and_are_no_operations() {
    let content = Content::new(5);
    let file = scratch(content);
    let mut job = setup(&file, Expected::Known(content), Rw::Write, 1);
    Arc::get_mut(&mut job.spec)
        .expect("not shared")
        .pattern
        .fsync = Some(4);
    let evidence = Arc::new(Mutex::new(Evidence::default()));
    let mut job = Job::<Psync>::new(job, evidence);
    let mut rec = Recorder::new(Clock::get(), job.extra_histograms().len());
    job.prepare().expect("an engine");
    let works: Vec<u64> = (0..10)
        .map(|_| job.step(&mut rec).expect("writes succeed").ops)
        .collect();
    assert_eq!(works, [1, 1, 1, 1, 0, 1, 1, 1, 1, 0]);
    job.verify(Work {
        ops: 8,
        bytes: 8 * BLOCK as u64,
    })
    .expect("eight writes");
}

#[test]
fn a_ring_that_is_dropped_in_flight_waits_for_its_buffers() {
    if !uring_is_here() {
        return;
    }
    let file = scratch(Content::new(5));
    let buffers = Buffers::new(4, BLOCK).expect("memory");
    let mut engine = Uring::<Files>::open(Opening {
        file,
        buffers,
        options: EngineOptions::default(),
    })
    .expect("a ring");
    for buffer in 0..4 {
        engine.queue(Op {
            kind: Kind::Read,
            offset: 0,
            len: BLOCK as u32,
            buffer,
        });
    }
    drop(engine);
}

#[test]
fn polling_finds_what_has_ended() {
    if !uring_is_here() {
        return;
    }
    // Direct I/O ends some time after its submission, and the kernel leaves the rest to the thread
    // that asks.
    let dir = tempfile::tempdir_in(".").expect("a folder");
    let path = dir.path().join("file");
    std::fs::write(&path, vec![0; BLOCK]).expect("a block");
    let direct = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    let file = match direct {
        Ok(file) => Arc::new(file),
        Err(error) => return println!("SKIPPED: no direct I/O here: {error}"),
    };
    let mut engine = Uring::<Files>::open(Opening {
        file,
        buffers: Buffers::new(1, BLOCK).expect("memory"),
        options: EngineOptions::default(),
    })
    .expect("a ring");
    engine.queue(Op {
        kind: Kind::Read,
        offset: 0,
        len: BLOCK as u32,
        buffer: 0,
    });
    let mut done = Vec::new();
    let patience = std::time::Instant::now();
    while done.is_empty() {
        engine.exchange(&mut done, Wait::No).expect("a sound ring");
        assert!(patience.elapsed().as_secs() < 60, "it must have ended");
    }
    assert_eq!(done[0].result, BLOCK as i32);
}
