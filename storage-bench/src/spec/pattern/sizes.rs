//! `--bssplit`: several sizes in one run, in fio's syntax.

use crate::spec::human;
use crate::spec::size::bytes;
use serde::{Serialize, Serializer};
use std::fmt;

/// A size and how often it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Bytes of an operation.
    pub bytes: u64,
    /// How many of a hundred operations have it.
    pub percent: u32,
}

/// The sizes of one kind of operations; their shares make a hundred.
pub type Sizes = Vec<Share>;

/// The sizes of reads and those of writes and trims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Of reads.
    pub reads: Sizes,
    /// Of writes and trims.
    pub writes: Sizes,
}

impl Split {
    fn all(&self) -> impl Iterator<Item = u64> {
        self.reads
            .iter()
            .chain(&self.writes)
            .map(|share| share.bytes)
    }

    /// The largest size in bytes.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.all().max().unwrap_or_default()
    }

    /// The greatest common divisor of all sizes, in bytes.
    #[must_use]
    pub fn divisor(&self) -> u64 {
        self.all().fold(0, divisor)
    }
}

/// The greatest common divisor; of zero and a number, the number.
pub(crate) fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl fmt::Display for Split {
    /// As it is typed, with every share.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |sizes: &Sizes| {
            let each = sizes.iter();
            let each = each.map(|share| format!("{}/{}", human(share.bytes), share.percent));
            each.collect::<Vec<_>>().join(":")
        };
        f.write_str(&written(&self.reads))?;
        if self.reads != self.writes {
            write!(f, ",{}", written(&self.writes))?;
        }
        Ok(())
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads `4k/50:64k/50`, or two such lists with a comma between.
pub(super) fn parse(text: &str) -> Result<Split, String> {
    let lists: Vec<&str> = text.split(',').collect();
    match lists.as_slice() {
        [both] => {
            let sizes = list(both)?;
            Ok(Split {
                reads: sizes.clone(),
                writes: sizes,
            })
        }
        [reads, writes] => Ok(Split {
            reads: list(reads)?,
            writes: list(writes)?,
        }),
        _ => Err("one list, or two with a comma between: of reads, and of writes".to_owned()),
    }
}

fn list(text: &str) -> Result<Sizes, String> {
    let mut sizes = Vec::new();
    let mut open = Vec::new();
    for entry in text.split(':') {
        let (size, percent) = entry.split_once('/').unwrap_or((entry, ""));
        let percent = match percent {
            "" => {
                open.push(sizes.len());
                0
            }
            number => number
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .ok_or_else(|| format!("{entry}: a share is a percentage, as in 4k/50"))?,
        };
        let bytes = bytes(size).map_err(|why| format!("{entry}: {why}"))?;
        sizes.push(Share { bytes, percent });
    }
    let given: u32 = sizes.iter().map(|share| share.percent).sum();
    let left = 100_u32
        .checked_sub(given)
        .filter(|left| (*left == 0) == open.is_empty())
        .ok_or_else(|| format!("{text}: the shares come to {given} percent instead of 100"))?;
    for (at, index) in open.iter().enumerate() {
        // What does not divide goes to the first ones.
        let count = open.len() as u32;
        sizes[*index].percent = left / count + u32::from((at as u32) < left % count);
    }
    sizes.retain(|share| share.percent > 0);
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_fio_reads_them() {
        let good = [
            ("4k/50:64k/50", "4k/50:64k/50", 4096, 65536),
            ("4k/10:64k/:1m/", "4k/10:64k/45:1m/45", 4096, 1 << 20),
            ("4k:8k:16k", "4k/34:8k/33:16k/33", 4096, 16384),
            ("8k/100,12k/100", "8k/100,12k/100", 4096, 12288),
            ("4k/0:8k/100", "8k/100", 8192, 8192),
            ("6k/50:4k/50,6k/50:4k/50", "6k/50:4k/50", 2048, 6144),
        ];
        for (text, written, divisor, largest) in good {
            let split = parse(text).expect(text);
            assert_eq!(split.to_string(), written);
            assert_eq!(
                (split.divisor(), split.largest()),
                (divisor, largest),
                "{text}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let bad = [
            ("", "a size"),
            ("4k/50", "50 percent instead of 100"),
            ("4k/60:8k/60", "120 percent"),
            ("4k/100:8k", "100 percent"),
            ("4k/101", "a percentage"),
            ("4k/-1", "a percentage"),
            ("4k/x:8k", "a percentage"),
            ("x/50:4k/50", "a size"),
            ("4k,4k,4k", "one list, or two"),
            ("4k/50:64k/50,", "a size"),
        ];
        for (text, why) in bad {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
