//! The bodies of the larger subcommands.

pub(crate) mod compare;
