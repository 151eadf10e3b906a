//! A binding of libfabric, loaded when the program runs, and a small safe layer over it.
//!
//! A host without libfabric builds and runs what uses this crate, and learns from
//! [`Library::load`] where it was looked for and what to install.
//!
//! [`raw`] is libfabric as its headers declare it. The safe layer is what a benchmark needs: a
//! [`Query`] finds the offers of providers ([`Info`]); a [`Domain`] is opened from one; a set of
//! [`Endpoints`] in it reaches any peer (RDM) or is connected to peers through a [`Listener`]
//! (MSG). A set owns its completion queue, its peers and its memory, which is cut into slots, and
//! closes them in the order that libfabric demands. Memory that peers read, write and change
//! atomically is a set's own too, and each peer is told of it with a [`Remote`].
//!
//! # Threads
//! Nothing here can be sent to another thread: whether two threads may use objects of one domain
//! is for the provider to say, and objects that share nothing scale better. A thread opens its own
//! domain from a query of its own, and providers are told that they need no locks
//! (`FI_THREAD_DOMAIN`).
//!
//! # The hot loop
//! A ping-pong keeps one receive posted ahead, so that a message never meets an endpoint that does
//! not expect it, and looks at the clock once per round trip:
//!
//! ```no_run
//! # use libfabric_sys::{Completion, Endpoints, Error, Posted, Transfer};
//! # fn round_trip(endpoints: &mut Endpoints, size: usize) -> Result<(), Error> {
//! # let (send, mut spare, mut posted) = (0, 1, 2);
//! // Two receives take turns: `posted` was posted in the last round.
//! while endpoints.receive(spare)? == Posted::Full {
//!     endpoints.poll(0, |_| ())?;
//! }
//! while endpoints.transmit(send, size, Transfer::Send, true)? == Posted::Full {
//!     endpoints.poll(0, |_| ())?;
//! }
//! let mut open = 2; // the send and the answer
//! while open > 0 {
//!     endpoints.poll(2, |_| open -= 1)?;
//! }
//! std::mem::swap(&mut spare, &mut posted);
//! # Ok(())
//! # }
//! ```
//!
//! - Messages of up to [`Endpoints::inject_size`] bytes are injected instead, as the field's
//!   latency tests do: they complete silently, so only the answer is awaited.
//! - With manual progress nothing moves between two polls, acknowledgements to the peer and answers
//!   to its reads included. So a side that has nothing to do polls until it is told to end.
//! - A post may return [`Posted::Full`] at any time; only polling makes room.
//! - A stream keeps a window of sends in flight and refills it from each batch of completions; it
//!   never drains the window first.
//! - A call costs a few branches and a jump through the provider's table, as in C; the slot adds one
//!   flag to test and one to set.
//! - Over providers that deliver out of order (`efa`) a receive is known by its tag or its
//!   contents, never by its turn.

mod av;
mod cq;
mod endpoint;
mod environment;
mod error;
mod fabric;
mod handle;
mod info;
mod library;
mod mr;
pub mod raw;
mod signals;

pub use av::MAX_ADDRESS;
pub use cq::{BATCH, Completion};
pub use endpoint::{ATOMIC_BYTES, Atomic, Endpoints, Listener, Posted, Ring, Shape, Transfer};
pub use environment::{UNIVERSE, Universe, small_universe, universe};
pub use error::Error;
pub use fabric::Domain;
pub use info::{Info, Nic, Query};
pub use library::{Library, Missing, PLACES, Version};
pub use mr::Remote;
