//! Drawing reports. What is here reads reports and summaries and measures nothing.

pub mod compare;
pub mod export;
pub mod html;
pub mod progress;
pub mod table;
pub mod terminal;
pub mod text;
pub mod units;

mod environment;
mod sheet;
mod spark;
mod style;
mod svg;
mod sweep;

#[cfg(test)]
mod tests;
