//! Every `unsafe` line that the `reports` library rests on.
//!
//! `reports` forbids unsafe code, because it parses what strangers wrote. Two things it needs have
//! no safe interface: the processor's cycle counter, which the timed loops read once per
//! operation, and the ethtool ioctls, which alone know a network card's firmware and offloads.

mod cycles;
pub mod ethtool;

pub use cycles::cycles;
