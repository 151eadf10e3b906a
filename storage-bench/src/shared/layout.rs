//! Which bytes of which file belong to which rank, and who reads whose.

use clap::ValueEnum;
use serde::Serialize;

/// How the ranks' data lie in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// A file for each rank (IOR -F)
    FilePerRank,
    /// One file, in which each rank has a contiguous block per segment
    SharedSegmented,
    /// One file, in which the ranks' transfers alternate
    SharedStrided,
}

/// The sizes that a layout is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// How they lie.
    pub layout: Layout,
    /// Bytes per transfer.
    pub transfer: u64,
    /// Transfers per block.
    pub per_block: u64,
    /// Blocks per rank.
    pub segments: u64,
    /// Ranks.
    pub ranks: u64,
}

impl Grid {
    /// Transfers of each rank.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.per_block * self.segments
    }

    /// Where a rank's `index`-th transfer begins in its file, in bytes.
    #[must_use]
    pub fn offset(&self, rank: u64, index: u64) -> u64 {
        let (segment, within) = (index / self.per_block, index % self.per_block);
        let transfers = match self.layout {
            Layout::FilePerRank => index,
            Layout::SharedSegmented => (segment * self.ranks + rank) * self.per_block + within,
            Layout::SharedStrided => (segment * self.per_block + within) * self.ranks + rank,
        };
        transfers * self.transfer
    }

    /// The number of the file that a rank writes.
    #[must_use]
    pub fn file(&self, rank: usize) -> usize {
        match self.layout {
            Layout::FilePerRank => rank,
            Layout::SharedSegmented | Layout::SharedStrided => 0,
        }
    }
}

/// Whose data each rank reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partners(Vec<usize>);

impl Partners {
    /// Each rank reads what the one `shift` ranks further wrote (IOR -C with -Q).
    #[must_use]
    pub fn shifted(ranks: usize, shift: usize) -> Self {
        Self((0..ranks).map(|rank| (rank + shift) % ranks).collect())
    }

    /// The ranks stand in a ring in random order, and each reads its neighbour's (as IOR -Z, but
    /// never its own).
    #[must_use]
    pub fn random(ranks: usize, seed: u64) -> Self {
        let mut ring: Vec<usize> = (0..ranks).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut ring);
        let mut of = vec![0; ranks];
        for (place, &rank) in ring.iter().enumerate() {
            of[rank] = ring[(place + 1) % ranks];
        }
        Self(of)
    }

    /// Whose data a rank reads.
    #[must_use]
    pub fn of(&self, rank: usize) -> usize {
        self.0[rank]
    }

    /// How many ranks read what was written on their own node.
    #[must_use]
    pub fn within_nodes(&self, host: impl Fn(usize) -> String) -> usize {
        let pairs = self.0.iter().enumerate();
        pairs
            .filter(|&(reader, &writer)| host(reader) == host(writer))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn grid(layout: Layout) -> Grid {
        Grid {
            layout,
            transfer: 10,
            per_block: 3,
            segments: 2,
            ranks: 4,
        }
    }

    #[test]
    fn every_layout_covers_its_files_without_gap_or_overlap() {
        for (layout, files, each) in [
            (Layout::FilePerRank, 4, 6),
            (Layout::SharedSegmented, 1, 24),
            (Layout::SharedStrided, 1, 24),
        ] {
            let grid = grid(layout);
            let mut seen = BTreeSet::new();
            for rank in 0..4 {
                for index in 0..grid.transfers() {
                    let place = (grid.file(rank), grid.offset(rank as u64, index));
                    assert!(seen.insert(place), "{layout:?} {place:?} twice");
                }
            }
            for file in 0..files {
                for at in 0..each {
                    assert!(seen.contains(&(file, at * 10)), "{layout:?} {file} {at}");
                }
            }
            assert_eq!(seen.len() as u64, files as u64 * each);
        }
    }

    #[test]
    fn shared_layouts_are_ior_s() {
        let segmented = grid(Layout::SharedSegmented);
        assert_eq!(segmented.offset(1, 0), 30, "after rank 0's block");
        assert_eq!(segmented.offset(0, 3), 120, "the second segment");
        let strided = grid(Layout::SharedStrided);
        assert_eq!((strided.offset(1, 0), strided.offset(0, 1)), (10, 40));
    }

    #[test]
    fn nobody_reads_its_own_and_everything_is_read_once() {
        for partners in [
            Partners::shifted(6, 2),
            Partners::random(6, 1),
            Partners::random(2, 9),
        ] {
            let ranks = partners.0.len();
            let read: BTreeSet<usize> = (0..ranks).map(|rank| partners.of(rank)).collect();
            assert_eq!(read.len(), ranks);
            assert!(
                (0..ranks).all(|rank| partners.of(rank) != rank),
                "{partners:?}"
            );
        }
        assert_eq!(Partners::shifted(1, 0).of(0), 0);
        let host = |rank: usize| format!("n{}", rank / 2);
        assert_eq!(Partners::shifted(4, 2).within_nodes(host), 0);
        assert_eq!(Partners::shifted(4, 1).within_nodes(host), 2);
    }
}
