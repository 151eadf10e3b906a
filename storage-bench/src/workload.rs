//! What a job does: which blocks it touches ([`pattern`]), what stands in them ([`content`]), the
//! timed loop ([`job`]), and the proof afterwards that writes arrived ([`readback`]).

pub mod content;
pub mod job;
pub mod pattern;
pub mod readback;
