//! What a collective moves: buffers with known contents, and the comparison of what came.

use super::saturation::Integer;
use super::shape::{Counts, Geometry, InPlace, Piece, Shape, Source};
use super::{Operation, order};
use crate::kernel::Extras;
use crate::memory;
use crate::method::Setting;
use crate::pattern::{Block, Element, Reduction, ReductionOperation};
use crate::spec::{self, Point};
use crate::sys::ElementType;
use crate::sys::collective::{Blocks, Call, Function, Group, Parts, dimensions};
use crate::world::World;
use anyhow::Context;
use mpi::collective::SystemOperation;
use mpi::topology::CartesianCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use reports::model::Unavailable;
use serde_json::json;

/// Untimed rounds in each validation.
const ROUNDS: usize = 2;

/// With rotating roots at most so many of them are root in one validation.
const MAX_ROOTS: usize = 8;

/// Dimensions of the grid whose neighbours exchange.
const DIMENSIONS: usize = 2;

/// Calls a generic method with the type of the elements.
macro_rules! typed {
    ($element:expr, $object:ident.$method:ident($($argument:expr),*)) => {
        match $element {
            ElementType::U8 => $object.$method::<u8>($($argument),*),
            ElementType::I32 => $object.$method::<i32>($($argument),*),
            ElementType::I64 => $object.$method::<i64>($($argument),*),
            ElementType::F32 => $object.$method::<f32>($($argument),*),
            ElementType::F64 => $object.$method::<f64>($($argument),*),
        }
    };
}

/// One rank's part of a collective.
pub struct Exchange<'w, F: Function> {
    world: &'w World,
    pub call: Call<'w, F>,
    geometry: Geometry,
    element: ElementType,
    /// How elements are reduced, if they are.
    reduction: Option<Reduction>,
    in_place: bool,
    /// The byte where a contribution lies that is given from where the others are got.
    own_place: usize,
    /// Dimensions of the grid with at most two ranks, where both neighbours are one.
    short_dimensions: [bool; DIMENSIONS],
    /// The iterations so far: with rotating roots they say whose turn it is.
    pub turn: usize,
    /// The number that the contents carry.
    round: usize,
    spoil: bool,
}

impl<'w, F: Operation> Exchange<'w, F> {
    /// A part with buffers for the point's size.
    ///
    /// # Errors
    /// Too little memory, or more ranks than can be summed exactly.
    pub fn new(setting: &Setting<'w, '_>) -> anyhow::Result<Self> {
        let Setting { world, point, .. } = *setting;
        let (element, operation) = (ElementType::named(point.word("type")), operation_of(point));
        let reduction = match F::SHAPE.reduces() {
            true => Some(exact(element, operation, world.ranks())?),
            false => None,
        };
        let (group, neighbours, short_dimensions) = group(world, F::SHAPE)?;
        let geometry = geometry_of(world, point, neighbours);
        let (out, into) = (geometry.given(F::SHAPE), geometry.got(F::SHAPE));
        let own_place = match F::SHAPE {
            Shape::Gather | Shape::Allgather => into[..world.rank()].iter().sum(),
            _ => 0,
        };
        let elements: usize = out.iter().chain(&into).sum();
        enough_memory(world, elements * element.bytes())?;
        let in_place = point.flag("in_place");
        let call = Call::new(Parts {
            group,
            rank: world.rank(),
            element,
            op: match operation {
                ReductionOperation::Sum => SystemOperation::sum(),
                ReductionOperation::Max => SystemOperation::max(),
            },
            out: Blocks::new(&out)?,
            into: Blocks::new(&into)?,
            in_place: F::SHAPE.in_place().filter(|_| in_place),
        })?;
        Ok(Self {
            world,
            call,
            geometry,
            element,
            reduction,
            in_place,
            own_place: own_place * element.bytes(),
            short_dimensions,
            turn: 0,
            round: 0,
            spoil: point.spoil,
        })
    }

    /// Runs untimed rounds, each with contents of its own, and ends ready for the timed loop, whose
    /// last result is compared if there was one. Returns how many elements this rank compared.
    ///
    /// # Errors
    /// The first fault, when all rounds are over.
    pub fn validate(
        &mut self,
        mut call: impl FnMut(&mut Call<'w, F>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        if F::SHAPE == Shape::Barrier {
            return order::validate(self.world, &mut self.call, self.spoil, call);
        }
        let mut checks = match self.turn {
            0 => Ok(0),
            // The last iteration's root was the one before.
            turn => self.check(self.root_at(turn - 1)),
        };
        let rounds = match self.geometry.root {
            Some(_) => ROUNDS,
            None => self.geometry.ranks.clamp(ROUNDS, MAX_ROOTS),
        };
        for round in 0..rounds {
            let root = self.root_at(round * self.geometry.ranks.div_ceil(rounds));
            self.load(root);
            let called = call(&mut self.call);
            let found = self.check(root);
            checks = checks.and_then(|sum| {
                called?;
                found.map(|more| sum + more)
            });
        }
        self.load(self.root_at(self.turn));
        checks
    }

    /// Makes ready for the iteration whose turn it is: chooses the root, and copies contributions
    /// that the call before replaced. Nothing else is done, and nothing where nothing is needed.
    #[inline(always)]
    pub fn prepare(&mut self) {
        let root = self.root_at(self.turn);
        if self.geometry.root.is_none() {
            self.call.aim(root);
        }
        let stays = F::SHAPE == Shape::Bcast && self.geometry.root.is_some();
        if self.gives_from_into(root) && !stays {
            self.call.copy_given(self.own_place);
        }
    }

    /// What is known beyond times: what the library does when integers overflow.
    pub fn extras(&self, world: &World) -> Extras {
        let mut extras = Extras::default();
        if self.reduction.is_some() {
            let behaviour = match self.element {
                ElementType::U8 => Some(u8::probe(world)),
                ElementType::I32 => Some(i32::probe(world)),
                ElementType::I64 => Some(i64::probe(world)),
                ElementType::F32 | ElementType::F64 => None,
            };
            let fact = behaviour.map(|text| ("integer_overflow".to_owned(), json!(text)));
            extras.facts.extend(fact);
        }
        extras
    }

    /// All ranks.
    pub fn world(&self) -> &'w World {
        self.world
    }

    fn root_at(&self, turn: usize) -> usize {
        self.geometry.root.unwrap_or(turn % self.geometry.ranks)
    }

    /// Whether this rank's contribution lies where it gets the others'.
    #[inline(always)]
    fn gives_from_into(&self, root: usize) -> bool {
        let is_root = root == self.geometry.rank;
        match F::SHAPE.in_place() {
            _ if F::SHAPE == Shape::Bcast => is_root,
            Some(InPlace::Out) => self.in_place,
            Some(InPlace::OutOfRoot) => self.in_place && is_root,
            _ => false,
        }
    }

    /// Makes ready for a round: this rank's contribution in the one buffer, and in the other what is
    /// wrong in every byte.
    fn load(&mut self, root: usize) {
        self.round += 1;
        let (rank, round, bytes) = (self.geometry.rank, self.round, self.element.bytes());
        let (out, blocks) = self.call.given();
        match &self.reduction {
            Some(reduction) => typed!(self.element, reduction.fill(out, rank, round)),
            None => blocks.ranges().enumerate().for_each(|(part, range)| {
                let block = Block {
                    sender: rank,
                    part,
                    round,
                };
                block.fill(&mut out[range.start * bytes..range.end * bytes]);
            }),
        }
        self.call.got().fill(0);
        for piece in self.pieces(root) {
            self.write(&piece);
        }
        self.call.got().iter_mut().for_each(|byte| *byte = !*byte);
        self.call.aim(root);
        if self.gives_from_into(root) {
            self.call.copy_given(self.own_place);
        }
    }

    fn pieces(&self, root: usize) -> Vec<Piece> {
        self.geometry.pieces(F::SHAPE, root, self.in_place)
    }

    /// Writes what a piece must become.
    fn write(&mut self, piece: &Piece) {
        let (round, bytes) = (self.round, self.element.bytes());
        let place = piece.start * bytes..(piece.start + piece.count) * bytes;
        let into = &mut self.call.got()[place];
        match (&piece.source, &self.reduction) {
            (&Source::Block { sender, part }, _) => Block {
                sender,
                part,
                round,
            }
            .fill(into),
            (Source::Reduced { ranks, first }, Some(reduction)) => {
                typed!(
                    self.element,
                    reduction.fill_result(into, ranks.clone(), round, *first)
                );
            }
            (Source::Reduced { .. }, None) => unreachable!("only reductions have such pieces"),
        }
    }

    /// Compares what came from a call with that root, element by element; returns how many.
    fn check(&mut self, root: usize) -> anyhow::Result<u64> {
        let pieces = self.pieces(root);
        if self.spoil && self.is_first_receiver(root) {
            let piece = pieces.iter().find(|piece| piece.count > 0);
            let start = piece.map_or(0, |piece| piece.start) * self.element.bytes();
            self.call.got()[start] ^= 1;
        }
        let rank = self.geometry.rank;
        let context = || format!("{} on rank {rank}, root {root}", Call::<F>::NAME);
        let short_dimensions = self.short_dimensions;
        if F::SHAPE == Shape::NeighborAlltoall {
            for (both, short) in pieces.chunks(2).zip(short_dimensions) {
                self.check_neighbours(both, short).with_context(context)?;
            }
        } else {
            for piece in &pieces {
                self.check_piece(piece, 0).with_context(context)?;
            }
        }
        Ok(pieces.iter().map(|piece| piece.count as u64).sum())
    }

    /// Compares what came from the two neighbours of a dimension. Where both are the same rank, the
    /// standard before version 4.1 does not say which of its blocks is which.
    fn check_neighbours(&mut self, both: &[Piece], short: bool) -> anyhow::Result<()> {
        let mut check = |flip| {
            both.iter()
                .try_for_each(|piece| self.check_piece(piece, flip))
        };
        match check(0) {
            Err(fault) if short => check(1).map_err(|_| fault),
            result => result,
        }
    }

    /// Compares a piece, or the other one of the sender's pair where `flip` is 1.
    fn check_piece(&mut self, piece: &Piece, flip: usize) -> anyhow::Result<()> {
        let (round, bytes) = (self.round, self.element.bytes());
        let place = piece.start * bytes..(piece.start + piece.count) * bytes;
        let into = &self.call.got()[place];
        match (&piece.source, &self.reduction) {
            (&Source::Block { sender, part }, _) => {
                let part = part ^ flip;
                Block {
                    sender,
                    part,
                    round,
                }
                .check(into)
            }
            (Source::Reduced { ranks, first }, Some(reduction)) => {
                typed!(
                    self.element,
                    reduction.check(into, ranks.clone(), round, *first)
                )
            }
            (Source::Reduced { .. }, None) => unreachable!("only reductions have such pieces"),
        }
    }

    /// Whether this is the lowest rank that gets something from a call with that root.
    fn is_first_receiver(&self, root: usize) -> bool {
        let receives = |rank| {
            let geometry = Geometry {
                rank,
                ..self.geometry.clone()
            };
            let pieces = geometry.pieces(F::SHAPE, root, self.in_place);
            pieces.iter().any(|piece| piece.count > 0)
        };
        (0..self.geometry.ranks).find(|&rank| receives(rank)) == Some(self.geometry.rank)
    }
}

fn operation_of(point: &Point) -> ReductionOperation {
    match point.word("op") {
        "max" => ReductionOperation::Max,
        _ => ReductionOperation::Sum,
    }
}

fn geometry_of(world: &World, point: &Point, neighbours: Vec<usize>) -> Geometry {
    Geometry {
        rank: world.rank(),
        ranks: world.ranks(),
        elements: point.size() / ElementType::named(point.word("type")).bytes(),
        counts: match point.word("counts") {
            "unequal" => Counts::Unequal,
            _ => Counts::Equal,
        },
        root: root_of(point),
        neighbours,
    }
}

/// Refuses what this node's memory does not hold, before any of its ranks takes its share.
fn enough_memory(world: &World, bytes: usize) -> anyhow::Result<()> {
    let ranks_here = world.node_of(world.rank()).ranks().len();
    let enough = memory::ensure_available(bytes as u64, ranks_here as u64);
    world.comm().barrier();
    enough
}

/// A point's one root; `None` for rotating ones. Kernels without a root never ask for it.
fn root_of(point: &Point) -> Option<usize> {
    match point.word("root") {
        spec::ROTATE => None,
        root => Some(root.parse().unwrap_or(0)),
    }
}

/// A reduction whose results are exact.
fn exact(
    element: ElementType,
    operation: ReductionOperation,
    ranks: usize,
) -> anyhow::Result<Reduction> {
    fn of<T: Element>(operation: ReductionOperation, ranks: usize) -> anyhow::Result<Reduction> {
        Reduction::new::<T>(operation, ranks).map_err(|most| {
            let element = std::any::type_name::<T>();
            anyhow::anyhow!(Unavailable(format!(
                "with more than {most} ranks the sums are not exact in {element} and cannot be \
                 verified: use fewer ranks or another --type"
            )))
        })
    }
    match element {
        ElementType::U8 => of::<u8>(operation, ranks),
        ElementType::I32 => of::<i32>(operation, ranks),
        ElementType::I64 => of::<i64>(operation, ranks),
        ElementType::F32 => of::<f32>(operation, ranks),
        ElementType::F64 => of::<f64>(operation, ranks),
    }
}

/// The ranks a shape's calls are among, this rank's neighbours, and which dimensions are short.
fn group(
    world: &World,
    shape: Shape,
) -> anyhow::Result<(Group<'_>, Vec<usize>, [bool; DIMENSIONS])> {
    if !matches!(shape, Shape::NeighborAllgather | Shape::NeighborAlltoall) {
        return Ok((Group::World(world.comm()), Vec::new(), [false; DIMENSIONS]));
    }
    let lengths = dimensions::<DIMENSIONS>(world.ranks())?;
    let grid = world
        .comm()
        .create_cartesian_communicator(&lengths, &[true; DIMENSIONS], false)
        .context("MPI_Cart_create left this rank out of the grid")?;
    let neighbours = neighbours(&grid)?;
    Ok((
        Group::Grid(grid),
        neighbours,
        lengths.map(|length| length <= 2),
    ))
}

/// The neighbours of this rank in the order of the standard: for each dimension the one before and
/// the one after.
fn neighbours(grid: &CartesianCommunicator) -> anyhow::Result<Vec<usize>> {
    let mut neighbours = Vec::new();
    for dimension in 0..grid.num_dimensions() {
        let (before, after) = grid.shift(dimension, 1);
        for neighbour in [before, after] {
            let neighbour = neighbour.context("a periodic grid has no edge, but MPI found one")?;
            neighbours.push(usize::try_from(neighbour)?);
        }
    }
    Ok(neighbours)
}
