use super::*;
use crate::workload::content::{Version, first_sequence};
use crate::workload::journal::{Header, Known};
use std::collections::HashMap;

const BLOCK: usize = 2048;

fn found(boot: Option<String>) -> Found {
    let (durable, issued) = (sequence(5), sequence(7));
    Found {
        header: Header {
            version: journal::VERSION,
            nonce: 7,
            unit_bytes: BLOCK as u64,
            size: 4 * BLOCK as u64,
            units_per_operation: 1,
            target: "it".into(),
            inode: 1,
            device: None,
            direct: false,
            boot,
        },
        units: HashMap::from([
            (2, Known { issued, durable }),
            (3, Known { issued, durable: 0 }),
        ]),
        issued: 3,
        durable: 1,
        ignored_bytes: 0,
    }
}

fn sequence(count: u64) -> u64 {
    first_sequence(0) + count
}

fn block(unit: u64, sequence: u64) -> Vec<u8> {
    let content = Content::new(7).sealed(true);
    let mut version = content.laid_out(unit * BLOCK as u64);
    if sequence > 0 {
        version = Version {
            sequence,
            key: content.writer_key(0, 0, 0),
            ..version
        };
    }
    let mut block = vec![0; BLOCK];
    content.fill(&mut block, version);
    block
}

fn judged(found: &Found, unit: u64, block: &[u8]) -> Result<Held, &'static str> {
    let promise = Promise::new(found);
    let held = promise.held(unit, unit * BLOCK as u64, block);
    held.map_err(|fault| fault.kind())
}

#[test]
fn durable_writes_must_be_there_and_issued_ones_may() {
    let found = found(journal::boot());
    let judge = |unit, count| {
        let sequence = if count == 0 { 0 } else { sequence(count) };
        judged(&found, unit, &block(unit, sequence))
    };
    assert_eq!(judge(2, 5), Ok(Held::Durable));
    assert_eq!(judge(2, 7), Ok(Held::Durable));
    assert_eq!(judge(2, 4), Err("stale"));
    assert_eq!(judge(2, 0), Err("stale"));
    assert_eq!(judge(2, 8), Err("unexpected"));
    assert_eq!(judge(3, 0), Ok(Held::Layout));
    assert_eq!(judge(3, 7), Ok(Held::Unpromised));
    assert_eq!(judge(1, 0), Ok(Held::Layout));
    assert_eq!(judge(1, 3), Err("unexpected"));
    assert_eq!(
        judged(&found, 1, &block(2, sequence(5))),
        Err("misdirected")
    );
    assert_eq!(judged(&found, 1, &[0; BLOCK]), Err("zeros"));
}

#[test]
fn blocks_are_torn_only_where_a_write_was_under_way() {
    let found = found(journal::boot());
    let torn = |unit, old, new| {
        let sequence = |count| if count == 0 { 0 } else { sequence(count) };
        let (old, new) = (block(unit, sequence(old)), block(unit, sequence(new)));
        judged(&found, unit, &[&new[..512], &old[512..]].concat())
    };
    assert_eq!(torn(2, 5, 7), Ok(Held::Torn));
    assert_eq!(torn(3, 0, 7), Ok(Held::Torn));
    assert_eq!(torn(2, 4, 5), Err("torn"));
    assert_eq!(torn(2, 5, 9), Err("torn"));
    assert_eq!(torn(1, 0, 1), Err("torn"));
}

#[test]
fn after_another_boot_the_journal_may_have_lost_its_end() {
    let found = found(Some("another boot".to_owned()));
    assert_eq!(
        judged(&found, 1, &block(1, sequence(3))),
        Ok(Held::Unpromised)
    );
    assert_eq!(judged(&found, 2, &block(2, sequence(9))), Ok(Held::Durable));
    assert_eq!(judged(&found, 2, &block(2, sequence(4))), Err("stale"));
    let mut cut = super::Found {
        ignored_bytes: 3,
        ..found.clone()
    };
    cut.header.boot = journal::boot();
    assert_eq!(
        judged(&cut, 1, &block(1, sequence(3))),
        Ok(Held::Unpromised)
    );
}

#[test]
fn a_device_may_keep_what_it_had_where_nothing_was_promised() {
    let mut found = found(journal::boot());
    found.header.device = Some("a disk".to_owned());
    let foreign = [0xa5; BLOCK];
    assert_eq!(judged(&found, 1, &foreign), Ok(Held::Foreign));
    assert_eq!(judged(&found, 1, &[0; BLOCK]), Ok(Held::Foreign));
    assert_eq!(judged(&found, 3, &foreign), Ok(Held::Foreign));
    assert_eq!(judged(&found, 2, &foreign), Err("foreign"));
    assert_eq!(judged(&found, 2, &block(2, sequence(5))), Ok(Held::Durable));
    let mixed = |unit| [&block(unit, sequence(7))[..512], &foreign[512..]].concat();
    assert_eq!(judged(&found, 3, &mixed(3)), Ok(Held::Torn), "under way");
    assert!(judged(&found, 2, &mixed(2)).is_err(), "it was durable");
    assert!(judged(&found, 1, &mixed(1)).is_err(), "nothing was written");
    assert_eq!(
        judged(&found, 1, &block(2, sequence(5))),
        Err("misdirected")
    );
}

#[test]
fn faults_are_counted_and_the_first_are_told() {
    let found = found(journal::boot());
    let promise = Promise::new(&found);
    let mut tallies = [Tally::default(), Tally::default()];
    promise.judge(0, &block(0, 0), &mut tallies[0]);
    promise.judge(2, &block(2, sequence(4)), &mut tallies[1]);
    (10..17).for_each(|unit| promise.judge(unit, &[0; BLOCK], &mut tallies[1]));
    let [mut all, other] = tallies;
    assert_eq!(all.wrong(), None);
    assert!(
        all.sound().starts_with("1 blocks: 0 hold"),
        "{}",
        all.sound()
    );
    all.add(other);
    let text = all.wrong().expect("eight are wrong");
    assert!(
        text.starts_with(
            "8 of 9 blocks are wrong (1 stale, 7 zeros); at offset 4096 it holds write 4 of job 0"
        ),
        "{text}"
    );
    assert!(text.ends_with("; and 3 more"), "{text}");
}
