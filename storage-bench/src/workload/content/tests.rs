use super::*;

const OFFSET: u64 = 3 * 512;

fn block(content: &Content) -> Vec<u8> {
    let mut block = vec![0; 512];
    content.fill(&mut block, content.laid_out(OFFSET));
    block
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let content = Content::new(7);
    let sound = block(&content);
    let version = content.check(&sound, OFFSET).expect("as laid out");
    assert_eq!(content.check_laid_out(version), Ok(()));
    for bit in 0..512 * 8 {
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let found = content
            .check(&damaged, OFFSET)
            .and_then(|version| content.check_laid_out(version));
        assert!(found.is_err(), "bit {bit}");
    }
}

#[test]
fn rotating_samples_see_the_whole_block() {
    let content = Content::new(7);
    for byte in 32..512 {
        let mut damaged = block(&content);
        damaged[byte] ^= 0x10;
        let caught = (0..8)
            .filter(|&turn| content.check_sample(&damaged, OFFSET, turn, 8).is_err())
            .count();
        assert!(caught >= 1, "byte {byte}");
    }
}

#[test]
fn blocks_of_elsewhere_or_of_another_run_are_told_apart() {
    let content = Content::new(7);
    let block = block(&content);
    let misplaced = content.check(&block, OFFSET + 512);
    assert_eq!(misplaced, Err(Fault::Misdirected { belongs: OFFSET }));
    assert_eq!(Content::new(8).check(&block, OFFSET), Err(Fault::Foreign));
    assert_eq!(content.check(&[0; 512], 0), Err(Fault::Zeros));
}

#[test]
fn a_written_block_names_its_write() {
    let content = Content::new(7);
    let version = Version {
        offset: OFFSET,
        sequence: 9,
        key: content.writer_key(1, 4, 0),
    };
    let mut block = vec![0; 1024];
    content.fill(&mut block, version);
    assert_eq!(content.check(&block, OFFSET), Ok(version));
    assert!(content.check_laid_out(version).is_err());
}

const UNIT: usize = 4096;

fn sealed() -> Content {
    Content::new(7).sealed(true)
}

/// A block of this write, as the layout would write it.
fn written(content: &Content, offset: u64, count: u64) -> Vec<u8> {
    let version = Version {
        offset,
        sequence: first_sequence(0) + count,
        key: content.writer_key(0, count as usize % 3, 0),
    };
    let mut block = vec![0; UNIT];
    content.fill(&mut block, version);
    block
}

#[test]
fn a_word_gives_its_key_back() {
    for (key, index) in [
        (0, 0),
        (1, 511),
        (u64::MAX, 7),
        (0x1234_5678_9abc_def0, 1 << 27),
    ] {
        assert_eq!(key_of(word(key, index), index), key);
        assert_eq!(unmix(mix(key)), key);
    }
}

#[test]
fn a_seal_put_together_is_the_checksum_of_the_whole() {
    for bytes in [512, 520, 1024, 4096, 47008, 1 << 20] {
        let content = sealed();
        let (mut block, seal) = (vec![0; bytes], Seal::new(bytes));
        let key = content.writer_key(3, 9, 0);
        content.fill_body(&mut block, key);
        let constant = Seal::constant(&block);
        for count in [1, 2, 0xffff_ffff, 1 << 40] {
            let version = Version {
                offset: count * bytes as u64,
                sequence: first_sequence(3) + count,
                key,
            };
            content.stamp_sealed(&mut block, version, &seal, constant);
            assert_eq!(
                content.check(&block, version.offset),
                Ok(version),
                "{bytes}"
            );
            let mut whole = vec![0xff; bytes];
            content.fill(&mut whole, version);
            assert!(block == whole, "{bytes}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_block_is_named() {
    let content = sealed();
    for bytes in [512, 1024, 1032, 2240] {
        let mut sound = vec![0; bytes];
        let version = Version {
            offset: OFFSET,
            sequence: first_sequence(0) + 5,
            key: content.writer_key(0, 1, 2),
        };
        content.fill(&mut sound, version);
        for bit in 0..bytes * 8 {
            let mut block = sound.clone();
            block[bit / 8] ^= 1 << (bit % 8);
            match content.check(&block, OFFSET) {
                Err(Fault::Damaged {
                    at, last, bits: 1, ..
                }) if at == bit / 8 && last == at => {}
                // With one sector there is nothing to tell a wrong number from a wrong checksum.
                Err(Fault::Damaged { at: 32.., .. })
                    if bytes == 512 && (16..32).contains(&(bit / 8)) => {}
                other => panic!("bit {bit} of {bytes} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn faults_of_sealed_blocks_are_told_apart() {
    let content = sealed();
    let (offset, other) = (5 * UNIT as u64, 9 * UNIT as u64);
    let (old, new) = (written(&content, offset, 3), written(&content, offset, 4));
    assert!(content.check(&old, offset).is_ok());
    let elsewhere = written(&content, other, 4);
    assert_eq!(
        content.check(&elsewhere, offset),
        Err(Fault::Misdirected { belongs: other })
    );
    let stranger = written(&Content::new(8).sealed(true), offset, 4);
    assert_eq!(content.check(&stranger, offset), Err(Fault::Foreign));
    assert_eq!(content.check(&[0xa5; UNIT], offset), Err(Fault::Foreign));
    assert_eq!(content.check(&[0; UNIT], offset), Err(Fault::Zeros));
    for cut in (512..UNIT).step_by(512) {
        for (first, second, counts) in [(&old, &new, (3, 4)), (&new, &old, (4, 3))] {
            let torn = [&first[..cut], &second[cut..]].concat();
            let sequence = |count| first_sequence(0) + count;
            let expected = Fault::Torn {
                at: cut,
                before: sequence(counts.0),
                after: sequence(counts.1),
                oldest: sequence(3),
                newest: sequence(4),
            };
            assert_eq!(content.check(&torn, offset), Err(expected));
        }
    }
    let lost = [&new[..2048], &[0; 2048]].concat();
    match content.check(&lost, offset) {
        Err(Fault::Damaged {
            at: 2048,
            found: 0,
            last,
            bits,
            ..
        }) if last > 4080 && bits > 7000 => {}
        other => panic!("{other:?}"),
    }
    let half_misdirected = [&new[..2048], &elsewhere[2048..]].concat();
    match content.check(&half_misdirected, offset) {
        Err(Fault::Damaged { at: 2048..2056, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_writes_of_one_buffer_differ_in_their_tags_and_a_tear_shows() {
    let content = sealed();
    let version = |sequence| Version {
        offset: 0,
        sequence,
        key: 77,
    };
    let (mut old, mut new) = (vec![0; 1024], vec![0; 1024]);
    content.fill(&mut old, version(first_sequence(0) + 1));
    content.fill(&mut new, version(first_sequence(0) + 2));
    let torn = [&old[..512], &new[512..]].concat();
    let fault = content.check(&torn, 0).expect_err("a torn block");
    assert_eq!(
        fault.to_string(),
        "it is torn: up to byte 512 it holds write 1 of job 0, from there on write 2 of job 0"
    );
}
