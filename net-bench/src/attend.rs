//! Watching the control channel while the test runs: a peer that dies or asks to stop is noticed
//! at once, without a clock tick on the measuring threads.

use crate::control::Channel;
use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

/// How often a watcher looks at what no descriptor announces: a signal to stop.
const LOOK_AROUND_MS: u16 = 100;

/// Why the watcher is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There is something to read on the channel, or its end.
    Readable,
    /// Nothing happened for a while.
    Quiet,
}

/// Whether there is anything left to read on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// There is.
    On,
    /// The peer had its last word.
    Over,
}

/// Runs `work` on a thread of its own and `watch` on this one whenever the channel moves.
///
/// # Errors
/// What the kernel says of waiting.
pub fn attend<T: Send>(
    channel: &mut Channel,
    work: impl FnOnce() -> T + Send,
    mut watch: impl FnMut(&mut Channel, Turn) -> Watch,
) -> anyhow::Result<T> {
    let (bell, rope) = UnixStream::pair().context("cannot make a socket pair")?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            // Its closing wakes the watcher, whether the work returns or panics.
            let _rope = rope;
            work()
        });
        let mut state = Watch::On;
        loop {
            let moved = {
                let mut watched = [
                    PollFd::new(bell.as_fd(), PollFlags::POLLIN),
                    PollFd::new(channel.as_fd(), PollFlags::POLLIN),
                ];
                let count = if state == Watch::On { 2 } else { 1 };
                match poll(&mut watched[..count], PollTimeout::from(LOOK_AROUND_MS)) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error).context("cannot watch the control channel"),
                }
                watched.map(|fd| fd.any() == Some(true))
            };
            if moved[0] {
                break;
            }
            let turn = if moved[1] {
                Turn::Readable
            } else {
                Turn::Quiet
            };
            if state == Watch::On {
                state = watch(channel, turn);
            }
        }
        Ok(worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
