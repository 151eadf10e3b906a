//! The subcommands that are more than a few lines, one module each.

pub(crate) mod compare;
pub(crate) mod import;
