//! A phase: one kind of call on every item of a rank, each call timed.

use reports::measure::{Clock, Latencies, histogram_record, new_histogram, stop_requested};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How often a rank says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(500);

/// What one rank's phase came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Times {
    /// From the barrier to the end of the last call.
    pub total_ns: u64,
    /// How many items there were.
    pub items: u64,
    /// Latencies of single calls, as a report carries them.
    pub latencies: String,
}

/// Calls `act` for so many items, until the stonewall if there is one.
///
/// # Errors
/// The first item that failed.
pub fn run(
    items: u64,
    stonewall: Option<Duration>,
    say: &dyn Fn(u64),
    mut act: impl FnMut(u64) -> anyhow::Result<()>,
) -> anyhow::Result<Times> {
    let clock = Clock::get();
    let mut latencies = Latencies::default();
    let began = Instant::now();
    let mut said = began;
    let mut last = clock.now();
    let mut done = 0;
    while done < items {
        let now = Instant::now();
        if stonewall.is_some_and(|stonewall| now - began >= stonewall) {
            break;
        }
        anyhow::ensure!(!stop_requested(), "a signal ended the run");
        act(done)?;
        done += 1;
        let ended = clock.now();
        latencies.record(clock.ns(ended.saturating_sub(last)));
        last = ended;
        if now - said > SAY_EVERY {
            said = now;
            say(done);
        }
    }
    let total = began.elapsed();
    let mut histogram = new_histogram();
    latencies.add_to(&mut histogram);
    Ok(Times {
        total_ns: u64::try_from(total.as_nanos()).unwrap_or(u64::MAX),
        items: done,
        latencies: histogram_record("lat_ns", &histogram).hdr_v2_base64,
    })
}
