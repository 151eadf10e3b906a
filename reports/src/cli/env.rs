//! `reports env`.

use anyhow::Context;
use clap::Args;
use reports::host;
use reports::program;
use reports::render::terminal::{self, Style};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct EnvArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &EnvArgs) -> anyhow::Result<ExitCode> {
    let host = host::fingerprint();
    let value = serde_json::to_value(&host).context("cannot serialise the host")?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&value)?)
    } else {
        terminal::environment(&value, &Style::of_stdout())
    };
    program::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
