//! From the command line to the exit code: the program as every rank runs it.

use crate::cli::{self, Request};
use crate::driver::Driver;
use crate::kernels::{self, Row};
use crate::launcher;
use crate::ledger::Ledger;
use crate::raw::Raw;
use crate::spec::{ClockSource, Point, Sweep};
use crate::watchdog::Watchdog;
use crate::world::World;
use mpi_world::beginning;
use mpi_world::job::{self, Done};
use reports::case;
use reports::host::Host;
use reports::matrix::placement;
use reports::matrix::topology::Topology;
use reports::measure::Clock;
use reports::model::{Benchmark, Case, Fact, Outcome, Severity};
use reports::program::{self as frame, EXIT_FAILED, OutputArgs, Session, Usage};
use serde_json::Value;
use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

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

/// Runs a sweep in a world of ranks. An error of the run is everybody's, and rank 0's to tell.
fn run(row: &Row, sweep: &Sweep, output: &OutputArgs) -> anyhow::Result<ExitCode> {
    if sweep.method.clock_source == ClockSource::Monotonic {
        // Nothing has read the clock yet, so this is in time.
        let _ = Clock::choose_kernel("asked for by --clock-source monotonic");
    }
    // MPI_THREAD_SINGLE, as the peers run: at MPI_THREAD_FUNNELED Open MPI 4.1 needs a quarter more
    // for a message of 8 bytes. The watchdog's thread is there, and never calls MPI.
    job::run(crate::PROGRAM, |world| run_in(world, row, sweep, output))
}

fn run_in(world: &World, row: &Row, sweep: &Sweep, output: &OutputArgs) -> anyhow::Result<Done> {
    world.ensure_same(
        "the programs or MPI libraries of the nodes",
        &beginning::build(crate::PROGRAM),
    )?;
    fits(world, row)?;
    delays(world, sweep)?;
    let points = points(world, row, sweep)?;
    let session = world.agree(Session::begin(crate::PROGRAM, seed(sweep)))?;
    let raw = world.agree(raw_file(world, sweep))?;
    world
        .progress()
        .begin("the fingerprints of the nodes".to_owned());
    let (hosts, missing) = beginning::hosts(world);
    let paths = network_paths(world, sweep, &hosts)?;
    let ledger = world.is_root().then(|| {
        let benchmarks = points.iter().map(|point| benchmark(row, point));
        let describe = Arc::new(move |case: &mut Case, hosts: &[Host]| {
            placement::describe(case, hosts, paths.as_deref());
        });
        let output = output.clone();
        let ledger = Ledger::open(crate::PROGRAM, session, hosts, describe, output, benchmarks);
        if !missing.is_empty() {
            let evidence = missing.join("; ");
            ledger.flag(Severity::Invalid, "fingerprint_missing", evidence);
        }
        Arc::new(ledger)
    });
    let watchdog = Watchdog::start(world, ledger.clone(), sweep.method.deadline)?;
    let mut driver = Driver::new(world, raw);
    measure(&mut driver, row, &points, ledger.as_deref());
    let samples = driver.finish();
    let code = job::conclude(&watchdog, ledger.as_deref());
    let code = ledger.and_then(|_| told(samples)).unwrap_or(code);
    Ok(job::end(world, watchdog, code))
}

/// The seed of what the kernel draws at random, if it does.
fn seed(sweep: &Sweep) -> Fact<u64> {
    let given = sweep.choices.iter().find(|(name, _)| name == "seed");
    match given.and_then(|(_, values)| values.first()?.as_u64()) {
        Some(seed) => Fact::Known(seed),
        None => Fact::unavailable("nothing in this kernel is random"),
    }
}

/// The network nodes above each host by the topology file, if one was given, on rank 0; nothing
/// elsewhere. A file that does not fit this run is everybody's error, before anything is measured.
fn network_paths(
    world: &World,
    sweep: &Sweep,
    hosts: &[Host],
) -> Result<Option<Vec<Vec<String>>>, Usage> {
    let Some(file) = &sweep.method.topology else {
        return Ok(None);
    };
    let read = || {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        Topology::parse(&text)?.paths_of(hosts)
    };
    let paths = world.is_root().then(read).transpose();
    let failed = world.of_root(u8::from(paths.is_err())) != 0;
    match paths {
        Err(why) => Err(Usage(format!("--topology {}: {why}", file.display()))),
        // Only rank 0's words are told.
        Ok(_) if failed => Err(Usage("rank 0 refused the topology file".to_owned())),
        Ok(paths) => Ok(paths),
    }
}

/// Refuses a world that the kernel cannot run in. One rank alone is another matter: it gets a
/// report that says what it cannot measure.
fn fits(world: &World, row: &Row) -> Result<(), Usage> {
    let (name, ranks) = (row.name, world.ranks());
    if ranks == 1 {
        return Ok(());
    }
    let refuse = |needed: usize, what: &str| {
        Err(Usage(format!(
            "{name} needs {what}, there are {ranks}: run it as `mpirun -n {needed} mpi-kernels \
             {name}`"
        )))
    };
    if ranks < row.min_ranks {
        return refuse(row.min_ranks, &format!("at least {} ranks", row.min_ranks));
    }
    if row.pairs && !ranks.is_multiple_of(2) {
        return refuse(ranks - 1, "an even number of ranks");
    }
    Ok(())
}

/// Refuses a delay of a rank that is not there.
fn delays(world: &World, sweep: &Sweep) -> Result<(), Usage> {
    match sweep.method.delay {
        Some(delay) if delay.rank >= world.ranks() => Err(Usage(format!(
            "--delay is for rank {}, and there are {}",
            delay.rank,
            world.ranks()
        ))),
        _ => Ok(()),
    }
}

/// The file for raw samples, on rank 0; on the others only whether there is to be one.
fn raw_file(world: &World, sweep: &Sweep) -> anyhow::Result<Option<Option<Raw>>> {
    match &sweep.method.raw {
        Some(path) if world.is_root() => Ok(Some(Some(Raw::create(path)?))),
        Some(_) => Ok(Some(None)),
        None => Ok(None),
    }
}

/// Tells an error here and now, because the other ranks wait for the code, which this is.
fn told(result: anyhow::Result<()>) -> Option<u8> {
    let error = result.err()?;
    eprintln!("{}: {error:#}", crate::PROGRAM);
    Some(EXIT_FAILED)
}

/// Measures every point of the sweep; rank 0 enters what came of them into its ledger.
fn measure(driver: &mut Driver<'_>, row: &Row, points: &[Point], ledger: Option<&Ledger>) {
    let world = driver.world();
    let enter = |outcome: Outcome| {
        if let Some(ledger) = ledger {
            ledger.enter(outcome);
        }
    };
    if world.ranks() < row.min_ranks {
        return enter(too_few_ranks(row));
    }
    for point in points {
        world.progress().begin(in_words(row, point));
        if driver.interrupted() {
            enter(Outcome::Skipped {
                reason: "interrupted before it began".to_owned(),
            });
            continue;
        }
        // Other ranks than 0 get no numbers.
        if let Some(result) = driver.measure(row, point).transpose() {
            enter(Outcome::of(result));
        }
    }
}

/// A point for a reader who wants to know where a run stands: `allreduce, 4096 bytes, type i32`.
fn in_words(row: &Row, point: &Point) -> String {
    let size = point.size_bytes.map(|size| format!(", {size} bytes"));
    let choices = point.choices.iter().map(|(name, value)| match value {
        Value::String(text) => format!(", {name} {text}"),
        other => format!(", {name} {other}"),
    });
    let choices: String = choices.collect();
    format!("{}{}{choices}", row.name, size.unwrap_or_default())
}

fn too_few_ranks(row: &Row) -> Outcome {
    let (name, needed) = (row.name, row.min_ranks);
    Outcome::Skipped {
        reason: format!(
            "{name} needs {needed} ranks, there is 1: run it as `mpirun -n {needed} mpi-kernels \
             {name}`"
        ),
    }
}

fn benchmark(row: &Row, point: &Point) -> Benchmark {
    let id = format!("{}/{}", crate::PROGRAM, row.name);
    Benchmark::new(id, row.definition, case::params(point))
}

/// The points of a sweep: every combination of choices, at each of its message sizes.
fn points(world: &World, row: &Row, sweep: &Sweep) -> anyhow::Result<Vec<Point>> {
    let method = &sweep.method;
    let mut points = Vec::new();
    for choices in sweep.combinations() {
        let sizes: Vec<Option<usize>> = match cli::sizes_of(row, sweep, choices.get("type"))? {
            Some(sizes) => sizes.into_iter().map(Some).collect(),
            None => vec![None],
        };
        points.extend(sizes.into_iter().map(|size| Point {
            size_bytes: size,
            choices: choices.clone(),
            iterations: sweep.iterations.of(size.unwrap_or(0)),
            warmup: sweep.warmup.of(size.unwrap_or(0)),
            window: sweep.window,
            synchronisation: row.synchronised.then_some(method.sync),
            clock: row.synchronised.then_some(method.clock),
            time_budget_s: method.time_budget.map(|budget| budget.as_secs_f64()),
            ci_width: method.ci_width,
            delay: method.delay.filter(|_| row.synchronised),
            ranks: world.ranks(),
            nodes: world.nodes().len(),
            spoil: method.spoil,
        }));
    }
    if world.ranks() >= row.min_ranks {
        for point in &points {
            kernels::check(row, point).map_err(Usage)?;
        }
    }
    Ok(points)
}
