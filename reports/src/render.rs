//! Drawing reports. What is here reads reports and measures nothing.

pub mod terminal;
pub mod units;
