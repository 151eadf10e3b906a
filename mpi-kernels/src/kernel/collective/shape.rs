//! What goes where in a collective: how many elements each rank gives and gets, and whose. Pure
//! functions of the rank, the world and the root, for the buffers and for the known answers alike.

use std::ops::Range;

/// Who gives what to whom. The variants with lists of counts have the shape of those without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing, but nobody leaves before all came.
    Barrier,
    /// The root's block to all.
    Bcast,
    /// Every rank's vector, reduced, to the root.
    Reduce,
    /// Every rank's vector, reduced, to all.
    Allreduce,
    /// Every rank's vector, reduced and distributed in parts that differ by one element at most.
    ReduceScatter,
    /// Every rank's vector, reduced and distributed in equal blocks.
    ReduceScatterBlock,
    /// The vectors of this rank and those before it, reduced.
    Scan,
    /// The vectors of those before this rank, reduced.
    Exscan,
    /// Every rank's block to the root.
    Gather,
    /// A block of the root to every rank.
    Scatter,
    /// Every rank's block to all.
    Allgather,
    /// A block of every rank to every rank.
    Alltoall,
    /// Every rank's block to its neighbours.
    NeighborAllgather,
    /// A block of every rank to each of its neighbours.
    NeighborAlltoall,
}

/// Which buffer `MPI_IN_PLACE` stands for, and on which ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InPlace {
    /// The contribution, on all ranks.
    Out,
    /// The contribution, on the root.
    OutOfRoot,
    /// What the root would give itself.
    IntoOfRoot,
}

/// The counts of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// All the size.
    Equal,
    /// From nothing to twice the size, so that their sum is that of equal ones.
    Unequal,
}

/// One rank's place and the size of its blocks.
#[derive(Debug, Clone)]
pub struct Geometry {
    /// This rank.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
    /// Elements of the point's size.
    pub elements: usize,
    /// How blocks differ.
    pub counts: Counts,
    /// The one root; `None` where all are root in turn.
    pub root: Option<usize>,
    /// The neighbours on a Cartesian grid, two for each dimension: the one before, the one after.
    pub neighbours: Vec<usize>,
}

/// A part of what a rank gets: where in its buffer, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The first element.
    pub start: usize,
    /// How many there are.
    pub count: usize,
    /// What they are.
    pub source: Source,
}

/// Whose data a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A block of a rank.
    Block {
        /// Whose.
        sender: usize,
        /// Which of its blocks.
        part: usize,
    },
    /// The vectors of some ranks, reduced.
    Reduced {
        /// Whose.
        ranks: Range<usize>,
        /// The vectors' element that is the piece's first.
        first: usize,
    },
}

impl Shape {
    /// Whether the ranks' contributions are added or compared.
    #[must_use]
    pub fn reduces(self) -> bool {
        matches!(
            self,
            Self::Reduce
                | Self::Allreduce
                | Self::ReduceScatter
                | Self::ReduceScatterBlock
                | Self::Scan
                | Self::Exscan
        )
    }

    /// What `MPI_IN_PLACE` means, where the standard defines it.
    #[must_use]
    pub fn in_place(self) -> Option<InPlace> {
        match self {
            Self::Reduce | Self::Gather => Some(InPlace::OutOfRoot),
            Self::Scatter => Some(InPlace::IntoOfRoot),
            Self::Barrier | Self::Bcast | Self::NeighborAllgather | Self::NeighborAlltoall => None,
            _ => Some(InPlace::Out),
        }
    }

    /// The elements of the largest buffer that a rank passes.
    #[must_use]
    pub fn largest(self, ranks: usize, elements: usize) -> usize {
        match self {
            Self::ReduceScatterBlock
            | Self::Gather
            | Self::Scatter
            | Self::Allgather
            | Self::Alltoall => elements.saturating_mul(ranks),
            Self::NeighborAllgather | Self::NeighborAlltoall => elements.saturating_mul(4),
            _ => elements,
        }
    }
}

impl Geometry {
    /// The elements of each block that this rank gives.
    #[must_use]
    pub fn given(&self, shape: Shape) -> Vec<usize> {
        let own = [self.rank];
        match shape {
            Shape::Barrier => Vec::new(),
            Shape::Bcast
            | Shape::Reduce
            | Shape::Allreduce
            | Shape::ReduceScatter
            | Shape::Scan
            | Shape::Exscan
            | Shape::NeighborAllgather => vec![self.elements],
            Shape::ReduceScatterBlock => vec![self.elements * self.ranks],
            Shape::Gather | Shape::Allgather => own.map(|rank| self.of_rank(rank)).to_vec(),
            Shape::Scatter => self.on_root((0..self.ranks).map(|rank| self.of_rank(rank))),
            Shape::Alltoall => self.with_all(),
            Shape::NeighborAlltoall => vec![self.elements; self.neighbours.len()],
        }
    }

    /// The elements of each block that this rank gets; for what is reduced and distributed, of
    /// each block that anybody gets.
    #[must_use]
    pub fn got(&self, shape: Shape) -> Vec<usize> {
        match shape {
            Shape::Barrier => Vec::new(),
            Shape::Bcast | Shape::Reduce | Shape::Allreduce | Shape::Scan | Shape::Exscan => {
                vec![self.elements]
            }
            Shape::ReduceScatter => (0..self.ranks).map(|rank| self.share(rank)).collect(),
            Shape::ReduceScatterBlock => vec![self.elements; self.ranks],
            Shape::Gather => self.on_root((0..self.ranks).map(|rank| self.of_rank(rank))),
            Shape::Scatter => vec![self.of_rank(self.rank)],
            Shape::Allgather => (0..self.ranks).map(|rank| self.of_rank(rank)).collect(),
            Shape::Alltoall => self.with_all(),
            Shape::NeighborAllgather | Shape::NeighborAlltoall => {
                vec![self.elements; self.neighbours.len()]
            }
        }
    }

    /// What this rank must find where it gets something, with that root.
    #[must_use]
    pub fn pieces(&self, shape: Shape, root: usize, in_place: bool) -> Vec<Piece> {
        let reduced = |ranks: Range<usize>, first: usize, count: usize| {
            vec![Piece {
                start: 0,
                count,
                source: Source::Reduced { ranks, first },
            }]
        };
        let (rank, all, is_root) = (self.rank, 0..self.ranks, self.rank == root);
        match shape {
            Shape::Barrier => Vec::new(),
            // The root gets nothing that it did not have.
            Shape::Bcast if is_root => Vec::new(),
            Shape::Bcast => self.blocks(shape, |_| (root, 0)),
            Shape::Reduce if !is_root => Vec::new(),
            Shape::Reduce | Shape::Allreduce => reduced(all, 0, self.elements),
            Shape::ReduceScatter => {
                let first = (0..rank).map(|rank| self.share(rank)).sum();
                reduced(all, first, self.share(rank))
            }
            Shape::ReduceScatterBlock => reduced(all, rank * self.elements, self.elements),
            Shape::Scan => reduced(0..rank + 1, 0, self.elements),
            // On rank 0 the standard leaves it undefined.
            Shape::Exscan if rank == 0 => Vec::new(),
            Shape::Exscan => reduced(0..rank, 0, self.elements),
            Shape::Gather if !is_root => Vec::new(),
            Shape::Gather | Shape::Allgather => self.blocks(shape, |sender| (sender, 0)),
            Shape::Scatter if is_root && in_place => Vec::new(),
            Shape::Scatter => self.blocks(shape, |_| (root, rank)),
            Shape::Alltoall => self.blocks(shape, |sender| (sender, rank)),
            Shape::NeighborAllgather => self.blocks(shape, |place| (self.neighbours[place], 0)),
            // What the one before sends to the one after it, and the reverse.
            Shape::NeighborAlltoall => {
                self.blocks(shape, |place| (self.neighbours[place], place ^ 1))
            }
        }
    }

    /// Pieces for all blocks that this rank gets: `source` names rank and part of each.
    fn blocks(&self, shape: Shape, source: impl Fn(usize) -> (usize, usize)) -> Vec<Piece> {
        let mut start = 0;
        let counts = self.got(shape).into_iter().enumerate();
        let pieces = counts.map(|(place, count)| {
            let (sender, part) = source(place);
            let piece = Piece {
                start,
                count,
                source: Source::Block { sender, part },
            };
            start += count;
            piece
        });
        pieces.collect()
    }

    /// The counts of a root's blocks; on ranks that are never root as many of nothing.
    fn on_root(&self, counts: impl Iterator<Item = usize>) -> Vec<usize> {
        let takes_part = self.root.is_none_or(|root| root == self.rank);
        counts
            .map(|count| if takes_part { count } else { 0 })
            .collect()
    }

    /// The elements of a rank's own block.
    fn of_rank(&self, rank: usize) -> usize {
        match self.counts {
            Counts::Equal => self.elements,
            Counts::Unequal => ramp(self.elements, rank, self.ranks),
        }
    }

    /// The elements between this rank and each; the same both ways, as `MPI_IN_PLACE` needs it.
    fn with_all(&self) -> Vec<usize> {
        let with = |other| match self.counts {
            Counts::Equal => self.elements,
            Counts::Unequal => ramp(self.elements, (self.rank + other) % self.ranks, self.ranks),
        };
        (0..self.ranks).map(with).collect()
    }

    /// A rank's part of a vector, as in OSU: the first ranks have one more where it does not
    /// divide evenly.
    fn share(&self, rank: usize) -> usize {
        let spare = self.elements % self.ranks;
        self.elements / self.ranks + usize::from(rank < spare)
    }
}

/// From nothing for the first of `ranks` places to twice the size for the last.
fn ramp(elements: usize, place: usize, ranks: usize) -> usize {
    2 * elements * place / (ranks - 1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(rank: usize, ranks: usize, elements: usize, counts: Counts) -> Geometry {
        Geometry {
            rank,
            ranks,
            elements,
            counts,
            root: Some(1),
            neighbours: vec![1, 2, 3, 4],
        }
    }

    #[test]
    fn what_each_gives_is_what_each_gets() {
        for ranks in [2, 3, 4, 5, 7] {
            for counts in [Counts::Equal, Counts::Unequal] {
                let of = |rank| geometry(rank, ranks, 10, counts);
                for (from, to) in (0..ranks * ranks).map(|n| (n / ranks, n % ranks)) {
                    let (from_rank, to_rank) = (of(from), of(to));
                    let alltoall = Shape::Alltoall;
                    assert_eq!(from_rank.given(alltoall)[to], to_rank.got(alltoall)[from]);
                    let allgather = Shape::Allgather;
                    assert_eq!(from_rank.given(allgather)[0], to_rank.got(allgather)[from]);
                }
                let root = of(1);
                let scattered: Vec<_> = (0..ranks).map(|r| of(r).got(Shape::Scatter)[0]).collect();
                assert_eq!(root.given(Shape::Scatter), scattered);
                assert_eq!(root.got(Shape::Gather), scattered);
            }
        }
    }

    #[test]
    fn unequal_counts_have_nothing_twice_the_size_and_the_same_sum() {
        let counts = geometry(0, 5, 100, Counts::Unequal).got(Shape::Allgather);
        assert_eq!(counts, [0, 50, 100, 150, 200]);
        let mut counts = geometry(3, 5, 100, Counts::Unequal).given(Shape::Alltoall);
        counts.sort_unstable();
        assert_eq!(counts, [0, 50, 100, 150, 200]);
    }

    #[test]
    fn vectors_are_distributed_as_in_osu() {
        let shares = geometry(0, 4, 10, Counts::Equal).got(Shape::ReduceScatter);
        assert_eq!(shares, [3, 3, 2, 2]);
        let shares = geometry(0, 4, 2, Counts::Equal).got(Shape::ReduceScatter);
        assert_eq!(shares, [1, 1, 0, 0]);
        let pieces = geometry(2, 4, 10, Counts::Equal).pieces(Shape::ReduceScatter, 0, false);
        let source = Source::Reduced {
            ranks: 0..4,
            first: 6,
        };
        assert_eq!((pieces[0].count, &pieces[0].source), (2, &source));
    }

    #[test]
    fn only_who_gets_something_has_something_to_compare() {
        let pieces = |rank, shape| geometry(rank, 3, 8, Counts::Equal).pieces(shape, 1, false);
        for shape in [Shape::Reduce, Shape::Gather] {
            assert!(pieces(0, shape).is_empty() && !pieces(1, shape).is_empty());
        }
        assert!(pieces(1, Shape::Bcast).is_empty() && pieces(0, Shape::Exscan).is_empty());
        assert_eq!(
            pieces(2, Shape::Exscan)[0].source,
            Source::Reduced {
                ranks: 0..2,
                first: 0
            }
        );
        assert_eq!(
            pieces(2, Shape::Scan)[0].source,
            Source::Reduced {
                ranks: 0..3,
                first: 0
            }
        );
        let root = geometry(1, 3, 8, Counts::Equal);
        assert!(root.pieces(Shape::Scatter, 1, true).is_empty());
    }

    #[test]
    fn neighbours_send_towards_each_other() {
        let pieces = geometry(0, 9, 8, Counts::Equal).pieces(Shape::NeighborAlltoall, 0, false);
        let sources = pieces.iter().map(|piece| piece.source.clone());
        let expected = [(1, 1), (2, 0), (3, 3), (4, 2)];
        let expected = expected.map(|(sender, part)| Source::Block { sender, part });
        assert_eq!(sources.collect::<Vec<_>>(), expected);
        assert_eq!(pieces[3].start, 24);
    }
}
