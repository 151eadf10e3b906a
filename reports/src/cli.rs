//! The subcommands that are more than a few lines, one module each.

pub mod import;
