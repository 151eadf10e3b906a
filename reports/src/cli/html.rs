//! `reports html`.

use super::{complain, load, ratios_of};
use anyhow::Context;
use clap::Args;
use reports::cluster::{Cluster, Expected, merge::Record};
use reports::model::{self, Report};
use reports::program;
use reports::render::html::Page;
use reports::screen::{DEFAULT_RULES, Rules, Screening, judge};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct HtmlArgs {
    /// Report files, folders of them, or a session's folder
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The page to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub(crate) fn run(args: &HtmlArgs) -> anyhow::Result<ExitCode> {
    let (reports, code) = load(&args.paths)?;
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
    model::write(&args.output, &page.render()).context("cannot write the page")?;
    program::print(&format!("{}\n", args.output.display()))?;
    Ok(code)
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
