//! Evidence of which way the bytes of a run went.
//!
//! An MPI library that finds no fast way takes a slow one and says nothing, and the number it yields
//! looks like any other. Three things are put side by side: what the library *claims* by what it has
//! selected and loaded ([`library`]), what network and RDMA devices of every node *counted* while a
//! point was measured ([`counters`]), and how many bytes *must* have moved. [`weigh`] judges whether
//! the claim holds; one that the counters contradict makes the numbers invalid.

mod counters;
mod library;
mod weigh;

use crate::kernel::Timer;
use crate::kernels::{self, Kind, Row};
use crate::spec::Point;
use crate::world::World;
use counters::Counters;
use library::Claim;
use reports::model::{Measurement, OBSERVED, Severity};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};
use weigh::{NodeMoved, Payload, Verdict};

/// How long counters that show too little are read again: the firmware of some RDMA devices updates
/// them once in a second.
const PATIENCE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(50);

/// What is known of the way before anything is measured.
#[derive(Debug)]
pub struct Transport {
    /// Each node's claim; on rank 0 only.
    claims: Vec<Claim>,
    /// Fast ways that a node has and its MPI library is told not to use, in words; likewise.
    barred: Vec<String>,
}

/// A node's part of what is known before.
#[derive(Debug, Serialize, Deserialize)]
struct OfNode {
    claim: Claim,
    barred: Option<String>,
}

impl Transport {
    /// Asks every node. All ranks call it.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let texts = world.gather_from_nodes(|| {
            let of_node = OfNode {
                claim: library::of_this_process(),
                barred: library::barred_here(),
            };
            // A struct of strings always serialises.
            serde_json::to_string(&of_node).unwrap_or_default()
        });
        let nodes = world.nodes().iter().zip(texts);
        let read = nodes.filter_map(|(node, text)| {
            let of_node: OfNode = serde_json::from_str(&text).ok()?;
            let barred = of_node.barred.map(|why| format!("{}: {why}", node.name()));
            Some((of_node.claim, barred))
        });
        let (claims, barred): (Vec<_>, Vec<_>) = read.unzip();
        Self {
            claims,
            barred: barred.into_iter().flatten().collect(),
        }
    }

    /// The claim of all nodes, if they agree.
    fn claim(&self) -> Claim {
        let first = self.claims.first().cloned().unwrap_or_default();
        match self.claims.iter().all(|claim| *claim == first) {
            true => first,
            false => Claim::default(),
        }
    }

    fn add_to(&self, measurement: &mut Measurement) {
        let claim = self.claim();
        let facts = json!({
            "selected": claim.selected,
            "within_nodes": claim.within_words,
            "between_nodes": claim.between_words,
        });
        measurement.facts.insert("transport".to_owned(), facts);
        let validity = &mut measurement.validity;
        if self.claims.iter().any(|other| *other != self.claims[0]) {
            let each = self.claims.iter().map(|claim| claim.selected.as_str());
            let evidence = format!(
                "the MPI libraries of the nodes selected different transports: {}",
                each.collect::<Vec<_>>().join("; ")
            );
            validity.flag(Severity::Degraded, "transports_differ", evidence);
        }
        if !self.barred.is_empty() {
            let evidence = self.barred.join("; ");
            validity.flag(Severity::Info, "transport_barred", evidence);
        }
    }
}

/// Counters at the beginning of a point.
pub struct Evidence<'w> {
    world: &'w World,
    /// On leaders only.
    before: Option<Counters>,
    /// What this rank's own sockets had sent.
    sockets: Option<u64>,
}

impl<'w> Evidence<'w> {
    /// Reads the counters. All ranks call it, outside of what is timed.
    #[must_use]
    pub fn before(world: &'w World) -> Self {
        Self {
            world,
            before: world.leads_node().then(Counters::read),
            sockets: counters::sent_by_own_sockets(),
        }
    }

    /// Reads them again and adds to rank 0's measurement what they say. All ranks call it.
    pub fn after(
        self,
        transport: &Transport,
        row: &Row,
        point: &Point,
        measurement: Option<Measurement>,
    ) -> Option<Measurement> {
        let world = self.world;
        let sockets = self.sockets_moved();
        let expected = point.size() as u64 * point.iterations;
        let texts = world.gather_from_nodes(|| {
            let moved = self.before.as_ref().map(|before| {
                let patience = world.nodes().len() > 1 && expected >= weigh::LEAST;
                moved_since(before, if patience { expected } else { 0 })
            });
            serde_json::to_string(&moved.unwrap_or_default()).unwrap_or_default()
        });
        let mut measurement = measurement?;
        let moved = world
            .nodes()
            .iter()
            .zip(texts)
            .map(|(node, text)| NodeMoved {
                node: node.name().to_owned(),
                grown: serde_json::from_str(&text).unwrap_or_default(),
            });
        let moved: Vec<NodeMoved> = moved.collect();
        let payload = payload(world, row, point, &measurement);
        let verdict = weigh::weigh(&transport.claim(), &payload, &moved, sockets);
        transport.add_to(&mut measurement);
        tell(&mut measurement, &verdict, &moved, sockets);
        Some(measurement)
    }

    /// What the sockets of all ranks sent meanwhile; `None` if some rank cannot tell.
    fn sockets_moved(&self) -> Option<u64> {
        let now = counters::sent_by_own_sockets();
        let moved = self.sockets.zip(now);
        let unknown = self.world.sum(u64::from(moved.is_none()));
        let sum = self
            .world
            .sum(moved.map_or(0, |(before, now)| now.saturating_sub(before)));
        (unknown == 0).then_some(sum)
    }
}

/// What moved on this node. While its RDMA devices show less than expected, and nothing else shows
/// more, they are given time.
fn moved_since(before: &Counters, expected: u64) -> Vec<counters::Grown> {
    let started = Instant::now();
    loop {
        let grown = before.grown(&Counters::read());
        let enough = |grown: &counters::Grown| grown.sent.max(grown.received) >= expected / 2;
        if !before.has_rdma() || grown.iter().any(enough) || started.elapsed() > PATIENCE {
            return grown;
        }
        std::thread::sleep(PAUSE);
    }
}

/// How many bytes must have moved, and between whom.
fn payload(world: &World, row: &Row, point: &Point, measurement: &Measurement) -> Payload {
    let work = measurement.work.known().copied().unwrap_or_default();
    let apart = world.nodes().len() > 1;
    match &row.kind {
        Kind::Whole(_) => Payload::Somewhere(work.bytes),
        Kind::Timed(_) if !apart => Payload::Within(work.bytes),
        Kind::Timed(timed) if timed.timer != Timer::SlowestRank && !row.pairs => {
            match world.node_of(0) == world.node_of(1) {
                true => Payload::Within(work.bytes),
                false => Payload::Between(work.bytes),
            }
        }
        // No node knows what another contributed before at least one message came over.
        Kind::Timed(_) if joins_all_nodes(row) => {
            Payload::Between(work.bytes.min(work.ops * point.size() as u64))
        }
        Kind::Timed(_) => Payload::Somewhere(work.bytes),
    }
}

/// Whether the result of every call depends on all nodes: so with collectives, but for those of
/// neighbours, who may all be on one node.
fn joins_all_nodes(row: &Row) -> bool {
    let collectives = kernels::FAMILIES
        .iter()
        .find(|family| family.title == kernels::COLLECTIVE);
    let among = |rows: &[Row]| rows.iter().any(|other| other.name == row.name);
    collectives.is_some_and(|family| among(family.rows)) && !row.name.starts_with("neighbo")
}

/// Puts the verdict into a measurement.
fn tell(
    measurement: &mut Measurement,
    verdict: &Verdict,
    moved: &[NodeMoved],
    sockets: Option<u64>,
) {
    let counters = moved.iter().map(|node| {
        let grown = node.grown.iter().map(|grown| {
            let counts = json!({"sent_bytes": grown.sent, "received_bytes": grown.received});
            (grown.place.clone(), counts)
        });
        let grown: Map<String, Value> = grown.collect();
        (node.node.clone(), Value::Object(grown))
    });
    let counters: Map<String, Value> = counters.collect();
    let sockets = match sockets {
        Some(bytes) => json!(bytes),
        None => json!({"unavailable": "a rank cannot read TCP_INFO of its sockets"}),
    };
    let observed = measurement
        .facts
        .entry(OBSERVED)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(observed) = observed {
        observed.insert("transport_proof".to_owned(), json!(verdict.in_words()));
        let counts = json!({"nodes": counters, "sent_by_sockets_of_the_job_bytes": sockets});
        observed.insert("transport_counters".to_owned(), counts);
    }
    if let Verdict::Contradicted(evidence) = verdict {
        let validity = &mut measurement.validity;
        let evidence = evidence.as_str();
        validity.flag(Severity::Invalid, "transport_contradicted", evidence);
    }
}
