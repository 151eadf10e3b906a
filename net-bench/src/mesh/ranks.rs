//! A mesh of the nodes of an MPI job. The lowest rank of each node runs a server, rank 0 coordinates,
//! and MPI is silent while they measure: ranks that wait in it would take the CPUs of those that
//! measure.

use super::command::{self, MeshArgs};
use super::coordinator::Mesh;
use super::hosts::Peer;
use super::schedule::Step;
use super::survey::Survey;
use super::{Shape, here, report};
use crate::PROGRAM;
use crate::control::Key;
use crate::server::Server;
use anyhow::Context;
use mpi::traits::{Communicator, CommunicatorCollectives};
use mpi_world::beginning;
use mpi_world::job::{self, Done};
use mpi_world::ledger::Ledger;
use mpi_world::watchdog::{Watchdog, own_addresses};
use mpi_world::world::World;
use reports::host::{self, Host};
use reports::matrix::placement;
use reports::matrix::topology::Topology;
use reports::model::{Case, Measurement, OBSERVED, Outcome, Severity, Unavailable};
use reports::program::{self, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a rank that waits for the others looks whether they are done.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// How often what there is so far is kept, for the report of a job that is ended.
const DRAFT_EVERY: Duration = Duration::from_secs(2);

/// Measures a mesh of the nodes of this job. An error is everybody's, and rank 0's to tell.
pub(super) fn run(args: &MeshArgs, topology: Option<&Topology>) -> anyhow::Result<ExitCode> {
    job::run(PROGRAM, |world| run_in(world, args, topology))
}

fn run_in(world: &World, args: &MeshArgs, topology: Option<&Topology>) -> anyhow::Result<Done> {
    world.ensure_same(
        "the programs or MPI libraries of the nodes",
        &beginning::build(PROGRAM),
    )?;
    if world.nodes().len() < 2 {
        let only = world.nodes()[0].name();
        return Err(Unavailable(format!(
            "all ranks are on {only}, and a mesh is of nodes: it takes two, or no launcher, for servers \
             of one process"
        ))
        .into());
    }
    let session = world.agree(command::begin())?;
    world
        .progress()
        .begin("the fingerprints of the nodes".to_owned());
    let (hosts, missing) = beginning::hosts(world);
    let (key, server) = server(world, args)?;
    let peers = peers(world, server.as_ref())?;
    let mesh = world.agree(args.mesh(peers, key))?;
    if args.dry_run {
        let printed = world.is_root().then(|| command::print_plan(&mesh));
        return printed
            .transpose()
            .map(|_| Done::unwatched(program::EXIT_MEASURED));
    }
    let paths = paths(world, topology, &hosts)?;
    let ledger = world.is_root().then(|| {
        let describe = Arc::new(move |case: &mut Case, hosts: &[Host]| {
            placement::describe(case, hosts, paths.as_deref());
        });
        let benchmark = [command::benchmark(&mesh.shape)];
        let output = args.output.clone();
        let ledger = Ledger::open(PROGRAM, session, hosts, describe, output, benchmark);
        if !missing.is_empty() {
            ledger.flag(Severity::Invalid, "fingerprint_missing", missing.join("; "));
        }
        Arc::new(ledger)
    });
    let deadline = Duration::from_secs_f64(args.deadline);
    let watchdog = Watchdog::start(world, ledger.clone(), deadline)?;
    world.progress().begin("the mesh".to_owned());
    let measured = serve_and_measure(world, &mesh, server.as_ref(), ledger.as_deref());
    let lost = has_lost(measured.as_ref());
    if let Some((ledger, measured)) = ledger.as_ref().zip(measured) {
        ledger.enter(Outcome::of(measured));
    }
    let code = job::conclude(&watchdog, ledger.as_deref());
    if lost {
        // It is known already that somebody does not answer: no need to wait for the watchdog.
        eprintln!("{PROGRAM}: the job is ended without those that do not answer");
        world.comm().abort(i32::from(code));
    }
    Ok(job::end(world, watchdog, code))
}

/// Serves on each node, coordinates on rank 0, and waits until all are done; the measurement is rank
/// 0's.
fn serve_and_measure(
    world: &World,
    mesh: &Mesh,
    server: Option<&Server>,
    ledger: Option<&Ledger>,
) -> Option<anyhow::Result<Measurement>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let serving = server.map(|server| {
            scope.spawn(move || server.serve(|| over.load(Ordering::Relaxed), &|_| ()))
        });
        let measured = ledger.map(|ledger| coordinate(world, mesh, ledger));
        if !has_lost(measured.as_ref()) {
            wait_for_all(world);
        }
        over.store(true, Ordering::Relaxed);
        let served = serving.map(|serving| {
            let joined = serving.join();
            joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        // A broken listener showed in the cells of its node, and has its reason here.
        if let Some(Err(error)) = served {
            eprintln!("{PROGRAM}: the server of this node: {error:#}");
        }
        measured
    })
}

/// Whether a node was lost on the way.
fn has_lost(measured: Option<&anyhow::Result<Measurement>>) -> bool {
    measured.is_some_and(|measured| {
        measured.as_ref().is_ok_and(|measurement| {
            let mut flags = measurement.validity.flags.iter();
            flags.any(|flag| flag.code == report::LOST_NODE)
        })
    })
}

fn coordinate(world: &World, mesh: &Mesh, ledger: &Ledger) -> anyhow::Result<Measurement> {
    let progress = world.progress();
    let visible = program::Progress::visible();
    let facts = facts(world);
    let drafted = Cell::new(None::<Instant>);
    let tell = |index: usize, steps: usize, step: &Step, survey: &Survey| {
        let words = format!("[{}/{steps}] {}", index + 1, command::in_words(step));
        if visible {
            eprintln!("{words}");
        }
        progress.say(words);
        let due = drafted.get().is_none_or(|at| at.elapsed() > DRAFT_EVERY);
        if survey.cells > 0 && due {
            drafted.set(Some(Instant::now()));
            let (shape, survey, facts) = (mesh.shape.clone(), survey.clone(), facts.clone());
            ledger.draft(Arc::new(move || complete(&shape, &survey, &facts)));
        }
    };
    let met = mesh.meet()?;
    let survey = mesh.go(met, &tell)?;
    Ok(complete(&mesh.shape, &survey, &facts))
}

/// What the world of ranks is, and how many of a node's ranks look on.
fn facts(world: &World) -> Map<String, Value> {
    let mut facts = world.facts();
    let idle = world.ranks() - world.nodes().len();
    if idle > 0 {
        let text = format!("{idle}: one rank of each node takes part, the others wait");
        facts.insert("idle_ranks".to_owned(), json!(text));
    }
    facts
}

fn complete(shape: &Shape, survey: &Survey, facts: &Map<String, Value>) -> Measurement {
    let mut measurement = report::measurement(shape, survey);
    for (name, value) in facts {
        match (measurement.facts.get_mut(name), value) {
            (Some(Value::Object(own)), Value::Object(more)) if name == OBSERVED => {
                own.extend(more.clone());
            }
            _ => {
                measurement.facts.insert(name.clone(), value.clone());
            }
        }
    }
    measurement
}

/// Waits until all ranks are here, without a CPU: MPI's own ways of waiting keep asking.
fn wait_for_all(world: &World) {
    let mut request = world.comm().immediate_barrier();
    while let Err(pending) = request.test() {
        request = pending;
        thread::sleep(LOOK_AROUND);
    }
}

/// This node's server, on leaders, with a key that rank 0 draws for this job.
fn server(world: &World, args: &MeshArgs) -> anyhow::Result<(Key, Option<Server>)> {
    let mut secret = [0; 32];
    let drawn = getrandom::fill(&mut secret);
    world.agree(drawn.map_err(|error| anyhow::anyhow!("random numbers: {error}")))?;
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = world.broadcast_text(0, secret);
    let key = Key::of_text(&secret)?;
    let ip = address(world, args)?;
    let bound = ip.map(|ip| {
        let options = here::options(key.clone(), host::fingerprint());
        Server::bind(SocketAddr::new(ip, 0), options)
    });
    let server = world.agree(bound.transpose())?;
    Ok((key, server))
}

/// Where the servers are, in the order of the nodes; all ranks know it.
fn peers(world: &World, server: Option<&Server>) -> anyhow::Result<Vec<Peer>> {
    let address = world.agree(server.map(Server::address).transpose())?;
    let texts = world.gather_from_nodes(|| address.map_or_else(String::new, |at| at.to_string()));
    let text = world.broadcast_text(0, texts.join(" "));
    let addresses = text.split(' ').zip(world.nodes());
    addresses
        .map(|(text, node)| {
            let address: SocketAddr = text
                .parse()
                .with_context(|| format!("{} told no address: {text:?}", node.name()))?;
            Ok(Peer {
                label: node.name().to_owned(),
                host: address.ip().to_string(),
                port: address.port(),
            })
        })
        .collect()
}

/// The network above each node by the topology file, on rank 0. A file of other nodes is everybody's
/// error, before anything is measured.
fn paths(
    world: &World,
    topology: Option<&Topology>,
    hosts: &[Host],
) -> anyhow::Result<Option<Vec<Vec<String>>>> {
    let root = topology.filter(|_| world.is_root());
    let paths = root.map(|topology| topology.paths_of(hosts)).transpose();
    let failed = world.of_root(u8::from(paths.is_err())) != 0;
    match paths {
        Err(fault) => Err(Usage(format!("--topology: {fault}")).into()),
        // Only rank 0's words are told.
        Ok(_) if failed => Err(Usage("rank 0 refused the topology file".to_owned()).into()),
        Ok(paths) => Ok(paths),
    }
}

/// A node's ways to rank 0.
#[derive(Debug, Serialize, Deserialize)]
struct Ways {
    /// From this node to each of rank 0's addresses: this node's own address on that way.
    own: Vec<Option<IpAddr>>,
}

/// The address of this node's server, on leaders: that of the interface that was asked for, or one on
/// the first of rank 0's networks on which every node has an address of its own. (Bridges for
/// containers have the same address everywhere, and lead nowhere.)
fn address(world: &World, args: &MeshArgs) -> anyhow::Result<Option<IpAddr>> {
    if let Some(name) = &args.interface {
        let found = world.leads_node().then(|| of_interface(name)).transpose();
        return world.agree(found);
    }
    let of_root: Vec<IpAddr> = own_addresses()
        .into_iter()
        .filter(|ip| !ip.is_loopback())
        .collect();
    // Made of addresses: it always serialises.
    let text = serde_json::to_string(&of_root).unwrap_or_default();
    let text = world.broadcast_text(0, text);
    let of_root: Vec<IpAddr> = serde_json::from_str(&text).context("rank 0's addresses")?;
    let ways = Ways {
        own: of_root.iter().map(|&ip| way_to(ip)).collect(),
    };
    let all = world.gather_from_nodes(|| serde_json::to_string(&ways).unwrap_or_default());
    let chosen = world.is_root().then(|| choose(&all, &of_root)).flatten();
    let text = world.broadcast_text(0, chosen.map_or_else(String::new, |n| n.to_string()));
    let chosen: usize = text.parse().map_err(|_| {
        Unavailable(format!(
            "no network of rank 0 ({of_root:?}) on which every node has an address of its own; name \
             the nodes' interface with --interface"
        ))
    })?;
    Ok(ways
        .own
        .get(chosen)
        .copied()
        .flatten()
        .filter(|_| world.leads_node()))
}

/// The first of rank 0's addresses towards which no two nodes have the same address of their own.
fn choose(all: &[String], of_root: &[IpAddr]) -> Option<usize> {
    let read = |text: &String| serde_json::from_str::<Ways>(text).ok();
    let all: Vec<Ways> = all.iter().map(read).collect::<Option<_>>()?;
    (0..of_root.len()).find(|&way| {
        let own: Option<BTreeSet<IpAddr>> = all
            .iter()
            .map(|node| node.own.get(way).copied().flatten())
            .collect();
        own.is_some_and(|own| own.len() == all.len())
    })
}

/// Which of this node's addresses the kernel would take on the way to another, without a packet. To
/// itself it is that address.
fn way_to(ip: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((ip, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback()).then_some(own)
}

/// The first address of an interface, IPv4 before IPv6.
fn of_interface(name: &str) -> anyhow::Result<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().context("cannot list the interfaces")?;
    let mut addresses: Vec<IpAddr> = interfaces
        .filter(|interface| interface.interface_name == name)
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
            v4.or(v6)
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    let first = addresses.first().copied();
    first.with_context(|| {
        format!("--interface {name}: this node has no such interface, or it has no address")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_on_which_two_nodes_have_the_same_address_is_none() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let of_root = [ip("172.17.0.1"), ip("10.0.0.1")];
        let node = |ways: [Option<&str>; 2]| {
            let own = ways.map(|way| way.map(ip)).into();
            serde_json::to_string(&Ways { own }).expect("it serialises")
        };
        let root = node([Some("172.17.0.1"), Some("10.0.0.1")]);
        let other = node([Some("172.17.0.1"), Some("10.0.0.2")]);
        assert_eq!(choose(&[root.clone(), other], &of_root), Some(1));
        let nowhere = node([Some("172.17.0.1"), None]);
        assert_eq!(choose(&[root, nowhere], &of_root), None);
    }
}
