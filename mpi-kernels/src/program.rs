//! From the command line to the exit code: the program as every rank runs it.

use crate::cli::{self, Request};
use crate::driver::Driver;
use crate::kernels::Row;
use crate::launcher;
use crate::spec::{Point, Sweep};
use crate::world::{Node, World};
use anyhow::Context;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;
use reports::case;
use reports::host::{self, Host};
use reports::model::{Benchmark, Case, Fact, Outcome};
use reports::program::{self as frame, EXIT_FAILED, OutputArgs, Session, Usage};
use std::panic;
use std::process::ExitCode;

/// Runs the program and returns what the process exits with; the same on all ranks.
#[must_use]
pub fn main() -> ExitCode {
    let parsed = cli::command()
        .try_get_matches()
        .map_err(Refusal::Clap)
        .and_then(|matches| cli::request(&matches).map_err(Refusal::Sense));
    match parsed {
        Ok(Request::List) if launcher::speaks() => frame::main(crate::PROGRAM, || {
            frame::print(&cli::list())?;
            Ok(ExitCode::SUCCESS)
        }),
        Ok(Request::List) => launcher::leave_silently(0),
        Ok(Request::Run { row, sweep, output }) => {
            frame::main(crate::PROGRAM, || run(row, &sweep, &output))
        }
        Err(refusal) => refusal.answer(),
    }
}

/// A command line that leads to no run: wrong, or a call for help.
enum Refusal {
    Clap(clap::Error),
    Sense(anyhow::Error),
}

impl Refusal {
    fn answer(self) -> ExitCode {
        let code = match &self {
            Self::Clap(error) => u8::try_from(error.exit_code()).unwrap_or(EXIT_FAILED),
            Self::Sense(error) if error.is::<Usage>() => frame::EXIT_USAGE,
            Self::Sense(_) => EXIT_FAILED,
        };
        if !launcher::speaks() {
            return launcher::leave_silently(code);
        }
        match self {
            Self::Clap(error) => {
                // A closed standard error is no reason to fail otherwise.
                let _ = error.print();
                ExitCode::from(code)
            }
            Self::Sense(error) => frame::main(crate::PROGRAM, || Err(error)),
        }
    }
}

/// Runs a sweep in a world of ranks. An error is everybody's, and rank 0's to tell.
fn run(row: &Row, sweep: &Sweep, output: &OutputArgs) -> anyhow::Result<ExitCode> {
    let universe = mpi::initialize().context("MPI is initialised already")?;
    abort_all_on_panic();
    let world = World::of(universe.world());
    let code = match run_in(&world, row, sweep, output) {
        Err(error) if world.is_root() => return Err(error),
        Err(_) => EXIT_FAILED,
        Ok(code) => code,
    };
    Ok(ExitCode::from(code))
}

fn run_in(world: &World, row: &Row, sweep: &Sweep, output: &OutputArgs) -> anyhow::Result<u8> {
    let seed = Fact::unavailable("nothing in these kernels is random");
    let session = world.agree(Session::begin(crate::PROGRAM, seed))?;
    let cases = measure(world, row, sweep);
    let hosts = hosts(world)?;
    // The code is rank 0's, because only it knows what became of the report.
    let code = if world.is_root() {
        conclude(session, hosts, cases, output)
    } else {
        0
    };
    Ok(world.of_root(code))
}

/// Writes and prints the report. An error is told here and now: the other ranks wait for the code.
fn conclude(session: Session, hosts: Vec<Host>, cases: Vec<Case>, output: &OutputArgs) -> u8 {
    let report = session.finish_with_hosts(hosts, cases);
    match frame::emit(&report, output) {
        Ok(_) => frame::exit_code(&report.cases),
        Err(error) => {
            eprintln!("{}: {error:#}", crate::PROGRAM);
            EXIT_FAILED
        }
    }
}

/// Measures every point of the sweep; rank 0 gets the cases with their numbers.
fn measure(world: &World, row: &Row, sweep: &Sweep) -> Vec<Case> {
    let points = points(world, row, sweep);
    if world.ranks() < row.min_ranks {
        return vec![case_of(row, &points[0], too_few_ranks(world, row))];
    }
    let mut driver = Driver::new(world);
    let mut cases = Vec::new();
    for point in points {
        let outcome = if driver.interrupted() {
            Outcome::Skipped {
                reason: "interrupted before it began".to_owned(),
            }
        } else {
            match driver.measure(row, &point).transpose() {
                Some(result) => Outcome::of(result),
                // Measured, and rank 0 has the numbers.
                None => continue,
            }
        };
        cases.push(case_of(row, &point, outcome));
    }
    cases
}

fn too_few_ranks(world: &World, row: &Row) -> Outcome {
    let (name, needed, ranks) = (row.name, row.min_ranks, world.ranks());
    let there = match ranks {
        1 => "there is 1".to_owned(),
        ranks => format!("there are {ranks}"),
    };
    Outcome::Skipped {
        reason: format!(
            "{name} needs {needed} ranks, {there}: run it as `mpirun -n {needed} mpi-kernels {name}`"
        ),
    }
}

fn case_of(row: &Row, point: &Point, outcome: Outcome) -> Case {
    let id = format!("{}/{}", crate::PROGRAM, row.name);
    Case {
        benchmark: Benchmark::new(id, row.definition, case::params(point)),
        outcome,
    }
}

/// The points of a sweep: one per message size, or a single one without.
fn points(world: &World, row: &Row, sweep: &Sweep) -> Vec<Point> {
    let sizes: Vec<Option<usize>> = match &sweep.sizes {
        Some(sizes) => sizes.iter().copied().map(Some).collect(),
        None => vec![None],
    };
    let point = |size: Option<usize>| Point {
        size_bytes: size,
        element_type: row.sizes.and_then(|rule| rule.element_type),
        iterations: sweep.iterations.of(size.unwrap_or(0)),
        warmup: sweep.warmup.of(size.unwrap_or(0)),
        window: sweep.window,
        synchronisation: row.synchronisation,
        ranks: world.ranks(),
        nodes: world.nodes().len(),
    };
    sizes.into_iter().map(point).collect()
}

/// Every node's fingerprint, on rank 0; nothing elsewhere.
fn hosts(world: &World) -> anyhow::Result<Vec<Host>> {
    let texts = world.gather_from_nodes(|| {
        // A fingerprint is what reports are made of: it always serialises.
        serde_json::to_string(&host::fingerprint()).unwrap_or_default()
    });
    let read = |(text, node): (&String, &Node)| {
        serde_json::from_str(text).with_context(|| {
            let name = node.name();
            format!("cannot read the fingerprint of {name}: is this the same build there?")
        })
    };
    let hosts = texts.iter().zip(world.nodes()).map(read).collect();
    world.agree(hosts)
}

/// A rank that panics must not leave the others waiting: after the message the whole job ends.
fn abort_all_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tell(info);
        SimpleCommunicator::world().abort(i32::from(EXIT_FAILED));
    }));
}
