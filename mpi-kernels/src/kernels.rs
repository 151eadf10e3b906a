//! The table of kernels, in the order in which users see them. It drives the subcommands, their
//! options and help, `list`, and the tests that run every kernel.

use crate::kernel::collective::{self, Allreduce, Barrier};
use crate::kernel::pt2pt::{self, PingPong, Stream};
use crate::kernel::{Kernel, Results, Timer};
use crate::spec::Point;
use crate::world::World;
use reports::model::{Metric, Work};

/// One kernel: its name, its definition, OSU's defaults for its options, and its code.
///
/// It is not a [`reports::case::Entry`], because all ranks take part in a kernel and only rank 0
/// gets a measurement.
pub struct Row {
    /// As typed: `latency`.
    pub name: &'static str,
    /// One line for `list` and `--help`.
    pub summary: &'static str,
    /// What exactly is timed and whose definition it follows. Its hash decides whether results
    /// may be compared, so a change of the measured loop is a change of this text.
    pub definition: &'static str,
    /// The sizes of its messages, if it has any.
    pub sizes: Option<SizeRule>,
    /// Default iterations, `N:LARGE`.
    pub iterations: &'static str,
    /// Default warm-up, `N:LARGE`.
    pub warmup: &'static str,
    /// Default window, if it has one.
    pub window: Option<&'static str>,
    /// What makes the ranks begin an iteration together.
    pub synchronisation: Option<&'static str>,
    /// The fewest ranks it runs with.
    pub min_ranks: usize,
    /// Who times.
    pub timer: Timer,
    /// The name of its distribution.
    pub histogram: &'static str,
    /// What its checks were, as the end of "12 ...".
    pub verified: &'static str,
    /// Makes one rank's part.
    pub build: for<'w> fn(&'w World, &Point) -> anyhow::Result<Box<dyn Kernel + 'w>>,
    /// The numbers of a point.
    pub metrics: fn(&Results, &Point) -> Vec<Metric>,
    /// The work that so many iterations do.
    pub work: fn(u64, &Point) -> Work,
}

/// Which message sizes a kernel takes.
#[derive(Debug, Clone, Copy)]
pub struct SizeRule {
    /// Default sweep, `MIN:MAX`.
    pub default: &'static str,
    /// Where the default sweep begins, for `-m MAX`, in bytes.
    pub default_min: usize,
    /// The smallest size it takes, in bytes.
    pub least: usize,
    /// Sizes must be multiples of this, in bytes.
    pub multiple: usize,
    /// The type of the elements, where it matters.
    pub element_type: Option<&'static str>,
    /// Message buffers that each rank holds.
    pub buffers: u64,
}

/// All kernels.
pub const KERNELS: &[Row] = &[
    Row {
        name: "latency",
        summary: "half round trip of a blocking ping-pong between ranks 0 and 1",
        definition: "Ranks 0 and 1 exchange messages of one size with MPI_Send and MPI_Recv in \
            turns (standard mode, MPI_UINT8_T, one page-aligned buffer for each direction). \
            latency_ns is half the time between two successive returns of rank 0's MPI_Recv: half \
            a round trip, one value per iteration. Further ranks wait in an MPI_Allreduce. The \
            column of OSU (osu_latency) is the mean, the time of the whole loop / 2n. Each batch \
            of iterations begins with one round trip that is not timed.",
        sizes: Some(SizeRule {
            default: "1:4M",
            default_min: 1,
            least: 0,
            multiple: 1,
            element_type: None,
            buffers: 2,
        }),
        iterations: "10000:1000",
        warmup: "100:10",
        window: None,
        synchronisation: None,
        min_ranks: 2,
        timer: Timer::RankZero { divisor: 2 },
        histogram: "latency_ns",
        verified: "messages compared byte by byte, before and after the timed iterations and of \
            the last of these",
        build: |world, point| PingPong::build(world, point),
        metrics: pt2pt::ping_pong_metrics,
        work: pt2pt::ping_pong_work,
    },
    Row {
        name: "bw",
        summary: "bandwidth of windows of messages from rank 0 to rank 1",
        definition: "Rank 0 posts a window of W MPI_Isend and waits for all (MPI_Waitall), rank 1 \
            posts as many MPI_Irecv into one buffer and answers with 1 byte when all have \
            arrived. bandwidth_bytes_per_s is size * W * n / t over all n windows, as in OSU \
            (osu_bw); messages_per_s is W * n / t; window_ns is the time of one window including \
            its answer. Further ranks wait in an MPI_Allreduce.",
        sizes: Some(SizeRule {
            default: "1:4M",
            default_min: 1,
            least: 1,
            multiple: 1,
            element_type: None,
            buffers: 2,
        }),
        iterations: "100:20",
        warmup: "10:2",
        window: Some("64"),
        synchronisation: None,
        min_ranks: 2,
        timer: Timer::RankZero { divisor: 1 },
        histogram: "window_ns",
        verified: "messages checked: the lengths of all in untimed windows and every byte of the \
            last of each window, before and after the timed iterations and of the last of these",
        build: |world, point| Stream::build(world, point),
        metrics: pt2pt::stream_metrics,
        work: pt2pt::stream_work,
    },
    Row {
        name: "allreduce",
        summary: "MPI_Allreduce, sum of f32 over all ranks",
        definition: "Every iteration begins with an MPI_Barrier; then each rank times its call of \
            MPI_Allreduce (MPI_SUM of MPI_FLOAT, as in IMB; OSU sums MPI_CHAR). collective_ns is \
            the largest of the ranks' times, one value per iteration. The columns of OSU \
            (osu_allreduce) are mean, min and max over ranks of each rank's mean, which hide what \
            differs between iterations.",
        sizes: Some(SizeRule {
            default: "4:1M",
            default_min: 4,
            least: 4,
            multiple: 4,
            element_type: Some("f32"),
            buffers: 2,
        }),
        iterations: "1000:100",
        warmup: "100:10",
        window: None,
        synchronisation: Some("MPI_Barrier"),
        min_ranks: 2,
        timer: Timer::SlowestRank,
        histogram: "collective_ns",
        verified: "sums compared exactly, before and after the timed iterations and of the last \
            of these",
        build: |world, point| Allreduce::build(world, point),
        metrics: collective::metrics,
        work: collective::work,
    },
    Row {
        name: "barrier",
        summary: "MPI_Barrier over all ranks",
        definition: "Every iteration begins with an MPI_Barrier that is not timed; then each rank \
            times a second one. collective_ns is the largest of the ranks' times, one value per \
            iteration. The columns of OSU (osu_barrier) are mean, min and max over ranks of each \
            rank's mean, which hide what differs between iterations.",
        sizes: None,
        iterations: "1000:1000",
        warmup: "100:100",
        window: None,
        synchronisation: Some("MPI_Barrier"),
        min_ranks: 2,
        timer: Timer::SlowestRank,
        histogram: "collective_ns",
        verified: "times a rank was kept in until the last one, delayed on purpose, had entered, \
            before and after the timed iterations",
        build: |world, point| Barrier::build(world, point),
        metrics: collective::metrics,
        work: collective::work,
    },
];

/// The kernel of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    KERNELS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{self, Sizes};

    #[test]
    fn names_are_unique_and_defaults_are_well_formed() {
        for (index, row) in KERNELS.iter().enumerate() {
            assert!(KERNELS[..index].iter().all(|other| other.name != row.name));
            assert!(spec::iterations(row.iterations).is_ok(), "{}", row.name);
            assert!(row.warmup.parse::<spec::Repeats>().is_ok(), "{}", row.name);
            assert!(row.window.is_none_or(|window| spec::window(window).is_ok()));
            if let Some(rule) = row.sizes {
                let sizes: Sizes = rule.default.parse().expect(row.name);
                assert_eq!(sizes.min, Some(rule.default_min));
                assert!(
                    rule.default_min.is_multiple_of(rule.multiple)
                        && rule.least.is_multiple_of(rule.multiple)
                );
            }
        }
    }
}
