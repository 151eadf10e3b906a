//! What happened to a block whose checksum does not fit.
//!
//! Each sector can be judged alone: its tag, which hashes the block's offset and the sequence
//! number, gives the number back; and since each word of a body is a bijection of key and place,
//! the key follows from the words themselves. A sector that is sound under a number and a key is
//! part of some write; whatever is not is compared with the write that the rest belongs to.

use super::fault::{Fault, plausible};
use super::{
    Content, HEADER_WORDS, SEALED_WORDS, SECTOR_BYTES, SECTOR_WORDS, WORD, key_of, put, read, seal,
    word,
};
use std::ops::Range;

/// Words of the header.
const MAGIC: usize = 0;
const SEQUENCE: usize = 2;
/// Tags that are tried as the header's sequence number: a torn block has few.
const MOST_TRIED: usize = 8;

/// One sector by itself.
#[derive(Debug, Clone, Copy)]
struct Sector {
    /// By its header or tag, if that can be one of this block.
    sequence: Option<u64>,
    /// By most of its words.
    key: Option<u64>,
    /// Whether every word of it fits these two.
    sound: bool,
}

/// Says what is wrong with a block that did not pass as one of `offset`.
#[cold]
pub(super) fn diagnose(content: &Content, block: &[u8], offset: u64) -> Fault {
    if block.iter().all(|&byte| byte == 0) {
        return Fault::Zeros;
    }
    let (magic, belongs) = (read(block, 0), read(block, 1));
    if u64::from(seal::checksum(block)) == read(block, HEADER_WORDS) {
        // Intact: then it is another's.
        return if magic == content.magic() && belongs != offset {
            Fault::Misdirected { belongs }
        } else {
            Fault::Foreign
        };
    }
    let sectors: Vec<Sector> = (0..block.len().div_ceil(SECTOR_BYTES))
        .map(|index| sector(content, block, offset, index))
        .collect();
    // One wrong word of the header might pass for another run's or another write's.
    let mut tags: Vec<u64> = sectors[1..]
        .iter()
        .filter_map(|sector| sector.sequence)
        .collect();
    tags.dedup();
    let sequences = tags.into_iter().take(MOST_TRIED).map(|tag| (SEQUENCE, tag));
    let mut candidates = sequences.chain([(MAGIC, content.magic())]);
    if let Some(fault) = candidates.find_map(|word| mended(block, word)) {
        return fault;
    }
    if magic != content.magic() && !sectors.iter().any(|sector| sector.sound) {
        return Fault::Foreign;
    }
    torn(&sectors).unwrap_or_else(|| damaged(content, block, offset, &sectors))
}

/// The damage, if another value of this word makes the checksum fit.
fn mended(block: &[u8], (index, value): (usize, u64)) -> Option<Fault> {
    let mut mended = block.to_vec();
    put(&mut mended, index, value);
    let fits = u64::from(seal::checksum(&mended)) == read(block, HEADER_WORDS);
    let words = [(index, read(block, index), value)];
    fits.then(|| difference(words.into_iter())).flatten()
}

/// The words of a sector, its header or tag left out or not.
fn words_of(block: &[u8], index: usize, whole: bool) -> Range<usize> {
    let first = match (whole, index) {
        (true, _) => 0,
        (false, 0) => SEALED_WORDS,
        (false, _) => 1,
    };
    let end = ((index + 1) * SECTOR_WORDS).min(block.len() / WORD);
    index * SECTOR_WORDS + first..end
}

fn sector(content: &Content, block: &[u8], offset: u64, index: usize) -> Sector {
    let tagged = if index == 0 {
        read(block, 2)
    } else {
        content.sequence_of(read(block, index * SECTOR_WORDS), offset)
    };
    let mut body = words_of(block, index, false);
    let key = majority(body.clone().map(|at| key_of(read(block, at), at)));
    // A last sector may be no more than its tag.
    let whole = key.map_or(body.is_empty(), |key| {
        body.all(|at| read(block, at) == word(key, at))
    });
    let header = index != 0
        || (read(block, 0) == content.magic()
            && read(block, 1) == offset
            && Some(read(block, 3)) == key);
    let sequence = plausible(tagged).then_some(tagged);
    Sector {
        sequence,
        key,
        sound: whole && header && sequence.is_some(),
    }
}

/// What more than half of the values are.
fn majority(values: impl Iterator<Item = u64> + Clone) -> Option<u64> {
    let mut candidate = (0, 0u32);
    for value in values.clone() {
        candidate = match candidate {
            (_, 0) => (value, 1),
            (kept, count) if kept == value => (kept, count + 1),
            (kept, count) => (kept, count - 1),
        };
    }
    let votes = values.clone().filter(|&value| value == candidate.0).count();
    (votes * 2 > values.count()).then_some(candidate.0)
}

/// Whether all sectors are sound, and of more than one write.
fn torn(sectors: &[Sector]) -> Option<Fault> {
    let sequences: Option<Vec<u64>> = sectors
        .iter()
        .map(|sector| sector.sequence.filter(|_| sector.sound))
        .collect();
    let sequences = sequences?;
    let before = sequences[0];
    let change = sequences.iter().position(|&sequence| sequence != before)?;
    Some(Fault::Torn {
        at: change * SECTOR_WORDS * WORD,
        before,
        after: sequences[change],
        oldest: *sequences.iter().min()?,
        newest: *sequences.iter().max()?,
    })
}

/// Compares each sector that is not sound with the write that most of the block belongs to.
fn damaged(content: &Content, block: &[u8], offset: u64, sectors: &[Sector]) -> Fault {
    let sequence = majority(
        sectors
            .iter()
            .filter_map(|sector| sector.sequence)
            .collect::<Vec<_>>()
            .into_iter(),
    )
    .or(sectors[0].sequence)
    .unwrap_or_else(|| read(block, 2));
    let keys: Vec<u64> = sectors.iter().filter_map(|sector| sector.key).collect();
    let key = majority(keys.into_iter()).unwrap_or_else(|| read(block, 3));
    let header = [content.magic(), offset, sequence, key];
    let expected = |at: usize| match at {
        0..HEADER_WORDS => header[at],
        HEADER_WORDS => read(block, at),
        at if at.is_multiple_of(SECTOR_WORDS) => content.tag(offset, sequence),
        at => word(key, at),
    };
    let suspects = sectors
        .iter()
        .enumerate()
        .filter(|(_, sector)| !sector.sound);
    let words = suspects.flat_map(|(index, _)| words_of(block, index, true));
    difference(words.map(|at| (at, read(block, at), expected(at)))).unwrap_or_else(|| {
        // All fits but the checksum's own word.
        let (found, expected) = (read(block, HEADER_WORDS), u64::from(seal::checksum(block)));
        difference([(HEADER_WORDS, found, expected)].into_iter()).unwrap_or(Fault::Foreign)
    })
}

/// The damage in words of which place, content and expectation are given; `None` if all fit.
pub(super) fn difference(words: impl Iterator<Item = (usize, u64, u64)>) -> Option<Fault> {
    let mut damage: Option<Fault> = None;
    for (index, found, expected) in words {
        for byte in 0..WORD {
            let (found, expected) = (found.to_le_bytes()[byte], expected.to_le_bytes()[byte]);
            let differing = (found ^ expected).count_ones();
            let place = index * WORD + byte;
            match &mut damage {
                _ if differing == 0 => {}
                Some(Fault::Damaged { last, bits, .. }) => {
                    *last = place;
                    *bits += differing;
                }
                _ => {
                    damage = Some(Fault::Damaged {
                        at: place,
                        last: place,
                        bits: differing,
                        found,
                        expected,
                    });
                }
            }
        }
    }
    damage
}
