//! What submitting and reaping cost by themselves: a ring through which nothing is asked.

use super::Family;
use crate::cases;
use crate::engine::{Nops, Uring, probe_uring};
use crate::spec::{
    EngineName, LoadArgs, PatternSpec, Place, PlacementArgs, RingArgs, Rw, SECTOR, Spec, usage,
};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::Entry;
use reports::measure::Observer;
use reports::model::{Fact, Measurement};
use serde::{Serialize, Serializer};

/// See the module.
pub struct Nop;

/// Default of `--iodepth`: that of t/io_uring.
const IODEPTH: usize = 128;
/// Default of `--iodepth-batch`: likewise.
const BATCH: usize = 32;

const DEFINITION: &str = "\
    Requests of io_uring that ask for nothing (IORING_OP_NOP), through the loop of the other cases: \
    what it costs to submit and to reap, and so the most that one job can do. Compares with \
    `t/io_uring -N1` of fio's sources, which has the same depth and batches and takes no latencies, \
    and whose requests name a file for the kernel to look up (IORING_NOP_FILE, where it knows that). \
    lat_ns is from the preparation of a request to its reaping. All free slots are filled and \
    submitted, at most iodepth_batch with one call, after each of which what has ended is reaped. Each request must end with the result 0.";

const CASES: &[Entry<NopSpec>] = &[Entry {
    name: "nop",
    summary: "io_uring NOPs: what submitting and reaping cost",
    definition: DEFINITION,
    probe: probe_uring,
    run,
}];

/// Options of `nop`.
#[derive(Debug, Clone, Args)]
struct NopArgs {
    /// How much of it.
    #[command(flatten)]
    load: LoadArgs,
    /// How the ring is set up.
    #[command(flatten, next_help_heading = "Engine (fio's words)")]
    ring: RingArgs,
    /// Where jobs run.
    #[command(flatten)]
    placement: PlacementArgs,
}

/// What a command line comes to: a specification whose pattern means nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct NopSpec(Spec);

impl Serialize for NopSpec {
    /// The parameters that mean something here.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serde_json::to_value(&self.0).map_err(serde::ser::Error::custom)?;
        if let Some(all) = all.as_object_mut() {
            for meaningless in ["rw", "bs", "direct", "invalidate", "size"] {
                all.remove(meaningless);
            }
        }
        all.serialize(serializer)
    }
}

impl NopArgs {
    /// One specification for each combination of the lists.
    fn specs(&self) -> anyhow::Result<Vec<NopSpec>> {
        let depths = match &self.load.iodepth[..] {
            [] => &[IODEPTH],
            given => given,
        };
        let jobs = self.load.numjobs.iter();
        jobs.flat_map(|jobs| depths.iter().map(|depth| self.spec(*depth, *jobs)))
            .collect()
    }

    fn spec(&self, iodepth: usize, numjobs: usize) -> anyhow::Result<NopSpec> {
        if self.load.size.is_some() || self.load.offset > 0 {
            return Err(usage(
                "--size, --offset: requests that ask for nothing have no place",
            ));
        }
        let mut load = self.load.clone();
        load.iodepth = vec![iodepth];
        load.numjobs = vec![numjobs];
        load.iodepth_batch = load.iodepth_batch.or(Some(BATCH));
        let pattern = PatternSpec {
            rw: Rw::Read,
            bs: SECTOR,
            ..PatternSpec::default()
        };
        // Something for each job to go through.
        let size = SECTOR * numjobs.max(1) as u64;
        let mut spec = load.spec(EngineName::Uring, pattern, Place::Nowhere, size)?;
        spec.options = self.ring.options(&self.placement);
        spec.options.check(&spec)?;
        Ok(NopSpec(spec))
    }
}

impl Family for Nop {
    type Spec = NopSpec;

    const CASES: &'static [Entry<NopSpec>] = CASES;

    fn options(_: &str, command: Command) -> Command {
        NopArgs::augment_args(command)
    }

    fn specs(_: &str, options: &ArgMatches) -> anyhow::Result<Vec<NopSpec>> {
        NopArgs::from_arg_matches(options)?.specs()
    }

    fn seed(_: &NopSpec) -> Fact<u64> {
        Fact::unavailable("nothing is drawn")
    }
}

fn run(spec: &NopSpec, observer: &dyn Observer) -> anyhow::Result<Measurement> {
    let mut measurement = cases::run_on::<Uring<Nops>>(&spec.0, observer)?;
    let checks = measurement.verified.split(' ').next().unwrap_or_default();
    measurement.verified = format!("{checks} requests ended with the result 0");
    Ok(measurement)
}
