//! Drawing reports. What is here reads reports and summaries and measures nothing.

pub mod compare;
mod differences;
pub mod html;
pub mod plan;
pub mod progress;
pub mod rank;
pub mod ratios;
pub mod table;
pub mod terminal;
pub mod trend;
pub mod units;

mod sheet;
mod svg;
mod sweep;
