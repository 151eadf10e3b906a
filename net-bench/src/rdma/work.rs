//! The timed loops over a port: one operation after the other ([`pingpong`], [`fetch`]), or as many
//! as fit at once ([`window`]); and a side that only lends its memory ([`host`]).

pub mod fetch;
pub mod host;
pub mod lanes;
pub mod pingpong;
pub mod window;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
