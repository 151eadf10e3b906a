use super::*;
use crate::engine::{Null, Psync, Uring};
use crate::workload::readback;
use reports::case::Availability;
use reports::measure::Clock;
use std::os::unix::fs::FileExt;

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
    Setup {
        index: 0,
        file: Arc::clone(file),
        target: "the test's file".to_owned(),
        expected,
        rw,
        read_percent: 50,
        block_bytes: BLOCK,
        iodepth,
        iodepth_batch: 3,
        blocks: 0..BLOCKS,
        seed: 1,
        remembered: 1024,
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
        let work = job.step(&mut rec)?;
        assert!(work.ops > 0, "a step completes at least one operation");
        total += work;
    }
    total += job.drain()?;
    assert_eq!(total.bytes, total.ops * BLOCK as u64);
    job.verify(total)?;
    let evidence = std::mem::take(&mut *evidence.lock().expect("nobody panicked"));
    Ok(evidence)
}

fn every_mix<E: Engine>(iodepth: usize) {
    for rw in [
        Rw::Read,
        Rw::Write,
        Rw::Randread,
        Rw::Randwrite,
        Rw::Rw,
        Rw::Randrw,
    ] {
        let content = Content::new(5);
        let file = scratch(content);
        let job = setup(&file, Expected::Known(content), rw, iodepth);
        let evidence = drive::<E>(job, 300).expect("a sound file");
        assert_eq!(evidence.sampled_reads > 0, rw.reads(), "{rw:?}");
        assert_eq!(evidence.full_reads > 0, !rw.writes(), "{rw:?}");
        if rw.writes() {
            let found = readback::check(&file, "it", content, BLOCK, &evidence.written);
            assert!(found.expect("all writes arrived").written > 0, "{rw:?}");
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
        every_mix::<Uring>(8);
        // More slots than blocks: writers must wait for each other.
        every_mix::<Uring>(100);
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
    job.blocks = 3..4;
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
    job.read_percent = 100;
    job.blocks = 1..2;
    let error = drive::<Psync>(job, 1).expect_err("another block lies there");
    assert!(error.to_string().contains("belongs to offset 0"), "{error}");
}

#[test]
fn lost_and_damaged_writes_are_caught_by_reading_back() {
    let content = Content::new(5);
    let file = scratch(content);
    let job = setup(&file, Expected::Known(content), Rw::Write, 1);
    let evidence = drive::<Psync>(job, BLOCKS as usize).expect("writes succeed");
    let check = || readback::check(&file, "it", content, BLOCK, &evidence.written);
    check().expect("all writes arrived");

    flip(&file, 9 * BLOCK as u64 + 77);
    let text = check().expect_err("a damaged block").to_string();
    assert!(
        text.contains("offset 36864") && text.contains("byte 72"),
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

#[test]
fn short_and_failed_operations_name_place_and_cause() {
    let file = scratch(Content::new(5));
    file.set_len(BLOCKS * BLOCK as u64 - 100)
        .expect("a shorter file");
    let mut job = setup(&file, Expected::Unknown, Rw::Read, 1);
    job.blocks = BLOCKS - 1..BLOCKS;
    let text = drive::<Psync>(job, 1)
        .expect_err("the file ends there")
        .to_string();
    assert!(
        text.contains("offset 258048") && text.contains("after 3996 bytes"),
        "{text}"
    );

    let unwritable = Arc::new(File::open("/dev/null").expect("it exists"));
    let job = setup(&unwritable, Expected::Unknown, Rw::Write, 1);
    let text = drive::<Psync>(job, 1)
        .expect_err("opened for reading")
        .to_string();
    assert!(
        text.starts_with("write of 4096 bytes at offset 0"),
        "{text}"
    );
    assert!(text.contains("Bad file descriptor"), "{text}");
}

#[test]
fn a_ring_that_is_dropped_in_flight_waits_for_its_buffers() {
    if !uring_is_here() {
        return;
    }
    let file = scratch(Content::new(5));
    let buffers = Buffers::new(4, BLOCK).expect("memory");
    let mut engine = Uring::open(file, buffers).expect("a ring");
    for buffer in 0..4 {
        engine.queue(Op {
            direction: Direction::Read,
            offset: 0,
            buffer,
        });
    }
    drop(engine);
}
