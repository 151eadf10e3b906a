//! A binding of libfabric, loaded when the program runs, and a small safe layer over it.
//!
//! A host without libfabric builds and runs what uses this crate, and learns from
//! [`Library::load`] where it was looked for and what to install.
//!
//! [`raw`] is libfabric as its headers declare it. The safe layer is what a benchmark of messages
//! needs: a [`Query`] finds the offers of providers ([`Info`]); a [`Domain`] is opened from one; an
//! [`Endpoint`] in it reaches any peer (RDM) or is connected to one through a [`Listener`] (MSG).
//! An endpoint owns its completion queue, its peers and its memory, which is cut into slots, and
//! closes them in the order that libfabric demands.
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
//! # use libfabric_sys::{Completion, Endpoint, Error, Peer, Posted};
//! # fn round_trip(endpoint: &mut Endpoint, peer: Peer, size: usize) -> Result<(), Error> {
//! # let (send, mut spare, mut posted) = (0, 1, 2);
//! # let mut completions = [Completion::default(); 2];
//! // Two receives take turns: `posted` was posted in the last round.
//! while endpoint.receive(spare)? == Posted::Full {
//!     endpoint.poll(&mut [])?;
//! }
//! while endpoint.send(send, size, Some(peer))? == Posted::Full {
//!     endpoint.poll(&mut [])?;
//! }
//! let mut open = 2; // the send and the answer
//! while open > 0 {
//!     let count = endpoint.poll(&mut completions)?;
//!     open -= count;
//! }
//! std::mem::swap(&mut spare, &mut posted);
//! # Ok(())
//! # }
//! ```
//!
//! - Messages of up to [`Endpoint::inject_size`] bytes are injected instead, as the field's
//!   latency tests do: they complete silently, so only the answer is awaited.
//! - Poll, never wait: with manual progress nothing moves between two polls, acknowledgements to
//!   the peer included. So a side that has nothing to do polls until it is told to end.
//! - A send may return [`Posted::Full`] at any time; only polling makes room.
//! - A stream keeps a window of sends in flight and refills it from each batch of completions; it
//!   never drains the window first.
//! - A call costs two branches and a jump through the provider's table, as in C; the slot adds one
//!   flag to test and one to set.
//! - Over providers that deliver out of order (`efa`) a receive is known by its tag or its
//!   contents, never by its turn.

mod av;
mod cq;
mod endpoint;
mod error;
mod fabric;
mod handle;
mod info;
mod library;
mod mr;
pub mod raw;

pub use av::{MAX_ADDRESS, Peer};
pub use cq::{BATCH, Completion};
pub use endpoint::{Endpoint, Listener, Posted, Shape};
pub use error::Error;
pub use fabric::Domain;
pub use info::{Info, Nic, Query};
pub use library::{Library, Missing, PLACES, Version};
