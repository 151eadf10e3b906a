//! `reports merge`.

use super::{complain, complain_of_all};
use anyhow::Context;
use clap::Args;
use reports::cluster::merge::{self, Merged};
use reports::cluster::{Expected, Kind, read_hostfile};
use reports::model::Severity;
use reports::program::{self, Usage};
use reports::render::text::visible_lines;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) const HELP: &str = "The folder holds every report once, and in cluster.json the nodes and \
    what does not fit together; `show`, `compare`, `rank`, `trend` and `html` take it. A node is \
    told by its instance id, else by its host name. Named are nodes that are missing (from the \
    list, else from what the launcher says it started and the other reports speak of), other builds \
    of a program, other schema versions, clocks that are apart, and what is there twice. What a \
    missing node is missing from is flagged invalid, in its reports too.\n\
    Exit codes: 0 done, 1 something cannot be read or written (what can be read is merged), 2 wrong \
    usage, 4 merged, and a node or rank is missing.";

#[derive(Args)]
pub(crate) struct MergeArgs {
    /// Report files, folders of them, or sessions' folders
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The folder to write; there must be none yet
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// So many nodes there ought to be
    #[arg(long, value_name = "N", conflicts_with = "hostfile",
        value_parser = clap::value_parser!(u32).range(1..=65536))]
    nodes: Option<u32>,
    /// These nodes there ought to be: a host name or address a line, as mpirun takes it
    #[arg(long, value_name = "FILE")]
    hostfile: Option<PathBuf>,
}

impl MergeArgs {
    fn expected(&self) -> anyhow::Result<Expected> {
        if let Some(path) = &self.hostfile {
            let hosts = read_hostfile(path).map_err(|error| Usage(error.to_string()))?;
            return Ok(Expected::Hosts(hosts));
        }
        Ok(match self.nodes {
            Some(nodes) => Expected::Count(nodes as usize),
            None => Expected::AsReported,
        })
    }
}

pub(crate) fn run(args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let expected = args.expected()?;
    merge::check_free(&args.output).map_err(|error| Usage(format!("-o {error}")))?;
    let merged = merge::merge(&args.paths, expected);
    complain_of_all(&merged.unreadable);
    anyhow::ensure!(!merged.reports.is_empty(), "there is no report to merge");
    merged
        .write(&args.output)
        .context("cannot write the folder")?;
    program::print(&visible_lines(&said(&merged, args)))?;
    for absent in &merged.cluster.absent {
        complain(format!("no report of {absent}"));
    }
    Ok(ExitCode::from(if !merged.unreadable.is_empty() {
        program::EXIT_FAILED
    } else if merged.cluster.is_invalid() {
        program::EXIT_INVALID
    } else {
        program::EXIT_MEASURED
    }))
}

fn said(merged: &Merged, args: &MergeArgs) -> String {
    let faults = &merged.cluster.faults;
    let mut text = String::new();
    // Files are told of on standard error.
    for fault in faults.iter().filter(|fault| fault.kind != Kind::Unreadable) {
        let word = match fault.severity {
            Severity::Invalid => "invalid",
            Severity::Degraded => "degraded",
            Severity::Info => "note",
        };
        text.push_str(&format!(
            "{word}: {}: {}\n",
            fault.kind.code(),
            fault.evidence
        ));
    }
    let (nodes, reports) = (merged.cluster.nodes.len(), merged.reports.len());
    let out = args.output.display();
    format!("{text}{reports} reports of {nodes} nodes in {out}\n")
}
