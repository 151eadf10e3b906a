//! What every program of ranks does at its beginning: it makes sure that all ranks are of one
//! build, gathers the fingerprints of the nodes, and sees to it that a panic ends the whole job.

use crate::world::{self, Node, World};
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;
use reports::host::{self, Host};
use reports::program::{EXIT_FAILED, version};
use std::fs;
use std::panic;

/// Every node's fingerprint, on rank 0, and which are missing, in words; nothing elsewhere.
#[must_use]
pub fn hosts(world: &World) -> (Vec<Host>, Vec<String>) {
    let texts = world.gather_from_nodes(|| {
        // A fingerprint is what reports are made of: it always serialises.
        serde_json::to_string(&host::fingerprint()).unwrap_or_default()
    });
    let names = world.nodes().iter().map(Node::name);
    read_hosts(names.zip(texts.iter().map(String::as_str)))
}

/// Reads fingerprints. A node whose fingerprint cannot be read has one that says nothing.
fn read_hosts<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> (Vec<Host>, Vec<String>) {
    let mut missing = Vec::new();
    let hosts = texts.map(|(name, text)| {
        serde_json::from_str(text).unwrap_or_else(|error| {
            let reason = format!("the fingerprint of {name} cannot be read: {error}");
            let host = Host::unknown(name, &reason);
            missing.push(reason);
            host
        })
    });
    (hosts.collect(), missing)
}

/// What must be the same on all ranks for them to understand each other and for a number to be of
/// one thing: the program, by its version and length, and the MPI library.
#[must_use]
pub fn build(program: &str) -> String {
    let bytes = fs::metadata("/proc/self/exe").map_or(0, |file| file.len());
    let library = world::library().unwrap_or_else(|error| error);
    let library = library.lines().next().unwrap_or_default();
    let version = version();
    format!("{program} {version} of {bytes} bytes with {library}")
}

/// A rank that panics must not leave the others waiting: after the message the whole job ends.
pub fn abort_all_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tell(info);
        SimpleCommunicator::world().abort(i32::from(EXIT_FAILED));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_fingerprint_is_named_and_keeps_its_place() {
        let own = serde_json::to_string(&Host::unknown("a", "a test")).expect("it serialises");
        let texts = [("a", own.as_str()), ("b", ""), ("c", "{}")];
        let (hosts, missing) = read_hosts(texts.into_iter());
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(missing.len(), 2);
        assert!(missing[0].starts_with("the fingerprint of b cannot be read"));
    }
}
