//! Reads and writes of one file or device.

use super::Family;
use crate::cases::CASES;
use crate::spec::{BlockArgs, FileArgs, NullArgs, Spec};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::Entry;
use reports::model::Fact;

/// See the module.
pub struct Io;

impl Family for Io {
    type Spec = Spec;

    const CASES: &'static [Entry<Spec>] = CASES;

    fn options(case: &str, command: Command) -> Command {
        match case {
            "null" => NullArgs::augment_args(command),
            "block" => BlockArgs::augment_args(command),
            _ => FileArgs::augment_args(command),
        }
    }

    fn specs(case: &str, options: &ArgMatches) -> anyhow::Result<Vec<Spec>> {
        match case {
            "null" => NullArgs::from_arg_matches(options)?.specs(),
            "block" => BlockArgs::from_arg_matches(options)?.specs(),
            _ => FileArgs::from_arg_matches(options)?.specs(),
        }
    }

    fn seed(spec: &Spec) -> Fact<u64> {
        Fact::Known(spec.seed)
    }
}
