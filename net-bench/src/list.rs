//! `net-bench list`: the table of cases as this machine sees it.

use clap::Args;
use net_bench::cases::{CASES, probe_tcp};
use net_bench::mesh;
use reports::case::Availability;
use reports::program;
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    summary: &'static str,
    definition: &'static str,
}

/// Prints the list.
pub fn run(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let mut cases: Vec<Listed> = CASES
        .iter()
        .map(|row| {
            let entry = &row.entry;
            listed((entry.name, entry.summary, entry.definition), entry.probe)
        })
        .collect();
    // What runs among many has its own command line, and is a case like any other to a reader.
    cases.push(listed(
        (mesh::NAME, mesh::SUMMARY, mesh::DEFINITION),
        probe_tcp,
    ));
    let text = if args.json {
        serde_json::to_string_pretty(&cases)? + "\n"
    } else {
        table(&cases)
    };
    program::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn listed(
    (name, summary, definition): (&'static str, &'static str, &'static str),
    probe: fn() -> Availability,
) -> Listed {
    let reason = match probe() {
        Availability::Available => None,
        Availability::Unavailable { reason } => Some(reason),
    };
    Listed {
        name,
        available: reason.is_none(),
        reason,
        summary,
        definition,
    }
}

fn table(cases: &[Listed]) -> String {
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for case in cases {
        let state = if case.available { "yes" } else { "no" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:width$}  {state:3}  {}", case.name, case.summary);
        if let Some(reason) = &case.reason {
            let _ = writeln!(text, "{:width$}       {reason}", "");
        }
    }
    let header = format!("{:width$}  {:3}  {}\n", "CASE", "RUN", "WHAT IT MEASURES");
    header + &text
}
