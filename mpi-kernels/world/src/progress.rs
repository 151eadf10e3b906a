//! How far a rank has come, for whoever watches it from another thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of steps and what they are part of. A step is taken at every communication of the
/// driver, outside of timed loops: ranks that wait for each other there stand at the same step, and
/// one that never came stands behind.
#[derive(Debug, Default)]
pub struct Progress {
    steps: AtomicU64,
    doing: Mutex<String>,
}

impl Progress {
    /// Takes a step.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Says what begins, in a reader's words: `allreduce, 4096 bytes`.
    pub fn begin(&self, what: String) {
        self.step();
        self.say(what);
    }

    /// Says how far it came with what was begun. This is no step, because the others do not take it
    /// too, but a sign that the rank gets on: `write, 96 MiB`.
    pub fn say(&self, what: String) {
        if let Ok(mut doing) = self.doing.lock() {
            *doing = what;
        }
    }

    /// What was begun last.
    #[must_use]
    pub fn doing(&self) -> String {
        self.doing
            .lock()
            .map(|doing| doing.clone())
            .unwrap_or_default()
    }
}
