//! Nothing is destroyed that the program did not create or the user did not name, and whatever is
//! wrong with a target is said.

#[path = "../common/mod.rs"]
mod common;
mod destroy;
mod devices;
mod lab;
mod random;
mod trouble;
