//! `halo`: the exchange of faces of a three-dimensional stencil.

use super::{Traffic, c_rank};
use crate::kernel::{Kernel, Results};
use crate::method::{Setting, Start};
use crate::spec::Point;
use crate::sys::{Exchange, Link};
use reports::measure::{Ticks, latency_metrics};
use reports::model::{Metric, Work};

const FIRST_TAG: i32 = 41;

/// The faces of a cell.
pub const FACES: u64 = 6;

/// One rank's part of the stencil.
pub struct Halo<'w> {
    start: Start<'w>,
    traffic: Traffic,
    validations: u64,
}

impl<'w> Halo<'w> {
    /// This rank's place in the grid, with buffers for its faces.
    ///
    /// # Errors
    /// Too little memory.
    pub fn build(setting: Setting<'w, '_>) -> anyhow::Result<Box<dyn Kernel + 'w>> {
        let Setting { world, point, .. } = setting;
        let links = links(grid(world.ranks()), world.rank());
        Ok(Box::new(Self {
            start: setting.start()?,
            traffic: Traffic::new(world, links, point.size(), point)?,
            validations: 0,
        }))
    }
}

impl Kernel for Halo<'_> {
    fn validate(&mut self) -> anyhow::Result<u64> {
        let last = match self.validations {
            0 => Ok(0),
            _ => self.traffic.check(),
        };
        self.validations += 1;
        let checks = self.traffic.validate(&[Exchange::all_at_once]);
        Ok(last? + checks?)
    }

    fn run(&mut self, ticks: &mut [Ticks]) -> anyhow::Result<()> {
        for slot in ticks {
            let began = self.start.begin();
            self.traffic.exchange().all_at_once()?;
            *slot = self.start.length(began);
        }
        Ok(())
    }
}

/// Three factors of a number, as close to each other as its divisors allow, the largest first: what
/// MPI_Dims_create gives, by a rule that is the same on every MPI library.
#[must_use]
pub fn grid(ranks: usize) -> [usize; 3] {
    let divisors = |of: usize| (1..=of).filter(move |divisor| of.is_multiple_of(*divisor));
    let mut best = [ranks, 1, 1];
    for x in divisors(ranks) {
        for y in divisors(ranks / x).filter(|&y| y <= x) {
            let z = ranks / x / y;
            // The least surface; of equal ones the first found, so that all ranks agree.
            let surface = |[x, y, z]: [usize; 3]| x * y + y * z + z * x;
            if z <= y && surface([x, y, z]) < surface(best) {
                best = [x, y, z];
            }
        }
    }
    best
}

/// The messages of a rank: in each dimension one each way, around the edges. Both neighbours of a
/// dimension of two are the same rank, of a dimension of one the rank itself.
fn links(grid: [usize; 3], rank: usize) -> Vec<Link> {
    let place = [
        rank / (grid[1] * grid[2]),
        rank / grid[2] % grid[1],
        rank % grid[2],
    ];
    let neighbour = |dimension: usize, step: usize| {
        let mut place = place;
        place[dimension] = (place[dimension] + step) % grid[dimension];
        Some(c_rank((place[0] * grid[1] + place[1]) * grid[2] + place[2]))
    };
    (0..3)
        .flat_map(|dimension| {
            let (up, down) = (
                neighbour(dimension, 1),
                neighbour(dimension, grid[dimension] - 1),
            );
            [(up, down), (down, up)]
        })
        .zip(FIRST_TAG..)
        .map(|((to, from), tag)| Link { to, from, tag })
        .collect()
}

/// The distribution over iterations of the slowest rank's time.
#[must_use]
pub fn metrics(results: &Results, _: &Point) -> Vec<Metric> {
    latency_metrics("exchange_ns", &results.histogram)
}

/// Exchanges, and the bytes that each rank sends in them.
#[must_use]
pub fn work(iterations: u64, point: &Point) -> Work {
    Work {
        ops: iterations,
        bytes: iterations * FACES * point.size() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_as_cubic_as_divisors_allow() {
        let expected = [
            (1, [1, 1, 1]),
            (2, [2, 1, 1]),
            (4, [2, 2, 1]),
            (7, [7, 1, 1]),
            (8, [2, 2, 2]),
            (12, [3, 2, 2]),
            (60, [5, 4, 3]),
            (64, [4, 4, 4]),
            (96, [6, 4, 4]),
        ];
        for (ranks, dimensions) in expected {
            assert_eq!(grid(ranks), dimensions, "{ranks} ranks");
        }
    }

    #[test]
    fn what_one_sends_its_neighbour_awaits_under_the_same_tag() {
        for ranks in [1, 2, 3, 4, 5, 6, 8, 12, 27] {
            let grid = grid(ranks);
            for rank in 0..ranks {
                for (index, link) in links(grid, rank).into_iter().enumerate() {
                    let to = link.to.expect("there are no edges") as usize;
                    let there = links(grid, to)[index];
                    assert_eq!(there.from, Some(rank as i32), "{ranks} ranks");
                    assert_eq!(there.tag, link.tag);
                }
            }
        }
    }
}
