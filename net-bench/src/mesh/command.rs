//! `net-bench mesh`: from a command line to a report.

use super::coordinator::{Mesh, test_of};
use super::hosts::{self, Peer};
use super::schedule::{self, Directions, Pattern, Step, What};
use super::survey::Survey;
use super::{DEFINITION, NAME, SUMMARY, Shape, here, report};
use crate::PROGRAM;
use crate::control::Key;
use crate::size;
use crate::spec::DEFAULT_PORT;
use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};
use reports::case;
use reports::host::{self, Host};
use reports::matrix::placement;
use reports::matrix::topology::Topology;
use reports::model::{Benchmark, Case, Fact, Measurement, Outcome, Unavailable};
use reports::program::ranks::{launched, refused, speaks};
use reports::program::{self, OutputArgs, Progress, Session, Usage};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Servers of a mesh that has no list of hosts.
const DEFAULT_NODES: usize = 4;

/// Most servers in one process.
const MAX_HERE: usize = 64;

/// Senders to one receiver where nobody says how many: with the coordinator they stay below what a
/// server takes by itself.
const DEFAULT_SENDERS: usize = 8;

/// Slices of a cell, of which the median is taken.
const SLICES: f64 = 10.0;

/// The least time of a cell in seconds, so that its slices are no shorter than what is allowed.
const LEAST_S: f64 = 0.1;
/// The longest.
const MOST_S: f64 = 3600.0;

/// What is said below the options.
const AFTER_HELP: &str = "Without --hosts and mpirun, --nodes servers of this process measure among \
    each other over loopback: that shows how it looks, not how fast a network is.\n\n\
    With --hosts each host runs `net-bench serve --bind ADDRESS --key-file FILE`, of the same build and \
    with the same key as here; the names of the list are those under which the servers know each other. \
    Under --pattern incast a server has --senders clients and one more at once: see its --max-clients.";

/// What carries the data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP: cells of tcp_rr and tcp_stream
    #[default]
    Tcp,
    /// UDP: cells of udp_rr and udp_stream
    Udp,
    /// libfabric: cells of fabric_pingpong and fabric_stream
    Fabric,
}

/// Options of `mesh`.
#[derive(Debug, Clone, Args)]
pub struct MeshArgs {
    /// File with the servers, a host or host:port to a line; # begins a comment
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    hosts: Option<PathBuf>,
    /// Servers of this process, where there is no list of hosts
    #[arg(long, value_name = "N", default_value_t = DEFAULT_NODES, conflicts_with = "hosts",
          help_heading = "Servers")]
    nodes: usize,
    /// Port of the servers whose line has none
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_PORT,
          requires = "hosts", value_parser = clap::value_parser!(u16).range(1..),
          help_heading = "Servers")]
    port: u16,
    /// File with the key that all servers hold [default: $NET_BENCH_KEY, else no key]
    #[arg(
        long,
        value_name = "FILE",
        requires = "hosts",
        help_heading = "Servers"
    )]
    key_file: Option<PathBuf>,
    /// Give a cell up when nothing moves for so many seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 5.0,
        help_heading = "Servers"
    )]
    timeout: f64,
    /// Under mpirun: the network between the nodes, by the name of each node's interface [default: the
    /// first of rank 0 from which all nodes are reached]
    #[cfg(feature = "mpi")]
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with = "hosts",
        help_heading = "Servers"
    )]
    pub(super) interface: Option<String>,
    /// Under mpirun: end the job when nobody gets on for so many seconds
    #[cfg(feature = "mpi")]
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300.0,
        conflicts_with = "hosts",
        help_heading = "Servers"
    )]
    pub(super) deadline: f64,
    /// What `aws ec2 describe-instance-topology` printed: the network above each node
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    topology: Option<PathBuf>,
    /// Who is measured with whom
    #[arg(long, value_enum, default_value_t, help_heading = "Load")]
    pattern: Pattern,
    /// Whether a pair's directions take turns [default: one]
    #[arg(long, value_enum, help_heading = "Load")]
    direction: Option<Directions>,
    /// Senders to each receiver of an incast [default: 8, or all others]
    #[arg(long, value_name = "N", help_heading = "Load")]
    senders: Option<usize>,
    /// What carries the data
    #[arg(long, value_enum, default_value_t, help_heading = "Load")]
    transport: Transport,
    /// libfabric's provider, such as tcp or efa [default: its first]
    #[arg(long, value_name = "NAME", help_heading = "Load")]
    provider: Option<String>,
    /// Measured window of each cell in seconds
    #[arg(
        short = 't',
        long,
        value_name = "SECONDS",
        default_value_t = 0.5,
        help_heading = "Load"
    )]
    time: f64,
    /// Warm-up of each cell in seconds
    #[arg(
        short = 'O',
        long,
        value_name = "SECONDS",
        default_value_t = 0.2,
        help_heading = "Load"
    )]
    omit: f64,
    /// Connections of each stream
    #[arg(
        short = 'P',
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Load"
    )]
    flows: u32,
    /// Bytes per send of streams; K, M, G are powers of 1024 [default: the case's]
    #[arg(short = 'l', long, value_name = "SIZE", value_parser = size::parse,
          help_heading = "Load")]
    length: Option<u64>,
    /// Print how many rounds there are and how long they take, and measure nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// The subcommand.
#[must_use]
pub fn command() -> Command {
    MeshArgs::augment_args(Command::new(NAME))
        .about(SUMMARY)
        .after_help(format!(
            "{AFTER_HELP}\n\nDefinition: {DEFINITION}\n\n{}",
            program::EXIT_CODES_HELP
        ))
}

/// Measures a mesh and puts the report where the user asked.
///
/// # Errors
/// [`Usage`], which names the option at fault; what made a report impossible.
pub fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let args = MeshArgs::from_arg_matches(matches)?;
    let checked = args.check().and_then(|()| args.output.check());
    let topology = checked.and_then(|()| args.read_topology());
    let topology = match topology {
        // All ranks find the same, and one of them says it.
        Err(error) if args.hosts.is_none() && !speaks() => {
            return Ok(refused(program::error_code(&error.into())));
        }
        topology => topology?,
    };
    if args.hosts.is_none() && launched() {
        return among_ranks(&args, topology.as_ref());
    }
    if let Some(file) = &args.hosts {
        if !speaks() {
            // One coordinator does it; the other ranks of a launcher have nothing to do.
            return Ok(ExitCode::SUCCESS);
        }
        let peers = read_hosts(file, args.port)?;
        let mesh = args.mesh(peers, Key::find(args.key_file.as_deref())?)?;
        return measure_listed(&args, &mesh, topology.as_ref());
    }
    args.measure_here(topology.as_ref())
}

#[cfg(feature = "mpi")]
use super::ranks::run as among_ranks;

/// Without MPI each process would take itself for the only one.
#[cfg(not(feature = "mpi"))]
fn among_ranks(_: &MeshArgs, _: Option<&Topology>) -> anyhow::Result<ExitCode> {
    if !speaks() {
        return Ok(refused(program::EXIT_UNAVAILABLE));
    }
    Err(Unavailable(format!(
        "{NAME} under a launcher: this build has no MPI; build it with `cargo build --release -p \
         {PROGRAM} --features mpi`, or start `net-bench serve` on each node and name them with --hosts"
    ))
    .into())
}

fn measure_listed(
    args: &MeshArgs,
    mesh: &Mesh,
    topology: Option<&Topology>,
) -> anyhow::Result<ExitCode> {
    if args.dry_run {
        print_plan(mesh)?;
        return Ok(ExitCode::SUCCESS);
    }
    let session = begin()?;
    let (case, hosts) = survey(mesh, topology)?;
    program::emit(&session.finish_with_hosts(hosts, vec![case]), &args.output)
}

/// Opens the frame of the report.
pub(super) fn begin() -> anyhow::Result<Session> {
    Session::begin(
        PROGRAM,
        Fact::unavailable("nothing in a mesh depends on a seed"),
    )
}

/// What a mesh is called in reports.
pub(super) fn benchmark(shape: &Shape) -> Benchmark {
    Benchmark::new(format!("{PROGRAM}/{NAME}"), DEFINITION, case::params(shape))
}

/// Measures, and gives the case with the hosts of its report.
fn survey(mesh: &Mesh, topology: Option<&Topology>) -> anyhow::Result<(Case, Vec<Host>)> {
    let met = match mesh.meet() {
        Ok(met) => met,
        // Where no servers were met, this host is the one that tried.
        Err(error) => {
            let hosts = vec![host::fingerprint()];
            return Ok((case_of(mesh, Err(error), &hosts, None), hosts));
        }
    };
    let hosts = report::hosts(mesh, &met);
    let paths = topology.map(|topology| paths_of(topology, mesh, &met));
    let paths = paths.transpose()?;
    let visible = Progress::visible();
    let tell = |index: usize, steps: usize, step: &Step, _: &Survey| {
        if visible {
            // Progress is a courtesy: a closed terminal must not end the measurement.
            let _ = writeln!(io::stderr(), "[{}/{steps}] {}", index + 1, in_words(step));
        }
    };
    let gone = mesh.go(met, &tell);
    let result = gone.map(|survey| report::measurement(&mesh.shape, &survey));
    Ok((case_of(mesh, result, &hosts, paths.as_deref()), hosts))
}

fn case_of(
    mesh: &Mesh,
    result: anyhow::Result<Measurement>,
    hosts: &[Host],
    paths: Option<&[Vec<String>]>,
) -> Case {
    let mut case = Case {
        benchmark: benchmark(&mesh.shape),
        outcome: Outcome::of(result),
    };
    placement::describe(&mut case, hosts, paths);
    case
}

/// The network above each server of the list; above those that were not met there is none.
///
/// # Errors
/// [`Usage`]: the topology is of other nodes.
pub(super) fn paths_of(
    topology: &Topology,
    mesh: &Mesh,
    met: &Survey,
) -> anyhow::Result<Vec<Vec<String>>> {
    let hosts: Vec<Host> = met.nodes.iter().map(|node| node.host.clone()).collect();
    let known = topology.paths_of(&hosts);
    let known = known.map_err(|fault| Usage(format!("--topology: {fault}")))?;
    let mut paths = vec![Vec::new(); mesh.peers.len()];
    for (node, path) in met.nodes.iter().zip(known) {
        paths[node.number] = path;
    }
    Ok(paths)
}

/// `round 3, bandwidth, 8 flows`.
pub(super) fn in_words(step: &Step) -> String {
    let what = match step.what {
        What::Latency => "latency",
        What::Bandwidth => "bandwidth",
    };
    format!(
        "round {}, {what}, {} flows",
        step.round + 1,
        step.flows.len()
    )
}

/// What is to come, without a word to the servers.
pub(super) fn print_plan(mesh: &Mesh) -> anyhow::Result<()> {
    let steps = mesh.steps(mesh.peers.len());
    let flows: usize = steps.iter().map(|step| step.flows.len()).sum();
    let most = steps.iter().map(|step| step.flows.len()).max().unwrap_or(0);
    program::print(&format!(
        "{} nodes: {} rounds of {} steps, {flows} cells, at most {most} at once; {:.1} s, and what \
         lies between the steps\n",
        mesh.peers.len(),
        schedule::rounds(&steps),
        steps.len(),
        mesh.seconds(&steps)
    ))
}

fn read_hosts(file: &Path, port: u16) -> anyhow::Result<Vec<Peer>> {
    let fault = |what: String| Usage(format!("--hosts {}: {what}", file.display()));
    let mut text = Vec::new();
    File::open(file)
        .and_then(|open| open.take(hosts::MAX_BYTES + 1).read_to_end(&mut text))
        .map_err(|error| fault(error.to_string()))?;
    if text.len() as u64 > hosts::MAX_BYTES {
        return Err(fault(format!(
            "more than {} bytes is no list of hosts",
            hosts::MAX_BYTES
        ))
        .into());
    }
    let text = String::from_utf8(text).map_err(|_| fault("it is no text (UTF-8)".to_owned()))?;
    Ok(hosts::parse(&text, port).map_err(fault)?)
}

impl MeshArgs {
    fn check(&self) -> Result<(), Usage> {
        #[cfg(feature = "mpi")]
        if !(1.0..=86_400.0).contains(&self.deadline) {
            return Err(Usage("--deadline: from 1 s to a day".to_owned()));
        }
        let usage = |text: &str| Err(Usage(text.to_owned()));
        if !(LEAST_S..=MOST_S).contains(&self.time) {
            return usage("--time: a cell takes from 0.1 to 3600 seconds");
        }
        if !(0.0..=MOST_S).contains(&self.omit) {
            return usage("--omit: a warm-up takes from 0 to 3600 seconds");
        }
        if !(2..=MAX_HERE).contains(&self.nodes) {
            return usage("--nodes: from 2 to 64 servers in this process; --hosts names others");
        }
        let incast = self.pattern == Pattern::Incast;
        if self.senders.is_some() && !incast {
            return usage("--senders belongs to --pattern incast");
        }
        if self.senders == Some(0) {
            return usage("--senders: at least one node sends");
        }
        if self.direction.is_some() && (incast || self.pattern == Pattern::Alltoall) {
            return usage(
                "--direction belongs to --pattern pairs and bisection: in an incast one node \
                 receives, in an all-to-all everybody does both",
            );
        }
        if self.provider.is_some() && self.transport != Transport::Fabric {
            return usage("--provider belongs to --transport fabric");
        }
        if self.transport == Transport::Fabric && self.flows != 1 {
            return usage("--flows: a cell of libfabric has one endpoint on each side");
        }
        Ok(())
    }

    fn read_topology(&self) -> Result<Option<Topology>, Usage> {
        let Some(file) = &self.topology else {
            return Ok(None);
        };
        let fault = |what: String| Usage(format!("--topology {}: {what}", file.display()));
        let text = fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        Ok(Some(Topology::parse(&text).map_err(fault)?))
    }

    /// Servers of this process.
    fn measure_here(&self, topology: Option<&Topology>) -> anyhow::Result<ExitCode> {
        if self.transport == Transport::Fabric {
            return Err(Unavailable(
                "--transport fabric among servers of this process: providers of libfabric share \
                 state within one; start a `net-bench serve` for each and name them with --hosts"
                    .to_owned(),
            )
            .into());
        }
        let key = Key::random()?;
        let host = host::fingerprint();
        here::among(self.nodes, &key, &host, |peers| {
            let mesh = self.mesh(peers, key.clone())?;
            measure_listed(self, &mesh, topology)
        })
    }

    /// The mesh of these options among these servers.
    pub(super) fn mesh(&self, peers: Vec<Peer>, key: Key) -> anyhow::Result<Mesh> {
        let has_direction = matches!(self.pattern, Pattern::Pairs | Pattern::Bisection);
        let incast = self.pattern == Pattern::Incast;
        let senders = self.senders.unwrap_or(DEFAULT_SENDERS);
        let shape = Shape {
            pattern: self.pattern,
            transport: self.transport,
            direction: has_direction.then(|| self.direction.unwrap_or_default()),
            senders: incast.then(|| senders.min(peers.len() - 1)),
            nodes: peers.len(),
            duration_s: self.time,
            omit_s: self.omit,
            flows: self.flows,
            length_bytes: self.length,
            provider: self.provider.clone(),
        };
        let (latency, bandwidth) = match self.transport {
            Transport::Tcp => ("tcp_rr", "tcp_stream"),
            Transport::Udp => ("udp_rr", "udp_stream"),
            Transport::Fabric => ("fabric_pingpong", "fabric_stream"),
        };
        Ok(Mesh {
            peers,
            key,
            shape,
            latency: test_of(latency, &self.options(false))?,
            bandwidth: test_of(bandwidth, &self.options(true))?,
            timeout_s: self.timeout,
        })
    }

    /// The options of a cell's case.
    fn options(&self, stream: bool) -> Vec<String> {
        let mut options = vec![
            format!("--time={}", self.time),
            format!("--omit={}", self.omit),
            format!("--interval={}", self.time / SLICES),
            format!("--timeout={}", self.timeout),
        ];
        let fabric = self.transport == Transport::Fabric;
        options.extend(
            self.provider
                .iter()
                .map(|name| format!("--provider={name}")),
        );
        if stream {
            if !fabric {
                options.push(format!("--flows={}", self.flows));
            }
            let name = if fabric { "size" } else { "length" };
            options.extend(self.length.map(|bytes| format!("--{name}={bytes}")));
        }
        options
    }
}
