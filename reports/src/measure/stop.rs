//! Stopping on request: SIGINT and SIGTERM end the window early, so that scratch files, server
//! threads and half-done reports are dealt with by the ordinary way out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Makes SIGINT and SIGTERM request a stop. A second signal ends the process at once.
///
/// # Errors
/// What the kernel says when a handler cannot be set.
pub fn install_signal_handlers() -> io::Result<()> {
    let stop = STOP.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Order matters: on the first signal the flag is still clear when the shutdown looks.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

/// Whether a signal asked the process to stop.
#[must_use]
pub fn stop_requested() -> bool {
    STOP.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}
