//! `reports screen`.

use super::load;
use anyhow::Context;
use clap::Args;
use reports::cluster::{Cluster, Expected, lines_of, merge, read_hostfile};
use reports::model;
use reports::program::{self, Usage};
use reports::render::html::Page;
use reports::render::progress::SuiteProgress;
use reports::render::terminal::Style;
use reports::render::{self, text::visible_lines};
use reports::screen::reach::{DEFAULT_PROBE, Probe};
use reports::screen::{DEFAULT_RULES, Rules, Screening, judge};
use reports::suite::{self, Asked, Plan, Session, Suite, Verdict};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The suite where none is given.
const DEFAULT_SUITE: &str = include_str!("../../../scripts/suites/screen.toml");

/// The variables by which MPI launchers find their host file: Open MPI 4 and 5, MPICH, Intel MPI.
const HOSTFILE_VARIABLES: [&str; 4] = [
    "OMPI_MCA_orte_default_hostfile",
    "PRTE_MCA_prte_default_hostfile",
    "HYDRA_HOST_FILE",
    "I_MPI_HYDRA_HOST_FILE",
];

const HELP: &str = "Runs a suite over the nodes and judges each against the others. Start it on one \
    node of the job, in a folder that all nodes share. With --hostfile every host is asked first \
    whether it answers, and the suite runs on those that do; without, the launcher decides \
    (mpirun knows what Slurm gave it). Of a session's or merged folder nothing is run: it is judged \
    again.\n\
    Exit codes, for a job's prolog: 0 every node is good; 1 the screening failed; 2 wrong usage; 3 \
    nothing could be judged, or not every node; 5 some node is slow, or a link between two; 6 some \
    node does not answer or something fails on it.\n\n\
    The rules, where --rules gives none:\n\n";

/// The text after the options.
pub(crate) fn help() -> String {
    let rules = DEFAULT_RULES.lines().map(|line| format!("  {line}\n"));
    format!("{HELP}{}", rules.collect::<String>())
}

#[derive(Args)]
pub(crate) struct ScreenArgs {
    /// A suite (TOML), or the folder of a session or of `reports merge` [default: the suite of
    /// scripts/suites/screen.toml]
    #[arg(value_name = "SUITE.toml|DIR")]
    what: Option<PathBuf>,
    /// What counts as slow, a TOML file
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// The nodes: a host name or address a line, as mpirun takes it
    #[arg(long, value_name = "FILE")]
    hostfile: Option<PathBuf>,
    /// So many nodes there ought to be
    #[arg(long, value_name = "N", conflicts_with = "hostfile",
        value_parser = clap::value_parser!(u32).range(1..=65536))]
    nodes: Option<u32>,
    /// The command that asks a host of --hostfile whether it answers
    #[arg(long, value_name = "COMMAND", default_value = DEFAULT_PROBE)]
    probe: Probe,
    /// Folder for the session [default: a new one in screen-results]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run only these rows, by name or quoted pattern
    #[arg(long = "row", value_name = "NAME")]
    rows: Vec<String>,
    /// Print the verdicts as JSON
    #[arg(long)]
    json: bool,
}

/// The verdicts, for programs.
#[derive(Serialize)]
struct Document<'a> {
    folder: &'a Path,
    exit_code: u8,
    #[serde(flatten)]
    screening: &'a Screening,
}

/// Hosts that do not answer, and why.
type Unreachable = Vec<(String, String)>;

pub(crate) fn run(args: &ScreenArgs) -> anyhow::Result<ExitCode> {
    let rules = match &args.rules {
        Some(path) => Rules::load(path).map_err(|error| Usage(error.to_string()))?,
        // A test reads them too.
        None => Rules::parse(DEFAULT_RULES).map_err(Usage)?,
    };
    let hosts = match &args.hostfile {
        Some(path) => Some(read_hostfile(path).map_err(|error| Usage(error.to_string()))?),
        None => None,
    };
    let expected = match (&hosts, args.nodes) {
        (Some(hosts), _) => Expected::Hosts(hosts.clone()),
        (None, Some(nodes)) => Expected::Count(nodes as usize),
        (None, None) => Expected::AsReported,
    };
    match &args.what {
        Some(folder) if folder.is_dir() => {
            if args.out.is_some() || !args.rows.is_empty() {
                let fault = "--out and --row: a folder is judged, nothing is run; give a suite";
                return Err(Usage(fault.to_owned()).into());
            }
            let (reports, _) = load(std::slice::from_ref(folder))?;
            let expected = match (expected, merge::Record::load(folder).map_err(Usage)?) {
                (Expected::AsReported, Some(record)) => record.expected,
                (expected, _) => expected,
            };
            let screening = judge(&reports, &rules, &expected.named(&reports), &[]);
            let screening = screening.map_err(|error| Usage(error.to_string()))?;
            conclude(args, &screening, folder)
        }
        _ => measure(args, &rules, hosts.as_deref(), expected),
    }
}

/// Runs the suite on the nodes that answer, and judges.
fn measure(
    args: &ScreenArgs,
    rules: &Rules,
    hosts: Option<&[String]>,
    expected: Expected,
) -> anyhow::Result<ExitCode> {
    let (suite, text) = match &args.what {
        Some(path) => Suite::load(path).map_err(|error| Usage(error.to_string()))?,
        None => {
            let text = DEFAULT_SUITE.to_owned();
            (Suite::parse(&text).map_err(Usage)?, text)
        }
    };
    let asked = Asked {
        rows: args.rows.clone(),
        ..Asked::default()
    };
    let seed = suite.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut suite = asked.of(suite).map_err(Usage)?;
    asked.select(&mut Plan::new(&suite, seed)).map_err(Usage)?;
    reports::measure::install_signal_handlers()
        .context("cannot set handlers for SIGINT, SIGTERM")?;
    let out = args.out.clone().unwrap_or_else(new_folder);
    let session = Session::create(&out, &text, seed, asked.clone());
    let session = session.map_err(|error| Usage(error.to_string()))?;
    let unreachable = reach(args, hosts, &mut suite, &out)?;
    if hosts.is_some_and(|hosts| hosts.len() == unreachable.len()) {
        let screening = judge(&[], rules, &expected, &unreachable);
        return conclude(args, &screening.map_err(|e| Usage(e.to_string()))?, &out);
    }
    let mut plan = Plan::new(&suite, seed);
    asked.select(&mut plan).map_err(Usage)?;
    let mut progress = SuiteProgress::new(plan.order.len());
    let ran = suite::run(&suite, &plan, &session, &mut progress);
    progress.finish();
    let ran = ran?;
    if let Verdict::Interrupted { finished, planned } = ran.verdict {
        anyhow::bail!(
            "interrupted: {finished} of {planned} runs are kept in {0}; reports screen {0} judges \
             them",
            out.display()
        );
    }
    let mut reports = ran.reports;
    let expected = expected.named(&reports);
    let cluster = Cluster::of(&reports, &expected);
    cluster.flag(&mut reports);
    let screening = judge(&reports, rules, &expected, &unreachable);
    let screening = screening.map_err(|error| Usage(error.to_string()))?;
    let page = Page::of_runs(&suite.name, &reports).with_cluster(&cluster, Some(&screening));
    model::write(&out.join("report.html"), &page.render()).context("cannot write the page")?;
    conclude(args, &screening, &out)
}

/// Asks every host whether it answers, and gives those that do to the launchers.
fn reach(
    args: &ScreenArgs,
    hosts: Option<&[String]>,
    suite: &mut Suite,
    out: &Path,
) -> anyhow::Result<Unreachable> {
    let (Some(hosts), Some(hostfile)) = (hosts, &args.hostfile) else {
        return Ok(Vec::new());
    };
    let unreachable = args.probe.unreachable(hosts);
    anyhow::ensure!(!reports::measure::stop_requested(), "interrupted");
    let dead = |host: &&String| !unreachable.iter().any(|(known, _)| known == *host);
    let alive: Vec<String> = hosts.iter().filter(dead).cloned().collect();
    if alive.is_empty() {
        return Ok(unreachable);
    }
    let lines = lines_of(hostfile, &alive).context("cannot read the host file again")?;
    let file = std::path::absolute(out)?.join("hosts");
    model::write(&file, &lines).context("cannot write the hosts that answer")?;
    for name in HOSTFILE_VARIABLES {
        let file = file.to_string_lossy().into_owned();
        suite.env.insert(name.to_owned(), file);
    }
    Ok(unreachable)
}

/// Says what it came to.
fn conclude(args: &ScreenArgs, screening: &Screening, folder: &Path) -> anyhow::Result<ExitCode> {
    let exit_code = screening.exit_code();
    let text = if args.json {
        let document = Document {
            folder,
            exit_code,
            screening,
        };
        serde_json::to_string_pretty(&document).context("cannot serialise the verdicts")? + "\n"
    } else {
        let text = render::screen::screening(screening, &Style::of_stdout());
        let folder = folder.display().to_string();
        format!("{text}reports: {}\n", visible_lines(&folder))
    };
    program::print(&text)?;
    Ok(ExitCode::from(exit_code))
}

/// A folder of its own for each screening: a prolog's are many.
fn new_folder() -> PathBuf {
    let now = program::now().replace([':', '-'], "").replace('.', "-");
    let name = format!("{now}-{}", std::process::id());
    Path::new("screen-results").join(name)
}
