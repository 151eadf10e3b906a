//! `reports html`.

use super::{complain, load, ratios_of, trend};
use anyhow::Context;
use clap::Args;
use reports::cluster::{Cluster, Expected, merge::Record};
use reports::compare::Axis;
use reports::history::{self, Courses, History};
use reports::model::{self, Report};
use reports::program::{self, Usage};
use reports::render::html::Page;
use reports::screen::{DEFAULT_RULES, Rules, Screening, judge};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct HtmlArgs {
    /// Report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Also draw the course of each case over the runs of this history, which `reports trend add`
    /// keeps: levels, where they changed, and this page's runs among the others
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// A field under study beside the commit, which divides no course, as of `reports trend`
    #[arg(long = "axis", value_name = "FIELD", requires = "history")]
    axes: Vec<Axis>,
}

pub(crate) fn run(args: &HtmlArgs) -> anyhow::Result<ExitCode> {
    // First, because a history that is none is told before thousands of reports are read.
    let history = args.history.as_deref().map(usable).transpose()?;
    let (reports, mut code) = load(&args.paths)?;
    let courses = match args.history.as_deref().zip(history) {
        Some((file, history)) => Some(courses_of(file, history, &reports, &args.axes)?),
        None => None,
    };
    let mut sessions = reports.iter().filter_map(|r| r.run.session.as_ref());
    let title = sessions.next().map_or("benchmark report", |s| &s.suite);
    let ratios = match args.paths.as_slice() {
        [folder] if folder.is_dir() => ratios_of(folder, &reports).unwrap_or_else(|fault| {
            complain(format!("{}: no ratios: {fault}", folder.display()));
            Vec::new()
        }),
        _ => Vec::new(),
    };
    let cluster = cluster_of(&args.paths, &reports);
    let screening = cluster
        .as_ref()
        .and_then(|(_, expected)| verdicts(&reports, expected));
    let mut page = Page::of_runs(title, &reports).with_ratios(&ratios);
    if let Some((cluster, _)) = &cluster {
        page = page.with_cluster(cluster, screening.as_ref());
    }
    if let Some(courses) = &courses {
        page = page.with_history(courses);
        if courses.faults > 0 {
            code = ExitCode::from(program::EXIT_FAILED);
        }
    }
    model::write(&args.output, &page.render()).context("cannot write the page")?;
    program::print(&format!("{}\n", args.output.display()))?;
    Ok(code)
}

/// A history of which something can be used; the rest of it is named on standard error.
fn usable(file: &Path) -> anyhow::Result<History> {
    let history = history::load(file).map_err(trend::fault)?;
    match history.faults.first() {
        Some(fault) if history.entries.is_empty() => Err(Usage(format!(
            "no line of the history {} can be used; line {}: {}",
            file.display(),
            fault.line,
            fault.reason
        ))
        .into()),
        _ => {
            trend::say_faults(file, &history.faults);
            Ok(history)
        }
    }
}

/// The courses of the reports' cases; says so if there is none, which the page does too.
fn courses_of(
    file: &Path,
    history: History,
    reports: &[Report],
    axes: &[Axis],
) -> anyhow::Result<Courses> {
    let shown = file.display();
    let courses = history::courses(history, file.to_owned(), reports, axes.to_vec());
    let courses = courses.map_err(|error| Usage(format!("{shown}: {error}")))?;
    if courses.trend.cases.is_empty() {
        complain(format!(
            "the history {shown} holds none of the page's cases: `reports trend add PATHS… \
             --history {shown}` adds them"
        ));
    }
    Ok(courses)
}

/// The cluster that the reports are of, as they were merged or as they are; `None` of a single node.
fn cluster_of(paths: &[PathBuf], reports: &[Report]) -> Option<(Cluster, Expected)> {
    let recorded = match paths {
        [folder] if folder.is_dir() => Record::load(folder).unwrap_or_else(|fault| {
            complain(fault);
            None
        }),
        _ => None,
    };
    let expected = recorded.as_ref().map(|record| record.expected.clone());
    let expected = expected.unwrap_or_default();
    let mut cluster = Cluster::of(reports, &expected);
    // Of files that could not be read, and of what was there twice, the folder alone knows.
    for fault in recorded.into_iter().flat_map(|record| record.faults) {
        if !cluster
            .faults
            .iter()
            .any(|known| known.evidence == fault.evidence)
        {
            cluster.faults.push(fault);
        }
    }
    let several = cluster.nodes.len() + cluster.absent.len() > 1;
    several.then_some((cluster, expected))
}

/// The verdicts by the default rules; none, if these do not fit the reports.
fn verdicts(reports: &[Report], expected: &Expected) -> Option<Screening> {
    let rules = Rules::parse(DEFAULT_RULES).ok()?;
    judge(reports, &rules, expected, &[]).ok()
}
