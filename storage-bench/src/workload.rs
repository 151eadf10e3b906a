//! What a job does: which blocks it touches ([`pattern`]), what stands in them ([`content`]), the
//! timed loop ([`job`]), what became of operations that failed ([`errors`]), and the proof afterwards
//! that writes arrived ([`readback`]), which another process can repeat ([`proof`]) by what the run
//! wrote down ([`journal`]).

pub mod content;
pub mod errors;
pub mod job;
pub mod journal;
pub mod pattern;
pub mod proof;
pub mod readback;
pub mod scan;
