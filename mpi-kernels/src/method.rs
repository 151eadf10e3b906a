//! How iterations begin together, and what a kernel is given to run at a point.
//!
//! What the ranks' starts and the driver share lies in a [`Meeting`]: the driver sets it between
//! batches, a start reads it in the timed loop.

pub mod clock;
mod slack;
mod sync;

pub use slack::Slack;
pub use sync::{Meeting, Start};

use crate::spec::Point;
use crate::world::World;

/// What one rank's part of a kernel is made from.
#[derive(Clone, Copy)]
pub struct Setting<'w, 'p> {
    /// All ranks.
    pub world: &'w World,
    /// What is measured.
    pub point: &'p Point,
    /// What the ranks' starts have in common with the driver.
    pub meeting: &'p Meeting,
}

impl<'w> Setting<'w, '_> {
    /// What makes this rank begin an iteration together with the others, as the point asks.
    /// Does not communicate.
    ///
    /// # Errors
    /// None at present; a way to begin may come to need memory.
    pub fn start(&self) -> anyhow::Result<Start<'w>> {
        Ok(Start::new(self.world, self.point, self.meeting))
    }
}
