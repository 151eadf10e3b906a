//! A mesh: all pairs of many servers measured among each other, by the order of one coordinator.
//!
//! The coordinator carries no data. It meets every server ([`coordinator`]), has it say what machine
//! it is on, and then goes through a [`schedule`], sending servers on errands ([`crate::errand`]) to
//! each other. What came of it ([`survey`]) becomes the same metrics, matrices and findings as those
//! of `mpi-kernels pairmatrix`. Servers are those of a list ([`hosts`]), of ranks under `mpirun`
//! (feature `mpi`), or, without either, a few inside this process.

pub mod command;
mod coordinator;
mod here;
pub mod hosts;
#[cfg(feature = "mpi")]
mod ranks;
mod report;
pub mod schedule;
mod survey;

use coordinator::Mesh;
use schedule::{Directions, Pattern};
use serde::Serialize;

/// The case's name.
pub const NAME: &str = "mesh";

/// One line for `list` and `--help`.
pub const SUMMARY: &str =
    "All pairs of many servers among each other: matrix, slow nodes and pairs";

/// What is measured; see [`reports::case::Entry::definition`].
pub const DEFINITION: &str = "Servers are sent to each other, one as the client and the other as the \
    server of an ordinary case: tcp_rr and tcp_stream, udp_rr and udp_stream, or fabric_pingpong and \
    fabric_stream. Pattern pairs: a tournament, rounds of disjoint pairs, n - 1 of them for n nodes (n \
    if n is odd); in each round first all pairs measure latency (half of the median round trip, the \
    same in both directions), then one direction, then the other, or both at once. A cell's bandwidth \
    is the median of ten slices of what the receiver counted. Who falls short of what the other pairs \
    let expect (median polish; pairmatrix of mpi-kernels judges alike) is named. bisection: half of the \
    nodes sends to the other half, n / 2 rounds; incast: each node in its turn receives from its next \
    --senders in the list; alltoall: in round r node i sends to node i + r, all at once. Those three add \
    up what the receivers of a round counted. An operation is a cell.";

/// What shapes a mesh's work: its parameters in the report.
#[derive(Debug, Clone, Serialize)]
pub struct Shape {
    /// Who is measured with whom.
    pub pattern: Pattern,
    /// What carries the data.
    pub transport: command::Transport,
    /// Whether a pair's directions take turns; of patterns that have a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Directions>,
    /// Most senders to one receiver; of an incast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senders: Option<usize>,
    /// How many nodes were asked for.
    pub nodes: usize,
    /// The measured window of each cell in seconds.
    pub duration_s: f64,
    /// Its warm-up in seconds.
    pub omit_s: f64,
    /// Connections of each stream.
    pub flows: u32,
    /// Bytes per send, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length_bytes: Option<u64>,
    /// The provider of libfabric, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}
