//! `reports import`: peers' outputs in, reports out.

use super::complain;
use anyhow::Context as _;
use clap::Args;
use reports::import::{self, Context, Format, MAX_IMPORT_BYTES};
use reports::model::Report;
use reports::program::{self, OutputArgs, Usage};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "What such a program does not say stays unavailable, with the \
    reason; `reports run` adds what it knows of the machine.\n\
    Exit codes: 0 imported, 1 something cannot be imported (the rest is), or its program failed, 2 \
    wrong usage, 4 imported but invalid.";

/// What to import, and where to.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose output the files are; found from the content if not given
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Files with the output of one program each; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Imports every file that can be; what cannot is said on standard error and makes the exit code 1.
///
/// # Errors
/// What the kernel says when a report cannot be written, and usage that makes no sense.
pub fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    check_usage(args)?;
    let mut cases = Vec::new();
    let mut all_read = true;
    for file in &args.files {
        match import_file(file, args.from) {
            Ok(report) => {
                program::emit(&report, &args.output)?;
                cases.extend(report.cases);
            }
            Err(error) => {
                complain(format!("{error:#}"));
                all_read = false;
            }
        }
    }
    let code = match all_read {
        true => program::exit_code(&cases),
        false => program::EXIT_FAILED,
    };
    Ok(ExitCode::from(code))
}

/// Several reports need several places, and standard input can be read once.
fn check_usage(args: &ImportArgs) -> anyhow::Result<()> {
    if args.files.iter().filter(|file| is_stdin(file)).count() > 1 {
        return Err(Usage("standard input (-) can be imported once".to_owned()).into());
    }
    if args.files.len() == 1 {
        return Ok(());
    }
    if args.output.json {
        let advice = "--json prints one report, but there are several files: give -o DIR/ instead";
        return Err(Usage(advice.to_owned()).into());
    }
    if let Some(output) = &args.output.output {
        let names_folder = output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
        if !names_folder {
            let output = output.display();
            let advice =
                format!("several files need a folder: -o {output}/ instead of -o {output}");
            return Err(Usage(advice).into());
        }
    }
    Ok(())
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn import_file(file: &Path, format: Option<Format>) -> anyhow::Result<Report> {
    let mut context = Context::default();
    let bytes = if is_stdin(file) {
        context.source = "standard input".to_owned();
        read(io::stdin().lock(), "standard input")?
    } else {
        let shown = file.display().to_string();
        let what = || format!("cannot import {shown}");
        let opened = File::open(file).with_context(what)?;
        let metadata = opened.metadata().with_context(what)?;
        anyhow::ensure!(!metadata.is_dir(), "cannot import {shown}: it is a folder");
        let name = file.file_name().unwrap_or(file.as_os_str());
        context.source = name.to_string_lossy().into_owned();
        context.ended = metadata.modified().ok().and_then(program::timestamp);
        read(opened, &shown)?
    };
    let Ok(text) = String::from_utf8(bytes) else {
        anyhow::bail!("cannot import {}: it is not UTF-8 text", file.display());
    };
    Ok(import::import(&text, format, &context)?)
}

fn read(from: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_IMPORT_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot import {name}"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_IMPORT_BYTES,
        "cannot import {name}: it is larger than {MAX_IMPORT_BYTES} bytes, the limit for an import"
    );
    Ok(bytes)
}
