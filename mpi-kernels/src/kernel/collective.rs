//! Kernels of all ranks: every iteration begins together, and each rank times its own call.
//!
//! [`shape`] says what each rank gives and gets, [`exchange`] fills the buffers and compares what
//! came, [`order`] does the same for barriers, which move nothing. Here and in [`overlap`] are the
//! timed loops, one for each function by monomorphisation.

mod exchange;
mod order;
pub mod overlap;
mod saturation;
pub mod shape;

use super::{Extras, Kernel, Results};
use crate::merge;
use crate::method::{Setting, Start};
use crate::spec::Point;
use crate::sys::collective::Function;
use crate::world::World;
use exchange::Exchange;
use reports::measure::{Ticks, latency_metrics};
use reports::model::{Aggregation, Direction, Metric, Unit, Work};
use shape::Shape;

pub use crate::sys::collective as functions;

/// A function of MPI and what it moves.
pub trait Operation: Function {
    /// Who gives what to whom.
    const SHAPE: Shape;
}

macro_rules! shapes {
    ($($function:ident: $shape:ident;)*) => { $(
        impl Operation for functions::$function {
            const SHAPE: Shape = Shape::$shape;
        }
    )* };
}

shapes! {
    Barrier: Barrier;
    Bcast: Bcast;
    Reduce: Reduce;
    Allreduce: Allreduce;
    ReduceScatter: ReduceScatter;
    ReduceScatterBlock: ReduceScatterBlock;
    Scan: Scan;
    Exscan: Exscan;
    Gather: Gather;
    Gatherv: Gather;
    Scatter: Scatter;
    Scatterv: Scatter;
    Allgather: Allgather;
    Allgatherv: Allgather;
    Alltoall: Alltoall;
    Alltoallv: Alltoall;
    NeighborAllgather: NeighborAllgather;
    NeighborAlltoall: NeighborAlltoall;
}

/// A blocking collective: every rank times its call.
pub struct Blocking<'w, F: Function> {
    exchange: Exchange<'w, F>,
    start: Start<'w>,
}

impl<'w, F: Operation> Blocking<'w, F> {
    /// This rank's part, with buffers for the point's size. All ranks make theirs alike, because
    /// that communicates.
    ///
    /// # Errors
    /// Too little memory, or more ranks than the check can sum exactly.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        // What all ranks must do together comes first: one that fails afterwards keeps nobody
        // waiting.
        let start = setting.start()?;
        Ok(Box::new(Self {
            exchange: Exchange::<F>::new(&setting)?,
            start,
        }))
    }
}

impl<F: Operation> Kernel for Blocking<'_, F> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        self.exchange.validate(|call| call.call())
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        let (exchange, start) = (&mut self.exchange, &mut self.start);
        for slot in ticks {
            exchange.prepare();
            let began = start.begin();
            exchange.call.call()?;
            *slot = start.length(began);
            exchange.turn += 1;
        }
        Ok(())
    }

    fn extras(&mut self, world: &World) -> Extras {
        self.exchange.extras(world)
    }
}

/// The distribution over iterations of the slowest rank's time, and OSU's columns.
#[must_use]
pub fn metrics(results: &Results, _: &Point) -> Vec<Metric> {
    let mut metrics = latency_metrics("collective_ns", &results.histogram);
    let osu = merge::osu_columns(&results.ranks, results.iterations);
    let columns = [
        (Aggregation::Mean, osu.mean_ns),
        (Aggregation::Min, osu.min_ns),
        (Aggregation::Max, osu.max_ns),
    ];
    metrics.extend(columns.map(|(aggregation, value)| {
        let metric = Metric::new(
            "collective_ns",
            aggregation,
            Unit::Nanoseconds,
            Direction::LowerIsBetter,
            value,
            results.iterations,
        );
        metric.compat("OSU")
    }));
    metrics
}

/// Calls, and the bytes of the size that each rank put into them.
#[must_use]
pub fn work(iterations: u64, point: &Point) -> Work {
    Work {
        ops: iterations,
        bytes: iterations * point.size() as u64,
    }
}
