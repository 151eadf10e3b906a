//! Drawing reports. What is here reads reports and summaries and measures nothing.

pub mod compare;
pub mod html;
pub mod progress;
pub mod rank;
pub mod table;
pub mod terminal;
pub mod trend;
pub mod units;

mod svg;
mod sweep;
