//! The world of ranks: who is where, how all agree, and how words come to rank 0.
//!
//! Everything here communicates and is called by all ranks alike, outside of timed loops. MPI
//! itself aborts the job when a call fails or a process dies (`MPI_ERRORS_ARE_FATAL`, which is left
//! as it is); what remains are faults that one rank finds alone, and [`World::agree`] makes those
//! everybody's.

mod node;

pub use node::Node;

use crate::merge::RankTotals;
use mpi::collective::SystemOperation;
use mpi::environment;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};
use reports::model::{Severity, Unavailable, Validity};
use serde_json::{Map, Value, json};

const TEXT_TAG: i32 = 4;

/// All ranks, seen from one of them.
pub struct World {
    comm: SimpleCommunicator,
    rank: usize,
    nodes: Vec<Node>,
    /// The index in `nodes` of each rank's node.
    node_of: Vec<usize>,
}

impl World {
    /// Takes the communicator of all ranks and learns which node each is on.
    #[must_use]
    pub fn of(comm: SimpleCommunicator) -> Self {
        let own = node::Card::of_this_process();
        let mut cards = vec![0u8; node::CARD_BYTES * usize::try_from(comm.size()).unwrap_or(1)];
        comm.all_gather_into(&own.to_bytes()[..], &mut cards[..]);
        let cards: Vec<_> = cards
            .chunks_exact(node::CARD_BYTES)
            .map(node::Card::from_bytes)
            .collect();
        let (nodes, node_of) = node::group(&cards);
        Self {
            rank: usize::try_from(comm.rank()).unwrap_or(0),
            comm,
            nodes,
            node_of,
        }
    }

    /// The communicator of all ranks.
    #[must_use]
    pub fn comm(&self) -> &SimpleCommunicator {
        &self.comm
    }

    /// This process's rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Whether this is the rank that writes the report.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.rank == 0
    }

    /// How many ranks there are.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.node_of.len()
    }

    /// The nodes, in the order of their lowest ranks.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node that a rank is on.
    #[must_use]
    pub fn node_of(&self, rank: usize) -> &Node {
        &self.nodes[self.node_of[rank]]
    }

    /// Whether this rank speaks for its node: it is the lowest there.
    #[must_use]
    pub fn leads_node(&self) -> bool {
        self.node_of(self.rank).leader() == self.rank
    }

    /// The largest of each number over all ranks.
    #[must_use]
    pub fn max<const N: usize>(&self, own: [u64; N]) -> [u64; N] {
        let mut largest = [0; N];
        self.comm
            .all_reduce_into(&own[..], &mut largest[..], SystemOperation::max());
        largest
    }

    /// The largest of each number over all ranks, for as many numbers as `own` has.
    pub fn max_into(&self, own: &[u64], largest: &mut [u64]) {
        self.comm
            .all_reduce_into(own, largest, SystemOperation::max());
    }

    /// The sum over all ranks.
    #[must_use]
    pub fn sum(&self, own: u64) -> u64 {
        let mut sum = [0];
        self.comm
            .all_reduce_into(&[own][..], &mut sum[..], SystemOperation::sum());
        sum[0]
    }

    /// Rank 0's number.
    #[must_use]
    pub fn of_root(&self, own: u8) -> u8 {
        let mut number = [own];
        self.comm.process_at_rank(0).broadcast_into(&mut number[..]);
        number[0]
    }

    /// One rank's result made everybody's: as it is if all succeeded, else the error of the lowest
    /// rank that failed, on all ranks.
    ///
    /// # Errors
    /// That rank's error with its rank and host; still [`Unavailable`] if it was that.
    pub fn agree<T>(&self, own: anyhow::Result<T>) -> anyhow::Result<T> {
        let ranks = self.ranks() as u64;
        // The lowest failed rank has the largest distance from the end; 0 is nobody's.
        let distance = match &own {
            Ok(_) => 0,
            Err(_) => ranks - self.rank as u64,
        };
        let [farthest] = self.max([distance]);
        if farthest == 0 {
            return own;
        }
        let failed = usize::try_from(ranks - farthest)?;
        let fault = own.err().map(|error| self.describe(&error));
        let fault = self.broadcast_text(failed, fault.unwrap_or_default());
        match fault.strip_prefix(UNAVAILABLE_MARK) {
            Some(reason) => Err(Unavailable(reason.to_owned()).into()),
            None => Err(anyhow::anyhow!(fault)),
        }
    }

    /// An error in words that still say whose it is and whether it is a skip.
    fn describe(&self, error: &anyhow::Error) -> String {
        let place = format!("rank {} on {}", self.rank, self.node_of(self.rank).name());
        match error.downcast_ref::<Unavailable>() {
            Some(Unavailable(reason)) => format!("{UNAVAILABLE_MARK}{place}: {reason}"),
            None => format!("{place}: {error:#}"),
        }
    }

    /// `root`'s text, on all ranks.
    fn broadcast_text(&self, root: usize, text: String) -> String {
        // Ranks come from a C int.
        let root = self.comm.process_at_rank(root as i32);
        let mut length = [text.len() as u64];
        root.broadcast_into(&mut length[..]);
        let mut bytes = text.into_bytes();
        bytes.resize(usize::try_from(length[0]).unwrap_or(0), 0);
        root.broadcast_into(&mut bytes[..]);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The text of each node's leader, on rank 0, in the order of the nodes; nothing elsewhere.
    /// `text` is called on leaders only.
    pub fn gather_from_nodes(&self, text: impl FnOnce() -> String) -> Vec<String> {
        if !self.leads_node() {
            return Vec::new();
        }
        let own = text();
        if !self.is_root() {
            self.comm
                .process_at_rank(0)
                .send_with_tag(own.as_bytes(), TEXT_TAG);
            return Vec::new();
        }
        let others = self.nodes[1..].iter().map(|node| {
            let leader = self.comm.process_at_rank(node.leader() as i32);
            let (bytes, _) = leader.receive_vec_with_tag::<u8>(TEXT_TAG);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        std::iter::once(own.clone()).chain(others).collect()
    }

    /// Every rank's totals, on rank 0; nothing elsewhere.
    #[must_use]
    pub fn gather_totals(&self, own: RankTotals) -> Vec<RankTotals> {
        let numbers = [own.sum_ns, own.slowest_count];
        let root = self.comm.process_at_rank(0);
        if !self.is_root() {
            root.gather_into(&numbers[..]);
            return Vec::new();
        }
        let mut all = vec![0u64; 2 * self.ranks()];
        root.gather_into_root(&numbers[..], &mut all[..]);
        all.chunks_exact(2)
            .map(|numbers| RankTotals {
                sum_ns: numbers[0],
                slowest_count: numbers[1],
            })
            .collect()
    }

    /// What the world is: the MPI library, its standard and thread level, and each node's ranks.
    #[must_use]
    pub fn facts(&self) -> Map<String, Value> {
        let library = match environment::library_version() {
            Ok(text) => json!(text.trim_end_matches('\0').trim()),
            Err(error) => json!({ "unavailable": error.to_string() }),
        };
        let (major, minor) = environment::version();
        let hosts: Map<String, Value> = self
            .nodes
            .iter()
            .map(|node| (node.name().to_owned(), json!(node.ranks_text())))
            .collect();
        let level = format!("{:?}", environment::threading_support()).to_lowercase();
        [
            ("mpi_library", library),
            ("mpi_standard", json!(format!("{major}.{minor}"))),
            ("mpi_thread_level", json!(level)),
            ("ranks_on_host", Value::Object(hosts)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    /// Flags every node that has more ranks than CPUs for them.
    pub fn flag_oversubscription(&self, validity: &mut Validity) {
        for node in self.nodes.iter().filter(|node| node.is_oversubscribed()) {
            let evidence = format!(
                "{} ranks share {} CPUs on {}: they wait for each other's time slices",
                node.ranks().len(),
                node.cpus(),
                node.name()
            );
            validity.flag(Severity::Degraded, "oversubscribed", evidence);
        }
    }
}

/// Begins the text of a fault that is a skip. No rank's own text begins so.
const UNAVAILABLE_MARK: &str = "\u{1}";
