//! libfabric as its C headers declare it: structures, constants, and the calls that are static
//! inlines there.
//!
//! Names, order and types follow version 1.17, the oldest that Debian 12 and Ubuntu 24.04 carry,
//! whose layouts are those of the symbol version `FABRIC_1.3`. Enumerations are plain integers,
//! because a newer library may return values that this binding has no name for. What a field means
//! stands in the manual page that its structure names.
//!
//! The macros that declare structures and constants also fill the tables [`structures::LAYOUTS`]
//! and [`constants::GROUPS`], from which the test of the layout writes its C program: what is
//! declared is compared with the header, and cannot be forgotten there.

pub mod calls;
pub mod constants;
pub mod structures;
