//! What all programs share at their edges: the output options, the version, the report's frame,
//! and the exit code.

mod output;
pub mod ranks;

pub use output::OutputArgs;

use crate::host::{self, Host};
use crate::measure::{self, Clock, Event, Observer, Phase};
use crate::model::{self, Case, Fact, Outcome, Program, Report, Run, Scheduler, Schema, Severity};
use crate::render::{terminal, text::visible_lines};
use anyhow::Context;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Everything was measured.
pub const EXIT_MEASURED: u8 = 0;
/// Something failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line makes no sense. clap uses the same number.
pub const EXIT_USAGE: u8 = 2;
/// Something cannot run on this machine.
pub const EXIT_UNAVAILABLE: u8 = 3;
/// Something was measured, and the numbers do not stand.
pub const EXIT_INVALID: u8 = 4;

/// The exit codes, for every program's `--help`.
pub const EXIT_CODES_HELP: &str = "Exit codes: 0 measured, 1 failed, 2 wrong usage, \
    3 unavailable on this machine, 4 measured but invalid. Of several cases the worst counts: \
    failed, then invalid, then unavailable.";

/// `0.1.0 (commit 0123456789ab, release)`: what `--version` prints after the program's name.
#[must_use]
pub fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| {
        let commit = match (env!("SUITE_COMMIT"), env!("SUITE_DIRTY")) {
            ("", _) => "commit not recorded".to_owned(),
            (commit, "true") => format!("commit {commit} with local changes"),
            (commit, _) => format!("commit {commit}"),
        };
        format!(
            "{} ({commit}, {})",
            env!("CARGO_PKG_VERSION"),
            env!("SUITE_PROFILE")
        )
    })
}

/// The frame of a report, opened when the program starts its work.
#[derive(Debug, Clone)]
pub struct Session {
    program: String,
    started: String,
    seed: Fact<u64>,
}

impl Session {
    /// Opens the frame: notes the time, calibrates the clock, and makes SIGINT and SIGTERM end the
    /// run in good order.
    ///
    /// # Errors
    /// What the kernel says when a signal handler cannot be set.
    pub fn begin(program: &str, seed: Fact<u64>) -> anyhow::Result<Self> {
        measure::install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
        let _ = Clock::get();
        Ok(Self {
            program: program.to_owned(),
            started: now(),
            seed,
        })
    }

    /// The frame of a report on behalf of a program that could not write its own.
    #[must_use]
    pub fn stand_in(program: &str, started: String) -> Self {
        Self {
            program: program.to_owned(),
            started,
            seed: Fact::unavailable(STAND_IN),
        }
    }

    /// Closes the frame around what was measured on this host alone.
    #[must_use]
    pub fn finish(self, cases: Vec<Case>) -> Report {
        self.finish_with_hosts(vec![host::fingerprint()], cases)
    }

    /// Closes the frame around what was measured on several hosts; this one comes first.
    #[must_use]
    pub fn finish_with_hosts(self, hosts: Vec<Host>, mut cases: Vec<Case>) -> Report {
        for case in &mut cases {
            if let Outcome::Measured(measurement) = &mut case.outcome {
                let validity = &mut measurement.validity;
                flag_build_and_clock(validity);
                validity.status = validity.of_flags();
            }
        }
        let run = Run {
            id: uuid::Uuid::new_v4().to_string(),
            started: self.started,
            ended: now(),
            argv: std::env::args().collect(),
            environment: relevant_environment(std::env::vars()),
            seed: self.seed,
            clock: Clock::get().record().into(),
            scheduler: scheduler(|name| std::env::var(name).ok()),
            session: None,
        };
        let program = this_program(&self.program);
        Report {
            schema: Schema::default(),
            program,
            run,
            hosts,
            cases,
            unknown: model::Unknown::default(),
        }
    }
}

/// Why the report of a program that wrote none knows no seed.
const STAND_IN: &str = "the program wrote no report";

/// What its case is defined as.
pub(crate) const STAND_IN_DEFINITION: &str =
    "A command of a suite that wrote no report of its own.";

/// Whether a report is one on behalf of a program that could not write its own: its host is the one
/// that says so, and need not be the one where it failed.
#[must_use]
pub fn is_stand_in(report: &Report) -> bool {
    let mut cases = report.cases.iter();
    !report.cases.is_empty() && cases.all(|case| case.benchmark.definition == STAND_IN_DEFINITION)
}

/// Now, RFC 3339 in UTC, to the millisecond.
#[must_use]
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// A moment of the system's clock as [`now`] writes it; `None` outside of the calendar's range.
#[must_use]
pub fn timestamp(time: std::time::SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    Some(format!("{time:.3}"))
}

/// This build under the name of one of its programs.
#[must_use]
pub fn this_program(name: &str) -> Program {
    let known = |text: &str| match text {
        "" if env!("SUITE_PROFILE") == "debug" => {
            Fact::unavailable("only a release build records it")
        }
        "" => Fact::unavailable("git could not be asked when this was built"),
        text => Fact::Known(text.to_owned()),
    };
    Program {
        name: name.to_owned(),
        version: Fact::Known(env!("CARGO_PKG_VERSION").to_owned()),
        commit: known(env!("SUITE_COMMIT")),
        dirty: known(env!("SUITE_DIRTY")).map(|dirty| dirty == "true"),
        build_profile: Fact::Known(env!("SUITE_PROFILE").to_owned()),
        target: Fact::Known(env!("SUITE_TARGET").to_owned()),
    }
}

fn flag_build_and_clock(validity: &mut model::Validity) {
    if env!("SUITE_PROFILE") != "release" {
        let evidence = format!("the program is a {} build", env!("SUITE_PROFILE"));
        validity.flag(Severity::Degraded, "debug_build", evidence);
    }
    if let Fact::Known(ppm) = Clock::get().record().drift_ppm
        && ppm.abs() > 200.0
    {
        let evidence = format!("the cycle counter drifted {ppm:.0} ppm from CLOCK_MONOTONIC");
        validity.flag(Severity::Degraded, "clock_drift", evidence);
    }
}

/// Prefixes of environment variables that change what is measured.
const RELEVANT: [&str; 12] = [
    "FI_",
    "OMPI_MCA_",
    "PRTE_MCA_",
    "PMIX_MCA_",
    "UCX_",
    "MPICH_",
    "I_MPI_",
    "HYDRA_",
    "OMP_",
    "IBV_",
    "RDMAV_",
    "SLURM_CPU_BIND",
];

fn relevant_environment(
    variables: impl Iterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    // What Open MPI's launcher sets by itself says nothing about the run and differs each time,
    // which would make equal runs look different.
    let own = [
        "OMPI_MCA_ess",
        "OMPI_MCA_initial_wdir",
        "OMPI_MCA_orte_",
        "OMPI_MCA_pmix",
        "OMPI_MCA_shmem_RUNTIME_QUERY_hint",
        "PMIX_MCA_mca_base_component_show_load_errors",
    ];
    let secret = ["_uri", "_URI", "_jobid", "_vpid", "_secret"];
    let noise = |name: &str| {
        own.iter().any(|prefix| name.starts_with(prefix))
            || secret.iter().any(|part| name.contains(part))
    };
    variables
        .filter(|(name, _)| RELEVANT.iter().any(|prefix| name.starts_with(prefix)) && !noise(name))
        .collect()
}

/// The launcher around this process, judged by the variables that each sets.
fn scheduler(var: impl Fn(&str) -> Option<String>) -> Fact<Scheduler> {
    let number = |name: &str| match var(name) {
        None => Fact::unavailable(format!("{name} is not set")),
        Some(text) => Fact::of(
            text.parse()
                .map_err(|error| format!("{name}={text}: {error}")),
        ),
    };
    let text = |name: &str| match var(name) {
        None => Fact::unavailable(format!("{name} is not set")),
        Some(text) => Fact::Known(text),
    };
    // kind, the variable that proves it, job id, nodes, ranks: the batch system before the launcher.
    let known = [
        (
            "slurm",
            "SLURM_JOB_ID",
            "SLURM_JOB_ID",
            "SLURM_JOB_NUM_NODES",
            "SLURM_NTASKS",
        ),
        (
            "aws-batch",
            "AWS_BATCH_JOB_ID",
            "AWS_BATCH_JOB_ID",
            "AWS_BATCH_JOB_NUM_NODES",
            "OMPI_COMM_WORLD_SIZE",
        ),
        ("pbs", "PBS_JOBID", "PBS_JOBID", "PBS_NUM_NODES", "PBS_NP"),
        (
            "lsf",
            "LSB_JOBID",
            "LSB_JOBID",
            "LSB_MCPU_HOSTS",
            "LSB_DJOB_NUMPROC",
        ),
        (
            "open-mpi",
            "OMPI_COMM_WORLD_SIZE",
            "PMIX_NAMESPACE",
            "OMPI_MCA_orte_num_nodes",
            "OMPI_COMM_WORLD_SIZE",
        ),
        ("mpich", "PMI_SIZE", "PMI_JOBID", "HYDRA_NNODES", "PMI_SIZE"),
    ];
    known
        .iter()
        .find(|(_, proof, ..)| var(proof).is_some())
        .map_or_else(
            || Fact::unavailable("no launcher's variables are set"),
            |(kind, _, job_id, nodes, ranks)| {
                Fact::Known(Scheduler {
                    kind: (*kind).to_owned(),
                    job_id: text(job_id),
                    nodes: number(nodes),
                    ranks: number(ranks),
                })
            },
        )
}

/// Puts a report where the user asked and returns the exit code that it deserves.
///
/// # Errors
/// [`Usage`] where something would be destroyed (see [`OutputArgs::check`]); what the kernel says of
/// the file, the folder or the disk.
pub fn emit(report: &Report, output: &OutputArgs) -> anyhow::Result<ExitCode> {
    let json = model::to_json(report);
    if let Some(path) = &output.output {
        output.check()?;
        let file = if OutputArgs::names_folder(path) {
            path.join(file_name(report))
        } else {
            path.clone()
        };
        model::write(&file, &json).context("cannot write the report")?;
    }
    let text = if output.json {
        json
    } else {
        terminal::report(report, &terminal::Style::of_stdout())
    };
    print(&text)?;
    Ok(ExitCode::from(exit_code(&report.cases)))
}

/// Prints text; a reader that closed the pipe early (`| head`) is not an error.
///
/// # Errors
/// What the kernel says when standard output cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn file_name(report: &Report) -> String {
    let id = &report.run.id[..8.min(report.run.id.len())];
    let stamp = report.run.started.replace([':', '-'], "").replace('.', "-");
    format!("{}-{stamp}-{id}.json", report.program.name)
}

/// The exit code of some cases: failed, then invalid, then unavailable, else measured.
#[must_use]
pub fn exit_code<'a>(cases: impl IntoIterator<Item = &'a Case>) -> u8 {
    let code = |case: &Case| match &case.outcome {
        Outcome::Failed { .. } => EXIT_FAILED,
        Outcome::Measured(measurement) if measurement.validity.is_invalid() => EXIT_INVALID,
        Outcome::Skipped { .. } => EXIT_UNAVAILABLE,
        Outcome::Measured(_) => EXIT_MEASURED,
    };
    let rank = |code: &u8| match *code {
        EXIT_FAILED => 3,
        EXIT_INVALID => 2,
        EXIT_UNAVAILABLE => 1,
        _ => 0,
    };
    cases
        .into_iter()
        .map(code)
        .max_by_key(rank)
        .unwrap_or(EXIT_MEASURED)
}

/// Runs a program's main function: an error becomes one line on standard error, its causes
/// included, and the exit code that [`error_code`] gives it.
pub fn main(program: &str, body: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    body().unwrap_or_else(|error| {
        eprintln!("{program}: {}", visible_lines(&format!("{error:#}")));
        ExitCode::from(error_code(&error))
    })
}

/// The exit code of an error: [`EXIT_USAGE`] if it carries [`Usage`], [`EXIT_UNAVAILABLE`] if it
/// carries [`model::Unavailable`], else [`EXIT_FAILED`].
#[must_use]
pub fn error_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        EXIT_USAGE
    } else if error.downcast_ref::<model::Unavailable>().is_some() {
        EXIT_UNAVAILABLE
    } else {
        EXIT_FAILED
    }
}

/// A command line that parses but makes no sense: which option, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(
    /// Which option is wrong, and what to do.
    pub String,
);

/// Shows a case while it runs, on standard error: one line per slice.
#[derive(Debug)]
pub struct Progress {
    lines: bool,
}

impl Progress {
    /// Lines per slice if `asked`, else nothing.
    #[must_use]
    pub fn new(asked: bool) -> Self {
        Self { lines: asked }
    }

    /// Whether somebody can see it.
    #[must_use]
    pub fn visible() -> bool {
        io::stderr().is_terminal()
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event<'_>) {
        if !self.lines {
            return;
        }
        let line = match event {
            Event::Interval(interval) => {
                terminal::Style::of_stdout().finish(terminal::interval_line(interval))
            }
            Event::Phase {
                phase: Phase::WarmUp,
                expected: Some(length),
            } => {
                format!("warm-up {:.1} s", length.as_secs_f64())
            }
            Event::Phase {
                phase: Phase::Verify,
                expected: Some(length),
            } => {
                format!("verification, about {:.0} s", length.as_secs_f64())
            }
            Event::Phase { .. } => return,
        };
        // Progress is a courtesy: a closed terminal must not end the measurement.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Benchmark;

    fn case(outcome: Outcome) -> Case {
        Case {
            benchmark: Benchmark::new("test/none", "nothing", serde_json::Map::new()),
            outcome,
        }
    }

    #[test]
    fn the_worst_outcome_decides_the_exit_code() {
        let skipped = || {
            case(Outcome::Skipped {
                reason: "no device".into(),
            })
        };
        let failed = || {
            case(Outcome::Failed {
                error: "peer died".into(),
            })
        };
        assert_eq!(exit_code(&[]), EXIT_MEASURED);
        assert_eq!(exit_code(&[skipped()]), EXIT_UNAVAILABLE);
        assert_eq!(exit_code(&[skipped(), failed(), skipped()]), EXIT_FAILED);
    }

    #[test]
    fn errors_become_the_documented_codes() {
        let code = |error: anyhow::Error| format!("{:?}", main("test", || Err(error)));
        let expected = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(code(anyhow::anyhow!("broken")), expected(EXIT_FAILED));
        assert_eq!(code(Usage("--size 0".into()).into()), expected(EXIT_USAGE));
        let nested = anyhow::Error::from(model::Unavailable("no io_uring".into())).context("uring");
        assert_eq!(code(nested), expected(EXIT_UNAVAILABLE));
    }

    #[test]
    fn a_report_says_what_its_flags_come_to_however_they_came_there() {
        let mut report = crate::fixtures::report(&[("rr", 1.0)]);
        let validity = &mut crate::fixtures::measurement_mut(&mut report, 0).validity;
        validity.flags.push(model::Flag {
            code: "interrupted".to_owned(),
            severity: Severity::Invalid,
            evidence: "by SIGINT".to_owned(),
        });
        let report = Session::stand_in("test", now()).finish(report.cases);
        assert_eq!(model::check(&report), Ok(()));
    }

    #[test]
    fn launchers_are_told_by_their_variables() {
        let slurm = scheduler(|name| match name {
            "SLURM_JOB_ID" => Some("17".into()),
            "SLURM_NTASKS" => Some("many".into()),
            "OMPI_COMM_WORLD_SIZE" => Some("4".into()),
            _ => None,
        });
        let slurm = slurm.known().expect("slurm is recognised");
        assert_eq!(slurm.kind, "slurm");
        assert_eq!(slurm.job_id, Fact::Known("17".to_owned()));
        assert!(slurm.ranks.reason().is_some_and(|why| why.contains("many")));
        assert!(scheduler(|_| None).reason().is_some());
    }

    #[test]
    fn only_variables_that_shape_the_run_are_recorded() {
        let variables = [
            ("FI_PROVIDER", "efa"),
            ("HOME", "/root"),
            ("OMPI_MCA_orte_hnp_uri", "x"),
            ("OMPI_MCA_initial_wdir", "/home/user"),
            ("OMPI_MCA_btl", "tcp,self"),
        ];
        let kept = relevant_environment(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        assert_eq!(
            kept.keys().collect::<Vec<_>>(),
            ["FI_PROVIDER", "OMPI_MCA_btl"]
        );
    }
}
