//! What ranks measure together under `mpirun`: bandwidth and metadata of a shared file system.

use super::Family;
use crate::crew::{Crew, Ranked, measure_alone};
use crate::metadata::{self, MetadataArgs, MetadataSpec};
use crate::shared::{self, SharedArgs, SharedSpec};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use reports::case::{Availability, Entry};
use reports::model::{Fact, Measurement};
use std::time::Duration;

/// Bandwidth of a shared file system.
pub struct Shared;

/// Rates of operations on metadata.
pub struct Metadata;

const SHARED: &str = "Bandwidth of a file system that ranks share, as IOR measures it (POSIX). \
    Write phase: behind a barrier each rank opens its file or the shared one, writes its blocks \
    (segments x block, in transfers), flushes (fsync, IOR -e) and closes. Read phase: likewise each \
    rank opens and reads what another one wrote (shift: IOR -C -Q; random order: as -Z). \
    write_bandwidth_bytes_per_s and read_bandwidth_bytes_per_s are bytes of all ranks over the time \
    from the barrier to the last closing, which is IOR's definition (IOR's MiB are 1048576 bytes); \
    the steps open, transfer, fsync and close are the slowest rank's. Ranks of one run begin a \
    phase within the exit of an MPI barrier. lat_ns of a transfer is from its preparation to its \
    reaping, with iodepth in flight (IOR has one), over all ranks. Buffers are random once and get \
    a header per write that names run, file, offset, writer and generation; every transfer that is \
    read is checked within the timed loop, by header and eight words or in every byte (IOR -R). Between the \
    phases the writer's and the reader's node are asked to drop the file's pages, and how much of the \
    reads storage served is told. After the reads, untimed, each rank writes up to 16 transfers anew \
    and closes, of one file the nodes in turn, and each reader opens again and must find the new ones. Several ranks take a build \
    with the feature mpi.";

const METADATA: &str = "Operations on metadata, as mdtest measures them: phase after phase, each \
    between barriers, every rank goes through its items: create (with --write also writes and \
    closes), stat (lstat), read (open, read, close), rename and delete of files, and mkdir, stat, \
    rename and rmdir of folders; in a folder of each rank (mdtest -u) or in one for all. Stat and \
    read are of what the rank `shift` further created (mdtest -N). X_per_s is the items of all \
    ranks over the time of the slowest rank, which is mdtest's definition. X_lat_ns is one call's, \
    over all ranks. Several ranks take a build with the feature mpi.";

impl Family for Shared {
    type Spec = SharedSpec;

    const CASES: &'static [Entry<SharedSpec>] = &[Entry {
        name: "shared",
        summary: "Bandwidth of a shared file system (as IOR)",
        definition: SHARED,
        probe: available,
        run: |spec, _| measure_alone::<Self>(spec),
    }];

    fn options(_: &str, command: Command) -> Command {
        SharedArgs::augment_args(command)
    }

    fn specs(_: &str, options: &ArgMatches) -> anyhow::Result<Vec<SharedSpec>> {
        Ok(vec![SharedArgs::from_arg_matches(options)?.spec()?])
    }

    fn seed(spec: &SharedSpec) -> Fact<u64> {
        Fact::Known(spec.seed)
    }
}

impl Ranked for Shared {
    fn settle(spec: &mut SharedSpec, crew: &dyn Crew) -> anyhow::Result<()> {
        spec.settle(crew)
    }

    fn deadline(spec: &SharedSpec) -> Duration {
        spec.deadline
    }

    fn measure(spec: &SharedSpec, crew: &dyn Crew) -> anyhow::Result<Option<Measurement>> {
        shared::measure(spec, crew)
    }
}

impl Family for Metadata {
    type Spec = MetadataSpec;

    const CASES: &'static [Entry<MetadataSpec>] = &[Entry {
        name: "metadata",
        summary: "Rates of creating and deleting many files (as mdtest)",
        definition: METADATA,
        probe: available,
        run: |spec, _| measure_alone::<Self>(spec),
    }];

    fn options(_: &str, command: Command) -> Command {
        MetadataArgs::augment_args(command)
    }

    fn specs(_: &str, options: &ArgMatches) -> anyhow::Result<Vec<MetadataSpec>> {
        MetadataArgs::from_arg_matches(options)?.specs()
    }

    fn seed(_: &MetadataSpec) -> Fact<u64> {
        Fact::unavailable("nothing in this case is random")
    }
}

impl Ranked for Metadata {
    fn settle(spec: &mut MetadataSpec, crew: &dyn Crew) -> anyhow::Result<()> {
        spec.settle(crew)
    }

    fn deadline(spec: &MetadataSpec) -> Duration {
        spec.deadline
    }

    fn measure(spec: &MetadataSpec, crew: &dyn Crew) -> anyhow::Result<Option<Measurement>> {
        metadata::measure(spec, crew)
    }
}

fn available() -> Availability {
    Availability::Available
}
