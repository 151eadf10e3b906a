//! Drawing reports. What is here reads reports and summaries and measures nothing.

pub mod compare;
pub mod export;
pub mod html;
pub mod plan;
pub mod progress;
pub mod rank;
pub mod ratios;
pub mod screen;
pub mod table;
pub mod terminal;
pub mod text;
pub mod trend;
pub mod units;

mod differences;
mod environment;
mod grid;
mod knee;
mod sheet;
mod slices;
mod spark;
mod style;
mod sweep;

#[cfg(test)]
mod tests;
