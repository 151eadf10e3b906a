//! `--rw`: fio's words for what is done in which order, and the number that may follow them.

use crate::spec::size::bytes;
use clap::ValueEnum;
use serde::Serialize;

/// fio's words for what is done in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rw {
    /// Sequential reads
    Read,
    /// Sequential writes
    Write,
    /// Random reads
    Randread,
    /// Random writes
    Randwrite,
    /// Sequential reads and writes, mixed
    #[value(alias = "readwrite")]
    Rw,
    /// Random reads and writes, mixed
    Randrw,
    /// Sequential trims
    Trim,
    /// Random trims
    Randtrim,
    /// Sequential trims, each block written after it was trimmed
    Trimwrite,
    /// Random trims, each block written after it was trimmed
    Randtrimwrite,
}

impl Rw {
    /// Whether some of the operations change the target; trims do.
    #[must_use]
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::Randread)
    }

    /// Whether some of the operations are reads.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Randread | Self::Rw | Self::Randrw)
    }

    /// Whether some of the operations are trims.
    #[must_use]
    pub fn trims(self) -> bool {
        matches!(
            self,
            Self::Trim | Self::Randtrim | Self::Trimwrite | Self::Randtrimwrite
        )
    }

    /// Whether some of the operations put data into the target.
    #[must_use]
    pub fn puts(self) -> bool {
        self.writes() && !matches!(self, Self::Trim | Self::Randtrim)
    }

    /// Whether there are reads and writes.
    #[must_use]
    pub fn both_ways(self) -> bool {
        self.reads() && self.writes()
    }

    /// Whether there are several kinds.
    #[must_use]
    pub fn mixed(self) -> bool {
        [self.reads(), self.puts(), self.trims()]
            .into_iter()
            .filter(|some| *some)
            .count()
            > 1
    }

    /// Whether the order is random.
    #[must_use]
    pub fn random(self) -> bool {
        matches!(
            self,
            Self::Randread | Self::Randwrite | Self::Randrw | Self::Randtrim | Self::Randtrimwrite
        )
    }
}

/// What stands behind `--rw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RwArg {
    /// What is done in which order.
    pub rw: Rw,
    /// Bytes that are skipped after each operation, or, where the order is random, operations in a
    /// row.
    pub number: Option<u64>,
}

/// Reads `randread`, `read:8k`, `randread:8`.
pub(super) fn parse(text: &str) -> Result<RwArg, String> {
    let (word, number) = match text.split_once(':') {
        Some((word, number)) => (word, Some(number)),
        None => (text, None),
    };
    let rw = Rw::from_str(word, false).map_err(|_| {
        let words = Rw::value_variants().iter();
        let words = words.filter_map(ValueEnum::to_possible_value);
        let words: Vec<String> = words.map(|word| word.get_name().to_owned()).collect();
        format!("it is one of {}", words.join(", "))
    })?;
    let Some(number) = number else {
        return Ok(RwArg { rw, number: None });
    };
    if rw.trims() && rw.puts() {
        return Err(format!("{word} takes no number"));
    }
    let number = match rw.random() {
        true => number
            .parse()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| {
                format!("after {word}: comes the number of operations in a row, as in {word}:8")
            })?,
        false => bytes(number).map_err(|why| {
            format!("after {word}: come the bytes to skip, as in {word}:8k: {why}")
        })?,
    };
    Ok(RwArg {
        rw,
        number: Some(number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_read_as_fio_reads_them() {
        let good = [
            ("randread", Rw::Randread, None),
            ("readwrite", Rw::Rw, None),
            ("read:8k", Rw::Read, Some(8192)),
            ("randwrite:8", Rw::Randwrite, Some(8)),
            ("trim:1m", Rw::Trim, Some(1 << 20)),
            ("randtrimwrite", Rw::Randtrimwrite, None),
        ];
        for (text, rw, number) in good {
            assert_eq!(parse(text), Ok(RwArg { rw, number }), "{text}");
        }
        let bad = [
            ("reads", "one of read, write"),
            ("randread:0", "in a row"),
            ("randread:8k", "in a row"),
            ("read:", "bytes to skip"),
            ("read:-8k", "bytes to skip"),
            ("trimwrite:8k", "takes no number"),
        ];
        for (text, why) in bad {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn every_word_knows_what_it_does() {
        let kinds = |rw: Rw| (rw.reads(), rw.puts(), rw.trims());
        assert_eq!(kinds(Rw::Read), (true, false, false));
        assert_eq!(kinds(Rw::Randrw), (true, true, false));
        assert_eq!(kinds(Rw::Randtrim), (false, false, true));
        assert_eq!(kinds(Rw::Trimwrite), (false, true, true));
        // A trim destroys as a write does: the guard asks for this alone.
        assert!(Rw::Trim.writes() && Rw::Randtrim.writes() && !Rw::Read.writes());
        assert!(Rw::Rw.mixed() && Rw::Randtrimwrite.mixed() && !Rw::Trim.mixed());
    }
}
