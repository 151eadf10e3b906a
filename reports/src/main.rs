//! The tool that reads reports.

use clap::Parser;
use reports::model;
use reports::program;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Runs, shows and judges benchmark reports", version = program::version())]
enum Cli {
    /// Check that files are well-formed reports
    Validate {
        /// Report files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Cli::Validate { files } = Cli::parse();
    program::main("reports", || {
        for file in &files {
            model::load(file)?;
            program::print(&format!("{}: valid\n", file.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
