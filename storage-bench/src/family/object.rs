//! Objects of a store that speaks S3.

use super::Family;
use crate::object::cases::{CASES, op};
use crate::object::spec::{MixArgs, ObjectArgs, ObjectSpec, Op, PartArgs, RangeArgs};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::Entry;
use reports::model::Fact;

/// See the module.
pub struct Object;

impl Family for Object {
    type Spec = ObjectSpec;

    const CASES: &'static [Entry<ObjectSpec>] = CASES;

    fn options(case: &str, command: Command) -> Command {
        let command = ObjectArgs::augment_args(command);
        match op(case) {
            Op::GetRange => RangeArgs::augment_args(command),
            Op::Multipart => PartArgs::augment_args(command),
            Op::Mixed => MixArgs::augment_args(command),
            _ => command,
        }
    }

    fn specs(case: &str, options: &ArgMatches) -> anyhow::Result<Vec<ObjectSpec>> {
        let op = op(case);
        let mut spec = ObjectArgs::from_arg_matches(options)?.spec(op)?;
        match op {
            Op::GetRange => spec.range = Some(RangeArgs::from_arg_matches(options)?.range),
            Op::Multipart => {
                let parts = PartArgs::from_arg_matches(options)?;
                spec.part_size = Some(parts.part_size);
                spec.parts_in_flight = Some(parts.parts_in_flight);
            }
            Op::Mixed => spec.mix = Some(MixArgs::from_arg_matches(options)?.mix),
            _ => {}
        }
        spec.check()?;
        Ok(vec![spec])
    }

    fn seed(spec: &ObjectSpec) -> Fact<u64> {
        Fact::Known(spec.seed)
    }
}
