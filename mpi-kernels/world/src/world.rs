//! The world of ranks: who is where, how all agree, and how words come to rank 0.
//!
//! Everything here communicates and is called by all ranks alike, outside of timed loops. MPI
//! itself aborts the job when a call fails or a process dies (`MPI_ERRORS_ARE_FATAL`, which is left
//! as it is); what remains are faults that one rank finds alone, and [`World::agree`] makes those
//! everybody's.

mod binding;
mod node;

pub use node::Node;

use crate::launcher;
use crate::progress::Progress;
use mpi::collective::SystemOperation;
use mpi::environment;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Root, Source};
use reports::model::{Fact, OBSERVED, Severity, Unavailable, Validity};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const TEXT_TAG: i32 = 4;

/// All ranks, seen from one of them.
pub struct World {
    program: &'static str,
    comm: SimpleCommunicator,
    rank: usize,
    nodes: Vec<Node>,
    /// The index in `nodes` of each rank's node.
    node_of: Vec<usize>,
    /// By rank.
    bindings: Vec<binding::Binding>,
    progress: Arc<Progress>,
}

impl World {
    /// Takes the communicator of all ranks of a program and learns which node each is on.
    #[must_use]
    pub fn of(comm: SimpleCommunicator, program: &'static str) -> Self {
        let own = node::Card::of_this_process();
        let mut cards = vec![0u8; node::CARD_BYTES * usize::try_from(comm.size()).unwrap_or(1)];
        comm.all_gather_into(&own.to_bytes()[..], &mut cards[..]);
        let cards: Vec<_> = cards
            .chunks_exact(node::CARD_BYTES)
            .map(node::Card::from_bytes)
            .collect();
        let (nodes, node_of) = node::group(&cards);
        Self {
            program,
            rank: usize::try_from(comm.rank()).unwrap_or(0),
            comm,
            nodes,
            node_of,
            bindings: cards.iter().map(|card| card.binding).collect(),
            progress: Arc::default(),
        }
    }

    /// The program's name, for messages.
    #[must_use]
    pub fn program(&self) -> &'static str {
        self.program
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

    /// How far this rank has come. Every communication of the world is a step.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The largest of each number over all ranks.
    #[must_use]
    pub fn max<const N: usize>(&self, own: [u64; N]) -> [u64; N] {
        self.progress.step();
        let mut largest = [0; N];
        self.comm
            .all_reduce_into(&own[..], &mut largest[..], SystemOperation::max());
        largest
    }

    /// The largest of each number over all ranks, for as many numbers as `own` has.
    pub fn max_into(&self, own: &[u64], largest: &mut [u64]) {
        self.progress.step();
        self.comm
            .all_reduce_into(own, largest, SystemOperation::max());
    }

    /// The sum over all ranks.
    #[must_use]
    pub fn sum(&self, own: u64) -> u64 {
        self.progress.step();
        let mut sum = [0];
        self.comm
            .all_reduce_into(&[own][..], &mut sum[..], SystemOperation::sum());
        sum[0]
    }

    /// Rank 0's number.
    #[must_use]
    pub fn of_root(&self, own: u8) -> u8 {
        self.progress.step();
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

    /// Makes sure that a text is the same on all ranks.
    ///
    /// # Errors
    /// The lowest rank's that has another one than rank 0, on all ranks.
    pub fn ensure_same(&self, what: &str, own: &str) -> anyhow::Result<()> {
        let of_root = self.broadcast_text(0, own.to_owned());
        self.agree(if own == of_root {
            Ok(())
        } else {
            let host = self.node_of(0).name();
            Err(anyhow::anyhow!(
                "{what} differ: here {own}; rank 0 on {host} has {of_root}"
            ))
        })
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
    pub fn broadcast_text(&self, root: usize, text: String) -> String {
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
        self.progress.step();
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

    /// Every rank's numbers, of which all have as many, on rank 0 and there in the order of ranks.
    pub fn gather_into(&self, own: &[u64], all: &mut Vec<u64>) {
        let root = self.comm.process_at_rank(0);
        if self.is_root() {
            all.resize(own.len() * self.ranks(), 0);
            root.gather_into_root(own, &mut all[..]);
        } else {
            root.gather_into(own);
        }
    }

    /// Every rank's few numbers, on rank 0 and there in the order of ranks; nothing elsewhere.
    #[must_use]
    pub fn gather<const N: usize>(&self, own: [u64; N]) -> Vec<[u64; N]> {
        self.progress.step();
        let mut all = Vec::new();
        self.gather_into(&own, &mut all);
        let ranks = all.chunks_exact(N.max(1));
        ranks
            .map(|numbers| std::array::from_fn(|index| numbers[index]))
            .collect()
    }

    /// Every rank's text, on rank 0 and there in the order of ranks; nothing elsewhere.
    #[must_use]
    pub fn gather_texts(&self, own: &str) -> Vec<String> {
        self.progress.step();
        if !self.is_root() {
            self.comm
                .process_at_rank(0)
                .send_with_tag(own.as_bytes(), TEXT_TAG);
            return Vec::new();
        }
        let others = (1..self.ranks()).map(|rank| {
            // Ranks come from a C int.
            let rank = self.comm.process_at_rank(rank as i32);
            let (bytes, _) = rank.receive_vec_with_tag::<u8>(TEXT_TAG);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        std::iter::once(own.to_owned()).chain(others).collect()
    }

    /// Waits until all ranks are here.
    pub fn barrier(&self) {
        self.progress.step();
        self.comm.barrier();
    }

    /// What the world is: the MPI library, its standard and thread level, each node's ranks, and
    /// the CPUs that these may use.
    #[must_use]
    pub fn facts(&self) -> Map<String, Value> {
        let library = json!(Fact::of(library().map(|text| in_short(&text))));
        let (major, minor) = environment::version();
        let by_host = |text: &dyn Fn(&Node) -> String| -> Value {
            let nodes = self.nodes.iter();
            let texts = nodes.map(|node| (node.name().to_owned(), json!(text(node))));
            Value::Object(texts.collect())
        };
        let hosts = by_host(&Node::ranks_text);
        let binding = by_host(&|node| binding::in_words(node.ranks(), &self.bindings));
        let level = format!("{:?}", environment::threading_support()).to_lowercase();
        [
            ("mpi_library", library),
            ("mpi_standard", json!(format!("{major}.{minor}"))),
            ("mpi_thread_level", json!(level)),
            ("launcher", json!(launcher::name())),
            ("ranks_on_host", hosts),
            ("binding", binding),
            // No setting: every job has ids of its own.
            (OBSERVED, json!({ "job": launcher::job() })),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }

    /// Flags every node that has more ranks than CPUs for them, and ranks that were bound to CPUs
    /// of others while their node has enough.
    pub fn flag_oversubscription(&self, validity: &mut Validity) {
        for node in self.nodes.iter().filter(|node| !node.is_oversubscribed()) {
            for crowd in binding::crowded(node.ranks(), &self.bindings) {
                let evidence = format!(
                    "{crowd} of {} wait for each other's time slices while other CPUs are idle: \
                     see to the launcher's binding (Open MPI: --report-bindings)",
                    node.name()
                );
                validity.flag(Severity::Degraded, "oversubscribed", evidence);
            }
        }
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

/// The MPI library's own words for itself.
///
/// # Errors
/// What it says instead.
pub fn library() -> Result<String, String> {
    match environment::library_version() {
        Ok(text) => Ok(text.trim_end_matches('\0').trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The library's text in one line: its name, version, date and device. MPICH's goes on with how it
/// was compiled, over two kilobytes.
fn in_short(library: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = library.lines().take(3).map(words).collect();
    lines.join("; ")
}

/// Begins the text of a fault that is a skip. No rank's own text begins so.
const UNAVAILABLE_MARK: &str = "\u{1}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_told_in_one_line() {
        let mpich = "MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7 2022\nMPICH Device:\tch4:ucx\nMPICH configure: --x";
        let short =
            "MPICH Version: 4.0.2; MPICH Release date: Thu Apr 7 2022; MPICH Device: ch4:ucx";
        assert_eq!(in_short(mpich), short);
        assert_eq!(
            in_short("Open MPI v4.1.4, ident: 4.1.4"),
            "Open MPI v4.1.4, ident: 4.1.4"
        );
    }
}
